/* SPDX-License-Identifier: Apache-2.0 */
/*
 * EXTENDED COPY(LID1) and (LID4) (SPC-4 6.4): segments of blocks, copied within the volume by
 * dev_copy(), which moves no data where whole blocks of the store go to whole blocks.
 *
 * Segments are looked at one by one, as they come up: what is wrong with the list as such is an
 * ILLEGAL REQUEST before anything is copied, what is wrong with a segment is COPY ABORTED, with the
 * segment's number in COMMAND-SPECIFIC INFORMATION and a pointer into its descriptor, and those
 * before it are copied. A segment goes in steps, between which an abort is noticed.
 *
 * Units may have different logical blocks: a segment then has to be a whole number of either one's;
 * nothing is padded, nor kept for the next segment (CAT).
 *
 * A unit that this nexus has no view of is written through: nobody could be told of the loss of its
 * write cache.
 */
#include "base/err.h"
#include "scsi/copy_priv.h"
#include "scsi/medium.h"
#include "scsi/sense.h"

#define STEP_BYTES (16u << 20)

_Static_assert(65535ull * 4096 <= SCSI_COPY_SEGMENT_DATA_MAX, "every segment is within the limit");

/* Bytes of a segment descriptor that sense data point at. */
enum {
    AT_SRC = 4,
    AT_DST = 6,
    AT_BLOCKS = 10,
    AT_SRC_LBA = 12,
    AT_DST_LBA = 20,
};

struct job {
    struct scsi_copy_list list;
    struct scsi_copy_unit units[SCSI_COPY_CSCDS_MAX + 1]; /* by index; the last one: ..._SELF */
    struct scsi_copy_result *result;
    uint16_t at; /* the segment */
};

static bool is_lid4(const struct scsi_task *t)
{
    return (t->cdb[1] & 0x1f) == SCSI_COPY_LID4;
}

void scsi_copy_parse(struct scsi_task *t)
{
    size_t header = is_lid4(t) ? SCSI_COPY_HEADER4_BYTES : SCSI_COPY_HEADER_BYTES;
    if (t->data_len == 0) {
        t->dir = SCSI_DIR_NONE;
        return;
    }
    if (t->data_len < header || t->data_len > header + SCSI_COPY_DESCRIPTORS_MAX) {
        scsi_fail(t, SCSI_KEY_ILLEGAL_REQUEST, SCSI_ASC_PARAMETER_LIST_LENGTH);
    }
}

static bool abort_copy(struct scsi_task *t, const struct job *j, uint16_t asc, uint16_t byte)
{
    scsi_fail_sense(t, &(struct scsi_sense){.key = SCSI_KEY_COPY_ABORTED,
                                            .asc = asc,
                                            .has_command_info = true,
                                            .command_info = j->at,
                                            .field = SCSI_FIELD_SEGMENT,
                                            .field_byte = byte,
                                            .field_bit = -1});
    return false;
}

/* What may pass, or end, and what the initiator has to hear as of any write, stays what it is. */
static bool fail_io(struct scsi_task *t, const struct job *j, int r)
{
    switch (err_class(r)) {
    case ENOSPC:
    case EDQUOT:
    case ECANCELED:
    case ESHUTDOWN:
    case ETIMEDOUT:
    case ENOMEM:
    case EAGAIN:
        scsi_fail_errno(t, r);
        return false;
    default:
        return abort_copy(t, j, SCSI_ASC_THIRD_PARTY_FAILURE, AT_BLOCKS);
    }
}

/* NULL: the task has failed. */
static struct scsi_copy_unit *unit_of(struct scsi_task *t, struct job *j, uint16_t index,
                                      uint16_t byte) WAITS
{
    bool self = index == SCSI_COPY_CSCD_SELF;
    if (!self && index >= j->list.cscd_count) {
        abort_copy(t, j, SCSI_ASC_COPY_UNREACHABLE, byte);
        return NULL;
    }
    struct scsi_copy_unit *u = &j->units[self ? SCSI_COPY_CSCDS_MAX : index];
    const struct scsi_copy_cscd *cscd = self ? NULL : &j->list.cscds[index];
    if (!u->lu && self) {
        scsi_copy_reach_self(t, u);
    } else if (!u->lu) {
        int r = scsi_copy_reach(t, cscd, u);
        if (r == -ENOMEM || r == -EAGAIN) {
            scsi_fail_errno(t, r);
            return NULL;
        }
        if (r < 0) {
            abort_copy(t, j, SCSI_ASC_COPY_UNREACHABLE, byte);
            return NULL;
        }
    }
    if (cscd && (cscd->peripheral != 0 ||
                 (cscd->block_bytes != 0 && cscd->block_bytes != u->lu->block_bytes))) {
        abort_copy(t, j, SCSI_ASC_COPY_DEVICE_TYPE, byte);
        return NULL;
    }
    return u;
}

/* Bytes from an LBA on lie within the unit. */
static bool is_inside(const struct scsi_lu *lu, uint64_t lba, uint64_t bytes)
{
    uint64_t blocks = scsi_lu_blocks(lu);
    return lba <= blocks && bytes >> lu->block_shift <= blocks - lba;
}

/* True when the segment can be copied as *ret says. */
static bool plan(struct scsi_task *t, const struct job *j, const struct scsi_copy_unit *src,
                 const struct scsi_copy_unit *dst, struct dev_copy *ret)
{
    const struct scsi_copy_segment *s = &j->list.segments[j->at];
    uint64_t bytes = (uint64_t)s->blocks << (s->of_dst ? dst : src)->lu->block_shift;
    if (bytes % src->lu->block_bytes != 0 || bytes % dst->lu->block_bytes != 0) {
        return abort_copy(t, j, SCSI_ASC_INEXACT_SEGMENT, AT_BLOCKS);
    }
    bool swp = scsi_lu_mode(dst->lu) & SCSI_MODE_SWP;
    if (dst->read_only || swp || dev_is_read_only(dst->lu->dev)) {
        return abort_copy(t, j, SCSI_ASC_THIRD_PARTY_FAILURE, AT_DST);
    }
    if (!is_inside(src->lu, s->src_lba, bytes)) {
        return abort_copy(t, j, SCSI_ASC_NONE, AT_SRC_LBA);
    }
    if (!is_inside(dst->lu, s->dst_lba, bytes)) {
        return abort_copy(t, j, SCSI_ASC_NONE, AT_DST_LBA);
    }
    *ret = (struct dev_copy){.src = src->lu->dev,
                             .src_off = s->src_lba << src->lu->block_shift,
                             .dst = dst->lu->dev,
                             .dst_off = s->dst_lba << dst->lu->block_shift,
                             .len = bytes};
    if (ret->src == ret->dst && ret->src_off < ret->dst_off + bytes &&
        ret->dst_off < ret->src_off + bytes) {
        return abort_copy(t, j, SCSI_ASC_INVALID_FIELD_IN_PARAMETERS, AT_DST_LBA);
    }
    return true;
}

static bool is_cleared(const struct scsi_copy_unit *u)
{
    return u->guest && scsi_task_is_aborted(u->guest);
}

/* A map hides it now, or shows it in another way. */
static bool is_out_of_sight(const struct scsi_copy_unit *u)
{
    return u->itl && u->itl->gone;
}

/* Nothing has come in between: an abort, here or there, another map, or a reservation. */
static bool may_go_on(struct scsi_task *t, const struct job *j, const struct scsi_copy_unit *src,
                      const struct scsi_copy_unit *dst)
{
    if (!scsi_copy_goes_on(t, j->result)) {
        return false;
    }
    if (is_cleared(src) || is_cleared(dst)) {
        return abort_copy(t, j, SCSI_ASC_COMMANDS_CLEARED, is_cleared(dst) ? AT_DST : AT_SRC);
    }
    if (is_out_of_sight(src) || is_out_of_sight(dst)) {
        return abort_copy(t, j, SCSI_ASC_COPY_UNREACHABLE, is_out_of_sight(dst) ? AT_DST : AT_SRC);
    }
    if (scsi_copy_refused(t, src, SCSI_ACCESS_READ)) {
        return abort_copy(t, j, SCSI_ASC_THIRD_PARTY_FAILURE, AT_SRC);
    }
    if (scsi_copy_refused(t, dst, SCSI_ACCESS_WRITE)) {
        return abort_copy(t, j, SCSI_ASC_THIRD_PARTY_FAILURE, AT_DST);
    }
    return true;
}

static bool copy_segment(struct scsi_task *t, struct job *j) WAITS
{
    const struct scsi_copy_segment *s = &j->list.segments[j->at];
    const struct scsi_copy_unit *src = unit_of(t, j, s->src, AT_SRC);
    const struct scsi_copy_unit *dst = src ? unit_of(t, j, s->dst, AT_DST) : NULL;
    struct dev_copy c;
    if (!dst || !plan(t, j, src, dst, &c)) {
        return false;
    }
    uint64_t left = c.len;
    while (left > 0) {
        if (!may_go_on(t, j, src, dst)) {
            return false;
        }
        uint64_t done;
        c.len = MIN_OF(left, STEP_BYTES);
        int r = dev_copy(&c, dst->itl || c.len < left ? 0 : DEV_FUA, &done);
        if (j->result) {
            j->result->done += done;
        }
        if (r < 0) {
            return fail_io(t, j, r);
        }
        c.src_off += c.len;
        c.dst_off += c.len;
        left -= c.len;
        rt_yield(); /* it may have been done without a wait */
    }
    return true;
}

static void copy_all(struct scsi_task *t, struct scsi_copy_result *result, void *arg) WAITS
{
    struct job *j = arg;
    bool good = true;
    for (; good && j->at < j->list.segment_count; j->at += good) {
        good = copy_segment(t, j);
        if (result) {
            result->segments = (uint16_t)(j->at + good);
        }
    }
    for (size_t i = 0; i < ARRAY_LEN(j->units); i++) {
        scsi_copy_unit_release(&j->units[i]);
    }
    free(j);
}

static bool load(struct scsi_task *t, struct scsi_copy_list *ret_list)
{
    uint8_t bytes[SCSI_COPY_LIST_MAX];
    struct scsi_copy_error e;
    size_t len = scsi_parameters(t, bytes, sizeof bytes);
    if (len < t->data_len) {
        scsi_fail(t, SCSI_KEY_ILLEGAL_REQUEST, SCSI_ASC_PARAMETER_LIST_LENGTH);
        return false;
    }
    bool good = is_lid4(t) ? scsi_copy_list4_decode(bytes, len, ret_list, &e)
                           : scsi_copy_list_decode(bytes, len, ret_list, &e);
    if (!good) {
        scsi_copy_fail_list(t, &e);
    }
    return good;
}

void scsi_copy_run(struct scsi_task *t)
{
    if (t->data_len == 0) {
        return;
    }
    struct job *j = calloc(1, sizeof *j);
    if (!j) {
        scsi_fail_errno(t, -ENOMEM);
        return;
    }
    bool good = load(t, &j->list);
    if (good && j->list.usage != SCSI_COPY_NO_ID) {
        good = scsi_copy_claim(t, j->list.id, &j->result);
    }
    if (!good) {
        free(j);
        return;
    }
    if (j->result) {
        j->result->background = j->list.immed;
    }
    scsi_copy_do(t, &(struct scsi_copy_work){.fn = copy_all,
                                             .drop = free,
                                             .arg = j,
                                             .result = j->result,
                                             .background = j->list.immed});
}
