/* SPDX-License-Identifier: Apache-2.0 */
#include "obj/why.h"
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>

int obj_wrong(const struct obj_why *why, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    (void)vsnprintf(why->text, why->cap, fmt, ap);
    va_end(ap);
    return -EINVAL;
}
