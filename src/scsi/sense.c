/* SPDX-License-Identifier: Apache-2.0 */
#include "scsi/sense.h"
#include "base/endian.h"
#include "base/err.h"
#include "base/msg.h"
#include "scsi/scsi_priv.h"

static void put_field(const struct scsi_sense *s, uint8_t ret[3])
{
    ret[0] = 0x80; /* SKSV */
    if (s->has_progress) {
        be16_store(ret + 1, s->progress);
        return;
    }
    if (s->field == SCSI_FIELD_CDB) {
        ret[0] |= 0x40;
    } else if (s->field == SCSI_FIELD_SEGMENT) {
        ret[0] |= 0x20; /* SD */
    }
    if (s->field_bit >= 0) {
        ret[0] |= (uint8_t)(0x08 | (s->field_bit & 7));
    }
    be16_store(ret + 1, s->field_byte);
}

static size_t build_fixed(const struct scsi_sense *s, uint8_t *ret)
{
    memset(ret, 0, 18);
    ret[0] = 0x70;
    ret[2] = (uint8_t)s->key;
    if (s->has_info && s->info <= UINT32_MAX) {
        ret[0] |= 0x80; /* VALID */
        be32_store(ret + 3, (uint32_t)s->info);
    }
    ret[7] = 10;
    if (s->has_command_info) {
        be32_store(ret + 8, s->command_info);
    }
    be16_store(ret + 12, s->asc);
    if (s->field != SCSI_FIELD_NONE || s->has_progress) {
        put_field(s, ret + 15);
    }
    return 18;
}

static size_t build_descriptor(const struct scsi_sense *s, uint8_t *ret)
{
    memset(ret, 0, 8 + 12 + 12 + 8);
    size_t len = 8;
    ret[0] = 0x72;
    ret[1] = (uint8_t)s->key;
    be16_store(ret + 2, s->asc);
    if (s->has_info) {
        ret[len] = 0x00; /* information descriptor, SPC-4 4.5.2.2 */
        ret[len + 1] = 0x0a;
        ret[len + 2] = 0x80;
        be64_store(ret + len + 4, s->info);
        len += 12;
    }
    if (s->has_command_info) {
        ret[len] = 0x01; /* command specific information descriptor, SPC-4 4.5.2.3 */
        ret[len + 1] = 0x0a;
        be32_store(ret + len + 8, s->command_info);
        len += 12;
    }
    if (s->field != SCSI_FIELD_NONE || s->has_progress) {
        ret[len] = 0x02; /* sense key specific descriptor, SPC-4 4.5.2.4 */
        ret[len + 1] = 0x06;
        put_field(s, ret + len + 4);
        len += 8;
    }
    ret[7] = (uint8_t)(len - 8);
    return len;
}

size_t scsi_sense_build(bool descriptor, const struct scsi_sense *s, uint8_t ret[SCSI_SENSE_MAX])
{
    return descriptor ? build_descriptor(s, ret) : build_fixed(s, ret);
}

void scsi_fail_status(struct scsi_task *t, enum scsi_status status)
{
    t->status = status;
    t->sense_len = 0;
    rt_chain_free(&t->data_in);
    t->in_total = 0;
}

void scsi_fail_sense(struct scsi_task *t, const struct scsi_sense *s)
{
    scsi_fail_status(t, SCSI_CHECK_CONDITION);
    bool descriptor = t->lu && (scsi_lu_mode(t->lu) & SCSI_MODE_D_SENSE);
    t->sense_len = (uint16_t)scsi_sense_build(descriptor, s, t->sense);
}

void scsi_fail(struct scsi_task *t, enum scsi_key key, uint16_t asc)
{
    scsi_fail_sense(t, &(struct scsi_sense){.key = key, .asc = asc});
}

void scsi_fail_cdb(struct scsi_task *t, unsigned byte, int bit)
{
    scsi_fail_sense(t, &(struct scsi_sense){.key = SCSI_KEY_ILLEGAL_REQUEST,
                                            .asc = SCSI_ASC_INVALID_FIELD_IN_CDB,
                                            .field = SCSI_FIELD_CDB,
                                            .field_byte = (uint16_t)byte,
                                            .field_bit = bit});
}

void scsi_fail_parameter(struct scsi_task *t, unsigned byte, int bit)
{
    scsi_fail_sense(t, &(struct scsi_sense){.key = SCSI_KEY_ILLEGAL_REQUEST,
                                            .asc = SCSI_ASC_INVALID_FIELD_IN_PARAMETERS,
                                            .field = SCSI_FIELD_DATA,
                                            .field_byte = (uint16_t)byte,
                                            .field_bit = bit});
}

void scsi_fail_miscompare(struct scsi_task *t, uint64_t offset)
{
    scsi_fail_sense(t, &(struct scsi_sense){.key = SCSI_KEY_MISCOMPARE,
                                            .asc = SCSI_ASC_MISCOMPARE,
                                            .has_info = true,
                                            .info = offset});
}

/* What an initiator is told about an error from below. Commands that write have their own code for
 * EIO. */
static const struct {
    int errno_class;
    enum scsi_status status;
    enum scsi_key key;
    uint16_t asc;
} errno_table[] = {
    {EIO, SCSI_CHECK_CONDITION, SCSI_KEY_MEDIUM_ERROR, SCSI_ASC_UNRECOVERED_READ_ERROR},
    {ENOSPC, SCSI_CHECK_CONDITION, SCSI_KEY_DATA_PROTECT, SCSI_ASC_SPACE_ALLOCATION_FAILED},
    {EDQUOT, SCSI_CHECK_CONDITION, SCSI_KEY_DATA_PROTECT, SCSI_ASC_SPACE_ALLOCATION_FAILED},
    {EPERM, SCSI_CHECK_CONDITION, SCSI_KEY_DATA_PROTECT, SCSI_ASC_WRITE_PROTECTED},
    {EROFS, SCSI_CHECK_CONDITION, SCSI_KEY_NOT_READY, SCSI_ASC_MANUAL_INTERVENTION},
    {EINPROGRESS, SCSI_CHECK_CONDITION, SCSI_KEY_NOT_READY, SCSI_ASC_SANITIZE_IN_PROGRESS},
    {ENOMEDIUM, SCSI_CHECK_CONDITION, SCSI_KEY_NOT_READY, SCSI_ASC_MEDIUM_NOT_PRESENT},
    {ENODEV, SCSI_CHECK_CONDITION, SCSI_KEY_ILLEGAL_REQUEST, SCSI_ASC_LUN_NOT_SUPPORTED},
    {EINVAL, SCSI_CHECK_CONDITION, SCSI_KEY_ILLEGAL_REQUEST, SCSI_ASC_LBA_OUT_OF_RANGE},
    {ECANCELED, SCSI_CHECK_CONDITION, SCSI_KEY_ABORTED_COMMAND, SCSI_ASC_NONE},
    {ESHUTDOWN, SCSI_CHECK_CONDITION, SCSI_KEY_ABORTED_COMMAND, SCSI_ASC_NONE},
    {ETIMEDOUT, SCSI_CHECK_CONDITION, SCSI_KEY_ABORTED_COMMAND, SCSI_ASC_COMMAND_TIMEOUT},
    {ENOMEM, SCSI_BUSY, SCSI_KEY_NO_SENSE, SCSI_ASC_NONE},
    {EAGAIN, SCSI_BUSY, SCSI_KEY_NO_SENSE, SCSI_ASC_NONE},
};

void scsi_fail_errno(struct scsi_task *t, int r)
{
    int class_errno = err_class(r);
    for (size_t i = 0; i < ARRAY_LEN(errno_table); i++) {
        if (errno_table[i].errno_class != class_errno) {
            continue;
        }
        if (errno_table[i].status != SCSI_CHECK_CONDITION) {
            scsi_fail_status(t, errno_table[i].status);
            return;
        }
        uint16_t asc = errno_table[i].asc;
        if (asc == SCSI_ASC_UNRECOVERED_READ_ERROR && t->command &&
            (t->command->flags & SCSI_CMD_WRITES)) {
            asc = SCSI_ASC_WRITE_ERROR;
        }
        scsi_fail(t, errno_table[i].key, asc);
        return;
    }
    msg_warn("scsi", "command %02x failed: %s", t->cdb[0], err_name(r));
    scsi_fail(t, SCSI_KEY_HARDWARE_ERROR, SCSI_ASC_INTERNAL_FAILURE);
}
