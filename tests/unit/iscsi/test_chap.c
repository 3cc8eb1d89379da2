/* SPDX-License-Identifier: Apache-2.0 */
/* CHAP by itself: digests, numbers, the order of keys, reflections; and the guard against guessing.
 */
#include "base/err.h"
#include "iscsi/chap.h"
#include "iscsi/guard.h"
#include "unit.h"
#include <stdio.h>
#include <string.h>

#define SECRET "twelve bytes!!"

static void hex_of(const uint8_t *bytes, size_t len, char *ret_text)
{
    for (size_t i = 0; i < len; i++) {
        (void)snprintf(ret_text + 2 * i, 3, "%02x", bytes[i]);
    }
}

/* Computed with another implementation: digest of 5a, the secret, 00 to 1f. */
static const struct {
    enum iscsi_chap_algorithm algorithm;
    const char *digest;
} vectors[] = {
    {ISCSI_CHAP_MD5, "df8c40f66aba39f08edd00ca86dc3556"},
    {ISCSI_CHAP_SHA1, "7f7f455449674f8c88c3cba23c2d76e5de248a29"},
    {ISCSI_CHAP_SHA256, "fa4a811303bc0ad9236954a1be0a93775c3b85a4b50b0197d0c2cdcf0bcc2ec7"},
    {ISCSI_CHAP_SHA3_256, "a6a11bbe6d7eb9769b6f7331565fbd9fb86a05b4735a91daf7743c0424310e8c"},
};

static void test_digests(void **state)
{
    (void)state;
    uint8_t challenge[32];
    for (size_t i = 0; i < sizeof challenge; i++) {
        challenge[i] = (uint8_t)i;
    }
    for (size_t i = 0; i < ARRAY_LEN(vectors); i++) {
        struct iscsi_chap_question q = {vectors[i].algorithm, 0x5a, challenge, sizeof challenge};
        uint8_t answer[ISCSI_CHAP_DIGEST_MAX];
        char text[80];
        int r = iscsi_chap_answer(&q, SECRET, strlen(SECRET), answer);
        assert_int_equal(r, strlen(vectors[i].digest) / 2);
        hex_of(answer, (size_t)r, text);
        assert_string_equal(text, vectors[i].digest);
        const char *name = iscsi_chap_name(vectors[i].algorithm);
        assert_int_equal(iscsi_chap_number(name), vectors[i].algorithm);
    }
    assert_null(iscsi_chap_name(4));
    assert_int_equal(iscsi_chap_number("md4"), 0);
}

static void test_choice(void **state)
{
    (void)state;
    static const struct {
        const char *list;
        enum iscsi_chap_algorithm minimum;
        int chosen;
    } rows[] = {
        {"5", ISCSI_CHAP_MD5, 5},
        {"5,6,7,8", ISCSI_CHAP_MD5, 8},
        {"7,5", ISCSI_CHAP_MD5, 7},
        {"6,5", ISCSI_CHAP_SHA256, -ENOENT},
        {"8", ISCSI_CHAP_SHA3_256, 8},
        {"9,99,5", ISCSI_CHAP_MD5, 5},
        {"", ISCSI_CHAP_MD5, -ENOENT},
        {",,", ISCSI_CHAP_MD5, -ENOENT},
        {"0x5", ISCSI_CHAP_MD5, -ENOENT},
        {"5 ", ISCSI_CHAP_MD5, -ENOENT},
        {"1000000000000000005", ISCSI_CHAP_MD5, -ENOENT},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        assert_int_equal(iscsi_chap_choose(rows[i].list, rows[i].minimum), rows[i].chosen);
    }
}

static void test_numbers(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        const char *bytes; /* NULL: refused */
    } rows[] = {
        {"0x616263", "abc"},
        {"0X61626A", "abj"},
        {"0x161", "\x01"
                  "a"},
        {"0bYWJj", "abc"},
        {"0BYWI=", "ab"},
        {"0bYQ==", "a"},
        {"0bYR==", NULL},
        {"0bYQ=", NULL},
        {"0bYQ", NULL},
        {"0bY===", NULL},
        {"0bY!Jj", NULL},
        {"0b====", NULL},
        {"0x", NULL},
        {"0b", NULL},
        {"0", NULL},
        {"", NULL},
        {"616263", NULL},
        {"0xzz", NULL},
        {"0x6162636465", NULL} /* longer than there is room */,
        {"0bYWJjZGU=", NULL},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        uint8_t bytes[4];
        size_t len = 99;
        int r = iscsi_text_binary(rows[i].text, bytes, sizeof bytes, &len);
        if (!rows[i].bytes) {
            assert_int_equal(r, ERR_PROTOCOL);
            continue;
        }
        assert_int_equal(r, 0);
        assert_int_equal(len, strlen(rows[i].bytes));
        assert_memory_equal(bytes, rows[i].bytes, len);
    }
    /* As long as it may be, and a byte longer. */
    static char longest[2 + 2 * ISCSI_CHAP_BINARY_MAX + 3];
    static uint8_t big[ISCSI_CHAP_BINARY_MAX];
    size_t len;
    memset(longest, 'a', sizeof longest - 1);
    memcpy(longest, "0x", 2);
    longest[2 + 2 * ISCSI_CHAP_BINARY_MAX] = 0;
    assert_int_equal(iscsi_text_binary(longest, big, sizeof big, &len), 0);
    assert_int_equal(len, ISCSI_CHAP_BINARY_MAX);
    longest[2 + 2 * ISCSI_CHAP_BINARY_MAX] = 'a';
    assert_int_equal(iscsi_text_binary(longest, big, sizeof big, &len), ERR_PROTOCOL);
}

/* One request: its keys, then the step. The text stays while the machine may point into it. */
static char request[8192];

static int feed(struct iscsi_chap *s, struct bytes_writer *out, const char *text, size_t len)
{
    static const uint8_t random[33] = {42, 1, 2, 3};
    struct iscsi_key k;
    int r;
    out->len = 0;
    assert_true(len < sizeof request);
    memcpy(request, text, len);
    struct iscsi_text t = iscsi_text_of(request, len);
    while ((r = iscsi_text_next(&t, &k)) > 0) {
        r = iscsi_chap_key(s, &k);
        if (r != 0) {
            return r;
        }
    }
    assert_int_equal(r, 0);
    return iscsi_chap_step(s, random, out);
}
#define FEED(s, out, text) feed((s), (out), (text), sizeof(text) - 1)

static void test_order(void **state)
{
    (void)state;
    struct bytes_writer out = {0};
    struct iscsi_chap s;
    iscsi_chap_begin(&s, ISCSI_CHAP_MD5);
    assert_int_equal(FEED(&s, &out, "X-other=1\0"), 1);
    assert_int_equal(FEED(&s, &out, ""), -ENODATA);
    assert_int_equal(FEED(&s, &out, "CHAP_A=9\0"), -ENOENT);
    iscsi_chap_begin(&s, ISCSI_CHAP_MD5);
    assert_int_equal(FEED(&s, &out, "CHAP_A=5\0CHAP_A=5\0"), ERR_PROTOCOL);
    iscsi_chap_begin(&s, ISCSI_CHAP_MD5);
    assert_int_equal(FEED(&s, &out, "CHAP_A=5\0CHAP_N=me\0"), ERR_PROTOCOL);
    iscsi_chap_begin(&s, ISCSI_CHAP_MD5);
    assert_int_equal(FEED(&s, &out, "CHAP_A=7,5\0"), 0);
    static const char answer[] = "CHAP_A=7\0CHAP_I=42\0CHAP_C=0x010203000000000000";
    assert_memory_equal(out.data, answer, sizeof answer - 1);
    assert_int_equal(FEED(&s, &out, "CHAP_N=me\0"), -ENODATA);
    s.name = NULL;
    assert_int_equal(FEED(&s, &out, "CHAP_N=me\0CHAP_R=0x00\0CHAP_I=1\0"), ERR_PROTOCOL);
    s.name = s.response = s.peer_id = NULL;
    assert_int_equal(FEED(&s, &out, "CHAP_N=\0CHAP_R=0x00\0"), ERR_PROTOCOL);
    s.name = s.response = NULL;
    assert_int_equal(FEED(&s, &out, "CHAP_A=5\0CHAP_N=me\0CHAP_R=0x00\0"), ERR_PROTOCOL);
    bytes_writer_free(&out);
}

struct attempt {
    const char *secret; /* the initiator's */
    const char *known;  /* ours of him; NULL: nobody of that name */
    const char *own;    /* ours of us; NULL: none */
    const char *back;   /* the initiator's CHAP_I and CHAP_C */
    int result;
};

#define OWN_CHALLENGE "0x0102030000000000000000000000000000000000000000000000000000000000"
static const struct attempt attempts[] = {
    {SECRET, SECRET, NULL, "", 0},
    {SECRET, SECRET, "another secret", "", 0},
    {"wrong secret!", SECRET, NULL, "", -EACCES},
    {SECRET, NULL, NULL, "", -EACCES},
    {SECRET, SECRET, "another secret", "CHAP_I=255;CHAP_C=0x0a;", 0},
    {SECRET, SECRET, "another secret", "CHAP_I=0xff;CHAP_C=0bYWJj;", 0},
    {SECRET, SECRET, NULL, "CHAP_I=7;CHAP_C=0x0a;", -EACCES},
    {SECRET, SECRET, "another secret", "CHAP_I=256;CHAP_C=0x0a;", ERR_PROTOCOL},
    {SECRET, SECRET, "another secret", "CHAP_I=-1;CHAP_C=0x0a;", ERR_PROTOCOL},
    {SECRET, SECRET, "another secret", "CHAP_I=1;CHAP_C=a;", ERR_PROTOCOL},
    {SECRET, SECRET, "another secret", "CHAP_I=1;CHAP_C=" OWN_CHALLENGE ";", -ELOOP},
    {SECRET, SECRET, SECRET, "CHAP_I=1;CHAP_C=0x0a;", -ELOOP},
    /* Who does not know the secret learns nothing of ours. */
    {"wrong secret!", SECRET, "another secret", "CHAP_I=7;CHAP_C=0x0a;", -EACCES},
    {"wrong secret!", SECRET, "another secret", "CHAP_I=1;CHAP_C=" OWN_CHALLENGE ";", -EACCES},
};

static int attempt(const struct attempt *a, enum iscsi_chap_algorithm algorithm,
                   struct bytes_writer *out)
{
    struct iscsi_chap s;
    char text[512];
    char digest[80];
    uint8_t answer[ISCSI_CHAP_DIGEST_MAX];
    iscsi_chap_begin(&s, ISCSI_CHAP_MD5);
    int n = snprintf(text, sizeof text, "CHAP_A=%d", (int)algorithm);
    assert_int_equal(feed(&s, out, text, (size_t)n + 1), 0);
    struct iscsi_chap_question q = {algorithm, s.id, s.challenge, sizeof s.challenge};
    int r = iscsi_chap_answer(&q, a->secret, strlen(a->secret), answer);
    assert_true(r > 0);
    hex_of(answer, (size_t)r, digest);
    n = snprintf(text, sizeof text, "CHAP_N=me;CHAP_R=0x%s;%s", digest, a->back);
    for (int i = 0; i < n; i++) {
        text[i] = (char)(text[i] == ';' ? 0 : text[i]);
    }
    assert_int_equal(feed(&s, out, text, (size_t)n + 1), 1);
    struct iscsi_chap_credentials cred = {
        .secret = (const uint8_t *)a->known,
        .secret_len = a->known ? strlen(a->known) : 0,
        .own_name = a->own ? "target" : NULL,
        .own_secret = (const uint8_t *)a->own,
        .own_len = a->own ? strlen(a->own) : 0,
    };
    return iscsi_chap_verify(&s, &cred, out);
}

static void test_verdicts(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(attempts); i++) {
        for (unsigned a = ISCSI_CHAP_MD5; a <= ISCSI_CHAP_SHA3_256; a++) {
            struct bytes_writer out = {0};
            assert_int_equal(attempt(&attempts[i], (enum iscsi_chap_algorithm)a, &out),
                             attempts[i].result);
            bool said = out.len > 0 && memmem(out.data, out.len, "CHAP_N=target", 14) != NULL;
            assert_int_equal(said, attempts[i].result == 0 && attempts[i].back[0]);
            bytes_writer_free(&out);
        }
    }
}

/* A challenge is good for one response. */
static void test_judged_once(void **state)
{
    (void)state;
    struct bytes_writer out = {0};
    struct iscsi_chap s;
    iscsi_chap_begin(&s, ISCSI_CHAP_MD5);
    assert_int_equal(FEED(&s, &out, "CHAP_A=5\0"), 0);
    assert_int_equal(FEED(&s, &out, "CHAP_N=me\0CHAP_R=0x00112233\0"), 1);
    struct iscsi_chap_credentials cred = {.secret = (const uint8_t *)SECRET, .secret_len = 14};
    assert_int_equal(iscsi_chap_verify(&s, &cred, &out), -EACCES);              /* too short */
    assert_int_equal(FEED(&s, &out, "CHAP_N=me\0CHAP_R=0x00\0"), ERR_PROTOCOL); /* once only */
    bytes_writer_free(&out);
}

static void test_guard(void **state)
{
    (void)state;
    static struct iscsi_guard g;
    struct iscsi_guard_who a = iscsi_guard_who("1234", 4, "iqn.a");
    struct iscsi_guard_who b = iscsi_guard_who("1234", 4, "iqn.b");
    struct iscsi_guard_who c = iscsi_guard_who("9999", 4, "iqn.a");
    uint64_t now = 1000000000000ull;
    uint64_t wait;
    for (int i = 0; i < 4; i++) {
        assert_true(iscsi_guard_enter(&g, &a, now, &wait));
        assert_int_equal(wait, 0);
    }
    for (unsigned i = 1; i <= 5; i++) { /* in turn, one a second */
        assert_true(iscsi_guard_enter(&g, &a, now, &wait));
        assert_int_equal(wait, i * 1000000000ull);
    }
    assert_false(iscsi_guard_enter(&g, &a, now, &wait));
    assert_true(iscsi_guard_enter(&g, &b, now, &wait) && wait == 0); /* his neighbour may */
    assert_true(iscsi_guard_enter(&g, &c, now, &wait) && wait == 0);
    now += 20000000000ull;
    assert_true(iscsi_guard_enter(&g, &a, now, &wait) && wait == 0);
    /* Who is right pays nothing. */
    for (int i = 0; i < 1000; i++) {
        assert_true(iscsi_guard_enter(&g, &b, now, &wait) && wait == 0);
        iscsi_guard_pardon(&g, &b);
    }
    /* Another name each time does not help. */
    bool slowed = false;
    for (int i = 0; i < 100 && !slowed; i++) {
        char name[32];
        (void)snprintf(name, sizeof name, "iqn.%d", i);
        struct iscsi_guard_who who = iscsi_guard_who("1234", 4, name);
        assert_true(iscsi_guard_enter(&g, &who, now, &wait));
        slowed = wait > 0;
    }
    assert_true(slowed);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_digests),  cmocka_unit_test(test_choice),
        cmocka_unit_test(test_numbers),  cmocka_unit_test(test_order),
        cmocka_unit_test(test_verdicts), cmocka_unit_test(test_judged_once),
        cmocka_unit_test(test_guard),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
