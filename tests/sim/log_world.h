/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The simulated world of the log: one store, several processes that open the same volume, write,
 * take it over from each other, stall and die; requests that get lost, arrive late or twice. The
 * log is the real one. Manifests and SSTs are played by a small put-if-absent manifest of the
 * simulator's own, whose state is just the list of payloads that it holds.
 *
 * A run is one seed. What must never happen is reported with the invariant's number
 * (docs/ARCHITECTURE.md) and ends the process with WORLD_VIOLATION.
 */
#pragma once
#include "base/rng.h"
#include "base/vec.h"
#include "log/segment.h"
#include "log/test_rules.h"
#include "obj/obj_layers.h"
#include "rt/rt.h"
#include "rt/sim.h"
#include <stdbool.h>
#include <stdint.h>

#define WORLD_VIOLATION 3
#define WORLD_SLOTS 8192
#define WORLD_INSTANCES 64
#define WORLD_PAYLOADS 8192
#define WORLD_SSTS 48

/* Rules of the manifest player that a test may break; those of the log are in log_test_rules. */
struct world_rules {
    bool first_manifests_deletable; /* I5 */
    bool no_recheck;                /* I4: the writer goes live without the second LIST */
    bool recheck_before_fence;      /* I4: the second LIST comes too early */
    bool outcome_only; /* report only lost or damaged data, not the broken rule itself */
    bool clone;        /* a process is cloned when it goes live */
    bool lose_segment; /* in the end a stored segment vanishes: I8 must notice */
};

/* One time that a process opened the volume. */
struct world_instance {
    uint64_t epoch;
    uint64_t first_seq;
    bool is_live;
    bool is_clone; /* or was cloned: shares its numbers with another */
};

struct world_payload {
    uint32_t instance;
    uint64_t seq;
    bool acked;
};

/* What was ever stored in a slot. */
struct world_slot {
    bool ever;
    bool fence;
    bool was_data; /* an overtaken opener may put its fence where a segment was deleted: it lies
                      below every replay */
    uint64_t epoch;
};

struct world {
    uint64_t seed;
    struct rng g;
    struct world_rules rules;
    struct obj_store *mem;
    struct obj_store *spy; /* over mem: sees each request when it lands */
    struct world_slot slots[WORLD_SLOTS];
    bool was_common[WORLD_SLOTS]; /* manifest n was once another than the first of its epoch */
    uint64_t replay_max;          /* highest replay position of a stored manifest */
    struct world_instance instances[WORLD_INSTANCES];
    uint32_t instance_count;
    struct world_payload payloads[WORLD_PAYLOADS];
    uint32_t payload_count;
    unsigned procs;   /* started */
    unsigned running; /* of them, as far as they were not killed */
    bool killed[32];
    uint64_t end_ns; /* nobody starts anything new after that */
    bool has_clone;  /* nothing is deleted then, see collect() */
    uint32_t acked;  /* for the report */
    uint32_t lives;
};

/* A manifest of the player: stored as these bytes. */
struct world_manifest {
    uint64_t epoch;
    uint64_t replay_from;
    uint64_t log_epoch;
    uint64_t by; /* random: whose it is */
    uint64_t is_first;
    uint64_t sst_count;
    uint64_t ssts[WORLD_SSTS];
};

extern const struct uuid world_volume;
/* By the seed; NULL: a plain volume, as every third seed has it. */
extern struct crypt_keys *world_keys;
void world_keys_choose(uint64_t seed);

void world_violation(const struct world *w, const char *invariant, const char *fmt, ...)
    PRINTF_LIKE(3, 4) NORETURN;
MUST int world_spy(struct world *w, struct obj_store *below, struct obj_store **ret_store);
/* The layer directly below the log of one process: checks what it sends (I1, I2). */
MUST int world_probe(struct world *w, uint32_t *instance, struct obj_store *below,
                     struct obj_store **ret_store);

/* A process: the fiber's function and its argument, for rt_sim_process(). */
struct proc;
struct proc *proc_create(struct world *w, unsigned id);
void proc_main(void *arg);

/* Opens the volume once more, with no faults, and checks what is there. */
void world_final_check(struct world *w);

/* Names. */
void world_manifest_name(uint64_t n, char ret_name[OBJ_NAME_SIZE]);
void world_sst_name(uint64_t id, char ret_name[OBJ_NAME_SIZE]);
