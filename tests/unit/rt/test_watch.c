/* SPDX-License-Identifier: Apache-2.0 */
#include "rt/sync.h"
#include "rt_test.h"
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>

static struct rt_event seen;
static struct rt_watch watches[2];

static void on_event(struct rt_watch *w, uint32_t events)
{
    CHECK(!rt_on_fiber() && !w->dead && (events & EPOLLIN));
    /* Both are ready at once; the first one told takes the other one out. */
    rt_watch_remove(&watches[w == &watches[0]]);
    rt_event_set(&seen);
}

static void watch_main(void *arg)
{
    int fds[2];
    (void)arg;
    CHECK(pipe2(fds, O_CLOEXEC | O_NONBLOCK) == 0);
    int other = dup(fds[0]);
    CHECK(other >= 0);
    rt_event_init(&seen);
    watches[0] = (struct rt_watch){.fd = fds[0], .fn = on_event};
    watches[1] = (struct rt_watch){.fd = other, .fn = on_event};
    CHECK(rt_watch_add(&watches[0], EPOLLIN) == 0);
    CHECK(rt_watch_add(&watches[1], EPOLLIN) == 0);
    CHECK(rt_event_wait(&seen, rt_after_ms(5)) == -ETIMEDOUT);
    CHECK(write(fds[1], "x", 1) == 1);
    CHECK(rt_event_wait(&seen, rt_after_ms(5000)) == 0);
    rt_event_reset(&seen);
    CHECK(rt_event_wait(&seen, rt_after_ms(5)) == -ETIMEDOUT);
    CHECK(watches[0].dead != watches[1].dead);
    rt_watch_remove(&watches[0]);
    rt_watch_remove(&watches[1]);
    rt_event_destroy(&seen);
    (void)close(fds[0]);
    (void)close(fds[1]);
    (void)close(other);
}

static void removed_watch_is_not_told(void **state)
{
    (void)state;
    run_on(1, watch_main);
}

struct hooked {
    struct rt_turn_hook hook;
    unsigned calls;
    unsigned again; /* arms itself so often */
};

static struct hooked hooks[3];

static void on_turn_end(struct rt_turn_hook *h)
{
    struct hooked *k = container_of(h, struct hooked, hook);
    CHECK(!rt_on_fiber());
    k->calls++;
    if (k->again > 0) {
        k->again--;
        rt_turn_hook_arm(h);
    }
    if (h == &hooks[0].hook) {
        rt_turn_hook_disarm(&hooks[1].hook);
    }
}

static void hook_main(void *arg)
{
    (void)arg;
    memset(hooks, 0, sizeof hooks);
    for (unsigned i = 0; i < 3; i++) {
        hooks[i].hook.fn = on_turn_end;
        rt_turn_hook_arm(&hooks[i].hook);
        rt_turn_hook_arm(&hooks[i].hook);
    }
    hooks[2].again = 5;
    CHECK(hooks[0].calls == 0);
    rt_yield();
    CHECK(hooks[0].calls == 1 && hooks[1].calls == 0 && hooks[2].calls == 1);
    CHECK(rt_sleep_ms(1) == 0);
    CHECK(hooks[2].calls == 6);
}

static void hooks_end_the_turn(void **state)
{
    (void)state;
    run_on(1, hook_main);
}

static int got_signal;

static void on_signal(int signal)
{
    CHECK(rt_on_fiber() && rt_core_self() == 0);
    got_signal = signal;
    rt_event_set(&seen);
}

static void signal_main(void *arg)
{
    const int set[] = {SIGUSR1, SIGUSR2};
    (void)arg;
    rt_event_init(&seen);
    CHECK(rt_signals_watch(set, 2, on_signal) == 0);
    for (unsigned i = 0; i < 2; i++) {
        CHECK(kill(getpid(), set[i]) == 0);
        CHECK(rt_event_wait(&seen, rt_after_ms(5000)) == 0);
        CHECK(got_signal == set[i]);
        rt_event_reset(&seen);
    }
    rt_event_destroy(&seen);
}

static void signals_arrive(void **state)
{
    (void)state;
    run_on(2, signal_main);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(removed_watch_is_not_told),
        cmocka_unit_test(hooks_end_the_turn),
        cmocka_unit_test(signals_arrive),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
