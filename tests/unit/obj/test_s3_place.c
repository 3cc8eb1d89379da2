/* SPDX-License-Identifier: Apache-2.0 */
#include "obj/s3_priv.h"
#include "unit.h"
#include <errno.h>

static void reads_endpoints(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        const char *host; /* NULL: refused */
        bool tls;
    } table[] = {
        {"https://s3.example.net", "s3.example.net", true},
        {"https://s3.example.net/", "s3.example.net", true},
        {"HTTPS://h:9000", "h:9000", true},
        {"https://h:443", "h", true},
        {"http://h:80", "h", false},
        {"http://h:443", "h:443", false},
        {"http://[::1]:8080", "[::1]:8080", false},
        {"h:9000", NULL, false},
        {"https://", NULL, false},
        {"https://h/path", NULL, false},
        {"https://user@h", NULL, false},
        {"https://h?x", NULL, false},
        {"ftp://h", NULL, false},
    };
    char why[200];
    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        struct s3_place p = {0};
        int r = s3_place_parse(table[i].text, true, &p, why, sizeof why);
        assert_int_equal(r, table[i].host ? 0 : -EINVAL);
        if (r == 0) {
            assert_string_equal(p.host, table[i].host);
            assert_true(p.tls == table[i].tls && p.custom);
        }
    }
    struct s3_place p = {0};
    assert_int_equal(s3_place_parse("http://h", false, &p, why, sizeof why), -EINVAL);
    assert_non_null(strstr(why, "allow_http"));
}

static void knows_regions(void **state)
{
    (void)state;
    struct s3_place p = {0};
    s3_place_of_region(&p, "eu-central-1");
    assert_string_equal(p.host, "s3.eu-central-1.amazonaws.com");
    assert_true(p.tls);
    s3_place_of_region(&p, "cn-north-1");
    assert_string_equal(p.host, "s3.cn-north-1.amazonaws.com.cn");
}

static void follows(void **state)
{
    (void)state;
    struct s3_error none = {0};
    struct s3_head h = {.status = 301, .region = "eu-1"};
    struct s3_place p = {0};
    s3_place_of_region(&p, "us-east-1");
    assert_true(s3_place_follow(&p, "bucket", &h, &none, false));
    assert_string_equal(p.region, "eu-1");
    assert_string_equal(p.host, "s3.eu-1.amazonaws.com");
    assert_false(s3_place_follow(&p, "bucket", &h, &none, false)); /* it is there already */

    h = (struct s3_head){.status = 307, .location = "https://bucket.s3-2.example.net/key?x=y"};
    assert_true(s3_place_follow(&p, "bucket", &h, &none, false));
    assert_string_equal(p.host, "s3-2.example.net");
    assert_true(p.virtual_hosted);

    /* Not from an encrypted place to one that is not, not to nonsense. */
    static const char *const nowhere[] = {"http://evil.example.net/", "https:///x", "https://a b",
                                          "ftp://x", ""};
    for (size_t i = 0; i < ARRAY_LEN(nowhere); i++) {
        struct s3_place was = p;
        h = (struct s3_head){.status = 307};
        (void)snprintf(h.location, sizeof h.location, "%s", nowhere[i]);
        bool moved = s3_place_follow(&p, "bucket", &h, &none, true);
        assert_true(p.tls);
        assert_true(!moved || strcmp(p.host, was.host) != 0);
        assert_null(strstr(p.host, "evil"));
    }
    struct s3_error fault = {.endpoint = "bucket.s3-3.example.net"};
    h = (struct s3_head){.status = 301};
    assert_true(s3_place_follow(&p, "bucket", &h, &fault, false));
    assert_string_equal(p.host, "s3-3.example.net");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_endpoints),
        cmocka_unit_test(knows_regions),
        cmocka_unit_test(follows),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
