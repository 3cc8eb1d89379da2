/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Portals that are told by the name of a host: a server is registered with addresses (RFC 4171
 * 6.3.1), and whoever describes one must not wait for them. So it asks here, gets what is known,
 * and is asked again when the rest has been looked up.
 *
 *     n = isns_names_find(names, "storage.example:3260", &found);    // in describe()
 *     if (isns_names_look_up(names)) { describe anew }               // WAITS
 *
 * Of the client's fiber alone.
 */
#pragma once
#include "base/attr.h"
#include "base/list.h"
#include "net/net.h"
#include <stdbool.h>
#include <stddef.h>

struct isns_names {
    struct list all;
    size_t count;
};

void isns_names_init(struct isns_names *n);
void isns_names_free(struct isns_names *n);
/* The addresses of HOST:PORT, as far as they are known; they live until the next look-up. */
size_t isns_names_find(struct isns_names *n, const char *text,
                       const char (**ret_found)[NET_ADDRESS_SIZE]);
/* Those that were not found are to be looked up again, or all. */
void isns_names_stale(struct isns_names *n, bool all);
/* Looks up what is to be; true: something is known that was not. Says what is not found. */
bool isns_names_look_up(struct isns_names *n) WAITS;
/* Not all were found. */
bool isns_names_lack(const struct isns_names *n);
