/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hash_bytes() folds 16 bytes a step with one 64x64 -> 128 bit multiplication. Both factors are
 * masked with secrets of this process, so that a peer cannot choose names that fall into one chain.
 */
#include "base/hash.h"
#include "base/assert.h"
#include "base/endian.h"
#include "base/rng.h"

static uint64_t secret[3];

static void secret_from(struct rng *g)
{
    for (size_t i = 0; i < ARRAY_LEN(secret); i++) {
        secret[i] = rng_next(g) | 1;
    }
}

void hash_seed_set(uint64_t seed)
{
    struct rng g = rng_seeded(seed);
    secret_from(&g);
}

uint64_t hash_seed(void)
{
    return secret[0];
}

/* Runs before main(), so that no table is ever filled under another seed. */
__attribute__((constructor)) static void secret_init(void)
{
    uint64_t seed;
    rng_secure(&seed, sizeof seed);
    hash_seed_set(seed);
}

static uint64_t fold(uint64_t a, uint64_t b)
{
    unsigned __int128 product = (unsigned __int128)a * b;
    return (uint64_t)product ^ (uint64_t)(product >> 64);
}

uint64_t hash_bytes(const void *p, size_t len)
{
    const uint8_t *at = p;
    uint64_t h = secret[0] ^ len;
    size_t left = len;
    for (; left > 16; left -= 16, at += 16) {
        h = fold(le64_load(at) ^ secret[1], le64_load(at + 8) ^ h);
    }
    uint8_t tail[16] = {0};
    if (left > 0) {
        memcpy(tail, at, left);
    }
    h = fold(le64_load(tail) ^ secret[1], le64_load(tail + 8) ^ h);
    return fold(h ^ secret[2], len ^ secret[1]);
}
