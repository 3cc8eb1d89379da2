/* SPDX-License-Identifier: Apache-2.0 */
#include "net/address.h"
#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int parse_unix(const char *path, struct net_address *ret_address)
{
    size_t len = strlen(path);
    struct net_address a = {0};
    if (len == 0 || len >= sizeof a.un.sun_path) {
        return -EINVAL;
    }
    a.un.sun_family = AF_UNIX;
    memcpy(a.un.sun_path, path, len + 1);
    a.len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len + 1);
    *ret_address = a;
    return 0;
}

/* Splits "host:port" or "[host]:port"; host has room for NET_ADDRESS_SIZE. NULL when it is neither,
 * else the port. */
static const char *split_port(const char *text, char *host)
{
    const char *colon = strrchr(text, ':');
    size_t len = colon ? (size_t)(colon - text) : 0;
    if (len == 0 || len >= NET_ADDRESS_SIZE) {
        return NULL;
    }
    if (text[0] == '[') {
        if (text[len - 1] != ']' || len < 3) {
            return NULL;
        }
        text++;
        len -= 2;
    } else if (memchr(text, ':', len)) {
        return NULL;
    }
    memcpy(host, text, len);
    host[len] = 0;
    return colon + 1;
}

static int is_port(const char *text)
{
    char *end;
    if (text[0] < '0' || text[0] > '9') {
        return 0;
    }
    unsigned long n = strtoul(text, &end, 10);
    return *end == 0 && n <= 65535;
}

int net_address_parse(const char *text, struct net_address *ret_address)
{
    char host[NET_ADDRESS_SIZE];
    if (strncmp(text, "unix:", 5) == 0) {
        return parse_unix(text + 5, ret_address);
    }
    const char *port = split_port(text, host);
    if (!port || !is_port(port)) {
        return -EINVAL;
    }
    struct addrinfo hints = {.ai_family = text[0] == '[' ? AF_INET6 : AF_INET,
                             .ai_socktype = SOCK_STREAM,
                             .ai_flags = AI_NUMERICHOST | AI_NUMERICSERV};
    struct addrinfo *found;
    struct in_addr in;
    /* getaddrinfo() would also take "1.2.3", as 1.2.0.3. */
    if (text[0] != '[' && inet_pton(AF_INET, host, &in) != 1) {
        return -EINVAL;
    }
    if (getaddrinfo(host, port, &hints, &found) != 0) {
        return -EINVAL;
    }
    struct net_address a = {.len = found->ai_addrlen};
    memcpy(&a.storage, found->ai_addr, found->ai_addrlen);
    freeaddrinfo(found);
    *ret_address = a;
    return 0;
}

bool net_address_is_loopback(const struct net_address *a)
{
    if (a->sa.sa_family == AF_INET6) {
        struct sockaddr_in6 in6;
        memcpy(&in6, &a->storage, sizeof in6);
        return IN6_IS_ADDR_LOOPBACK(&in6.sin6_addr);
    }
    struct sockaddr_in in;
    memcpy(&in, &a->storage, sizeof in);
    return a->sa.sa_family == AF_INET && ntohl(in.sin_addr.s_addr) >> 24 == IN_LOOPBACKNET;
}

void net_address_format(const struct net_address *a, char ret_text[NET_ADDRESS_SIZE])
{
    char host[INET6_ADDRSTRLEN];
    if (a->sa.sa_family == AF_UNIX) {
        size_t base = offsetof(struct sockaddr_un, sun_path);
        int len = a->len > base ? (int)strnlen(a->un.sun_path, a->len - base) : 0;
        (void)snprintf(ret_text, NET_ADDRESS_SIZE, "unix:%.*s", len, a->un.sun_path);
    } else if (a->sa.sa_family == AF_INET) {
        struct sockaddr_in in;
        memcpy(&in, &a->storage, sizeof in);
        (void)inet_ntop(AF_INET, &in.sin_addr, host, sizeof host);
        (void)snprintf(ret_text, NET_ADDRESS_SIZE, "%s:%u", host, ntohs(in.sin_port));
    } else if (a->sa.sa_family == AF_INET6) {
        struct sockaddr_in6 in6;
        memcpy(&in6, &a->storage, sizeof in6);
        (void)inet_ntop(AF_INET6, &in6.sin6_addr, host, sizeof host);
        (void)snprintf(ret_text, NET_ADDRESS_SIZE, "[%s]:%u", host, ntohs(in6.sin6_port));
    } else {
        (void)snprintf(ret_text, NET_ADDRESS_SIZE, "memory");
    }
}
