/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Compression of frames: which codec, whether it is worth a try, and the tries. Nothing here waits.
 *
 *     const uint8_t *packed;
 *     int n = codec_pack(compression, &effort, blocks, count, &packed);
 *     n > 0: packed[0 .. n) until this thread's next call; 0: store the blocks as they are
 *
 * A thread has working memory of its own, made at its first need and freed at its end: some 100
 * KiB, and with zstd 0.1 to 1 MiB more, by level. Stacks of fibers carry none of it.
 */
#pragma once
#include "base/attr.h"
#include "log/log.h"
#include <stdatomic.h>

enum codec_sample {
    CODEC_EVEN,   /* bytes spread evenly: only repeats could be found */
    CODEC_SKEWED, /* some bytes are more frequent */
    CODEC_SAMPLES,
};

/*
 * How tries went, for each codec and each kind of sample: after frames that did not shrink fewer of
 * their kind are tried, so a stream that does not compress takes nothing from one that does. Shared
 * by all seals of a log; races on it do no harm.
 */
struct codec_effort {
    struct {
        _Atomic uint32_t failed_in_a_row;
        _Atomic uint32_t skip;
    } of[LOG_CODECS][CODEC_SAMPLES];
};

/* The count blocks packed: their length, at most seven eighths; 0 when they are to be stored as
 * they are; -ENOMEM. */
MUST int codec_pack(struct log_compression c, struct codec_effort *effort,
                    const uint8_t *const *blocks, unsigned count, const uint8_t **ret_packed);
/* Room for the packed bytes of one frame, this thread's until its next codec call but
 * codec_unpack(); NULL when out of memory. */
uint8_t *codec_room(void);
/* Exactly raw_len bytes to dst: 0, -EBADMSG, -ENOMEM; -ENOTSUP for a codec of a later version. */
MUST int codec_unpack(unsigned codec, const uint8_t *packed, uint32_t len, uint8_t *dst,
                      uint32_t raw_len);
