/* SPDX-License-Identifier: Apache-2.0 */
/*
 * By which ways an iSCSI target is reached. A portal group has a name, a tag (TPGT), portals where
 * it is listened, and what discovery tells of it; to SCSI it is a target port group with one port.
 * A target is reached through the groups that are chosen for it, or, when none are, through all;
 * and each of its logical units has an access state (ALUA) for each group.
 *
 *     tag = dev_portal_tag(reg, "192.0.2.1:3260");          // 1: a portal of no group
 *     if (!dev_target_is_reached(reg, iqn, tag)) { no such target }
 *     n = dev_path_list(reg, iqn, &uuid, paths, &generation);
 *
 * The group "default" is always there, without a record: it has the tag 1 and every portal that no
 * other group has.
 *
 * Groups are one record of the volume, and the ways to a target are one for each that has any; in
 * memory both are objects that never change: a change makes a new one. The state that a unit has of
 * its own comes before that of its target, and no state is DEV_PATH_OPTIMIZED.
 */
#pragma once
#include "base/attr.h"
#include "base/bytes.h"
#include "base/vec.h"
#include "dev/dev.h"
#include <stdatomic.h>

#define DEV_GROUP_DEFAULT "default"
#define DEV_TAG_DEFAULT 1u
#define DEV_GROUPS_MAX 63u /* besides the default one */
#define DEV_TAGS_MAX (DEV_GROUPS_MAX + 1)
#define DEV_GROUP_NAME_MAX 63
#define DEV_PORTALS_MAX 16u /* of a group */
#define DEV_PATHS_BYTES_MAX 60000u
#define DEV_PORTAL_TEXT_SIZE 64

/* IPv4 as IPv6 (::ffff:0:0/96); 0.0.0.0 and :: are all addresses of the family. */
struct dev_portal {
    uint8_t address[16];
    uint16_t port;
};

struct dev_group {
    char name[DEV_GROUP_NAME_MAX + 1];
    uint16_t tag;
    size_t portal_count;
    struct dev_portal portals[DEV_PORTALS_MAX];
    size_t advertise_count;
    char advertise[DEV_PORTALS_MAX][DEV_MOVED_MAX + 1]; /* HOST:PORT; none: its portals */
};

/* In the order of their tags. */
struct dev_groups {
    _Atomic unsigned refs;
    VEC(struct dev_group) groups;
};

enum dev_path_state { /* SPC-4 table 308 */
    DEV_PATH_OPTIMIZED = 0x0,
    DEV_PATH_NON_OPTIMIZED = 0x1,
    DEV_PATH_STANDBY = 0x2,
    DEV_PATH_UNAVAILABLE = 0x3,
    DEV_PATH_OFFLINE = 0xe,
    DEV_PATH_TRANSITIONING = 0xf,
};

enum dev_path_cause { /* what has last changed the state: SPC-4 table 309 */
    DEV_PATH_BY_NOBODY = 0,
    DEV_PATH_BY_COMMAND = 1, /* SET TARGET PORT GROUPS */
    DEV_PATH_BY_OPERATOR = 2,
};

struct dev_path {
    uint16_t tag;
    uint8_t state; /* enum dev_path_state */
    uint8_t cause; /* enum dev_path_cause */
    bool preferred;
};

struct dev_lun_path {
    struct uuid device;
    struct dev_path path;
};

struct dev_paths {
    _Atomic unsigned refs;
    size_t member_count; /* 0: all groups */
    uint16_t members[DEV_TAGS_MAX];
    size_t state_count;
    struct dev_path states[DEV_TAGS_MAX]; /* of units that have none of their own */
    VEC(struct dev_lun_path) luns;        /* in the order of device and tag */
};

/* paths.c: rules. Those that look accept NULL: nothing is set. */
/* "192.0.2.1:3260", "[2001:db8::1]:3260": 0 or -EINVAL. */
MUST int dev_portal_parse(const char *text, struct dev_portal *ret_portal);
void dev_portal_format(const struct dev_portal *p, char ret_text[DEV_PORTAL_TEXT_SIZE]);
bool dev_portal_is_any(const struct dev_portal *p);
/* p is `at`, or stands for it. */
bool dev_portal_covers(const struct dev_portal *p, const struct dev_portal *at);
MUST int dev_group_name_check(const char *name, char *ret_why, size_t why_cap);
bool dev_path_is_state(unsigned state);

const struct dev_group *dev_groups_find(const struct dev_groups *s, const char *name);
const struct dev_group *dev_groups_find_tag(const struct dev_groups *s, uint16_t tag);
/* Of the group which has that portal itself, or else stands for it; or that of the default one. */
uint16_t dev_groups_tag(const struct dev_groups *s, const char *local);
bool dev_paths_reach(const struct dev_paths *p, uint16_t tag);
bool dev_paths_is_empty(const struct dev_paths *p);

/* Editing a draft. */
/* 0, -ENOMEM, -E2BIG; -EEXIST: name, tag or a portal is another group's. Of the same name and tag:
 * replaces it. */
MUST int dev_groups_put(struct dev_groups *s, const struct dev_group *group);
MUST int dev_groups_remove(struct dev_groups *s, const char *name);
/* The smallest that is free; 0: none. */
uint16_t dev_groups_free_tag(const struct dev_groups *s);
/* Of all units: those of their own go. */
void dev_paths_set_state(struct dev_paths *p, const struct dev_path *path);
MUST int dev_paths_set_lun_state(struct dev_paths *p, const struct uuid *device,
                                 const struct dev_path *path);
/* The state of a unit; device NULL: of one that has none of its own. */
struct dev_path dev_paths_state(const struct dev_paths *p, const struct uuid *device, uint16_t tag);
/* Forgets a tag: true when it had been known. */
bool dev_paths_drop_tag(struct dev_paths *p, uint16_t tag);

struct dev_groups *dev_groups_copy(const struct dev_groups *s); /* NULL: out of memory */
struct dev_groups *dev_groups_ref(struct dev_groups *s);
void dev_groups_unref(struct dev_groups *s);
struct dev_paths *dev_paths_copy(const struct dev_paths *p);
struct dev_paths *dev_paths_ref(struct dev_paths *p);
void dev_paths_unref(struct dev_paths *p);

/* paths_record.c: docs/FORMAT.md "Portal groups". */
#define DEV_KEY_GROUPS 0x49
#define DEV_KEY_PATHS 0x4a
/* 0, -E2BIG, -ENOMEM. */
MUST int dev_groups_encode(const struct dev_groups *s, struct bytes_writer *w);
MUST int dev_paths_encode(const struct dev_paths *p, struct bytes_writer *w);
/* 0, ERR_CORRUPT_RECORD, -ENOTSUP (a later version), -ENOMEM. */
MUST int dev_groups_decode(const void *value, size_t len, struct dev_groups **ret_groups);
MUST int dev_paths_decode(const void *value, size_t len, struct dev_paths **ret_paths);

/* paths_store.c: the registry's. References; NULL when nothing is set. */
struct dev_groups *dev_groups_get(struct dev_registry *g);
MUST int dev_paths_get(struct dev_registry *g, const char *iqn, struct dev_paths **ret_paths);
/*
 * Makes edit() change a draft, and stores it: what edit says, -E2BIG, -ENOENT, what the volume
 * says; -EBUSY: a target is reached through a group that would go. Durable when it returns; when
 * the flush failed, the change is made all the same. edit must not wait.
 */
typedef int dev_groups_edit(struct dev_groups *draft, void *arg);
MUST int dev_groups_change(struct dev_registry *g, dev_groups_edit *edit, void *arg) WAITS;
typedef int dev_paths_edit(struct dev_paths *draft, void *arg);
MUST int dev_paths_change(struct dev_registry *g, const char *iqn, dev_paths_edit *edit, void *arg)
    WAITS;
uint16_t dev_portal_tag(struct dev_registry *g, const char *local);
bool dev_target_is_reached(struct dev_registry *g, const char *iqn, uint16_t tag);
/*
 * The groups through which the target is reached, in the order of their tags, with the states of
 * that unit of it (NULL: of one without states of its own): how many, 0 when there is no such
 * target. ret_generation, which may be NULL, is larger the later it was asked about, if anything
 * has changed.
 */
size_t dev_path_list(struct dev_registry *g, const char *iqn, const struct uuid *device,
                     struct dev_path ret_paths[DEV_TAGS_MAX], uint64_t *ret_generation);
