/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the files of scsi know of each other: targets, logical units, nexuses.
 *
 *     host ── targets ── target ── LUs (struct scsi_lu: one device, shared by all nexuses)
 *                           │        │
 *                           └─ nexuses ── views (struct scsi_itl: one nexus on one LU)
 *
 * OWNERSHIP. A view belongs to its nexus and so to one core; other cores reach only its atomic set
 * of unit attentions, by the LU's list of views, under the LU's mutex. A LU lives while a target's
 * table or a view refers to it; a view with tasks stays until the last of them has ended.
 *
 * TASK SET. One for all nexuses (TST = 0), in shards, so that nexuses on different cores do not
 * meet: a view always uses the same shard. ORDERED tasks are numbered; task.c has the rules.
 *
 * MUTEXES: target, LU, shard, bell; none is taken while another is held.
 */
#pragma once
#include "dev/paths.h"
#include "rt/rt.h"
#include "rt/sync.h"
#include "scsi/command.h"
#include "scsi/scsi.h"
#include <stdatomic.h>

#define SCSI_SHARDS 8
#define SCSI_SHARD_TASKS_MAX 2048 /* tasks in a shard; more get TASK SET FULL, or BUSY */
#define SCSI_WLUN_REPORT_LUNS 0xc101u
/* How long a busy nexus may overlook a change of the target's LUN list. */
#define SCSI_LUNS_RECHECK_NS 50000000ull

/* Unit attentions, the one reported first first (SPC-4 table 60, SAM-5 5.14). */
enum scsi_ua {
    SCSI_UA_POWER_ON,
    SCSI_UA_TARGET_RESET,
    SCSI_UA_LU_RESET,
    SCSI_UA_NEXUS_LOSS,
    SCSI_UA_COMMANDS_CLEARED,
    SCSI_UA_PROTOCOL_CLEARED, /* by the transport */
    SCSI_UA_LUNS_CHANGED,
    SCSI_UA_MODE_CHANGED,
    SCSI_UA_LOG_CHANGED,
    SCSI_UA_RESERVATIONS_PREEMPTED,
    SCSI_UA_RESERVATIONS_RELEASED,
    SCSI_UA_REGISTRATIONS_PREEMPTED,
    SCSI_UA_ACCESS_STATE_CHANGED,
    SCSI_UA_CAPACITY_CHANGED,
    SCSI_UA_MEDIUM_CHANGED,
    SCSI_UA_AVAILABLE_LOW, /* thresholds, in the order of their descriptors */
    SCSI_UA_USED_HIGH,
    SCSI_UA_PREVIOUS_BUSY, /* these three: UA_INTLCK_CTRL = 11b */
    SCSI_UA_PREVIOUS_FULL,
    SCSI_UA_PREVIOUS_CONFLICT,
    SCSI_UA_COUNT,
};

/* Bits of the control mode page (SPC-4 7.5.8) and the caching page's WCE, which can be changed. */
enum scsi_mode_bit {
    SCSI_MODE_D_SENSE = 1,
    SCSI_MODE_SWP = 2,
    SCSI_MODE_TAS = 4,
    SCSI_MODE_QERR = 8,        /* CHECK CONDITION aborts the task set */
    SCSI_MODE_QERR_NEXUS = 16, /* ... those of the same nexus alone; with QERR */
    SCSI_MODE_UA_STAYS = 32,   /* UA_INTLCK_CTRL 1xb: a reported unit attention stays */
    SCSI_MODE_UA_STATUS = 64,  /* ... 11b: and so do BUSY, TASK SET FULL and conflicts */
    SCSI_MODE_BITS = 127,      /* all of them: what a device saves */
};

enum scsi_task_state {
    SCSI_TASK_NEW,      /* in no task set */
    SCSI_TASK_ENTERED,  /* in the task set */
    SCSI_TASK_DONE,     /* has its result; too late to abort */
    SCSI_TASK_ABORTING, /* task management wants it gone */
};

struct scsi_shard {
    _Alignas(64) struct rt_mutex m;
    struct list tasks;
    uint32_t count;
};

/* Rings when a task has ended that someone waits for. */
struct scsi_bell {
    struct rt_mutex m;
    struct rt_waitq q;
    uint64_t rings;
};

/* What there are thresholds for, in the order of their descriptors in mode page 1Ch/02h. */
enum scsi_resource {
    SCSI_AVAILABLE,
    SCSI_USED,
    SCSI_RESOURCES,
};
#define SCSI_THRESHOLD_ENABLED (1ull << 32) /* a threshold: this and its count */
#define SCSI_THRESHOLD_BITS (SCSI_THRESHOLD_ENABLED | UINT32_MAX)
_Static_assert((int)SCSI_RESOURCES == DEV_THRESHOLDS, "all of them are saved");
#define SCSI_THRESHOLD_AT(resource) (16u + 8u * (unsigned)(resource))

struct scsi_space {
    uint32_t count[SCSI_RESOURCES]; /* in threshold sets */
    bool limited;
};

/* What log page 19h tells; see log.c. */
struct scsi_stats {
    _Atomic uint64_t reads;
    _Atomic uint64_t writes;
    _Atomic uint64_t blocks_received;
    _Atomic uint64_t blocks_sent;
    _Atomic uint64_t read_ns;
    _Atomic uint64_t write_ns;
    _Atomic uint64_t busy_ns;
};

struct scsi_lu {
    struct scsi_target *target; /* outlives its LUs */
    struct dev *dev;
    struct scsi_pr *pr; /* dev's */
    uint32_t lun;
    uint32_t block_bytes;
    uint32_t block_shift;
    uint32_t physical_shift; /* log2 of logical blocks in a physical one */
    bool removable;
    bool same_to_end; /* WRITE SAME of no blocks goes to the end: WSNZ = 0 */
    struct uuid uuid;
    _Atomic unsigned refs;
    _Atomic uint32_t mode;           /* enum scsi_mode_bit */
    _Atomic uint64_t reserved_by;    /* RESERVE(6): id of the nexus, 0 = nobody */
    _Atomic uint64_t mode_selecting; /* id of the nexus whose MODE SELECT changes dev's settings */
    _Atomic uint64_t loading;        /* ... whose START STOP UNIT puts the medium in */
    _Atomic uint64_t ordered_gen;    /* number of the youngest ORDERED task there ever was */
    _Atomic uint64_t ordered_oldest; /* of the oldest there is now, UINT64_MAX = none */
    struct list ordered;             /* under the target's bell */
    struct rt_mutex m;               /* guards views, past, zero, counted_ns, paths, wishes */
    struct list views;
    struct list wishes; /* see alua.c */
    size_t path_count;
    uint64_t path_generation;
    struct dev_path paths[DEV_TAGS_MAX];
    struct scsi_stats past; /* of views that are gone */
    struct scsi_stats zero; /* what had been counted when LOG SELECT began anew */
    _Atomic uint64_t thresholds[SCSI_RESOURCES];
    _Atomic bool reached[SCSI_RESOURCES];
    uint64_t counted_ns; /* since when */
    uint32_t shard_tasks_max;
    struct scsi_shard shards[SCSI_SHARDS];
};

/* One per connection that is told of lost writes; whatever is above them is told each time. */
#define SCSI_TOLD_WAYS_MAX 8u

struct scsi_itl {
    struct scsi_nexus *nexus;
    struct scsi_lu *lu;
    struct scsi_shard *shard;
    uint32_t lun;          /* as this nexus sees it */
    bool read_only;        /* for this nexus */
    _Atomic bool prevents; /* PREVENT ALLOW MEDIUM REMOVAL */
    struct list lu_link;
    _Atomic uint32_t ua;      /* a bit per enum scsi_ua */
    _Atomic bool is_resized;  /* to be told (scsi_nexus_news) */
    _Atomic uint32_t refuses; /* commands that a persistent reservation of others does not let in: a
                                 bit per enum scsi_access */
    _Atomic uint8_t access;   /* enum dev_path_state of its port */
    struct list pr_link;
    unsigned tasks;
    struct scsi_copies *copies; /* made by the first EXTENDED COPY */
    uint64_t busy_since_ns;
    struct scsi_stats stats;
    struct list gone_link; /* no longer in the nexus' table: freed with its last task */
    bool gone;
    bool attached;
    struct dev_watch watch;
    unsigned told_count; /* on how many ways the initiator is told of lost writes, and which */
    const void *told_ways[SCSI_TOLD_WAYS_MAX];
};

/* Immutable once published: LUs in rising order of LUN. */
struct scsi_table {
    uint64_t generation;
    size_t count;
    struct scsi_lu *lus[];
};

struct scsi_target {
    struct list link; /* host's */
    struct scsi_host *host;
    unsigned refs; /* under the host's mutex */
    char iqn[DEV_IQN_MAX + 1];
    struct uuid uuid;
    struct rt_mutex m; /* guards table, nexuses */
    struct scsi_table *table;
    struct list nexuses;
    unsigned sessions;
    struct scsi_bell bell;
};

struct scsi_nexus {
    struct scsi_target *target;
    struct list link;
    uint64_t id;
    struct scsi_nexus_options opt;
    char initiator[DEV_IQN_MAX + 1];
    char address[128];
    char identity[DEV_NEXUS_MAX + 1]; /* with the ISID, as in a TransportID (SPC-4 7.6.4.6) */
    char name[DEV_NEXUS_MAX + 1];     /* and with the portal group, if not the default one */
    uint64_t generation;              /* of the target's LUN list, as in itls */
    uint64_t checked_ns;
    struct scsi_itl **itls; /* in rising order of LUN */
    size_t itl_count;
    struct list gone_itls;
    struct rt_group *copies; /* in the background; made by the first one */
    unsigned copying;        /* how many there are */
    unsigned tasks;          /* begun and not ended */
    bool luns_changed;       /* to be told (scsi_nexus_news) */
    bool dropping;
    bool closing; /* scsi_nexus_destroy() waits for its tasks */
};

struct scsi_host {
    struct dev_registry *registry;
    struct scsi_rods *rods;                                            /* see rod.h */
    bool (*admits)(void *arg, const char *iqn, const char *initiator); /* or NULL */
    void *admits_arg;
    _Atomic unsigned copying; /* copies in the background, of all nexuses */
    struct rt_mutex m;
    struct list targets;
    _Atomic uint64_t nexus_ids;
    _Atomic uint64_t abort_ids;
};

/* target.c */
/* Builds the target's table anew if the registry has moved on; ret_table's LUs are each one
 * reference more. */
MUST int scsi_target_table(struct scsi_target *t, uint64_t generation,
                           struct scsi_table **ret_copy);
void scsi_table_free(struct scsi_table *table); /* gives the references back; accepts NULL */
/* The relative identifiers of its target ports; how many. */
size_t scsi_target_ports(const struct scsi_target *t, uint16_t ret_ports[DEV_TAGS_MAX]);

/* lu.c */
MUST int scsi_lu_create(struct scsi_target *t, uint32_t lun, struct dev *d,
                        struct scsi_lu **ret_lu);
struct scsi_lu *scsi_lu_ref(struct scsi_lu *lu);
void scsi_lu_unref(struct scsi_lu *lu); /* accepts NULL */
/* Neither the device nor SWP protects it; else the task has failed. */
bool scsi_lu_writable(struct scsi_task *t);
static inline uint32_t scsi_lu_mode(const struct scsi_lu *lu)
{
    return atomic_load_explicit(&lu->mode, memory_order_relaxed);
}
static inline uint64_t scsi_lu_blocks(const struct scsi_lu *lu)
{
    return dev_size(lu->dev) >> lu->block_shift;
}
/* Establishes a unit attention for every nexus but that one (NULL: for all). */
void scsi_lu_attention(struct scsi_lu *lu, enum scsi_ua ua, const struct scsi_nexus *except);
/* A reset of the unit (SAM-5 6.3.2, 6.3.3), but for its tasks. */
void scsi_lu_reset(struct scsi_lu *lu, enum scsi_ua ua);
MUST int scsi_itl_create(struct scsi_nexus *n, struct scsi_lu *lu, uint32_t lun,
                         struct scsi_itl **ret_itl);
void scsi_itl_destroy(struct scsi_itl *itl);
/* Whether this nexus keeps the medium in (SPC-4 6.17). */
void scsi_itl_prevent(struct scsi_itl *itl, bool prevents);

/* alua.c */
/* The view comes to be among the unit's views. */
void scsi_alua_attach(struct scsi_itl *itl);
/* The states may have changed: the nexuses are told if they have. */
void scsi_alua_look(struct scsi_lu *lu);
/* The unit's target port groups, as of now; how many. */
size_t scsi_alua_paths(struct scsi_lu *lu, struct dev_path ret_paths[DEV_TAGS_MAX]);
struct scsi_sense;
/* Why a unit is not accessible in that state; false when it is. */
bool scsi_alua_sense(unsigned access, struct scsi_sense *ret_sense);
bool scsi_alua_lets(unsigned access, const struct scsi_command *c);

/* nexus.c */
struct scsi_pr_nexus;
/* Looks whether the LUN list has changed, and takes the new one. */
void scsi_nexus_refresh(struct scsi_nexus *n);
struct scsi_itl *scsi_nexus_find(const struct scsi_nexus *n, uint32_t lun);
/* Whether the target, another one perhaps, shows that unit of its table to the nexus' initiator:
 * 0, -ENOENT, -ENOMEM. */
MUST int scsi_nexus_shown(const struct scsi_nexus *n, const struct scsi_target *t,
                          const struct scsi_table *table, const struct scsi_lu *lu,
                          bool *ret_read_only);
/* The LUN of an 8-byte LUN structure, or UINT32_MAX for a form that no logical unit here has. */
uint32_t scsi_lun_decode(uint64_t lun_raw);
uint64_t scsi_lun_encode(uint32_t lun);

/* attention.c */
struct scsi_sense;
/* The first pending unit attention as sense; false when there is none. clear: it is taken out. */
bool scsi_attention_next(struct scsi_itl *itl, bool clear, struct scsi_sense *ret_sense);
void scsi_attention_sense(enum scsi_ua ua, struct scsi_sense *ret_sense);
/* The task ends with a status that UA_INTLCK_CTRL may make a unit attention of (SPC-4 7.5.8). */
void scsi_attention_status(const struct scsi_task *t);
unsigned scsi_attention_count(const struct scsi_itl *itl);
static inline void scsi_attention_add(struct scsi_itl *itl, enum scsi_ua ua)
{
    atomic_fetch_or(&itl->ua, 1u << ua);
}

/* taskset.c */
void scsi_bell_init(struct scsi_bell *b);
void scsi_bell_destroy(struct scsi_bell *b);
void scsi_bell_ring(struct scsi_bell *b);
uint64_t scsi_bell_rings(struct scsi_bell *b);
/* Waits until it has rung since it stood at rings: 0 or -ECANCELED. */
MUST int scsi_bell_wait(struct scsi_bell *b, uint64_t rings) WAITS;
/* False: the set is full, and the task is not in it. */
MUST bool scsi_taskset_enter(struct scsi_task *t);
void scsi_taskset_leave(struct scsi_task *t);
void scsi_taskset_turn(struct scsi_task *t) WAITS;
/* True when nobody is to be waited for. */
bool scsi_taskset_is_free(const struct scsi_task *t);
/* Which tasks a management function is about: all of the LU, or of one nexus, or of one tag of it.
 */
struct scsi_taskset_filter {
    uint64_t nexus; /* its id, which is never used again; 0: all */
    bool by_tag;
    uint64_t tag;
    bool whole; /* a function over whole task sets: the task is told (t->by_set) */
    bool reset; /* of a reset or a preemption, which have unit attentions of their own */
    const struct scsi_task *except;
    const struct scsi_pr_nexus *guests_of; /* only copies that this one has sent to another unit */
};
/* Marks the matching tasks as aborted on behalf of `by`; how many there were. */
unsigned scsi_taskset_abort(struct scsi_lu *lu, const struct scsi_taskset_filter *f,
                            const struct scsi_nexus *by);
unsigned scsi_taskset_count(struct scsi_lu *lu, const struct scsi_taskset_filter *f);
/* Waits until no task of the LU that matches and that someone awaits is left: 0 or -ECANCELED. */
MUST int scsi_taskset_wait(struct scsi_lu *lu, const struct scsi_taskset_filter *f) WAITS;

/* atomic.c */
/* How many blocks a WRITE ATOMIC may have. */
uint32_t scsi_atomic_blocks(const struct scsi_lu *lu);

/* sanitize.c */
struct scsi_sense;
/* Why a unit that is being sanitized, or has failed to be, does nothing else. */
void scsi_sanitize_sense(const struct scsi_lu *lu, struct scsi_sense *ret_sense);

/* threshold.c */
unsigned scsi_threshold_exponent(const struct scsi_lu *lu);
void scsi_threshold_counts(const struct scsi_lu *lu, struct scsi_space *ret_space);
/* Tells all nexuses when one has been reached. */
void scsi_threshold_check(struct scsi_lu *lu);
void scsi_threshold_set(struct scsi_lu *lu, enum scsi_resource resource, uint64_t threshold);

/* log.c */
/* The task has entered the task set; it is about to leave it. */
void scsi_stats_begin(struct scsi_task *t);
void scsi_stats_end(struct scsi_task *t);
void scsi_stats_merge(struct scsi_stats *to, const struct scsi_stats *from);

/* reply.c */
/* A zeroed buffer for data-in; NULL when out of memory, and then the task has failed with BUSY. */
struct rt_buf *scsi_reply_begin(struct scsi_task *t, size_t cap);
/* Sends its first len bytes, cut to the allocation length and to edtl; gives the buffer back. */
void scsi_reply_end(struct scsi_task *t, struct rt_buf *b, size_t len);
/* Cuts data_in, which holds in_total bytes or fewer, to edtl. */
uint64_t scsi_task_in_limit(const struct scsi_task *t);
/* Copies the parameter list, at most cap bytes of it; the length. */
size_t scsi_parameters(const struct scsi_task *t, uint8_t *dst, size_t cap);
