/* SPDX-License-Identifier: Apache-2.0 */
/* The table of initiators that have come. */
#include "isns/visitors.h"
#include "unit.h"

#include <stdio.h>

static struct isns_domains *seeing(const char *name, const char *target)
{
    struct isns_domains *d = isns_domains_new(8);
    assert_non_null(d);
    assert_int_equal(isns_domains_target(d, name), 0);
    if (target) {
        assert_int_equal(isns_domains_member(d, target), 0);
    }
    isns_domains_seal(d);
    return d;
}

static void keeps_what_is_said(void **state)
{
    (void)state;
    struct isns_visitors v;
    isns_visitors_init(&v);
    assert_null(isns_visitors_next(&v));
    assert_true(isns_visitors_ask(&v, "one"));
    assert_true(isns_visitors_ask(&v, "ONE"));
    assert_int_equal(v.asked, 1);
    assert_string_equal(isns_visitors_next(&v)->name, "one");
    assert_false(isns_visitors_sees(&v, "one", "iqn.a"));
    isns_visitors_told(&v, "One", seeing("one", "iqn.a"), 5);
    assert_null(isns_visitors_next(&v));
    assert_true(isns_visitors_sees(&v, "ONE", "IQN.A"));
    assert_false(isns_visitors_sees(&v, "one", "iqn.b"));
    assert_false(isns_visitors_sees(&v, "two", "iqn.a"));
    isns_visitors_stale(&v);
    assert_int_equal(isns_visitors_find(&v, "one")->told_ns, 0);
    assert_true(isns_visitors_ask(&v, "one"));
    isns_visitors_told(&v, "one", NULL, 6); /* nothing */
    assert_true(isns_visitors_sees(&v, "one", "iqn.a"));
    isns_visitors_told(&v, "one", seeing("one", NULL), 7);
    assert_false(isns_visitors_sees(&v, "one", "iqn.a"));
    isns_visitors_told(&v, "two", seeing("two", NULL), 7); /* who has gone */
    isns_visitors_free(&v);
    assert_int_equal(v.count, 0);
}

static void is_bounded(void **state)
{
    (void)state;
    struct isns_visitors v;
    char name[300];
    isns_visitors_init(&v);
    for (unsigned i = 0; i < 3 * ISNS_VISITORS_MAX; i++) {
        snprintf(name, sizeof name, "i%u", i);
        assert_true(isns_visitors_ask(&v, name));
        if (i % 2 == 0 || v.asked == ISNS_VISITORS_ASKED_MAX) {
            const struct isns_visitor *next = isns_visitors_next(&v);
            char asked[ISNS_NAME_MAX + 1];
            memcpy(asked, next->name, sizeof asked);
            isns_visitors_told(&v, asked, NULL, 1);
        }
    }
    assert_int_equal(v.count, ISNS_VISITORS_MAX);
    assert_null(isns_visitors_find(&v, "i0"));
    assert_non_null(isns_visitors_find(&v, name));
    while (v.asked < ISNS_VISITORS_ASKED_MAX) {
        snprintf(name, sizeof name, "more%zu", v.asked);
        assert_true(isns_visitors_ask(&v, name));
    }
    assert_false(isns_visitors_ask(&v, "one too many"));
    assert_true(isns_visitors_ask(&v, name)); /* it is asked about already */
    memset(name, 'x', sizeof name - 1);
    name[sizeof name - 1] = 0;
    assert_false(isns_visitors_ask(&v, name));
    isns_visitors_free(&v);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(keeps_what_is_said),
                                       cmocka_unit_test(is_bounded)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
