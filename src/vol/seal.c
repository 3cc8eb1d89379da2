/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A sealed batch becomes frames and records. Reads nothing but the batch: neither index nor store.
 *
 * Neighbouring blocks of a page that hold data become one frame; the page's delta names frames by
 * their index. Where a frame lies is known when the log has laid out the segment.
 */
#include "base/assert.h"
#include "base/copy.h"
#include "base/err.h"
#include "vol/record.h"
#include "vol/vol_priv.h"

/* After so many pages, others on this core go first. */
#define PAGES_PER_TURN 64u

static uint32_t frames_count(const struct vol_batch *b)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < b->page_count; i++) {
        const struct vol_batch_page *p = b->pages[i];
        for (unsigned k = 0; k < VOL_PAGE_BLOCKS; k++) {
            count += p->kind[k] == VOL_RUN_DATA && (k == 0 || p->kind[k - 1] != VOL_RUN_DATA);
        }
    }
    return count;
}

static struct vol_run stored_run(const struct vol_batch_page *p, unsigned block)
{
    struct vol_run run;
    memcpy(&run, p->slot[block].data, sizeof run);
    return run;
}

/* True when the block goes on where the one before it, of the same kind, ends. */
static bool goes_on(const struct vol_batch_page *p, unsigned block)
{
    if (p->kind[block] != VOL_RUN_STORED) {
        return true;
    }
    struct vol_run a = stored_run(p, block - 1);
    struct vol_run b = stored_run(p, block);
    return a.seq == b.seq && a.offset == b.offset && a.frame_block + 1 == b.frame_block;
}

static void seal_stored(const struct vol_batch_page *p, struct vol_record_run *run)
{
    struct vol_run at = stored_run(p, run->first);
    run->seq = at.seq;
    run->offset = at.offset;
    run->len_bytes = at.len_bytes;
    run->frame_block = at.frame_block;
    run->frame_blocks = at.frame_blocks;
}

/* Blocks [first, first + count) of the page, all of one kind and from one place. */
static void seal_run(struct vol_batch *b, const struct vol_batch_page *p,
                     struct vol_record_run *run)
{
    if (run->kind == VOL_RUN_STORED) {
        seal_stored(p, run);
        return;
    }
    if (run->kind != VOL_RUN_DATA) {
        return;
    }
    run->frame = b->frame_count;
    struct log_frame *f = &b->frames[b->frame_count++];
    *f = (struct log_frame){
        .layer = p->layer, .page = p->page, .first_block = run->first, .count = run->count};
    for (unsigned i = 0; i < run->count; i++) {
        f->blocks[i] = p->slot[run->first + i].data;
    }
}

static void seal_page(struct vol_batch *b, const struct vol_batch_page *p)
{
    struct vol_record rec = {.kind = VOL_RECORD_PAGE, .layer = p->layer, .page = p->page};
    for (unsigned k = 0; k < VOL_PAGE_BLOCKS;) {
        unsigned end = k + 1;
        while (end < VOL_PAGE_BLOCKS && p->kind[end] == p->kind[k] && goes_on(p, end)) {
            end++;
        }
        if (p->kind[k] != VOL_SLOT_ABSENT) {
            struct vol_record_run *run = &rec.runs[rec.run_count++];
            *run = (struct vol_record_run){
                .first = (uint8_t)k, .count = (uint8_t)(end - k), .kind = p->kind[k]};
            seal_run(b, p, run);
            if (run->kind == VOL_RUN_STORED) {
                rec.kind = VOL_RECORD_COPY;
            }
        }
        k = end;
    }
    if (rec.run_count > 0) {
        vol_record_encode(&rec, &b->records);
    }
}

static void seal_holes(struct vol_batch *b)
{
    tree_for_each(&b->holes, struct vol_batch_hole, node, h) {
        vol_record_encode(&(struct vol_record){.kind = VOL_RECORD_HOLE,
                                               .layer = h->layer,
                                               .page = h->first,
                                               .count = h->end - h->first,
                                               .flags = h->flags},
                          &b->records);
    }
}

static void seal_pairs(struct vol_batch *b)
{
    tree_for_each(&b->pairs, struct vol_batch_pair, node, p) {
        struct vol_record rec = {.kind = p->op == INDEX_PUT ? VOL_RECORD_PUT : VOL_RECORD_DELETE,
                                 .key = p->bytes,
                                 .key_len = p->key_len,
                                 .value = vol_batch_pair_value(p),
                                 .value_len = p->value_len};
        vol_record_encode(&rec, &b->records);
    }
}

static void seal_reaps(struct vol_batch *b)
{
    for (size_t i = 0; i < b->reaps.len; i++) {
        const struct vol_batch_reap *reap = &b->reaps.at[i];
        vol_record_encode(&(struct vol_record){.kind = VOL_RECORD_REAP,
                                               .layer = reap->layer,
                                               .hole_batch = reap->hole_batch,
                                               .page = reap->hole_first,
                                               .from = reap->from,
                                               .upto = reap->upto},
                          &b->records);
    }
}

int vol_seal(struct vol *v, struct vol_batch *b)
{
    int r = vol_batch_sort(b);
    if (r < 0) {
        return r;
    }
    uint32_t count = frames_count(b);
    if (count > 0 && !b->frames) {
        b->frames = malloc(count * sizeof *b->frames);
        if (!b->frames) {
            return -ENOMEM;
        }
    }
    b->frame_count = 0;
    b->records.len = 0;
    b->records.failed = false;
    seal_holes(b);
    for (uint32_t i = 0; i < b->page_count; i++) {
        seal_page(b, b->pages[i]);
        if (i % PAGES_PER_TURN == PAGES_PER_TURN - 1) {
            rt_yield();
        }
    }
    seal_pairs(b);
    seal_reaps(b);
    vol_gone_records(v, &b->records);
    return b->records.failed ? -ENOMEM : 0;
}

/* The page of the frame. Frames were made page by page, in order: *at is where the one before was
 * found. */
static const struct vol_batch_page *page_of(const struct vol_batch *b, const struct log_frame *f,
                                            uint32_t *at)
{
    while (b->pages[*at]->page != f->page || b->pages[*at]->layer != f->layer) {
        (*at)++;
        ASSERT(*at < b->page_count);
    }
    return b->pages[*at];
}

/* True when the blocks lie one after the other in one buffer. */
static bool is_contiguous(const struct vol_batch_page *p, const struct log_frame *f)
{
    for (unsigned i = 1; i < f->count; i++) {
        if (p->slot[f->first_block + i].buf != p->slot[f->first_block].buf ||
            f->blocks[i] != f->blocks[i - 1] + VOL_BLOCK_BYTES) {
            return false;
        }
    }
    return true;
}

int vol_frame_piece(const struct vol_batch *b, const struct log_frame *f, uint32_t *at,
                    struct rt_piece *ret_piece)
{
    const struct vol_batch_page *p = page_of(b, f, at);
    struct rt_buf *buf = p->slot[f->first_block].buf;
    uint32_t len = f->count * VOL_BLOCK_BYTES;
    if (is_contiguous(p, f)) {
        *ret_piece = (struct rt_piece){.data = f->blocks[0], .len = len, .buf = rt_buf_ref(buf)};
        return 0;
    }
    int r = rt_buf_alloc(len, RT_MEM_BLOCK_CACHE, &buf);
    if (r < 0) {
        return r;
    }
    for (unsigned i = 0; i < f->count; i++) {
        copy_past_cache(buf->data + i * VOL_BLOCK_BYTES, f->blocks[i], VOL_BLOCK_BYTES);
    }
    *ret_piece = (struct rt_piece){.data = buf->data, .len = len, .buf = buf};
    return 0;
}
