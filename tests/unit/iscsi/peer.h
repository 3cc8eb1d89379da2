/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An initiator on one end of a net_pipe(), the server on the other: PDUs by hand, under the
 * simulator's clock. What goes wrong ends the process (CHECK), as asserts must not leave a fiber.
 *
 *     struct peer p;
 *     peer_connect(&p, server);
 *     CHECK(peer_login(&p, PEER_KEYS, NULL) == 0);
 *     peer_read10(&p, 0, 8, 4096);
 *     CHECK(peer_recv(&p) == 0 && p.bhs[0] == 0x25);
 *     peer_close(&p);
 */
#pragma once
#include "base/endian.h"
#include "iscsi/conn_priv.h"
#include "ram_dev.h"
#include "unit.h"

#ifndef CHECK
#define CHECK(expr)                                                                                \
    do {                                                                                           \
        if (!(expr)) {                                                                             \
            print_error("%s:%d: check failed: %s\n", __FILE__, __LINE__, #expr);                   \
            abort();                                                                               \
        }                                                                                          \
    } while (0)
#endif

#define PEER_NAMES                                                                                 \
    "InitiatorName=iqn.2024-01.test:peer\0TargetName=" RAM_IQN "\0SessionType=Normal\0"
#define PEER_SECONDS(n) (rt_now_ns() + (n)*1000000000ull)
#define PEER_LIMIT_S 600 /* virtual */

struct peer {
    struct net_stream *s;
    uint32_t cmdsn;
    uint32_t itt;
    uint32_t exp_statsn;
    uint16_t tsih;
    uint16_t cid;
    uint8_t isid[6];
    uint8_t bhs[48]; /* of the last PDU received */
    uint32_t len;
    uint8_t data[300000];
};

struct peer_serve {
    struct net_stream *s;
    struct iscsi_server *server;
};

static void peer_serve_main(void *arg)
{
    struct peer_serve v = *(struct peer_serve *)arg;
    free(arg);
    iscsi_conn_serve(v.s, v.server);
}

static void peer_connect(struct peer *p, struct iscsi_server *server)
{
    memset(p, 0, sizeof *p);
    struct peer_serve *v = malloc(sizeof *v);
    CHECK(v);
    CHECK(net_pipe(&p->s, &v->s) == 0);
    v->server = server;
    CHECK(rt_spawn("serve", peer_serve_main, v) == 0);
    p->cmdsn = 1000;
    p->itt = 1;
    p->cid = 1;
    memcpy(p->isid, "\x80peer1", 6);
}

static void peer_send(struct peer *p, const uint8_t *bhs, const void *data, uint32_t len)
{
    uint8_t head[48];
    memcpy(head, bhs, sizeof head);
    be24_store(head + 5, len);
    CHECK(net_send_copy(p->s, head, sizeof head) == 0);
    if (len > 0) {
        static const uint8_t zeros[3];
        CHECK(net_send_copy(p->s, data, len) == 0);
        CHECK(net_send_copy(p->s, zeros, (4 - len % 4) % 4) == 0);
    }
}

/* The next PDU: 0, or the stream's error. */
static int peer_recv(struct peer *p)
{
    int r = net_recv_all(p->s, p->bhs, sizeof p->bhs, PEER_SECONDS(PEER_LIMIT_S));
    if (r < 0) {
        return r;
    }
    p->len = be24_load(p->bhs + 5);
    CHECK(p->len <= sizeof p->data - 4);
    if (p->len > 0) {
        r = net_recv_all(p->s, p->data, (p->len + 3u) & ~3u, PEER_SECONDS(PEER_LIMIT_S));
    }
    p->data[p->len] = 0;
    return r;
}

static void peer_close(struct peer *p)
{
    net_close(p->s);
    p->s = NULL;
}

/* True when the server ends the connection, whatever it says before. */
__attribute__((unused)) static bool peer_is_dropped(struct peer *p)
{
    int r;
    while ((r = peer_recv(p)) == 0) {
    }
    return r != -ETIMEDOUT;
}

/* A login request; flags: T, C, CSG, NSG. */
static void peer_login_send(struct peer *p, uint8_t flags, const void *text, size_t len)
{
    uint8_t bhs[48] = {0x43, flags};
    memcpy(bhs + 8, p->isid, 6);
    be16_store(bhs + 14, p->tsih);
    be32_store(bhs + 16, p->itt);
    be16_store(bhs + 20, p->cid);
    be32_store(bhs + 24, p->cmdsn);
    peer_send(p, bhs, text, (uint32_t)len);
}

/* Straight to full feature phase from the operational stage: the login's status. */
__attribute__((unused)) static int peer_login_text(struct peer *p, const void *text, size_t len)
{
    peer_login_send(p, 0x87, text, len);
    CHECK(peer_recv(p) == 0);
    CHECK(p->bhs[0] == 0x23);
    int status = be16_load(p->bhs + 36);
    if (status == 0) {
        CHECK(p->bhs[1] == 0x87);
        CHECK(be16_load(p->bhs + 14) != 0);
        p->exp_statsn = be32_load(p->bhs + 24) + 1;
        p->cmdsn = be32_load(p->bhs + 28);
    }
    p->itt++;
    return status;
}
/* With literal keys; sizeof counts the string's own NUL, which is one too many. */
#define peer_login(p, keys) peer_login_text((p), (keys), sizeof(keys) - 1)

/* A SCSI command of 10 bytes' CDB; flags: F, R, W and the attribute. Gives its ITT. */
__attribute__((unused)) static uint32_t peer_command(struct peer *p, uint8_t flags,
                                                     const uint8_t *cdb, uint32_t edtl,
                                                     const void *data, uint32_t len)
{
    uint8_t bhs[48] = {0x01, flags};
    be32_store(bhs + 16, p->itt);
    be32_store(bhs + 20, edtl);
    be32_store(bhs + 24, p->cmdsn++);
    be32_store(bhs + 28, p->exp_statsn);
    memcpy(bhs + 32, cdb, 10);
    peer_send(p, bhs, data, len);
    return p->itt++;
}

__attribute__((unused)) static uint32_t peer_read10(struct peer *p, uint32_t lba, uint16_t blocks,
                                                    uint32_t edtl)
{
    uint8_t cdb[10] = {0x28};
    be32_store(cdb + 2, lba);
    be16_store(cdb + 7, blocks);
    return peer_command(p, 0xc1, cdb, edtl, NULL, 0);
}

__attribute__((unused)) static uint32_t peer_write10(struct peer *p, uint8_t flags, uint32_t lba,
                                                     uint16_t blocks, const void *data,
                                                     uint32_t len)
{
    uint8_t cdb[10] = {0x2a};
    be32_store(cdb + 2, lba);
    be16_store(cdb + 7, blocks);
    return peer_command(p, flags, cdb, blocks * 512u, data, len);
}

/* TEST UNIT READY until the unit attentions are over. */
__attribute__((unused)) static void peer_settle(struct peer *p)
{
    static const uint8_t tur[10];
    do {
        peer_command(p, 0x81, tur, 0, NULL, 0);
        CHECK(peer_recv(p) == 0 && p->bhs[0] == 0x21);
    } while (p->bhs[3] != 0);
}

/* An immediate NOP-Out that wants an answer. */
__attribute__((unused)) static void peer_nop(struct peer *p, const void *data, uint32_t len)
{
    uint8_t bhs[48] = {0x40, 0x80};
    be32_store(bhs + 16, p->itt++);
    be32_store(bhs + 20, 0xffffffff);
    be32_store(bhs + 24, p->cmdsn);
    peer_send(p, bhs, data, len);
}

/* An immediate task management request; gives its ITT. */
__attribute__((unused)) static uint32_t peer_tmf(struct peer *p, uint8_t function, uint32_t ref_itt,
                                                 uint32_t ref_cmdsn)
{
    uint8_t bhs[48] = {0x42, (uint8_t)(0x80 | function)};
    be32_store(bhs + 16, p->itt);
    be32_store(bhs + 20, ref_itt);
    be32_store(bhs + 24, p->cmdsn);
    be32_store(bhs + 32, ref_cmdsn);
    peer_send(p, bhs, NULL, 0);
    return p->itt++;
}

__attribute__((unused)) static void peer_data_out(struct peer *p, uint8_t flags, uint32_t itt,
                                                  const uint32_t ttt_sn_off[3], const void *data,
                                                  uint32_t len)
{
    uint8_t bhs[48] = {0x05, flags};
    be32_store(bhs + 16, itt);
    be32_store(bhs + 20, ttt_sn_off[0]);
    be32_store(bhs + 36, ttt_sn_off[1]);
    be32_store(bhs + 40, ttt_sn_off[2]);
    peer_send(p, bhs, data, len);
}

/* Every test: a server without portals, and the body on a fiber of the simulator. */
struct peer_world {
    struct iscsi_server *server;
    struct peer *a;
    struct peer *b;
    void (*body)(struct peer_world *w);
};

static void peer_world_main(void *arg)
{
    struct peer_world *w = arg;
    ram_init(3);
    CHECK(iscsi_start(&(struct iscsi_options){0}, &w->server) == 0);
    w->a = calloc(1, sizeof *w->a);
    w->b = calloc(1, sizeof *w->b);
    CHECK(w->a && w->b);
    w->body(w);
    if (w->a->s) {
        peer_close(w->a);
    }
    if (w->b->s) {
        peer_close(w->b);
    }
    iscsi_drain(w->server, NULL, PEER_SECONDS(100));
    struct iscsi_counts counts;
    iscsi_counts(w->server, &counts);
    CHECK(counts.sessions == 0 && counts.connections == 0);
    CHECK(atomic_load(&ram.space_held) == 0);
    iscsi_stop(w->server);
    free(w->a);
    free(w->b);
    ram_free();
}

__attribute__((unused)) static void peer_run(void (*body)(struct peer_world *w))
{
    for (uint64_t seed = 1; seed <= 5; seed++) {
        struct peer_world w = {.body = body};
        assert_int_equal(
            rt_run(&(struct rt_options){.sim = true, .sim_seed = seed}, peer_world_main, &w), 0);
    }
}
