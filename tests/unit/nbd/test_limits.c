/* SPDX-License-Identifier: Apache-2.0 */
/* What one peer can make the server hold. */
#include "dev/loss_record.h"
#include "nbd/client.h"
#include "nbd/conn.h"

static uint8_t block[1 << 20];

/* The value once the server has gone as far as it can go without us: it moved, and stands still. */
static uint64_t steady(uint64_t (*value)(void))
{
    uint64_t have = value();
    uint64_t deadline_ns = soon();
    for (int same = 0; same < 30 && rt_now_ns() < deadline_ns;) {
        assert_int_equal(rt_sleep_ms(5), 0);
        uint64_t now = value();
        same = now == have && now > 0 ? same + 1 : 0;
        have = now;
    }
    return have;
}

static uint64_t reads(void)
{
    return fake_reads;
}

static uint64_t ingress(void)
{
    return rt_mem_used(RT_MEM_INGRESS);
}

static uint64_t pool(void)
{
    return rt_credits_used(&server->ingress);
}

/* It asks for much and reads nothing: the server stops at its limit, and serves others. */
static void deaf_peer_body(void *arg)
{
    (void)arg;
    struct client deaf;
    struct client other;
    server_up(&(struct nbd_options){0});
    enter(&deaf, NBD_MODE_SIMPLE);
    for (uint64_t i = 0; i < 60; i++) {
        request(&deaf, NBD_CMD_READ, 0, i << 20, 1 << 20);
    }
    /* Its limit, and what the kernel's buffers took. */
    uint64_t held = steady(reads);
    assert_true(held >= 12 && held < 40);
    enter(&other, NBD_MODE_SIMPLE);
    assert_int_equal(do_write(&other, 0, 0, block, 4096), NBD_OK);
    hang_up(&other);
    for (uint64_t i = 0; i < 60; i++) { /* and all of it is there in the end */
        uint64_t which;
        assert_int_equal(simple(&deaf, &which), NBD_OK);
        get(&deaf, block, sizeof block);
    }
    assert_int_equal(fake_reads, 60);
    hang_up(&deaf);
    server_down();
}

/* Writes wait: what is received is bounded. */
static void stuck_writes_body(void *arg)
{
    (void)arg;
    struct client k;
    struct client other;
    struct rt_event gate;
    uint64_t which;
    server_up(&(struct nbd_options){0});
    enter(&k, NBD_MODE_SIMPLE);
    rt_event_init(&gate);
    fake_write_gate = &gate;
    const uint64_t sent = 64;
    for (uint64_t i = 0; i < sent; i++) {
        request(&k, NBD_CMD_WRITE, 0, i << 20, 1 << 20);
        put(&k, block, 1 << 20);
    }
    uint64_t held = steady(ingress);
    assert_true(held > (NBD_INGRESS_MAX >> 1) && held <= NBD_INGRESS_MAX + (2 << 20));
    enter(&other, NBD_MODE_SIMPLE);
    assert_int_equal(do_simple(&other, NBD_CMD_READ, 0, 63 << 20, 0), NBD_OK);
    hang_up(&other);
    rt_event_set(&gate);
    for (uint64_t i = 0; i < sent; i++) {
        assert_int_equal(simple(&k, &which), NBD_OK);
    }
    hang_up(&k);
    fake_write_gate = NULL;
    rt_event_destroy(&gate);
    server_down();
    assert_int_equal(rt_mem_used(RT_MEM_INGRESS), 0);
}

static void small_stuck_writes_body(void *arg)
{
    (void)arg;
    struct client k;
    struct rt_event gate;
    uint64_t which;
    server_up(&(struct nbd_options){0});
    enter(&k, NBD_MODE_SIMPLE);
    rt_event_init(&gate);
    fake_write_gate = &gate;
    const uint64_t sent = 1000;
    for (uint64_t i = 0; i < sent; i++) {
        request(&k, NBD_CMD_WRITE, 0, i << 16, 16000);
        put(&k, block, 16000);
    }
    uint64_t held = steady(ingress);
    assert_true(held > NBD_RX_PINNED_MAX >> 1 && held <= NBD_RX_PINNED_MAX + 2 * NBD_RX_BYTES);
    rt_event_set(&gate);
    for (uint64_t i = 0; i < sent; i++) {
        assert_int_equal(simple(&k, &which), NBD_OK);
    }
    hang_up(&k);
    fake_write_gate = NULL;
    rt_event_destroy(&gate);
    server_down();
    assert_int_equal(rt_mem_used(RT_MEM_INGRESS), 0);
}

static struct client idlers[6];

/* Peers that announce much and send nothing use up the pool for large writes. */
static void hoard(void)
{
    for (size_t i = 0; i < ARRAY_LEN(idlers); i++) {
        enter(&idlers[i], NBD_MODE_SIMPLE);
        request(&idlers[i], NBD_CMD_WRITE, 0, 0, 32 << 20);
        net_send_flush(idlers[i].s);
    }
    assert_int_equal(steady(pool), server->ingress.total);
}

static void hoarders_go(void)
{
    for (size_t i = 0; i < ARRAY_LEN(idlers); i++) {
        hang_up(&idlers[i]);
    }
}

/* Others write on. */
static void hoarders_body(void *arg)
{
    (void)arg;
    static uint8_t back[300000];
    struct client k;
    struct rt_event gate;
    uint64_t which;
    server_up(&(struct nbd_options){0});
    hoard();
    enter(&k, NBD_MODE_SIMPLE);
    for (size_t i = 0; i < sizeof back; i++) {
        block[i] = (uint8_t)(i * 31 + i / 512);
    }
    assert_int_equal(do_write(&k, NBD_CMD_FLAG_FUA, 4097, block, sizeof back), NBD_OK);
    assert_int_equal(fake_flushes, 3); /* the creation, the mark, and FUA */
    request(&k, NBD_CMD_READ, 0, 4097, sizeof back);
    assert_int_equal(simple(&k, &which), NBD_OK);
    get(&k, back, sizeof back);
    assert_memory_equal(back, block, sizeof back);
    fake_write_result = -ENOSPC; /* an error in the middle leaves the stream in step */
    assert_int_equal(do_write(&k, 0, 0, block, 1 << 20), NBD_ENOSPC);
    fake_write_result = 0;
    rt_event_init(&gate);
    fake_write_gate = &gate;
    for (uint64_t i = 0; i < 100; i++) {
        request(&k, NBD_CMD_WRITE, 0, i << 16, 16000);
        put(&k, block, 16000);
    }
    (void)steady(ingress);
    rt_event_set(&gate);
    for (uint64_t i = 0; i < 100; i++) {
        assert_int_equal(simple(&k, &which), NBD_OK);
    }
    fake_write_gate = NULL;
    rt_event_destroy(&gate);
    hoarders_go();
    hang_up(&k);
    server_down();
    assert_int_equal(rt_mem_used(RT_MEM_INGRESS), 0);
}

/* A server after a crash: the clients of its disk are owed an error. */
static void server_up_after_crash(void)
{
    static const char *const any[] = {"127.0.0.1:0"};
    struct dev *d;
    struct dev_info info;
    struct vol_txn *t;
    uint8_t key[DEV_LOSS_KEY_BYTES];
    char nobody[] = "";
    struct dev_loss_nexus n = {.name = nobody, .active = true};
    struct dev_loss_record rec = {.epoch = 1, .nexuses = {.at = &n, .len = 1, .cap = 1}};
    struct bytes_writer w = {0};
    server_up(&(struct nbd_options){0});
    assert_int_equal(dev_find_nbd(reg, "disk", &d), 0);
    dev_info(d, &info);
    dev_unref(d);
    nbd_stop(server);
    dev_registry_close(reg);
    dev_loss_key(&info.uuid, key);
    dev_loss_encode(&rec, &w);
    assert_int_equal(vol_txn_begin(volume, &t), 0);
    assert_int_equal(vol_txn_put(t, key, sizeof key, w.data, w.len), 0);
    assert_int_equal(vol_txn_commit(t), 0);
    bytes_writer_free(&w);
    assert_int_equal(dev_registry_open(volume, NULL, &reg), 0);
    struct nbd_options opt = {.registry = reg, .addresses = any, .address_count = 1};
    assert_int_equal(nbd_start(&opt, &server), 0);
    assert_int_equal(nbd_address(server, 0, address), 0);
}

/* Who goes in the midst of a write that passes through has not been told of what was lost. */
static void untold_body(void *arg)
{
    (void)arg;
    struct client k;
    server_up_after_crash();
    hoard();
    enter(&k, NBD_MODE_SIMPLE);
    request(&k, NBD_CMD_WRITE, NBD_CMD_FLAG_FUA, 0, 1 << 20);
    put(&k, block, 600 << 10);
    assert_int_equal(net_send_wait(k.s, 0), 0);
    (void)steady(ingress);
    hang_up(&k);
    enter(&k, NBD_MODE_SIMPLE);
    assert_int_equal(do_write(&k, NBD_CMD_FLAG_FUA, 0, block, 1 << 20), NBD_EIO);
    assert_int_equal(do_write(&k, NBD_CMD_FLAG_FUA, 0, block, 1 << 20), NBD_OK);
    hoarders_go();
    hang_up(&k);
    server_down();
}

/* Requests in flight are bounded, and their cancellation frees everything. */
static void many_requests_body(void *arg)
{
    (void)arg;
    struct client k;
    struct rt_event gate;
    server_up(&(struct nbd_options){0});
    enter(&k, NBD_MODE_SIMPLE);
    rt_event_init(&gate);
    fake_gate_off = 0;
    fake_read_gate = &gate;
    for (uint64_t i = 0; i < 3000; i++) {
        request(&k, NBD_CMD_READ, 0, i, 1);
    }
    assert_int_equal(steady(reads), NBD_INFLIGHT_MAX);
    net_shutdown(k.s);
    hang_up(&k);
    server_down(); /* cancels what waits */
    fake_read_gate = NULL;
    rt_event_destroy(&gate);
}

/* Nothing is held for a connection that does nothing. */
static void idle_body(void *arg)
{
    (void)arg;
    static struct client k[50];
    server_up(&(struct nbd_options){0});
    for (size_t i = 0; i < ARRAY_LEN(k); i++) {
        enter(&k[i], NBD_MODE_SIMPLE);
        assert_int_equal(do_simple(&k[i], NBD_CMD_FLUSH, 0, 0, 0), NBD_OK);
    }
    uint64_t deadline_ns = soon();
    while (rt_mem_used(RT_MEM_INGRESS) > 0 && rt_now_ns() < deadline_ns) {
        assert_int_equal(rt_sleep_ms(5), 0);
    }
    assert_int_equal(rt_mem_used(RT_MEM_INGRESS), 0);
    for (size_t i = 0; i < ARRAY_LEN(k); i++) {
        assert_int_equal(do_write(&k[i], 0, i << 13, block, 5000), NBD_OK);
        hang_up(&k[i]);
    }
    server_down();
}

BODY(deaf_peer)
BODY(stuck_writes)
BODY(small_stuck_writes)
BODY(hoarders)
BODY(untold)
BODY(many_requests)
BODY(idle)

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(deaf_peer),
                                       cmocka_unit_test(stuck_writes),
                                       cmocka_unit_test(small_stuck_writes),
                                       cmocka_unit_test(many_requests),
                                       cmocka_unit_test(hoarders),
                                       cmocka_unit_test(untold),
                                       cmocka_unit_test(idle)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
