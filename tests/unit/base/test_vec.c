/* SPDX-License-Identifier: Apache-2.0 */
/* The containers that live in headers: vec and list. */
#include "base/list.h"
#include "base/vec.h"
#include "unit.h"

static void pushes_and_keeps(void **state)
{
    (void)state;
    VEC(uint32_t) v = {0};
    for (uint32_t i = 0; i < 10000; i++) {
        assert_int_equal(vec_push(&v, i * 3), 0);
    }
    assert_int_equal(v.len, 10000);
    for (uint32_t i = 0; i < 10000; i++) {
        assert_int_equal(v.at[i], i * 3);
    }
    vec_free(&v);
    assert_null(v.at);
    assert_int_equal(v.cap, 0);
}

static void reserve_makes_room_once(void **state)
{
    (void)state;
    VEC(uint64_t) v = {0};
    assert_int_equal(vec_reserve(&v, 100), 0);
    assert_true(v.cap >= 100);
    const uint64_t *at = v.at;
    for (uint64_t i = 0; i < 100; i++) {
        assert_int_equal(vec_push(&v, i), 0);
    }
    assert_ptr_equal(v.at, at);
    vec_free(&v);
}

static void too_much_is_refused_and_harms_nothing(void **state)
{
    (void)state;
    VEC(uint64_t) v = {0};
    assert_int_equal(vec_push(&v, 7), 0);
    size_t too_many = SIZE_MAX / 4;
    assert_int_equal(vec_reserve(&v, too_many), -ENOMEM);
    assert_int_equal(v.len, 1);
    assert_int_equal(v.at[0], 7);
    vec_free(&v);
}

struct item {
    int value;
    struct list link;
};

static int sum(struct list *l)
{
    int total = 0;
    list_for_each(l, struct item, link, i) {
        total = total * 10 + i->value;
    }
    return total;
}

static void lists_keep_order(void **state)
{
    (void)state;
    struct list l = LIST_INIT(l);
    struct item a = {.value = 1};
    struct item b = {.value = 2};
    struct item c = {.value = 3};
    assert_true(list_is_empty(&l));
    assert_null(list_pop_front(&l));
    list_push_back(&l, &b.link);
    list_push_back(&l, &c.link);
    list_push_front(&l, &a.link);
    assert_int_equal(sum(&l), 123);
    list_remove(&b.link);
    list_remove(&b.link);
    assert_int_equal(sum(&l), 13);
    assert_ptr_equal(list_pop_front(&l), &a.link);
    list_for_each(&l, struct item, link, i) {
        list_remove(&i->link);
    }
    assert_true(list_is_empty(&l));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pushes_and_keeps),
        cmocka_unit_test(reserve_makes_room_once),
        cmocka_unit_test(too_much_is_refused_and_harms_nothing),
        cmocka_unit_test(lists_keep_order),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
