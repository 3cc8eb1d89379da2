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

/* Whether the test runs under a sanitizer, which needs more stack, does not lock memory, and keeps
 * copies of its own. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define UNIT_SANITIZED true
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define UNIT_SANITIZED true
#endif
#endif
#ifndef UNIT_SANITIZED
#define UNIT_SANITIZED false
#endif
