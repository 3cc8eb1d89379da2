/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sealing. The cost of a 4 KiB block that does not compress is one checksum and a look at 256 of
 * its bytes: it is referred to, not copied. With encryption the cost is the cipher's, and
 * everything is written once into the arena. What is copied or made here (heads of units,
 * compressed frames, directory, footer) lies in an arena of counted buffers.
 */
#include "base/assert.h"
#include "base/bytes.h"
#include "base/crc32c.h"
#include "base/endian.h"
#include "log/segment.h"
#include <string.h>

#define ARENA_BYTES_MIN 8192u
#define ARENA_BYTES_MAX 262144u
#define LINE_BYTES 64u

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
    struct segment_key key;
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
    le16_store(head + SEGMENT_UNIT_AT_KEY_ID, 0); /* encryption sets it */
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

/*
 * Encrypts the pieces as one unit and appends it: its length. Gives the start of the tag. head: as
 * it is without encryption.
 */
static int unit_seal(struct seal *s, const uint8_t head[SEGMENT_UNIT_BYTES],
                     const struct iovec *pieces, unsigned count, uint32_t *ret_mark)
{
    uint32_t len = le32_load(head + SEGMENT_UNIT_AT_STORED_LEN);
    uint32_t whole = SEGMENT_UNIT_BYTES + len + SEGMENT_TAG_BYTES;
    struct log_location at = {s->h->seq, (uint32_t)s->pos, whole};
    struct segment_aad aad = {{0}};
    uint8_t *p;
    int r = arena_take(s, whole, &p);
    if (r < 0) {
        return r;
    }
    memcpy(p, head, SEGMENT_UNIT_BYTES);
    le32_store(p + SEGMENT_UNIT_AT_STORED_LEN, len + SEGMENT_TAG_BYTES);
    le16_store(p + SEGMENT_UNIT_AT_KEY_ID, CRYPT_KEY_VOLUME);
    struct crypt_message m = segment_message(&s->key, &at, p, NULL, &aad);
    uint8_t *tag = p + SEGMENT_UNIT_BYTES + len;
    r = crypt_unit_seal_pieces(&s->key.unit, &m, pieces, count, p + SEGMENT_UNIT_BYTES, tag);
    *ret_mark = le32_load(tag);
    if (r == 0) {
        r = append(s, s->arena, p, whole);
    }
    return r < 0 ? r : (int)whole;
}

/* Appends the pieces as a unit that is not encrypted, by reference unless `copies`: its length.
 * Gives the checksum. */
static int unit_store(struct seal *s, const uint8_t head[SEGMENT_UNIT_BYTES],
                      const struct iovec *pieces, unsigned count, bool copies, uint32_t *ret_crc)
{
    uint32_t len = le32_load(head + SEGMENT_UNIT_AT_STORED_LEN);
    uint8_t *p;
    int r = arena_take(s, SEGMENT_UNIT_BYTES + (copies ? len : 0), &p);
    if (r < 0) {
        return r;
    }
    memcpy(p, head, SEGMENT_UNIT_BYTES);
    uint32_t crc = unit_crc(s, p);
    for (unsigned i = 0; i < count; i++) {
        crc = crc32c(crc, pieces[i].iov_base, pieces[i].iov_len);
    }
    le32_store(p + SEGMENT_UNIT_AT_CRC, crc);
    *ret_crc = crc;
    r = append(s, s->arena, p, SEGMENT_UNIT_BYTES);
    for (unsigned i = 0; i < count && r == 0; i++) {
        const void *from = pieces[i].iov_base;
        if (copies) {
            from = memcpy(p + SEGMENT_UNIT_BYTES, from, pieces[i].iov_len);
            p += pieces[i].iov_len;
        }
        r = append(s, copies ? s->arena : NULL, from, (uint32_t)pieces[i].iov_len);
    }
    return r < 0 ? r : (int)(SEGMENT_UNIT_BYTES + len);
}

static struct iovec piece_of(const void *p, size_t len)
{
    return (struct iovec){.iov_base = (void *)(uintptr_t)p, .iov_len = len};
}

/* The blocks, neighbours in memory as one piece: a cipher goes on faster than it starts. */
static unsigned blocks_join(const struct log_frame *f, struct iovec pieces[LOG_FRAME_BLOCKS_MAX])
{
    unsigned count = 0;
    for (unsigned i = 0; i < f->count; i++) {
        if (i > 0 && f->blocks[i] == f->blocks[i - 1] + LOG_BLOCK_BYTES) {
            pieces[count - 1].iov_len += LOG_BLOCK_BYTES;
        } else {
            pieces[count++] = piece_of(f->blocks[i], LOG_BLOCK_BYTES);
        }
    }
    return count;
}

/* Appends the frame: its length as a unit. */
static int frame_put(struct seal *s, const struct log_frame *f, uint32_t *ret_mark)
{
    const uint8_t *packed = NULL;
    int n = codec_pack(s->opt->compression, s->opt->effort, f->blocks, f->count, &packed);
    if (n < 0) {
        return n;
    }
    uint32_t raw_len = f->count * LOG_BLOCK_BYTES;
    enum log_codec codec = n > 0 ? s->opt->compression.codec : LOG_CODEC_NONE;
    uint8_t head[SEGMENT_UNIT_BYTES];
    struct iovec pieces[LOG_FRAME_BLOCKS_MAX];
    unsigned count = 1;
    if (n > 0) {
        pieces[0] = piece_of(packed, (size_t)n);
    } else {
        count = blocks_join(f, pieces);
    }
    unit_head(head, SEGMENT_UNIT_FRAME, codec, n > 0 ? (uint32_t)n : raw_len, raw_len);
    return s->key.encrypted ? unit_seal(s, head, pieces, count, ret_mark)
                            : unit_store(s, head, pieces, count, n > 0, ret_mark);
}

static int frame_add(struct seal *s, struct log_frame *f)
{
    ASSERT(f->count >= 1 && f->first_block + f->count <= LOG_FRAME_BLOCKS_MAX);
    if (s->pos > SEGMENT_BYTES_MAX) {
        return -EFBIG;
    }
    uint32_t at = (uint32_t)s->pos;
    uint32_t mark = 0;
    int len = frame_put(s, f, &mark);
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
    le32_store(e + SEGMENT_FRAME_AT_CRC, mark);
    e[SEGMENT_FRAME_AT_FIRST] = f->first_block;
    e[SEGMENT_FRAME_AT_COUNT] = f->count;
    le16_store(e + SEGMENT_FRAME_AT_RESERVED, 0);
    return 0;
}

/* Appends the batch's records as a unit: its length. */
static int records_add(struct seal *s, const struct log_batch *b, uint32_t *ret_mark)
{
    if (s->pos + b->records_len > SEGMENT_BYTES_MAX) {
        return -EFBIG;
    }
    uint8_t head[SEGMENT_UNIT_BYTES];
    struct iovec piece = piece_of(b->records, b->records_len);
    unit_head(head, SEGMENT_UNIT_RECORDS, LOG_CODEC_NONE, b->records_len, b->records_len);
    return s->key.encrypted ? unit_seal(s, head, &piece, 1, ret_mark)
                            : unit_store(s, head, &piece, 1, false, ret_mark);
}

/*
 * The blocks were written long ago, and where the next ones lie the processor cannot guess. A
 * cipher is slow enough for it to keep up, and the hints would only be in its way.
 */
static void frame_hint(const struct log_frame *f)
{
    for (unsigned i = 0; i < f->count; i++) {
        for (unsigned at = 0; at < LOG_BLOCK_BYTES; at += LINE_BYTES) {
            __builtin_prefetch(f->blocks[i] + at, 0, 2);
        }
    }
}

static int batch_add(struct seal *s, const struct log_batch *b)
{
    for (uint32_t i = 0; i < b->frame_count; i++) {
        if (!s->key.encrypted && i + 1 < b->frame_count) {
            frame_hint(&b->frames[i + 1]);
        }
        int r = frame_add(s, &b->frames[i]);
        if (r < 0) {
            return r;
        }
    }
    uint32_t at = 0;
    uint32_t mark = 0;
    int len = 0;
    if (b->records_len > 0) {
        at = (uint32_t)s->pos;
        len = records_add(s, b, &mark);
        if (len < 0) {
            return len;
        }
    }
    uint8_t *e = s->batch_entry;
    s->batch_entry += SEGMENT_BATCH_BYTES;
    le64_store(e + SEGMENT_BATCH_AT_NUMBER, b->number);
    le32_store(e + SEGMENT_BATCH_AT_RECORDS, at);
    le32_store(e + SEGMENT_BATCH_AT_RECORDS_LEN, (uint32_t)len);
    le32_store(e + SEGMENT_BATCH_AT_RECORDS_CRC, mark);
    le32_store(e + SEGMENT_BATCH_AT_FRAME_COUNT, b->frame_count);
    le64_store(e + SEGMENT_BATCH_AT_RESERVED, 0);
    return 0;
}

/* All of the footer but digest and checksum. The next to be appended is the directory unit, if
 * there is one. */
static void footer_fill(const struct seal *s, uint32_t batch_count, uint32_t frame_count,
                        uint32_t directory_len, uint8_t *p)
{
    memset(p, 0, SEGMENT_FOOTER_BYTES);
    bytes_field(p, SEGMENT_FOOTER_MAGIC, SEGMENT_MAGIC_LEN);
    le32_store(p + SEGMENT_FOOTER_AT_DIRECTORY, (uint32_t)s->pos);
    le32_store(p + SEGMENT_FOOTER_AT_DIRECTORY_LEN, directory_len);
    le32_store(p + SEGMENT_FOOTER_AT_BATCH_COUNT, batch_count);
    le32_store(p + SEGMENT_FOOTER_AT_FRAME_COUNT, frame_count);
    le64_store(p + SEGMENT_FOOTER_AT_OBJECT_LEN, s->pos + directory_len + SEGMENT_FOOTER_BYTES);
    le64_store(p + SEGMENT_FOOTER_AT_SEQ, s->h->seq);
}

static int footer_add(struct seal *s, uint32_t directory_len, struct segment_sealed *out)
{
    uint8_t *p = out->footer;
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

/* len: of the whole unit, in the buffer b. */
static int directory_add(struct seal *s, struct rt_buf *b, uint32_t len, const uint8_t *footer)
{
    uint8_t *p = s->directory;
    if (!s->key.encrypted) {
        uint32_t raw_len = len - SEGMENT_UNIT_BYTES;
        unit_head(p, SEGMENT_UNIT_DIRECTORY, LOG_CODEC_NONE, raw_len, raw_len);
        uint32_t crc = unit_crc(s, p);
        le32_store(p + SEGMENT_UNIT_AT_CRC, crc32c(crc, p + SEGMENT_UNIT_BYTES, raw_len));
        return append(s, b, p, len);
    }
    uint32_t raw_len = len - SEGMENT_UNIT_BYTES - SEGMENT_TAG_BYTES;
    struct log_location at = {s->h->seq, (uint32_t)s->pos, len};
    struct segment_aad aad = {{0}};
    unit_head(p, SEGMENT_UNIT_DIRECTORY, LOG_CODEC_NONE, raw_len + SEGMENT_TAG_BYTES, raw_len);
    le16_store(p + SEGMENT_UNIT_AT_KEY_ID, CRYPT_KEY_VOLUME);
    struct crypt_message m = segment_message(&s->key, &at, p, footer, &aad);
    uint8_t *entries = p + SEGMENT_UNIT_BYTES;
    int r = crypt_unit_seal(&s->key.unit, &m, entries, raw_len, entries, entries + raw_len);
    return r < 0 ? r : append(s, b, p, len);
}

static void header_crc(uint8_t *header)
{
    le32_store(header + SEGMENT_HEADER_AT_CRC, crc32c(0, header, SEGMENT_HEADER_AT_CRC));
}

static int header_add(struct seal *s, struct segment_sealed *out)
{
    segment_header_encode(s->h, out->header);
    int r = 0;
    if (s->key.encrypted) {
        struct crypt_message m = {
            .number = 0, .aad = out->header, .aad_len = SEGMENT_HEADER_AT_TAG};
        r = crypt_unit_seal(&s->key.unit, &m, NULL, 0, NULL, out->header + SEGMENT_HEADER_AT_TAG);
        header_crc(out->header);
    }
    uint8_t *copy = NULL;
    if (r == 0) {
        r = arena_take(s, SEGMENT_HEADER_BYTES, &copy);
    }
    if (r < 0 || !copy) {
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
    uint64_t len = SEGMENT_UNIT_BYTES + (uint64_t)count * SEGMENT_BATCH_BYTES +
                   frames * SEGMENT_FRAME_BYTES + (s->key.encrypted ? SEGMENT_TAG_BYTES : 0);
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
        footer_fill(s, count, (uint32_t)frames, (uint32_t)len, out->footer);
        r = directory_add(s, b, (uint32_t)len, out->footer);
    }
    if (r == 0) {
        r = footer_add(s, (uint32_t)len, out);
    }
    rt_buf_unref(b);
    return r;
}

int segment_seal(const struct segment_header *h, const struct segment_options *opt,
                 struct log_batch *const *batches, size_t count, struct segment_sealed *ret_sealed)
{
    ASSERT(h->kind == SEGMENT_DATA || count == 0);
    struct segment_sealed out = {0};
    struct segment_header header = *h;
    struct seal s = {.h = &header, .opt = opt, .body = &out.body, .arena_next = ARENA_BYTES_MIN};
    header.cipher = crypt_keys_cipher(opt->keys);
    header.key_id = opt->keys ? CRYPT_KEY_VOLUME : 0;
    struct log_salt salt = segment_salt(&header);
    int r = segment_key_init(&h->volume, h->seq, &salt, opt->keys, &s.key);
    if (r == 0) {
        r = header_add(&s, &out);
    }
    if (r == 0 && h->kind == SEGMENT_FENCE) {
        footer_fill(&s, 0, 0, 0, out.footer);
        r = footer_add(&s, 0, &out);
    } else if (r == 0) {
        r = data_add(&s, batches, (uint32_t)count, &out);
    }
    for (size_t i = 0; i < count && r == 0; i++) {
        batches[i]->salt = salt;
    }
    if (s.key.encrypted) {
        crypt_unit_wipe(&s.key.unit);
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
    p[SEGMENT_HEADER_AT_ENCRYPTION] = (uint8_t)h->cipher;
    le32_store(p + SEGMENT_HEADER_AT_KEY_ID, h->key_id);
    memcpy(p + SEGMENT_HEADER_AT_VOLUME, h->volume.bytes, sizeof h->volume.bytes);
    le64_store(p + SEGMENT_HEADER_AT_SEQ, h->seq);
    le64_store(p + SEGMENT_HEADER_AT_EPOCH, h->epoch);
    memcpy(p + SEGMENT_HEADER_AT_OPEN_ID, h->open_id.bytes, sizeof h->open_id.bytes);
    le64_store(p + SEGMENT_HEADER_AT_STORED_THROUGH, h->stored_through);
    le64_store(p + SEGMENT_HEADER_AT_RESUME, h->resume);
    memcpy(p + SEGMENT_HEADER_AT_SALT, h->salt, sizeof h->salt);
    header_crc(p);
}
