/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A treap: a search tree by key and at the same time a heap by random priority, which makes its
 * shape that of a tree filled in random order, whatever order the keys come in.
 *
 * Invariants: in-order walk gives rising keys; no child's priority is above its parent's; every
 * child's `parent` is the node that holds it, the root's is NULL.
 */
#include "base/tree.h"
#include "base/assert.h"
#include "base/hash.h"

enum side {
    SMALLER,
    LARGER,
};

static enum side side_of(const struct tree_node *node)
{
    return node->parent->child[LARGER] == node ? LARGER : SMALLER;
}

/* Puts `new` (NULL for nothing) into the place that `old` holds under its parent. */
static void replace(struct tree *t, const struct tree_node *old, struct tree_node *new)
{
    if (!old->parent) {
        t->root = new;
    } else {
        old->parent->child[side_of(old)] = new;
    }
    if (new) {
        new->parent = old->parent;
    }
}

/* The node takes its parent's place, and the parent becomes its child; the order stays. */
static void rotate_up(struct tree *t, struct tree_node *node)
{
    struct tree_node *parent = node->parent;
    enum side side = side_of(node);
    struct tree_node *inner = node->child[!side];
    replace(t, parent, node);
    parent->child[side] = inner;
    if (inner) {
        inner->parent = parent;
    }
    node->child[!side] = parent;
    parent->parent = node;
}

bool tree_insert(struct tree *t, const void *key, struct tree_node *node)
{
    struct tree_node *parent = NULL;
    struct tree_node **slot = &t->root;
    while (*slot) {
        parent = *slot;
        int order = t->compare(key, parent);
        if (order == 0) {
            return false;
        }
        slot = &parent->child[order > 0 ? LARGER : SMALLER];
    }
    *node = (struct tree_node){.parent = parent, .priority = hash_pair(hash_seed(), t->drawn++)};
    *slot = node;
    t->count++;
    while (node->parent && node->parent->priority < node->priority) {
        rotate_up(t, node);
    }
    return true;
}

void tree_remove(struct tree *t, struct tree_node *node)
{
    ASSERT(t->count > 0 && (node->parent || t->root == node));
    while (node->child[SMALLER] && node->child[LARGER]) {
        struct tree_node *a = node->child[SMALLER];
        struct tree_node *b = node->child[LARGER];
        rotate_up(t, a->priority > b->priority ? a : b);
    }
    replace(t, node, node->child[SMALLER] ? node->child[SMALLER] : node->child[LARGER]);
    *node = (struct tree_node){0};
    t->count--;
}

struct tree_node *tree_find(const struct tree *t, const void *key)
{
    struct tree_node *n = t->root;
    while (n) {
        int order = t->compare(key, n);
        if (order == 0) {
            return n;
        }
        n = n->child[order > 0 ? LARGER : SMALLER];
    }
    return NULL;
}

struct tree_node *tree_lower_bound(const struct tree *t, const void *key)
{
    struct tree_node *best = NULL;
    struct tree_node *n = t->root;
    while (n) {
        if (t->compare(key, n) <= 0) {
            best = n;
            n = n->child[SMALLER];
        } else {
            n = n->child[LARGER];
        }
    }
    return best;
}

struct tree_node *tree_at_or_before(const struct tree *t, const void *key)
{
    struct tree_node *best = NULL;
    struct tree_node *n = t->root;
    while (n) {
        if (t->compare(key, n) >= 0) {
            best = n;
            n = n->child[LARGER];
        } else {
            n = n->child[SMALLER];
        }
    }
    return best;
}

/* The outermost node on one side of the subtree. */
static struct tree_node *outermost(struct tree_node *n, enum side side)
{
    while (n && n->child[side]) {
        n = n->child[side];
    }
    return n;
}

struct tree_node *tree_first(const struct tree *t)
{
    return outermost(t->root, SMALLER);
}

struct tree_node *tree_last(const struct tree *t)
{
    return outermost(t->root, LARGER);
}

/* The next node towards `side`: down if there is a subtree, else up past all parents we came by. */
static struct tree_node *neighbour(const struct tree_node *node, enum side side)
{
    if (node->child[side]) {
        return outermost(node->child[side], side == LARGER ? SMALLER : LARGER);
    }
    while (node->parent && side_of(node) == side) {
        node = node->parent;
    }
    return node->parent;
}

struct tree_node *tree_next(const struct tree_node *node)
{
    return neighbour(node, LARGER);
}

struct tree_node *tree_prev(const struct tree_node *node)
{
    return neighbour(node, SMALLER);
}
