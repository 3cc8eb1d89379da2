/* SPDX-License-Identifier: Apache-2.0 */
#include "obj/errand.h"
#include "base/assert.h"
#include "rt/sim.h"
#include <string.h>

void errand_yard_init(struct errand_yard *y)
{
    rt_mutex_init(&y->m);
    rt_waitq_init(&y->q);
    y->under_way = 0;
}

void errand_yard_destroy(struct errand_yard *y)
{
    rt_shield();
    rt_mutex_lock(&y->m);
    while (y->under_way > 0) {
        int r = rt_waitq_wait(&y->q, &y->m, RT_FOREVER);
        ASSERT(r == 0);
    }
    rt_mutex_unlock(&y->m);
    rt_unshield();
    rt_mutex_destroy(&y->m);
}

int errand_make(struct obj_store *below, enum obj_kind kind, enum obj_class c, const char *name,
                struct errand **ret_e)
{
    struct errand *e = calloc(1, sizeof *e);
    if (!e) {
        return -ENOMEM;
    }
    ASSERT(strlen(name) < sizeof e->name);
    memcpy(e->name, name, strlen(name) + 1);
    e->below = below;
    e->kind = kind;
    e->c = c;
    rt_event_init(&e->done);
    atomic_init(&e->refs, 1);
    *ret_e = e;
    return 0;
}

int errand_body_copy(struct errand *e, const struct rt_chain *body)
{
    struct rt_buf *b;
    int r = rt_buf_alloc(MAX_OF(body->len, 1u), RT_MEM_OTHER, &b);
    if (r < 0) {
        return r;
    }
    rt_chain_copy_out(body, 0, b->data, body->len);
    r = rt_chain_add(&e->body, b, b->data, (uint32_t)body->len);
    rt_buf_unref(b);
    return r;
}

static int get(struct errand *e)
{
    e->data = malloc(MAX_OF(e->len, 1u));
    if (!e->data) {
        return -ENOMEM;
    }
    ssize_t n = e->below->ops->get(e->below, e->c, e->name, e->off, e->data, e->len);
    e->result = n;
    return n < 0 ? (int)n : 0;
}

static void carry_out(struct errand *e)
{
    struct obj_store *s = e->below;
    int r = -EINVAL;
    switch (e->kind) {
    case OBJ_PUT:
        r = s->ops->put(s, e->c, e->name, &e->body);
        break;
    case OBJ_GET:
        r = get(e);
        break;
    case OBJ_HEAD:
        r = s->ops->head(s, e->c, e->name, &e->size);
        break;
    case OBJ_LIST:
        r = s->ops->list(s, e->c, e->name, e->after, e->max, &e->names);
        break;
    case OBJ_DELETE:
        r = s->ops->remove(s, e->c, e->name);
        break;
    case OBJ_KINDS:
        UNREACHABLE("no kind of request");
    }
    if (e->kind != OBJ_GET || r < 0) {
        e->result = r;
    }
}

static void travel(uint64_t ns)
{
    if (ns > 0) {
        (void)rt_sleep_until(rt_now_ns() + ns);
    }
}

static void run(void *arg)
{
    struct errand *e = arg;
    struct errand_yard *y = e->yard;
    travel(e->before_ns);
    carry_out(e);
    travel(e->after_ns);
    rt_event_set(&e->done);
    errand_unref(e);
    rt_mutex_lock(&y->m);
    y->under_way--;
    rt_waitq_wake_all(&y->q);
    rt_mutex_unlock(&y->m);
}

int errand_send(struct errand *e, struct errand_yard *y, uint64_t before_ns, uint64_t after_ns)
{
    e->yard = y;
    e->before_ns = before_ns;
    e->after_ns = after_ns;
    atomic_fetch_add(&e->refs, 1);
    rt_mutex_lock(&y->m);
    y->under_way++;
    rt_mutex_unlock(&y->m);
    int r = rt_is_sim() ? rt_sim_outside("errand", run, e) : rt_spawn("errand", run, e);
    if (r < 0) {
        rt_mutex_lock(&y->m);
        y->under_way--;
        rt_mutex_unlock(&y->m);
        errand_unref(e);
    }
    return r;
}

void errand_wait(struct errand *e)
{
    rt_shield();
    int r = rt_event_wait(&e->done, RT_FOREVER);
    ASSERT(r == 0);
    rt_unshield();
}

void errand_unref(struct errand *e)
{
    if (!e || atomic_fetch_sub(&e->refs, 1) > 1) {
        return;
    }
    rt_event_destroy(&e->done);
    rt_chain_free(&e->body);
    obj_names_free(&e->names);
    free(e->data);
    free(e);
}
