/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A SCSI command in the transport's hands: from its PDU until its response is queued. Private to
 * iscsi.
 *
 *     arrived -> (held for its CmdSN) -> started -> gathering -> running -> answered
 *
 * The connection's fiber makes it, receives its data, and starts it; its own fiber gathers, runs,
 * answers and frees it. Both live on one core. on_abort alone comes from elsewhere, and only sets
 * the event.
 */
#pragma once
#include "base/attr.h"
#include "iscsi/conn_priv.h"
#include "rt/sync.h"
#include "scsi/scsi.h"

/* Data-out in buffers, in order and without gaps. Filled out of order only across the R2Ts that are
 * open. */
struct iscsi_segment {
    struct rt_buf *buf;
    uint32_t offset;
    uint32_t len;
};

struct iscsi_gather {
    struct iscsi_segment *segments;
    uint32_t count;
    uint32_t cap;
    uint32_t room; /* bytes the segments cover */
    struct iscsi_segment inline_at[2];
};

struct iscsi_burst { /* an R2T that is open */
    uint32_t ttt;
    uint32_t offset;
    uint32_t len;
    uint32_t got;
    uint32_t datasn;
    uint32_t r2tsn;
    bool lost; /* a part of it: what follows is passed over until F */
};

struct iscsi_task {
    struct scsi_task scsi;
    struct iscsi_conn *conn;
    struct iscsi_task *next; /* of its bucket, or of the free list */
    uint64_t lun;
    uint32_t itt;
    uint32_t edtl;
    bool immediate; /* of the PDU: takes no room in the window */
    bool begun;     /* it has had its turn */
    bool bidi;      /* both R and W */
    uint32_t bidi_len;
    uint64_t began_ns;

    struct iscsi_gather gather;
    bool unsolicited;        /* more will come unasked, until F */
    uint32_t unsolicited_at; /* where the next of them belongs */
    uint32_t unsolicited_sn;
    uint32_t unsolicited_max;
    uint32_t asked;     /* up to where data were asked for */
    uint32_t solicited; /* of the connection's credits */
    uint64_t credits;   /* of server->gather */
    uint32_t r2tsn;
    unsigned open;
    struct iscsi_burst bursts[ISCSI_R2T_MAX];
    bool data_lost;        /* to a wrong digest, and not to be recovered */
    bool unsolicited_lost; /* from unsolicited_at on: it is asked for */
    bool asked_again;      /* for nothing came */
    bool no_memory;
    bool waits;                     /* wake is initialised */
    struct rt_fiber *_Atomic fiber; /* that carries it out; NULL: none yet */
    struct rt_event wake;
    struct iscsi_conn *egress; /* which has the next of its read data accounted, or NULL */
    uint64_t reading;
    struct rt_gate moved; /* to another connection */
};

/* cmd.c */
/* A SCSI Command PDU whose header was received: receives the rest. */
MUST int iscsi_command(struct iscsi_conn *c, const struct iscsi_request *q, const uint8_t *bhs,
                       const uint8_t *ahs) WAITS;
/* Its turn has come. */
void iscsi_command_start(struct iscsi_task *t) WAITS;
struct iscsi_task *iscsi_task_find(struct iscsi_session *s, uint32_t itt);
void iscsi_task_free(struct iscsi_task *t);
void iscsi_task_pool_free(struct iscsi_session *s);
/* Aborts all tasks of the connection and waits for their end. Shielded from cancellation. */
void iscsi_tasks_abort(struct iscsi_conn *c) WAITS;

/* reply.c */
void iscsi_reply(struct iscsi_task *t);
/* The connection has failed: the result is kept for the next one. */
void iscsi_reply_later(struct iscsi_task *t);
/* True when iscsi_egress_enter() would not wait. */
bool iscsi_egress_is_free(const struct iscsi_conn *c, uint64_t len);
/* Waits until the connection can take len more bytes of Data-In: 0 or -ECANCELED. */
MUST int iscsi_egress_enter(struct iscsi_conn *c, uint64_t len) WAITS;
void iscsi_egress_leave(struct iscsi_conn *c, uint64_t len);
/* The connection is broken: nobody is to wait for it. */
void iscsi_egress_wake(struct iscsi_conn *c);

/* gather.c */
/* Buffers for all bytes below upto. */
MUST int iscsi_gather_room(struct iscsi_gather *g, uint32_t upto);
/* Where the byte at offset belongs, and how many may follow it there. The buffer is the gather's.
 */
uint8_t *iscsi_gather_at(struct iscsi_gather *g, uint32_t offset, uint32_t *ret_len,
                         struct rt_buf **ret_buf);
/* The first len bytes as a chain; the buffers go with it. */
MUST int iscsi_gather_chain(struct iscsi_gather *g, uint32_t len, struct rt_chain *ret_chain);
void iscsi_gather_free(struct iscsi_gather *g);

/* data_out.c */
/* Receives the data segment of the PDU at hand to that offset of the task. 0; 1: the digest was
 * wrong. */
MUST int iscsi_data_receive(struct iscsi_conn *c, struct iscsi_task *t, uint32_t offset) WAITS;
/* A Data-Out PDU whose header was received. */
MUST int iscsi_data_out(struct iscsi_conn *c, const struct iscsi_request *q, const uint8_t *bhs)
    WAITS;
/* On the task's fiber: asks for what is missing and waits for it. 0; -ECANCELED when the task is
 * aborted or the connection gone. */
MUST int iscsi_data_gather(struct iscsi_task *t) WAITS;
/* Sends the R2T again. */
void iscsi_r2t_again(struct iscsi_task *t, const struct iscsi_burst *b);
/* The task is another connection's from here on, whose initiator knows that many R2Ts. */
void iscsi_task_reassign(struct iscsi_task *t, struct iscsi_conn *to, uint32_t exp_r2tsn);
/* Waits until no more unsolicited data comes. Results as above. */
MUST int iscsi_data_settle(struct iscsi_task *t) WAITS;
