/* SPDX-License-Identifier: Apache-2.0 */
#include "base/assert.h"
#include "base/err.h"
#include "base/msg.h"
#include "iscsi/chap.h"
#include "iscsi/conn_priv.h"
#include "iscsi/kerberos.h"
#include "rt/offload.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define INGRESS_BYTES (64ull << 20)
#define GATHER_BYTES (64ull << 20)
#define RETAINED_BYTES (128ull << 20)
#define CORE_COMMANDS 8192 /* half of a core's fibers */
#define DROP_MS 500        /* for what is said last to who does not log out */

static void free_advertise(char **list, size_t count)
{
    for (size_t i = 0; list && i < count; i++) {
        free(list[i]);
    }
    free(list);
}

int iscsi_advertise_set(struct iscsi_server *s, const char *const *advertise, size_t count)
{
    char **copy = calloc(count ? count : 1, sizeof *copy);
    if (!copy) {
        return -ENOMEM;
    }
    for (size_t i = 0; i < count; i++) {
        copy[i] = strdup(advertise[i]);
        if (!copy[i]) {
            free_advertise(copy, i);
            return -ENOMEM;
        }
    }
    rt_mutex_lock(&s->lock);
    char **old = s->advertise;
    size_t old_count = s->advertise_count;
    s->advertise = copy;
    s->advertise_count = count;
    rt_mutex_unlock(&s->lock);
    free_advertise(old, old_count);
    iscsi_isns_poke(s);
    return 0;
}

static void server_free(struct iscsi_server *s)
{
    free(s->keytab);
    free(s->principal);
    free(s->buckets);
    free(s);
}

static struct iscsi_server *server_new(const struct iscsi_options *opt)
{
    struct iscsi_server *s = aligned_alloc(_Alignof(struct iscsi_server), sizeof *s);
    if (!s) {
        return NULL;
    }
    memset(s, 0, sizeof *s);
    s->buckets = calloc(2 * ISCSI_SESSION_BUCKETS, sizeof *s->buckets);
    if (!s->buckets) {
        free(s);
        return NULL;
    }
    s->tsih_buckets = s->buckets + ISCSI_SESSION_BUCKETS;
    for (size_t i = 0; i < 2 * ISCSI_SESSION_BUCKETS; i++) {
        list_init(&s->buckets[i]);
    }
    s->keytab = opt->keytab ? strdup(opt->keytab) : NULL;
    s->principal = opt->principal ? strdup(opt->principal) : NULL;
    if (!s->keytab != !opt->keytab || !s->principal != !opt->principal) {
        server_free(s);
        return NULL;
    }
    s->registry = opt->registry;
    s->sessions_max = opt->sessions_max ? opt->sessions_max : 16384;
    s->connections_max = MIN_OF(MAX_OF(opt->connections_max, 1u), ISCSI_CONNECTIONS_MAX);
    s->recovery = MIN_OF(opt->recovery, 2u);
    s->core_commands = CORE_COMMANDS;
    s->login_timeout_ns = (opt->login_timeout_s ? opt->login_timeout_s : 15) * 1000000000ull;
    s->nop_interval_ns = (opt->nop_interval_s ? opt->nop_interval_s : 30) * 1000000000ull;
    atomic_init(&s->chap_minimum, opt->chap_minimum ? opt->chap_minimum : ISCSI_CHAP_MD5);
    rt_credits_init(&s->ingress, opt->ingress_bytes ? opt->ingress_bytes : INGRESS_BYTES);
    rt_credits_init(&s->gather, GATHER_BYTES);
    rt_credits_init(&s->retained, RETAINED_BYTES);
    rt_mutex_init(&s->lock);
    rt_waitq_init(&s->changed);
    rt_lock_init(&s->opening, RT_RANK_SESSION);
    list_init(&s->conns);
    list_init(&s->strangers);
    return s;
}

static int listen_all(struct iscsi_server *s, const struct iscsi_options *opt)
{
    for (size_t i = 0; i < opt->address_count; i++) {
        struct net_listen_options l = {.address = opt->addresses[i],
                                       .name = "iscsi",
                                       .connections_max = s->sessions_max + ISCSI_PENDING_MAX,
                                       .serve = iscsi_conn_serve,
                                       .crowded = iscsi_conn_make_room,
                                       .arg = s};
        int r = net_listen(&l, &s->listeners[i]);
        if (r < 0) {
            msg_error("iscsi", "cannot listen on %s: %s", opt->addresses[i], err_text(r));
            return r;
        }
        net_listener_address(s->listeners[i], s->bound[i]);
        s->listener_count++;
    }
    return 0;
}

/* What is wrong with it is better known before somebody logs in. It can be put right meanwhile. */
static void check_keytab(const struct iscsi_server *s) WAITS
{
    struct iscsi_kerberos_job job = {.keytab = s->keytab};
    if (s->keytab && rt_offload(RT_OFFLOAD_IO, iscsi_kerberos_check, &job) < 0) {
        msg_warn("iscsi", "until this is put right nobody logs in by Kerberos: %s", job.why);
    }
}

static bool admits(void *arg, const char *iqn, const char *initiator)
{
    return iscsi_isns_allows(arg, iqn, initiator);
}

int iscsi_start(const struct iscsi_options *opt, struct iscsi_server **ret_server)
{
    if (opt->address_count > ISCSI_PORTALS_MAX) {
        msg_error("iscsi", "more than %d addresses to listen on", ISCSI_PORTALS_MAX);
        return -EINVAL;
    }
    struct iscsi_server *s = server_new(opt);
    if (!s) {
        return -ENOMEM;
    }
    check_keytab(s);
    int r = scsi_host_create(opt->registry, &s->host);
    if (r >= 0) {
        scsi_host_guard(s->host, admits, s);
        r = iscsi_advertise_set(s, opt->advertise, opt->advertise_count);
    }
    if (r >= 0) {
        r = listen_all(s, opt);
    }
    if (r >= 0 && opt->isns) {
        r = iscsi_isns_start(s, opt->isns);
    }
    if (r < 0) {
        iscsi_stop(s);
        return r;
    }
    iscsi_portals_open(s);
    *ret_server = s;
    return 0;
}

int iscsi_address(const struct iscsi_server *s, size_t i, char ret_text[NET_ADDRESS_SIZE])
{
    if (i >= s->listener_count) {
        return -ENOENT;
    }
    memcpy(ret_text, s->bound[i], NET_ADDRESS_SIZE);
    return 0;
}

static void poke_all(struct iscsi_server *s, enum iscsi_poke what)
{
    rt_mutex_lock(&s->lock);
    list_for_each(&s->conns, struct iscsi_conn, all_link, c) {
        iscsi_conn_poke(c, what);
    }
    rt_mutex_unlock(&s->lock);
}

static size_t wait_for_end(struct iscsi_server *s, uint64_t deadline_ns)
{
    int r = 0;
    rt_mutex_lock(&s->lock);
    while (s->conn_count > 0 && r >= 0) {
        r = rt_waitq_wait(&s->changed, &s->lock, deadline_ns);
    }
    size_t left = s->conn_count;
    rt_mutex_unlock(&s->lock);
    return left;
}

static void stop_listening(struct iscsi_server *s)
{
    for (size_t i = 0; i < s->listener_count; i++) {
        net_listener_stop(s->listeners[i]);
    }
    iscsi_portals_close(s, true);
}

void iscsi_drain(struct iscsi_server *s, const char *to, uint64_t deadline_ns)
{
    iscsi_isns_leave(s);
    s->drain_to = to;
    atomic_store(&s->draining, true);
    if (!to) {
        stop_listening(s);
    }
    poke_all(s, ISCSI_POKE_LOGOUT);
    size_t left = wait_for_end(s, deadline_ns);
    stop_listening(s);
    if (left > 0) {
        msg_info("iscsi", "%zu connections have not logged out in time", left);
        poke_all(s, ISCSI_POKE_ASYNC_DROP);
        (void)wait_for_end(s, rt_after_ms(DROP_MS));
    }
}

void iscsi_close(struct iscsi_server *s)
{
    if (!s) {
        return;
    }
    atomic_store(&s->draining, true);
    for (size_t i = 0; i < s->listener_count; i++) {
        rt_mutex_lock(&s->lock);
        struct net_listener *l = take(s->listeners[i]);
        rt_mutex_unlock(&s->lock);
        net_listener_close(l);
    }
    iscsi_portals_close(s, false);
    ASSERT(s->conn_count == 0);
}

void iscsi_stop(struct iscsi_server *s)
{
    if (!s) {
        return;
    }
    iscsi_close(s);
    iscsi_isns_stop(s);
    scsi_host_destroy(s->host);
    free_advertise(s->advertise, s->advertise_count);
    rt_credits_destroy(&s->ingress);
    rt_credits_destroy(&s->gather);
    rt_credits_destroy(&s->retained);
    rt_mutex_destroy(&s->lock);
    rt_lock_destroy(&s->opening);
    server_free(s);
}

static void poke_target(struct iscsi_server *s, const char *iqn, enum iscsi_poke what)
{
    rt_mutex_lock(&s->lock);
    list_for_each(&s->conns, struct iscsi_conn, all_link, c) {
        if (c->joined && strcasecmp(c->session->iqn, iqn) == 0) {
            iscsi_conn_poke(c, what);
        }
    }
    rt_mutex_unlock(&s->lock);
}

void iscsi_target_drop(struct iscsi_server *s, const char *iqn)
{
    poke_target(s, iqn, ISCSI_POKE_ASYNC_DROP);
}

void iscsi_target_logout(struct iscsi_server *s, const char *iqn)
{
    poke_target(s, iqn, ISCSI_POKE_LOGOUT);
}

void iscsi_luns_changed(struct iscsi_server *s, const char *iqn)
{
    poke_target(s, iqn, ISCSI_POKE_NEWS);
}

void iscsi_counts(const struct iscsi_server *server, struct iscsi_counts *ret_counts)
{
    struct iscsi_server *s = (struct iscsi_server *)server; /* for its lock */
    *ret_counts = (struct iscsi_counts){.logins = atomic_load(&s->logins),
                                        .login_failures = atomic_load(&s->login_failures),
                                        .auth_failures = atomic_load(&s->auth_failures)};
    rt_mutex_lock(&s->lock);
    ret_counts->sessions = s->session_count;
    ret_counts->connections = s->conn_count;
    rt_mutex_unlock(&s->lock);
    for (size_t i = 0; i < RT_CORES_MAX; i++) {
        const struct iscsi_core *k = &s->cores[i];
        ret_counts->commands += atomic_load_explicit(&k->commands, memory_order_relaxed);
        ret_counts->digest_errors += atomic_load_explicit(&k->digest_errors, memory_order_relaxed);
        ret_counts->rejects += atomic_load_explicit(&k->rejects, memory_order_relaxed);
        for (size_t j = 0; j < ARRAY_LEN(k->latency); j++) {
            ret_counts->latency_us_log2[j] +=
                atomic_load_explicit(&k->latency[j], memory_order_relaxed);
        }
    }
}
