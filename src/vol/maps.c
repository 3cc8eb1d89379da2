/* SPDX-License-Identifier: Apache-2.0 */
/* Page maps from the cache of decoded ones, or else from the index. */
#include "vol/vol_priv.h"

#define WARMERS_MAX 16u

static int decode_and_offer(struct vol *v, const uint64_t at[2], uint64_t ticket,
                            struct bytes_writer *value, int r, struct vol_map *ret_map)
{
    if (r == -ENOENT) {
        ret_map->batch = 0;
        ret_map->count = 0;
        r = 0;
    } else if (r == 0) {
        r = value->failed ? -ENOMEM : vol_map_decode(value->data, value->len, ret_map);
    }
    if (r == 0) {
        vol_map_cache_offer(v->maps, at[0], at[1], ticket, ret_map);
    }
    bytes_writer_free(value);
    return r;
}

int vol_map_load(struct vol *v, uint64_t layer, uint64_t page, struct vol_map *ret_map)
{
    if (vol_map_cache_get(v->maps, layer, page, ret_map)) {
        return 0;
    }
    struct vol_key key = vol_key_page(layer, page);
    struct bytes_writer value = {0};
    uint64_t ticket = vol_map_cache_ticket(v->maps, layer, page);
    int r = vol_heed(v, index_get(v->ix, key.bytes, key.len, &value));
    return decode_and_offer(v, (const uint64_t[]){layer, page}, ticket, &value, r, ret_map);
}

int vol_map_peek(struct vol *v, uint64_t layer, uint64_t page, struct vol_map *ret_map)
{
    if (likely(vol_map_cache_get(v->maps, layer, page, ret_map))) {
        return 0;
    }
    struct vol_key key = vol_key_page(layer, page);
    struct bytes_writer value = {0};
    uint64_t ticket = vol_map_cache_ticket(v->maps, layer, page);
    int r = vol_heed(v, index_get_cached(v->ix, key.bytes, key.len, &value));
    return decode_and_offer(v, (const uint64_t[]){layer, page}, ticket, &value, r, ret_map);
}

/* Fibers that take places from one list until none is left. */
struct warmers {
    struct vol *v;
    const struct vol_place *places;
    size_t count;
    struct rt_event done;
    _Atomic size_t next;
    _Atomic uint32_t running;
};

static void warmer(void *arg)
{
    struct warmers *w = arg;
    size_t i;
    while ((i = atomic_fetch_add(&w->next, 1)) < w->count) {
        struct vol_map map;
        /* Whoever needs the map asks again, and hears of the error. */
        (void)!vol_map_load(w->v, w->places[i].layer, w->places[i].page, &map);
    }
    if (atomic_fetch_sub(&w->running, 1) == 1) {
        rt_event_set(&w->done);
    }
}

void vol_maps_warm(struct vol *v, const struct vol_place *places, size_t count)
{
    struct warmers w = {.v = v, .places = places, .count = count};
    struct rt_group *g;
    if (count < 2 || rt_group_create(&g) < 0) {
        return;
    }
    rt_event_init(&w.done);
    atomic_init(&w.running, 1);
    for (size_t i = 1; i < MIN_OF(count, WARMERS_MAX); i++) {
        atomic_fetch_add(&w.running, 1);
        if (rt_group_spawn(g, "vol warm", warmer, &w) < 0) {
            atomic_fetch_sub(&w.running, 1);
            break;
        }
    }
    warmer(&w);
    if (rt_event_wait(&w.done, RT_FOREVER) < 0) {
        rt_group_cancel(g);
    }
    rt_group_wait(g);
    rt_group_destroy(g);
    rt_event_destroy(&w.done);
}
