/* SPDX-License-Identifier: Apache-2.0 */
/* Lines first (so that they are aligned in memory), then the trailer: version u8, probes u8, zero
 * u16, lines u32. */
#include "index/sst_filter.h"
#include "base/endian.h"
#include <errno.h>
#include <string.h>

#define FILTER_MUL 0x9fb21c651e98df25ull

static uint64_t mix(uint64_t h, uint64_t word)
{
    h = (h ^ word) * FILTER_MUL;
    return h ^ h >> 29;
}

uint64_t sst_filter_hash(const void *key, size_t key_len)
{
    const uint8_t *p = key;
    uint64_t h = 0x9ae16a3b2f90404full ^ key_len;
    size_t left = key_len;
    for (; left >= 8; left -= 8, p += 8) {
        h = mix(h, le64_load(p));
    }
    uint64_t tail = 0;
    for (size_t i = 0; i < left; i++) {
        tail |= (uint64_t)p[i] << (8 * i);
    }
    h = mix(h, tail);
    h = mix(h, h >> 32);
    return h ^ h >> 32;
}

static uint32_t line_of(uint64_t hash, uint32_t lines)
{
    return (uint32_t)((hash >> 32) * lines >> 32);
}

/* Bit i of the key in its line, 0 to 511, from the low half of the hash. */
static uint32_t bit_of(uint64_t hash, unsigned i)
{
    uint32_t low = (uint32_t)hash;
    uint32_t step = low >> 9 | low << 23 | 1;
    return (low + i * step) >> 7 & 511;
}

int sst_filter_build(const uint64_t *hashes, size_t count, struct bytes_writer *out)
{
    size_t bits = count * SST_FILTER_BITS_PER_KEY;
    size_t lines = MAX_OF(bits / (SST_FILTER_LINE_SIZE * 8) + 1, (size_t)1);
    size_t size = lines * SST_FILTER_LINE_SIZE;
    if (size > SST_UNIT_RAW_MAX - SST_FILTER_TRAILER_SIZE) {
        return -EFBIG;
    }
    uint8_t *base = bytes_grow(out, size + SST_FILTER_TRAILER_SIZE);
    if (base == NULL) {
        return -ENOMEM;
    }
    memset(base, 0, size);
    for (size_t k = 0; k < count; k++) {
        uint8_t *line = base + (size_t)line_of(hashes[k], (uint32_t)lines) * SST_FILTER_LINE_SIZE;
        for (unsigned i = 0; i < SST_FILTER_PROBES; i++) {
            uint32_t bit = bit_of(hashes[k], i);
            line[bit / 8] = (uint8_t)(line[bit / 8] | 1u << bit % 8);
        }
    }
    base[size] = SST_FILTER_VERSION;
    base[size + 1] = SST_FILTER_PROBES;
    le16_store(base + size + 2, 0);
    le32_store(base + size + 4, (uint32_t)lines);
    return 0;
}

bool sst_filter_is_good(const void *raw, size_t len)
{
    if (len < SST_FILTER_TRAILER_SIZE + SST_FILTER_LINE_SIZE) {
        return false;
    }
    const uint8_t *trailer = (const uint8_t *)raw + len - SST_FILTER_TRAILER_SIZE;
    return trailer[0] == SST_FILTER_VERSION && trailer[1] == SST_FILTER_PROBES &&
           (uint64_t)le32_load(trailer + 4) * SST_FILTER_LINE_SIZE == len - SST_FILTER_TRAILER_SIZE;
}

bool sst_filter_may_hold(const void *raw, size_t len, uint64_t hash)
{
    uint32_t lines = (uint32_t)((len - SST_FILTER_TRAILER_SIZE) / SST_FILTER_LINE_SIZE);
    const uint8_t *line =
        (const uint8_t *)raw + (size_t)line_of(hash, lines) * SST_FILTER_LINE_SIZE;
    for (unsigned i = 0; i < SST_FILTER_PROBES; i++) {
        uint32_t bit = bit_of(hash, i);
        if ((line[bit / 8] >> bit % 8 & 1) == 0) {
            return false;
        }
    }
    return true;
}
