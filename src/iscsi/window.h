/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The CmdSN window (RFC 7143 §4.2.2.1). Pure arithmetic.
 *
 * Invariants: max - exp + 1 is at most size, so that at most `size` commands are accepted and not
 * yet answered: the window moves on when a command is answered, never when one arrives. Neither exp
 * nor max ever goes back.
 */
#pragma once
#include "base/attr.h"
#include <stdbool.h>
#include <stdint.h>

#define ISCSI_WINDOW_MAX 128u

struct iscsi_window {
    uint32_t exp; /* ExpCmdSN */
    uint32_t max; /* MaxCmdSN */
};

enum iscsi_window_verdict {
    ISCSI_WINDOW_NOW,  /* its turn */
    ISCSI_WINDOW_HOLD, /* in the window, but an earlier one is missing */
    ISCSI_WINDOW_DROP, /* outside: ignored without an answer */
};

/* Serial number arithmetic (RFC 1982) on 32 bits. */
static inline bool iscsi_sn_before(uint32_t a, uint32_t b)
{
    return (int32_t)(a - b) < 0;
}

static inline void iscsi_window_open(struct iscsi_window *w, uint32_t first_cmdsn, uint32_t size)
{
    w->exp = first_cmdsn;
    w->max = first_cmdsn + size - 1;
}

static inline enum iscsi_window_verdict iscsi_window_judge(const struct iscsi_window *w,
                                                           uint32_t cmdsn)
{
    if (cmdsn == w->exp && !iscsi_sn_before(w->max, cmdsn)) {
        return ISCSI_WINDOW_NOW;
    }
    if (iscsi_sn_before(cmdsn, w->exp) || iscsi_sn_before(w->max, cmdsn)) {
        return ISCSI_WINDOW_DROP;
    }
    return ISCSI_WINDOW_HOLD;
}

/* The command whose turn it was is taken. */
static inline void iscsi_window_take(struct iscsi_window *w)
{
    w->exp++;
}

/* A command is answered: there is room for one more. */
static inline void iscsi_window_give(struct iscsi_window *w)
{
    w->max++;
}
