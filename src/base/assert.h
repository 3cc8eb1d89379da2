/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Asserts stay on in production. They are for programmer errors only: never for what a peer, a
 * disk, a store or a config may send.
 */
#pragma once
#include "base/attr.h"

/* Prints where and what, then aborts. */
NORETURN COLD void assert_failed(const char *expr, const char *file, int line, const char *func);

#define ASSERT(expr)                                                                               \
    do {                                                                                           \
        if (unlikely(!(expr))) {                                                                   \
            assert_failed(#expr, __FILE__, __LINE__, __func__);                                    \
        }                                                                                          \
    } while (0)

#define UNREACHABLE(why) assert_failed("unreachable: " why, __FILE__, __LINE__, __func__)
