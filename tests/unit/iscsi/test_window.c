/* SPDX-License-Identifier: Apache-2.0 */
#include "iscsi/window.h"
#include "unit.h"

static void inside_and_outside(void **state)
{
    (void)state;
    struct iscsi_window w;
    iscsi_window_open(&w, 100, 8);
    assert_int_equal(iscsi_window_judge(&w, 100), ISCSI_WINDOW_NOW);
    assert_int_equal(iscsi_window_judge(&w, 101), ISCSI_WINDOW_HOLD);
    assert_int_equal(iscsi_window_judge(&w, 107), ISCSI_WINDOW_HOLD);
    assert_int_equal(iscsi_window_judge(&w, 108), ISCSI_WINDOW_DROP);
    assert_int_equal(iscsi_window_judge(&w, 99), ISCSI_WINDOW_DROP);
}

static void moves_when_answered(void **state)
{
    (void)state;
    struct iscsi_window w;
    iscsi_window_open(&w, 1, 2);
    iscsi_window_take(&w);
    iscsi_window_take(&w);
    assert_int_equal(iscsi_window_judge(&w, 3), ISCSI_WINDOW_DROP); /* closed: MaxCmdSN = 2 */
    iscsi_window_give(&w);
    assert_int_equal(iscsi_window_judge(&w, 3), ISCSI_WINDOW_NOW);
    assert_int_equal(iscsi_window_judge(&w, 4), ISCSI_WINDOW_DROP);
    assert_int_equal(iscsi_window_judge(&w, 2), ISCSI_WINDOW_DROP); /* a duplicate */
}

static void wraps(void **state)
{
    (void)state;
    struct iscsi_window w;
    iscsi_window_open(&w, 0xfffffffe, 4);
    assert_int_equal(w.max, 1);
    assert_int_equal(iscsi_window_judge(&w, 0xfffffffe), ISCSI_WINDOW_NOW);
    assert_int_equal(iscsi_window_judge(&w, 0), ISCSI_WINDOW_HOLD);
    assert_int_equal(iscsi_window_judge(&w, 1), ISCSI_WINDOW_HOLD);
    assert_int_equal(iscsi_window_judge(&w, 2), ISCSI_WINDOW_DROP);
    iscsi_window_take(&w);
    iscsi_window_take(&w);
    assert_int_equal(iscsi_window_judge(&w, 0), ISCSI_WINDOW_NOW);
    assert_int_equal(iscsi_window_judge(&w, 0xffffffff), ISCSI_WINDOW_DROP);
    assert_true(iscsi_sn_before(0xffffffff, 0));
    assert_false(iscsi_sn_before(0, 0xffffffff));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(inside_and_outside),
        cmocka_unit_test(moves_when_answered),
        cmocka_unit_test(wraps),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
