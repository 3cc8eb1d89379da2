/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A whole segment, from an untrusted store. The first byte says whether the checksums are put right
 * before decoding, so that what lies behind them is reached. What decodes must lie inside the
 * object.
 */
#include "base/assert.h"
#include "base/crc32c.h"
#include "base/endian.h"
#include "log/segment.h"
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

/* With a key nothing that was not sealed with it is taken. */
static const struct crypt_keys *test_keys(void)
{
    static struct crypt_keys *keys;
    static const uint8_t key[CRYPT_KEY_BYTES] = {1};
    if (!keys) {
        int r = crypt_keys_create(key, CRYPT_AES_256_GCM, &keys);
        ASSERT(r == 0);
    }
    return keys;
}

static void repair_header(uint8_t *p, size_t len)
{
    if (len >= SEGMENT_HEADER_BYTES) {
        le32_store(p + SEGMENT_HEADER_AT_CRC, crc32c(0, p, SEGMENT_HEADER_AT_CRC));
    }
}

static void repair_unit(uint8_t *p, size_t len, const struct segment_header *h, uint64_t at,
                        uint64_t unit_len)
{
    if (unit_len < SEGMENT_UNIT_BYTES || at > len || unit_len > len - at) {
        return;
    }
    uint32_t crc = segment_place_crc(&h->volume, h->seq, (uint32_t)at, (uint32_t)unit_len);
    crc = crc32c(crc, p + at + SEGMENT_UNIT_AT_KIND, unit_len - SEGMENT_UNIT_AT_KIND);
    le32_store(p + at + SEGMENT_UNIT_AT_CRC, crc);
}

static void repair_footer(uint8_t *p, size_t len, const struct segment_header *h)
{
    uint8_t *f = p + len - SEGMENT_FOOTER_BYTES;
    uint32_t at = le32_load(f + SEGMENT_FOOTER_AT_DIRECTORY);
    uint32_t unit_len = le32_load(f + SEGMENT_FOOTER_AT_DIRECTORY_LEN);
    repair_unit(p, len, h, at, unit_len);
    if (at <= len && unit_len <= len - at) {
        int r = segment_digest(p, p + at, unit_len, f + SEGMENT_FOOTER_AT_DIGEST);
        ASSERT(r == 0);
    }
    le64_store(f + SEGMENT_FOOTER_AT_OBJECT_LEN, len);
    le64_store(f + SEGMENT_FOOTER_AT_SEQ, h->seq);
    uint32_t crc = segment_place_crc(&h->volume, h->seq, (uint32_t)(len - SEGMENT_FOOTER_BYTES),
                                     SEGMENT_FOOTER_BYTES);
    le32_store(f + SEGMENT_FOOTER_AT_CRC, crc32c(crc, f, SEGMENT_FOOTER_AT_CRC));
}

static void check_frame(uint8_t *p, size_t len, bool repair, const struct segment_header *h,
                        const struct segment_key *key, const struct log_frame *f)
{
    static uint8_t out[LOG_FRAME_BLOCKS_MAX * LOG_BLOCK_BYTES];
    const char *why = NULL;
    ASSERT(f->offset >= SEGMENT_HEADER_BYTES && (uint64_t)f->offset + f->len_bytes <= len);
    ASSERT(f->count >= 1 && f->first_block + f->count <= LOG_FRAME_BLOCKS_MAX);
    if (repair) {
        repair_unit(p, len, h, f->offset, f->len_bytes);
    }
    struct log_location at = {h->seq, f->offset, f->len_bytes};
    int r = segment_frame_decode(key, &at, p + f->offset, f->count, out, &why);
    ASSERT(r == 0 || why != NULL);
}

static void check_directory(uint8_t *p, size_t len, bool repair, const struct segment_header *h,
                            const struct segment_key *key, const struct segment_directory *d)
{
    uint32_t frames = 0;
    for (size_t i = 0; i < d->batches.len; i++) {
        const struct segment_batch *b = &d->batches.at[i];
        uint32_t records_len;
        const char *why = NULL;
        ASSERT(b->frame_first == frames && (uint64_t)b->records_at + b->records_len <= len);
        frames += b->frame_count;
        int r = segment_records_decode(key, b, p + b->records_at, &why);
        const uint8_t *records = segment_records_of(key, b, p + b->records_at, &records_len);
        ASSERT(r < 0 || records_len == 0 ||
               (records > p && records + records_len <= p + len - SEGMENT_FOOTER_BYTES));
    }
    ASSERT(frames == d->frames.len);
    for (size_t i = 0; i < d->frames.len; i++) {
        check_frame(p, len, repair, h, key, &d->frames.at[i]);
    }
}

static void decode(uint8_t *p, size_t len, bool repair, const struct crypt_keys *keys)
{
    struct segment_header h;
    struct segment_footer f;
    struct segment_directory d;
    const char *why = NULL;
    if (repair) {
        repair_header(p, len);
    }
    if (segment_header_decode(p, len, &h, &why) < 0 ||
        len < SEGMENT_HEADER_BYTES + SEGMENT_FOOTER_BYTES) {
        return;
    }
    struct segment_key key;
    if (segment_header_open(&h, p, keys, &key, &why) < 0) {
        return;
    }
    ASSERT(keys == NULL); /* nobody guesses a tag */
    if (repair) {
        repair_footer(p, len, &h);
    }
    int r = segment_footer_decode(p + len - SEGMENT_FOOTER_BYTES, len, &h, &f, &why);
    if (r == 0) {
        r = segment_directory_decode(&key, p, &f, p + f.directory_at, &d, &why);
    }
    if (r < 0) {
        ASSERT(why != NULL);
        return;
    }
    check_directory(p, len, repair, &h, &key, &d);
    segment_directory_free(&d);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    if (len == 0) {
        return 0;
    }
    auto_free uint8_t *copy = malloc(len);
    ASSERT(copy != NULL);
    memcpy(copy, data + 1, len - 1);
    decode(copy, len - 1, data[0] & 1, NULL);
    memcpy(copy, data + 1, len - 1);
    decode(copy, len - 1, true, test_keys());
    return 0;
}
