/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Makes requests fail as a bad store or network would. What happens to each request is drawn from
 * the layer's own seeded generator, so that under the simulator a seed gives the same faults:
 *
 *     fail_before  never arrives                        ERR_FAULT_INJECTED (class EIO)
 *     fail_after   is carried out, its reply is lost    -ETIMEDOUT
 *     late         is carried out some time after       -ETIMEDOUT at once
 *     duplicate    is carried out twice, once later     the first one's reply
 *
 * Late and duplicate requests travel on their own (errand.h); closing the layer waits for them.
 */
#include "base/err.h"
#include "base/msg.h"
#include "base/rng.h"
#include "base/time.h"
#include "obj/errand.h"
#include "obj/obj_layers.h"

struct fault_store {
    struct obj_store base;
    struct rt_mutex m; /* opt and rng */
    struct obj_fault_options opt;
    struct rng rng;
    struct errand_yard yard;
};

enum fate {
    FATE_GOOD,
    FATE_DOWN,
    FATE_FAIL_BEFORE,
    FATE_FAIL_AFTER,
    FATE_DUPLICATE,
    FATE_LATE,
};

static struct fault_store *of(struct obj_store *s)
{
    return container_of(s, struct fault_store, base);
}

static bool chance(struct rng *g, double p)
{
    return p > 0 && (double)(rng_next(g) >> 11) * 0x1p-53 < p;
}

static enum fate draw(struct fault_store *f, uint64_t *ret_late_ns)
{
    uint64_t now = rt_now_ns();
    rt_mutex_lock(&f->m);
    enum fate fate = FATE_GOOD;
    if (now < f->opt.down_until_ns) {
        fate = FATE_DOWN;
    } else if (chance(&f->rng, f->opt.fail_before)) {
        fate = FATE_FAIL_BEFORE;
    } else if (chance(&f->rng, f->opt.fail_after)) {
        fate = FATE_FAIL_AFTER;
    } else if (chance(&f->rng, f->opt.late)) {
        fate = FATE_LATE;
    } else if (chance(&f->rng, f->opt.duplicate)) {
        fate = FATE_DUPLICATE;
    }
    uint64_t late_ns = MAX_OF(f->opt.late_ms, 1u) * NS_PER_MS;
    *ret_late_ns = 1 + rng_below(&f->rng, late_ns);
    rt_mutex_unlock(&f->m);
    return fate;
}

/* Sends a copy of the request that nobody waits for. A failure to do so is no fault of the request.
 */
static void send_later(struct fault_store *f, enum obj_kind kind, enum obj_class c,
                       const char *name, const struct rt_chain *body, uint64_t late_ns)
{
    struct errand *e;
    int r = errand_make(f->base.next, kind, c, name, &e);
    if (r < 0) {
        return;
    }
    if (body) {
        r = errand_body_copy(e, body);
    }
    if (r == 0) {
        r = errand_send(e, &f->yard, late_ns, 0);
    }
    if (r < 0) {
        msg_debug("obj", "the copy of a request for %s is not sent: %s", name, err_text(r));
    }
    errand_unref(e);
}

/* What a request that does not reach the store gives; 0 when it is to be carried out now. */
static int before(enum fate fate)
{
    switch (fate) {
    case FATE_DOWN:
        return -EAGAIN;
    case FATE_FAIL_BEFORE:
        return ERR_FAULT_INJECTED;
    case FATE_LATE:
        return -ETIMEDOUT;
    case FATE_GOOD:
    case FATE_FAIL_AFTER:
    case FATE_DUPLICATE:
        break;
    }
    return 0;
}

static int fault_put(struct obj_store *s, enum obj_class c, const char *name,
                     const struct rt_chain *body)
{
    uint64_t late_ns;
    enum fate fate = draw(of(s), &late_ns);
    if (fate == FATE_LATE || fate == FATE_DUPLICATE) {
        send_later(of(s), OBJ_PUT, c, name, body, late_ns);
    }
    int r = before(fate);
    if (r < 0) {
        return r;
    }
    r = s->next->ops->put(s->next, c, name, body);
    return fate == FATE_FAIL_AFTER ? -ETIMEDOUT : r;
}

static int fault_remove(struct obj_store *s, enum obj_class c, const char *name)
{
    uint64_t late_ns;
    enum fate fate = draw(of(s), &late_ns);
    if (fate == FATE_LATE || fate == FATE_DUPLICATE) {
        send_later(of(s), OBJ_DELETE, c, name, NULL, late_ns);
    }
    int r = before(fate);
    if (r < 0) {
        return r;
    }
    r = s->next->ops->remove(s->next, c, name);
    return fate == FATE_FAIL_AFTER ? -ETIMEDOUT : r;
}

static ssize_t fault_get(struct obj_store *s, enum obj_class c, const char *name, uint64_t off,
                         void *dst, size_t len)
{
    uint64_t late_ns;
    enum fate fate = draw(of(s), &late_ns);
    int r = before(fate);
    if (r < 0) {
        return r;
    }
    ssize_t n = s->next->ops->get(s->next, c, name, off, dst, len);
    return fate == FATE_FAIL_AFTER ? -ETIMEDOUT : n;
}

static int fault_head(struct obj_store *s, enum obj_class c, const char *name, uint64_t *ret_size)
{
    uint64_t late_ns;
    enum fate fate = draw(of(s), &late_ns);
    int r = before(fate);
    if (r < 0) {
        return r;
    }
    r = s->next->ops->head(s->next, c, name, ret_size);
    return fate == FATE_FAIL_AFTER ? -ETIMEDOUT : r;
}

static int fault_list(struct obj_store *s, enum obj_class c, const char *prefix, const char *after,
                      size_t max, struct obj_names *ret_names)
{
    uint64_t late_ns;
    enum fate fate = draw(of(s), &late_ns);
    int r = before(fate);
    if (r < 0) {
        return r;
    }
    r = s->next->ops->list(s->next, c, prefix, after, max, ret_names);
    return fate == FATE_FAIL_AFTER ? -ETIMEDOUT : r;
}

static void fault_close(struct obj_store *s)
{
    struct fault_store *f = of(s);
    errand_yard_destroy(&f->yard);
    obj_close(s->next);
    rt_mutex_destroy(&f->m);
    free(f);
}

static const struct obj_ops fault_ops = {
    .name = "fault",
    .put = fault_put,
    .get = fault_get,
    .head = fault_head,
    .list = fault_list,
    .remove = fault_remove,
    .close = fault_close,
};

int obj_fault_wrap(struct obj_store *below, const struct obj_fault_options *opt,
                   struct obj_store **ret_store)
{
    struct fault_store *f = calloc(1, sizeof *f);
    if (!f) {
        return -ENOMEM;
    }
    f->base.ops = &fault_ops;
    f->base.next = below;
    f->opt = *opt;
    f->rng = rng_seeded(opt->seed);
    rt_mutex_init(&f->m);
    errand_yard_init(&f->yard);
    *ret_store = &f->base;
    return 0;
}

void obj_fault_set(struct obj_store *fault_layer, const struct obj_fault_options *opt)
{
    struct fault_store *f = of(fault_layer);
    rt_mutex_lock(&f->m);
    f->opt = *opt;
    rt_mutex_unlock(&f->m);
}
