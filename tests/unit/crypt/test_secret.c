/* SPDX-License-Identifier: Apache-2.0 */
#include "crypt/secret.h"
#include "unit.h"
#include <stdio.h>

/* Whether the mapping that holds p has the flag in /proc/self/smaps. */
static bool has_flag(const void *p, const char *flag)
{
    FILE *f = fopen("/proc/self/smaps", "re");
    assert_non_null(f);
    char line[512];
    bool inside = false;
    bool found = false;
    unsigned long at = (unsigned long)(uintptr_t)p;
    while (fgets(line, sizeof line, f)) {
        unsigned long from, to;
        if (sscanf(line, "%lx-%lx ", &from, &to) == 2) {
            inside = from <= at && at < to;
        }
        if (inside && strncmp(line, "VmFlags:", 8) == 0) {
            found = strstr(line, flag) != NULL;
        }
    }
    assert_int_equal(fclose(f), 0);
    return found;
}

static void a_secret_is_copied_and_ended_by_zero(void **state)
{
    (void)state;
    struct crypt_secret *s = crypt_secret_create("correct horse", 13);
    assert_non_null(s);
    assert_int_equal(s->len, 13);
    assert_string_equal((char *)s->bytes, "correct horse");
    crypt_secret_free(s);
    crypt_secret_free(NULL);
}

static void a_secret_is_neither_dumped_nor_inherited(void **state)
{
    (void)state;
    struct crypt_secret *s = crypt_secret_create(NULL, 32);
    assert_non_null(s);
    assert_int_equal(s->bytes[31], 0);
    assert_true(has_flag(s, " dd"));
    assert_true(has_flag(s, " dc"));
    assert_true(has_flag(s, " lo") || UNIT_SANITIZED);
    crypt_secret_free(s);
}

static void large_secrets_have_room(void **state)
{
    (void)state;
    struct crypt_secret *s = crypt_secret_create(NULL, 100000);
    assert_non_null(s);
    memset(s->bytes, 0x5a, 100000);
    assert_int_equal(s->bytes[100000], 0);
    crypt_secret_free(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_secret_is_copied_and_ended_by_zero),
        cmocka_unit_test(a_secret_is_neither_dumped_nor_inherited),
        cmocka_unit_test(large_secrets_have_room),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
