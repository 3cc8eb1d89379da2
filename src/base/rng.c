/* SPDX-License-Identifier: Apache-2.0 */
#include "base/rng.h"
#include "base/assert.h"
#include "base/endian.h"
#include <errno.h>
#include <stdbool.h>
#include <sys/random.h>

/* Set once, before any other thread exists, and by the simulator alone. */
static bool simulated;
static struct rng simulated_stream;

void rng_secure_simulate(uint64_t seed)
{
    simulated = true;
    simulated_stream = rng_seeded(seed);
}

static void fill_simulated(uint8_t *dst, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        dst[i] = (uint8_t)(rng_next(&simulated_stream) >> 56);
    }
}

void rng_secure(void *dst, size_t len)
{
    uint8_t *at = dst;
    if (unlikely(simulated)) {
        fill_simulated(at, len);
        return;
    }
    while (len > 0) {
        ssize_t n = getrandom(at, len, 0);
        if (n < 0) {
            /* With the flags 0 it cannot fail on any kernel that runs us. */
            ASSERT(errno == EINTR);
            continue;
        }
        at += n;
        len -= (size_t)n;
    }
}

/* splitmix64: spreads a seed of few set bits over the whole state. */
static uint64_t spread(uint64_t *x)
{
    *x += 0x9e3779b97f4a7c15ull;
    uint64_t z = *x;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ z >> 27) * 0x94d049bb133111ebull;
    return z ^ z >> 31;
}

struct rng rng_seeded(uint64_t seed)
{
    struct rng g;
    for (int i = 0; i < 4; i++) {
        g.s[i] = spread(&seed);
    }
    return g;
}

static uint64_t rotate_left(uint64_t x, int by)
{
    return x << by | x >> (64 - by);
}

uint64_t rng_next(struct rng *g)
{
    uint64_t *s = g->s;
    uint64_t result = rotate_left(s[1] * 5, 7) * 9;
    uint64_t t = s[1] << 17;
    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= t;
    s[3] = rotate_left(s[3], 45);
    return result;
}

uint64_t rng_below(struct rng *g, uint64_t bound)
{
    ASSERT(bound > 0);
    /* Draws below 2^64 mod bound are thrown away, so that every remainder is as likely. */
    uint64_t reject = -bound % bound;
    uint64_t x;
    do {
        x = rng_next(g);
    } while (x < reject);
    return x % bound;
}
