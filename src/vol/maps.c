/* SPDX-License-Identifier: Apache-2.0 */
/* Page maps from the cache of decoded ones, or else from the index. */
#include "vol/vol_priv.h"

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
