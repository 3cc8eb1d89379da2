/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `zerofs iscsi apply` and `export`: all targets as one description (docs/CLI.md).
 *
 * apply compares the description with what there is, whole, before it changes anything. What comes
 * out is a list of steps, each of which is a request as any other command makes it, and a line that
 * says what it does. Their order: targets are made, rules set, then LUNs made and changed, so that
 * nothing new is ever open to more than it is meant for; what goes, goes last.
 */
#include "base/err.h"
#include "base/msg.h"
#include "ctl/ops_paths.h"
#include "ctl/ops_plan.h"
#include "ctl/ops_priv.h"
#include "ctl/ops_rules.h"
#include "ctl/size.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LIST_CHUNK 32
#define LUNS_MAX (DEV_LUN_MAX + 1u)
#define DESCRIPTION_VERSION 1

void ops_plan_fail(struct ops_plan *p, json_t *failure)
{
    if (p->failed) {
        json_decref(failure);
    } else {
        p->failed = failure;
    }
}

void ops_plan_step(struct ops_plan *p, enum ops_phase phase, json_t *request, const char *fmt, ...)
{
    char text[512];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    json_t *step = json_pack("{s:s, s:o}", "text", text, "request", request);
    if (!step || json_array_append_new(p->steps[phase], step) < 0) {
        ops_plan_fail(p, ops_failure(OPS_FAILED, "out of memory"));
    }
}

bool ops_plan_check(struct ops_plan *p, const json_t *object, const char *where, const char *keys)
{
    const char *key;
    json_t *value;
    if (!json_is_object(object)) {
        ops_plan_fail(p, ops_failure(OPS_USAGE, "%s: an object is expected", where));
        return false;
    }
    json_object_foreach((json_t *)object, key, value)
    {
        size_t len = strlen(key);
        const char *at = strstr(keys, key);
        bool whole = at && (at == keys || at[-1] == ' ') && (at[len] == ' ' || !at[len]);
        if (!whole) {
            ops_plan_fail(p, ops_failure(OPS_USAGE, "%s: unknown key \"%.60s\"; there are: %s",
                                         where, key, keys));
            return false;
        }
    }
    return true;
}

bool ops_plan_check_list(struct ops_plan *p, const json_t *list, const char *where,
                         const char *keys)
{
    size_t i;
    json_t *each;
    if (!json_is_array(list)) {
        ops_plan_fail(p, ops_failure(OPS_USAGE, "%s: a list is expected", where));
        return false;
    }
    json_array_foreach(list, i, each)
    {
        if (!ops_plan_check(p, each, where, keys)) {
            return false;
        }
    }
    return true;
}

#define ACCOUNT_KEYS "user initiator kerberos secret secret_hex secret_file"

static bool check_auth(struct ops_plan *p, const json_t *auth, const char *where)
{
    const json_t *accounts = json_object_get(auth, "accounts");
    const json_t *mutual = json_object_get(auth, "mutual");
    return ops_plan_check(p, auth, where, "minimum accounts mutual") &&
           (!accounts || ops_plan_check_list(p, accounts, where, ACCOUNT_KEYS)) &&
           (!mutual || json_is_null(mutual) || ops_plan_check(p, mutual, where, ACCOUNT_KEYS));
}

static bool check_rules(struct ops_plan *p, const json_t *rules, const char *where)
{
    const json_t *auth = json_object_get(rules, "auth");
    const json_t *acl = json_object_get(rules, "acl");
    const json_t *maps = json_object_get(rules, "maps");
    return (!auth || check_auth(p, auth, where)) &&
           (!acl || ops_plan_check_list(p, acl, where, "initiator address")) &&
           (!maps || ops_plan_check_list(p, maps, where, "initiator lun device read_only"));
}

/* Sections that the description has take the place of the draft's. */
static json_t *replace_sections(struct dev_access *draft, const json_t *rules)
{
    const json_t *auth = json_object_get(rules, "auth");
    const json_t *acl = json_object_get(rules, "acl");
    const json_t *maps = json_object_get(rules, "maps");
    json_t *failed = auth ? ops_auth_replace(draft, auth) : NULL;
    if (!failed && acl) {
        failed = ops_acl_replace(draft, acl);
    }
    if (!failed && maps) {
        failed = ops_maps_replace(draft, maps);
    }
    return failed;
}

static bool same_json(json_t *a, json_t *b)
{
    bool same = a && b && json_equal(a, b);
    json_decref(a);
    json_decref(b);
    return same;
}

/* The names of the sections in which they differ: "auth acl". */
static void name_changes(const struct dev_access *a, const struct dev_access *b, char *ret_text,
                         size_t cap)
{
    bool auth = !same_json(ops_auth_json(a, true), ops_auth_json(b, true));
    bool acl = !same_json(ops_acl_json(a), ops_acl_json(b));
    bool maps = !same_json(ops_maps_json(a), ops_maps_json(b));
    snprintf(ret_text, cap, "%s%s%s", auth ? " auth" : "", acl ? " acl" : "", maps ? " maps" : "");
}

/* A secret that is new, or another, needs a volume where it may lie. */
static bool brings_secrets(const json_t *auth)
{
    size_t i;
    json_t *each;
    json_array_foreach(json_object_get(auth, "accounts"), i, each)
    {
        if (json_object_get(each, "secret_hex")) {
            return true;
        }
    }
    return json_object_get(json_object_get(auth, "mutual"), "secret_hex") != NULL;
}

/* What is said besides, where the maps of a target change. */
struct note {
    char text[64];
};

static void plan_rules(struct ops_plan *p, const char *iqn, const json_t *rules,
                       const struct note *note)
{
    struct dev_access *now = NULL;
    char changes[32];
    int r = dev_access_get(p->o->registry, iqn, &now);
    struct dev_access *draft = dev_access_copy(now);
    if (!draft) {
        ops_plan_fail(p, ops_failure(OPS_FAILED, "out of memory"));
    } else {
        json_t *failed = replace_sections(draft, rules);
        if (failed) {
            ops_plan_fail(p, failed);
        }
        name_changes(now, draft, changes, sizeof changes);
        if (!p->failed && *changes && brings_secrets(json_object_get(rules, "auth"))) {
            failed = ops_secrets_may_be_stored(p->o, p->request);
            if (failed) {
                ops_plan_fail(p, failed);
            }
        }
        if (!p->failed && *changes) {
            ops_plan_step(p, PHASE_RULES,
                          json_pack("{s:s, s:b, s:s, s:O}", "op", "iscsi.rules", "store_in_clear",
                                    ops_flag(p->request, "store_in_clear", false), "iqn",
                                    *iqn ? iqn : OPS_DISCOVERY, "rules", rules),
                          "~ %s:%s%s", *iqn ? iqn : OPS_DISCOVERY, changes,
                          strstr(changes, "maps") ? note->text : "");
        }
    }
    dev_access_unref(draft);
    if (r >= 0) {
        dev_access_unref(now);
    }
}

/* A LUN as the description has it. */
struct lun {
    uint32_t number;
    uint64_t size;
    const json_t *from;
};

static bool take_lun(struct ops_plan *p, const char *iqn, const json_t *from, struct lun *ret_lun)
{
    char why[160] = "";
    uint64_t number = 0;
    const json_t *size = json_object_get(from, "size");
    if (!ops_plan_check(p, from, iqn,
                        "lun size write_cache read_only removable write_same_to_end "
                        "sector physical")) {
        return false;
    }
    *ret_lun = (struct lun){.from = from, .size = (uint64_t)json_integer_value(size)};
    if (!ops_number(from, "lun", &number) || number > DEV_LUN_MAX) {
        ops_plan_fail(
            p, ops_failure(OPS_USAGE, "%s: \"lun\" is a number from 0 to %d", iqn, DEV_LUN_MAX));
        return false;
    }
    if (json_is_string(size) &&
        size_parse(json_string_value(size), &ret_lun->size, why, sizeof why) < 0) {
        ops_plan_fail(p, ops_failure(OPS_USAGE, "%s: LUN %u: %s", iqn, (unsigned)number, why));
        return false;
    }
    if (ret_lun->size == 0) {
        ops_plan_fail(p,
                      ops_failure(OPS_USAGE, "%s: LUN %u has no \"size\"", iqn, (unsigned)number));
        return false;
    }
    ret_lun->number = (uint32_t)number;
    return true;
}

static json_t *lun_request(const char *op, const char *iqn, uint32_t lun)
{
    return json_pack("{s:s, s:s, s:I}", "op", op, "iqn", iqn, "lun", (json_int_t)lun);
}

/* Fails with what a request about that LUN has failed with; NULL: it has not. */
static void fail_lun(struct ops_plan *p, const char *iqn, uint32_t lun, json_t *failed)
{
    if (failed) {
        const char *why = ops_text(json_object_get(failed, "error"), "message");
        ops_plan_fail(
            p, ops_failure(ops_exit_of(failed), "%s: LUN %u: %s", iqn, lun, why ? why : "failed"));
        json_decref(failed);
    }
}

static void plan_new_lun(struct ops_plan *p, const char *iqn, const struct lun *want)
{
    static const char *const keys[] = {"write_cache",       "read_only", "removable",
                                       "write_same_to_end", "sector",    "physical"};
    char size[SIZE_TEXT_SIZE];
    json_t *request = lun_request("iscsi.add-lun", iqn, want->number);
    json_object_set_new(request, "size", json_integer((json_int_t)want->size));
    for (size_t i = 0; i < ARRAY_LEN(keys); i++) {
        json_t *value = json_object_get(want->from, keys[i]);
        if (value) {
            json_object_set(request, keys[i], value);
        }
    }
    struct dev_create_options opt = {0};
    bool is_one;
    fail_lun(p, iqn, want->number, ops_lun_options(request, &opt, &is_one));
    size_format(want->size, size);
    ops_plan_step(p, PHASE_LUNS, request, "+ %s: LUN %u, %s", iqn, want->number, size);
}

static void plan_size(struct ops_plan *p, const char *iqn, const struct lun *want,
                      const struct dev_info *info)
{
    char from[SIZE_TEXT_SIZE], to[SIZE_TEXT_SIZE];
    uint64_t now = info->size_bytes;
    uint64_t bytes;
    if (now == want->size) {
        return;
    }
    bool shrinks = want->size < now;
    json_t *request = lun_request("iscsi.resize-lun", iqn, want->number);
    json_object_set_new(request, "size", json_integer((json_int_t)want->size));
    fail_lun(p, iqn, want->number, ops_size(request, info->logical_block_bytes, &bytes));
    if (shrinks) {
        json_object_set_new(request, "force", json_true());
    }
    size_format(now, from);
    size_format(want->size, to);
    ops_plan_step(p, shrinks ? PHASE_REMOVAL : PHASE_LUNS, request,
                  "%s %s: LUN %u, %s instead of %s%s", shrinks ? "-" : "~", iqn, want->number, to,
                  from, shrinks ? ": what lies beyond is lost" : "");
}

static void plan_switches(struct ops_plan *p, const char *iqn, const struct lun *want,
                          const struct dev_info *now)
{
    json_t *request = lun_request("iscsi.set-lun", iqn, want->number);
    bool cache = ops_flag(want->from, "write_cache", now->write_cache);
    bool read_only = ops_flag(want->from, "read_only", now->read_only);
    if (cache == now->write_cache && read_only == now->read_only) {
        json_decref(request);
        return;
    }
    json_object_set_new(request, "write_cache", json_boolean(cache));
    json_object_set_new(request, "read_only", json_boolean(read_only));
    ops_plan_step(p, PHASE_LUNS, request, "~ %s: LUN %u, write cache %s, %s", iqn, want->number,
                  cache ? "on" : "off", read_only ? "read only" : "writable");
}

static void plan_lun(struct ops_plan *p, const char *iqn, const struct lun *want)
{
    struct dev *d;
    struct dev_info now;
    uint64_t sector = 0;
    uint64_t physical = 0;
    if (dev_find_lun(p->o->registry, iqn, want->number, &d) < 0) {
        plan_new_lun(p, iqn, want);
        return;
    }
    dev_info(d, &now);
    dev_unref(d);
    bool other =
        (ops_number(want->from, "sector", &sector) && sector != now.logical_block_bytes) ||
        (ops_number(want->from, "physical", &physical) && physical != now.physical_block_bytes);
    bool kind = ops_flag(want->from, "removable", now.removable) != now.removable ||
                ops_flag(want->from, "write_same_to_end", now.same_to_end) != now.same_to_end;
    if (other || kind) {
        ops_plan_fail(p, ops_failure(OPS_REFUSED,
                                     "%s: the %s of LUN %u cannot be changed: remove it first", iqn,
                                     other ? "blocks" : "kind", want->number));
        return;
    }
    plan_size(p, iqn, want, &now);
    plan_switches(p, iqn, want, &now);
}

/* LUNs that there are and the description has not. wanted: a byte for each number. */
static void plan_lun_removals(struct ops_plan *p, const char *iqn, const uint8_t *wanted)
{
    uint32_t *luns = calloc(LUNS_MAX, sizeof *luns);
    size_t count = luns ? dev_lun_list(p->o->registry, iqn, luns, LUNS_MAX) : 0;
    for (size_t i = 0; i < count; i++) {
        if (!wanted[luns[i]]) {
            json_t *request = lun_request("iscsi.remove-lun", iqn, luns[i]);
            json_object_set_new(request, "disconnect",
                                json_boolean(ops_flag(p->request, "disconnect", false)));
            ops_plan_step(p, PHASE_REMOVAL, request, "- %s: LUN %u and its data", iqn, luns[i]);
        }
    }
    free(luns);
}

/* A map leads to a LUN of the description, and not to one that there is and that the description
 * removes. One that leads to no LUN at all shows nobody anything: it stays when its LUN is removed,
 * so that nobody sees more by that, and is applied elsewhere as it was exported.
 * ret_note: what is said of it where the maps change. */
static void check_map_devices(struct ops_plan *p, const char *iqn, const json_t *maps,
                              const uint8_t *wanted, struct note *ret_note)
{
    size_t i;
    json_t *each;
    json_array_foreach(maps, i, each)
    {
        struct dev *d;
        uint64_t device = 0;
        if (!ops_number(each, "device", &device)) {
            (void)ops_number(each, "lun", &device);
        }
        if (device > DEV_LUN_MAX || wanted[device]) {
            continue; /* no number of a LUN: that is told with the rules */
        }
        if (dev_find_lun(p->o->registry, iqn, (uint32_t)device, &d) == 0) {
            dev_unref(d);
            ops_plan_fail(p, ops_failure(OPS_USAGE,
                                         "%s: a map leads to LUN %" PRIu64
                                         ", which is not in the description",
                                         iqn, device));
        }
        snprintf(ret_note->text, sizeof ret_note->text,
                 "; a map leads to LUN %" PRIu64 ", which is not there", device);
    }
}

static void plan_luns(struct ops_plan *p, const char *iqn, const json_t *target,
                      struct note *ret_note)
{
    uint8_t *wanted = calloc(1, LUNS_MAX);
    size_t i;
    json_t *each;
    struct lun lun;
    if (!wanted) {
        ops_plan_fail(p, ops_failure(OPS_FAILED, "out of memory"));
        return;
    }
    json_array_foreach(json_object_get(target, "luns"), i, each)
    {
        if (!p->failed && take_lun(p, iqn, each, &lun)) {
            if (wanted[lun.number]) {
                ops_plan_fail(p,
                              ops_failure(OPS_USAGE, "%s: LUN %u is there twice", iqn, lun.number));
            }
            wanted[lun.number] = 1;
            plan_lun(p, iqn, &lun);
        }
    }
    if (!p->failed) {
        check_map_devices(p, iqn, json_object_get(target, "maps"), wanted, ret_note);
        plan_lun_removals(p, iqn, wanted);
    }
    free(wanted);
}

/* groups: the portal groups of the description, if it has any; seen: an object with each name that
 * it has. */
static void plan_target(struct ops_plan *p, const json_t *target, const json_t *groups,
                        json_t *seen)
{
    char iqn[DEV_IQN_MAX + 1], why[256] = "";
    struct dev_target_info info;
    struct note note = {""};
    const char *name = ops_text(target, "iqn");
    if (!ops_plan_check(p, target, name ? name : "a target",
                        "iqn luns auth acl maps portal_groups access_states") ||
        !check_rules(p, target, name ? name : "a target")) {
        return;
    }
    if (!name || dev_iqn_check(name, iqn, why, sizeof why) < 0) {
        ops_plan_fail(p, ops_failure(OPS_USAGE, "a target needs its \"iqn\": %s", why));
        return;
    }
    if (json_object_get(seen, iqn)) {
        ops_plan_fail(p, ops_failure(OPS_USAGE, "%s is there twice", iqn));
        return;
    }
    json_object_set_new(seen, iqn, json_true());
    if (dev_target_find(p->o->registry, iqn, &info) < 0) {
        ops_plan_step(p, PHASE_TARGETS,
                      json_pack("{s:s, s:s}", "op", "iscsi.create-target", "iqn", iqn), "+ %s",
                      iqn);
    }
    plan_luns(p, iqn, target, &note);
    plan_rules(p, iqn, target, &note);
    if (!p->failed) {
        ops_plan_paths(p, iqn, target, groups);
    }
}

static void plan_target_removals(struct ops_plan *p, const json_t *seen)
{
    char last[DEV_IQN_MAX + 1] = "";
    struct dev_target_info *chunk = calloc(LIST_CHUNK, sizeof *chunk);
    size_t count;
    while (chunk && (count = dev_target_list(p->o->registry, last, chunk, LIST_CHUNK)) > 0) {
        for (size_t i = 0; i < count; i++) {
            if (!json_object_get(seen, chunk[i].iqn)) {
                bool disconnect = ops_flag(p->request, "disconnect", false);
                ops_plan_step(p, PHASE_REMOVAL,
                              json_pack("{s:s, s:s, s:b}", "op", "iscsi.delete-target", "iqn",
                                        chunk[i].iqn, "disconnect", disconnect),
                              "- %s with %u LUNs and their data", chunk[i].iqn, chunk[i].luns);
            }
        }
        memcpy(last, chunk[count - 1].iqn, sizeof last);
    }
    free(chunk);
}

static void make_plan(struct ops_plan *p, const json_t *description)
{
    json_t *seen = json_object();
    const json_t *discovery = json_object_get(description, "discovery");
    const json_t *groups = json_object_get(description, "portal_groups");
    uint64_t version = DESCRIPTION_VERSION;
    size_t i;
    json_t *each;
    if (!ops_plan_check(p, description, "the description",
                        "version discovery portal_groups targets")) {
        json_decref(seen);
        return;
    }
    (void)ops_number(description, "version", &version);
    if (version != DESCRIPTION_VERSION || !json_is_array(json_object_get(description, "targets"))) {
        ops_plan_fail(p, ops_failure(OPS_USAGE,
                                     "a description has \"version\": %d and \"targets\", a "
                                     "list",
                                     DESCRIPTION_VERSION));
    }
    if (discovery && ops_plan_check(p, discovery, OPS_DISCOVERY, "auth") &&
        check_rules(p, discovery, OPS_DISCOVERY)) {
        plan_rules(p, "", discovery, &(struct note){""});
    }
    if (groups && !p->failed) {
        ops_plan_groups(p, groups);
    }
    json_array_foreach(json_object_get(description, "targets"), i, each)
    {
        if (!p->failed) {
            plan_target(p, each, groups, seen);
        }
    }
    if (!p->failed) {
        plan_target_removals(p, seen);
        ops_plan_group_removals(p, groups);
    }
    json_decref(seen);
}

/* What the plan does, a line for each step. */
static json_t *plan_json(const struct ops_plan *p, bool applied)
{
    json_t *changes = json_array();
    for (size_t phase = 0; phase < PHASE_COUNT; phase++) {
        size_t i;
        json_t *step;
        json_array_foreach(p->steps[phase], i, step)
        {
            json_array_append(changes, json_object_get(step, "text"));
        }
    }
    return json_pack("{s:o, s:b}", "changes", changes, "applied", applied);
}

/* Goes through the steps; the first that fails ends it. */
static json_t *carry_out(struct ops_plan *p) WAITS
{
    for (size_t phase = 0; phase < PHASE_COUNT; phase++) {
        size_t i;
        json_t *step;
        json_array_foreach(p->steps[phase], i, step)
        {
            json_t *response = ops_dispatch(p->o, json_object_get(step, "request"));
            if (ops_exit_of(response) != OPS_OK) {
                const char *why = ops_text(json_object_get(response, "error"), "message");
                json_t *failed =
                    ops_failure(ops_exit_of(response), "\"%s\": %s (what comes before it is done)",
                                ops_text(step, "text"), why ? why : "failed");
                json_decref(response);
                return failed;
            }
            json_decref(response);
            if (p->o->started_ns > 0) {
                msg_info("ctl", "apply: %s", ops_text(step, "text"));
            }
        }
    }
    return ops_success(plan_json(p, true));
}

static json_t *refuse_removal(const struct ops_plan *p)
{
    char lines[700] = "";
    size_t len = 0;
    size_t i;
    json_t *step;
    json_array_foreach(p->steps[PHASE_REMOVAL], i, step)
    {
        int n = snprintf(lines + len, sizeof lines - len, "\n  %s", ops_text(step, "text"));
        len += n > 0 && (size_t)n < sizeof lines - len ? (size_t)n : 0;
        lines[len] = 0;
    }
    return ops_failure(OPS_REFUSED, "data would be lost; say --force if that is meant:%s", lines);
}

static json_t *apply(struct ops *o, const json_t *request)
{
    struct ops_plan p = {.o = o, .request = request};
    json_t *response;
    for (size_t i = 0; i < PHASE_COUNT; i++) {
        p.steps[i] = json_array();
    }
    make_plan(&p, json_object_get(request, "description"));
    bool removes = json_array_size(p.steps[PHASE_REMOVAL]) > 0;
    if (p.failed) {
        response = p.failed;
    } else if (ops_flag(request, "dry_run", false)) {
        response = ops_success(plan_json(&p, false));
    } else if (removes && !ops_flag(request, "force", false)) {
        response = refuse_removal(&p);
    } else {
        response = carry_out(&p);
    }
    for (size_t i = 0; i < PHASE_COUNT; i++) {
        json_decref(p.steps[i]);
    }
    return response;
}

struct rules_edit {
    const json_t *rules;
    json_t *failed;
};

static int edit_rules(struct dev_access *draft, void *arg)
{
    struct rules_edit *e = arg;
    e->failed = replace_sections(draft, e->rules);
    return e->failed ? -ECANCELED : 0;
}

/* A step of apply: the sections of one scope at once. */
static json_t *rules(struct ops *o, const json_t *request)
{
    struct rules_edit e = {.rules = json_object_get(request, "rules")};
    const char *name = ops_text(request, "iqn");
    const char *iqn = name && strcmp(name, OPS_DISCOVERY) != 0 ? name : "";
    json_t *failed = ops_secrets_may_be_stored(o, request);
    if (failed && !brings_secrets(json_object_get(e.rules, "auth"))) {
        json_decref(failed);
        failed = NULL;
    }
    if (failed) {
        return failed;
    }
    int r = dev_access_change(o->registry, iqn, edit_rules, &e);
    if (e.failed) {
        return e.failed;
    }
    if (r < 0) {
        return ops_rules_error(r, iqn);
    }
    if (o->iscsi) {
        (void)iscsi_rules_changed(o->iscsi, iqn);
        iscsi_luns_changed(o->iscsi, iqn);
    }
    return ops_success(json_object());
}

static json_t *export_luns(struct ops *o, const char *iqn)
{
    json_t *all = json_array();
    uint32_t *luns = calloc(LUNS_MAX, sizeof *luns);
    size_t count = luns ? dev_lun_list(o->registry, iqn, luns, LUNS_MAX) : 0;
    for (size_t i = 0; i < count; i++) {
        struct dev *d;
        struct dev_info info;
        if (dev_find_lun(o->registry, iqn, luns[i], &d) < 0) {
            continue;
        }
        dev_info(d, &info);
        dev_unref(d);
        json_t *lun =
            json_pack("{s:I, s:I, s:b, s:b, s:I, s:I}", "lun", (json_int_t)info.lun, "size",
                      (json_int_t)info.size_bytes, "write_cache", info.write_cache, "read_only",
                      info.read_only, "sector", (json_int_t)info.logical_block_bytes, "physical",
                      (json_int_t)info.physical_block_bytes);
        if (info.removable) {
            json_object_set_new(lun, "removable", json_true());
        }
        if (info.same_to_end) {
            json_object_set_new(lun, "write_same_to_end", json_true());
        }
        json_array_append_new(all, lun);
    }
    free(luns);
    return all;
}

static json_t *export_target(struct ops *o, const char *iqn, bool secrets)
{
    struct dev_access *a = NULL;
    struct dev_paths *paths = NULL;
    if (dev_access_get(o->registry, iqn, &a) < 0 || dev_paths_get(o->registry, iqn, &paths) < 0) {
        return NULL; /* nobody deletes it meanwhile */
    }
    struct dev_groups *groups = dev_groups_get(o->registry);
    json_t *j =
        json_pack("{s:s, s:o, s:o, s:o, s:o, s:o, s:o}", "iqn", iqn, "luns", export_luns(o, iqn),
                  "auth", ops_auth_json(a, secrets), "acl", ops_acl_json(a), "maps",
                  ops_maps_json(a), "portal_groups", ops_members_json(groups, paths),
                  "access_states", ops_states_json(o, iqn, groups, paths));
    dev_groups_unref(groups);
    dev_paths_unref(paths);
    dev_access_unref(a);
    return j;
}

static json_t *export_groups(struct ops *o)
{
    json_t *list = json_array();
    struct dev_groups *groups = dev_groups_get(o->registry);
    for (size_t i = 0; groups && i < groups->groups.len; i++) {
        json_array_append_new(list, ops_group_json(NULL, &groups->groups.at[i]));
    }
    dev_groups_unref(groups);
    return list;
}

static json_t *export(struct ops *o, const json_t *request)
{
    bool secrets = ops_flag(request, "with_secrets", false);
    json_t *targets = json_array();
    struct dev_access *a = NULL;
    char last[DEV_IQN_MAX + 1] = "";
    struct dev_target_info *chunk = calloc(LIST_CHUNK, sizeof *chunk);
    size_t count;
    while (chunk && (count = dev_target_list(o->registry, last, chunk, LIST_CHUNK)) > 0) {
        for (size_t i = 0; i < count; i++) {
            json_array_append_new(targets, export_target(o, chunk[i].iqn, secrets));
        }
        memcpy(last, chunk[count - 1].iqn, sizeof last);
    }
    free(chunk);
    if (dev_access_get(o->registry, "", &a) < 0) {
        a = NULL;
    }
    json_t *auth = ops_auth_json(a, secrets);
    dev_access_unref(a);
    return ops_success(json_pack("{s:i, s:{s:o}, s:o, s:o}", "version", DESCRIPTION_VERSION,
                                 "discovery", "auth", auth, "portal_groups", export_groups(o),
                                 "targets", targets));
}

const struct ops_entry ops_apply_table[] = {
    {"iscsi.apply", apply},
    {"iscsi.rules", rules},
    {"iscsi.export", export},
    {NULL, NULL},
};
