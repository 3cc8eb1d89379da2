/* SPDX-License-Identifier: Apache-2.0 */
/* Listeners, the life of a connection, drain, counts. */
#include "base/assert.h"
#include "base/err.h"
#include "base/msg.h"
#include "nbd/conn.h"
#include <stdio.h>

#define INGRESS_BYTES (64ull << 20)
#define DRAIN_STEP_MS 5u

static struct nbd_conn *conn_new(struct nbd_server *s, struct net_stream *stream)
{
    struct nbd_conn *c = calloc(1, sizeof *c);
    if (!c) {
        return NULL;
    }
    if (rt_group_create(&c->group) < 0) {
        free(c);
        return NULL;
    }
    c->server = s;
    c->stream = stream;
    atomic_store(&c->core_index, rt_core_self());
    c->core = &s->cores[rt_core_self()];
    net_peer_address(stream, c->peer);
    rt_mem_add(RT_MEM_CONNECTIONS, sizeof *c);
    list_push_back(&c->core->conns, &c->link);
    list_init(&c->stranger_link);
    return c;
}

static void conn_free(struct nbd_conn *c)
{
    list_remove(&c->link);
    nbd_rx_free(c);
    free(c->context_name);
    rt_group_destroy(c->group);
    rt_mem_add(RT_MEM_CONNECTIONS, -(int64_t)sizeof *c);
    free(c);
}

/* Requests are cancelled where the peer is gone; otherwise they have ended already. */
static void conn_end(struct nbd_conn *c, int r) WAITS
{
    if (r < 0) {
        rt_group_cancel(c->group);
    }
    rt_group_wait(c->group);
    ASSERT(c->inflight == 0);
    if (c->dev) {
        dev_detach(c->dev, &c->watch);
        dev_unref(c->dev);
    }
}

static void say_end(const struct nbd_conn *c, const char *phase, int r)
{
    bool plain = r >= 0 || r == -ECONNRESET || r == -EPIPE || r == -ECANCELED;
    if (plain) {
        msg_debug("nbd", "%s: the connection has ended", c->peer);
    } else {
        msg_info_paced("nbd", "%s: closed in the %s: %s (%s)", c->peer, phase, err_text(r),
                       err_name(r));
    }
}

/* With s->lock held. */
static void no_stranger(struct nbd_server *s, struct nbd_conn *c)
{
    list_remove(&c->stranger_link);
    s->stranger_count -= c->is_stranger;
    c->is_stranger = false;
}

/* On a core. */
static void evict(void *arg)
{
    struct nbd_server *s = arg;
    struct list *unwanted = &s->cores[rt_core_self()].unwanted;
    rt_mutex_lock(&s->lock);
    while (!list_is_empty(unwanted)) {
        struct nbd_conn *c = container_of(unwanted->next, struct nbd_conn, stranger_link);
        list_remove(&c->stranger_link);
        rt_mutex_unlock(&s->lock);
        net_shutdown(c->stream);
        rt_mutex_lock(&s->lock);
    }
    rt_mutex_unlock(&s->lock);
    atomic_fetch_sub(&s->kicks, 1);
}

/* With s->lock held; there is one. */
static void drop_oldest(struct nbd_server *s)
{
    struct nbd_conn *oldest = container_of(s->strangers.next, struct nbd_conn, stranger_link);
    no_stranger(s, oldest);
    list_push_back(&oldest->core->unwanted, &oldest->stranger_link);
    atomic_fetch_add(&s->kicks, 1);
    if (rt_spawn_on(atomic_load(&oldest->core_index), "nbd-evict", evict, s) < 0) {
        atomic_fetch_sub(&s->kicks, 1); /* it goes with the next one */
    }
}

static void admit_stranger(struct nbd_conn *c)
{
    struct nbd_server *s = c->server;
    rt_mutex_lock(&s->lock);
    bool crowded = s->stranger_count >= NBD_PENDING_MAX;
    if (crowded) {
        drop_oldest(s);
    }
    list_push_back(&s->strangers, &c->stranger_link);
    c->is_stranger = true;
    s->stranger_count++;
    rt_mutex_unlock(&s->lock);
    if (crowded) {
        msg_warn_paced("nbd", "%s: too many are in the handshake: the oldest is sent away",
                       c->peer);
    }
}

static void know_stranger(struct nbd_conn *c)
{
    rt_mutex_lock(&c->server->lock);
    no_stranger(c->server, c);
    rt_mutex_unlock(&c->server->lock);
}

static void make_room(void *arg)
{
    struct nbd_server *s = arg;
    rt_mutex_lock(&s->lock);
    size_t part = (s->stranger_count + NBD_SPARED_PART - 1) / NBD_SPARED_PART;
    for (size_t i = 0; i < part; i++) {
        drop_oldest(s);
    }
    rt_mutex_unlock(&s->lock);
}

static void conn_close(struct nbd_conn *c, int r) WAITS
{
    struct net_stream *stream = c->stream;
    conn_end(c, r);
    conn_free(c);
    net_close(stream);
}

static void session_end(struct nbd_conn *c, int r) WAITS
{
    say_end(c, "transmission", r);
    conn_close(c, r);
}

static void conn_run(struct nbd_conn *c) WAITS
{
    admit_stranger(c);
    int r = nbd_handshake(c);
    know_stranger(c);
    if (r == 0) {
        nbd_count(&c->core->handshakes, 1);
        nbd_session_run(c, session_end);
        return;
    }
    if (r < 0) {
        nbd_count(&c->core->handshake_failures, 1);
    }
    say_end(c, "handshake", r);
    if (r > 0) {
        (void)!net_send_wait(c->stream, 0);
    }
    conn_close(c, r);
}

void nbd_conn_serve(struct net_stream *stream, void *server)
{
    struct nbd_server *s = server;
    struct nbd_conn *c = conn_new(s, stream);
    if (!c) {
        net_close(stream);
        return;
    }
    nbd_count(&c->core->connections, 1);
    conn_run(c);
}

/*
 * On a core: ends its connections whose device is gone. What they still ask would only give errors.
 */
static void kick(void *arg)
{
    struct nbd_server *s = arg;
    list_for_each(&s->cores[rt_core_self()].conns, struct nbd_conn, link, c) {
        if (c->dev && dev_is_gone(c->dev)) {
            net_send_flush(c->stream);
            net_shutdown(c->stream);
        }
    }
    atomic_fetch_sub(&s->kicks, 1);
}

void nbd_server_kick(struct nbd_server *s, unsigned core)
{
    atomic_fetch_add(&s->kicks, 1);
    if (rt_spawn_on(core, "nbd-kick", kick, s) < 0) {
        atomic_fetch_sub(&s->kicks, 1);
    }
}

void nbd_close(struct nbd_server *s)
{
    for (size_t i = 0; s && i < s->listener_count; i++) {
        net_listener_close(take(s->listeners[i]));
    }
}

static void server_free(struct nbd_server *s) WAITS
{
    nbd_close(s);
    while (atomic_load(&s->kicks) > 0) {
        rt_yield();
    }
    net_tls_free(s->tls);
    rt_credits_destroy(&s->ingress);
    rt_mutex_destroy(&s->lock);
    free(s->listeners);
    free(s->cores);
    free(s);
}

static int listen_at(struct nbd_server *s, const char *address) WAITS
{
    struct net_listen_options opt = {
        .address = address,
        .name = "nbd",
        .connections_max = s->opt.connections_max + NBD_PENDING_MAX,
        .serve = nbd_conn_serve,
        .crowded = make_room,
        .arg = s,
    };
    int r = net_listen(&opt, &s->listeners[s->listener_count]);
    if (r < 0) {
        msg_error("nbd", "cannot listen on %s: %s", address, err_text(r));
        return r;
    }
    s->listener_count++;
    return 0;
}

static int listen_all(struct nbd_server *s) WAITS
{
    for (size_t i = 0; i < s->opt.address_count; i++) {
        int r = listen_at(s, s->opt.addresses[i]);
        if (r < 0) {
            return r;
        }
    }
    if (!s->opt.unix_socket) {
        return 0;
    }
    char address[NET_ADDRESS_SIZE];
    int n = snprintf(address, sizeof address, "unix:%s", s->opt.unix_socket);
    return n < (int)sizeof address ? listen_at(s, address) : -ENAMETOOLONG;
}

static int server_new(const struct nbd_options *opt, struct nbd_server **ret_server)
{
    struct nbd_server *s = calloc(1, sizeof *s);
    if (!s) {
        return -ENOMEM;
    }
    s->opt = *opt;
    s->opt.connections_max = opt->connections_max ? opt->connections_max : 16384;
    s->opt.handshake_timeout_s = opt->handshake_timeout_s ? opt->handshake_timeout_s : 15;
    s->core_count = rt_core_count();
    s->cores = aligned_alloc(_Alignof(struct nbd_core), s->core_count * sizeof(struct nbd_core));
    s->listeners = calloc(opt->address_count + 1, sizeof(struct net_listener *));
    if (!s->cores || !s->listeners) {
        free(s->cores);
        free(s->listeners);
        free(s);
        return -ENOMEM;
    }
    memset(s->cores, 0, s->core_count * sizeof(struct nbd_core));
    for (unsigned i = 0; i < s->core_count; i++) {
        list_init(&s->cores[i].conns);
        list_init(&s->cores[i].unwanted);
    }
    rt_credits_init(&s->ingress, INGRESS_BYTES);
    rt_mutex_init(&s->lock);
    list_init(&s->strangers);
    *ret_server = s;
    return 0;
}

int nbd_start(const struct nbd_options *opt, struct nbd_server **ret_server)
{
    struct nbd_server *s;
    int r = server_new(opt, &s);
    if (r < 0) {
        return r;
    }
    if (opt->tls != NBD_TLS_OFF) {
        r = net_tls_create(&opt->tls_files, &s->tls);
    }
    if (r >= 0) {
        r = listen_all(s);
    }
    if (r < 0) {
        server_free(s);
        return r;
    }
    *ret_server = s;
    return 0;
}

int nbd_address(const struct nbd_server *s, size_t i, char ret_text[NET_ADDRESS_SIZE])
{
    if (i >= s->listener_count) {
        return -ENOENT;
    }
    net_listener_address(s->listeners[i], ret_text);
    return 0;
}

/*
 * Requests under way, on all cores. What has ended is read first, so that the sum is never too
 * small.
 */
static uint64_t under_way(const struct nbd_server *s)
{
    uint64_t ended = 0;
    uint64_t begun = 0;
    for (unsigned i = 0; i < s->core_count; i++) {
        ended += atomic_load(&s->cores[i].requests_ended);
    }
    for (unsigned i = 0; i < s->core_count; i++) {
        begun += atomic_load(&s->cores[i].requests);
    }
    return begun - ended;
}

void nbd_drain(struct nbd_server *s, uint64_t deadline_ns)
{
    atomic_store(&s->draining, true);
    for (size_t i = 0; i < s->listener_count; i++) {
        net_listener_stop(s->listeners[i]);
    }
    while (under_way(s) > 0 && rt_now_ns() < deadline_ns) {
        if (rt_sleep_ms(DRAIN_STEP_MS) < 0) {
            return;
        }
    }
}

void nbd_stop(struct nbd_server *s)
{
    if (s) {
        server_free(s);
    }
}

void nbd_counts(const struct nbd_server *s, struct nbd_counts *ret_counts)
{
    struct nbd_counts n = {0};
    for (unsigned i = 0; i < s->core_count; i++) {
        const struct nbd_core *c = &s->cores[i];
        n.connections += atomic_load(&c->connections);
        n.handshakes += atomic_load(&c->handshakes);
        n.handshake_failures += atomic_load(&c->handshake_failures);
        n.requests += atomic_load(&c->requests);
        n.errors += atomic_load(&c->errors);
        n.bytes_in += atomic_load(&c->bytes_in);
        n.bytes_out += atomic_load(&c->bytes_out);
        for (unsigned b = 0; b < 32; b++) {
            n.latency_us_log2[b] += atomic_load(&c->latency_us_log2[b]);
        }
    }
    *ret_counts = n;
}
