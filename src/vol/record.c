/* SPDX-License-Identifier: Apache-2.0 */
#include "vol/record.h"
#include "base/assert.h"
#include "base/err.h"
#include "index/index.h"

#define HEAD_MAX 20 /* kind and length */
/* Body of a record without key and value: at most 8 runs of three numbers and four bytes. */
#define BODY_MAX 256

/* A writer over fixed bytes: a record's body is built aside, since its length comes first. */
struct body {
    uint8_t bytes[BODY_MAX];
    uint32_t len;
};

static void body_u8(struct body *b, uint8_t v)
{
    ASSERT(b->len < sizeof b->bytes);
    b->bytes[b->len++] = v;
}

static void body_varint(struct body *b, uint64_t v)
{
    while (v >= 0x80) {
        body_u8(b, (uint8_t)(v | 0x80));
        v >>= 7;
    }
    body_u8(b, (uint8_t)v);
}

static void body_runs(struct body *b, const struct vol_record *rec)
{
    body_varint(b, rec->run_count);
    for (uint32_t i = 0; i < rec->run_count; i++) {
        const struct vol_record_run *run = &rec->runs[i];
        body_u8(b, run->kind);
        body_u8(b, (uint8_t)(run->first | (run->count - 1) << 3));
        if (run->kind == VOL_RUN_DATA) {
            body_varint(b, run->frame);
            body_u8(b, run->frame_block);
        } else if (run->kind == VOL_RUN_STORED) {
            body_varint(b, run->seq);
            body_varint(b, run->offset);
            body_varint(b, run->len_bytes);
            body_u8(b, run->frame_block);
            body_u8(b, run->frame_blocks);
        }
    }
}

static void body_encode(struct body *b, const struct vol_record *rec)
{
    switch (rec->kind) {
    case VOL_RECORD_PAGE:
    case VOL_RECORD_COPY:
        body_varint(b, rec->layer);
        body_varint(b, rec->page);
        body_runs(b, rec);
        break;
    case VOL_RECORD_HOLE:
        body_varint(b, rec->layer);
        body_varint(b, rec->page);
        body_varint(b, rec->count);
        body_varint(b, rec->flags);
        break;
    case VOL_RECORD_REAP:
        body_varint(b, rec->layer);
        body_varint(b, rec->hole_batch);
        body_varint(b, rec->page);
        body_varint(b, rec->from);
        body_varint(b, rec->upto);
        break;
    case VOL_RECORD_GONE:
        body_varint(b, rec->seq);
        break;
    case VOL_RECORD_PUT:
    case VOL_RECORD_DELETE:
        body_varint(b, rec->key_len);
        break;
    }
}

void vol_record_encode(const struct vol_record *rec, struct bytes_writer *w)
{
    struct body b = {.len = 0};
    body_encode(&b, rec);
    bool keyed = rec->kind == VOL_RECORD_PUT || rec->kind == VOL_RECORD_DELETE;
    uint64_t tail = keyed ? (uint64_t)rec->key_len + rec->value_len : 0;
    struct body head = {.len = 0};
    body_varint(&head, rec->kind);
    body_varint(&head, b.len + tail);
    bytes_put(w, head.bytes, head.len);
    bytes_put(w, b.bytes, b.len);
    if (keyed) {
        bytes_put(w, rec->key, rec->key_len);
        bytes_put(w, rec->value, rec->value_len);
    }
}

static bool run_place_decode(struct bytes_reader *r, struct vol_record_run *run)
{
    if (run->kind == VOL_RUN_DATA) {
        uint64_t frame = bytes_varint(r);
        run->frame = (uint32_t)frame;
        run->frame_block = bytes_u8(r);
        return frame <= UINT32_MAX && run->frame_block + run->count <= (int)VOL_PAGE_BLOCKS;
    }
    if (run->kind == VOL_RUN_STORED) {
        run->seq = bytes_varint(r);
        uint64_t offset = bytes_varint(r);
        uint64_t len_bytes = bytes_varint(r);
        run->offset = (uint32_t)offset;
        run->len_bytes = (uint32_t)len_bytes;
        run->frame_block = bytes_u8(r);
        run->frame_blocks = bytes_u8(r);
        return offset <= UINT32_MAX && len_bytes > 0 && len_bytes <= UINT32_MAX &&
               run->frame_blocks <= VOL_PAGE_BLOCKS &&
               run->frame_block + run->count <= run->frame_blocks;
    }
    return true;
}

static bool runs_decode(struct bytes_reader *r, struct vol_record *rec)
{
    uint64_t count = bytes_varint(r);
    if (count > VOL_PAGE_BLOCKS) {
        return false;
    }
    unsigned kind_max = rec->kind == VOL_RECORD_COPY ? VOL_RUN_STORED : VOL_RUN_NONE;
    rec->run_count = (uint32_t)count;
    unsigned next = 0;
    for (uint32_t i = 0; i < rec->run_count; i++) {
        struct vol_record_run *run = &rec->runs[i];
        *run = (struct vol_record_run){.kind = bytes_u8(r)};
        uint8_t where = bytes_u8(r);
        run->first = where & 7;
        run->count = (uint8_t)((where >> 3 & 7) + 1);
        unsigned end = (unsigned)run->first + run->count;
        if (run->kind > kind_max || run->kind == VOL_RUN_BAD || where >> 6 || run->first < next ||
            end > VOL_PAGE_BLOCKS || !run_place_decode(r, run)) {
            return false;
        }
        next = end;
    }
    return true;
}

static bool pair_decode(struct bytes_reader *r, struct vol_record *rec)
{
    uint64_t key_len = bytes_varint(r);
    if (key_len == 0 || key_len > INDEX_KEY_MAX) {
        return false;
    }
    rec->key_len = (uint32_t)key_len;
    rec->key = bytes_take(r, rec->key_len);
    size_t rest = bytes_left(r);
    if (rest > INDEX_VALUE_MAX || (rec->kind == VOL_RECORD_DELETE && rest > 0)) {
        return false;
    }
    rec->value_len = (uint32_t)rest;
    rec->value = bytes_take(r, rest);
    return true;
}

static bool hole_decode(struct bytes_reader *r, struct vol_record *rec)
{
    rec->layer = bytes_varint(r);
    rec->page = bytes_varint(r);
    rec->count = bytes_varint(r);
    rec->flags = bytes_varint(r);
    return rec->layer != 0 && rec->count > 0 && rec->page <= UINT64_MAX - rec->count;
}

static bool reap_decode(struct bytes_reader *r, struct vol_record *rec)
{
    rec->layer = bytes_varint(r);
    rec->hole_batch = bytes_varint(r);
    rec->page = bytes_varint(r);
    rec->from = bytes_varint(r);
    rec->upto = bytes_varint(r);
    return rec->layer != 0 && rec->page <= rec->from && rec->from <= rec->upto;
}

static bool body_decode(struct bytes_reader *r, struct vol_record *rec)
{
    bool good = false;
    switch (rec->kind) {
    case VOL_RECORD_PAGE:
    case VOL_RECORD_COPY:
        rec->layer = bytes_varint(r);
        rec->page = bytes_varint(r);
        good = rec->layer != 0 && runs_decode(r, rec);
        break;
    case VOL_RECORD_HOLE:
        good = hole_decode(r, rec);
        break;
    case VOL_RECORD_REAP:
        good = reap_decode(r, rec);
        break;
    case VOL_RECORD_GONE:
        rec->seq = bytes_varint(r);
        good = true;
        break;
    case VOL_RECORD_PUT:
    case VOL_RECORD_DELETE:
        good = pair_decode(r, rec);
        break;
    }
    return good && bytes_done(r);
}

int vol_record_next(struct bytes_reader *r, struct vol_record *ret_rec)
{
    if (bytes_done(r)) {
        return 0;
    }
    uint64_t kind = bytes_varint(r);
    uint64_t len = bytes_varint(r);
    const uint8_t *bytes = len <= bytes_left(r) ? bytes_take(r, (size_t)len) : NULL;
    if (!bytes || bytes_bad(r)) {
        return ERR_CORRUPT_RECORD;
    }
    if (kind < VOL_RECORD_PAGE || kind > VOL_RECORD_COPY) {
        return ERR_FORMAT_TOO_NEW;
    }
    ret_rec->kind = (enum vol_record_kind)kind;
    ret_rec->run_count = 0;
    ret_rec->value_len = 0;
    ret_rec->value = NULL;
    struct bytes_reader body = bytes_reader_of(bytes, (size_t)len);
    if (!body_decode(&body, ret_rec)) {
        return ERR_CORRUPT_RECORD;
    }
    if (ret_rec->kind == VOL_RECORD_HOLE && ret_rec->flags & ~(uint64_t)VOL_HOLE_MASKS) {
        return ERR_FORMAT_TOO_NEW;
    }
    return 1;
}
