/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Persistent reservations of a logical unit (SPC-4 5.13): the rules, as functions of a state and a
 * request that know nothing of nexuses and of the store (pr_rules.c), and the form in which a state
 * is stored (pr_record.c). Who applies them, and to whom, is in pr.c.
 *
 *     struct scsi_pr_state s = {0};
 *     struct scsi_pr_outcome o = {0};
 *     enum scsi_pr_verdict v = scsi_pr_apply(&s, &request, &o);
 *     scsi_pr_state_free(&s); scsi_pr_outcome_free(&o);
 *
 * A registration is of an I_T nexus: the name of the initiator port ("iqn...,i,0x00023d000001") and
 * the relative identifier of the target port. It has nothing to do with a session.
 */
#pragma once
#include "base/attr.h"
#include "base/bytes.h"
#include "base/vec.h"
#include "dev/dev.h"
#include "scsi/scsi.h"

#define SCSI_PR_REGISTRANTS_MAX 2048u
/* Longest list that PERSISTENT RESERVE OUT takes: some 250 TransportIDs of the longest kind. */
#define SCSI_PR_LIST_MAX 65536u

enum scsi_pr_type { /* SPC-4 table 63 */
    SCSI_PR_NONE = 0,
    SCSI_PR_WRITE_EXCLUSIVE = 1,
    SCSI_PR_EXCLUSIVE_ACCESS = 3,
    SCSI_PR_WRITE_EXCLUSIVE_RO = 5,
    SCSI_PR_EXCLUSIVE_ACCESS_RO = 6,
    SCSI_PR_WRITE_EXCLUSIVE_AR = 7,
    SCSI_PR_EXCLUSIVE_ACCESS_AR = 8,
};

enum scsi_pr_action { /* of PERSISTENT RESERVE OUT, SPC-4 table 212 */
    SCSI_PR_REGISTER = 0,
    SCSI_PR_RESERVE = 1,
    SCSI_PR_RELEASE = 2,
    SCSI_PR_CLEAR = 3,
    SCSI_PR_PREEMPT = 4,
    SCSI_PR_PREEMPT_ABORT = 5,
    SCSI_PR_REGISTER_IGNORE = 6,
    SCSI_PR_REGISTER_MOVE = 7,
};

struct scsi_pr_nexus {
    char initiator[DEV_NEXUS_MAX + 1];
    uint16_t port;
};

struct scsi_registrant {
    struct scsi_pr_nexus nexus;
    uint64_t key;
    bool holder;   /* of a type that one nexus holds */
    bool attached; /* scsi_reservations_get(): a session is there */
};

struct scsi_pr_state {
    uint32_t generation;
    bool aptpl;   /* persists through a loss of power: is stored */
    uint8_t type; /* enum scsi_pr_type */
    VEC(struct scsi_registrant) registrants;
};

void scsi_pr_state_free(struct scsi_pr_state *s);
MUST int scsi_pr_state_copy(const struct scsi_pr_state *s, struct scsi_pr_state *ret_copy);
struct scsi_registrant *scsi_pr_find(const struct scsi_pr_state *s, const struct scsi_pr_nexus *n);
bool scsi_pr_holds(const struct scsi_pr_state *s, const struct scsi_registrant *reg);
bool scsi_pr_is_type(unsigned type);
/* Types whose reservation does not refuse anything to registered nexuses. */
bool scsi_pr_of_registrants(unsigned type);
/* Which commands that nexus is refused: a bit per enum scsi_access. */
uint32_t scsi_pr_refusals(const struct scsi_pr_state *s, const struct scsi_pr_nexus *n);

/* A PERSISTENT RESERVE OUT command, decoded. */
struct scsi_pr_request {
    enum scsi_pr_action action;
    uint8_t scope;
    uint8_t type;
    uint64_t key;
    uint64_t action_key;
    bool aptpl;
    bool spec_i_pt;
    bool all_tg_pt;
    bool unreg;
    struct scsi_pr_nexus self;
    VEC(struct scsi_pr_nexus) others; /* SPEC_I_PT; REGISTER AND MOVE: the one it moves to */
    const uint16_t *ports;            /* all target ports, for ALL_TG_PT */
    size_t port_count;
};

enum scsi_pr_verdict {
    SCSI_PR_DONE,
    SCSI_PR_CONFLICT,     /* RESERVATION CONFLICT */
    SCSI_PR_BAD_CDB,      /* INVALID FIELD IN CDB: scope or type */
    SCSI_PR_BAD_LIST,     /* INVALID FIELD IN PARAMETER LIST */
    SCSI_PR_BAD_RELEASE,  /* INVALID RELEASE OF PERSISTENT RESERVATION */
    SCSI_PR_NO_RESOURCES, /* INSUFFICIENT REGISTRATION RESOURCES */
    SCSI_PR_NO_MEMORY,
};

enum scsi_pr_news {
    SCSI_PR_NEWS_NONE,
    SCSI_PR_RESERVATIONS_PREEMPTED,
    SCSI_PR_RESERVATIONS_RELEASED,
    SCSI_PR_REGISTRATIONS_PREEMPTED,
};

struct scsi_pr_notice {
    struct scsi_pr_nexus nexus;
    enum scsi_pr_news news;
    bool abort; /* its commands are to be aborted */
};

struct scsi_pr_outcome {
    VEC(struct scsi_pr_notice) notices;
};

void scsi_pr_outcome_free(struct scsi_pr_outcome *o);
/* What it leaves of s is of use only when it says SCSI_PR_DONE: it is given a copy. */
enum scsi_pr_verdict scsi_pr_apply(struct scsi_pr_state *s, const struct scsi_pr_request *q,
                                   struct scsi_pr_outcome *ret_outcome);

/* The stored form: docs/FORMAT.md "Reservations". */
void scsi_pr_encode(const struct scsi_pr_state *s, struct bytes_writer *ret_value);
/* 0, ERR_CORRUPT_RECORD, -ENOTSUP, -ENOMEM. */
MUST int scsi_pr_decode(const void *value, size_t len, struct scsi_pr_state *ret_state);

/* For the operator: a copy of what holds of the device now. */
MUST int scsi_reservations_get(struct dev *d, struct scsi_pr_state *ret_state);
/*
 * As CLEAR by nobody: every registered nexus is told RESERVATIONS PREEMPTED. What is stored goes
 * first: 0, -ECANCELED, -ENODEV, and what the volume says.
 */
MUST int scsi_reservations_clear(struct dev *d) WAITS;
