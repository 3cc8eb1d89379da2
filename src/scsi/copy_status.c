/* SPDX-License-Identifier: Apache-2.0 */
/*
 * RECEIVE COPY RESULTS (SPC-4 6.21 to 6.24), RECEIVE ROD TOKEN INFORMATION (SBC-3 5.25) and COPY
 * OPERATION ABORT: what became of copies that have a list identifier. Identifiers are of an I_T
 * nexus and a logical unit, whatever the command; a result stays until the identifier is used
 * again, the nexus is lost, or newer ones need its place. No data are ever held: there is nothing
 * for RECEIVE COPY DATA.
 */
#include "base/endian.h"
#include "scsi/copy_priv.h"
#include "scsi/rod.h"
#include "scsi/sense.h"

#define LID4_BYTES 32u
#define POLL_MS 100u

enum operation { /* COPY OPERATION STATUS, SPC-4 table 357 */
    OPERATION_DONE = 0x01,
    OPERATION_FAILED = 0x02,
    OPERATION_FOREGROUND = 0x11,
    OPERATION_BACKGROUND = 0x12,
    OPERATION_TERMINATED = 0x60,
};

enum units { /* TRANSFER COUNT UNITS, SPC-4 table 359 */
    UNITS_BYTES = 0x00,
    UNITS_BLOCKS = 0xf1,
};

struct scsi_copy_result *scsi_copy_find(struct scsi_itl *itl, uint32_t id)
{
    struct scsi_copies *all = itl->copies;
    for (size_t i = 0; all && i < SCSI_COPY_IDS_MAX; i++) {
        struct scsi_copy_result *r = &all->results[i];
        if (r->state != SCSI_COPY_FREE && r->id == id) {
            return r;
        }
    }
    return NULL;
}

static struct scsi_copies *copies_of(struct scsi_itl *itl)
{
    if (!itl->copies) {
        itl->copies = calloc(1, sizeof *itl->copies);
        for (size_t i = 0; itl->copies && i < SCSI_COPY_IDS_MAX; i++) {
            itl->copies->results[i].state = SCSI_COPY_FREE;
        }
    }
    return itl->copies;
}

/* The oldest that is over, or a free one; NULL: all are under way. */
static struct scsi_copy_result *place_in(struct scsi_copies *all)
{
    struct scsi_copy_result *best = NULL;
    for (size_t i = 0; i < SCSI_COPY_IDS_MAX; i++) {
        struct scsi_copy_result *r = &all->results[i];
        if (r->state == SCSI_COPY_FREE) {
            return r;
        }
        if (r->state != SCSI_COPY_UNDER_WAY && (!best || r->number < best->number)) {
            best = r;
        }
    }
    return best;
}

bool scsi_copy_claim(struct scsi_task *t, uint32_t id, struct scsi_copy_result **ret_result)
{
    struct scsi_copies *all = copies_of(t->itl);
    if (!all) {
        scsi_fail_errno(t, -ENOMEM);
        return false;
    }
    struct scsi_copy_result *r = scsi_copy_find(t->itl, id);
    if (r && r->state == SCSI_COPY_UNDER_WAY) {
        scsi_fail(t, SCSI_KEY_ILLEGAL_REQUEST, SCSI_ASC_OPERATION_IN_PROGRESS);
        return false;
    }
    r = r ? r : place_in(all);
    if (!r) {
        scsi_fail_status(t, SCSI_BUSY);
        return false;
    }
    *r = (struct scsi_copy_result){.state = SCSI_COPY_UNDER_WAY,
                                   .id = id,
                                   .action = t->cdb[1] & 0x1f,
                                   .number = ++all->numbers};
    *ret_result = r;
    return true;
}

void scsi_copy_settle(struct scsi_task *t, struct scsi_copy_result *result)
{
    if (!result) {
        return;
    }
    if (scsi_task_is_aborted(t)) {
        scsi_fail_status(t, SCSI_TASK_ABORTED);
    }
    result->state = t->status == SCSI_GOOD ? SCSI_COPY_DONE : SCSI_COPY_FAILED;
    result->status = (uint8_t)t->status;
    result->sense_len = (uint8_t)MIN_OF(t->sense_len, sizeof result->sense);
    memcpy(result->sense, t->sense, result->sense_len);
    if (result->stop) {
        scsi_bell_ring(&t->nexus->target->bell);
    }
}

static struct scsi_copy_result *asked_for(struct scsi_task *t, uint32_t id)
{
    struct scsi_copy_result *r = scsi_copy_find(t->itl, id);
    if (!r) {
        scsi_fail_cdb(t, 2, -1);
    }
    return r;
}

/* Bytes, or the smallest unit in which the field holds them. */
static void put_count(uint64_t bytes, uint8_t *p)
{
    while (bytes > UINT32_MAX) {
        bytes >>= 10;
        p[0]++;
    }
    be32_store(p + 1, (uint32_t)bytes);
}

static uint64_t bytes_of(const struct scsi_task *t, const struct scsi_copy_result *r)
{
    return r->in_blocks ? r->done << t->lu->block_shift : r->done;
}

void scsi_copy_status_run(struct scsi_task *t)
{
    const struct scsi_copy_result *r = asked_for(t, t->cdb[2]);
    struct rt_buf *b = r ? scsi_reply_begin(t, 12) : NULL;
    if (!b) {
        return;
    }
    be32_store(b->data, 8);
    b->data[4] = (uint8_t)r->state;
    be16_store(b->data + 5, r->segments);
    put_count(bytes_of(t, r), b->data + 7);
    scsi_reply_end(t, b, 12);
}

/* Told once. */
void scsi_copy_failure_run(struct scsi_task *t)
{
    struct scsi_copy_result *r = asked_for(t, t->cdb[2]);
    struct rt_buf *b = r ? scsi_reply_begin(t, 60 + SCSI_COPY_SENSE_MAX) : NULL;
    if (!b) {
        return;
    }
    if (r->state != SCSI_COPY_FAILED || r->sense_len == 0) {
        scsi_reply_end(t, b, 4);
        return;
    }
    size_t len = 60u + r->sense_len;
    be32_store(b->data, (uint32_t)(len - 4));
    b->data[56] = SCSI_CHECK_CONDITION;
    be16_store(b->data + 58, r->sense_len);
    memcpy(b->data + 60, r->sense, r->sense_len);
    r->sense_len = 0;
    scsi_reply_end(t, b, len);
}

static enum operation operation_of(const struct scsi_copy_result *r)
{
    if (r->state == SCSI_COPY_UNDER_WAY) {
        return r->background ? OPERATION_BACKGROUND : OPERATION_FOREGROUND;
    }
    if (r->state == SCSI_COPY_DONE) {
        return OPERATION_DONE;
    }
    return r->stop || r->status == SCSI_TASK_ABORTED ? OPERATION_TERMINATED : OPERATION_FAILED;
}

/* What the LID4 commands begin with; its length. */
static size_t put_lid4(const struct scsi_copy_result *r, uint8_t *p)
{
    bool over = r->state != SCSI_COPY_UNDER_WAY;
    p[4] = r->action;
    p[5] = (uint8_t)operation_of(r);
    be32_store(p + 8, over ? UINT32_MAX : POLL_MS);
    p[12] = r->status;
    p[13] = r->sense_len;
    p[14] = r->sense_len;
    p[15] = r->in_blocks ? UNITS_BLOCKS : UNITS_BYTES;
    be64_store(p + 16, r->done);
    be16_store(p + 24, r->segments);
    memcpy(p + LID4_BYTES, r->sense, r->sense_len);
    return LID4_BYTES + r->sense_len;
}

void scsi_copy_status4_run(struct scsi_task *t)
{
    const struct scsi_copy_result *r = asked_for(t, be32_load(t->cdb + 2));
    struct rt_buf *b = r ? scsi_reply_begin(t, LID4_BYTES + SCSI_COPY_SENSE_MAX) : NULL;
    if (!b) {
        return;
    }
    size_t len = put_lid4(r, b->data);
    be32_store(b->data, (uint32_t)(len - 4));
    scsi_reply_end(t, b, len);
}

void scsi_copy_token_run(struct scsi_task *t)
{
    const struct scsi_copy_result *r = asked_for(t, be32_load(t->cdb + 2));
    size_t most = LID4_BYTES + SCSI_COPY_SENSE_MAX + 4 + 2 + SCSI_ROD_TOKEN_BYTES;
    struct rt_buf *b = r ? scsi_reply_begin(t, most) : NULL;
    if (!b) {
        return;
    }
    size_t len = put_lid4(r, b->data);
    uint8_t *p = b->data + len;
    len += 4;
    if (r->state == SCSI_COPY_DONE && r->has_rod &&
        scsi_rod_token(t->nexus->target->host->rods, r->rod, p + 6)) {
        be32_store(p, 2 + SCSI_ROD_TOKEN_BYTES);
        len += 2 + SCSI_ROD_TOKEN_BYTES;
    }
    be32_store(b->data, (uint32_t)(len - 4));
    scsi_reply_end(t, b, len);
}

/* GOOD when the copy has ended. */
void scsi_copy_abort_run(struct scsi_task *t)
{
    struct scsi_bell *bell = &t->nexus->target->bell;
    struct scsi_copy_result *r = asked_for(t, be32_load(t->cdb + 2));
    if (!r) {
        return;
    }
    uint64_t number = r->number;
    uint64_t rings = scsi_bell_rings(bell);
    while (r->number == number && r->state == SCSI_COPY_UNDER_WAY && !scsi_task_is_aborted(t)) {
        r->stop = true;
        if (scsi_bell_wait(bell, rings) < 0) {
            scsi_fail_errno(t, -ECANCELED);
            return;
        }
        rings = scsi_bell_rings(bell);
    }
}

void scsi_copy_parameters_run(struct scsi_task *t)
{
    static const uint8_t types[] = SCSI_COPY_TYPES;
    size_t len = 44 + sizeof types;
    struct rt_buf *b = scsi_reply_begin(t, len);
    if (!b) {
        return;
    }
    uint8_t *p = b->data;
    be32_store(p, (uint32_t)(len - 4));
    p[4] = 0x01; /* SNLID: there may be no list identifier */
    be16_store(p + 8, SCSI_COPY_CSCDS_MAX);
    be16_store(p + 10, SCSI_COPY_SEGMENTS_MAX);
    be32_store(p + 12, SCSI_COPY_DESCRIPTORS_MAX);
    be32_store(p + 16, SCSI_COPY_SEGMENT_DATA_MAX);
    be16_store(p + 34, SCSI_COPIES_MAX);
    p[36] = SCSI_COPY_IDS_MAX;
    p[37] = 9; /* data segment granularity: 512 bytes */
    p[43] = sizeof types;
    memcpy(p + 44, types, sizeof types);
    scsi_reply_end(t, b, len);
}
