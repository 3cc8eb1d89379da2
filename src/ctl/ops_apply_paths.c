/* SPDX-License-Identifier: Apache-2.0 */
/* Portal groups and access states in a description: what differs, as steps of the plan. */
#include "ctl/ops_paths.h"
#include "ctl/ops_plan.h"
#include "ctl/ops_priv.h"

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

static void plan_group(struct ops_plan *p, const struct dev_groups *now, const json_t *from)
{
    struct dev_group want;
    const char *name = ops_text(from, "name");
    const struct dev_group *old = dev_groups_find(now, name ? name : "");
    json_t *failed = ops_group_take(from, old, &want);
    if (failed) {
        ops_plan_fail(p, failed);
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
    json_array_foreach(groups, i, each)
    {
        plan_group(p, now, each);
    }
    dev_groups_unref(now);
}

static bool is_wanted(const json_t *groups, const char *name)
{
    size_t i;
    json_t *each;
    json_array_foreach(groups, i, each)
    {
        const char *text = ops_text(each, "name");
        if (text && strcmp(text, name) == 0) {
            return true;
        }
    }
    return false;
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
    json_array_foreach(json_object_get(target, "portal_groups"), i, each)
    {
        check_name(p, iqn, each, groups);
    }
    json_array_foreach(json_object_get(target, "access_states"), i, each)
    {
        check_name(p, iqn, json_object_get(each, "group"), groups);
    }
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
