/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The N-th allocation fails, for each N of the life of an iSNS client: it registers, hears of
 * changes, looks up domains and leaves. Whatever fails, it is registered in the end, what it says
 * is well-formed, and everything that was taken is given back.
 */
#include "isns/isns.h"
#include "drive.h"
#include "isns/pdu.h"
#include "rt/rt.h"
#include <string.h>

#define A "iqn.2024-01.test:a"
#define B "iqn.2024-01.test:b"
#define I "iqn.2024-01.test:i"
#define LIMIT_S 3600 /* virtual */

static struct isns_client *client;
static size_t target_count;
static struct net_stream *open_stream; /* of the server's side */
static unsigned serving;

static int describe(void *arg, const char *local, struct isns_picture *p)
{
    static const char *const names[] = {A, B};
    size_t portal;
    int r = isns_picture_portal(p, "192.0.2.1:3260", &portal);
    (void)arg;
    (void)local;
    for (size_t i = 0; i < target_count && r >= 0; i++) {
        r = isns_picture_node(p, names[i]);
        if (r >= 0) {
            r = isns_picture_link(p, portal, 1);
        }
    }
    return r;
}

static void check_payload(const uint8_t *bytes, size_t len)
{
    struct bytes_reader in = bytes_reader_of(bytes, len);
    struct isns_attr a;
    int r;
    while ((r = isns_attr_next(&in, &a)) > 0) {
    }
    CHECK(r == 0);
}

static void send(struct net_stream *s, const struct isns_header *h, const struct bytes_writer *w)
{
    struct bytes_writer out = {0};
    isns_message_put(&out, h, w);
    (void)!net_send_copy(s, out.data, out.len);
    bytes_writer_free(&out);
}

static void answer(struct net_stream *s, const struct isns_header *request)
{
    struct bytes_writer w = {0};
    bytes_put_be32(&w, ISNS_OK);
    isns_put_null(&w, ISNS_DELIMITER);
    if (request->function == ISNS_DEV_ATTR_QRY) {
        isns_put_text(&w, ISNS_NODE_NAME, A);
        isns_put_text(&w, ISNS_DD_MEMBER_NAME, I);
    }
    send(s,
         &(struct isns_header){.function = request->function | ISNS_RESPONSE,
                               .transaction = request->transaction},
         &w);
    bytes_writer_free(&w);
}

static void notify(struct net_stream *s)
{
    struct bytes_writer w = {0};
    isns_put_text(&w, ISNS_NODE_NAME, A);
    isns_put_u32(&w, ISNS_SCN_BITMAP, ISNS_SCN_REMOVED);
    isns_put_text(&w, ISNS_NODE_NAME, A);
    send(s, &(struct isns_header){.function = ISNS_SCN, .transaction = 1}, &w);
    bytes_writer_free(&w);
}

static void serve(void *arg)
{
    static uint8_t bytes[ISNS_PDU_PAYLOAD_MAX];
    struct net_stream *s = arg;
    uint8_t head[ISNS_HEADER_LEN];
    serving++;
    while (net_recv_all(s, head, sizeof head, RT_FOREVER) == 0) {
        struct isns_header h;
        CHECK(isns_header_read(head, &h) == 0);
        if (net_recv_all(s, bytes, h.len, RT_FOREVER) < 0) {
            break;
        }
        if (!(h.function & ISNS_RESPONSE)) {
            check_payload(bytes, h.len);
            FAIL_NOT(answer(s, &h));
        }
    }
    open_stream = open_stream == s ? NULL : open_stream;
    net_close(s);
    serving--;
}

static int connect(void *arg, uint64_t deadline_ns, struct net_stream **ret_stream)
{
    int r;
    (void)arg;
    (void)deadline_ns;
    FAIL_NOT(r = net_pipe(ret_stream, &open_stream));
    CHECK(r == 0);
    FAIL_NOT(r = rt_spawn("server", serve, open_stream));
    CHECK(r == 0);
    return 0;
}

static bool is_registered(size_t targets)
{
    struct isns_counts c;
    isns_client_counts(client, &c);
    return c.state == ISNS_REGISTERED && c.targets == targets && c.restricted == targets;
}

static void wait_registered(size_t targets)
{
    uint64_t limit_ns = rt_now_ns() + LIMIT_S * 1000000000ull;
    while (!is_registered(targets)) {
        CHECK(rt_now_ns() < limit_ns);
        (void)rt_sleep_ms(20);
    }
}

static void scenario(void *arg)
{
    (void)arg;
    struct isns_options opt = {.server = "192.0.2.9",
                               .entity = "storage-1",
                               .domains = true,
                               .describe = describe,
                               .connect = connect};
    target_count = 1;
    drive_arm();
    int r = isns_client_start(&opt, &client);
    if (r < 0) {
        CHECK(r == -ENOMEM || r == -EAGAIN);
        FAIL_NOT(r = isns_client_start(&opt, &client));
        CHECK(r == 0);
    }
    wait_registered(1);
    target_count = 2;
    isns_client_changed(client);
    wait_registered(2);
    if (open_stream) {
        FAIL_NOT(notify(open_stream));
    }
    isns_client_meet(client, I, rt_after_ms(2000));
    (void)rt_sleep_ms(5000);
    wait_registered(2);
    drive_disarm();
    isns_client_meet(client, I, rt_after_ms(2000));
    CHECK(isns_client_allows(client, A, I));
    isns_client_leave(client, rt_after_ms(2000));
    isns_client_free(client);
    while (serving > 0) {
        CHECK(rt_sleep_ms(1) == 0);
    }
    CHECK(rt_mem_used(RT_MEM_CONNECTIONS) == 0);
}

int main(int argc, char **argv)
{
    return drive_main(argc, argv, scenario);
}
