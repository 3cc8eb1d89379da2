/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Error codes. Functions return `int r`: r >= 0 is good, r < 0 is -errno or one of the private
 * codes below, each of which belongs to one errno class and is thrown in one place of the program.
 *
 *     int r = obj_get(store, name, &buf);
 *     if (r < 0) {
 *         return r;
 *     }
 *
 * err_class() gives the errno a protocol's table maps; err_name() and err_text() are for log lines.
 */
#pragma once
#include <errno.h>

/* X(name, errno class, text) */
#define ERR_CODES(X)                                                                               \
    X(ERR_FENCED, EROFS, "another writer has taken over this volume")                              \
    X(ERR_CORRUPT_SEGMENT, EIO, "a log segment is corrupt")                                        \
    X(ERR_CORRUPT_FRAME, EIO, "a data frame is corrupt")                                           \
    X(ERR_CORRUPT_INDEX, EIO, "an index block is corrupt")                                         \
    X(ERR_CORRUPT_MANIFEST, EIO, "a manifest is corrupt")                                          \
    X(ERR_CORRUPT_SUPERBLOCK, EIO, "the superblock is corrupt")                                    \
    X(ERR_CORRUPT_KEY, EIO, "the object with the wrapped data key is missing or corrupt")          \
    X(ERR_KEY_IN_DOUBT, EIO, "it is not known which password or key is valid now")                 \
    X(ERR_CORRUPT_RECORD, EIO, "a record of the index does not decode")                            \
    X(ERR_BAD_PAGE, EIO, "a page whose map was lost")                                              \
    X(ERR_LOG_GAP, EIO, "committed segments are missing from the log")                             \
    X(ERR_LOG_ORDER, EIO, "the log holds a segment of a foreign epoch")                            \
    X(ERR_FORMAT_TOO_NEW, ENOTSUP, "the volume uses features this version does not know")          \
    X(ERR_WRONG_PASSWORD, EACCES, "the password or key file is not the volume's")                  \
    X(ERR_IS_ENCRYPTED, EACCES, "the volume is encrypted, and neither password nor key is given")  \
    X(ERR_NOT_ENCRYPTED, EACCES, "the volume is not encrypted, and a password or key is given")    \
    X(ERR_NOT_A_VOLUME, ENOENT, "there is no volume at this place")                                \
    X(ERR_PREFIX_NOT_EMPTY, ENOTEMPTY, "the place holds other objects")                            \
    X(ERR_OPEN_ELSEWHERE, EBUSY, "the volume was not closed by its last owner")                    \
    X(ERR_LOST_OPEN_RACE, EAGAIN, "another opener was faster")                                     \
    X(ERR_PROTOCOL, EPROTO, "the peer broke the protocol")                                         \
    X(ERR_CONFIG, EINVAL, "the configuration is wrong")                                            \
    X(ERR_DRAINING, ESHUTDOWN, "the server is shutting down")                                      \
    X(ERR_IN_USE, EBUSY, "a client is attached")                                                   \
    X(ERR_CACHE_LOST, EIO, "unflushed writes were lost with an earlier server")                    \
    X(ERR_READ_ONLY, EPERM, "the device is read-only")                                             \
    X(ERR_FAULT_INJECTED, EIO, "an injected fault")

enum err_code {
    ERR_FIRST_PRIVATE = -5000,
#define X(name, class_errno, text) name,
    ERR_CODES(X)
#undef X
    ERR_END_PRIVATE,
};

/* The positive errno that stands for r (a negative result). 0 for r >= 0. */
int err_class(int r);

/* "ENOSPC", "ERR_FENCED"; never NULL. */
const char *err_name(int r);

/* One line in English; never NULL. Not thread-bound: points to constant storage. */
const char *err_text(int r);
