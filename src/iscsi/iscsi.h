/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The iSCSI target (RFC 7143, 7144): listeners, sessions, connections. Codecs are pure and in files
 * of their own; a connection is a fiber that reads PDUs, and a fiber per command.
 */
#pragma once
#include "base/attr.h"
#include "dev/dev.h"
#include "net/net.h"
#include "scsi/scsi.h"
#include <stdbool.h>
#include <stddef.h>

struct iscsi_server;

#define ISCSI_PORTALS_MAX 16

/* The iSNS server with which the targets are registered (isns/isns.h). */
struct iscsi_isns_options {
    const char *server; /* "HOST[:PORT]" */
    const char *entity;
    unsigned period_s;
    unsigned esi_interval_s; /* 0: no status inquiries */
    uint16_t port;           /* where inquiries and notifications are heard; 0: any */
    bool udp;                /* by UDP */
    bool notifications;      /* changes are to be told (SCN) */
    bool domains;            /* targets are shown to those, and take the logins of those, who share
                                a discovery domain with them */
};

struct iscsi_options {
    struct dev_registry *registry; /* not owned */
    const char *const *addresses;  /* portals to listen on */
    size_t address_count;
    const char *const *advertise; /* what SendTargets gives in their place; empty = the address at
                                     which the client reached us */
    size_t advertise_count;
    unsigned sessions_max;    /* 0 = 16384 */
    unsigned login_timeout_s; /* 0 = 15 */
    unsigned nop_interval_s;  /* 0 = 30 */
    unsigned connections_max; /* that a session may have, if its initiator asks; 0 = 1, at most 8 */
    unsigned recovery;        /* the highest ErrorRecoveryLevel, if its initiator asks */
    unsigned chap_minimum;    /* number of the weakest CHAP algorithm that will do; 0 = MD5 */
    const char *keytab;       /* file with the keys of Kerberos; NULL: no such logins */
    const char *principal;    /* whom tickets must be for; NULL: iscsi/ and the target's name */
    const struct iscsi_isns_options *isns; /* NULL: none */
    /*
     * Memory for the immediate and unsolicited data of all sessions' command windows, reserved at
     * login; 0 = 64 MiB. Sessions for which there is too little left are told to send all data on
     * request.
     */
    uint64_t ingress_bytes;
};

/* Listens: 0, or the first listener's error with a message in the log. */
MUST int iscsi_start(const struct iscsi_options *opt, struct iscsi_server **ret_server) WAITS;
/* The bound address of portal i (the port the kernel chose). */
MUST int iscsi_address(const struct iscsi_server *s, size_t i, char ret_text[NET_ADDRESS_SIZE]);
/*
 * Drain: asks each session to log out (async message, event 1), lets what is under way be answered,
 * and returns when all have gone or the deadline has come; who is still there then hears that the
 * session is dropped (event 3). Who comes meanwhile is sent to that address (login status 0101);
 * with NULL no more connections are taken. The text stays the caller's until iscsi_stop().
 */
void iscsi_drain(struct iscsi_server *s, const char *to, uint64_t deadline_ns) WAITS;
/* Cancels what is left, for good; whoever asks still gets answers. Accepts NULL. */
void iscsi_close(struct iscsi_server *s) WAITS;
/* The same, and frees. Accepts NULL. */
void iscsi_stop(struct iscsi_server *s) WAITS;
/* Ends every session of the target (deleted by force). */
void iscsi_target_drop(struct iscsi_server *s, const char *iqn) WAITS;
/* Asks every session of the target to log out (event 1): those that come back may be sent on. */
void iscsi_target_logout(struct iscsi_server *s, const char *iqn);
/* The target's list of LUNs has changed: its initiators are told (async message, event 0). */
void iscsi_luns_changed(struct iscsi_server *s, const char *iqn);
/*
 * Sessions that a change of the portal groups or of the ways to a target would end, or has ended,
 * because their target is not reached any more through the portal that they came by, or that portal
 * is another group's. NULL: as it is now.
 */
struct dev_groups;
struct dev_paths;
struct iscsi_change {
    const struct dev_groups *groups;
    const char *iqn; /* and the ways to it */
    const struct dev_paths *paths;
};
size_t iscsi_cut_off(struct iscsi_server *s, const struct iscsi_change *change);
/* The change is made: of that target, or (NULL) of the portal groups. How many sessions end. */
size_t iscsi_paths_changed(struct iscsi_server *s, const char *iqn) WAITS;
/* Somebody listens there. text: as dev_portal_parse() takes it. */
bool iscsi_listens(struct iscsi_server *s, const char *text);
/* New addresses to advertise (SIGHUP). Copied. */
MUST int iscsi_advertise_set(struct iscsi_server *s, const char *const *advertise, size_t count);

/* How a session proved who it is (RFC 7143 §12.1). */
enum iscsi_method {
    ISCSI_METHOD_NONE,
    ISCSI_METHOD_CHAP,
    ISCSI_METHOD_KRB5,
};
/* "None", "CHAP", "KRB5": as AuthMethod has it. */
const char *iscsi_method_name(enum iscsi_method method);
/* What is told of the iSNS server: false when there is none. */
struct isns_counts;
bool iscsi_isns_counts(struct iscsi_server *s, struct isns_counts *ret_counts);
/* Portals, or the groups that lead to a target, have changed. */
void iscsi_isns_poke(struct iscsi_server *s);

/* One of each connection, with the session that it belongs to. */
struct iscsi_session_info {
    char target[DEV_IQN_MAX + 1];
    char initiator[DEV_IQN_MAX + 1];
    char peer[NET_ADDRESS_SIZE];
    char local[NET_ADDRESS_SIZE];
    enum iscsi_method method;
    char user[256]; /* of CHAP, or the Kerberos principal; "" */
    unsigned chap;  /* number of the algorithm; 0 unless CHAP */
    bool mutual;
    uint8_t isid[6];
    uint16_t tpgt;
    uint16_t tsih;
    uint16_t cid;
    unsigned connections; /* of the session */
    bool header_digest;
    bool data_digest;
    uint64_t age_ns;
    uint64_t commands;
    uint64_t bytes_read;
    uint64_t bytes_written;
};
/* Those of all targets, as an array to be freed. Discovery sessions are not among them. */
MUST int iscsi_sessions(struct iscsi_server *s, struct iscsi_session_info **ret_infos,
                        size_t *ret_count);
/* Ends the sessions of the target whose initiators the pattern matches: how many. They may log in
 * again. */
size_t iscsi_disconnect(struct iscsi_server *s, const char *iqn, const char *initiator);
/* The access rules of the target have changed: ends the sessions that would not get in any more. */
size_t iscsi_rules_changed(struct iscsi_server *s, const char *iqn);
void iscsi_chap_minimum_set(struct iscsi_server *s, unsigned algorithm);

struct iscsi_counts {
    uint64_t sessions;
    uint64_t connections;
    uint64_t logins;
    uint64_t login_failures;
    uint64_t auth_failures;
    uint64_t commands;
    uint64_t digest_errors;
    uint64_t rejects;
    uint64_t latency_us_log2[32]; /* of commands */
};
void iscsi_counts(const struct iscsi_server *s, struct iscsi_counts *ret_counts);
