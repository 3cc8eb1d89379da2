/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Portal groups and the ways to targets as JSON, both ways, for the commands of ops_paths.c and
 * ops_apply.c. docs/CLI.md has the form. A taker gives NULL, or a failure.
 */
#pragma once
#include "ctl/ops.h"
#include "dev/paths.h"

/* o: says which portals are listened on, if a server runs; NULL: not said. */
json_t *ops_group_json(struct ops *o, const struct dev_group *group);
/* The names of a target's groups; null: all. */
json_t *ops_members_json(const struct dev_groups *groups, const struct dev_paths *p);
/* The access states that were set, of a target and its LUNs. */
json_t *ops_states_json(struct ops *o, const char *iqn, const struct dev_groups *groups,
                        const struct dev_paths *p);

/* old: what a request may leave out; NULL: portals are needed, and no tag means a free one, 0. */
json_t *ops_group_take(const json_t *from, const struct dev_group *old,
                       struct dev_group *ret_group);
/* A group that is new, or another in place of the old one. */
json_t *ops_group_put(struct dev_groups *draft, struct dev_group *group);
/* Whether an access state of a description is one. */
json_t *ops_state_check(const json_t *from);
/* Whole sections of a description: they replace what the draft has. */
json_t *ops_members_replace(const struct dev_groups *groups, const json_t *members,
                            struct dev_paths *draft);
json_t *ops_states_replace(struct ops *o, const char *iqn, const json_t *states,
                           struct dev_paths *draft);
