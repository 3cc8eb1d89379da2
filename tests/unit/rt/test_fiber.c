/* SPDX-License-Identifier: Apache-2.0 */
#include "rt/ctx.h"
#include "rt/sync.h"
#include "rt_test.h"
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

static char trail[64];

static void note(const char *word)
{
    size_t len = strlen(trail);
    CHECK(len + strlen(word) < sizeof trail);
    memcpy(trail + len, word, strlen(word) + 1);
}

static void append(void *arg)
{
    note(arg);
    rt_yield();
    note(arg);
}

static void order_main(void *arg)
{
    char a[] = "a";
    char b[] = "b";
    (void)arg;
    trail[0] = 0;
    CHECK(rt_spawn("a", append, a) == 0);
    CHECK(rt_spawn_now("b", append, b) == 0);
    CHECK(strcmp(trail, "b") == 0);
    rt_yield();
    CHECK(strcmp(trail, "bab") == 0);
    rt_yield();
    CHECK(strcmp(trail, "baba") == 0);
}

static void spawn_order(void **state)
{
    (void)state;
    run_on(1, order_main);
}

/* Uses a good part of the stack, touching every page. */
static __attribute__((noinline)) unsigned dig(unsigned depth)
{
    char room[2048];
    memset(room, (int)depth, sizeof room);
    __asm__ volatile("" ::"r"(room) : "memory");
    unsigned below = depth == 0 ? 0 : 1 + dig(depth - 1);
    __asm__ volatile("" ::"r"(room) : "memory");
    return below;
}

static void deep(void *arg)
{
    *(unsigned *)arg = dig(20);
}

static void deep_main(void *arg)
{
    (void)arg;
    unsigned got = 0;
    CHECK(rt_spawn_now("deep", deep, &got) == 0);
    CHECK(got == 20);
}

static void stack_is_deep(void **state)
{
    (void)state;
    run_on(1, deep_main);
}

#if !RT_SANITIZED /* under which stacks are not trimmed */
/* Whether the page is in memory that lies so many bytes below the caller's frame. */
static bool is_resident(uintptr_t frame, size_t below)
{
    uintptr_t page = (frame - below) & ~(uintptr_t)4095;
    unsigned char state = 0;
    CHECK(mincore((void *)page, 1, &state) == 0);
    return state & 1;
}

static void trim_main(void *arg)
{
    uintptr_t here = (uintptr_t)__builtin_frame_address(0);
    (void)arg;
    CHECK(dig(15) == 15);
    CHECK(is_resident(here, 24000));
    rt_stack_trim();
    CHECK(!is_resident(here, 24000));
    CHECK(is_resident(here, 0));
    CHECK(dig(20) == 20);
}

static void trim_gives_pages_back(void **state)
{
    (void)state;
    run_on(1, trim_main);
}
#endif

static _Atomic unsigned ended_count;

static void count_on(void *arg)
{
    CHECK(rt_core_self() == *(unsigned *)arg);
    (void)rt_sleep_ms(1);
    CHECK(rt_core_self() == *(unsigned *)arg);
    atomic_fetch_add(&ended_count, 1);
}

static void cores_main(void *arg)
{
    static unsigned numbers[] = {0, 1, 2};
    (void)arg;
    CHECK(rt_core_count() == 3);
    for (unsigned i = 0; i < 300; i++) {
        CHECK(rt_spawn_on(i % 3, "count", count_on, &numbers[i % 3]) == 0);
    }
}

/* rt_run() returns only when the fibers of all cores have ended, though main ends at once. */
static void run_waits_for_all(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 5; i++) {
        atomic_store(&ended_count, 0);
        run_on(3, cores_main);
        assert_int_equal(atomic_load(&ended_count), 300);
    }
}

static void hop(void *arg)
{
    unsigned left = (unsigned)(uintptr_t)arg;
    if (left > 0) {
        CHECK(rt_spawn_on(left % 2, "hop", hop, (void *)(uintptr_t)(left - 1)) == 0);
    } else {
        atomic_store(&ended_count, 1);
    }
}

/* A chain of fibers, each on the other core, the last of which outlives main by far. */
static void run_waits_for_chain(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 50; i++) {
        atomic_store(&ended_count, 0);
        assert_int_equal(rt_run(&(struct rt_options){.cores = 2}, hop, (void *)(uintptr_t)100), 0);
        assert_int_equal(atomic_load(&ended_count), 1);
    }
}

static void wait_event(void *arg)
{
    CHECK(rt_event_wait(arg, RT_FOREVER) == 0);
}

static void limit_main(void *arg)
{
    struct rt_event go;
    (void)arg;
    rt_event_init(&go);
    for (unsigned i = 0; i < 9; i++) {
        CHECK(rt_spawn("wait", wait_event, &go) == 0);
    }
    CHECK(rt_spawn("wait", wait_event, &go) == -EAGAIN);
    CHECK(rt_spawn_now("wait", wait_event, &go) == -EAGAIN);
    rt_yield();
    rt_event_set(&go);
    rt_yield();
    CHECK(rt_spawn("wait", wait_event, &go) == 0);
    rt_yield();
    rt_yield();
    rt_event_destroy(&go);
}

static void pool_is_bounded(void **state)
{
    (void)state;
    assert_int_equal(rt_run(&(struct rt_options){.cores = 1, .fibers_max = 10}, limit_main, NULL),
                     0);
}

static void many_main(void *arg)
{
    struct rt_event go;
    struct rt_group *g;
    (void)arg;
    rt_event_init(&go);
    CHECK(rt_group_create(&g) == 0);
    for (unsigned i = 0; i < 2000; i++) {
        CHECK(rt_group_spawn_now(g, "wait", wait_event, &go) == 0);
    }
    rt_event_set(&go);
    rt_group_wait(g);
    rt_group_destroy(g);
    rt_event_destroy(&go);
}

static void many_fibers(void **state)
{
    (void)state;
    run_on(1, many_main);
}

struct outsider {
    struct rt_event started;
    struct rt_event told;
};

static void tell_back(void *arg)
{
    struct outsider *o = arg;
    CHECK(rt_core_self() == 1);
    CHECK(rt_event_wait(&o->told, rt_after_ms(5000)) == 0);
    rt_event_set(&o->started);
}

static void *outside_thread(void *arg)
{
    struct outsider *o = arg;
    CHECK(rt_core_self() == UINT32_MAX && !rt_on_fiber());
    CHECK(rt_spawn_on(1, "tell", tell_back, o) == 0);
    rt_event_set(&o->told);
    return NULL;
}

static void outside_main(void *arg)
{
    struct outsider o;
    (void)arg;
    for (unsigned i = 0; i < 20; i++) {
        pthread_t thread;
        rt_event_init(&o.started);
        rt_event_init(&o.told);
        CHECK(pthread_create(&thread, NULL, outside_thread, &o) == 0);
        CHECK(rt_event_wait(&o.started, rt_after_ms(5000)) == 0);
        CHECK(pthread_join(thread, NULL) == 0);
        rt_event_destroy(&o.started);
        rt_event_destroy(&o.told);
    }
}

/* A thread that is none of the runtime's starts fibers and sets events. */
static void outside_threads(void **state)
{
    (void)state;
    run_on(2, outside_main);
}

static void overrun_main(void *arg)
{
    (void)arg;
    (void)dig(1000);
}

static void overrun(void)
{
    (void)signal(SIGSEGV, SIG_DFL);
    run_on(1, overrun_main);
}

/* The guard page ends the process before a fiber writes to what lies below its stack. */
static void overrun_faults(void **state)
{
    int status = 0;
    (void)state;
    pid_t pid = fork();
    if (pid == 0) {
        (void)close(STDERR_FILENO);
        overrun();
        _exit(0);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(!WIFEXITED(status) || WEXITSTATUS(status) != 0);
}

static void wait_with_mutex_main(void *arg)
{
    struct rt_mutex m;
    (void)arg;
    rt_mutex_init(&m);
    rt_mutex_lock(&m);
    (void)rt_sleep_ms(1);
}

static void wait_with_mutex(void)
{
    run_on(1, wait_with_mutex_main);
}

static void wait_off_fiber(void)
{
    (void)rt_sleep_ms(1);
}

static void laws_are_asserted(void **state)
{
    (void)state;
    assert_true(aborts(wait_with_mutex));
    assert_true(aborts(wait_off_fiber));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(spawn_order),
        cmocka_unit_test(stack_is_deep),

#if !RT_SANITIZED
        cmocka_unit_test(trim_gives_pages_back),
#endif

        cmocka_unit_test(run_waits_for_all),
        cmocka_unit_test(run_waits_for_chain),
        cmocka_unit_test(pool_is_bounded),
        cmocka_unit_test(many_fibers),
        cmocka_unit_test(outside_threads),
        cmocka_unit_test(overrun_faults),
        cmocka_unit_test(laws_are_asserted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
