/* SPDX-License-Identifier: Apache-2.0 */
/* The table of who shares a discovery domain with whom. */
#include "isns/domains.h"
#include "unit.h"

#include <errno.h>

static void knows_its_members(void **state)
{
    (void)state;
    struct isns_domains *d = isns_domains_new(3);
    assert_non_null(d);
    assert_int_equal(isns_domains_member(d, "early"), -EINVAL);
    assert_int_equal(isns_domains_target(d, "iqn.a"), 0);
    assert_int_equal(isns_domains_member(d, "two"), 0);
    assert_int_equal(isns_domains_member(d, "One"), 0);
    assert_int_equal(isns_domains_member(d, "one"), 0);
    assert_int_equal(isns_domains_target(d, "iqn.b"), 0);
    assert_int_equal(isns_domains_target(d, "iqn.a"), -EINVAL);
    assert_int_equal(isns_domains_member(d, "four"), -E2BIG);
    isns_domains_seal(d);
    assert_int_equal(isns_domains_count(d), 2);
    assert_true(isns_domains_allow(d, "IQN.A", "one"));
    assert_true(isns_domains_allow(d, "iqn.a", "TWO"));
    assert_false(isns_domains_allow(d, "iqn.a", "three"));
    assert_false(isns_domains_allow(d, "iqn.b", "one"));
    assert_true(isns_domains_allow(d, "iqn.c", "one")); /* nobody has said anything about it */
    assert_true(isns_domains_allow(NULL, "iqn.a", "three"));
    isns_domains_free(d);
    isns_domains_free(NULL);
}

static void keeps_what_was_said_before(void **state)
{
    (void)state;
    struct isns_domains *old = isns_domains_new(8), *d = isns_domains_new(8);
    assert_true(old && d);
    assert_int_equal(isns_domains_target(old, "iqn.b"), 0);
    assert_int_equal(isns_domains_member(old, "one"), 0);
    isns_domains_seal(old);
    assert_int_equal(isns_domains_target(d, "iqn.a"), 0);
    assert_int_equal(isns_domains_member(d, "half"), 0);
    assert_int_equal(isns_domains_keep(d, old), 0); /* not there: it goes */
    assert_int_equal(isns_domains_count(d), 0);
    assert_int_equal(isns_domains_target(d, "iqn.b"), 0);
    assert_int_equal(isns_domains_member(d, "half"), 0);
    assert_int_equal(isns_domains_keep(d, old), 0);
    isns_domains_seal(d);
    assert_true(isns_domains_allow(d, "iqn.b", "one"));
    assert_false(isns_domains_allow(d, "iqn.b", "half"));
    assert_true(isns_domains_equal(d, old));
    assert_false(isns_domains_equal(d, NULL));
    isns_domains_free(d);
    isns_domains_free(old);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(knows_its_members),
                                       cmocka_unit_test(keeps_what_was_said_before)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
