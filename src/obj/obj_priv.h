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

extern const struct obj_ops obj_stats_ops;
