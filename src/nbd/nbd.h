/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The NBD server (the protocol document of NetworkBlockDevice/nbd, doc/proto.md): fixed newstyle,
 * structured and simple replies, meta contexts, TLS. Codecs are pure and in files of their own; a
 * connection is a fiber that reads requests, and a fiber per request.
 */
#pragma once
#include "base/attr.h"
#include "dev/dev.h"
#include "net/net.h"
#include <stdbool.h>
#include <stddef.h>

struct nbd_server;

enum nbd_tls_mode {
    NBD_TLS_OFF,
    NBD_TLS_ALLOW,
    NBD_TLS_REQUIRE,
};

struct nbd_options {
    struct dev_registry *registry; /* not owned */
    const char *const *addresses;
    size_t address_count;
    const char *unix_socket; /* NULL = none */
    enum nbd_tls_mode tls;
    struct net_tls_options tls_files;
    bool extended_headers;        /* the experimental extension */
    unsigned connections_max;     /* beyond the handshake; 0 = 16384 */
    unsigned handshake_timeout_s; /* 0 = 15 */
};

MUST int nbd_start(const struct nbd_options *opt, struct nbd_server **ret_server) WAITS;
/* The bound address of listener i, the unix socket last. */
MUST int nbd_address(const struct nbd_server *s, size_t i, char ret_text[NET_ADDRESS_SIZE]);
/*
 * Takes no more connections; new requests get ESHUTDOWN; returns when what is under way is
 * answered, or at the deadline.
 */
void nbd_drain(struct nbd_server *s, uint64_t deadline_ns) WAITS;
/* Ends all connections, for good; what is counted can still be asked for. Accepts NULL. */
void nbd_close(struct nbd_server *s) WAITS;
/* The same, and frees. Accepts NULL. */
void nbd_stop(struct nbd_server *s) WAITS;

struct nbd_counts {
    uint64_t connections;
    uint64_t handshakes;
    uint64_t handshake_failures;
    uint64_t requests;
    uint64_t errors;
    uint64_t bytes_in;
    uint64_t bytes_out;
    uint64_t latency_us_log2[32]; /* of requests */
};
void nbd_counts(const struct nbd_server *s, struct nbd_counts *ret_counts);
