/* SPDX-License-Identifier: Apache-2.0 */
#include "lg.h"
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static int open_unix(const char *path)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof a.sun_path) {
        lg_die("the path of the socket is too long");
    }
    memcpy(a.sun_path, path, strlen(path) + 1);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || connect(fd, (struct sockaddr *)&a, sizeof a) < 0) {
        lg_die("connect");
    }
    return fd;
}

/* Without the pacing that some systems choose: within a machine it is noise, the same server being
 * half as fast or not by how its rate was guessed. Where that is refused, it stays. */
static int open_tcp(const char *host, const char *port)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM};
    struct addrinfo *a;
    int one = 1;
    static const char control[] = "reno";
    if (getaddrinfo(host, port, &hints, &a) != 0) {
        lg_die("no such host or port");
    }
    int fd = socket(a->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        lg_die("socket");
    }
    (void)setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, control, sizeof control - 1);
    if (connect(fd, a->ai_addr, a->ai_addrlen) < 0) {
        lg_die("connect");
    }
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    freeaddrinfo(a);
    return fd;
}

void lg_wire_open(struct lg_wire *w)
{
    const char *host = lg_options.host;
    w->rx = malloc(LG_RX_SIZE);
    w->headers = malloc(LG_HEADERS_SIZE);
    if (!w->rx || !w->headers) {
        lg_die("no memory");
    }
    w->fd = strncmp(host, "unix:", 5) == 0 ? open_unix(host + 5) : open_tcp(host, lg_options.port);
}

void lg_wire_write(struct lg_wire *w, const void *data, size_t len)
{
    const uint8_t *at = data;
    while (len > 0) {
        ssize_t n = send(w->fd, at, len, MSG_NOSIGNAL);
        if (n < 0 && errno != EINTR) {
            lg_die("send");
        }
        at += n > 0 ? n : 0;
        len -= n > 0 ? (size_t)n : 0;
    }
}

void lg_wire_read(struct lg_wire *w, void *dst, size_t len)
{
    uint8_t *at = dst;
    while (len > 0) {
        ssize_t n = recv(w->fd, at, len, 0);
        if (n == 0 || (n < 0 && errno != EINTR)) {
            lg_die("the server closed the connection");
        }
        at += n > 0 ? n : 0;
        len -= n > 0 ? (size_t)n : 0;
    }
}

void lg_wire_flush(struct lg_wire *w)
{
    struct msghdr m = {.msg_iov = w->iov, .msg_iovlen = w->iov_count};
    while (m.msg_iovlen > 0) {
        ssize_t n = sendmsg(w->fd, &m, MSG_NOSIGNAL);
        if (n < 0 && errno != EINTR) {
            lg_die("sendmsg");
        }
        size_t done = n > 0 ? (size_t)n : 0;
        while (m.msg_iovlen > 0 && done >= m.msg_iov->iov_len) {
            done -= m.msg_iov->iov_len;
            m.msg_iov++;
            m.msg_iovlen--;
        }
        if (m.msg_iovlen > 0) {
            m.msg_iov->iov_base = (uint8_t *)m.msg_iov->iov_base + done;
            m.msg_iov->iov_len -= done;
        }
    }
    w->iov_count = 0;
    w->headers_used = 0;
}

uint8_t *lg_wire_header(struct lg_wire *w, size_t len)
{
    if (w->headers_used + len > LG_HEADERS_SIZE || w->iov_count == LG_IOV_MAX) {
        lg_wire_flush(w);
    }
    uint8_t *h = w->headers + w->headers_used;
    w->headers_used += len;
    memset(h, 0, len);
    struct iovec *last = w->iov_count > 0 ? &w->iov[w->iov_count - 1] : NULL;
    if (last && (uint8_t *)last->iov_base + last->iov_len == h) {
        last->iov_len += len;
    } else {
        w->iov[w->iov_count++] = (struct iovec){.iov_base = h, .iov_len = len};
    }
    return h;
}

const uint8_t *lg_wire_payload(struct lg_wire *w, uint64_t offset, size_t len)
{
    if (len == 0) {
        return lg_payload;
    }
    if (w->iov_count == LG_IOV_MAX) {
        lg_wire_flush(w);
    }
    /* Not the same bytes everywhere on the device. */
    size_t from = offset % (LG_PAYLOAD_SIZE - len + 1) & ~(size_t)511;
    w->iov[w->iov_count++] = (struct iovec){.iov_base = lg_payload + from, .iov_len = len};
    return lg_payload + from;
}

void lg_wire_fill(struct lg_wire *w)
{
    if (w->rx_head == w->rx_tail) {
        w->rx_head = 0;
        w->rx_tail = 0;
    } else if (LG_RX_SIZE - w->rx_tail < 65536) {
        memmove(w->rx, w->rx + w->rx_head, w->rx_tail - w->rx_head);
        w->rx_tail -= w->rx_head;
        w->rx_head = 0;
    }
    ssize_t n = recv(w->fd, w->rx + w->rx_tail, LG_RX_SIZE - w->rx_tail, 0);
    if (n == 0 || (n < 0 && errno != EINTR)) {
        lg_die("the server closed the connection");
    }
    w->rx_tail += n > 0 ? (size_t)n : 0;
}

const uint8_t *lg_wire_peek(const struct lg_wire *w, size_t len)
{
    return w->rx_tail - w->rx_head >= len ? w->rx + w->rx_head : NULL;
}

void lg_wire_used(struct lg_wire *w, size_t len)
{
    w->rx_head += len;
}
