/* SPDX-License-Identifier: Apache-2.0 */
#include "base/assert.h"
#include <stdio.h>

void assert_failed(const char *expr, const char *file, int line, const char *func)
{
    /* Not through msg: it may be msg itself that is broken. */
    dprintf(2, "zerofs: assertion failed: %s (%s:%d, %s)\n", expr, file, line, func);
    abort();
}
