/* SPDX-License-Identifier: Apache-2.0 */
/* A layer that changes nothing and leaves what is below open when it is closed. */
#include "obj/obj_layers.h"
#include "obj/obj_priv.h"

static int share_put(struct obj_store *s, enum obj_class c, const char *name,
                     const struct rt_chain *body)
{
    return s->next->ops->put(s->next, c, name, body);
}

static ssize_t share_get(struct obj_store *s, enum obj_class c, const char *name, uint64_t off,
                         void *dst, size_t len)
{
    return s->next->ops->get(s->next, c, name, off, dst, len);
}

static int share_head(struct obj_store *s, enum obj_class c, const char *name, uint64_t *ret_size)
{
    return s->next->ops->head(s->next, c, name, ret_size);
}

static int share_list(struct obj_store *s, enum obj_class c, const char *prefix, const char *after,
                      size_t max, struct obj_names *ret_names)
{
    return s->next->ops->list(s->next, c, prefix, after, max, ret_names);
}

static int share_remove(struct obj_store *s, enum obj_class c, const char *name)
{
    return s->next->ops->remove(s->next, c, name);
}

static void share_close(struct obj_store *s)
{
    free(s);
}

static const struct obj_ops share_ops = {
    .name = "share",
    .put = share_put,
    .get = share_get,
    .head = share_head,
    .list = share_list,
    .remove = share_remove,
    .remove_many = obj_below_remove_many,
    .close = share_close,
};

int obj_share(struct obj_store *shared, struct obj_store **ret_store)
{
    struct obj_store *s = calloc(1, sizeof *s);
    if (!s) {
        return -ENOMEM;
    }
    s->ops = &share_ops;
    s->next = shared;
    *ret_store = s;
    return 0;
}
