/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Messages of iSNS (RFC 4171 §5): pure. A message is a function, a transaction, and a payload of
 * attributes (tag, length, value), cut into PDUs of at most 64 KiB.
 *
 *     struct bytes_writer payload = {0}, out = {0};
 *     isns_put_text(&payload, ISNS_NODE_NAME, "iqn.2024-01.com.example:a");
 *     isns_put_null(&payload, ISNS_DELIMITER);
 *     isns_message_put(&out, &(struct isns_header){.function = ..., .transaction = 1}, &payload);
 *
 *     r = isns_header_read(bytes, &h);                  // 12 bytes, then h.len bytes follow
 *     r = isns_assembly_add(&a, &h, payload);           // 1: a.payload is whole
 *     struct bytes_reader in = bytes_reader_of(a.payload.data, a.payload.len);
 *     while ((r = isns_attr_next(&in, &attr)) > 0) { ... }
 */
#pragma once
#include "base/attr.h"
#include "base/bytes.h"
#include "isns/format.h"

#define ISNS_PDU_PAYLOAD_MAX 65532u
#define ISNS_MESSAGE_MAX (4u << 20) /* of a message that is taken */

struct isns_header {
    uint16_t function;
    uint16_t len; /* of the payload */
    uint16_t flags;
    uint16_t transaction;
    uint16_t sequence;
};

/* 0; ERR_PROTOCOL: not of this version, or a length that is none. */
MUST int isns_header_read(const uint8_t bytes[ISNS_HEADER_LEN], struct isns_header *ret_header);

/* Appends the message as PDUs. Of the header it takes function, transaction, and flags. */
void isns_message_put(struct bytes_writer *out, const struct isns_header *h,
                      const struct bytes_writer *payload);

/* A message being put together. All zero at first, but max. */
struct isns_assembly {
    size_t max; /* bytes of its payload; 0: ISNS_MESSAGE_MAX */
    struct isns_header first;
    struct bytes_writer payload;
    uint16_t next_sequence;
    bool open;
};

/* 1: first and payload have a message; 0: more PDUs follow; ERR_PROTOCOL, -ENOMEM, -E2BIG. */
MUST int isns_assembly_add(struct isns_assembly *a, const struct isns_header *h,
                           const uint8_t *payload);
/* Ready for the next message. */
void isns_assembly_reset(struct isns_assembly *a);
void isns_assembly_free(struct isns_assembly *a);

struct isns_attr {
    uint32_t tag;
    uint32_t len;
    const uint8_t *value;
};

/* 1, 0 at the end, ERR_PROTOCOL. */
MUST int isns_attr_next(struct bytes_reader *r, struct isns_attr *ret_attr);
/* The value of an attribute of 4 bytes: 0 or ERR_PROTOCOL. */
MUST int isns_attr_u32(const struct isns_attr *a, uint32_t *ret_value);
/* A text without control characters, up to its null or end: 0; ERR_PROTOCOL; a longer one than has
 * room is one, too. */
MUST int isns_attr_text(const struct isns_attr *a, char *ret_text, size_t cap);

void isns_put_null(struct bytes_writer *w, uint32_t tag);
void isns_put_u32(struct bytes_writer *w, uint32_t tag, uint32_t value);
void isns_put_text(struct bytes_writer *w, uint32_t tag, const char *text);
void isns_put_address(struct bytes_writer *w, uint32_t tag, const uint8_t address[16]);
/* As it was received. */
void isns_put_attr(struct bytes_writer *w, const struct isns_attr *a);

/* What a status means. */
const char *isns_status_text(uint32_t status);
