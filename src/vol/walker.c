/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The walker: deletes the page maps that range holes hide, in bounded steps, then the holes.
 *
 * A step is a REAP record in a batch: the maps of a page range that are older than the hole go,
 * with their references, when the batch is applied; so it is the same on replay. The walker only
 * chooses the ranges: it looks for maps that exist, so a hole over nothing is one step, whatever
 * its length. One round is one batch; the next begins when that batch has been applied.
 *
 * A hole whose maps are lost, for what the index has of them does not decode, stays and hides them.
 * What was read may have been spoilt on its way, so it takes some looks to say so. It is said once,
 * nobody waits for it, and it is tried again now and then.
 */
#include "base/err.h"
#include "base/msg.h"
#include "vol/record.h"
#include "vol/stage.h"
#include "vol/vol_priv.h"
#include <inttypes.h>

#define ROUND_MAPS 8192u
#define ROUND_REAPS 1024u
#define REAP_COST 256u
/* A round with so many maps does not wait for its batch to grow old; nor does any when somebody may
 * wait for the space. */
#define ROUND_HASTE_MAPS 512u
#define PUT_OFF_MS 600000u
#define DOUBTS_MOST 3u

struct round {
    struct vol *v;
    VEC(struct vol_batch_reap) reaps;
    uint32_t maps; /* found so far */
    uint64_t last_page;
    uint64_t again_ns; /* when the first of those that were put off is due */
    int doubt;         /* what was read may be other bytes after a pause */
};

void vol_hole_put_off(struct vol *v, const struct vol_hole *hole)
{
    vol_holes_put_off(v->holes, hole, rt_after_ms(PUT_OFF_MS));
    rt_mutex_lock(&v->hole_m);
    rt_waitq_wake_all(&v->hole_q);
    rt_mutex_unlock(&v->hole_m);
}

static int count_map(void *arg, const void *key, size_t key_len, const void *value,
                     size_t value_len)
{
    struct round *round = arg;
    uint64_t layer;
    (void)value;
    (void)value_len;
    int r = vol_key_page_decode(key, key_len, &layer, &round->last_page);
    if (r < 0) {
        return r;
    }
    return ++round->maps >= ROUND_MAPS ? 1 : 0;
}

/* One step of one hole. */
static int round_add(struct round *round, const struct vol_hole *hole)
{
    uint64_t from_page = MAX_OF(hole->first, hole->done_upto);
    struct vol_key from = vol_key_page(hole->layer, from_page);
    struct vol_key upto = vol_key_page(hole->layer, hole->end);
    int r =
        index_scan(round->v->ix, &(struct index_range){from.bytes, from.len, upto.bytes, upto.len},
                   count_map, round);
    if (r < 0) {
        return r;
    }
    struct vol_batch_reap reap = {.layer = hole->layer,
                                  .hole_batch = hole->batch,
                                  .hole_first = hole->first,
                                  .from = from_page,
                                  .upto = r > 0 ? round->last_page + 1 : hole->end};
    return vec_push(&round->reaps, reap);
}

/* The hole stays, and hides what is left; others are worked off. */
static void round_put_off(struct round *round, const struct vol_hole *hole, int why)
{
    if (hole->again_ns == 0) {
        msg_error("vol", "a discarded range of layer %" PRIu64 " cannot be given back: %s",
                  hole->layer, err_text(why));
    }
    vol_hole_put_off(round->v, hole);
    round->again_ns = MIN_OF(round->again_ns, rt_after_ms(PUT_OFF_MS));
}

static int round_plan(struct round *round)
{
    struct vol_hole hole;
    bool more = vol_holes_next(round->v->holes, NULL, &hole);
    uint64_t now = rt_now_ns();
    while (more && round->maps < ROUND_MAPS && round->reaps.len < ROUND_REAPS) {
        int r = hole.again_ns <= now ? round_add(round, &hole) : 0;
        if (r == ERR_CORRUPT_INDEX && vol_holes_doubt(round->v->holes, &hole) <= DOUBTS_MOST) {
            round->doubt = r;
        } else if (vol_error_is_lasting(r)) {
            round_put_off(round, &hole, r);
        } else if (r < 0) {
            return r;
        } else if (hole.again_ns > now) {
            round->again_ns = MIN_OF(round->again_ns, hole.again_ns);
        }
        more = vol_holes_next(round->v->holes, &hole, &hole);
    }
    return 0;
}

/* Enters the steps and gives the batch they are in, with a reference. */
static int round_enter(struct round *round, struct vol_batch **ret_batch)
{
    uint64_t cost = round->reaps.len * REAP_COST;
    int r = vol_dirty_take(round->v, cost, RT_FOREVER);
    if (r < 0) {
        return r;
    }
    struct vol_entry e;
    vol_enter(round->v, &e);
    for (size_t i = 0; r == 0 && i < round->reaps.len; i++) {
        r = vol_batch_add_reap(e.batch, &round->reaps.at[i]);
    }
    *ret_batch = vol_batch_ref(e.batch);
    vol_leave(round->v, &e, cost);
    return r;
}

static int round_wait(struct round *round, struct vol_batch *b)
{
    if (round->maps >= ROUND_HASTE_MAPS || vol_is_full(round->v)) {
        (void)vol_rotate(round->v, b);
    }
    int r = rt_event_wait(&b->applied, RT_FOREVER);
    if (r == 0 && atomic_load(&round->v->fenced)) {
        r = ERR_FENCED;
    }
    return r;
}

/* 1 = a round was done, 0 = there is nothing to do before *ret_again_ns; an error: after a pause.
 */
static int walk_round(struct vol *v, uint64_t *ret_again_ns)
{
    struct round round = {.v = v, .again_ns = RT_FOREVER};
    int r = round_plan(&round);
    *ret_again_ns = round.again_ns;
    if (r == 0 && round.reaps.len > 0) {
        struct vol_batch *b = NULL;
        r = round_enter(&round, &b);
        if (r == 0) {
            r = round_wait(&round, b);
        }
        vol_batch_unref(b);
        r = r < 0 ? r : 1;
    }
    r = r >= 0 && round.doubt < 0 ? round.doubt : r;
    vec_free(&round.reaps);
    return r;
}

void vol_walker(void *arg)
{
    struct vol *v = arg;
    uint64_t again_ns = RT_FOREVER;
    for (;;) {
        int r = rt_event_wait(&v->walking, again_ns);
        if (r < 0 && r != -ETIMEDOUT) {
            return;
        }
        rt_event_reset(&v->walking);
        do {
            r = walk_round(v, &again_ns);
        } while (r > 0);
        if (r == -ECANCELED || r == ERR_FENCED) {
            return;
        }
        if (r < 0) {
            msg_warn("vol", "discarded space cannot be given back now: %s; trying again later",
                     err_text(r));
            if (rt_sleep_ms(5000) < 0) {
                return;
            }
            rt_event_set(&v->walking);
        }
    }
}
