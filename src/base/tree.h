/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Intrusive ordered tree: the node is a member of the object, the tree owns nothing, nothing is
 * allocated. Operations take O(log n) steps (a treap with priorities nobody outside can predict)
 * and never recurse. Equal keys are refused. The caller locks.
 *
 *     static int compare(const void *key, const struct tree_node *n)     // <0, 0, >0 as key to n
 *     {
 *         uint64_t k = *(const uint64_t *)key, have = container_of(n, struct range, node)->off;
 *         return k < have ? -1 : k > have;
 *     }
 *     struct tree ranges = tree_make(compare);
 *     bool added = tree_insert(&ranges, &r->off, &r->node);
 *     struct range *at = tree_entry(tree_lower_bound(&ranges, &off), struct range, node);
 *     tree_for_each(&ranges, struct range, node, each) { ... }            // each may be removed
 */
#pragma once
#include "base/attr.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct tree_node {
    struct tree_node *parent;
    struct tree_node *child[2]; /* smaller, larger */
    uint64_t priority;          /* no child's is higher */
};

struct tree {
    struct tree_node *root;
    int (*compare)(const void *key, const struct tree_node *n);
    size_t count;
    uint64_t drawn; /* priorities given out */
};

static inline struct tree tree_make(int (*compare)(const void *key, const struct tree_node *n))
{
    return (struct tree){.compare = compare};
}

static inline bool tree_is_empty(const struct tree *t)
{
    return t->root == NULL;
}

/* False, and nothing done, when a node with that key is there. The key is that of the node. */
MUST bool tree_insert(struct tree *t, const void *key, struct tree_node *node);

/* The node must be in this tree. It may be inserted again afterwards. */
void tree_remove(struct tree *t, struct tree_node *node);

/* All of these give NULL when there is none. */
struct tree_node *tree_find(const struct tree *t, const void *key);
struct tree_node *tree_lower_bound(const struct tree *t, const void *key);  /* first >= key */
struct tree_node *tree_at_or_before(const struct tree *t, const void *key); /* last <= key */
struct tree_node *tree_first(const struct tree *t);
struct tree_node *tree_last(const struct tree *t);
struct tree_node *tree_next(const struct tree_node *node);
struct tree_node *tree_prev(const struct tree_node *node);

#define tree_entry(n, type, member)                                                                \
    ({                                                                                             \
        struct tree_node *entry_ = (n);                                                            \
        entry_ ? container_of(entry_, type, member) : NULL;                                        \
    })

/* In the order of keys. */
#define tree_for_each(t, type, member, var)                                                        \
    for (type *var = tree_entry(tree_first(t), type, member),                                      \
              *var##_next = var ? tree_entry(tree_next(&var->member), type, member) : NULL;        \
         var != NULL; var = var##_next,                                                            \
              var##_next = var ? tree_entry(tree_next(&var->member), type, member) : NULL)
