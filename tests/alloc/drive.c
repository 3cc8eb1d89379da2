/* SPDX-License-Identifier: Apache-2.0 */
#include "drive.h"
#include "base/attr.h"
#include "base/msg.h"
#include "rt/rt.h"
#include <signal.h>
#include <string.h>
#include <unistd.h>

struct drive drive = {.burst = 1, .seed = 1};

static void on_crash(int number)
{
    char text[96];
    int n =
        snprintf(text, sizeof text, "signal %d: N=%" PRIu64 " burst=%" PRIu64 " seed=%" PRIu64 "\n",
                 number, drive.first, drive.burst, drive.seed);
    (void)!write(2, text, (size_t)n);
    _exit(1);
}

void drive_arm(void)
{
    fail_arm(drive.first, drive.burst);
}

void drive_arm_after(uint64_t made)
{
    fail_arm(drive.first > made ? drive.first - made : UINT64_MAX / 2, drive.burst);
}

void drive_disarm(void)
{
    drive.allocations = fail_disarm();
}

static void run(void (*scenario)(void *arg), uint64_t n, uint64_t count)
{
    drive.first = n;
    drive.burst = count;
    struct rt_options opt = {.cores = 1, .sim = true, .sim_seed = drive.seed};
    int r = rt_run(&opt, scenario, NULL);
    CHECK(r == 0);
}

static uint64_t run_all(void (*scenario)(void *arg))
{
    static const uint64_t bursts[] = {1, 3, 40};
    uint64_t runs = 0;
    run(scenario, UINT64_MAX / 2, 1);
    uint64_t total = drive.allocations;
    for (size_t i = 0; i < ARRAY_LEN(bursts); i++) {
        for (uint64_t n = 1; n <= total; n++) {
            run(scenario, n, bursts[i]);
            runs++;
        }
    }
    return runs;
}

int drive_main(int argc, char **argv, void (*scenario)(void *arg))
{
    static const int crashes[] = {SIGSEGV, SIGABRT, SIGBUS};
    for (size_t i = 0; i < ARRAY_LEN(crashes); i++) {
        (void)signal(crashes[i], on_crash);
    }
    msg_level_set(getenv("VERBOSE") ? MSG_DEBUG : MSG_ERROR);
    bool many = argc > 2 && strcmp(argv[1], "--seeds") == 0;
    if (argc > 1 && !many) {
        drive.seed = argc > 3 ? strtoull(argv[3], NULL, 10) : 1;
        run(scenario, strtoull(argv[1], NULL, 10), argc > 2 ? strtoull(argv[2], NULL, 10) : 1);
        return 0;
    }
    uint64_t runs = 0;
    uint64_t seeds = many ? strtoull(argv[2], NULL, 10) : getenv("SOAK") ? 50 : 1;
    for (drive.seed = 1; drive.seed <= seeds; drive.seed++) {
        runs += run_all(scenario);
    }
    printf("%" PRIu64 " runs\n", runs);
    return 0;
}
