/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The login phase (RFC 7143 §6, §11.12, §11.13), as steps in a line:
 *
 *     receive the first request -> who and what (names, session type) -> admit ->
 *     [security stage (auth.c)] -> [operational stage] -> session -> last response
 *
 * A stage is left when the initiator says so (T) and we agree. Either stage may lead to full
 * feature phase; an initiator may also begin with the operational one. A step that fails gives a
 * negative enum iscsi_login_status; the response that says so is sent in one place, iscsi_login(),
 * and the connection is closed.
 */
#include "base/err.h"
#include "base/msg.h"
#include "base/utf8.h"
#include "iscsi/auth.h"
#include "iscsi/conn_priv.h"
#include "iscsi/rx.h"
#include "iscsi/tx.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LOGIN_SEND_LEN 8192u /* data segments of login responses: the default limit, §13.12 */
#define LOGIN_ROUNDS_MAX 64u /* requests in one login */

struct login {
    struct iscsi_conn *c;
    struct iscsi_request req; /* the last one */
    struct bytes_writer in;   /* the text of the last exchange */
    struct bytes_writer out;
    uint8_t stage;
    uint16_t tsih_asked;
    unsigned rounds;
    bool started; /* the first request has been taken */
    bool portal_sent;
    bool negotiates; /* nego is there, and what it promises is reserved */
    struct iscsi_nego nego;
    struct iscsi_auth auth;
    uint64_t deadline_ns;
};

static const char *status_text(int status)
{
    switch (status) {
    case ISCSI_LOGIN_AUTH_FAILED:
        return "authentication failed";
    case ISCSI_LOGIN_FORBIDDEN:
        return "the target is not for this initiator";
    case ISCSI_LOGIN_NOT_FOUND:
        return "no such target";
    case ISCSI_LOGIN_VERSION:
        return "unsupported version";
    case ISCSI_LOGIN_TOO_MANY_CONNECTIONS:
        return "the session has all the connections it may have";
    case ISCSI_LOGIN_MISSING_PARAMETER:
        return "a key is missing";
    case ISCSI_LOGIN_CANNOT_INCLUDE:
        return "the connection is being replaced already";
    case ISCSI_LOGIN_SESSION_TYPE:
        return "unknown session type";
    case ISCSI_LOGIN_NO_SESSION:
        return "no such session";
    case ISCSI_LOGIN_INVALID:
        return "not a login request";
    case ISCSI_LOGIN_UNAVAILABLE:
        return "shutting down, or an old session does not end";
    case ISCSI_LOGIN_NO_RESOURCES:
        return "out of resources";
    default:
        return "protocol error";
    }
}

static void send_response(struct login *l, uint8_t flags, int status, const void *data, size_t len)
{
    struct iscsi_conn *c = l->c;
    uint8_t bhs[ISCSI_BHS_BYTES];
    struct iscsi_login_response p = {.flags = flags,
                                     .tsih = c->session->tsih ? c->session->tsih : l->tsih_asked,
                                     .itt = l->req.itt,
                                     .status = (uint16_t)status,
                                     .data_len = (uint32_t)len};
    memcpy(p.isid, c->session->isid, sizeof p.isid);
    /* TSIH is told with the last response only (§11.13.3). */
    if ((flags & 3) != ISCSI_STAGE_FULL_FEATURE || !(flags & ISCSI_FINAL)) {
        p.tsih = l->tsih_asked;
    }
    struct iscsi_sn sn = iscsi_tx_status_sn(c);
    iscsi_encode_login_response(bhs, &p, &sn);
    iscsi_tx_copy(c, bhs, data, (uint32_t)len);
}

/* What must hold of the first request, and what it fixes for the others. */
static int take_first(struct login *l, const struct iscsi_request *q)
{
    struct iscsi_conn *c = l->c;
    l->req = *q;
    memcpy(c->session->isid, q->login.isid, sizeof c->session->isid);
    c->cid = q->login.cid;
    l->tsih_asked = q->login.tsih;
    c->statsn = q->exp_statsn;
    iscsi_window_open(&c->session->window, q->cmdsn, ISCSI_WINDOW_MAX);
    l->stage = q->login.stage;
    l->started = true;
    if (q->login.version_min > 0) {
        return -ISCSI_LOGIN_VERSION;
    }
    if (l->stage != ISCSI_STAGE_SECURITY && l->stage != ISCSI_STAGE_OPERATIONAL) {
        return -ISCSI_LOGIN_INITIATOR_ERROR;
    }
    return 0;
}

/* What must hold of every later one. */
static int check_next(struct login *l, const struct iscsi_request *q)
{
    struct iscsi_conn *c = l->c;
    bool same = q->itt == l->req.itt && q->login.cid == c->cid && q->login.tsih == l->tsih_asked &&
                q->login.stage == l->stage &&
                memcmp(q->login.isid, c->session->isid, sizeof c->session->isid) == 0;
    l->req = *q;
    return same ? 0 : -ISCSI_LOGIN_INITIATOR_ERROR;
}

static int check_transit(const struct login *l)
{
    const struct iscsi_request *q = &l->req;
    if (q->final && q->more) {
        return -ISCSI_LOGIN_INITIATOR_ERROR; /* §11.12.2: C=1 needs T=0 */
    }
    if (q->final && (q->login.next_stage <= l->stage || q->login.next_stage == 2)) {
        return -ISCSI_LOGIN_INITIATOR_ERROR;
    }
    return 0;
}

/* One request PDU; its text goes to the end of l->in. */
static int receive_one(struct login *l)
{
    struct iscsi_conn *c = l->c;
    struct iscsi_header head;
    int r = iscsi_rx_header(c, l->deadline_ns, &head);
    if (r < 0) {
        return r;
    }
    if (head.req.opcode != ISCSI_LOGIN_REQUEST) {
        if (!l->started) {
            return ERR_PROTOCOL; /* there is nothing to answer to */
        }
        return -ISCSI_LOGIN_INVALID;
    }
    r = l->started ? check_next(l, &head.req) : take_first(l, &head.req);
    if (r < 0) {
        return r;
    }
    if (head.req.ahs_len > 0 || head.req.data_len > LOGIN_SEND_LEN ||
        !iscsi_auth_text_fits(&l->auth, l->in.len + head.req.data_len) ||
        ++l->rounds > LOGIN_ROUNDS_MAX) {
        return -ISCSI_LOGIN_INITIATOR_ERROR;
    }
    r = check_transit(l);
    if (r < 0) {
        return r;
    }
    return iscsi_rx_all(c, &l->in);
}

/* A whole request: all PDUs of it while the initiator says that more follows (C). */
static int receive(struct login *l)
{
    l->in.len = 0;
    for (;;) {
        int r = receive_one(l);
        if (r < 0 || !l->req.more) {
            return r;
        }
        send_response(l, (uint8_t)(l->stage << 2), ISCSI_LOGIN_OK, NULL, 0);
    }
}

/* The response to the last request, in as many PDUs as it takes. */
static int respond(struct login *l, bool transit)
{
    uint8_t flags = (uint8_t)(l->stage << 2);
    if (l->out.failed) {
        return -ISCSI_LOGIN_NO_RESOURCES;
    }
    size_t sent = 0;
    while (l->out.len - sent > LOGIN_SEND_LEN) {
        send_response(l, flags | ISCSI_CONTINUE, ISCSI_LOGIN_OK, l->out.data + sent,
                      LOGIN_SEND_LEN);
        sent += LOGIN_SEND_LEN;
        l->in.len = 0;
        int r = receive_one(l);
        if (r < 0) {
            return r;
        }
        if (l->in.len > 0 || l->req.more) {
            return -ISCSI_LOGIN_INITIATOR_ERROR;
        }
    }
    if (transit) {
        flags |= (uint8_t)(ISCSI_FINAL | l->req.login.next_stage);
    }
    send_response(l, flags, ISCSI_LOGIN_OK, l->out.data + sent, l->out.len - sent);
    l->out.len = 0;
    return 0;
}

static char *lower_copy(const char *name)
{
    char *copy = strdup(name);
    for (char *p = copy; p && *p; p++) {
        if (*p >= 'A' && *p <= 'Z') {
            *p = (char)(*p | 0x20);
        }
    }
    return copy;
}

/* iSCSI names (§4.2.7): what may stand in one is checked where targets are made; here it must be
 * fit to be printed, and text: what is not, no list of sessions can show. */
static int take_name(const char *value, char **ret_name)
{
    size_t len = strlen(value);
    if (len == 0 || len > ISCSI_NAME_MAX || *ret_name || !utf8_is_text(value, len)) {
        return -ISCSI_LOGIN_INITIATOR_ERROR;
    }
    for (size_t i = 0; i < len; i++) {
        if ((uint8_t)value[i] <= ' ' || value[i] == 0x7f) {
            return -ISCSI_LOGIN_INITIATOR_ERROR;
        }
    }
    *ret_name = lower_copy(value);
    return *ret_name ? 0 : -ISCSI_LOGIN_NO_RESOURCES;
}

static int take_identity_key(struct iscsi_conn *c, const struct iscsi_key *k)
{
    if (iscsi_key_is(k, "InitiatorName")) {
        return take_name(k->value, &c->session->initiator);
    }
    if (iscsi_key_is(k, "TargetName")) {
        return take_name(k->value, &c->session->iqn);
    }
    if (iscsi_key_is(k, "SessionType")) {
        c->session->discovery = strcmp(k->value, "Discovery") == 0;
        return c->session->discovery || strcmp(k->value, "Normal") == 0 ? 0
                                                                        : -ISCSI_LOGIN_SESSION_TYPE;
    }
    return 0;
}

/* Step: who logs in, and to what. These keys come with the first request (§6.3, §13). */
static int step_identity(struct login *l)
{
    struct iscsi_conn *c = l->c;
    struct iscsi_text t = iscsi_text_of(l->in.data, l->in.len);
    struct iscsi_key k;
    int r;
    while ((r = iscsi_text_next(&t, &k)) > 0) {
        r = take_identity_key(c, &k);
        if (r < 0) {
            return r;
        }
    }
    if (r < 0) {
        return -ISCSI_LOGIN_INITIATOR_ERROR;
    }
    if (!c->session->initiator || (!c->session->discovery && !c->session->iqn)) {
        return -ISCSI_LOGIN_MISSING_PARAMETER;
    }
    return 0;
}

static bool is_here(const struct iscsi_conn *c, const char *address)
{
    char with_port[NET_ADDRESS_SIZE + 8];
    (void)snprintf(with_port, sizeof with_port, "%s:%d", address, ISCSI_PORT_DEFAULT);
    return strcmp(c->local, address) == 0 || strcmp(c->local, with_port) == 0;
}

/*
 * Step: is it here that the target is served (§11.13.5, class 1). Before the security stage, for
 * it is the other place that wants to know who comes. Who is at the place already may stay.
 */
static int step_moved(struct login *l)
{
    struct iscsi_conn *c = l->c;
    struct dev_target_info info;
    bool draining = atomic_load(&c->server->draining);
    if (c->session->discovery || l->tsih_asked != 0) {
        return 0;
    }
    if (draining && c->server->drain_to) {
        iscsi_text_put(&l->out, "TargetAddress", "%s", c->server->drain_to);
        return -ISCSI_LOGIN_MOVED_TEMPORARILY;
    }
    if (draining || strlen(c->session->iqn) > DEV_IQN_MAX ||
        dev_target_find(c->server->registry, c->session->iqn, &info) < 0 || !info.moved_to[0] ||
        is_here(c, info.moved_to)) {
        return 0;
    }
    iscsi_text_put(&l->out, "TargetAddress", "%s", info.moved_to);
    return info.moved_for_good ? -ISCSI_LOGIN_MOVED_PERMANENTLY : -ISCSI_LOGIN_MOVED_TEMPORARILY;
}

/* Step: do we want it at all. */
static int step_admit(struct login *l)
{
    struct iscsi_conn *c = l->c;
    if (atomic_load(&c->server->draining)) {
        return -ISCSI_LOGIN_UNAVAILABLE;
    }
    int r = iscsi_session_admit(c, l->tsih_asked == 0);
    if (r < 0) {
        return r;
    }
    r = iscsi_auth_init(&l->auth, c, l->deadline_ns);
    if (r < 0) {
        return r;
    }
    if (l->stage != ISCSI_STAGE_SECURITY && l->auth.required) {
        l->auth.why = "authentication is needed, and was skipped";
        return -ISCSI_LOGIN_AUTH_FAILED;
    }
    return 0;
}

/* Who has proved who he is may bind memory. */
static void begin_negotiation(struct login *l)
{
    struct iscsi_limits limits;
    if (!l->negotiates) {
        l->negotiates = true;
        iscsi_session_reserve(l->c->session);
        iscsi_session_limits(l->c->session, &limits);
        iscsi_nego_init(&l->nego, &limits, l->c->session->discovery);
        struct iscsi_params session;
        if (l->tsih_asked != 0 && iscsi_session_agreed(l->c, l->tsih_asked, &session)) {
            iscsi_nego_join(&l->nego, &session);
        }
    }
}

/* Declarations that need no answer, and may come again in a later stage. */
static bool is_declaration(const struct iscsi_key *k)
{
    static const char *const names[] = {"InitiatorName", "TargetName", "SessionType",
                                        "InitiatorAlias"};
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        if (iscsi_key_is(k, names[i])) {
            return true;
        }
    }
    return false;
}

/* Keys that only a target may send, or that belong to another phase. */
static bool is_misplaced(const struct iscsi_key *k)
{
    static const char *const names[] = {"TargetAlias", "TargetAddress", "TargetPortalGroupTag",
                                        "SendTargets"};
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        if (iscsi_key_is(k, names[i])) {
            return true;
        }
    }
    return false;
}

static int security_key(struct login *l, const struct iscsi_key *k)
{
    int r = iscsi_auth_key(&l->auth, k, &l->out);
    return r <= 0 && l->stage != ISCSI_STAGE_SECURITY ? -ISCSI_LOGIN_INITIATOR_ERROR : r;
}

/* One key of a request, in either stage. */
static int take_key(struct login *l, const struct iscsi_key *k)
{
    if (is_declaration(k)) {
        return 0;
    }
    if (is_misplaced(k)) {
        return -ISCSI_LOGIN_INITIATOR_ERROR;
    }
    int r = security_key(l, k);
    if (r <= 0) {
        return r;
    }
    if (l->stage == ISCSI_STAGE_OPERATIONAL) {
        r = iscsi_nego_key(&l->nego, k, &l->out);
        if (r < 0) {
            return -ISCSI_LOGIN_INITIATOR_ERROR;
        }
    }
    if (r > 0) {
        iscsi_text_put_key(&l->out, k, "NotUnderstood");
    }
    return 0;
}

static void foresee(struct login *l)
{
    struct iscsi_text t = iscsi_text_of(l->in.data, l->in.len);
    struct iscsi_key k;
    while (l->negotiates && iscsi_text_next(&t, &k) > 0) {
        iscsi_nego_foresee(&l->nego, &k);
    }
}

static int take_text(struct login *l)
{
    struct iscsi_text t = iscsi_text_of(l->in.data, l->in.len);
    struct iscsi_key k;
    int r;
    foresee(l);
    while ((r = iscsi_text_next(&t, &k)) > 0) {
        r = take_key(l, &k);
        if (r < 0) {
            return r;
        }
    }
    return r < 0 ? -ISCSI_LOGIN_INITIATOR_ERROR : 0;
}

/* What we declare of ourselves. */
static void declare(struct login *l)
{
    if (!l->portal_sent && !l->c->session->discovery) {
        iscsi_text_put(&l->out, "TargetAlias", "ZeroFS");
        iscsi_text_put(&l->out, "TargetPortalGroupTag", "%u", (unsigned)l->c->session->tpgt);
    }
    l->portal_sent = true;
    if (l->stage == ISCSI_STAGE_OPERATIONAL) {
        iscsi_nego_declare(&l->nego, &l->out);
        if (l->req.final) {
            iscsi_nego_insist(&l->nego, &l->out);
        }
    }
}

/* Step: the session exists from here on. */
static int step_session(struct login *l)
{
    struct iscsi_conn *c = l->c;
    struct iscsi_session *s = c->session;
    begin_negotiation(l);
    c->params = l->nego.agreed;
    if (l->tsih_asked == 0 || s->discovery) {
        s->params = c->params;
        int r = iscsi_session_window(s);
        if (r < 0) {
            return r;
        }
        s->window_now = s->window_size;
        iscsi_window_open(&s->window, l->req.cmdsn, s->window_size);
    }
    if (s->discovery) {
        s->tsih = 1;
        return l->tsih_asked ? -ISCSI_LOGIN_NO_SESSION : 0;
    }
    return iscsi_session_open(c, l->tsih_asked, l->deadline_ns);
}

/* One request's keys, by the rules of its stage. */
static int step_stage(struct login *l, bool *ret_may_leave)
{
    if (l->stage == ISCSI_STAGE_OPERATIONAL) {
        begin_negotiation(l);
        return take_text(l);
    }
    int r = take_text(l);
    if (r >= 0) {
        r = iscsi_auth_step(&l->auth, l->req.final, &l->out);
    }
    *ret_may_leave = r > 0;
    return r;
}

/* Exchanges until full feature phase. The first request is there. */
static int step_stages(struct login *l)
{
    for (;;) {
        bool may_leave = true;
        int r = step_stage(l, &may_leave);
        if (r < 0) {
            return r;
        }
        declare(l);
        /* With text for several PDUs the stage is not left; the initiator asks again. */
        bool transit = may_leave && l->req.final && l->out.len <= LOGIN_SEND_LEN;
        bool last = transit && l->req.login.next_stage == ISCSI_STAGE_FULL_FEATURE;
        if (last) {
            r = step_session(l);
            if (r < 0) {
                return r;
            }
        }
        r = respond(l, transit);
        if (r < 0 || last) {
            return r;
        }
        if (transit) {
            l->stage = l->req.login.next_stage;
        }
        r = receive(l);
        if (r < 0) {
            return r;
        }
    }
}

static int run_steps(struct login *l)
{
    int r = receive(l);
    if (r < 0) {
        return r;
    }
    r = step_identity(l);
    if (r < 0) {
        return r;
    }
    r = step_moved(l);
    if (r < 0) {
        return r;
    }
    r = step_admit(l);
    if (r < 0) {
        return r;
    }
    return step_stages(l);
}

/* Status codes are above 0x0100 = 256, errno values below, private codes far below zero. */
static bool is_status(int r)
{
    return r <= -ISCSI_LOGIN_MOVED_TEMPORARILY && r > ERR_END_PRIVATE;
}

/* The response that says why there is no session. */
static void refuse(struct login *l, int status)
{
    struct iscsi_conn *c = l->c;
    const char *target = c->session->iqn ? c->session->iqn : "discovery";
    bool moved = status < ISCSI_LOGIN_INITIATOR_ERROR;
    if (moved) {
        msg_info_paced("iscsi", "%s: %s is sent on, to where %s is (%04x)", c->peer,
                       c->session->initiator, target, (unsigned)status);
    } else {
        atomic_fetch_add(&c->server->login_failures, 1);
        msg_warn_paced("iscsi", "%s: login of %s to %s refused: %s (%04x)", c->peer,
                       c->session->initiator ? c->session->initiator : "?", target,
                       l->auth.why ? l->auth.why : status_text(status), (unsigned)status);
        l->out.len = 0;
    }
    send_response(l, (uint8_t)(l->stage << 2), status, l->out.data, l->out.len);
}

int iscsi_login(struct iscsi_conn *c)
{
    struct login l = {.c = c, .deadline_ns = rt_now_ns() + c->server->login_timeout_ns};
    c->rx.deadline_ns = l.deadline_ns;
    c->session->tpgt = dev_portal_tag(c->server->registry, c->local);
    int r = run_steps(&l);
    if (is_status(r)) {
        refuse(&l, -r);
        r = ERR_PROTOCOL;
    } else if (r < 0) {
        atomic_fetch_add(&c->server->login_failures, 1);
    }
    iscsi_auth_free(&l.auth);
    bytes_writer_free(&l.in);
    bytes_writer_free(&l.out);
    if (r < 0) {
        return r;
    }
    atomic_fetch_add(&c->server->logins, 1);
    c->header_digest = c->params.header_digest;
    c->data_digest = c->params.data_digest;
    c->keeps = c->params.recovery > 0;
    c->tracks = c->keeps || c->params.max_connections > 1;
    c->acknowledged = c->statsn;
    c->state = ISCSI_CONN_FULL;
    msg_debug("iscsi", "%s: %s logged in to %s", c->peer, c->session->initiator,
              c->session->iqn ? c->session->iqn : "discovery");
    return 0;
}
