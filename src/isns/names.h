/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Portals that are told by the name of a host: a server is registered with addresses (RFC 4171
 * 6.3.1), and whoever describes one must not wait for them. So it asks here, gets what is known,
 * and is asked again when more is.
 *
 *     n = isns_names_find(names, "storage.example:3260", &found);    // in describe()
 *     isns_names_look_up(names);                                     // found() is called later
 *
 * Each look-up has a fiber of its own, a few at a time, so that a slow name server holds up nobody
 * else. What was looked up a short while ago is relied on, however often it is called stale:
 * messages that anybody may send lead there.
 *
 * Of the client's core alone, on which the look-ups are, too.
 */
#pragma once
#include "base/attr.h"
#include "base/list.h"
#include "net/net.h"
#include "rt/rt.h"
#include <stdbool.h>
#include <stddef.h>

struct isns_lookup;

struct isns_names_options {
    /* A look-up has ended; news: something is known that was not. */
    void (*found)(void *arg, bool news);
    int (*resolve)(void *arg, struct isns_lookup *l); /* as isns_resolve() */
    void *arg;
};

struct isns_names {
    struct isns_names_options opt;
    struct list all;
    size_t count;
    struct rt_group *group; /* of the look-ups */
    size_t busy;            /* so many */
};

MUST int isns_names_init(struct isns_names *n, const struct isns_names_options *opt);
/* Waits for look-ups to end. Accepts what was not initialized. */
void isns_names_free(struct isns_names *n) WAITS;
/* The addresses of HOST:PORT, as far as they are known; they live until the next wait. */
size_t isns_names_find(struct isns_names *n, const char *text,
                       const char (**ret_found)[NET_ADDRESS_SIZE]);
/* Those that were not found are to be looked up again, or all. */
void isns_names_stale(struct isns_names *n, bool all);
/* Begins to look up what is to be. Says what is not found. */
void isns_names_look_up(struct isns_names *n);
/* Some are on their way for the first time. */
bool isns_names_pending(const struct isns_names *n);
/* Not all were found. */
bool isns_names_lack(const struct isns_names *n);
