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

struct name {
    struct list link;
    bool due;  /* to be looked up */
    bool used; /* since all were stale */
    struct isns_lookup is;
};

void isns_names_init(struct isns_names *n)
{
    list_init(&n->all);
    n->count = 0;
}

static void drop(struct isns_names *n, struct name *one)
{
    list_remove(&one->link);
    n->count--;
    free(one);
}

void isns_names_free(struct isns_names *n)
{
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
    list_for_each(&n->all, struct name, link, one) {
        if (all && !one->used) {
            drop(n, one);
            continue;
        }
        one->due |= all || one->is.count == 0;
        one->used &= !all;
    }
}

static int compare_texts(const void *a, const void *b)
{
    return strcmp(a, b);
}

/* What is not found any more is kept as it was: more likely the name server is away. */
static bool look_up(struct name *one) WAITS
{
    struct isns_lookup now = one->is;
    int r = isns_resolve(&now);
    one->due = false;
    if (r < 0) {
        msg_warn_paced("isns", "the portal %s is not registered: %s", one->is.host, err_text(r));
        return false;
    }
    /* Name servers like to change the order. */
    qsort(now.found, now.count, sizeof now.found[0], compare_texts);
    bool same = now.count == one->is.count &&
                memcmp(now.found, one->is.found, now.count * sizeof now.found[0]) == 0;
    one->is = now;
    return !same;
}

bool isns_names_look_up(struct isns_names *n)
{
    bool news = false;
    list_for_each(&n->all, struct name, link, one) {
        if (one->due && !rt_cancelled()) {
            news = look_up(one) || news;
        }
    }
    return news;
}

bool isns_names_lack(const struct isns_names *n)
{
    bool lack = false;
    list_for_each(&n->all, struct name, link, one) {
        lack = lack || one->is.count == 0;
    }
    return lack;
}
