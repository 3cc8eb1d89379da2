/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Disks for the volume's disk cache. There are fewer than processes: one who was killed leaves his
 * to the next, and sometimes two use the same, which a lock prevents in the real world; even then
 * no read may be wrong. By seed a disk is good, or it fails, is slow, tears writes, flips bytes,
 * runs full or is removed.
 */
#include "base/assert.h"
#include "vol_world.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct sim_disk {
    uint8_t *bytes;
    size_t len;
    unsigned fail;   /* of 1000 calls */
    unsigned slow;   /* of 1000 */
    unsigned flip;   /* of 1000 reads */
    unsigned vanish; /* of 1000 writes */
    size_t room;
};

static bool happens(unsigned per_mille)
{
    return rt_random() % 1000 < per_mille;
}

static int disk_open(void *arg)
{
    const struct sim_disk *d = arg;
    return happens(d->fail) ? -EIO : 0;
}

static ssize_t disk_read(void *arg, void *dst, size_t len, uint64_t off)
{
    struct sim_disk *d = arg;
    if (happens(d->fail)) {
        return -EIO;
    }
    if (d->len > 0 && happens(d->flip)) {
        d->bytes[rt_random() % d->len] ^= (uint8_t)(1u << rt_random() % 8);
    }
    size_t n = off >= d->len ? 0 : MIN_OF(len, d->len - off);
    memcpy(dst, d->bytes + off, n);
    return (ssize_t)n;
}

static int disk_write(void *arg, const void *src, size_t len, uint64_t off)
{
    struct sim_disk *d = arg;
    if (happens(d->vanish)) {
        d->len = 0;
        memset(d->bytes, 0, SIM_DISK_BYTES);
        return -ESTALE;
    }
    bool fails = happens(d->fail) || off + len > d->room;
    size_t most = off < d->room ? MIN_OF(len, d->room - off) : 0;
    size_t n = fails && most > 0 ? rt_random() % most : most;
    memcpy(d->bytes + off, src, n);
    d->len = n > 0 ? MAX_OF(d->len, off + n) : d->len;
    return fails ? -ENOSPC : 0;
}

static int disk_cut(void *arg)
{
    struct sim_disk *d = arg;
    d->len = 0;
    return 0;
}

static void disk_close(void *arg)
{
    (void)arg;
}

static void disk_pause(void *arg)
{
    const struct sim_disk *d = arg;
    if (happens(d->slow)) {
        (void)rt_sleep_ms(rt_random() % 400);
    }
}

void world_disk(struct world *w, unsigned proc, struct cache_disk_io *ret_io)
{
    struct sim_disk **at = &w->disks[proc % SIM_DISKS];
    if (!*at) {
        struct sim_disk *d = calloc(1, sizeof *d);
        ASSERT(d != NULL);
        d->bytes = calloc(1, SIM_DISK_BYTES);
        ASSERT(d->bytes != NULL);
        bool good = rng_below(&w->g, 3) == 0;
        d->fail = good ? 0 : (unsigned)rng_below(&w->g, 30);
        d->slow = good ? 0 : (unsigned)rng_below(&w->g, 30);
        d->flip = good ? 0 : (unsigned)rng_below(&w->g, 1000);
        d->vanish = good ? 0 : (unsigned)rng_below(&w->g, 10);
        d->room = good || rng_below(&w->g, 2) ? SIM_DISK_BYTES : 1u << 20;
        *at = d;
    }
    *ret_io = (struct cache_disk_io){disk_open,  disk_read,  disk_write, disk_cut,
                                     disk_close, disk_pause, *at};
}

void world_disks_free(struct world *w)
{
    for (unsigned i = 0; i < SIM_DISKS; i++) {
        if (w->disks[i]) {
            free(w->disks[i]->bytes);
            free(w->disks[i]);
        }
    }
}
