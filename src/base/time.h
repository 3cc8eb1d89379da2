/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Units of time. The clock of the program is rt_now_ns() (virtual under the simulator); these are
 * for wall-clock stamps in objects and log lines.
 */
#pragma once
#include <stdint.h>

#define NS_PER_US 1000ull
#define NS_PER_MS 1000000ull
#define NS_PER_S 1000000000ull

/* CLOCK_MONOTONIC in nanoseconds. Only rt and tools call this; others call rt_now_ns(). */
uint64_t time_monotonic_ns(void);

/* CLOCK_REALTIME in nanoseconds since 1970. */
uint64_t time_wall_ns(void);
