/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reads that will follow at once. Each touches a page's map, a frame's entry in the block cache and
 * its buffer, all far from each other and from those of the read before. Asked for together, step
 * by step, they are on their way to the processor at the same time. Nothing here waits, and nothing
 * depends on it: what a hint finds may be gone when the read comes.
 */
#include "vol/vol_priv.h"

struct hinted {
    uint64_t page;
    unsigned block;
    bool stored;
    struct vol_run run;
};

/* The map is in memory or the hint ends here. */
static void find_run(struct vol_file *f, struct hinted *h)
{
    struct vol_map map;
    h->stored = false;
    if (!vol_map_cache_get(f->v->maps, f->layers[0], h->page, &map)) {
        return;
    }
    const struct vol_run *run = vol_map_find(&map, h->block);
    if (run && run->kind == VOL_RUN_DATA) {
        h->stored = true;
        h->run = *run;
        cache_hint(f->v->cache, run->seq, run->offset, CACHE_HINT_BUCKET);
    }
}

void vol_hint_reads(struct vol_file *f, const uint64_t *offs, size_t count)
{
    struct hinted at[VOL_HINTS_MAX];
    count = MIN_OF(count, ARRAY_LEN(at));
    if (!vol_reading_try(f->v)) {
        return;
    }
    for (size_t i = 0; i < count; i++) {
        uint64_t block = offs[i] / VOL_BLOCK_BYTES;
        at[i].page = block / VOL_PAGE_BLOCKS;
        at[i].block = block % VOL_PAGE_BLOCKS;
        vol_map_cache_hint(f->v->maps, f->layers[0], at[i].page, false);
    }
    for (size_t i = 0; i < count; i++) {
        vol_map_cache_hint(f->v->maps, f->layers[0], at[i].page, true);
    }
    for (size_t i = 0; i < count; i++) {
        find_run(f, &at[i]);
    }
    for (size_t i = 0; i < count; i++) {
        if (at[i].stored) {
            cache_hint(f->v->cache, at[i].run.seq, at[i].run.offset, CACHE_HINT_ENTRY);
        }
    }
    for (size_t i = 0; i < count; i++) {
        if (at[i].stored) {
            cache_hint(f->v->cache, at[i].run.seq, at[i].run.offset, CACHE_HINT_BUFFER);
        }
    }
    vol_reading_end(f->v);
}
