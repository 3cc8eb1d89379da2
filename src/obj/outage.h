/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Says once that a store is away, once a minute while it is, and once when it is back: an outage of
 * hours is some lines in the log, not one for each request. Any thread; nothing here waits.
 *
 *     r = obj_put(...);
 *     if (r < 0) {
 *         obj_outage_failed(&o, "obj", name, r, NULL);
 *     } else {
 *         obj_outage_ended(&o, "obj");
 *     }
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
    uint64_t said_ns; /* 0: never */
    bool said;        /* of this outage */
    uint64_t failures;
};

void obj_outage_init(struct obj_outage *o);
void obj_outage_destroy(struct obj_outage *o);
/* A request for `what` (an object's name) failed with r and will be sent again. detail: the store's
 * own words, NULL or "" if there are none. */
void obj_outage_failed(struct obj_outage *o, const char *room, const char *what, int r,
                       const char *detail);
/* A request was answered. Costs one load while there is no outage. */
void obj_outage_ended(struct obj_outage *o, const char *room);
/* For how long the store has been away; 0 = it is not. */
uint64_t obj_outage_ms(struct obj_outage *o);
