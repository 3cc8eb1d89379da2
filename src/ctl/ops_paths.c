/* SPDX-License-Identifier: Apache-2.0 */
#include "ctl/ops_paths.h"

#include "base/attr.h"
#include "base/msg.h"
#include "ctl/config_priv.h"
#include "ctl/ops_priv.h"

#include <string.h>

#define LUNS_MAX (DEV_LUN_MAX + 1u)

static const struct {
    const char *name;
    enum dev_path_state state;
} state_names[] = {
    {"optimized", DEV_PATH_OPTIMIZED}, {"non-optimized", DEV_PATH_NON_OPTIMIZED},
    {"standby", DEV_PATH_STANDBY},     {"unavailable", DEV_PATH_UNAVAILABLE},
    {"offline", DEV_PATH_OFFLINE},     {"transitioning", DEV_PATH_TRANSITIONING},
};

static const char *state_name(unsigned state)
{
    for (size_t i = 0; i < ARRAY_LEN(state_names); i++) {
        if ((unsigned)state_names[i].state == state) {
            return state_names[i].name;
        }
    }
    return "?";
}

static const char *group_name(const struct dev_groups *groups, uint16_t tag)
{
    const struct dev_group *group = dev_groups_find_tag(groups, tag);
    return tag == DEV_TAG_DEFAULT ? DEV_GROUP_DEFAULT : group ? group->name : "";
}

json_t *ops_group_json(struct ops *o, const struct dev_group *group)
{
    json_t *portals = json_array();
    json_t *advertise = json_array();
    for (size_t i = 0; i < group->portal_count; i++) {
        char text[DEV_PORTAL_TEXT_SIZE];
        dev_portal_format(&group->portals[i], text);
        json_array_append_new(portals, json_string(text));
    }
    for (size_t i = 0; i < group->advertise_count; i++) {
        json_array_append_new(advertise, json_string(group->advertise[i]));
    }
    json_t *j = json_pack("{s:s, s:I, s:o, s:o}", "name", group->name, "tag",
                          (json_int_t)group->tag, "portals", portals, "advertise", advertise);
    json_t *listening = j && o && o->iscsi ? json_array() : NULL;
    for (size_t i = 0; listening && i < group->portal_count; i++) {
        char text[DEV_PORTAL_TEXT_SIZE];
        dev_portal_format(&group->portals[i], text);
        if (iscsi_listens(o->iscsi, text)) {
            json_array_append_new(listening, json_string(text));
        }
    }
    if (listening) {
        json_object_set_new(j, "listening", listening);
    }
    return j;
}

json_t *ops_members_json(const struct dev_groups *groups, const struct dev_paths *p)
{
    if (!p || p->member_count == 0) {
        return json_null();
    }
    json_t *names = json_array();
    for (size_t i = 0; i < p->member_count; i++) {
        json_array_append_new(names, json_string(group_name(groups, p->members[i])));
    }
    return names;
}

/* lun < 0: of the whole target. */
static json_t *state_json(const struct dev_groups *groups, int64_t lun, const struct dev_path *path)
{
    json_t *j = json_pack("{s:s, s:s, s:b}", "group", group_name(groups, path->tag), "state",
                          state_name(path->state), "preferred", (int)path->preferred);
    if (j && lun >= 0) {
        json_object_set_new(j, "lun", json_integer(lun));
    }
    return j;
}

static void put_lun_states(json_t *list, const struct dev_groups *groups, const struct dev_info *d,
                           const struct dev_paths *p)
{
    for (size_t i = 0; i < p->luns.len; i++) {
        if (uuid_equal(&p->luns.at[i].device, &d->uuid)) {
            json_array_append_new(list, state_json(groups, d->lun, &p->luns.at[i].path));
        }
    }
}

json_t *ops_states_json(struct ops *o, const char *iqn, const struct dev_groups *groups,
                        const struct dev_paths *p)
{
    json_t *list = json_array();
    for (size_t i = 0; p && i < p->state_count; i++) {
        json_array_append_new(list, state_json(groups, -1, &p->states[i]));
    }
    uint32_t *luns = p && p->luns.len > 0 ? calloc(LUNS_MAX, sizeof *luns) : NULL;
    size_t count = luns ? dev_lun_list(o->registry, iqn, luns, LUNS_MAX) : 0;
    for (size_t i = 0; i < count; i++) {
        struct dev *d;
        struct dev_info info;
        if (dev_find_lun(o->registry, iqn, luns[i], &d) == 0) {
            dev_info(d, &info);
            dev_unref(d);
            put_lun_states(list, groups, &info, p);
        }
    }
    free(luns);
    return list;
}

/* A list of texts, or one text in which commas separate them: a new list. */
static json_t *words_of(const json_t *value)
{
    json_t *list = json_array();
    if (json_is_array(value)) {
        size_t i;
        json_t *each;
        json_array_foreach(value, i, each)
        {
            json_array_append(list, each);
        }
        return list;
    }
    const char *at = json_string_value(value);
    while (at && *at) {
        size_t len = strcspn(at, ",");
        if (len > 0) {
            json_array_append_new(list, json_stringn(at, len));
        }
        at += len + (at[len] == ',');
    }
    return list;
}

/* Never NULL. */
static const char *word_of(const json_t *word)
{
    const char *text = json_string_value(word);
    return text ? text : "";
}

static json_t *take_portals(const json_t *from, struct dev_group *group)
{
    json_t *words = words_of(json_object_get(from, "portals"));
    json_t *failed = NULL;
    size_t i;
    json_t *each;
    group->portal_count = 0;
    json_array_foreach(words, i, each)
    {
        char why[160];
        const char *text = word_of(each);
        if (group->portal_count == DEV_PORTALS_MAX) {
            failed =
                ops_failure(OPS_USAGE, "a portal group has at most %u portals", DEV_PORTALS_MAX);
        } else if (!config_address_ok(text, why, sizeof why)) {
            failed = ops_failure(OPS_USAGE, "a portal: %s", why);
        } else if (dev_portal_parse(text, &group->portals[group->portal_count]) < 0) {
            failed = ops_failure(OPS_USAGE, "'%.60s' is no portal: it needs a port", text);
        }
        if (failed) {
            break;
        }
        group->portal_count++;
    }
    json_decref(words);
    if (!failed && group->portal_count == 0) {
        failed = ops_failure(OPS_USAGE, "the portals are needed: --portals 192.0.2.1:3260,...");
    }
    return failed;
}

static bool advertises(const struct dev_group *group, const char *text)
{
    for (size_t i = 0; group && i < group->advertise_count; i++) {
        if (strcmp(group->advertise[i], text) == 0) {
            return true;
        }
    }
    return false;
}

/* What the group, as it was, advertises may have been taken when less was asked of an address: it
 * stays, so that what was exported can be applied. */
static json_t *take_advertise(const json_t *from, const struct dev_group *old,
                              struct dev_group *group)
{
    json_t *words = words_of(json_object_get(from, "advertise"));
    json_t *failed = NULL;
    size_t i;
    json_t *each;
    group->advertise_count = 0;
    json_array_foreach(words, i, each)
    {
        const char *text = word_of(each);
        failed = group->advertise_count == DEV_PORTALS_MAX
                     ? ops_failure(OPS_USAGE, "a portal group advertises at most %u addresses",
                                   DEV_PORTALS_MAX)
                     : (advertises(old, text) ? NULL : ops_address_check(text));
        if (failed) {
            break;
        }
        memcpy(group->advertise[group->advertise_count++], text, strlen(text) + 1);
    }
    json_decref(words);
    return failed;
}

json_t *ops_group_take(const json_t *from, const struct dev_group *old, struct dev_group *ret_group)
{
    char why[160];
    uint64_t tag = 0;
    const char *name = word_of(json_object_get(from, "name"));
    json_t *failed = NULL;
    *ret_group = old ? *old : (struct dev_group){0};
    if (dev_group_name_check(name, why, sizeof why) < 0) {
        return ops_failure(OPS_USAGE, "%s", why);
    }
    if (strcmp(name, DEV_GROUP_DEFAULT) == 0) {
        return ops_failure(OPS_USAGE,
                           "the portal group '%s' has what no other has, and is not "
                           "made or changed",
                           DEV_GROUP_DEFAULT);
    }
    memcpy(ret_group->name, name, strlen(name) + 1);
    if (json_object_get(from, "tag")) {
        if (!ops_number(from, "tag", &tag) || tag <= DEV_TAG_DEFAULT || tag >= UINT16_MAX ||
            (old && tag != old->tag)) {
            return ops_failure(OPS_USAGE, "the tag of a portal group is a number from 2 to 65534, "
                                          "and stays as it is");
        }
        ret_group->tag = (uint16_t)tag;
    }
    if (!old || json_object_get(from, "portals")) {
        failed = take_portals(from, ret_group);
    }
    if (!failed && json_object_get(from, "advertise")) {
        failed = take_advertise(from, old, ret_group);
    }
    return failed;
}

/* The tag of the group of that name. */
static json_t *take_group_name(const struct dev_groups *groups, const char *name, uint16_t *ret_tag)
{
    const struct dev_group *group = name ? dev_groups_find(groups, name) : NULL;
    bool standard = name && strcmp(name, DEV_GROUP_DEFAULT) == 0;
    if (!group && !standard) {
        return ops_failure(OPS_NOT_FOUND, "there is no portal group '%.63s'", name ? name : "");
    }
    *ret_tag = standard ? (uint16_t)DEV_TAG_DEFAULT : group->tag;
    return NULL;
}

json_t *ops_members_replace(const struct dev_groups *groups, const json_t *members,
                            struct dev_paths *draft)
{
    json_t *words = words_of(members);
    json_t *failed = NULL;
    size_t i;
    json_t *each;
    draft->member_count = 0;
    json_array_foreach(words, i, each)
    {
        uint16_t tag = 0;
        failed = take_group_name(groups, json_string_value(each), &tag);
        if (failed) {
            break;
        }
        bool twice = draft->member_count > 0 && dev_paths_reach(draft, tag);
        if (!twice) {
            draft->members[draft->member_count++] = tag;
        }
    }
    json_decref(words);
    return failed;
}

/* "group", "state" and "preferred": what is not said is as old has it. */
static json_t *take_state(const json_t *from, struct dev_path *path)
{
    const char *name = ops_text(from, "state");
    bool found = !name && json_object_get(from, "preferred");
    for (size_t i = 0; name && i < ARRAY_LEN(state_names); i++) {
        if (strcmp(name, state_names[i].name) == 0) {
            path->state = (uint8_t)state_names[i].state;
            found = true;
        }
    }
    path->preferred = ops_flag(from, "preferred", path->preferred);
    path->cause = DEV_PATH_BY_OPERATOR;
    return found ? NULL
                 : ops_failure(OPS_USAGE,
                               "an access state is needed: optimized, non-optimized, standby, "
                               "unavailable, offline or transitioning, not '%.40s'",
                               name ? name : "");
}

json_t *ops_state_check(const json_t *from)
{
    struct dev_path path = {0};
    if (!ops_text(from, "state")) {
        return ops_failure(OPS_USAGE, "an access state has a \"state\"");
    }
    return take_state(from, &path);
}

/* The device of the LUN that `from` names; false: none is named. */
static json_t *take_device(struct ops *o, const char *iqn, const json_t *from, bool *ret_named,
                           struct uuid *ret_device)
{
    struct dev *d;
    struct dev_info info;
    uint64_t lun = 0;
    *ret_named = ops_number(from, "lun", &lun);
    if (!*ret_named) {
        return NULL;
    }
    if (lun > DEV_LUN_MAX || dev_find_lun(o->registry, iqn, (uint32_t)lun, &d) < 0) {
        return ops_failure(OPS_NOT_FOUND, "target '%s' has no LUN %u", iqn, (unsigned)lun);
    }
    dev_info(d, &info);
    dev_unref(d);
    *ret_device = info.uuid;
    return NULL;
}

static json_t *put_state(struct ops *o, const char *iqn, const json_t *from,
                         struct dev_paths *draft)
{
    struct uuid device;
    bool named = false;
    uint16_t tag = 0;
    struct dev_groups *groups = dev_groups_get(o->registry);
    json_t *failed = take_group_name(groups, ops_text(from, "group"), &tag);
    dev_groups_unref(groups);
    if (!failed) {
        failed = take_device(o, iqn, from, &named, &device);
    }
    if (failed) {
        return failed;
    }
    struct dev_path path = dev_paths_state(draft, named ? &device : NULL, tag);
    failed = take_state(from, &path);
    if (failed) {
        return failed;
    }
    if (!named) {
        dev_paths_set_state(draft, &path);
        return NULL;
    }
    int r = dev_paths_set_lun_state(draft, &device, &path);
    return r < 0 ? ops_error(r, "the access state was not set") : NULL;
}

json_t *ops_states_replace(struct ops *o, const char *iqn, const json_t *states,
                           struct dev_paths *draft)
{
    json_t *failed = NULL;
    size_t i;
    json_t *each;
    draft->state_count = 0;
    draft->luns.len = 0;
    for (int of_luns = 0; of_luns < 2; of_luns++) { /* those of the target first */
        json_array_foreach(states, i, each)
        {
            const json_t *lun = json_object_get(each, "lun"); /* null: that of the target */
            if (!failed && (lun && !json_is_null(lun)) == (of_luns == 1)) {
                failed = put_state(o, iqn, each, draft);
            }
        }
    }
    return failed;
}

/* The failure of an edit that gave r. */
static json_t *edit_error(int r, const char *what)
{
    switch (r) {
    case -EEXIST:
        return ops_failure(OPS_EXISTS, "another portal group has that name, tag or one of the "
                                       "portals");
    case -EBUSY:
        return ops_failure(OPS_REFUSED, "a target is reached through that portal group: `zerofs "
                                        "iscsi portal-group assign` gives it others first");
    case -E2BIG:
        return ops_failure(OPS_USAGE,
                           "that is more than the volume keeps: there are at most %u "
                           "portal groups, and %u bytes of them",
                           DEV_GROUPS_MAX, DEV_PATHS_BYTES_MAX);
    default:
        return ops_error(r, "%s", what);
    }
}

static json_t *refuse_cut(size_t count)
{
    return ops_failure(OPS_REFUSED,
                       "%zu session%s would end, which came through another portal group than is "
                       "meant then; say --disconnect if that shall be",
                       count, count == 1 ? "" : "s");
}

/* What an edit has come to: 0, or -ECANCELED with the reason, which may be sessions that would end.
 */
static int judge(struct ops *o, const json_t *request, const struct iscsi_change *change,
                 json_t **failed)
{
    bool may_cut = ops_flag(request, "disconnect", false);
    size_t cut = !*failed && o->iscsi && !may_cut ? iscsi_cut_off(o->iscsi, change) : 0;
    if (cut > 0) {
        *failed = refuse_cut(cut);
    }
    return *failed ? -ECANCELED : 0;
}

/* What a request edits. */
struct group_edit {
    struct ops *o;
    const json_t *request;
    json_t *(*fn)(const json_t *request, struct dev_groups *draft);
    json_t *failed;
};

static int edit_groups(struct dev_groups *draft, void *arg)
{
    struct group_edit *e = arg;
    e->failed = e->fn(e->request, draft);
    return judge(e->o, e->request, &(struct iscsi_change){.groups = draft}, &e->failed);
}

/* All groups, or the one of that name. */
static json_t *groups_json(struct ops *o, const char *name)
{
    struct dev_groups *groups = dev_groups_get(o->registry);
    json_t *list = json_array();
    for (size_t i = 0; groups && i < groups->groups.len; i++) {
        if (!name || strcmp(groups->groups.at[i].name, name) == 0) {
            json_array_append_new(list, ops_group_json(o, &groups->groups.at[i]));
        }
    }
    dev_groups_unref(groups);
    return list;
}

static json_t *change_groups(struct ops *o, const json_t *request,
                             json_t *(*fn)(const json_t *request, struct dev_groups *draft)) WAITS
{
    struct group_edit e = {.o = o, .request = request, .fn = fn};
    int r = dev_groups_change(o->registry, edit_groups, &e);
    if (e.failed) {
        return e.failed;
    }
    size_t ended = o->iscsi ? iscsi_paths_changed(o->iscsi, NULL) : 0;
    if (r < 0) {
        return edit_error(r, "the portal groups were not changed");
    }
    return ops_success(json_pack("{s:o, s:I}", "groups", groups_json(o, ops_text(request, "name")),
                                 "disconnected", (json_int_t)ended));
}

json_t *ops_group_put(struct dev_groups *draft, struct dev_group *group)
{
    if (group->tag == 0) {
        group->tag = dev_groups_free_tag(draft);
    }
    int r = dev_groups_put(draft, group);
    return r < 0 ? edit_error(r, "the portal group was not stored") : NULL;
}

static json_t *edit_create(const json_t *request, struct dev_groups *draft)
{
    struct dev_group group;
    json_t *failed = ops_group_take(request, NULL, &group);
    if (!failed && dev_groups_find(draft, group.name)) {
        failed = ops_failure(OPS_EXISTS, "there is a portal group '%s' already", group.name);
    }
    return failed ? failed : ops_group_put(draft, &group);
}

static json_t *create(struct ops *o, const json_t *request)
{
    return change_groups(o, request, edit_create);
}

static json_t *edit_set(const json_t *request, struct dev_groups *draft)
{
    struct dev_group group;
    const char *name = ops_text(request, "name");
    const struct dev_group *old = dev_groups_find(draft, name ? name : "");
    if (!old) {
        return ops_failure(OPS_NOT_FOUND, "there is no portal group '%.63s'", name ? name : "");
    }
    json_t *failed = ops_group_take(request, old, &group);
    return failed ? failed : ops_group_put(draft, &group);
}

static json_t *set(struct ops *o, const json_t *request)
{
    return change_groups(o, request, edit_set);
}

static json_t *edit_delete(const json_t *request, struct dev_groups *draft)
{
    const char *name = ops_text(request, "name");
    if (dev_groups_remove(draft, name ? name : "") < 0) {
        return ops_failure(OPS_NOT_FOUND, "there is no portal group '%.63s'", name ? name : "");
    }
    return NULL;
}

static json_t *delete (struct ops *o, const json_t *request)
{
    return change_groups(o, request, edit_delete);
}

struct path_edit {
    struct ops *o;
    const json_t *request;
    char iqn[DEV_IQN_MAX + 1];
    json_t *(*fn)(struct path_edit *e, struct dev_paths *draft);
    json_t *failed;
};

static int edit_paths(struct dev_paths *draft, void *arg)
{
    struct path_edit *e = arg;
    e->failed = e->fn(e, draft);
    struct iscsi_change change = {.iqn = e->iqn, .paths = draft};
    return judge(e->o, e->request, &change, &e->failed);
}

static json_t *target_json(struct ops *o, const char *iqn)
{
    struct dev_paths *p = NULL;
    if (dev_paths_get(o->registry, iqn, &p) < 0) {
        return NULL;
    }
    struct dev_groups *groups = dev_groups_get(o->registry);
    json_t *j =
        json_pack("{s:s, s:o, s:o}", "iqn", iqn, "portal_groups", ops_members_json(groups, p),
                  "access_states", ops_states_json(o, iqn, groups, p));
    dev_groups_unref(groups);
    dev_paths_unref(p);
    return j;
}

static json_t *change_paths(struct ops *o, const json_t *request,
                            json_t *(*fn)(struct path_edit *e, struct dev_paths *draft)) WAITS
{
    struct path_edit e = {.o = o, .request = request, .fn = fn};
    struct dev_target_info target;
    json_t *failed = ops_iscsi_target(o, request, &target);
    if (failed) {
        return failed;
    }
    memcpy(e.iqn, target.iqn, sizeof e.iqn);
    int r = dev_paths_change(o->registry, e.iqn, edit_paths, &e);
    if (e.failed) {
        return e.failed;
    }
    size_t ended = o->iscsi ? iscsi_paths_changed(o->iscsi, e.iqn) : 0;
    if (r < 0) {
        return edit_error(r, "the ways to the target were not changed");
    }
    if (o->started_ns > 0) {
        msg_info("ctl", "portal groups or access states of %s changed; %zu sessions end", e.iqn,
                 ended);
    }
    json_t *result = target_json(o, e.iqn);
    if (result) {
        json_object_set_new(result, "disconnected", json_integer((json_int_t)ended));
    }
    return ops_success(result);
}

static json_t *edit_assign(struct path_edit *e, struct dev_paths *draft)
{
    const json_t *members = json_object_get(e->request, "groups");
    if (!members) {
        return ops_failure(OPS_USAGE, "the names of portal groups are needed, or: all");
    }
    const char *text = json_string_value(members);
    struct dev_groups *groups = dev_groups_get(e->o->registry);
    json_t *failed = NULL;
    draft->member_count = 0;
    if (!text || strcmp(text, "all") != 0) {
        failed = ops_members_replace(groups, members, draft);
    }
    dev_groups_unref(groups);
    return failed;
}

static json_t *assign(struct ops *o, const json_t *request)
{
    return change_paths(o, request, edit_assign);
}

static json_t *edit_set_state(struct path_edit *e, struct dev_paths *draft)
{
    return put_state(e->o, e->iqn, e->request, draft);
}

static json_t *set_state(struct ops *o, const json_t *request)
{
    return change_paths(o, request, edit_set_state);
}

static json_t *edit_sections(struct path_edit *e, struct dev_paths *draft)
{
    const json_t *members = json_object_get(e->request, "portal_groups");
    const json_t *states = json_object_get(e->request, "access_states");
    struct dev_groups *groups = dev_groups_get(e->o->registry);
    json_t *failed = members ? ops_members_replace(groups, members, draft) : NULL;
    dev_groups_unref(groups);
    if (!failed && states) {
        failed = ops_states_replace(e->o, e->iqn, states, draft);
    }
    return failed;
}

/* A step of apply: whole sections of a target. */
static json_t *paths(struct ops *o, const json_t *request)
{
    return change_paths(o, request, edit_sections);
}

#define LIST_CHUNK 32

static json_t *list(struct ops *o, const json_t *request)
{
    json_t *targets = json_array();
    char last[DEV_IQN_MAX + 1] = "";
    struct dev_target_info one;
    if (ops_text(request, "iqn")) {
        json_t *failed = ops_iscsi_target(o, request, &one);
        if (failed) {
            json_decref(targets);
            return failed;
        }
        json_array_append_new(targets, target_json(o, one.iqn));
        return ops_success(
            json_pack("{s:o, s:o}", "groups", groups_json(o, NULL), "targets", targets));
    }
    struct dev_target_info *chunk = calloc(LIST_CHUNK, sizeof *chunk);
    size_t count;
    while (chunk && (count = dev_target_list(o->registry, last, chunk, LIST_CHUNK)) > 0) {
        for (size_t i = 0; i < count; i++) {
            json_array_append_new(targets, target_json(o, chunk[i].iqn));
        }
        memcpy(last, chunk[count - 1].iqn, sizeof last);
    }
    free(chunk);
    return ops_success(json_pack("{s:o, s:o}", "groups", groups_json(o, NULL), "targets", targets));
}

const struct ops_entry ops_paths_table[] = {
    {"iscsi.portal-group.create", create},
    {"iscsi.portal-group.set", set},
    {"iscsi.portal-group.delete", delete},
    {"iscsi.portal-group.list", list},
    {"iscsi.portal-group.assign", assign},
    {"iscsi.portal-group.set-state", set_state},
    {"iscsi.paths", paths},
    {NULL, NULL},
};
