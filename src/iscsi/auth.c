/* SPDX-License-Identifier: Apache-2.0 */
#include "iscsi/auth.h"

#include "base/err.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define WRONG_ANSWER_MS 200 /* before a wrong secret is told */

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

static int choose_method(struct iscsi_auth *a, const struct iscsi_key *k, struct bytes_writer *out)
{
    static const char *const chap[] = {"CHAP"};
    static const char *const none[] = {"None"};
    if (a->state != ISCSI_AUTH_OPEN) {
        return fail(a, ISCSI_LOGIN_INITIATOR_ERROR, "AuthMethod comes twice");
    }
    if (iscsi_text_choose(k->value, a->required ? chap : none, 1) < 0) {
        return fail(a, ISCSI_LOGIN_AUTH_FAILED,
                    a->required ? "CHAP is needed, and not offered"
                                : "no common authentication method");
    }
    iscsi_text_put_key(out, k, a->required ? "CHAP" : "None");
    a->state = a->required ? ISCSI_AUTH_CHOSEN : ISCSI_AUTH_PASSED;
    return 0;
}

int iscsi_auth_key(struct iscsi_auth *a, const struct iscsi_key *k, struct bytes_writer *out)
{
    if (iscsi_key_is(k, "AuthMethod")) {
        return choose_method(a, k, out);
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

static int refuse(struct iscsi_auth *a, int r)
{
    struct iscsi_conn *c = a->c;
    switch (r) {
    case ERR_PROTOCOL:
        return fail(a, ISCSI_LOGIN_INITIATOR_ERROR, "malformed CHAP");
    case -ENOMEM:
    case -ENOTSUP:
        return fail(a, ISCSI_LOGIN_NO_RESOURCES, "CHAP cannot be computed");
    default:
        break;
    }
    atomic_fetch_add(&c->server->auth_failures, 1);
    a->why = r == -ELOOP       ? "CHAP: a reflection of our own challenge, secret or response"
             : a->chap.peer_id ? "CHAP: wrong name or secret, or there is no mutual secret"
                               : "CHAP: wrong name or secret";
    int slept = rt_sleep_ms(WRONG_ANSWER_MS);
    return slept < 0 ? slept : -(int)ISCSI_LOGIN_AUTH_FAILED;
}

/* What status tells of how the session came in. */
static int record(struct iscsi_auth *a)
{
    struct iscsi_conn *c = a->c;
    c->auth.user = strdup(a->chap.name);
    if (!c->auth.user) {
        return -ISCSI_LOGIN_NO_RESOURCES;
    }
    c->auth.algorithm = (uint8_t)a->chap.algorithm;
    c->auth.mutual = a->chap.peer_id != NULL;
    a->state = ISCSI_AUTH_PASSED;
    return 1;
}

static int judge(struct iscsi_auth *a, struct bytes_writer *out)
{
    struct iscsi_server *s = a->c->server;
    struct iscsi_guard_who who = who_is(a->c);
    int r = wait_turn(a, &who);
    if (r < 0) {
        return r;
    }
    const struct dev_account *account =
        dev_access_account(a->access, a->chap.name, a->c->session->initiator);
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
    rt_mutex_lock(&s->lock);
    iscsi_guard_pardon(&s->guard, &who);
    rt_mutex_unlock(&s->lock);
    return record(a);
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
        return judge(a, out);
    case -ENODATA:
        return fail(a, ISCSI_LOGIN_MISSING_PARAMETER, "a key of CHAP is missing");
    case -ENOENT:
        return fail(a, ISCSI_LOGIN_AUTH_FAILED, "CHAP: no algorithm that is strong enough");
    default:
        return fail(a, ISCSI_LOGIN_INITIATOR_ERROR, "keys of CHAP out of order");
    }
}

int iscsi_auth_step(struct iscsi_auth *a, bool leaving, struct bytes_writer *out)
{
    switch (a->state) {
    case ISCSI_AUTH_OPEN:
        if (!a->required) {
            return 1;
        }
        return leaving ? fail(a, ISCSI_LOGIN_AUTH_FAILED, "CHAP is needed, and was skipped") : 0;
    case ISCSI_AUTH_CHOSEN:
        iscsi_chap_begin(&a->chap, minimum_of(a));
        a->state = ISCSI_AUTH_CHAP;
        return 0;
    case ISCSI_AUTH_CHAP:
        return step_chap(a, out);
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
    unsigned needed = MAX_OF((unsigned)a->minimum, minimum);
    return c->auth.user && c->auth.algorithm >= needed &&
           dev_access_account(a, c->auth.user, c->session->initiator) != NULL;
}
