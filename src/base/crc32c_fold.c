/* SPDX-License-Identifier: Apache-2.0 */
/*
 * FOLDING
 *
 * A CRC is a remainder of polynomials, so 16 bytes may be replaced by what they leave at a place
 * further on: both halves times x to the distance, modulo the polynomial, which is one carry-less
 * multiplication each, and the sum is added to the 16 bytes there. AVX-512 does that for 64 bytes
 * at once; LANES of them keep the multiplier busy while results come in. In the end 64 bytes are
 * left that have the CRC of all, and the CPU's CRC instruction sums those.
 *
 * Bits are mirrored in this CRC: the product of two mirrored factors lies one bit too low, which is
 * made up for in the constants, and the half with the lower address has the higher powers.
 */
#include "base/crc32c_priv.h"

#if defined(__x86_64__)

#include <immintrin.h>

#define STEP 64u
#define LANES 4u
#define FOLD __attribute__((target("avx512f,vpclmulqdq,sse4.2")))

/* For the half at the lower address, and at the higher. */
struct fold_by {
    uint64_t factors[2];
};

static struct fold_by by_step;
static struct fold_by by_lanes;

/* x to the power of n, modulo the polynomial. */
static uint64_t power(uint32_t n)
{
    uint32_t reg = 1u << 31;
    for (; n > 0; n--) {
        reg = reg & 1 ? reg >> 1 ^ CRC32C_POLYNOMIAL : reg >> 1;
    }
    return (uint64_t)reg << 1;
}

static struct fold_by make(uint32_t distance_bytes)
{
    uint32_t bits = 8 * distance_bytes;
    return (struct fold_by){.factors = {power(bits + 32), power(bits - 32)}};
}

bool crc32c_fold_init(void)
{
    by_step = make(STEP);
    by_lanes = make(STEP * LANES);
    __builtin_cpu_init();
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("vpclmulqdq") &&
           __builtin_cpu_supports("sse4.2");
}

FOLD static inline __m512i factors(const struct fold_by *by)
{
    return _mm512_broadcast_i32x4(_mm_loadu_si128((const __m128i *)(const void *)by->factors));
}

FOLD static inline __m512i load(const uint8_t *p)
{
    return _mm512_loadu_si512((const void *)p);
}

/* What x leaves further on, and what is there. */
FOLD static inline __m512i fold(__m512i x, __m512i by, __m512i there)
{
    __m512i low = _mm512_clmulepi64_epi128(x, by, 0x00);
    __m512i high = _mm512_clmulepi64_epi128(x, by, 0x11);
    return _mm512_ternarylogic_epi64(low, high, there, 0x96); /* XOR of three */
}

FOLD uint32_t crc32c_by_folding(uint32_t reg, const uint8_t *p, size_t len)
{
    if (len < STEP * LANES) {
        return crc32c_by_instruction(reg, p, len);
    }
    __m512i a = _mm512_xor_si512(load(p), _mm512_zextsi128_si512(_mm_cvtsi32_si128((int)reg)));
    __m512i b = load(p + STEP);
    __m512i c = load(p + 2 * STEP);
    __m512i d = load(p + 3 * STEP);
    __m512i by = factors(&by_lanes);
    size_t at = STEP * LANES;
    for (; len - at >= STEP * LANES; at += STEP * LANES) {
        a = fold(a, by, load(p + at));
        b = fold(b, by, load(p + at + STEP));
        c = fold(c, by, load(p + at + 2 * STEP));
        d = fold(d, by, load(p + at + 3 * STEP));
    }
    by = factors(&by_step);
    d = fold(fold(fold(a, by, b), by, c), by, d);
    for (; len - at >= STEP; at += STEP) {
        d = fold(d, by, load(p + at));
    }
    uint8_t left[STEP];
    _mm512_storeu_si512(left, d);
    reg = crc32c_by_instruction(0, left, STEP);
    return crc32c_by_instruction(reg, p + at, len - at);
}

#else

bool crc32c_fold_init(void)
{
    return false;
}

uint32_t crc32c_by_folding(uint32_t reg, const uint8_t *p, size_t len)
{
    return crc32c_by_instruction(reg, p, len);
}

#endif
