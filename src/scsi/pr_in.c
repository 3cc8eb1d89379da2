/* SPDX-License-Identifier: Apache-2.0 */
/* PERSISTENT RESERVE IN (SPC-4 6.15). */
#include "base/endian.h"
#include "scsi/command.h"
#include "scsi/pr_priv.h"
#include "scsi/sense.h"
#include "scsi/transport_id.h"

/* Sends what was gathered, as much of it as the allocation length takes. */
static void answer(struct scsi_task *t, struct bytes_writer *data)
{
    if (data->failed) {
        scsi_fail_errno(t, -ENOMEM);
    } else {
        size_t len = (size_t)MIN_OF(data->len, t->data_len);
        struct rt_buf *b = scsi_reply_begin(t, len ? len : 1);
        if (b) {
            memcpy(b->data, data->data, len);
            scsi_reply_end(t, b, len);
        }
    }
    bytes_writer_free(data);
}

static bool snapshot(struct scsi_task *t, struct scsi_pr_state *ret_state)
{
    int r = scsi_pr_snapshot(t->lu->pr, ret_state);
    if (r < 0) {
        scsi_fail_errno(t, r);
    }
    return r >= 0;
}

void scsi_pr_read_keys_run(struct scsi_task *t)
{
    struct scsi_pr_state s;
    struct bytes_writer data = {0};
    if (!snapshot(t, &s)) {
        return;
    }
    bytes_put_be32(&data, s.generation);
    bytes_put_be32(&data, (uint32_t)(8 * s.registrants.len));
    for (size_t i = 0; i < s.registrants.len; i++) {
        bytes_put_be64(&data, s.registrants.at[i].key);
    }
    scsi_pr_state_free(&s);
    answer(t, &data);
}

/* The key of the one that holds it; of all registrants 0. */
static uint64_t key_of_holder(const struct scsi_pr_state *s)
{
    for (size_t i = 0; i < s->registrants.len; i++) {
        if (s->registrants.at[i].holder) {
            return s->registrants.at[i].key;
        }
    }
    return 0;
}

void scsi_pr_read_reservation_run(struct scsi_task *t)
{
    struct scsi_pr_state s;
    struct bytes_writer data = {0};
    if (!snapshot(t, &s)) {
        return;
    }
    bytes_put_be32(&data, s.generation);
    bytes_put_be32(&data, s.type == SCSI_PR_NONE ? 0 : 16);
    if (s.type != SCSI_PR_NONE) {
        bytes_put_be64(&data, key_of_holder(&s));
        bytes_put_be32(&data, 0);
        bytes_put_u8(&data, 0);
        bytes_put_u8(&data, s.type); /* LU_SCOPE is 0 */
        bytes_put_be16(&data, 0);
    }
    scsi_pr_state_free(&s);
    answer(t, &data);
}

void scsi_pr_capabilities_run(struct scsi_task *t)
{
    struct scsi_pr_state s;
    struct bytes_writer data = {0};
    if (!snapshot(t, &s)) {
        return;
    }
    bytes_put_be16(&data, 8);
    bytes_put_u8(&data, 0x10 | 0x08 | 0x04 | 0x01);               /* CRH SIP_C ATP_C PTPL_C */
    bytes_put_u8(&data, 0x80 | 4 << 4 | (s.aptpl ? 0x01 : 0x00)); /* TMV, ALLOW COMMANDS, PTPL_A */
    bytes_put_u8(&data, 0x80 | 0x40 | 0x20 | 0x08 | 0x02);        /* types 7, 6, 5, 3, 1 */
    bytes_put_u8(&data, 0x01);                                    /* type 8 */
    bytes_put_be16(&data, 0);
    scsi_pr_state_free(&s);
    answer(t, &data);
}

static void put_status(const struct scsi_pr_state *s, const struct scsi_registrant *reg,
                       struct bytes_writer *ret_data)
{
    struct bytes_writer id = {0};
    bool holds = scsi_pr_holds(s, reg);
    scsi_transport_id_encode(reg->nexus.initiator, &id);
    bytes_put_be64(ret_data, reg->key);
    bytes_put_be32(ret_data, 0);
    bytes_put_u8(ret_data, holds ? 0x01 : 0x00); /* R_HOLDER; ALL_TG_PT is 0: one nexus each */
    bytes_put_u8(ret_data, holds ? s->type : 0);
    bytes_put_be32(ret_data, 0);
    bytes_put_be16(ret_data, reg->nexus.port);
    bytes_put_be32(ret_data, (uint32_t)id.len);
    bytes_put(ret_data, id.data, id.len);
    ret_data->failed = ret_data->failed || id.failed;
    bytes_writer_free(&id);
}

void scsi_pr_full_status_run(struct scsi_task *t)
{
    struct scsi_pr_state s;
    struct bytes_writer data = {0};
    if (!snapshot(t, &s)) {
        return;
    }
    bytes_put_be32(&data, s.generation);
    bytes_put_be32(&data, 0);
    for (size_t i = 0; i < s.registrants.len; i++) {
        put_status(&s, &s.registrants.at[i], &data);
    }
    if (!data.failed) {
        be32_store(data.data + 4, (uint32_t)(data.len - 8));
    }
    scsi_pr_state_free(&s);
    answer(t, &data);
}
