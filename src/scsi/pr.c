/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The persistent reservations of a device: one struct scsi_pr, kept with the device from when a
 * logical unit of it is first looked at, so that it outlives sessions, nexuses, and the logical
 * unit as its target knows it. It belongs to the device, not to its name.
 *
 * A CHANGE is made by one task at a time (busy): a copy of the state is changed by the rules,
 * stored if it has to persist (or taken out of the store), and takes the state's place; only then
 * is the status sent. While the store is away, changes of this device wait, and nothing else does.
 *
 * INVARIANTS
 *   P1. With aptpl, what is in the volume, or under way there in the open batch, is the state.
 *       When the flush fails after the record has entered its batch, the new state is the state,
 *       and the sender is told an error.
 *   P2. itl->refuses of every view is what the state says: it is set under pr->m, when the view
 *       comes and when the state changes.
 *   P3. A task enters its task set before it looks at refuses, so one that PREEMPT AND ABORT does
 *       not find in the set finds itself refused.
 *   P4. There is no registration while a RESERVE(6) holds the unit: RESERVE takes it under pr->m
 *       and not while a change is under way; a change looks for one once it is under way.
 *
 * The initiators that are told are those which are there; whoever comes later hears of POWER ON.
 */
#include "scsi/pr.h"
#include "base/assert.h"
#include "base/err.h"
#include "base/msg.h"
#include "scsi/command.h"
#include "scsi/pr_priv.h"
#include "scsi/sense.h"

struct scsi_pr {
    struct dev_keep keep;
    struct dev *dev; /* it keeps us */
    struct rt_mutex m;
    struct rt_waitq q;
    bool busy;
    struct scsi_pr_state state;
    struct list views;
};

static void pr_free(struct dev_keep *k)
{
    struct scsi_pr *pr = container_of(k, struct scsi_pr, keep);
    ASSERT(!pr->busy && list_is_empty(&pr->views));
    scsi_pr_state_free(&pr->state);
    rt_mutex_destroy(&pr->m);
    free(pr);
}

static int load(struct scsi_pr *pr)
{
    const void *value;
    size_t len = dev_reservations_loaded(pr->dev, &value);
    if (len == 0) {
        return 0;
    }
    int r = scsi_pr_decode(value, len, &pr->state);
    if (r == -ENOMEM) {
        return r;
    }
    if (r < 0) {
        struct dev_info info;
        dev_info(pr->dev, &info);
        msg_error("scsi", "LUN %u of %s: its reservations cannot be read and are gone: %s",
                  info.lun, info.name, err_text(r));
    }
    return 0;
}

struct scsi_pr *scsi_pr_of(struct dev *d)
{
    struct dev_keep *kept = dev_kept(d);
    if (kept) {
        return container_of(kept, struct scsi_pr, keep);
    }
    struct scsi_pr *pr = calloc(1, sizeof *pr);
    if (!pr) {
        return NULL;
    }
    pr->keep.free = pr_free;
    pr->dev = d;
    rt_mutex_init(&pr->m);
    rt_waitq_init(&pr->q);
    list_init(&pr->views);
    if (load(pr) < 0) {
        pr_free(&pr->keep);
        return NULL;
    }
    kept = dev_keep(d, &pr->keep);
    if (kept != &pr->keep) {
        pr_free(&pr->keep);
    }
    return container_of(kept, struct scsi_pr, keep);
}

static void name_of(const struct scsi_nexus *n, struct scsi_pr_nexus *ret)
{
    memcpy(ret->initiator, n->identity, sizeof ret->initiator);
    ret->port = n->opt.relative_port;
}

bool scsi_pr_is_of(const struct scsi_nexus *n, const struct scsi_pr_nexus *name)
{
    return n->opt.relative_port == name->port && strcmp(n->identity, name->initiator) == 0;
}

/* Under pr->m. */
static void judge(struct scsi_pr *pr, struct scsi_itl *itl)
{
    struct scsi_pr_nexus name;
    name_of(itl->nexus, &name);
    atomic_store_explicit(&itl->refuses, scsi_pr_refusals(&pr->state, &name), memory_order_release);
}

void scsi_pr_attach(struct scsi_itl *itl)
{
    struct scsi_pr *pr = itl->lu->pr;
    rt_mutex_lock(&pr->m);
    judge(pr, itl);
    list_push_back(&pr->views, &itl->pr_link);
    rt_mutex_unlock(&pr->m);
}

void scsi_pr_detach(struct scsi_itl *itl)
{
    struct scsi_pr *pr = itl->lu->pr;
    rt_mutex_lock(&pr->m);
    list_remove(&itl->pr_link);
    rt_mutex_unlock(&pr->m);
}

uint32_t scsi_pr_refused(struct scsi_pr *pr, const struct scsi_nexus *n)
{
    struct scsi_pr_nexus name;
    name_of(n, &name);
    rt_mutex_lock(&pr->m);
    uint32_t refuses = scsi_pr_refusals(&pr->state, &name);
    rt_mutex_unlock(&pr->m);
    return refuses;
}

int scsi_pr_snapshot(struct scsi_pr *pr, struct scsi_pr_state *ret_state)
{
    struct scsi_pr_state copy;
    rt_mutex_lock(&pr->m);
    int r = scsi_pr_state_copy(&pr->state, &copy);
    for (size_t i = 0; r >= 0 && i < copy.registrants.len; i++) {
        struct scsi_registrant *reg = &copy.registrants.at[i];
        reg->attached = false;
        list_for_each(&pr->views, struct scsi_itl, pr_link, itl) {
            reg->attached = reg->attached || scsi_pr_is_of(itl->nexus, &reg->nexus);
        }
    }
    rt_mutex_unlock(&pr->m);
    if (r >= 0) {
        *ret_state = copy;
    }
    return r;
}

int scsi_pr_add_known(struct scsi_lu *lu, const char *initiator, uint16_t port,
                      struct scsi_pr_request *q)
{
    size_t before = q->others.len;
    int r = 0;
    rt_mutex_lock(&lu->pr->m);
    list_for_each(&lu->pr->views, struct scsi_itl, pr_link, itl) {
        struct scsi_pr_nexus name;
        name_of(itl->nexus, &name);
        if (r >= 0 && name.port == port && strcmp(itl->nexus->initiator, initiator) == 0) {
            r = vec_push(&q->others, name);
        }
    }
    rt_mutex_unlock(&lu->pr->m);
    return r < 0 ? r : q->others.len == before ? -EINVAL : 0;
}

/* Under pr->m, with registrations: GOOD without doing anything, or RESERVATION CONFLICT. */
static enum scsi_status legacy_exception(const struct scsi_pr *pr, const struct scsi_nexus *n)
{
    struct scsi_pr_nexus name;
    name_of(n, &name);
    const struct scsi_registrant *reg = scsi_pr_find(&pr->state, &name);
    bool excepted =
        reg && (scsi_pr_holds(&pr->state, reg) || scsi_pr_of_registrants(pr->state.type));
    return excepted ? SCSI_GOOD : SCSI_RESERVATION_CONFLICT;
}

void scsi_pr_legacy(struct scsi_task *t, bool reserve)
{
    struct scsi_pr *pr = t->lu->pr;
    uint64_t self = t->nexus->id;
    uint64_t holder = reserve ? 0 : self;
    enum scsi_status status = SCSI_GOOD;
    rt_mutex_lock(&pr->m);
    if (pr->state.registrants.len > 0) {
        status = legacy_exception(pr, t->nexus);
    } else if (!reserve) {
        atomic_compare_exchange_strong(&t->lu->reserved_by, &holder, 0);
    } else if (pr->busy) {
        status = SCSI_BUSY;
    } else if (!atomic_compare_exchange_strong(&t->lu->reserved_by, &holder, self) &&
               holder != self) {
        status = SCSI_RESERVATION_CONFLICT;
    }
    rt_mutex_unlock(&pr->m);
    if (status != SCSI_GOOD) {
        scsi_fail_status(t, status);
    }
}

static int change_begin(struct scsi_pr *pr) WAITS
{
    int r = 0;
    rt_mutex_lock(&pr->m);
    while (pr->busy && r >= 0) {
        r = rt_waitq_wait(&pr->q, &pr->m, RT_FOREVER);
    }
    if (!pr->busy) {
        pr->busy = true;
        r = 0;
    }
    rt_mutex_unlock(&pr->m);
    return r;
}

static void change_end(struct scsi_pr *pr)
{
    rt_mutex_lock(&pr->m);
    pr->busy = false;
    rt_waitq_wake_one(&pr->q);
    rt_mutex_unlock(&pr->m);
}

/* A state that persists is stored, any other is nowhere but here. */
static int store(struct scsi_pr *pr, const struct scsi_pr_state *s, bool *ret_entered) WAITS
{
    struct bytes_writer value = {0};
    *ret_entered = false;
    if (s->aptpl && s->registrants.len > 0) {
        scsi_pr_encode(s, &value);
    }
    int r = value.failed ? -ENOMEM
                         : dev_reservations_store(pr->dev, value.data, value.len, ret_entered);
    bytes_writer_free(&value);
    return r;
}

/*
 * Whose commands are to be aborted: nexuses that may be gone meanwhile, so their ids; and their
 * names, for copies that they have sent to other targets.
 */
struct aborted {
    VEC(uint64_t) nexuses;
    VEC(struct scsi_pr_nexus) names;
};

static void tell(struct scsi_itl *itl, const struct scsi_pr_outcome *o, struct aborted *ret_aborted)
{
    static const enum scsi_ua attentions[] = {
        [SCSI_PR_RESERVATIONS_PREEMPTED] = SCSI_UA_RESERVATIONS_PREEMPTED,
        [SCSI_PR_RESERVATIONS_RELEASED] = SCSI_UA_RESERVATIONS_RELEASED,
        [SCSI_PR_REGISTRATIONS_PREEMPTED] = SCSI_UA_REGISTRATIONS_PREEMPTED,
    };
    for (size_t i = 0; i < o->notices.len; i++) {
        const struct scsi_pr_notice *n = &o->notices.at[i];
        if (!scsi_pr_is_of(itl->nexus, &n->nexus)) {
            continue;
        }
        if (n->news != SCSI_PR_NEWS_NONE) {
            scsi_attention_add(itl, attentions[n->news]);
        }
        if (n->abort && ret_aborted && ret_aborted->nexuses.len < ret_aborted->nexuses.cap) {
            ret_aborted->nexuses.at[ret_aborted->nexuses.len++] = itl->nexus->id;
            scsi_itl_prevent(itl, false); /* SPC-4 6.17 */
        }
    }
}

/* The new state takes the place of the old one, which is given back in its stead. */
static void publish(struct scsi_pr *pr, struct scsi_pr_state *s, const struct scsi_pr_outcome *o,
                    struct aborted *ret_aborted)
{
    rt_mutex_lock(&pr->m);
    struct scsi_pr_state old = pr->state;
    pr->state = *s;
    *s = old;
    list_for_each(&pr->views, struct scsi_itl, pr_link, itl) {
        judge(pr, itl);
        tell(itl, o, ret_aborted);
    }
    rt_mutex_unlock(&pr->m);
}

static void fail(struct scsi_task *t, enum scsi_pr_verdict v)
{
    switch (v) {
    case SCSI_PR_DONE:
        break;
    case SCSI_PR_CONFLICT:
        scsi_fail_status(t, SCSI_RESERVATION_CONFLICT);
        break;
    case SCSI_PR_BAD_CDB:
        scsi_fail_cdb(t, 2, 7);
        break;
    case SCSI_PR_BAD_LIST:
        scsi_fail_parameter(t, 8, 7);
        break;
    case SCSI_PR_BAD_RELEASE:
        scsi_fail(t, SCSI_KEY_ILLEGAL_REQUEST, SCSI_ASC_INVALID_RELEASE);
        break;
    case SCSI_PR_NO_RESOURCES:
        scsi_fail(t, SCSI_KEY_ILLEGAL_REQUEST, SCSI_ASC_NO_REGISTRATION_RESOURCES);
        break;
    case SCSI_PR_NO_MEMORY:
        scsi_fail_errno(t, -ENOMEM);
        break;
    }
}

/* Room for as many nexuses as can be meant: what comes to be there later is refused (P3). */
static int reserve_aborted(const struct scsi_pr_outcome *o, struct aborted *ret)
{
    size_t count = 0;
    for (size_t i = 0; i < o->notices.len; i++) {
        count += o->notices.at[i].abort;
    }
    int r = count > 0 ? vec_reserve(&ret->nexuses, count) : 0;
    return count > 0 && r >= 0 ? vec_reserve(&ret->names, count) : r;
}

static void note_names(const struct scsi_pr_outcome *o, struct aborted *ret)
{
    for (size_t i = 0; i < o->notices.len; i++) {
        if (o->notices.at[i].abort) {
            ret->names.at[ret->names.len++] = o->notices.at[i].nexus;
        }
    }
}

/* With busy set. */
static void change_locked(struct scsi_task *t, const struct scsi_pr_request *q,
                          struct aborted *ret_aborted) WAITS
{
    struct scsi_pr *pr = t->lu->pr;
    struct scsi_pr_state s;
    struct scsi_pr_outcome o = {0};
    if (scsi_task_is_aborted(t)) {
        return;
    }
    if (atomic_load(&t->lu->reserved_by) != 0) {
        scsi_fail_status(t, SCSI_RESERVATION_CONFLICT);
        return;
    }
    int r = scsi_pr_state_copy(&pr->state, &s); /* nobody else changes it */
    if (r < 0) {
        scsi_fail_errno(t, r);
        return;
    }
    enum scsi_pr_verdict v = scsi_pr_apply(&s, q, &o);
    bool entered = false;
    if (v == SCSI_PR_DONE) {
        r = reserve_aborted(&o, ret_aborted);
        r = r < 0 ? r : store(pr, &s, &entered);
    }
    if (entered) {
        publish(pr, &s, &o, ret_aborted);
        note_names(&o, ret_aborted);
    }
    fail(t, v);
    if (r < 0) {
        scsi_fail_errno(t, r);
    }
    scsi_pr_outcome_free(&o);
    scsi_pr_state_free(&s);
}

static int abort_matching(struct scsi_task *t, const struct scsi_taskset_filter *f, bool wait) WAITS
{
    if (!wait) {
        scsi_taskset_abort(t->lu, f, t->nexus);
        return 0;
    }
    return scsi_taskset_wait(t->lu, f);
}

/* After the change, so that a change of another task that waits can be among those that end. First
 * all are told, then they are waited for. */
static void abort_commands(struct scsi_task *t, const struct aborted *a) WAITS
{
    int r = 0;
    for (int wait = 0; wait <= 1; wait++) {
        for (size_t i = 0; i < a->nexuses.len && r >= 0; i++) {
            struct scsi_taskset_filter f = {.nexus = a->nexuses.at[i], .except = t, .reset = true};
            r = abort_matching(t, &f, wait);
        }
        for (size_t i = 0; i < a->names.len && r >= 0; i++) {
            struct scsi_taskset_filter f = {
                .guests_of = &a->names.at[i], .except = t, .reset = true};
            r = abort_matching(t, &f, wait);
        }
    }
    if (r < 0) {
        scsi_fail_errno(t, r);
    }
}

void scsi_pr_change(struct scsi_task *t, const struct scsi_pr_request *q)
{
    struct aborted a = {0};
    int r = change_begin(t->lu->pr);
    if (r < 0) {
        scsi_fail_errno(t, r);
        return;
    }
    change_locked(t, q, &a);
    change_end(t->lu->pr);
    abort_commands(t, &a);
    vec_free(&a.nexuses);
    vec_free(&a.names);
}

int scsi_reservations_get(struct dev *d, struct scsi_pr_state *ret_state)
{
    struct scsi_pr *pr = scsi_pr_of(d);
    return pr ? scsi_pr_snapshot(pr, ret_state) : -ENOMEM;
}

static int clear_locked(struct scsi_pr *pr) WAITS
{
    struct scsi_pr_state empty = {.generation = pr->state.generation + 1, .aptpl = pr->state.aptpl};
    struct scsi_pr_outcome o = {0};
    int r = 0;
    for (size_t i = 0; i < pr->state.registrants.len && r >= 0; i++) {
        r = vec_push(&o.notices, ((struct scsi_pr_notice){
                                     .nexus = pr->state.registrants.at[i].nexus,
                                     .news = SCSI_PR_RESERVATIONS_PREEMPTED,
                                 }));
    }
    bool entered = false;
    if (r >= 0) {
        r = store(pr, &empty, &entered);
    }
    if (entered) {
        publish(pr, &empty, &o, NULL);
    }
    scsi_pr_outcome_free(&o);
    scsi_pr_state_free(&empty);
    return r;
}

int scsi_reservations_clear(struct dev *d)
{
    struct scsi_pr *pr = scsi_pr_of(d);
    if (!pr) {
        return -ENOMEM;
    }
    int r = change_begin(pr);
    if (r < 0) {
        return r;
    }
    r = clear_locked(pr);
    change_end(pr);
    return r;
}
