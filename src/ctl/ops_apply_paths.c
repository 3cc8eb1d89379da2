/* SPDX-License-Identifier: Apache-2.0 */
/* Portal groups and access states in a description: what differs, as steps of the plan. */
#include "ctl/ops_paths.h"
#include "ctl/ops_plan.h"
#include "ctl/ops_priv.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool is_disconnecting(const struct ops_plan *p)
{
    return ops_flag(p->request, "disconnect", false);
}

static bool same_json(json_t *a, json_t *b)
{
    bool same = a && b && json_equal(a, b);
    json_decref(a);
    json_decref(b);
    return same;
}

/* The request of a step: what the description says, as an op. */
static json_t *step_request(const struct ops_plan *p, const char *op, const json_t *from)
{
    json_t *request = json_copy((json_t *)from);
    json_object_set_new(request, "op", json_string(op));
    json_object_set_new(request, "disconnect", json_boolean(is_disconnecting(p)));
    return request;
}

/* The name of a portal group: of itself, or of what is said of it. */
static const char *name_in(const json_t *entry)
{
    return json_is_string(entry) ? json_string_value(entry) : ops_text(entry, "name");
}

/* Whether one of the first count entries has that name. */
static bool is_among(const json_t *list, size_t count, const char *name)
{
    for (size_t i = 0; i < count; i++) {
        const char *text = name_in(json_array_get(list, i));
        if (text && strcmp(text, name) == 0) {
            return true;
        }
    }
    return false;
}

static bool is_wanted(const json_t *groups, const char *name)
{
    return is_among(groups, json_array_size(groups), name);
}

/* No entry before the one at `at` has its name. */
static void check_once(struct ops_plan *p, const char *where, const json_t *list, size_t at)
{
    const char *name = name_in(json_array_get(list, at));
    if (name && is_among(list, at, name)) {
        ops_plan_fail(p, ops_failure(OPS_USAGE, "%s: '%.63s' is there twice", where, name));
    }
}

/* draft: what there will be, after the groups before this one. */
static void plan_group(struct ops_plan *p, const struct dev_groups *now, struct dev_groups *draft,
                       const json_t *from)
{
    struct dev_group want;
    const char *name = ops_text(from, "name");
    const struct dev_group *old = dev_groups_find(now, name ? name : "");
    json_t *failed = ops_group_take(from, old, &want);
    if (!failed) {
        failed = ops_group_put(draft, &want);
    }
    if (failed) {
        const char *why = ops_text(json_object_get(failed, "error"), "message");
        ops_plan_fail(p, ops_failure(ops_exit_of(failed), "portal group %.63s: %s",
                                     name ? name : "", why ? why : "failed"));
        json_decref(failed);
    } else if (!old) {
        ops_plan_step(p, PHASE_GROUPS, step_request(p, "iscsi.portal-group.create", from),
                      "+ portal group %s", name);
    } else if (!same_json(ops_group_json(NULL, old), ops_group_json(NULL, &want))) {
        ops_plan_step(p, PHASE_GROUPS, step_request(p, "iscsi.portal-group.set", from),
                      "~ portal group %s", name);
    }
}

void ops_plan_groups(struct ops_plan *p, const json_t *groups)
{
    size_t i;
    json_t *each;
    if (!ops_plan_check_list(p, groups, "portal_groups", "name tag portals advertise")) {
        return;
    }
    struct dev_groups *now = dev_groups_get(p->o->registry);
    struct dev_groups *draft = dev_groups_copy(now);
    if (!draft) {
        ops_plan_fail(p, ops_failure(OPS_FAILED, "out of memory"));
    }
    json_array_foreach(groups, i, each)
    {
        if (!p->failed) {
            check_once(p, "the portal groups", groups, i);
            plan_group(p, now, draft, each);
        }
    }
    dev_groups_unref(draft);
    dev_groups_unref(now);
}

void ops_plan_group_removals(struct ops_plan *p, const json_t *groups)
{
    struct dev_groups *now = groups ? dev_groups_get(p->o->registry) : NULL;
    for (size_t i = 0; now && i < now->groups.len; i++) {
        const char *name = now->groups.at[i].name;
        if (!is_wanted(groups, name)) {
            ops_plan_step(p, PHASE_REMOVAL,
                          json_pack("{s:s, s:s, s:b}", "op", "iscsi.portal-group.delete", "name",
                                    name, "disconnect", (int)is_disconnecting(p)),
                          "- portal group %s", name);
        }
    }
    dev_groups_unref(now);
}

static json_t *sorted_text(const json_t *state)
{
    char *text = json_dumps(state, JSON_SORT_KEYS | JSON_COMPACT);
    json_t *word = text ? json_string(text) : NULL;
    free(text);
    return word;
}

/* A state is that of the whole target when it names no LUN. */
static bool names_lun(const json_t *state)
{
    const json_t *lun = json_object_get(state, "lun");
    return lun && !json_is_null(lun);
}

/* The same states, in whatever order; what is not said of them has its default. */
static bool same_states(const json_t *a, const json_t *b)
{
    json_t *left = json_object();
    size_t i;
    json_t *each;
    json_array_foreach(a, i, each)
    {
        json_t *word = sorted_text(each);
        json_object_set_new(left, json_string_value(word), json_true());
        json_decref(word);
    }
    bool same = json_array_size(a) == json_array_size(b);
    json_array_foreach(b, i, each)
    {
        json_t *full = json_copy(each);
        if (!names_lun(full)) {
            json_object_del(full, "lun");
        }
        if (!json_object_get(full, "preferred")) {
            json_object_set_new(full, "preferred", json_false());
        }
        json_t *word = sorted_text(full);
        same = same && json_object_get(left, json_string_value(word));
        json_decref(word);
        json_decref(full);
    }
    json_decref(left);
    return same;
}

static json_t *section_request(const struct ops_plan *p, const char *iqn, const char *section,
                               const json_t *value)
{
    return json_pack("{s:s, s:s, s:O, s:b}", "op", "iscsi.paths", "iqn", iqn, section, value,
                     "disconnect", (int)is_disconnecting(p));
}

/* The portal group is one of the description, or, when that has none, of the volume. */
static void check_name(struct ops_plan *p, const char *iqn, const json_t *word,
                       const json_t *groups)
{
    const char *name = json_string_value(word);
    bool known = name && (strcmp(name, DEV_GROUP_DEFAULT) == 0 || is_wanted(groups, name));
    if (name && !known && !groups) {
        struct dev_groups *now = dev_groups_get(p->o->registry);
        known = dev_groups_find(now, name) != NULL;
        dev_groups_unref(now);
    }
    if (!known) {
        ops_plan_fail(p, ops_failure(OPS_NOT_FOUND, "%s: there is no portal group '%.63s'", iqn,
                                     name ? name : ""));
    }
}

static void check_names(struct ops_plan *p, const char *iqn, const json_t *target,
                        const json_t *groups)
{
    size_t i;
    json_t *each;
    const json_t *members = json_object_get(target, "portal_groups");
    json_array_foreach(members, i, each)
    {
        check_name(p, iqn, each, groups);
        check_once(p, iqn, members, i);
    }
    json_array_foreach(json_object_get(target, "access_states"), i, each)
    {
        check_name(p, iqn, json_object_get(each, "group"), groups);
    }
}

/* Each is a state, of a LUN that the description has, or of the target, and is there once. seen: an
 * object with a key for each. */
static void check_state(struct ops_plan *p, const char *iqn, const json_t *state,
                        const uint8_t *luns, json_t *seen)
{
    char key[160];
    uint64_t lun = 0;
    bool named = names_lun(state);
    json_t *failed = ops_state_check(state);
    if (failed) {
        ops_plan_fail(p, failed);
        return;
    }
    if (named && (!ops_number(state, "lun", &lun) || lun > DEV_LUN_MAX)) {
        ops_plan_fail(p, ops_failure(OPS_USAGE,
                                     "%s: the \"lun\" of an access state is a number from 0 to %d",
                                     iqn, DEV_LUN_MAX));
        return;
    }
    if (named && !luns[lun]) {
        ops_plan_fail(p, ops_failure(OPS_USAGE,
                                     "%s: an access state is of LUN %" PRIu64
                                     ", which is not in the description",
                                     iqn, lun));
        return;
    }
    snprintf(key, sizeof key, "%d %.63s", named ? (int)lun : -1, ops_text(state, "group"));
    if (json_object_get(seen, key)) {
        ops_plan_fail(p, ops_failure(OPS_USAGE, "%s: an access state of '%.63s' is there twice",
                                     iqn, ops_text(state, "group")));
    }
    json_object_set_new(seen, key, json_true());
}

static void check_states(struct ops_plan *p, const char *iqn, const json_t *target)
{
    uint8_t *luns = calloc(1, DEV_LUN_MAX + 1);
    if (!luns) {
        ops_plan_fail(p, ops_failure(OPS_FAILED, "out of memory"));
        return;
    }
    json_t *seen = json_object();
    size_t i;
    json_t *each;
    uint64_t lun = 0;
    json_array_foreach(json_object_get(target, "luns"), i, each)
    {
        if (ops_number(each, "lun", &lun) && lun <= DEV_LUN_MAX) {
            luns[lun] = 1;
        }
    }
    json_array_foreach(json_object_get(target, "access_states"), i, each)
    {
        if (!p->failed) {
            check_state(p, iqn, each, luns, seen);
        }
    }
    json_decref(seen);
    free(luns);
}

void ops_plan_paths(struct ops_plan *p, const char *iqn, const json_t *target, const json_t *groups)
{
    json_t *members = json_object_get(target, "portal_groups");
    json_t *states = json_object_get(target, "access_states");
    struct dev_paths *now = NULL;
    if (members && !json_is_null(members) && !json_is_array(members)) {
        ops_plan_fail(
            p, ops_failure(OPS_USAGE, "%s: \"portal_groups\" is a list of names, or null", iqn));
        return;
    }
    if (states && !ops_plan_check_list(p, states, iqn, "group lun state preferred")) {
        return;
    }
    check_names(p, iqn, target, groups);
    check_states(p, iqn, target);
    if (dev_paths_get(p->o->registry, iqn, &now) < 0) {
        now = NULL; /* a target that is to be */
    }
    struct dev_groups *made = dev_groups_get(p->o->registry);
    json_t *members_now = ops_members_json(made, now);
    json_t *states_now = ops_states_json(p->o, iqn, made, now);
    if (members && !json_equal(members, members_now)) {
        ops_plan_step(p, PHASE_RULES, section_request(p, iqn, "portal_groups", members),
                      "~ %s: portal groups", iqn);
    }
    if (states && !same_states(states_now, states)) {
        ops_plan_step(p, PHASE_STATES, section_request(p, iqn, "access_states", states),
                      "~ %s: access states", iqn);
    }
    json_decref(members_now);
    json_decref(states_now);
    dev_groups_unref(made);
    dev_paths_unref(now);
}
