/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reading SSTs: units through the cache, look-ups, and cursors over sorted runs of SSTs.
 */
#pragma once
#include "base/attr.h"
#include "cache/cache.h"
#include "index/sst_block.h"
#include "index/version.h"
#include "obj/obj.h"

/* Where units come from. */
struct sst_source {
    struct obj_store *store;
    struct cache *cache;
    enum obj_class klass;
};

enum sst_found {
    SST_NONE,
    SST_FOUND,
    SST_DELETED,
};

struct sst_query {
    const void *key;
    size_t key_len;
    uint64_t hash; /* sst_filter_hash() of it */
    struct bytes_writer *ret_value;
};

/*
 * The value of the key, appended to *ret_value: enum sst_found; ERR_CORRUPT_INDEX; -ESTALE when the
 * object is gone; or the store's error. sst_get_cached() gives -EAGAIN where sst_get() would fetch.
 */
MUST int sst_get(const struct sst_source *src, const struct sst *s, const struct sst_query *q)
    WAITS;
MUST int sst_get_cached(const struct sst_source *src, const struct sst *s,
                        const struct sst_query *q);

/* A cursor over a run: SSTs in order of their keys, disjoint. About 2 KiB: not for a fiber's stack
 * in numbers. */
struct sst_cursor {
    struct sst *const *ssts; /* kept by the caller, with references */
    size_t count;
    size_t at;
    bool open; /* index and block are those of ssts[at] */
    struct rt_piece index_piece;
    struct rt_piece block_piece;
    struct sst_block_iter index;
    struct sst_block_iter block;
};

void sst_cursor_init(struct sst_cursor *c, struct sst *const *ssts, size_t count);
void sst_cursor_free(struct sst_cursor *c);
/* To the first entry >= key: 1, 0 = there is none, or an error as above. */
MUST int sst_cursor_seek(struct sst_cursor *c, const struct sst_source *src, const void *key,
                         size_t key_len) WAITS;
MUST int sst_cursor_next(struct sst_cursor *c, const struct sst_source *src) WAITS;
