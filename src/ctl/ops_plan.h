/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What `zerofs iscsi apply` is going to do: requests as any other command makes them, each with a
 * line that says what it does. In the order of the phases: targets are made, rules set, then LUNs
 * made and changed, so that nothing new is ever open to more than it is meant for; what goes, goes
 * last.
 */
#pragma once
#include "ctl/ops.h"

enum ops_phase {
    PHASE_GROUPS,
    PHASE_TARGETS,
    PHASE_RULES,
    PHASE_LUNS,
    PHASE_STATES,
    PHASE_REMOVAL,
    PHASE_COUNT
};

struct ops_plan {
    struct ops *o;
    const json_t *request;
    json_t *steps[PHASE_COUNT]; /* arrays of {"text": ..., "request": ...} */
    json_t *failed;
};

/* The first failure stays. */
void ops_plan_fail(struct ops_plan *p, json_t *failure);
/* Takes over the request. */
void ops_plan_step(struct ops_plan *p, enum ops_phase phase, json_t *request, const char *fmt, ...)
    PRINTF_LIKE(4, 5);
/* Every key of the object is among those, which a space separates; of each object of the list. */
bool ops_plan_check(struct ops_plan *p, const json_t *object, const char *where, const char *keys);
bool ops_plan_check_list(struct ops_plan *p, const json_t *list, const char *where,
                         const char *keys);

/* ops_apply_paths.c: the portal groups; what a target has of them, at its place; those that go,
 * when everything else has gone. */
void ops_plan_groups(struct ops_plan *p, const json_t *groups);
void ops_plan_paths(struct ops_plan *p, const char *iqn, const json_t *target,
                    const json_t *groups);
void ops_plan_group_removals(struct ops_plan *p, const json_t *groups);
