/* SPDX-License-Identifier: Apache-2.0 */
#include "base/err.h"
#include "unit.h"

static void private_codes_have_class_name_and_text(void **state)
{
    (void)state;
    assert_int_equal(err_class(ERR_FENCED), EROFS);
    assert_string_equal(err_name(ERR_FENCED), "ERR_FENCED");
    assert_string_equal(err_text(ERR_FAULT_INJECTED), "an injected fault");
    for (int r = ERR_FIRST_PRIVATE + 1; r < ERR_END_PRIVATE; r++) {
        assert_true(err_class(r) > 0);
        assert_int_equal(strncmp(err_name(r), "ERR_", 4), 0);
        assert_true(strlen(err_text(r)) > 5);
    }
}

static void errnos_keep_their_own(void **state)
{
    (void)state;
    assert_int_equal(err_class(-ENOSPC), ENOSPC);
    assert_string_equal(err_name(-ENOSPC), "ENOSPC");
    assert_string_equal(err_text(-ENOENT), "No such file or directory");
}

static void success_and_strangers(void **state)
{
    (void)state;
    assert_int_equal(err_class(0), 0);
    assert_int_equal(err_class(17), 0);
    assert_string_equal(err_name(3), "OK");
    static const int strangers[] = {ERR_FIRST_PRIVATE, ERR_END_PRIVATE, -4000, INT32_MIN};
    for (size_t i = 0; i < sizeof strangers / sizeof strangers[0]; i++) {
        assert_true(err_class(strangers[i]) > 0);
        assert_string_equal(err_name(strangers[i]), "ERR_UNKNOWN");
        assert_non_null(err_text(strangers[i]));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(private_codes_have_class_name_and_text),
        cmocka_unit_test(errnos_keep_their_own),
        cmocka_unit_test(success_and_strangers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
