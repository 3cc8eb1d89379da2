/* SPDX-License-Identifier: Apache-2.0 */
#include "base/err.h"
#include <stddef.h>
#include <string.h>

struct err_entry {
    int errno_class;
    const char *name;
    const char *text;
};

static const struct err_entry entries[] = {
#define X(name, class_errno, text) {class_errno, #name, text},
    ERR_CODES(X)
#undef X
};

/* Larger numbers are no errno of any system, and stay clear of the private codes. */
#define ERRNO_MAX 4095

static const struct err_entry *find(int r)
{
    if (r <= ERR_FIRST_PRIVATE || r >= ERR_END_PRIVATE) {
        return NULL;
    }
    return &entries[r - ERR_FIRST_PRIVATE - 1];
}

int err_class(int r)
{
    if (r >= 0) {
        return 0;
    }
    const struct err_entry *e = find(r);
    if (e) {
        return e->errno_class;
    }
    return r >= -ERRNO_MAX ? -r : EIO;
}

const char *err_name(int r)
{
    if (r >= 0) {
        return "OK";
    }
    const struct err_entry *e = find(r);
    if (e) {
        return e->name;
    }
    const char *name = r >= -ERRNO_MAX ? strerrorname_np(-r) : NULL;
    return name ? name : "ERR_UNKNOWN";
}

const char *err_text(int r)
{
    if (r >= 0) {
        return "no error";
    }
    const struct err_entry *e = find(r);
    if (e) {
        return e->text;
    }
    const char *text = r >= -ERRNO_MAX ? strerrordesc_np(-r) : NULL;
    return text ? text : "an unknown error";
}
