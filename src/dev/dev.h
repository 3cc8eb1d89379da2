/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Block devices: the registry of NBD devices, iSCSI targets and their LUNs, and the only block API
 * that protocols see.
 *
 * A device is an inode of the volume plus a record: name or (IQN, LUN), UUID, settings. The
 * registry is kept in RAM and in the volume; each change is one transaction, followed by a flush,
 * so that what a command reports as done survives.
 *
 *     r = dev_registry_open(v, &reg);
 *     r = dev_create(reg, &(struct dev_create_options){.name = "disk", .size_bytes = 10ull << 30},
 * &info); r = dev_find_nbd(reg, "disk", &d);           // a reference r = dev_attach(d, "nbd
 * 127.0.0.1:4242", &watch); r = dev_write(d, off, &chain, DEV_FUA, NULL); dev_detach(d, &watch);
 *     dev_unref(d);
 *
 * Overlapping I/O on one device is ordered by range locks, in the order of arrival; everything else
 * runs in parallel.
 */
#pragma once
#include "base/attr.h"
#include "base/list.h"
#include "base/uuid.h"
#include "vol/vol.h"
#include <stdbool.h>
#include <stdint.h>

#define DEV_NAME_MAX 255
#define DEV_IQN_MAX 223 /* RFC 7143 §4.2.7.1 */
#define DEV_LUN_MAX 16383
#define DEV_MOVED_MAX 127
#define DEV_IO_MAX (32u << 20)

#define DEV_THRESHOLDS 2

enum dev_sanitize {
    DEV_SANITIZED_NOT, /* or it is over, and went well */
    DEV_SANITIZING,
    DEV_SANITIZE_FAILED,
};

enum dev_kind {
    DEV_NBD,
    DEV_ISCSI,
};

struct dev_info {
    enum dev_kind kind;
    char name[DEV_NAME_MAX + 1]; /* NBD: the export; iSCSI: the target's IQN */
    uint32_t lun;                /* iSCSI */
    struct uuid uuid;
    uint64_t inode;
    uint64_t size_bytes;
    uint64_t created_ns;                       /* wall clock */
    bool write_cache;                          /* off: each write is answered when it is durable */
    bool read_only;                            /* changes of its data are refused */
    bool removable;                            /* its medium can be taken out */
    bool ejected;                              /* and has been: no I/O */
    bool same_to_end;                          /* WRITE SAME of 0 blocks: to the end */
    enum dev_sanitize sanitize;                /* not _NOT: no I/O */
    bool sanitize_ause;                        /* a failure may be left without sanitizing again */
    bool overwrite;                            /* sanitizing writes a pattern in the end */
    uint8_t saved_modes;                       /* of SCSI mode pages, kept for scsi */
    uint64_t saved_thresholds[DEV_THRESHOLDS]; /* as these are; 0: none */
    uint32_t logical_block_bytes;              /* 512 or 4096 */
    uint32_t physical_block_bytes;             /* 512 to 4096, not less than the logical */
    uint32_t attached;                         /* clients at this moment */
};

struct dev;
struct dev_registry;

/*
 * witness: a file of the cache folder that outlives a killed process, by which the next opening
 * knows whether unflushed writes were lost; NULL: it has to fear so.
 */
MUST int dev_registry_open(struct vol *v, const char *witness, struct dev_registry **ret_registry)
    WAITS;
/* Accepts NULL; no references are left. */
void dev_registry_close(struct dev_registry *g) WAITS;

/* Names: [A-Za-z0-9._-]{1,255}, not "." or "..". 0 or -EINVAL with one line that says why. */
MUST int dev_name_check(const char *name, char *ret_why, size_t why_cap);
/*
 * RFC 7143 §4.2.7, RFC 3720 §3.2.6.3: iqn., eui., naa. 0; 1 = taken with the warning in ret_why (an
 * iqn. date without a month); -EINVAL with the reason. Gives the name in lower case (stringprep of
 * ASCII).
 */
MUST int dev_iqn_check(const char *iqn, char ret_name[DEV_IQN_MAX + 1], char *ret_why,
                       size_t why_cap);

struct dev_create_options {
    enum dev_kind kind;
    const char *name; /* the export, or the IQN of a target that exists */
    uint32_t lun;
    uint64_t size_bytes; /* a multiple of the logical block, at most VOL_SIZE_MAX, not 0 */
    bool write_cache_off;
    bool read_only;
    bool removable;                /* iSCSI, as is the next */
    bool same_to_end;              /* see dev_info */
    uint32_t logical_block_bytes;  /* 512, 4096; 0 = 512 */
    uint32_t physical_block_bytes; /* 512, 4096; 0 = 4096 */
};
/*
 * 0, -EEXIST, -EINVAL, -ENOENT (no such target), and what the volume says. Durable when it returns.
 */
MUST int dev_create(struct dev_registry *g, const struct dev_create_options *opt,
                    struct dev_info *ret_info) WAITS;
/* Grows, or with shrink also shrinks. Watchers are told (DEV_EVENT_RESIZED). */
MUST int dev_resize(struct dev_registry *g, struct dev *d, uint64_t size_bytes, bool shrink) WAITS;
MUST int dev_write_cache_set(struct dev_registry *g, struct dev *d, bool on) WAITS;
/* What is under way when it is switched on may still change the data. */
MUST int dev_read_only_set(struct dev_registry *g, struct dev *d, bool on) WAITS;
/*
 * Takes the medium of a removable device out, or puts it in; it stays so over a restart. 0,
 * -EINVAL (not removable), ERR_IN_USE when a client has prevented removal (dev_prevent()), unless
 * force. Watchers are told (DEV_EVENT_MEDIUM). While it is out, I/O gives -ENOMEDIUM.
 */
MUST int dev_medium_set(struct dev_registry *g, struct dev *d, bool in, bool force) WAITS;
/* One more client that prevents removal, or one less. */
void dev_prevent(struct dev *d, bool more);
bool dev_is_prevented(const struct dev *d);
bool dev_is_ejected(const struct dev *d);
/*
 * Removes for good what the device ever held (sanitize.c): begins, and goes on by itself, over a
 * restart as well. I/O gives -EINPROGRESS until it has ended well. 0; ERR_IN_USE: it is under way;
 * -EPERM: it may not be left after a failure, for the one before that has failed may not either.
 */
struct dev_sanitize_options {
    bool ause;
    bool invert;            /* from pass to pass; the last one is as the pattern is */
    uint8_t passes;         /* of overwriting (overwrite.c); 0: none, and the device is a hole */
    uint16_t pattern_bytes; /* 1 to the logical block's */
    const uint8_t *pattern; /* again and again in each logical block; copied */
};
MUST int dev_sanitize_start(struct dev_registry *g, struct dev *d,
                            const struct dev_sanitize_options *opt) WAITS;
/* Until it has ended, well or not: 0, -ECANCELED. */
MUST int dev_sanitize_wait(struct dev *d) WAITS;
/* After a failure: 0, or -EPERM, when that was not allowed from the beginning; ERR_IN_USE while it
 * is under way. */
MUST int dev_sanitize_exit(struct dev_registry *g, struct dev *d) WAITS;
/* progress: of 65536; may be NULL. */
enum dev_sanitize dev_sanitize_state(const struct dev *d, uint32_t *ret_progress);
MUST int dev_saved_modes_set(struct dev_registry *g, struct dev *d, uint8_t modes) WAITS;
MUST int dev_saved_threshold_set(struct dev_registry *g, struct dev *d, unsigned which,
                                 uint64_t threshold) WAITS;
/*
 * ERR_IN_USE while attached, unless force: then watchers are told (DEV_EVENT_REMOVED) and I/O gives
 * -ENODEV from then on.
 */
MUST int dev_delete(struct dev_registry *g, struct dev *d, bool force) WAITS;

/* iSCSI targets: an IQN with a UUID and LUNs. */
struct dev_target_info {
    char iqn[DEV_IQN_MAX + 1];
    struct uuid uuid;
    uint64_t created_ns;
    uint32_t luns;
    bool ruled;                       /* there are access rules (dev/access.h) */
    bool confined;                    /* reached through some portal groups only (dev/paths.h) */
    bool moved_for_good;              /* see moved_to */
    char moved_to[DEV_MOVED_MAX + 1]; /* where initiators are sent: ADDRESS[:PORT]; "" = nowhere */
};
MUST int dev_target_create(struct dev_registry *g, const char *iqn,
                           struct dev_target_info *ret_info) WAITS;
/* Target and first LUN in one transaction. */
MUST int dev_target_create_with_lun(struct dev_registry *g, const struct dev_create_options *lun,
                                    struct dev_info *ret_info) WAITS;
/* Where its initiators are to go ("": nowhere), at most DEV_MOVED_MAX bytes; 0, -ENOENT, -EINVAL.
 */
MUST int dev_target_move(struct dev_registry *g, const char *iqn, const char *to, bool for_good)
    WAITS;
/* With its LUNs, in one transaction; ERR_IN_USE as dev_delete(). */
MUST int dev_target_delete(struct dev_registry *g, const char *iqn, bool force) WAITS;
/*
 * fn is called after each creation and deletion of a target, on whatever core the change happens,
 * and must not wait; NULL: nobody is. One at a time. When it returns, the one before is not called
 * any more.
 */
void dev_targets_watch(struct dev_registry *g, void (*fn)(void *arg), void *arg) WAITS;
MUST int dev_target_find(struct dev_registry *g, const char *iqn, struct dev_target_info *ret_info);
/* Copies at most max into ret, in order of name from after `after` ("" = first) on; the number. */
size_t dev_target_list(struct dev_registry *g, const char *after, struct dev_target_info *ret,
                       size_t max);
/*
 * Goes up with every change of the target's LUN list: REPORTED LUNS DATA HAS CHANGED is due when it
 * has moved. 0: no such target.
 */
uint64_t dev_target_generation(struct dev_registry *g, const char *iqn);

/*
 * A reference to the device: 0 or -ENOENT. dev_find_nbd("") gives the only NBD device if there is
 * exactly one.
 */
MUST int dev_find_nbd(struct dev_registry *g, const char *name, struct dev **ret_dev);
MUST int dev_find_lun(struct dev_registry *g, const char *iqn, uint32_t lun, struct dev **ret_dev);
struct dev *dev_ref(struct dev *d);
void dev_unref(struct dev *d); /* accepts NULL */
/*
 * Copies at most max infos into ret, in order of (kind, name, lun), after the given one (NULL =
 * first); the number.
 */
size_t dev_list(struct dev_registry *g, enum dev_kind kind, const struct dev_info *after,
                struct dev_info *ret, size_t max);
/* LUNs of one target in rising order. */
size_t dev_lun_list(struct dev_registry *g, const char *iqn, uint32_t *ret_luns, size_t max);
void dev_info(struct dev *d, struct dev_info *ret_info);
uint64_t dev_size(const struct dev *d);
bool dev_is_gone(const struct dev *d);
bool dev_is_read_only(const struct dev *d);
struct vol *dev_volume(const struct dev *d);
/* What is stored of it is sealed, each object with a key of its own (I10). */
bool dev_is_encrypted(const struct dev *d);
/* What all devices together use of what they share. */
struct dev_usage {
    uint64_t used_bytes;
    uint64_t max_bytes; /* 0: no limit */
};
void dev_usage(const struct dev *d, struct dev_usage *ret_usage);

enum dev_event {
    DEV_EVENT_RESIZED,
    DEV_EVENT_REMOVED,
    DEV_EVENT_SETTINGS, /* write cache, read-only, saved modes */
    DEV_EVENT_MEDIUM,   /* is out, or in */
};
/*
 * Who is attached; told of events. fn is called on whatever core the change happens on, must not
 * wait, and not detach.
 */
struct dev_watch {
    struct list link;
    void (*fn)(struct dev_watch *w, enum dev_event event);
    char who[128];
    const char *nexus;
    uint32_t asked;   /* loss_tell.c's, as is the next: the round of debts it was asked in */
    const char *debt; /* whose debt it is told of, and has not heard; or NULL */
};
/*
 * fn and link's memory are the caller's. nexus: who it is, also after a restart, at most
 * DEV_NEXUS_MAX bytes; the same for all clients without an identity (""). It stays the caller's.
 * 0 or -ENODEV.
 */
#define DEV_NEXUS_MAX 255
MUST int dev_attach(struct dev *d, const char *who, const char *nexus, struct dev_watch *w);
void dev_detach(struct dev *d, struct dev_watch *w);
/*
 * To be asked before each flush and each durable write, which is not done when it gives
 * ERR_CACHE_LOST: writes of this client that were acknowledged and not flushed died with an earlier
 * server. It is given once, and then the client is owed no more as soon as dev_loss_heard() says
 * that it has the answer. dev_loss_unheard(), and dev_detach(), say that it may not have it: then
 * it is given again, to whoever is owed it. Both do nothing to who is not being told.
 */
MUST int dev_check_loss(struct dev *d, struct dev_watch *w);
void dev_loss_heard(struct dev *d, struct dev_watch *w);
void dev_loss_unheard(struct dev *d, struct dev_watch *w);
/* The who of each that is attached, for status: copies at most max. */
size_t dev_attached(struct dev *d, char (*ret_who)[128], size_t max);

/*
 * Persistent reservations: a value that scsi makes and dev keeps, at most DEV_RESERVATIONS_MAX
 * bytes, of which the first is its version. What was stored when the registry was opened: its
 * length, 0 for nothing; it lives as long as the device.
 */
#define DEV_RESERVATIONS_MAX (960u << 10)
size_t dev_reservations_loaded(const struct dev *d, const void **ret_value);
/*
 * Puts the value in the place of what is stored (len 0: nothing) and flushes: 0, -ECANCELED,
 * -ENODEV, -ENOMEM, and what the volume says. ret_entered: it stands in a batch, and so will be
 * stored with it also when the flush failed. One call at a time for a device.
 */
MUST int dev_reservations_store(struct dev *d, const void *value, size_t len, bool *ret_entered)
    WAITS;

/*
 * Something of a protocol that is to live as long as the program knows the device: set once, freed
 * with the device's memory. dev_keep() gives what is kept, which is k unless another came first.
 */
struct dev_keep {
    void (*free)(struct dev_keep *k);
};
struct dev_keep *dev_kept(struct dev *d); /* NULL: nothing */
struct dev_keep *dev_keep(struct dev *d, struct dev_keep *k);

enum dev_flags {
    DEV_FUA = 1,     /* durable before the call returns */
    DEV_NO_HOLE = 2, /* zeroes: stay allocated */
    DEV_ANCHOR = 4,  /* zeroes: SBC anchored */
    DEV_ATOMIC = 8,  /* write: vol_write_atomic(), at most dev_atomic_max() bytes */
};

/*
 * I/O. off and len in bytes, inside the device (-EINVAL otherwise), len 1 to DEV_IO_MAX for read
 * and write, any for the rest. Results as the vol_ function of the same name; -ENODEV when the
 * device was deleted, ERR_READ_ONLY for a change of a device that is read-only. With the device's
 * write cache off, every change is durable before it returns.
 */
MUST int dev_read(struct dev *d, uint64_t off, uint32_t len, struct rt_chain *ret_data) WAITS;
MUST int dev_write(struct dev *d, uint64_t off, const struct rt_chain *data, unsigned flags,
                   struct vol_space *space) WAITS;
uint64_t dev_atomic_max(const struct dev *d);
MUST int dev_zero(struct dev *d, uint64_t off, uint64_t len, unsigned flags) WAITS;
MUST int dev_discard(struct dev *d, uint64_t off, uint64_t len, unsigned flags) WAITS;
/*
 * Makes len bytes of dst those of src (vol_copy), both of one registry and not overlapping: without
 * moving what lies in whole blocks of the store. Done in steps, each of which holds both ranges;
 * after an error the first *ret_done bytes are copied. flags: DEV_FUA. Results as dev_read() and
 * dev_write().
 */
struct dev_copy {
    struct dev *src;
    uint64_t src_off;
    struct dev *dst;
    uint64_t dst_off;
    uint64_t len;
};
MUST int dev_copy(const struct dev_copy *copy, unsigned flags, uint64_t *ret_done) WAITS;
/*
 * Data kept apart from all devices, for who copies in two steps: a device without a name, for
 * dev_copy() alone. What it takes out of devices it refers to, as any copy; what it holds counts as
 * used. Nothing of it is durable: it goes with the registry, and what a crash leaves of it goes at
 * the next opening. 0, -EINVAL, -ENOMEM, -ECANCELED, and what the volume says.
 */
MUST int dev_hold_create(struct dev_registry *g, uint64_t size_bytes, struct dev **ret_dev) WAITS;
/*
 * Copies pieces of a device into a hold, all as they are at one moment: changes of any of them wait
 * until the last is copied. may_go_on is asked in between, and ends it with -ECANCELED. Results as
 * dev_copy().
 */
struct dev_piece {
    uint64_t src_off;
    uint64_t hold_off;
    uint64_t len;
};
struct dev_fill {
    struct dev *src;
    struct dev *hold;
    const struct dev_piece *pieces; /* of the source they do not overlap */
    size_t count;
    bool (*may_go_on)(void *arg);
    void *arg;
};
MUST int dev_hold_fill(const struct dev_fill *fill) WAITS;
/* Nobody copies to it or from it any more; its space comes back in the background. Accepts NULL. */
void dev_hold_destroy(struct dev *d) WAITS;
MUST int dev_flush(struct dev *d) WAITS;
MUST int dev_extents(struct dev *d, uint64_t off, uint64_t len, struct vol_extent *ret_extents,
                     size_t max) WAITS;
/*
 * The reads that neither memory nor an earlier request keeps waiting (vol_read_ready): result is 0
 * and data is there, or else -EAGAIN, and dev_read() tells. Does not wait.
 */
void dev_read_ready(struct dev *d, struct vol_ready *reads, size_t count);
/* Reads of at most VOL_HINTS_MAX of these offsets follow at once (vol_hint_reads). No wait. */
void dev_hint_reads(struct dev *d, const uint64_t *offs, size_t count);
MUST int dev_prefetch(struct dev *d, uint64_t off, uint64_t len) WAITS;

/*
 * For commands that read, compare and write as one (COMPARE AND WRITE, ORWRITE): holds the range
 * exclusively between lock and unlock. The _locked calls are for the holder.
 */
struct dev_range {
    struct list link;
    uint64_t first_page;
    uint64_t last_page;
    bool exclusive;
    uint32_t blockers; /* earlier ranges that it waits for; these three are dev's own */
    uint64_t arrival;
    void *priv;
};
MUST int dev_range_lock(struct dev *d, struct dev_range *ret_range, uint64_t off, uint64_t len,
                        bool exclusive) WAITS;
/* Several that do not conflict with each other, at once (dev/range.h), with their pages and kinds
 * as given; end: of the bytes that have to be there. As dev_range_lock(). */
MUST int dev_range_lock_all(struct dev *d, struct dev_range *ranges, size_t count, uint64_t end)
    WAITS;
/* Exclusively; space (or NULL) is given back, and is empty then, if the range is to be waited for.
 */
MUST int dev_range_lock_spaced(struct dev *d, struct dev_range *ret_range, uint64_t off,
                               uint64_t len, struct vol_space *space) WAITS;
void dev_range_unlock(struct dev *d, struct dev_range *range);
MUST int dev_read_locked(struct dev *d, uint64_t off, uint32_t len, struct rt_chain *ret_data)
    WAITS;
MUST int dev_write_locked(struct dev *d, uint64_t off, const struct rt_chain *data,
                          struct vol_space *space) WAITS;
