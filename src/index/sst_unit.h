/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One unit of an SST: a small header and a payload that may be compressed and encrypted. Its CRC,
 * or with encryption its tag, covers whose it is and its place, so that a unit of another object,
 * or of another place of this one, is noticed. Pure.
 *
 *     r = sst_unit_open(&key, stored, len, off, SST_UNIT_DATA, &raw_len);
 *     r = sst_unit_decode(&key, stored, len, raw, raw_len);
 */
#pragma once
#include "base/attr.h"
#include "base/bytes.h"
#include "base/uuid.h"
#include "crypt/crypt.h"
#include "index/sst_format.h"

/* Of all SSTs of an index. */
struct index_home {
    struct uuid volume;
    const struct crypt_keys *keys; /* NULL: nothing is encrypted; not owned */
};

struct sst_name {
    uint64_t epoch;
    uint64_t counter;
};

#define SST_PLACE_SIZE 40u /* volume, epoch, counter, offset */

/* What the units of one SST are sealed and checked with. */
struct sst_key {
    uint8_t salt[SST_SALT_SIZE];
    uint8_t place[SST_PLACE_SIZE]; /* but for the offset */
    bool encrypted;
    struct crypt_unit unit; /* when encrypted */
};

/* 0; -EBADMSG when the cipher does not fit: an SST of an encrypted volume is encrypted, one of a
 * plain one is not; -ENOMEM. */
MUST int sst_key_init(const struct index_home *home, const struct sst_name *name,
                      const uint8_t salt[SST_SALT_SIZE], enum crypt_cipher cipher,
                      struct sst_key *ret_key);
void sst_key_wipe(struct sst_key *key);

/* Appends the unit for raw bytes that will lie at offset off of the object: 0 or -ENOMEM. Once for
 * each offset. */
MUST int sst_unit_encode(const struct sst_key *key, const void *raw, size_t raw_len, uint64_t off,
                         enum sst_unit_kind kind, struct bytes_writer *out);
/* The size of the unit that starts with these bytes, from its header alone; 0 when there are too
 * few or it makes no sense. */
size_t sst_unit_size(const void *stored, size_t len);
/* Checks the unit, decrypting it where it is: 0 and the length of its raw bytes, -EBADMSG, -ENOMEM.
 * Once. */
MUST int sst_unit_open(const struct sst_key *key, void *stored, size_t len, uint64_t off,
                       enum sst_unit_kind kind, size_t *ret_raw_len);
/* Of an opened unit: 0, or -EBADMSG. dst has raw_len bytes. */
MUST int sst_unit_decode(const struct sst_key *key, const void *stored, size_t len, void *dst,
                         size_t raw_len);
