/* SPDX-License-Identifier: Apache-2.0 */
#include "ctl/ops_rules.h"

#include "base/err.h"
#include "ctl/access.h"
#include "ctl/ops_priv.h"
#include "iscsi/chap.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static json_t *account_json(const struct dev_account *account, bool mutual, bool secrets)
{
    json_t *j = json_pack("{s:s}", "user", account->user);
    if (j && !mutual) {
        json_object_set_new(j, "initiator", json_string(account->initiator));
    }
    if (j && account->kerberos) {
        json_object_set_new(j, "kerberos", json_true());
    }
    if (j && secrets && !account->kerberos && access_put(j, "secret_hex", account->secret) < 0) {
        json_decref(j);
        return NULL;
    }
    return j;
}

json_t *ops_auth_json(const struct dev_access *a, bool secrets)
{
    json_t *accounts = json_array();
    for (size_t i = 0; a && i < a->account_count; i++) {
        json_array_append_new(accounts, account_json(&a->accounts[i], false, secrets));
    }
    const char *minimum = a ? iscsi_chap_name(a->minimum) : NULL;
    json_t *mutual = a && a->own.secret ? account_json(&a->own, true, secrets) : json_null();
    return json_pack("{s:s?, s:o, s:o}", "minimum", minimum, "accounts", accounts, "mutual",
                     mutual);
}

json_t *ops_acl_json(const struct dev_access *a)
{
    json_t *list = json_array();
    for (size_t i = 0; a && i < a->acl_count; i++) {
        char address[DEV_CIDR_TEXT_SIZE];
        dev_cidr_format(&a->acls[i].from, address);
        json_array_append_new(list, json_pack("{s:s, s:s?}", "initiator", a->acls[i].initiator,
                                              "address", a->acls[i].any_address ? NULL : address));
    }
    return list;
}

json_t *ops_maps_json(const struct dev_access *a)
{
    json_t *list = json_array();
    for (size_t i = 0; a && i < a->map_count; i++) {
        const struct dev_map *m = &a->maps[i];
        json_array_append_new(list, json_pack("{s:s, s:I, s:I, s:b}", "initiator", m->initiator,
                                              "lun", (json_int_t)m->lun, "device",
                                              (json_int_t)m->device, "read_only", m->read_only));
    }
    return list;
}

/* The pattern under "initiator", or that of everybody. */
static json_t *take_pattern(const json_t *from, bool needed, char ret_pattern[DEV_PATTERN_MAX + 1])
{
    char why[320];
    const char *text = ops_text(from, "initiator");
    if (!text && needed) {
        return ops_failure(OPS_USAGE, "the name of an initiator, or a pattern, is needed: "
                                      "iqn.2024-01.com.example:host1, or *");
    }
    if (dev_pattern_check(text ? text : "*", ret_pattern, why, sizeof why) < 0) {
        return ops_failure(OPS_USAGE, "%s", why);
    }
    return NULL;
}

static json_t *take_user(const json_t *from, char ret_user[DEV_USER_MAX + 1])
{
    const char *user = ops_text(from, "user");
    size_t len = user ? strlen(user) : 0;
    if (len == 0) {
        return ops_failure(OPS_USAGE,
                           "the name of the account (CHAP name or Kerberos principal) is "
                           "needed: --user NAME");
    }
    if (len > DEV_USER_MAX) {
        return ops_failure(OPS_USAGE, "the name of an account has at most %d bytes", DEV_USER_MAX);
    }
    memcpy(ret_user, user, len + 1);
    return NULL;
}

static json_t *take_secret(const json_t *from, struct crypt_secret **ret_secret)
{
    *ret_secret = NULL;
    if (!json_object_get(from, "secret_hex")) {
        return NULL;
    }
    struct crypt_secret *s = access_get(from, "secret_hex");
    const char *fault = s ? access_chap_fault(s->bytes, s->len) : "secret_hex is no secret";
    if (fault) {
        crypt_secret_free(s);
        return ops_failure(OPS_USAGE, "%s", fault);
    }
    *ret_secret = s;
    return NULL;
}

/* A name with its realm, for that is what a ticket has. Whether there is one, only the KDC knows.
 */
static json_t *check_principal(const char *name)
{
    const char *realm = strrchr(name, '@');
    bool printable = true;
    for (const char *p = name; *p; p++) {
        printable &= (unsigned char)*p > ' ' && *p != 0x7f;
    }
    if (!printable || !realm || realm == name || realm[-1] == '\\' || !realm[1]) {
        return ops_failure(OPS_USAGE,
                           "'%.255s' is no Kerberos principal with its realm: alice@EXAMPLE.COM, "
                           "iscsi/iqn.2024-01.com.example:host1@EXAMPLE.COM",
                           name);
    }
    return NULL;
}

/* RFC 7143 §12.1.1: an initiator's principal is iscsi/ and its name, unless somebody says
 * otherwise; then it is good for that initiator, and else for the pattern that is given. */
static json_t *take_principal(const json_t *from, struct dev_account *account)
{
    static const char prefix[] = "iscsi/";
    char name[DEV_USER_MAX + 1], why[320];
    json_t *failed = check_principal(account->user);
    if (!failed && json_object_get(from, "secret_hex")) {
        failed = ops_failure(OPS_USAGE, "a Kerberos principal has no secret here");
    }
    bool own = strncmp(account->user, prefix, sizeof prefix - 1) == 0;
    if (failed || ops_text(from, "initiator") || !own) {
        return failed ? failed : take_pattern(from, false, account->initiator);
    }
    size_t len = strcspn(account->user + sizeof prefix - 1, "@");
    memcpy(name, account->user + sizeof prefix - 1, len);
    name[len] = 0;
    if (strpbrk(name, "*?") || dev_pattern_check(name, account->initiator, why, sizeof why) < 0) {
        return ops_failure(OPS_USAGE, "'%.255s' names no initiator: say --initiator PATTERN",
                           account->user);
    }
    return NULL;
}

json_t *ops_account_take(const json_t *from, bool mutual, struct dev_account *ret_account)
{
    *ret_account = (struct dev_account){.kerberos = ops_flag(from, "kerberos", false)};
    json_t *failed = take_user(from, ret_account->user);
    if (!failed && mutual && ret_account->kerberos) {
        failed = ops_failure(OPS_USAGE, "by Kerberos a target proves itself with its keytab");
    }
    if (!failed && ret_account->kerberos) {
        return take_principal(from, ret_account);
    }
    if (!failed && !mutual) {
        failed = take_pattern(from, false, ret_account->initiator);
    }
    return failed ? failed : take_secret(from, &ret_account->secret);
}

json_t *ops_acl_take(const json_t *from, struct dev_acl *ret_acl)
{
    *ret_acl = (struct dev_acl){.any_address = true};
    json_t *failed = take_pattern(from, true, ret_acl->initiator);
    const char *address = ops_text(from, "address");
    if (failed || !address) {
        return failed;
    }
    ret_acl->any_address = false;
    if (dev_cidr_parse(address, &ret_acl->from) < 0) {
        return ops_failure(OPS_USAGE,
                           "'%.60s' is no network: 10.1.0.0/16, fd00::/8, or one address; bits "
                           "behind the prefix are 0",
                           address);
    }
    return NULL;
}

static json_t *take_lun(const json_t *from, const char *key, uint64_t *ret_lun)
{
    if (!ops_number(from, key, ret_lun) || *ret_lun > DEV_LUN_MAX) {
        return ops_failure(OPS_USAGE, "a map needs a %s from 0 to %d: --%s 0", key, DEV_LUN_MAX,
                           key);
    }
    return NULL;
}

json_t *ops_map_take(const json_t *from, struct dev_map *ret_map)
{
    uint64_t lun = 0;
    uint64_t device = 0;
    json_t *failed = take_pattern(from, true, ret_map->initiator);
    if (!failed) {
        failed = take_lun(from, "lun", &lun);
    }
    device = lun;
    if (!failed && json_object_get(from, "device")) {
        failed = take_lun(from, "device", &device);
    }
    ret_map->lun = (uint32_t)lun;
    ret_map->device = (uint32_t)device;
    ret_map->read_only = ops_flag(from, "read_only", false);
    return failed;
}

json_t *ops_minimum_take(const json_t *from, uint8_t *ret_minimum)
{
    const char *name = ops_text(from, "minimum");
    unsigned number = name ? iscsi_chap_number(name) : 0;
    if (name && number == 0 && strcmp(name, "default") != 0) {
        return ops_failure(
            OPS_USAGE, "'%.20s' is no algorithm: md5, sha1, sha256, sha3-256, or default", name);
    }
    *ret_minimum = (uint8_t)number;
    return NULL;
}

static bool needs_secret(const struct dev_account *account)
{
    return !account->kerberos && !account->secret;
}

/* An account of a description; the secret it leaves out is the one that it has. */
static json_t *put_account(struct dev_access *draft, const struct dev_access *old,
                           const json_t *from)
{
    struct dev_account account;
    json_t *failed = ops_account_take(from, false, &account);
    for (size_t i = 0; !failed && needs_secret(&account) && i < old->account_count; i++) {
        const struct crypt_secret *s = old->accounts[i].secret;
        if (s && strcmp(old->accounts[i].user, account.user) == 0) {
            account.secret = crypt_secret_create(s->bytes, s->len);
        }
    }
    if (!failed && needs_secret(&account)) {
        failed = ops_failure(OPS_USAGE, "account '%s' is new and has no secret", account.user);
    }
    int r = failed ? 0 : dev_account_set(draft, &account);
    crypt_secret_free(account.secret);
    return r < 0 ? ops_rules_error(r, "") : failed;
}

static json_t *put_mutual(struct dev_access *draft, const struct dev_access *old,
                          const json_t *from)
{
    struct dev_account account;
    json_t *failed = ops_account_take(from, true, &account);
    const struct crypt_secret *secret = account.secret ? account.secret : old->own.secret;
    int r = 0;
    if (!failed && !secret) {
        failed = ops_failure(OPS_USAGE, "the mutual account '%s' is new and has no secret",
                             account.user);
    }
    if (!failed) {
        r = dev_own_set(draft, account.user, secret);
    }
    crypt_secret_free(account.secret);
    return r < 0 ? ops_rules_error(r, "") : failed;
}

json_t *ops_auth_replace(struct dev_access *draft, const json_t *auth)
{
    struct dev_access *old = dev_access_copy(draft);
    if (!old) {
        return ops_failure(OPS_FAILED, "out of memory");
    }
    dev_accounts_clear(draft);
    dev_own_remove(draft);
    json_t *failed = ops_minimum_take(auth, &draft->minimum);
    size_t i;
    json_t *each;
    json_array_foreach(json_object_get(auth, "accounts"), i, each)
    {
        failed = failed ? failed : put_account(draft, old, each);
    }
    const json_t *mutual = json_object_get(auth, "mutual");
    if (!failed && json_is_object(mutual)) {
        failed = put_mutual(draft, old, mutual);
    }
    dev_access_unref(old);
    return failed ? failed : ops_rules_fault(draft);
}

json_t *ops_acl_replace(struct dev_access *draft, const json_t *acl)
{
    json_t *failed = NULL;
    size_t i;
    json_t *each;
    draft->acl_count = 0;
    json_array_foreach(acl, i, each)
    {
        struct dev_acl rule;
        failed = failed ? failed : ops_acl_take(each, &rule);
        int r = failed ? 0 : dev_acl_add(draft, &rule);
        failed = r < 0 ? ops_rules_error(r, "") : failed;
    }
    return failed;
}

json_t *ops_maps_replace(struct dev_access *draft, const json_t *maps)
{
    json_t *failed = NULL;
    size_t i;
    json_t *each;
    draft->map_count = 0;
    json_array_foreach(maps, i, each)
    {
        struct dev_map map;
        failed = failed ? failed : ops_map_take(each, &map);
        int r = failed ? 0 : dev_map_add(draft, &map);
        failed = r < 0 ? ops_rules_error(r, "") : failed;
    }
    return failed;
}

json_t *ops_rules_fault(const struct dev_access *a)
{
    if (dev_access_reflects(a)) {
        return ops_failure(OPS_USAGE, "an account has the secret with which the target proves "
                                      "itself: each direction needs one of its own");
    }
    return NULL;
}

json_t *ops_rules_error(int r, const char *iqn)
{
    switch (r) {
    case -E2BIG:
        return ops_failure(OPS_USAGE,
                           "too many rules: a target has at most %u accounts, %u access rules, %u "
                           "maps, and %u bytes of them",
                           DEV_ACCOUNTS_MAX, DEV_ACLS_MAX, DEV_MAPS_MAX, DEV_ACCESS_BYTES_MAX);
    case -ELOOP:
        return ops_failure(OPS_USAGE, "a secret with which a target, or discovery, proves itself "
                                      "would be that of an account of another: each direction "
                                      "needs one of its own");
    case -EEXIST:
        return ops_failure(OPS_EXISTS, "there is such a rule already: an initiator has a LUN, and "
                                       "a device, once");
    case -ENOENT:
        return ops_failure(OPS_NOT_FOUND, "there is no such target, account or rule%s%s",
                           *iqn ? " at " : "", iqn);
    default:
        return ops_error(r, "the access rules were not changed");
    }
}
