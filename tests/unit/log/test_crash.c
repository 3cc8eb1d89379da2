/* SPDX-License-Identifier: Apache-2.0 */
/*
 * kill -9 at any moment, over a real folder: a child opens the log, writes from many fibers and
 * says on a pipe what is stored; the parent kills it after some of these words, opens the log
 * itself, and looks for everything that was said. Each round goes on with the same log.
 */
#include "base/err.h"
#include "base/msg.h"
#include "log_test.h"
#include <stdio.h>
#include <sys/prctl.h>

#define ROUNDS 12
#define WRITERS 24

struct life {
    char *folder;
    uint64_t epoch;
    int pipe_fd;
    uint64_t next_number;
    struct log *l;
    struct obj_store *s;
};

static struct life life;
static struct seen seen;

static int open_log(struct log_open_result *ret_o)
{
    int r = obj_file_open(life.folder, &life.s);
    CHECK(r == 0);
    struct log_open_options opt = open_options(life.s, life.epoch);
    seen.count = 0;
    return log_open(&opt, see, &seen, ret_o);
}

static void writer(void *arg)
{
    (void)arg;
    for (;;) {
        uint64_t seq;
        CHECK(log_reserve(life.l, &seq) == 0);
        uint64_t number = life.next_number++;
        struct log_batch b = {
            .number = number, .records = (const uint8_t *)&number, .records_len = sizeof number};
        CHECK(log_commit(life.l, seq, &b) == 0);
        CHECK(log_wait_stored(life.l, seq, RT_FOREVER) == 0);
        CHECK(write(life.pipe_fd, &number, sizeof number) == sizeof number);
    }
}

static void child_main(void *arg)
{
    (void)arg;
    struct log_open_result o;
    CHECK(open_log(&o) == 0);
    life.l = make_log(life.s, life.epoch, o.next_seq);
    life.next_number = seen.count + 1;
    for (int i = 0; i < WRITERS; i++) {
        CHECK(rt_spawn("writer", writer, NULL) == 0);
    }
    (void)rt_sleep_ms(60000);
}

static void parent_main(void *arg)
{
    struct log_open_result o;
    CHECK(open_log(&o) == 0);
    uint64_t *highest = arg;
    CHECK(seen.count >= *highest); /* I12: acknowledged is there */
    for (size_t i = 0; i < seen.count; i++) {
        CHECK(seen.numbers[i] == i + 1); /* I12: a prefix, each once */
    }
    obj_close(life.s);
}

/* One life of the child: the highest number that it said was stored. */
static uint64_t live_and_die(unsigned words)
{
    int ends[2];
    CHECK(pipe(ends) == 0);
    (void)fflush(NULL);
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
        (void)close(ends[0]);
        life.pipe_fd = ends[1];
        test_keys = unit_keys(crypt_keys_cipher(test_keys)); /* secrets are not inherited */
        _exit(rt_run(&(struct rt_options){.cores = 1, .block_threads = 4}, child_main, NULL) == 0);
    }
    (void)close(ends[1]);
    uint64_t highest = 0;
    uint64_t number;
    for (unsigned i = 0; i < words && read(ends[0], &number, sizeof number) == sizeof number; i++) {
        highest = number > highest ? number : highest;
    }
    CHECK(kill(pid, SIGKILL) == 0);
    while (read(ends[0], &number, sizeof number) == sizeof number) {
        highest = number > highest ? number : highest; /* said before it died */
    }
    int status;
    CHECK(waitpid(pid, &status, 0) == pid && WIFSIGNALED(status));
    (void)close(ends[0]);
    return highest;
}

static void kill_and_reopen(void **state)
{
    (void)state;
    const char *base = getenv("TMPDIR");
    CHECK(asprintf(&life.folder, "%s/log-crash-XXXXXX", base ? base : "/tmp") > 0);
    CHECK(mkdtemp(life.folder) != NULL);
    struct rng g = rng_seeded(7);
    uint64_t total = 0;
    for (int round = 0; round < ROUNDS; round++) {
        life.epoch++;
        uint64_t highest = live_and_die(1 + (unsigned)rng_below(&g, 60));
        CHECK(highest > total);
        life.epoch++;
        int r = rt_run(&(struct rt_options){.cores = 1}, parent_main, &highest);
        assert_int_equal(r, 0);
        total = seen.count;
    }
    char cmd[512];
    (void)snprintf(cmd, sizeof cmd, "rm -rf -- '%s'", life.folder);
    CHECK(system(cmd) == 0);
    free(life.folder);
}

int main(void)
{
    msg_level_set(MSG_ERROR);
    const struct CMUnitTest tests[] = {cmocka_unit_test(kill_and_reopen)};
    return run_with_each_cipher(tests, ARRAY_LEN(tests));
}
