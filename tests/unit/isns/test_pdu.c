/* SPDX-License-Identifier: Apache-2.0 */
/* Messages: bytes as open-isns sends and takes them, cut into PDUs and put together again. */
#include "base/err.h"
#include "isns/pdu.h"
#include "unit.h"

/* A status inquiry that isnsd 0.101 has sent. */
static const uint8_t inquiry[] = {
    0x00, 0x01, 0x00, 0x0d, 0x00, 0x48, 0x8c, 0x00, 0x00, 0x01, 0x00, 0x00, 0x00, 0x00,
    0x00, 0x04, 0x00, 0x00, 0x00, 0x08, 0x00, 0x00, 0x00, 0x00, 0x6b, 0x03, 0xc8, 0x8f,
    0x00, 0x00, 0x00, 0x01, 0x00, 0x00, 0x00, 0x0c, 0x73, 0x74, 0x6f, 0x72, 0x61, 0x67,
    0x65, 0x2d, 0x31, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x10, 0x00, 0x00, 0x00, 0x10,
    0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0xff, 0xff, 0x7f, 0x00,
    0x00, 0x01, 0x00, 0x00, 0x00, 0x11, 0x00, 0x00, 0x00, 0x04, 0x00, 0x00, 0xa8, 0xfc};

static void reads_an_inquiry(void **state)
{
    (void)state;
    struct isns_header h;
    struct isns_assembly a = {0};
    struct isns_attr attr;
    char text[16];
    uint32_t port = 0;
    assert_int_equal(isns_header_read(inquiry, &h), 0);
    assert_int_equal(h.function, ISNS_ESI);
    assert_int_equal(h.len, sizeof inquiry - ISNS_HEADER_LEN);
    assert_int_equal(h.transaction, 1);
    assert_int_equal(isns_assembly_add(&a, &h, inquiry + ISNS_HEADER_LEN), 1);
    struct bytes_reader r = bytes_reader_of(a.payload.data, a.payload.len);
    assert_int_equal(isns_attr_next(&r, &attr), 1);
    assert_int_equal(attr.tag, ISNS_TIMESTAMP);
    assert_int_equal(isns_attr_next(&r, &attr), 1);
    assert_int_equal(isns_attr_text(&attr, text, sizeof text), 0);
    assert_string_equal(text, "storage-1");
    assert_int_equal(isns_attr_next(&r, &attr), 1);
    assert_int_equal(attr.len, 16);
    assert_int_equal(isns_attr_next(&r, &attr), 1);
    assert_int_equal(isns_attr_u32(&attr, &port), 0);
    assert_int_equal(port, 43260);
    assert_int_equal(isns_attr_next(&r, &attr), 0);
    /* And as it would be sent. */
    struct bytes_writer out = {0};
    isns_message_put(&out, &h, &a.payload);
    assert_int_equal(out.len, sizeof inquiry);
    assert_memory_equal(out.data, inquiry, sizeof inquiry);
    bytes_writer_free(&out);
    isns_assembly_free(&a);
}

static void writes_attributes(void **state)
{
    (void)state;
    static const uint8_t want[] = {0, 0, 0, 32, 0, 0, 0, 8, 'i', 'q', 'n', '.',
                                   0, 0, 0, 0,                                /* a null at least */
                                   0, 0, 0, 0,  0, 0, 0, 0,                   /* delimiter */
                                   0, 0, 0, 33, 0, 0, 0, 4, 0,   0,   0,   1, /* node type */
                                   0, 0, 0, 1,  0, 0, 0, 4, 'a', 'b', 'c', 0};
    struct bytes_writer w = {0};
    isns_put_text(&w, ISNS_NODE_NAME, "iqn.");
    isns_put_null(&w, ISNS_DELIMITER);
    isns_put_u32(&w, ISNS_NODE_TYPE, ISNS_TARGET);
    isns_put_text(&w, ISNS_EID, "abc");
    assert_int_equal(w.len, sizeof want);
    assert_memory_equal(w.data, want, sizeof want);
    bytes_writer_free(&w);
}

static void cuts_and_joins_long_messages(void **state)
{
    (void)state;
    struct bytes_writer payload = {0}, out = {0};
    struct isns_assembly a = {0};
    for (uint32_t i = 0; i < 20000; i++) {
        isns_put_u32(&payload, ISNS_PORTAL_PORT, i);
    }
    isns_message_put(&out, &(struct isns_header){.function = ISNS_SCN, .transaction = 7}, &payload);
    assert_false(out.failed);
    size_t at = 0;
    unsigned pdus = 0;
    int r = 0;
    while (r == 0) {
        struct isns_header h;
        assert_true(at + ISNS_HEADER_LEN <= out.len);
        assert_int_equal(isns_header_read(out.data + at, &h), 0);
        assert_int_equal(h.sequence, pdus++);
        assert_int_equal((h.flags & ISNS_FIRST) != 0, pdus == 1);
        r = isns_assembly_add(&a, &h, out.data + at + ISNS_HEADER_LEN);
        at += ISNS_HEADER_LEN + h.len;
    }
    assert_int_equal(r, 1);
    assert_int_equal(at, out.len);
    assert_int_equal(pdus, 4);
    assert_int_equal(a.payload.len, payload.len);
    assert_memory_equal(a.payload.data, payload.data, payload.len);
    bytes_writer_free(&payload);
    bytes_writer_free(&out);
    isns_assembly_free(&a);
}

static void refuses_what_is_no_message(void **state)
{
    (void)state;
    static const struct {
        size_t at;
        uint8_t byte;
    } bad[] = {{1, 2}, {5, 0x49}}; /* a version, a length */
    struct isns_header h;
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        uint8_t head[ISNS_HEADER_LEN];
        memcpy(head, inquiry, sizeof head);
        head[bad[i].at] = bad[i].byte;
        assert_int_equal(isns_header_read(head, &h), ERR_PROTOCOL);
    }
    static const uint8_t four[4];
    const struct isns_header first = {
        .function = ISNS_SCN, .len = 4, .flags = ISNS_FIRST, .transaction = 1};
    struct isns_header next[] = {
        {.function = ISNS_SCN, .len = 4, .transaction = 1, .sequence = 2}, /* one is missing */
        {.function = ISNS_ESI, .len = 4, .transaction = 1, .sequence = 1},
        {.function = ISNS_SCN, .len = 4, .transaction = 2, .sequence = 1},
        {.function = ISNS_SCN, .len = 0, .transaction = 1, .sequence = 1}, /* for ever */
    };
    for (size_t i = 0; i < ARRAY_LEN(next); i++) {
        struct isns_assembly a = {0};
        assert_int_equal(isns_assembly_add(&a, &next[i], four), ERR_PROTOCOL);
        assert_int_equal(isns_assembly_add(&a, &first, four), 0);
        assert_int_equal(isns_assembly_add(&a, &next[i], four), ERR_PROTOCOL);
        isns_assembly_free(&a);
    }
    static const uint8_t attrs[][12] = {
        {0, 0, 0, 1, 0, 0, 0, 8, 1, 2, 3, 4},             /* longer than there is */
        {0, 0, 0, 1, 0xff, 0xff, 0xff, 0xfc, 1, 2, 3, 4}, /* */
        {0, 0, 0, 1, 0, 0, 0, 3, 1, 2, 3, 4},             /* not aligned */
    };
    for (size_t i = 0; i < ARRAY_LEN(attrs); i++) {
        struct bytes_reader r = bytes_reader_of(attrs[i], sizeof attrs[i]);
        struct isns_attr attr;
        assert_int_equal(isns_attr_next(&r, &attr), ERR_PROTOCOL);
    }
    char text[4];
    uint32_t value;
    const struct isns_attr control = {.len = 4, .value = (const uint8_t *)"a\nb"};
    const struct isns_attr whole = {.len = 4, .value = (const uint8_t *)"abcd"};
    assert_int_equal(isns_attr_text(&control, text, sizeof text), ERR_PROTOCOL);
    assert_int_equal(isns_attr_text(&whole, text, sizeof text), ERR_PROTOCOL);
    assert_int_equal(isns_attr_u32(&(struct isns_attr){.len = 8, .value = four}, &value),
                     ERR_PROTOCOL);
    assert_non_null(isns_status_text(23));
    assert_non_null(isns_status_text(UINT32_MAX));
}

static void bounds_a_message(void **state)
{
    (void)state;
    static const uint8_t bytes[ISNS_PDU_PAYLOAD_MAX];
    struct isns_assembly a = {0};
    struct isns_header h = {.function = ISNS_SCN, .len = ISNS_PDU_PAYLOAD_MAX, .flags = ISNS_FIRST};
    int r;
    while ((r = isns_assembly_add(&a, &h, bytes)) == 0) {
        h.flags = 0;
        h.sequence++;
    }
    assert_int_equal(r, -E2BIG);
    assert_true(a.payload.len <= ISNS_MESSAGE_MAX);
    isns_assembly_free(&a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_an_inquiry),
        cmocka_unit_test(writes_attributes),
        cmocka_unit_test(cuts_and_joins_long_messages),
        cmocka_unit_test(refuses_what_is_no_message),
        cmocka_unit_test(bounds_a_message),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
