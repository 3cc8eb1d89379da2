/* SPDX-License-Identifier: Apache-2.0 */
/* The tree against a model: an array of flags, one for each possible key. */
#include "base/rng.h"
#include "base/tree.h"
#include "unit.h"

#define KEYS 512

struct item {
    unsigned int key;
    bool in_tree;
    struct tree_node node;
};

static struct item items[KEYS];

static int compare(const void *key, const struct tree_node *n)
{
    unsigned int k = *(const unsigned int *)key;
    unsigned int have = container_of(n, struct item, node)->key;
    return k < have ? -1 : k > have;
}

static void reset(struct tree *t)
{
    *t = tree_make(compare);
    memset(items, 0, sizeof items);
    for (unsigned int i = 0; i < KEYS; i++) {
        items[i].key = i;
    }
}

/* The nearest present key from `from` on in steps of `step`, as the model knows it. */
static struct tree_node *model_nearest(unsigned int from, int step)
{
    for (int k = (int)from; k >= 0 && k < KEYS; k += step) {
        if (items[k].in_tree) {
            return &items[k].node;
        }
    }
    return NULL;
}

static void check_neighbours(const struct tree *t, unsigned int key)
{
    assert_ptr_equal(tree_find(t, &key), items[key].in_tree ? &items[key].node : NULL);
    assert_ptr_equal(tree_lower_bound(t, &key), model_nearest(key, 1));
    assert_ptr_equal(tree_at_or_before(t, &key), model_nearest(key, -1));
    if (items[key].in_tree) {
        assert_ptr_equal(tree_next(&items[key].node), model_nearest(key + 1, 1));
        assert_ptr_equal(tree_prev(&items[key].node), key > 0 ? model_nearest(key - 1, -1) : NULL);
    }
}

static void check_all(const struct tree *t)
{
    size_t count = 0;
    int last = -1;
    tree_for_each(t, struct item, node, i) {
        assert_true((int)i->key > last);
        assert_true(i->in_tree);
        last = (int)i->key;
        count++;
        for (int side = 0; side < 2; side++) {
            const struct tree_node *child = i->node.child[side];
            assert_true(!child || (child->parent == &i->node));
            assert_true(!child || child->priority <= i->node.priority);
        }
    }
    assert_int_equal(count, t->count);
    assert_ptr_equal(tree_first(t), model_nearest(0, 1));
    assert_ptr_equal(tree_last(t), model_nearest(KEYS - 1, -1));
    assert_int_equal(tree_is_empty(t), count == 0);
}

static void random_work_matches_the_model(void **state)
{
    (void)state;
    struct tree t;
    reset(&t);
    struct rng g = rng_seeded(3);
    check_all(&t);
    for (int step = 0; step < 40000; step++) {
        struct item *i = &items[rng_below(&g, KEYS)];
        /* Phases of growth and of shrinking, so that it is full and empty now and then. */
        bool grow = rng_below(&g, 10) < (step / 4000 % 2 ? 2u : 8u);
        if (grow) {
            assert_int_equal(
                tree_insert(&t, &i->key, i->in_tree ? &(struct tree_node){0} : &i->node),
                !i->in_tree);
            i->in_tree = true;
        } else if (i->in_tree) {
            tree_remove(&t, &i->node);
            i->in_tree = false;
        }
        check_neighbours(&t, (unsigned int)rng_below(&g, KEYS));
        if (step % 500 == 0) {
            check_all(&t);
        }
    }
    check_all(&t);
}

static void items_may_be_removed_in_the_loop(void **state)
{
    (void)state;
    struct tree t;
    reset(&t);
    for (unsigned int k = 0; k < KEYS; k++) {
        assert_true(tree_insert(&t, &items[k].key, &items[k].node));
        items[k].in_tree = true;
    }
    unsigned int visited = 0;
    tree_for_each(&t, struct item, node, i) {
        visited++;
        if (i->key % 2) {
            tree_remove(&t, &i->node);
            i->in_tree = false;
        }
        if (i->key == KEYS - 11) {
            break;
        }
    }
    assert_int_equal(visited, KEYS - 10);
    check_all(&t);
}

static unsigned int depth_of(const struct tree_node *n)
{
    unsigned int depth = 0;
    for (; n; n = n->parent) {
        depth++;
    }
    return depth;
}

static void rising_keys_do_not_make_it_deep(void **state)
{
    (void)state;
    struct tree t;
    reset(&t);
    unsigned int deepest = 0;
    for (unsigned int k = 0; k < KEYS; k++) {
        assert_true(tree_insert(&t, &items[k].key, &items[k].node));
        items[k].in_tree = true;
    }
    for (unsigned int k = 0; k < KEYS; k++) {
        unsigned int depth = depth_of(&items[k].node);
        deepest = MAX_OF(deepest, depth);
    }
    /* About 2.99 * log2(n) = 27 at the worst; 60 leaves chance no room. */
    assert_in_range(deepest, 9, 60);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_work_matches_the_model),
        cmocka_unit_test(items_may_be_removed_in_the_loop),
        cmocka_unit_test(rising_keys_do_not_make_it_deep),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
