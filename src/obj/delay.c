/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Adds latency to every request: half on the way there, half on the way back. Under the simulator
 * the request travels on its own (errand.h), so that it reaches the store though its sender was
 * killed meanwhile.
 */
#include "base/time.h"
#include "obj/errand.h"
#include "obj/obj_layers.h"
#include <string.h>

struct delay_store {
    struct obj_store base;
    struct obj_delay_options opt;
    struct errand_yard yard;
};

static struct delay_store *of(struct obj_store *s)
{
    return container_of(s, struct delay_store, base);
}

static uint64_t draw_ns(const struct delay_store *d)
{
    uint64_t span_ns = (d->opt.max_ms - d->opt.min_ms) * NS_PER_MS;
    return d->opt.min_ms * NS_PER_MS + (span_ns > 0 ? rt_random() % (span_ns + 1) : 0);
}

/* Sends the errand and waits for its reply. */
static ssize_t go(struct delay_store *d, struct errand *e)
{
    uint64_t there = draw_ns(d) / 2;
    uint64_t back = draw_ns(d) / 2;
    int r = errand_send(e, &d->yard, there, back);
    if (r < 0) {
        return r;
    }
    errand_wait(e);
    return e->result;
}

static void linger(const struct delay_store *d)
{
    (void)rt_sleep_until(rt_now_ns() + draw_ns(d));
}

static int delay_put(struct obj_store *s, enum obj_class c, const char *name,
                     const struct rt_chain *body)
{
    if (!rt_is_sim()) {
        linger(of(s));
        return s->next->ops->put(s->next, c, name, body);
    }
    struct errand *e;
    int r = errand_make(s->next, OBJ_PUT, c, name, &e);
    if (r < 0) {
        return r;
    }
    r = errand_body_copy(e, body);
    if (r == 0) {
        r = (int)go(of(s), e);
    }
    errand_unref(e);
    return r;
}

static ssize_t delay_get(struct obj_store *s, enum obj_class c, const char *name, uint64_t off,
                         void *dst, size_t len)
{
    if (!rt_is_sim()) {
        linger(of(s));
        return s->next->ops->get(s->next, c, name, off, dst, len);
    }
    struct errand *e;
    int r = errand_make(s->next, OBJ_GET, c, name, &e);
    if (r < 0) {
        return r;
    }
    e->off = off;
    e->len = len;
    ssize_t n = go(of(s), e);
    if (n > 0) {
        memcpy(dst, e->data, (size_t)n);
    }
    errand_unref(e);
    return n;
}

static int delay_head(struct obj_store *s, enum obj_class c, const char *name, uint64_t *ret_size)
{
    if (!rt_is_sim()) {
        linger(of(s));
        return s->next->ops->head(s->next, c, name, ret_size);
    }
    struct errand *e;
    int r = errand_make(s->next, OBJ_HEAD, c, name, &e);
    if (r < 0) {
        return r;
    }
    r = (int)go(of(s), e);
    if (r == 0) {
        *ret_size = e->size;
    }
    errand_unref(e);
    return r;
}

static int delay_list(struct obj_store *s, enum obj_class c, const char *prefix, const char *after,
                      size_t max, struct obj_names *ret_names)
{
    if (!rt_is_sim()) {
        linger(of(s));
        return s->next->ops->list(s->next, c, prefix, after, max, ret_names);
    }
    if (strlen(prefix) >= OBJ_NAME_SIZE || strlen(after) >= OBJ_NAME_SIZE) {
        return -EINVAL;
    }
    struct errand *e;
    int r = errand_make(s->next, OBJ_LIST, c, prefix, &e);
    if (r < 0) {
        return r;
    }
    memcpy(e->after, after, strlen(after) + 1);
    e->max = max;
    r = (int)go(of(s), e);
    if (r == 0) {
        *ret_names = e->names;
        e->names = (struct obj_names){0};
    }
    errand_unref(e);
    return r;
}

static int delay_remove(struct obj_store *s, enum obj_class c, const char *name)
{
    if (!rt_is_sim()) {
        linger(of(s));
        return s->next->ops->remove(s->next, c, name);
    }
    struct errand *e;
    int r = errand_make(s->next, OBJ_DELETE, c, name, &e);
    if (r < 0) {
        return r;
    }
    r = (int)go(of(s), e);
    errand_unref(e);
    return r;
}

static void delay_close(struct obj_store *s)
{
    struct delay_store *d = of(s);
    errand_yard_destroy(&d->yard);
    obj_close(s->next);
    free(d);
}

static const struct obj_ops delay_ops = {
    .name = "delay",
    .far = true,
    .put = delay_put,
    .get = delay_get,
    .head = delay_head,
    .list = delay_list,
    .remove = delay_remove,
    .close = delay_close,
};

int obj_delay_wrap(struct obj_store *below, const struct obj_delay_options *opt,
                   struct obj_store **ret_store)
{
    if (opt->max_ms < opt->min_ms) {
        return -EINVAL;
    }
    struct delay_store *d = calloc(1, sizeof *d);
    if (!d) {
        return -ENOMEM;
    }
    d->base.ops = &delay_ops;
    d->base.next = below;
    d->opt = *opt;
    errand_yard_init(&d->yard);
    *ret_store = &d->base;
    return 0;
}
