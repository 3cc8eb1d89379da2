/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Receiving PDUs: headers, then their data segment piece by piece into wherever it belongs. Private
 * to iscsi.
 *
 *     r = iscsi_rx_header(c, &head);                  // WAITS; digest checked, fields decoded
 *     r = iscsi_rx_data(c, dst, head.req.data_len);   // WAITS; or several calls, or
 * iscsi_rx_skip() r = iscsi_rx_end(c);                            // 1: the data digest was wrong
 *
 * A busy connection owns a buffer that one recv fills with all that has arrived; a data segment
 * longer than what is there is received in place. An idle connection owns no buffer.
 */
#pragma once
#include "base/attr.h"
#include "iscsi/conn_priv.h"

struct iscsi_header {
    struct iscsi_request req;
    bool known;         /* the opcode is one */
    const uint8_t *bhs; /* valid until the next receive */
    const uint8_t *ahs;
};

/*
 * The next header: 0; -ETIMEDOUT when nothing arrived by idle_deadline_ns (between PDUs only);
 * ERR_PROTOCOL (a wrong header digest too); the stream's errors; -ECONNRESET at the end of the
 * stream.
 */
MUST int iscsi_rx_header(struct iscsi_conn *c, uint64_t idle_deadline_ns, struct iscsi_header *ret)
    WAITS;
/* Looks at the next header without taking it; only where there is no header digest. As above. */
MUST int iscsi_rx_peek(struct iscsi_conn *c, uint64_t deadline_ns, const uint8_t **ret_bhs) WAITS;
/* Takes len bytes of the data segment. */
MUST int iscsi_rx_data(struct iscsi_conn *c, void *dst, uint32_t len) WAITS;
MUST int iscsi_rx_skip(struct iscsi_conn *c) WAITS;
/* Passes over what is left of the segment, its padding and digest: 0, or 1 when the digest is
 * wrong. */
MUST int iscsi_rx_end(struct iscsi_conn *c) WAITS;
/* The whole segment, appended to w: as iscsi_rx_end(), -ENOMEM. */
MUST int iscsi_rx_all(struct iscsi_conn *c, struct bytes_writer *w) WAITS;
/* True when a whole header lies in the buffer. */
bool iscsi_rx_ready(const struct iscsi_conn *c);
void iscsi_rx_free(struct iscsi_conn *c);
