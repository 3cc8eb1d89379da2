/* SPDX-License-Identifier: Apache-2.0 */
/* Parameter data: to the initiator, cut as the allocation length says; and from it. */
#include "base/assert.h"
#include "scsi/scsi_priv.h"
#include "scsi/sense.h"

struct rt_buf *scsi_reply_begin(struct scsi_task *t, size_t cap)
{
    struct rt_buf *b;
    int r = rt_buf_alloc(cap, RT_MEM_EGRESS, &b);
    if (r < 0) {
        scsi_fail_errno(t, r);
        return NULL;
    }
    memset(b->data, 0, cap);
    return b;
}

uint64_t scsi_task_in_limit(const struct scsi_task *t)
{
    return t->transport_read ? t->edtl : 0;
}

void scsi_reply_end(struct scsi_task *t, struct rt_buf *b, size_t len)
{
    ASSERT(len <= b->cap);
    t->in_total = MIN_OF(len, t->data_len);
    uint64_t sent = MIN_OF(t->in_total, scsi_task_in_limit(t));
    if (sent > 0) {
        int r = rt_chain_add(&t->data_in, b, b->data, (uint32_t)sent);
        if (r < 0) {
            scsi_fail_errno(t, r);
        }
    }
    rt_buf_unref(b);
}

size_t scsi_parameters(const struct scsi_task *t, uint8_t *dst, size_t cap)
{
    size_t len = (size_t)MIN_OF(MIN_OF(t->data_out.len, t->data_len), cap);
    if (len > 0) {
        rt_chain_copy_out(&t->data_out, 0, dst, len);
    }
    return len;
}
