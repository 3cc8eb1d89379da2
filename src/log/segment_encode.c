/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sealing. The cost of a 4 KiB block that does not compress is one checksum and a look at 256 of
 * its bytes: it is referred to, not copied. What is copied or made here (heads of units, compressed
 * frames, directory, footer) lies in an arena of counted buffers.
 *
 * WHETHER TO COMPRESS. A frame is stored compressed when that saves an eighth. Before trying, 256
 * bytes of it are counted: bytes that are spread evenly (compressed media, ciphertext) are not
 * tried. When tries fail all the same, fewer are made (struct segment_effort).
 */
#include "base/assert.h"
#include "base/bytes.h"
#include "base/crc32c.h"
#include "base/endian.h"
#include "log/segment.h"
#include <lz4.h>
#include <string.h>

#define ARENA_BYTES_MIN 8192u
#define ARENA_BYTES_MAX 262144u
#define FRAME_BYTES_MAX (LOG_FRAME_BLOCKS_MAX * LOG_BLOCK_BYTES)

#define SAMPLES 256u
/* Evenly spread bytes give a sum of squares of 2 * SAMPLES or so; text gives ten times as much. */
#define SAMPLE_SQUARES_MIN 640u

#define FAILURES_BEFORE_SKIPPING 8u
#define SKIP_LOG2_MAX 6u

/* Working memory of one seal. */
struct scratch {
    LZ4_stream_t lz4;
    uint8_t gathered[FRAME_BYTES_MAX];
};

struct seal {
    const struct segment_header *h;
    enum log_codec codec;
    struct segment_effort *effort;
    struct rt_chain *body;
    struct rt_buf *arena;
    uint32_t arena_used;
    uint32_t arena_next; /* size of the next one */
    struct rt_buf *scratch_buf;
    struct scratch *scratch; /* NULL until something is compressed */
    uint8_t *directory;      /* the unit, head and all; in a buffer of its own */
    uint8_t *batch_entry;    /* where the next entries go */
    uint8_t *frame_entry;
    uint64_t pos;
};

/* len contiguous bytes of the arena; what is not used of them is given back with arena_shrink(). */
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

static void arena_shrink(struct seal *s, uint32_t by)
{
    s->arena_used -= by;
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

static bool looks_compressible(const struct log_frame *f)
{
    uint16_t counts[256] = {0};
    unsigned each = SAMPLES / f->count;
    unsigned stride = LOG_BLOCK_BYTES / each;
    unsigned taken = 0;
    for (unsigned b = 0; b < f->count; b++) {
        const uint8_t *p = f->blocks[b];
        for (unsigned i = 0; i < each; i++) {
            counts[p[i * stride + (i * 7 & 15)]]++; /* no fixed lane of a structure */
        }
        taken += each;
    }
    uint32_t squares = 0;
    for (unsigned i = 0; i < 256; i++) {
        squares += (uint32_t)counts[i] * counts[i];
    }
    return squares >= SAMPLE_SQUARES_MIN * taken / SAMPLES;
}

static bool worth_trying(struct seal *s, const struct log_frame *f)
{
    if (s->codec != LOG_CODEC_LZ4) {
        return false;
    }
    uint32_t skip = atomic_load_explicit(&s->effort->skip, memory_order_relaxed);
    if (skip > 0) {
        atomic_store_explicit(&s->effort->skip, skip - 1, memory_order_relaxed);
        return false;
    }
    return looks_compressible(f);
}

static void tried(struct segment_effort *e, bool shrank)
{
    if (shrank) {
        atomic_store_explicit(&e->failed_in_a_row, 0, memory_order_relaxed);
        return;
    }
    uint32_t failed = atomic_fetch_add_explicit(&e->failed_in_a_row, 1, memory_order_relaxed) + 1;
    if (failed >= FAILURES_BEFORE_SKIPPING) {
        uint32_t log2 = MIN_OF(failed - FAILURES_BEFORE_SKIPPING + 1, SKIP_LOG2_MAX);
        atomic_store_explicit(&e->skip, 1u << log2, memory_order_relaxed);
    }
}

static int scratch_make(struct seal *s)
{
    if (s->scratch) {
        return 0;
    }
    int r = rt_buf_alloc(sizeof *s->scratch, RT_MEM_SEALING, &s->scratch_buf);
    if (r == 0) {
        s->scratch = (struct scratch *)(void *)s->scratch_buf->data;
        (void)LZ4_initStream(&s->scratch->lz4, sizeof s->scratch->lz4);
    }
    return r;
}

/* The frame's bytes in one piece: where they are, if the blocks are neighbours. */
static const uint8_t *gather(struct seal *s, const struct log_frame *f)
{
    bool neighbours = true;
    for (unsigned i = 1; i < f->count; i++) {
        neighbours = neighbours && f->blocks[i] == f->blocks[i - 1] + LOG_BLOCK_BYTES;
    }
    if (neighbours) {
        return f->blocks[0];
    }
    for (unsigned i = 0; i < f->count; i++) {
        memcpy(s->scratch->gathered + (size_t)i * LOG_BLOCK_BYTES, f->blocks[i], LOG_BLOCK_BYTES);
    }
    return s->scratch->gathered;
}

/* Appends the frame compressed: its length with the head, 0 when it did not shrink. Gives the
 * checksum. */
static int frame_compress(struct seal *s, const struct log_frame *f, uint32_t *ret_crc)
{
    uint32_t raw_len = f->count * LOG_BLOCK_BYTES;
    uint32_t cap = raw_len - raw_len / 8;
    int r = scratch_make(s);
    if (r < 0) {
        return r;
    }
    uint8_t *head;
    r = arena_take(s, SEGMENT_UNIT_BYTES + cap, &head);
    if (r < 0) {
        return r;
    }
    const char *src = (const char *)gather(s, f);
    LZ4_resetStream_fast(&s->scratch->lz4);
    int n = LZ4_compress_fast_continue(&s->scratch->lz4, src, (char *)head + SEGMENT_UNIT_BYTES,
                                       (int)raw_len, (int)cap, 1);
    tried(s->effort, n > 0);
    if (n <= 0) {
        /* A stream that ran out of room is in no defined state. */
        (void)LZ4_initStream(&s->scratch->lz4, sizeof s->scratch->lz4);
        arena_shrink(s, SEGMENT_UNIT_BYTES + cap);
        return 0;
    }
    arena_shrink(s, cap - (uint32_t)n);
    unit_head(head, SEGMENT_UNIT_FRAME, LOG_CODEC_LZ4, (uint32_t)n, raw_len);
    *ret_crc = crc32c(unit_crc(s, head), head + SEGMENT_UNIT_BYTES, (size_t)n);
    le32_store(head + SEGMENT_UNIT_AT_CRC, *ret_crc);
    r = append(s, s->arena, head, SEGMENT_UNIT_BYTES + (uint32_t)n);
    return r < 0 ? r : (int)SEGMENT_UNIT_BYTES + n;
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
    int len = worth_trying(s, f) ? frame_compress(s, f, &crc) : 0;
    if (len == 0) {
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

int segment_seal(const struct segment_header *h, enum log_codec codec,
                 struct segment_effort *effort, struct log_batch *const *batches, size_t count,
                 struct segment_sealed *ret_sealed)
{
    ASSERT(h->kind == SEGMENT_DATA || count == 0);
    struct segment_sealed out = {0};
    struct seal s = {
        .h = h, .codec = codec, .effort = effort, .body = &out.body, .arena_next = ARENA_BYTES_MIN};
    int r = header_add(&s, &out);
    if (r == 0 && h->kind == SEGMENT_FENCE) {
        r = footer_add(&s, 0, 0, 0, &out);
    } else if (r == 0) {
        r = data_add(&s, batches, (uint32_t)count, &out);
    }
    rt_buf_unref(s.arena);
    rt_buf_unref(s.scratch_buf);
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
