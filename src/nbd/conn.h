/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The inside of the server: connections and what they share. Private to nbd.
 *
 *     server.c     listeners, drain, counts
 *     handshake.c  one connection up to the transmission phase
 *     session.c    the transmission phase: receiving, limits, starting requests
 *     move.c       to the core that is nearer to the client
 *     rx.c         receive buffers
 *     exec.c       one request, on a fiber of its own
 *     reply.c      putting replies into the stream
 *
 * A connection is a fiber of its listener; its requests are fibers of the connection's group. All
 * of them run on the connection's core, so that hardly anything in struct nbd_conn is locked. When
 * it moves, it has no request, and a fiber there takes it over while the listener's waits.
 *
 * Strangers, those in the handshake, are at most NBD_PENDING_MAX. When there are too many, the
 * oldest goes: a handshake takes milliseconds, and those who mean none shall not lock the others
 * out.
 */
#pragma once
#include "nbd/nbd.h"
#include "nbd/request.h"
#include "rt/buf.h"
#include "rt/rt.h"
#include "rt/sync.h"
#include <stdatomic.h>

#define NBD_RX_BYTES (128u << 10)
#define NBD_RX_ROOM_MIN (64u << 10)  /* below it, what is left over moves to the front */
#define NBD_LARGE_WRITE (32u << 10)  /* from here on a payload gets a buffer of its own */
#define NBD_RX_LARGE_CAP (16u << 10) /* received at once while large writes come in */
#define NBD_RX_PAGES 16u             /* received at once into buffers of their own */
#define NBD_RX_PINNED_MAX (4u << 20)
#define NBD_INFLIGHT_MAX 1024u
#define NBD_INGRESS_MAX (32u << 20) /* payload in buffers of its own */
#define NBD_PASS_BYTES (128u << 10) /* piece of a write that found no such buffer */
#define NBD_EGRESS_MAX (16u << 20)  /* replies under way and queued */
#define NBD_TURN_REQUESTS 64u
#define NBD_DRAIN_MAX (256u << 20) /* of an oversized payload; beyond it the connection ends */
#define NBD_STATUS_EXTENTS_MAX 4096u
#define NBD_PAYLOAD_TIMEOUT_MS 60000u
#define NBD_PAYLOAD_BYTES_PER_MS 256u
#define NBD_IDLE_MS 1000u
#define NBD_STALL_MS 60000u
#define NBD_PENDING_MAX 1024u /* connections that are in the handshake */
#define NBD_SPARED_PART 8u    /* of them go when descriptors are used up */

#define NBD_OPTION_DATA_MAX (64u << 10)
#define NBD_OPTION_SKIP_MAX (1u << 20)
#define NBD_OPTIONS_MAX 16384u

/* Of one core. Written there alone, read by anybody. */
struct nbd_core {
    _Alignas(64) _Atomic uint64_t connections;
    _Atomic uint64_t handshakes;
    _Atomic uint64_t handshake_failures;
    _Atomic uint64_t requests;
    _Atomic uint64_t requests_ended;
    _Atomic uint64_t errors;
    _Atomic uint64_t bytes_in;
    _Atomic uint64_t bytes_out;
    _Atomic uint64_t latency_us_log2[32];
    struct list conns;
    struct list unwanted; /* [lock of the server] strangers that have to go */
};

struct nbd_server {
    struct nbd_options opt;
    struct net_tls *tls;
    struct net_listener **listeners;
    size_t listener_count;
    struct rt_credits ingress; /* payloads in buffers of their own and pinned receive buffers */
    _Atomic bool draining;
    _Atomic unsigned kicks; /* fibers on their way that end connections */
    unsigned core_count;
    struct nbd_core *cores;
    struct rt_mutex lock;  /* a leaf, but for what starting a fiber takes */
    struct list strangers; /* [lock] those that are in the handshake, the oldest first */
    size_t stranger_count; /* [lock] */
};

/* The only writer is the core itself: no locked instruction is needed. */
static inline void nbd_count(_Atomic uint64_t *n, uint64_t more)
{
    uint64_t now = atomic_load_explicit(n, memory_order_relaxed);
    atomic_store_explicit(n, now + more, memory_order_relaxed);
}

/* A receive buffer. A request that waits while its payload stands in it pins it. */
struct nbd_rx {
    struct rt_buf *buf;
    uint32_t pins;
    bool retired; /* replaced; goes with the last pin */
};

struct nbd_job;

struct nbd_conn {
    struct nbd_server *server;
    struct nbd_core *core;
    _Atomic unsigned core_index;
    unsigned next_core; /* where it goes when the session has ended with NBD_MOVES */
    struct net_stream *stream;
    struct rt_group *group;
    struct list link;
    struct list stranger_link; /* [lock of the server] among strangers or unwanted */
    bool is_stranger;          /* [lock of the server] */
    char peer[NET_ADDRESS_SIZE];

    /* the handshake's outcome */
    enum nbd_mode mode;
    bool tls;
    bool fixed_newstyle;
    bool no_zeroes;
    bool has_context; /* base:allocation was selected, for context_name */
    char *context_name;
    struct dev *dev;
    struct dev_watch watch;
    bool told; /* of lost writes, and there is no sign that it has heard */

    /* receiving */
    struct nbd_rx *rx; /* NULL while idle */
    uint32_t head;
    uint32_t tail;
    uint32_t pinned_bytes; /* of retired receive buffers */
    bool large;            /* the last request was a large write */
    size_t stall_bytes;    /* queued, and not moving since stall_ns */
    uint64_t stall_ns;

    /* what is under way */
    uint32_t inflight;
    uint64_t ingress_bytes;
    uint64_t egress_bytes;  /* asked for by reads that are not answered yet */
    struct nbd_job *newest; /* started by the call that runs, and not ended */
    struct rt_gate gate;    /* the session waits for a request to end */
};

/* One request; lives on its fiber's stack. */
struct nbd_job {
    struct nbd_conn *c;
    struct nbd_request q;
    const uint8_t *payload; /* in the receive buffer */
    struct rt_chain *data;  /* or in buffers of its own */
    struct nbd_rx *rx;      /* pinned, or NULL */
    uint64_t credits;       /* of the server's ingress */
    uint64_t start_ns;
};

static inline void nbd_job_drop_data(struct nbd_job *job)
{
    if (unlikely(job->data != NULL)) {
        rt_chain_free(job->data);
        free(take(job->data));
    }
}

/* server.c: a connection's fiber, as the listener starts it; takes the stream over. */
void nbd_conn_serve(struct net_stream *stream, void *server) WAITS;
/* From any core. */
void nbd_server_kick(struct nbd_server *s, unsigned core);

/*
 * handshake.c: 0 when the transmission phase begins; 1 when the client has left in peace; an error.
 */
MUST int nbd_handshake(struct nbd_conn *c) WAITS;
#define NBD_MOVES 1
/* session.c: 0 at a soft disconnect, or what ended the connection; NBD_MOVES: it goes on at another
 * core, c->next_core, with another call. */
MUST int nbd_session(struct nbd_conn *c) WAITS;
/*
 * move.c: the session, here and wherever else it goes, and then end(c, r), where it was last.
 */
void nbd_session_run(struct nbd_conn *c, void (*end)(struct nbd_conn *c, int r) WAITS) WAITS;

/* rx.c */
/* At least one more byte: their number, 0 at the end of the stream, or an error. */
MUST ssize_t nbd_rx_fill(struct nbd_conn *c) WAITS;
/* The next len bytes of the stream go to dst. */
MUST int nbd_rx_take(struct nbd_conn *c, uint8_t *dst, size_t len) WAITS;
/* The next len bytes of the stream, in pages as they lie on the device from off. */
MUST int nbd_rx_take_pages(struct nbd_conn *c, uint64_t off, uint64_t len,
                           struct rt_chain *ret_data) WAITS;
MUST int nbd_rx_skip(struct nbd_conn *c, uint64_t len) WAITS;
void nbd_rx_pin(struct nbd_conn *c, struct nbd_job *job);
void nbd_rx_unpin(struct nbd_conn *c, struct nbd_job *job);
void nbd_rx_free(struct nbd_conn *c);

/* exec.c: the fiber of a request; arg is a struct nbd_job that it copies before it waits. */
void nbd_exec(void *arg) WAITS;
/* The effect of BLOCK_STATUS in reply form. */
MUST int nbd_exec_status(struct nbd_conn *c, const struct nbd_request *q,
                         struct bytes_writer *ret_payload) WAITS;

/* reply.c; queue only. What goes wrong breaks the stream, and the session sees that. */
void nbd_reply_ok(struct nbd_conn *c, const struct nbd_request *q);
void nbd_reply_error(struct nbd_conn *c, const struct nbd_request *q, enum nbd_error error);
/* The error of a request that has failed with r. */
void nbd_reply_failure(struct nbd_conn *c, const struct nbd_request *q, int r);
/* Takes over the chain. */
void nbd_reply_data(struct nbd_conn *c, const struct nbd_request *q, struct rt_chain *data);
void nbd_reply_status(struct nbd_conn *c, const struct nbd_request *q,
                      const struct bytes_writer *payload);
