/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The simulator of the whole store: volume, index, log over a store that misbehaves.
 *
 *     zerofs-sim               the seeds of `make test`
 *     zerofs-sim 17            one seed; the same each time
 *     zerofs-sim 1..100000     a range of seeds, as `make soak` runs
 *     zerofs-sim -v 17         with the program's own messages
 *
 * A failing seed is printed with the invariant it broke. Seeds run in child processes, some at a
 * time, for what a killed process of the simulation had allocated is never given back.
 */
#include "base/assert.h"
#include "base/err.h"
#include "base/hash.h"
#include "base/msg.h"
#include "base/rng.h"
#include "vol_world.h"
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define AT_ONCE 20
#define SEEDS 1500
#define PROCS_MAX 6

struct run {
    uint64_t seed;
    uint64_t hash; /* out */
    bool tells;
};

void world_violation(const struct world *w, const char *invariant, const char *fmt, ...)
{
    va_list args;
    (void)printf("seed %" PRIu64 ": %s: ", w->seed, invariant);
    va_start(args, fmt);
    (void)vprintf(fmt, args);
    va_end(args);
    (void)printf("\n");
    (void)fflush(stdout);
    _exit(VOL_VIOLATION);
}

static void start_one(struct world *w, bool last)
{
    unsigned id = ++w->procs;
    w->alive++;
    int r = rt_sim_process(id, "process", proc_main, proc_create(w, id, last));
    ASSERT(r == 0);
}

static void make_volume(void *arg)
{
    struct world *w = arg;
    struct vol *v;
    struct vol_txn *t;
    static const enum crypt_cipher ciphers[] = {CRYPT_NONE, CRYPT_AES_256_GCM,
                                                CRYPT_CHACHA20_POLY1305};
    struct crypt_secret *secret = crypt_secret_create(NULL, CRYPT_KEY_BYTES);
    struct crypt_access access = {
        .kdf = CRYPT_KDF_NONE, .secret = secret, .cipher = ciphers[w->seed % ARRAY_LEN(ciphers)]};
    const struct crypt_access *used = access.cipher == CRYPT_NONE ? NULL : &access;
    ASSERT(secret != NULL);
    int r = vol_format(w->spy, &(struct vol_format_options){.uuid = w->uuid, .access = used});
    ASSERT(r == 0);
    r = vol_keys_load(w->spy, used, &w->keys);
    ASSERT(r == 0);
    crypt_secret_free(secret);
    r = vol_open(
        &(struct vol_options){
            .store = w->spy, .keys = w->keys, .owner = "maker", .memory_bytes = 8u << 20},
        &v);
    ASSERT(r == 0);
    r = vol_txn_begin(v, &t);
    ASSERT(r == 0);
    r = vol_txn_inode_create(t, DEVICE_BYTES, &w->inode);
    ASSERT(r == 0);
    r = vol_txn_commit(t);
    ASSERT(r == 0);
    r = vol_close(v);
    ASSERT(r == 0);
}

/* Processes come, stall and die. */
static void stir(struct world *w, unsigned max)
{
    start_one(w, false);
    while (rt_now_ns() < w->end_ns) {
        (void)rt_sleep_ms(rng_below(&w->g, 150));
        if (w->procs < max && (w->alive == 0 || rng_below(&w->g, 100) < 5)) {
            start_one(w, false);
        }
        unsigned who = 1 + (unsigned)rng_below(&w->g, w->procs);
        if (rng_below(&w->g, 100) < 8) {
            rt_sim_stall(who, rt_after_ms(20 + rng_below(&w->g, 2000)));
        }
        if (rng_below(&w->g, 100) < 4 && !w->killed[who]) {
            rt_sim_kill(who);
            w->killed[who] = true;
            w->alive -= w->alive > 0;
        }
    }
}

static void world_main(void *arg)
{
    struct run *run = arg;
    struct world *w = calloc(1, sizeof *w);
    ASSERT(w != NULL);
    w->seed = run->seed;
    w->g = rng_seeded(hash_u64(run->seed));
    model_init(&w->model);
    rt_random_bytes(&w->uuid, sizeof w->uuid);
    int r = obj_mem_open(&w->mem);
    ASSERT(r == 0);
    r = world_spy(w, w->mem, &w->spy);
    ASSERT(r == 0);
    make_volume(w);
    w->end_ns = rt_after_ms(1500 + rng_below(&w->g, 3000));
    stir(w, 1 + (unsigned)rng_below(&w->g, PROCS_MAX));
    (void)rt_sleep_ms(8000); /* who is alive comes to its end; late requests land */
    for (unsigned i = 1; i <= w->procs; i++) {
        rt_sim_kill(i);
    }
    (void)rt_sleep_ms(8000);
    w->alive = 0;
    start_one(w, true);
    while (w->alive > 0) {
        (void)rt_sleep_ms(50);
    }
    run->hash = rt_sim_trace_hash();
    if (run->tells) {
        (void)printf("seed %" PRIu64 ": %u processes, %u opens, %u changes (%u lost), %u flushes, "
                     "%u manifests, %u deletions, %u new layers, %u scrubs (%u pages), %" PRIu64
                     " hits on disk\n",
                     w->seed, w->procs, w->opens, w->ops, w->lost, w->flushes, w->manifests,
                     w->deletes, w->pushes, w->scrubs, w->rewrites, w->disk_hits);
    }
    obj_close(w->spy);
    model_free(&w->model);
    world_disks_free(w);
    crypt_keys_unref(w->keys);
    free(w);
}

static uint64_t run_seed(uint64_t seed, bool tells)
{
    struct run run = {.seed = seed, .tells = tells};
    hash_seed_set(seed);
    rng_secure_simulate(seed);
    int r = rt_run(&(struct rt_options){.sim = true, .sim_seed = seed}, world_main, &run);
    ASSERT(r == 0);
    return run.hash;
}

/* Seeds in a child; its way to end. With ret_hash, the last seed's hash. */
static int run_child(uint64_t from, uint64_t to, bool tells, uint64_t *ret_hash)
{
    (void)fflush(NULL);
    int ends[2];
    int piped = pipe(ends);
    ASSERT(piped == 0);
    pid_t pid = fork();
    ASSERT(pid >= 0);
    if (pid == 0) {
        uint64_t hash = 0;
        for (uint64_t seed = from; seed <= to; seed++) {
            hash = run_seed(seed, tells);
        }
        (void)fflush(stdout);
        ssize_t n = write(ends[1], &hash, sizeof hash);
        _exit(n == sizeof hash ? 0 : 1);
    }
    (void)close(ends[1]);
    uint64_t hash = 0;
    ssize_t n = read(ends[0], &hash, sizeof hash);
    (void)close(ends[0]);
    int status = 0;
    pid_t got = waitpid(pid, &status, 0);
    ASSERT(got == pid);
    if (ret_hash && n == sizeof hash) {
        *ret_hash = hash;
    }
    return status;
}

static bool find_crash(uint64_t from, uint64_t to)
{
    for (uint64_t seed = from; seed <= to; seed++) {
        if (run_child(seed, seed, false, NULL) != 0) {
            (void)printf("seed %" PRIu64 ": crashed\n", seed);
            return false;
        }
    }
    (void)printf("seeds %" PRIu64 "..%" PRIu64 " crash only together\n", from, to);
    return false;
}

static bool run_range(uint64_t from, uint64_t to, bool tells)
{
    for (uint64_t at = from; at <= to; at += AT_ONCE) {
        uint64_t end = MIN_OF(at + AT_ONCE - 1, to);
        int status = run_child(at, end, tells, NULL);
        if (status == 0) {
            continue;
        }
        if (WIFEXITED(status) && WEXITSTATUS(status) == VOL_VIOLATION) {
            return false;
        }
        return find_crash(at, end);
    }
    return true;
}

static bool replays_exactly(void)
{
    for (uint64_t seed = 1; seed <= 10; seed++) {
        uint64_t first = 0;
        uint64_t second = 1;
        if (run_child(seed, seed, false, &first) != 0 ||
            run_child(seed, seed, false, &second) != 0 || first != second) {
            (void)printf("seed %" PRIu64 " does not replay\n", seed);
            return false;
        }
    }
    return true;
}

int main(int argc, char **argv)
{
    uint64_t from = 1;
    uint64_t to = SEEDS;
    bool given = false;
    enum msg_level level = (enum msg_level) - 1;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "-v") == 0) {
            level = MSG_DEBUG;
            continue;
        }
        int n = sscanf(argv[i], "%" SCNu64 "..%" SCNu64, &from, &to);
        if (n < 1) {
            (void)fprintf(stderr, "usage: %s [-v] [SEED | FROM..TO]\n", argv[0]);
            return 2;
        }
        to = n == 1 ? from : to;
        given = true;
    }
    msg_level_set(level);
    bool good = (given || replays_exactly()) && run_range(from, to, given && to - from < 100);
    (void)printf("seeds %" PRIu64 "..%" PRIu64 ": %s\n", from, to, good ? "good" : "FAILED");
    return good ? 0 : 1;
}
