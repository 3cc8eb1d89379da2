/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A target over devices in memory, and an initiator at the other end of a net_pipe(), under the
 * simulator's clock: for targets that feed a connection. Whatever is sent, what comes back is made
 * of whole PDUs that a target may send, and the connection's memory is given back.
 */
#pragma once
#define FAKE_BYTES (1u << 20)
#include "../../unit/scsi/fake_dev.h"
#include "base/assert.h"
#include "base/crc32c.h"
#include "base/endian.h"
#include "base/msg.h"
#include "iscsi/conn_priv.h"
#include "net/net.h"
#include <stdlib.h>

#define WIRE_SECOND 1000000000ull
#define WIRE_QUIET_NS (2 * WIRE_SECOND) /* virtual */

/* What fake_dev.h leaves out, because scsi does not ask for it. */
size_t dev_target_list(struct dev_registry *g, const char *after, struct dev_target_info *ret,
                       size_t max)
{
    return max > 0 && strcmp(after, FAKE_IQN) < 0 && dev_target_find(g, FAKE_IQN, ret) == 0 ? 1 : 0;
}

void dev_targets_watch(struct dev_registry *g, void (*fn)(void *arg), void *arg)
{
    (void)g;
    (void)fn;
    (void)arg;
}

struct wire {
    struct iscsi_server *server;
    struct dev_registry *registry;
    struct net_stream *s;
    struct net_stream *far_end;
    struct rt_event served;
    bool digests;
    uint32_t statsn; /* of the last PDU that had one */
    uint8_t bhs[ISCSI_BHS_BYTES];
    uint8_t *data;
    uint32_t len;
};

static void wire_serve(void *arg)
{
    struct wire *w = arg;
    iscsi_conn_serve(w->far_end, w->server);
    rt_event_set(&w->served);
}

static inline void wire_open(struct wire *w)
{
    *w = (struct wire){.registry = fake_registry(), .data = malloc(ISCSI_SEND_LEN + 8)};
    ASSERT(w->data);
    rt_event_init(&w->served);
    fake_add(w->registry, 0, FAKE_BYTES);
    fake_add(w->registry, 1, FAKE_BYTES);
    struct iscsi_options opt = {.registry = w->registry};
    ASSERT(iscsi_start(&opt, &w->server) == 0);
    ASSERT(net_pipe(&w->s, &w->far_end) == 0);
    ASSERT(rt_spawn("serve", wire_serve, w) == 0);
}

static inline void wire_close(struct wire *w)
{
    struct iscsi_counts counts;
    net_close(w->s);
    ASSERT(rt_event_wait(&w->served, RT_FOREVER) == 0);
    iscsi_drain(w->server, NULL, rt_now_ns() + 100 * WIRE_SECOND);
    iscsi_counts(w->server, &counts);
    ASSERT(counts.sessions == 0 && counts.connections == 0);
    iscsi_stop(w->server);
    rt_event_destroy(&w->served);
    fake_registry_free(w->registry);
    free(w->data);
}

/* Whether it went on its way. */
static inline bool wire_send(struct wire *w, const void *data, size_t len)
{
    return len == 0 || net_send_copy(w->s, data, len) == 0;
}

/* The data segment, its padding and digest. */
static inline int wire_recv_data(struct wire *w, uint64_t until_ns)
{
    uint32_t padded = iscsi_padded(w->len);
    uint32_t tail = w->digests ? ISCSI_DIGEST_BYTES : 0;
    ASSERT(w->len <= ISCSI_SEND_LEN);
    int r = w->len > 0 ? net_recv_all(w->s, w->data, padded + tail, until_ns) : 0;
    if (r == 0 && w->len > 0 && w->digests) {
        ASSERT(crc32c(0, w->data, padded) == le32_load(w->data + padded));
    }
    return r;
}

static inline bool wire_is_known(uint8_t opcode)
{
    return (opcode >= 0x20 && opcode <= 0x26) || opcode == 0x31 || opcode == 0x32 || opcode == 0x3f;
}

/* The next PDU: 0, -ETIMEDOUT when nothing comes, or the stream's error. */
static inline int wire_recv(struct wire *w)
{
    uint8_t digest[ISCSI_DIGEST_BYTES];
    uint64_t until_ns = rt_now_ns() + WIRE_QUIET_NS;
    int r = net_recv_all(w->s, w->bhs, sizeof w->bhs, until_ns);
    if (r == 0 && w->digests) {
        r = net_recv_all(w->s, digest, sizeof digest, until_ns);
        ASSERT(r < 0 || crc32c(0, w->bhs, sizeof w->bhs) == le32_load(digest));
    }
    if (r < 0) {
        return r;
    }
    ASSERT(wire_is_known(w->bhs[0]) && w->bhs[4] == 0);
    w->len = be24_load(w->bhs + 5);
    w->statsn = be32_load(w->bhs + 24);
    return wire_recv_data(w, until_ns);
}

static inline void wire_run(void (*body)(void *arg))
{
    msg_level_set(MSG_ERROR);
    ASSERT(rt_run(&(struct rt_options){.sim = true, .sim_seed = 1}, body, NULL) == 0);
}
