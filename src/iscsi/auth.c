/* SPDX-License-Identifier: Apache-2.0 */
#include "iscsi/auth.h"

#include "base/err.h"
#include "rt/offload.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define WRONG_ANSWER_MS 200 /* before a wrong secret is told */
#define WIDE_TEXT_MAX (2 * ISCSI_KERBEROS_BINARY_MAX + 1024)

static const char *const methods[] = {
    [ISCSI_METHOD_NONE] = "None", [ISCSI_METHOD_CHAP] = "CHAP", [ISCSI_METHOD_KRB5] = "KRB5"};

const char *iscsi_method_name(enum iscsi_method method)
{
    return methods[method];
}

int iscsi_auth_init(struct iscsi_auth *a, struct iscsi_conn *c, uint64_t deadline_ns)
{
    *a = (struct iscsi_auth){.c = c, .deadline_ns = deadline_ns};
    int r = dev_access_get(c->server->registry, c->session->discovery ? "" : c->session->iqn,
                           &a->access);
    if (r < 0) {
        return -ISCSI_LOGIN_NOT_FOUND;
    }
    a->required = dev_access_authenticates(a->access);
    return 0;
}

void iscsi_auth_free(struct iscsi_auth *a)
{
    dev_access_unref(a->access);
    a->access = NULL;
    if (a->wide) {
        atomic_fetch_sub(&a->c->server->wide_logins, 1);
        a->wide = false;
    }
}

bool iscsi_auth_text_fits(struct iscsi_auth *a, size_t len)
{
    if (len <= ISCSI_TEXT_MAX) {
        return true;
    }
    if (a->state != ISCSI_AUTH_KRB5 || len > WIDE_TEXT_MAX) {
        return false;
    }
    if (!a->wide) {
        _Atomic unsigned *count = &a->c->server->wide_logins;
        a->wide = atomic_fetch_add(count, 1) < ISCSI_WIDE_LOGINS_MAX;
        if (!a->wide) {
            atomic_fetch_sub(count, 1);
        }
    }
    return a->wide;
}

static int fail(struct iscsi_auth *a, enum iscsi_login_status status, const char *why)
{
    a->why = why;
    return -(int)status;
}

static enum iscsi_chap_algorithm minimum_of(const struct iscsi_auth *a)
{
    unsigned own = a->access ? a->access->minimum : 0;
    return (enum iscsi_chap_algorithm)MAX_OF(own, atomic_load(&a->c->server->chap_minimum));
}

/* The methods that will do here: how many. */
static size_t list_methods(const struct iscsi_auth *a, enum iscsi_method ret_methods[2])
{
    size_t count = 0;
    if (!a->required) {
        ret_methods[count++] = ISCSI_METHOD_NONE;
    }
    if (dev_access_has(a->access, true) && a->c->server->keytab) {
        ret_methods[count++] = ISCSI_METHOD_KRB5;
    }
    if (dev_access_has(a->access, false)) {
        ret_methods[count++] = ISCSI_METHOD_CHAP;
    }
    return count;
}

static int no_method(struct iscsi_auth *a, const enum iscsi_method *possible, size_t count)
{
    return fail(a, ISCSI_LOGIN_AUTH_FAILED,
                count == 0   ? "Kerberos is needed, and [servers.iscsi.kerberos] names no keytab"
                : count == 2 ? "CHAP or Kerberos is needed, and not offered"
                : possible[0] == ISCSI_METHOD_KRB5 ? "Kerberos is needed, and not offered"
                : possible[0] == ISCSI_METHOD_CHAP ? "CHAP is needed, and not offered"
                                                   : "no common authentication method");
}

static int choose_method(struct iscsi_auth *a, const struct iscsi_key *k, struct bytes_writer *out)
{
    enum iscsi_method possible[2];
    const char *names[2];
    if (a->state != ISCSI_AUTH_OPEN) {
        return fail(a, ISCSI_LOGIN_INITIATOR_ERROR, "AuthMethod comes twice");
    }
    size_t count = list_methods(a, possible);
    for (size_t i = 0; i < count; i++) {
        names[i] = methods[possible[i]];
    }
    int i = count > 0 ? iscsi_text_choose(k->value, names, count) : -ENOENT;
    if (i < 0) {
        return no_method(a, possible, count);
    }
    a->method = possible[i];
    iscsi_text_put_key(out, k, methods[a->method]);
    a->state = a->method == ISCSI_METHOD_NONE ? ISCSI_AUTH_PASSED : ISCSI_AUTH_CHOSEN;
    return 0;
}

static int take_ap_req(struct iscsi_auth *a, const struct iscsi_key *k)
{
    if (a->state != ISCSI_AUTH_KRB5 || a->ap_req) {
        return fail(a, ISCSI_LOGIN_INITIATOR_ERROR, "KRB_AP_REQ out of order");
    }
    a->ap_req = k->value;
    return 0;
}

int iscsi_auth_key(struct iscsi_auth *a, const struct iscsi_key *k, struct bytes_writer *out)
{
    if (iscsi_key_is(k, "AuthMethod")) {
        return choose_method(a, k, out);
    }
    if (iscsi_key_is(k, "KRB_AP_REQ")) {
        return take_ap_req(a, k);
    }
    int r = iscsi_chap_key(&a->chap, k);
    if (r == 1) {
        return 1;
    }
    if (r < 0 || a->state != ISCSI_AUTH_CHAP) {
        return fail(a, ISCSI_LOGIN_INITIATOR_ERROR, "keys of CHAP out of order");
    }
    return 0;
}

/* Waits for this peer's turn, if he has been wrong too often. */
static int wait_turn(struct iscsi_auth *a, const struct iscsi_guard_who *who)
{
    struct iscsi_server *s = a->c->server;
    uint64_t now = rt_now_ns();
    uint64_t wait = 0;
    rt_mutex_lock(&s->lock);
    bool may = iscsi_guard_enter(&s->guard, who, now, &wait);
    rt_mutex_unlock(&s->lock);
    if (!may || now + wait > a->deadline_ns) {
        return fail(a, ISCSI_LOGIN_UNAVAILABLE, "too many wrong secrets of late");
    }
    int r = wait > 0 ? rt_sleep_until(now + wait) : 0;
    return r < 0 ? r : 0;
}

static struct iscsi_guard_who who_is(const struct iscsi_conn *c)
{
    uint8_t address[16];
    static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};
    if (dev_address_parse(c->peer, address) < 0) {
        return iscsi_guard_who(c->peer, strcspn(c->peer, ":"), c->session->initiator);
    }
    /* Of IPv6, who has one address has its network. */
    size_t len = memcmp(address, mapped, sizeof mapped) == 0 ? 16 : 8;
    return iscsi_guard_who(address, len, c->session->initiator);
}

/* Somebody is not who he says, and hears of it late. */
static int turn_away(struct iscsi_auth *a, const char *why) WAITS
{
    atomic_fetch_add(&a->c->server->auth_failures, 1);
    a->why = why;
    int slept = rt_sleep_ms(WRONG_ANSWER_MS);
    return slept < 0 ? slept : -(int)ISCSI_LOGIN_AUTH_FAILED;
}

static int refuse(struct iscsi_auth *a, int r) WAITS
{
    switch (r) {
    case ERR_PROTOCOL:
        return fail(a, ISCSI_LOGIN_INITIATOR_ERROR, "malformed CHAP");
    case -ENOMEM:
    case -ENOTSUP:
        return fail(a, ISCSI_LOGIN_NO_RESOURCES, "CHAP cannot be computed");
    default:
        break;
    }
    return turn_away(a, r == -ELOOP ? "CHAP: a reflection of our own challenge, secret or response"
                        : a->chap.peer_id
                            ? "CHAP: wrong name or secret, or there is no mutual secret"
                            : "CHAP: wrong name or secret");
}

/* He is who he says: what his attempt has cost is given back, and status tells of how he came in.
 */
static int let_in(struct iscsi_auth *a, const struct iscsi_guard_who *who, const char *user,
                  bool mutual)
{
    struct iscsi_conn *c = a->c;
    rt_mutex_lock(&c->server->lock);
    iscsi_guard_pardon(&c->server->guard, who);
    rt_mutex_unlock(&c->server->lock);
    c->auth.user = strdup(user);
    if (!c->auth.user) {
        return -ISCSI_LOGIN_NO_RESOURCES;
    }
    c->auth.method = a->method;
    c->auth.algorithm = a->method == ISCSI_METHOD_CHAP ? (uint8_t)a->chap.algorithm : 0;
    c->auth.mutual = mutual;
    a->state = ISCSI_AUTH_PASSED;
    return 1;
}

static int judge_chap(struct iscsi_auth *a, struct bytes_writer *out) WAITS
{
    struct iscsi_guard_who who = who_is(a->c);
    int r = wait_turn(a, &who);
    if (r < 0) {
        return r;
    }
    const struct dev_account *account =
        dev_access_account(a->access, false, a->chap.name, a->c->session->initiator);
    const struct crypt_secret *own = a->access->own.secret;
    struct iscsi_chap_credentials cred = {
        .secret = account ? account->secret->bytes : NULL,
        .secret_len = account ? account->secret->len : 0,
        .own_name = own ? a->access->own.user : NULL,
        .own_secret = own ? own->bytes : NULL,
        .own_len = own ? own->len : 0,
    };
    r = iscsi_chap_verify(&a->chap, &cred, out);
    if (r < 0) {
        return refuse(a, r);
    }
    return let_in(a, &who, a->chap.name, a->chap.peer_id != NULL);
}

static int step_chap(struct iscsi_auth *a, struct bytes_writer *out)
{
    uint8_t random[1 + ISCSI_CHAP_CHALLENGE_BYTES];
    rt_random_bytes(random, sizeof random);
    int r = iscsi_chap_step(&a->chap, random, out);
    switch (r) {
    case 0:
        return 0;
    case 1:
        return judge_chap(a, out);
    case -ENODATA:
        return fail(a, ISCSI_LOGIN_MISSING_PARAMETER, "a key of CHAP is missing");
    case -ENOENT:
        return fail(a, ISCSI_LOGIN_AUTH_FAILED, "CHAP: no algorithm that is strong enough");
    default:
        return fail(a, ISCSI_LOGIN_INITIATOR_ERROR, "keys of CHAP out of order");
    }
}

/* The request is verified: 0, or a status. */
static int refuse_kerberos(struct iscsi_auth *a, struct iscsi_kerberos_job *job, int r) WAITS
{
    (void)snprintf(a->why_text, sizeof a->why_text, "%s", job->why);
    if (r == -EACCES) {
        return turn_away(a, a->why_text);
    }
    return fail(a, r == -EIO ? ISCSI_LOGIN_TARGET_ERROR : ISCSI_LOGIN_NO_RESOURCES, a->why_text);
}

static int admit_principal(struct iscsi_auth *a, const struct iscsi_guard_who *who,
                           const struct iscsi_kerberos_job *job, struct bytes_writer *out) WAITS
{
    if (!dev_access_account(a->access, true, job->client, a->c->session->initiator)) {
        (void)snprintf(a->why_text, sizeof a->why_text,
                       "Kerberos: %.180s has no account that is good for this initiator",
                       job->client);
        return turn_away(a, a->why_text);
    }
    if (job->reply) {
        iscsi_text_put_binary(out, "KRB_AP_REP", job->reply, job->reply_len);
    }
    return let_in(a, who, job->client, job->reply != NULL);
}

static int judge_krb5(struct iscsi_auth *a, const uint8_t *request, size_t len,
                      struct bytes_writer *out) WAITS
{
    struct iscsi_conn *c = a->c;
    const struct iscsi_server *s = c->server;
    char own[sizeof "iscsi/" + DEV_IQN_MAX];
    struct iscsi_kerberos_job job = {
        .keytab = s->keytab, .service = s->principal, .request = request, .len = len};
    struct iscsi_guard_who who = who_is(c);
    int r = wait_turn(a, &who);
    if (r < 0) {
        return r;
    }
    if (!job.service && !c->session->discovery) {
        (void)snprintf(own, sizeof own, "iscsi/%s", c->session->iqn); /* §12.1.1 */
        job.service = own;
    }
    r = rt_offload(RT_OFFLOAD_IO, iscsi_kerberos_accept, &job);
    r = r < 0 ? refuse_kerberos(a, &job, r) : admit_principal(a, &who, &job, out);
    iscsi_kerberos_free(&job);
    return r;
}

static int step_krb5(struct iscsi_auth *a, struct bytes_writer *out) WAITS
{
    if (!a->ap_req) {
        return fail(a, ISCSI_LOGIN_MISSING_PARAMETER, "KRB_AP_REQ is missing");
    }
    size_t cap = MIN_OF(strlen(a->ap_req), (size_t)ISCSI_KERBEROS_BINARY_MAX);
    size_t len;
    uint8_t *request = malloc(cap + 1);
    if (!request) {
        return fail(a, ISCSI_LOGIN_NO_RESOURCES, "out of memory");
    }
    int r = iscsi_text_binary(a->ap_req, request, cap, &len);
    r = r < 0 ? fail(a, ISCSI_LOGIN_INITIATOR_ERROR, "malformed KRB_AP_REQ")
              : judge_krb5(a, request, len, out);
    free(request);
    return r;
}

int iscsi_auth_step(struct iscsi_auth *a, bool leaving, struct bytes_writer *out)
{
    switch (a->state) {
    case ISCSI_AUTH_OPEN:
        if (!a->required) {
            return 1;
        }
        return leaving
                   ? fail(a, ISCSI_LOGIN_AUTH_FAILED, "authentication is needed, and was skipped")
                   : 0;
    case ISCSI_AUTH_CHOSEN:
        if (a->method == ISCSI_METHOD_CHAP) {
            iscsi_chap_begin(&a->chap, minimum_of(a));
        }
        a->state = a->method == ISCSI_METHOD_CHAP ? ISCSI_AUTH_CHAP : ISCSI_AUTH_KRB5;
        return 0;
    case ISCSI_AUTH_CHAP:
        return step_chap(a, out);
    case ISCSI_AUTH_KRB5:
        return step_krb5(a, out);
    case ISCSI_AUTH_PASSED:
        return 1;
    }
    return 1;
}

bool iscsi_auth_still_good(const struct iscsi_conn *c, const struct dev_access *a, unsigned minimum)
{
    if (!dev_access_allows(a, c->session->initiator, c->peer)) {
        return false;
    }
    if (!dev_access_authenticates(a)) {
        return true;
    }
    if (!c->auth.user) {
        return false;
    }
    bool kerberos = c->auth.method == ISCSI_METHOD_KRB5;
    return (kerberos || c->auth.algorithm >= MAX_OF((unsigned)a->minimum, minimum)) &&
           dev_access_account(a, kerberos, c->auth.user, c->session->initiator) != NULL;
}
