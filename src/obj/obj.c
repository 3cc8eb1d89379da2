/* SPDX-License-Identifier: Apache-2.0 */
/* The face of the room: checks what callers hand in, then calls the topmost layer. */
#include "obj/obj.h"
#include "base/assert.h"
#include "base/err.h"
#include "base/msg.h"
#include "obj/obj_priv.h"
#include <string.h>

#define NAME_MAX_BYTES (OBJ_NAME_SIZE - 1)

static bool is_name_char(char ch)
{
    return (ch >= 'a' && ch <= 'z') || (ch >= 'A' && ch <= 'Z') || (ch >= '0' && ch <= '9') ||
           ch == '.' || ch == '_' || ch == '-';
}

/* A part between slashes: not empty, and neither "." nor "..". */
static bool is_part(const char *part, size_t len)
{
    if (len == 0 || (len == 1 && part[0] == '.')) {
        return false;
    }
    return !(len == 2 && part[0] == '.' && part[1] == '.');
}

int obj_name_check(const char *name)
{
    const char *part = name;
    size_t i = 0;
    for (; i <= NAME_MAX_BYTES; i++) {
        char ch = name[i];
        if (ch == '/' || ch == '\0') {
            if (!is_part(part, (size_t)(name + i - part))) {
                return -EINVAL;
            }
            if (ch == '\0') {
                return 0;
            }
            part = name + i + 1;
        } else if (!is_name_char(ch)) {
            return -EINVAL;
        }
    }
    return -EINVAL;
}

void obj_tell_spoilt(const char *name)
{
    msg_warn("obj", "%s: what came is not what was written there; reading again", name);
}

void obj_names_free(struct obj_names *n)
{
    for (size_t i = 0; i < n->names.len; i++) {
        free(n->names.at[i]);
    }
    vec_free(&n->names);
    n->more = false;
}

int obj_names_add(struct obj_names *n, const char *name)
{
    auto_free char *copy = strdup(name);
    if (!copy) {
        return -ENOMEM;
    }
    int r = vec_push(&n->names, copy);
    if (r < 0) {
        return r;
    }
    (void)take(copy);
    return 0;
}

bool obj_error_passes(int r)
{
    switch (-r) {
    case EAGAIN:
    case EBUSY:
    case ECONNABORTED:
    case ECONNREFUSED:
    case ECONNRESET:
    case EHOSTUNREACH:
    case EINTR:
    case EIO:
    case EMFILE:
    case ENETDOWN:
    case ENETUNREACH:
    case ENFILE:
    case ENOBUFS:
    case ENOMEM:
    case EPIPE:
    case ETIMEDOUT:
        return true;
    default:
        return r == ERR_FAULT_INJECTED;
    }
}

int obj_put(struct obj_store *s, enum obj_class c, const char *name, const struct rt_chain *body)
{
    int r = obj_name_check(name);
    if (r < 0) {
        return r;
    }
    return s->ops->put(s, c, name, body);
}

ssize_t obj_get(struct obj_store *s, enum obj_class c, const char *name, uint64_t off, void *dst,
                size_t len)
{
    int r = obj_name_check(name);
    if (r < 0) {
        return r;
    }
    return s->ops->get(s, c, name, off, dst, len);
}

int obj_get_all(struct obj_store *s, enum obj_class c, const char *name, size_t max_bytes,
                struct rt_buf **ret_buf, size_t *ret_len)
{
    uint64_t size;
    int r = obj_head(s, c, name, &size);
    if (r < 0) {
        return r;
    }
    if (size > max_bytes) {
        return -EFBIG;
    }
    struct rt_buf *b;
    r = rt_buf_alloc(MAX_OF(size, 1u), RT_MEM_OTHER, &b);
    if (r < 0) {
        return r;
    }
    ssize_t n = size > 0 ? obj_get(s, c, name, 0, b->data, size) : 0;
    if (n < 0 || (uint64_t)n != size) {
        rt_buf_unref(b);
        return n < 0 ? (int)n : -EIO;
    }
    *ret_buf = b;
    *ret_len = size;
    return 0;
}

int obj_head(struct obj_store *s, enum obj_class c, const char *name, uint64_t *ret_size)
{
    int r = obj_name_check(name);
    if (r < 0) {
        return r;
    }
    return s->ops->head(s, c, name, ret_size);
}

int obj_list(struct obj_store *s, enum obj_class c, const char *prefix, const char *after,
             size_t max, struct obj_names *ret_names)
{
    struct obj_names found = {0};
    int r = s->ops->list(s, c, prefix, after, max, &found);
    if (r < 0) {
        obj_names_free(&found);
        return r;
    }
    *ret_names = found;
    return 0;
}

int obj_remove(struct obj_store *s, enum obj_class c, const char *name)
{
    int r = obj_name_check(name);
    if (r < 0) {
        return r;
    }
    return s->ops->remove(s, c, name);
}

int obj_remove_many(struct obj_store *s, enum obj_class c, const char *const *names, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        int r = obj_name_check(names[i]);
        if (r < 0) {
            return r;
        }
    }
    if (count > 1 && s->ops->remove_many) {
        int r = s->ops->remove_many(s, c, names, count);
        if (r != -ENOTSUP) {
            return r;
        }
    }
    for (size_t i = 0; i < count; i++) {
        int r = s->ops->remove(s, c, names[i]);
        if (r < 0) {
            return r;
        }
    }
    return 0;
}

int obj_below_remove_many(struct obj_store *s, enum obj_class c, const char *const *names,
                          size_t count)
{
    struct obj_store *below = s->next;
    return below->ops->remove_many ? below->ops->remove_many(below, c, names, count) : -ENOTSUP;
}

void obj_below_last_error(struct obj_store *s, char *ret_text, size_t cap)
{
    while (s->next && !s->next->ops->last_error) {
        s = s->next;
    }
    if (s->next) {
        s->next->ops->last_error(s->next, ret_text, cap);
    } else {
        ret_text[0] = '\0';
    }
}

int obj_prove(struct obj_store *s)
{
    while (s->next && !s->ops->prove) {
        s = s->next;
    }
    return s->ops->prove ? s->ops->prove(s) : 0;
}

void obj_close(struct obj_store *s)
{
    if (s) {
        s->ops->close(s);
    }
}

bool obj_is_far(const struct obj_store *s)
{
    for (; s; s = s->next) {
        if (s->ops->far) {
            return true;
        }
    }
    return false;
}
