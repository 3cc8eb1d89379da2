/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who guesses secrets is slowed down: by the address he comes from, and by address and name, so
 * that one initiator with a wrong secret does not stand in the way of others behind the same
 * address. Pure, in fixed memory: the caller tells the time.
 *
 *     if (!iscsi_guard_enter(&g, who, now, &wait_ns)) { refuse for now }
 *     ... wait wait_ns, try ...
 *     if (right) { iscsi_guard_pardon(&g, who); }
 *
 * Each attempt costs, before it is known how it ends, so that attempts at the same time count as
 * those in turn; the price of a good one is given back. Costs run off with time. When the table is
 * full, whoever has the least to wait is forgotten.
 */
#pragma once
#include "base/attr.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define ISCSI_GUARD_SETS 256u
#define ISCSI_GUARD_WAYS 8u
#define ISCSI_GUARD_WAIT_MAX_NS 5000000000ull

struct iscsi_guard_slot {
    uint64_t key;     /* 0: free */
    uint64_t paid_ns; /* when all is paid for */
};

struct iscsi_guard {
    struct iscsi_guard_slot slots[ISCSI_GUARD_SETS][ISCSI_GUARD_WAYS];
};

/* Whom an attempt is charged to. */
struct iscsi_guard_who {
    uint64_t address;
    uint64_t pair; /* address and name */
};
/* address: the bytes that name the peer or its network. */
struct iscsi_guard_who iscsi_guard_who(const void *address, size_t len, const char *name);

/* True: it may be tried in *ret_wait_ns. False: so much is waiting that it may not, and it costs
 * nothing. */
MUST bool iscsi_guard_enter(struct iscsi_guard *g, const struct iscsi_guard_who *who,
                            uint64_t now_ns, uint64_t *ret_wait_ns);
void iscsi_guard_pardon(struct iscsi_guard *g, const struct iscsi_guard_who *who);
