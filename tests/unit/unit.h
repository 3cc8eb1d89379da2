/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What every unit test includes.
 *
 *     static void adds_up(void **state) { (void)state; assert_int_equal(1 + 1, 2); }
 *     int main(void)
 *     {
 *         const struct CMUnitTest tests[] = {cmocka_unit_test(adds_up)};
 *         return cmocka_run_group_tests(tests, NULL, NULL);
 *     }
 */
#pragma once
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
