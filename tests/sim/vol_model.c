/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What may be found on the volume, whatever happens.
 *
 * Each place (a sector, a key) keeps all values that it has been given since the last verification.
 * A new owner finds one of them in each place: so it says of some changes that they survived, and
 * of the next ones in that place that they were lost. Then
 *
 *     a lost change did not end before a surviving one began       (what survives is a prefix, I12)
 *     a lost change did not end before a flush began that was acknowledged         (I12)
 *     no change is lost in one place and there in another          (a batch survives whole, I12)
 *
 * Zeros do not say which change made them: then the reading that is kindest to the volume is taken.
 */
#include "base/assert.h"
#include "base/msg.h"
#include "vol_world.h"
#include <inttypes.h>
#include <stdlib.h>

void model_init(struct model *m)
{
    *m = (struct model){.places = calloc(PLACES, sizeof *m->places), .size = DEVICE_BYTES};
    ASSERT(m->places != NULL);
}

void model_free(struct model *m)
{
    for (uint64_t i = 0; i < PLACES; i++) {
        vec_free(&m->places[i].at);
    }
    free(m->places);
    vec_free(&m->ops);
}

uint32_t model_begin(struct world *w, unsigned life, bool whole)
{
    struct model *m = &w->model;
    struct model_op op = {.began = ++m->clock, .ended = NEVER, .life = life, .whole = whole};
    /* Nobody will ever see what one does whom another has replaced. */
    op.lost = life != w->current;
    int r = vec_push(&m->ops, op);
    ASSERT(r == 0);
    w->ops++;
    return (uint32_t)(m->ops.len - 1);
}

void model_change(struct world *w, uint32_t op, uint64_t first, uint64_t count, uint64_t value)
{
    struct model *m = &w->model;
    if (m->ops.at[op].lost) {
        return;
    }
    msg_debug("sim", "opening %u: change %u: places %" PRIu64 "..%" PRIu64 " are %" PRIu64,
              m->ops.at[op].life, op, first, first + count, value);
    for (uint64_t i = first; i < first + count; i++) {
        struct model_entry e = {op, value};
        int r = vec_push(&m->places[i].at, e);
        ASSERT(r == 0);
    }
}

void model_write(struct world *w, uint32_t op, uint64_t first, uint64_t count)
{
    for (uint64_t i = first; i < first + count; i++) {
        model_change(w, op, i, 1, model_value_of(op, i));
    }
}

void model_copy(struct world *w, uint32_t op, uint64_t from, uint64_t to, uint64_t count)
{
    for (uint64_t i = 0; i < count; i++) {
        model_change(w, op, to + i, 1, model_value(&w->model, from + i));
    }
}

void model_end(struct world *w, uint32_t op)
{
    w->model.ops.at[op].ended = ++w->model.clock;
    msg_debug("sim", "opening %u: change %u has ended", w->model.ops.at[op].life, op);
}

uint64_t model_value(const struct model *m, uint64_t place)
{
    const struct model_place *p = &m->places[place];
    return p->at.len > 0 ? p->at.at[p->at.len - 1].value : 0;
}

void model_flushed(struct world *w, unsigned life, uint64_t began)
{
    struct model *m = &w->model;
    w->flushes++;
    if (life == w->current) {
        m->durable = MAX_OF(m->durable, began);
        return;
    }
    for (size_t i = 0; i < m->ops.len; i++) {
        const struct model_op *op = &m->ops.at[i];
        if (op->life == life && op->lost && op->ended < began) {
            world_violation(w, "I12", "opening %u was told that change %zu is durable; it is lost",
                            life, i);
        }
    }
}

/* The entries of a place that have the value: first and last; the place as it was before all of
 * them is entry -1. */
static bool candidates(const struct model_place *p, uint64_t value, long *ret_first, long *ret_last)
{
    bool found = value == 0 && (p->at.len == 0 || p->at.at[0].op != UINT32_MAX);
    *ret_first = -1;
    *ret_last = -1;
    for (long i = 0; i < (long)p->at.len; i++) {
        if (p->at.at[i].value == value) {
            *ret_first = found ? *ret_first : i;
            *ret_last = i;
            found = true;
        }
    }
    return found;
}

struct cut {
    uint64_t survived; /* the latest beginning of a change that is there */
    uint64_t lost;     /* the earliest end of one that is not */
    uint64_t survived_place;
    uint64_t lost_place;
};

static void judge_place(struct world *w, uint64_t place, uint64_t value, struct cut *cut)
{
    struct model *m = &w->model;
    struct model_place *p = &m->places[place];
    long first;
    long last;
    if (!candidates(p, value, &first, &last)) {
        world_violation(w, "I12",
                        "place %" PRIu64 " holds %" PRIu64 ", which it never may; newest %" PRIu64,
                        place, value, model_value(m, place));
    }
    if (first >= 0 && p->at.at[first].op != UINT32_MAX) {
        const struct model_op *op = &m->ops.at[p->at.at[first].op];
        if (op->began > cut->survived) {
            cut->survived = op->began;
            cut->survived_place = place;
        }
    }
    for (long i = last + 1; i < (long)p->at.len; i++) {
        struct model_op *op = &m->ops.at[p->at.at[i].op];
        w->lost += !op->lost;
        op->lost = true;
        if (op->ended < cut->lost) {
            cut->lost = op->ended;
            cut->lost_place = place;
        }
    }
}

/* A change that is lost somewhere is nowhere. */
static void judge_whole(const struct world *w, uint64_t place, uint64_t value)
{
    const struct model *m = &w->model;
    uint32_t number = model_value_op(value);
    if (number == 0 || number > m->ops.len) {
        return;
    }
    const struct model_op *op = &m->ops.at[number - 1];
    if (op->whole && op->lost) {
        world_violation(w, "I12", "change %u is there at %" PRIu64 " and lost elsewhere",
                        number - 1, place);
    }
}

void model_verify(struct world *w, unsigned life, const uint64_t *values)
{
    msg_debug("sim", "opening %u takes over from opening %u", life, w->current);
    struct model *m = &w->model;
    struct cut cut = {.lost = NEVER};
    for (uint64_t i = 0; i < PLACES; i++) {
        judge_place(w, i, values[i], &cut);
    }
    for (uint64_t i = 0; i < PLACES; i++) {
        judge_whole(w, i, values[i]);
    }
    if (cut.lost < cut.survived) {
        world_violation(w, "I12",
                        "not a prefix: place %" PRIu64 " lost what ended at %" PRIu64
                        ", place %" PRIu64 " has what began at %" PRIu64,
                        cut.lost_place, cut.lost, cut.survived_place, cut.survived);
    }
    if (cut.lost < m->durable) {
        world_violation(w, "I12",
                        "place %" PRIu64 " lost what ended at %" PRIu64
                        ", before an acknowledged flush at %" PRIu64,
                        cut.lost_place, cut.lost, m->durable);
    }
    for (uint64_t i = 0; i < PLACES; i++) {
        m->places[i].at.len = 0;
        struct model_entry base = {UINT32_MAX, values[i]};
        int r = vec_push(&m->places[i].at, base);
        ASSERT(r == 0);
    }
    m->durable = 0;
    w->current = life;
    /* What its predecessors had under way is not part of it. */
    for (size_t i = 0; i < m->ops.len; i++) {
        m->ops.at[i].lost = m->ops.at[i].lost || m->ops.at[i].ended == NEVER;
    }
}
