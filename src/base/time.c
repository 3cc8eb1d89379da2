/* SPDX-License-Identifier: Apache-2.0 */
#include "base/time.h"
#include "base/assert.h"
#include <time.h>

static uint64_t read_clock(clockid_t clock)
{
    struct timespec ts;
    int r = clock_gettime(clock, &ts);
    ASSERT(r == 0);
    return (uint64_t)ts.tv_sec * NS_PER_S + (uint64_t)ts.tv_nsec;
}

uint64_t time_monotonic_ns(void)
{
    return read_clock(CLOCK_MONOTONIC);
}

uint64_t time_wall_ns(void)
{
    return read_clock(CLOCK_REALTIME);
}
