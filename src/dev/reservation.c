/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where persistent reservations lie: a value that scsi makes, in pieces, in the volume's metadata
 * (docs/FORMAT.md "Reservations"). Here it is bytes, but for the first, its version.
 *
 * A store holds a range far behind the device's end, shared, until its transaction has entered a
 * batch: a deletion waits for that, so no piece outlives its device.
 */
#include "dev/reservation.h"
#include "base/assert.h"
#include "base/err.h"
#include "base/msg.h"
#include "dev/dev_priv.h"

#define VERSION 1u
#define PIECE_BYTES 60000u

void dev_reservation_key(const struct uuid *device, unsigned piece,
                         uint8_t ret_key[DEV_RESERVATION_KEY_BYTES])
{
    ret_key[0] = DEV_KEY_RESERVATION;
    memcpy(ret_key + 1, device->bytes, 16);
    ret_key[17] = (uint8_t)piece;
}

struct piece {
    uint8_t key[DEV_RESERVATION_KEY_BYTES];
};

struct loading {
    struct dev_registry *g;
    VEC(struct piece) orphans;
};

static int load_piece(void *arg, const void *key, size_t key_len, const void *value,
                      size_t value_len)
{
    struct loading *l = arg;
    const uint8_t *k = key;
    const uint8_t *v = value;
    struct uuid device;
    if (key_len != DEV_RESERVATION_KEY_BYTES) {
        return 0;
    }
    memcpy(device.bytes, k + 1, sizeof device.bytes);
    struct dev *d = dev_tree_by_uuid(l->g, &device);
    if (!d) {
        struct piece orphan;
        memcpy(orphan.key, k, sizeof orphan.key);
        return vec_push(&l->orphans, orphan);
    }
    if (k[17] == 0 && value_len > 0 && v[0] > VERSION) {
        msg_error("dev", "%s: its reservations were written by a later version", d->id.name);
        return -ENOTSUP;
    }
    bytes_put(&d->reservation, value, value_len);
    d->reservation_pieces = k[17] + 1u;
    return d->reservation.failed ? -ENOMEM : 0;
}

/* Pieces 0 to count - 1 leave the volume. */
int dev_reservation_delete(struct vol_txn *t, const struct uuid *device, unsigned count)
{
    int r = 0;
    for (unsigned i = 0; i < count && r >= 0; i++) {
        uint8_t key[DEV_RESERVATION_KEY_BYTES];
        dev_reservation_key(device, i, key);
        r = vol_txn_delete(t, key, sizeof key);
    }
    return r;
}

static int drop_orphans(struct loading *l) WAITS
{
    struct vol_txn *t;
    int r = vol_txn_begin(l->g->v, &t);
    if (r < 0) {
        return r;
    }
    for (size_t i = 0; i < l->orphans.len && r >= 0; i++) {
        r = vol_txn_delete(t, l->orphans.at[i].key, DEV_RESERVATION_KEY_BYTES);
    }
    if (r < 0) {
        vol_txn_abort(t);
        return r;
    }
    return vol_txn_commit(t);
}

int dev_reservation_open(struct dev_registry *g)
{
    const uint8_t prefix = DEV_KEY_RESERVATION;
    struct loading l = {.g = g};
    int r = vol_scan(g->v, &prefix, 1, load_piece, &l);
    if (r >= 0 && l.orphans.len > 0 && vol_epoch(g->v) != 0) {
        r = drop_orphans(&l);
    }
    vec_free(&l.orphans);
    return r;
}

size_t dev_reservations_loaded(const struct dev *d, const void **ret_value)
{
    *ret_value = d->reservation.data;
    return d->reservation.len;
}

static int put_pieces(struct vol_txn *t, const struct dev *d, const uint8_t *value, size_t len)
{
    int r = 0;
    unsigned count = 0;
    for (size_t at = 0; at < len && r >= 0; at += PIECE_BYTES) {
        uint8_t key[DEV_RESERVATION_KEY_BYTES];
        dev_reservation_key(&d->id.uuid, count++, key);
        r = vol_txn_put(t, key, sizeof key, value + at, MIN_OF(len - at, (size_t)PIECE_BYTES));
    }
    for (; count < d->reservation_pieces && r >= 0; count++) {
        uint8_t key[DEV_RESERVATION_KEY_BYTES];
        dev_reservation_key(&d->id.uuid, count, key);
        r = vol_txn_delete(t, key, sizeof key);
    }
    return r;
}

static int enter(struct dev *d, const void *value, size_t len) WAITS
{
    struct vol_txn *t;
    if (dev_is_gone(d)) {
        return -ENODEV;
    }
    int r = vol_txn_begin(d->registry->v, &t);
    if (r < 0) {
        return r;
    }
    r = put_pieces(t, d, value, len);
    if (r < 0) {
        vol_txn_abort(t);
        return r;
    }
    r = vol_txn_commit(t);
    if (r >= 0) {
        d->reservation_pieces = (unsigned)((len + PIECE_BYTES - 1) / PIECE_BYTES);
    }
    return r;
}

int dev_reservations_store(struct dev *d, const void *value, size_t len, bool *ret_entered)
{
    ASSERT(len <= DEV_RESERVATIONS_MAX);
    *ret_entered = false;
    if (len == 0 && d->reservation_pieces == 0) {
        *ret_entered = true;
        return 0;
    }
    struct dev_range beyond = {.first_page = UINT64_MAX, .last_page = UINT64_MAX};
    int r = dev_ranges_lock(&d->ranges, &beyond);
    if (r < 0) {
        return r;
    }
    r = enter(d, value, len);
    dev_ranges_unlock(&d->ranges, &beyond);
    if (r < 0) {
        return r;
    }
    *ret_entered = true;
    return vol_flush(d->registry->v);
}

struct dev_keep *dev_kept(struct dev *d)
{
    return atomic_load(&d->keep);
}

struct dev_keep *dev_keep(struct dev *d, struct dev_keep *k)
{
    struct dev_keep *had = NULL;
    return atomic_compare_exchange_strong(&d->keep, &had, k) ? k : had;
}
