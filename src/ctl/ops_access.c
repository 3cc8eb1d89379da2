/* SPDX-License-Identifier: Apache-2.0 */
/* `zerofs iscsi auth`, `acl`, `map`, `sessions`, `disconnect`. */
#include "base/err.h"
#include "base/msg.h"
#include "base/time.h"
#include "ctl/ops_priv.h"
#include "ctl/ops_rules.h"
#include "iscsi/chap.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What a request edits. */
struct edit {
    struct ops *o;
    const json_t *request;
    char iqn[DEV_IQN_MAX + 1]; /* "": discovery */
    json_t *(*fn)(struct edit *e, struct dev_access *draft);
    json_t *failed;
};

/* The scope that the request names, or a failure. */
static json_t *find_scope(struct ops *o, const json_t *request, bool discovery,
                          char ret_iqn[DEV_IQN_MAX + 1])
{
    struct dev_target_info target;
    const char *name = ops_text(request, "iqn");
    if (discovery && name && strcmp(name, OPS_DISCOVERY) == 0) {
        ret_iqn[0] = 0;
        return NULL;
    }
    json_t *failed = ops_iscsi_target(o, request, &target);
    if (!failed) {
        memcpy(ret_iqn, target.iqn, sizeof target.iqn);
    }
    return failed;
}

static int run_edit(struct dev_access *draft, void *arg)
{
    struct edit *e = arg;
    e->failed = e->fn(e, draft);
    return e->failed ? -ECANCELED : 0;
}

/* One scope's rules as they are now. */
static json_t *scope_json(struct ops *o, const char *iqn, const char *section)
{
    struct dev_access *a;
    if (dev_access_get(o->registry, iqn, &a) < 0) {
        return NULL;
    }
    json_t *rules = strcmp(section, "auth") == 0  ? ops_auth_json(a, false)
                    : strcmp(section, "acl") == 0 ? ops_acl_json(a)
                                                  : ops_maps_json(a);
    dev_access_unref(a);
    return json_pack("{s:s, s:o}", "iqn", *iqn ? iqn : OPS_DISCOVERY, section, rules);
}

/* Edits the scope of the request: the response has the section as it is then. */
static json_t *change(struct ops *o, const json_t *request, const char *section,
                      json_t *(*fn)(struct edit *e, struct dev_access *draft)) WAITS
{
    struct edit e = {.o = o, .request = request, .fn = fn};
    bool is_auth = strcmp(section, "auth") == 0;
    json_t *failed = find_scope(o, request, is_auth, e.iqn);
    if (failed) {
        return failed;
    }
    int r = dev_access_change(o->registry, e.iqn, run_edit, &e);
    if (e.failed) {
        return e.failed;
    }
    if (r < 0) {
        return ops_rules_error(r, e.iqn);
    }
    size_t ended = o->iscsi ? iscsi_rules_changed(o->iscsi, e.iqn) : 0;
    if (o->iscsi && strcmp(section, "maps") == 0) {
        iscsi_luns_changed(o->iscsi, e.iqn);
    }
    if (o->started_ns > 0) {
        msg_info("ctl", "access rules (%s) of %s changed; %zu sessions end", section,
                 *e.iqn ? e.iqn : OPS_DISCOVERY, ended);
    }
    json_t *result = scope_json(o, e.iqn, section);
    if (result) {
        json_object_set_new(result, "disconnected", json_integer((json_int_t)ended));
    }
    return ops_success(result);
}

json_t *ops_secrets_may_be_stored(struct ops *o, const json_t *request)
{
    if (o->keys || ops_flag(request, "store_in_clear", false)) {
        return NULL;
    }
    return ops_failure(OPS_REFUSED,
                       "the volume at %s is not encrypted, and whoever reads the store would read "
                       "the secret: say --store-in-clear if that is meant",
                       o->url);
}

static json_t *edit_auth_set(struct edit *e, struct dev_access *draft)
{
    struct dev_account account;
    bool mutual = ops_flag(e->request, "mutual", false);
    json_t *failed = ops_account_take(e->request, mutual, &account);
    if (!failed && !account.secret && !account.kerberos) {
        failed = ops_failure(OPS_USAGE, "the request has no secret");
    }
    int r = 0;
    if (!failed) {
        r = mutual ? dev_own_set(draft, account.user, account.secret)
                   : dev_account_set(draft, &account);
    }
    crypt_secret_free(account.secret);
    if (r < 0) {
        return ops_rules_error(r, e->iqn);
    }
    return failed ? failed : ops_rules_fault(draft);
}

static json_t *auth_set(struct ops *o, const json_t *request)
{
    bool kerberos = ops_flag(request, "kerberos", false); /* no secret */
    json_t *failed = kerberos ? NULL : ops_secrets_may_be_stored(o, request);
    return failed ? failed : change(o, request, "auth", edit_auth_set);
}

static json_t *edit_auth_remove(struct edit *e, struct dev_access *draft)
{
    const char *user = ops_text(e->request, "user");
    if (ops_flag(e->request, "mutual", false)) {
        if (!draft->own.secret) {
            return ops_failure(OPS_NOT_FOUND, "there is no mutual account");
        }
        dev_own_remove(draft);
        return NULL;
    }
    if (!user) {
        return ops_failure(OPS_USAGE,
                           "the name of the account is needed: --user NAME, or --mutual");
    }
    if (dev_account_remove(draft, user) < 0) {
        return ops_failure(OPS_NOT_FOUND, "there is no account '%.255s'", user);
    }
    if (draft->account_count == 0 && !ops_flag(e->request, "force", false)) {
        return ops_failure(OPS_REFUSED,
                           "'%.255s' is the last account: without it everybody that the ACL lets "
                           "in needs no secret; say --force if that is meant",
                           user);
    }
    return NULL;
}

static json_t *auth_remove(struct ops *o, const json_t *request)
{
    return change(o, request, "auth", edit_auth_remove);
}

static json_t *edit_auth_minimum(struct edit *e, struct dev_access *draft)
{
    if (!ops_text(e->request, "minimum")) {
        return ops_failure(OPS_USAGE,
                           "an algorithm is needed: md5, sha1, sha256, sha3-256, or default");
    }
    return ops_minimum_take(e->request, &draft->minimum);
}

static json_t *auth_minimum(struct ops *o, const json_t *request)
{
    return change(o, request, "auth", edit_auth_minimum);
}

static json_t *edit_acl(struct edit *e, struct dev_access *draft, bool add)
{
    struct dev_acl acl;
    json_t *failed = ops_acl_take(e->request, &acl);
    if (failed) {
        return failed;
    }
    int r = add ? dev_acl_add(draft, &acl) : dev_acl_remove(draft, &acl);
    if (r == 0 && !add && draft->acl_count == 0 && !ops_flag(e->request, "force", false)) {
        return ops_failure(OPS_REFUSED, "that is the last rule: without it everybody is let in; "
                                        "say --force if that is meant");
    }
    return r < 0 ? ops_rules_error(r, e->iqn) : NULL;
}

static json_t *edit_acl_add(struct edit *e, struct dev_access *draft)
{
    return edit_acl(e, draft, true);
}

static json_t *edit_acl_remove(struct edit *e, struct dev_access *draft)
{
    return edit_acl(e, draft, false);
}

static json_t *acl_add(struct ops *o, const json_t *request)
{
    return change(o, request, "acl", edit_acl_add);
}

static json_t *acl_remove(struct ops *o, const json_t *request)
{
    return change(o, request, "acl", edit_acl_remove);
}

static json_t *edit_map_add(struct edit *e, struct dev_access *draft)
{
    struct dev_map map = {0};
    struct dev *d;
    json_t *failed = ops_map_take(e->request, &map);
    if (failed) {
        return failed;
    }
    if (dev_find_lun(e->o->registry, e->iqn, map.device, &d) < 0) {
        return ops_failure(OPS_NOT_FOUND, "target '%s' has no LUN %u", e->iqn, map.device);
    }
    dev_unref(d);
    int r = dev_map_add(draft, &map);
    return r < 0 ? ops_rules_error(r, e->iqn) : NULL;
}

static json_t *edit_map_remove(struct edit *e, struct dev_access *draft)
{
    struct dev_map map = {0};
    json_t *failed = ops_map_take(e->request, &map);
    if (failed) {
        return failed;
    }
    int r = dev_map_remove(draft, map.initiator, map.lun);
    if (r == 0 && draft->map_count == 0 && !ops_flag(e->request, "force", false)) {
        return ops_failure(OPS_REFUSED, "that is the last map: without it everybody sees all LUNs; "
                                        "say --force if that is meant");
    }
    return r < 0 ? ops_rules_error(r, e->iqn) : NULL;
}

static json_t *map_add(struct ops *o, const json_t *request)
{
    return change(o, request, "maps", edit_map_add);
}

static json_t *map_remove(struct ops *o, const json_t *request)
{
    return change(o, request, "maps", edit_map_remove);
}

#define LIST_CHUNK 32

/* A section of the scope that the request names, or of all. */
static json_t *list(struct ops *o, const json_t *request, const char *section)
{
    char iqn[DEV_IQN_MAX + 1] = "";
    bool is_auth = strcmp(section, "auth") == 0;
    json_t *scopes = json_array();
    if (ops_text(request, "iqn")) {
        json_t *failed = find_scope(o, request, is_auth, iqn);
        if (failed) {
            json_decref(scopes);
            return failed;
        }
        json_array_append_new(scopes, scope_json(o, iqn, section));
        return ops_success(json_pack("{s:o}", "targets", scopes));
    }
    if (is_auth) {
        json_array_append_new(scopes, scope_json(o, "", section));
    }
    struct dev_target_info *chunk = calloc(LIST_CHUNK, sizeof *chunk);
    size_t count;
    while (chunk && (count = dev_target_list(o->registry, iqn, chunk, LIST_CHUNK)) > 0) {
        for (size_t i = 0; i < count; i++) {
            json_array_append_new(scopes, scope_json(o, chunk[i].iqn, section));
        }
        memcpy(iqn, chunk[count - 1].iqn, sizeof iqn);
    }
    free(chunk);
    return ops_success(json_pack("{s:o}", "targets", scopes));
}

static json_t *auth_list(struct ops *o, const json_t *request)
{
    return list(o, request, "auth");
}

static json_t *acl_list(struct ops *o, const json_t *request)
{
    return list(o, request, "acl");
}

static json_t *map_list(struct ops *o, const json_t *request)
{
    return list(o, request, "maps");
}

static json_t *session_json(const struct iscsi_session_info *s)
{
    char isid[13];
    for (size_t i = 0; i < sizeof s->isid; i++) {
        (void)snprintf(isid + 2 * i, 3, "%02x", s->isid[i]);
    }
    return json_pack(
        "{s:s, s:s, s:s, s:s, s:i, s:s, s:i, s:i, s:I, s:{s:s, s:s?, s:s?, s:b}, s:b, s:b, s:I, "
        "s:I, "
        "s:I, "
        "s:I}",
        "target", s->target, "initiator", s->initiator, "address", s->peer, "portal", s->local,
        "portal_group", s->tpgt, "isid", isid, "tsih", s->tsih, "cid", s->cid, "connections",
        (json_int_t)s->connections, "auth", "method", iscsi_method_name(s->method), "algorithm",
        iscsi_chap_name(s->chap), "user", s->method == ISCSI_METHOD_NONE ? NULL : s->user, "mutual",
        s->mutual, "header_digest", s->header_digest, "data_digest", s->data_digest, "age_seconds",
        (json_int_t)(s->age_ns / NS_PER_S), "commands", (json_int_t)s->commands, "bytes_read",
        (json_int_t)s->bytes_read, "bytes_written", (json_int_t)s->bytes_written);
}

static json_t *sessions(struct ops *o, const json_t *request)
{
    struct iscsi_session_info *infos = NULL;
    size_t count = 0;
    (void)request;
    int r = o->iscsi ? iscsi_sessions(o->iscsi, &infos, &count) : 0;
    if (r < 0) {
        return ops_error(r, "the sessions cannot be listed");
    }
    json_t *all = json_array();
    for (size_t i = 0; i < count; i++) {
        json_array_append_new(all, session_json(&infos[i]));
    }
    free(infos);
    return ops_success(json_pack("{s:o, s:b}", "sessions", all, "running", o->iscsi != NULL));
}

static json_t *disconnect(struct ops *o, const json_t *request)
{
    struct dev_target_info target;
    char pattern[DEV_PATTERN_MAX + 1], why[320];
    json_t *failed = ops_iscsi_target(o, request, &target);
    if (failed) {
        return failed;
    }
    const char *initiator = ops_text(request, "initiator");
    if (dev_pattern_check(initiator ? initiator : "*", pattern, why, sizeof why) < 0) {
        return ops_failure(OPS_USAGE, "%s", why);
    }
    size_t count = o->iscsi ? iscsi_disconnect(o->iscsi, target.iqn, pattern) : 0;
    if (count == 0) {
        return ops_failure(OPS_NOT_FOUND, "target '%s' has no session of '%s'", target.iqn,
                           pattern);
    }
    return ops_success(
        json_pack("{s:s, s:I}", "iqn", target.iqn, "disconnected", (json_int_t)count));
}

const struct ops_entry ops_access_table[] = {
    {"iscsi.auth.set", auth_set},
    {"iscsi.auth.remove", auth_remove},
    {"iscsi.auth.minimum", auth_minimum},
    {"iscsi.auth.list", auth_list},
    {"iscsi.acl.add", acl_add},
    {"iscsi.acl.remove", acl_remove},
    {"iscsi.acl.list", acl_list},
    {"iscsi.map.add", map_add},
    {"iscsi.map.remove", map_remove},
    {"iscsi.map.list", map_list},
    {"iscsi.sessions", sessions},
    {"iscsi.disconnect", disconnect},
    {NULL, NULL},
};
