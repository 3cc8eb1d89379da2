/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A request that travels on its own: it owns copies of its name and body, so that it goes on when
 * its sender no longer waits, or, in the simulator, was killed. The delay and fault layers send
 * such.
 *
 *     r = errand_make(below, OBJ_PUT, c, name, &e);
 *     r = errand_body_copy(e, body);
 *     r = errand_send(e, &yard, before_ns, after_ns);  // travels, is carried out, travels back
 *     if (r == 0) { errand_wait(e); r = e->result; }   // or not
 *     errand_unref(e);
 */
#pragma once
#include "obj/obj_priv.h"
#include <stdatomic.h>

/* Counts the errands under way of one layer, so that closing it can wait for them. */
struct errand_yard {
    struct rt_mutex m;
    struct rt_waitq q;
    uint64_t under_way;
};

void errand_yard_init(struct errand_yard *y);
/* Waits until none is under way. */
void errand_yard_destroy(struct errand_yard *y) WAITS;

struct errand {
    struct obj_store *below;
    struct errand_yard *yard;
    enum obj_kind kind;
    enum obj_class c;
    char name[OBJ_NAME_SIZE];  /* of a listing: the prefix */
    char after[OBJ_NAME_SIZE]; /* of a listing */
    size_t max;                /* of a listing */
    struct rt_chain body;      /* of a put */
    uint64_t off;              /* of a get */
    size_t len;
    uint8_t *data;          /* what a get read; the errand's own */
    struct obj_names names; /* what a listing found */
    uint64_t size;          /* what a head found */
    uint64_t before_ns;     /* the way there, and back */
    uint64_t after_ns;
    ssize_t result;
    struct rt_event done;
    _Atomic unsigned refs;
};

MUST int errand_make(struct obj_store *below, enum obj_kind kind, enum obj_class c,
                     const char *name, struct errand **ret_e);
MUST int errand_body_copy(struct errand *e, const struct rt_chain *body);
/* Starts it: 0, or -EAGAIN when there is no fiber for it. */
MUST int errand_send(struct errand *e, struct errand_yard *y, uint64_t before_ns,
                     uint64_t after_ns);
/* Waits for the reply; not ended by cancellation. */
void errand_wait(struct errand *e) WAITS;
void errand_unref(struct errand *e);
