/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sessions and their connections. Private to iscsi.
 *
 * WHO TOUCHES WHAT
 * A session lives on one core, and so do all of its connections. Each connection's fiber (conn.c)
 * receives; commands and task management run on fibers of the session's group. All state is used on
 * that core alone, except for what is marked [lock]: the server's mutex, and the atomics; what the
 * core itself reads of [lock] it may read without. Others reach a session or a connection through
 * iscsi_session_poke() and iscsi_conn_poke() only.
 *
 * LIFE OF A CONNECTION
 *     login -> full feature -> (failed ->) closing -> gone
 * login     receives login requests; has a session of its own that is in no table, until the last
 *           request, when that becomes a session of the table or is given up for one that is there
 * full      has joined its session, which has a nexus (not for discovery)
 * failed    ErrorRecoveryLevel 2: the stream is broken, its tasks go on, and wait for another
 *           connection to take them (recovery.c)
 * closing   the stream is broken; its tasks are aborted and waited for; then it leaves the session,
 *           and who leaves last ends the session: nexus, then table entry (session.c)
 * Memory goes when the last reference does.
 */
#pragma once
#include "base/bytes.h"
#include "base/list.h"
#include "dev/paths.h"
#include "iscsi/guard.h"
#include "iscsi/iscsi.h"
#include "iscsi/nego.h"
#include "iscsi/pdu.h"
#include "iscsi/window.h"
#include "net/net.h"
#include "rt/rt.h"
#include "rt/sync.h"
#include "scsi/scsi.h"
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define ISCSI_TURN_PDUS 64u
#define ISCSI_RX_FIRST (32u << 10)  /* receive buffer of a connection that has something to say */
#define ISCSI_RX_BYTES (256u << 10) /* and of one that says a lot */
#define ISCSI_RX_SMALL 64u          /* of an idle one */
#define ISCSI_RECV_LEN (256u << 10) /* the MaxRecvDataSegmentLength we declare */
#define ISCSI_SEND_LEN (256u << 10) /* the longest data segment we send */
#define ISCSI_BURST_MAX (1u << 20)
#define ISCSI_FIRST_BURST_MAX (64u << 10)
#define ISCSI_R2T_MAX 8u
#define ISCSI_GATHER_BYTES (256u << 10)  /* one buffer of gathered data */
#define ISCSI_SOLICITED_BYTES (8u << 20) /* asked for by R2T at a time, per connection */
#define ISCSI_DATA_OUT_NS 15000000000ull /* within which asked-for data must come */
#define ISCSI_REMIND_NS 4000000000ull    /* and after this asked for again, if it may be lost */
#define ISCSI_ABORT_DATA_NS 500000000ull /* and after an abort of the task */
#define ISCSI_TASK_BUCKETS 64u
#define ISCSI_IMMEDIATE_MAX 16u       /* immediate commands and TMFs under way */
#define ISCSI_HELD_BYTES (1u << 20)   /* data of requests, not commands, that wait for their turn */
#define ISCSI_EGRESS_BYTES (8u << 20) /* read data under way or queued, per connection */
#define ISCSI_EGRESS_HARD (12u << 20) /* past this the connection stops reading requests */
#define ISCSI_PENDING_MAX 1024u       /* connections without a session, or one of discovery */
#define ISCSI_SPARED_PART 8u          /* of them go when descriptors are used up */
#define ISCSI_IDLE_NS 1000000000ull
#define ISCSI_OPENED_MAX (DEV_GROUPS_MAX * DEV_PORTALS_MAX)
#define ISCSI_WIDE_LOGINS_MAX 64u
#define ISCSI_RETAINED_BYTES (16ull << 20) /* sent and kept, of a session */
#define ISCSI_SENT_MAX 1024u               /* PDUs that a connection may leave unacknowledged */
#define ISCSI_SENT_ALL (1u << 18)          /* and all of them, before it may less */
#define ISCSI_SOON_NS 1000000000ull        /* after which it is asked to acknowledge */
#define ISCSI_CONNECTIONS_MAX 8u           /* of a session */
#define ISCSI_RETAIN_SECONDS 20u           /* DefaultTime2Retain */

struct iscsi_task;

/* Counters of one core: written there alone. */
struct iscsi_core {
    _Alignas(64) _Atomic uint64_t commands;
    _Atomic uint64_t digest_errors;
    _Atomic uint64_t rejects;
    _Atomic uint64_t latency[32];
    unsigned active; /* sessions that have commands under way; its own business */
};

struct iscsi_server {
    struct dev_registry *registry;
    struct scsi_host *host;
    struct isns_client *isns; /* NULL: none */
    bool isns_said;           /* that a name leads to a loopback address; its client's */
    struct net_listener *listeners[ISCSI_PORTALS_MAX];
    char bound[ISCSI_PORTALS_MAX]
              [NET_ADDRESS_SIZE]; /* where they listen, also when they have gone */
    size_t listener_count;
    struct rt_lock opening; /* the next two; see portal.c */
    struct net_listener *opened[ISCSI_OPENED_MAX];
    size_t opened_count;
    unsigned sessions_max;
    unsigned connections_max; /* of a session */
    unsigned recovery;        /* ErrorRecoveryLevel at most */
    uint64_t login_timeout_ns;
    uint64_t nop_interval_ns;
    unsigned core_commands;      /* that the sessions of a core may have under way: share.c */
    struct rt_credits ingress;   /* immediate and unsolicited data of all windows */
    struct rt_credits gather;    /* solicited data that is not for the medium */
    struct rt_credits retained;  /* what was sent and is kept to be sent again */
    _Atomic unsigned sent_total; /* PDUs that are */
    _Atomic bool draining;
    const char *drain_to; /* set before draining; NULL: nowhere */
    _Atomic uint64_t logins;
    _Atomic uint64_t login_failures;
    _Atomic uint64_t auth_failures; /* of those: a wrong name or secret */
    _Atomic unsigned chap_minimum;  /* the weakest algorithm that will do */
    char *keytab;                   /* of Kerberos; NULL: there is none */
    char *principal;                /* of the service; NULL: iscsi/ and the target's name */
    _Atomic unsigned wide_logins;   /* that may have a long KRB_AP_REQ in memory */
    struct iscsi_core cores[RT_CORES_MAX];

    struct rt_mutex lock; /* all below, and conn.[lock] */
    struct rt_waitq changed;
    struct list *buckets;      /* of sessions, by nexus */
    struct list *tsih_buckets; /* and by TSIH */
    struct list conns;         /* every connection */
    size_t conn_count;
    struct list strangers; /* those that have not logged in, the oldest first */
    size_t stranger_count;
    size_t session_count;
    uint64_t rounds; /* of counting sessions by their connections */
    uint16_t last_tsih;
    char **advertise;
    size_t advertise_count;
    struct iscsi_guard guard;
};

#define ISCSI_SESSION_BUCKETS 1024u

enum iscsi_conn_state {
    ISCSI_CONN_LOGIN,
    ISCSI_CONN_FULL,
    ISCSI_CONN_FAILED, /* its tasks wait for another connection */
    ISCSI_CONN_CLOSING,
};

struct iscsi_rx {
    struct rt_buf *buf; /* NULL while idle */
    uint32_t head;
    uint32_t tail;
    bool full; /* a receive has filled the buffer: the next may be larger */
    bool bulk; /* the last data segment was received in place: take little more than the next header
                */
    uint32_t segment;     /* bytes of the current data segment not yet taken */
    uint32_t pad;         /* and its padding */
    uint32_t crc;         /* of what was taken */
    bool check;           /* a data digest follows */
    uint64_t last_ns;     /* when something last arrived */
    uint64_t deadline_ns; /* for the current receive */
    uint8_t small[ISCSI_RX_SMALL];
};

/* A request that waits for its CmdSN's turn. */
struct iscsi_held {
    struct list link;
    struct iscsi_conn *conn; /* it came on; NULL: aborted before its turn */
    struct iscsi_request req;
    struct iscsi_task *task;  /* of a SCSI command */
    struct bytes_writer data; /* of another request */
};

struct iscsi_session {
    struct iscsi_server *server;
    unsigned core;
    _Atomic unsigned refs;
    _Atomic unsigned pokes; /* enum iscsi_poke bits wanted from other cores */

    /* Written at login before the table has it, constant after. */
    bool discovery;
    char *initiator;
    char *iqn;
    uint8_t isid[6];
    uint16_t tpgt; /* the portal group that it came through: part of the nexus' name */
    char *user;    /* who the leading login proved to be, as struct iscsi_conn has it */
    enum iscsi_method method;
    uint16_t tsih;
    struct scsi_target *target;
    struct scsi_nexus *nexus;
    struct iscsi_params params; /* the leading login's: what is session-wide counts */
    uint64_t reserved;          /* of server->ingress */
    uint32_t window_size;       /* at most */
    uint64_t since_ns;          /* it is in the table */

    struct list table_link; /* [lock] */
    struct list tsih_link;  /* [lock] */
    bool in_table;          /* [lock] */
    bool ending;            /* [lock] nobody may join any more */
    struct list conns;      /* [lock] those that have joined, by arrival */
    unsigned failed;        /* [lock] of these, those that have failed */
    unsigned members;       /* [lock] these, and logins that wait to join: the last one ends it */
    uint64_t round;         /* [lock] of server->rounds, in which it was counted last */

    uint32_t window_now;
    struct iscsi_window window;
    struct rt_group *group;
    struct list held; /* requests that wait for their CmdSN's turn, by arrival */
    unsigned held_count;
    size_t held_bytes;                            /* of their data */
    struct iscsi_task *tasks[ISCSI_TASK_BUCKETS]; /* by ITT */
    unsigned task_count;
    unsigned immediate_count;
    struct iscsi_task *free_tasks;
    uint32_t next_ttt;
    uint64_t retained;           /* of server->retained: sent.c */
    struct rt_credits solicited; /* what R2Ts hold while their data are on their way */
    unsigned fences;             /* fibers that wait for acknowledgements, and where */
    struct rt_mutex fence_lock;
    struct rt_waitq fence;
    uint64_t fast_abort_told; /* of the last message with event 5: scsi's abort_id */
};

struct iscsi_conn {
    struct iscsi_server *server;
    struct iscsi_session *session;
    struct net_stream *stream;
    _Atomic unsigned core; /* changes once at most, while it has no fiber but its own */
    _Atomic unsigned refs;
    _Atomic unsigned pokes; /* enum iscsi_poke bits wanted from other cores */
    bool poke_ready;        /* the stream may be used by a poke */
    unsigned poked;         /* what was wanted when it could not be done yet */
    int broken;             /* why the connection ends; 0 while it does not */
    enum iscsi_conn_state state;

    uint16_t cid;
    struct {
        char *user; /* CHAP_N or the principal; NULL: nobody asked */
        enum iscsi_method method;
        uint8_t algorithm; /* of CHAP */
        bool mutual;
    } auth;
    uint64_t since_ns;         /* it has joined */
    _Atomic uint64_t commands; /* written on the connection's core alone, as are the next two */
    _Atomic uint64_t bytes_read;
    _Atomic uint64_t bytes_written;
    char peer[NET_ADDRESS_SIZE];
    char local[NET_ADDRESS_SIZE];

    struct list all_link;      /* [lock] */
    struct list stranger_link; /* [lock] */
    struct list session_link;  /* [lock] of session->conns */
    bool joined;               /* [lock] */
    bool replaced;             /* a new connection with its CID waits for its end */

    struct iscsi_params params;
    bool header_digest; /* in force */
    bool data_digest;
    bool keeps;       /* what it sends, until that is acknowledged: ErrorRecoveryLevel > 0 */
    bool tracks;      /* ExpStatSN: keeps, one of several connections, or has told */
    bool told;        /* of lost writes, with told_statsn or before, and it was not heard yet */
    bool recovered;   /* it has failed, and its tasks may be reassigned: recovery.c */
    bool logged_out;  /* and has nothing to be recovered */
    struct list sent; /* by StatSN: sent.h */
    unsigned sent_count;
    uint32_t statsn;
    uint32_t acknowledged; /* ExpStatSN as it was last told */
    uint32_t told_statsn;
    struct iscsi_rx rx;

    unsigned task_count;     /* of the session's tasks, those that are this connection's */
    struct rt_gate all_done; /* for who waits until there are none, and nobody waits for egress */
    struct iscsi_task
        *rx_task;    /* whose data are being received; NULL when it has ended meanwhile */
    uint32_t hinted; /* commands in the receive buffer that were looked at ahead */

    uint64_t data_out_ns; /* when the last Data-Out came */
    bool reads_nothing;   /* for what is queued is not taken */

    uint64_t reading;        /* bytes of Data-In being prepared */
    struct list egress_line; /* those that wait for room, by arrival */
    bool egress_pump;
    struct rt_mutex egress_lock;
    struct rt_waitq egress;

    struct bytes_writer text_in; /* of a text exchange; freed at its end */
    struct bytes_writer text_out;
    size_t text_sent;
    uint32_t text_ttt; /* ISCSI_TAG_NONE: no exchange is open */
    uint32_t text_itt;

    uint32_t ping_ttt;     /* ISCSI_TAG_NONE: none outstanding */
    uint64_t logout_by_ns; /* when the session is ended, if logout_requested */
    bool logout_requested;
    bool logout_due; /* logs out itself: the response is the last thing it hears */
    uint8_t logout_reason;
    uint32_t logout_itt;
};

enum iscsi_poke {
    ISCSI_POKE_DROP = 1,       /* end it now */
    ISCSI_POKE_LOGOUT = 2,     /* ask for a logout */
    ISCSI_POKE_ASYNC_DROP = 4, /* say that the session is dropped, then end it */
    ISCSI_POKE_NEWS = 8,       /* tell what scsi_nexus_news() has */
};

/* conn.c */
void iscsi_conn_serve(struct net_stream *stream, void *server) WAITS;
/* Sends some of those away who have not logged in, the oldest first. */
void iscsi_conn_make_room(void *server);
struct iscsi_conn *iscsi_conn_ref(struct iscsi_conn *c);
void iscsi_conn_unref(struct iscsi_conn *c);
/* Asks the connection, from any core, to do that. Does not wait. The caller holds a reference or
 * server->lock. */
void iscsi_conn_poke(struct iscsi_conn *c, enum iscsi_poke what);
/* On the connection's core: does what was asked for, of it and of its session. */
void iscsi_conn_heed(struct iscsi_conn *c);
/* The same for one connection, without asking. */
void iscsi_conn_do(struct iscsi_conn *c, unsigned what);
/* On the connection's core: ends it for the reason r; the fiber notices. The first reason stays.
 */
void iscsi_conn_break(struct iscsi_conn *c, int r);

/* login.c: 0 when in full feature phase, ERR_* or -errno when the connection is to be closed (the
 * response is queued). */
MUST int iscsi_login(struct iscsi_conn *c) WAITS;

/* move.c */
/* Waits for the first request of a login: on which core the connection belongs. */
unsigned iscsi_conn_core(struct iscsi_conn *c) WAITS;
/* Has serve(c) run on that core, and waits for its end. */
void iscsi_conn_move(struct iscsi_conn *c, unsigned core, void (*serve)(struct iscsi_conn *c))
    WAITS;

/* recovery.c */
/* True when the connection is broken, and its tasks go on without it, for another one. */
static inline bool iscsi_conn_orphans(const struct iscsi_conn *c)
{
    return unlikely(c->broken < 0) && c->params.recovery == 2 && c->params.time2retain > 0 &&
           (c->state == ISCSI_CONN_FULL || c->state == ISCSI_CONN_FAILED) && !c->logged_out &&
           c->joined && !c->session->ending;
}
/* The connection is broken: keeps its tasks while another one may take them, if that was agreed. */
void iscsi_conn_hold(struct iscsi_conn *c) WAITS;
/* Another connection, c, asks for that: its tasks may be reassigned. Breaks it. */
void iscsi_conn_recover(struct iscsi_conn *c);
/* TASK REASSIGN, its response apart: what follows the response is done by the second. */
enum scsi_tmf_response iscsi_reassign_check(struct iscsi_conn *c, const struct iscsi_request *q);
void iscsi_reassign(struct iscsi_conn *c, const struct iscsi_request *q);
/* A task tag is used anew: whoever used it last has had the answer. */
void iscsi_session_forget(struct iscsi_session *s, uint32_t itt);

/* snack.c */
MUST int iscsi_snack(struct iscsi_conn *c, const struct iscsi_request *q, const uint8_t *bhs) WAITS;

/* session.c */
/* On which core the session lives that a login with this TSIH wants to join; the caller's own if
 * there is none. */
unsigned iscsi_session_core(struct iscsi_server *server, const uint8_t isid[6], uint16_t tsih);
MUST int iscsi_session_new(struct iscsi_server *server, struct iscsi_session **ret_session);
struct iscsi_session *iscsi_session_ref(struct iscsi_session *s);
void iscsi_session_unref(struct iscsi_session *s);
/* As iscsi_conn_poke(), of all of its connections. */
void iscsi_session_poke(struct iscsi_session *s, enum iscsi_poke what);
/* On the session's core: does what was asked for. */
void iscsi_session_heed(struct iscsi_session *s);
/* The parameters of the session that c is to join; false: there is no such session. */
MUST bool iscsi_session_agreed(struct iscsi_conn *c, uint16_t tsih,
                               struct iscsi_params *ret_params);
/*
 * The login's last step: c has a session of the table from here on, and has joined it. Status 0, or
 * enum iscsi_login_status as a negative number.
 */
MUST int iscsi_session_open(struct iscsi_conn *c, uint16_t tsih, uint64_t deadline_ns) WAITS;
/* The connection has no tasks left. Who is last ends the session. Does nothing for one that has not
 * joined. */
void iscsi_session_leave(struct iscsi_conn *c) WAITS;
/* Nobody may join it any more: it ends with the connections that it has. */
void iscsi_session_end(struct iscsi_session *s);
/* On the session's core: its connection with that CID, or NULL. */
struct iscsi_conn *iscsi_session_cid(struct iscsi_session *s, uint16_t cid);
/* Chooses the target, which must let the initiator in. Status as above. */
MUST int iscsi_session_admit(struct iscsi_conn *c, bool is_new) WAITS;
/* Reserves for the window, before the operational keys are negotiated. */
void iscsi_session_reserve(struct iscsi_session *s);
void iscsi_session_limits(const struct iscsi_session *s, struct iscsi_limits *ret_limits);
/* The negotiation is over: how many commands the reservation carries. Status as above. */
MUST int iscsi_session_window(struct iscsi_session *s);

/* ffp.c: full feature phase until the connection ends: why. */
MUST int iscsi_ffp_run(struct iscsi_conn *c) WAITS;
/* The CmdSN window has moved: requests whose turn has come. */
MUST int iscsi_ffp_turn(struct iscsi_conn *c) WAITS;
/* All below exp_statsn have arrived: what was told of lost writes perhaps too. */
void iscsi_conn_heard(struct iscsi_conn *c, uint32_t exp_statsn);
/* The connection ends, and nobody acknowledges anything any more. */
void iscsi_conn_unheard(struct iscsi_conn *c);
/* Asks for a sign of life, and for an acknowledgement. */
void iscsi_ping(struct iscsi_conn *c);
/* True when a request with that CmdSN is held already. */
bool iscsi_ffp_holds(struct iscsi_session *s, uint32_t cmdsn);
/* Frees the connection's requests that never had their turn; NULL: those that nobody waits for. */
void iscsi_ffp_drop_held(struct iscsi_session *s, const struct iscsi_conn *c);

/* logout.c */
/* 0, or why the connection ends. */
MUST int iscsi_logout(struct iscsi_conn *c, const struct iscsi_request *q);
/* The connection has left its session: the response that it waits for, if it does. */
void iscsi_logout_end(struct iscsi_conn *c) WAITS;

/* text_request.c */
MUST int iscsi_text_request(struct iscsi_conn *c, const struct iscsi_request *q, const void *data,
                            size_t len);
void iscsi_text_reset(struct iscsi_conn *c);

/* tmf.c */
/* A connection of the session has heard of more. */
void iscsi_fence_wake(struct iscsi_session *s);
MUST int iscsi_tmf_request(struct iscsi_conn *c, const struct iscsi_request *q) WAITS;
static inline bool iscsi_tmf_is_of_target(uint8_t function)
{
    return function == SCSI_TMF_WARM_RESET || function == SCSI_TMF_COLD_RESET;
}

/* portal.c */
/* Listens where portal groups say and nobody else does, and no longer where they do not. */
void iscsi_portals_open(struct iscsi_server *s) WAITS;
/* For good. stop: takes no more connections; else those that are there end. */
void iscsi_portals_close(struct iscsi_server *s, bool stop) WAITS;
/* The session's target is still reached the way it came. With the server's lock or without. */
bool iscsi_portal_still_good(const struct iscsi_conn *c);
/* TargetAddress of each portal of a target: of all groups through which it is reached. */
void iscsi_portals_put(struct iscsi_conn *c, const char *iqn, struct bytes_writer *out);

/* isns.c */
MUST int iscsi_isns_start(struct iscsi_server *s, const struct iscsi_isns_options *opt) WAITS;
/* An initiator is about to log in, or to discover: what it may see is found out. */
void iscsi_isns_meet(struct iscsi_server *s, const char *initiator) WAITS;
/* What discovery domains say; the rest is said elsewhere. */
bool iscsi_isns_allows(struct iscsi_server *s, const char *iqn, const char *initiator);
/* Deregisters: initiators shall not look for us here. */
void iscsi_isns_leave(struct iscsi_server *s) WAITS;
void iscsi_isns_stop(struct iscsi_server *s) WAITS;

/* share.c */
/* A numbered request is answered: there is room for one more, if the core's share allows. */
void iscsi_session_give(struct iscsi_session *s);

static inline struct iscsi_core *iscsi_conn_counters(struct iscsi_conn *c)
{
    return &c->server->cores[atomic_load_explicit(&c->core, memory_order_relaxed)];
}
/* With the server's lock: 1 for the first of the session's connections in that round, else 0. */
static inline size_t iscsi_session_once(struct iscsi_session *s, uint64_t round)
{
    bool first = s->round != round;
    s->round = round;
    return first;
}
/* A task of the connection has ended, or a fiber that uses it has. */
static inline void iscsi_conn_less(struct iscsi_conn *c)
{
    if (unlikely(c->state >= ISCSI_CONN_FAILED)) {
        rt_gate_wake(&c->all_done);
    }
}
/* A target transfer tag that nothing of the session has at the moment. */
static inline uint32_t iscsi_session_ttt(struct iscsi_session *s)
{
    if (++s->next_ttt == ISCSI_TAG_NONE) {
        s->next_ttt = 1;
    }
    return s->next_ttt;
}
/* For counters that one core alone writes: no locked instruction. */
static inline void iscsi_count_by(_Atomic uint64_t *counter, uint64_t n)
{
    atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + n,
                          memory_order_relaxed);
}
static inline void iscsi_count(_Atomic uint64_t *counter)
{
    iscsi_count_by(counter, 1);
}
