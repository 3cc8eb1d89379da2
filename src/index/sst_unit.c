/* SPDX-License-Identifier: Apache-2.0 */
#include "index/sst_unit.h"
#include "base/crc32c.h"
#include "base/endian.h"
#include <errno.h>
#include <lz4.h>
#include <string.h>

/*
 * Header: stored_len u32, raw_len u32, kind u8, codec u8, zero u16, crc u32; little-endian.
 * stored_len counts the payload, with the tag. There is no crc where there is a tag.
 */
#define CRC_AT 12
#define OFFSET_AT (SST_PLACE_SIZE - 8)

int sst_key_init(const struct index_home *home, const struct sst_name *name,
                 const uint8_t salt[SST_SALT_SIZE], enum crypt_cipher cipher,
                 struct sst_key *ret_key)
{
    struct sst_key *k = ret_key;
    if ((cipher == CRYPT_NONE) != (home->keys == NULL)) {
        return -EBADMSG;
    }
    k->encrypted = cipher != CRYPT_NONE;
    memcpy(k->salt, salt, SST_SALT_SIZE);
    memcpy(k->place, home->volume.bytes, 16);
    le64_store(k->place + 16, name->epoch);
    le64_store(k->place + 24, name->counter);
    le64_store(k->place + OFFSET_AT, 0);
    if (!k->encrypted) {
        return 0;
    }
    return crypt_unit_init(&k->unit, home->keys,
                           &(struct crypt_unit_name){.cipher = cipher,
                                                     .key_id = CRYPT_KEY_VOLUME,
                                                     .kind = CRYPT_SST,
                                                     .salt = salt,
                                                     .volume = &home->volume});
}

void sst_key_wipe(struct sst_key *key)
{
    crypt_unit_wipe(&key->unit);
}

static uint32_t unit_crc(const struct sst_key *key, const uint8_t *unit, size_t len, uint64_t off)
{
    uint8_t place[SST_SALT_SIZE + 8];
    memcpy(place, key->salt, SST_SALT_SIZE);
    le64_store(place + SST_SALT_SIZE, off);
    uint32_t crc = crc32c(0, place, sizeof place);
    crc = crc32c(crc, unit, CRC_AT);
    return crc32c(crc, unit + SST_UNIT_HEADER_SIZE, len - SST_UNIT_HEADER_SIZE);
}

#define AAD_SIZE (SST_PLACE_SIZE + SST_UNIT_HEADER_SIZE)

static struct crypt_message message(const struct sst_key *key, uint64_t off, const uint8_t *unit,
                                    uint8_t aad[AAD_SIZE])
{
    memcpy(aad, key->place, SST_PLACE_SIZE);
    le64_store(aad + OFFSET_AT, off);
    memcpy(aad + SST_PLACE_SIZE, unit, SST_UNIT_HEADER_SIZE);
    return (struct crypt_message){.number = off, .aad = aad, .aad_len = AAD_SIZE};
}

/* Bytes of the payload that are not contents. */
static size_t tag_size(const struct sst_key *key)
{
    return key->encrypted ? SST_TAG_SIZE : 0;
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

static int seal(const struct sst_key *key, uint64_t off, uint8_t *unit, size_t len)
{
    uint8_t aad[AAD_SIZE];
    struct crypt_message m = message(key, off, unit, aad);
    uint8_t *contents = unit + SST_UNIT_HEADER_SIZE;
    return crypt_unit_seal(&key->unit, &m, contents, len, contents, contents + len);
}

int sst_unit_encode(const struct sst_key *key, const void *raw, size_t raw_len, uint64_t off,
                    enum sst_unit_kind kind, struct bytes_writer *out)
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
    (void)bytes_grow(out, tag_size(key));
    if (out->failed) {
        return -ENOMEM;
    }
    uint8_t *unit = out->data + start;
    le32_store(unit, (uint32_t)(stored + tag_size(key)));
    le32_store(unit + 4, (uint32_t)raw_len);
    unit[8] = (uint8_t)kind;
    unit[9] = (uint8_t)codec;
    le16_store(unit + 10, 0);
    le32_store(unit + CRC_AT, 0);
    if (key->encrypted) {
        return seal(key, off, unit, stored);
    }
    le32_store(unit + CRC_AT, unit_crc(key, unit, SST_UNIT_HEADER_SIZE + stored, off));
    return 0;
}

size_t sst_unit_size(const void *stored, size_t len)
{
    if (len < SST_UNIT_HEADER_SIZE) {
        return 0;
    }
    uint32_t payload = le32_load(stored);
    uint32_t raw = le32_load((const uint8_t *)stored + 4);
    return raw > SST_UNIT_RAW_MAX || payload > raw + SST_TAG_SIZE
               ? 0
               : (size_t)payload + SST_UNIT_HEADER_SIZE;
}

/* Checks checksum or tag. */
static int authenticate(const struct sst_key *key, uint8_t *unit, size_t len, uint64_t off)
{
    if (!key->encrypted) {
        return le32_load(unit + CRC_AT) == unit_crc(key, unit, len, off) ? 0 : -EBADMSG;
    }
    uint8_t aad[AAD_SIZE];
    struct crypt_message m = message(key, off, unit, aad);
    uint8_t *contents = unit + SST_UNIT_HEADER_SIZE;
    size_t n = len - SST_UNIT_HEADER_SIZE - SST_TAG_SIZE;
    return crypt_unit_open(&key->unit, &m, contents, n, contents, contents + n);
}

int sst_unit_open(const struct sst_key *key, void *stored, size_t len, uint64_t off,
                  enum sst_unit_kind kind, size_t *ret_raw_len)
{
    uint8_t *unit = stored;
    size_t size = sst_unit_size(stored, len);
    if (size == 0 || size != len || unit[8] != (uint8_t)kind ||
        len < SST_UNIT_HEADER_SIZE + tag_size(key)) {
        return -EBADMSG;
    }
    int r = authenticate(key, unit, len, off);
    if (r < 0) {
        return r;
    }
    size_t raw_len = le32_load(unit + 4);
    if (unit[9] > SST_CODEC_LZ4 ||
        (unit[9] == SST_CODEC_NONE && raw_len + tag_size(key) != len - SST_UNIT_HEADER_SIZE)) {
        return -EBADMSG;
    }
    *ret_raw_len = raw_len;
    return 0;
}

int sst_unit_decode(const struct sst_key *key, const void *stored, size_t len, void *dst,
                    size_t raw_len)
{
    const uint8_t *unit = stored;
    const uint8_t *payload = unit + SST_UNIT_HEADER_SIZE;
    size_t payload_len = len - SST_UNIT_HEADER_SIZE - tag_size(key);
    if (unit[9] == SST_CODEC_NONE) {
        memcpy(dst, payload, raw_len);
        return 0;
    }
    int got = LZ4_decompress_safe((const char *)payload, dst, (int)payload_len, (int)raw_len);
    return got == (int)raw_len ? 0 : -EBADMSG;
}
