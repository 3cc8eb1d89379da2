/* SPDX-License-Identifier: Apache-2.0 */
/* Addresses as text and as the kernel wants them. Private to net. */
#pragma once
#include "net/net.h"
#include <sys/socket.h>
#include <sys/un.h>

struct net_address {
    union {
        struct sockaddr sa;
        struct sockaddr_storage storage;
        struct sockaddr_un un;
    };
    socklen_t len;
};

/* "127.0.0.1:10809", "[::1]:3260", "unix:/path": 0 or -EINVAL. Names of hosts are not looked up. */
MUST int net_address_parse(const char *text, struct net_address *ret_address);
/* 127.0.0.0/8 or ::1. */
bool net_address_is_loopback(const struct net_address *a);
void net_address_format(const struct net_address *a, char ret_text[NET_ADDRESS_SIZE]);
