/* SPDX-License-Identifier: Apache-2.0 */
/* What the layers of this room share. */
#pragma once
#include "obj/obj.h"
#include "rt/offload.h"
#include "rt/rt.h"
#include "rt/sync.h"

/* 0 when the name obeys the rules in obj.h, else -EINVAL. */
MUST int obj_name_check(const char *name);

/* The threads on which blocking calls of a class run: commits never queue behind reads. */
static inline enum rt_offload_kind obj_offload_kind(enum obj_class c)
{
    return c == OBJ_COMMIT || c == OBJ_INDEX ? RT_OFFLOAD_COMMIT : RT_OFFLOAD_IO;
}

/* Appends a copy of the name. 0 or -ENOMEM. */
MUST int obj_names_add(struct obj_names *n, const char *name);

/* For layers: what the next one below does. -ENOTSUP: it has no such request. */
MUST int obj_below_remove_many(struct obj_store *s, enum obj_class c, const char *const *names,
                               size_t count) WAITS;
#define OBJ_DETAIL_SIZE 200
/* What the backend says about its last failure; "" when it says nothing. */
void obj_below_last_error(struct obj_store *s, char *ret_text, size_t cap);

extern const struct obj_ops obj_stats_ops;
