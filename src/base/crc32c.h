/* SPDX-License-Identifier: Apache-2.0 */
/*
 * CRC32C (Castagnoli, RFC 3720 appendix B.4): the CPU's instruction where it has one, a table
 * otherwise.
 *
 *     uint32_t crc = crc32c(0, header, 48);
 *     crc = crc32c(crc, ahs, ahs_len);         // continues where the first ended
 */
#pragma once
#include <stddef.h>
#include <stdint.h>

/* The CRC of the bytes so far (seed 0 at the start) followed by these len bytes. */
uint32_t crc32c(uint32_t seed, const void *p, size_t len);
