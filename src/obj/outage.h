/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Says once that a store is away, once a minute while it is, and once when it is back: an outage of
 * hours is some lines in the log, not one for each request. Any thread; nothing here waits.
 *
 *     r = obj_put(...);
 *     if (r < 0) {
 *         obj_outage_failed(&o, &(struct obj_failure){.what = name, .error = r, .put_since_ns =
 * t}); } else { obj_outage_ended(&o, true);
 *     }
 *
 * A store may answer reads and take no writes (it is full, or the keys may only read): when puts
 * have failed that are sent until they succeed, only the answer to a put ends the outage. One that
 * was sent before the last one that succeeded is passed over: it may have been sent twice.
 */
#pragma once
#include "rt/sync.h"
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct obj_outage {
    struct rt_mutex m;
    _Atomic bool is_out;
    uint64_t since_ns;
    uint64_t said_ns;        /* 0: never */
    bool said;               /* of this outage */
    bool of_puts;            /* puts are sent again and again */
    _Atomic uint64_t put_ns; /* when the last put was answered */
    uint64_t failures;
};

struct obj_failure {
    const char *what; /* an object's name */
    int error;
    const char *detail;    /* the store's own words; NULL or "": none */
    uint64_t put_since_ns; /* when it was sent: a put that is sent until it succeeds; else 0 */
    bool is_answered;      /* with the error: who asked decides whether it is sent again */
};

void obj_outage_init(struct obj_outage *o);
void obj_outage_destroy(struct obj_outage *o);
/* A request failed and will be sent again, as a rule. */
void obj_outage_failed(struct obj_outage *o, const struct obj_failure *f);
/* A request was answered. Costs one load while there is no outage. */
void obj_outage_ended(struct obj_outage *o, bool is_put);
/* For how long the store has been away; 0 = it is not. */
uint64_t obj_outage_ms(struct obj_outage *o);
