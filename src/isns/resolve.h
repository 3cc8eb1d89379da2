/* SPDX-License-Identifier: Apache-2.0 */
/* Addresses from names: of the server, and of portals. Private to isns. */
#pragma once
#include "base/attr.h"
#include "net/net.h"
#include <stdint.h>

#define ISNS_HOST_MAX 255u

/* "HOST", "HOST:PORT", "[ADDRESS]:PORT", "[ADDRESS]": 0 or -EINVAL. */
MUST int isns_server_parse(const char *text, char ret_host[ISNS_HOST_MAX + 1], uint16_t *ret_port);
#define ISNS_ADDRESSES_MAX 8u

struct isns_lookup {
    char host[ISNS_HOST_MAX + 1];
    uint16_t port;
    char found[ISNS_ADDRESSES_MAX][NET_ADDRESS_SIZE];
    size_t count;
};

/* Fills in what is found of the host, with the port: 0, -EHOSTUNREACH, -EAGAIN, -ENOMEM. */
MUST int isns_resolve(struct isns_lookup *l) WAITS;
/* Connects to one of the addresses that the server has: 0 or an error. */
MUST int isns_resolve_connect(const char *server, uint64_t deadline_ns,
                              struct net_stream **ret_stream) WAITS;
