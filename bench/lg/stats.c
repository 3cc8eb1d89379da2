/* SPDX-License-Identifier: Apache-2.0 */
/* Latencies in buckets: 256 for each power of two, so that a quantile is right to 0.4 %. */
#include "lg.h"

#define SUB_BITS 8
#define SUB (1u << SUB_BITS)

static unsigned bucket_of(uint64_t ns)
{
    if (ns < SUB) {
        return (unsigned)ns;
    }
    unsigned shift = 63u - (unsigned)__builtin_clzll(ns) - SUB_BITS;
    unsigned b = (shift + 1) * SUB + (unsigned)(ns >> shift) - SUB;
    return MIN_OF(b, LG_BUCKETS - 1u);
}

/* The middle of a bucket. */
static double bucket_ns(unsigned b)
{
    if (b < SUB) {
        return b;
    }
    uint64_t width = (uint64_t)1 << (b / SUB - 1);
    return (double)((SUB + b % SUB) * width) + (double)width / 2;
}

void lg_stats_add(struct lg_stats *s, uint64_t ns)
{
    s->ops++;
    s->buckets[bucket_of(ns)]++;
}

void lg_stats_merge(struct lg_stats *into, const struct lg_stats *from)
{
    into->ops += from->ops;
    into->bytes += from->bytes;
    for (unsigned i = 0; i < LG_BUCKETS; i++) {
        into->buckets[i] += from->buckets[i];
    }
}

double lg_stats_quantile_us(const struct lg_stats *s, double q)
{
    uint64_t below = 0;
    for (unsigned i = 0; i < LG_BUCKETS; i++) {
        below += s->buckets[i];
        if (below > 0 && (double)below >= q * (double)s->ops) {
            return bucket_ns(i) / 1000;
        }
    }
    return 0;
}
