/* SPDX-License-Identifier: Apache-2.0 */
/* How read data are cut; and under the simulator's clock, what becomes of a connection's tasks when
 * it fails: kept for a while, taken over, aborted, given up. */
#include "iscsi/cut.h"
#include "peer.h"

#define NAMES PEER_NAMES "InitialR2T=Yes\0ImmediateData=Yes\0MaxBurstLength=8192\0"
#define LEVEL2 NAMES "MaxConnections=4\0ErrorRecoveryLevel=2\0DefaultTime2Retain=20\0"
#define LEVEL1 NAMES "ErrorRecoveryLevel=1\0"
#define MORE PEER_NAMES
#define WAIT_NS 22000000000ull /* Time2Wait and Time2Retain */

static void cuts(void **state)
{
    (void)state;
    static const struct {
        uint64_t at, end;
        uint32_t most, burst;
    } rows[] = {{0, 0, 512, 512},         {0, 1, 512, 512},
                {0, 512, 512, 512},       {0, 513, 512, 512},
                {0, 65536, 8192, 262144}, {0, 65537, 8192, 16384},
                {100, 99999, 700, 999},   {4096, 1u << 20, 262144, 8192}};
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct iscsi_cut c = {.first = 0xfffffffe, /* serial numbers wrap around */
                              .at = rows[i].at,
                              .end = rows[i].end,
                              .most = rows[i].most,
                              .burst = rows[i].burst};
        uint64_t at = c.at;
        uint64_t burst_end = MIN_OF(c.end, at + c.burst);
        uint32_t sn = c.first;
        while (at < c.end) {
            struct iscsi_piece p = iscsi_cut_piece(&c, sn++);
            assert_int_equal(p.at, at);
            assert_int_equal(p.len, MIN_OF(burst_end - at, (uint64_t)c.most));
            at += p.len;
            assert_int_equal(p.final, at == burst_end);
            burst_end = at == burst_end ? MIN_OF(c.end, at + c.burst) : burst_end;
        }
        assert_int_equal(iscsi_cut_end(&c), sn);
    }
}

static void allow(struct peer_world *w)
{
    w->server->connections_max = ISCSI_CONNECTIONS_MAX;
    w->server->recovery = 2;
}

/* The session's leading connection, and one more. */
static void two_links(struct peer_world *w)
{
    allow(w);
    peer_connect(w->a, w->server);
    CHECK(peer_login(w->a, LEVEL2) == 0);
    uint16_t tsih = be16_load(w->a->bhs + 14);
    peer_settle(w->a);
    peer_connect(w->b, w->server);
    w->b->tsih = tsih;
    w->b->cid = 2;
    w->b->cmdsn = w->a->cmdsn;
    w->b->itt = 1000;
    CHECK(peer_login(w->b, MORE) == 0);
    CHECK(be16_load(w->b->bhs + 14) == tsih && w->b->cmdsn == w->a->cmdsn);
}

/* The answer that is neither a ping nor a message. */
static void next(struct peer *p, uint8_t opcode, uint32_t itt)
{
    do {
        CHECK(peer_recv(p) == 0);
    } while (p->bhs[0] == 0x20 && be32_load(p->bhs + 16) == 0xffffffff);
    if (p->bhs[0] != opcode || be32_load(p->bhs + 16) != itt) {
        print_error("opcode %02x itt %u\n", p->bhs[0], be32_load(p->bhs + 16));
        abort();
    }
}

static uint8_t log_out_of(struct peer *p, uint8_t reason, uint16_t cid)
{
    uint8_t bhs[48] = {0x46, (uint8_t)(0x80 | reason)};
    be32_store(bhs + 16, p->itt);
    be16_store(bhs + 20, cid);
    be32_store(bhs + 24, p->cmdsn);
    peer_send(p, bhs, NULL, 0);
    next(p, 0x26, p->itt++);
    return p->bhs[2];
}

static uint8_t manage(struct peer *p, uint8_t function, uint32_t ref_itt)
{
    next(p, 0x22, peer_tmf(p, function, ref_itt, p->cmdsn));
    return p->bhs[2];
}

static uint16_t sense_of(struct peer *p)
{
    static const uint8_t tur[10];
    next(p, 0x21, peer_command(p, 0x81, tur, 0, NULL, 0));
    return p->bhs[3] ? be16_load(p->data + 2 + 12) : 0;
}

/* In the store when the connection fails, done once, answered on the other. */
static void writes_go_on(struct peer_world *w)
{
    static uint8_t data[4096] = {1, 2, 3};
    two_links(w);
    ram_stall(true);
    uint32_t itt = peer_write10(w->a, 0xa1, 8, 8, data, sizeof data);
    uint32_t reading = peer_read10(w->a, 0, 8, 4096);
    peer_nop(w->a, "x", 1);
    next(w->a, 0x20, w->a->itt - 1);
    CHECK(atomic_load(&ram.waiting) == 2);
    w->b->cmdsn = w->a->cmdsn;
    peer_close(w->a);
    CHECK(manage(w->b, 8, itt) == 3); /* still allegiant: no logout yet */
    CHECK(log_out_of(w->b, 2, 1) == 0);
    CHECK(be16_load(w->b->bhs + 40) == 2 && be16_load(w->b->bhs + 42) == 20);
    CHECK(manage(w->b, 8, itt) == 0);
    CHECK(manage(w->b, 8, 4711) == 1);
    CHECK(atomic_load(&ram.waiting) == 2); /* nothing was begun anew */
    ram_stall(false);
    next(w->b, 0x21, itt);
    CHECK(w->b->bhs[3] == 0 && memcmp(ram.bytes + 4096, data, sizeof data) == 0);
    /* The other one has ended meanwhile, for nobody. */
    CHECK(manage(w->b, 8, reading) == 0);
    next(w->b, 0x25, reading);
    CHECK(w->b->bhs[1] == 0x81 && w->b->len == 4096);
    CHECK(sense_of(w->b) == 0);
}

static void nobody_comes(struct peer_world *w)
{
    two_links(w);
    uint32_t itt = peer_write10(w->a, 0xa1, 8, 8, NULL, 0);
    next(w->a, 0x31, itt);
    w->b->cmdsn = w->a->cmdsn;
    peer_close(w->a);
    uint64_t begin = rt_now_ns();
    CHECK(log_out_of(w->b, 2, 1) == 0);
    while (rt_now_ns() < begin + WAIT_NS - 1000000000ull) {
        CHECK(sense_of(w->b) == 0);
        rt_sleep_ms(500);
    }
    rt_sleep_ms(1500);
    CHECK(sense_of(w->b) == 0x477f);
    CHECK(sense_of(w->b) == 0);
    CHECK(manage(w->b, 8, itt) == 1);
}

static void aborted_meanwhile(struct peer_world *w)
{
    two_links(w);
    uint32_t itt = peer_write10(w->a, 0xa1, 8, 8, NULL, 0);
    next(w->a, 0x31, itt);
    uint32_t answered = peer_read10(w->a, 0, 8, 4096);
    next(w->a, 0x25, answered);
    w->b->cmdsn = w->a->cmdsn;
    peer_close(w->a);
    CHECK(log_out_of(w->b, 2, 1) == 0);
    CHECK(manage(w->b, 1, itt) == 0);
    CHECK(manage(w->b, 8, itt) == 1);
    CHECK(manage(w->b, 1, answered) == 1); /* it has ended; and now that is forgotten */
    CHECK(manage(w->b, 8, answered) == 1);
    CHECK(sense_of(w->b) == 0);
}

static size_t sessions(struct peer_world *w)
{
    struct iscsi_counts counts;
    iscsi_counts(w->server, &counts);
    return counts.sessions;
}

/* All connections have failed: the session waits, no longer than was agreed; or until it is ended.
 */
static void alone(struct peer_world *w)
{
    two_links(w);
    uint16_t tsih = w->b->tsih;
    peer_close(w->a);
    peer_close(w->b);
    rt_sleep_ms(21000);
    CHECK(sessions(w) == 1);
    rt_sleep_ms(2000);
    CHECK(sessions(w) == 0);
    peer_connect(w->a, w->server);
    w->a->tsih = tsih;
    CHECK(peer_login(w->a, MORE) == 0x020a);
    peer_close(w->a);

    two_links(w);
    (void)peer_write10(w->a, 0xa1, 8, 8, NULL, 0);
    CHECK(peer_recv(w->a) == 0);
    peer_close(w->a);
    peer_close(w->b);
    uint64_t begin = rt_now_ns();
    peer_connect(w->a, w->server);
    CHECK(peer_login(w->a, LEVEL2) == 0); /* the same nexus anew */
    CHECK(sessions(w) == 1);
    peer_close(w->a);
    rt_sleep_ms(10);
    iscsi_drain(w->server, NULL, PEER_SECONDS(100));
    CHECK(sessions(w) == 0 && rt_now_ns() < begin + 2000000000ull);
}

/* Of several connections, and counted once. */
static void disconnected(struct peer_world *w)
{
    two_links(w);
    CHECK(iscsi_disconnect(w->server, RAM_IQN, "*") == 1);
    CHECK(peer_is_dropped(w->a) && peer_is_dropped(w->b));
    CHECK(sessions(w) == 0 && iscsi_disconnect(w->server, RAM_IQN, "*") == 0);
}

/* At level 1 data that do not come are asked for once more, with a number of its own. */
static void asked_again(struct peer_world *w)
{
    struct peer *p = w->a;
    allow(w);
    peer_connect(p, w->server);
    CHECK(peer_login(p, LEVEL1) == 0);
    peer_settle(p);
    uint64_t begin = rt_now_ns();
    uint32_t itt = peer_write10(p, 0xa1, 8, 8, NULL, 0);
    next(p, 0x31, itt);
    uint32_t ttt = be32_load(p->bhs + 20);
    next(p, 0x31, itt);
    CHECK(be32_load(p->bhs + 36) == 1 && be32_load(p->bhs + 20) != ttt);
    CHECK(rt_now_ns() >= begin + ISCSI_REMIND_NS);
    CHECK(peer_is_dropped(p));
    CHECK(rt_now_ns() >= begin + ISCSI_DATA_OUT_NS);
}

/* Who is logged out hears of it when its tasks have ended. */
static void logout_waits(struct peer_world *w)
{
    static uint8_t data[512] = {7};
    two_links(w);
    ram_stall(true);
    (void)peer_write10(w->a, 0xa1, 8, 1, data, sizeof data);
    peer_nop(w->a, "x", 1);
    next(w->a, 0x20, w->a->itt - 1);
    w->b->cmdsn = w->a->cmdsn;
    uint8_t bhs[48] = {0x46, 0x81};
    be32_store(bhs + 16, 55);
    be16_store(bhs + 20, 1);
    be32_store(bhs + 24, w->b->cmdsn);
    peer_send(w->b, bhs, NULL, 0);
    CHECK(peer_is_dropped(w->a));
    peer_nop(w->b, "y", 1);
    bool ended = false;
    for (unsigned n = 0; n < 2; n++) {
        CHECK(peer_recv(w->b) == 0);
        ended = ended || w->b->bhs[0] == 0x26;
        CHECK(!ended || atomic_load(&ram.waiting) == 0);
        if (w->b->bhs[0] == 0x20) {
            ram_stall(false);
        }
    }
    CHECK(ended && w->b->bhs[2] == 0);
    CHECK(sense_of(w->b) == 0x477f);
}

/* SNACKs at random, for what there is and what there is not: an answer or none, and no harm. */
static void snacks_at_random(struct peer_world *w)
{
    struct peer *p = w->a;
    allow(w);
    peer_connect(p, w->server);
    CHECK(peer_login(p, LEVEL1) == 0);
    peer_settle(p);
    for (unsigned round = 0; round < 40; round++) {
        uint32_t itt = peer_read10(p, 0, 64, 32768);
        uint8_t bhs[48] = {0x10, (uint8_t)(0x80 | rt_random() % 5)};
        be32_store(bhs + 16, rt_random() % 4 ? itt : 0xffffffff);
        be32_store(bhs + 20, rt_random() % 2 ? 0xffffffff : (uint32_t)rt_random() % 64);
        be32_store(bhs + 28, p->exp_statsn);
        be32_store(bhs + 40, rt_random() % 4 ? (uint32_t)rt_random() % 8 : (uint32_t)rt_random());
        be32_store(bhs + 44, rt_random() % 4 ? (uint32_t)rt_random() % 8 : (uint32_t)rt_random());
        peer_send(p, bhs, NULL, 0);
        peer_nop(p, "z", 1);
        do {
            CHECK(peer_recv(p) == 0);
        } while (p->bhs[0] != 0x20 || p->len != 1);
        p->exp_statsn += round % 3 ? 0 : be32_load(p->bhs + 24) - p->exp_statsn + 1;
    }
    peer_close(p);
    rt_sleep_ms(2000);
    CHECK(rt_credits_used(&w->server->retained) == 0);
}

#define TEST(name)                                                                                 \
    static void test_##name(void **state)                                                          \
    {                                                                                              \
        (void)state;                                                                               \
        peer_run(name);                                                                            \
    }
TEST(writes_go_on)
TEST(nobody_comes)
TEST(aborted_meanwhile)
TEST(alone)
TEST(disconnected)
TEST(asked_again)
TEST(logout_waits)
TEST(snacks_at_random)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(cuts),
        cmocka_unit_test(test_writes_go_on),
        cmocka_unit_test(test_nobody_comes),
        cmocka_unit_test(test_aborted_meanwhile),
        cmocka_unit_test(test_alone),
        cmocka_unit_test(test_disconnected),
        cmocka_unit_test(test_asked_again),
        cmocka_unit_test(test_logout_waits),
        cmocka_unit_test(test_snacks_at_random),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
