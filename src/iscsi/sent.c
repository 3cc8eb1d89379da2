/* SPDX-License-Identifier: Apache-2.0 */
#include "iscsi/sent.h"

#include "base/endian.h"
#include "base/msg.h"
#include "iscsi/tx.h"
#include "scsi/sense.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define ISCSI_ASC_SNACK_REJECTED 0x1113 /* RFC 7143 §11.4.7.2 */

static void discharge(struct iscsi_sent *e)
{
    struct iscsi_session *s = e->conn->session;
    if (e->charge > 0) {
        s->retained -= e->charge;
        rt_credits_give(&s->server->retained, e->charge);
        e->charge = 0;
    }
}

/* There is no room for what it keeps. */
static void lose(struct iscsi_sent *e)
{
    discharge(e);
    rt_chain_free(&e->data);
    rt_chain_init(&e->data);
    e->lost = true;
    if (!e->is_command) {
        free(e->tail);
        e->tail = NULL;
    }
}

static bool lose_oldest(struct iscsi_conn *c)
{
    list_for_each(&c->sent, struct iscsi_sent, link, e) {
        if (e->charge > 0) {
            lose(e);
            return true;
        }
    }
    return false;
}

static bool charge(struct iscsi_sent *e, uint64_t bytes)
{
    struct iscsi_session *s = e->conn->session;
    while (s->retained + bytes > ISCSI_RETAINED_BYTES) {
        if (!lose_oldest(e->conn)) {
            return false;
        }
    }
    if (!rt_credits_try(&s->server->retained, bytes)) {
        return false;
    }
    s->retained += bytes;
    e->charge = bytes;
    return true;
}

/* The whole of each buffer that the chain holds. */
static uint64_t held_by(const struct rt_chain *data)
{
    const struct rt_piece *p = rt_chain_pieces(data);
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < data->count; i++) {
        if (p[i].buf && (i == 0 || p[i].buf != p[i - 1].buf)) {
            bytes += p[i].buf->cap;
        }
    }
    return bytes;
}

static struct iscsi_sent *sent_new(struct iscsi_conn *c, const void *tail, uint32_t tail_len)
{
    struct iscsi_sent *e = calloc(1, sizeof *e);
    uint8_t *copy = tail_len > 0 ? malloc(tail_len) : NULL;
    if (!e || (tail_len > 0 && !copy)) {
        free(e);
        free(copy);
        return NULL;
    }
    if (tail_len > 0) {
        memcpy(copy, tail, tail_len);
    }
    e->tail = copy;
    e->tail_len = tail_len;
    e->conn = c;
    e->itt = ISCSI_TAG_NONE;
    rt_chain_init(&e->data);
    rt_mem_add(RT_MEM_CONNECTIONS, sizeof *e);
    atomic_fetch_add(&c->server->sent_total, 1);
    return e;
}

static void enlist(struct iscsi_sent *e)
{
    list_push_back(&e->conn->sent, &e->link);
    e->conn->sent_count++;
}

static void delist(struct iscsi_sent *e)
{
    list_remove(&e->link);
    e->conn->sent_count--;
}

void iscsi_sent_free(struct iscsi_sent *e)
{
    delist(e);
    discharge(e);
    atomic_fetch_sub(&e->conn->server->sent_total, 1);
    rt_chain_free(&e->data);
    free(e->tail);
    free(e);
    rt_mem_add(RT_MEM_CONNECTIONS, -(int64_t)sizeof *e);
}

void iscsi_sent_free_all(struct iscsi_conn *c)
{
    list_for_each(&c->sent, struct iscsi_sent, link, e) {
        iscsi_sent_free(e);
    }
}

void iscsi_sent_acknowledge(struct iscsi_conn *c, uint32_t exp_statsn)
{
    if (iscsi_sn_before(c->statsn, exp_statsn)) {
        return; /* more than there was */
    }
    list_for_each(&c->sent, struct iscsi_sent, link, e) {
        if (!iscsi_sn_before(e->statsn, exp_statsn)) {
            break;
        }
        iscsi_sent_free(e);
    }
}

static uint64_t offset_of(const struct iscsi_sent *e, uint32_t datasn)
{
    return datasn == iscsi_cut_end(&e->cut) ? e->cut.end : iscsi_cut_piece(&e->cut, datasn).at;
}

void iscsi_sent_acknowledge_data(struct iscsi_sent *e, uint32_t datasn)
{
    struct rt_chain rest;
    uint64_t at = offset_of(e, datasn);
    e->acked = datasn;
    if (datasn == iscsi_cut_end(&e->cut)) {
        e->collapsed = false; /* the PDU that brought the status is gone: it comes alone */
    }
    rt_chain_init(&rest);
    if (e->lost || at == e->data_at ||
        rt_chain_add_range(&rest, &e->data, at - e->data_at, e->cut.end - at) < 0) {
        rt_chain_free(&rest); /* they are kept a while longer */
        return;
    }
    rt_chain_free(&e->data);
    e->data = rest;
    e->data_at = at;
    uint64_t now = held_by(&e->data);
    if (now < e->charge) {
        e->conn->session->retained -= e->charge - now;
        rt_credits_give(&e->conn->server->retained, e->charge - now);
        e->charge = now;
    }
}

struct iscsi_sent *iscsi_sent_find(struct iscsi_conn *c, uint32_t itt)
{
    list_for_each(&c->sent, struct iscsi_sent, link, e) {
        if (e->is_command && e->itt == itt) {
            return e;
        }
    }
    return NULL;
}

static void send_piece(struct iscsi_sent *e, uint32_t datasn)
{
    struct iscsi_conn *c = e->conn;
    struct iscsi_piece piece = iscsi_cut_piece(&e->cut, datasn);
    bool last = piece.at + piece.len == e->cut.end;
    struct iscsi_data_in p = {.lun = e->lun,
                              .itt = e->itt,
                              .ttt = e->ttt,
                              .datasn = datasn,
                              .offset = (uint32_t)piece.at,
                              .data_len = piece.len};
    struct iscsi_sn sn = iscsi_tx_sn(c);
    sn.stat = e->statsn;
    p.flags = piece.final ? ISCSI_FINAL : 0;
    if (last && e->collapsed) {
        p.flags |= ISCSI_DATA_IN_STATUS | e->response.flags;
        p.status = e->response.status;
        p.residual = e->response.residual;
    } else if (piece.final && !last) {
        p.flags |= ISCSI_DATA_IN_ACK; /* once every MaxBurstLength: §11.7.2 */
    }
    uint8_t bhs[ISCSI_BHS_BYTES];
    struct rt_chain part;
    rt_chain_init(&part);
    iscsi_encode_data_in(bhs, &p, &sn);
    int r = rt_chain_add_range(&part, &e->data, piece.at - e->data_at, piece.len);
    if (r < 0) {
        iscsi_conn_break(c, r);
    } else {
        iscsi_tx_chain(c, bhs, &part);
    }
    rt_chain_free(&part);
}

static void send_status(struct iscsi_sent *e)
{
    struct iscsi_conn *c = e->conn;
    struct iscsi_sn sn = iscsi_tx_sn(c);
    sn.stat = e->statsn;
    if (e->is_command) {
        iscsi_encode_scsi_response(e->bhs, &e->response, &sn);
    } else {
        iscsi_encode_again(e->bhs, &sn);
    }
    iscsi_tx_copy(c, e->bhs, e->tail, e->tail_len);
}

void iscsi_sent_data_again(struct iscsi_sent *e, uint32_t datasn)
{
    if (e->conn->broken == 0) {
        send_piece(e, datasn);
    }
}

void iscsi_sent_status_again(struct iscsi_sent *e)
{
    if (e->conn->broken < 0) {
        return;
    }
    if (e->is_command && e->collapsed) {
        send_piece(e, iscsi_cut_end(&e->cut) - 1);
    } else {
        send_status(e);
    }
}

/* All that is not acknowledged, and the status. */
static void send_all(struct iscsi_sent *e)
{
    uint32_t end = iscsi_cut_end(&e->cut);
    for (uint32_t sn = e->cut.first; sn != end && e->conn->broken == 0; sn++) {
        send_piece(e, sn);
    }
    if (!e->collapsed && e->conn->broken == 0) {
        send_status(e);
    }
}

/* What is left of the data, as the connection takes them. */
static void cut_anew(struct iscsi_sent *e)
{
    const struct iscsi_params *p = &e->conn->params;
    e->cut.at = e->lost ? e->cut.end : offset_of(e, e->acked);
    e->cut.first = e->acked;
    e->cut.most = MIN_OF(p->send_len, ISCSI_SEND_LEN);
    e->cut.burst = p->max_burst;
    e->response.exp_datasn = e->r2ts + iscsi_cut_end(&e->cut);
}

/* Where all have left much unacknowledged, a connection may no more than a window. */
static void check_count(struct iscsi_conn *c)
{
    bool crowded = atomic_load(&c->server->sent_total) > ISCSI_SENT_ALL;
    if (c->sent_count > (crowded ? ISCSI_WINDOW_MAX : ISCSI_SENT_MAX)) {
        msg_warn_paced("iscsi", "%s: %s acknowledges nothing", c->peer, c->session->initiator);
        iscsi_conn_break(c, -ENOBUFS);
    }
}

static struct iscsi_sent *of_task(struct iscsi_task *t, const struct iscsi_scsi_response *response)
{
    struct iscsi_conn *c = t->conn;
    struct scsi_task *s = &t->scsi;
    uint8_t tail[2 + SCSI_SENSE_MAX];
    uint32_t tail_len = 0;
    if (s->sense_len > 0) {
        be16_store(tail, s->sense_len);
        memcpy(tail + 2, s->sense, s->sense_len);
        tail_len = 2u + s->sense_len;
    }
    struct iscsi_sent *e = sent_new(c, tail, tail_len);
    if (!e) {
        return NULL;
    }
    e->is_command = true;
    e->itt = t->itt;
    e->lun = t->lun;
    e->ttt = iscsi_session_ttt(c->session);
    e->r2ts = t->r2tsn;
    e->response = *response;
    e->response.data_len = tail_len;
    e->data = s->data_in; /* with its references */
    rt_chain_init(&s->data_in);
    e->cut = (struct iscsi_cut){.end = e->data.len, .most = 1, .burst = 1};
    cut_anew(e);
    return e;
}

bool iscsi_sent_reply(struct iscsi_task *t, const struct iscsi_scsi_response *response)
{
    struct iscsi_conn *c = t->conn;
    struct iscsi_sent *e = of_task(t, response);
    if (!e) {
        return false;
    }
    e->collapsed = e->cut.end > 0 && response->status == SCSI_GOOD && !t->bidi;
    e->statsn = c->statsn++;
    e->was_sent = true;
    send_all(e);
    enlist(e);
    if (e->cut.end > 0 && !charge(e, held_by(&e->data))) {
        lose(e);
    }
    check_count(c);
    return true;
}

bool iscsi_sent_orphan(struct iscsi_task *t, const struct iscsi_scsi_response *response)
{
    struct iscsi_sent *e = of_task(t, response);
    if (!e) {
        return false;
    }
    e->statsn = t->conn->statsn; /* nobody acknowledges it */
    enlist(e);
    if (e->cut.end > 0 && !charge(e, held_by(&e->data))) {
        lose(e);
    }
    return true;
}

void iscsi_sent_answer(struct iscsi_conn *c, uint32_t statsn, const uint8_t *bhs, const void *data,
                       uint32_t len)
{
    struct iscsi_sent *e = sent_new(c, data, len);
    if (!e) {
        return; /* it cannot be asked for again */
    }
    memcpy(e->bhs, bhs, sizeof e->bhs);
    e->statsn = statsn;
    e->was_sent = true;
    enlist(e);
    if (len > 0 && !charge(e, len)) {
        lose(e);
    }
    check_count(c);
}

void iscsi_sent_resegment(struct iscsi_sent *e, uint32_t snack_tag)
{
    e->response.snack_tag = snack_tag;
    e->collapsed = false;
    cut_anew(e);
    send_all(e);
}

/* The data are gone, and nobody else has them: the initiator is to repeat the command. */
static void fail(struct iscsi_sent *e)
{
    struct scsi_sense s = {.key = SCSI_KEY_ABORTED_COMMAND, .asc = ISCSI_ASC_SNACK_REJECTED};
    uint8_t *tail = realloc(e->tail, 2 + SCSI_SENSE_MAX);
    uint32_t len = 0;
    e->response.status = SCSI_BUSY; /* without memory for sense data */
    if (tail) {
        size_t sense_len = scsi_sense_build(false, &s, tail + 2);
        be16_store(tail, (uint16_t)sense_len);
        len = (uint32_t)(2 + sense_len);
        e->tail = tail;
        e->response.status = SCSI_CHECK_CONDITION;
    }
    e->tail_len = len;
    e->response.data_len = len;
    e->response.flags = 0;
    e->response.residual = 0;
}

void iscsi_sent_reassign(struct iscsi_sent *e, struct iscsi_conn *to)
{
    delist(e);
    e->conn = to;
    if (e->lost && e->acked != iscsi_cut_end(&e->cut)) {
        fail(e);
    }
    cut_anew(e);
    e->collapsed = e->cut.at < e->cut.end && e->response.status == SCSI_GOOD && !e->lost &&
                   !(e->response.flags & (ISCSI_RESPONSE_BIDI_UNDER | ISCSI_RESPONSE_BIDI_OVER));
    e->response.snack_tag = 0;
    e->statsn = to->statsn++;
    e->was_sent = true;
    send_all(e);
    enlist(e);
}
