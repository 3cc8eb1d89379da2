/* SPDX-License-Identifier: Apache-2.0 */
#include "base/err.h"
#include "base/time.h"
#include "ctl/ops_priv.h"
#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>

#define LIST_CHUNK 32
#define LUNS_SHOWN_MAX 1024

/* The request's IQN in canonical form, or a failure. A warning, if any, is left in ret_warning. */
static json_t *check_iqn(const json_t *request, char ret_iqn[DEV_IQN_MAX + 1], char *ret_warning,
                         size_t cap)
{
    const char *iqn = ops_text(request, "iqn");
    char why[256] = "";
    if (!iqn || !*iqn) {
        return ops_failure(OPS_USAGE,
                           "the name of a target is needed: --iqn iqn.2024-01.com.example:name");
    }
    int r = dev_iqn_check(iqn, ret_iqn, why, sizeof why);
    if (r < 0) {
        return ops_failure(OPS_USAGE, "%s", why);
    }
    snprintf(ret_warning, cap, "%s", r > 0 ? why : "");
    return NULL;
}

static json_t *target_json(struct ops *o, const struct dev_target_info *target)
{
    char uuid[UUID_TEXT_SIZE];
    uuid_format(&target->uuid, uuid);
    json_t *luns = json_array();
    uint32_t *numbers = calloc(LUNS_SHOWN_MAX, sizeof *numbers);
    size_t count = numbers ? dev_lun_list(o->registry, target->iqn, numbers, LUNS_SHOWN_MAX) : 0;
    for (size_t i = 0; i < count; i++) {
        struct dev *d = NULL;
        struct dev_info info;
        if (dev_find_lun(o->registry, target->iqn, numbers[i], &d) == 0) {
            dev_info(d, &info);
            dev_unref(d);
            json_array_append_new(luns, ops_device_json(o, &info));
        }
    }
    free(numbers);
    json_t *result = json_pack("{s:s, s:s, s:I, s:o}", "iqn", target->iqn, "uuid", uuid, "created",
                               (json_int_t)(target->created_ns / NS_PER_S), "luns", luns);
    if (target->moved_to[0]) {
        json_t *moved = json_pack("{s:s, s:b}", "to", target->moved_to, "permanent",
                                  (int)target->moved_for_good);
        json_object_set_new(result, "redirect", moved);
    }
    return result;
}

/* The target, or a failure. */
json_t *ops_iscsi_target(struct ops *o, const json_t *request, struct dev_target_info *ret_target)
{
    char iqn[DEV_IQN_MAX + 1] = "", warning[256] = "";
    json_t *failed = check_iqn(request, iqn, warning, sizeof warning);
    if (failed) {
        return failed;
    }
    if (dev_target_find(o->registry, iqn, ret_target) < 0) {
        return ops_failure(OPS_NOT_FOUND,
                           "iSCSI target '%s' not found; `zerofs iscsi list` shows what there is",
                           iqn);
    }
    return NULL;
}

static json_t *check_lun(const json_t *request, uint64_t *ret_lun)
{
    if (!ops_number(request, "lun", ret_lun)) {
        return ops_failure(OPS_USAGE, "the number of a LUN is needed: --lun 0");
    }
    if (*ret_lun > DEV_LUN_MAX) {
        return ops_failure(OPS_USAGE, "a LUN is a number from 0 to %d", DEV_LUN_MAX);
    }
    return NULL;
}

/* The LUN that the request names, or a failure. */
static json_t *find_lun(struct ops *o, const json_t *request, struct dev **ret_dev)
{
    struct dev_target_info target;
    uint64_t lun = 0;
    json_t *failed = ops_iscsi_target(o, request, &target);
    if (!failed) {
        failed = check_lun(request, &lun);
    }
    if (!failed && dev_find_lun(o->registry, target.iqn, (uint32_t)lun, ret_dev) < 0) {
        failed = ops_failure(OPS_NOT_FOUND, "target '%s' has no LUN %u", target.iqn, (unsigned)lun);
    }
    return failed;
}

/* A block size of the request, 512 or 4096, or what it is without one. */
static json_t *check_block(const json_t *request, const char *key, uint32_t absent,
                           uint32_t *ret_bytes)
{
    uint64_t bytes = absent;
    if (json_object_get(request, key) &&
        (!ops_number(request, key, &bytes) || (bytes != 512 && bytes != 4096))) {
        return ops_failure(OPS_USAGE, "--%s is 512 or 4096", key);
    }
    *ret_bytes = (uint32_t)bytes;
    return NULL;
}

static json_t *block_options(const json_t *request, struct dev_create_options *opt)
{
    json_t *failed = check_block(request, "sector", 512, &opt->logical_block_bytes);
    if (!failed) {
        failed = check_block(request, "physical", 4096, &opt->physical_block_bytes);
    }
    if (!failed && opt->physical_block_bytes < opt->logical_block_bytes) {
        failed = ops_failure(OPS_USAGE, "physical blocks are not smaller than sectors");
    }
    return failed;
}

json_t *ops_lun_options(const json_t *request, struct dev_create_options *ret_opt,
                        bool *ret_has_lun)
{
    uint64_t lun = 0, bytes = 0;
    *ret_has_lun = json_object_get(request, "lun") || json_object_get(request, "size");
    if (!*ret_has_lun) {
        return NULL;
    }
    json_t *failed = json_object_get(request, "lun") ? check_lun(request, &lun) : NULL;
    if (!failed) {
        failed = block_options(request, ret_opt);
    }
    if (!failed) {
        failed = ops_size(request, ret_opt->logical_block_bytes, &bytes);
    }
    ret_opt->kind = DEV_ISCSI;
    ret_opt->lun = (uint32_t)lun;
    ret_opt->size_bytes = bytes;
    ret_opt->write_cache_off = !ops_flag(request, "write_cache", true);
    ret_opt->read_only = ops_flag(request, "read_only", false);
    ret_opt->removable = ops_flag(request, "removable", false);
    ret_opt->same_to_end = ops_flag(request, "write_same_to_end", false);
    return failed;
}

static json_t *create_target(struct ops *o, const json_t *request)
{
    char iqn[DEV_IQN_MAX + 1] = "", warning[256] = "";
    struct dev_create_options opt = {.name = iqn};
    bool has_lun = false;
    json_t *failed = check_iqn(request, iqn, warning, sizeof warning);
    if (!failed) {
        failed = ops_lun_options(request, &opt, &has_lun);
    }
    if (failed) {
        return failed;
    }
    struct dev_target_info target;
    struct dev_info lun;
    int r = has_lun ? dev_target_create_with_lun(o->registry, &opt, &lun)
                    : dev_target_create(o->registry, iqn, &target);
    if (r == -EEXIST) {
        return ops_failure(
            OPS_EXISTS,
            "iSCSI target '%s' already exists; `zerofs iscsi add-lun` gives it more LUNs", iqn);
    }
    if (r < 0 || (r = dev_target_find(o->registry, iqn, &target)) < 0) {
        return ops_error(r, "iSCSI target '%s' was not created", iqn);
    }
    json_t *result = target_json(o, &target);
    if (*warning) {
        json_object_set_new(result, "warning", json_string(warning));
    }
    return ops_success(result);
}

static json_t *list(struct ops *o, const json_t *request)
{
    (void)request;
    json_t *targets = json_array();
    struct dev_target_info *chunk = calloc(LIST_CHUNK, sizeof *chunk);
    char last[DEV_IQN_MAX + 1] = "";
    size_t count;
    while (chunk && (count = dev_target_list(o->registry, last, chunk, LIST_CHUNK)) > 0) {
        for (size_t i = 0; i < count; i++) {
            json_array_append_new(targets, target_json(o, &chunk[i]));
        }
        memcpy(last, chunk[count - 1].iqn, sizeof last);
    }
    free(chunk);
    return ops_success(json_pack("{s:o}", "targets", targets));
}

static json_t *info(struct ops *o, const json_t *request)
{
    struct dev_target_info target;
    json_t *failed = ops_iscsi_target(o, request, &target);
    return failed ? failed : ops_success(target_json(o, &target));
}

static json_t *add_lun(struct ops *o, const json_t *request)
{
    struct dev_target_info target;
    struct dev_create_options opt = {0};
    bool has_lun = false;
    json_t *failed = ops_iscsi_target(o, request, &target);
    if (!failed) {
        failed = ops_lun_options(request, &opt, &has_lun);
    }
    if (!failed && (!has_lun || !json_object_get(request, "lun"))) {
        failed = ops_failure(OPS_USAGE,
                             "the number and the size of the LUN are needed: --lun 1 --size 10G");
    }
    if (failed) {
        return failed;
    }
    opt.name = target.iqn;
    struct dev_info lun;
    int r = dev_create(o->registry, &opt, &lun);
    if (r == -EEXIST) {
        return ops_failure(OPS_EXISTS, "target '%s' has a LUN %u already", target.iqn, opt.lun);
    }
    if (r < 0) {
        return ops_error(r, "LUN %u was not added to '%s'", opt.lun, target.iqn);
    }
    if (o->iscsi) {
        iscsi_luns_changed(o->iscsi, target.iqn);
    }
    return ops_success(ops_device_json(o, &lun));
}

static json_t *resize_lun(struct ops *o, const json_t *request)
{
    return ops_on_device(o, request, find_lun, ops_resize);
}

static json_t *remove_lun(struct ops *o, const json_t *request)
{
    struct dev *d = NULL;
    json_t *result = find_lun(o, request, &d);
    if (result) {
        return result;
    }
    struct dev_info info;
    dev_info(d, &info);
    result = ops_delete(o, d, request);
    if (o->iscsi) {
        iscsi_luns_changed(o->iscsi, info.name);
    }
    return result;
}

static json_t *set_lun(struct ops *o, const json_t *request)
{
    return ops_on_device(o, request, find_lun, ops_set);
}

static json_t *medium_set(struct ops *o, struct dev *d, const json_t *request)
{
    struct dev_info info;
    bool in = ops_flag(request, "in", false);
    int r = dev_medium_set(o->registry, d, in, ops_flag(request, "force", false));
    dev_info(d, &info);
    dev_unref(d);
    if (r == ERR_IN_USE) {
        return ops_failure(OPS_REFUSED,
                           "an initiator keeps the medium of LUN %u of '%s' in: say --force",
                           info.lun, info.name);
    }
    if (r == -EINVAL) {
        return ops_failure(OPS_REFUSED, "LUN %u of '%s' is not removable", info.lun, info.name);
    }
    return r < 0 ? ops_error(r, "'%s' was not changed", info.name)
                 : ops_success(ops_device_json(o, &info));
}

static json_t *eject(struct ops *o, const json_t *request)
{
    return ops_on_device(o, request, find_lun, medium_set);
}

static json_t *insert(struct ops *o, const json_t *request)
{
    json_t *in = json_copy((json_t *)request);
    json_object_set_new(in, "in", json_true());
    json_t *result = ops_on_device(o, in, find_lun, medium_set);
    json_decref(in);
    return result;
}

static json_t *delete_target(struct ops *o, const json_t *request)
{
    struct dev_target_info target;
    json_t *failed = ops_iscsi_target(o, request, &target);
    if (failed) {
        return failed;
    }
    bool disconnect = ops_flag(request, "disconnect", false);
    json_t *result = target_json(o, &target);
    if (disconnect && o->iscsi) {
        iscsi_target_drop(o->iscsi, target.iqn);
    }
    int r = dev_target_delete(o->registry, target.iqn, disconnect);
    if (r == 0) {
        return ops_success(result);
    }
    json_decref(result);
    if (r == ERR_IN_USE) {
        return ops_failure(
            OPS_REFUSED, "target '%s' is in use: log the initiators out first, or say --disconnect",
            target.iqn);
    }
    return ops_error(r, "target '%s' was not deleted", target.iqn);
}

static bool is_port(const char *digits)
{
    size_t len = strspn(digits, "0123456789");
    unsigned long port = len > 0 && len <= 5 ? strtoul(digits, NULL, 10) : 0;
    return !digits[len] && port > 0 && port <= UINT16_MAX;
}

/* An address of IPv6 has brackets (RFC 7143 §13.8): without them nobody knows where it ends. */
static bool is_place(const char *to)
{
    char host[DEV_MOVED_MAX + 1];
    struct in6_addr parsed;
    bool v6 = *to == '[';
    size_t len = strcspn(to + v6, v6 ? "]" : ":");
    const char *rest = to + v6 + len;
    if (len == 0 || len > DEV_MOVED_MAX || (v6 && *rest++ != ']') ||
        (*rest && (*rest != ':' || !is_port(rest + 1)))) {
        return false;
    }
    memcpy(host, to + v6, len);
    host[len] = 0;
    if (v6 || strspn(host, "0123456789.") == len) {
        return inet_pton(v6 ? AF_INET6 : AF_INET, host, &parsed) == 1;
    }
    return strspn(host, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-") == len;
}

/* TargetAddress (RFC 7143 §13.8): a host's name or address and a port, and nothing that ends a key.
 */
json_t *ops_address_check(const char *to)
{
    if (strlen(to) > DEV_MOVED_MAX || !is_place(to)) {
        return ops_failure(OPS_USAGE, "an address is HOST, HOST:PORT or [IPV6]:PORT, not '%.128s'",
                           to);
    }
    return NULL;
}

static json_t *redirect(struct ops *o, const json_t *request)
{
    struct dev_target_info target;
    const char *to = ops_text(request, "to");
    bool clear = ops_flag(request, "clear", false);
    json_t *failed = ops_iscsi_target(o, request, &target);
    if (!failed && (clear == (to != NULL))) {
        failed = ops_failure(OPS_USAGE, "either --to ADDRESS or --clear is needed");
    }
    if (!failed && to) {
        failed = ops_address_check(to);
    }
    if (failed) {
        return failed;
    }
    int r = dev_target_move(o->registry, target.iqn, clear ? "" : to,
                            ops_flag(request, "permanent", false));
    if (r < 0 || (r = dev_target_find(o->registry, target.iqn, &target)) < 0) {
        return ops_error(r, "initiators of '%s' are not sent elsewhere", target.iqn);
    }
    if (o->iscsi && ops_flag(request, "logout", false)) {
        iscsi_target_logout(o->iscsi, target.iqn);
    }
    return ops_success(target_json(o, &target));
}

json_t *ops_iscsi_lun(struct ops *o, const json_t *request, struct dev **ret_dev)
{
    return find_lun(o, request, ret_dev);
}

const struct ops_entry ops_iscsi_table[] = {
    {"iscsi.reservations.list", ops_reservations_list},
    {"iscsi.reservations.clear", ops_reservations_clear},
    {"iscsi.create-target", create_target},
    {"iscsi.list", list},
    {"iscsi.info", info},
    {"iscsi.add-lun", add_lun},
    {"iscsi.resize-lun", resize_lun},
    {"iscsi.remove-lun", remove_lun},
    {"iscsi.set-lun", set_lun},
    {"iscsi.eject", eject},
    {"iscsi.insert", insert},
    {"iscsi.delete-target", delete_target},
    {"iscsi.redirect", redirect},
    {NULL, NULL},
};
