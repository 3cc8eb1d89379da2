/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Codec of the handshake: pure. Decoders take the data of one option; -EINVAL means ERR_INVALID to
 * the peer. Names are slices of the input, without a terminating zero.
 */
#pragma once
#include "base/attr.h"
#include "base/bytes.h"
#include "nbd/nbd_format.h"
#include <stdbool.h>

struct nbd_option_header {
    uint32_t option;
    uint32_t len;
};
/* -EPROTO when the magic is wrong. */
MUST int nbd_option_decode(const uint8_t in[NBD_OPTION_HEADER_BYTES],
                           struct nbd_option_header *ret_header);
void nbd_option_encode(const struct nbd_option_header *header,
                       uint8_t ret_bytes[NBD_OPTION_HEADER_BYTES]);

struct nbd_slice {
    const uint8_t *data;
    uint32_t len;
};

/* INFO and GO */
struct nbd_info_request {
    struct nbd_slice name;
    bool want_name;
    bool want_description;
    bool want_block_size;
};
MUST int nbd_info_decode(const uint8_t *data, size_t len, struct nbd_info_request *ret_info);

/* LIST_META_CONTEXT and SET_META_CONTEXT. The queries are not kept: only what they come to. */
struct nbd_meta_request {
    struct nbd_slice name;
    uint32_t queries;
    bool allocation; /* a query names base:allocation */
    bool wildcard;   /* a query is "base:" */
};
MUST int nbd_meta_decode(const uint8_t *data, size_t len, struct nbd_meta_request *ret_meta);

/* The head of a reply to an option; len bytes of data follow. */
void nbd_option_reply_encode(uint32_t option, uint32_t type, uint32_t len,
                             uint8_t ret_bytes[NBD_OPTION_REPLY_BYTES]);
