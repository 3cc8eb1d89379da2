/* SPDX-License-Identifier: Apache-2.0 */
/* Allocations of the program (not of libraries) that fail on demand: the linker sends them here. */
#pragma once
#include <stdbool.h>
#include <stdint.h>

/* From now on the first-th allocation and the burst - 1 after it fail. */
void fail_arm(uint64_t first, uint64_t burst);
/* No more; how many there were. */
uint64_t fail_disarm(void);
/* Between the two, those that are made are no part of the count: of a test's own doing. */
void fail_pause(void);
void fail_resume(void);
#define FAIL_NOT(expr)                                                                             \
    do {                                                                                           \
        fail_pause();                                                                              \
        expr;                                                                                      \
        fail_resume();                                                                             \
    } while (0)
/* True when the one that was to fail has come. */
bool fail_happened(void);
