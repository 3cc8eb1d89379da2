/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Access rules in the registry: under g->m the pointers, under the change lock the record. A target
 * with rules has a record of a later version, so that a program which knows of no rules does not
 * serve it to everybody.
 */
#include "base/assert.h"
#include "base/err.h"
#include "base/msg.h"
#include "dev/access.h"
#include "dev/dev_priv.h"
#include "dev/record.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static size_t access_key(const char *iqn, uint8_t ret_key[DEV_KEY_MAX])
{
    size_t n = strnlen(iqn, DEV_IQN_MAX);
    ret_key[0] = DEV_KEY_ACCESS;
    memcpy(ret_key + 1, iqn, n);
    return n + 1;
}

/* Where the rules of a scope are kept; NULL: no such target. Under g->m. */
static struct dev_access **place(struct dev_registry *g, const char *iqn)
{
    if (!*iqn) {
        return &g->discovery;
    }
    struct dev_target *t = dev_target_lookup(g, iqn);
    return t ? &t->access : NULL;
}

int dev_access_get(struct dev_registry *g, const char *iqn, struct dev_access **ret_access)
{
    rt_mutex_lock(&g->m);
    struct dev_access **at = place(g, iqn);
    if (at) {
        *ret_access = dev_access_ref(*at);
    }
    rt_mutex_unlock(&g->m);
    return at ? 0 : -ENOENT;
}

static int put_rules(struct vol *v, struct vol_txn *t, const char *iqn, const struct dev_access *a,
                     bool stored)
{
    uint8_t key[DEV_KEY_MAX];
    size_t key_len = access_key(iqn, key);
    if (dev_access_is_empty(a)) {
        return stored ? vol_txn_delete(t, key, key_len) : 0;
    }
    return dev_access_put(v, t, &(struct dev_stored_key){key, key_len}, a);
}

/* The target's own record says that there are rules. */
static int put_target(struct vol_txn *t, struct dev_target_info *info, bool ruled)
{
    uint8_t key[DEV_KEY_MAX];
    uint8_t value[DEV_VALUE_MAX];
    info->ruled = ruled;
    size_t key_len = dev_target_key(info->iqn, key);
    return vol_txn_put(t, key, key_len, value, dev_target_value(info, value));
}

static int commit(struct dev_registry *g, const char *iqn, const struct dev_access *a, bool stored)
    WAITS
{
    struct dev_target_info info;
    struct vol_txn *t;
    int r = *iqn ? dev_target_find(g, iqn, &info) : 0;
    if (r < 0) {
        return r;
    }
    r = vol_txn_begin(g->v, &t);
    if (r < 0) {
        return r;
    }
    r = put_rules(g->v, t, iqn, a, stored);
    if (r >= 0 && *iqn) {
        r = put_target(t, &info, !dev_access_is_empty(a));
    }
    if (r < 0) {
        vol_txn_abort(t);
        return r;
    }
    return vol_txn_commit(t);
}

/* Makes the draft, which is taken over, the rules. The scope is there: we hold the change lock. */
static void publish(struct dev_registry *g, const char *iqn, struct dev_access *draft)
{
    bool empty = dev_access_is_empty(draft);
    rt_mutex_lock(&g->m);
    struct dev_access **at = place(g, iqn);
    ASSERT(at != NULL);
    struct dev_access *old = *at;
    *at = empty ? NULL : draft;
    if (*iqn) {
        struct dev_target *t = dev_target_lookup(g, iqn);
        t->info.ruled = !empty;
        t->generation = ++g->generation;
    }
    rt_mutex_unlock(&g->m);
    dev_access_unref(old);
    if (empty) {
        dev_access_unref(draft);
    }
}

/* a proves itself with what is an initiator's secret in b. */
static bool lends_to(const struct dev_access *a, const struct dev_access *b)
{
    for (size_t i = 0; a && b && a->own.secret && i < b->account_count; i++) {
        if (crypt_secret_equal(a->own.secret, b->accounts[i].secret)) {
            return true;
        }
    }
    return false;
}

/*
 * Who may log in somewhere may have any challenge answered there by the mutual secret. That must
 * not be the response with which somebody logs in elsewhere (RFC 7143 §9.2.1).
 */
static bool reflects_elsewhere(struct dev_registry *g, const char *iqn, const struct dev_access *a)
{
    rt_mutex_lock(&g->m);
    bool found = *iqn && (lends_to(a, g->discovery) || lends_to(g->discovery, a));
    for (struct tree_node *at = tree_first(&g->targets); at && !found; at = tree_next(at)) {
        const struct dev_target *t = container_of(at, struct dev_target, node);
        bool other = strcmp(t->info.iqn, iqn) != 0;
        found = other && (lends_to(a, t->access) || lends_to(t->access, a));
    }
    rt_mutex_unlock(&g->m);
    return found;
}

static int change_locked(struct dev_registry *g, const char *iqn, dev_access_edit *edit, void *arg)
    WAITS
{
    struct dev_access *now;
    int r = dev_access_get(g, iqn, &now);
    if (r < 0) {
        return r;
    }
    struct dev_access *draft = dev_access_copy(now);
    bool stored = now != NULL;
    dev_access_unref(now);
    if (!draft) {
        return -ENOMEM;
    }
    bool reflected = reflects_elsewhere(g, iqn, draft);
    r = edit(draft, arg);
    if (r >= 0 && !reflected && reflects_elsewhere(g, iqn, draft)) {
        r = -ELOOP;
    }
    if (r >= 0) {
        r = commit(g, iqn, draft, stored);
    }
    if (r < 0) {
        dev_access_unref(draft);
        return r;
    }
    publish(g, iqn, draft);
    return vol_flush(g->v);
}

int dev_access_change(struct dev_registry *g, const char *iqn, dev_access_edit *edit, void *arg)
{
    rt_lock_take(&g->change);
    int r = change_locked(g, iqn, edit, arg);
    rt_lock_release(&g->change);
    return r;
}

int dev_access_delete(struct dev_registry *g, struct vol_txn *t, const char *iqn)
{
    uint8_t key[DEV_KEY_MAX];
    struct dev_access *now;
    int r = dev_access_get(g, iqn, &now);
    bool stored = r >= 0 && now;
    if (r >= 0) {
        dev_access_unref(now);
    }
    return !stored ? 0 : vol_txn_delete(t, key, access_key(iqn, key));
}

/*
 * A record that cannot be read closes its target rather than opening it to everybody: the rules are
 * then those of a target that nobody may use.
 */
static struct dev_access *closed(void)
{
    struct dev_access *a = dev_access_new();
    struct dev_acl nobody = {.initiator = " ", .any_address = true}; /* no name has blanks */
    if (a && dev_acl_add(a, &nobody) < 0) {
        dev_access_unref(a);
        return NULL;
    }
    return a;
}

static int load_one(void *arg, const void *key, size_t key_len, const void *value, size_t value_len)
    WAITS
{
    struct dev_registry *g = arg;
    char iqn[DEV_IQN_MAX + 1] = "";
    struct dev_access *a = NULL;
    if (key_len - 1 < sizeof iqn) {
        memcpy(iqn, (const uint8_t *)key + 1, key_len - 1);
    }
    int r = dev_access_take(g->v, &(struct dev_stored_key){key, key_len}, value, value_len, &a);
    if (r == ERR_CORRUPT_RECORD) {
        msg_error("dev", "the access rules of \"%s\" cannot be read: nobody may use it",
                  *iqn ? iqn : "discovery");
        a = closed();
        r = a ? 0 : -ENOMEM;
    }
    if (r < 0) {
        return r;
    }
    struct dev_access **at = place(g, iqn);
    if (!at || *at) {
        dev_access_unref(a);
        return 0;
    }
    *at = a;
    return 0;
}

int dev_access_load(struct dev_registry *g)
{
    const uint8_t prefix = DEV_KEY_ACCESS;
    return vol_scan(g->v, &prefix, 1, load_one, g);
}
