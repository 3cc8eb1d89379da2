/* SPDX-License-Identifier: Apache-2.0 */
/*
 * THREE LANES
 *
 * The CPU's CRC instruction takes one cycle but gives its result after three. So three neighbouring
 * runs of `lane` bytes are summed side by side and joined afterwards. Joining needs the register as
 * it would be after `lane` zero bytes more; CRC is linear, so that is the XOR of four table
 * entries, one for each byte of the register. There are two lane lengths: three long lanes are
 * nearly a block of 4 KiB, three short ones nearly a sector of 512 bytes.
 *
 * Memory that is not in the caches comes in late when it is asked for at three places, none of
 * which looks like a long run to the CPU: what is read soon is asked for ahead, in order.
 *
 * The tables are made before main() starts and never change after it.
 */
#include "base/crc32c.h"
#include "base/attr.h"
#include "base/crc32c_priv.h"
#include "base/endian.h"

#if defined(__aarch64__)
#include <sys/auxv.h>
#endif

#define LANE_LONG 1360
#define LANE_SHORT 168
#define FOLDING_MIN 512
#define AHEAD 2048 /* bytes behind the three lanes */

struct skip_table {
    uint32_t of_byte[4][256];
};

static uint32_t slices[8][256];
static struct skip_table skip_long;
static struct skip_table skip_short;
static struct skip_table skip_block;
static bool has_instruction;
static bool has_folding;

uint32_t crc32c_by_table(uint32_t reg, const uint8_t *p, size_t len)
{
    for (; len >= 8; len -= 8, p += 8) {
        uint64_t x = le64_load(p) ^ reg;
        reg = 0;
        for (int i = 0; i < 8; i++) {
            reg ^= slices[7 - i][x >> (8 * i) & 0xff];
        }
    }
    for (; len > 0; len--, p++) {
        reg = reg >> 8 ^ slices[0][(reg ^ *p) & 0xff];
    }
    return reg;
}

#if defined(__x86_64__)

#define INSTRUCTION __attribute__((target("sse4.2")))
#define STEP_8(reg, v) ((uint32_t)__builtin_ia32_crc32di((reg), (v)))
#define STEP_1(reg, v) __builtin_ia32_crc32qi((reg), (v))

static bool detect(void)
{
    __builtin_cpu_init();
    return __builtin_cpu_supports("sse4.2");
}

#elif defined(__aarch64__)

#define INSTRUCTION

static inline uint32_t STEP_8(uint32_t reg, uint64_t v)
{
    __asm__(".arch_extension crc\n\tcrc32cx %w0, %w0, %x1" : "+r"(reg) : "r"(v));
    return reg;
}

static inline uint32_t STEP_1(uint32_t reg, uint8_t v)
{
    __asm__(".arch_extension crc\n\tcrc32cb %w0, %w0, %w1" : "+r"(reg) : "r"((uint32_t)v));
    return reg;
}

static bool detect(void)
{
    return (getauxval(AT_HWCAP) & 1ul << 7) != 0; /* HWCAP_CRC32 */
}

#endif

static uint32_t skip(const struct skip_table *t, uint32_t reg)
{
    return t->of_byte[0][reg & 0xff] ^ t->of_byte[1][reg >> 8 & 0xff] ^
           t->of_byte[2][reg >> 16 & 0xff] ^ t->of_byte[3][reg >> 24];
}

#if defined(INSTRUCTION)

INSTRUCTION static uint32_t lanes(uint32_t reg, const uint8_t *p, size_t lane,
                                  const struct skip_table *t)
{
    uint32_t second = 0;
    uint32_t third = 0;
    for (size_t i = 0; i < lane; i += 8) {
        reg = STEP_8(reg, le64_load(p + i));
        second = STEP_8(second, le64_load(p + lane + i));
        third = STEP_8(third, le64_load(p + 2 * lane + i));
        __builtin_prefetch(p + 3 * (lane + i) + AHEAD);
    }
    reg = skip(t, reg) ^ second;
    return skip(t, reg) ^ third;
}

INSTRUCTION uint32_t crc32c_by_instruction(uint32_t reg, const uint8_t *p, size_t len)
{
    const size_t step_long = (size_t)3 * LANE_LONG;
    const size_t step_short = (size_t)3 * LANE_SHORT;
    for (; len >= step_long; len -= step_long, p += step_long) {
        reg = lanes(reg, p, LANE_LONG, &skip_long);
    }
    for (; len >= step_short; len -= step_short, p += step_short) {
        reg = lanes(reg, p, LANE_SHORT, &skip_short);
    }
    for (; len >= 8; len -= 8, p += 8) {
        reg = STEP_8(reg, le64_load(p));
    }
    for (; len > 0; len--, p++) {
        reg = STEP_1(reg, *p);
    }
    return reg;
}

#else

static bool detect(void)
{
    return false;
}

uint32_t crc32c_by_instruction(uint32_t reg, const uint8_t *p, size_t len)
{
    return crc32c_by_table(reg, p, len);
}

#endif

static void make_slices(void)
{
    for (uint32_t i = 0; i < 256; i++) {
        uint32_t reg = i;
        for (int bit = 0; bit < 8; bit++) {
            reg = reg & 1 ? reg >> 1 ^ CRC32C_POLYNOMIAL : reg >> 1;
        }
        slices[0][i] = reg;
    }
    for (int s = 1; s < 8; s++) {
        for (int i = 0; i < 256; i++) {
            uint32_t reg = slices[s - 1][i];
            slices[s][i] = reg >> 8 ^ slices[0][reg & 0xff];
        }
    }
}

static void make_skip(struct skip_table *t, size_t lane)
{
    static const uint8_t zeros[CRC32C_BLOCK_BYTES];
    for (int byte = 0; byte < 4; byte++) {
        for (uint32_t bit = 1; bit < 256; bit <<= 1) {
            /* An entry of several bits is the XOR of those of its bits. */
            uint32_t alone = crc32c_by_table(bit << (8 * byte), zeros, lane);
            for (uint32_t low = 0; low < bit; low++) {
                t->of_byte[byte][bit + low] = t->of_byte[byte][low] ^ alone;
            }
        }
    }
}

__attribute__((constructor)) static void make_tables(void)
{
    make_slices();
    make_skip(&skip_long, LANE_LONG);
    make_skip(&skip_short, LANE_SHORT);
    make_skip(&skip_block, CRC32C_BLOCK_BYTES);
    has_instruction = detect();
    has_folding = crc32c_fold_init();
}

bool crc32c_has_instruction(void)
{
    return has_instruction;
}

bool crc32c_has_folding(void)
{
    return has_folding;
}

uint32_t crc32c(uint32_t seed, const void *p, size_t len)
{
    if (len >= FOLDING_MIN && has_folding) {
        return ~crc32c_by_folding(~seed, p, len);
    }
    return likely(has_instruction) ? ~crc32c_by_instruction(~seed, p, len)
                                   : ~crc32c_by_table(~seed, p, len);
}

uint32_t crc32c_join_block(uint32_t crc, uint32_t of_block)
{
    return skip(&skip_block, crc) ^ of_block;
}
