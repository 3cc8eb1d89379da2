/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The SecurityNegotiation stage (RFC 7143 §6.3.2, §12.1): which method, and whether it has been
 * gone through. Private to iscsi.
 *
 *     iscsi_auth_init(&a, c);                       // names are known
 *     r = iscsi_auth_key(&a, &key, &out);           // 1: not a key of this stage
 *     r = iscsi_auth_step(&a, &out);                // WAITS; 1: the stage may be left, 0: not yet
 *     iscsi_auth_free(&a);
 *
 *     open -> (AuthMethod=None) -> passed
 *     open -> (AuthMethod=CHAP) -> chosen -> chap -> passed
 *     open -> (AuthMethod=KRB5) -> chosen -> krb5 -> passed
 *
 * A target with accounts takes the methods of their kinds, and of those the first that the
 * initiator offers: skipping the stage, or choosing None, is a failed authentication. Results below
 * zero are negative enum iscsi_login_status; a->why tells more.
 */
#pragma once
#include "base/attr.h"
#include "dev/access.h"
#include "iscsi/chap.h"
#include "iscsi/conn_priv.h"
#include "iscsi/kerberos.h"

enum iscsi_auth_state {
    ISCSI_AUTH_OPEN,
    ISCSI_AUTH_CHOSEN, /* a method, in the request at hand */
    ISCSI_AUTH_CHAP,
    ISCSI_AUTH_KRB5,
    ISCSI_AUTH_PASSED,
};

struct iscsi_auth {
    struct iscsi_conn *c;
    enum iscsi_auth_state state;
    bool required;
    struct dev_access *access;
    enum iscsi_method method;
    struct iscsi_chap chap;
    const char *ap_req; /* KRB_AP_REQ of the request at hand */
    bool wide;          /* counted in server->wide_logins */
    const char *why;
    char why_text[ISCSI_KERBEROS_WHY_SIZE];
    uint64_t deadline_ns;
};

/* The rules of whatever the connection wants to log in to. 0 or a status. */
MUST int iscsi_auth_init(struct iscsi_auth *a, struct iscsi_conn *c, uint64_t deadline_ns);
void iscsi_auth_free(struct iscsi_auth *a);
MUST int iscsi_auth_key(struct iscsi_auth *a, const struct iscsi_key *k, struct bytes_writer *out);
/* Whether a request may have so much text: KRB_AP_REQ may be long, of some logins at a time. */
bool iscsi_auth_text_fits(struct iscsi_auth *a, size_t len);
/* The keys of a request have come; leaving: the initiator wants to leave the stage. */
MUST int iscsi_auth_step(struct iscsi_auth *a, bool leaving, struct bytes_writer *out) WAITS;

/* Whether a session that has logged in would still get in: the rules have changed. */
bool iscsi_auth_still_good(const struct iscsi_conn *c, const struct dev_access *a,
                           unsigned minimum);
