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
#include "base/bytes.h"
#include "base/tree.h"
#include "dev/dev.h"
#include "dev/loss_record.h"
#include "dev/range.h"
#include "rt/sync.h"
#include <stdatomic.h>

struct dev_witness;
struct dev_access;
struct dev_groups;
struct dev_paths;
struct dev_overwrite;

struct dev_registry {
    struct vol *v;
    struct dev_witness *witness;
    struct rt_group *work;   /* the tender of marks */
    struct rt_event marking; /* a device was marked */
    struct rt_lock change;
    void (*targets_changed)(void *arg); /* or NULL; called, and set, with the change lock */
    void *targets_arg;
    struct rt_mutex m;
    struct tree devices;          /* by (kind, name, lun) */
    struct tree targets;          /* by IQN */
    uint64_t generation;          /* the last one given to a target; under m */
    struct dev_access *discovery; /* its rules; under m */
    struct dev_groups *groups;    /* portal groups; under m */
    uint64_t path_generation;     /* goes up with each change of groups and paths; under m */
    struct list orphans;          /* holds whose deletion has failed; under m */
    bool adopts;                  /* there is a fiber that tries again; under m */
};

struct dev_key {
    enum dev_kind kind;
    uint32_t lun;
    const char *name;
};

/* See loss.c. */
struct dev_loss {
    struct rt_lock lock; /* one writer of the record at a time */
    _Atomic bool marked; /* the stored record covers whoever is attached */
    bool recorded;       /* there is a record in the volume; under lock */
    bool witnessed;
    uint64_t attaches; /* those the record does not name; like the record under the device's m */
    struct dev_loss_record record;
    _Atomic uint32_t owed;
    _Atomic uint32_t round; /* goes up when a debt is given back; written under the device's m */
    _Atomic bool unsaved;   /* debts have changed in memory, and a fiber is to write the record */
    _Atomic(_Atomic uint64_t *) last_batch; /* of the youngest change: in the witness, or here */
    _Atomic uint64_t own_batch;
    uint64_t seen_batch; /* the tender's */
    uint64_t seen_ns;
};

struct dev {
    struct tree_node node;
    struct dev_registry *registry;
    _Atomic uint32_t refs;
    _Atomic bool gone;
    _Atomic bool write_cache;
    _Atomic bool read_only;
    _Atomic bool ejected;
    _Atomic uint8_t sanitize;   /* enum dev_sanitize */
    _Atomic bool sanitize_ause; /* changes with it, under the registry's change */
    _Atomic uint32_t sanitize_progress;
    _Atomic bool sanitize_works; /* there is a fiber for it */
    _Atomic bool overwrites;     /* there is a record of that; as sanitize_ause */
    struct dev_overwrite
        *overwrite;            /* or NULL; as sanitize_ause, but the fiber's while there is one */
    _Atomic uint32_t prevents; /* clients that keep the medium in */
    _Atomic uint8_t saved_modes;
    _Atomic uint64_t saved_thresholds[DEV_THRESHOLDS];
    _Atomic uint64_t size_bytes;
    struct vol_file *file; /* NULL once deleted */
    struct dev_ranges ranges;
    struct rt_mutex m;
    struct list watches;
    uint32_t attached;
    struct dev_loss loss;
    _Atomic(struct dev_keep *) keep;
    struct bytes_writer reservation; /* as it was stored at the opening */
    unsigned reservation_pieces;     /* stored; under the reservation's range */
    bool is_hold;                    /* see hold.c */
    struct list orphan_link;
    struct dev_info id; /* name and the rest that never changes */
};

struct dev_target {
    struct tree_node node;
    uint64_t generation;
    struct dev_access *access; /* under the registry's m, as are paths, luns, ruled, confined */
    struct dev_paths *paths;
    struct dev_target_info info; /* luns: under the registry's m */
};

/* registry.c; the trees are looked at under registry->m */
struct dev_key dev_key_of(const struct dev_info *info);
struct dev *dev_tree_find(struct dev_registry *g, const struct dev_key *key);
/* NULL: none. At an opening, for it looks at all. */
struct dev *dev_tree_by_uuid(struct dev_registry *g, const struct uuid *uuid);
/* The first device at or after the key, or NULL. */
struct dev *dev_tree_from(struct dev_registry *g, const struct dev_key *key);
struct dev_target *dev_target_lookup(struct dev_registry *g, const char *iqn);
MUST int dev_new(struct dev_registry *g, const struct dev_info *info, struct dev **ret_dev) WAITS;
/* Puts device and file into the tree and tells the target; takes over the caller's reference. */
void dev_tree_add(struct dev_registry *g, struct dev *d);
void dev_tree_remove(struct dev_registry *g, struct dev *d);

/* access_store.c */
MUST int dev_access_load(struct dev_registry *g) WAITS;
/* access_seal.c. A key of the index, not owned. */
struct dev_stored_key {
    const void *bytes;
    size_t len;
};
/* Puts the record into the transaction, sealed if the volume is encrypted: 0, -E2BIG, -ENOMEM. */
MUST int dev_access_put(struct vol *v, struct vol_txn *t, const struct dev_stored_key *key,
                        const struct dev_access *a);
/* What dev_access_put() has stored under that key: as dev_access_decode(). */
MUST int dev_access_take(const struct vol *v, const struct dev_stored_key *key, const void *value,
                         size_t len, struct dev_access **ret_access);
/* The target goes, and its rules. */
MUST int dev_access_delete(struct dev_registry *g, struct vol_txn *t, const char *iqn);

/* paths_store.c */
MUST int dev_paths_load(struct dev_registry *g) WAITS;
/* The target goes, and the ways to it. */
MUST int dev_paths_delete(struct dev_registry *g, struct vol_txn *t, const char *iqn);

/* sanitize.c, change.c */
MUST int dev_sanitize_resume(struct dev *d);
/* The device is not to be deleted after all: if it is to be sanitized, it is. */
void dev_sanitize_go_on(struct dev *d);
/* overwrite: taken over, in any case. */
MUST int dev_sanitize_set(struct dev_registry *g, struct dev *d, enum dev_sanitize state, bool ause,
                          struct dev_overwrite *overwrite) WAITS;

/* watch.c */
void dev_notify(struct dev *d, enum dev_event event);

/* loss.c */
void dev_loss_init(struct dev *d);
void dev_loss_destroy(struct dev *d);
/* After a change has entered its batch, and before it is acknowledged without being durable. */
MUST int dev_loss_change(struct dev *d) WAITS;
/* With d->m: a client of that name is there from now on. */
void dev_loss_attached(struct dev *d, const char *nexus);
/* With the loss lock (or alone): the record as it is in memory enters the open batch; an empty one
 * is deleted. */
MUST int dev_loss_write(struct dev *d) WAITS;
/* Drops those that are neither active nor owed. */
void dev_loss_sweep(struct dev_loss_record *rec);
/* With d->m, as the next one. */
struct dev_loss_nexus *dev_loss_find(struct dev_loss_record *rec, const char *name);
/* 0, -ENOSPC, -ENOMEM. */
MUST int dev_loss_add(struct dev *d, struct dev_loss_nexus n, const char *name);
/* A fiber of the registry: unmarks what has long been quiet. */
void dev_loss_tender(void *arg) WAITS;
/* Nobody is attached any more: no record stays but for debts. */
void dev_loss_close(struct dev_registry *g) WAITS;

/* loss_tell.c */
/* With d->m: the client has not heard what it may have been told. True if it was told. */
bool dev_loss_give_back(struct dev *d, struct dev_watch *w);
void dev_loss_say_unheard(const struct dev *d, const struct dev_watch *w);

/* loss_open.c: devices are loaded. */
MUST int dev_loss_open(struct dev_registry *g) WAITS;
