/* SPDX-License-Identifier: Apache-2.0 */
#include "vol/page_map.h"
#include "base/assert.h"
#include "base/err.h"

/* One block of a page, when a map is laid out flat. Absent blocks have kind NONE. */
struct cell {
    uint64_t seq;
    uint32_t offset;
    uint32_t len_bytes;
    uint8_t kind;
    uint8_t frame_block;
    uint8_t frame_blocks;
};

static void cells_lay(struct cell cells[VOL_PAGE_BLOCKS], const struct vol_map *map)
{
    for (uint32_t i = 0; i < map->count; i++) {
        const struct vol_run *run = &map->runs[i];
        for (unsigned k = 0; k < run->count; k++) {
            cells[run->first + k] = (struct cell){
                .seq = run->seq,
                .offset = run->offset,
                .len_bytes = run->len_bytes,
                .kind = run->kind,
                .frame_block = (uint8_t)(run->frame_block + (run->kind == VOL_RUN_DATA ? k : 0)),
                .frame_blocks = run->frame_blocks,
            };
        }
    }
}

static bool cell_follows(const struct cell *c, const struct vol_run *run)
{
    if (c->kind != run->kind) {
        return false;
    }
    return c->kind != VOL_RUN_DATA || (c->seq == run->seq && c->offset == run->offset &&
                                       c->frame_block == run->frame_block + run->count);
}

static void cells_join(const struct cell cells[VOL_PAGE_BLOCKS], struct vol_map *map)
{
    map->count = 0;
    struct vol_run *last = NULL;
    for (unsigned i = 0; i < VOL_PAGE_BLOCKS; i++) {
        const struct cell *c = &cells[i];
        if (c->kind == VOL_RUN_NONE) {
            last = NULL;
            continue;
        }
        if (last && cell_follows(c, last)) {
            last->count++;
            continue;
        }
        last = &map->runs[map->count++];
        *last = (struct vol_run){
            .seq = c->seq,
            .offset = c->offset,
            .len_bytes = c->len_bytes,
            .first = (uint8_t)i,
            .count = 1,
            .kind = c->kind,
            .frame_block = c->frame_block,
            .frame_blocks = c->frame_blocks,
        };
    }
}

static void changes_add(struct vol_map_changes *changes, uint64_t seq, int32_t blocks)
{
    for (uint32_t i = 0; i < changes->count; i++) {
        if (changes->at[i].seq == seq) {
            changes->at[i].blocks += blocks;
            return;
        }
    }
    ASSERT(changes->count < ARRAY_LEN(changes->at));
    changes->at[changes->count].seq = seq;
    changes->at[changes->count].blocks = blocks;
    changes->count++;
}

const struct vol_run *vol_map_find(const struct vol_map *map, unsigned block)
{
    for (uint32_t i = 0; i < map->count; i++) {
        const struct vol_run *run = &map->runs[i];
        if (block >= run->first && block < (unsigned)run->first + run->count) {
            return run;
        }
    }
    return NULL;
}

void vol_map_merge(const struct vol_map *old, const struct vol_map *delta, struct vol_map *ret_map,
                   struct vol_map_changes *changes)
{
    struct cell cells[VOL_PAGE_BLOCKS];
    for (unsigned i = 0; i < VOL_PAGE_BLOCKS; i++) {
        cells[i] = (struct cell){.kind = VOL_RUN_NONE};
    }
    cells_lay(cells, old);
    for (uint32_t i = 0; i < delta->count; i++) {
        const struct vol_run *run = &delta->runs[i];
        for (unsigned k = 0; k < run->count; k++) {
            const struct cell *c = &cells[run->first + k];
            if (c->kind == VOL_RUN_DATA) {
                changes_add(changes, c->seq, -1);
            }
        }
        if (run->kind == VOL_RUN_DATA) {
            changes_add(changes, run->seq, run->count);
        }
    }
    cells_lay(cells, delta);
    ret_map->batch = delta->batch;
    cells_join(cells, ret_map);
}

void vol_map_drop(const struct vol_map *map, struct vol_map_changes *changes)
{
    for (uint32_t i = 0; i < map->count; i++) {
        if (map->runs[i].kind == VOL_RUN_DATA) {
            changes_add(changes, map->runs[i].seq, -(int32_t)map->runs[i].count);
        }
    }
}

void vol_map_spoil(struct vol_map *map)
{
    struct cell cells[VOL_PAGE_BLOCKS];
    for (unsigned i = 0; i < VOL_PAGE_BLOCKS; i++) {
        cells[i] = (struct cell){.kind = VOL_RUN_BAD};
    }
    cells_lay(cells, map);
    cells_join(cells, map);
}

void vol_map_encode(const struct vol_map *map, struct bytes_writer *w)
{
    bytes_put_u8(w, VOL_MAP_VERSION);
    bytes_put_varint(w, map->batch);
    bytes_put_u8(w, (uint8_t)map->count);
    for (uint32_t i = 0; i < map->count; i++) {
        const struct vol_run *run = &map->runs[i];
        bytes_put_u8(w, run->kind);
        bytes_put_u8(w, (uint8_t)(run->first | (run->count - 1) << 3));
        if (run->kind == VOL_RUN_DATA) {
            bytes_put_varint(w, run->seq);
            bytes_put_varint(w, run->offset);
            bytes_put_varint(w, run->len_bytes);
            bytes_put_u8(w, (uint8_t)(run->frame_block | (run->frame_blocks - 1) << 3));
        }
    }
}

static bool run_decode(struct bytes_reader *r, struct vol_run *run)
{
    *run = (struct vol_run){.kind = bytes_u8(r)};
    uint8_t where = bytes_u8(r);
    run->first = where & 7;
    run->count = (uint8_t)((where >> 3 & 7) + 1);
    if (run->kind > VOL_RUN_BAD || where >> 6 || run->first + run->count > (int)VOL_PAGE_BLOCKS) {
        return false;
    }
    if (run->kind != VOL_RUN_DATA) {
        return true;
    }
    run->seq = bytes_varint(r);
    uint64_t offset = bytes_varint(r);
    uint64_t len = bytes_varint(r);
    uint8_t frame = bytes_u8(r);
    run->offset = (uint32_t)offset;
    run->len_bytes = (uint32_t)len;
    run->frame_block = frame & 7;
    run->frame_blocks = (uint8_t)((frame >> 3 & 7) + 1);
    return offset <= UINT32_MAX && len <= UINT32_MAX && frame >> 6 == 0 &&
           run->frame_block + run->count <= run->frame_blocks;
}

static bool map_decode(struct bytes_reader *r, struct vol_map *map)
{
    map->batch = bytes_varint(r);
    map->count = bytes_u8(r);
    if (map->count > VOL_PAGE_BLOCKS) {
        return false;
    }
    unsigned next = 0;
    for (uint32_t i = 0; i < map->count; i++) {
        struct vol_run *run = &map->runs[i];
        if (!run_decode(r, run) || run->first < next) {
            return false;
        }
        next = (unsigned)run->first + run->count;
    }
    return bytes_done(r);
}

int vol_map_decode(const void *value, size_t len, struct vol_map *ret_map)
{
    struct bytes_reader r = bytes_reader_of(value, len);
    struct vol_map map;
    uint8_t version = bytes_u8(&r);
    if (version > VOL_MAP_VERSION) {
        return ERR_FORMAT_TOO_NEW;
    }
    if (version == 0 || !map_decode(&r, &map)) {
        return ERR_CORRUPT_RECORD;
    }
    ret_map->batch = map.batch;
    ret_map->count = map.count;
    memcpy(ret_map->runs, map.runs, map.count * sizeof map.runs[0]);
    return 0;
}
