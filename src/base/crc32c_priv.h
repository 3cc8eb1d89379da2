/* SPDX-License-Identifier: Apache-2.0 */
/* The implementations behind crc32c(), apart, so that the tests can compare them. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CRC32C_POLYNOMIAL 0x82f63b78u /* 0x1EDC6F41, bits reversed */

/* All take and give the inverted register, not the finished CRC. */
uint32_t crc32c_by_table(uint32_t reg, const uint8_t *p, size_t len);

/* Only where crc32c_has_instruction() is true. */
uint32_t crc32c_by_instruction(uint32_t reg, const uint8_t *p, size_t len);
bool crc32c_has_instruction(void);

/* Only where crc32c_has_folding() is true. */
uint32_t crc32c_by_folding(uint32_t reg, const uint8_t *p, size_t len);
bool crc32c_has_folding(void);
/* Before all else, once: whether the CPU can. */
bool crc32c_fold_init(void);
