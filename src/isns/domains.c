/* SPDX-License-Identifier: Apache-2.0 */
#include "isns/domains.h"
#include "base/vec.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

struct target {
    char *name;
    size_t first; /* of its members */
    size_t count;
};

struct isns_domains {
    VEC(struct target) targets; /* by name */
    VEC(char *) members;        /* of each target by name, once sealed */
    size_t members_max;
};

struct isns_domains *isns_domains_new(size_t members_max)
{
    struct isns_domains *d = calloc(1, sizeof *d);
    if (d) {
        d->members_max = members_max;
    }
    return d;
}

int isns_domains_target(struct isns_domains *d, const char *target)
{
    if (d->targets.len > 0 && strcasecmp(d->targets.at[d->targets.len - 1].name, target) >= 0) {
        return -EINVAL;
    }
    struct target t = {.name = strdup(target), .first = d->members.len};
    int r = t.name ? vec_push(&d->targets, t) : -ENOMEM;
    if (r < 0) {
        free(t.name);
    }
    return r;
}

int isns_domains_member(struct isns_domains *d, const char *initiator)
{
    if (d->targets.len == 0) {
        return -EINVAL;
    }
    if (d->members.len >= d->members_max) {
        return -E2BIG;
    }
    char *name = strdup(initiator);
    int r = name ? vec_push(&d->members, name) : -ENOMEM;
    if (r < 0) {
        free(name);
        return r;
    }
    d->targets.at[d->targets.len - 1].count++;
    return 0;
}

static int compare_names(const void *a, const void *b)
{
    return strcasecmp(*(char *const *)a, *(char *const *)b);
}

/* Members that were said twice are one. */
void isns_domains_seal(struct isns_domains *d)
{
    for (size_t i = 0; i < d->targets.len; i++) {
        struct target *t = &d->targets.at[i];
        if (t->count == 0) {
            continue;
        }
        char **m = d->members.at + t->first;
        qsort(m, t->count, sizeof *m, compare_names);
        size_t kept = 1;
        for (size_t j = 1; j < t->count; j++) {
            if (strcasecmp(m[j], m[kept - 1]) == 0) {
                free(m[j]);
            } else {
                m[kept++] = m[j];
            }
        }
        for (size_t j = kept; j < t->count; j++) {
            m[j] = NULL;
        }
        t->count = kept;
    }
}

static int compare_target(const void *name, const void *target)
{
    return strcasecmp(name, ((const struct target *)target)->name);
}

static const struct target *find(const struct isns_domains *d, const char *target)
{
    if (!d || d->targets.len == 0) {
        return NULL;
    }
    return bsearch(target, d->targets.at, d->targets.len, sizeof *d->targets.at, compare_target);
}

int isns_domains_keep(struct isns_domains *d, const struct isns_domains *other)
{
    if (d->targets.len == 0) {
        return -EINVAL;
    }
    struct target *last = &d->targets.at[d->targets.len - 1];
    const struct target *t = find(other, last->name);
    while (d->members.len > last->first) {
        free(d->members.at[--d->members.len]);
    }
    last->count = 0;
    if (!t) {
        free(last->name);
        d->targets.len--;
        return 0;
    }
    int r = 0;
    for (size_t i = 0; r == 0 && i < t->count; i++) {
        r = isns_domains_member(d, other->members.at[t->first + i]);
    }
    return r;
}

bool isns_domains_allow(const struct isns_domains *d, const char *target, const char *initiator)
{
    const struct target *t = find(d, target);
    if (!t) {
        return true;
    }
    return t->count > 0 && bsearch(&initiator, d->members.at + t->first, t->count,
                                   sizeof *d->members.at, compare_names) != NULL;
}

bool isns_domains_equal(const struct isns_domains *a, const struct isns_domains *b)
{
    bool same = isns_domains_count(a) == isns_domains_count(b);
    for (size_t i = 0; same && i < isns_domains_count(a); i++) {
        const struct target *x = &a->targets.at[i], *y = &b->targets.at[i];
        same = strcasecmp(x->name, y->name) == 0 && x->count == y->count;
        for (size_t j = 0; same && j < x->count; j++) {
            same = strcasecmp(a->members.at[x->first + j], b->members.at[y->first + j]) == 0;
        }
    }
    return same;
}

size_t isns_domains_count(const struct isns_domains *d)
{
    return d ? d->targets.len : 0;
}

void isns_domains_free(struct isns_domains *d)
{
    if (!d) {
        return;
    }
    for (size_t i = 0; i < d->targets.len; i++) {
        free(d->targets.at[i].name);
    }
    for (size_t i = 0; i < d->members.len; i++) {
        free(d->members.at[i]);
    }
    vec_free(&d->targets);
    vec_free(&d->members);
    free(d);
}
