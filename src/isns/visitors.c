/* SPDX-License-Identifier: Apache-2.0 */
#include "isns/visitors.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

void isns_visitors_init(struct isns_visitors *v)
{
    list_init(&v->all);
    v->count = v->asked = 0;
}

struct isns_visitor *isns_visitors_find(struct isns_visitors *v, const char *name)
{
    list_for_each(&v->all, struct isns_visitor, link, each) {
        if (strcasecmp(each->name, name) == 0) {
            return each;
        }
    }
    return NULL;
}

static void drop(struct isns_visitors *v, struct isns_visitor *one)
{
    list_remove(&one->link);
    v->count--;
    v->asked -= one->asked;
    isns_domains_free(one->sees);
    free(one);
}

/* The oldest goes when there are too many. */
static struct isns_visitor *add(struct isns_visitors *v, const char *name)
{
    struct isns_visitor *one = calloc(1, sizeof *one);
    if (!one) {
        return NULL;
    }
    memcpy(one->name, name, strlen(name) + 1);
    if (v->count == ISNS_VISITORS_MAX) {
        drop(v, container_of(v->all.prev, struct isns_visitor, link));
    }
    list_push_front(&v->all, &one->link);
    v->count++;
    return one;
}

bool isns_visitors_ask(struct isns_visitors *v, const char *name)
{
    struct isns_visitor *one = isns_visitors_find(v, name);
    if (one && one->asked) {
        return true;
    }
    if (v->asked == ISNS_VISITORS_ASKED_MAX || strlen(name) > ISNS_NAME_MAX) {
        return false;
    }
    if (one) {
        list_remove(&one->link);
        list_push_front(&v->all, &one->link);
    } else if (!(one = add(v, name))) {
        return false;
    }
    one->asked = true;
    v->asked++;
    return true;
}

struct isns_visitor *isns_visitors_next(struct isns_visitors *v)
{
    if (v->asked == 0) {
        return NULL;
    }
    list_for_each(&v->all, struct isns_visitor, link, each) {
        if (each->asked) {
            return each;
        }
    }
    return NULL;
}

void isns_visitors_told(struct isns_visitors *v, const char *name, struct isns_domains *sees,
                        uint64_t now_ns)
{
    struct isns_visitor *one = isns_visitors_find(v, name);
    if (!one) {
        isns_domains_free(sees);
        return;
    }
    v->asked -= one->asked;
    one->asked = false;
    one->told_ns = now_ns;
    if (sees) {
        isns_domains_free(one->sees);
        one->sees = sees;
    }
}

void isns_visitors_stale(struct isns_visitors *v)
{
    list_for_each(&v->all, struct isns_visitor, link, each) {
        each->told_ns = 0;
    }
}

bool isns_visitors_sees(struct isns_visitors *v, const char *name, const char *target)
{
    const struct isns_visitor *one = isns_visitors_find(v, name);
    return one && one->sees && isns_domains_allow(one->sees, one->name, target);
}

void isns_visitors_free(struct isns_visitors *v)
{
    list_for_each(&v->all, struct isns_visitor, link, each) {
        drop(v, each);
    }
}
