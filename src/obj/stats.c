/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Counts requests, errors, bytes and latencies. -EEXIST and -ENOENT are answers of a store that
 * works, so they are no errors here. The counters are relaxed atomics: each is exact, a set of them
 * is not of one moment.
 */
#include "base/assert.h"
#include "base/time.h"
#include "obj/obj_layers.h"
#include "obj/obj_priv.h"
#include <stdatomic.h>

#define LATENCY_SLOTS 32

struct stats_store {
    struct obj_store base;
    _Atomic uint64_t requests[OBJ_CLASSES][OBJ_KINDS];
    _Atomic uint64_t errors[OBJ_CLASSES][OBJ_KINDS];
    _Atomic uint64_t bytes_in;
    _Atomic uint64_t bytes_out;
    _Atomic uint64_t latency[OBJ_CLASSES][OBJ_KINDS][LATENCY_SLOTS];
};

static struct stats_store *of(struct obj_store *s)
{
    return container_of(s, struct stats_store, base);
}

static void add(_Atomic uint64_t *counter, uint64_t n)
{
    atomic_fetch_add_explicit(counter, n, memory_order_relaxed);
}

static void note(struct stats_store *t, enum obj_class c, enum obj_kind k, uint64_t from_ns,
                 ssize_t r)
{
    uint64_t us = (rt_now_ns() - from_ns) / NS_PER_US;
    unsigned slot = us == 0 ? 0 : 64u - (unsigned)__builtin_clzll(us);
    add(&t->requests[c][k], 1);
    add(&t->latency[c][k][MIN_OF(slot, LATENCY_SLOTS - 1u)], 1);
    if (r < 0 && r != -EEXIST && r != -ENOENT) {
        add(&t->errors[c][k], 1);
    }
}

static int stats_put(struct obj_store *s, enum obj_class c, const char *name,
                     const struct rt_chain *body)
{
    uint64_t from = rt_now_ns();
    int r = s->next->ops->put(s->next, c, name, body);
    note(of(s), c, OBJ_PUT, from, r);
    add(&of(s)->bytes_out, body->len);
    return r;
}

static ssize_t stats_get(struct obj_store *s, enum obj_class c, const char *name, uint64_t off,
                         void *dst, size_t len)
{
    uint64_t from = rt_now_ns();
    ssize_t r = s->next->ops->get(s->next, c, name, off, dst, len);
    note(of(s), c, OBJ_GET, from, r);
    if (r > 0) {
        add(&of(s)->bytes_in, (uint64_t)r);
    }
    return r;
}

static int stats_head(struct obj_store *s, enum obj_class c, const char *name, uint64_t *ret_size)
{
    uint64_t from = rt_now_ns();
    int r = s->next->ops->head(s->next, c, name, ret_size);
    note(of(s), c, OBJ_HEAD, from, r);
    return r;
}

static int stats_list(struct obj_store *s, enum obj_class c, const char *prefix, const char *after,
                      size_t max, struct obj_names *ret_names)
{
    uint64_t from = rt_now_ns();
    int r = s->next->ops->list(s->next, c, prefix, after, max, ret_names);
    note(of(s), c, OBJ_LIST, from, r);
    return r;
}

static int stats_remove(struct obj_store *s, enum obj_class c, const char *name)
{
    uint64_t from = rt_now_ns();
    int r = s->next->ops->remove(s->next, c, name);
    note(of(s), c, OBJ_DELETE, from, r);
    return r;
}

static int stats_remove_many(struct obj_store *s, enum obj_class c, const char *const *names,
                             size_t count)
{
    uint64_t from = rt_now_ns();
    int r = obj_below_remove_many(s, c, names, count);
    if (r != -ENOTSUP) {
        note(of(s), c, OBJ_DELETE, from, r);
    }
    return r;
}

static void stats_close(struct obj_store *s)
{
    obj_close(s->next);
    free(of(s));
}

const struct obj_ops obj_stats_ops = {
    .name = "stats",
    .put = stats_put,
    .get = stats_get,
    .head = stats_head,
    .list = stats_list,
    .remove = stats_remove,
    .remove_many = stats_remove_many,
    .close = stats_close,
};

int obj_stats_wrap(struct obj_store *below, struct obj_store **ret_store)
{
    struct stats_store *t = calloc(1, sizeof *t);
    if (!t) {
        return -ENOMEM;
    }
    t->base.ops = &obj_stats_ops;
    t->base.next = below;
    *ret_store = &t->base;
    return 0;
}

static struct stats_store *find(struct obj_store *s)
{
    while (s && s->ops != &obj_stats_ops) {
        s = s->next;
    }
    return s ? of(s) : NULL;
}

void obj_latency(struct obj_store *s, enum obj_class c, enum obj_kind kind,
                 uint64_t ret_us_log2[LATENCY_SLOTS])
{
    struct stats_store *t = find(s);
    for (unsigned i = 0; i < LATENCY_SLOTS; i++) {
        ret_us_log2[i] = t ? atomic_load(&t->latency[c][kind][i]) : 0;
    }
}

void obj_counts(struct obj_store *s, struct obj_counts *ret_counts)
{
    *ret_counts = (struct obj_counts){0};
    struct stats_store *t = find(s);
    if (!t) {
        return;
    }
    for (unsigned k = 0; k < OBJ_KINDS; k++) {
        for (unsigned c = 0; c < OBJ_CLASSES; c++) {
            ret_counts->requests[c][k] = atomic_load(&t->requests[c][k]);
            ret_counts->errors[c][k] = atomic_load(&t->errors[c][k]);
            for (unsigned i = 0; i < LATENCY_SLOTS; i++) {
                ret_counts->latency_us_log2[k][i] += atomic_load(&t->latency[c][k][i]);
            }
        }
    }
    ret_counts->bytes_in = atomic_load(&t->bytes_in);
    ret_counts->bytes_out = atomic_load(&t->bytes_out);
}
