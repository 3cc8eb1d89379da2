/* SPDX-License-Identifier: Apache-2.0 */
/* PERSISTENT RESERVE OUT (SPC-4 6.16): from CDB and parameter list to a request. */
#include "base/endian.h"
#include "scsi/command.h"
#include "scsi/pr_priv.h"
#include "scsi/sense.h"
#include "scsi/transport_id.h"

#define LIST_LEN 24u

static void fail_length(struct scsi_task *t)
{
    scsi_fail(t, SCSI_KEY_ILLEGAL_REQUEST, SCSI_ASC_PARAMETER_LIST_LENGTH);
}

void scsi_pr_out_parse(struct scsi_task *t)
{
    unsigned action = t->cdb[1] & 0x1f;
    bool longer = action == SCSI_PR_REGISTER || action == SCSI_PR_REGISTER_MOVE;
    if (t->data_len > SCSI_PR_LIST_MAX) {
        scsi_fail_cdb(t, 5, 7);
    } else if (t->data_len < LIST_LEN || (!longer && t->data_len != LIST_LEN)) {
        fail_length(t);
    }
}

/* Adds the ports that a TransportID names: itself, or those of that initiator which are there. */
static int add_ports(struct scsi_task *t, const struct scsi_transport_id *id, uint16_t port,
                     struct scsi_pr_request *q)
{
    struct scsi_pr_nexus n = {.port = port};
    if (id->is_port) {
        memcpy(n.initiator, id->name, sizeof n.initiator);
        return vec_push(&q->others, n);
    }
    return scsi_pr_add_known(t->lu, id->name, port, q);
}

/* The list must be nothing but TransportIDs: 0, -EINVAL, -ENOMEM. */
static int read_ids(struct scsi_task *t, struct bytes_reader *in, uint16_t port,
                    struct scsi_pr_request *q)
{
    int r = 0;
    while (r >= 0 && bytes_left(in) > 0) {
        struct scsi_transport_id id;
        r = scsi_transport_id_decode(in, &id);
        if (r >= 0) {
            r = add_ports(t, &id, port, q);
        }
        if (r >= 0 && q->others.len > SCSI_PR_REGISTRANTS_MAX) {
            r = -EINVAL;
        }
    }
    return r;
}

static bool is_port(const struct scsi_pr_request *q, uint16_t port)
{
    for (size_t i = 0; i < q->port_count; i++) {
        if (q->ports[i] == port) {
            return true;
        }
    }
    return false;
}

/* Table 217: true when it is in order. */
static bool read_move(struct scsi_task *t, struct bytes_reader *in, struct scsi_pr_request *q)
{
    q->key = bytes_be64(in);
    q->action_key = bytes_be64(in);
    (void)bytes_u8(in);
    uint8_t bits = bytes_u8(in);
    q->unreg = bits & 0x02;
    q->aptpl = bits & 0x01;
    uint16_t port = bytes_be16(in);
    uint32_t len = bytes_be32(in);
    if (len != bytes_left(in)) {
        fail_length(t);
        return false;
    }
    int r = read_ids(t, in, port, q);
    if (r == -ENOMEM) {
        scsi_fail_errno(t, r);
        return false;
    }
    if (r < 0 || q->others.len != 1) {
        scsi_fail_parameter(t, LIST_LEN, -1);
        return false;
    }
    if (!is_port(q, port)) {
        scsi_fail_parameter(t, 18, 7);
        return false;
    }
    return true;
}

/* Table 214. */
static bool read_basic(struct scsi_task *t, struct bytes_reader *in, struct scsi_pr_request *q)
{
    q->key = bytes_be64(in);
    q->action_key = bytes_be64(in);
    (void)bytes_be32(in);
    uint8_t bits = bytes_u8(in);
    (void)bytes_take(in, 3);
    q->spec_i_pt = bits & 0x08;
    q->all_tg_pt = bits & 0x04;
    q->aptpl = bits & 0x01;
    if (!q->spec_i_pt || q->action != SCSI_PR_REGISTER) {
        if (bytes_left(in) > 0) {
            fail_length(t);
            return false;
        }
        return true;
    }
    uint32_t len = bytes_be32(in);
    if (bytes_bad(in) || len != bytes_left(in)) {
        fail_length(t);
        return false;
    }
    int r = read_ids(t, in, q->self.port, q);
    if (r == -ENOMEM) {
        scsi_fail_errno(t, r);
    } else if (r < 0) {
        scsi_fail_parameter(t, LIST_LEN + 4, -1);
    }
    return r >= 0;
}

static bool read_list(struct scsi_task *t, struct scsi_pr_request *q)
{
    auto_free uint8_t *list = malloc(t->data_len);
    if (!list) {
        scsi_fail_errno(t, -ENOMEM);
        return false;
    }
    size_t len = scsi_parameters(t, list, t->data_len);
    if (len < t->data_len) {
        fail_length(t);
        return false;
    }
    struct bytes_reader in = bytes_reader_of(list, len);
    return q->action == SCSI_PR_REGISTER_MOVE ? read_move(t, &in, q) : read_basic(t, &in, q);
}

void scsi_pr_out_run(struct scsi_task *t)
{
    uint16_t ports[DEV_TAGS_MAX];
    struct scsi_pr_request q = {
        .action = t->cdb[1] & 0x1f,
        .scope = t->cdb[2] >> 4,
        .type = t->cdb[2] & 0x0f,
        .ports = ports,
        .port_count = scsi_target_ports(t->nexus->target, ports),
    };
    memcpy(q.self.initiator, t->nexus->identity, sizeof q.self.initiator);
    q.self.port = t->nexus->opt.relative_port;
    if (read_list(t, &q)) {
        scsi_pr_change(t, &q);
    }
    vec_free(&q.others);
}
