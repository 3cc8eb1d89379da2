/* SPDX-License-Identifier: Apache-2.0 */
/*
 * SCSI over dev: targets, I_T nexuses, tasks. The transport (iscsi/) makes a nexus at login, a task
 * for each command, and carries its data; what a command means is decided here, by SAM-5, SPC-4 and
 * SBC-3.
 *
 *     r = scsi_target_get(host, "iqn.2024.net.zerofs:storage", &tgt);
 *     r = scsi_nexus_create(tgt, &(struct scsi_nexus_options){...}, &nx);
 *
 *     struct scsi_task t;                       // on the request fiber's stack
 *     scsi_task_init(&t, nx, lun, cdb, cdb_len);
 *     t.attr, t.tag, t.transport_read, t.transport_write, t.edtl = ...
 *     scsi_task_begin(&t);                      // parses; may already have ended it (t.ended)
 *     scsi_task_turn(&t);                       // WAITS, before space is taken: SAM ordering
 *     ... the transport takes t.space if t.takes_space, and gathers t.data_out (t.out_wanted bytes)
 * ... scsi_task_run(&t);                        // WAITS; t.status, t.sense, t.data_in
 *     ... the transport sends, unless t.aborted ...
 *     scsi_task_end(&t);
 *
 * Task set: every task is in its logical unit's task set from begin to end. Task management marks
 * tasks as aborted; an aborted task runs to its end, its result is not sent, and the management
 * function answers when the affected tasks have ended.
 *
 * THREADS. All calls for one nexus, its tasks included, come from the core the nexus was created
 * on. Different nexuses may live on different cores.
 */
#pragma once
#include "base/attr.h"
#include "base/list.h"
#include "dev/dev.h"
#include "rt/buf.h"
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct scsi_host;   /* all targets of the program */
struct scsi_target; /* one IQN, its target port, its logical units */
struct scsi_nexus;
struct scsi_lu;
struct scsi_itl; /* a nexus' view of one logical unit */
struct scsi_command;

#define SCSI_CDB_MAX 260
#define SCSI_SENSE_MAX 252

enum scsi_status { /* SAM-5 5.3.1 */
    SCSI_GOOD = 0x00,
    SCSI_CHECK_CONDITION = 0x02,
    SCSI_CONDITION_MET = 0x04,
    SCSI_BUSY = 0x08,
    SCSI_RESERVATION_CONFLICT = 0x18,
    SCSI_TASK_SET_FULL = 0x28,
    SCSI_TASK_ABORTED = 0x40,
};

enum scsi_attr { /* as iSCSI encodes it, RFC 7143 §11.3.1.2 */
    SCSI_ATTR_UNTAGGED = 0,
    SCSI_ATTR_SIMPLE = 1,
    SCSI_ATTR_ORDERED = 2,
    SCSI_ATTR_HEAD = 3,
    SCSI_ATTR_ACA = 4,
};

enum scsi_dir {
    SCSI_DIR_NONE,
    SCSI_DIR_IN,  /* to the initiator */
    SCSI_DIR_OUT, /* from the initiator */
};

MUST int scsi_host_create(struct dev_registry *reg, struct scsi_host **ret_host);
void scsi_host_destroy(struct scsi_host *h) WAITS; /* no nexus is left; accepts NULL */
/* Who says, besides dev's rules, whether the initiator may log in to that target. It must not wait.
 * To be called before there is a nexus. */
void scsi_host_guard(struct scsi_host *h,
                     bool (*admits)(void *arg, const char *iqn, const char *initiator), void *arg);
/* The target of that IQN, loaded from the registry on first use; a reference. 0 or -ENOENT. */
MUST int scsi_target_get(struct scsi_host *h, const char *iqn, struct scsi_target **ret_target)
    WAITS;
void scsi_target_put(struct scsi_target *t); /* accepts NULL */

struct scsi_nexus_options {
    const char *initiator_name; /* InitiatorName */
    const char *address;        /* where it comes from, as dev_access_allows() takes it; or NULL */
    uint8_t isid[6];
    uint16_t tpgt;          /* target portal group tag */
    uint16_t relative_port; /* relative target port identifier */
    /*
     * The nexus is to be dropped: target cold reset, target deleted. Called on whatever core that
     * happens on, perhaps from within a call for this nexus. Must not wait, nor call scsi back.
     */
    void (*dropped)(void *arg);
    /* There are news for scsi_nexus_news(). Called as dropped is; NULL: not told. */
    void (*news)(void *arg);
    void *arg;
};
/* 0, -ENOMEM. It starts with UNIT ATTENTION POWER ON OCCURRED (29h/00h) on every LU. */
MUST int scsi_nexus_create(struct scsi_target *t, const struct scsi_nexus_options *opt,
                           struct scsi_nexus **ret_nexus);
/* I_T nexus loss (SAM-5 6.3.4): aborts its tasks, waits for their end, releases RESERVE(6), frees.
 */
void scsi_nexus_destroy(struct scsi_nexus *n) WAITS;
/* I_T nexus loss while the nexus lives on (session continuation): aborts what is under way. */
void scsi_nexus_abort_all(struct scsi_nexus *n) WAITS;

/*
 * What an initiator may be told without having asked: the list of LUNs, or the capacity of one, has
 * changed (RFC 7143 §11.9.1, event 0). Looks whether the list has. True: LUN and sense data of one
 * event; to be called again. The unit attention is reported all the same.
 */
bool scsi_nexus_news(struct scsi_nexus *n, uint64_t *ret_lun_raw, uint8_t ret_sense[SCSI_SENSE_MAX],
                     size_t *ret_len);

struct scsi_task {
    /* Filled by scsi_task_init(); attr to edtl by the transport after it. */
    struct scsi_nexus *nexus;
    uint64_t lun_raw; /* SAM-5 4.7, as 8 bytes big-endian */
    uint8_t cdb[SCSI_CDB_MAX];
    uint16_t cdb_len;
    enum scsi_attr attr;
    uint64_t tag;         /* ITT: unique among the nexus' tasks */
    bool transport_read;  /* the R bit: the initiator expects data in */
    bool transport_write; /* the W bit */
    uint64_t edtl;        /* expected data transfer length for that direction */

    /* Filled by scsi_task_begin(). */
    struct scsi_lu *lu; /* NULL for a LUN that does not exist */
    enum scsi_dir dir;
    uint64_t data_len; /* what the CDB moves */
    uint64_t
        out_wanted;   /* bytes of data-out to gather before run: MIN(data_len, edtl), dir is OUT */
    bool takes_space; /* a medium write: the transport takes space before R2T, in .space */
    bool ended;       /* no data phase, no run: status is already decided */

    /* The transport's. */
    struct rt_chain data_out;
    struct vol_space space;
    /*
     * The task was aborted: told at once, so that the transport gives up gathering, and cancels the
     * fiber that carries it out. On any core, under a mutex that scsi_task_end() takes too: it must
     * not wait, nor call scsi back. NULL: not told.
     */
    void (*on_abort)(struct scsi_task *t);
    void *transport_arg;
    const void *way; /* by which its initiator is answered: a connection; not looked into */

    /* Result. */
    enum scsi_status status;
    uint8_t sense[SCSI_SENSE_MAX];
    uint16_t sense_len;
    struct rt_chain data_in; /* at most edtl bytes */
    uint64_t in_total;       /* what data_in would be without the limit of edtl */
    bool aborted;            /* by task management: send no response, unless send_aborted */
    bool by_set;             /* and that by a function over whole task sets, */
    bool by_other;           /* and on behalf of another nexus */
    uint64_t abort_id;       /* the same for all tasks of a unit that one function has aborted */
    bool send_aborted;       /* TAS = 1 and another nexus aborted it: status is TASK ABORTED */
    bool tells_loss;         /* the status tells of lost writes, see scsi_task_told() */

    /* scsi's own. */
    const struct scsi_command *command;
    struct scsi_itl *itl;
    struct list lu_link; /* the shard of the LU's task set */
    struct list order_link;
    uint64_t order; /* the ordered tasks it comes after, by number; an ordered task's own number */
    uint64_t lba;   /* of a medium command, checked */
    uint64_t blocks;
    uint64_t begun_ns;
    _Atomic unsigned state;
    bool awaited; /* someone waits for its end */
    bool by_reset;
    bool tas;      /* TAS when it was aborted */
    bool turned;   /* had its turn */
    bool is_guest; /* of a copy, see copy_task.c */
};

void scsi_task_init(struct scsi_task *t, struct scsi_nexus *n, uint64_t lun_raw, const uint8_t *cdb,
                    size_t cdb_len);
/* Looks up the LU and the command, checks the CDB, unit attentions, reservations; enters the task
 * set. Does not wait. */
void scsi_task_begin(struct scsi_task *t);
/*
 * Waits for the task's turn: an ORDERED task for all older ones, every other for older ORDERED
 * ones. To be called before the transport takes space, so that nobody who holds space waits here.
 * Without it scsi_task_run() does it.
 */
void scsi_task_turn(struct scsi_task *t) WAITS;
/*
 * Takes the dirty space that a task with takes_space needs, into .space: before R2T, after the
 * turn. 0, -ECANCELED, -ETIMEDOUT.
 */
MUST int scsi_task_take_space(struct scsi_task *t, uint64_t deadline_ns) WAITS;
/* Carries the command out. Returns when the result is there. */
void scsi_task_run(struct scsi_task *t) WAITS;
/* The same when nothing has to be waited for: true when the result is there, else nothing happened.
 */
MUST bool scsi_task_run_ready(struct scsi_task *t);
/* Commands with these CDBs (16 bytes each) follow at once: reads among them will go faster. */
void scsi_hint_reads(struct scsi_nexus *n, uint64_t lun_raw, const uint8_t *const *cdbs,
                     size_t count);
/*
 * The transport gives a task that has begun up, for its connection is gone: it is aborted, and the
 * nexus' unit gets a unit attention (47h/7Fh).
 */
void scsi_task_give_up(struct scsi_task *t);
/* That unit attention alone: for a task that has ended, and whose end nobody has heard of. */
void scsi_nexus_cleared(struct scsi_nexus *n, uint64_t lun_raw);
/*
 * The response of a task with tells_loss goes out on its way now; else the initiator is told again.
 * Once what went out on a way before then has been heard, or is not to be any more,
 * scsi_nexus_heard() is called for it.
 */
void scsi_task_told(struct scsi_task *t);
void scsi_nexus_heard(struct scsi_nexus *n, const void *way, bool heard);
/* Leaves the task set and gives the chains back. Every begun task is ended, also one that never
 * ran. */
void scsi_task_end(struct scsi_task *t);
/* True once task management has aborted it, from any core. */
bool scsi_task_is_aborted(const struct scsi_task *t);
/*
 * Residuals as RFC 7143 §11.4.5 wants them, for a task that has its result: sets the count
 * and which of underflow or overflow it is (both false: none).
 */
void scsi_task_residual(const struct scsi_task *t, uint64_t *ret_count, bool *ret_under,
                        bool *ret_over);

enum scsi_tmf { /* RFC 7143 §11.5.1, RFC 7144 */
    SCSI_TMF_ABORT_TASK = 1,
    SCSI_TMF_ABORT_TASK_SET = 2,
    SCSI_TMF_CLEAR_ACA = 3,
    SCSI_TMF_CLEAR_TASK_SET = 4,
    SCSI_TMF_LU_RESET = 5,
    SCSI_TMF_WARM_RESET = 6,
    SCSI_TMF_COLD_RESET = 7,
    SCSI_TMF_TASK_REASSIGN = 8,
    SCSI_TMF_QUERY_TASK = 9,
    SCSI_TMF_QUERY_TASK_SET = 10,
    SCSI_TMF_NEXUS_RESET = 11,
    SCSI_TMF_QUERY_ASYNC_EVENT = 12,
};

enum scsi_tmf_response { /* RFC 7143 §11.6.1, RFC 7144 */
    SCSI_TMF_COMPLETE = 0,
    SCSI_TMF_NO_TASK = 1,
    SCSI_TMF_NO_LUN = 2,
    SCSI_TMF_STILL_ALLEGIANT = 3,
    SCSI_TMF_NO_REASSIGN = 4,
    SCSI_TMF_NOT_SUPPORTED = 5,
    SCSI_TMF_NOT_AUTHORIZED = 6,
    SCSI_TMF_SUCCEEDED = 7, /* the QUERY functions: yes, there is one */
    SCSI_TMF_REJECTED = 255,
};

/*
 * Answers when every affected task has ended. ref_tag for ABORT TASK and QUERY TASK. ret_extra: the
 * additional response bytes of QUERY functions. COLD RESET also calls dropped() of every nexus of
 * the target.
 */
enum scsi_tmf_response scsi_tmf(struct scsi_nexus *n, enum scsi_tmf function, uint64_t lun_raw,
                                uint64_t ref_tag, uint8_t ret_extra[3]) WAITS;

/* The access states of that target (NULL: of any, or the portal groups) have changed: all nexuses
 * are told. */
void scsi_paths_changed(struct scsi_host *h, const char *iqn);

/* For SendTargets and status. */
const char *scsi_target_iqn(const struct scsi_target *t);
unsigned scsi_target_sessions(const struct scsi_target *t);
const char *scsi_nexus_initiator(const struct scsi_nexus *n);
struct scsi_target *scsi_nexus_target(const struct scsi_nexus *n);
