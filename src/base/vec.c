/* SPDX-License-Identifier: Apache-2.0 */
#include "base/vec.h"
#include <stdint.h>
#include <string.h>

#define FIRST_CAP 8

int vec_grow(void **at, size_t *cap, size_t want, size_t elem_size)
{
    size_t new_cap = MAX_OF(want, *cap <= SIZE_MAX / 2 ? *cap * 2 : want);
    new_cap = MAX_OF(new_cap, (size_t)FIRST_CAP);

    /* The slot is a pointer to some element type: copied, so that no aliasing rule is broken. */
    void *old;
    memcpy(&old, at, sizeof old);
    size_t size;
    if (__builtin_mul_overflow(new_cap, elem_size, &size)) {
        return -ENOMEM;
    }
    void *grown = realloc(old, size);
    if (!grown) {
        return -ENOMEM;
    }
    memcpy(at, &grown, sizeof grown);
    *cap = new_cap;
    return 0;
}
