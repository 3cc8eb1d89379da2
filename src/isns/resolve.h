/* SPDX-License-Identifier: Apache-2.0 */
/* The server's address from its name. Private to isns. */
#pragma once
#include "base/attr.h"
#include "net/net.h"
#include <stdint.h>

#define ISNS_HOST_MAX 255u

/* "HOST", "HOST:PORT", "[ADDRESS]:PORT", "[ADDRESS]": 0 or -EINVAL. */
MUST int isns_server_parse(const char *text, char ret_host[ISNS_HOST_MAX + 1], uint16_t *ret_port);
/* Connects to one of the addresses that the server has: 0 or an error. */
MUST int isns_resolve_connect(const char *server, uint64_t deadline_ns,
                              struct net_stream **ret_stream) WAITS;
