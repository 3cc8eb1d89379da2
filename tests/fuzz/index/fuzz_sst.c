/* SPDX-License-Identifier: Apache-2.0 */
/* The parts of an SST, as their checksums let them through: the first byte says which part. */
#include "base/assert.h"
#include "base/crc32c.h"
#include "index/sst_block.h"
#include "index/sst_filter.h"
#include "index/sst_unit.h"
#include "index/sst_writer.h"
#include <errno.h>
#include <string.h>

#define RAW_MAX (1u << 20) /* of what is decompressed here */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void walk_block(const uint8_t *data, size_t size)
{
    struct sst_block_iter it;
    if (sst_block_open(&it, data, size) < 0) {
        return;
    }
    size_t steps = 0;
    int r = sst_block_first(&it);
    for (; r == 1; r = sst_block_next(&it)) {
        ASSERT(++steps <= size);
        ASSERT(it.key_len > 0 && it.key_len <= INDEX_KEY_MAX);
        ASSERT(it.value >= data && it.value + it.value_len <= data + size);
    }
    r = sst_block_seek(&it, data, size < INDEX_KEY_MAX ? size : INDEX_KEY_MAX);
    ASSERT(r <= 1);
}

static void open_unit(const uint8_t *data, size_t size)
{
    static const uint8_t place[SST_SALT_SIZE + 8];
    if (size < SST_UNIT_HEADER_SIZE) {
        return;
    }
    uint8_t *unit = malloc(size);
    ASSERT(unit != NULL);
    memcpy(unit, data, size);
    le32_store(unit, (uint32_t)(size - SST_UNIT_HEADER_SIZE));
    unit[8] = SST_UNIT_DATA;
    uint32_t crc = crc32c(0, place, sizeof place);
    crc = crc32c(crc, unit, 12);
    le32_store(unit + 12, crc32c(crc, unit + SST_UNIT_HEADER_SIZE, size - SST_UNIT_HEADER_SIZE));
    size_t raw_len;
    struct sst_key key;
    struct index_home home = {{{1}}, NULL};
    ASSERT(sst_key_init(&home, &(struct sst_name){1, 1}, place, CRYPT_NONE, &key) == 0);
    if (sst_unit_open(&key, unit, size, 0, SST_UNIT_DATA, &raw_len) == 0 && raw_len <= RAW_MAX) {
        uint8_t *raw = malloc(raw_len + 1);
        ASSERT(raw != NULL);
        if (sst_unit_decode(&key, unit, size, raw, raw_len) == 0) {
            walk_block(raw, raw_len);
        }
        free(raw);
    }
    static struct crypt_keys *keys;
    static const uint8_t secret[CRYPT_KEY_BYTES] = {1};
    ASSERT(keys || crypt_keys_create(secret, CRYPT_CHACHA20_POLY1305, &keys) == 0);
    home.keys = keys;
    ASSERT(sst_key_init(&home, &(struct sst_name){1, 1}, place, CRYPT_CHACHA20_POLY1305, &key) ==
           0);
    ASSERT(sst_unit_open(&key, unit, size, 0, SST_UNIT_DATA, &raw_len) == -EBADMSG);
    free(unit);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct uuid volume = {{1}};
    struct sst_meta meta;
    if (size == 0) {
        return 0;
    }
    uint8_t part = data[0];
    data++;
    size--;
    switch (part % 4) {
    case 0:
        walk_block(data, size);
        break;
    case 1:
        open_unit(data, size);
        break;
    case 2:
        if (sst_filter_is_good(data, size)) {
            (void)sst_filter_may_hold(data, size, sst_filter_hash(data, size));
        }
        break;
    default:
        if (sst_header_decode(data, size, &volume, &meta) == 0 && size >= SST_FOOTER_SIZE &&
            sst_footer_decode(data + size - SST_FOOTER_SIZE, SST_FOOTER_SIZE, &meta) == 0) {
            ASSERT(meta.filter_off < meta.index_off && meta.index_off < meta.size_bytes);
        }
        break;
    }
    return 0;
}
