/* SPDX-License-Identifier: Apache-2.0 */
#include "ctl/ops.h"
#include "base/err.h"
#include "base/msg.h"
#include "base/time.h"
#include "ctl/ops_priv.h"
#include "ctl/size.h"
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define OPS_MESSAGE_SIZE 1024
#define CLIENTS_SHOWN_MAX 64

static const char *const kind_names[] = {
    [OPS_OK] = "ok",           [OPS_FAILED] = "failed",       [OPS_USAGE] = "usage",
    [OPS_CONFIG] = "config",   [OPS_NOT_FOUND] = "not-found", [OPS_EXISTS] = "exists",
    [OPS_REFUSED] = "refused", [OPS_HELD] = "held",           [OPS_STORE] = "store",
};

static json_t *failure(enum ops_exit kind, const char *text)
{
    json_t *response = json_pack("{s:b, s:{s:s, s:s}}", "ok", 0, "error", "kind", kind_names[kind],
                                 "message", text);
    return response ? response : json_null();
}

json_t *ops_failure(enum ops_exit kind, const char *fmt, ...)
{
    char text[OPS_MESSAGE_SIZE];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    return failure(kind, text);
}

enum ops_exit ops_exit_of_error(int r)
{
    switch (r) {
    case ERR_OPEN_ELSEWHERE:
    case ERR_LOST_OPEN_RACE:
    case ERR_FENCED:
        return OPS_HELD;
    case ERR_IN_USE:
        return OPS_REFUSED;
    case ERR_CONFIG:
    case ERR_WRONG_PASSWORD:
    case ERR_IS_ENCRYPTED:
    case ERR_NOT_ENCRYPTED:
        return OPS_CONFIG;
    default:
        break;
    }
    switch (err_class(r)) {
    case ENOENT:
    case ENODEV:
        return OPS_NOT_FOUND;
    case EEXIST:
        return OPS_EXISTS;
    case EINVAL:
        return OPS_USAGE;
    case EIO:
    case ENOSPC:
    case EDQUOT:
    case EROFS:
    case EACCES:
    case EPERM:
    case ENOTDIR:
    case ENOTEMPTY: /* other things lie where the volume should */
    case ENOTSUP:   /* a format of a later version */
    case ESTALE:
    case ETIMEDOUT:
    case ECONNREFUSED: /* a store over the network that is away */
    case ECONNRESET:
    case ECONNABORTED:
    case EPIPE:
    case EHOSTUNREACH:
    case ENETUNREACH:
    case ENETDOWN:
        return OPS_STORE;
    default:
        return OPS_FAILED;
    }
}

json_t *ops_error(int r, const char *fmt, ...)
{
    char what[OPS_MESSAGE_SIZE / 2];
    va_list args;
    va_start(args, fmt);
    vsnprintf(what, sizeof what, fmt, args);
    va_end(args);
    return ops_failure(ops_exit_of_error(r), "%s: %s (%s)", what, err_text(r), err_name(r));
}

enum ops_exit ops_exit_of(const json_t *response)
{
    if (json_is_true(json_object_get(response, "ok"))) {
        return OPS_OK;
    }
    const char *kind = ops_text(json_object_get(response, "error"), "kind");
    for (size_t i = 0; kind && i < ARRAY_LEN(kind_names); i++) {
        if (strcmp(kind, kind_names[i]) == 0) {
            return (enum ops_exit)i;
        }
    }
    return OPS_FAILED;
}

json_t *ops_success(json_t *result)
{
    return result ? json_pack("{s:b, s:o}", "ok", 1, "result", result) : NULL;
}

const char *ops_text(const json_t *request, const char *key)
{
    return json_string_value(json_object_get(request, key));
}

bool ops_number(const json_t *request, const char *key, uint64_t *ret_value)
{
    const json_t *value = json_object_get(request, key);
    if (!json_is_integer(value) || json_integer_value(value) < 0) {
        return false;
    }
    *ret_value = (uint64_t)json_integer_value(value);
    return true;
}

bool ops_flag(const json_t *request, const char *key, bool absent)
{
    const json_t *value = json_object_get(request, key);
    return json_is_boolean(value) ? json_is_true(value) : absent;
}

json_t *ops_size(const json_t *request, uint32_t block, uint64_t *ret_bytes)
{
    uint64_t bytes = 0;
    if (!ops_number(request, "size", &bytes) || bytes == 0) {
        return ops_failure(OPS_USAGE, "a size of more than 0 bytes is needed: --size 10G");
    }
    if (bytes % block != 0) {
        return ops_failure(OPS_USAGE,
                           "the size must be a multiple of %u bytes: %" PRIu64 " or %" PRIu64
                           " would do, %" PRIu64 " does not",
                           block, bytes / block * block, (bytes / block + 1) * block, bytes);
    }
    if (bytes > VOL_SIZE_MAX) {
        return ops_failure(OPS_USAGE, "a device is at most 1024P (2^60 bytes) long");
    }
    *ret_bytes = bytes;
    return NULL;
}

static json_t *clients_json(struct ops *o, const struct dev_info *info)
{
    json_t *clients = json_array();
    struct dev *d;
    int r = info->kind == DEV_NBD ? dev_find_nbd(o->registry, info->name, &d)
                                  : dev_find_lun(o->registry, info->name, info->lun, &d);
    if (r < 0) {
        return clients;
    }
    char(*who)[128] = calloc(CLIENTS_SHOWN_MAX, sizeof *who);
    size_t count = who ? dev_attached(d, who, CLIENTS_SHOWN_MAX) : 0;
    for (size_t i = 0; i < count; i++) {
        json_array_append_new(clients, json_string(who[i]));
    }
    free(who);
    dev_unref(d);
    return clients;
}

json_t *ops_device_json(struct ops *o, const struct dev_info *info)
{
    char uuid[UUID_TEXT_SIZE];
    uuid_format(&info->uuid, uuid);
    json_t *device =
        json_pack("{s:s, s:s, s:I, s:I, s:b, s:b, s:I, s:I, s:I, s:I, s:o}", "name", info->name,
                  "uuid", uuid, "inode", (json_int_t)info->inode, "size",
                  (json_int_t)info->size_bytes, "write_cache", info->write_cache, "read_only",
                  info->read_only, "logical_block_size", (json_int_t)info->logical_block_bytes,
                  "physical_block_size", (json_int_t)info->physical_block_bytes, "created",
                  (json_int_t)(info->created_ns / NS_PER_S), "attached", (json_int_t)info->attached,
                  "clients", clients_json(o, info));
    if (device && info->kind == DEV_ISCSI) {
        json_object_set_new(device, "lun", json_integer(info->lun));
        json_object_set_new(device, "removable", json_boolean(info->removable));
        json_object_set_new(device, "ejected", json_boolean(info->ejected));
        json_object_set_new(device, "write_same_to_end", json_boolean(info->same_to_end));
        static const char *const states[] = {[DEV_SANITIZED_NOT] = "no",
                                             [DEV_SANITIZING] = "running",
                                             [DEV_SANITIZE_FAILED] = "failed"};
        json_object_set_new(device, "sanitize", json_string(states[info->sanitize]));
    }
    return device;
}

json_t *ops_resize(struct ops *o, struct dev *d, const json_t *request)
{
    uint64_t bytes = 0;
    struct dev_info before;
    dev_info(d, &before);
    json_t *failed = ops_size(request, before.logical_block_bytes, &bytes);
    bool shrinks = !failed && bytes < before.size_bytes;
    if (shrinks && !ops_flag(request, "force", false)) {
        failed = ops_failure(OPS_REFUSED,
                             "'%s' would shrink from %" PRIu64 " to %" PRIu64
                             " bytes, and what lies beyond is lost: say --force if that is meant",
                             before.name, before.size_bytes, bytes);
    }
    int r = failed ? 0 : dev_resize(o->registry, d, bytes, shrinks);
    if (r < 0) {
        failed = ops_error(r, "'%s' was not resized", before.name);
    }
    struct dev_info after;
    dev_info(d, &after);
    dev_unref(d);
    if (failed) {
        return failed;
    }
    json_t *result = ops_device_json(o, &after);
    json_object_set_new(result, "old_size", json_integer((json_int_t)before.size_bytes));
    return ops_success(result);
}

json_t *ops_delete(struct ops *o, struct dev *d, const json_t *request)
{
    struct dev_info info;
    dev_info(d, &info);
    json_t *result = ops_device_json(o, &info);
    int r = dev_delete(o->registry, d, ops_flag(request, "disconnect", false));
    dev_unref(d);
    if (r == 0) {
        return ops_success(result);
    }
    json_decref(result);
    if (r == ERR_IN_USE) {
        return ops_failure(OPS_REFUSED,
                           "'%s' is in use by %u client%s: detach first, or say --disconnect",
                           info.name, info.attached, info.attached == 1 ? "" : "s");
    }
    return ops_error(r, "'%s' was not deleted", info.name);
}

json_t *ops_set(struct ops *o, struct dev *d, const json_t *request)
{
    struct dev_info info;
    dev_info(d, &info);
    int r = 0;
    if (json_is_boolean(json_object_get(request, "write_cache"))) {
        r = dev_write_cache_set(o->registry, d, ops_flag(request, "write_cache", true));
    }
    if (r >= 0 && json_is_boolean(json_object_get(request, "read_only"))) {
        r = dev_read_only_set(o->registry, d, ops_flag(request, "read_only", false));
    }
    if (r < 0) {
        dev_unref(d);
        return ops_error(r, "'%s' was not changed", info.name);
    }
    dev_info(d, &info);
    dev_unref(d);
    return ops_success(ops_device_json(o, &info));
}

json_t *ops_on_device(struct ops *o, const json_t *request,
                      json_t *(*find)(struct ops *o, const json_t *request, struct dev **ret_dev),
                      json_t *(*act)(struct ops *o, struct dev *d, const json_t *request))
{
    struct dev *d = NULL;
    json_t *failed = find(o, request, &d);
    return failed ? failed : act(o, d, request);
}

static json_t *flush(struct ops *o, const json_t *request)
{
    (void)request;
    int r = vol_flush(o->vol);
    if (r < 0) {
        return ops_error(r, "the flush failed");
    }
    struct vol_counts counts;
    vol_counts(o->vol, &counts);
    return ops_success(json_pack("{s:I}", "stored_through", (json_int_t)counts.stored_through));
}

static const struct ops_entry general_table[] = {
    {"change-password", ops_change_password},
    {"flush", flush},
    {"status", ops_status},
    {NULL, NULL},
};

json_t *ops_dispatch(struct ops *o, const json_t *request)
{
    static const struct ops_entry *const tables[] = {general_table,   ops_nbd_table,
                                                     ops_iscsi_table, ops_access_table,
                                                     ops_paths_table, ops_apply_table};
    const char *name = ops_text(request, "op");
    if (!name) {
        return ops_failure(OPS_USAGE, "the request has no \"op\"");
    }
    for (size_t t = 0; t < ARRAY_LEN(tables); t++) {
        for (const struct ops_entry *e = tables[t]; e->name; e++) {
            if (strcmp(e->name, name) == 0) {
                msg_debug("ctl", "op %s", name);
                return e->run(o, request);
            }
        }
    }
    return ops_failure(OPS_USAGE, "unknown operation '%.40s'", name);
}

json_t *ops_run(struct ops *o, const json_t *request)
{
    rt_lock_take(&o->one);
    json_t *response = ops_dispatch(o, request);
    rt_lock_release(&o->one);
    return response;
}
