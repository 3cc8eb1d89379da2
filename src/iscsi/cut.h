/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How read data are cut into Data-In PDUs (RFC 7143 §11.7): sequences of at most MaxBurstLength, of
 * PDUs as long as the initiator takes, the last of each shorter. Pure: what was sent under a DataSN
 * can be told again, without having been written down.
 *
 *     struct iscsi_cut cut = {.end = total, .most = 8192, .burst = 262144};
 *     for (uint32_t sn = cut.first; sn != iscsi_cut_end(&cut); sn++) {
 *         struct iscsi_piece p = iscsi_cut_piece(&cut, sn);      // p.at, p.len, p.final
 *     }
 */
#pragma once
#include "base/assert.h"
#include "base/attr.h"
#include <stdbool.h>
#include <stdint.h>

struct iscsi_cut {
    uint32_t first; /* the DataSN of the first PDU, */
    uint64_t at;    /* and where it begins */
    uint64_t end;   /* of the data */
    uint32_t most;  /* bytes in a PDU; not 0 */
    uint32_t burst; /* and in a sequence; not 0 */
};

struct iscsi_piece {
    uint64_t at;
    uint32_t len;
    bool final; /* of its sequence */
};

static inline uint32_t iscsi_cut_per_burst(const struct iscsi_cut *c)
{
    return c->burst / c->most + (c->burst % c->most != 0);
}

/* The DataSN after the last one. */
static inline uint32_t iscsi_cut_end(const struct iscsi_cut *c)
{
    uint64_t bytes = c->end - c->at;
    uint64_t rest = bytes % c->burst;
    uint64_t count = bytes / c->burst * iscsi_cut_per_burst(c) + rest / c->most;
    return c->first + (uint32_t)count + (rest % c->most != 0);
}

static inline struct iscsi_piece iscsi_cut_piece(const struct iscsi_cut *c, uint32_t sn)
{
    uint32_t index = sn - c->first;
    uint32_t per_burst = iscsi_cut_per_burst(c);
    uint64_t burst_at = c->at + (uint64_t)(index / per_burst) * c->burst;
    uint64_t burst_end = MIN_OF(c->end, burst_at + c->burst);
    struct iscsi_piece p = {.at = burst_at + (uint64_t)(index % per_burst) * c->most};
    ASSERT(p.at < burst_end);
    p.len = (uint32_t)MIN_OF(burst_end - p.at, (uint64_t)c->most);
    p.final = p.at + p.len == burst_end;
    return p;
}
