/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The N-th allocation fails, for each N of a client's life on iSCSI: connecting, discovery, login,
 * commands with data in and out, text, task management, logout. Whatever the target does to that
 * client, it answers or ends the connection; what it answers is right; another session goes on as
 * if nothing had been; and everything that was taken is given back.
 */
#include "drive.h"

#define RAM_BYTES (4ull << 20)
#include "iscsi/chap.h"
#include "iscsi/peer.h"

#define TRIES 8
#define READS_AT 0u          /* nobody writes there */
#define WRITES_AT (2u << 20) /* the client under test */
#define OTHERS_AT (3u << 20) /* the other one */
#define LONG_WRITE (160u << 10)
#define BURST 65536u
/* Of a login in two parts, cut where it hurts. */
#define FIRST PEER_NAMES "InitialR2T=No\0ImmediateDa"
#define REST "ta=Yes\0FirstBurstLength=65536\0MaxBurstLength=65536\0MaxOutstandingR2T=2\0"
/* What is sent is kept as well, and little of it acknowledged. */
#define REST_KEPT REST "ErrorRecoveryLevel=1\0"

static struct iscsi_server *server;
static struct peer *a;
static struct peer *b;
static bool must; /* memory does not fail: everything has to succeed */
static uint8_t pattern[LONG_WRITE];

struct command {
    uint8_t cdb[16];
    uint32_t in;  /* bytes expected */
    uint32_t out; /* bytes of pattern that are written, or of */
    const uint8_t *list;
    uint32_t immediate; /* so many of them with the command */
    bool unsolicited;   /* and the rest without being asked */
};

static void send(struct peer *p, const uint8_t *bhs, const void *data, uint32_t len)
{
    FAIL_NOT(peer_send(p, bhs, data, len));
}

static void data_out(struct peer *p, uint32_t itt, uint32_t ttt, uint32_t off, uint32_t len)
{
    const uint32_t where[3] = {ttt, 0, off};
    FAIL_NOT(peer_data_out(p, 0x80, itt, where, pattern + off, len));
}

static void check_data_in(const struct peer *p, const struct command *c)
{
    if (c && c->cdb[0] == 0x88) {
        uint64_t at = be64_load(c->cdb + 2) * 512 + be32_load(p->bhs + 40);
        CHECK(at + p->len <= RAM_BYTES && memcmp(p->data, ram.bytes + at, p->len) == 0);
    }
}

/* Up to the answer: its opcode, or the stream's error. A target that says nothing at all is one
 * that lost the request. */
static int answer(struct peer *p, const struct command *c)
{
    for (;;) {
        int r = peer_recv(p);
        CHECK(r != -ETIMEDOUT);
        if (r < 0) {
            CHECK(!must);
            return r;
        }
        uint8_t opcode = p->bhs[0] & 0x3f;
        if (opcode == 0x31) {
            data_out(p, be32_load(p->bhs + 16), be32_load(p->bhs + 20), be32_load(p->bhs + 40),
                     be32_load(p->bhs + 44));
            continue;
        }
        if (opcode == 0x25) {
            check_data_in(p, c);
        }
        bool ping = opcode == 0x20 && be32_load(p->bhs + 16) == 0xffffffff;
        if (opcode != 0x32 && !ping && (opcode != 0x25 || p->bhs[1] & 1)) {
            return opcode;
        }
    }
}

/* The status of a command; -1 = it was refused otherwise; or the stream's error. */
static int run(struct peer *p, const struct command *c)
{
    uint8_t bhs[48] = {0x01, 0x01};
    bool rest_follows = c->unsolicited && c->immediate < c->out;
    bhs[1] |= (uint8_t)((rest_follows ? 0 : 0x80) | (c->in ? 0x40 : 0) | (c->out ? 0x20 : 0));
    uint32_t itt = p->itt++;
    be32_store(bhs + 16, itt);
    be32_store(bhs + 20, c->in + c->out);
    be32_store(bhs + 24, p->cmdsn++);
    be32_store(bhs + 28, p->exp_statsn);
    memcpy(bhs + 32, c->cdb, 16);
    send(p, bhs, c->list ? c->list : pattern, c->immediate);
    if (rest_follows) {
        data_out(p, itt, 0xffffffff, c->immediate, c->out - c->immediate);
    }
    int opcode = answer(p, c);
    if (opcode < 0) {
        return opcode;
    }
    CHECK(!must || opcode == 0x21 || opcode == 0x25);
    return opcode == 0x21 || opcode == 0x25 ? p->bhs[3] : -1;
}

static struct command command_of(uint8_t opcode, uint32_t at_bytes, uint32_t bytes)
{
    struct command c = {.cdb = {opcode}};
    be64_store(c.cdb + 2, at_bytes / 512);
    be32_store(c.cdb + 10, bytes / 512);
    return c;
}

/* Until the unit attentions are over. */
static int settle(struct peer *p)
{
    const struct command ready = {.cdb = {0}};
    int r = 2;
    for (int i = 0; i < TRIES && r != 0 && r >= -1; i++) {
        r = run(p, &ready);
    }
    CHECK(!must || r == 0);
    return r < -1 ? r : 0;
}

static int read_and_write(struct peer *p, uint32_t at)
{
    struct command c[6];
    c[0] = command_of(0x88, READS_AT, 4096);
    c[0].in = 4096;
    c[1] = command_of(0x88, READS_AT, 600u << 10);
    c[1].in = 600u << 10;
    c[2] = command_of(0x8a, at, 4096);
    c[2].out = c[2].immediate = 4096;
    c[3] = command_of(0x8a, at, LONG_WRITE);
    c[3].out = LONG_WRITE; /* nothing but what R2Ts ask for */
    c[4] = command_of(0x8a, at, BURST);
    c[4].out = BURST;
    c[4].immediate = 8192;
    c[4].unsolicited = true;
    c[5] = command_of(0x88, at, BURST);
    c[5].in = BURST;
    for (size_t i = 0; i < ARRAY_LEN(c); i++) {
        int r = run(p, &c[i]);
        if (r < -1) {
            return r;
        }
        CHECK(!must || r == 0);
        CHECK(r != 0 || !c[i].out || memcmp(ram.bytes + at, pattern, c[i].out) == 0);
    }
    return 0;
}

/* POPULATE TOKEN; what came of it; WRITE USING TOKEN, in the background and then as a command; a
 * copy by EXTENDED COPY(LID4) and its status. */
static int copy_things(struct peer *p)
{
    static uint8_t populate[32] = {0, 30, [15] = 16, [27] = 8};
    static uint8_t later[552] = {2, 38, 1, [535] = 16, [547] = 8};
    static uint8_t now[552] = {2, 38, 2, [535] = 16, [547] = 8};
    static uint8_t copy[76] = {1,        0,         0,        32,        [15] = 1,    [16] = 0xff,
                               [23] = 4, [45] = 28, [48] = 2, [51] = 24, [52] = 0xff, 0xff,
                               0xff,     0xff,      [59] = 8, [75] = 64};
    const struct command all[] = {
        {.cdb = {0x83, 0x10, [9] = 1, [13] = 32}, .out = 32, .immediate = 32, .list = populate},
        {.cdb = {0x84, 0x07, [5] = 1, [12] = 4}, .in = 1024},
        {.cdb = {0x83, 0x11, [9] = 2, [12] = 2, 40}, .out = 552, .immediate = 552, .list = later},
        {.cdb = {0x83, 0x11, [9] = 3, [12] = 2, 40}, .out = 552, .immediate = 552, .list = now},
        {.cdb = {0x83, 0x01, [13] = 76}, .out = 76, .immediate = 76, .list = copy},
        {.cdb = {0x84, 0x05, [5] = 4, [13] = 64}, .in = 64},
    };
    for (size_t i = 0; i < ARRAY_LEN(all); i++) {
        int r = run(p, &all[i]);
        if (r < -1) {
            return r;
        }
        CHECK(!must || r == 0);
        if (i == 1 && r == 0 && p->len >= 550) {
            memcpy(later + 16, p->data + 38, 512);
            memcpy(now + 16, p->data + 38, 512);
        }
    }
    return 0;
}

static int ask_things(struct peer *p)
{
    static const uint8_t as_it_is[8] = {[7] = 1};
    static const struct command all[] = {
        {.cdb = {0x12, 0, 0, 0, 0xff}, .in = 0xff},
        {.cdb = {0x12, 1, 0x83, 0, 0xff}, .in = 0xff},
        {.cdb = {0x9e, 0x10, [13] = 32}, .in = 32},
        {.cdb = {0xa0, [9] = 0xff}, .in = 0xff},
        {.cdb = {0x1a, 0, 0x3f, 0, 0xff}, .in = 0xff},
        {.cdb = {0xa3, 0x0c, [8] = 16}, .in = 4096},
        {.cdb = {0xa3, 0x0a, [9] = 0xff}, .in = 0xff},
        {.cdb = {0xa4, 0x0a, [9] = 8}, .out = 8, .immediate = 8, .list = as_it_is},
        {.cdb = {0x03, [4] = 0xff}, .in = 0xff},
        {.cdb = {0x35}},
        {.cdb = {0xee}}, /* no such command */
    };
    for (size_t i = 0; i < ARRAY_LEN(all); i++) {
        int r = run(p, &all[i]);
        if (r < -1) {
            return r;
        }
        CHECK(!must || r == (i + 1 == ARRAY_LEN(all) ? 2 : 0));
    }
    return 0;
}

/* A request that is no SCSI command, and its answer's opcode. */
static int request(struct peer *p, const uint8_t head[4], uint8_t wanted, uint32_t len)
{
    uint8_t bhs[48] = {0};
    memcpy(bhs, head, 4);
    be32_store(bhs + 16, p->itt++);
    be32_store(bhs + 20, 0xffffffff);
    be32_store(bhs + 24, head[0] & 0x40 ? p->cmdsn : p->cmdsn++);
    send(p, bhs, len == 1 ? "SendTargets=\0" : (const char *)pattern, len == 1 ? 13 : len);
    int opcode = answer(p, NULL);
    CHECK(!must || opcode == wanted);
    return opcode;
}

static int other_requests(struct peer *p)
{
    static const uint8_t nop[4] = {0x40, 0x80};
    static const uint8_t nop_in_turn[4] = {0x00, 0x80};
    static const uint8_t text[4] = {0x04, 0x80};
    static const uint8_t reset[4] = {0x42, 0x80 | 5};
    int r = request(p, nop, 0x20, 100);
    if (r >= 0) {
        r = request(p, nop_in_turn, 0x20, 3000);
    }
    if (r >= 0) {
        r = request(p, text, 0x24, 1);
    }
    if (r >= 0) {
        r = request(p, reset, 0x22, 0);
    }
    return r < 0 ? r : settle(p);
}

static void hang_up(struct peer *p)
{
    FAIL_NOT(peer_close(p));
}

/* A login in two parts, the first of them continued: 0, a status, or the stream's error. */
static int login(struct peer *p, const char *first, size_t first_len, const char *rest,
                 size_t rest_len)
{
    fail_pause();
    peer_connect(p, server);
    memcpy(p->isid, p == a ? "\x80peerA" : "\x80peerB", 6);
    peer_login_send(p, 0x44, first, first_len);
    fail_resume();
    int opcode = answer(p, NULL);
    int status = opcode == 0x23 ? be16_load(p->bhs + 36) : -1;
    if (opcode >= 0 && status == 0) {
        FAIL_NOT(peer_login_send(p, 0x87, rest, rest_len));
        opcode = answer(p, NULL);
        status = opcode == 0x23 ? be16_load(p->bhs + 36) : -1;
    }
    if (opcode < 0 || status != 0) {
        CHECK(!must);
        hang_up(p);
        return opcode < 0 ? opcode : -1;
    }
    p->exp_statsn = be32_load(p->bhs + 24) + 1;
    p->cmdsn = be32_load(p->bhs + 28);
    p->itt++;
    return 0;
}
#define LOGIN(p, first, rest) login(p, first, sizeof(first) - 1, rest, sizeof(rest) - 1)

static void log_out(struct peer *p)
{
    static const uint8_t logout[4] = {0x46, 0x80};
    (void)request(p, logout, 0x26, 0);
    hang_up(p);
}

#define SECRET "known to both"

/* Discovery asks for CHAP. */
static void make_rules(void)
{
    struct dev_account account = {
        .user = "u", .initiator = "*", .secret = crypt_secret_create(SECRET, strlen(SECRET))};
    ram.rules[0] = dev_access_new();
    CHECK(ram.rules[0] && dev_account_set(ram.rules[0], &account) == 0);
    crypt_secret_free(account.secret);
}

/* One request of the security stage: the status of its answer, or the stream's error. */
static int security(struct peer *p, uint8_t flags, const char *text, size_t len)
{
    FAIL_NOT(peer_login_send(p, flags, text, len));
    int opcode = answer(p, NULL);
    return opcode < 0 ? opcode : opcode == 0x23 ? be16_load(p->bhs + 36) : -1;
}

/* The answer to the challenge at hand; its length. */
static size_t respond(const struct peer *p, char text[128])
{
    uint8_t challenge[ISCSI_CHAP_CHALLENGE_BYTES];
    uint8_t digest[ISCSI_CHAP_DIGEST_MAX];
    struct iscsi_chap_question q = {.algorithm = ISCSI_CHAP_SHA256, .challenge = challenge};
    const char *id = memmem(p->data, p->len, "CHAP_I=", 7);
    const char *c = memmem(p->data, p->len, "CHAP_C=", 7);
    CHECK(id && c);
    q.id = (uint8_t)strtoul(id + 7, NULL, 10);
    CHECK(iscsi_text_binary(c + 7, challenge, sizeof challenge, &q.challenge_len) == 0);
    CHECK(iscsi_chap_answer(&q, SECRET, strlen(SECRET), digest) == 32);
    int n = snprintf(text, 128, "CHAP_N=u%cCHAP_R=0x", 0);
    for (size_t i = 0; i < 32; i++, n += 2) {
        (void)snprintf(text + n, 3, "%02x", digest[i]);
    }
    return (size_t)n + 1;
}

/* As login(), for discovery. */
static int prove(struct peer *p)
{
    static const char first[] = "InitiatorName=iqn.2024-01.test:peer\0SessionType=Discovery\0"
                                "AuthMethod=CHAP";
    char text[128];
    fail_pause();
    peer_connect(p, server);
    fail_resume();
    int r = security(p, 0, first, sizeof first);
    if (r == 0) {
        r = security(p, 0, "CHAP_A=7", 9);
    }
    if (r == 0) {
        fail_pause();
        size_t len = respond(p, text);
        fail_resume();
        r = security(p, 0x83, text, len);
    }
    if (r != 0) {
        CHECK(!must);
        hang_up(p);
        return -1;
    }
    p->exp_statsn = be32_load(p->bhs + 24) + 1;
    p->cmdsn = be32_load(p->bhs + 28);
    p->itt++;
    return 0;
}

static void discover(struct peer *p)
{
    static const char all[] = "SendTargets=All";
    uint8_t bhs[48] = {0x04, 0x80};
    if (prove(p) < 0) {
        return;
    }
    be32_store(bhs + 16, p->itt++);
    be32_store(bhs + 20, 0xffffffff);
    be32_store(bhs + 24, p->cmdsn++);
    send(p, bhs, all, sizeof all);
    int opcode = answer(p, NULL);
    if (opcode < 0) {
        hang_up(p);
        return;
    }
    CHECK(!must || opcode == 0x24);
    CHECK(opcode != 0x24 || (p->bhs[1] & 0x80 && memmem(p->data, p->len, RAM_IQN, 22)));
    log_out(p);
}

/* All of a session: 0, or what ended it before. */
static int session(struct peer *p, uint32_t at)
{
    int r = LOGIN(p, FIRST, REST_KEPT);
    if (r < 0) {
        return r;
    }
    r = settle(p);
    if (r >= 0) {
        r = ask_things(p);
    }
    if (r >= 0) {
        r = read_and_write(p, at);
    }
    if (r >= 0) {
        r = copy_things(p);
    }
    if (r >= 0) {
        r = other_requests(p);
    }
    if (r < 0) {
        hang_up(p);
        return r;
    }
    log_out(p);
    return 0;
}

/* The other client is in the middle of its session all the while. */
static void other_begins(void)
{
    must = true;
    CHECK(LOGIN(b, FIRST, REST) == 0);
    CHECK(settle(b) == 0);
    CHECK(read_and_write(b, OTHERS_AT) == 0);
    must = false;
}

static void other_goes_on(void)
{
    must = true;
    CHECK(memcmp(ram.bytes + OTHERS_AT, pattern, BURST) == 0);
    CHECK(settle(b) == 0); /* the other one has reset the LUN */
    CHECK(read_and_write(b, OTHERS_AT) == 0);
    CHECK(other_requests(b) == 0);
}

static void check_given_back(void)
{
    struct iscsi_counts counts;
    iscsi_counts(server, &counts);
    CHECK(counts.sessions == 0 && counts.connections == 0);
    CHECK(atomic_load(&ram.space_held) == 0);
    CHECK(rt_credits_used(&server->ingress) == 0);
    CHECK(rt_credits_used(&server->gather) == 0);
    CHECK(rt_credits_used(&server->retained) == 0);
    CHECK(rt_mem_used(RT_MEM_CONNECTIONS) == 0);
    CHECK(server->stranger_count == 0);
}

static void scenario(void *arg)
{
    (void)arg;
    ram_init(3);
    make_rules();
    memset(pattern, 0x5a, sizeof pattern);
    memset(ram.bytes, 0x33, 1u << 20);
    a = calloc(1, sizeof *a);
    b = calloc(1, sizeof *b);
    CHECK(a && b);
    must = true;
    drive_arm();
    int r = iscsi_start(&(struct iscsi_options){.recovery = 1}, &server);
    drive_disarm();
    uint64_t of_start = drive.allocations;
    CHECK(r == 0 || r == -ENOMEM);
    if (r < 0) {
        CHECK(iscsi_start(&(struct iscsi_options){.recovery = 1}, &server) == 0);
    }
    other_begins();
    drive_arm_after(of_start);
    discover(a);
    for (int i = 0; i < TRIES && session(a, WRITES_AT) < 0; i++) {
    }
    drive_disarm();
    drive.allocations += of_start;
    other_goes_on();
    discover(a);
    CHECK(session(a, WRITES_AT) == 0);
    log_out(b);
    iscsi_drain(server, NULL, PEER_SECONDS(100));
    CHECK(rt_sleep_ms(100) == 0); /* fibers that had something to tell a connection end */
    check_given_back();
    iscsi_stop(server);
    free(a);
    free(b);
    ram_free();
}

int main(int argc, char **argv)
{
    return drive_main(argc, argv, scenario);
}
