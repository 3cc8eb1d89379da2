/* SPDX-License-Identifier: Apache-2.0 */
#include "ctl/ops_priv.h"

#define LIST_CHUNK 64

/* The device that the request names, or a failure. */
static json_t *find(struct ops *o, const json_t *request, struct dev **ret_dev)
{
    const char *name = ops_text(request, "name");
    if (!name || !*name) {
        return ops_failure(OPS_USAGE, "the name of a device is needed: --name NAME");
    }
    if (dev_find_nbd(o->registry, name, ret_dev) < 0) {
        return ops_failure(OPS_NOT_FOUND,
                           "NBD device '%s' not found; `zerofs nbd list` shows what there is",
                           name);
    }
    return NULL;
}

static json_t *create(struct ops *o, const json_t *request)
{
    const char *name = ops_text(request, "name");
    char why[256];
    if (!name || dev_name_check(name, why, sizeof why) < 0) {
        return ops_failure(OPS_USAGE, "%s",
                           name ? why : "the name of the new device is needed: --name NAME");
    }
    uint64_t bytes = 0;
    json_t *failed = ops_size(request, 512, &bytes);
    if (failed) {
        return failed;
    }
    struct dev_create_options opt = {
        .kind = DEV_NBD,
        .name = name,
        .size_bytes = bytes,
        .write_cache_off = !ops_flag(request, "write_cache", true),
    };
    struct dev_info info;
    int r = dev_create(o->registry, &opt, &info);
    if (r == -EEXIST) {
        return ops_failure(OPS_EXISTS, "NBD device '%s' already exists", name);
    }
    return r < 0 ? ops_error(r, "NBD device '%s' was not created", name)
                 : ops_success(ops_device_json(o, &info));
}

static json_t *list(struct ops *o, const json_t *request)
{
    (void)request;
    json_t *devices = json_array();
    struct dev_info *chunk = calloc(LIST_CHUNK, sizeof *chunk);
    struct dev_info last;
    size_t count = chunk ? dev_list(o->registry, DEV_NBD, NULL, chunk, LIST_CHUNK) : 0;
    while (count > 0) {
        for (size_t i = 0; i < count; i++) {
            json_array_append_new(devices, ops_device_json(o, &chunk[i]));
        }
        last = chunk[count - 1];
        count = dev_list(o->registry, DEV_NBD, &last, chunk, LIST_CHUNK);
    }
    free(chunk);
    return ops_success(json_pack("{s:o}", "devices", devices));
}

static json_t *info(struct ops *o, const json_t *request)
{
    struct dev *d = NULL;
    json_t *failed = find(o, request, &d);
    if (failed) {
        return failed;
    }
    struct dev_info found;
    dev_info(d, &found);
    dev_unref(d);
    return ops_success(ops_device_json(o, &found));
}

static json_t *resize(struct ops *o, const json_t *request)
{
    return ops_on_device(o, request, find, ops_resize);
}

static json_t *delete (struct ops *o, const json_t *request)
{
    return ops_on_device(o, request, find, ops_delete);
}

static json_t *set(struct ops *o, const json_t *request)
{
    return ops_on_device(o, request, find, ops_set);
}

const struct ops_entry ops_nbd_table[] = {
    {"nbd.create", create}, {"nbd.list", list}, {"nbd.info", info}, {"nbd.resize", resize},
    {"nbd.delete", delete}, {"nbd.set", set},   {NULL, NULL},
};
