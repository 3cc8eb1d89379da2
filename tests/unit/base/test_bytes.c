/* SPDX-License-Identifier: Apache-2.0 */
#include "base/bytes.h"
#include "unit.h"

static void writes_then_reads_every_type(void **state)
{
    (void)state;
    struct bytes_writer w = {0};
    bytes_put_u8(&w, 0xab);
    bytes_put_le16(&w, 0x1234);
    bytes_put_le32(&w, 0x12345678);
    bytes_put_le64(&w, 0x123456789abcdef0);
    bytes_put_be16(&w, 0x1234);
    bytes_put_be32(&w, 0x12345678);
    bytes_put_be64(&w, 0x123456789abcdef0);
    bytes_put(&w, "tail", 4);
    assert_false(w.failed);
    assert_int_equal(w.len, 1 + 2 * (2 + 4 + 8) + 4);
    static const uint8_t head[] = {0xab, 0x34, 0x12, 0x78, 0x56, 0x34, 0x12, 0xf0, 0xde};
    assert_memory_equal(w.data, head, sizeof head);
    static const uint8_t big[] = {0x12, 0x34, 0x12, 0x34, 0x56, 0x78, 0x12};
    assert_memory_equal(w.data + 15, big, sizeof big);

    struct bytes_reader r = bytes_reader_of(w.data, w.len);
    assert_int_equal(bytes_u8(&r), 0xab);
    assert_int_equal(bytes_le16(&r), 0x1234);
    assert_int_equal(bytes_le32(&r), 0x12345678);
    assert_int_equal(bytes_le64(&r), 0x123456789abcdef0);
    assert_int_equal(bytes_be16(&r), 0x1234);
    assert_int_equal(bytes_be32(&r), 0x12345678);
    assert_int_equal(bytes_be64(&r), 0x123456789abcdef0);
    assert_false(bytes_done(&r));
    assert_memory_equal(bytes_take(&r, 4), "tail", 4);
    assert_true(bytes_done(&r));
    bytes_writer_free(&w);
    assert_null(w.data);
}

static void a_read_over_the_end_is_bad_for_ever(void **state)
{
    (void)state;
    static const uint8_t three[] = {1, 2, 3};
    struct bytes_reader r = bytes_reader_of(three, sizeof three);
    assert_int_equal(bytes_le32(&r), 0);
    assert_true(bytes_bad(&r));
    assert_int_equal(bytes_u8(&r), 0);
    assert_null(bytes_take(&r, 1));
    assert_false(bytes_done(&r));

    r = bytes_reader_of(three, sizeof three);
    assert_null(bytes_take(&r, SIZE_MAX));
    assert_true(bytes_bad(&r));

    r = bytes_reader_of(NULL, 0);
    assert_true(bytes_done(&r));
    assert_int_equal(bytes_u8(&r), 0);
    assert_true(bytes_bad(&r));
}

static void varints_round_trip(void **state)
{
    (void)state;
    for (int bit = 0; bit < 64; bit++) {
        for (int delta = -1; delta <= 1; delta++) {
            uint64_t v = (1ull << bit) + (uint64_t)(int64_t)delta;
            struct bytes_writer w = {0};
            bytes_put_varint(&w, v);
            struct bytes_reader r = bytes_reader_of(w.data, w.len);
            assert_int_equal(bytes_varint(&r), v);
            assert_true(bytes_done(&r));
            r = bytes_reader_of(w.data, w.len - 1);
            assert_int_equal(bytes_varint(&r), 0);
            assert_true(bytes_bad(&r));
            bytes_writer_free(&w);
        }
    }
}

static void refuses_varint(const char *text, size_t len)
{
    struct bytes_reader r = bytes_reader_of(text, len);
    assert_int_equal(bytes_varint(&r), 0);
    assert_true(bytes_bad(&r));
}

static void bad_varints_are_refused(void **state)
{
    (void)state;
    refuses_varint("\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02", 10);     /* 65 bits */
    refuses_varint("\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01", 11); /* eleven bytes */
    refuses_varint("\x80", 1);
    refuses_varint("", 0);
    struct bytes_reader r = bytes_reader_of("\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", 10);
    assert_int_equal(bytes_varint(&r), UINT64_MAX);
    assert_true(bytes_done(&r));
}

static void a_full_memory_is_kept_in_mind(void **state)
{
    (void)state;
    struct bytes_writer w = {0};
    bytes_put_u8(&w, 1);
    assert_null(bytes_grow(&w, SIZE_MAX));
    assert_true(w.failed);
    bytes_put_u8(&w, 2);
    assert_int_equal(w.len, 1);
    bytes_writer_free(&w);
    bytes_writer_free(NULL);
}

static void grows_far(void **state)
{
    (void)state;
    struct bytes_writer w = {0};
    assert_non_null(bytes_grow(&w, 0));
    for (uint32_t i = 0; i < 100000; i++) {
        bytes_put_le32(&w, i);
    }
    assert_int_equal(w.len, 400000);
    for (uint32_t i = 0; i < 100000; i++) {
        assert_int_equal(le32_load(w.data + (size_t)4 * i), i);
    }
    bytes_writer_free(&w);
}

static void three_byte_integers(void **state)
{
    (void)state;
    uint8_t text[3];
    be24_store(text, 0xfedcba);
    assert_memory_equal(text, "\xfe\xdc\xba", 3);
    assert_int_equal(be24_load(text), 0xfedcba);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(writes_then_reads_every_type),
        cmocka_unit_test(a_read_over_the_end_is_bad_for_ever),
        cmocka_unit_test(varints_round_trip),
        cmocka_unit_test(bad_varints_are_refused),
        cmocka_unit_test(a_full_memory_is_kept_in_mind),
        cmocka_unit_test(grows_far),
        cmocka_unit_test(three_byte_integers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
