/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Listeners. One fiber accepts, on the core that called net_listen(), and hands each connection to
 * the next core in turn. Serving fibers belong to a group, so that closing the listener can end
 * them.
 *
 * When descriptors or memory run out, accepting pauses for a moment and goes on: the waiting
 * connections stay in the kernel's line. Connections never take the last descriptors: the store
 * needs some, or those who are connected could not be served. Before a pause, all listeners are
 * asked to send away whom they can spare.
 */
#include "base/assert.h"
#include "base/err.h"
#include "base/msg.h"
#include "net/stream.h"
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#define BACKLOG 1024
#define ACCEPTS_PER_TURN 64
#define PAUSE_MS 100
#define RESERVED_FDS 256u /* for all else than connections; at most half of all there are */

/* Of all listeners: descriptors are the process's. */
static _Atomic unsigned connections_all;

/* Held while the listeners are asked for room: what they take then is a leaf. */
static struct rt_mutex listeners_lock;
static struct list listeners = LIST_INIT(listeners); /* [listeners_lock] */

struct net_listener {
    struct list link; /* [listeners_lock] */
    struct net_listen_options opt;
    struct net_address bound;
    struct rt_watch watch;
    struct rt_gate gate;
    struct rt_group *accepting;
    struct rt_group *serving;
    unsigned next_core;
    unsigned connections_max;
    unsigned all_max; /* connections of all listeners */
    _Atomic unsigned connections;
};

struct arrival {
    struct net_listener *l;
    int fd;
};

static void leave(struct net_listener *l)
{
    atomic_fetch_sub(&l->connections, 1);
    atomic_fetch_sub(&connections_all, !l->opt.apart);
}

static void serve(void *arg)
{
    struct arrival a = *(struct arrival *)arg;
    struct net_stream *s;
    free(arg);
    int r = net_socket_stream(a.fd, &s);
    if (r < 0) {
        msg_warn_paced("net", "%s: a connection is dropped: %s", a.l->opt.name, err_name(r));
    } else {
        a.l->opt.serve(s, a.l->opt.arg);
    }
    leave(a.l);
}

static void hand_over(struct net_listener *l, int fd)
{
    if (atomic_load(&l->connections) >= l->connections_max) {
        msg_warn_paced("net", "%s: a connection is refused: %u are open", l->opt.name,
                       l->connections_max);
        (void)close(fd);
        return;
    }
    struct arrival *a = malloc(sizeof *a);
    if (a) {
        *a = (struct arrival){.l = l, .fd = fd};
        atomic_fetch_add(&l->connections, 1);
        atomic_fetch_add(&connections_all, !l->opt.apart);
        unsigned core = l->next_core++ % rt_core_count();
        if (rt_group_spawn_on(l->serving, core, l->opt.name, serve, a) == 0) {
            return;
        }
        leave(l);
        free(a);
    }
    msg_warn_paced("net", "%s: a connection is refused: no memory or fiber to serve it",
                   l->opt.name);
    (void)close(fd);
}

/* The next connection, or -1 and errno. */
static int accept_next(struct net_listener *l)
{
    if (!l->opt.apart && atomic_load(&connections_all) >= l->all_max) {
        errno = EMFILE;
        return -1;
    }
    return accept4(l->watch.fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
}

static void make_room(void)
{
    rt_mutex_lock(&listeners_lock);
    list_for_each(&listeners, struct net_listener, link, l) {
        if (l->opt.crowded) {
            l->opt.crowded(l->opt.arg);
        }
    }
    rt_mutex_unlock(&listeners_lock);
}

/* What accept4() failed with is dealt with: 0 to go on, -ECANCELED. */
static int accept_failed(struct net_listener *l, int error)
{
    switch (error) {
    case EAGAIN:
        return rt_gate_wait(&l->gate, RT_FOREVER);
    case EMFILE:
    case ENFILE:
    case ENOMEM:
    case ENOBUFS:
        msg_warn_paced("net", "%s: accepting pauses: %s", l->opt.name, err_name(-error));
        make_room();
        return rt_sleep_ms(PAUSE_MS);
    default:
        /* The connection itself failed; the next one may be good. */
        return rt_pass();
    }
}

static void accept_loop(void *arg)
{
    struct net_listener *l = arg;
    unsigned taken = 0;
    int r = 0;
    while (r == 0) {
        int fd = accept_next(l);
        if (fd < 0) {
            r = accept_failed(l, errno);
            continue;
        }
        hand_over(l, fd);
        if (++taken % ACCEPTS_PER_TURN == 0) {
            r = rt_pass();
        }
    }
    rt_watch_remove(&l->watch);
    (void)close(l->watch.fd);
    if (l->bound.sa.sa_family == AF_UNIX) {
        (void)unlink(l->bound.un.sun_path);
    }
}

static void accept_ready(struct rt_watch *w, uint32_t events)
{
    (void)events;
    rt_gate_wake(&container_of(w, struct net_listener, watch)->gate);
}

/* Removes a socket file that nobody listens on: 0 when the path is free now. */
static int unix_replace(const struct net_address *a)
{
    struct stat st;
    if (lstat(a->un.sun_path, &st) < 0) {
        return errno == ENOENT ? 0 : -errno;
    }
    if (!S_ISSOCK(st.st_mode)) {
        return -EADDRINUSE;
    }
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        return -errno;
    }
    int r = connect(fd, &a->sa, a->len) < 0 ? -errno : 0;
    (void)close(fd);
    if (r != -ECONNREFUSED) {
        return r == -EACCES ? r : -EADDRINUSE;
    }
    return unlink(a->un.sun_path) < 0 && errno != ENOENT ? -errno : 0;
}

static int bind_unix(int fd, const struct net_address *a, int mode)
{
    int r = unix_replace(a);
    if (r < 0) {
        return r;
    }
    mode_t wanted = mode ? (mode_t)mode : 0600;
    /* The socket's own mode limits the file's from the start; chmod() undoes what the umask took
     * away. */
    if (fchmod(fd, wanted) < 0 || bind(fd, &a->sa, a->len) < 0 ||
        chmod(a->un.sun_path, wanted) < 0) {
        return -errno;
    }
    return 0;
}

/*
 * Whom a loopback address reaches is on this machine, and there is no path whose rate could be
 * found out: a congestion control that paces, where it is the system's choice, only takes turns
 * between both ends by a timer. Must be told before listen(): pacing that has begun stays. Where
 * it is refused, connections are as the system has them.
 */
static void leave_unpaced(int fd, const struct net_address *a)
{
    static const char control[] = "reno";
    if (net_address_is_loopback(a)) {
        (void)setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, control, sizeof control - 1);
    }
}

static int bind_inet(int fd, const struct net_address *a)
{
    int one = 1;
    leave_unpaced(fd, a);
    if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one) < 0) {
        return -errno;
    }
    if (a->sa.sa_family == AF_INET6 &&
        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof one) < 0) {
        return -errno;
    }
    return bind(fd, &a->sa, a->len) < 0 ? -errno : 0;
}

/* Fills in l->watch.fd and l->bound. */
static int open_socket(struct net_listener *l)
{
    struct net_address a;
    int r = net_address_parse(l->opt.address, &a);
    if (r < 0) {
        return r;
    }
    int fd = socket(a.sa.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        return -errno;
    }
    r = a.sa.sa_family == AF_UNIX ? bind_unix(fd, &a, l->opt.unix_mode) : bind_inet(fd, &a);
    if (r == 0 && listen(fd, BACKLOG) < 0) {
        r = -errno;
    }
    l->bound.len = sizeof l->bound.storage;
    if (r == 0 && getsockname(fd, &l->bound.sa, &l->bound.len) < 0) {
        r = -errno;
    }
    if (r < 0) {
        (void)close(fd);
        return r;
    }
    l->watch.fd = fd;
    l->watch.fn = accept_ready;
    return 0;
}

static int start(struct net_listener *l)
{
    int r = rt_group_create(&l->accepting);
    if (r < 0) {
        return r;
    }
    r = rt_group_create(&l->serving);
    if (r < 0) {
        return r;
    }
    r = open_socket(l);
    if (r < 0) {
        return r;
    }
    r = rt_watch_add(&l->watch, EPOLLIN);
    if (r == 0) {
        r = rt_group_spawn(l->accepting, "accept", accept_loop, l);
        if (r == 0) {
            return 0;
        }
        rt_watch_remove(&l->watch);
    }
    (void)close(l->watch.fd);
    return r;
}

static void listener_free(struct net_listener *l)
{
    rt_group_destroy(l->accepting);
    rt_group_destroy(l->serving);
    free(l);
}

/* How many descriptors connections may have. */
static unsigned descriptors_for_connections(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) < 0 || limit.rlim_cur > UINT32_MAX) {
        return UINT32_MAX;
    }
    unsigned all = (unsigned)limit.rlim_cur;
    return all - MIN_OF(RESERVED_FDS, all / 2);
}

int net_listen(const struct net_listen_options *opt, struct net_listener **ret_listener)
{
    struct net_listener *l = calloc(1, sizeof *l);
    if (!l) {
        return -ENOMEM;
    }
    l->opt = *opt;
    list_init(&l->link);
    l->connections_max = opt->connections_max ? opt->connections_max : 65536;
    l->all_max = descriptors_for_connections();
    int r = start(l);
    if (r < 0) {
        listener_free(l);
        return r;
    }
    l->opt.address = NULL;
    rt_mutex_lock(&listeners_lock);
    list_push_back(&listeners, &l->link);
    rt_mutex_unlock(&listeners_lock);
    *ret_listener = l;
    return 0;
}

void net_listener_address(const struct net_listener *l, char ret_text[NET_ADDRESS_SIZE])
{
    net_address_format(&l->bound, ret_text);
}

unsigned net_listener_connections(const struct net_listener *l)
{
    return atomic_load(&l->connections);
}

void net_listener_stop(struct net_listener *l)
{
    rt_mutex_lock(&listeners_lock);
    list_remove(&l->link);
    rt_mutex_unlock(&listeners_lock);
    rt_group_cancel(l->accepting);
    rt_group_wait(l->accepting);
}

void net_listener_close(struct net_listener *l)
{
    if (!l) {
        return;
    }
    net_listener_stop(l);
    rt_group_cancel(l->serving);
    rt_group_wait(l->serving);
    listener_free(l);
}
