/* SPDX-License-Identifier: Apache-2.0 */
/* Full feature phase: order, data, residuals, pings, aborts, and what ends a session. */
#include "peer.h"

#define KEYS                                                                                       \
    PEER_NAMES "InitialR2T=No\0ImmediateData=Yes\0MaxOutstandingR2T=2\0"                           \
               "MaxBurstLength=8192\0FirstBurstLength=2048\0"

static void log_in(struct peer_world *w)
{
    peer_connect(w->a, w->server);
    CHECK(peer_login(w->a, KEYS) == 0);
    peer_settle(w->a);
}

static void fill(uint8_t *p, size_t len, unsigned seed)
{
    for (size_t i = 0; i < len; i++) {
        p[i] = (uint8_t)(i * 7 + i / 256 + seed);
    }
}

static void answered(struct peer *p, uint8_t opcode, uint32_t itt)
{
    CHECK(peer_recv(p) == 0);
    if (p->bhs[0] != opcode || be32_load(p->bhs + 16) != itt) {
        print_error("opcode %02x itt %u\n", p->bhs[0], be32_load(p->bhs + 16));
        abort();
    }
}

static void good(struct peer *p, uint32_t itt)
{
    answered(p, 0x21, itt);
    CHECK(p->bhs[2] == 0 && p->bhs[3] == 0);
}

static void reads_collapse_status(struct peer_world *w)
{
    struct peer *p = w->a;
    log_in(w);
    fill(ram.bytes, 16384, 3);
    uint32_t itt = peer_read10(p, 0, 16, 8192);
    answered(p, 0x25, itt);
    CHECK(p->bhs[1] == 0x81 && p->bhs[3] == 0 && p->len == 8192);
    CHECK(memcmp(p->data, ram.bytes, 8192) == 0);
    /* MaxRecvDataSegmentLength is 8192, and so is MaxBurstLength: F at the end of each sequence. */
    itt = peer_read10(p, 0, 32, 16384);
    answered(p, 0x25, itt);
    CHECK(p->bhs[1] == 0x80 && be32_load(p->bhs + 36) == 0 && be32_load(p->bhs + 40) == 0);
    answered(p, 0x25, itt);
    CHECK(p->bhs[1] == 0x81 && be32_load(p->bhs + 36) == 1 && be32_load(p->bhs + 40) == 8192);
    CHECK(memcmp(p->data, ram.bytes + 8192, 8192) == 0);
}

/* 20 KiB: 1 KiB immediate, 1 KiB unsolicited, and R2Ts of 8 KiB, two at a time. */
static void write_in_every_way(struct peer_world *w)
{
    struct peer *p = w->a;
    static uint8_t data[20480];
    fill(data, sizeof data, 5);
    log_in(w);
    uint32_t itt = peer_write10(p, 0x21, 8, 40, data, 1024); /* F=0: more comes */
    peer_data_out(p, 0x80, itt, (uint32_t[3]){0xffffffff, 0, 1024}, data + 1024, 1024);
    uint32_t ttt[3], off = 2048;
    for (unsigned i = 0; i < 3; i++) {
        if (i < 2) {
            answered(p, 0x31, itt);
            CHECK(be32_load(p->bhs + 36) == i && be32_load(p->bhs + 40) == 2048 + 8192 * i);
            ttt[i] = be32_load(p->bhs + 20);
        }
    }
    CHECK(be32_load(p->bhs + 44) == 8192);
    peer_data_out(p, 0, itt, (uint32_t[3]){ttt[0], 0, off}, data + off, 4096);
    peer_data_out(p, 0x80, itt, (uint32_t[3]){ttt[0], 1, off + 4096}, data + off + 4096, 4096);
    answered(p, 0x31, itt); /* the third, of what is left */
    CHECK(be32_load(p->bhs + 40) == 18432 && be32_load(p->bhs + 44) == 2048);
    ttt[2] = be32_load(p->bhs + 20);
    peer_data_out(p, 0x80, itt, (uint32_t[3]){ttt[1], 0, 10240}, data + 10240, 8192);
    peer_data_out(p, 0x80, itt, (uint32_t[3]){ttt[2], 0, 18432}, data + 18432, 2048);
    good(p, itt);
    CHECK(be32_load(p->bhs + 36) == 3); /* ExpDataSN: three R2Ts */
    CHECK(memcmp(ram.bytes + 4096, data, sizeof data) == 0);
}

struct bad_data {
    uint8_t flags;
    uint32_t ttt; /* 0: the R2T's */
    uint32_t datasn;
    uint32_t offset;
    uint32_t len;
};
static const struct bad_data bad_data[] = {
    {0x80, 0, 0, 512, 3584},        /* offset */
    {0x80, 0, 0, 0, 4608},          /* too long */
    {0x80, 0, 0, 0, 2048},          /* ends too early */
    {0x00, 0, 0, 0, 4096},          /* does not end */
    {0x80, 0xdead, 0, 0, 4096},     /* no such TTT */
    {0x80, 0xffffffff, 0, 0, 4096}, /* not announced */
};

static void wrong_data_ends_the_session(struct peer_world *w)
{
    static uint8_t data[8192];
    for (size_t i = 0; i < sizeof bad_data / sizeof bad_data[0]; i++) {
        const struct bad_data *b = &bad_data[i];
        log_in(w);
        struct peer *p = w->a;
        uint32_t itt = peer_write10(p, 0xa1, 0, 8, NULL, 0);
        answered(p, 0x31, itt);
        uint32_t ttt = b->ttt ? b->ttt : be32_load(p->bhs + 20);
        peer_data_out(p, b->flags, itt, (uint32_t[3]){ttt, b->datasn, b->offset}, data, b->len);
        answered(p, 0x3f, 0xffffffff);
        CHECK(p->bhs[2] == 0x04 && p->len == 48 && p->data[0] == 0x05);
        CHECK(peer_is_dropped(p));
        peer_close(p);
    }
}

/* A gap in DataSN is a PDU that a digest error took: the command fails, at its F bit, and no more.
 */
static void data_lost_on_the_way(struct peer_world *w)
{
    static uint8_t data[16384];
    struct peer *p = w->a;
    log_in(w);
    uint32_t itt = peer_write10(p, 0xa1, 0, 32, NULL, 0);
    answered(p, 0x31, itt);
    uint32_t ttt = be32_load(p->bhs + 20);
    answered(p, 0x31, itt);
    uint32_t second = be32_load(p->bhs + 20);
    peer_data_out(p, 0, itt, (uint32_t[3]){ttt, 1, 4096}, data, 2048);
    peer_data_out(p, 0x80, itt, (uint32_t[3]){ttt, 0, 0}, data, 2048);
    peer_data_out(p, 0x80, itt, (uint32_t[3]){second, 0, 8192}, data, 8192);
    answered(p, 0x21, itt);
    CHECK(p->bhs[3] == 0x02 && p->data[4] == 0x0b && p->data[14] == 0x47 && p->data[15] == 5);
    peer_settle(p);
}

static void data_for_nobody_is_passed_over(struct peer_world *w)
{
    static const uint8_t data[4096];
    log_in(w);
    peer_data_out(w->a, 0x80, 4711, (uint32_t[3]){0xffffffff, 0, 0}, data, 4096);
    peer_data_out(w->a, 0x80, 4711, (uint32_t[3]){5, 0, 0}, data, 4096);
    peer_settle(w->a);
}

static void numbered_nop(struct peer *p, uint32_t cmdsn, const void *data, uint32_t len)
{
    uint8_t bhs[48] = {0x00, 0x80};
    be32_store(bhs + 16, p->itt++);
    be32_store(bhs + 20, 0xffffffff);
    be32_store(bhs + 24, cmdsn);
    peer_send(p, bhs, data, len);
}

/* Requests that wait for their turn may have data, but not without end. */
static void held_data(struct peer_world *w)
{
    struct peer *p = w->a;
    static uint8_t data[200000] = {1};
    log_in(w);
    uint32_t base = p->cmdsn;
    for (unsigned round = 0; round < 3; round++) { /* what had its turn counts no more */
        for (uint32_t n = 3; n > 0; n--) {
            numbered_nop(p, base + n, data, sizeof data);
        }
        numbered_nop(p, base, NULL, 0);
        for (uint32_t n = 0; n <= 3; n++) {
            CHECK(peer_recv(p) == 0 && p->bhs[0] == 0x20);
        }
        base += 4;
        CHECK(be32_load(p->bhs + 28) == base);
    }
    uint64_t begin_ns = rt_now_ns();
    for (uint32_t n = 1; n <= 6; n++) {
        numbered_nop(p, base + n, data, sizeof data);
    }
    CHECK(peer_is_dropped(p));
    CHECK(rt_now_ns() < begin_ns + 5000000000ull); /* at once, and not for want of an answer */
}

/* Data that were asked for lie unread as long as the peer does not take what is queued for it: that
 * is no reason to say that they do not come. */
static void data_behind_a_slow_reader(struct peer_world *w)
{
    struct peer *p = w->a;
    static uint8_t data[262144] = {5};
    peer_connect(p, w->server);
    CHECK(peer_login(p, PEER_NAMES "MaxRecvDataSegmentLength=262144\0ImmediateData=No\0") == 0);
    peer_settle(p);
    uint32_t itt = peer_write10(p, 0xa1, 8, 8, NULL, 0);
    CHECK(peer_recv(p) == 0 && p->bhs[0] == 0x31);
    uint32_t ttt = be32_load(p->bhs + 20);
    unsigned pings = 0;
    for (; pings < 2 * ISCSI_EGRESS_HARD / sizeof data; pings++) {
        peer_nop(p, data, sizeof data);
    }
    peer_data_out(p, 0x80, itt, (uint32_t[3]){ttt}, data, 4096);
    rt_sleep_ms(20000);
    unsigned echoes = 0;
    while (peer_recv(p) == 0 && p->bhs[0] == 0x20) {
        echoes++;
    }
    CHECK(p->bhs[0] == 0x21 && be32_load(p->bhs + 16) == itt && p->bhs[3] == 0);
    CHECK(echoes <= pings && ram.bytes[4096] == 5);
}

/* Who takes what is queued for him, and be it slowly, is there, though he says nothing. */
static void slow_readers_are_there(struct peer_world *w)
{
    struct peer *p = w->a;
    static uint8_t data[262144] = {5};
    peer_connect(p, w->server);
    CHECK(peer_login(p, PEER_NAMES "MaxRecvDataSegmentLength=262144\0") == 0);
    for (unsigned n = 0; n < 16; n++) {
        peer_nop(p, data, sizeof data);
    }
    for (unsigned n = 0; n < 16; n++) {
        rt_sleep_ms(10000);
        CHECK(peer_recv(p) == 0 && p->bhs[0] == 0x20 && p->len == sizeof data);
    }
    uint64_t begin_ns = rt_now_ns(); /* who does not even that is not */
    CHECK(peer_is_dropped(p));
    CHECK(rt_now_ns() <= begin_ns + 62000000000ull);
}

/* That also holds when nothing is queued any more, and the last of it is still on its way. */
static void slow_readers_to_the_end(struct peer_world *w)
{
    struct peer *p = w->a;
    static uint8_t data[32768] = {5};
    enum {
        NOPS = 128
    };
    peer_connect(p, w->server);
    CHECK(peer_login(p, PEER_NAMES "MaxRecvDataSegmentLength=262144\0") == 0);
    for (unsigned n = 0; n < NOPS; n++) {
        peer_nop(p, data, sizeof data);
    }
    rt_sleep_ms(35000); /* a ping comes after them */
    for (unsigned n = 0; n < NOPS; n++) {
        CHECK(peer_recv(p) == 0 && p->bhs[0] == 0x20 && p->len == sizeof data);
        rt_sleep_ms(n == NOPS - 2 ? 10000 : 160);
    }
    CHECK(peer_recv(p) == 0 && p->bhs[0] == 0x20 && be32_load(p->bhs + 20) != 0xffffffff);
    peer_nop(p, data, 4);
    CHECK(peer_recv(p) == 0 && p->bhs[0] == 0x20 && p->len == 4);
}

/* CmdSNs that overtake each other are put in order; duplicates and strays are dropped. */
static void command_order(struct peer_world *w)
{
    struct peer *p = w->a;
    static uint8_t block[512];
    log_in(w);
    uint32_t base = p->cmdsn;
    uint32_t itts[4];
    static const uint32_t order[] = {2, 1, 3, 0};
    for (unsigned i = 0; i < 4; i++) {
        memset(block, (int)order[i] + 1, sizeof block);
        p->cmdsn = base + order[i];
        itts[order[i]] = peer_write10(p, 0xa1, 0, 1, block, sizeof block);
        if (order[i] == 2) { /* the same again */
            p->cmdsn = base + 2;
            (void)peer_write10(p, 0xa1, 0, 1, block, sizeof block);
        }
    }
    p->cmdsn = base + 4 + ISCSI_WINDOW_MAX; /* beyond the window */
    (void)peer_write10(p, 0xa1, 0, 1, block, sizeof block);
    p->cmdsn = base - 1; /* long past */
    (void)peer_write10(p, 0xa1, 0, 1, block, sizeof block);
    for (unsigned i = 0; i < 4; i++) {
        good(p, itts[i]);
    }
    CHECK(be32_load(p->bhs + 28) == base + 4);
    CHECK(be32_load(p->bhs + 32) == base + 4 + ISCSI_WINDOW_MAX - 1);
    CHECK(ram.bytes[0] == 4); /* the last in order */
    p->cmdsn = base + 4;
    peer_settle(p);
}

/* A window full of commands that the device holds up: no more than that are taken, and NOP is
 * answered. */
static void stalled_device(struct peer_world *w)
{
    struct peer *p = w->a;
    log_in(w);
    ram_stall(true);
    uint32_t first = p->cmdsn;
    for (unsigned i = 0; i < ISCSI_WINDOW_MAX + 10; i++) {
        (void)peer_read10(p, i, 1, 512);
    }
    peer_nop(p, "are you there", 13);
    CHECK(peer_recv(p) == 0 && p->bhs[0] == 0x20 && p->len == 13);
    CHECK(memcmp(p->data, "are you there", 13) == 0);
    CHECK(be32_load(p->bhs + 28) == first + ISCSI_WINDOW_MAX); /* ExpCmdSN */
    CHECK(be32_load(p->bhs + 32) == first + ISCSI_WINDOW_MAX - 1);
    CHECK(atomic_load(&ram.waiting) == ISCSI_WINDOW_MAX);
    ram_stall(false);
    for (unsigned i = 0; i < ISCSI_WINDOW_MAX; i++) {
        CHECK(peer_recv(p) == 0 && p->bhs[0] == 0x25);
    }
    p->cmdsn = first + ISCSI_WINDOW_MAX;
    peer_settle(p);
}

struct residual {
    uint8_t op; /* READ(10) or WRITE(10) */
    uint8_t flags;
    uint16_t blocks;
    uint32_t edtl;
    uint8_t bits; /* U 2, O 4 */
    uint32_t count;
    uint32_t data_in;
};
static const struct residual residuals[] = {
    {0x28, 0xc1, 2, 1024, 0, 0, 1024}, {0x28, 0xc1, 2, 2048, 2, 1024, 1024},
    {0x28, 0xc1, 2, 512, 4, 512, 512}, {0x28, 0xc1, 0, 512, 2, 512, 0},
    {0x28, 0x81, 2, 0, 4, 1024, 0},    {0x28, 0xa1, 2, 1024, 4, 1024, 0},
    {0x2a, 0xa1, 2, 1024, 0, 0, 0},    {0x2a, 0xa1, 1, 1024, 2, 512, 0},
    {0x2a, 0xa1, 2, 512, 4, 512, 0},   {0x2a, 0x81, 2, 0, 4, 1024, 0},
    {0x2a, 0xc1, 2, 1024, 4, 1024, 0}, {0x00, 0xc1, 0, 512, 2, 512, 0},
};

static void residual_table(struct peer_world *w)
{
    static uint8_t data[2048];
    log_in(w);
    struct peer *p = w->a;
    for (size_t i = 0; i < sizeof residuals / sizeof residuals[0]; i++) {
        const struct residual *t = &residuals[i];
        uint8_t cdb[10] = {t->op};
        be16_store(cdb + 7, t->blocks);
        bool writes = t->flags & 0x20;
        uint32_t itt = peer_command(p, t->flags, cdb, t->edtl, data, writes ? t->edtl : 0);
        uint32_t got = 0;
        do {
            CHECK(peer_recv(p) == 0 && be32_load(p->bhs + 16) == itt);
            got += p->bhs[0] == 0x25 ? p->len : 0;
        } while (p->bhs[0] == 0x25 && !(p->bhs[1] & 1));
        if ((p->bhs[1] & 6) != t->bits || be32_load(p->bhs + 44) != t->count || got != t->data_in) {
            print_error("residual %zu: flags %02x count %u data %u status %02x\n", i, p->bhs[1],
                        be32_load(p->bhs + 44), got, p->bhs[3]);
            abort();
        }
    }
}

static void errors_carry_sense(struct peer_world *w)
{
    log_in(w);
    uint32_t itt = peer_read10(w->a, 0xfffffff0, 8, 4096);
    answered(w->a, 0x21, itt);
    CHECK(w->a->bhs[3] == 0x02 && be16_load(w->a->data) >= 18);
    CHECK((w->a->data[2] & 0x7f) == 0x70 && w->a->data[4] == 5 && w->a->data[14] == 0x21);
    CHECK((w->a->bhs[1] & 6) == 2 && be32_load(w->a->bhs + 44) == 4096);
}

static void idle_sessions_are_pinged(struct peer_world *w)
{
    struct peer *p = w->a;
    log_in(w);
    uint64_t begin = rt_now_ns();
    CHECK(peer_recv(p) == 0 && p->bhs[0] == 0x20);
    CHECK(be32_load(p->bhs + 16) == 0xffffffff && be32_load(p->bhs + 20) != 0xffffffff);
    CHECK(rt_now_ns() - begin >= 29 * 1000000000ull);
    uint8_t pong[48] = {0x40, 0x80};
    be32_store(pong + 16, 0xffffffff);
    memcpy(pong + 20, p->bhs + 20, 4);
    be32_store(pong + 24, p->cmdsn);
    peer_send(p, pong, NULL, 0);
    CHECK(peer_recv(p) == 0 && p->bhs[0] == 0x20); /* the next, a good while later */
    begin = rt_now_ns();
    CHECK(peer_is_dropped(p)); /* and this one is not answered */
    CHECK(rt_now_ns() - begin < 40 * 1000000000ull);
}

static void abort_of_a_task_that_waits(struct peer_world *w)
{
    struct peer *p = w->a;
    log_in(w);
    uint32_t sn = p->cmdsn;
    uint32_t itt = peer_write10(p, 0xa1, 0, 8, NULL, 0);
    answered(p, 0x31, itt);
    uint32_t tmf = peer_tmf(p, 1, itt, sn);
    answered(p, 0x22, tmf);
    CHECK(p->bhs[2] == 0);
    tmf = peer_tmf(p, 1, itt, sn); /* it is gone */
    answered(p, 0x22, tmf);
    CHECK(p->bhs[2] == 1);
    static const uint8_t late[4096];
    peer_data_out(p, 0x80, itt, (uint32_t[3]){1, 0, 0}, late, sizeof late);
    peer_settle(p);
}

static void abort_of_a_command_that_never_came(struct peer_world *w)
{
    struct peer *p = w->a;
    static const uint8_t tur[10];
    log_in(w);
    uint32_t lost = p->cmdsn++;
    uint32_t held = peer_command(p, 0x81, tur, 0, NULL, 0);
    uint32_t tmf = peer_tmf(p, 1, 0x7777, lost);
    answered(p, 0x22, tmf);
    CHECK(p->bhs[2] == 0);
    good(p, held);
    CHECK(be32_load(p->bhs + 28) == p->cmdsn);
    /* One that is held can be aborted too. */
    lost = p->cmdsn++;
    held = peer_command(p, 0x81, tur, 0, NULL, 0);
    tmf = peer_tmf(p, 1, held, p->cmdsn - 1);
    answered(p, 0x22, tmf);
    CHECK(p->bhs[2] == 0);
    uint32_t after = p->cmdsn;
    p->cmdsn = lost;
    uint32_t first = peer_command(p, 0x81, tur, 0, NULL, 0);
    good(p, first);
    p->cmdsn = after;
    peer_settle(p);
}

/* A reset waits for the commands that are older than it. */
static void reset_waits_for_older_commands(struct peer_world *w)
{
    struct peer *p = w->a;
    static const uint8_t tur[10];
    log_in(w);
    uint32_t missing = p->cmdsn++;
    uint32_t tmf = peer_tmf(p, 5, 0xffffffff, 0);
    peer_nop(p, NULL, 0);
    CHECK(peer_recv(p) == 0 && p->bhs[0] == 0x20); /* the NOP, not the reset */
    uint32_t after = p->cmdsn;
    p->cmdsn = missing;
    uint32_t itt = peer_command(p, 0x81, tur, 0, NULL, 0);
    good(p, itt);
    answered(p, 0x22, tmf);
    CHECK(p->bhs[2] == 0);
    p->cmdsn = after;
    peer_settle(p);
}

static void reset_ends_a_task_that_waits_for_data(struct peer_world *w)
{
    struct peer *p = w->a;
    log_in(w);
    uint32_t itt = peer_write10(p, 0xa1, 0, 8, NULL, 0);
    answered(p, 0x31, itt);
    uint32_t tmf = peer_tmf(p, 5, 0xffffffff, 0);
    answered(p, 0x22, tmf);
    CHECK(p->bhs[2] == 0);
    peer_settle(p);
}

static void rejects(struct peer_world *w)
{
    struct peer *p = w->a;
    log_in(w);
    uint8_t unknown[48] = {0x1c};
    peer_send(p, unknown, "1234", 4);
    answered(p, 0x3f, 0xffffffff);
    CHECK(p->bhs[2] == 0x05 && memcmp(p->data, unknown, 4) == 0);
    uint8_t snack[48] = {0x10, 0x80};
    peer_send(p, snack, NULL, 0);
    answered(p, 0x3f, 0xffffffff);
    CHECK(p->bhs[2] == 0x03);
    peer_settle(p);
    uint8_t login[48] = {0x43, 0x87};
    peer_send(p, login, NULL, 0);
    answered(p, 0x3f, 0xffffffff);
    CHECK(p->bhs[2] == 0x04);
    CHECK(peer_is_dropped(p));
}

static void text_in_full_feature_phase(struct peer_world *w)
{
    struct peer *p = w->a;
    static const char text[] = "SendTargets=\0X-what=1\0MaxBurstLength=512";
    log_in(w);
    uint8_t bhs[48] = {0x44, 0x80};
    be32_store(bhs + 16, p->itt++);
    be32_store(bhs + 20, 0xffffffff);
    be32_store(bhs + 24, p->cmdsn);
    peer_send(p, bhs, text, sizeof text);
    CHECK(peer_recv(p) == 0 && p->bhs[0] == 0x24 && p->bhs[1] == 0x80);
    CHECK(memmem(p->data, p->len, "TargetName=" RAM_IQN, sizeof RAM_IQN + 10));
    CHECK(!memmem(p->data, p->len, "disk1", 5));
    CHECK(memmem(p->data, p->len, "X-what=NotUnderstood", 21));
    CHECK(memmem(p->data, p->len, "MaxBurstLength=Reject", 22));
    /* Few bytes that ask for the whole list again and again. */
    be32_store(bhs + 16, p->itt++);
    peer_send(p, bhs, "SendTargets=\0SendTargets=", 26);
    CHECK(peer_is_dropped(p));
}

/* A long answer in pieces, each asked for. */
static void discovery_in_pieces(struct peer_world *w)
{
    static const char keys[] = "InitiatorName=iqn.2024-01.test:peer\0SessionType=Discovery\0"
                               "MaxRecvDataSegmentLength=512\0";
    struct peer *p = w->a;
    ram.targets = 40;
    peer_connect(p, w->server);
    CHECK(peer_login(p, keys) == 0);
    uint8_t bhs[48] = {0x44, 0x80};
    be32_store(bhs + 16, 5);
    be32_store(bhs + 20, 0xffffffff);
    be32_store(bhs + 24, p->cmdsn);
    static char all[16384];
    size_t len = 0, pieces = 0;
    peer_send(p, bhs, "SendTargets=All", 16);
    for (;;) {
        CHECK(peer_recv(p) == 0 && p->bhs[0] == 0x24 && p->len <= 512);
        CHECK(len + p->len < sizeof all);
        memcpy(all + len, p->data, p->len);
        len += p->len;
        pieces++;
        if (p->bhs[1] & 0x80) {
            break;
        }
        CHECK(p->bhs[1] == 0x40 && be32_load(p->bhs + 20) != 0xffffffff);
        memcpy(bhs + 20, p->bhs + 20, 4);
        peer_send(p, bhs, NULL, 0);
    }
    size_t found = 0;
    for (char *at = all; (at = memmem(at, len - (size_t)(at - all), "TargetName=", 11)) != NULL;
         at++) {
        found++;
    }
    CHECK(found == 40 && pieces > 3);
    /* Nothing but text, NOP and logout here. */
    static const uint8_t tur[10];
    (void)peer_command(p, 0x81, tur, 0, NULL, 0);
    answered(p, 0x3f, 0xffffffff);
    CHECK(p->bhs[2] == 0x05);
}

/* Data that were asked for and do not come hold room that others need: not for long, nor much. */
static void data_that_never_come(struct peer_world *w)
{
    struct peer *p = w->a;
    log_in(w);
    for (unsigned i = 0; i < 10; i++) {
        (void)peer_write10(p, 0xa1, 0, 4096, NULL, 0); /* 2 MiB each */
    }
    for (unsigned i = 0; i < 8; i++) { /* four commands with two R2Ts each */
        CHECK(peer_recv(p) == 0 && p->bhs[0] == 0x31);
    }
    CHECK(atomic_load(&ram.space_held) == 8u << 20);
    uint64_t begin = rt_now_ns();
    CHECK(peer_is_dropped(p));
    CHECK(rt_now_ns() - begin < 20000000000u);
    while (atomic_load(&ram.space_held) > 0) {
        (void)rt_sleep_ms(1);
    }
}

static void cold_reset_drops_everyone(struct peer_world *w)
{
    log_in(w);
    peer_connect(w->b, w->server);
    w->b->isid[5]++;
    CHECK(peer_login(w->b, KEYS) == 0);
    (void)peer_tmf(w->b, 7, 0xffffffff, 0);
    CHECK(peer_is_dropped(w->a));
    CHECK(peer_is_dropped(w->b));
}

static void dropped_with_its_target(struct peer_world *w)
{
    log_in(w);
    iscsi_target_drop(w->server, RAM_IQN);
    CHECK(peer_recv(w->a) == 0 && w->a->bhs[0] == 0x32 && w->a->bhs[36] == 3);
    CHECK(peer_is_dropped(w->a));
}

/* Commands that are missing are not waited for by a reset of the target. */
static void target_reset_plugs_the_holes(struct peer_world *w)
{
    struct peer *p = w->a;
    static const uint8_t tur[10];
    log_in(w);
    uint32_t missing = p->cmdsn++;
    (void)peer_command(p, 0x81, tur, 0, NULL, 0); /* held, and gone with the reset */
    uint32_t tmf = peer_tmf(p, 6, 0xffffffff, 0);
    answered(p, 0x22, tmf);
    CHECK(p->bhs[2] == 0 && be32_load(p->bhs + 28) == p->cmdsn);
    uint32_t after = p->cmdsn;
    p->cmdsn = missing;
    (void)peer_command(p, 0x81, tur, 0, NULL, 0); /* late: not taken any more */
    p->cmdsn = after;
    peer_settle(p);
}

static uint32_t window_of(struct peer *p)
{
    static const uint8_t tur[10];
    good(p, peer_command(p, 0x81, tur, 0, NULL, 0));
    return be32_load(p->bhs + 32) - be32_load(p->bhs + 28) + 1;
}

/* With little to share out, a session's window shrinks while another one is busy, and grows again.
 */
static void windows_are_shared_out(struct peer_world *w)
{
    struct peer *a = w->a, *b = w->b;
    log_in(w);
    peer_connect(b, w->server);
    b->isid[5]++;
    CHECK(peer_login(b, KEYS) == 0);
    peer_settle(b);
    CHECK(window_of(a) == ISCSI_WINDOW_MAX);
    w->server->core_commands = 64;
    for (unsigned i = 0; i < 2 * ISCSI_WINDOW_MAX && window_of(a) > 64; i++) {
    }
    CHECK(window_of(a) == 64 && window_of(a) == 64);
    (void)peer_write10(b, 0xa1, 0, 8, NULL, 0); /* busy until its data come */
    CHECK(peer_recv(b) == 0 && b->bhs[0] == 0x31);
    for (unsigned i = 0; i < ISCSI_WINDOW_MAX && window_of(a) > 32; i++) {
    }
    CHECK(window_of(a) == 32 && window_of(a) == 32);
    peer_close(b);
    for (unsigned i = 0; i < ISCSI_WINDOW_MAX && window_of(a) < 64; i++) {
        (void)rt_sleep_ms(1);
    }
    CHECK(window_of(a) == 64);
}

/* Asked to log out, it goes on working; in the end the session is dropped. */
static void who_overstays_is_dropped(struct peer_world *w)
{
    struct peer *p = w->a;
    log_in(w);
    iscsi_target_logout(w->server, RAM_IQN);
    CHECK(peer_recv(p) == 0 && p->bhs[0] == 0x32 && p->bhs[36] == 1);
    CHECK(be16_load(p->bhs + 42) > 0);
    peer_settle(p);
    CHECK(peer_recv(p) == 0 && p->bhs[0] == 0x32 && p->bhs[36] == 3);
    CHECK(peer_is_dropped(p));
}

#define TEST(name)                                                                                 \
    static void test_##name(void **state)                                                          \
    {                                                                                              \
        (void)state;                                                                               \
        peer_run(name);                                                                            \
    }
TEST(reads_collapse_status)
TEST(write_in_every_way)
TEST(wrong_data_ends_the_session)
TEST(data_lost_on_the_way)
TEST(data_for_nobody_is_passed_over)
TEST(held_data)
TEST(data_behind_a_slow_reader)
TEST(slow_readers_are_there)
TEST(slow_readers_to_the_end)
TEST(command_order)
TEST(stalled_device)
TEST(residual_table)
TEST(errors_carry_sense)
TEST(idle_sessions_are_pinged)
TEST(abort_of_a_task_that_waits)
TEST(abort_of_a_command_that_never_came)
TEST(reset_waits_for_older_commands)
TEST(reset_ends_a_task_that_waits_for_data)
TEST(rejects)
TEST(text_in_full_feature_phase)
TEST(discovery_in_pieces)
TEST(data_that_never_come)
TEST(cold_reset_drops_everyone)
TEST(dropped_with_its_target)
TEST(target_reset_plugs_the_holes)
TEST(windows_are_shared_out)
TEST(who_overstays_is_dropped)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reads_collapse_status),
        cmocka_unit_test(test_write_in_every_way),
        cmocka_unit_test(test_wrong_data_ends_the_session),
        cmocka_unit_test(test_data_lost_on_the_way),
        cmocka_unit_test(test_data_for_nobody_is_passed_over),
        cmocka_unit_test(test_held_data),
        cmocka_unit_test(test_data_behind_a_slow_reader),
        cmocka_unit_test(test_slow_readers_are_there),
        cmocka_unit_test(test_slow_readers_to_the_end),
        cmocka_unit_test(test_command_order),
        cmocka_unit_test(test_stalled_device),
        cmocka_unit_test(test_residual_table),
        cmocka_unit_test(test_errors_carry_sense),
        cmocka_unit_test(test_idle_sessions_are_pinged),
        cmocka_unit_test(test_abort_of_a_task_that_waits),
        cmocka_unit_test(test_abort_of_a_command_that_never_came),
        cmocka_unit_test(test_reset_waits_for_older_commands),
        cmocka_unit_test(test_reset_ends_a_task_that_waits_for_data),
        cmocka_unit_test(test_rejects),
        cmocka_unit_test(test_text_in_full_feature_phase),
        cmocka_unit_test(test_discovery_in_pieces),
        cmocka_unit_test(test_data_that_never_come),
        cmocka_unit_test(test_cold_reset_drops_everyone),
        cmocka_unit_test(test_target_reset_plugs_the_holes),
        cmocka_unit_test(test_windows_are_shared_out),
        cmocka_unit_test(test_who_overstays_is_dropped),
        cmocka_unit_test(test_dropped_with_its_target),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
