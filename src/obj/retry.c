/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Repeats what failed for a passing reason (obj_error_passes()), with exponential backoff, each
 * wait drawn from the upper half of its span so that many waiters do not come back at once.
 *
 * HOW LONG. Writes of the index (OBJ_INDEX puts) are repeated until they succeed or the fiber's
 * group is cancelled: an outage of hours loses nothing. All else gives up after give_up_ms, until
 * obj_outlast() says that clients are served: then what they, commits and the index wait for goes
 * on as long, and what works in the background alone gives up. From then on a store that denies
 * (keys that have expired, a policy that is being changed) is one that is away. Before that a
 * denied or full store is the answer, also to puts of the index; but as the index puts again what
 * it cannot do without, the store is away from then on, so that a command does not wait for ever
 * (obj_is_given_up()).
 *
 * PUTS OF COMMITS ARE NOT REPEATED HERE. The log decides about each attempt itself (invariants I1
 * and I3), and it must be able to stop. But here is known how they fare, so that the outage of a
 * store is told once, whatever it was that met it.
 */
#include "base/time.h"
#include "obj/obj_layers.h"
#include "obj/obj_priv.h"
#include "obj/outage.h"
#include <stdatomic.h>

#define FIRST_BACKOFF_MS 50
#define MAX_BACKOFF_MS 5000

struct retry_store {
    struct obj_store base;
    struct obj_retry_options opt;
    struct obj_outage outage;
    _Atomic bool outlasts;
};

/* One request over its attempts. */
struct retry_state {
    struct retry_store *t;
    uint64_t deadline_ns;
    uint64_t backoff_ms;
    uint64_t put_ns; /* when it was sent, if it is a put */
    bool for_ever;
};

static struct retry_store *of(struct obj_store *s)
{
    return container_of(s, struct retry_store, base);
}

static bool is_waited_for(enum obj_class c)
{
    return c == OBJ_COMMIT || c == OBJ_INDEX || c == OBJ_READ;
}

static struct retry_state begin(struct obj_store *s, enum obj_class c, bool for_ever)
{
    struct retry_store *t = of(s);
    for_ever = for_ever || (is_waited_for(c) && atomic_load(&t->outlasts));
    bool limited = t->opt.give_up_ms > 0 && !for_ever;
    return (struct retry_state){
        .t = t,
        .deadline_ns = limited ? rt_after_ms(t->opt.give_up_ms) : RT_FOREVER,
        .backoff_ms = t->opt.first_backoff_ms,
        .for_ever = for_ever,
    };
}

/* True for an error that says nothing against the store. */
static bool is_answer(ssize_t r)
{
    return r >= 0 || r == -EEXIST || r == -ENOENT;
}

static void failed(struct retry_store *t, struct obj_failure f)
{
    char detail[OBJ_DETAIL_SIZE];
    obj_below_last_error(&t->base, detail, sizeof detail);
    f.detail = detail;
    obj_outage_failed(&t->outage, &f);
}

static bool is_full(int r)
{
    return r == -ENOSPC || r == -EDQUOT || r == -EROFS;
}

/* Whether it may work later. A full store is one that will have room again, for puts that nothing
 * can do without. */
static bool passes(const struct retry_state *st, int r)
{
    const struct retry_store *t = st->t;
    if (obj_error_passes(r) || !t->outlasts) {
        return obj_error_passes(r);
    }
    return (r == -EACCES && t->opt.denial_passes) || (is_full(r) && st->put_ns > 0 && st->for_ever);
}

/* True when the request is to be sent again; has waited then. */
static bool again(struct retry_state *st, const char *name, ssize_t r)
{
    if (is_answer(r)) {
        obj_outage_ended(&st->t->outage, st->put_ns > 0);
        return false;
    }
    bool is_final = !passes(st, (int)r);
    uint64_t put_ns = st->for_ever ? st->put_ns : 0;
    if (is_final && (put_ns == 0 || atomic_load(&st->t->outlasts) || r == -ECANCELED)) {
        return false;
    }
    failed(st->t,
           (struct obj_failure){
               .what = name, .error = (int)r, .put_since_ns = put_ns, .is_answered = is_final});
    if (is_final) {
        return false;
    }
    uint64_t half = MAX_OF(st->backoff_ms / 2, 1u);
    uint64_t until = rt_after_ms(half + rt_random() % half);
    if (until >= st->deadline_ns) {
        return false;
    }
    st->backoff_ms = MIN_OF(st->backoff_ms * 2, st->t->opt.max_backoff_ms);
    return rt_sleep_until(until) == 0;
}

static int retry_put(struct obj_store *s, enum obj_class c, const char *name,
                     const struct rt_chain *body)
{
    int r;
    if (c == OBJ_COMMIT) {
        uint64_t from_ns = rt_now_ns();
        r = s->next->ops->put(s->next, c, name, body);
        if (is_answer(r)) {
            obj_outage_ended(&of(s)->outage, true);
        } else if (r != -ECANCELED) {
            failed(of(s), (struct obj_failure){.what = name, .error = r, .put_since_ns = from_ns});
        }
        return r;
    }
    struct retry_state st = begin(s, c, c == OBJ_INDEX);
    do {
        st.put_ns = rt_now_ns();
        r = s->next->ops->put(s->next, c, name, body);
    } while (again(&st, name, r));
    return r;
}

static ssize_t retry_get(struct obj_store *s, enum obj_class c, const char *name, uint64_t off,
                         void *dst, size_t len)
{
    struct retry_state st = begin(s, c, false);
    ssize_t r;
    do {
        r = s->next->ops->get(s->next, c, name, off, dst, len);
    } while (again(&st, name, r));
    return r;
}

static int retry_head(struct obj_store *s, enum obj_class c, const char *name, uint64_t *ret_size)
{
    struct retry_state st = begin(s, c, false);
    int r;
    do {
        r = s->next->ops->head(s->next, c, name, ret_size);
    } while (again(&st, name, r));
    return r;
}

static int retry_list(struct obj_store *s, enum obj_class c, const char *prefix, const char *after,
                      size_t max, struct obj_names *ret_names)
{
    struct retry_state st = begin(s, c, false);
    int r;
    do {
        obj_names_free(ret_names);
        r = s->next->ops->list(s->next, c, prefix, after, max, ret_names);
    } while (again(&st, prefix, r));
    return r;
}

static int retry_remove(struct obj_store *s, enum obj_class c, const char *name)
{
    struct retry_state st = begin(s, c, false);
    int r;
    do {
        r = s->next->ops->remove(s->next, c, name);
    } while (again(&st, name, r));
    return r;
}

static int retry_remove_many(struct obj_store *s, enum obj_class c, const char *const *names,
                             size_t count)
{
    struct retry_state st = begin(s, c, false);
    int r;
    do {
        r = obj_below_remove_many(s, c, names, count);
    } while (again(&st, names[0], r));
    return r;
}

static void retry_close(struct obj_store *s)
{
    struct retry_store *t = of(s);
    obj_close(s->next);
    obj_outage_destroy(&t->outage);
    free(t);
}

static const struct obj_ops retry_ops = {
    .name = "retry",
    .put = retry_put,
    .get = retry_get,
    .head = retry_head,
    .list = retry_list,
    .remove = retry_remove,
    .remove_many = retry_remove_many,
    .close = retry_close,
};

int obj_retry_wrap(struct obj_store *below, const struct obj_retry_options *opt,
                   struct obj_store **ret_store)
{
    struct retry_store *t = calloc(1, sizeof *t);
    if (!t) {
        return -ENOMEM;
    }
    t->base.ops = &retry_ops;
    t->base.next = below;
    t->opt = *opt;
    if (t->opt.first_backoff_ms == 0) {
        t->opt.first_backoff_ms = FIRST_BACKOFF_MS;
    }
    if (t->opt.max_backoff_ms == 0) {
        t->opt.max_backoff_ms = MAX_BACKOFF_MS;
    }
    obj_outage_init(&t->outage);
    atomic_init(&t->outlasts, false);
    *ret_store = &t->base;
    return 0;
}

static struct retry_store *find(struct obj_store *s)
{
    while (s && s->ops != &retry_ops) {
        s = s->next;
    }
    return s ? of(s) : NULL;
}

void obj_outlast(struct obj_store *s)
{
    struct retry_store *t = find(s);
    if (t) {
        atomic_store(&t->outlasts, true);
    }
}

uint64_t obj_away_ms(struct obj_store *s)
{
    struct retry_store *t = find(s);
    return t ? obj_outage_ms(&t->outage) : 0;
}

bool obj_is_given_up(struct obj_store *s)
{
    struct retry_store *t = find(s);
    if (!t || t->opt.give_up_ms == 0 || atomic_load(&t->outlasts)) {
        return false;
    }
    return obj_outage_ms(&t->outage) > (uint64_t)t->opt.give_up_ms + t->opt.give_up_ms / 3;
}
