/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Portal groups and the ways to targets in the registry: under g->m the pointers, under the change
 * lock the records. A target that is not reached through all groups has a record of a later
 * version, so that a program which knows of no groups does not serve it everywhere.
 */
#include "base/assert.h"
#include "base/err.h"
#include "base/msg.h"
#include "dev/dev_priv.h"
#include "dev/paths.h"
#include "dev/record.h"

#include <stdlib.h>
#include <string.h>

#define NOWHERE UINT16_MAX /* no group has this tag: dev_groups_free_tag() */

static size_t paths_key(const char *iqn, uint8_t ret_key[DEV_KEY_MAX])
{
    size_t n = strnlen(iqn, DEV_IQN_MAX);
    ret_key[0] = DEV_KEY_PATHS;
    memcpy(ret_key + 1, iqn, n);
    return n + 1;
}

struct dev_groups *dev_groups_get(struct dev_registry *g)
{
    rt_mutex_lock(&g->m);
    struct dev_groups *s = dev_groups_ref(g->groups);
    rt_mutex_unlock(&g->m);
    return s;
}

int dev_paths_get(struct dev_registry *g, const char *iqn, struct dev_paths **ret_paths)
{
    rt_mutex_lock(&g->m);
    struct dev_target *t = dev_target_lookup(g, iqn);
    if (t) {
        *ret_paths = dev_paths_ref(t->paths);
    }
    rt_mutex_unlock(&g->m);
    return t ? 0 : -ENOENT;
}

uint16_t dev_portal_tag(struct dev_registry *g, const char *local)
{
    struct dev_groups *s = dev_groups_get(g);
    uint16_t tag = dev_groups_tag(s, local);
    dev_groups_unref(s);
    return tag;
}

/* Under g->m. */
static bool is_way(const struct dev_registry *g, const struct dev_target *t, uint16_t tag)
{
    return dev_paths_reach(t->paths, tag) &&
           (tag == DEV_TAG_DEFAULT || dev_groups_find_tag(g->groups, tag));
}

bool dev_target_is_reached(struct dev_registry *g, const char *iqn, uint16_t tag)
{
    rt_mutex_lock(&g->m);
    struct dev_target *t = dev_target_lookup(g, iqn);
    bool reached = t && is_way(g, t, tag);
    rt_mutex_unlock(&g->m);
    return reached;
}

size_t dev_path_list(struct dev_registry *g, const char *iqn, const struct uuid *device,
                     struct dev_path ret_paths[DEV_TAGS_MAX], uint64_t *ret_generation)
{
    size_t n = 0;
    rt_mutex_lock(&g->m);
    struct dev_target *t = dev_target_lookup(g, iqn);
    size_t made = g->groups ? g->groups->groups.len : 0;
    for (size_t i = 0; t && i <= made; i++) { /* the default group has the smallest tag */
        uint16_t tag = i == 0 ? (uint16_t)DEV_TAG_DEFAULT : g->groups->groups.at[i - 1].tag;
        if (is_way(g, t, tag)) {
            ret_paths[n++] = dev_paths_state(t->paths, device, tag);
        }
    }
    if (ret_generation) {
        *ret_generation = g->path_generation;
    }
    rt_mutex_unlock(&g->m);
    return n;
}

static int put_groups(struct vol_txn *t, const struct dev_groups *s, bool stored)
{
    const uint8_t key = DEV_KEY_GROUPS;
    struct bytes_writer w = {0};
    if (s->groups.len == 0) {
        return stored ? vol_txn_delete(t, &key, 1) : 0;
    }
    int r = dev_groups_encode(s, &w);
    if (r == 0) {
        r = vol_txn_put(t, &key, 1, w.data, w.len);
    }
    bytes_writer_free(&w);
    return r;
}

/* The ways of one target, and its own record, which says whether there are limits. */
static int put_paths(struct vol_txn *t, const struct dev_target_info *info,
                     const struct dev_paths *p, bool stored)
{
    uint8_t key[DEV_KEY_MAX];
    uint8_t value[DEV_VALUE_MAX];
    struct dev_target_info changed = *info;
    struct bytes_writer w = {0};
    int r = 0;
    size_t key_len = paths_key(info->iqn, key);
    if (!dev_paths_is_empty(p)) {
        r = dev_paths_encode(p, &w);
        if (r == 0) {
            r = vol_txn_put(t, key, key_len, w.data, w.len);
        }
        bytes_writer_free(&w);
    } else if (stored) {
        r = vol_txn_delete(t, key, key_len);
    }
    changed.confined = p->member_count > 0;
    if (r >= 0 && changed.confined != info->confined) {
        key_len = dev_target_key(info->iqn, key);
        r = vol_txn_put(t, key, key_len, value, dev_target_value(&changed, value));
    }
    return r;
}

/* Makes the draft, which is taken over, the target's. Under g->m; gives what has to be freed. */
static struct dev_paths *set_paths(struct dev_registry *g, struct dev_target *t,
                                   struct dev_paths *draft)
{
    struct dev_paths *old = t->paths;
    t->info.confined = draft->member_count > 0;
    t->paths = draft;
    if (dev_paths_is_empty(draft)) {
        t->paths = NULL;
        dev_paths_unref(draft);
    }
    g->path_generation++;
    return old;
}

/* Under g->m. */
static bool is_lun_of(struct dev_registry *g, const char *iqn, const struct uuid *device)
{
    struct dev *d = dev_tree_from(g, &(struct dev_key){.kind = DEV_ISCSI, .name = iqn});
    while (d && strcmp(d->id.name, iqn) == 0) {
        if (uuid_equal(&d->id.uuid, device)) {
            return true;
        }
        d = tree_entry(tree_next(&d->node), struct dev, node);
    }
    return false;
}

static bool begins_device(const struct dev_paths *p, size_t i)
{
    return i == 0 || !uuid_equal(&p->luns.at[i - 1].device, &p->luns.at[i].device);
}

/* Takes out states of devices that are the target's no more, once there are more devices than it
 * has LUNs. */
static void sweep(struct dev_registry *g, const char *iqn, struct dev_paths *draft)
{
    size_t devices = 0;
    for (size_t i = 0; i < draft->luns.len; i++) {
        devices += begins_device(draft, i);
    }
    rt_mutex_lock(&g->m);
    const struct dev_target *t = dev_target_lookup(g, iqn);
    size_t kept = 0;
    bool there = false;
    for (size_t i = 0; t && devices > t->info.luns && i < draft->luns.len; i++) {
        struct dev_lun_path at = draft->luns.at[i];
        if (kept == 0 || !there || !uuid_equal(&draft->luns.at[kept - 1].device, &at.device)) {
            there = is_lun_of(g, iqn, &at.device);
        }
        if (there) {
            draft->luns.at[kept++] = at;
        }
    }
    if (t && devices > t->info.luns) {
        draft->luns.len = kept;
    }
    rt_mutex_unlock(&g->m);
}

static int commit_paths(struct dev_registry *g, const char *iqn, const struct dev_paths *draft,
                        bool stored) WAITS
{
    struct dev_target_info info;
    struct vol_txn *t;
    int r = dev_target_find(g, iqn, &info);
    if (r >= 0) {
        r = vol_txn_begin(g->v, &t);
    }
    if (r < 0) {
        return r;
    }
    r = put_paths(t, &info, draft, stored);
    if (r < 0) {
        vol_txn_abort(t);
        return r;
    }
    return vol_txn_commit(t);
}

static int change_paths_locked(struct dev_registry *g, const char *iqn, dev_paths_edit *edit,
                               void *arg) WAITS
{
    struct dev_paths *now;
    int r = dev_paths_get(g, iqn, &now);
    if (r < 0) {
        return r;
    }
    struct dev_paths *draft = dev_paths_copy(now);
    bool stored = now != NULL;
    dev_paths_unref(now);
    if (!draft) {
        return -ENOMEM;
    }
    r = edit(draft, arg);
    if (r >= 0) {
        sweep(g, iqn, draft);
        r = commit_paths(g, iqn, draft, stored);
    }
    if (r < 0) {
        dev_paths_unref(draft);
        return r;
    }
    rt_mutex_lock(&g->m);
    struct dev_target *t = dev_target_lookup(g, iqn); /* we hold the change lock */
    ASSERT(t != NULL);
    struct dev_paths *old = set_paths(g, t, draft);
    rt_mutex_unlock(&g->m);
    dev_paths_unref(old);
    return vol_flush(g->v);
}

int dev_paths_change(struct dev_registry *g, const char *iqn, dev_paths_edit *edit, void *arg)
{
    rt_lock_take(&g->change);
    int r = change_paths_locked(g, iqn, edit, arg);
    rt_lock_release(&g->change);
    return r;
}

/* A target that has to forget tags of groups that go. */
struct forgetful {
    struct dev_target *target; /* stays: we hold the change lock */
    struct dev_paths *draft;
};

struct group_change {
    struct dev_registry *g;
    struct dev_groups *now; /* or NULL */
    struct dev_groups *draft;
    VEC(struct forgetful) forgetful;
};

/* What is left of the target's ways without the groups that go: 0, -EBUSY, -ENOMEM. */
static int forget(struct group_change *c, struct dev_target *t)
{
    struct dev_paths *draft = dev_paths_copy(t->paths);
    bool changed = false;
    int r = draft ? 0 : -ENOMEM;
    for (size_t i = 0; i < c->now->groups.len && r >= 0; i++) {
        uint16_t tag = c->now->groups.at[i].tag;
        if (dev_groups_find_tag(c->draft, tag)) {
            continue;
        }
        if (draft->member_count > 0 && dev_paths_reach(draft, tag)) {
            r = -EBUSY;
        } else {
            changed = dev_paths_drop_tag(draft, tag) || changed;
        }
    }
    if (r >= 0 && changed) {
        r = vec_push(&c->forgetful, ((struct forgetful){t, draft}));
    }
    if (r < 0 || !changed) {
        dev_paths_unref(draft);
    }
    return r;
}

/* Nobody changes the tree of targets meanwhile: we hold the change lock. */
static int forget_all(struct group_change *c)
{
    int r = 0;
    tree_for_each(&c->g->targets, struct dev_target, node, t) {
        if (c->now && t->paths && r >= 0) {
            r = forget(c, t);
        }
    }
    return r;
}

static int commit_groups(struct group_change *c) WAITS
{
    struct vol_txn *t;
    int r = vol_txn_begin(c->g->v, &t);
    if (r < 0) {
        return r;
    }
    r = put_groups(t, c->draft, c->now != NULL);
    for (size_t i = 0; i < c->forgetful.len && r >= 0; i++) {
        const struct forgetful *f = &c->forgetful.at[i];
        r = put_paths(t, &f->target->info, f->draft, true);
    }
    if (r < 0) {
        vol_txn_abort(t);
        return r;
    }
    return vol_txn_commit(t);
}

/* Takes over the drafts. */
static void publish_groups(struct group_change *c)
{
    struct dev_registry *g = c->g;
    rt_mutex_lock(&g->m);
    struct dev_groups *old = g->groups;
    g->groups = c->draft->groups.len > 0 ? dev_groups_ref(c->draft) : NULL;
    g->path_generation++;
    for (size_t i = 0; i < c->forgetful.len; i++) {
        c->forgetful.at[i].draft =
            set_paths(g, c->forgetful.at[i].target, c->forgetful.at[i].draft);
    }
    rt_mutex_unlock(&g->m);
    dev_groups_unref(old);
}

static int change_groups_locked(struct group_change *c, dev_groups_edit *edit, void *arg) WAITS
{
    c->now = dev_groups_get(c->g);
    c->draft = dev_groups_copy(c->now);
    int r = c->draft ? edit(c->draft, arg) : -ENOMEM;
    if (r >= 0) {
        r = forget_all(c);
    }
    if (r >= 0) {
        r = commit_groups(c);
    }
    if (r >= 0) {
        publish_groups(c);
        r = vol_flush(c->g->v);
    }
    for (size_t i = 0; i < c->forgetful.len; i++) {
        dev_paths_unref(c->forgetful.at[i].draft);
    }
    vec_free(&c->forgetful);
    dev_groups_unref(c->draft);
    dev_groups_unref(c->now);
    return r;
}

int dev_groups_change(struct dev_registry *g, dev_groups_edit *edit, void *arg)
{
    struct group_change c = {.g = g};
    rt_lock_take(&g->change);
    int r = change_groups_locked(&c, edit, arg);
    rt_lock_release(&g->change);
    return r;
}

int dev_paths_delete(struct dev_registry *g, struct vol_txn *t, const char *iqn)
{
    uint8_t key[DEV_KEY_MAX];
    struct dev_paths *now;
    int r = dev_paths_get(g, iqn, &now);
    bool stored = r >= 0 && now;
    if (r >= 0) {
        dev_paths_unref(now);
    }
    return !stored ? 0 : vol_txn_delete(t, key, paths_key(iqn, key));
}

static int load_groups(void *arg, const void *key, size_t key_len, const void *value,
                       size_t value_len) WAITS
{
    struct dev_registry *g = arg;
    (void)key;
    if (key_len != 1 || g->groups) {
        return 0;
    }
    int r = dev_groups_decode(value, value_len, &g->groups);
    if (r == ERR_CORRUPT_RECORD) {
        msg_error("dev", "the portal groups cannot be read and are gone");
        r = 0;
    }
    return r;
}

/* A record that cannot be read hides its target rather than showing it everywhere. */
static struct dev_paths *hidden(void)
{
    struct dev_paths *p = dev_paths_copy(NULL);
    if (p) {
        p->members[p->member_count++] = NOWHERE;
    }
    return p;
}

static int load_paths(void *arg, const void *key, size_t key_len, const void *value,
                      size_t value_len) WAITS
{
    struct dev_registry *g = arg;
    char iqn[DEV_IQN_MAX + 1] = "";
    struct dev_paths *p = NULL;
    if (key_len - 1 < sizeof iqn) {
        memcpy(iqn, (const uint8_t *)key + 1, key_len - 1);
    }
    int r = dev_paths_decode(value, value_len, &p);
    if (r == ERR_CORRUPT_RECORD) {
        msg_error("dev", "the portal groups of \"%s\" cannot be read: nobody reaches it", iqn);
        p = hidden();
        r = p ? 0 : -ENOMEM;
    }
    if (r < 0) {
        return r;
    }
    struct dev_target *t = dev_target_lookup(g, iqn);
    if (!t || t->paths) {
        dev_paths_unref(p);
        return 0;
    }
    t->paths = p;
    return 0;
}

int dev_paths_load(struct dev_registry *g)
{
    const uint8_t groups = DEV_KEY_GROUPS;
    const uint8_t paths = DEV_KEY_PATHS;
    int r = vol_scan(g->v, &groups, 1, load_groups, g);
    return r < 0 ? r : vol_scan(g->v, &paths, 1, load_paths, g);
}
