/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The simulator of the log protocol.
 *
 *     test_sim_log                     10,000 seeds, and the tests of the rules
 *     test_sim_log --seeds 17          one seed; the same each time
 *     test_sim_log --seeds 1..100000
 *     test_sim_log --rules             only the tests of the rules
 *
 * A failing seed is printed with the invariant it broke. Seeds run in child processes, some hundred
 * each, for what a killed process of the simulation had allocated is never given back.
 *
 * THE TESTS OF THE RULES break one rule of the protocol at a time, each of them a simplification
 * that looks harmless, and ask for a seed that shows the damage. With outcome_only the damage
 * itself must show: acknowledged data that is lost, a rightful writer that is fenced, a volume that
 * cannot be opened any more.
 */
#include "base/assert.h"
#include "base/hash.h"
#include "base/msg.h"
#include "base/time.h"
#include "log_world.h"
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define BATCH 250
#define WINDOW 4 /* small, so that short runs reach its edge */
#define RULE_SEEDS 6000

struct run {
    struct world_rules rules;
    uint64_t seed;
    uint64_t hash; /* out */
};

static void first_manifest(struct world *w)
{
    struct world_manifest m = {.replay_from = 1, .is_first = 1};
    struct rt_chain body = {0};
    char name[OBJ_NAME_SIZE];
    world_manifest_name(0, name);
    int r = rt_chain_add(&body, NULL, &m, sizeof m);
    if (r == 0) {
        r = obj_put(w->spy, OBJ_INDEX, name, &body);
    }
    ASSERT(r == 0);
    rt_chain_free(&body);
}

static void start_one(struct world *w)
{
    unsigned id = ++w->procs;
    w->running++;
    int r = rt_sim_process(id, "writer", proc_main, proc_create(w, id));
    ASSERT(r == 0);
}

/* Processes come, stall and die. */
static void stir(struct world *w, unsigned max)
{
    start_one(w);
    while (rt_now_ns() < w->end_ns) {
        (void)rt_sleep_ms(rng_below(&w->g, 120));
        if (w->procs < max && rng_below(&w->g, 100) < 8) {
            start_one(w);
        }
        unsigned who = 1 + (unsigned)rng_below(&w->g, w->procs);
        if (rng_below(&w->g, 100) < 15) {
            rt_sim_stall(who, rt_after_ms(20 + rng_below(&w->g, 2500)));
        }
        if (rng_below(&w->g, 100) < 2 && !w->killed[who]) {
            rt_sim_kill(who);
            w->killed[who] = true;
        }
    }
}

static void world_main(void *arg)
{
    struct run *run = arg;
    struct world *w = calloc(1, sizeof *w);
    ASSERT(w != NULL);
    w->seed = run->seed;
    w->rules = run->rules;
    world_keys_choose(run->seed);
    w->g = rng_seeded(hash_u64(run->seed));
    w->rules.clone = w->rules.clone || rng_below(&w->g, 6) == 0;
    w->has_clone = w->rules.clone;
    int r = obj_mem_open(&w->mem);
    ASSERT(r == 0);
    r = world_spy(w, w->mem, &w->spy);
    ASSERT(r == 0);
    first_manifest(w);
    w->end_ns = rt_after_ms(1500 + rng_below(&w->g, 2500));
    stir(w, 2 + (unsigned)rng_below(&w->g, 4));
    (void)rt_sleep_ms(20000); /* who is alive comes to its end; late requests land */
    for (unsigned i = 1; i <= w->procs; i++) {
        rt_sim_kill(i);
    }
    (void)rt_sleep_ms(10000);
    world_final_check(w);
    run->hash = rt_sim_trace_hash();
    obj_close(w->spy);
    free(w);
}

static uint64_t run_seed(uint64_t seed, const struct world_rules *rules)
{
    struct run run = {.rules = *rules, .seed = seed};
    int r = rt_run(&(struct rt_options){.sim = true, .sim_seed = seed}, world_main, &run);
    ASSERT(r == 0);
    return run.hash;
}

/* Runs seeds in a child: 0, or the child's way to end. With ret_said its line about a violation
 * goes there. */
static int run_child(uint64_t from, uint64_t to, const struct world_rules *rules, char *ret_said,
                     size_t cap)
{
    (void)fflush(NULL);
    int ends[2] = {-1, -1};
    int piped = ret_said ? pipe(ends) : 0;
    ASSERT(piped == 0);
    pid_t pid = fork();
    ASSERT(pid >= 0);
    if (pid == 0) {
        if (ret_said && (dup2(ends[1], STDOUT_FILENO) < 0 || !freopen("/dev/null", "w", stderr))) {
            _exit(1);
        }
        for (uint64_t seed = from; seed <= to; seed++) {
            (void)run_seed(seed, rules);
        }
        _exit(0);
    }
    if (ret_said) {
        (void)close(ends[1]);
        ssize_t n = read(ends[0], ret_said, cap - 1);
        ret_said[n > 0 ? n : 0] = '\0';
        ret_said[strcspn(ret_said, "\n")] = '\0';
        (void)close(ends[0]);
    }
    int status = 0;
    pid_t got = waitpid(pid, &status, 0);
    ASSERT(got == pid);
    return status;
}

static bool run_range(uint64_t from, uint64_t to, const struct world_rules *rules)
{
    for (uint64_t at = from; at <= to; at += BATCH) {
        uint64_t end = MIN_OF(at + BATCH - 1, to);
        int status = run_child(at, end, rules, NULL, 0);
        if (status == 0) {
            continue;
        }
        if (!WIFEXITED(status) || WEXITSTATUS(status) != WORLD_VIOLATION) {
            (void)printf("a seed of %" PRIu64 "..%" PRIu64 " crashed; looking for it\n", at, end);
            for (uint64_t seed = at; seed <= end; seed++) {
                if (run_child(seed, seed, rules, NULL, 0) != 0) {
                    (void)printf("seed %" PRIu64 ": crashed\n", seed);
                    break;
                }
            }
        }
        return false;
    }
    return true;
}

/* The same seed twice takes the same decisions. In a child, as all seeds. */
static bool replays_exactly(void)
{
    (void)fflush(NULL);
    pid_t pid = fork();
    ASSERT(pid >= 0);
    if (pid == 0) {
        struct world_rules rules = {0};
        for (uint64_t seed = 1; seed <= 20; seed++) {
            uint64_t first = run_seed(seed, &rules);
            if (run_seed(seed, &rules) != first) {
                (void)printf("seed %" PRIu64 " does not replay\n", seed);
                (void)fflush(stdout);
                _exit(1);
            }
        }
        _exit(0);
    }
    int status = 0;
    pid_t got = waitpid(pid, &status, 0);
    ASSERT(got == pid);
    return status == 0;
}

struct rule {
    const char *name;
    struct world_rules world;
    struct log_test_rules log;
};

static const struct rule rules_broken[] = {
    {"I4: no dead zone", {.outcome_only = true}, {.no_dead_zone = true}},
    {"I4: no second LIST", {.outcome_only = true, .no_recheck = true}, {0}},
    {"I4: second LIST before the fence", {.outcome_only = true, .recheck_before_fence = true}, {0}},
    {"I5: fences deleted", {.outcome_only = true}, {.fences_deletable = true}},
    {"I5: first manifests deleted", {.outcome_only = true, .first_manifests_deletable = true}, {0}},
    {"I2: no window", {.outcome_only = true}, {.no_window = true}},
    {"I1: fresh bytes when sent again", {.outcome_only = true}, {.fresh_bytes_on_resend = true}},
    {"I3: a taken number counts as stored", {.outcome_only = true}, {.any_412_is_ours = true}},
    {"I3: the salt is not compared",
     {.outcome_only = true, .clone = true},
     {.compare_without_salt = true}},
    {"I12: a flush waits for its own segment only", {.outcome_only = true}, {.ack_alone = true}},
    {"I8: no look at the slots after the gap", {.lose_segment = true}, {.no_gap_check = true}},
    {"I1: noticed as such", {0}, {.fresh_bytes_on_resend = true}},
    {"I2: noticed as such", {0}, {.no_window = true}},
    {"I5: noticed as such", {0}, {.fences_deletable = true}},
};

static bool rule_is_caught(const struct rule *rule)
{
    log_test_rules = rule->log;
    log_test_rules.window = WINDOW;
    char said[256] = "";
    int status = 0;
    for (uint64_t seed = 1; seed <= RULE_SEEDS && status == 0; seed += BATCH) {
        status = run_child(seed, seed + BATCH - 1, &rule->world, said, sizeof said);
    }
    log_test_rules = (struct log_test_rules){.window = WINDOW};
    bool caught = WIFEXITED(status) && WEXITSTATUS(status) == WORLD_VIOLATION;
    (void)printf("%s  %s%s%s\n", caught ? "caught" : "MISSED", rule->name, caught ? " -> " : "",
                 said);
    return caught;
}

static bool all_rules_are_caught(void)
{
    bool good = true;
    for (size_t i = 0; i < ARRAY_LEN(rules_broken); i++) {
        good = rule_is_caught(&rules_broken[i]) && good;
    }
    return good;
}

static int usage(void)
{
    (void)fprintf(stderr, "usage: test_sim_log [--seeds A[..B]] [--rules] [--verbose]\n");
    return 2;
}

int main(int argc, char **argv)
{
    uint64_t from = 1;
    uint64_t to = 10000;
    bool seeds = argc == 1;
    bool rules = argc == 1;
    enum msg_level level = (enum msg_level) - 1;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--rules") == 0) {
            rules = true;
        } else if (strcmp(argv[i], "--verbose") == 0) {
            level = MSG_DEBUG;
        } else if (strcmp(argv[i], "--seeds") == 0 && i + 1 < argc) {
            int n = sscanf(argv[++i], "%" SCNu64 "..%" SCNu64, &from, &to);
            to = n == 1 ? from : to;
            seeds = n >= 1;
        }
    }
    if (!seeds && !rules) {
        return usage();
    }
    msg_level_set(level);
    log_test_rules.window = WINDOW;
    log_test_rules.hedge_floor_ns = 30 * NS_PER_MS;
    bool good = true;
    if (seeds) {
        good = (from == to || replays_exactly()) && run_range(from, to, &(struct world_rules){0}) &&
               run_range(from, to / 20, &(struct world_rules){.lose_segment = true});
        (void)printf("seeds %" PRIu64 "..%" PRIu64 ": %s\n", from, to, good ? "good" : "FAILED");
    }
    if (rules) {
        good = all_rules_are_caught() && good;
    }
    return good ? 0 : 1;
}
