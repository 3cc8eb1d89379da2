/* SPDX-License-Identifier: Apache-2.0 */
#include "nbd/client.h"

static uint8_t block[1 << 20];

static void fill(uint8_t seed, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        block[i] = (uint8_t)(seed + i * 7 + i / 256);
    }
}

static void assert_reads(struct client *k, uint64_t off, const uint8_t *want, uint32_t len)
{
    static uint8_t have[1 << 20];
    uint64_t which;
    request(k, NBD_CMD_READ, 0, off, len);
    assert_int_equal(simple(k, &which), NBD_OK);
    assert_int_equal(which, off);
    get(k, have, len);
    assert_memory_equal(have, want, len);
}

static void io_body(void *arg)
{
    (void)arg;
    struct client k;
    static const uint32_t sizes[] = {1, 511, 512, 4096, 32767, 32768, 65536, 1 << 20};
    server_up(&(struct nbd_options){0});
    enter(&k, NBD_MODE_SIMPLE);
    for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
        fill((uint8_t)i, sizes[i]);
        assert_int_equal(do_write(&k, 0, 12345 * i, block, sizes[i]), NBD_OK);
        assert_reads(&k, 12345 * i, block, sizes[i]);
    }
    assert_int_equal(fake_flushes, 2); /* the creation, and the mark of the first write */
    assert_int_equal(do_write(&k, NBD_CMD_FLAG_FUA, 0, block, 4096), NBD_OK);
    assert_int_equal(fake_flushes, 3);
    assert_int_equal(do_simple(&k, NBD_CMD_FLUSH, 0, 0, 0), NBD_OK);
    assert_int_equal(fake_flushes, 4);
    static const uint8_t zeros[8192];
    assert_int_equal(do_simple(&k, NBD_CMD_WRITE_ZEROES, NBD_CMD_FLAG_FAST_ZERO, 4096, 8192), 0);
    assert_reads(&k, 4096, zeros, 8192);
    assert_int_equal(do_simple(&k, NBD_CMD_TRIM, NBD_CMD_FLAG_FUA, 0, 4096), NBD_OK);
    assert_int_equal(fake_flushes, 5);
    assert_reads(&k, 0, zeros, 4096);
    assert_int_equal(do_simple(&k, NBD_CMD_CACHE, 0, 0, 64 << 20), NBD_OK);
    assert_int_equal(fake_prefetches, 1);
    request(&k, NBD_CMD_DISC, 0, 0, 0);
    assert_closed(&k);
    hang_up(&k);
    server_down();
}

static void errors_body(void *arg)
{
    (void)arg;
    struct client k;
    const uint64_t size = 64 << 20;
    server_up(&(struct nbd_options){0});
    enter(&k, NBD_MODE_SIMPLE);
    assert_int_equal(do_simple(&k, NBD_CMD_READ, 0, size, 1), NBD_EINVAL);
    assert_int_equal(do_simple(&k, NBD_CMD_READ, 0, 0, NBD_PAYLOAD_MAX + 1), NBD_EINVAL);
    assert_int_equal(do_simple(&k, NBD_CMD_READ, NBD_CMD_FLAG_DF, 0, 1), NBD_EINVAL);
    assert_int_equal(do_write(&k, 0, size - 1, block, 2), NBD_ENOSPC);
    assert_int_equal(do_write(&k, 0, size - 1, block, 100000), NBD_ENOSPC);
    assert_int_equal(do_write(&k, NBD_CMD_FLAG_DF, 0, block, 2), NBD_EINVAL);
    assert_int_equal(do_simple(&k, NBD_CMD_TRIM, 0, size, 1), NBD_EINVAL);
    assert_int_equal(do_simple(&k, NBD_CMD_WRITE_ZEROES, 0, size, 1), NBD_ENOSPC);
    assert_int_equal(do_simple(&k, NBD_CMD_BLOCK_STATUS, 0, 0, 1), NBD_EINVAL);
    assert_int_equal(do_simple(&k, 77, 0, 0, 1 << 20), NBD_EINVAL); /* no payload follows */
    assert_int_equal(do_simple(&k, NBD_CMD_READ, 0, 0, 0), NBD_OK);
    assert_int_equal(do_write(&k, 0, 0, block, 0), NBD_OK);
    assert_int_equal(do_simple(&k, NBD_CMD_TRIM, 0, 0, 0), NBD_OK);
    fake_write_result = -ENOSPC;
    assert_int_equal(do_write(&k, 0, 0, block, 2), NBD_ENOSPC);
    fake_write_result = -EIO;
    assert_int_equal(do_write(&k, 0, 0, block, 40000), NBD_EIO);
    fake_write_result = 0;
    fake_read_result = ERR_CORRUPT_FRAME;
    assert_int_equal(do_simple(&k, NBD_CMD_READ, 0, 0, 4096), NBD_EIO);
    fake_read_result = 0;
    fake_flush_result = ERR_FENCED;
    assert_int_equal(do_simple(&k, NBD_CMD_FLUSH, 0, 0, 0), NBD_ESHUTDOWN);
    fake_flush_result = 0;
    /* An oversized write is passed over, and the next request is understood. */
    request(&k, NBD_CMD_WRITE, 0, 0, NBD_PAYLOAD_MAX + (1 << 20));
    for (int i = 0; i < 33; i++) {
        put(&k, block, 1 << 20);
        assert_int_equal(net_send_wait(k.s, 0), 0);
    }
    uint64_t which;
    assert_int_equal(simple(&k, &which), NBD_EINVAL);
    assert_int_equal(do_simple(&k, NBD_CMD_FLUSH, 0, 0, 0), NBD_OK);
    request(&k, NBD_CMD_WRITE, 0, 0, UINT32_MAX); /* too much to pass over */
    assert_closed(&k);
    hang_up(&k);
    enter(&k, NBD_MODE_SIMPLE);
    put(&k, "0123456789012345678901234567", 28); /* not a request */
    assert_closed(&k);
    hang_up(&k);
    server_down();
}

static void order_body(void *arg)
{
    (void)arg;
    struct client k;
    struct rt_event gate;
    uint64_t which;
    uint8_t byte;
    server_up(&(struct nbd_options){0});
    enter(&k, NBD_MODE_SIMPLE);
    rt_event_init(&gate);
    fake_gate_off = 1 << 20;
    fake_read_gate = &gate;
    request(&k, NBD_CMD_READ, 0, 1 << 20, 1); /* slow */
    for (uint64_t i = 0; i < 5; i++) {
        request(&k, NBD_CMD_READ, 0, i, 1);
    }
    for (uint64_t i = 0; i < 5; i++) {
        assert_int_equal(simple(&k, &which), NBD_OK);
        assert_int_equal(which, i);
        get(&k, &byte, 1);
    }
    assert_int_equal(do_write(&k, 0, 4096, block, 4096), NBD_OK);
    request(&k, NBD_CMD_DISC, 0, 0, 0); /* the slow one is answered before the end */
    rt_yield();
    rt_event_set(&gate);
    assert_int_equal(simple(&k, &which), NBD_OK);
    assert_int_equal(which, 1 << 20);
    get(&k, &byte, 1);
    assert_closed(&k);
    hang_up(&k);
    fake_read_gate = NULL;
    rt_event_destroy(&gate);
    server_down();
}

/* Writes that wait keep what they were sent, however much comes in behind them. */
static void waiting_writes_body(void *arg)
{
    (void)arg;
    struct client k;
    struct rt_event gate;
    const uint32_t count = 300;
    server_up(&(struct nbd_options){0});
    enter(&k, NBD_MODE_SIMPLE);
    rt_event_init(&gate);
    fake_write_gate = &gate;
    for (uint32_t i = 0; i < count; i++) {
        uint32_t len = i % 50 == 49 ? 50000 : 4000 + i;
        fill((uint8_t)i, len);
        request(&k, NBD_CMD_WRITE, 0, i * 65536ull, len);
        put(&k, block, len);
        assert_int_equal(net_send_wait(k.s, 1 << 20), 0);
    }
    assert_int_equal(net_send_wait(k.s, 0), 0);
    assert_int_equal(do_simple(&k, NBD_CMD_FLUSH, 0, 0, 0), NBD_OK); /* all have been received */
    rt_event_set(&gate);
    for (uint32_t i = 0; i < count; i++) {
        uint64_t which;
        assert_int_equal(simple(&k, &which), NBD_OK);
    }
    fake_write_gate = NULL;
    for (uint32_t i = 0; i < count; i++) {
        uint32_t len = i % 50 == 49 ? 50000 : 4000 + i;
        fill((uint8_t)i, len);
        assert_reads(&k, i * 65536ull, block, len);
    }
    hang_up(&k);
    rt_event_destroy(&gate);
    server_down();
}

static struct nbd_chunk assert_chunk(struct client *k, uint16_t type, uint64_t len, bool done)
{
    struct nbd_chunk c = chunk(k);
    assert_int_equal(c.type, type);
    assert_int_equal(c.payload_len, len);
    assert_int_equal(c.flags, done ? NBD_REPLY_FLAG_DONE : 0);
    return c;
}

static void write_structured(struct client *k, uint64_t off, uint32_t len)
{
    request(k, NBD_CMD_WRITE, k->ext ? NBD_CMD_FLAG_PAYLOAD_LEN : 0, off, len);
    put(k, block, len);
    if (k->ext) {
        assert_chunk(k, NBD_REPLY_NONE, 0, true);
    } else {
        uint64_t which;
        assert_int_equal(simple(k, &which), NBD_OK);
    }
}

static void holes_and_status(enum nbd_mode mode)
{
    static uint8_t body[65536];
    struct client k;
    server_up(&(struct nbd_options){.extended_headers = true});
    enter(&k, mode);
    bool ext = mode == NBD_MODE_EXTENDED;
    fill(3, 8192);
    write_structured(&k, 8192, 8192);
    request(&k, NBD_CMD_READ, 0, 0, 32768); /* hole, data, hole */
    assert_chunk(&k, NBD_REPLY_OFFSET_HOLE, 12, false);
    get(&k, body, 12);
    assert_int_equal(be64_load(body), 0);
    assert_int_equal(be32_load(body + 8), 8192);
    assert_chunk(&k, NBD_REPLY_OFFSET_DATA, 8 + 8192, false);
    get(&k, body, 8 + 8192);
    assert_int_equal(be64_load(body), 8192);
    assert_memory_equal(body + 8, block, 8192);
    assert_chunk(&k, NBD_REPLY_OFFSET_HOLE, 12, true);
    get(&k, body, 12);
    assert_int_equal(be64_load(body), 16384);
    request(&k, NBD_CMD_READ, NBD_CMD_FLAG_DF, 4096, 8192); /* in one piece */
    assert_chunk(&k, NBD_REPLY_OFFSET_DATA, 8 + 8192, true);
    get(&k, body, 8 + 8192);
    assert_memory_equal(body + 8 + 4096, block, 4096);
    request(&k, NBD_CMD_READ, 0, 8190, 12); /* two bytes of a hole are not worth a chunk */
    assert_chunk(&k, NBD_REPLY_OFFSET_DATA, 8 + 12, true);
    get(&k, body, 20);
    assert_int_equal(body[8], 0);
    assert_memory_equal(body + 10, block, 10);
    request(&k, NBD_CMD_READ, 0, 0, 0);
    assert_chunk(&k, NBD_REPLY_NONE, 0, true);
    request(&k, NBD_CMD_READ, 0, 1ull << 40, 1);
    struct nbd_chunk c = chunk(&k);
    assert_int_equal(c.type, NBD_REPLY_ERROR);
    get(&k, body, c.payload_len);
    assert_int_equal(be32_load(body), NBD_EINVAL);
    assert_int_equal(be16_load(body + 4), c.payload_len - 6);
    request(&k, NBD_CMD_BLOCK_STATUS, 0, 4096, 32768);
    size_t one = ext ? 16 : 8;
    size_t head = ext ? 8 : 4;
    assert_chunk(&k, ext ? NBD_REPLY_BLOCK_STATUS_EXT : NBD_REPLY_BLOCK_STATUS, head + 3 * one,
                 true);
    get(&k, body, head + 3 * one);
    assert_int_equal(be32_load(body), NBD_CONTEXT_ALLOCATION_ID);
    const uint64_t lens[] = {4096, 8192, 20480};
    const uint32_t states[] = {3, 0, 3};
    for (size_t i = 0; i < 3; i++) {
        const uint8_t *d = body + head + i * one;
        assert_int_equal(ext ? be64_load(d) : be32_load(d), lens[i]);
        assert_int_equal(ext ? be64_load(d + 8) : be32_load(d + 4), states[i]);
    }
    request(&k, NBD_CMD_BLOCK_STATUS, NBD_CMD_FLAG_REQ_ONE, 0, 65536);
    assert_chunk(&k, ext ? NBD_REPLY_BLOCK_STATUS_EXT : NBD_REPLY_BLOCK_STATUS, head + one, true);
    get(&k, body, head + one);
    hang_up(&k);
    server_down();
}

static void structured_body(void *arg)
{
    (void)arg;
    holes_and_status(NBD_MODE_STRUCTURED);
}

static void extended_body(void *arg)
{
    (void)arg;
    holes_and_status(NBD_MODE_EXTENDED);
}

static uint32_t error_of(struct client *k)
{
    uint8_t body[256];
    struct nbd_chunk c = chunk(k);
    if (c.payload_len > 0) {
        get(k, body, c.payload_len);
    }
    return c.type == NBD_REPLY_ERROR ? be32_load(body) : 0;
}

static void extended_payload_body(void *arg)
{
    (void)arg;
    struct client k;
    struct dev_info info;
    uint8_t body[256] = {0};
    server_up(&(struct nbd_options){.extended_headers = true});
    struct dev_create_options big = {.kind = DEV_NBD, .name = "big", .size_bytes = 16ull << 40};
    assert_int_equal(dev_create(reg, &big, &info), 0);
    greet(&k, 3);
    assert_int_equal(ask(&k, NBD_OPT_EXTENDED_HEADERS, "", 0), NBD_REP_ACK);
    assert_int_equal(select_context(&k, "big", "base:allocation"), 1);
    (void)go(&k, "big");
    k.ext = true;
    request(&k, NBD_CMD_TRIM, 0, 0, 16ull << 40); /* an effect of more than 32 bits */
    assert_int_equal(error_of(&k), 0);
    request(&k, NBD_CMD_WRITE_ZEROES, NBD_CMD_FLAG_NO_HOLE, 1, (16ull << 40) - 1);
    assert_int_equal(error_of(&k), 0);
    be64_store(body, 15ull << 40);
    be32_store(body + 8, NBD_CONTEXT_ALLOCATION_ID);
    request(&k, NBD_CMD_BLOCK_STATUS, NBD_CMD_FLAG_PAYLOAD_LEN, 1ull << 40, 12);
    put(&k, body, 12);
    struct nbd_chunk c = chunk(&k);
    assert_int_equal(c.type, NBD_REPLY_BLOCK_STATUS_EXT);
    get(&k, body, c.payload_len);
    assert_int_equal(be64_load(body + 8), 15ull << 40);
    /* A wrong context, a payload too long, and payloads where none belong: passed over. */
    be32_store(body + 8, 99);
    request(&k, NBD_CMD_BLOCK_STATUS, NBD_CMD_FLAG_PAYLOAD_LEN, 0, 12);
    put(&k, body, 12);
    assert_int_equal(error_of(&k), NBD_EINVAL);
    request(&k, NBD_CMD_BLOCK_STATUS, NBD_CMD_FLAG_PAYLOAD_LEN, 0, 200);
    put(&k, body, 200);
    assert_int_equal(error_of(&k), NBD_EINVAL);
    request(&k, NBD_CMD_READ, NBD_CMD_FLAG_PAYLOAD_LEN, 0, 100);
    put(&k, body, 100);
    assert_int_equal(error_of(&k), NBD_EINVAL);
    request(&k, 99, NBD_CMD_FLAG_PAYLOAD_LEN, 0, 100);
    put(&k, body, 100);
    assert_int_equal(error_of(&k), NBD_EINVAL);
    request(&k, NBD_CMD_FLUSH, 0, 0, 0);
    assert_int_equal(error_of(&k), 0);
    k.ext = false; /* a compact header breaks the agreement */
    request(&k, NBD_CMD_FLUSH, 0, 0, 0);
    put(&k, body, 4);
    assert_closed(&k);
    hang_up(&k);
    server_down();
}

static void removal_body(void *arg)
{
    (void)arg;
    struct client k;
    struct dev *d;
    server_up(&(struct nbd_options){0});
    enter(&k, NBD_MODE_SIMPLE);
    assert_int_equal(dev_find_nbd(reg, "disk", &d), 0);
    assert_int_equal(dev_resize(reg, d, 32 << 20, true), 0);
    assert_int_equal(do_write(&k, 0, 40 << 20, block, 1), NBD_ENOSPC);
    assert_int_equal(do_write(&k, 0, 0, block, 1), NBD_OK);
    assert_int_equal(dev_delete(reg, d, false), ERR_IN_USE);
    assert_int_equal(dev_delete(reg, d, true), 0);
    assert_closed(&k);
    hang_up(&k);
    dev_unref(d);
    server_down();
}

static void drain_body(void *arg)
{
    (void)arg;
    struct client k;
    struct rt_event gate;
    uint64_t which;
    uint8_t byte;
    server_up(&(struct nbd_options){0});
    enter(&k, NBD_MODE_SIMPLE);
    rt_event_init(&gate);
    fake_gate_off = 0;
    fake_read_gate = &gate;
    request(&k, NBD_CMD_READ, 0, 0, 1);
    assert_int_equal(do_simple(&k, NBD_CMD_FLUSH, 0, 0, 0), NBD_OK);
    uint64_t from = rt_now_ns();
    nbd_drain(server, rt_after_ms(50)); /* the read is still under way */
    assert_true(rt_now_ns() - from >= 50000000);
    assert_int_equal(do_write(&k, 0, 0, block, 40000), NBD_ESHUTDOWN);
    assert_int_equal(do_simple(&k, NBD_CMD_FLUSH, 0, 0, 0), NBD_ESHUTDOWN);
    rt_event_set(&gate);
    nbd_drain(server, rt_after_ms(10000));
    assert_int_equal(simple(&k, &which), NBD_OK);
    get(&k, &byte, 1);
    fake_read_gate = NULL;
    struct net_stream *late;
    assert_true(net_connect(address, soon(), &late) < 0);
    rt_event_destroy(&gate);
    server_down();
    assert_closed(&k);
    hang_up(&k);
}

BODY(io)
BODY(errors)
BODY(order)
BODY(waiting_writes)
BODY(structured)
BODY(extended)
BODY(extended_payload)
BODY(removal)
BODY(drain)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(io),         cmocka_unit_test(errors),
        cmocka_unit_test(order),      cmocka_unit_test(waiting_writes),
        cmocka_unit_test(structured), cmocka_unit_test(extended),
        cmocka_unit_test(removal),    cmocka_unit_test(extended_payload),
        cmocka_unit_test(drain)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
