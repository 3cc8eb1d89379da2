/* SPDX-License-Identifier: Apache-2.0 */
/*
 * RECEIVE COPY RESULTS (SPC-4 6.21 to 6.24) and third-party copy VPD (7.8.17): what a copy can do,
 * and what became of those that have a list identifier. Identifiers are of an I_T nexus and a
 * logical unit; a result stays until the identifier is used again, the nexus is lost, or newer ones
 * need its place. No data are ever held: there is nothing for RECEIVE COPY DATA.
 */
#include "base/endian.h"
#include "scsi/copy_priv.h"
#include "scsi/sense.h"

static const uint8_t descriptor_types[] = {SCSI_COPY_TYPE_BLOCKS, SCSI_COPY_TYPE_CSCD};

static struct scsi_copy_result *find(struct scsi_copies *all, uint8_t id)
{
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

bool scsi_copy_claim(struct scsi_task *t, const struct scsi_copy_list *list,
                     struct scsi_copy_result **ret_result)
{
    *ret_result = NULL;
    if (list->usage == SCSI_COPY_NO_ID) {
        return true;
    }
    struct scsi_copies *all = copies_of(t->itl);
    if (!all) {
        scsi_fail_errno(t, -ENOMEM);
        return false;
    }
    struct scsi_copy_result *r = find(all, list->id);
    if (r && r->state == SCSI_COPY_UNDER_WAY) {
        scsi_fail(t, SCSI_KEY_ILLEGAL_REQUEST, SCSI_ASC_OPERATION_IN_PROGRESS);
        return false;
    }
    r = r ? r : place_in(all);
    if (!r) {
        scsi_fail_status(t, SCSI_BUSY);
        return false;
    }
    *r = (struct scsi_copy_result){
        .state = SCSI_COPY_UNDER_WAY, .id = list->id, .number = ++all->numbers};
    *ret_result = r;
    return true;
}

void scsi_copy_settle(const struct scsi_task *t, struct scsi_copy_result *result)
{
    if (!result) {
        return;
    }
    bool good = t->status == SCSI_GOOD && !scsi_task_is_aborted(t);
    result->state = good ? SCSI_COPY_DONE : SCSI_COPY_FAILED;
    result->sense_len = t->sense_len;
    memcpy(result->sense, t->sense, t->sense_len);
}

static struct scsi_copy_result *asked_for(struct scsi_task *t)
{
    struct scsi_copy_result *r = find(t->itl->copies, t->cdb[2]);
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

void scsi_copy_status_run(struct scsi_task *t)
{
    const struct scsi_copy_result *r = asked_for(t);
    struct rt_buf *b = r ? scsi_reply_begin(t, 12) : NULL;
    if (!b) {
        return;
    }
    be32_store(b->data, 8);
    b->data[4] = (uint8_t)r->state;
    be16_store(b->data + 5, r->segments);
    put_count(r->bytes, b->data + 7);
    scsi_reply_end(t, b, 12);
}

/* Told once. */
void scsi_copy_failure_run(struct scsi_task *t)
{
    struct scsi_copy_result *r = asked_for(t);
    struct rt_buf *b = r ? scsi_reply_begin(t, 60 + SCSI_SENSE_MAX) : NULL;
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

void scsi_copy_parameters_run(struct scsi_task *t)
{
    size_t len = 44 + sizeof descriptor_types;
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
    p[43] = sizeof descriptor_types;
    memcpy(p + 44, descriptor_types, sizeof descriptor_types);
    scsi_reply_end(t, b, len);
}

/* A descriptor of the VPD page with len bytes after its header, padded. */
static uint8_t *vpd_descriptor(uint8_t **at, uint16_t type, uint16_t len)
{
    uint8_t *p = *at;
    len = (uint16_t)((len + 3) & ~3);
    be16_store(p, type);
    be16_store(p + 2, len);
    *at = p + 4 + len;
    return p + 4;
}

size_t scsi_copy_vpd_put(uint8_t *p)
{
    static const uint8_t commands[] = {0x83, 1, 0x00, 0x84, 3, 0x00, 0x03, 0x04};
    uint8_t *at = p + 4;
    uint8_t *d = vpd_descriptor(&at, 0x0001, 1 + sizeof commands);
    d[0] = sizeof commands;
    memcpy(d + 1, commands, sizeof commands);

    d = vpd_descriptor(&at, 0x0004, 28); /* parameter data */
    be16_store(d + 4, SCSI_COPY_CSCDS_MAX);
    be16_store(d + 6, SCSI_COPY_SEGMENTS_MAX);
    be32_store(d + 8, SCSI_COPY_DESCRIPTORS_MAX);

    d = vpd_descriptor(&at, 0x0008, 1 + sizeof descriptor_types);
    d[0] = sizeof descriptor_types;
    memcpy(d + 1, descriptor_types, sizeof descriptor_types);

    d = vpd_descriptor(&at, 0x000c, 4); /* CSCD descriptor IDs */
    be16_store(d, 2);
    be16_store(d + 2, SCSI_COPY_CSCD_SELF);

    d = vpd_descriptor(&at, 0x8001, 32); /* general copy operations */
    be32_store(d, SCSI_COPIES_MAX);
    be32_store(d + 4, SCSI_COPY_IDS_MAX);
    be32_store(d + 8, SCSI_COPY_SEGMENT_DATA_MAX);
    d[12] = 9;
    return (size_t)(at - p);
}
