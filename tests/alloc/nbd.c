/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The N-th allocation fails, for each N of a client's life on NBD: connecting, every option, every
 * command. Whatever the server does to that client, it answers or ends the connection; what it
 * answers is right; another connection goes on as if nothing had been; and everything that was
 * taken is given back.
 */
#include "base/endian.h"
#include "base/err.h"
#include "dev/dev.h"
#include "drive.h"
#include "nbd/conn.h"
#include "nbd/option.h"
#include "obj/obj.h"
#include <string.h>

#define TRIES 8
#define MIB (1u << 20)
#define READS_AT 0u         /* a mebibyte that nobody writes */
#define WRITES_AT (2 * MIB) /* the client under test */
#define OTHERS_AT (3 * MIB) /* the other one */
#define LONG (256u << 10)

static struct vol *v;
static struct dev_registry *reg;
static struct nbd_server *server;
static bool must; /* memory does not fail: everything has to succeed */
static uint8_t pattern[LONG];

struct client {
    struct net_stream *s;
};

static int get(struct client *k, void *dst, size_t len)
{
    int r = net_recv_all(k->s, dst, len, rt_after_ms(600000));
    CHECK(r != -ETIMEDOUT && (r == 0 || !must));
    return r;
}

static void put(struct client *k, const void *src, size_t len)
{
    int r;
    FAIL_NOT(r = net_send_copy(k->s, src, len));
    CHECK(r == 0 || !must);
}

static void serve(void *arg)
{
    struct net_stream *s = arg;
    nbd_conn_serve(s, server);
}

/* Up to the options. */
static int greet(struct client *k)
{
    struct net_stream *far;
    uint8_t hello[18];
    int r;
    FAIL_NOT(r = net_pipe(&k->s, &far));
    CHECK(r == 0);
    FAIL_NOT(r = rt_spawn("serve", serve, far));
    CHECK(r == 0);
    r = get(k, hello, sizeof hello);
    if (r == 0) {
        put(k, "\0\0\0\3", 4);
    }
    return r;
}

static void hang_up(struct client *k)
{
    FAIL_NOT(net_close(k->s));
}

/* The type of the last reply, or the stream's error. */
static int64_t option(struct client *k, uint32_t opt, const void *data, uint32_t len)
{
    static uint8_t body[4096];
    uint8_t head[NBD_OPTION_REPLY_BYTES] = {0};
    nbd_option_encode(&(struct nbd_option_header){.option = opt, .len = len}, head);
    put(k, head, NBD_OPTION_HEADER_BYTES);
    put(k, data, len);
    for (;;) {
        int r = get(k, head, sizeof head);
        if (r < 0) {
            return r;
        }
        uint32_t type = be32_load(head + 12);
        uint32_t n = be32_load(head + 16);
        CHECK(be64_load(head) == NBD_MAGIC_OPTION_REPLY && be32_load(head + 8) == opt);
        CHECK(n <= sizeof body);
        r = n > 0 ? get(k, body, n) : 0;
        if (r < 0) {
            return r;
        }
        if (type != NBD_REP_SERVER && type != NBD_REP_INFO && type != NBD_REP_META_CONTEXT) {
            CHECK(!must || type == NBD_REP_ACK);
            return type;
        }
    }
}

static int negotiate(struct client *k)
{
    static const uint8_t info[] = "\0\0\0\4disk\0\2\0\1\0\3";
    static const uint8_t meta[] = "\0\0\0\4disk\0\0\0\1\0\0\0\17base:allocation";
    static const struct {
        uint32_t opt;
        const uint8_t *data;
        uint32_t len;
    } all[] = {
        {NBD_OPT_LIST, info, 0},
        {NBD_OPT_INFO, info, sizeof info - 1},
        {NBD_OPT_STRUCTURED_REPLY, info, 0},
        {NBD_OPT_LIST_META_CONTEXT, meta, sizeof meta - 1},
        {NBD_OPT_SET_META_CONTEXT, meta, sizeof meta - 1},
        {NBD_OPT_GO, info, sizeof info - 1},
    };
    int64_t r = greet(k);
    for (size_t i = 0; i < ARRAY_LEN(all) && r >= 0; i++) {
        r = option(k, all[i].opt, all[i].data, all[i].len);
        if (r >= 0 && r != NBD_REP_ACK) {
            r = -EPROTO; /* refused for want of memory */
        }
    }
    if (r < 0) {
        hang_up(k);
    }
    return r < 0 ? (int)r : 0;
}

struct command {
    uint16_t command;
    uint16_t flags;
    uint32_t off;
    uint32_t len;
};

static void check_data(const struct command *c, const uint8_t *payload, uint32_t len)
{
    uint64_t at = be64_load(payload);
    CHECK(at >= c->off && at + len - 8 <= c->off + c->len);
    CHECK(payload[8] == (at < MIB ? 0x33 : 0x5a));
    CHECK(len == 9 || memcmp(payload + 8, payload + 9, len - 9) == 0);
}

/* A simple reply, or a chunk of a structured one: the protocol's error, or the stream's. */
static int chunk(struct client *k, const struct command *c, bool *ret_done)
{
    static uint8_t payload[MIB + 64];
    uint8_t head[NBD_CHUNK_BYTES];
    int r = get(k, head, NBD_SIMPLE_REPLY_BYTES);
    if (r < 0) {
        return r;
    }
    CHECK(be64_load(head + 8) == c->off);
    if (be32_load(head) == NBD_MAGIC_SIMPLE_REPLY) {
        *ret_done = true;
        return (int)be32_load(head + 4);
    }
    CHECK(be32_load(head) == NBD_MAGIC_CHUNK);
    r = get(k, head + NBD_SIMPLE_REPLY_BYTES, sizeof head - NBD_SIMPLE_REPLY_BYTES);
    if (r < 0) {
        return r;
    }
    uint16_t type = be16_load(head + 6);
    uint32_t len = be32_load(head + 16);
    *ret_done = be16_load(head + 4) & NBD_REPLY_FLAG_DONE;
    CHECK(len <= sizeof payload);
    r = len > 0 ? get(k, payload, len) : 0;
    if (r == 0 && type == NBD_REPLY_OFFSET_DATA) {
        check_data(c, payload, len);
    }
    return r == 0 && type == NBD_REPLY_ERROR ? (int)be32_load(payload) : r;
}

static int reply(struct client *k, const struct command *c)
{
    bool done = false;
    int error = 0;
    while (!done) {
        int r = chunk(k, c, &done);
        if (r < 0) {
            return r;
        }
        error = r > 0 ? r : error;
    }
    return error;
}

/* 0, the protocol's error, or the stream's. */
static int run(struct client *k, const struct command *c)
{
    uint8_t head[NBD_REQUEST_BYTES];
    be32_store(head, NBD_MAGIC_REQUEST);
    be16_store(head + 4, c->flags);
    be16_store(head + 6, c->command);
    be64_store(head + 8, c->off);
    be64_store(head + 16, c->off);
    be32_store(head + 24, c->len);
    put(k, head, sizeof head);
    if (c->command == NBD_CMD_WRITE) {
        put(k, pattern, c->len);
    }
    int r = c->command == NBD_CMD_DISC ? 0 : reply(k, c);
    CHECK(!must || r == 0);
    return r;
}

static int commands(struct client *k, uint32_t at)
{
    const struct command all[] = {
        {NBD_CMD_READ, 0, READS_AT + 512, 4096},
        {NBD_CMD_READ, NBD_CMD_FLAG_DF, READS_AT, 65536},
        {NBD_CMD_READ, 0, READS_AT, MIB},
        {NBD_CMD_WRITE, 0, at, 4096},
        {NBD_CMD_WRITE, 0, at, LONG},
        {NBD_CMD_WRITE, NBD_CMD_FLAG_FUA, at + 1000, 40000},
        {NBD_CMD_FLUSH, 0, 0, 0},
        {NBD_CMD_BLOCK_STATUS, 0, 0, 4 * MIB},
        {NBD_CMD_WRITE_ZEROES, NBD_CMD_FLAG_NO_HOLE, at + LONG, 65536},
        {NBD_CMD_TRIM, 0, at + LONG, 65536},
        {NBD_CMD_CACHE, 0, READS_AT, MIB},
    };
    for (size_t i = 0; i < ARRAY_LEN(all); i++) {
        int r = run(k, &all[i]);
        if (r < 0) {
            return r;
        }
        if (r == 0 && all[i].command == NBD_CMD_WRITE) {
            const struct command back = {NBD_CMD_READ, 0, all[i].off, all[i].len};
            r = run(k, &back);
        }
        if (r < 0) {
            return r;
        }
    }
    return 0;
}

static void leave(struct client *k)
{
    (void)run(k, &(struct command){.command = NBD_CMD_DISC});
    hang_up(k);
}

static int session(uint32_t at)
{
    struct client k;
    int r = negotiate(&k);
    if (r < 0) {
        return r;
    }
    r = commands(&k, at);
    if (r < 0) {
        hang_up(&k);
        return r;
    }
    leave(&k);
    return 0;
}

/* With its first mebibyte written. */
static void make_device(struct obj_store *store)
{
    struct vol_options opt = {
        .store = store, .owner = "here", .memory_bytes = 64u << 20, .rotate_after_ms = 50};
    struct dev_create_options disk = {.kind = DEV_NBD, .name = "disk", .size_bytes = 4 * MIB};
    struct dev_info info;
    struct dev *d;
    struct rt_buf *b;
    struct rt_chain c = {0};
    CHECK(vol_format(store, &(struct vol_format_options){0}) == 0);
    CHECK(vol_open(&opt, &v) == 0);
    CHECK(dev_registry_open(v, NULL, &reg) == 0);
    CHECK(dev_create(reg, &disk, &info) == 0);
    CHECK(dev_find_nbd(reg, "disk", &d) == 0);
    CHECK(rt_buf_alloc(MIB, RT_MEM_INGRESS, &b) == 0);
    memset(b->data, 0x33, MIB);
    CHECK(rt_chain_add(&c, b, b->data, MIB) == 0);
    rt_buf_unref(b);
    CHECK(dev_write(d, 0, &c, 0, NULL) == 0);
    CHECK(dev_flush(d) == 0);
    rt_chain_free(&c);
    dev_unref(d);
}

static void check_given_back(void)
{
    CHECK(rt_sleep_ms(100) == 0); /* connections that were closed come to their end */
    CHECK(list_is_empty(&server->cores[0].conns) && server->stranger_count == 0);
    CHECK(rt_credits_used(&server->ingress) == 0);
    CHECK(rt_mem_used(RT_MEM_CONNECTIONS) == 0);
}

static void use_server(void)
{
    struct client other;
    must = true;
    CHECK(negotiate(&other) == 0);
    CHECK(commands(&other, OTHERS_AT) == 0);
    must = false;
    drive_arm();
    for (int i = 0; i < TRIES && session(WRITES_AT) < 0; i++) {
    }
    drive_disarm();
    must = true;
    CHECK(run(&other, &(struct command){NBD_CMD_READ, 0, OTHERS_AT, LONG}) == 0);
    CHECK(commands(&other, OTHERS_AT) == 0);
    CHECK(session(WRITES_AT) == 0);
    leave(&other);
    check_given_back();
}

static void scenario(void *arg)
{
    (void)arg;
    struct obj_store *store;
    memset(pattern, 0x5a, sizeof pattern);
    CHECK(obj_open("memory:", &store) == 0);
    make_device(store);
    CHECK(nbd_start(&(struct nbd_options){.registry = reg}, &server) == 0);
    use_server();
    nbd_stop(server);
    dev_registry_close(reg);
    CHECK(vol_recount(v) == 0);
    CHECK(vol_close(v) == 0);
    obj_close(store);
}

int main(int argc, char **argv)
{
    return drive_main(argc, argv, scenario);
}
