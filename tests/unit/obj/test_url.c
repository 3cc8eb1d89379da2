/* SPDX-License-Identifier: Apache-2.0 */
#include "base/msg.h"
#include "obj_test.h"

static bool good(const char *url)
{
    char why[200] = "";
    int r = obj_url_check(url, why, sizeof why);
    assert_true(r == 0 || (r == -EINVAL && why[0] != '\0'));
    return r == 0;
}

static void takes_good_ones(void **state)
{
    (void)state;
    const char *const urls[] = {
        "memory:",
        "memory:?",
        "s3://bucket",
        "s3://bucket/",
        "s3://my.bucket-1/a/b/",
        "s3a://bucket/prefix?delay_ms=20",
        "file:///",
        "file:///var/lib/zerofs",
        "file:///with%20a%20blank%3f",
        "memory:?delay_ms=20&fault=0.01&seed=7",
        "memory:?delay_ms=5-40",
        "file:///x?fail_before=1&fail_after=0&duplicate=.5&late=0.25&late_ms=99&give_up_ms=0",
    };
    for (size_t i = 0; i < sizeof urls / sizeof urls[0]; i++) {
        assert_true(good(urls[i]));
    }
}

static void refuses_bad_ones(void **state)
{
    (void)state;
    const char *const urls[] = {
        "",
        "memory",
        "memory:x",
        "file:",
        "file://",
        "file://relative/path",
        "file:/one/slash",
        "/plain/path",
        "s3:",
        "s3://",
        "s3://x",
        "s3:///prefix",
        "s3://buck et",
        "s3://bucket//x",
        "s3://bucket/../x",
        "s3://bucket/a/./x",
        "s3://bucket/a b",
        "s3://bucket/p?seed=x",
        "file:///x%2",
        "file:///x%",
        "file:///x%zz",
        "file:///x%00y",
        "memory:?delay_ms",
        "memory:?delay_ms=",
        "memory:?delay_ms=-5",
        "memory:?delay_ms=9-5",
        "memory:?delay_ms=1e3",
        "memory:?fault=1.5",
        "memory:?fault=-0.1",
        "memory:?fault=nan",
        "memory:?fault=0.1x",
        "memory:?seed=99999999999999999999",
        "memory:?unknown=1",
        "memory:?a_very_long_option_name_that_is_none=1",
        "memory:?seed=1&&fault=0",
    };
    for (size_t i = 0; i < sizeof urls / sizeof urls[0]; i++) {
        if (good(urls[i])) {
            fail_msg("taken: %s", urls[i]);
        }
    }
    char *endless = malloc(10000);
    memset(endless, 'a', 9999);
    endless[9999] = '\0';
    memcpy(endless, "file:///", 8);
    assert_false(good(endless));
    free(endless);
}

static void opens(void *arg)
{
    char *folder = make_folder();
    char url[600];
    (void)arg;
    (void)snprintf(url, sizeof url, "file://%s/a%%20b?fault=0.2&seed=3&delay_ms=0-1", folder);
    struct obj_store *s;
    CHECK(obj_open(url, &s) == 0);
    for (int i = 0; i < 50; i++) {
        char name[32];
        (void)snprintf(name, sizeof name, "o/%d", i);
        struct rt_chain body = {0};
        CHECK(rt_chain_add(&body, NULL, "x", 1) == 0);
        int r = obj_put(s, OBJ_INDEX, name, &body);
        CHECK(r == 0 || r == -EEXIST); /* its own, of an attempt whose reply was lost */
        rt_chain_free(&body);
        CHECK(has_text(s, name, "x"));
    }
    obj_close(s);
    (void)snprintf(url, sizeof url, "%s/a b/o/7", folder);
    CHECK(access(url, F_OK) == 0);
    CHECK(obj_open("nothing://", &s) == -EINVAL);
    wipe(folder);
    free(folder);
}

static void builds_the_stack(void **state)
{
    (void)state;
    run_on(1, opens);
}

int main(void)
{
    msg_level_set((enum msg_level) - 1);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(takes_good_ones),
        cmocka_unit_test(refuses_bad_ones),
        cmocka_unit_test(builds_the_stack),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
