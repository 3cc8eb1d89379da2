/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Listeners and byte streams over TCP (IPv4, IPv6) and unix sockets, plain or TLS.
 *
 * A connection lives on one core at a time: all functions on a stream are called there.
 * Receiving takes all that has arrived in one call; sending is queued and goes out at the end of
 * the turn with one sendmsg, by reference.
 *
 *     static void serve(struct net_stream *s, void *arg)           // a fiber of its own; owns s
 *     {
 *         ssize_t n;
 *         while ((n = net_recv(s, buf, sizeof buf, RT_FOREVER)) > 0) {
 *             (void)net_send_copy(s, buf, n);                      // queued, never waits
 *             if (net_send_wait(s, 1 << 20) < 0) { break; }        // WAITS while more than 1 MiB
 * is queued
 *         }
 *         net_close(s);
 *     }
 */
#pragma once
#include "base/attr.h"
#include "rt/buf.h"
#include "rt/rt.h"
#include <stdbool.h>
#include <sys/types.h>
#include <sys/uio.h>

struct net_stream;
struct net_listener;
struct net_tls;

#define NET_ADDRESS_SIZE 128

struct net_listen_options {
    const char *address;      /* "127.0.0.1:10809", "[::1]:3260", "0.0.0.0:0", "unix:/path" */
    const char *name;         /* for messages: "nbd" */
    unsigned connections_max; /* further ones are closed at once; 0 = 65536 */
    bool apart;    /* not among the connections that share what descriptors there are: for a few */
    int unix_mode; /* permissions of a unix socket; 0 = 0600 */
    void (*serve)(struct net_stream *s, void *arg);
    void *arg;
    /* May be NULL. Connections, of whichever listener, use up what descriptors there are: those
     * that can be spared may go. Called on any core, again and again; does not wait. */
    void (*crowded)(void *arg);
};

/*
 * Binds and listens; each connection is given to serve() on a fiber, connections spread over the
 * cores round-robin. 0, or -EADDRINUSE, -EACCES, -EINVAL (address does not parse). A stale unix
 * socket that nobody listens on is replaced.
 */
MUST int net_listen(const struct net_listen_options *opt, struct net_listener **ret_listener);
/* The bound address, with the port that the kernel chose for port 0. */
void net_listener_address(const struct net_listener *l, char ret_text[NET_ADDRESS_SIZE]);
unsigned net_listener_connections(const struct net_listener *l);
/* Takes no further connections; those that are open live on. */
void net_listener_stop(struct net_listener *l) WAITS;
/* Cancels the serving fibers that are left, waits for their end, frees. Accepts NULL. */
void net_listener_close(struct net_listener *l) WAITS;

/* Connects (tests, the admin client). */
MUST int net_connect(const char *address, uint64_t deadline_ns, struct net_stream **ret_stream)
    WAITS;
/* Two streams joined in memory, no descriptors: for tests and under sim. */
MUST int net_pipe(struct net_stream **ret_a, struct net_stream **ret_b);

void net_peer_address(const struct net_stream *s, char ret_text[NET_ADDRESS_SIZE]);
/* The address at which this connection reached us: what SendTargets advertises. */
void net_local_address(const struct net_stream *s, char ret_text[NET_ADDRESS_SIZE]);
/* Of the peer of a unix socket (SO_PEERCRED): 0, or -ENOTSUP for other sockets. */
MUST int net_peer_credentials(const struct net_stream *s, uid_t *ret_uid, gid_t *ret_gid);

/*
 * What has arrived, at most cap bytes: the number of bytes, 0 when the peer has closed, -ETIMEDOUT,
 * -ECANCELED, -ECONNRESET, ... One recv(2); under TLS at least one record's worth. net_recv_try()
 * is the same without waiting: -EAGAIN when nothing is there.
 */
MUST ssize_t net_recv(struct net_stream *s, void *dst, size_t cap, uint64_t deadline_ns) WAITS;
/* The same into several pieces, one after the other. */
MUST ssize_t net_recv_pieces(struct net_stream *s, const struct iovec *iov, size_t count,
                             uint64_t deadline_ns) WAITS;
MUST ssize_t net_recv_try(struct net_stream *s, void *dst, size_t cap);
/* Exactly len bytes: 0, -ECONNRESET when the peer closed before, or as above. */
MUST int net_recv_all(struct net_stream *s, void *dst, size_t len, uint64_t deadline_ns) WAITS;

/*
 * Queue bytes for sending; what was queued in a turn goes out at its end. net_send_copy() copies
 * (headers); net_send_ref() takes its own reference of buf (NULL: the bytes live for ever);
 * net_send_chain() takes over the references of the chain, which is empty after. 0, -ENOMEM, or the
 * error that broke the stream; once broken, it stays so.
 */
MUST int net_send_copy(struct net_stream *s, const void *data, size_t len);
MUST int net_send_ref(struct net_stream *s, struct rt_buf *buf, const void *data, size_t len);
MUST int net_send_chain(struct net_stream *s, struct rt_chain *c);
/* Bytes queued and not yet taken by the kernel. */
size_t net_send_queued(const struct net_stream *s);
/* All that was queued has come to the peer's machine; over a unix socket, the peer has read it. */
bool net_send_taken(const struct net_stream *s);
/* When the transport, after it was full, last had room again: the peer has taken bytes then. 0: it
 * never was. */
uint64_t net_send_taken_ns(const struct net_stream *s);
/* Sends now what is queued, without waiting; the end of the turn does so by itself. */
void net_send_flush(struct net_stream *s);
/* Waits until at most limit_bytes are queued: 0, or the stream's error, -ECANCELED. No progress in
 * 60 s: -ETIMEDOUT. */
MUST int net_send_wait(struct net_stream *s, size_t limit_bytes) WAITS;

/*
 * To another core: out on the one where it is, when no fiber waits for it and nothing is queued;
 * then in, on the other. 0, or an error that leaves it broken. Not with TLS.
 */
void net_move_out(struct net_stream *s);
MUST int net_move_in(struct net_stream *s);

/*
 * A stream is best served on the CPU where its packets come in. Asked for before each receive of
 * who can move: true now and then, and then net_place() says on which core the stream is to live,
 * which may be another one. Not a must; the balance among cores is kept, whoever goes and whoever
 * stays.
 */
bool net_place_due(struct net_stream *s);
unsigned net_place(struct net_stream *s);
/* It has nothing to do for a while, and does not count as a burden of its core. */
void net_place_idle(struct net_stream *s);

/* From any fiber of its core: the receive that waits, or the next one, gives -ESHUTDOWN. The stream
 * is whole. */
void net_recv_break_off(struct net_stream *s);
/* Breaks the stream from any fiber of its core: waits of others give -ECONNRESET. The stream stays
 * allocated. */
void net_shutdown(struct net_stream *s);
/* Frees; queued bytes are sent if the kernel takes them at once. Only when no other fiber uses it.
 */
void net_close(struct net_stream *s);

struct net_tls_options {
    const char *cert_file; /* PEM, with chain */
    const char *key_file;
    const char *ca_file; /* peers are verified against it; NULL = not verified */
    bool verify_client;  /* a client certificate is required */
};

/* Server context; 0, or -EINVAL with the reason in the log. */
MUST int net_tls_create(const struct net_tls_options *opt, struct net_tls **ret_tls);
void net_tls_free(struct net_tls *t);
/* Upgrades the stream to TLS, as the server. Nothing may be queued or received beyond the point of
 * upgrade. */
MUST int net_starttls(struct net_stream *s, struct net_tls *t, uint64_t deadline_ns) WAITS;
