/* SPDX-License-Identifier: Apache-2.0 */
/* What layers over a store have in common that watch some requests and hand all on. */
#pragma once
#include "obj/obj_layers.h"
#include <inttypes.h>
#include <stdio.h>

static inline bool segment_of(const char *name, uint64_t *ret_seq)
{
    return sscanf(name, "segments/%16" SCNx64, ret_seq) == 1;
}

static inline ssize_t layer_get(struct obj_store *s, enum obj_class c, const char *name,
                                uint64_t off, void *dst, size_t len)
{
    return obj_get(s->next, c, name, off, dst, len);
}

static inline int layer_head(struct obj_store *s, enum obj_class c, const char *name,
                             uint64_t *ret_size)
{
    return obj_head(s->next, c, name, ret_size);
}

static inline int layer_list(struct obj_store *s, enum obj_class c, const char *prefix,
                             const char *after, size_t max, struct obj_names *ret_names)
{
    return obj_list(s->next, c, prefix, after, max, ret_names);
}
