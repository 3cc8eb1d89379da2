/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where a decoder says in words what is wrong.
 *
 *     if (!is_bucket(text)) { return obj_wrong(why, "'%s' is no bucket", text); }
 */
#pragma once
#include "base/attr.h"
#include <stddef.h>

struct obj_why {
    char *text;
    size_t cap;
};

/* -EINVAL */
int obj_wrong(const struct obj_why *why, const char *fmt, ...) PRINTF_LIKE(2, 3);
