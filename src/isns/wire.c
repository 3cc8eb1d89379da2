/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The connection to the server: requests one after the other, and a fiber that receives. The server
 * may use the connection for requests of its own (§5.6.5.8), so what comes is a response or not.
 */
#include "base/err.h"
#include "base/msg.h"
#include "isns/client_priv.h"
#include "isns/resolve.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define CONNECT_MS 5000
#define ANSWERS_BYTES 65536u /* that the server has not taken yet, before more of it is read */

int isns_wire_recv(struct net_stream *s, struct isns_assembly *a, uint64_t deadline_ns)
{
    auto_free uint8_t *payload = NULL;
    int r = 0;
    isns_assembly_reset(a);
    while (r == 0) {
        uint8_t head[ISNS_HEADER_LEN];
        struct isns_header h = {0};
        r = net_recv_all(s, head, sizeof head, deadline_ns);
        if (r >= 0) {
            r = isns_header_read(head, &h);
        }
        if (r >= 0 && (h.flags & ISNS_AUTHENTICATED)) {
            r = ERR_PROTOCOL; /* what would follow is of no length that we know */
        }
        if (r >= 0 && !payload) {
            payload = malloc(ISNS_PDU_PAYLOAD_MAX);
            r = payload ? 0 : -ENOMEM;
        }
        if (r >= 0 && h.len > 0) {
            r = net_recv_all(s, payload, h.len, deadline_ns);
        }
        if (r >= 0) {
            r = isns_assembly_add(a, &h, payload);
        }
    }
    return r < 0 ? r : 0;
}

static void take_response(struct isns_client *c, struct isns_assembly *a)
{
    struct isns_wire *w = &c->wire;
    rt_mutex_lock(&c->lock);
    if (w->waiting && a->first.transaction == w->transaction) {
        bytes_writer_free(&w->answer);
        w->answer = a->payload;
        a->payload = (struct bytes_writer){0};
        w->waiting = false;
        w->answered = true;
        rt_waitq_wake_all(&c->changed);
    }
    rt_mutex_unlock(&c->lock);
}

static int take_request(struct isns_client *c, const struct isns_assembly *a) WAITS
{
    struct bytes_writer out = {0};
    isns_ears_heed(c, a, &out);
    int r = out.failed ? -ENOMEM : net_send_copy(c->wire.stream, out.data, out.len);
    bytes_writer_free(&out);
    return r < 0 ? r : net_send_wait(c->wire.stream, ANSWERS_BYTES);
}

static void receive(void *arg)
{
    struct isns_client *c = arg;
    struct isns_assembly a = {0};
    while (isns_wire_recv(c->wire.stream, &a, RT_FOREVER) == 0) {
        if (a.first.function & ISNS_RESPONSE) {
            take_response(c, &a);
        } else if (take_request(c, &a) < 0) {
            break;
        }
    }
    isns_assembly_free(&a);
    rt_mutex_lock(&c->lock);
    c->wire.broken = true;
    rt_waitq_wake_all(&c->changed);
    rt_mutex_unlock(&c->lock);
}

int isns_wire_open(struct isns_client *c, char ret_local[NET_ADDRESS_SIZE])
{
    struct isns_wire *w = &c->wire;
    uint64_t deadline_ns = rt_after_ms(CONNECT_MS);
    int r = c->opt.connect ? c->opt.connect(c->opt.arg, deadline_ns, &w->stream)
                           : isns_resolve_connect(c->server, deadline_ns, &w->stream);
    if (r < 0) {
        return r;
    }
    net_local_address(w->stream, ret_local);
    if (strcmp(ret_local, "memory") == 0) {
        ret_local[0] = 0;
    }
    w->broken = w->answered = w->waiting = false;
    r = rt_group_create(&w->group);
    if (r >= 0) {
        r = rt_group_spawn(w->group, "isns receive", receive, c);
    }
    if (r < 0) {
        isns_wire_close(c);
    }
    return r;
}

void isns_wire_close(struct isns_client *c)
{
    struct isns_wire *w = &c->wire;
    if (w->group) {
        rt_group_cancel(w->group);
        rt_group_wait(w->group);
        rt_group_destroy(w->group);
        w->group = NULL;
    }
    if (w->stream) {
        net_close(w->stream);
        w->stream = NULL;
    }
    bytes_writer_free(&w->answer);
    w->answer = (struct bytes_writer){0};
}

static int wait_for_answer(struct isns_client *c, uint64_t deadline_ns) WAITS
{
    struct isns_wire *w = &c->wire;
    int r = 0;
    rt_mutex_lock(&c->lock);
    while (!w->answered && !w->broken && r >= 0) {
        r = rt_waitq_wait(&c->changed, &c->lock, deadline_ns);
    }
    if (w->answered) {
        r = 0;
    } else if (w->broken) {
        r = -ECONNRESET;
    }
    w->waiting = w->answered = false;
    rt_mutex_unlock(&c->lock);
    return r;
}

int isns_wire_call(struct isns_client *c, struct isns_header request,
                   const struct bytes_writer *payload, struct bytes_reader *ret_answer)
{
    struct isns_wire *w = &c->wire;
    struct bytes_writer out = {0};
    request.transaction = ++w->transaction;
    request.flags |= ISNS_FROM_CLIENT;
    isns_message_put(&out, &request, payload);
    rt_mutex_lock(&c->lock);
    w->waiting = true;
    w->answered = false;
    rt_mutex_unlock(&c->lock);
    int r = out.failed ? -ENOMEM : net_send_copy(w->stream, out.data, out.len);
    bytes_writer_free(&out);
    if (r >= 0) {
        r = wait_for_answer(c, rt_now_ns() + ISNS_CALL_NS);
    }
    if (r < 0) {
        return r;
    }
    struct bytes_reader answer = bytes_reader_of(w->answer.data, w->answer.len);
    uint32_t status = bytes_be32(&answer);
    if (bytes_bad(&answer) || status > INT32_MAX) {
        return ERR_PROTOCOL;
    }
    if (ret_answer) {
        *ret_answer = answer;
    }
    return (int)status;
}
