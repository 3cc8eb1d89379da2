/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Intrusive doubly linked list with a head node.
 *
 *     struct list waiters = LIST_INIT(waiters);
 *     list_push_back(&waiters, &w->link);
 *     list_for_each(&waiters, struct waiter, link, w) { ... }      // w may be removed in the body
 */
#pragma once
#include "base/attr.h"
#include <stdbool.h>
#include <stddef.h>

struct list {
    struct list *next;
    struct list *prev;
};

#define LIST_INIT(name)                                                                            \
    {                                                                                              \
        &(name), &(name)                                                                           \
    }

static inline void list_init(struct list *l)
{
    l->next = l;
    l->prev = l;
}

static inline bool list_is_empty(const struct list *l)
{
    return l->next == l;
}

static inline void list_insert_before(struct list *pos, struct list *node)
{
    node->prev = pos->prev;
    node->next = pos;
    pos->prev->next = node;
    pos->prev = node;
}

static inline void list_push_back(struct list *l, struct list *node)
{
    list_insert_before(l, node);
}

static inline void list_push_front(struct list *l, struct list *node)
{
    list_insert_before(l->next, node);
}

/* Takes the node out and leaves it as an empty list, so that removing it again does no harm. */
static inline void list_remove(struct list *node)
{
    node->prev->next = node->next;
    node->next->prev = node->prev;
    list_init(node);
}

static inline struct list *list_pop_front(struct list *l)
{
    if (list_is_empty(l)) {
        return NULL;
    }
    struct list *node = l->next;
    list_remove(node);
    return node;
}

#define list_for_each(head, type, member, var)                                                     \
    for (type *var = container_of((head)->next, type, member),                                     \
              *var##_next = container_of(var->member.next, type, member);                          \
         &var->member != (head);                                                                   \
         var = var##_next, var##_next = container_of(var->member.next, type, member))
