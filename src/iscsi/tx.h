/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sending PDUs: header, data by reference, padding and digests are queued and go out at the end of
 * the turn. Nothing here waits. An error breaks the connection (iscsi_conn_break). Private to
 * iscsi.
 */
#pragma once
#include "base/attr.h"
#include "iscsi/conn_priv.h"

/* The counters as they are now. */
struct iscsi_sn iscsi_tx_sn(const struct iscsi_conn *c);
/* The same, and this PDU takes a StatSN. */
struct iscsi_sn iscsi_tx_status_sn(struct iscsi_conn *c);

/* A PDU with len bytes of data copied from data; len is also in bhs. */
void iscsi_tx_copy(struct iscsi_conn *c, const uint8_t *bhs, const void *data, uint32_t len);
/* The same with the data of the chain, whose references are taken over. */
void iscsi_tx_chain(struct iscsi_conn *c, const uint8_t *bhs, struct rt_chain *data);

/* Fills StatSN and sends; data may be NULL. */
void iscsi_tx_answer(struct iscsi_conn *c, struct iscsi_answer *a, const void *data, uint32_t len);
/* Rejects the PDU with that header (48 bytes): §11.17. */
void iscsi_tx_reject(struct iscsi_conn *c, enum iscsi_reject_reason reason, const uint8_t *bhs);
/* An asynchronous message without data: §11.9. */
void iscsi_tx_async(struct iscsi_conn *c, enum iscsi_async_event event, const uint16_t param[3]);
