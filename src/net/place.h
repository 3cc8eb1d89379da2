/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where busy streams live: beside those who talk to them. Private to net; the face is
 * net_place_due() and its neighbours in net.h.
 *
 * The kernel does what a packet costs on one CPU: that of the sender on this machine, or the one a
 * card's queue interrupts. A core that runs on another one fetches every byte from there, and
 * waking each other costs an interrupt. So a busy stream goes to the core that runs where its
 * packets come in, but only so that the cores stay as evenly used as they were:
 *
 * P1. It goes to a core that gets at most one more than its share of the busy streams so, and does
 * not leave its own one without any.
 * P2. Or it changes places with one that wants the opposite way.
 *
 * For P2 a stream puts its wish down and stays. Who comes later and wants the opposite takes up the
 * wish, goes, and so grants the way to the first one, which goes when it asks again. Wishes and
 * grants are numbers: it does not matter who of those with the same wish gets the grant.
 *
 * INVARIANT: wished[a][b] + granted[a][b] = the streams at a that have wish = b.
 */
#pragma once
#include "rt/rt.h"
#include <stdbool.h>
#include <stdint.h>

/* The cores, and who wants to go where. */
struct net_places {
    unsigned cores;
    uint16_t busy[RT_CORES_MAX]; /* streams */
    uint16_t wished[RT_CORES_MAX][RT_CORES_MAX];
    uint16_t granted[RT_CORES_MAX][RT_CORES_MAX];
};

/* One stream's part. All zeros: not busy yet. */
struct net_place {
    uint32_t calls;
    uint32_t looks;   /* in a row that saw the same */
    uint32_t crowded; /* looks in a row at which another core was on the same CPU */
    unsigned seen;    /* the core of the last look */
    uint64_t not_before_ns;
    bool busy;   /* counted at `core` */
    bool wishes; /* for `wish`; only when busy */
    unsigned core;
    unsigned wish;
};

struct net_stream;
/* The core where the stream's packets come in, its own when that is not known. Tests put in one
 * that says what they like. */
extern unsigned (*net_place_best)(const struct net_stream *s);

/* A busy stream at core `at` would rather be at `best`: where it is to be now; it is counted there.
 * Pure, but for *ps and *p. */
unsigned net_place_choose(struct net_places *ps, struct net_place *p, unsigned at, unsigned best);
/* It is not busy, or not there, any more. */
void net_place_forget(struct net_places *ps, struct net_place *p);
