/* SPDX-License-Identifier: Apache-2.0 */
/* What the tests of rt and of the rooms below it share: cmocka, and a body that runs on a fiber. */
#pragma once
#include "rt/rt.h"
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

/*
 * cmocka's asserts jump out of the test, which must not happen from a fiber's stack. On fibers this
 * one is used: it says where, and ends the process.
 */
#define CHECK(expr)                                                                                \
    do {                                                                                           \
        if (!(expr)) {                                                                             \
            print_error("%s:%d: check failed: %s\n", __FILE__, __LINE__, #expr);                   \
            abort();                                                                               \
        }                                                                                          \
    } while (0)

static inline void run_on(unsigned cores, void (*fn)(void *arg))
{
    assert_int_equal(rt_run(&(struct rt_options){.cores = cores}, fn, NULL), 0);
}

static inline void run_sim(uint64_t seed, void (*fn)(void *arg), void *arg)
{
    assert_int_equal(rt_run(&(struct rt_options){.sim = true, .sim_seed = seed}, fn, arg), 0);
}

/* True when fn, run in a child, ends it by an abort. */
static inline bool aborts(void (*fn)(void))
{
    int status = 0;
    pid_t pid = fork();
    if (pid == 0) {
        (void)signal(SIGABRT, SIG_DFL);
        (void)close(STDERR_FILENO);
        fn();
        _exit(0);
    }
    assert_true(pid > 0);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT;
}
