/* SPDX-License-Identifier: Apache-2.0 */
#include "obj/s3_cred.h"
#include "unit.h"
#include <errno.h>

static const char profiles[] = "# a comment\n"
                               "aws_access_key_id = nobody\n"
                               "[default]\r\n"
                               "aws_access_key_id=D\r\n"
                               "  aws_secret_access_key = ds \r\n"
                               "nonsense\n"
                               "[profile work]\n"
                               "region = eu-1\n"
                               "aws_session_token = t==\n"
                               "[work]\n"
                               "aws_access_key_id = W\n"
                               "aws_access_key_id = second\n"
                               "aws_secret_access_key =\n"
                               "[workshop]\n"
                               "region = none";

static void reads_profiles(void **state)
{
    (void)state;
    struct s3_profile p = {0};
    assert_int_equal(s3_profile_parse(profiles, sizeof profiles - 1, "default", &p), 0);
    assert_true(p.found && !p.token && !p.region);
    assert_string_equal(p.access_key, "D");
    assert_string_equal(crypt_secret_text(p.secret_key), "ds");
    s3_profile_free(&p);
    assert_int_equal(s3_profile_parse(profiles, sizeof profiles - 1, "work", &p), 0);
    assert_true(p.found && !p.secret_key);
    assert_string_equal(p.access_key, "W");
    assert_string_equal(p.region, "eu-1");
    assert_string_equal(crypt_secret_text(p.token), "t==");
    s3_profile_free(&p);
    assert_int_equal(s3_profile_parse(profiles, sizeof profiles - 1, "wor", &p), 0);
    assert_false(p.found);
    assert_int_equal(s3_profile_parse(profiles, sizeof profiles - 1, "workshop", &p), 0);
    assert_string_equal(p.region, "none");
    s3_profile_free(&p);
}

static int parse(const char *text, struct s3_cred **ret_cred)
{
    *ret_cred = NULL;
    return s3_cred_parse(text, strlen(text), ret_cred);
}

static void reads_what_services_give(void **state)
{
    (void)state;
    struct s3_cred *c;
    assert_int_equal(parse("{\"Code\": \"Success\", \"AccessKeyId\": \"A\", \"SecretAccessKey\": "
                           "\"S/+=\", \"Token\": \"T\", \"Expiration\": \"2013-05-24T00:00:00Z\"}",
                           &c),
                     0);
    assert_string_equal(c->access_key, "A");
    assert_string_equal(c->secret_key, "S/+=");
    assert_string_equal(c->token, "T");
    assert_int_equal(c->expires_s, 1369353600);
    s3_cred_unref(s3_cred_ref(c));
    s3_cred_unref(c);
    assert_int_equal(parse("{\"AccessKeyId\": \"A\", \"SecretAccessKey\": \"S\"}", &c), 0);
    assert_true(!c->token && c->expires_s == 0);
    s3_cred_unref(c);
    static const char *const bad[] = {
        "",
        "[]",
        "{",
        "{}",
        "{\"AccessKeyId\": \"A\"}",
        "{\"AccessKeyId\": 1, \"SecretAccessKey\": \"S\"}",
        "{\"AccessKeyId\": \"A\", \"SecretAccessKey\": \"\"}",
        "{\"AccessKeyId\": \"A\\r\\nx: y\", \"SecretAccessKey\": \"S\"}",
        "{\"AccessKeyId\": \"A\", \"SecretAccessKey\": \"S\", \"Expiration\": \"soon\"}",
        "{\"Code\": \"Failed\", \"AccessKeyId\": \"A\", \"SecretAccessKey\": \"S\"}",
    };
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        if (parse(bad[i], &c) != -EPROTO) {
            fail_msg("taken: %s", bad[i]);
        }
    }
}

static void is_in_time(void **state)
{
    (void)state;
    assert_int_equal(s3_cred_refresh_after(1000, 1000 + 3600), 3300);
    assert_int_equal(s3_cred_refresh_after(1000, 1000 + 100), 50);
    assert_int_equal(s3_cred_refresh_after(1000, 1000), 5);
    assert_int_equal(s3_cred_refresh_after(1000, 10), 5);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_profiles),
        cmocka_unit_test(reads_what_services_give),
        cmocka_unit_test(is_in_time),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
