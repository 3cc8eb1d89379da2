/* SPDX-License-Identifier: Apache-2.0 */
/* The layer over the store itself: sees each request when it lands, and checks what must hold at
 * that moment. */
#include "base/err.h"
#include "index/manifest.h"
#include "layer.h"
#include "log/segment.h"
#include "vol/key.h"
#include "vol/page_map.h"
#include "vol_world.h"
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct spy {
    struct obj_store base;
    struct world *w;
};

static struct world *spied(struct obj_store *s)
{
    return container_of(s, struct spy, base)->w;
}

static void segment_landed(struct world *w, uint64_t seq, const struct rt_chain *body)
{
    uint8_t bytes[SEGMENT_HEADER_BYTES];
    struct segment_header h;
    const char *why;
    if (body->len < sizeof bytes || seq >= SLOTS_MAX) {
        world_violation(w, "format", "segment %" PRIu64 " is short, or too high", seq);
    }
    rt_chain_copy_out(body, 0, bytes, sizeof bytes);
    if (segment_header_decode(bytes, sizeof bytes, &h, &why) < 0) {
        world_violation(w, "format", "segment %" PRIu64 ": %s", seq, why);
    }
    w->slots[seq].ever = true;
    /* A fence that somebody gave up, for he found data there, may come when these are deleted. */
    w->slots[seq].fence = h.kind == SEGMENT_FENCE && !w->slots[seq].removed;
}

static bool is_dead_slot(const struct world *w, uint64_t seq)
{
    for (uint64_t s = seq > 63 ? seq - 63 : 0; s < seq; s++) {
        if (w->slots[s].fence) {
            return true;
        }
    }
    return false;
}

/* One that nobody will delete, for the request came after all that knows of it: to a number that is
 * dead by then (I4), or once more after the deletion. */
bool world_is_stray(const struct world *w, uint64_t seq)
{
    return seq >= SLOTS_MAX || w->slots[seq].removed || is_dead_slot(w, seq);
}

static void manifest_landed(struct world *w, const struct rt_chain *body)
{
    auto_free uint8_t *bytes = malloc(body->len);
    struct manifest m = {0};
    if (!bytes) {
        return;
    }
    rt_chain_copy_out(body, 0, bytes, body->len);
    if (w->manifests == 0 && w->seed % 3 != 0) {
        w->manifests++; /* the one that comes with the volume, before its keys are known */
        return;
    }
    if (manifest_decode(&(struct index_home){w->uuid, w->keys}, bytes, body->len, &m) < 0) {
        world_violation(w, "format", "a manifest that does not decode");
    }
    w->manifests++;
    for (uint64_t s = MAX_OF(w->replay_max, 1); s < m.replay_from; s++) {
        if (!w->slots[s].ever && !is_dead_slot(w, s)) {
            world_violation(w, "I6",
                            "manifest %" PRIu64 " replays from %" PRIu64 "; %" PRIu64
                            " was never stored",
                            m.number, m.replay_from, s);
        }
    }
    w->replay_max = MAX_OF(w->replay_max, m.replay_from);
    manifest_free(&m);
}

static int spy_put(struct obj_store *s, enum obj_class c, const char *name,
                   const struct rt_chain *body)
{
    int r = obj_put(s->next, c, name, body);
    uint64_t seq;
    if (r == 0 && segment_of(name, &seq)) {
        segment_landed(spied(s), seq, body);
    }
    if (r == 0 && strncmp(name, MANIFEST_PREFIX, strlen(MANIFEST_PREFIX)) == 0) {
        manifest_landed(spied(s), body);
    }
    return r;
}

/* I7: no map of the newest manifest's index refers to the segment. */
struct seek {
    struct world *w;
    uint64_t seq;
};

static int refers(void *arg, const void *key, size_t key_len, const void *value, size_t value_len)
{
    const struct seek *k = arg;
    struct vol_map map;
    uint64_t layer = 0;
    uint64_t page = 0;
    if (vol_map_decode(value, value_len, &map) < 0 ||
        vol_key_page_decode(key, key_len, &layer, &page) < 0) {
        world_violation(k->w, "format", "a page map that does not decode");
    }
    for (uint32_t i = 0; i < map.count; i++) {
        if (map.runs[i].kind == VOL_RUN_DATA && map.runs[i].seq == k->seq) {
            world_violation(k->w, "I7",
                            "segment %" PRIu64 " is deleted; page %" PRIu64 " refers to it", k->seq,
                            page);
        }
    }
    return 0;
}

static void check_unreferred(struct world *w, struct obj_store *below, uint64_t seq)
{
    struct index *ix;
    struct index_options opt = {.store = below,
                                .volume = w->uuid,
                                .keys = w->keys,
                                .memtable_bytes = 65536,
                                .cache_bytes = 1u << 20,
                                .read_only = true};
    if (index_load(&opt, &ix) < 0) {
        return; /* between two manifests; the next deletion will see */
    }
    struct seek k = {w, seq};
    struct vol_key from = vol_key_kind(VOL_KEY_PAGE);
    struct vol_key upto = vol_key_kind(VOL_KEY_PAGE + 1);
    (void)!index_scan(ix, &(struct index_range){from.bytes, from.len, upto.bytes, upto.len}, refers,
                      &k);
    (void)!index_close(ix, false, 0);
}

static int spy_remove(struct obj_store *s, enum obj_class c, const char *name)
{
    struct world *w = spied(s);
    uint64_t seq;
    if (segment_of(name, &seq)) {
        w->deletes++;
        if (seq < SLOTS_MAX && w->slots[seq].fence) {
            world_violation(w, "I5", "the fence at %" PRIu64 " is deleted", seq);
        }
        if (seq >= w->replay_max) {
            world_violation(w, "I7", "segment %" PRIu64 " is deleted; replay is from %" PRIu64, seq,
                            w->replay_max);
        }
        check_unreferred(w, s->next, seq);
        if (seq < SLOTS_MAX) {
            w->slots[seq].removed = true;
        }
    }
    return obj_remove(s->next, c, name);
}

static void spy_close(struct obj_store *s)
{
    obj_close(s->next);
    free(container_of(s, struct spy, base));
}

int world_spy(struct world *w, struct obj_store *below, struct obj_store **ret_store)
{
    static const struct obj_ops ops = {
        .name = "spy",
        .put = spy_put,
        .get = layer_get,
        .head = layer_head,
        .list = layer_list,
        .remove = spy_remove,
        .close = spy_close,
    };
    struct spy *p = calloc(1, sizeof *p);
    if (!p) {
        return -ENOMEM;
    }
    p->base.ops = &ops;
    p->base.next = below;
    p->w = w;
    *ret_store = &p->base;
    return 0;
}
