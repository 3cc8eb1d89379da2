/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Random bytes. rng_secure() is getrandom(2), for ids, salts and challenges. struct rng is a small
 * seeded generator (xoshiro256**) for jitter, sampling and tests.
 *
 *     struct rng g = rng_seeded(seed);
 *     uint64_t which = rng_below(&g, n);
 */
#pragma once
#include <stddef.h>
#include <stdint.h>

void rng_secure(void *dst, size_t len);

/*
 * From now on rng_secure() gives the stream of this seed: for the simulator, where one seed must
 * give one schedule and one volume. Called before there are other threads; there is no way back.
 */
void rng_secure_simulate(uint64_t seed);

struct rng {
    uint64_t s[4];
};

struct rng rng_seeded(uint64_t seed);
uint64_t rng_next(struct rng *g);
/* Uniform in [0, bound); bound > 0. */
uint64_t rng_below(struct rng *g, uint64_t bound);
