/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Integers with a byte order. Each is a struct of one member, so that a missing swap does not
 * compile; and plain loads and stores on unaligned bytes.
 *
 *     uint64_t lba = be64_load(cdb + 2);
 *     le32_store(out, crc);
 */
#pragma once
#include <stdint.h>
#include <string.h>

#define ENDIAN_TYPE(order, bits)                                                                   \
    struct order##bits {                                                                           \
        uint##bits##_t raw;                                                                        \
    };                                                                                             \
    static inline uint##bits##_t order##bits##_get(struct order##bits v)                           \
    {                                                                                              \
        return ENDIAN_##order(bits, v.raw);                                                        \
    }                                                                                              \
    static inline struct order##bits order##bits##_of(uint##bits##_t v)                            \
    {                                                                                              \
        return (struct order##bits){ENDIAN_##order(bits, v)};                                      \
    }                                                                                              \
    static inline uint##bits##_t order##bits##_load(const void *p)                                 \
    {                                                                                              \
        uint##bits##_t v;                                                                          \
        memcpy(&v, p, sizeof v);                                                                   \
        return ENDIAN_##order(bits, v);                                                            \
    }                                                                                              \
    static inline void order##bits##_store(void *p, uint##bits##_t v)                              \
    {                                                                                              \
        v = ENDIAN_##order(bits, v);                                                               \
        memcpy(p, &v, sizeof v);                                                                   \
    }

#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define ENDIAN_le(bits, v) (v)
#define ENDIAN_be(bits, v) __builtin_bswap##bits(v)
#else
#define ENDIAN_le(bits, v) __builtin_bswap##bits(v)
#define ENDIAN_be(bits, v) (v)
#endif

ENDIAN_TYPE(le, 16)
ENDIAN_TYPE(le, 32)
ENDIAN_TYPE(le, 64)
ENDIAN_TYPE(be, 16)
ENDIAN_TYPE(be, 32)
ENDIAN_TYPE(be, 64)

static inline uint32_t be24_load(const void *p)
{
    const uint8_t *b = p;
    return (uint32_t)b[0] << 16 | (uint32_t)b[1] << 8 | b[2];
}

static inline void be24_store(void *p, uint32_t v)
{
    uint8_t *b = p;
    b[0] = (uint8_t)(v >> 16);
    b[1] = (uint8_t)(v >> 8);
    b[2] = (uint8_t)v;
}
