/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which initiators share a discovery domain with which target: a table that is filled once and then
 * only looked at.
 *
 *     struct isns_domains *d = isns_domains_new(ISNS_MEMBERS_MAX);
 *     r = isns_domains_target(d, "iqn...:a");             // in order of name
 *     r = isns_domains_member(d, "iqn...:initiator");     // of the target before
 *     isns_domains_seal(d);
 *     isns_domains_allow(d, "iqn...:a", "iqn...:initiator");
 */
#pragma once
#include "base/attr.h"
#include <stdbool.h>
#include <stddef.h>

struct isns_domains;

#define ISNS_MEMBERS_MAX (1u << 20) /* of all targets: what a server says may be endless */

/* With room for so many members, of all targets together. NULL: out of memory. */
struct isns_domains *isns_domains_new(size_t members_max);
/* 0, -ENOMEM, -EINVAL: not behind the one before. */
MUST int isns_domains_target(struct isns_domains *d, const char *target);
/* 0, -ENOMEM, -EINVAL: there is no target; -E2BIG. */
MUST int isns_domains_member(struct isns_domains *d, const char *initiator);
/* The target before has, in place of what was said of it, what it has in other, which may be NULL;
 * one that is not there leaves this table, too. */
MUST int isns_domains_keep(struct isns_domains *d, const struct isns_domains *other);
void isns_domains_seal(struct isns_domains *d);
/* True also for a target that is not in the table. Case is no matter. */
bool isns_domains_allow(const struct isns_domains *d, const char *target, const char *initiator);
bool isns_domains_equal(const struct isns_domains *a, const struct isns_domains *b);
size_t isns_domains_count(const struct isns_domains *d); /* targets; NULL: 0 */
void isns_domains_free(struct isns_domains *d);          /* accepts NULL */
