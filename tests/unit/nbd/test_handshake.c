/* SPDX-License-Identifier: Apache-2.0 */
#include "base/rng.h"
#include "nbd/client.h"

static void export_name_body(void *arg)
{
    (void)arg;
    struct client k;
    uint8_t answer[134];
    server_up(&(struct nbd_options){0});
    for (uint32_t flags = 0; flags < 4; flags++) {
        for (int named = 0; named < 2; named++) {
            greet(&k, flags);
            option(&k, NBD_OPT_EXPORT_NAME, "disk", named ? 4 : 0);
            get(&k, answer, flags & NBD_FLAG_NO_ZEROES ? 10 : 134);
            assert_int_equal(be64_load(answer), 64 << 20);
            uint16_t have = be16_load(answer + 8);
            assert_true(have & NBD_FLAG_HAS_FLAGS && have & NBD_FLAG_CAN_MULTI_CONN);
            assert_false(have & (NBD_FLAG_READ_ONLY | NBD_FLAG_SEND_DF));
            assert_int_equal(do_simple(&k, NBD_CMD_FLUSH, 0, 0, 0), NBD_OK);
            hang_up(&k);
        }
    }
    greet(&k, 3);
    option(&k, NBD_OPT_EXPORT_NAME, "other", 5);
    assert_closed(&k);
    hang_up(&k);
    struct dev_info info;
    struct dev_create_options second = {.kind = DEV_NBD, .name = "second", .size_bytes = 512};
    assert_int_equal(dev_create(reg, &second, &info), 0);
    greet(&k, 3);
    option(&k, NBD_OPT_EXPORT_NAME, "", 0); /* not the only one any more */
    assert_closed(&k);
    hang_up(&k);
    greet(&k, 4); /* a flag that nobody offered */
    assert_closed(&k);
    hang_up(&k);
    server_down();
}

static void errors_body(void *arg)
{
    (void)arg;
    struct client k;
    uint8_t data[300];
    server_up(&(struct nbd_options){0});
    greet(&k, 3);
    assert_int_equal(ask(&k, 4711, "hello", 5), NBD_REP_ERR_UNSUP);
    assert_int_equal(ask(&k, NBD_OPT_LIST, "x", 1), NBD_REP_ERR_INVALID);
    assert_int_equal(ask(&k, NBD_OPT_STARTTLS, "", 0), NBD_REP_ERR_POLICY);
    assert_int_equal(ask(&k, NBD_OPT_EXTENDED_HEADERS, "", 0), NBD_REP_ERR_UNSUP);
    assert_int_equal(ask(&k, NBD_OPT_GO, "abc", 3), NBD_REP_ERR_INVALID);
    assert_int_equal(ask(&k, NBD_OPT_INFO, data, name_data(data, "none")), NBD_REP_ERR_UNKNOWN);
    assert_int_equal(ask(&k, NBD_OPT_GO, data, name_data(data, "none")), NBD_REP_ERR_UNKNOWN);
    assert_int_equal(select_context(&k, "disk", "base:allocation"), NBD_REP_ERR_INVALID);
    assert_int_equal(ask(&k, NBD_OPT_STRUCTURED_REPLY, "x", 1), NBD_REP_ERR_INVALID);
    assert_int_equal(ask(&k, NBD_OPT_STRUCTURED_REPLY, "", 0), NBD_REP_ACK);
    assert_int_equal(select_context(&k, "none", "base:allocation"), NBD_REP_ERR_UNKNOWN);
    assert_int_equal(select_context(&k, "disk", "base:"), 0); /* only LIST knows wildcards */
    assert_int_equal(select_context(&k, "disk", "other:thing"), 0);
    uint8_t *large = calloc(1, 100000);
    assert_int_equal(ask(&k, NBD_OPT_GO, large, 100000), NBD_REP_ERR_TOO_BIG);
    free(large);
    assert_int_equal(ask(&k, NBD_OPT_ABORT, "", 0), NBD_REP_ACK);
    assert_closed(&k);
    hang_up(&k);
    greet(&k, 3);
    put(&k, "not an option at all", 20);
    assert_closed(&k);
    hang_up(&k);
    greet(&k, 3);
    uint8_t head[16];
    nbd_option_encode(&(struct nbd_option_header){.option = 7, .len = UINT32_MAX}, head);
    put(&k, head, 16);
    struct answer a;
    assert_int_equal(answer_of(&k, 7, &a), NBD_REP_ERR_TOO_BIG);
    assert_closed(&k);
    hang_up(&k);
    struct nbd_counts n;
    nbd_counts(server, &n);
    assert_int_equal(n.handshake_failures, 2);
    server_down();
}

static void info_body(void *arg)
{
    (void)arg;
    struct client k;
    struct answer a;
    uint8_t data[300];
    unsigned seen[4] = {0};
    server_up(&(struct nbd_options){0});
    greet(&k, 3);
    uint32_t n = name_data(data, "");
    be16_store(data + n - 2, 3);
    be16_store(data + n, NBD_INFO_NAME);
    be16_store(data + n + 2, NBD_INFO_DESCRIPTION);
    be16_store(data + n + 4, NBD_INFO_BLOCK_SIZE);
    option(&k, NBD_OPT_INFO, data, n + 6);
    while (answer_of(&k, NBD_OPT_INFO, &a) == NBD_REP_INFO) {
        uint16_t which = be16_load(a.data);
        assert_true(which < 4);
        seen[which]++;
        if (which == NBD_INFO_NAME) {
            assert_int_equal(a.len, 6);
            assert_memory_equal(a.data + 2, "disk", 4);
        } else if (which == NBD_INFO_BLOCK_SIZE) {
            assert_int_equal(be32_load(a.data + 2), 1);
            assert_int_equal(be32_load(a.data + 6), 4096);
            assert_int_equal(be32_load(a.data + 10), 32 << 20);
        }
    }
    assert_int_equal(a.type, NBD_REP_ACK);
    for (int i = 0; i < 4; i++) {
        assert_int_equal(seen[i], 1);
    }
    option(&k, NBD_OPT_LIST, "", 0);
    assert_int_equal(answer_of(&k, NBD_OPT_LIST, &a), NBD_REP_SERVER);
    assert_int_equal(be32_load(a.data), 4);
    assert_memory_equal(a.data + 4, "disk", 4);
    assert_int_equal(answer_of(&k, NBD_OPT_LIST, &a), NBD_REP_ACK);
    assert_false(go(&k, "disk") & NBD_FLAG_SEND_DF);
    hang_up(&k);
    server_down();
}

static void modes_body(void *arg)
{
    (void)arg;
    struct client k;
    server_up(&(struct nbd_options){.extended_headers = true});
    greet(&k, 3);
    assert_int_equal(ask(&k, NBD_OPT_STRUCTURED_REPLY, "", 0), NBD_REP_ACK);
    assert_int_equal(ask(&k, NBD_OPT_EXTENDED_HEADERS, "", 0), NBD_REP_ACK);
    assert_int_equal(ask(&k, NBD_OPT_EXTENDED_HEADERS, "", 0), NBD_REP_ERR_INVALID);
    assert_int_equal(ask(&k, NBD_OPT_STRUCTURED_REPLY, "", 0), NBD_REP_ERR_EXT_HEADER_REQD);
    assert_int_equal(select_context(&k, "disk", "base:allocation"), 1);
    uint16_t flags = go(&k, "disk");
    assert_true(flags & NBD_FLAG_SEND_DF && flags & NBD_FLAG_BLOCK_STATUS_PAYLOAD);
    hang_up(&k);
    /* A context selected for another name of the device does not count. */
    greet(&k, 3);
    assert_int_equal(ask(&k, NBD_OPT_STRUCTURED_REPLY, "", 0), NBD_REP_ACK);
    assert_int_equal(select_context(&k, "", "base:allocation"), 1);
    (void)go(&k, "disk");
    request(&k, NBD_CMD_BLOCK_STATUS, 0, 0, 4096);
    struct nbd_chunk c = chunk(&k);
    assert_int_equal(c.type, NBD_REPLY_ERROR);
    hang_up(&k);
    server_down();
}

static void timeout_body(void *arg)
{
    (void)arg;
    struct client k;
    server_up(&(struct nbd_options){.handshake_timeout_s = 1});
    greet(&k, 3);
    put(&k, "IHAVE", 5);
    uint64_t from = rt_now_ns();
    assert_closed(&k);
    assert_true(rt_now_ns() - from < 10000000000ull);
    hang_up(&k);
    server_down();
}

static void noise_body(void *arg)
{
    (void)arg;
    struct rng g = rng_seeded(7);
    server_up(&(struct nbd_options){.extended_headers = true, .handshake_timeout_s = 1});
    for (int i = 0; i < 300; i++) {
        struct client k;
        uint8_t noise[600];
        greet(&k, 3);
        for (size_t at = 0; at < sizeof noise; at++) {
            noise[at] = rng_below(&g, 2) ? 0 : (uint8_t)rng_next(&g);
        }
        if (rng_below(&g, 2)) { /* looks like options */
            size_t step = 16 + rng_below(&g, 40);
            for (size_t at = 0; at + 16 <= sizeof noise; at += step) {
                be64_store(noise + at, NBD_MAGIC_OPTION);
                be32_store(noise + at + 8, (uint32_t)rng_below(&g, 13));
                be32_store(noise + at + 12, (uint32_t)(step - 16));
            }
        }
        put(&k, noise, rng_below(&g, sizeof noise));
        net_send_flush(k.s);
        hang_up(&k);
    }
    struct client k; /* and it still serves */
    enter(&k, NBD_MODE_SIMPLE);
    assert_int_equal(do_simple(&k, NBD_CMD_FLUSH, 0, 0, 0), NBD_OK);
    hang_up(&k);
    server_down();
}

BODY(export_name)
BODY(errors)
BODY(info)
BODY(modes)
BODY(timeout)
BODY(noise)

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(export_name), cmocka_unit_test(errors),
                                       cmocka_unit_test(info),        cmocka_unit_test(modes),
                                       cmocka_unit_test(timeout),     cmocka_unit_test(noise)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
