/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An NBD server that keeps its device in one piece of memory and does nothing else: what fibers,
 * streams and sockets cost by themselves, and so the ceiling for the real server.
 *
 *     nullsrv ADDRESS SIZE_BYTES [CORES]          nullsrv 127.0.0.1:10809 268435456 1
 *
 * Each request is a fiber of its own, as in the real server. Prints "ready ADDRESS" and serves
 * until it is killed.
 */
#include "base/assert.h"
#include "base/endian.h"
#include "base/err.h"
#include "bench/nbd_wire.h"
#include "net/net.h"
#include "rt/sync.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define INGRESS_SIZE (256u << 10)
#define OPTION_MAX 1024

static uint8_t *device;
static uint64_t device_size;

struct request {
    struct net_stream *s;
    uint16_t type;
    uint32_t len;
    uint64_t offset;
    uint8_t cookie[8];
};

/* What a connection has received and not yet used: at[head..tail). */
struct ingress {
    struct net_stream *s;
    uint8_t *at;
    size_t head;
    size_t tail;
};

static void reply(const struct request *q, uint32_t error)
{
    uint8_t h[NBD_REPLY_SIZE];
    be32_store(h, NBD_REPLY_MAGIC);
    be32_store(h + 4, error);
    memcpy(h + 8, q->cookie, 8);
    int r = net_send_copy(q->s, h, sizeof h);
    if (r == 0 && q->type == NBD_CMD_READ && error == 0) {
        r = net_send_ref(q->s, NULL, device + q->offset, q->len);
    }
    (void)r; /* a broken stream ends the receiver */
}

static void request_fiber(void *arg)
{
    struct request q = *(struct request *)arg;
    reply(&q, 0);
}

static bool in_device(const struct request *q)
{
    return q->offset <= device_size && q->len <= device_size - q->offset;
}

/* Takes the payload of a write: what has been received, then the rest straight from the socket. */
static int take_payload(struct ingress *in, const struct request *q) WAITS
{
    size_t n = MIN_OF((size_t)q->len, in->tail - in->head);
    memcpy(device + q->offset, in->at + in->head, n);
    in->head += n;
    return n < q->len ? net_recv_all(in->s, device + q->offset + n, q->len - n, RT_FOREVER) : 0;
}

/* Serves one request of which the header is there: 0, or -1 when the connection is to end. */
static int serve_one(struct ingress *in) WAITS
{
    const uint8_t *h = in->at + in->head;
    struct request q = {.s = in->s,
                        .type = be16_load(h + 6),
                        .offset = be64_load(h + 16),
                        .len = be32_load(h + 24)};
    if (be32_load(h) != NBD_REQUEST_MAGIC || q.type == NBD_CMD_DISC) {
        return -1;
    }
    memcpy(q.cookie, h + 8, 8);
    in->head += NBD_REQUEST_SIZE;
    if (q.type != NBD_CMD_FLUSH && !in_device(&q)) {
        return -1;
    }
    if (q.type == NBD_CMD_WRITE && take_payload(in, &q) < 0) {
        return -1;
    }
    if (q.type > NBD_CMD_FLUSH) {
        reply(&q, NBD_EINVAL);
        return 0;
    }
    return rt_spawn_now("request", request_fiber, &q);
}

static void serve_requests(struct ingress *in) WAITS
{
    for (;;) {
        if (in->head == in->tail) {
            in->head = 0;
            in->tail = 0;
        } else if (INGRESS_SIZE - in->tail < INGRESS_SIZE / 4) {
            memmove(in->at, in->at + in->head, in->tail - in->head);
            in->tail -= in->head;
            in->head = 0;
        }
        ssize_t n = net_recv(in->s, in->at + in->tail, INGRESS_SIZE - in->tail, RT_FOREVER);
        if (n <= 0) {
            return;
        }
        in->tail += (size_t)n;
        while (in->tail - in->head >= NBD_REQUEST_SIZE) {
            if (serve_one(in) < 0) {
                return;
            }
        }
        if (net_send_wait(in->s, 8 << 20) < 0) {
            return;
        }
    }
}

static int option_reply(struct net_stream *s, uint32_t option, uint32_t type, const void *data,
                        uint32_t len)
{
    uint8_t h[20];
    be64_store(h, NBD_OPTION_REPLY_MAGIC);
    be32_store(h + 8, option);
    be32_store(h + 12, type);
    be32_store(h + 16, len);
    int r = net_send_copy(s, h, sizeof h);
    return r < 0 ? r : net_send_copy(s, data, len);
}

#define EXPORT_FLAGS (NBD_EXPORT_HAS_FLAGS | NBD_EXPORT_SEND_FLUSH | NBD_EXPORT_MULTI_CONN)

/* Answers INFO and GO: 0 or an error. */
static int answer_go(struct net_stream *s, uint32_t option)
{
    uint8_t info[12];
    be16_store(info, NBD_INFO_EXPORT);
    be64_store(info + 2, device_size);
    be16_store(info + 10, EXPORT_FLAGS);
    int r = option_reply(s, option, NBD_REP_INFO, info, sizeof info);
    return r < 0 ? r : option_reply(s, option, NBD_REP_ACK, NULL, 0);
}

static int answer_export_name(struct net_stream *s, bool zeroes)
{
    uint8_t out[10 + 124] = {0};
    be64_store(out, device_size);
    be16_store(out + 8, EXPORT_FLAGS);
    return net_send_copy(s, out, zeroes ? sizeof out : 10);
}

/* 1 when transmission begins, 0 for the next option, or an error. */
static int answer_option(struct net_stream *s, uint32_t option, bool zeroes)
{
    int r;
    switch (option) {
    case NBD_OPT_EXPORT_NAME:
        r = answer_export_name(s, zeroes);
        return r < 0 ? r : 1;
    case NBD_OPT_GO:
        r = answer_go(s, option);
        return r < 0 ? r : 1;
    case NBD_OPT_INFO:
        return answer_go(s, option);
    case NBD_OPT_ABORT:
        r = option_reply(s, option, NBD_REP_ACK, NULL, 0);
        return r < 0 ? r : -1;
    default:
        return option_reply(s, option, NBD_REP_ERR_UNSUP, NULL, 0);
    }
}

static int negotiate(struct net_stream *s) WAITS
{
    uint8_t b[OPTION_MAX];
    be64_store(b, NBD_MAGIC);
    be64_store(b + 8, NBD_OPTION_MAGIC);
    be16_store(b + 16, NBD_FLAG_FIXED_NEWSTYLE | NBD_FLAG_NO_ZEROES);
    int r = net_send_copy(s, b, 18);
    if (r == 0) {
        r = net_recv_all(s, b, 4, RT_FOREVER);
    }
    bool zeroes = !(b[3] & NBD_FLAG_NO_ZEROES);
    while (r == 0) {
        r = net_recv_all(s, b, 16, RT_FOREVER);
        if (r < 0) {
            break;
        }
        uint32_t option = be32_load(b + 8);
        uint32_t len = be32_load(b + 12);
        if (be64_load(b) != NBD_OPTION_MAGIC || len > sizeof b) {
            return -1;
        }
        r = net_recv_all(s, b, len, RT_FOREVER);
        if (r == 0) {
            r = answer_option(s, option, zeroes);
        }
    }
    return r < 0 ? r : 0;
}

static void serve(struct net_stream *s, void *arg)
{
    struct rt_buf *buf;
    (void)arg;
    if (negotiate(s) == 0 && rt_buf_alloc(INGRESS_SIZE, RT_MEM_INGRESS, &buf) == 0) {
        struct ingress in = {.s = s, .at = buf->data};
        serve_requests(&in);
        rt_buf_unref(buf);
    }
    net_close(s);
}

static void nullsrv_main(void *arg)
{
    char text[NET_ADDRESS_SIZE];
    struct net_listener *l;
    struct net_listen_options opt = {.address = arg, .name = "nullsrv", .serve = serve};
    int r = net_listen(&opt, &l);
    if (r < 0) {
        (void)fprintf(stderr, "nullsrv: %s: %s\n", opt.address, err_text(r));
        exit(1);
    }
    net_listener_address(l, text);
    (void)printf("ready %s\n", text);
    (void)fflush(stdout);
    (void)rt_sleep_until(RT_FOREVER);
}

int main(int argc, char **argv)
{
    if (argc < 3) {
        (void)fprintf(stderr, "usage: nullsrv ADDRESS SIZE_BYTES [CORES]\n");
        return 2;
    }
    device_size = strtoull(argv[2], NULL, 10);
    device = mmap(NULL, device_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (device == MAP_FAILED) {
        perror("nullsrv");
        return 1;
    }
    memset(device, 7, device_size);
    struct rt_options opt = {.cores = argc > 3 ? (unsigned)strtoul(argv[3], NULL, 10) : 1};
    return rt_run(&opt, nullsrv_main, argv[1]) < 0;
}
