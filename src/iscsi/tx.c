/* SPDX-License-Identifier: Apache-2.0 */
#include "iscsi/tx.h"

#include "iscsi/sent.h"

#include "base/crc32c.h"
#include "base/endian.h"

#include <string.h>

struct iscsi_sn iscsi_tx_sn(const struct iscsi_conn *c)
{
    return (struct iscsi_sn){
        .stat = c->statsn, .exp_cmd = c->session->window.exp, .max_cmd = c->session->window.max};
}

struct iscsi_sn iscsi_tx_status_sn(struct iscsi_conn *c)
{
    struct iscsi_sn sn = iscsi_tx_sn(c);
    c->statsn++;
    return sn;
}

static int send_header(struct iscsi_conn *c, const uint8_t *bhs)
{
    if (!c->header_digest) {
        return net_send_copy(c->stream, bhs, ISCSI_BHS_BYTES);
    }
    uint8_t with[ISCSI_BHS_BYTES + ISCSI_DIGEST_BYTES];
    memcpy(with, bhs, ISCSI_BHS_BYTES);
    le32_store(with + ISCSI_BHS_BYTES, crc32c(0, bhs, ISCSI_BHS_BYTES));
    return net_send_copy(c->stream, with, sizeof with);
}

/* Padding and digest after len bytes of data with that checksum. */
static int send_tail(struct iscsi_conn *c, uint32_t len, uint32_t crc)
{
    uint8_t tail[3 + ISCSI_DIGEST_BYTES] = {0};
    uint32_t pad = iscsi_padded(len) - len;
    uint32_t tail_len = pad;
    if (c->data_digest) {
        le32_store(tail + pad, crc32c(crc, tail, pad));
        tail_len += ISCSI_DIGEST_BYTES;
    }
    return tail_len ? net_send_copy(c->stream, tail, tail_len) : 0;
}

void iscsi_tx_copy(struct iscsi_conn *c, const uint8_t *bhs, const void *data, uint32_t len)
{
    int r = send_header(c, bhs);
    if (r >= 0 && len > 0) {
        r = net_send_copy(c->stream, data, len);
        if (r >= 0) {
            r = send_tail(c, len, c->data_digest ? crc32c(0, data, len) : 0);
        }
    }
    if (r < 0) {
        iscsi_conn_break(c, r);
    }
}

void iscsi_tx_chain(struct iscsi_conn *c, const uint8_t *bhs, struct rt_chain *data)
{
    uint32_t len = (uint32_t)data->len;
    uint32_t crc = 0;
    if (c->data_digest) {
        const struct rt_piece *p = rt_chain_pieces(data);
        for (uint32_t i = 0; i < data->count; i++) {
            crc = rt_piece_crc32c(crc, &p[i]);
        }
    }
    int r = send_header(c, bhs);
    if (r >= 0) {
        r = net_send_chain(c->stream, data);
    }
    if (r >= 0) {
        r = send_tail(c, len, crc);
    }
    if (r < 0) {
        iscsi_conn_break(c, r);
    }
}

void iscsi_tx_answer(struct iscsi_conn *c, struct iscsi_answer *a, const void *data, uint32_t len)
{
    uint8_t bhs[ISCSI_BHS_BYTES];
    struct iscsi_sn sn = iscsi_tx_status_sn(c);
    a->data_len = len;
    iscsi_encode_answer(bhs, a, &sn);
    iscsi_tx_copy(c, bhs, data, len);
    if (unlikely(c->keeps) && c->broken == 0) {
        iscsi_sent_answer(c, sn.stat, bhs, data, len);
    }
}

void iscsi_tx_reject(struct iscsi_conn *c, enum iscsi_reject_reason reason, const uint8_t *bhs)
{
    iscsi_count(&iscsi_conn_counters(c)->rejects);
    struct iscsi_answer a = {.opcode = ISCSI_REJECT,
                             .flags = ISCSI_FINAL,
                             .result = (uint8_t)reason,
                             .itt = ISCSI_TAG_NONE};
    iscsi_tx_answer(c, &a, bhs, ISCSI_BHS_BYTES);
}

void iscsi_tx_async(struct iscsi_conn *c, enum iscsi_async_event event, const uint16_t param[3])
{
    struct iscsi_answer a = {.opcode = ISCSI_ASYNC_MESSAGE,
                             .flags = ISCSI_FINAL,
                             .itt = ISCSI_TAG_NONE,
                             .event = (uint8_t)event,
                             .param = {param[0], param[1], param[2]}};
    iscsi_tx_answer(c, &a, NULL, 0);
}
