/* SPDX-License-Identifier: Apache-2.0 */
/* The security stage over connections: who gets in, who does not, and what he is told. */
#include "iscsi/chap.h"
#include "peer.h"

#define SECRET "initiator secret"
#define OWN "target's secret"
#define DISCOVERY "InitiatorName=iqn.2024-01.test:peer\0SessionType=Discovery\0"

/* Rules of every target (1) or of discovery (0): an account, the target's own, a minimum. */
static void rules(unsigned scope, bool mutual, uint8_t minimum)
{
    struct dev_access *a = dev_access_new();
    CHECK(a);
    struct dev_account account = {.user = "alice",
                                  .initiator = "iqn.2024-01.test:*",
                                  .secret = crypt_secret_create(SECRET, strlen(SECRET))};
    CHECK(dev_account_set(a, &account) == 0);
    crypt_secret_free(account.secret);
    if (mutual) {
        struct crypt_secret *own = crypt_secret_create(OWN, strlen(OWN));
        CHECK(dev_own_set(a, "target", own) == 0);
        crypt_secret_free(own);
    }
    a->minimum = minimum;
    dev_access_unref(ram.rules[scope]);
    ram.rules[scope] = a;
}

/* Sends keys, ';' for their ends, and takes the answer: its status. */
static int say(struct peer *p, uint8_t flags, const char *fmt, ...) PRINTF_LIKE(3, 4);
static int say(struct peer *p, uint8_t flags, const char *fmt, ...)
{
    char text[2048];
    va_list args;
    va_start(args, fmt);
    int n = vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    for (int i = 0; i < n; i++) {
        text[i] = (char)(text[i] == ';' ? 0 : text[i]);
    }
    peer_login_send(p, flags, text, (size_t)n);
    CHECK(peer_recv(p) == 0 && p->bhs[0] == 0x23);
    return be16_load(p->bhs + 36);
}

static const char *value_of(struct peer *p, const char *name)
{
    struct iscsi_text t = iscsi_text_of(p->data, p->len);
    struct iscsi_key k;
    while (iscsi_text_next(&t, &k) > 0) {
        if (iscsi_key_is(&k, name)) {
            return k.value;
        }
    }
    return NULL;
}

/* The response to the challenge at hand, as text. */
static void answer(struct peer *p, const char *secret, char ret_hex[80])
{
    uint8_t challenge[ISCSI_CHAP_BINARY_MAX], digest[ISCSI_CHAP_DIGEST_MAX];
    struct iscsi_chap_question q = {.challenge = challenge};
    q.algorithm = (enum iscsi_chap_algorithm)strtoul(value_of(p, "CHAP_A"), NULL, 10);
    q.id = (uint8_t)strtoul(value_of(p, "CHAP_I"), NULL, 10);
    CHECK(iscsi_text_binary(value_of(p, "CHAP_C"), challenge, sizeof challenge, &q.challenge_len) ==
          0);
    int r = iscsi_chap_answer(&q, secret, strlen(secret), digest);
    CHECK(r > 0);
    for (int i = 0; i < r; i++) {
        (void)snprintf(ret_hex + 2 * i, 3, "%02x", digest[i]);
    }
}

#define NAMES "InitiatorName=iqn.2024-01.test:peer;TargetName=" RAM_IQN ";SessionType=Normal;"

/* Up to the challenge. */
static void challenge(struct peer_world *w, struct peer *p, const char *offer)
{
    peer_connect(p, w->server);
    CHECK(say(p, 0x81, NAMES "AuthMethod=CHAP,None;") == 0);
    CHECK(p->bhs[1] == 0x00); /* the stage is not left */
    CHECK(strcmp(value_of(p, "AuthMethod"), "CHAP") == 0);
    CHECK(strcmp(value_of(p, "TargetPortalGroupTag"), "1") == 0);
    CHECK(say(p, 0x00, "CHAP_A=%s;", offer) == 0);
}

static void gets_in(struct peer_world *w)
{
    static const char *const offers[] = {"5", "6", "7", "8", "5,6,7,8", "7,5"};
    static const char *const chosen[] = {"5", "6", "7", "8", "8", "7"};
    char hex[80];
    rules(1, false, 0);
    for (size_t i = 0; i < ARRAY_LEN(offers); i++) {
        struct peer *p = w->a;
        challenge(w, p, offers[i]);
        CHECK(strcmp(value_of(p, "CHAP_A"), chosen[i]) == 0);
        answer(p, SECRET, hex);
        CHECK(say(p, 0x81, "CHAP_N=alice;CHAP_R=0x%s;", hex) == 0 && p->bhs[1] == 0x81);
        CHECK(say(p, 0x87, "HeaderDigest=None;") == 0 && p->bhs[1] == 0x87);
        p->cmdsn = be32_load(p->bhs + 28);
        p->itt++;
        peer_settle(p);
        peer_close(p);
    }
    struct iscsi_counts counts;
    iscsi_counts(w->server, &counts);
    CHECK(counts.auth_failures == 0 && counts.logins == ARRAY_LEN(offers));
}

static void both_ways(struct peer_world *w)
{
    struct peer *p = w->a;
    char hex[80], own[80];
    static const uint8_t mine[] = {1, 2, 3, 4};
    rules(1, true, 0);
    challenge(w, p, "7");
    answer(p, SECRET, hex);
    CHECK(say(p, 0x83, "CHAP_N=alice;CHAP_R=0x%s;CHAP_I=200;CHAP_C=0x01020304;", hex) == 0);
    CHECK(p->bhs[1] == 0x83);
    CHECK(strcmp(value_of(p, "CHAP_N"), "target") == 0);
    struct iscsi_chap_question q = {ISCSI_CHAP_SHA256, 200, mine, sizeof mine};
    uint8_t digest[ISCSI_CHAP_DIGEST_MAX];
    CHECK(iscsi_chap_answer(&q, OWN, strlen(OWN), digest) == 32);
    for (size_t i = 0; i < 32; i++) {
        (void)snprintf(own + 2 * i, 3, "%02x", digest[i]);
    }
    CHECK(strcmp(value_of(p, "CHAP_R") + 2, own) == 0);
    p->itt++;
    peer_settle(p);
}

static void not_known(struct peer_world *w)
{
    struct peer *p = w->a;
    char hex[80];
    rules(1, false, 0);
    /* A wrong secret, an unknown name, a mutual challenge that cannot be met. */
    static const struct {
        const char *secret, *user, *more;
    } wrong[] = {{"another secret", "alice", ""},
                 {SECRET, "bob", ""},
                 {SECRET, "alice", "CHAP_I=1;CHAP_C=0x01;"}};
    for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
        challenge(w, p, "7");
        answer(p, wrong[i].secret, hex);
        uint64_t begin = rt_now_ns();
        CHECK(say(p, 0x83, "CHAP_N=%s;CHAP_R=0x%s;%s", wrong[i].user, hex, wrong[i].more) ==
              0x0201);
        CHECK(rt_now_ns() - begin >= 200000000u);
        CHECK(peer_is_dropped(p));
        peer_close(p);
    }
    struct iscsi_counts counts;
    iscsi_counts(w->server, &counts);
    CHECK(counts.auth_failures == 3 && counts.sessions == 0);
    CHECK(rt_credits_used(&w->server->ingress) == 0); /* nobody has bound memory */
}

/* An account that is good for others only. */
static void not_his(struct peer_world *w)
{
    char hex[80];
    rules(1, false, 0);
    (void)snprintf(ram.rules[1]->accounts[0].initiator, DEV_PATTERN_MAX, "iqn.2024-01.test:other");
    challenge(w, w->a, "7");
    answer(w->a, SECRET, hex);
    CHECK(say(w->a, 0x83, "CHAP_N=alice;CHAP_R=0x%s;", hex) == 0x0201);
}

static void too_weak(struct peer_world *w)
{
    struct peer *p = w->a;
    rules(1, false, ISCSI_CHAP_SHA256);
    peer_connect(p, w->server);
    CHECK(say(p, 0x00, NAMES "AuthMethod=CHAP;") == 0);
    CHECK(say(p, 0x00, "CHAP_A=5,6;") == 0x0201);
    peer_close(p);
    rules(1, false, 0);
    atomic_store(&w->server->chap_minimum, ISCSI_CHAP_SHA3_256);
    peer_connect(p, w->server);
    CHECK(say(p, 0x00, NAMES "AuthMethod=CHAP;") == 0);
    CHECK(say(p, 0x00, "CHAP_A=5,6,7;") == 0x0201);
}

static void around_it(struct peer_world *w)
{
    struct peer *p = w->a;
    static const struct {
        uint8_t flags;
        uint16_t status;
        const char *text;
    } first[] = {
        {0x81, 0x0201, NAMES "AuthMethod=None;"},
        {0x81, 0x0201, NAMES "AuthMethod=KRB5;"},
        {0x81, 0x0201, NAMES},                    /* leaves without a word */
        {0x87, 0x0201, NAMES},                    /* skips the stage */
        {0x83, 0x0201, NAMES "AuthMethod=None;"}, /* straight to the end */
        {0x00, 0x0200, NAMES "AuthMethod=CHAP;AuthMethod=CHAP;"},
        {0x00, 0x0200, NAMES "AuthMethod=CHAP;CHAP_A=5;"}, /* too early */
        {0x00, 0x0200, NAMES "CHAP_A=5;"},
        {0x00, 0x0200, NAMES "CHAP_N=alice;CHAP_R=0x00;"},
    };
    rules(1, false, 0);
    for (size_t i = 0; i < ARRAY_LEN(first); i++) {
        peer_connect(p, w->server);
        int status = say(p, first[i].flags, "%s", first[i].text);
        if (status != first[i].status) {
            print_error("%zu: %04x\n", i, (unsigned)status);
            abort();
        }
        CHECK(peer_is_dropped(p));
        peer_close(p);
    }
    static const struct {
        uint16_t status;
        const char *text;
    } second[] = {
        {0x0207, ""},
        {0x0201, "CHAP_A=4;"},
        {0x0200, "CHAP_A=5;CHAP_A=5;"},
        {0x0207, "X-a=b;"},
        {0x0200, "CHAP_A=5;CHAP_I=1;"},
        {0x0200, "AuthMethod=None;"},
        {0x0200, "CHAP_N=alice;CHAP_R=0x00;"},
    };
    for (size_t i = 0; i < ARRAY_LEN(second); i++) {
        peer_connect(p, w->server);
        CHECK(say(p, 0x81, NAMES "AuthMethod=CHAP;") == 0);
        CHECK(say(p, 0x81, "%s", second[i].text) == second[i].status);
        peer_close(p);
    }
    static const struct {
        uint16_t status;
        const char *text;
    } third[] = {
        {0x0207, ""},
        {0x0207, "CHAP_N=alice;"},
        {0x0200, "CHAP_A=5;"},
        {0x0200, "CHAP_N=alice;CHAP_R=zz;"},
        {0x0200, "CHAP_N=alice;CHAP_R=0x00;CHAP_I=1;"},
        {0x0200, "CHAP_N=;CHAP_R=0x00;"},
        {0x0201, "CHAP_N=alice;CHAP_R=0b0000;"},
    };
    for (size_t i = 0; i < ARRAY_LEN(third); i++) {
        challenge(w, p, "5");
        CHECK(say(p, 0x81, "%s", third[i].text) == third[i].status);
        peer_close(p);
    }
}

static void discovery_has_its_own(struct peer_world *w)
{
    struct peer *p = w->a;
    char hex[80];
    rules(0, false, 0);
    peer_connect(p, w->server);
    CHECK(peer_login(p, DISCOVERY) == 0x0201);
    peer_close(p);
    peer_connect(p, w->server);
    CHECK(say(p, 0x00,
              "InitiatorName=iqn.2024-01.test:peer;SessionType=Discovery;"
              "AuthMethod=CHAP;") == 0);
    CHECK(say(p, 0x00, "CHAP_A=5;") == 0);
    answer(p, SECRET, hex);
    CHECK(say(p, 0x83, "CHAP_N=alice;CHAP_R=0x%s;", hex) == 0 && p->bhs[1] == 0x83);
    /* The targets have no accounts: they are open as ever. */
    peer_connect(w->b, w->server);
    CHECK(peer_login(w->b, PEER_NAMES) == 0);
}

static void guessing_is_slow(struct peer_world *w)
{
    struct peer *p = w->a;
    char hex[80];
    rules(1, false, 0);
    uint64_t begin = rt_now_ns();
    for (int i = 0; i < 12; i++) {
        challenge(w, p, "5");
        answer(p, "not the secret", hex);
        CHECK(say(p, 0x83, "CHAP_N=alice;CHAP_R=0x%s;", hex) == 0x0201);
        peer_close(p);
    }
    CHECK(rt_now_ns() - begin >= 8000000000u);
    /* The right one then has to wait its turn as well, and gets in. */
    challenge(w, p, "5");
    answer(p, SECRET, hex);
    CHECK(say(p, 0x83, "CHAP_N=alice;CHAP_R=0x%s;", hex) == 0);
}

static void not_on_the_list(struct peer_world *w)
{
    struct peer *p = w->a;
    ram.rules[1] = dev_access_new();
    struct dev_acl acl = {.initiator = "iqn.2024-01.test:friend*", .any_address = true};
    CHECK(dev_acl_add(ram.rules[1], &acl) == 0);
    peer_connect(p, w->server);
    CHECK(peer_login(p, PEER_NAMES) == 0x0202);
    peer_close(p);
    peer_connect(p, w->server);
    CHECK(peer_login(p, "InitiatorName=IQN.2024-01.test:friend7\0TargetName=" RAM_IQN "\0") == 0);
    peer_settle(p);
    /* Discovery shows him what he may log in to, and others nothing. */
    static const char all[] = "SendTargets=All";
    for (int friend = 0; friend < 2; friend ++) {
        struct peer *q = w->b;
        peer_connect(q, w->server);
        CHECK((friend ? peer_login(q, "InitiatorName=iqn.2024-01.test:friend\0"
                                      "SessionType=Discovery\0")
                      : peer_login(q, DISCOVERY)) == 0);
        uint8_t text[48] = {0x44, 0x80};
        be32_store(text + 16, q->itt++);
        be32_store(text + 20, 0xffffffff);
        be32_store(text + 24, q->cmdsn);
        peer_send(q, text, all, sizeof all);
        CHECK(peer_recv(q) == 0 && q->bhs[0] == 0x24);
        CHECK((value_of(q, "TargetName") != NULL) == (friend == 1));
        peer_close(q);
    }
}

#define TEST(name)                                                                                 \
    static void test_##name(void **state)                                                          \
    {                                                                                              \
        (void)state;                                                                               \
        peer_run(name);                                                                            \
    }
TEST(gets_in)
TEST(both_ways)
TEST(not_known)
TEST(not_his)
TEST(too_weak)
TEST(around_it)
TEST(discovery_has_its_own)
TEST(guessing_is_slow)
TEST(not_on_the_list)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_gets_in),
        cmocka_unit_test(test_both_ways),
        cmocka_unit_test(test_not_known),
        cmocka_unit_test(test_not_his),
        cmocka_unit_test(test_too_weak),
        cmocka_unit_test(test_around_it),
        cmocka_unit_test(test_discovery_has_its_own),
        cmocka_unit_test(test_guessing_is_slow),
        cmocka_unit_test(test_not_on_the_list),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
