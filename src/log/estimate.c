/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How long a PUT takes. A PUT's time is taken as round trip + length / rate. Small segments tell
 * the round trip. The rate is that of the store, not of one PUT: bytes stored over the time in
 * which at least one PUT was under way, counted only while large segments are among them, since
 * small ones do not fill the line.
 */
#include "base/time.h"
#include "log/log_priv.h"
#include <string.h>

#define SMALL_BYTES (256u << 10)
#define LARGE_BYTES (1u << 20)
#define RATE_WINDOW_NS (100 * NS_PER_MS)
#define RATE_WINDOW_BYTES (4u << 20)
#define SAMPLES_MIN 32
#define HEDGE_FLOOR_NS (200 * NS_PER_MS)
#define HEDGE_FACTOR 3

void log_estimate_start(struct log_estimate *e, uint64_t now_ns)
{
    if (e->in_flight++ == 0) {
        e->busy_since_ns = now_ns;
    }
}

static uint64_t smooth(uint64_t old, uint64_t sample, unsigned shift)
{
    return old == 0 ? sample : old - (old >> shift) + (sample >> shift);
}

/* The second largest of the ring: with 128 samples that is the 99th percentile. */
static uint64_t second_largest_us(const uint32_t *v, uint32_t count)
{
    uint32_t first = 0;
    uint32_t second = 0;
    for (uint32_t i = 0; i < count; i++) {
        if (v[i] >= first) {
            second = first;
            first = v[i];
        } else if (v[i] > second) {
            second = v[i];
        }
    }
    return second;
}

static uint64_t transfer_ns(const struct log_estimate *e, uint64_t len)
{
    return e->rate > 0 ? len * 1000 / (e->rate / 1000000 + 1) : 0;
}

static void note_rate(struct log_estimate *e, uint64_t now_ns, uint64_t len)
{
    e->busy_ns += now_ns - e->busy_since_ns;
    e->busy_since_ns = now_ns;
    e->busy_bytes += len;
    if (len < LARGE_BYTES && e->busy_bytes < LARGE_BYTES) {
        e->busy_ns = 0; /* only small ones so far: says nothing */
        e->busy_bytes = 0;
        return;
    }
    if (e->busy_bytes >= RATE_WINDOW_BYTES || e->busy_ns >= RATE_WINDOW_NS) {
        uint64_t us = e->busy_ns / NS_PER_US + 1;
        e->rate = smooth(e->rate, e->busy_bytes * 1000000 / us, 2);
        e->busy_ns = 0;
        e->busy_bytes = 0;
    }
}

void log_estimate_end(struct log_estimate *e, uint64_t now_ns, uint64_t took_ns, uint64_t len)
{
    if (len <= SMALL_BYTES) {
        e->round_trip_ns = smooth(e->round_trip_ns, took_ns, 3);
    }
    uint64_t expected = transfer_ns(e, len);
    uint64_t excess_us = took_ns > expected ? (took_ns - expected) / NS_PER_US : 0;
    e->excess_us[e->excess_count % LOG_LATENCIES] = (uint32_t)MIN_OF(excess_us, UINT32_MAX);
    e->excess_count++;
    if (e->excess_count >= SAMPLES_MIN && e->excess_count % 16 == 0) {
        uint32_t count = MIN_OF(e->excess_count, (uint32_t)LOG_LATENCIES);
        e->p99_ns = second_largest_us(e->excess_us, count) * NS_PER_US;
    }
    note_rate(e, now_ns, len);
    e->in_flight--;
}

void log_estimate_failed(struct log_estimate *e)
{
    e->busy_ns = 0;
    e->busy_bytes = 0;
    e->in_flight--;
}

uint64_t log_estimate_hedge_ns(const struct log_estimate *e, uint64_t len)
{
    if (e->excess_count < SAMPLES_MIN) {
        return RT_FOREVER;
    }
    uint64_t floor =
        log_test_rules.hedge_floor_ns > 0 ? log_test_rules.hedge_floor_ns : HEDGE_FLOOR_NS;
    uint64_t ns = HEDGE_FACTOR * (e->p99_ns + transfer_ns(e, len));
    return MAX_OF(ns, floor);
}
