/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Initiators that have come, and which targets each may see: some servers tell that to nobody but
 * them, when they are not registered. A bounded table, the one that has come last in front.
 */
#pragma once
#include "base/attr.h"
#include "base/list.h"
#include "isns/domains.h"
#include "isns/format.h"
#include <stdbool.h>
#include <stdint.h>

#define ISNS_VISITORS_MAX 1024u
#define ISNS_VISITORS_ASKED_MAX 64u /* at a time */

struct isns_visitor {
    struct list link;
    char name[ISNS_NAME_MAX + 1];
    bool asked;       /* the server is to be asked about it */
    uint64_t told_ns; /* when it has said something; 0: that is no longer to be relied on */
    struct isns_domains *sees; /* under its name the targets; NULL: nothing is known */
};

struct isns_visitors {
    struct list all;
    size_t count;
    size_t asked;
};

void isns_visitors_init(struct isns_visitors *v);
struct isns_visitor *isns_visitors_find(struct isns_visitors *v, const char *name);
/* It is to be asked about: false when that cannot be, because too many are. */
bool isns_visitors_ask(struct isns_visitors *v, const char *name);
/* One that is to be asked about, or NULL. */
struct isns_visitor *isns_visitors_next(struct isns_visitors *v);
/* What was said of it (sees is taken over; NULL: nothing, and what was said before holds). */
void isns_visitors_told(struct isns_visitors *v, const char *name, struct isns_domains *sees,
                        uint64_t now_ns);
/* All is to be asked again when they come back. */
void isns_visitors_stale(struct isns_visitors *v);
bool isns_visitors_sees(struct isns_visitors *v, const char *name, const char *target);
void isns_visitors_free(struct isns_visitors *v);
