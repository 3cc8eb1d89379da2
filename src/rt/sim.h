/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The simulator's own controls. Under sim every fiber belongs to a simulated process, which it
 * inherits from the fiber that spawned it. A process can be killed (none of its fibers ever runs
 * again; their memory is lost with the real process, so a simulation forks per seed), or stalled
 * for a while.
 *
 *     int r = rt_sim_process(1, "server", server_main, arg);       // starts a fiber in process 1
 *     (void)rt_sleep_ms(rt_random() % 500);
 *     rt_sim_kill(1);                                              // kill -9
 *
 * Every wait of a fiber is a scheduling point; the next fiber is drawn by the seed among the
 * runnable ones.
 */
#pragma once
#include "base/attr.h"
#include <stdint.h>

/* Process 0 is the world: the fiber that rt_run() started, and the store. */
MUST int rt_sim_process(unsigned proc, const char *name, void (*fn)(void *arg), void *arg);
void rt_sim_kill(unsigned proc);
/* The fibers of proc do not run before rt_now_ns() reaches until_ns; their timers expire late. */
void rt_sim_stall(unsigned proc, uint64_t until_ns);
unsigned rt_sim_self(void);
/*
 * Starts a fiber in process 0 from any process: what happens outside of the process, such as a
 * request on its way to a store, goes on after the process was killed.
 */
MUST int rt_sim_outside(const char *name, void (*fn)(void *arg), void *arg);
/* A running hash over all scheduling decisions: equal seeds give equal hashes. */
uint64_t rt_sim_trace_hash(void);
