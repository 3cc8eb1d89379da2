/* SPDX-License-Identifier: Apache-2.0 */
/* Readiness of descriptors, and signals as one use of it. */
#include "base/assert.h"
#include "base/msg.h"
#include "rt/rt_priv.h"
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/signalfd.h>
#include <unistd.h>

int rt_watch_add(struct rt_watch *w, uint32_t events)
{
    ASSERT(rt_core_here && !rt_core_here->sim);
    struct epoll_event e = {.events = events | EPOLLET, .data.ptr = w};
    w->dead = false;
    if (epoll_ctl(rt_core_here->epoll_fd, EPOLL_CTL_ADD, w->fd, &e) < 0) {
        return -errno;
    }
    return 0;
}

void rt_watch_remove(struct rt_watch *w)
{
    struct rt_core *core = rt_core_here;
    ASSERT(core);
    if (w->dead) {
        return;
    }
    w->dead = true;
    (void)epoll_ctl(core->epoll_fd, EPOLL_CTL_DEL, w->fd, NULL);
    /* What epoll has already reported of it is forgotten, for its memory may go now. */
    for (int i = core->event_at; i < core->event_count; i++) {
        if (core->events[i].data.ptr == w) {
            core->events[i].data.ptr = NULL;
        }
    }
}

struct signals {
    struct rt_watch watch;
    void (*fn)(int signal);
    struct signals *next;
};

struct signal_call {
    void (*fn)(int signal);
    int signal;
};

static struct signals *all_signals;

static void signal_fiber(void *arg)
{
    struct signal_call call = *(struct signal_call *)arg;
    free(arg);
    call.fn(call.signal);
}

static void signal_deliver(struct signals *s, int signal)
{
    struct signal_call *call = malloc(sizeof *call);
    if (call) {
        *call = (struct signal_call){.fn = s->fn, .signal = signal};
        if (rt_spawn("signal", signal_fiber, call) == 0) {
            return;
        }
        free(call);
    }
    msg_error("rt", "signal %d is lost: no memory or fiber to handle it", signal);
}

static void signals_ready(struct rt_watch *w, uint32_t events)
{
    struct signals *s = container_of(w, struct signals, watch);
    struct signalfd_siginfo info;
    (void)events;
    while (read(w->fd, &info, sizeof info) == (ssize_t)sizeof info) {
        signal_deliver(s, (int)info.ssi_signo);
    }
}

int rt_signals_watch(const int *signals, size_t count, void (*fn)(int signal))
{
    ASSERT(rt_core_self() == 0);
    sigset_t set;
    (void)sigemptyset(&set);
    for (size_t i = 0; i < count; i++) {
        (void)sigaddset(&set, signals[i]);
    }
    struct signals *s = calloc(1, sizeof *s);
    if (!s) {
        return -ENOMEM;
    }
    s->fn = fn;
    s->watch.fn = signals_ready;
    s->watch.fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    int r = s->watch.fd < 0 ? -errno : 0;
    if (r == 0) {
        r = -pthread_sigmask(SIG_BLOCK, &set, NULL);
    }
    if (r == 0) {
        r = rt_watch_add(&s->watch, EPOLLIN);
    }
    if (r < 0) {
        if (s->watch.fd >= 0) {
            (void)close(s->watch.fd);
        }
        free(s);
        return r;
    }
    s->next = all_signals;
    all_signals = s;
    return 0;
}

void rt_signals_free(void)
{
    while (all_signals) {
        struct signals *s = all_signals;
        all_signals = s->next;
        (void)close(s->watch.fd);
        free(s);
    }
}
