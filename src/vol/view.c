/* SPDX-License-Identifier: Apache-2.0 */
#include "base/assert.h"
#include "vol/vol_priv.h"
#include <sched.h>

int vol_view_slots_create(struct vol *v)
{
    v->slot_count = rt_core_count();
    v->slots = aligned_alloc(64, v->slot_count * sizeof *v->slots);
    if (!v->slots) {
        return -ENOMEM;
    }
    for (unsigned i = 0; i < v->slot_count; i++) {
        rt_mutex_init(&v->slots[i].m);
        v->slots[i].view = NULL;
    }
    return 0;
}

void vol_view_slots_free(struct vol *v)
{
    for (unsigned i = 0; v->slots && i < v->slot_count; i++) {
        vol_view_put(v->slots[i].view);
        rt_mutex_destroy(&v->slots[i].m);
    }
    free(v->slots);
    v->slots = NULL;
}

struct vol_view *vol_view_get(struct vol *v)
{
    unsigned core = rt_core_self();
    ASSERT(core < v->slot_count);
    struct vol_view_slot *slot = &v->slots[core];
    rt_mutex_lock(&slot->m);
    struct vol_view *view = slot->view;
    atomic_fetch_add_explicit(&view->refs, 1, memory_order_relaxed);
    rt_mutex_unlock(&slot->m);
    return view;
}

void vol_view_put(struct vol_view *view)
{
    if (!view || atomic_fetch_sub_explicit(&view->refs, 1, memory_order_acq_rel) != 1) {
        return;
    }
    for (uint32_t i = 0; i < view->count; i++) {
        vol_batch_unref(view->batches[i]);
    }
    free(view);
}

void vol_view_publish(struct vol *v, struct vol_view *fresh, struct vol_view **ret_old)
{
    fresh->count = 0;
    for (struct list *at = v->batches.prev; at != &v->batches; at = at->prev) {
        ASSERT(fresh->count < ARRAY_LEN(fresh->batches));
        fresh->batches[fresh->count++] = vol_batch_ref(container_of(at, struct vol_batch, link));
    }
    atomic_init(&fresh->refs, v->slot_count);
    for (unsigned i = 0; i < v->slot_count; i++) {
        struct vol_view_slot *slot = &v->slots[i];
        rt_mutex_lock(&slot->m);
        *ret_old = slot->view;
        slot->view = fresh;
        rt_mutex_unlock(&slot->m);
    }
}

/*
 * A batch that is closed has a successor that is about to open: the thread that rotates is between
 * two statements, or was put aside by the system there. So this spins, and gives the processor away
 * now and then.
 */
void vol_enter(struct vol *v, struct vol_entry *ret_entry)
{
    for (unsigned tries = 1;; tries++) {
        struct vol_view *view = vol_view_get(v);
        struct vol_batch *b = view->batches[0];
        if (likely(vol_batch_enter(b))) {
            *ret_entry = (struct vol_entry){view, b};
            return;
        }
        vol_view_put(view);
        if (tries % 64 == 0) {
            (void)sched_yield();
        }
    }
}

static void touch(struct vol *v, struct vol_batch *b)
{
    uint64_t had = atomic_load(&v->entered_number);
    while (had < b->number && !atomic_compare_exchange_weak(&v->entered_number, &had, b->number)) {
    }
    if (!atomic_exchange(&b->touched, true)) {
        atomic_store(&b->touched_ns, rt_turn_ns());
        rt_event_set(&v->aging);
    }
}

void vol_leave(struct vol *v, struct vol_entry *e, uint64_t charged)
{
    struct vol_batch *b = e->batch;
    /* First of all: who finds the volume full waits for the youngest batch that was touched (Q2).
     */
    if (unlikely(!atomic_load_explicit(&b->touched, memory_order_relaxed))) {
        touch(v, b);
    }
    uint64_t total =
        atomic_fetch_add_explicit(&b->charged, charged, memory_order_relaxed) + charged;
    vol_usage_charge(v, charged);
    vol_batch_leave(b);
    if (unlikely(total >= vol_rotate_bytes(v))) {
        (void)vol_rotate(v, b);
    }
    vol_view_put(e->view);
}
