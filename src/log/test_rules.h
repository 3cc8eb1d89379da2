/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
#include "log/log.h"
#include <stdbool.h>
#include <stdint.h>

/*
 * Rules that a test may break, to show that the simulator notices (tests/sim). All false, and
 * window 0, in every program. Set before any log is opened.
 */
struct log_test_rules {
    uint32_t window; /* a smaller window than LOG_WINDOW, so that short runs reach its edge; 0 =
                        LOG_WINDOW */
    uint64_t hedge_floor_ns; /* 0 = the default */
    bool no_dead_zone; /* I4: a fence frees the very next slot, and what older epochs left there is
                          skipped */
    bool fences_deletable;      /* I5 */
    bool any_412_is_ours;       /* I3: a taken number counts as stored without a look */
    bool compare_without_salt;  /* I3: epoch and open id are enough */
    bool no_window;             /* I2 */
    bool fresh_bytes_on_resend; /* I1: sealed anew, with a new salt, for each attempt */
    bool ack_alone;             /* I12: a flush waits for its own segment, not for the prefix */
    bool no_gap_check;          /* I8 */
};
extern struct log_test_rules log_test_rules;

static inline uint32_t log_window(void)
{
    return log_test_rules.window > 0 ? log_test_rules.window : LOG_WINDOW;
}
