/* SPDX-License-Identifier: Apache-2.0 */
/* What is registered, and the messages that say so. */
#include "base/err.h"
#include "isns/pdu.h"
#include "isns/picture.h"
#include "unit.h"

#include <stdio.h>

#define A "iqn.2024-01.test:a"
#define B "iqn.2024-01.test:b"

static const struct isns_terms terms = {.entity = "storage-1",
                                        .period_s = 600,
                                        .esi_interval_s = 60,
                                        .groups = true,
                                        .notifications = true};

static void reads_addresses(void **state)
{
    (void)state;
    static const char *const bad[] = {"",        "1.2.3.4",       "1.2.3.4:",    "1.2.3.4:x",
                                      "1.2.3:1", "1.2.3.4:99999", "::1:80",      "[::1]",
                                      "[]:1",    "host:1",        "[1.2.3.4]:1", "1.2.3.4:1 "};
    static const uint8_t v4[16] = {[10] = 0xff, [11] = 0xff, [12] = 192, [14] = 2, [15] = 1};
    static const uint8_t v6[16] = {0xfe, 0x80, [15] = 1};
    uint8_t address[16];
    uint16_t port = 0;
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        if (isns_address_parse(bad[i], address, &port) != -EINVAL) {
            fail_msg("taken: %s", bad[i]);
        }
    }
    assert_int_equal(isns_address_parse("192.0.2.1:3260", address, &port), 0);
    assert_memory_equal(address, v4, 16);
    assert_int_equal(port, 3260);
    assert_true(isns_address_is_v4(address));
    assert_int_equal(isns_address_parse("[fe80::1%eth0]:860", address, &port), 0);
    assert_memory_equal(address, v6, 16);
    assert_false(isns_address_is_v4(address) || isns_address_is_any(address));
    assert_int_equal(isns_address_parse("0.0.0.0:1", address, &port), 0);
    assert_true(isns_address_is_any(address));
    assert_int_equal(isns_address_parse("[::]:1", address, &port), 0);
    assert_true(isns_address_is_any(address));
}

/* Two portals; a is reached by both, b by the second alone, with another tag. */
static void draw(struct isns_picture *p)
{
    size_t first, second, again;
    assert_int_equal(isns_picture_portal(p, "192.0.2.1:3260", &first), 0);
    assert_int_equal(isns_picture_portal(p, "[2001:db8::1]:3260", &second), 0);
    assert_int_equal(isns_picture_portal(p, "192.0.2.1:3260", &again), 0);
    assert_int_equal(again, first);
    p->portals.at[first].esi_port = 5000;
    assert_int_equal(isns_picture_link(p, first, 1), -EINVAL);
    assert_int_equal(isns_picture_node(p, A), 0);
    assert_int_equal(isns_picture_link(p, first, 1), 0);
    assert_int_equal(isns_picture_link(p, second, 1), 0);
    assert_int_equal(isns_picture_node(p, B), 0);
    assert_int_equal(isns_picture_link(p, second, 7), 0);
    assert_int_equal(isns_picture_node(p, A), -EINVAL);
}

/* The payload as text: "tag=value ", a number, or a text of that many bytes. */
static void spell(const struct bytes_writer *w, char *out, size_t cap)
{
    struct bytes_reader r = bytes_reader_of(w->data, w->len);
    struct isns_attr a;
    size_t at = 0;
    int more;
    while ((more = isns_attr_next(&r, &a)) > 0) {
        bool is_text = a.tag == ISNS_EID || a.tag == ISNS_NODE_NAME;
        bool is_address = a.tag == ISNS_PORTAL_ADDRESS || a.tag == ISNS_PG_ADDRESS;
        at += (size_t)snprintf(out + at, cap - at, "%u=", a.tag);
        if (is_text) {
            at += (size_t)snprintf(out + at, cap - at, "%s ", (const char *)a.value);
        } else if (is_address) {
            assert_int_equal(a.len, 16);
            at += (size_t)snprintf(out + at, cap - at, "..%02x%02x ", a.value[10], a.value[15]);
        } else if (a.len == 4) {
            at += (size_t)snprintf(out + at, cap - at, "%u ", be32_load(a.value));
        } else {
            assert_int_equal(a.len, 0);
            at += (size_t)snprintf(out + at, cap - at, " ");
        }
        assert_true(at < cap);
    }
    assert_int_equal(more, 0);
}

static void check_registration(const struct isns_picture *p, const struct isns_terms *t,
                               const struct isns_picture *old, const char *want)
{
    struct bytes_writer w = {0};
    char text[1024] = "";
    size_t at = 0;
    isns_put_registration(&w, p, t, A, old, &at);
    spell(&w, text, sizeof text);
    assert_string_equal(text, want);
    assert_int_equal(at, p->nodes.len);
    bytes_writer_free(&w);
}

#define HEAD "32=" A " 1=storage-1 0= 1=storage-1 2=2 6=600 "

static void says_all_of_it(void **state)
{
    (void)state;
    struct isns_picture p = {0};
    struct isns_terms udp = terms;
    udp.udp = true;
    udp.groups = udp.notifications = false;
    draw(&p);
    check_registration(&p, &terms, NULL,
                       HEAD "16=..ff01 17=3260 19=60 20=5000 23=5000 16=..0001 17=3260 "
                            "32=" A " 33=1 51=1 49=..ff01 50=3260 49=..0001 50=3260 "
                            "32=" B " 33=1 51=7 49=..0001 50=3260 51= 49=..ff01 50=3260 ");
    check_registration(&p, &udp, NULL,
                       HEAD "16=..ff01 17=3260 19=60 20=70536 16=..0001 17=3260 "
                            "32=" A " 33=1 32=" B " 33=1 ");
    isns_picture_free(&p);
}

static void says_what_has_changed(void **state)
{
    (void)state;
    struct isns_picture old = {0}, p = {0};
    struct bytes_writer w = {0};
    char text[256] = "";
    draw(&old);
    draw(&p);
    assert_false(isns_has_news(&p, &old, 0));
    size_t gone = 0;
    assert_false(isns_put_gone(&w, &p, A, &old, &gone));
    assert_int_equal(isns_picture_link(&p, 0, 9), 0);
    assert_int_equal(isns_picture_node(&p, B "2"), 0);
    assert_true(isns_has_news(&p, &old, 0));
    check_registration(&p, &terms, &old,
                       HEAD "32=" B " 33=1 51=7 49=..0001 50=3260 51=9 49=..ff01 50=3260 "
                            "32=" B "2 33=1 51= 49=..ff01 50=3260 49=..0001 50=3260 ");
    /* The other way round, and another portal. */
    size_t portal;
    assert_int_equal(isns_picture_portal(&p, "192.0.2.9:1", &portal), 0);
    w.len = gone = 0;
    assert_true(isns_put_gone(&w, &old, A, &p, &gone));
    assert_int_equal(gone, 3);
    spell(&w, text, sizeof text);
    assert_string_equal(text, "32=" A " 0= 16=..ff09 17=1 32=" B "2 ");
    assert_false(isns_picture_same_portals(&p, &old));
    assert_true(isns_has_news(&p, &old, 2)); /* all has, when portals have changed */
    bytes_writer_free(&w);
    isns_picture_free(&old);
    isns_picture_free(&p);
}

static void many_nodes_take_several_messages(void **state)
{
    (void)state;
    struct isns_picture p = {0};
    size_t portal, at = 0;
    unsigned messages = 0;
    assert_int_equal(isns_picture_portal(&p, "192.0.2.1:3260", &portal), 0);
    for (unsigned i = 0; i < 3000; i++) {
        char name[64];
        snprintf(name, sizeof name, "iqn.2024-01.test:%05u", i);
        assert_int_equal(isns_picture_node(&p, name), 0);
        assert_int_equal(isns_picture_link(&p, portal, 1), 0);
    }
    assert_non_null(isns_picture_find(&p, "IQN.2024-01.test:02999"));
    assert_null(isns_picture_find(&p, "iqn.2024-01.test:03000"));
    while (isns_has_news(&p, NULL, at)) {
        struct bytes_writer w = {0};
        isns_put_registration(&w, &p, &terms, A, NULL, &at);
        assert_false(w.failed);
        assert_true(w.len < 8000);
        bytes_writer_free(&w);
        messages++;
    }
    assert_int_equal(at, 3000);
    assert_true(messages > 10 && messages < 200);
    struct isns_picture none = {0};
    for (at = messages = 0; at < 3000; messages++) {
        struct bytes_writer w = {0};
        assert_true(isns_put_gone(&w, &none, A, &p, &at));
        assert_true(w.len < 8000);
        bytes_writer_free(&w);
    }
    assert_true(messages > 10 && messages < 100);
    for (unsigned i = 1; i < ISNS_PORTALS_MAX; i++) {
        char text[32];
        snprintf(text, sizeof text, "192.0.2.2:%u", i);
        assert_int_equal(isns_picture_portal(&p, text, &portal), 0);
    }
    assert_int_equal(isns_picture_portal(&p, "192.0.2.3:1", &portal), -E2BIG);
    isns_picture_free(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_addresses),
        cmocka_unit_test(says_all_of_it),
        cmocka_unit_test(says_what_has_changed),
        cmocka_unit_test(many_nodes_take_several_messages),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
