/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The inside of a stream. Private to net.
 *
 * A stream stands on a transport (socket.c, pipe.c), which moves bytes without waiting and says
 * when it is ready again; TLS is a layer between the two:
 *
 *     stream.c    waits, queue, errors
 *        | ops
 *     tls.c       (once upgraded)
 *        | raw
 *     socket.c | pipe.c
 */
#pragma once
#include "base/list.h"
#include "net/address.h"
#include "net/net.h"
#include "net/place.h"
#include "net/tx.h"
#include "rt/sync.h"

/* All required, but for taken, which is asked of transports only. recv and send give bytes (recv: 0
 * = the peer closed), -EAGAIN, or an error that breaks the stream. */
struct net_ops {
    ssize_t (*recv)(struct net_stream *s, const struct iovec *iov, size_t count);
    ssize_t (*send)(struct net_stream *s, const struct iovec *iov, size_t count);
    void (*shutdown)(struct net_stream *s);
    void (*close)(struct net_stream *s);
    /* Nothing that was sent is still on its way. */
    bool (*taken)(const struct net_stream *s);
};

struct net_stream {
    const struct net_ops *ops;
    const struct net_ops *raw;
    int error; /* 0, or what broke the stream */
    /* A call is worth while. Set when the transport reports readiness, cleared when a call used it
     * up. */
    bool readable;
    bool writable;
    bool hung_up;    /* the end has come: no further report will */
    bool connecting; /* cleared by the first report */
    bool received;   /* bytes were given out in this turn: the next receive ends the turn first */
    bool recv_broken_off; /* the next receive gives -ESHUTDOWN */
    unsigned core;
    struct rt_gate rx_gate;
    struct list tx_waiters;
    struct net_tx tx;
    struct rt_turn_hook hook;
    uint64_t progress_ns; /* when the transport last took bytes */
    uint64_t taken_ns;    /* when it last had room again after it was full */
    struct net_place place;
    struct rt_watch watch;
    struct net_pipe *pipe;
    struct net_tls_session *tls;
    size_t tls_pending; /* bytes encrypted and not yet taken by the transport */
};

extern const struct net_ops net_socket_ops;

MUST int net_stream_new(const struct net_ops *ops, struct net_stream **ret_stream);
/* A stream on a connected or connecting socket; takes over fd, also when it fails. */
MUST int net_socket_stream(int fd, struct net_stream **ret_stream);
/* Has the core at hand report the socket's readiness. */
MUST int net_socket_watch(struct net_stream *s);
/* Called by transports, outside of or on a fiber of the stream's core. */
void net_stream_readable(struct net_stream *s);
void net_stream_writable(struct net_stream *s);
/* Breaks the stream: drops what is queued, wakes all. */
void net_stream_break(struct net_stream *s, int error);

/* Frees the session; accepts NULL. */
void net_tls_session_free(struct net_tls_session *t);
