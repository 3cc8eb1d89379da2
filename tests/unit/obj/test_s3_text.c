/* SPDX-License-Identifier: Apache-2.0 */
#include "obj/s3_text.h"
#include "unit.h"
#include <errno.h>

static void encodes(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        bool keep_slash;
        const char *encoded;
    } table[] = {
        {"", false, ""},
        {"aZ09-._~", false, "aZ09-._~"},
        {"a/b c", true, "a/b%20c"},
        {"a/b+c", false, "a%2Fb%2Bc"},
        {"$&=\x7f\xff", true, "%24%26%3D%7F%FF"},
    };
    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        struct bytes_writer w = {0};
        s3_encode(&w, table[i].text, table[i].keep_slash);
        bytes_put_u8(&w, '\0');
        assert_string_equal((char *)w.data, table[i].encoded);
        bytes_writer_free(&w);
    }
}

static void reads_times(void **state)
{
    (void)state;
    assert_int_equal(s3_date_parse("Sun, 06 Nov 1994 08:49:37 GMT"), 784111777);
    assert_int_equal(s3_date_parse("Sun, 06 Nov 1994 08:49:37"), 0);
    assert_int_equal(s3_date_parse(""), 0);
    assert_int_equal(s3_time_parse("2013-05-24T00:00:00Z"), 1369353600);
    assert_int_equal(s3_time_parse("2013-05-24T00:00:00.123Z"), 1369353600);
    assert_int_equal(s3_time_parse("2013-05-24"), 0);
    assert_int_equal(s3_time_parse("2013-05-24T00:00:00+01:00"), 0);
}

static void feed(struct s3_head *h, const char *line)
{
    s3_head_line(h, line, strlen(line));
}

static void reads_headers(void **state)
{
    (void)state;
    struct s3_head h = {0};
    feed(&h, "HTTP/1.1 100 Continue");
    feed(&h, "content-length: 7");
    feed(&h, "HTTP/1.1 206 Partial Content");
    assert_true(h.status == 206 && !h.has_length);
    feed(&h, "Content-Length:  12 ");
    feed(&h, "Content-Range: bytes 5-16/100");
    feed(&h, "x-amz-checksum-crc32c: 4waSgw==");
    feed(&h, "X-Amz-Bucket-Region: eu-west-1");
    feed(&h, "Date: Sun, 06 Nov 1994 08:49:37 GMT");
    feed(&h, "Location: https://other/x");
    assert_true(h.has_length && h.length == 12);
    assert_true(h.has_range && h.range_first == 5 && h.range_last == 16);
    assert_true(h.has_total && h.range_total == 100);
    assert_true(h.has_crc && h.crc == 0xe3069283); /* of "123456789" */
    assert_string_equal(h.region, "eu-west-1");
    assert_string_equal(h.location, "https://other/x");
    assert_int_equal(h.date_s, 784111777);
}

static void passes_over_bad_headers(void **state)
{
    (void)state;
    static const char *const lines[] = {
        "",
        ":",
        "content-length",
        "content-length: -1",
        "content-length: 12x",
        "content-length: 99999999999999999999",
        "content-range: bytes 5-4/100",
        "content-range: items 5-6/100",
        "content-range: bytes -",
        "x-amz-checksum-crc32c: 4waSgw==-3",
        "x-amz-checksum-crc32c: 4waS",
        "x-amz-checksum-crc32c: ????????",
        "date: yesterday",
    };
    struct s3_head h = {0};
    const struct s3_head none = {0};
    for (size_t i = 0; i < ARRAY_LEN(lines); i++) {
        feed(&h, lines[i]);
        if (memcmp(&h, &none, sizeof h) != 0) {
            fail_msg("taken: %s", lines[i]);
        }
    }
    feed(&h, "content-range: bytes */77");
    assert_true(!h.has_range && h.has_total && h.range_total == 77);
    char longer[2000];
    memset(longer, 'x', sizeof longer);
    memcpy(longer, "location: ", 10);
    s3_head_line(&h, longer, sizeof longer);
    s3_head_line(&h, longer, 560);
    assert_string_equal(h.location, "");
    feed(&h, "HTTP/1.1 2x");
    assert_int_equal(h.status, 0);
}

static struct s3_error parsed(const char *text)
{
    struct s3_error e;
    s3_error_parse(text, strlen(text), &e);
    return e;
}

static void reads_errors(void **state)
{
    (void)state;
    struct s3_error e = parsed("<?xml version=\"1.0\" encoding=\"UTF-8\"?><Error><Code>NoSuchKey"
                               "</Code><Message/><Region>r-1</Region><Endpoint>b.e</Endpoint>"
                               "<Deep><Code>other</Code></Deep></Error>");
    assert_string_equal(e.code, "NoSuchKey");
    assert_string_equal(e.message, "");
    assert_string_equal(e.region, "r-1");
    assert_string_equal(e.endpoint, "b.e");
    e = parsed("<Error><Message>two&#10;lines &amp; more</Message><Code>A</Code></Error>");
    assert_string_equal(e.message, "two lines & more");
    assert_string_equal(parsed("").code, "");
    assert_string_equal(parsed("<html><Code>x</Code></html>").code, "");
    assert_string_equal(parsed("<Error><Code>x</Code>").code, "");
    assert_string_equal(parsed("<!DOCTYPE a><Error><Code>x</Code></Error>").code, "");
    assert_string_equal(
        parsed("<a><a><a><a><a><a><a><a><a><Error><Code>x</Code></Error></a></a></a></a></a></a>"
               "</a></a></a>")
            .code,
        "");
}

static int list(const char *text, struct s3_list *l)
{
    *l = (struct s3_list){0};
    return s3_list_parse(text, strlen(text), l);
}

static void reads_listings(void **state)
{
    (void)state;
    struct s3_list l;
    assert_int_equal(list("<ListBucketResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">"
                          "<Name>b</Name><Prefix></Prefix><IsTruncated>true</IsTruncated>"
                          "<Contents><Key>a&amp;b</Key><ETag>&quot;x&quot;</ETag></Contents>"
                          "<Contents><Owner><Key>no</Key></Owner><Key>c</Key></Contents>"
                          "<CommonPrefixes><Prefix>p</Prefix></CommonPrefixes>"
                          "</ListBucketResult>",
                          &l),
                     0);
    assert_true(l.truncated && l.keys.len == 2);
    assert_string_equal(l.keys.at[0], "a&b");
    assert_string_equal(l.keys.at[1], "c");
    s3_list_free(&l);
    assert_int_equal(list("<ListBucketResult/>", &l), 0);
    assert_true(!l.truncated && l.keys.len == 0);
    s3_list_free(&l);
    assert_int_equal(list("", &l), -EPROTO);
    assert_int_equal(list("<Error/>", &l), -EPROTO);
    assert_int_equal(list("<ListBucketResult><Contents><Key>a</Key>", &l), -EPROTO);
}

static void reads_deletions(void **state)
{
    (void)state;
    struct s3_error e;
    const char *good = "<DeleteResult/>";
    const char *bad = "<DeleteResult><Error><Key>k</Key><Code>AccessDenied</Code></Error>"
                      "<Error><Code>Other</Code></Error></DeleteResult>";
    assert_int_equal(s3_deleted_parse(good, strlen(good), &e), 0);
    assert_string_equal(e.code, "");
    assert_int_equal(s3_deleted_parse(bad, strlen(bad), &e), 0);
    assert_string_equal(e.code, "AccessDenied");
    assert_int_equal(s3_deleted_parse("<a/>", 4, &e), -EPROTO);
    assert_int_equal(s3_deleted_parse("", 0, &e), -EPROTO);
}

static void writes_deletions(void **state)
{
    (void)state;
    struct bytes_writer w = {0};
    const char *const keys[] = {"a", "b<&>c"};
    s3_delete_document(&w, keys, 2);
    bytes_put_u8(&w, '\0');
    assert_string_equal((char *)w.data, "<Delete xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">"
                                        "<Quiet>true</Quiet><Object><Key>a</Key></Object>"
                                        "<Object><Key>b&lt;&amp;&gt;c</Key></Object></Delete>");
    bytes_writer_free(&w);
}

static void finds_elements(void **state)
{
    (void)state;
    const char *text = "<V><Status>Enabled</Status><Other>x</Other></V>";
    assert_true(s3_xml_has(text, strlen(text), "Status", "Enabled"));
    assert_false(s3_xml_has(text, strlen(text), "Status", "Suspended"));
    assert_false(s3_xml_has(text, strlen(text) - 1, "Status", "Enabled"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(encodes),         cmocka_unit_test(reads_times),
        cmocka_unit_test(reads_headers),   cmocka_unit_test(passes_over_bad_headers),
        cmocka_unit_test(reads_errors),    cmocka_unit_test(reads_listings),
        cmocka_unit_test(reads_deletions), cmocka_unit_test(writes_deletions),
        cmocka_unit_test(finds_elements),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
