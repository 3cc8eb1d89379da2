/* SPDX-License-Identifier: Apache-2.0 */
#include "index/sst_unit.h"
#include "base/crc32c.h"
#include "base/endian.h"
#include <errno.h>
#include <lz4.h>
#include <string.h>

/*
 * Header: stored_len u32, raw_len u32, kind u8, codec u8, zero u16, crc u32; little-endian.
 * stored_len counts the payload.
 */
#define CRC_AT 12

static uint32_t unit_crc(const uint8_t *unit, size_t len, const uint8_t salt[SST_SALT_SIZE],
                         uint64_t off)
{
    uint8_t place[SST_SALT_SIZE + 8];
    memcpy(place, salt, SST_SALT_SIZE);
    le64_store(place + SST_SALT_SIZE, off);
    uint32_t crc = crc32c(0, place, sizeof place);
    crc = crc32c(crc, unit, CRC_AT);
    return crc32c(crc, unit + SST_UNIT_HEADER_SIZE, len - SST_UNIT_HEADER_SIZE);
}

/* LZ4 into the writer: the stored length, or 0 when that gains less than a sixteenth. */
static size_t compress(const void *raw, size_t raw_len, struct bytes_writer *out)
{
    int bound = LZ4_compressBound((int)raw_len);
    uint8_t *dst = bytes_grow(out, (size_t)bound);
    if (dst == NULL) {
        return 0;
    }
    int got = LZ4_compress_default(raw, (char *)dst, (int)raw_len, bound);
    size_t keep = got > 0 && (size_t)got < raw_len - raw_len / 16 ? (size_t)got : 0;
    out->len -= (size_t)bound - keep;
    return keep;
}

int sst_unit_encode(const void *raw, size_t raw_len, const uint8_t salt[SST_SALT_SIZE],
                    uint64_t off, enum sst_unit_kind kind, struct bytes_writer *out)
{
    size_t start = out->len;
    if (raw_len > SST_UNIT_RAW_MAX) {
        return -EFBIG;
    }
    if (bytes_grow(out, SST_UNIT_HEADER_SIZE) == NULL) {
        return -ENOMEM;
    }
    enum sst_codec codec = SST_CODEC_LZ4;
    size_t stored = kind == SST_UNIT_FILTER ? 0 : compress(raw, raw_len, out);
    if (stored == 0) {
        codec = SST_CODEC_NONE;
        stored = raw_len;
        bytes_put(out, raw, raw_len);
    }
    if (out->failed) {
        return -ENOMEM;
    }
    uint8_t *unit = out->data + start;
    le32_store(unit, (uint32_t)stored);
    le32_store(unit + 4, (uint32_t)raw_len);
    unit[8] = (uint8_t)kind;
    unit[9] = (uint8_t)codec;
    le16_store(unit + 10, 0);
    le32_store(unit + CRC_AT, unit_crc(unit, SST_UNIT_HEADER_SIZE + stored, salt, off));
    return 0;
}

size_t sst_unit_size(const void *stored, size_t len)
{
    if (len < SST_UNIT_HEADER_SIZE) {
        return 0;
    }
    uint32_t payload = le32_load(stored);
    uint32_t raw = le32_load((const uint8_t *)stored + 4);
    return payload > raw + SST_UNIT_TAG_MAX || raw > SST_UNIT_RAW_MAX
               ? 0
               : (size_t)payload + SST_UNIT_HEADER_SIZE;
}

int sst_unit_check(const void *stored, size_t len, const uint8_t salt[SST_SALT_SIZE], uint64_t off,
                   enum sst_unit_kind kind, size_t *ret_raw_len)
{
    const uint8_t *unit = stored;
    size_t size = sst_unit_size(stored, len);
    if (size == 0 || size != len || unit[8] != (uint8_t)kind ||
        le32_load(unit + CRC_AT) != unit_crc(unit, len, salt, off)) {
        return -EBADMSG;
    }
    size_t raw_len = le32_load(unit + 4);
    if (unit[9] > SST_CODEC_LZ4 ||
        (unit[9] == SST_CODEC_NONE && raw_len != len - SST_UNIT_HEADER_SIZE)) {
        return -EBADMSG;
    }
    *ret_raw_len = raw_len;
    return 0;
}

int sst_unit_decode(const void *stored, size_t len, void *dst, size_t raw_len)
{
    const uint8_t *unit = stored;
    const uint8_t *payload = unit + SST_UNIT_HEADER_SIZE;
    size_t payload_len = len - SST_UNIT_HEADER_SIZE;
    if (unit[9] == SST_CODEC_NONE) {
        memcpy(dst, payload, raw_len);
        return 0;
    }
    int got = LZ4_decompress_safe((const char *)payload, dst, (int)payload_len, (int)raw_len);
    return got == (int)raw_len ? 0 : -EBADMSG;
}
