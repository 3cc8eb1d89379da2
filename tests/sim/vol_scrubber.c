/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Another file, which is filled, emptied and scrubbed. What it is given lies in segments with what
 * the workers write; some of it is copied to the device, and some of the device to it.
 */
#include "base/assert.h"
#include "base/err.h"
#include "log/log.h"
#include "vol/stack.h"
#include "vol_proc.h"
#include <inttypes.h>

#define SCRUBBED_PAGES 80u
#define SCRUBBED_SECTORS (SCRUBBED_PAGES * VOL_PAGE_BYTES / SECTOR_BYTES)

/* Sectors of which the device may get a copy, as what it writes itself. */
static int scrubbed_fill(struct vol_file *f, uint64_t at, uint64_t count, uint32_t op,
                         uint64_t place)
{
    struct rt_buf *b;
    struct rt_chain chain = {0};
    int r = rt_buf_alloc(count * SECTOR_BYTES, RT_MEM_INGRESS, &b);
    ASSERT(r == 0);
    for (uint64_t i = 0; i < count; i++) {
        sector_fill(b->data + i * SECTOR_BYTES, model_value_of(op, place + i));
    }
    r = rt_chain_add(&chain, b, b->data, (uint32_t)(count * SECTOR_BYTES));
    ASSERT(r == 0);
    rt_buf_unref(b);
    r = vol_write(f, at * SECTOR_BYTES, &chain, NULL);
    rt_chain_free(&chain);
    return r;
}

/* A write to the device by way of the file. */
static void scrubbed_step(struct proc *p, struct vol_file *f)
{
    uint64_t count = 8 * (1 + rt_random() % 8);
    uint64_t at = rt_random() % ((SCRUBBED_SECTORS - count) / 8) * 8;
    uint64_t place = rt_random() % ((SECTORS - count) / 8) * 8;
    unsigned part = (unsigned)(place / (SECTORS / WORKERS));
    bool crosses = (place + count - 1) / (SECTORS / WORKERS) != part;
    proc_part_take(p, part);
    if (place + count > p->w->model.size / SECTOR_BYTES || crosses) {
        place = UINT64_MAX;
    }
    if (place != UINT64_MAX && proc_chance(30)) {
        proc_check(
            p, "a copy to be scrubbed",
            vol_copy(p->f, place * SECTOR_BYTES, f, at * SECTOR_BYTES, count * SECTOR_BYTES));
    } else {
        uint32_t op = model_begin(p->w, p->life, false);
        int r = scrubbed_fill(f, at, count, op, place == UINT64_MAX ? 0 : place);
        proc_check(p, "a write to be scrubbed", r);
        if (proc_chance(30)) {
            proc_check(p, "a flush", vol_flush(p->v)); /* so that frames are copied */
        }
        if (r == 0 && place != UINT64_MAX && proc_chance(50)) {
            model_write(p->w, op, place, count);
            r = vol_copy(f, at * SECTOR_BYTES, p->f, place * SECTOR_BYTES, count * SECTOR_BYTES);
            proc_check(p, "a copy of what is scrubbed", r);
        }
        if (r == 0) {
            model_end(p->w, op);
        }
    }
    proc_part_release(p, part);
}

static int scrub_rewrite(void *arg, uint64_t layer, uint64_t page, uint64_t seq)
{
    struct proc *p = arg;
    unsigned part = (unsigned)(page / WORKER_PAGES);
    int r = 0;
    if (part >= WORKERS) {
        return 0; /* of a file that was scrubbed before */
    }
    proc_part_take(p, part);
    if (p->f && vol_file_has_layer(p->f, layer)) {
        r = vol_rewrite(p->f, page, seq);
        p->w->rewrites++;
    }
    proc_part_release(p, part);
    return r;
}

static bool scrub_stops(void *arg)
{
    const struct proc *p = arg;
    return p->stop && rt_now_ns() >= p->scrub_until_ns;
}

static void scrub_progress(void *arg, uint64_t done, uint64_t of)
{
    (void)arg;
    ASSERT(done <= of);
}

struct scrub_seen {
    const struct vol_file *f;
    bool found;
};

static void scrub_look(void *arg, const struct log_frame *frame)
{
    struct scrub_seen *s = arg;
    s->found |= vol_file_has_layer(s->f, frame->layer);
}

static void scrub_check(struct proc *p, const struct vol_file *f, uint64_t upto)
{
    for (uint64_t seq = 1; seq <= upto; seq++) {
        struct scrub_seen s = {.f = f};
        int r = log_segment_scan(p->v->frames, seq, scrub_look, &s);
        if (r == 0 && s.found && proc_is_current(p) && !world_is_stray(p->w, seq)) {
            world_violation(p->w, "scrub", "segment %" PRIu64 " holds what was scrubbed", seq);
        }
    }
}

static void do_scrub(struct proc *p, struct vol_file *f)
{
    p->scrub_until_ns = rt_after_ms(rt_random() % 5000);
    proc_check(p, "zeroes", vol_zero(f, 0, vol_file_size(f), VOL_HOLE));
    int r = vol_scrub(p->v, &(struct vol_scrub){.file = f,
                                                .rewrite = scrub_rewrite,
                                                .stop = scrub_stops,
                                                .progress = scrub_progress,
                                                .arg = p});
    if (r == -ETIMEDOUT) {
        return; /* the disk is too slow */
    }
    proc_check(p, "scrubbing", r);
    if (r == 0) {
        p->w->scrubs++;
        scrub_check(p, f, log_stored_through(p->v->log));
    }
}

void proc_scrubber(void *arg)
{
    struct proc *p = arg;
    struct vol_file *f = NULL;
    uint64_t inode;
    int r = proc_hold_make(p, (uint64_t)SCRUBBED_PAGES * VOL_PAGE_BYTES, &inode, &f);
    proc_check(p, "a new inode", r);
    while (r == 0 && !p->stop && !vol_is_fenced(p->v)) {
        unsigned steps = (unsigned)(rt_random() % 20);
        for (unsigned i = 0; i < steps && !p->stop && !vol_is_fenced(p->v); i++) {
            scrubbed_step(p, f);
            (void)rt_sleep_ms(rt_random() % 20);
        }
        if (!vol_is_fenced(p->v)) {
            do_scrub(p, f);
        }
    }
    vol_file_close(f);
    if (r == 0 && !vol_is_fenced(p->v)) {
        proc_hold_delete(p, inode);
    }
    p->scrubs = false;
}
