/* SPDX-License-Identifier: Apache-2.0 */
#include "isns/resolve.h"
#include "isns/format.h"
#include "isns/isns.h"
#include "rt/offload.h"
#include "rt/rt.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <resolv.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int isns_server_parse(const char *text, char ret_host[ISNS_HOST_MAX + 1], uint16_t *ret_port)
{
    bool bracketed = text[0] == '[';
    const char *host = text + bracketed;
    size_t len = bracketed ? strcspn(host, "]") : strcspn(host, ":");
    const char *rest = host + len;
    if (bracketed) {
        rest += *rest == ']' ? 1 : strlen(rest) + 1;
    }
    unsigned long port = ISNS_PORT;
    if (len == 0 || len > ISNS_HOST_MAX || (bracketed && host[len] != ']')) {
        return -EINVAL;
    }
    if (*rest) {
        char *end;
        port = strtoul(rest + 1, &end, 10);
        if (*rest != ':' || rest[1] < '0' || rest[1] > '9' || *end || port == 0 ||
            port > UINT16_MAX) {
            return -EINVAL;
        }
    }
    memcpy(ret_host, host, len);
    ret_host[len] = 0;
    *ret_port = (uint16_t)port;
    return 0;
}

bool isns_server_ok(const char *text)
{
    char host[ISNS_HOST_MAX + 1];
    uint16_t port;
    return isns_server_parse(text, host, &port) >= 0;
}

static void keep(struct isns_lookup *l, const struct addrinfo *a)
{
    char host[NI_MAXHOST];
    if (l->count < ISNS_ADDRESSES_MAX &&
        getnameinfo(a->ai_addr, a->ai_addrlen, host, sizeof host, NULL, 0, NI_NUMERICHOST) == 0 &&
        strlen(host) < NET_ADDRESS_SIZE - 16) {
        bool v6 = a->ai_family == AF_INET6;
        (void)snprintf(l->found[l->count++], NET_ADDRESS_SIZE, "%s%.100s%s:%u", v6 ? "[" : "", host,
                       v6 ? "]" : "", l->port);
    }
}

static int look_up(struct isns_lookup *l, int flags)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = flags};
    struct addrinfo *found = NULL;
    int r = getaddrinfo(l->host, NULL, &hints, &found);
    if (r != 0) {
        return r == EAI_MEMORY ? -ENOMEM : r == EAI_AGAIN ? -EAGAIN : -EHOSTUNREACH;
    }
    for (const struct addrinfo *a = found; a; a = a->ai_next) {
        keep(l, a);
    }
    freeaddrinfo(found);
    return l->count > 0 ? 0 : -EHOSTUNREACH;
}

/* On a thread. Nobody can break it off, so it does not try for long. */
static int look_up_job(void *arg)
{
    if (res_init() == 0) {
        _res.retrans = 1;
        _res.retry = 2;
    }
    return look_up(arg, AI_ADDRCONFIG);
}

int isns_resolve(struct isns_lookup *l)
{
    l->count = 0;
    return look_up(l, AI_NUMERICHOST) < 0 ? rt_offload(RT_OFFLOAD_IO, look_up_job, l) : 0;
}

int isns_resolve_connect(const char *server, uint64_t deadline_ns, struct net_stream **ret_stream)
{
    auto_free struct isns_lookup *l = calloc(1, sizeof *l);
    if (!l) {
        return -ENOMEM;
    }
    int r = isns_server_parse(server, l->host, &l->port);
    if (r >= 0) {
        r = isns_resolve(l);
    }
    if (r < 0) {
        return r;
    }
    r = -EHOSTUNREACH;
    for (size_t i = 0; i < l->count && r < 0 && r != -ECANCELED; i++) {
        r = net_connect(l->found[i], deadline_ns, ret_stream);
    }
    return r;
}
