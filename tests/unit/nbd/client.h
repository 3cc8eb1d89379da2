/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A raw NBD client on fibers, and a server over a volume in plain memory (dev/fake_vol.h), for the
 * tests of nbd: included by one test file.
 */
#pragma once
#include "dev/fake_vol.h"
#include "nbd/nbd.h"
#include "nbd/nbd_format.h"
#include "nbd/option.h"
#include "nbd/request.h"

static struct vol *volume;
static struct dev_registry *reg;
static struct nbd_server *server;
static char address[NET_ADDRESS_SIZE];

static inline uint64_t soon(void)
{
    return rt_after_ms(20000);
}

static inline void server_up(const struct nbd_options *like)
{
    static const char *const any[] = {"127.0.0.1:0"};
    struct nbd_options opt = *like;
    struct dev_info info;
    volume = fake_vol_new();
    assert_int_equal(dev_registry_open(volume, NULL, &reg), 0);
    struct dev_create_options disk = {.kind = DEV_NBD, .name = "disk", .size_bytes = 64 << 20};
    assert_int_equal(dev_create(reg, &disk, &info), 0);
    opt.registry = reg;
    opt.addresses = any;
    opt.address_count = 1;
    assert_int_equal(nbd_start(&opt, &server), 0);
    assert_int_equal(nbd_address(server, 0, address), 0);
}

static inline void server_down(void)
{
    nbd_stop(server);
    dev_registry_close(reg);
    fake_vol_free(volume);
}

struct client {
    struct net_stream *s;
    bool ext;
};

static inline void get(struct client *k, void *dst, size_t len)
{
    assert_int_equal(net_recv_all(k->s, dst, len, soon()), 0);
}

static inline void put(struct client *k, const void *src, size_t len)
{
    assert_int_equal(net_send_copy(k->s, src, len), 0);
}

/* The next thing from the server is the end of the stream. */
static inline void assert_closed(struct client *k)
{
    uint8_t b;
    ssize_t n = net_recv(k->s, &b, 1, soon());
    assert_true(n == 0 || n == -ECONNRESET);
}

static inline void hang_up(struct client *k)
{
    net_close(k->s);
}

static inline void greet(struct client *k, uint32_t flags)
{
    uint8_t hello[18];
    *k = (struct client){0};
    assert_int_equal(net_connect(address, soon(), &k->s), 0);
    get(k, hello, sizeof hello);
    assert_int_equal(be64_load(hello), NBD_MAGIC_INIT);
    assert_int_equal(be64_load(hello + 8), NBD_MAGIC_OPTION);
    assert_int_equal(be16_load(hello + 16), 3);
    uint8_t answer[4];
    be32_store(answer, flags);
    put(k, answer, 4);
}

static inline void option(struct client *k, uint32_t opt, const void *data, uint32_t len)
{
    uint8_t head[NBD_OPTION_HEADER_BYTES];
    nbd_option_encode(&(struct nbd_option_header){.option = opt, .len = len}, head);
    put(k, head, sizeof head);
    put(k, data, len);
}

struct answer {
    uint32_t type;
    uint32_t len;
    uint8_t data[1024];
};

static inline uint32_t answer_of(struct client *k, uint32_t opt, struct answer *ret)
{
    uint8_t head[NBD_OPTION_REPLY_BYTES];
    get(k, head, sizeof head);
    assert_int_equal(be64_load(head), NBD_MAGIC_OPTION_REPLY);
    assert_int_equal(be32_load(head + 8), opt);
    ret->type = be32_load(head + 12);
    ret->len = be32_load(head + 16);
    assert_true(ret->len <= sizeof ret->data);
    if (ret->len > 0) {
        get(k, ret->data, ret->len);
    }
    return ret->type;
}

/* One option with one reply. */
static inline uint32_t ask(struct client *k, uint32_t opt, const void *data, uint32_t len)
{
    struct answer a;
    option(k, opt, data, len);
    return answer_of(k, opt, &a);
}

static inline uint32_t name_data(uint8_t *out, const char *name)
{
    uint32_t n = (uint32_t)strlen(name);
    be32_store(out, n);
    memcpy(out + 4, name, n);
    be16_store(out + 4 + n, 0);
    return n + 6;
}

/* Gives the transmission flags. */
static inline uint16_t go(struct client *k, const char *name)
{
    struct answer a;
    uint8_t data[300];
    uint16_t flags = 0;
    option(k, NBD_OPT_GO, data, name_data(data, name));
    while (answer_of(k, NBD_OPT_GO, &a) == NBD_REP_INFO) {
        if (be16_load(a.data) == NBD_INFO_EXPORT) {
            flags = be16_load(a.data + 10);
        }
    }
    assert_int_equal(a.type, NBD_REP_ACK);
    return flags;
}

static inline uint32_t select_context(struct client *k, const char *name, const char *query)
{
    struct answer a;
    uint8_t data[300];
    uint32_t n = name_data(data, name) - 2;
    be32_store(data + n, 1);
    be32_store(data + n + 4, (uint32_t)strlen(query));
    memcpy(data + n + 8, query, strlen(query));
    option(k, NBD_OPT_SET_META_CONTEXT, data, n + 8 + (uint32_t)strlen(query));
    uint32_t contexts = 0;
    while (answer_of(k, NBD_OPT_SET_META_CONTEXT, &a) == NBD_REP_META_CONTEXT) {
        contexts++;
    }
    return a.type == NBD_REP_ACK ? contexts : a.type;
}

static inline void enter(struct client *k, enum nbd_mode mode)
{
    greet(k, 3);
    if (mode == NBD_MODE_STRUCTURED) {
        assert_int_equal(ask(k, NBD_OPT_STRUCTURED_REPLY, "", 0), NBD_REP_ACK);
    } else if (mode == NBD_MODE_EXTENDED) {
        assert_int_equal(ask(k, NBD_OPT_EXTENDED_HEADERS, "", 0), NBD_REP_ACK);
    }
    if (mode != NBD_MODE_SIMPLE) {
        assert_int_equal(select_context(k, "disk", "base:allocation"), 1);
    }
    (void)go(k, "disk");
    k->ext = mode == NBD_MODE_EXTENDED;
}

static inline void request(struct client *k, uint16_t command, uint16_t flags, uint64_t off,
                           uint64_t len)
{
    uint8_t head[NBD_REQUEST_EXT_BYTES] = {0};
    be32_store(head, k->ext ? NBD_MAGIC_REQUEST_EXT : NBD_MAGIC_REQUEST);
    be16_store(head + 4, flags);
    be16_store(head + 6, command);
    be64_store(head + 8, off ^ 0xc00c1e); /* the cookie */
    be64_store(head + 16, off);
    if (k->ext) {
        be64_store(head + 24, len);
    } else {
        be32_store(head + 24, (uint32_t)len);
    }
    put(k, head, k->ext ? NBD_REQUEST_EXT_BYTES : NBD_REQUEST_BYTES);
}

/* A simple reply: its error; *ret_off is the offset that the request had. */
static inline uint32_t simple(struct client *k, uint64_t *ret_off)
{
    uint8_t head[NBD_SIMPLE_REPLY_BYTES];
    get(k, head, sizeof head);
    assert_int_equal(be32_load(head), NBD_MAGIC_SIMPLE_REPLY);
    *ret_off = be64_load(head + 8) ^ 0xc00c1e;
    return be32_load(head + 4);
}

static inline uint32_t do_simple(struct client *k, uint16_t command, uint16_t flags, uint64_t off,
                                 uint64_t len)
{
    uint64_t which;
    request(k, command, flags, off, len);
    uint32_t error = simple(k, &which);
    assert_int_equal(which, off);
    return error;
}

static inline uint32_t do_write(struct client *k, uint16_t flags, uint64_t off, const void *data,
                                uint32_t len)
{
    uint64_t which;
    request(k, NBD_CMD_WRITE, flags, off, len);
    put(k, data, len);
    uint32_t error = simple(k, &which);
    assert_int_equal(which, off);
    return error;
}

static inline struct nbd_chunk chunk(struct client *k)
{
    uint8_t head[NBD_CHUNK_EXT_BYTES];
    get(k, head, k->ext ? NBD_CHUNK_EXT_BYTES : NBD_CHUNK_BYTES);
    assert_int_equal(be32_load(head), k->ext ? NBD_MAGIC_CHUNK_EXT : NBD_MAGIC_CHUNK);
    return (struct nbd_chunk){.flags = be16_load(head + 4),
                              .type = be16_load(head + 6),
                              .cookie = be64_load(head + 8) ^ 0xc00c1e,
                              .payload_len = k->ext ? be64_load(head + 24) : be32_load(head + 16)};
}

static inline void run_on(void (*body)(void *arg), unsigned cores)
{
    fake_flushes = 0;
    fake_reads = 0;
    fake_prefetches = 0;
    fake_flush_result = 0;
    fake_commit_result = 0;
    fake_write_result = 0;
    fake_read_result = 0;
    fake_read_gate = NULL;
    fake_write_gate = NULL;
    assert_int_equal(rt_run(&(struct rt_options){.cores = cores}, body, NULL), 0);
}

#define BODY(name)                                                                                 \
    static void name(void **state)                                                                 \
    {                                                                                              \
        (void)state;                                                                               \
        run_on(name##_body, 1);                                                                    \
    }
