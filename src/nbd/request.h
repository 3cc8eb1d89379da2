/* SPDX-License-Identifier: Apache-2.0 */
/* Codec of the transmission phase: pure. */
#pragma once
#include "base/attr.h"
#include "base/bytes.h"
#include "nbd/nbd_format.h"
#include <stdbool.h>

/* What the client has negotiated; each includes those before it. */
enum nbd_mode {
    NBD_MODE_SIMPLE,
    NBD_MODE_STRUCTURED,
    NBD_MODE_EXTENDED,
};

struct nbd_request {
    uint64_t cookie;
    uint64_t off;
    uint64_t len;         /* of the effect */
    uint64_t payload_len; /* bytes that follow the header */
    uint16_t flags;
    uint16_t command;
};

static inline size_t nbd_request_bytes(enum nbd_mode mode)
{
    return mode == NBD_MODE_EXTENDED ? NBD_REQUEST_EXT_BYTES : NBD_REQUEST_BYTES;
}

/* The header of a request, nbd_request_bytes() long: 0, or -EPROTO when the magic is wrong. */
MUST int nbd_request_decode(const uint8_t *in, enum nbd_mode mode, struct nbd_request *ret_request);

/*
 * What is wrong with a request as such, whatever the device: NBD_OK or an error. has_contexts: meta
 * contexts were selected.
 */
enum nbd_error nbd_request_check(const struct nbd_request *q, enum nbd_mode mode,
                                 bool has_contexts);
/* Whether the range is inside a device of that size, and the error if not. */
enum nbd_error nbd_request_check_range(const struct nbd_request *q, uint64_t size_bytes);

/*
 * The payload of BLOCK_STATUS in extended mode: the length of the effect, then the context ids
 * asked for, each selected and named once. -EINVAL otherwise.
 */
MUST int nbd_status_payload_decode(const uint8_t *data, size_t len, uint64_t *ret_effect_len);
#define NBD_STATUS_PAYLOAD_MAX 4096u

/* A negative result of dev as the protocol's error. */
enum nbd_error nbd_error_of(int r);

#define NBD_REPLY_HEADER_MAX 64u
void nbd_simple_reply_encode(uint64_t cookie, enum nbd_error error,
                             uint8_t ret_bytes[NBD_SIMPLE_REPLY_BYTES]);

struct nbd_chunk {
    uint64_t cookie;
    uint64_t off; /* of the request; on the wire in extended mode only */
    uint64_t payload_len;
    uint16_t flags;
    uint16_t type;
};
/* The number of bytes: NBD_CHUNK_BYTES or NBD_CHUNK_EXT_BYTES. */
size_t nbd_chunk_encode(const struct nbd_chunk *chunk, enum nbd_mode mode, uint8_t *ret_bytes);
