/* SPDX-License-Identifier: Apache-2.0 */
/* What the tests of net share. */
#pragma once
#include "../rt/rt_test.h"
#include "net/net.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The address of the test's own unix socket; made by net_test_unix(). */
static char unix_address[64];

static inline void net_test_unix(void)
{
    (void)snprintf(unix_address, sizeof unix_address, "unix:/tmp/zerofs-net-%d", (int)getpid());
}

static inline const char *unix_path(void)
{
    return unix_address + strlen("unix:");
}

static inline struct net_listener *
listen_at(const char *address, void (*serve)(struct net_stream *, void *), unsigned max)
{
    struct net_listener *l = NULL;
    struct net_listen_options opt = {
        .address = address, .name = "test", .serve = serve, .connections_max = max};
    CHECK(net_listen(&opt, &l) == 0);
    return l;
}

static inline struct net_stream *connect_to(const struct net_listener *l)
{
    char text[NET_ADDRESS_SIZE];
    struct net_stream *s = NULL;
    net_listener_address(l, text);
    CHECK(net_connect(text, rt_after_ms(5000), &s) == 0);
    return s;
}
