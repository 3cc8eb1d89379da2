/* SPDX-License-Identifier: Apache-2.0 */
/* Text requests in full feature phase (RFC 7143 §11.10, §11.11) and SendTargets (appendix C). */
#include "base/err.h"
#include "dev/access.h"
#include "iscsi/conn_priv.h"
#include "iscsi/tx.h"

#include <errno.h>
#include <string.h>

#define TARGETS_AT_ONCE 4

void iscsi_text_reset(struct iscsi_conn *c)
{
    bytes_writer_free(&c->text_in);
    bytes_writer_free(&c->text_out);
    c->text_sent = 0;
    c->text_ttt = ISCSI_TAG_NONE;
}

static void put_target(struct iscsi_conn *c, const char *iqn)
{
    iscsi_text_put(&c->text_out, "TargetName", "%s", iqn);
    iscsi_portals_put(c, iqn, &c->text_out);
}

/* Only what it may log in to. */
static bool is_shown(struct iscsi_conn *c, const char *iqn)
{
    struct dev_access *rules;
    if (!dev_target_is_reached(c->server->registry, iqn, c->session->tpgt) ||
        dev_access_get(c->server->registry, iqn, &rules) < 0) {
        return false;
    }
    bool shown = dev_access_allows(rules, c->session->initiator, c->peer);
    dev_access_unref(rules);
    return shown && iscsi_isns_allows(c->server, iqn, c->session->initiator);
}

static void put_all_targets(struct iscsi_conn *c)
{
    struct dev_target_info infos[TARGETS_AT_ONCE];
    char after[DEV_IQN_MAX + 1] = "";
    size_t n;
    do {
        n = dev_target_list(c->server->registry, after, infos, TARGETS_AT_ONCE);
        for (size_t i = 0; i < n; i++) {
            if (is_shown(c, infos[i].iqn)) {
                put_target(c, infos[i].iqn);
            }
        }
        if (n > 0) {
            memcpy(after, infos[n - 1].iqn, sizeof after);
        }
    } while (n == TARGETS_AT_ONCE);
}

/* All is for discovery sessions; nothing, for the session's own target; a name, in a normal
 * session, for its own too. */
static void send_targets(struct iscsi_conn *c, const struct iscsi_key *k)
{
    struct dev_target_info info;
    if (strcmp(k->value, "All") == 0) {
        if (c->session->discovery) {
            put_all_targets(c);
        } else {
            iscsi_text_put_key(&c->text_out, k, "Reject");
        }
        return;
    }
    const char *name = k->value[0] ? k->value : c->session->iqn;
    if (!name || (!c->session->discovery && strcasecmp(name, c->session->iqn) != 0)) {
        iscsi_text_put_key(&c->text_out, k, "Reject");
        return;
    }
    if (strlen(name) <= DEV_IQN_MAX && dev_target_find(c->server->registry, name, &info) >= 0 &&
        is_shown(c, info.iqn)) {
        put_target(c, info.iqn);
    }
}

static int take_key(struct iscsi_conn *c, const struct iscsi_key *k, bool *told_targets)
{
    if (iscsi_key_is(k, "SendTargets")) {
        if (*told_targets) { /* a few bytes that ask for a long list, again and again */
            return ERR_PROTOCOL;
        }
        *told_targets = true;
        send_targets(c, k);
        return 0;
    }
    if (iscsi_key_is(k, "MaxRecvDataSegmentLength")) { /* may be declared at any time: §13.12 */
        uint64_t len;
        if (iscsi_text_number(k->value, &len) < 0 || len < 512 || len > ISCSI_DATA_LEN_MAX) {
            return ERR_PROTOCOL;
        }
        c->params.send_len = (uint32_t)len;
        return 0;
    }
    /* Every other key that we know belongs to the login phase. */
    struct iscsi_nego scratch;
    struct bytes_writer unused = {0};
    struct iscsi_limits none = {.recv_len = ISCSI_RECV_LEN};
    iscsi_nego_init(&scratch, &none, false);
    int known = iscsi_nego_key(&scratch, k, &unused);
    bytes_writer_free(&unused);
    iscsi_text_put_key(&c->text_out, k, known == 1 ? "NotUnderstood" : "Reject");
    return 0;
}

static int take_text(struct iscsi_conn *c)
{
    struct iscsi_text t = iscsi_text_of(c->text_in.data, c->text_in.len);
    struct iscsi_key k;
    bool told_targets = false;
    int r;
    while ((r = iscsi_text_next(&t, &k)) > 0) {
        r = take_key(c, &k, &told_targets);
        if (r < 0) {
            return r;
        }
    }
    c->text_in.len = 0;
    if (r >= 0 && c->text_out.failed) {
        return -ENOMEM;
    }
    return r;
}

/* The next piece of the answer. */
static void send_piece(struct iscsi_conn *c, const struct iscsi_request *q)
{
    size_t left = c->text_out.len - c->text_sent;
    uint32_t len = (uint32_t)MIN_OF(left, MIN_OF(c->params.send_len, ISCSI_SEND_LEN));
    bool rest = len < left;
    bool last = !rest && q->final && !q->more;
    if (!last && c->text_ttt == ISCSI_TAG_NONE) {
        c->text_ttt = iscsi_session_ttt(c->session);
    }
    struct iscsi_answer a = {.opcode = ISCSI_TEXT_RESPONSE,
                             .flags =
                                 (uint8_t)((last ? ISCSI_FINAL : 0) | (rest ? ISCSI_CONTINUE : 0)),
                             .lun = q->lun,
                             .itt = q->itt,
                             .ttt = last ? ISCSI_TAG_NONE : c->text_ttt};
    const uint8_t *from = c->text_out.data ? c->text_out.data + c->text_sent : NULL;
    iscsi_tx_answer(c, &a, from, len);
    c->text_sent += len;
    if (last) {
        iscsi_text_reset(c);
    } else if (!rest) {
        c->text_out.len = 0;
        c->text_sent = 0;
    }
}

static int protocol_error(struct iscsi_conn *c)
{
    iscsi_text_reset(c);
    return ERR_PROTOCOL;
}

int iscsi_text_request(struct iscsi_conn *c, const struct iscsi_request *q, const void *data,
                       size_t len)
{
    if (q->text.ttt == ISCSI_TAG_NONE) {
        iscsi_text_reset(c); /* a new exchange ends one that was open */
        c->text_itt = q->itt;
    } else if (q->text.ttt != c->text_ttt || q->itt != c->text_itt) {
        return protocol_error(c);
    }
    if ((q->more && q->final) || c->text_in.len + len > ISCSI_TEXT_MAX) {
        return protocol_error(c);
    }
    if (len > 0) {
        bytes_put(&c->text_in, data, len);
        if (c->text_in.failed) {
            return -ENOMEM;
        }
    }
    if (!q->more && c->text_sent == c->text_out.len) {
        int r = take_text(c);
        if (r < 0) {
            return r;
        }
    }
    send_piece(c, q);
    return 0;
}
