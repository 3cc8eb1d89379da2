/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Copies as tasks. Task management of a unit, resets and PREEMPT AND ABORT have to end, and wait
 * for, whatever still reads or writes it. A copy does that in units that its command was not sent
 * to: there a *guest* stands for it, a task without a command. And a copy in the background goes on
 * when its command has ended: a task of its own takes the command's place in the unit, and fails in
 * its stead.
 *
 * Neither has a tag that an initiator can mean, nor waits for its turn; ORDERED commands of the
 * unit that come later wait for them.
 */
#include "base/assert.h"
#include "scsi/copy_priv.h"
#include "scsi/sense.h"

#define TAG_NONE (1ull << 63)

static void task_init(struct scsi_task *task, const struct scsi_task *of)
{
    scsi_task_init(task, of->nexus, of->lun_raw, of->cdb, of->cdb_len);
    task->tag = TAG_NONE;
    task->command = of->command;
}

int scsi_copy_guest_enter(struct scsi_task *t, struct scsi_copy_unit *unit)
{
    if (unit->lu == t->lu) {
        return 0;
    }
    struct scsi_task *guest = calloc(1, sizeof *guest);
    if (!guest) {
        return -ENOMEM;
    }
    task_init(guest, t);
    guest->lu = unit->lu;
    guest->itl = unit->itl;
    guest->is_guest = true;
    bool entered = scsi_taskset_enter(guest);
    unit->guest = guest;
    if (!entered) {
        scsi_copy_guest_leave(unit);
        return -EAGAIN;
    }
    return 0;
}

void scsi_copy_guest_leave(struct scsi_copy_unit *unit)
{
    struct scsi_task *guest = take(unit->guest);
    if (guest) {
        scsi_taskset_leave(guest);
        free(guest);
    }
}

bool scsi_copy_goes_on(struct scsi_task *t, const struct scsi_copy_result *result)
{
    if (scsi_task_is_aborted(t)) {
        scsi_fail_status(t, SCSI_TASK_ABORTED);
        return false;
    }
    if (t->itl->gone) {
        scsi_fail(t, SCSI_KEY_ILLEGAL_REQUEST, SCSI_ASC_LUN_NOT_SUPPORTED);
        return false;
    }
    if (result && result->stop) {
        scsi_fail(t, SCSI_KEY_COPY_ABORTED, SCSI_ASC_PROCESS_TERMINATED);
        return false;
    }
    return true;
}

void scsi_copy_fail_list(struct scsi_task *t, const struct scsi_copy_error *e)
{
    scsi_fail_sense(t, &(struct scsi_sense){.key = SCSI_KEY_ILLEGAL_REQUEST,
                                            .asc = e->asc,
                                            .field = e->points ? SCSI_FIELD_DATA : SCSI_FIELD_NONE,
                                            .field_byte = e->byte,
                                            .field_bit = e->bit});
}

struct background {
    struct scsi_task task;
    struct scsi_copy_work work;
};

/* The window of commands does not limit what goes on without one: each has a fiber. */
static bool place_take(struct scsi_nexus *n)
{
    struct scsi_host *h = n->target->host;
    if (n->copying >= SCSI_COPIES_OF_ONE_MAX) {
        return false;
    }
    if (atomic_fetch_add(&h->copying, 1) >= SCSI_COPIES_MAX) {
        atomic_fetch_sub(&h->copying, 1);
        return false;
    }
    n->copying++;
    return true;
}

static void place_give(struct scsi_nexus *n)
{
    n->copying--;
    atomic_fetch_sub(&n->target->host->copying, 1);
}

static void run_background(void *arg)
{
    struct background *b = arg;
    b->work.fn(&b->task, b->work.result, b->work.arg);
    scsi_copy_settle(&b->task, b->work.result);
    place_give(b->task.nexus);
    scsi_task_end(&b->task);
    free(b);
}

/* In the task set of the command's unit, and counted by its nexus, which waits for it. */
static int begin_background(const struct scsi_task *t, struct background *b)
{
    struct scsi_nexus *n = t->nexus;
    if (!place_take(n)) {
        return -EAGAIN;
    }
    task_init(&b->task, t);
    b->task.lu = t->lu;
    b->task.itl = t->itl;
    n->tasks++;
    bool entered = scsi_taskset_enter(&b->task);
    scsi_stats_begin(&b->task);
    int r = entered ? 0 : -EAGAIN;
    if (r == 0 && !n->copies) {
        r = rt_group_create(&n->copies);
    }
    if (r == 0) {
        r = rt_group_spawn(n->copies, "scsi copy", run_background, b);
    }
    if (r < 0) {
        scsi_task_end(&b->task);
        place_give(n);
    }
    return r;
}

void scsi_copy_do(struct scsi_task *t, const struct scsi_copy_work *work)
{
    if (!work->background) {
        work->fn(t, work->result, work->arg);
        scsi_copy_settle(t, work->result);
        return;
    }
    struct background *b = calloc(1, sizeof *b);
    int r = -ENOMEM;
    if (b) {
        b->work = *work;
        r = begin_background(t, b);
    }
    if (r < 0) {
        free(b);
        work->drop(work->arg);
        scsi_fail_errno(t, r);
        scsi_copy_settle(t, work->result);
    }
}
