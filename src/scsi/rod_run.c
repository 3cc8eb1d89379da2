/* SPDX-License-Identifier: Apache-2.0 */
/*
 * POPULATE TOKEN and WRITE USING TOKEN (SBC-3 5.11, 5.54): a copy in two steps, which may be
 * commands of different nexuses, units and targets. Lists and tokens are looked at before the
 * command ends, also when the copy itself is to go on in the background.
 *
 * WRITE USING TOKEN never copies less than it was asked for and says "good": ranges that go beyond
 * what the token stands for are refused.
 */
#include "base/endian.h"
#include "base/err.h"
#include "scsi/copy_priv.h"
#include "scsi/rod.h"
#include "scsi/sense.h"

#define STEP_BYTES (16ull << 20)
#define AT_OFFSET 8u
#define REPORT_MAX 256u

struct job {
    struct scsi_rod_list list;
    struct scsi_rod *rod; /* NULL: zeroes */
    struct scsi_copy_result *result;
    struct scsi_task *task; /* while it runs */
};

static void job_free(void *arg)
{
    struct job *j = arg;
    if (j->rod && !j->rod->published) { /* of a populating that failed: nobody else sees it */
        scsi_rod_kill(j->rod, 0);
    }
    if (j->rod) {
        scsi_rod_unpin(j->rod);
    }
    free(j);
}

static bool populates(const struct scsi_task *t)
{
    return (t->cdb[1] & 0x1f) == SCSI_COPY_POPULATE;
}

void scsi_rod_parse(struct scsi_task *t)
{
    size_t header = populates(t) ? SCSI_ROD_POPULATE_HEADER : SCSI_ROD_WRITE_HEADER;
    if (t->data_len == 0) {
        t->dir = SCSI_DIR_NONE;
        return;
    }
    if (t->data_len < header || t->data_len > SCSI_ROD_LIST_MAX) {
        scsi_fail(t, SCSI_KEY_ILLEGAL_REQUEST, SCSI_ASC_PARAMETER_LIST_LENGTH);
    }
}

/* The ranges lie in the unit, and are not more than VPD page 8Fh allows. */
static bool check_ranges(struct scsi_task *t, const struct scsi_rod_list *list)
{
    uint64_t blocks = scsi_lu_blocks(t->lu);
    for (uint32_t i = 0; i < list->range_count; i++) {
        const struct scsi_rod_range *r = &list->ranges[i];
        if (r->lba > blocks || r->blocks > blocks - r->lba) {
            scsi_fail(t, SCSI_KEY_ILLEGAL_REQUEST, SCSI_ASC_LBA_OUT_OF_RANGE);
            return false;
        }
    }
    if (list->blocks > SCSI_ROD_BYTES_MAX >> t->lu->block_shift) {
        scsi_fail_parameter(
            t, (populates(t) ? SCSI_ROD_POPULATE_HEADER : SCSI_ROD_WRITE_HEADER) - 2, 7);
        return false;
    }
    return true;
}

static bool load(struct scsi_task *t, struct scsi_rod_list *ret_list)
{
    struct rt_buf *b;
    struct scsi_copy_error e;
    int r = rt_buf_alloc(t->data_len, RT_MEM_OTHER, &b);
    if (r < 0) {
        scsi_fail_errno(t, r);
        return false;
    }
    size_t len = scsi_parameters(t, b->data, t->data_len);
    bool good = len == t->data_len;
    if (!good) {
        scsi_fail(t, SCSI_KEY_ILLEGAL_REQUEST, SCSI_ASC_PARAMETER_LIST_LENGTH);
    } else {
        good = populates(t) ? scsi_rod_populate_decode(b->data, len, ret_list, &e)
                            : scsi_rod_write_decode(b->data, len, ret_list, &e);
        if (!good) {
            scsi_copy_fail_list(t, &e);
        }
    }
    rt_buf_unref(b);
    return good && check_ranges(t, ret_list);
}

/* The command is let in as it was at its begin. */
static bool may_go_on(struct scsi_task *t, const struct scsi_copy_result *result,
                      enum scsi_access access)
{
    if (!scsi_copy_goes_on(t, result)) {
        return false;
    }
    uint64_t holder = atomic_load(&t->lu->reserved_by);
    bool refused = (holder != 0 && holder != t->nexus->id) ||
                   (atomic_load(&t->itl->refuses) & 1u << access) != 0;
    if (refused) {
        scsi_fail_status(t, SCSI_RESERVATION_CONFLICT);
    }
    return !refused;
}

static bool may_read_on(void *arg)
{
    struct job *j = arg;
    return may_go_on(j->task, j->result, SCSI_ACCESS_READ);
}

static void fail_rod(struct scsi_task *t, int r, uint16_t asc)
{
    int why = err_class(r);
    if (why == ENOSPC || why == EDQUOT) {
        scsi_fail(t, SCSI_KEY_ILLEGAL_REQUEST, asc);
    } else {
        scsi_fail_errno(t, r);
    }
}

static void populate(struct scsi_task *t, struct scsi_copy_result *result, void *arg) WAITS
{
    struct job *j = arg;
    j->task = t;
    int r = scsi_rod_fill(j->rod, t, &j->list, may_read_on, j);
    if (r < 0 && t->status == SCSI_GOOD) {
        fail_rod(t, r, SCSI_ASC_NO_ROD_RESOURCES);
    }
    if (t->status == SCSI_GOOD) {
        scsi_rod_publish(j->rod);
        result->done = j->list.blocks;
        result->has_rod = true;
        result->rod = j->rod->number;
    }
    job_free(j);
}

/* NULL: the task has failed. */
static struct job *begin(struct scsi_task *t)
{
    struct job *j = calloc(1, sizeof *j);
    if (!j) {
        scsi_fail_errno(t, -ENOMEM);
        return NULL;
    }
    if (!load(t, &j->list)) {
        free(j);
        return NULL;
    }
    return j;
}

/* Under the command's list identifier. The job is gone in any case. */
static void go(struct scsi_task *t, struct job *j,
               void (*fn)(struct scsi_task *t, struct scsi_copy_result *result, void *arg) WAITS)
    WAITS
{
    if (!scsi_copy_claim(t, be32_load(t->cdb + 6), &j->result)) {
        job_free(j);
        return;
    }
    j->result->in_blocks = true;
    j->result->background = j->list.immed;
    scsi_copy_do(t, &(struct scsi_copy_work){.fn = fn,
                                             .drop = job_free,
                                             .arg = j,
                                             .result = j->result,
                                             .background = j->list.immed});
}

void scsi_rod_populate_run(struct scsi_task *t)
{
    struct job *j = t->data_len > 0 ? begin(t) : NULL;
    if (!j) {
        return;
    }
    if (j->list.blocks == 0) {
        scsi_fail_parameter(t, SCSI_ROD_POPULATE_HEADER + 8, 7);
        free(j);
        return;
    }
    int r = scsi_rod_begin(t, &j->list, &j->rod);
    if (r < 0) {
        fail_rod(t, r, SCSI_ASC_NO_TOKEN_RESOURCES);
        free(j);
        return;
    }
    go(t, j, populate);
}

/* Bytes of the unit from off on, out of the token's from `from` on. */
static int write_part(struct scsi_task *t, const struct scsi_rod *rod, uint64_t from, uint64_t off,
                      uint64_t len) WAITS
{
    int r = 0;
    for (uint32_t i = 0; i < rod->piece_count && len > 0 && r >= 0; i++) {
        const struct scsi_rod_piece *p = &rod->pieces[i];
        if (from >= p->from + p->len) {
            continue;
        }
        uint64_t skip = from - p->from;
        uint64_t done;
        struct dev_copy c = {.src = rod->hold,
                             .src_off = p->hold_off + skip,
                             .dst = t->lu->dev,
                             .dst_off = off,
                             .len = MIN_OF(len, p->len - skip)};
        r = dev_copy(&c, 0, &done);
        from += c.len;
        off += c.len;
        len -= c.len;
    }
    return r;
}

static bool write_range(struct scsi_task *t, struct job *j, const struct scsi_rod_range *range,
                        uint64_t from) WAITS
{
    unsigned shift = t->lu->block_shift;
    uint64_t off = range->lba << shift;
    uint64_t end = off + ((uint64_t)range->blocks << shift);
    while (off < end) {
        uint64_t len = MIN_OF(end - off, STEP_BYTES);
        if (!may_go_on(t, j->result, SCSI_ACCESS_WRITE) || !scsi_lu_writable(t)) {
            return false;
        }
        int r = j->rod ? write_part(t, j->rod, from, off, len) : dev_zero(t->lu->dev, off, len, 0);
        if (r < 0) {
            scsi_fail_errno(t, r);
            return false;
        }
        off += len;
        from += len;
        j->result->done += len >> shift;
        rt_yield();
    }
    return true;
}

static void write_all(struct scsi_task *t, struct scsi_copy_result *result, void *arg) WAITS
{
    struct job *j = arg;
    uint64_t from = j->list.offset << t->lu->block_shift;
    bool good = true;
    (void)result;
    for (uint32_t i = 0; i < j->list.range_count && good; i++) {
        good = write_range(t, j, &j->list.ranges[i], from);
        from += (uint64_t)j->list.ranges[i].blocks << t->lu->block_shift;
    }
    if (good && j->rod && j->list.delete_token) {
        scsi_rod_kill(j->rod, SCSI_ASC_TOKEN_DELETED);
    }
    job_free(j);
}

/* The token is one, and holds what is asked for. */
static bool find(struct scsi_task *t, struct job *j)
{
    const struct scsi_rod_list *list = &j->list;
    unsigned shift = t->lu->block_shift;
    if (be32_load(list->token) == SCSI_ROD_ZERO) {
        return true;
    }
    uint16_t asc = scsi_rod_find(t->nexus->target->host->rods, list->token, &j->rod);
    if (asc != 0) {
        scsi_fail(t, SCSI_KEY_ILLEGAL_REQUEST, asc);
        return false;
    }
    uint64_t blocks = j->rod->bytes >> shift;
    if (list->offset > blocks || list->blocks > blocks - list->offset) {
        scsi_fail_parameter(t, AT_OFFSET, 7);
        return false;
    }
    return true;
}

void scsi_rod_write_run(struct scsi_task *t)
{
    struct job *j = t->data_len > 0 ? begin(t) : NULL;
    if (!j) {
        return;
    }
    if (!find(t, j)) {
        job_free(j);
        return;
    }
    go(t, j, write_all);
}

/* Of the unit's own tokens what is not secret: the first 96 bytes of each. */
void scsi_rod_report_run(struct scsi_task *t)
{
    struct rt_buf *b = scsi_reply_begin(t, 8 + (size_t)REPORT_MAX * SCSI_ROD_MANAGEMENT_BYTES);
    if (!b) {
        return;
    }
    size_t count =
        scsi_rods_report(t->nexus->target->host->rods, &t->lu->uuid,
                         (uint8_t(*)[SCSI_ROD_MANAGEMENT_BYTES])(b->data + 8), REPORT_MAX);
    size_t len = 8 + count * SCSI_ROD_MANAGEMENT_BYTES;
    be32_store(b->data, (uint32_t)(len - 4));
    scsi_reply_end(t, b, len);
}
