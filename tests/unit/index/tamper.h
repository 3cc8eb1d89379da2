/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A store layer for these tests: counts and can fail any request by its number, spoils what is
 * read, watches deletions, and holds requests back. The test sets the fields between or during
 * calls.
 */
#pragma once
#include "obj/obj_layers.h"
#include "rt/rt.h"
#include "rt/sync.h"
#include "unit.h"
#include <errno.h>

enum tamper_mode {
    TAMPER_FAIL_BEFORE, /* -EIO, not carried out */
    TAMPER_FAIL_AFTER,  /* carried out, -ETIMEDOUT */
};

struct tamper {
    struct obj_store store;
    uint64_t requests;
    uint64_t by_kind[OBJ_KINDS];
    uint64_t fail_at; /* number of the request that fails; 0 = none */
    enum tamper_mode mode;
    unsigned fail_puts; /* the next ones fail with fail_with */
    int fail_with;
    const char *spoil_prefix;
    unsigned spoil_gets; /* so many of the reads of that prefix have a bit turned */
    bool spoil_after;    /* so has the first read behind a PUT whose answer was lost */
    bool hold_puts;      /* they wait until it is false */
    uint64_t put_delay_ms;
    uint64_t get_delay_ms;
    uint64_t list_delay_ms;
    void (*removing)(struct tamper *t, const char *name);
    void *arg;
};

static inline struct tamper *tamper_of(struct obj_store *s)
{
    return container_of(s, struct tamper, store);
}

static inline int tamper_before(struct tamper *t, enum obj_kind kind, bool *ret_fail_after)
{
    t->requests++;
    t->by_kind[kind]++;
    bool hit = t->requests == t->fail_at;
    *ret_fail_after = hit && t->mode == TAMPER_FAIL_AFTER;
    return hit && t->mode == TAMPER_FAIL_BEFORE ? -EIO : 0;
}

static int tamper_put(struct obj_store *s, enum obj_class c, const char *name,
                      const struct rt_chain *body) WAITS
{
    struct tamper *t = tamper_of(s);
    bool after;
    int r = tamper_before(t, OBJ_PUT, &after);
    if (t->fail_puts > 0) {
        t->fail_puts--;
        return t->fail_with;
    }
    while (r == 0 && (t->hold_puts || t->put_delay_ms > 0)) {
        r = rt_sleep_ms(t->hold_puts ? 10 : t->put_delay_ms);
        if (!t->hold_puts) {
            break;
        }
    }
    if (r == 0) {
        r = obj_put(s->next, c, name, body);
    }
    if (after && t->spoil_after) {
        t->spoil_prefix = "";
        t->spoil_gets = 1;
    }
    return after ? -ETIMEDOUT : r;
}

static ssize_t tamper_get(struct obj_store *s, enum obj_class c, const char *name, uint64_t off,
                          void *dst, size_t len) WAITS
{
    struct tamper *t = tamper_of(s);
    bool after;
    int r = tamper_before(t, OBJ_GET, &after);
    if (r < 0 || after) {
        return after ? -ETIMEDOUT : r;
    }
    if (t->get_delay_ms > 0) {
        r = rt_sleep_ms(t->get_delay_ms);
        if (r < 0) {
            return r;
        }
    }
    ssize_t got = obj_get(s->next, c, name, off, dst, len);
    if (got > 0 && t->spoil_gets > 0 && t->spoil_prefix != NULL &&
        strncmp(name, t->spoil_prefix, strlen(t->spoil_prefix)) == 0) {
        t->spoil_gets--;
        ((uint8_t *)dst)[got / 2] ^= 4;
    }
    return got;
}

static int tamper_head(struct obj_store *s, enum obj_class c, const char *name, uint64_t *ret_size)
    WAITS
{
    bool after;
    int r = tamper_before(tamper_of(s), OBJ_HEAD, &after);
    return r < 0 ? r : obj_head(s->next, c, name, ret_size);
}

static int tamper_list(struct obj_store *s, enum obj_class c, const char *prefix, const char *after,
                       size_t max, struct obj_names *ret_names) WAITS
{
    bool lost;
    int r = tamper_before(tamper_of(s), OBJ_LIST, &lost);
    if (r < 0 || lost) {
        return lost ? -ETIMEDOUT : r;
    }
    if (tamper_of(s)->list_delay_ms > 0) {
        r = rt_sleep_ms(tamper_of(s)->list_delay_ms);
        if (r < 0) {
            return r;
        }
    }
    return obj_list(s->next, c, prefix, after, max, ret_names);
}

static int tamper_remove(struct obj_store *s, enum obj_class c, const char *name) WAITS
{
    struct tamper *t = tamper_of(s);
    bool after;
    int r = tamper_before(t, OBJ_DELETE, &after);
    if (r == 0) {
        if (t->removing != NULL) {
            t->removing(t, name);
        }
        r = obj_remove(s->next, c, name);
    }
    return after ? -ETIMEDOUT : r;
}

static void tamper_close(struct obj_store *s) WAITS
{
    struct obj_store *below = s->next;
    free(tamper_of(s));
    obj_close(below);
}

static inline struct tamper *tamper_open(void)
{
    static const struct obj_ops ops = {.name = "tamper",
                                       .put = tamper_put,
                                       .get = tamper_get,
                                       .head = tamper_head,
                                       .list = tamper_list,
                                       .remove = tamper_remove,
                                       .close = tamper_close};
    struct tamper *t = calloc(1, sizeof *t);
    assert_non_null(t);
    t->store.ops = &ops;
    assert_int_equal(obj_mem_open(&t->store.next), 0);
    return t;
}

/* How many objects have the prefix; the names are given to each(), which may be NULL. */
static inline size_t tamper_count(struct tamper *t, const char *prefix)
{
    struct obj_names names = {0};
    assert_int_equal(obj_list(t->store.next, OBJ_READ, prefix, "", 100000, &names), 0);
    size_t n = names.names.len;
    obj_names_free(&names);
    return n;
}
