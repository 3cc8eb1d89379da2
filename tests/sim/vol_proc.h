/* SPDX-License-Identifier: Apache-2.0 */
/* A simulated process, for the files that it is made of. */
#pragma once
#include "vol_world.h"

struct proc {
    struct world *w;
    unsigned id;
    unsigned life; /* each opening is one: what the model goes by */
    bool last;     /* no faults; comes after all others */
    struct obj_store *store;
    struct vol *v;
    struct vol_file *f;
    unsigned workers;
    bool stop;
    bool pause;
    unsigned paused;
    unsigned at_pages[WORKERS]; /* a worker's part, or one of its pages, is held */
    bool scrubs;
    uint64_t scrub_until_ns; /* then, and when others have stopped, it gives up */
};

bool proc_chance(unsigned percent);
bool proc_is_current(const struct proc *p);
/* An answer that only one who was replaced may get. */
void proc_check(struct proc *p, const char *what, int r);
void sector_fill(uint8_t *at, uint64_t value);
/* A file with a record, by which the next opening finds what a crash leaves of it. */
MUST int proc_hold_make(struct proc *p, uint64_t size, uint64_t *ret_inode,
                        struct vol_file **ret_hold) WAITS;
void proc_hold_delete(struct proc *p, uint64_t inode) WAITS;
/* As range locks do, for the whole part of a worker. */
void proc_part_take(struct proc *p, unsigned index) WAITS;
void proc_part_release(struct proc *p, unsigned index);

/* vol_scrubber.c: until the process stops. */
void proc_scrubber(void *arg) WAITS;
