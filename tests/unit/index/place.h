/* SPDX-License-Identifier: Apache-2.0 */
/* An open volume (world.h) on a store that can be tampered with (tamper.h), and a run of the
 * simulator that must leave no memory. */
#pragma once
#include "tamper.h"
#include "world.h"

struct place {
    struct tamper *t;
    struct world w;
};

static inline struct place *place_open(uint64_t seed)
{
    struct place *p = calloc(1, sizeof *p);
    assert_non_null(p);
    p->t = tamper_open();
    world_start(&p->w, seed, &p->t->store);
    assert_int_equal(world_open(&p->w), 0);
    return p;
}

static inline void place_close(struct place *p, bool clean)
{
    if (p->w.ix != NULL) {
        assert_int_equal(index_close(p->w.ix, clean, p->w.next_seq - 1), 0);
    }
    world_end(&p->w);
    obj_close(&p->t->store);
    free(p);
}

static inline void write_many(struct world *w, unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        assert_int_equal(world_write(w), 0);
    }
}

static inline void run(void (*fn)(void *arg), uint64_t seed)
{
    struct rt_options opt = {.sim = true, .sim_seed = seed};
    assert_int_equal(rt_run(&opt, fn, &seed), 0);
    assert_int_equal(rt_mem_used(RT_MEM_MEMTABLE), 0);
    assert_int_equal(rt_mem_used(RT_MEM_INDEX_CACHE), 0);
    assert_int_equal(rt_mem_used(RT_MEM_SEALING), 0);
}
