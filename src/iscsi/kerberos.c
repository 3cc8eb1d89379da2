/* SPDX-License-Identifier: Apache-2.0 */
#include "iscsi/kerberos.h"

#include <errno.h>
#include <krb5.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What a job uses of libkrb5; all of it may be NULL. */
struct parts {
    krb5_context ctx;
    krb5_auth_context auth;
    krb5_keytab keytab;
    krb5_principal service;
    krb5_ticket *ticket;
    krb5_flags options;
};

/* Keeps the reason; names in it come from peers, and are made fit to be printed. */
static int say(struct iscsi_kerberos_job *job, struct parts *p, int result, krb5_error_code code)
{
    const char *text = p->ctx ? krb5_get_error_message(p->ctx, code) : NULL;
    (void)snprintf(job->why, sizeof job->why, "Kerberos: %s", text ? text : "out of memory");
    if (text) {
        krb5_free_error_message(p->ctx, text);
    }
    for (char *c = job->why; *c; c++) {
        if ((unsigned char)*c < ' ' || (unsigned char)*c >= 0x7f) {
            *c = '?';
        }
    }
    return code == ENOMEM ? -ENOMEM : result;
}

static int refuse(struct iscsi_kerberos_job *job, int result, const char *why)
{
    (void)snprintf(job->why, sizeof job->why, "Kerberos: %s", why);
    return result;
}

static void release(struct parts *p)
{
    if (!p->ctx) {
        return;
    }
    if (p->ticket) {
        krb5_free_ticket(p->ctx, p->ticket);
    }
    if (p->service) {
        krb5_free_principal(p->ctx, p->service);
    }
    if (p->auth) {
        (void)krb5_auth_con_free(p->ctx, p->auth); /* the replay cache with it */
    }
    if (p->keytab) {
        (void)krb5_kt_close(p->ctx, p->keytab);
    }
    krb5_free_context(p->ctx);
}

/* Of a name that says no realm, any will do. */
static krb5_error_code parse_service(struct parts *p, const char *name, bool *ret_any_realm)
{
    krb5_error_code code =
        krb5_parse_name_flags(p->ctx, name, KRB5_PRINCIPAL_PARSE_REQUIRE_REALM, &p->service);
    *ret_any_realm = code == KRB5_PARSE_MALFORMED;
    if (*ret_any_realm) {
        code = krb5_parse_name_flags(p->ctx, name, KRB5_PRINCIPAL_PARSE_NO_REALM, &p->service);
    }
    return code;
}

/* Opens what is ours: 0 or the reason, which is no fault of the peer. */
static int prepare(struct iscsi_kerberos_job *job, struct parts *p)
{
    char *name = NULL;
    krb5_error_code code = krb5_init_context(&p->ctx);
    if (code) {
        p->ctx = NULL;
        return refuse(job, code == ENOMEM ? -ENOMEM : -EIO, "its configuration cannot be read");
    }
    if (asprintf(&name, "FILE:%s", job->keytab) < 0) {
        return refuse(job, -ENOMEM, "out of memory");
    }
    code = krb5_kt_resolve(p->ctx, name, &p->keytab);
    free(name);
    if (!code) {
        code = krb5_kt_have_content(p->ctx, p->keytab);
    }
    return code ? say(job, p, -EIO, code) : 0;
}

/* With a replay cache, whatever the service is called: krb5_rd_req() would do without one when it
 * is not told for whom the ticket must be. */
static krb5_error_code guard_replays(struct parts *p)
{
    char name[] = "iscsi";
    krb5_data piece = {.data = name, .length = sizeof name - 1};
    krb5_rcache cache;
    krb5_error_code code = krb5_auth_con_init(p->ctx, &p->auth);
    if (!code) {
        code = krb5_get_server_rcache(p->ctx, &piece, &cache);
    }
    return code ? code : krb5_auth_con_setrcache(p->ctx, p->auth, cache);
}

static bool is_for_us(const struct parts *p, bool any_realm)
{
    krb5_const_principal to = p->ticket->server;
    return any_realm ? krb5_principal_compare_any_realm(p->ctx, to, p->service)
                     : krb5_principal_compare(p->ctx, to, p->service);
}

static int take_client(struct iscsi_kerberos_job *job, struct parts *p)
{
    char *name = NULL;
    krb5_error_code code = krb5_unparse_name(p->ctx, p->ticket->enc_part2->client, &name);
    if (code) {
        return say(job, p, -EACCES, code);
    }
    bool fits = strlen(name) < sizeof job->client;
    if (fits) {
        (void)snprintf(job->client, sizeof job->client, "%s", name);
    }
    krb5_free_unparsed_name(p->ctx, name);
    return fits ? 0 : refuse(job, -EACCES, "the name of the client is too long");
}

/* The peer wants to know who we are. */
static int prove(struct iscsi_kerberos_job *job, struct parts *p)
{
    krb5_data reply = {0};
    krb5_error_code code = krb5_mk_rep(p->ctx, p->auth, &reply);
    if (code) {
        return say(job, p, -EIO, code);
    }
    job->reply = malloc(reply.length);
    job->reply_len = reply.length;
    if (job->reply) {
        memcpy(job->reply, reply.data, reply.length);
    }
    krb5_free_data_contents(p->ctx, &reply);
    return job->reply ? 0 : refuse(job, -ENOMEM, "out of memory");
}

/* Whose fault it is that a request was not good. */
static int blame(krb5_error_code code)
{
    switch (code) {
    case KRB5_KT_IOERR:
    case KRB5_KEYTAB_BADVNO:
    case KRB5_RC_IO:
    case KRB5_RC_IO_EOF:
    case KRB5_RC_IO_IO:
    case KRB5_RC_IO_MALLOC:
    case KRB5_RC_IO_PERM:
    case KRB5_RC_IO_SPACE:
    case KRB5_RC_IO_UNKNOWN:
    case KRB5_RC_TYPE_NOTFOUND:
    case KRB5_RC_TYPE_EXISTS:
        return -EIO;
    default:
        /* Plain errno values are those of files of ours. */
        return code > 0 && code < 4096 ? -EIO : -EACCES;
    }
}

static int judge(struct iscsi_kerberos_job *job, struct parts *p)
{
    bool any_realm = true;
    krb5_error_code code = job->service ? parse_service(p, job->service, &any_realm) : 0;
    if (!code) {
        code = guard_replays(p);
    }
    if (code) {
        return say(job, p, -EIO, code);
    }
    krb5_data request = {.data = (char *)(uintptr_t)job->request, .length = (unsigned)job->len};
    code = krb5_rd_req(p->ctx, &p->auth, &request, NULL, p->keytab, &p->options, &p->ticket);
    if (code) {
        return say(job, p, blame(code), code);
    }
    if (job->service && !is_for_us(p, any_realm)) {
        return refuse(job, -EACCES, "the ticket is for another service of the keytab");
    }
    return take_client(job, p);
}

int iscsi_kerberos_accept(void *arg)
{
    struct iscsi_kerberos_job *job = arg;
    struct parts p = {0};
    int r = prepare(job, &p);
    if (r == 0) {
        r = judge(job, &p);
    }
    if (r == 0 && (p.options & AP_OPTS_MUTUAL_REQUIRED)) {
        r = prove(job, &p);
    }
    release(&p);
    return r;
}

int iscsi_kerberos_check(void *arg)
{
    struct iscsi_kerberos_job *job = arg;
    struct parts p = {0};
    int r = prepare(job, &p);
    release(&p);
    return r;
}

void iscsi_kerberos_free(struct iscsi_kerberos_job *job)
{
    free(job->reply);
    job->reply = NULL;
}
