/* SPDX-License-Identifier: Apache-2.0 */
/* Logins: the ways in, the ways to be turned away, sessions that replace one another. */
#include "peer.h"

#define KEYS PEER_NAMES "HeaderDigest=None\0DataDigest=None\0"

static void straight_to_operational(struct peer_world *w)
{
    peer_connect(w->a, w->server);
    CHECK(peer_login(w->a, KEYS) == 0);
    /* Our own declarations come along. */
    CHECK(memmem(w->a->data, w->a->len, "TargetPortalGroupTag=1", 23));
    CHECK(memmem(w->a->data, w->a->len, "MaxRecvDataSegmentLength=262144", 32));
    peer_settle(w->a);
}

static void through_security(struct peer_world *w)
{
    static const char first[] = PEER_NAMES "AuthMethod=CHAP,None";
    static const char second[] = "ImmediateData=No\0X-test=1";
    peer_connect(w->a, w->server);
    struct peer *p = w->a;
    peer_login_send(p, 0x80 | 0x01, first, sizeof first); /* T, security -> operational */
    CHECK(peer_recv(p) == 0 && p->bhs[0] == 0x23 && p->bhs[1] == 0x81);
    CHECK(memmem(p->data, p->len, "AuthMethod=None", 16));
    CHECK(memmem(p->data, p->len, "TargetPortalGroupTag=1", 23));
    peer_login_send(p, 0x04, second, sizeof second); /* stays: T=0 */
    CHECK(peer_recv(p) == 0 && p->bhs[1] == 0x04 && be16_load(p->bhs + 14) == 0);
    CHECK(memmem(p->data, p->len, "ImmediateData=No", 17));
    CHECK(memmem(p->data, p->len, "X-test=NotUnderstood", 21));
    peer_login_send(p, 0x87, NULL, 0);
    CHECK(peer_recv(p) == 0 && p->bhs[1] == 0x87 && be16_load(p->bhs + 36) == 0);
    p->cmdsn = be32_load(p->bhs + 28);
    p->itt++;
    peer_settle(p);
}

static void security_straight_to_full(struct peer_world *w)
{
    static const char text[] = PEER_NAMES "AuthMethod=None";
    peer_connect(w->a, w->server);
    peer_login_send(w->a, 0x83, text, sizeof text);
    CHECK(peer_recv(w->a) == 0 && w->a->bhs[1] == 0x83 && be16_load(w->a->bhs + 36) == 0);
    w->a->itt++;
    peer_settle(w->a);
}

static void keys_over_two_pdus(struct peer_world *w)
{
    static const char keys[] = KEYS;
    struct peer *p = w->a;
    peer_connect(p, w->server);
    peer_login_send(p, 0x44, keys, 20); /* C: cut in the middle of a key */
    CHECK(peer_recv(p) == 0 && p->bhs[1] == 0x04 && p->len == 0);
    CHECK(peer_login_text(p, keys + 20, sizeof keys - 1 - 20) == 0);
    peer_settle(p);
}

struct refusal {
    uint8_t flags;
    uint16_t status;
    const char *text;
    size_t len;
};
#define REFUSAL(flags, status, text)                                                               \
    {                                                                                              \
        (flags), (status), (text), sizeof(text) - 1                                                \
    }
static const struct refusal refusals[] = {
    REFUSAL(0x87, 0x0207, "TargetName=" RAM_IQN "\0"),
    REFUSAL(0x87, 0x0207, "InitiatorName=iqn.2024-01.test:p\0"),
    REFUSAL(0x87, 0x0203, "InitiatorName=iqn.2024-01.test:p\0TargetName=iqn.2024-01.test:disk9\0"),
    REFUSAL(0x87, 0x0209, PEER_NAMES "SessionType=Other\0"),
    REFUSAL(0x81, 0x0201, PEER_NAMES "AuthMethod=CHAP,KRB5\0"),
    REFUSAL(0x87, 0x0200, PEER_NAMES "AuthMethod=None\0"), /* not in this stage */
    REFUSAL(0xc7, 0x0200, KEYS),                           /* T and C */
    REFUSAL(0x86, 0x0200, KEYS),                           /* NSG 2 */
    REFUSAL(0x84, 0x0200, KEYS),                           /* backwards */
    REFUSAL(0x8b, 0x0200, KEYS),                           /* CSG 2 */
    REFUSAL(0x87, 0x0200, PEER_NAMES "MaxBurstLength"),    /* no '=' */
    REFUSAL(0x87, 0x0200, KEYS "HeaderDigest=CRC32C\0"),   /* twice */
    REFUSAL(0x87, 0x0200, KEYS "MaxRecvDataSegmentLength=1\0"),
    REFUSAL(0x87, 0x0200, KEYS "TargetPortalGroupTag=1\0"),
    REFUSAL(0x87, 0x0200, "InitiatorName=\0TargetName=" RAM_IQN "\0"),
    REFUSAL(0x87, 0x0200, "InitiatorName=a b\0TargetName=" RAM_IQN "\0"),
    /* No text, so that no list could show it: a byte that stands alone, a form too long. */
    REFUSAL(0x87, 0x0200, "InitiatorName=iqn.a:\xff\0TargetName=" RAM_IQN "\0"),
    REFUSAL(0x87, 0x0200, "InitiatorName=iqn.a:\xc1\x81\0TargetName=" RAM_IQN "\0"),
    REFUSAL(0x87, 0x0200, "InitiatorName=iqn.a:\xed\xa0\x80\0TargetName=" RAM_IQN "\0"),
    REFUSAL(0x87, 0x0200, "InitiatorName=iqn.a:\xf0\x9f\x92\0TargetName=" RAM_IQN "\0"),
};

static void turned_away(struct peer_world *w)
{
    for (size_t i = 0; i < sizeof refusals / sizeof refusals[0]; i++) {
        const struct refusal *f = &refusals[i];
        peer_connect(w->a, w->server);
        peer_login_send(w->a, f->flags, f->text, f->len);
        CHECK(peer_recv(w->a) == 0 && w->a->bhs[0] == 0x23);
        if (be16_load(w->a->bhs + 36) != f->status) {
            print_error("refusal %zu: %04x\n", i, be16_load(w->a->bhs + 36));
            abort();
        }
        CHECK(peer_is_dropped(w->a));
        peer_close(w->a);
    }
    struct iscsi_counts counts;
    iscsi_counts(w->server, &counts);
    CHECK(counts.login_failures == sizeof refusals / sizeof refusals[0]);
}

static void wrong_version_and_session(struct peer_world *w)
{
    struct peer *p = w->a;
    peer_connect(p, w->server);
    uint8_t bhs[48] = {0x43, 0x87, 3, 1};
    peer_send(p, bhs, KEYS, sizeof KEYS - 1);
    CHECK(peer_recv(p) == 0 && be16_load(p->bhs + 36) == 0x0205);
    peer_close(p);
    peer_connect(p, w->server);
    p->tsih = 77;
    CHECK(peer_login(p, KEYS) == 0x020a);
}

static void not_a_login(struct peer_world *w)
{
    peer_connect(w->a, w->server);
    peer_nop(w->a, NULL, 0);
    CHECK(peer_is_dropped(w->a));
}

static void stranger_is_dropped_in_time(struct peer_world *w)
{
    uint64_t begin = rt_now_ns();
    peer_connect(w->a, w->server);
    CHECK(peer_is_dropped(w->a));
    uint64_t took_s = (rt_now_ns() - begin) / 1000000000u;
    CHECK(took_s >= 15 && took_s < 20);
    /* Half a login request counts no more than none. */
    peer_connect(w->b, w->server);
    CHECK(net_send_copy(w->b->s, "\x43\x87", 2) == 0);
    begin = rt_now_ns();
    CHECK(peer_is_dropped(w->b));
    CHECK(rt_now_ns() - begin < 20000000000u);
}

static void same_isid_replaces(struct peer_world *w)
{
    peer_connect(w->a, w->server);
    CHECK(peer_login(w->a, KEYS) == 0);
    peer_settle(w->a);
    /* A task of the old session that waits for its data, and one that the device holds up. */
    (void)peer_write10(w->a, 0xa1, 0, 8, NULL, 0);
    CHECK(peer_recv(w->a) == 0 && w->a->bhs[0] == 0x31);
    ram_stall(true);
    (void)peer_read10(w->a, 0, 8, 4096);
    while (atomic_load(&ram.waiting) == 0) {
        rt_yield();
    }
    peer_connect(w->b, w->server);
    CHECK(peer_login(w->b, KEYS) == 0);
    CHECK(atomic_load(&ram.waiting) == 0); /* the old tasks have ended */
    CHECK(peer_is_dropped(w->a));
    ram_stall(false);
    peer_settle(w->b);
    struct iscsi_counts counts;
    iscsi_counts(w->server, &counts);
    CHECK(counts.sessions == 1);
}

static void another_isid_does_not(struct peer_world *w)
{
    peer_connect(w->a, w->server);
    CHECK(peer_login(w->a, KEYS) == 0);
    peer_connect(w->b, w->server);
    w->b->isid[5]++;
    CHECK(peer_login(w->b, KEYS) == 0);
    peer_settle(w->a);
    peer_settle(w->b);
}

static void connection_reinstated(struct peer_world *w)
{
    struct peer *a = w->a, *b = w->b;
    peer_connect(a, w->server);
    CHECK(peer_login(a, KEYS) == 0);
    uint16_t tsih = be16_load(a->bhs + 14);
    peer_settle(a);
    (void)peer_write10(a, 0xa1, 0, 8, NULL, 0);
    CHECK(peer_recv(a) == 0 && a->bhs[0] == 0x31);
    /* Another CID would be a second connection. */
    peer_connect(b, w->server);
    b->tsih = tsih;
    b->cid = 2;
    CHECK(peer_login(b, KEYS) == 0x0206);
    peer_close(b);
    peer_connect(b, w->server);
    b->tsih = tsih;
    b->cid = a->cid;
    b->cmdsn = a->cmdsn;
    CHECK(peer_login(b, KEYS) == 0);
    CHECK(be16_load(b->bhs + 14) == tsih);
    CHECK(b->cmdsn == a->cmdsn); /* the session's numbers go on */
    CHECK(peer_is_dropped(a));
    static const uint8_t tur[10];
    (void)peer_command(b, 0x81, tur, 0, NULL, 0);
    CHECK(peer_recv(b) == 0 && b->bhs[0] == 0x21);
}

static void draining_takes_no_more(struct peer_world *w)
{
    peer_connect(w->a, w->server);
    CHECK(peer_login(w->a, KEYS) == 0);
    peer_settle(w->a);
    iscsi_drain(w->server, NULL, rt_now_ns() + 1000000);
    CHECK(peer_recv(w->a) == 0 && w->a->bhs[0] == 0x32 && w->a->bhs[36] == 1);
    /* It has not logged out in time. */
    CHECK(peer_recv(w->a) == 0 && w->a->bhs[0] == 0x32 && w->a->bhs[36] == 3);
    CHECK(peer_is_dropped(w->a));
    peer_connect(w->b, w->server);
    CHECK(peer_login(w->b, KEYS) == 0x0301);
}

static void too_little_memory_means_r2t(struct peer_world *w)
{
    static const char keys[] = KEYS "ImmediateData=Yes\0InitialR2T=No\0FirstBurstLength=65536\0";
    uint64_t free_bytes = w->server->ingress.total;
    CHECK(rt_credits_try(&w->server->ingress, free_bytes));
    peer_connect(w->a, w->server);
    CHECK(peer_login(w->a, keys) == 0);
    CHECK(memmem(w->a->data, w->a->len, "ImmediateData=No", 17));
    CHECK(memmem(w->a->data, w->a->len, "InitialR2T=Yes", 15));
    /* An initiator that leaves the key out is told. */
    peer_connect(w->b, w->server);
    w->b->isid[5]++;
    CHECK(peer_login(w->b, KEYS) == 0);
    CHECK(memmem(w->b->data, w->b->len, "ImmediateData=No", 17));
    peer_settle(w->b);
    peer_close(w->b);
    rt_credits_give(&w->server->ingress, free_bytes);
    peer_connect(w->b, w->server);
    w->b->isid[5]++;
    CHECK(peer_login(w->b, keys) == 0);
    CHECK(memmem(w->b->data, w->b->len, "ImmediateData=Yes", 18));
    CHECK(rt_credits_used(&w->server->ingress) == ISCSI_WINDOW_MAX * 65536u);
    peer_close(w->b);
    while (rt_credits_used(&w->server->ingress) > 0) {
        (void)rt_sleep_ms(1);
    }
}

#define TEST(name)                                                                                 \
    static void test_##name(void **state)                                                          \
    {                                                                                              \
        (void)state;                                                                               \
        peer_run(name);                                                                            \
    }
TEST(straight_to_operational)
TEST(through_security)
TEST(security_straight_to_full)
TEST(keys_over_two_pdus)
TEST(turned_away)
TEST(wrong_version_and_session)
TEST(not_a_login)
TEST(stranger_is_dropped_in_time)
TEST(same_isid_replaces)
TEST(another_isid_does_not)
TEST(connection_reinstated)
TEST(draining_takes_no_more)
TEST(too_little_memory_means_r2t)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_straight_to_operational),
        cmocka_unit_test(test_through_security),
        cmocka_unit_test(test_security_straight_to_full),
        cmocka_unit_test(test_keys_over_two_pdus),
        cmocka_unit_test(test_turned_away),
        cmocka_unit_test(test_wrong_version_and_session),
        cmocka_unit_test(test_not_a_login),
        cmocka_unit_test(test_stranger_is_dropped_in_time),
        cmocka_unit_test(test_same_isid_replaces),
        cmocka_unit_test(test_another_isid_does_not),
        cmocka_unit_test(test_connection_reinstated),
        cmocka_unit_test(test_draining_takes_no_more),
        cmocka_unit_test(test_too_little_memory_means_r2t),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
