/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Negotiation of the operational keys (RFC 7143 §6.2, §13). Pure: keys in, answers and agreed
 * parameters out.
 *
 *     struct iscsi_nego n;
 *     iscsi_nego_init(&n, &limits, discovery);
 *     r = iscsi_nego_key(&n, &key, &out);      // 0 answered, 1 not an operational key,
 * ERR_PROTOCOL use(n.agreed.max_burst);
 *
 * A key is negotiated once in a login; offering it again is an error (§6.4). Declarations may be
 * repeated: initiators do so when they enter the next stage.
 */
#pragma once
#include "base/attr.h"
#include "base/bytes.h"
#include "iscsi/text.h"
#include <stdbool.h>
#include <stdint.h>

/* What this target is ready to take. */
struct iscsi_limits {
    uint32_t recv_len; /* MaxRecvDataSegmentLength that we declare */
    uint32_t max_burst;
    uint32_t first_burst;
    uint32_t max_r2t;
    uint32_t max_connections; /* 0: one */
    uint32_t recovery;        /* ErrorRecoveryLevel */
    uint32_t time2retain;     /* at ErrorRecoveryLevel 2; below that nothing is retained */
    bool immediate;           /* ImmediateData=Yes is fine */
    bool unsolicited;         /* InitialR2T=No is fine */
};

/* TaskReporting (RFC 7144 §9.1). */
enum iscsi_reporting {
    ISCSI_REPORT_RFC3720,
    ISCSI_RESPONSE_FENCE,
    ISCSI_FAST_ABORT,
};

struct iscsi_params {
    bool header_digest;
    bool data_digest;
    bool initial_r2t;
    bool immediate;
    uint32_t send_len; /* the initiator's MaxRecvDataSegmentLength */
    uint32_t recv_len; /* ours, as declared; 8192 until then */
    uint32_t max_burst;
    uint32_t first_burst;
    uint32_t max_r2t;
    uint32_t max_connections;
    uint32_t recovery; /* ErrorRecoveryLevel */
    uint32_t time2wait;
    uint32_t time2retain;
    uint32_t level; /* iSCSIProtocolLevel */
    enum iscsi_reporting reporting;
};

struct iscsi_nego {
    struct iscsi_params agreed;
    struct iscsi_limits limits;
    bool discovery;
    bool retains;  /* ErrorRecoveryLevel 2 is being agreed on */
    bool joins;    /* a session that has its parameters */
    uint32_t seen; /* a bit for each rule */
};

/* Everything at its default of §13. */
void iscsi_nego_init(struct iscsi_nego *n, const struct iscsi_limits *limits, bool discovery);
/*
 * The login adds a connection to a session, of whose parameters those which are the leading
 * connection's to negotiate (§13: "LO") stay as they are: the answer to such a key is the value in
 * force, if it can come of the offer, else Reject.
 */
void iscsi_nego_join(struct iscsi_nego *n, const struct iscsi_params *session);
/* Looks at a key of the same request ahead of its turn: the answer to one may hang on another. */
void iscsi_nego_foresee(struct iscsi_nego *n, const struct iscsi_key *k);
MUST int iscsi_nego_key(struct iscsi_nego *n, const struct iscsi_key *k, struct bytes_writer *out);
/* Declares our MaxRecvDataSegmentLength, once. */
void iscsi_nego_declare(struct iscsi_nego *n, struct bytes_writer *out);
/*
 * The operational stage ends: ImmediateData=No where we must have it and the initiator has left the
 * key out. An offer that settles the matter by itself needs no answer (§6.2.2).
 */
void iscsi_nego_insist(struct iscsi_nego *n, struct bytes_writer *out);
/* The most unsolicited bytes, immediate ones included, that a command may bring. */
uint32_t iscsi_params_unsolicited(const struct iscsi_params *p);
