/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sealing. The cost of a 4 KiB block that does not compress is one checksum and a look at 256 of
 * its bytes: it is referred to, not copied. What is copied or made here (heads of units, compressed
 * frames, directory, footer) lies in an arena of counted buffers.
 */
#include "base/assert.h"
#include "base/bytes.h"
#include "base/crc32c.h"
#include "base/endian.h"
#include "log/segment.h"
#include <string.h>

#define ARENA_BYTES_MIN 8192u
#define ARENA_BYTES_MAX 262144u

struct seal {
    const struct segment_header *h;
    const struct segment_options *opt;
    struct rt_chain *body;
    struct rt_buf *arena;
    uint32_t arena_used;
    uint32_t arena_next;  /* size of the next one */
    uint8_t *directory;   /* the unit, head and all; in a buffer of its own */
    uint8_t *batch_entry; /* where the next entries go */
    uint8_t *frame_entry;
    uint64_t pos;
};

/* len contiguous bytes of the arena. */
static int arena_take(struct seal *s, uint32_t len, uint8_t **ret_p)
{
    if (!s->arena || s->arena->cap - s->arena_used < len) {
        struct rt_buf *b;
        int r = rt_buf_alloc(MAX_OF(s->arena_next, len), RT_MEM_SEALING, &b);
        if (r < 0) {
            return r;
        }
        rt_buf_unref(s->arena);
        s->arena = b;
        s->arena_used = 0;
        s->arena_next = MIN_OF(s->arena_next * 2, ARENA_BYTES_MAX);
    }
    *ret_p = s->arena->data + s->arena_used;
    s->arena_used += len;
    return 0;
}

static int append(struct seal *s, struct rt_buf *owner, const void *p, uint32_t len)
{
    int r = rt_chain_add(s->body, owner, p, len);
    if (r == 0) {
        s->pos += len;
    }
    return r;
}

static void unit_head(uint8_t *head, enum segment_unit kind, enum log_codec codec,
                      uint32_t stored_len, uint32_t raw_len)
{
    le32_store(head + SEGMENT_UNIT_AT_CRC, 0);
    head[SEGMENT_UNIT_AT_KIND] = (uint8_t)kind;
    head[SEGMENT_UNIT_AT_CODEC] = (uint8_t)codec;
    le16_store(head + SEGMENT_UNIT_AT_KEY_ID, 0);
    le32_store(head + SEGMENT_UNIT_AT_STORED_LEN, stored_len);
    le32_store(head + SEGMENT_UNIT_AT_RAW_LEN, raw_len);
}

/* The checksum of a unit so far: its place and its head. */
static uint32_t unit_crc(const struct seal *s, const uint8_t *head)
{
    uint32_t len = SEGMENT_UNIT_BYTES + le32_load(head + SEGMENT_UNIT_AT_STORED_LEN);
    uint32_t crc = segment_place_crc(&s->h->volume, s->h->seq, (uint32_t)s->pos, len);
    return crc32c(crc, head + SEGMENT_UNIT_AT_KIND, SEGMENT_UNIT_BYTES - SEGMENT_UNIT_AT_KIND);
}

/* Appends the frame packed: its length with the head. Gives the checksum. */
static int frame_packed(struct seal *s, const struct log_frame *f, const uint8_t *packed,
                        uint32_t len, uint32_t *ret_crc)
{
    uint8_t *head;
    int r = arena_take(s, SEGMENT_UNIT_BYTES + len, &head);
    if (r < 0) {
        return r;
    }
    unit_head(head, SEGMENT_UNIT_FRAME, s->opt->compression.codec, len, f->count * LOG_BLOCK_BYTES);
    memcpy(head + SEGMENT_UNIT_BYTES, packed, len);
    *ret_crc = crc32c(unit_crc(s, head), head + SEGMENT_UNIT_BYTES, len);
    le32_store(head + SEGMENT_UNIT_AT_CRC, *ret_crc);
    r = append(s, s->arena, head, SEGMENT_UNIT_BYTES + len);
    return r < 0 ? r : (int)(SEGMENT_UNIT_BYTES + len);
}

/* Appends the frame as it is, by reference. */
static int frame_store(struct seal *s, const struct log_frame *f, uint32_t *ret_crc)
{
    uint8_t *head;
    int r = arena_take(s, SEGMENT_UNIT_BYTES, &head);
    if (r < 0) {
        return r;
    }
    uint32_t raw_len = f->count * LOG_BLOCK_BYTES;
    unit_head(head, SEGMENT_UNIT_FRAME, LOG_CODEC_NONE, raw_len, raw_len);
    uint32_t crc = unit_crc(s, head);
    for (unsigned i = 0; i < f->count; i++) {
        crc = crc32c(crc, f->blocks[i], LOG_BLOCK_BYTES);
    }
    le32_store(head + SEGMENT_UNIT_AT_CRC, crc);
    *ret_crc = crc;
    r = append(s, s->arena, head, SEGMENT_UNIT_BYTES);
    for (unsigned i = 0; i < f->count && r == 0; i++) {
        r = append(s, NULL, f->blocks[i], LOG_BLOCK_BYTES);
    }
    return r < 0 ? r : (int)(SEGMENT_UNIT_BYTES + raw_len);
}

static int frame_add(struct seal *s, struct log_frame *f)
{
    ASSERT(f->count >= 1 && f->first_block + f->count <= LOG_FRAME_BLOCKS_MAX);
    if (s->pos > SEGMENT_BYTES_MAX) {
        return -EFBIG;
    }
    uint32_t at = (uint32_t)s->pos;
    uint32_t crc = 0;
    const uint8_t *packed;
    int len = codec_pack(s->opt->compression, s->opt->effort, f->blocks, f->count, &packed);
    if (len > 0) {
        len = frame_packed(s, f, packed, (uint32_t)len, &crc);
    } else if (len == 0) {
        len = frame_store(s, f, &crc);
    }
    if (len < 0) {
        return len;
    }
    f->offset = at;
    f->len_bytes = (uint32_t)len;
    uint8_t *e = s->frame_entry;
    s->frame_entry += SEGMENT_FRAME_BYTES;
    le64_store(e + SEGMENT_FRAME_AT_LAYER, f->layer);
    le64_store(e + SEGMENT_FRAME_AT_PAGE, f->page);
    le32_store(e + SEGMENT_FRAME_AT_OFFSET, f->offset);
    le32_store(e + SEGMENT_FRAME_AT_LEN, f->len_bytes);
    le32_store(e + SEGMENT_FRAME_AT_CRC, crc);
    e[SEGMENT_FRAME_AT_FIRST] = f->first_block;
    e[SEGMENT_FRAME_AT_COUNT] = f->count;
    le16_store(e + SEGMENT_FRAME_AT_RESERVED, 0);
    return 0;
}

/* Appends the batch's records as a unit, by reference; gives its checksum. */
static int records_add(struct seal *s, const struct log_batch *b, uint32_t *ret_crc)
{
    if (s->pos + b->records_len > SEGMENT_BYTES_MAX) {
        return -EFBIG;
    }
    uint8_t *head;
    int r = arena_take(s, SEGMENT_UNIT_BYTES, &head);
    if (r < 0) {
        return r;
    }
    unit_head(head, SEGMENT_UNIT_RECORDS, LOG_CODEC_NONE, b->records_len, b->records_len);
    *ret_crc = crc32c(unit_crc(s, head), b->records, b->records_len);
    le32_store(head + SEGMENT_UNIT_AT_CRC, *ret_crc);
    r = append(s, s->arena, head, SEGMENT_UNIT_BYTES);
    return r < 0 ? r : append(s, NULL, b->records, b->records_len);
}

static int batch_add(struct seal *s, const struct log_batch *b)
{
    for (uint32_t i = 0; i < b->frame_count; i++) {
        int r = frame_add(s, &b->frames[i]);
        if (r < 0) {
            return r;
        }
    }
    uint32_t at = 0;
    uint32_t len = 0;
    uint32_t crc = 0;
    if (b->records_len > 0) {
        at = (uint32_t)s->pos;
        len = SEGMENT_UNIT_BYTES + b->records_len;
        int r = records_add(s, b, &crc);
        if (r < 0) {
            return r;
        }
    }
    uint8_t *e = s->batch_entry;
    s->batch_entry += SEGMENT_BATCH_BYTES;
    le64_store(e + SEGMENT_BATCH_AT_NUMBER, b->number);
    le32_store(e + SEGMENT_BATCH_AT_RECORDS, at);
    le32_store(e + SEGMENT_BATCH_AT_RECORDS_LEN, len);
    le32_store(e + SEGMENT_BATCH_AT_RECORDS_CRC, crc);
    le32_store(e + SEGMENT_BATCH_AT_FRAME_COUNT, b->frame_count);
    le64_store(e + SEGMENT_BATCH_AT_RESERVED, 0);
    return 0;
}

static int footer_add(struct seal *s, uint32_t batch_count, uint32_t frame_count,
                      uint32_t directory_len, struct segment_sealed *out)
{
    uint32_t directory_at = (uint32_t)s->pos - directory_len;
    uint8_t *p = out->footer;
    memset(p, 0, SEGMENT_FOOTER_BYTES);
    bytes_field(p, SEGMENT_FOOTER_MAGIC, SEGMENT_MAGIC_LEN);
    le32_store(p + SEGMENT_FOOTER_AT_DIRECTORY, directory_at);
    le32_store(p + SEGMENT_FOOTER_AT_DIRECTORY_LEN, directory_len);
    le32_store(p + SEGMENT_FOOTER_AT_BATCH_COUNT, batch_count);
    le32_store(p + SEGMENT_FOOTER_AT_FRAME_COUNT, frame_count);
    le64_store(p + SEGMENT_FOOTER_AT_OBJECT_LEN, s->pos + SEGMENT_FOOTER_BYTES);
    le64_store(p + SEGMENT_FOOTER_AT_SEQ, s->h->seq);
    int r = segment_digest(out->header, s->directory, directory_len, p + SEGMENT_FOOTER_AT_DIGEST);
    if (r < 0) {
        return r;
    }
    uint32_t crc =
        segment_place_crc(&s->h->volume, s->h->seq, (uint32_t)s->pos, SEGMENT_FOOTER_BYTES);
    le32_store(p + SEGMENT_FOOTER_AT_CRC, crc32c(crc, p, SEGMENT_FOOTER_AT_CRC));
    uint8_t *copy;
    r = arena_take(s, SEGMENT_FOOTER_BYTES, &copy);
    if (r < 0) {
        return r;
    }
    memcpy(copy, p, SEGMENT_FOOTER_BYTES);
    return append(s, s->arena, copy, SEGMENT_FOOTER_BYTES);
}

static int directory_add(struct seal *s, struct rt_buf *b, uint32_t len)
{
    unit_head(s->directory, SEGMENT_UNIT_DIRECTORY, LOG_CODEC_NONE, len - SEGMENT_UNIT_BYTES,
              len - SEGMENT_UNIT_BYTES);
    uint32_t crc = unit_crc(s, s->directory);
    crc = crc32c(crc, s->directory + SEGMENT_UNIT_BYTES, len - SEGMENT_UNIT_BYTES);
    le32_store(s->directory + SEGMENT_UNIT_AT_CRC, crc);
    return append(s, b, s->directory, len);
}

static int header_add(struct seal *s, struct segment_sealed *out)
{
    segment_header_encode(s->h, out->header);
    uint8_t *copy;
    int r = arena_take(s, SEGMENT_HEADER_BYTES, &copy);
    if (r < 0) {
        return r;
    }
    memcpy(copy, out->header, SEGMENT_HEADER_BYTES);
    return append(s, s->arena, copy, SEGMENT_HEADER_BYTES);
}

static int data_add(struct seal *s, struct log_batch *const *batches, uint32_t count,
                    struct segment_sealed *out)
{
    uint64_t frames = 0;
    for (uint32_t i = 0; i < count; i++) {
        frames += batches[i]->frame_count;
    }
    uint64_t len =
        SEGMENT_UNIT_BYTES + (uint64_t)count * SEGMENT_BATCH_BYTES + frames * SEGMENT_FRAME_BYTES;
    if (len > SEGMENT_BYTES_MAX) {
        return -EFBIG;
    }
    struct rt_buf *b;
    int r = rt_buf_alloc(len, RT_MEM_SEALING, &b);
    if (r < 0) {
        return r;
    }
    s->directory = b->data;
    s->batch_entry = s->directory + SEGMENT_UNIT_BYTES;
    s->frame_entry = s->batch_entry + (size_t)count * SEGMENT_BATCH_BYTES;
    for (uint32_t i = 0; i < count && r == 0; i++) {
        r = batch_add(s, batches[i]);
    }
    if (r == 0 && s->pos + len > SEGMENT_BYTES_MAX) {
        r = -EFBIG;
    }
    if (r == 0) {
        r = directory_add(s, b, (uint32_t)len);
    }
    if (r == 0) {
        r = footer_add(s, count, (uint32_t)frames, (uint32_t)len, out);
    }
    rt_buf_unref(b);
    return r;
}

int segment_seal(const struct segment_header *h, const struct segment_options *opt,
                 struct log_batch *const *batches, size_t count, struct segment_sealed *ret_sealed)
{
    ASSERT(h->kind == SEGMENT_DATA || count == 0);
    struct segment_sealed out = {0};
    struct seal s = {.h = h, .opt = opt, .body = &out.body, .arena_next = ARENA_BYTES_MIN};
    int r = header_add(&s, &out);
    if (r == 0 && h->kind == SEGMENT_FENCE) {
        r = footer_add(&s, 0, 0, 0, &out);
    } else if (r == 0) {
        r = data_add(&s, batches, (uint32_t)count, &out);
    }
    rt_buf_unref(s.arena);
    if (r < 0) {
        rt_chain_free(&out.body);
        return r;
    }
    *ret_sealed = out;
    return 0;
}

void segment_sealed_free(struct segment_sealed *s)
{
    rt_chain_free(&s->body);
}

void segment_header_encode(const struct segment_header *h, uint8_t ret_out[SEGMENT_HEADER_BYTES])
{
    uint8_t *p = ret_out;
    memset(p, 0, SEGMENT_HEADER_BYTES);
    bytes_field(p, SEGMENT_HEADER_MAGIC, SEGMENT_MAGIC_LEN);
    le16_store(p + SEGMENT_HEADER_AT_VERSION, SEGMENT_VERSION);
    p[SEGMENT_HEADER_AT_KIND] = (uint8_t)h->kind;
    p[SEGMENT_HEADER_AT_ENCRYPTION] = SEGMENT_ENCRYPTION_NONE;
    memcpy(p + SEGMENT_HEADER_AT_VOLUME, h->volume.bytes, sizeof h->volume.bytes);
    le64_store(p + SEGMENT_HEADER_AT_SEQ, h->seq);
    le64_store(p + SEGMENT_HEADER_AT_EPOCH, h->epoch);
    memcpy(p + SEGMENT_HEADER_AT_OPEN_ID, h->open_id.bytes, sizeof h->open_id.bytes);
    le64_store(p + SEGMENT_HEADER_AT_STORED_THROUGH, h->stored_through);
    le64_store(p + SEGMENT_HEADER_AT_RESUME, h->resume);
    memcpy(p + SEGMENT_HEADER_AT_SALT, h->salt, sizeof h->salt);
    le32_store(p + SEGMENT_HEADER_AT_CRC, crc32c(0, p, SEGMENT_HEADER_AT_CRC));
}
