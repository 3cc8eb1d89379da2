/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Overwriting, after all that the device held has been removed (sanitize.c): pass by pass the
 * pattern is written as any data, in steps, each with the lock of its own pages. What a pass wrote
 * is in the store before the next one begins.
 *
 * How far it is, is recorded in the batch of what was written, or a later one: so what the record
 * says is there, whatever a crash leaves, and the next opening goes on behind it. Who deletes the
 * device waits for a step, and its record enters before the one that takes it away.
 *
 * A pattern of zeroes needs no data: such a pass is a hole.
 */
#include "dev/overwrite.h"
#include "base/err.h"
#include "base/msg.h"
#include "dev/dev_priv.h"
#include "rt/rt.h"
#include <stdlib.h>

#define VERSION 1u
#define FLAG_INVERT 1u
#define BUFFER_BYTES (64u << 10)
#define WRITE_BYTES (1u << 20)
#define STEP_BYTES (32u << 20) /* between two records, and two waits for the volume */

void dev_overwrite_key(const struct uuid *device, uint8_t ret_key[DEV_OVERWRITE_KEY_BYTES])
{
    ret_key[0] = DEV_KEY_OVERWRITE;
    memcpy(ret_key + 1, device->bytes, 16);
}

void dev_overwrite_encode(const struct dev_overwrite *o, struct bytes_writer *w)
{
    bytes_put_u8(w, VERSION);
    bytes_put_u8(w, o->invert ? FLAG_INVERT : 0);
    bytes_put_u8(w, o->passes);
    bytes_put_u8(w, o->pass);
    bytes_put_le64(w, o->done);
    bytes_put_le16(w, o->len);
    bytes_put(w, o->pattern, o->len);
}

static bool is_sound(const struct dev_overwrite *o)
{
    return o->passes >= 1 && o->passes <= DEV_OVERWRITE_PASSES_MAX && o->pass <= o->passes &&
           o->len >= 1 && o->len <= DEV_OVERWRITE_PATTERN_MAX;
}

static int make(const struct dev_overwrite *head, const uint8_t *pattern,
                struct dev_overwrite **ret)
{
    struct dev_overwrite *o = malloc(sizeof *o + head->len);
    if (!o) {
        return -ENOMEM;
    }
    *o = *head;
    memcpy(o->pattern, pattern, o->len);
    *ret = o;
    return 0;
}

int dev_overwrite_decode(const void *value, size_t len, struct dev_overwrite **ret)
{
    struct bytes_reader r = bytes_reader_of(value, len);
    uint8_t version = bytes_u8(&r);
    if (version > VERSION) {
        return -ENOTSUP;
    }
    uint8_t flags = bytes_u8(&r);
    struct dev_overwrite head = {.invert = flags & FLAG_INVERT};
    head.passes = bytes_u8(&r);
    head.pass = bytes_u8(&r);
    head.done = bytes_le64(&r);
    head.len = bytes_le16(&r);
    const uint8_t *pattern = bytes_take(&r, head.len);
    /* With a part that is not understood, something else might be written than was asked for. */
    bool whole = !bytes_bad(&r) && bytes_left(&r) == 0;
    if (!whole || version == 0 || (flags & ~FLAG_INVERT) || !is_sound(&head)) {
        return ERR_CORRUPT_RECORD;
    }
    return make(&head, pattern, ret);
}

int dev_overwrite_new(const struct dev_sanitize_options *opt, uint32_t block_bytes,
                      struct dev_overwrite **ret)
{
    struct dev_overwrite head = {
        .invert = opt->invert, .passes = opt->passes, .len = opt->pattern_bytes};
    *ret = NULL;
    if (opt->passes == 0) {
        return 0;
    }
    return is_sound(&head) && head.len <= block_bytes ? make(&head, opt->pattern, ret) : -EINVAL;
}

static int load(void *arg, const void *key, size_t key_len, const void *value, size_t value_len)
{
    struct dev_registry *g = arg;
    struct uuid device;
    if (key_len != DEV_OVERWRITE_KEY_BYTES) {
        return 0;
    }
    memcpy(device.bytes, (const uint8_t *)key + 1, sizeof device.bytes);
    struct dev *d = dev_tree_by_uuid(g, &device);
    if (!d) {
        return 0;
    }
    free(take(d->overwrite));
    int r = dev_overwrite_decode(value, value_len, &d->overwrite);
    if (r == 0 && d->overwrite->len > d->id.logical_block_bytes) {
        free(take(d->overwrite)); /* the rest of the pattern would be written nowhere */
        r = ERR_CORRUPT_RECORD;
    }
    if (r == ERR_CORRUPT_RECORD) {
        msg_error("dev", "%s: what it is to be overwritten with cannot be read", d->id.name);
        return 0; /* sanitizing fails */
    }
    return r;
}

int dev_overwrite_open(struct dev_registry *g)
{
    const uint8_t prefix = DEV_KEY_OVERWRITE;
    return vol_scan(g->v, &prefix, 1, load, g);
}

int dev_overwrite_put(struct vol_txn *t, const struct dev *d, const struct dev_overwrite *o)
{
    uint8_t key[DEV_OVERWRITE_KEY_BYTES];
    struct bytes_writer w = {0};
    dev_overwrite_key(&d->id.uuid, key);
    if (!o) {
        return vol_txn_delete(t, key, sizeof key);
    }
    dev_overwrite_encode(o, &w);
    int r = w.failed ? -ENOMEM : vol_txn_put(t, key, sizeof key, w.data, w.len);
    bytes_writer_free(&w);
    return r;
}

/* A pass: what its pattern is, in whole logical blocks; NULL: zeroes. */
struct pass {
    struct dev *d;
    struct rt_buf *pattern;
};

static bool is_inverted(const struct dev_overwrite *o)
{
    return o->invert && (o->passes - o->pass) % 2 == 1;
}

static int pass_begin(struct pass *p)
{
    const struct dev_overwrite *o = p->d->overwrite;
    uint32_t block = p->d->id.logical_block_bytes;
    uint8_t flip = is_inverted(o) ? 0xff : 0;
    bool zeroes = true;
    for (uint32_t i = 0; i < o->len; i++) {
        zeroes = zeroes && (o->pattern[i] ^ flip) == 0;
    }
    p->pattern = NULL;
    if (zeroes) {
        return 0;
    }
    int r = rt_buf_alloc(BUFFER_BYTES, RT_MEM_DIRTY, &p->pattern);
    for (uint32_t i = 0; r == 0 && i < BUFFER_BYTES; i++) {
        p->pattern->data[i] = o->pattern[i % block % o->len] ^ flip;
    }
    return r;
}

/* What an earlier pass has written has its room already, however full the volume is now. */
static int write_anyhow(struct vol_file *f, uint64_t off, const struct rt_chain *chain) WAITS
{
    struct vol_extent e;
    int r = vol_write(f, off, chain, NULL);
    if (r == -ENOSPC && vol_extents(f, off, chain->len, &e, 1) == 1 && e.len == chain->len &&
        e.kind == VOL_EXTENT_DATA) {
        r = vol_write_again(f, off, chain);
    }
    return r;
}

static int write_some(const struct pass *p, uint64_t off, uint64_t len) WAITS
{
    struct rt_chain chain = {0};
    int r = 0;
    for (uint64_t at = 0; at < len && r == 0; at += BUFFER_BYTES) {
        uint32_t part = (uint32_t)MIN_OF(len - at, BUFFER_BYTES);
        r = rt_chain_add(&chain, p->pattern, p->pattern->data, part);
    }
    if (r == 0) {
        r = write_anyhow(p->d->file, off, &chain);
    }
    rt_chain_free(&chain);
    return r;
}

/* How far it is. With a range of the device: so the deletion of its record comes later. */
static int record(struct dev *d) WAITS
{
    struct vol_txn *t;
    int r = vol_txn_begin(d->registry->v, &t);
    if (r < 0) {
        return r;
    }
    r = dev_overwrite_put(t, d, d->overwrite);
    if (r < 0) {
        vol_txn_abort(t);
        return r;
    }
    return vol_txn_commit(t);
}

/* As record(), where nothing of the device is held. */
static int record_pass(struct dev *d) WAITS
{
    struct dev_range gate = {.first_page = DEV_RANGE_GATE, .last_page = DEV_RANGE_GATE};
    int r = dev_ranges_lock(&d->ranges, &gate);
    if (r == 0) {
        r = dev_is_gone(d) ? -ENODEV : record(d);
        dev_ranges_unlock(&d->ranges, &gate);
    }
    return r;
}

/* One write, at what is done, and perhaps the record of it. The end of the device may move. */
static int advance(const struct pass *p) WAITS
{
    struct dev *d = p->d;
    struct dev_overwrite *o = d->overwrite;
    uint64_t end = dev_size(d);
    uint64_t step =
        p->pattern ? MIN_OF(end - o->done, WRITE_BYTES - o->done % WRITE_BYTES) : end - o->done;
    struct dev_range range = {.first_page = o->done / VOL_PAGE_BYTES,
                              .last_page = (o->done + step - 1) / VOL_PAGE_BYTES,
                              .exclusive = true};
    int r = dev_ranges_lock(&d->ranges, &range);
    if (r < 0) {
        return r;
    }
    r = dev_is_gone(d) ? -ENODEV : 0;
    if (r == 0) {
        r = p->pattern ? write_some(p, o->done, step) : vol_zero(d->file, o->done, step, VOL_HOLE);
    }
    o->done += r == 0 ? step : 0;
    if (r == 0 && o->done % STEP_BYTES == 0) {
        r = record(d);
    }
    dev_ranges_unlock(&d->ranges, &range);
    return r;
}

/* Of 65535: all passes, with the removal before them as one more. */
static void show(struct dev *d)
{
    const struct dev_overwrite *o = d->overwrite;
    uint64_t size = dev_size(d);
    uint64_t share =
        size < 1ull << 40 ? o->done * UINT16_MAX / size : o->done / (size / UINT16_MAX);
    atomic_store(&d->sanitize_progress,
                 (uint32_t)((o->pass * (uint64_t)UINT16_MAX + MIN_OF(share, UINT16_MAX)) /
                            (o->passes + 1u)));
}

static int run_pass(struct dev *d) WAITS
{
    struct pass p = {.d = d};
    int r = pass_begin(&p);
    while (r == 0 && d->overwrite->done < dev_size(d)) {
        r = advance(&p);
        if (r == 0 && d->overwrite->done % STEP_BYTES == 0) {
            r = vol_zero_pace(d->registry->v); /* all the room for what is on its way is others' */
        }
        rt_yield(); /* it may have been done without a wait */
        show(d);
    }
    rt_buf_unref(p.pattern);
    return r == 0 ? vol_flush(d->registry->v) : r;
}

int dev_overwrite_run(struct dev *d)
{
    struct dev_overwrite *o = d->overwrite;
    int r = o->pass > 0 ? run_pass(d) : 0;
    while (r == 0 && o->pass < o->passes) {
        o->pass++;
        o->done = 0;
        r = record_pass(d);
        r = r == 0 ? run_pass(d) : r;
    }
    return r;
}
