/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Growable array of one element type.
 *
 *     VEC(struct extent) v = {0};
 *     int r = vec_push(&v, ((struct extent){.off = 0, .len = 10}));     // 0 or -ENOMEM
 *     for (size_t i = 0; i < v.len; i++) { use(&v.at[i]); }
 *     vec_free(&v);
 */
#pragma once
#include "base/attr.h"
#include <errno.h>
#include <stddef.h>

#define VEC(type)                                                                                  \
    struct {                                                                                       \
        type *at;                                                                                  \
        size_t len;                                                                                \
        size_t cap;                                                                                \
    }

/* Makes room for at least want elements of elem_size bytes: 0 or -ENOMEM. Not for direct use. */
MUST int vec_grow(void **at, size_t *cap, size_t want, size_t elem_size);

/* The size is a type's: that of an expression which is a pointer is suspicious to clang-tidy. */
#define vec_reserve(v, want)                                                                       \
    ((want) <= (v)->cap                                                                            \
         ? 0                                                                                       \
         : vec_grow((void **)&(v)->at, &(v)->cap, (want), sizeof(__typeof__(*(v)->at))))

#define vec_push(v, value)                                                                         \
    ({                                                                                             \
        int vec_r_ = vec_reserve((v), (v)->len + 1);                                               \
        if (vec_r_ == 0) {                                                                         \
            (v)->at[(v)->len++] = (value);                                                         \
        }                                                                                          \
        vec_r_;                                                                                    \
    })

#define vec_free(v)                                                                                \
    do {                                                                                           \
        free((v)->at);                                                                             \
        (v)->at = NULL;                                                                            \
        (v)->len = 0;                                                                              \
        (v)->cap = 0;                                                                              \
    } while (0)
