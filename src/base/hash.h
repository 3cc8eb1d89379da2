/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Hashes for tables in memory; never stored. hash_u64() is a full-avalanche mix of one word,
 * hash_bytes() a 64-bit hash of a string, seeded once per process against crafted keys.
 */
#pragma once
#include <stddef.h>
#include <stdint.h>

static inline uint64_t hash_u64(uint64_t x)
{
    x ^= x >> 32;
    x *= 0xd6e8feb86659fd93ull;
    x ^= x >> 32;
    x *= 0xd6e8feb86659fd93ull;
    x ^= x >> 32;
    return x;
}

static inline uint64_t hash_pair(uint64_t a, uint64_t b)
{
    return hash_u64(hash_u64(a) ^ (b + 0x9e3779b97f4a7c15ull));
}

uint64_t hash_bytes(const void *p, size_t len);

/* A random number of this process, for structures that must not be predictable from outside. */
uint64_t hash_seed(void);

/* For the simulator: the same seed gives the same tables. Before the first table is filled. */
void hash_seed_set(uint64_t seed);
