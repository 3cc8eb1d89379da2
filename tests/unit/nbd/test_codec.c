/* SPDX-License-Identifier: Apache-2.0 */
#include "base/err.h"
#include "base/rng.h"
#include "nbd/option.h"
#include "nbd/request.h"
#include "unit.h"

static const uint8_t go[] = {0, 0, 0, 3, 'a', 'b', 'c', 0, 3, 0, 1, 0, 3, 0, 99};

static void info_is_read(void **state)
{
    (void)state;
    struct nbd_info_request q;
    assert_int_equal(nbd_info_decode(go, sizeof go, &q), 0);
    assert_int_equal(q.name.len, 3);
    assert_memory_equal(q.name.data, "abc", 3);
    assert_true(q.want_name && q.want_block_size && !q.want_description);
    for (size_t n = 0; n < sizeof go; n++) {
        assert_int_equal(nbd_info_decode(go, n, &q), -EINVAL);
    }
    uint8_t longer[sizeof go + 1] = {0};
    memcpy(longer, go, sizeof go);
    assert_int_equal(nbd_info_decode(longer, sizeof longer, &q), -EINVAL);
}

static size_t meta_of(uint8_t *out, const char *const *queries, uint32_t count)
{
    struct bytes_writer w = {0};
    bytes_put_be32(&w, 1);
    bytes_put(&w, "x", 1);
    bytes_put_be32(&w, count);
    for (uint32_t i = 0; i < count; i++) {
        bytes_put_be32(&w, (uint32_t)strlen(queries[i]));
        bytes_put(&w, queries[i], strlen(queries[i]));
    }
    assert_true(w.len <= 512);
    memcpy(out, w.data, w.len);
    size_t len = w.len;
    bytes_writer_free(&w);
    return len;
}

static void meta_is_read(void **state)
{
    (void)state;
    uint8_t in[512];
    struct nbd_meta_request q;
    const char *const queries[] = {"qemu:dirty", "base:allocation", "base:"};
    size_t len = meta_of(in, queries, 3);
    assert_int_equal(nbd_meta_decode(in, len, &q), 0);
    assert_true(q.allocation && q.wildcard && q.queries == 3);
    for (size_t n = 0; n < len; n++) {
        assert_int_equal(nbd_meta_decode(in, n, &q), -EINVAL);
    }
    len = meta_of(in, (const char *const[]){"base:alloc", "base:allocations"}, 2);
    assert_int_equal(nbd_meta_decode(in, len, &q), 0);
    assert_false(q.allocation || q.wildcard);
    uint8_t huge[] = {0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff};
    assert_int_equal(nbd_meta_decode(huge, sizeof huge, &q), -EINVAL);
    static const uint8_t long_name[4 + 5000] = {0, 0, 0x13, 0x88};
    assert_int_equal(nbd_meta_decode(long_name, sizeof long_name, &q), -EINVAL);
}

static struct nbd_request request(uint16_t command, uint16_t flags, uint64_t off, uint64_t len)
{
    return (struct nbd_request){.command = command, .flags = flags, .off = off, .len = len};
}

static void requests_are_checked(void **state)
{
    (void)state;
    static const struct {
        uint16_t command;
        uint16_t flags;
        uint64_t len;
        enum nbd_mode mode;
        enum nbd_error want;
    } cases[] = {
        {NBD_CMD_READ, 0, 4096, NBD_MODE_SIMPLE, NBD_OK},
        {NBD_CMD_READ, NBD_CMD_FLAG_FUA, 4096, NBD_MODE_SIMPLE, NBD_OK},
        {NBD_CMD_READ, NBD_CMD_FLAG_DF, 4096, NBD_MODE_SIMPLE, NBD_EINVAL},
        {NBD_CMD_READ, NBD_CMD_FLAG_DF, 4096, NBD_MODE_STRUCTURED, NBD_OK},
        {NBD_CMD_READ, NBD_CMD_FLAG_PAYLOAD_LEN, 4096, NBD_MODE_EXTENDED, NBD_EINVAL},
        {NBD_CMD_READ, 0, NBD_PAYLOAD_MAX, NBD_MODE_SIMPLE, NBD_OK},
        {NBD_CMD_READ, 0, NBD_PAYLOAD_MAX + 1, NBD_MODE_SIMPLE, NBD_EINVAL},
        {NBD_CMD_WRITE, NBD_CMD_FLAG_PAYLOAD_LEN, 4096, NBD_MODE_STRUCTURED, NBD_EINVAL},
        {NBD_CMD_WRITE, NBD_CMD_FLAG_PAYLOAD_LEN, 4096, NBD_MODE_EXTENDED, NBD_OK},
        {NBD_CMD_WRITE, NBD_CMD_FLAG_NO_HOLE, 4096, NBD_MODE_SIMPLE, NBD_EINVAL},
        {NBD_CMD_WRITE_ZEROES, NBD_CMD_FLAG_NO_HOLE | NBD_CMD_FLAG_FAST_ZERO, UINT32_MAX,
         NBD_MODE_SIMPLE, NBD_OK},
        {NBD_CMD_TRIM, NBD_CMD_FLAG_NO_HOLE, 4096, NBD_MODE_SIMPLE, NBD_EINVAL},
        {NBD_CMD_TRIM, NBD_CMD_FLAG_FUA, UINT32_MAX, NBD_MODE_SIMPLE, NBD_OK},
        {NBD_CMD_FLUSH, NBD_CMD_FLAG_FUA, 0, NBD_MODE_SIMPLE, NBD_OK},
        {NBD_CMD_FLUSH, 0, 1, NBD_MODE_SIMPLE, NBD_EINVAL},
        {NBD_CMD_BLOCK_STATUS, NBD_CMD_FLAG_REQ_ONE, 4096, NBD_MODE_STRUCTURED, NBD_OK},
        {NBD_CMD_BLOCK_STATUS, 0, 0, NBD_MODE_STRUCTURED, NBD_EINVAL},
        {8, 0, 0, NBD_MODE_SIMPLE, NBD_EINVAL},
        {0xffff, 0, 0, NBD_MODE_EXTENDED, NBD_EINVAL},
        {NBD_CMD_READ, 1 << 15, 4096, NBD_MODE_SIMPLE, NBD_EINVAL},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct nbd_request q = request(cases[i].command, cases[i].flags, 0, cases[i].len);
        assert_int_equal(nbd_request_check(&q, cases[i].mode, true), cases[i].want);
    }
    struct nbd_request status = request(NBD_CMD_BLOCK_STATUS, 0, 0, 4096);
    assert_int_equal(nbd_request_check(&status, NBD_MODE_STRUCTURED, false), NBD_EINVAL);
}

static void ranges_are_checked(void **state)
{
    (void)state;
    struct nbd_request q = request(NBD_CMD_WRITE, 0, 1000, 24);
    assert_int_equal(nbd_request_check_range(&q, 1024), NBD_OK);
    q.off++;
    assert_int_equal(nbd_request_check_range(&q, 1024), NBD_ENOSPC);
    q.command = NBD_CMD_WRITE_ZEROES;
    assert_int_equal(nbd_request_check_range(&q, 1024), NBD_ENOSPC);
    q.command = NBD_CMD_READ;
    assert_int_equal(nbd_request_check_range(&q, 1024), NBD_EINVAL);
    q.command = NBD_CMD_TRIM;
    assert_int_equal(nbd_request_check_range(&q, 1024), NBD_EINVAL);
    q = request(NBD_CMD_READ, 0, UINT64_MAX - 3, 8);
    assert_int_equal(nbd_request_check_range(&q, 1024), NBD_EINVAL);
}

static void errors_are_mapped(void **state)
{
    (void)state;
    assert_int_equal(nbd_error_of(0), NBD_OK);
    assert_int_equal(nbd_error_of(-ENOSPC), NBD_ENOSPC);
    assert_int_equal(nbd_error_of(-EDQUOT), NBD_ENOSPC);
    assert_int_equal(nbd_error_of(ERR_FENCED), NBD_ESHUTDOWN);
    assert_int_equal(nbd_error_of(-ENODEV), NBD_ESHUTDOWN);
    assert_int_equal(nbd_error_of(-ECANCELED), NBD_ESHUTDOWN);
    assert_int_equal(nbd_error_of(ERR_CORRUPT_FRAME), NBD_EIO);
    assert_int_equal(nbd_error_of(-ETIMEDOUT), NBD_EIO);
    assert_int_equal(nbd_error_of(-EROFS), NBD_EPERM);
    assert_int_equal(nbd_error_of(-ENOMEM), NBD_ENOMEM);
}

static void headers_go_round(void **state)
{
    (void)state;
    uint8_t in[32] = {0x25, 0x60, 0x95, 0x13, 0, 1, 0, 1, 1, 2, 3, 4, 5, 6, 7, 8};
    be64_store(in + 16, 0x1122334455667788);
    be32_store(in + 24, 4096);
    struct nbd_request q;
    assert_int_equal(nbd_request_decode(in, NBD_MODE_STRUCTURED, &q), 0);
    assert_int_equal(q.command, NBD_CMD_WRITE);
    assert_int_equal(q.flags, NBD_CMD_FLAG_FUA);
    assert_int_equal(q.cookie, 0x0102030405060708);
    assert_int_equal(q.off, 0x1122334455667788);
    assert_int_equal(q.payload_len, 4096);
    assert_int_equal(nbd_request_decode(in, NBD_MODE_EXTENDED, &q), -EPROTO);
    be32_store(in, NBD_MAGIC_REQUEST_EXT);
    be64_store(in + 24, 1ull << 40);
    in[7] = NBD_CMD_TRIM;
    assert_int_equal(nbd_request_decode(in, NBD_MODE_EXTENDED, &q), 0);
    assert_int_equal(q.len, 1ull << 40);
    assert_int_equal(q.payload_len, 0);
    in[5] = NBD_CMD_FLAG_PAYLOAD_LEN;
    assert_int_equal(nbd_request_decode(in, NBD_MODE_EXTENDED, &q), 0);
    assert_int_equal(q.payload_len, 1ull << 40);
    uint8_t out[NBD_REPLY_HEADER_MAX];
    struct nbd_chunk chunk = {.cookie = 5, .off = 6, .payload_len = 7, .flags = 1, .type = 2};
    assert_int_equal(nbd_chunk_encode(&chunk, NBD_MODE_STRUCTURED, out), 20);
    assert_int_equal(be32_load(out + 16), 7);
    assert_int_equal(nbd_chunk_encode(&chunk, NBD_MODE_EXTENDED, out), 32);
    assert_int_equal(be64_load(out + 16), 6);
    assert_int_equal(be64_load(out + 24), 7);
}

static void status_payload_is_strict(void **state)
{
    (void)state;
    uint8_t in[16] = {0};
    uint64_t len;
    be64_store(in, 1ull << 33);
    be32_store(in + 8, NBD_CONTEXT_ALLOCATION_ID);
    assert_int_equal(nbd_status_payload_decode(in, 12, &len), 0);
    assert_int_equal(len, 1ull << 33);
    be32_store(in + 12, NBD_CONTEXT_ALLOCATION_ID); /* twice */
    assert_int_equal(nbd_status_payload_decode(in, 16, &len), -EINVAL);
    assert_int_equal(nbd_status_payload_decode(in, 8, &len), -EINVAL);
    be32_store(in + 8, 77);
    assert_int_equal(nbd_status_payload_decode(in, 12, &len), -EINVAL);
}

/* Random bytes around valid shapes; the sanitizers look on. */
static void noise_is_survived(void **state)
{
    (void)state;
    struct rng g = rng_seeded(1);
    for (int i = 0; i < 20000; i++) {
        uint8_t in[64];
        size_t len = rng_below(&g, sizeof in);
        for (size_t k = 0; k < len; k++) {
            in[k] = rng_below(&g, 3) ? 0 : (uint8_t)rng_next(&g);
        }
        uint8_t *copy = malloc(len + 1);
        memcpy(copy, in, len);
        struct nbd_info_request info;
        struct nbd_meta_request meta;
        (void)!nbd_info_decode(copy, len, &info);
        (void)!nbd_meta_decode(copy, len, &meta);
        free(copy);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(info_is_read),         cmocka_unit_test(meta_is_read),
        cmocka_unit_test(requests_are_checked), cmocka_unit_test(ranges_are_checked),
        cmocka_unit_test(errors_are_mapped),    cmocka_unit_test(headers_go_round),
        cmocka_unit_test(noise_is_survived),    cmocka_unit_test(status_payload_is_strict)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
