/* SPDX-License-Identifier: Apache-2.0 */
#include "isns/names.h"
#include "base/err.h"
#include "base/msg.h"
#include "isns/picture.h"
#include "isns/resolve.h"
#include "rt/rt.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define AT_ONCE 4u /* they share the threads of all that blocks */
#define RECENT_NS 30000000000ull

struct name {
    struct list link;
    struct isns_names *names;
    bool due;          /* to be looked up */
    bool busy;         /* a fiber does it, and it stays */
    bool used;         /* since all were stale */
    uint64_t asked_ns; /* when that ended, the last time, or began in vain; 0: never */
    struct isns_lookup is;
    struct isns_lookup now; /* the fiber's */
};

int isns_names_init(struct isns_names *n, const struct isns_names_options *opt)
{
    list_init(&n->all);
    n->opt = *opt;
    n->count = 0;
    n->busy = 0;
    return rt_group_create(&n->group);
}

static void drop(struct isns_names *n, struct name *one)
{
    list_remove(&one->link);
    n->count--;
    free(one);
}

void isns_names_free(struct isns_names *n)
{
    if (!n->group) {
        return;
    }
    rt_group_cancel(n->group);
    rt_group_wait(n->group);
    rt_group_destroy(n->group);
    n->group = NULL;
    list_for_each(&n->all, struct name, link, one) {
        drop(n, one);
    }
}

/* NULL: it is no name, or there are too many. */
static struct name *find(struct isns_names *n, const char *text)
{
    struct isns_lookup is = {.count = 0};
    if (isns_server_parse(text, is.host, &is.port) < 0) {
        return NULL;
    }
    list_for_each(&n->all, struct name, link, one) {
        if (one->is.port == is.port && strcasecmp(one->is.host, is.host) == 0) {
            return one;
        }
    }
    struct name *fresh = n->count < ISNS_PORTALS_MAX ? calloc(1, sizeof *fresh) : NULL;
    if (fresh) {
        fresh->is = is;
        fresh->names = n;
        fresh->due = true;
        list_push_back(&n->all, &fresh->link);
        n->count++;
    }
    return fresh;
}

size_t isns_names_find(struct isns_names *n, const char *text,
                       const char (**ret_found)[NET_ADDRESS_SIZE])
{
    struct name *one = find(n, text);
    if (!one) {
        return 0;
    }
    one->used = true;
    *ret_found = (const char(*)[NET_ADDRESS_SIZE])one->is.found;
    return one->is.count;
}

void isns_names_stale(struct isns_names *n, bool all)
{
    uint64_t now = rt_now_ns();
    list_for_each(&n->all, struct name, link, one) {
        if (all && !one->used && !one->busy) {
            drop(n, one);
            continue;
        }
        bool recent = one->asked_ns > 0 && now - one->asked_ns < RECENT_NS;
        one->due |= !recent && !one->busy && (all || one->is.count == 0);
        one->used &= !all;
    }
}

static int compare_texts(const void *a, const void *b)
{
    return strcmp(a, b);
}

/* What is not found any more is kept as it was: more likely the name server is away. */
static bool note_found(struct name *one, int r)
{
    struct isns_lookup *now = &one->now;
    if (r < 0) {
        msg_warn_paced("isns", "the portal %s is not registered: %s", one->is.host, err_text(r));
        return false;
    }
    /* Name servers like to change the order. */
    qsort(now->found, now->count, sizeof now->found[0], compare_texts);
    bool same = now->count == one->is.count &&
                memcmp(now->found, one->is.found, now->count * sizeof now->found[0]) == 0;
    one->is = *now;
    return !same;
}

static void look_up(void *arg)
{
    struct name *one = arg;
    struct isns_names *n = one->names;
    uint64_t began_ns = rt_now_ns();
    one->now = one->is;
    int r = n->opt.resolve(n->opt.arg, &one->now);
    one->busy = false;
    one->asked_ns = r < 0 ? began_ns : rt_now_ns();
    n->busy--;
    if (!rt_cancelled()) {
        bool news = note_found(one, r);
        isns_names_look_up(n);
        n->opt.found(n->opt.arg, news);
    }
}

void isns_names_look_up(struct isns_names *n)
{
    list_for_each(&n->all, struct name, link, one) {
        if (one->due && n->busy < AT_ONCE &&
            rt_group_spawn(n->group, "isns name", look_up, one) == 0) {
            one->due = false;
            one->busy = true;
            n->busy++;
        }
    }
}

bool isns_names_pending(const struct isns_names *n)
{
    bool pending = false;
    list_for_each(&n->all, struct name, link, one) {
        pending = pending || (one->asked_ns == 0 && n->busy > 0 && (one->busy || one->due));
    }
    return pending;
}

bool isns_names_lack(const struct isns_names *n)
{
    bool lack = false;
    list_for_each(&n->all, struct name, link, one) {
        lack = lack || one->is.count == 0;
    }
    return lack;
}
