/* SPDX-License-Identifier: Apache-2.0 */
#include "base/err.h"
#include "dev/paths.h"

#include <string.h>

#define VERSION 1

/* What an entry of a record is; see docs/FORMAT.md. */
enum entry_kind {
    ENTRY_GROUP = 1,
    ENTRY_MEMBER = 1,
    ENTRY_STATE = 2,
    ENTRY_LUN_STATE = 3,
};

enum {
    STATE_PREFERRED = 0x80,
    STATE_BITS = 0x0f,
};

static void put_text(struct bytes_writer *w, const char *text)
{
    size_t len = strlen(text);
    bytes_put_u8(w, (uint8_t)len);
    bytes_put(w, text, len);
}

/* A text of 1 to max bytes without NUL. */
static int take_text(struct bytes_reader *r, size_t max, char *ret_text)
{
    size_t len = bytes_u8(r);
    const uint8_t *p = bytes_take(r, len);
    if (!p || len == 0 || len > max || memchr(p, 0, len)) {
        return ERR_CORRUPT_RECORD;
    }
    memcpy(ret_text, p, len);
    ret_text[len] = 0;
    return 0;
}

static int finish(const struct bytes_writer *w)
{
    if (w->failed) {
        return -ENOMEM;
    }
    return w->len > DEV_PATHS_BYTES_MAX ? -E2BIG : 0;
}

int dev_groups_encode(const struct dev_groups *s, struct bytes_writer *w)
{
    bytes_put_u8(w, VERSION);
    for (size_t i = 0; i < s->groups.len; i++) {
        const struct dev_group *group = &s->groups.at[i];
        bytes_put_u8(w, ENTRY_GROUP);
        bytes_put_le16(w, group->tag);
        put_text(w, group->name);
        bytes_put_u8(w, (uint8_t)group->portal_count);
        for (size_t k = 0; k < group->portal_count; k++) {
            bytes_put(w, group->portals[k].address, sizeof group->portals[k].address);
            bytes_put_le16(w, group->portals[k].port);
        }
        bytes_put_u8(w, (uint8_t)group->advertise_count);
        for (size_t k = 0; k < group->advertise_count; k++) {
            put_text(w, group->advertise[k]);
        }
    }
    return finish(w);
}

static int take_portals(struct bytes_reader *r, struct dev_group *group)
{
    group->portal_count = bytes_u8(r);
    if (group->portal_count > DEV_PORTALS_MAX) {
        return ERR_CORRUPT_RECORD;
    }
    for (size_t i = 0; i < group->portal_count; i++) {
        const uint8_t *address = bytes_take(r, sizeof group->portals[i].address);
        group->portals[i].port = bytes_le16(r);
        if (bytes_bad(r) || group->portals[i].port == 0) {
            return ERR_CORRUPT_RECORD;
        }
        memcpy(group->portals[i].address, address, sizeof group->portals[i].address);
    }
    return 0;
}

static int take_group(struct bytes_reader *r, struct dev_groups *s)
{
    struct dev_group group = {0};
    if (bytes_u8(r) != ENTRY_GROUP) {
        return ERR_CORRUPT_RECORD;
    }
    group.tag = bytes_le16(r);
    if (take_text(r, DEV_GROUP_NAME_MAX, group.name) < 0 || take_portals(r, &group) < 0) {
        return ERR_CORRUPT_RECORD;
    }
    group.advertise_count = bytes_u8(r);
    if (bytes_bad(r) || group.tag <= DEV_TAG_DEFAULT || group.advertise_count > DEV_PORTALS_MAX) {
        return ERR_CORRUPT_RECORD;
    }
    for (size_t i = 0; i < group.advertise_count; i++) {
        if (take_text(r, DEV_MOVED_MAX, group.advertise[i]) < 0) {
            return ERR_CORRUPT_RECORD;
        }
    }
    if (dev_groups_find(s, group.name) || dev_groups_find_tag(s, group.tag)) {
        return ERR_CORRUPT_RECORD;
    }
    return dev_groups_put(s, &group);
}

/* The version of a record: 0, -ENOTSUP, ERR_CORRUPT_RECORD. */
static int take_version(struct bytes_reader *r)
{
    uint8_t version = bytes_u8(r);
    if (version > VERSION) {
        return -ENOTSUP;
    }
    return bytes_bad(r) || version == 0 ? ERR_CORRUPT_RECORD : 0;
}

int dev_groups_decode(const void *value, size_t len, struct dev_groups **ret_groups)
{
    struct bytes_reader r = bytes_reader_of(value, len);
    int rc = take_version(&r);
    if (rc < 0) {
        return rc;
    }
    struct dev_groups *s = dev_groups_copy(NULL);
    rc = s ? 0 : -ENOMEM;
    while (rc == 0 && bytes_left(&r) > 0) {
        rc = take_group(&r, s);
    }
    if (rc < 0) {
        dev_groups_unref(s);
        return rc == -ENOMEM ? rc : ERR_CORRUPT_RECORD;
    }
    *ret_groups = s;
    return 0;
}

static void put_path(struct bytes_writer *w, const struct dev_path *path)
{
    bytes_put_le16(w, path->tag);
    bytes_put_u8(w, (uint8_t)(path->state | (path->preferred ? STATE_PREFERRED : 0)));
    bytes_put_u8(w, path->cause);
}

static int take_path(struct bytes_reader *r, struct dev_path *ret_path)
{
    ret_path->tag = bytes_le16(r);
    uint8_t state = bytes_u8(r);
    ret_path->state = state & STATE_BITS;
    ret_path->preferred = state & STATE_PREFERRED;
    ret_path->cause = bytes_u8(r);
    bool good = !bytes_bad(r) && ret_path->tag != 0 && dev_path_is_state(ret_path->state) &&
                ret_path->cause <= DEV_PATH_BY_OPERATOR;
    return good ? 0 : ERR_CORRUPT_RECORD;
}

/* Those of one unit from `first` on; how many. */
static size_t put_lun_states(struct bytes_writer *w, const struct dev_lun_path *first, size_t left)
{
    size_t n = 1;
    while (n < left && uuid_equal(&first[n].device, &first->device)) {
        n++;
    }
    bytes_put_u8(w, ENTRY_LUN_STATE);
    bytes_put(w, first->device.bytes, sizeof first->device.bytes);
    bytes_put_u8(w, (uint8_t)n);
    for (size_t i = 0; i < n; i++) {
        put_path(w, &first[i].path);
    }
    return n;
}

int dev_paths_encode(const struct dev_paths *p, struct bytes_writer *w)
{
    bytes_put_u8(w, VERSION);
    for (size_t i = 0; i < p->member_count; i++) {
        bytes_put_u8(w, ENTRY_MEMBER);
        bytes_put_le16(w, p->members[i]);
    }
    for (size_t i = 0; i < p->state_count; i++) {
        bytes_put_u8(w, ENTRY_STATE);
        put_path(w, &p->states[i]);
    }
    for (size_t i = 0; i < p->luns.len;) {
        i += put_lun_states(w, &p->luns.at[i], p->luns.len - i);
    }
    return finish(w);
}

static int take_member(struct bytes_reader *r, struct dev_paths *p)
{
    uint16_t tag = bytes_le16(r);
    if (bytes_bad(r) || tag == 0 || p->member_count == DEV_TAGS_MAX) {
        return ERR_CORRUPT_RECORD;
    }
    p->members[p->member_count++] = tag;
    return 0;
}

static int take_state(struct bytes_reader *r, struct dev_paths *p)
{
    struct dev_path path;
    if (p->state_count == DEV_TAGS_MAX || p->luns.len > 0 || take_path(r, &path) < 0) {
        return ERR_CORRUPT_RECORD;
    }
    dev_paths_set_state(p, &path);
    return 0;
}

static int take_lun_states(struct bytes_reader *r, struct dev_paths *p)
{
    struct uuid device;
    const uint8_t *uuid = bytes_take(r, sizeof device.bytes);
    size_t n = bytes_u8(r);
    if (bytes_bad(r) || n == 0) {
        return ERR_CORRUPT_RECORD;
    }
    memcpy(device.bytes, uuid, sizeof device.bytes);
    for (size_t i = 0; i < n; i++) {
        struct dev_path path;
        int rc = take_path(r, &path);
        if (rc == 0) {
            rc = dev_paths_set_lun_state(p, &device, &path);
        }
        if (rc < 0) {
            return rc;
        }
    }
    return 0;
}

static int take_entry(struct bytes_reader *r, struct dev_paths *p)
{
    switch (bytes_u8(r)) {
    case ENTRY_MEMBER:
        return take_member(r, p);
    case ENTRY_STATE:
        return take_state(r, p);
    case ENTRY_LUN_STATE:
        return take_lun_states(r, p);
    default:
        return ERR_CORRUPT_RECORD;
    }
}

int dev_paths_decode(const void *value, size_t len, struct dev_paths **ret_paths)
{
    struct bytes_reader r = bytes_reader_of(value, len);
    int rc = take_version(&r);
    if (rc < 0) {
        return rc;
    }
    struct dev_paths *p = dev_paths_copy(NULL);
    rc = p ? 0 : -ENOMEM;
    while (rc == 0 && bytes_left(&r) > 0) {
        rc = take_entry(&r, p);
    }
    if (rc < 0) {
        dev_paths_unref(p);
        return rc;
    }
    *ret_paths = p;
    return 0;
}
