/* SPDX-License-Identifier: Apache-2.0 */
/* What the records of loss.c say at an opening: who has lost something is owed an error. */
#include "base/err.h"
#include "base/msg.h"
#include "dev/dev_priv.h"
#include "dev/witness.h"

struct found {
    struct uuid device;
    struct dev_loss_record record;
};

struct finding {
    VEC(struct found) all;
};

static int load_one(void *arg, const void *key, size_t key_len, const void *value, size_t value_len)
{
    struct finding *all = arg;
    struct found f = {0};
    if (key_len != DEV_LOSS_KEY_BYTES) {
        return 0;
    }
    memcpy(f.device.bytes, (const uint8_t *)key + 1, 16);
    int r = dev_loss_decode(value, value_len, &f.record);
    if (r == ERR_CORRUPT_RECORD) {
        msg_error("dev", "a loss record cannot be used: %s", err_text(r));
        return 0;
    }
    if (r == 0) {
        r = vec_push(&all->all, f);
    }
    if (r < 0) {
        dev_loss_record_free(&f.record);
    }
    return r;
}

/* True when the record has to be written anew. */
static bool settle(struct dev *d, bool lost)
{
    uint32_t owed = 0;
    bool changed = false;
    struct dev_loss_record *rec = &d->loss.record;
    for (size_t i = 0; i < rec->nexuses.len; i++) {
        struct dev_loss_nexus *n = &rec->nexuses.at[i];
        changed = changed || n->active;
        if (n->active && lost) {
            n->owed = true;
            n->alone = false;
        }
        n->active = false;
        owed += n->owed;
    }
    dev_loss_sweep(rec);
    atomic_store(&d->loss.owed, owed);
    if (changed && lost) {
        msg_warn("dev", "%s: unflushed writes may have been lost; %u to be told at the next flush",
                 d->id.name, owed);
    }
    return changed;
}

static int drop_orphan(struct dev_registry *g, const struct uuid *device) WAITS
{
    struct vol_txn *t;
    uint8_t key[DEV_LOSS_KEY_BYTES];
    dev_loss_key(device, key);
    int r = vol_txn_begin(g->v, &t);
    if (r < 0) {
        return r;
    }
    r = vol_txn_delete(t, key, sizeof key);
    if (r < 0) {
        vol_txn_abort(t);
        return r;
    }
    return vol_txn_commit(t);
}

static int load_found(struct dev_registry *g, struct found *f, bool *changed) WAITS
{
    struct dev *d = dev_tree_by_uuid(g, &f->device);
    if (!d) {
        *changed = true;
        return drop_orphan(g, &f->device);
    }
    struct dev_witness_scope scope = {.epoch = f->record.epoch};
    vol_uuid(g->v, &scope.volume);
    bool lost = !dev_witness_clears(g->witness, &scope, &f->device, vol_batch_replayed(g->v));
    d->loss.record = f->record;
    f->record = (struct dev_loss_record){0};
    d->loss.recorded = true;
    if (!settle(d, lost)) {
        return 0;
    }
    *changed = true;
    return dev_loss_write(d);
}

int dev_loss_open(struct dev_registry *g)
{
    const uint8_t prefix = DEV_KEY_LOSS;
    struct finding all = {0};
    bool changed = false;
    if (vol_epoch(g->v) == 0) {
        return 0; /* opened for reading: the next who writes finds it all */
    }
    int r = vol_scan(g->v, &prefix, 1, load_one, &all);
    for (size_t i = 0; i < all.all.len; i++) {
        r = r < 0 ? r : load_found(g, &all.all.at[i], &changed);
        dev_loss_record_free(&all.all.at[i].record);
    }
    vec_free(&all.all);
    if (r >= 0 && changed) {
        r = vol_flush(g->v);
    }
    if (r < 0) {
        return r;
    }
    struct dev_witness_scope scope = {.epoch = vol_epoch(g->v)};
    vol_uuid(g->v, &scope.volume);
    dev_witness_begin(g->witness, &scope);
    return 0;
}
