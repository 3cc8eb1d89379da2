/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Runs a scenario again and again: each time another allocation of those between drive_arm() and
 * drive_disarm() fails.
 *
 *     alloc-sweep                        # every N, alone and in bursts
 *     alloc-sweep --seeds 50             # under so many schedules
 *     alloc-sweep 1234 [burst [seed]]    # that N
 */
#pragma once
#include "fail.h"
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

struct drive {
    uint64_t first; /* N */
    uint64_t burst;
    uint64_t seed;
    uint64_t allocations; /* of the last run */
};
extern struct drive drive;

#define CHECK(expr)                                                                                \
    do {                                                                                           \
        if (!(expr)) {                                                                             \
            (void)fail_disarm();                                                                   \
            fprintf(stderr, "%s:%d: N=%" PRIu64 " burst=%" PRIu64 " seed=%" PRIu64 ": %s\n",       \
                    __FILE__, __LINE__, drive.first, drive.burst, drive.seed, #expr);              \
            abort();                                                                               \
        }                                                                                          \
    } while (0)

void drive_arm(void);
/* As if so many had been made already. */
void drive_arm_after(uint64_t made);
void drive_disarm(void);
/* The scenario is a fiber of the simulator. */
int drive_main(int argc, char **argv, void (*scenario)(void *arg));
