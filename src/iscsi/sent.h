/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What was sent and may be asked for again (RFC 7143 §4.2.2.2, §4.2.2.4, §7): at
 * ErrorRecoveryLevel 1 and 2 every PDU that took a StatSN, and the data of every read command,
 * until the initiator acknowledges them. Private to iscsi.
 *
 *     sent (has a StatSN of its connection) -> acknowledged: gone
 *         \                                        /
 *          -> its connection fails -> reassigned: sent anew, on another connection
 * A command that ends while its connection has failed begins as one that was never sent.
 *
 * BOUNDS. Data are kept by reference, and charged with the whole buffers they hold: so much for a
 * session, so much for all. Where there is no room the oldest data of the connection go, then the
 * new ones are not kept; the status always is. What is gone cannot be sent again, and is refused.
 * Who leaves too many PDUs unacknowledged is disconnected.
 */
#pragma once
#include "base/attr.h"
#include "iscsi/conn_priv.h"
#include "iscsi/cut.h"
#include "iscsi/task.h"

struct iscsi_sent {
    struct list link; /* of the connection's, by StatSN */
    struct iscsi_conn *conn;
    uint32_t statsn;
    bool was_sent;     /* and has a StatSN of conn */
    bool is_command;   /* what follows bhs is for commands, bhs for the others */
    bool lost;         /* data, or tail: there was no room for them */
    uint32_t tail_len; /* of the data segment of the status PDU */
    uint8_t *tail;
    uint64_t charge;
    uint8_t bhs[ISCSI_BHS_BYTES];

    uint32_t itt;
    uint32_t ttt; /* by which the initiator acknowledges data */
    uint64_t lun;
    struct iscsi_scsi_response response;
    bool collapsed; /* the last Data-In PDU brings the status */
    struct iscsi_cut cut;
    uint32_t r2ts;
    uint32_t acked;       /* the DataSN up to which data are acknowledged */
    struct rt_chain data; /* from data_at on */
    uint64_t data_at;
};

/* The task's result goes out and is kept: false when there is no memory, and nothing happened. */
MUST bool iscsi_sent_reply(struct iscsi_task *t, const struct iscsi_scsi_response *response);
/* The same, kept only: its connection has failed. */
MUST bool iscsi_sent_orphan(struct iscsi_task *t, const struct iscsi_scsi_response *response);
/* A PDU other than a command's, that has just been sent. */
void iscsi_sent_answer(struct iscsi_conn *c, uint32_t statsn, const uint8_t *bhs, const void *data,
                       uint32_t len);
/* All below exp_statsn have arrived. */
void iscsi_sent_acknowledge(struct iscsi_conn *c, uint32_t exp_statsn);
/* The data below that DataSN have arrived. */
void iscsi_sent_acknowledge_data(struct iscsi_sent *e, uint32_t datasn);
void iscsi_sent_free(struct iscsi_sent *e);
void iscsi_sent_free_all(struct iscsi_conn *c);
/* Of a command, on that connection, or NULL. */
struct iscsi_sent *iscsi_sent_find(struct iscsi_conn *c, uint32_t itt);

/* Sends PDUs of it again. */
void iscsi_sent_data_again(struct iscsi_sent *e, uint32_t datasn);
void iscsi_sent_status_again(struct iscsi_sent *e);
/* Data that are not acknowledged, cut anew; then a SCSI Response with that SNACK Tag. */
void iscsi_sent_resegment(struct iscsi_sent *e, uint32_t snack_tag);
/* Sends what is not acknowledged, and the status, on another connection. */
void iscsi_sent_reassign(struct iscsi_sent *e, struct iscsi_conn *to);
