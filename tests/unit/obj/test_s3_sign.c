/* SPDX-License-Identifier: Apache-2.0 */
/* The examples that AWS publishes: of its test suite, and of the S3 API reference. */
#include "obj/s3_sign.h"
#include "unit.h"
#include <errno.h>
#include <stdio.h>
#include <string.h>

#define S3_ID "AKIAIOSFODNN7EXAMPLE"
#define S3_SECRET "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
#define MAY_24_2013 1369353600u

static struct s3_sign_room room;

static void check(const struct s3_signing *in, const char *names, const char *signature)
{
    char value[512];
    char want[512];
    char when[S3_TIME_TEXT_SIZE];
    s3_time_text(in->time_s, when);
    assert_int_equal(s3_sign(in, value, sizeof value), 0);
    (void)snprintf(want, sizeof want,
                   "AWS4-HMAC-SHA256 Credential=%s/%.8s/us-east-1/%s/aws4_request,"
                   "SignedHeaders=%s,Signature=%s",
                   in->access_key, when, in->service, names, signature);
    assert_string_equal(value, want);
}

static struct s3_signing s3_request(const char *method, const char *path, const char *query,
                                    const struct s3_header *headers, size_t count)
{
    return (struct s3_signing){
        .method = method,
        .path = path,
        .query = query,
        .headers = headers,
        .header_count = count,
        .body_hash = s3_empty_hash,
        .time_s = MAY_24_2013,
        .region = "us-east-1",
        .service = "s3",
        .access_key = S3_ID,
        .secret_key = S3_SECRET,
        .room = &room,
    };
}

static void signs_a_ranged_get(void **state)
{
    (void)state;
    const struct s3_header headers[] = {
        {"host", "examplebucket.s3.amazonaws.com"},
        {"range", "bytes=0-9"},
        {"x-amz-content-sha256", s3_empty_hash},
        {"x-amz-date", "20130524T000000Z"},
    };
    struct s3_signing in = s3_request("GET", "/test.txt", "", headers, ARRAY_LEN(headers));
    check(&in, "host;range;x-amz-content-sha256;x-amz-date",
          "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41");
}

static void signs_a_put_with_its_body(void **state)
{
    (void)state;
    const char *hash = "44ce7dd67c959e0d3524ffac1771dfbba87d2b6b4b4e99e42034a8b803f8b072";
    const struct s3_header headers[] = {
        {"date", "Fri, 24 May 2013 00:00:00 GMT"},
        {"host", "examplebucket.s3.amazonaws.com"},
        {"x-amz-content-sha256", hash},
        {"x-amz-date", "20130524T000000Z"},
        {"x-amz-storage-class", "REDUCED_REDUNDANCY"},
    };
    struct s3_signing in = s3_request("PUT", "/test%24file.text", "", headers, ARRAY_LEN(headers));
    in.body_hash = hash;
    check(&in, "date;host;x-amz-content-sha256;x-amz-date;x-amz-storage-class",
          "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd");
}

static const struct s3_header bucket_headers[] = {
    {"host", "examplebucket.s3.amazonaws.com"},
    {"x-amz-content-sha256", s3_empty_hash},
    {"x-amz-date", "20130524T000000Z"},
};

static void signs_queries(void **state)
{
    (void)state;
    struct s3_signing in = s3_request("GET", "/", "lifecycle=", bucket_headers, 3);
    check(&in, "host;x-amz-content-sha256;x-amz-date",
          "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543");
    in.query = "max-keys=2&prefix=J";
    check(&in, "host;x-amz-content-sha256;x-amz-date",
          "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7");
}

static void signs_what_the_test_suite_does(void **state)
{
    (void)state;
    const struct s3_header headers[] = {
        {"host", "example.amazonaws.com"},
        {"x-amz-date", "20150830T123600Z"},
    };
    struct s3_signing in = s3_request("GET", "/", "", headers, 2);
    in.time_s = 1440938160;
    in.service = "service";
    in.access_key = "AKIDEXAMPLE";
    room = (struct s3_sign_room){0};
    in.secret_key = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
    check(&in, "host;x-amz-date",
          "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31");
    in.query = "Param1=value1&Param2=value2";
    check(&in, "host;x-amz-date",
          "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500");
}

static void refuses_what_does_not_fit(void **state)
{
    (void)state;
    char small[64];
    char secret[400];
    char value[512];
    struct s3_signing in = s3_request("GET", "/", "", bucket_headers, 3);
    assert_int_equal(s3_sign(&in, small, sizeof small), -EOVERFLOW);
    memset(secret, 'x', sizeof secret);
    secret[sizeof secret - 1] = '\0';
    room = (struct s3_sign_room){0};
    in.secret_key = secret;
    assert_int_equal(s3_sign(&in, value, sizeof value), -EOVERFLOW);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(signs_a_ranged_get),
        cmocka_unit_test(signs_a_put_with_its_body),
        cmocka_unit_test(signs_queries),
        cmocka_unit_test(signs_what_the_test_suite_does),
        cmocka_unit_test(refuses_what_does_not_fit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
