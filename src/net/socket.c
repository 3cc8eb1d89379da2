/* SPDX-License-Identifier: Apache-2.0 */
/* The transport over TCP and unix sockets. */
#include "base/assert.h"
#include "net/stream.h"
#include <errno.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

static ssize_t receive(int fd, const struct iovec *iov, size_t count)
{
    if (count == 1) {
        return recv(fd, iov->iov_base, iov->iov_len, MSG_DONTWAIT);
    }
    struct msghdr m = {.msg_iov = (struct iovec *)(uintptr_t)iov, .msg_iovlen = count};
    return recvmsg(fd, &m, MSG_DONTWAIT);
}

static ssize_t socket_recv(struct net_stream *s, const struct iovec *iov, size_t count)
{
    ssize_t n;
    do {
        n = receive(s->watch.fd, iov, count);
    } while (n < 0 && errno == EINTR);
    if (n < 0) {
        int r = -errno;
        s->readable = s->readable && r != -EAGAIN;
        return r;
    }
    size_t cap = 0;
    for (size_t i = 0; i < count; i++) {
        cap += iov[i].iov_len;
    }
    /* Less than asked for: the rest comes with a report of its own, unless the end was reported
     * already. */
    if ((size_t)n < cap && !s->hung_up) {
        s->readable = false;
    }
    return n;
}

static ssize_t socket_send(struct net_stream *s, const struct iovec *iov, size_t count)
{
    struct msghdr m = {.msg_iov = (struct iovec *)(uintptr_t)iov, .msg_iovlen = count};
    ssize_t n;
    do {
        n = sendmsg(s->watch.fd, &m, MSG_NOSIGNAL | MSG_DONTWAIT);
    } while (n < 0 && errno == EINTR);
    if (n < 0) {
        int r = -errno;
        s->writable = s->writable && r != -EAGAIN;
        return r;
    }
    return n;
}

static void socket_shutdown(struct net_stream *s)
{
    (void)shutdown(s->watch.fd, SHUT_RDWR);
}

/* Nothing is written anywhere, which what stands in for recv() under TSan does not know. */
static void discard_unread(int fd)
{
    (void)syscall(SYS_recvfrom, fd, NULL, 1 << 20, MSG_TRUNC | MSG_DONTWAIT, NULL, NULL);
}

static void socket_close(struct net_stream *s)
{
    rt_watch_remove(&s->watch);
    if (s->error == 0) {
        /* A close over unread bytes resets the connection, and takes the last reply away from the
         * peer. */
        (void)shutdown(s->watch.fd, SHUT_WR);
        discard_unread(s->watch.fd);
    }
    (void)close(s->watch.fd);
}

/* In this order: what a unix socket's peer has not read when it closes is no longer counted then,
 * but is an error by then. */
static bool socket_taken(const struct net_stream *s)
{
    int on_its_way = 1;
    struct pollfd state = {.fd = s->watch.fd};
    return ioctl(s->watch.fd, SIOCOUTQ, &on_its_way) == 0 && on_its_way == 0 &&
           poll(&state, 1, 0) >= 0 && !(state.revents & POLLERR);
}

const struct net_ops net_socket_ops = {
    .recv = socket_recv,
    .send = socket_send,
    .shutdown = socket_shutdown,
    .close = socket_close,
    .taken = socket_taken,
};

static void socket_event(struct rt_watch *w, uint32_t events)
{
    struct net_stream *s = container_of(w, struct net_stream, watch);
    if (events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) {
        s->hung_up = true;
    }
    if (s->connecting) {
        s->connecting = false;
        net_stream_readable(s);
    }
    if (events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR)) {
        net_stream_readable(s);
    }
    if (events & (EPOLLOUT | EPOLLHUP | EPOLLERR)) {
        net_stream_writable(s);
    }
}

int net_socket_watch(struct net_stream *s)
{
    int r = rt_watch_add(&s->watch, EPOLLIN | EPOLLOUT | EPOLLRDHUP);
    s->watch.dead = r < 0;
    return r;
}

int net_socket_stream(int fd, struct net_stream **ret_stream)
{
    struct net_stream *s;
    int one = 1;
    int r = net_stream_new(&net_socket_ops, &s);
    if (r < 0) {
        (void)close(fd);
        return r;
    }
    /* Fails on unix sockets, which have no delay. */
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    s->watch.fd = fd;
    s->watch.fn = socket_event;
    r = net_socket_watch(s);
    if (r < 0) {
        net_close(s);
        return r;
    }
    *ret_stream = s;
    return 0;
}

void net_peer_address(const struct net_stream *s, char ret_text[NET_ADDRESS_SIZE])
{
    struct net_address a = {.len = sizeof a.storage};
    if (s->watch.fd < 0 || getpeername(s->watch.fd, &a.sa, &a.len) < 0) {
        a = (struct net_address){0};
    }
    net_address_format(&a, ret_text);
}

void net_local_address(const struct net_stream *s, char ret_text[NET_ADDRESS_SIZE])
{
    struct net_address a = {.len = sizeof a.storage};
    if (s->watch.fd < 0 || getsockname(s->watch.fd, &a.sa, &a.len) < 0) {
        a = (struct net_address){0};
    }
    net_address_format(&a, ret_text);
}

int net_peer_credentials(const struct net_stream *s, uid_t *ret_uid, gid_t *ret_gid)
{
    struct ucred cred;
    socklen_t len = sizeof cred;
    int domain = 0;
    socklen_t domain_len = sizeof domain;
    if (s->watch.fd < 0 ||
        getsockopt(s->watch.fd, SOL_SOCKET, SO_DOMAIN, &domain, &domain_len) < 0 ||
        domain != AF_UNIX || getsockopt(s->watch.fd, SOL_SOCKET, SO_PEERCRED, &cred, &len) < 0) {
        return -ENOTSUP;
    }
    *ret_uid = cred.uid;
    *ret_gid = cred.gid;
    return 0;
}

/* Connects, or begins to: 0, -EINPROGRESS, or an error. */
static int connect_start(int fd, const struct net_address *a, uint64_t deadline_ns)
{
    for (;;) {
        if (connect(fd, &a->sa, a->len) == 0) {
            return 0;
        }
        if (errno != EAGAIN) {
            return -errno;
        }
        /* A unix socket whose line of waiting connections is full. */
        if (rt_after_ms(10) > deadline_ns) {
            return -ETIMEDOUT;
        }
        int r = rt_sleep_ms(10);
        if (r < 0) {
            return r;
        }
    }
}

static int connect_wait(struct net_stream *s, uint64_t deadline_ns)
{
    int error = 0;
    socklen_t len = sizeof error;
    s->connecting = true;
    while (s->connecting) {
        int r = rt_gate_wait(&s->rx_gate, deadline_ns);
        if (r < 0) {
            return r;
        }
    }
    if (getsockopt(s->watch.fd, SOL_SOCKET, SO_ERROR, &error, &len) < 0) {
        return -errno;
    }
    return -error;
}

int net_connect(const char *address, uint64_t deadline_ns, struct net_stream **ret_stream)
{
    struct net_address a;
    struct net_stream *s;
    int r = net_address_parse(address, &a);
    if (r < 0) {
        return r;
    }
    int fd = socket(a.sa.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        return -errno;
    }
    int started = connect_start(fd, &a, deadline_ns);
    if (started < 0 && started != -EINPROGRESS) {
        (void)close(fd);
        return started;
    }
    r = net_socket_stream(fd, &s);
    if (r < 0) {
        return r;
    }
    r = started < 0 ? connect_wait(s, deadline_ns) : 0;
    if (r < 0) {
        net_close(s);
        return r;
    }
    *ret_stream = s;
    return 0;
}
