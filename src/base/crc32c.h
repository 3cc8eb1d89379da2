/* SPDX-License-Identifier: Apache-2.0 */
/*
 * CRC32C (Castagnoli, RFC 3720 appendix B.4): by carry-less multiplication where AVX-512 has it
 * (crc32c_fold.c), else by the CPU's instruction where it has one, else by a table.
 *
 *     uint32_t crc = crc32c(0, header, 48);
 *     crc = crc32c(crc, ahs, ahs_len);         // continues where the first ended
 */
#pragma once
#include <stddef.h>
#include <stdint.h>

/* The CRC of the bytes so far (seed 0 at the start) followed by these len bytes. */
uint32_t crc32c(uint32_t seed, const void *p, size_t len);

#define CRC32C_BLOCK_BYTES 4096u

/* The CRC of the bytes so far followed by a block of CRC32C_BLOCK_BYTES bytes, whose own CRC (from
 * seed 0) is of_block: without the bytes. */
uint32_t crc32c_join_block(uint32_t crc, uint32_t of_block);
