/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A write cache that is lost is noticed: a client whose acknowledged, unflushed changes died with
 * the server must not get "good" for its next flush.
 *
 * A device's loss record in the volume names the nexuses that may have unflushed changes. It is
 * written with the first change that is acknowledged before it is durable: that change waits for
 * the store, together with the record, in one segment. From then on the device is *marked*, and
 * changes are acknowledged at once. The mark goes when a nexus attaches that the record does not
 * name (the next change writes it anew), when nothing was changed for a while (then a record
 * without it rides in the next batch), and when the registry is closed.
 *
 * INVARIANTS
 *   L1. While a change is acknowledged and not durable, a stored record names every nexus that was
 *       attached when it was acknowledged, as active.
 *   L2. A record loses its active nexuses only in a batch that comes after every change they made.
 *   L3. A debt (owed) leaves the record only in a batch that comes after the nexus of that name has
 *       heard of it: each is told until it has, whoever else comes. Names that are made up for each
 *       session are the exception: a debt that is `alone`, its initiator having come back as
 *       others, goes when there is no room for who is active.
 *
 * L1: a change enters its batch, then looks at `marked`; who finds it false writes the record and
 * flushes. L2: cleaning sets `marked` to false before its record enters a batch, so whoever still
 * found it true had entered an earlier batch, or the same.
 *
 * At an opening, active nexuses of a record have lost something, unless the witness (witness.h)
 * shows that the youngest change of the device is in what was replayed. They become owed, durably,
 * before anybody is served. loss_tell.c tells them.
 *
 * LOCKS: loss_lock (across waits) has one writer of the record at a time; d->m guards the list.
 */
#include "base/assert.h"
#include "base/err.h"
#include "base/msg.h"
#include "base/time.h"
#include "dev/dev_priv.h"
#include "dev/witness.h"
#include "rt/rt.h"

#define TICK_MS 30000u
#define QUIET_NS (90 * NS_PER_S)

static void note_change(struct dev *d)
{
    uint64_t now = vol_batch_now(d->registry->v);
    _Atomic uint64_t *last = atomic_load_explicit(&d->loss.last_batch, memory_order_acquire);
    uint64_t had = atomic_load_explicit(last, memory_order_relaxed);
    while (unlikely(had < now) && !atomic_compare_exchange_weak(last, &had, now)) {
    }
}

struct dev_loss_nexus *dev_loss_find(struct dev_loss_record *rec, const char *name)
{
    for (size_t i = 0; i < rec->nexuses.len; i++) {
        if (strcmp(rec->nexuses.at[i].name, name) == 0) {
            return &rec->nexuses.at[i];
        }
    }
    return NULL;
}

/* Without those that have nothing to do with a loss any more. Who is being told of a debt keeps its
 * entry, for its name. */
void dev_loss_sweep(struct dev_loss_record *rec)
{
    size_t kept = 0;
    for (size_t i = 0; i < rec->nexuses.len; i++) {
        struct dev_loss_nexus n = rec->nexuses.at[i];
        if (dev_loss_is_stored(&n) || n.told || n.telling > 0) {
            rec->nexuses.at[kept++] = n;
        } else {
            free(n.name);
        }
    }
    rec->nexuses.len = kept;
}

/*
 * Takes out one without which the record is still right, preferably who was told; or, if debts may
 * go, who never came, while another session of his initiator was told.
 */
static bool make_room(struct dev *d, bool debts)
{
    struct dev_loss_record *rec = &d->loss.record;
    size_t at = SIZE_MAX;
    for (size_t i = rec->nexuses.len; i-- > 0;) {
        const struct dev_loss_nexus *n = &rec->nexuses.at[i];
        bool spare = !n->active && n->telling == 0 && (!n->owed || (n->alone && debts));
        at = spare && (at == SIZE_MAX || !n->owed || rec->nexuses.at[at].owed) ? i : at;
    }
    if (at == SIZE_MAX) {
        return false;
    }
    atomic_fetch_sub(&d->loss.owed, rec->nexuses.at[at].owed);
    free(rec->nexuses.at[at].name);
    rec->nexuses.len--;
    memmove(&rec->nexuses.at[at], &rec->nexuses.at[at + 1],
            (rec->nexuses.len - at) * sizeof *rec->nexuses.at);
    return true;
}

int dev_loss_add(struct dev *d, struct dev_loss_nexus n, const char *name)
{
    struct dev_loss_record *rec = &d->loss.record;
    if (rec->nexuses.len == DEV_LOSS_NEXUSES_MAX && !make_room(d, n.active)) {
        return -ENOSPC;
    }
    n.name = strdup(name);
    int r = n.name ? vec_push(&rec->nexuses, n) : -ENOMEM;
    if (r < 0) {
        free(n.name);
    }
    return r;
}

static int activate(struct dev *d, const char *name)
{
    struct dev_loss_record *rec = &d->loss.record;
    struct dev_loss_nexus *have = dev_loss_find(rec, name);
    if (have) {
        have->active = true;
        return 0;
    }
    int r = dev_loss_add(d, (struct dev_loss_nexus){.active = true}, name);
    if (r == -ENOSPC) {
        msg_warn_paced("dev", "%s: more than %u clients: some would not be told of a loss",
                       d->id.name, DEV_LOSS_NEXUSES_MAX);
        r = 0;
    }
    return r;
}

/* Under d->m: those attached now, and nobody else, are active. */
static int activate_attached(struct dev *d)
{
    struct dev_loss_record *rec = &d->loss.record;
    for (size_t i = 0; i < rec->nexuses.len; i++) {
        rec->nexuses.at[i].active = false;
    }
    int r = 0;
    list_for_each(&d->watches, struct dev_watch, link, w) {
        r = r < 0 ? r : activate(d, w->nexus);
    }
    if (r == 0 && d->attached == 0) {
        r = activate(d, ""); /* whoever comes first */
    }
    dev_loss_sweep(rec);
    return r;
}

/* With loss_lock: the record as it is in memory enters the open batch; an empty one is deleted. */
int dev_loss_write(struct dev *d) WAITS
{
    struct bytes_writer value = {0};
    uint8_t key[DEV_LOSS_KEY_BYTES];
    dev_loss_key(&d->id.uuid, key);
    rt_mutex_lock(&d->m);
    d->loss.record.epoch = vol_epoch(d->registry->v);
    bool empty = true;
    for (size_t i = 0; i < d->loss.record.nexuses.len; i++) {
        empty = empty && !dev_loss_is_stored(&d->loss.record.nexuses.at[i]);
    }
    dev_loss_encode(&d->loss.record, &value);
    rt_mutex_unlock(&d->m);
    struct vol_txn *t = NULL;
    int r = value.failed ? -ENOMEM : 0;
    if (r == 0 && !(empty && !d->loss.recorded)) {
        r = vol_txn_begin(d->registry->v, &t);
    }
    if (t) {
        r = empty ? vol_txn_delete(t, key, sizeof key)
                  : vol_txn_put(t, key, sizeof key, value.data, value.len);
        if (r < 0) {
            vol_txn_abort(t);
        } else {
            r = vol_txn_commit(t);
        }
    }
    bytes_writer_free(&value);
    if (r >= 0) {
        d->loss.recorded = !empty;
    }
    return r;
}

static _Atomic uint64_t *take_slot(struct dev *d)
{
    struct dev_registry *g = d->registry;
    rt_mutex_lock(&g->m);
    _Atomic uint64_t *slot = dev_witness_slot(g->witness, &d->id.uuid);
    rt_mutex_unlock(&g->m);
    return slot;
}

/* The caller's change is in a batch already: after this it is durable. */
static int mark(struct dev *d) WAITS
{
    rt_mutex_lock(&d->m);
    uint64_t attaches = d->loss.attaches;
    int r = activate_attached(d);
    rt_mutex_unlock(&d->m);
    if (r == 0) {
        r = dev_loss_write(d);
    }
    if (r >= 0) {
        r = vol_flush(d->registry->v);
    }
    if (r < 0) {
        return r;
    }
    if (!d->loss.witnessed) {
        d->loss.witnessed = true;
        _Atomic uint64_t *slot = take_slot(d);
        if (slot) {
            atomic_store_explicit(&d->loss.last_batch, slot, memory_order_release);
        }
    }
    note_change(d);
    rt_mutex_lock(&d->m);
    bool same = attaches == d->loss.attaches;
    if (same) {
        atomic_store(&d->loss.marked, true);
    }
    rt_mutex_unlock(&d->m);
    if (same) {
        rt_event_set(&d->registry->marking);
    }
    return 0;
}

int dev_loss_change(struct dev *d)
{
    if (likely(atomic_load(&d->loss.marked))) {
        note_change(d);
        return 0;
    }
    rt_lock_take(&d->loss.lock);
    int r = 0;
    if (atomic_load(&d->loss.marked)) {
        note_change(d);
    } else {
        r = mark(d);
    }
    rt_lock_release(&d->loss.lock);
    return r;
}

/* Under d->m. */
void dev_loss_attached(struct dev *d, const char *nexus)
{
    struct dev_loss_nexus *n = dev_loss_find(&d->loss.record, nexus);
    if (!n || !n->active) {
        d->loss.attaches++;
        atomic_store(&d->loss.marked, false);
    }
}

/* L2: nothing unflushed is left behind when this record becomes durable. */
static void clean(struct dev *d) WAITS
{
    rt_lock_take(&d->loss.lock);
    atomic_store(&d->loss.marked, false);
    rt_mutex_lock(&d->m);
    for (size_t i = 0; i < d->loss.record.nexuses.len; i++) {
        d->loss.record.nexuses.at[i].active = false;
    }
    dev_loss_sweep(&d->loss.record);
    rt_mutex_unlock(&d->m);
    int r = dev_is_gone(d) ? 0 : dev_loss_write(d);
    rt_lock_release(&d->loss.lock);
    if (r < 0) {
        msg_debug("dev", "%s: the loss record stays: %s", d->id.name, err_text(r));
    }
}

/* True while the device is marked. */
static bool tend(struct dev *d, uint64_t now) WAITS
{
    if (!atomic_load(&d->loss.marked)) {
        return false;
    }
    uint64_t batch = atomic_load(atomic_load(&d->loss.last_batch));
    if (batch != d->loss.seen_batch) {
        d->loss.seen_batch = batch;
        d->loss.seen_ns = now;
    } else if (now - d->loss.seen_ns >= QUIET_NS) {
        clean(d);
        return false;
    }
    return true;
}

typedef bool each_fn(struct dev *d, uint64_t now) WAITS;

/* Calls fn for each device, which may wait; the number of times it said true. */
static size_t for_each_device(struct dev_registry *g, each_fn *fn) WAITS
{
    size_t count = 0;
    struct dev *d = NULL;
    uint64_t now = rt_now_ns();
    do {
        rt_mutex_lock(&g->m);
        struct dev_key from = {.kind = DEV_NBD, .name = ""};
        if (d) {
            from = dev_key_of(&d->id);
        }
        struct dev *next = dev_tree_from(g, &from);
        if (next && next == d) {
            next = tree_entry(tree_next(&next->node), struct dev, node);
        }
        if (next) {
            (void)dev_ref(next);
        }
        rt_mutex_unlock(&g->m);
        dev_unref(d);
        d = next;
        count += d && fn(d, now);
    } while (d);
    return count;
}

void dev_loss_tender(void *arg)
{
    struct dev_registry *g = arg;
    int r = 0;
    while (r >= 0) {
        rt_event_reset(&g->marking);
        size_t marked = for_each_device(g, tend);
        if (marked > 0) {
            r = rt_sleep_ms(TICK_MS);
        } else {
            r = rt_event_wait(&g->marking, RT_FOREVER);
        }
    }
}

static bool clean_one(struct dev *d, uint64_t now) WAITS
{
    (void)now;
    if (d->loss.recorded) {
        clean(d);
    }
    return true;
}

void dev_loss_close(struct dev_registry *g)
{
    (void)for_each_device(g, clean_one);
}

void dev_loss_init(struct dev *d)
{
    rt_lock_init(&d->loss.lock, RT_RANK_DEVICE);
    atomic_init(&d->loss.last_batch, &d->loss.own_batch);
    atomic_init(&d->loss.round, 1);
}

void dev_loss_destroy(struct dev *d)
{
    rt_lock_destroy(&d->loss.lock);
    dev_loss_record_free(&d->loss.record);
}
