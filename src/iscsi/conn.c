/* SPDX-License-Identifier: Apache-2.0 */
#include "base/assert.h"
#include "base/endian.h"
#include "base/err.h"
#include "base/msg.h"
#include "iscsi/rx.h"
#include "iscsi/sent.h"
#include "iscsi/tx.h"

#include <errno.h>
#include <stdlib.h>

#define LINGER_MS 1000
#define LOGOUT_SECONDS 5 /* that an initiator is given to log out */

struct iscsi_conn *iscsi_conn_ref(struct iscsi_conn *c)
{
    atomic_fetch_add(&c->refs, 1);
    return c;
}

void iscsi_conn_unref(struct iscsi_conn *c)
{
    if (atomic_fetch_sub(&c->refs, 1) != 1) {
        return;
    }
    rt_mutex_destroy(&c->egress_lock);
    iscsi_session_unref(c->session);
    free(c->auth.user);
    free(c);
    rt_mem_add(RT_MEM_CONNECTIONS, -(int64_t)sizeof *c);
}

void iscsi_conn_break(struct iscsi_conn *c, int r)
{
    if (c->broken == 0) {
        c->broken = r;
    }
    net_shutdown(c->stream);
}

/* Event 0, with sense data (§11.9.4). */
static void tell_news(struct iscsi_conn *c)
{
    uint8_t data[2 + SCSI_SENSE_MAX];
    size_t len;
    struct iscsi_answer a = {.opcode = ISCSI_ASYNC_MESSAGE,
                             .flags = ISCSI_FINAL,
                             .itt = ISCSI_TAG_NONE,
                             .event = ISCSI_ASYNC_SCSI};
    while (scsi_nexus_news(c->session->nexus, &a.lun, data + 2, &len)) {
        be16_store(data, (uint16_t)len);
        iscsi_tx_answer(c, &a, data, (uint32_t)(2 + len));
    }
}

void iscsi_conn_do(struct iscsi_conn *c, unsigned what)
{
    bool full = c->state == ISCSI_CONN_FULL && !c->session->discovery;
    if (what & ~(unsigned)ISCSI_POKE_NEWS && c->broken < 0) {
        c->logged_out = true; /* nobody is to take its tasks */
        iscsi_conn_less(c);
    }
    if (!c->poke_ready || c->broken < 0) {
        c->poked |= what;
        return;
    }
    if ((what & ISCSI_POKE_LOGOUT) && full && !c->logout_requested) {
        c->logout_requested = true;
        c->logout_by_ns = rt_now_ns() + LOGOUT_SECONDS * 1000000000ull;
        iscsi_tx_async(c, ISCSI_ASYNC_LOGOUT, (uint16_t[3]){0, 0, LOGOUT_SECONDS});
    } else if ((what & ISCSI_POKE_LOGOUT) && !full) {
        what |= ISCSI_POKE_DROP;
    }
    if ((what & ISCSI_POKE_NEWS) && full) {
        tell_news(c);
    } else if (what & ISCSI_POKE_NEWS) {
        c->poked |= ISCSI_POKE_NEWS; /* when the login is over */
    }
    if ((what & ISCSI_POKE_ASYNC_DROP) && full) {
        iscsi_tx_async(c, ISCSI_ASYNC_DROP_SESSION, (uint16_t[3]){0, 2, 0});
        net_send_flush(c->stream);
    }
    if (what & (ISCSI_POKE_ASYNC_DROP | ISCSI_POKE_DROP)) {
        c->logged_out = true;
        iscsi_conn_break(c, -ECONNABORTED);
    }
}

void iscsi_conn_heed(struct iscsi_conn *c)
{
    iscsi_conn_do(c, atomic_exchange(&c->pokes, 0));
    iscsi_session_heed(c->session);
}

static void poked(void *arg);

/* Hands the reference on to a fiber on the connection's core. */
static void spawn_poked(struct iscsi_conn *c)
{
    int r = rt_spawn_on(atomic_load(&c->core), "iscsi-poke", poked, c);
    if (r < 0) {
        iscsi_conn_unref(c); /* no fiber is free; its own heeds it when it next runs */
    }
}

static void poked(void *arg)
{
    struct iscsi_conn *c = arg;
    if (atomic_load(&c->core) != rt_core_self()) {
        spawn_poked(c); /* it has moved meanwhile */
        return;
    }
    iscsi_conn_do(c, atomic_exchange(&c->pokes, 0));
    iscsi_conn_unref(c);
}

void iscsi_conn_poke(struct iscsi_conn *c, enum iscsi_poke what)
{
    if (atomic_fetch_or(&c->pokes, what) != 0) {
        return; /* one is on its way */
    }
    spawn_poked(iscsi_conn_ref(c));
}

static struct iscsi_conn *conn_new(struct iscsi_server *s, struct net_stream *stream)
{
    struct iscsi_conn *c = calloc(1, sizeof *c);
    if (!c) {
        return NULL;
    }
    if (iscsi_session_new(s, &c->session) < 0) {
        free(c);
        return NULL;
    }
    rt_mem_add(RT_MEM_CONNECTIONS, sizeof *c);
    c->server = s;
    c->stream = stream;
    atomic_store(&c->core, rt_core_self());
    atomic_store(&c->refs, 1);
    c->poke_ready = true;
    c->text_ttt = ISCSI_TAG_NONE;
    c->ping_ttt = ISCSI_TAG_NONE;
    c->params.recv_len = 8192;
    c->rx.last_ns = rt_now_ns();
    list_init(&c->egress_line);
    list_init(&c->session_link);
    list_init(&c->sent);
    list_init(&c->all_link);
    list_init(&c->stranger_link);
    rt_mutex_init(&c->egress_lock);
    rt_waitq_init(&c->egress);
    net_peer_address(stream, c->peer);
    net_local_address(stream, c->local);
    return c;
}

static void enlist(struct iscsi_conn *c)
{
    struct iscsi_server *s = c->server;
    rt_mutex_lock(&s->lock);
    list_push_back(&s->conns, &c->all_link);
    s->conn_count++;
    rt_mutex_unlock(&s->lock);
}

/* With s->lock held. */
static void no_stranger(struct iscsi_server *s, struct iscsi_conn *c)
{
    if (!list_is_empty(&c->stranger_link)) {
        list_remove(&c->stranger_link);
        s->stranger_count--;
    }
}

/* With s->lock held; there is one. */
static void drop_oldest(struct iscsi_server *s)
{
    struct iscsi_conn *oldest = container_of(s->strangers.next, struct iscsi_conn, stranger_link);
    no_stranger(s, oldest);
    iscsi_conn_poke(oldest, ISCSI_POKE_DROP);
}

void iscsi_conn_make_room(void *server)
{
    struct iscsi_server *s = server;
    rt_mutex_lock(&s->lock);
    size_t part = (s->stranger_count + ISCSI_SPARED_PART - 1) / ISCSI_SPARED_PART;
    for (size_t i = 0; i < part; i++) {
        drop_oldest(s);
    }
    rt_mutex_unlock(&s->lock);
}

/*
 * Strangers are many. When there are too many the oldest has to go, not the newest: a login takes
 * milliseconds, and those who mean none shall not lock the others out.
 */
static void admit_stranger(struct iscsi_conn *c)
{
    struct iscsi_server *s = c->server;
    rt_mutex_lock(&s->lock);
    bool crowded = s->stranger_count >= ISCSI_PENDING_MAX;
    if (crowded) {
        drop_oldest(s);
    }
    list_push_back(&s->strangers, &c->stranger_link);
    s->stranger_count++;
    rt_mutex_unlock(&s->lock);
    if (crowded) {
        msg_warn_paced("iscsi", "%s: too many have not logged in: the oldest is sent away",
                       c->peer);
    }
}

/* Who only asks for the targets stays one: nobody counts discovery sessions, and none is long. */
static void know_stranger(struct iscsi_conn *c)
{
    if (c->session->discovery) {
        return;
    }
    rt_mutex_lock(&c->server->lock);
    no_stranger(c->server, c);
    rt_mutex_unlock(&c->server->lock);
}

static void delist(struct iscsi_conn *c)
{
    struct iscsi_server *s = c->server;
    rt_mutex_lock(&s->lock);
    no_stranger(s, c);
    list_remove(&c->all_link);
    s->conn_count--;
    rt_waitq_wake_all(&s->changed);
    rt_mutex_unlock(&s->lock);
}

/* So that the last response is not lost to a reset: until the peer has closed too, for a moment. */
static void linger(struct iscsi_conn *c)
{
    uint64_t deadline = rt_after_ms(LINGER_MS);
    net_send_flush(c->stream);
    while (net_recv(c->stream, c->rx.small, sizeof c->rx.small, deadline) > 0) {
    }
}

/* Full feature phase, or the login, is over for the reason r. */
static void close_down(struct iscsi_conn *c, int r)
{
    if (c->broken == 0) {
        c->broken = r;
    }
    net_send_flush(c->stream);
    iscsi_conn_unheard(c);
    iscsi_ffp_drop_held(c->session, c);
    if (c->session->fences > 0) {
        iscsi_fence_wake(c->session);
    }
    iscsi_conn_hold(c);
    rt_shield();
    c->state = ISCSI_CONN_CLOSING;
    c->keeps = false;
    iscsi_tasks_abort(c);
    iscsi_sent_free_all(c);
    iscsi_session_leave(c);
    iscsi_logout_end(c);
    iscsi_text_reset(c);
    iscsi_rx_free(c);
    rt_unshield();
    linger(c);
    c->poke_ready = false;
    delist(c);
    net_close(c->stream);
    c->stream = NULL;
}

/* From the first request to the last. */
static void serve(struct iscsi_conn *c)
{
    int r = iscsi_login(c);
    know_stranger(c);
    if (r >= 0) {
        r = iscsi_ffp_run(c);
        if (r == ERR_PROTOCOL) {
            msg_warn_paced("iscsi", "%s: %s broke the protocol; the connection is ended", c->peer,
                           c->session->initiator);
        } else {
            msg_debug("iscsi", "%s: connection %u of %s ends: %s", c->peer, (unsigned)c->cid,
                      c->session->initiator, err_name(r));
        }
    }
    close_down(c, r);
    iscsi_conn_unref(c);
}

void iscsi_conn_serve(struct net_stream *stream, void *server)
{
    struct iscsi_conn *c = conn_new(server, stream);
    if (!c) {
        msg_warn_paced("iscsi", "a connection is refused: no memory");
        net_close(stream);
        return;
    }
    enlist(c);
    admit_stranger(c);
    unsigned core = iscsi_conn_core(c);
    if (core == rt_core_self()) {
        serve(c);
    } else {
        iscsi_conn_move(c, core, serve);
    }
}
