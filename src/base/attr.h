/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Markers that every room uses.
 *
 * MUST marks a function whose result must be looked at. WAITS marks a function that may suspend the
 * calling fiber: across it the world may change, so no pointer into a map, list or cache is held
 * over the call, and no rt_mutex is. The marker is for the reader, and tools/tidy reads it too.
 *
 *     MUST int net_recv(struct net_stream *s, void *dst, size_t cap) WAITS;
 *
 *     auto_free char *name = strdup(given);
 *     ...
 *     *ret_name = take(name);         // ownership goes to the caller
 */
#pragma once
#include <stddef.h>
#include <stdlib.h>

#define MUST __attribute__((warn_unused_result))
#define WAITS
#define PRINTF_LIKE(fmt, first) __attribute__((format(printf, fmt, first)))
#define NORETURN __attribute__((noreturn))
#define COLD __attribute__((cold, noinline))
#define likely(x) __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)
#define ARRAY_LEN(a) (sizeof(a) / sizeof((a)[0]))
#define container_of(ptr, type, member) ((type *)(void *)((char *)(ptr)-offsetof(type, member)))
#define MIN_OF(a, b) ((a) < (b) ? (a) : (b))
#define MAX_OF(a, b) ((a) > (b) ? (a) : (b))

static inline void attr_free_ptr(void *slot)
{
    free(*(void **)slot);
}

/* Frees the malloc'ed object that the variable holds when its scope ends. */
#define auto_free __attribute__((cleanup(attr_free_ptr)))

/* Moves the pointer out of an auto_ variable; the variable is NULL afterwards. */
#define take(p)                                                                                    \
    ({                                                                                             \
        __typeof__(p) took_ = (p);                                                                 \
        (p) = NULL;                                                                                \
        took_;                                                                                     \
    })
