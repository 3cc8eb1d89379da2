/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The simulated world of the volume: one store, processes that open the same volume, use it, take
 * it over from each other, stall and die; requests that get lost, arrive late or twice. Everything
 * from vol down is the real code.
 *
 * A run is one seed. What must never happen is reported with the invariant's number
 * (docs/ARCHITECTURE.md) and ends the process with VOL_VIOLATION.
 */
#pragma once
#include "base/rng.h"
#include "base/vec.h"
#include "obj/obj_layers.h"
#include "rt/rt.h"
#include "rt/sim.h"
#include "vol/vol.h"
#include <stdbool.h>
#include <stdint.h>

#define VOL_VIOLATION 3
#define SECTOR_BYTES 512u
#define WORKERS 2u
#define WORKER_PAGES 96u
#define DEVICE_BYTES ((uint64_t)WORKERS * WORKER_PAGES * VOL_PAGE_BYTES)
#define SECTORS (DEVICE_BYTES / SECTOR_BYTES)
#define META (SECTORS) /* the first of the places of metadata, one a worker */
#define PLACES (SECTORS + WORKERS)
#define SLOTS_MAX 65536u
#define NEVER UINT64_MAX

/*
 * A change. What it wrote in a place has its number + 1 and the place as value, or is 0; what it
 * copied keeps the value it has. Times are of the model's own clock.
 */
struct model_op {
    uint64_t began;
    uint64_t ended; /* NEVER: not answered */
    unsigned life;
    bool whole; /* survives whole or not at all (I12) */
    bool lost;
};

struct model_entry {
    uint32_t op;
    uint64_t value;
};

static inline uint64_t model_value_of(uint32_t op, uint64_t place)
{
    return place << 32 | (op + 1);
}

/* The number + 1 of the change that made the value. */
static inline uint32_t model_value_op(uint64_t value)
{
    return (uint32_t)value;
}

/* All values that a place may have now, oldest first. */
struct model_place {
    VEC(struct model_entry) at;
};

struct model {
    struct model_place *places; /* sectors, then metadata */
    VEC(struct model_op) ops;
    uint64_t clock;
    uint64_t durable; /* what ended before this time was covered by an acknowledged flush */
    uint64_t size;    /* of the device */
};

struct slot_seen {
    bool ever;
    bool fence;
    bool removed;
};

#define SIM_DISKS 2u
#define SIM_DISK_BYTES CACHE_DISK_BYTES_MIN
struct sim_disk;

struct world {
    uint64_t seed;
    struct sim_disk *disks[SIM_DISKS];
    struct rng g;
    struct obj_store *mem;
    struct obj_store *spy;
    struct uuid uuid;
    struct crypt_keys *keys; /* NULL: a plain volume, as every third seed has it */
    uint64_t inode;
    struct model model;
    struct slot_seen slots[SLOTS_MAX];
    uint64_t replay_max;
    uint64_t epoch_max; /* of those whose state was verified */
    unsigned current;   /* the opening that the model follows; 0 = none */
    unsigned procs;
    unsigned alive;
    bool killed[64];
    uint64_t end_ns;
    /* For the report. */
    uint32_t ops;
    uint32_t flushes;
    uint32_t opens;
    uint32_t lost;
    uint32_t deletes;
    uint32_t manifests;
    uint32_t pushes;
    uint32_t scrubs;
    uint32_t rewrites;
    uint64_t disk_hits;
};

void world_violation(const struct world *w, const char *invariant, const char *fmt, ...)
    PRINTF_LIKE(3, 4) NORETURN;
MUST int world_spy(struct world *w, struct obj_store *below, struct obj_store **ret_store);

bool world_is_stray(const struct world *w, uint64_t seq);

/* The disk of a process' cache. */
void world_disk(struct world *w, unsigned proc, struct cache_disk_io *ret_io);
void world_disks_free(struct world *w);

void model_init(struct model *m);
void model_free(struct model *m);
/* A change begins: it may be there from now on. */
uint32_t model_begin(struct world *w, unsigned life, bool whole);
void model_change(struct world *w, uint32_t op, uint64_t first, uint64_t count, uint64_t value);
/* Writes values of its own. */
void model_write(struct world *w, uint32_t op, uint64_t first, uint64_t count);
/* What is from `from` on becomes what is from `to` on. */
void model_copy(struct world *w, uint32_t op, uint64_t from, uint64_t to, uint64_t count);
void model_end(struct world *w, uint32_t op);
/* The newest value of a place. */
uint64_t model_value(const struct model *m, uint64_t place);
/* A flush that began at that time was acknowledged to the process. */
void model_flushed(struct world *w, unsigned life, uint64_t began);
/* What a new owner of the volume found; afterwards nothing else is possible. */
void model_verify(struct world *w, unsigned life, const uint64_t *values);

/* A process: the fiber's function and its argument, for rt_sim_process(). */
struct proc;
struct proc *proc_create(struct world *w, unsigned id, bool last);
void proc_main(void *arg);
