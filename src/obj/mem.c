/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The store "memory:": objects live as long as the store. For tests and the simulator. Calls never
 * suspend. An object is counted, so that a large one is copied out without holding up others.
 */
#include "base/assert.h"
#include "base/tree.h"
#include "obj/obj_layers.h"
#include "obj/obj_priv.h"
#include <string.h>

struct mem_object {
    struct tree_node node;
    char *name;
    uint8_t *data;
    uint64_t len;
    unsigned refs; /* under the store's mutex; one is the tree's */
};

struct mem_store {
    struct obj_store base;
    struct rt_mutex m;
    struct tree objects;
};

static int compare(const void *key, const struct tree_node *n)
{
    return strcmp(key, container_of(n, struct mem_object, node)->name);
}

static struct mem_store *of(struct obj_store *s)
{
    return container_of(s, struct mem_store, base);
}

static void object_free(struct mem_object *o)
{
    free(o->name);
    free(o->data);
    free(o);
}

static int object_make(const char *name, const struct rt_chain *body, struct mem_object **ret_o)
{
    struct mem_object *o = calloc(1, sizeof *o);
    if (!o) {
        return -ENOMEM;
    }
    o->name = strdup(name);
    o->data = malloc(MAX_OF(body->len, 1u));
    if (!o->name || !o->data) {
        object_free(o);
        return -ENOMEM;
    }
    o->len = body->len;
    o->refs = 1;
    rt_chain_copy_out(body, 0, o->data, body->len);
    *ret_o = o;
    return 0;
}

static int mem_put(struct obj_store *s, enum obj_class c, const char *name,
                   const struct rt_chain *body)
{
    (void)c;
    struct mem_store *m = of(s);
    struct mem_object *o;
    int r = object_make(name, body, &o);
    if (r < 0) {
        return r;
    }
    rt_mutex_lock(&m->m);
    bool added = tree_insert(&m->objects, o->name, &o->node);
    rt_mutex_unlock(&m->m);
    if (!added) {
        object_free(o);
        return -EEXIST;
    }
    return 0;
}

static struct mem_object *object_ref(struct mem_store *m, const char *name)
{
    rt_mutex_lock(&m->m);
    struct mem_object *o = tree_entry(tree_find(&m->objects, name), struct mem_object, node);
    if (o) {
        o->refs++;
    }
    rt_mutex_unlock(&m->m);
    return o;
}

static void object_unref(struct mem_store *m, struct mem_object *o)
{
    rt_mutex_lock(&m->m);
    bool last = --o->refs == 0;
    rt_mutex_unlock(&m->m);
    if (last) {
        object_free(o);
    }
}

static ssize_t mem_get(struct obj_store *s, enum obj_class c, const char *name, uint64_t off,
                       void *dst, size_t len)
{
    (void)c;
    struct mem_object *o = object_ref(of(s), name);
    if (!o) {
        return -ENOENT;
    }
    size_t n = off < o->len ? MIN_OF(len, o->len - off) : 0;
    if (n > 0) {
        memcpy(dst, o->data + off, n);
    }
    object_unref(of(s), o);
    return (ssize_t)n;
}

static int mem_head(struct obj_store *s, enum obj_class c, const char *name, uint64_t *ret_size)
{
    (void)c;
    struct mem_object *o = object_ref(of(s), name);
    if (!o) {
        return -ENOENT;
    }
    *ret_size = o->len;
    object_unref(of(s), o);
    return 0;
}

static int mem_list(struct obj_store *s, enum obj_class c, const char *prefix, const char *after,
                    size_t max, struct obj_names *ret_names)
{
    (void)c;
    struct mem_store *m = of(s);
    int r = 0;
    size_t prefix_len = strlen(prefix);
    rt_mutex_lock(&m->m);
    const char *from = strcmp(prefix, after) > 0 ? prefix : after;
    struct tree_node *n = tree_lower_bound(&m->objects, from);
    for (; n && r == 0; n = tree_next(n)) {
        const char *name = container_of(n, struct mem_object, node)->name;
        if (strcmp(name, after) == 0) {
            continue;
        }
        if (strncmp(name, prefix, prefix_len) != 0) {
            break;
        }
        if (ret_names->names.len == max) {
            ret_names->more = true;
            break;
        }
        r = obj_names_add(ret_names, name);
    }
    rt_mutex_unlock(&m->m);
    return r;
}

static int mem_remove(struct obj_store *s, enum obj_class c, const char *name)
{
    (void)c;
    struct mem_store *m = of(s);
    rt_mutex_lock(&m->m);
    struct mem_object *o = tree_entry(tree_find(&m->objects, name), struct mem_object, node);
    if (o) {
        tree_remove(&m->objects, &o->node);
    }
    rt_mutex_unlock(&m->m);
    if (o) {
        object_unref(m, o);
    }
    return 0;
}

static void mem_close(struct obj_store *s)
{
    struct mem_store *m = of(s);
    tree_for_each(&m->objects, struct mem_object, node, o) {
        tree_remove(&m->objects, &o->node);
        object_free(o);
    }
    rt_mutex_destroy(&m->m);
    free(m);
}

static const struct obj_ops mem_ops = {
    .name = "memory",
    .put = mem_put,
    .get = mem_get,
    .head = mem_head,
    .list = mem_list,
    .remove = mem_remove,
    .close = mem_close,
};

int obj_mem_open(struct obj_store **ret_store)
{
    struct mem_store *m = calloc(1, sizeof *m);
    if (!m) {
        return -ENOMEM;
    }
    m->base.ops = &mem_ops;
    m->objects = tree_make(compare);
    rt_mutex_init(&m->m);
    *ret_store = &m->base;
    return 0;
}
