/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the files of dev know of each other.
 *
 * OWNERSHIP. The registry holds one reference of each device in its tree; whoever looks one up gets
 * another. A deleted device leaves the tree at once and its memory goes with the last reference.
 * The file of a device is open from its creation to its deletion, and its pointer changes only
 * under the exclusive lock of the whole device, so that I/O, which holds a range, may use it.
 *
 * LOCKS. `change` makes changes of the registry one at a time, across their waits. `m` guards the
 * trees, `dev.m` the watchers of a device; both are short. Order: change, then a range lock, then
 * one of the mutexes.
 */
#pragma once
#include "base/tree.h"
#include "dev/dev.h"
#include "dev/range.h"
#include "rt/sync.h"
#include <stdatomic.h>

struct dev_registry {
    struct vol *v;
    struct rt_lock change;
    struct rt_mutex m;
    struct tree devices; /* by (kind, name, lun) */
    struct tree targets; /* by IQN */
    uint64_t generation; /* the last one given to a target; under m */
};

struct dev_key {
    enum dev_kind kind;
    uint32_t lun;
    const char *name;
};

struct dev {
    struct tree_node node;
    struct dev_registry *registry;
    _Atomic uint32_t refs;
    _Atomic bool gone;
    _Atomic bool write_cache;
    _Atomic uint64_t size_bytes;
    struct vol_file *file; /* NULL once deleted */
    struct dev_ranges ranges;
    struct rt_mutex m;
    struct list watches;
    uint32_t attached;
    struct dev_info id; /* name and the rest that never changes */
};

struct dev_target {
    struct tree_node node;
    uint64_t generation;
    struct dev_target_info info; /* luns: under the registry's m */
};

/* registry.c; the trees are looked at under registry->m */
struct dev_key dev_key_of(const struct dev_info *info);
struct dev *dev_tree_find(struct dev_registry *g, const struct dev_key *key);
/* The first device at or after the key, or NULL. */
struct dev *dev_tree_from(struct dev_registry *g, const struct dev_key *key);
struct dev_target *dev_target_lookup(struct dev_registry *g, const char *iqn);
MUST int dev_new(struct dev_registry *g, const struct dev_info *info, struct dev **ret_dev) WAITS;
/* Puts device and file into the tree and tells the target; takes over the caller's reference. */
void dev_tree_add(struct dev_registry *g, struct dev *d);
void dev_tree_remove(struct dev_registry *g, struct dev *d);

/* watch.c */
void dev_notify(struct dev *d, enum dev_event event);
