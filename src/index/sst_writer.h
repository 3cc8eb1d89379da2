/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Builds one SST object in memory, from entries in rising order of their keys. CPU work only, for
 * an offload thread.
 *
 *     r = sst_writer_create(&id, salt, &w);
 *     while (r == 0 && !sst_writer_is_full(w)) { r = sst_writer_add(w, &entry); }
 *     r = sst_writer_finish(w, &meta);
 *     ... obj_put(store, class, name, sst_writer_body(w)) ...
 *     sst_writer_free(w);
 */
#pragma once
#include "base/attr.h"
#include "base/uuid.h"
#include "index/sst_block.h"
#include "index/sst_unit.h"
#include "rt/buf.h"
#include <stdbool.h>

#define SST_TARGET_BYTES (16ull << 20)     /* an SST is full when it reaches this */
#define SST_TARGET_RAW_BYTES (48ull << 20) /* or held this before compression */

/* What the manifest says about an SST. */
struct sst_meta {
    uint64_t epoch;
    uint64_t counter;
    uint64_t run; /* SSTs of one flush share it, and do not overlap; rises from flush to flush */
    uint64_t size_bytes;
    uint64_t filter_off;
    uint64_t index_off; /* the index unit ends where the footer begins */
    uint64_t entries;
    uint64_t tombstones;
    uint8_t salt[SST_SALT_SIZE];
    enum crypt_cipher cipher; /* of its units; CRYPT_NONE: not encrypted */
    uint8_t *smallest;        /* owned, in one allocation with largest; sst_meta_free() */
    uint8_t *largest;
    uint32_t smallest_len;
    uint32_t largest_len;
};

void sst_meta_free(struct sst_meta *m);
/* Gives it the two keys, copied. 0 or -ENOMEM. */
MUST int sst_meta_keys(struct sst_meta *m, const void *smallest, uint32_t smallest_len,
                       const void *largest, uint32_t largest_len);

struct sst_id {
    struct uuid volume;
    uint64_t epoch;
    uint64_t counter;
    const struct crypt_keys *keys; /* NULL: not encrypted; used while it is created */
};

struct sst_writer;

/* salt: fresh random bits, for this writer alone. 0 or -ENOMEM. */
MUST int sst_writer_create(const struct sst_id *id, const uint8_t salt[SST_SALT_SIZE],
                           uint64_t target_bytes, struct sst_writer **ret_w);
void sst_writer_free(struct sst_writer *w); /* accepts NULL */
MUST int sst_writer_add(struct sst_writer *w, const struct index_entry *e);
bool sst_writer_is_full(const struct sst_writer *w);
uint64_t sst_writer_entries(const struct sst_writer *w);
/* At least one entry was added. meta is the caller's to free; its run is 0. */
MUST int sst_writer_finish(struct sst_writer *w, struct sst_meta *ret_meta);
const struct rt_chain *sst_writer_body(const struct sst_writer *w);

/* Pure: the header and footer of a whole object (tests, tools, compaction): 0 or -EBADMSG. Gives no
 * keys. */
MUST int sst_header_decode(const void *bytes, size_t len, const struct uuid *volume,
                           struct sst_meta *ret_meta);
MUST int sst_footer_decode(const void *bytes, size_t len, struct sst_meta *meta);
