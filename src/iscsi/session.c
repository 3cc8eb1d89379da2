/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sessions: their table, who joins them, how they end.
 *
 * A login makes a session of its own, in no table. A new one (TSIH 0) enters the table with it; a
 * login with a TSIH gives its own up for the one that is there, on whose core it is already
 * (conn.c moves it there).
 *
 * INVARIANTS
 *   S1. At most one session in the table has a given (initiator name, ISID, target, tag of the
 *       portal group): the I_T nexus of RFC 7143 §4.4.
 *   S2. A session leaves the table only after all of its tasks have ended and its nexus is gone, so
 *       whoever waits for it to leave (reinstatement, §6.3.5) may start at once.
 *   S3. A session in the table has its TSIH, which is not zero.
 *   S4. Who joins counts as a member from the moment it is found good, before it waits for an older
 *       connection to go: a session does not end between the two. Whoever is the last member to
 *       leave ends it.
 */
#include "base/assert.h"
#include "base/hash.h"
#include "base/msg.h"
#include "dev/access.h"
#include "iscsi/auth.h"
#include "iscsi/conn_priv.h"
#include "iscsi/task.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

int iscsi_session_new(struct iscsi_server *server, struct iscsi_session **ret_session)
{
    struct iscsi_session *s = calloc(1, sizeof *s);
    if (!s) {
        return -ENOMEM;
    }
    int r = rt_group_create(&s->group);
    if (r < 0) {
        free(s);
        return r;
    }
    s->server = server;
    s->core = rt_core_self();
    atomic_store(&s->refs, 1);
    list_init(&s->table_link);
    list_init(&s->tsih_link);
    list_init(&s->conns);
    list_init(&s->held);
    rt_credits_init(&s->solicited, ISCSI_SOLICITED_BYTES);
    rt_mutex_init(&s->fence_lock);
    rt_waitq_init(&s->fence);
    rt_mem_add(RT_MEM_CONNECTIONS, sizeof *s);
    *ret_session = s;
    return 0;
}

struct iscsi_session *iscsi_session_ref(struct iscsi_session *s)
{
    atomic_fetch_add(&s->refs, 1);
    return s;
}

void iscsi_session_unref(struct iscsi_session *s)
{
    if (atomic_fetch_sub(&s->refs, 1) != 1) {
        return;
    }
    ASSERT(s->task_count == 0 && s->held_count == 0 && s->members == 0);
    iscsi_task_pool_free(s);
    rt_group_destroy(s->group);
    rt_credits_destroy(&s->solicited);
    rt_mutex_destroy(&s->fence_lock);
    free(s->initiator);
    free(s->user);
    free(s->iqn);
    free(s);
    rt_mem_add(RT_MEM_CONNECTIONS, -(int64_t)sizeof *s);
}

static struct list *bucket_of(const struct iscsi_session *s)
{
    uint64_t h = hash_bytes(s->initiator, strlen(s->initiator));
    h = hash_pair(h, hash_bytes(s->iqn, strlen(s->iqn)));
    h = hash_pair(h, hash_bytes(s->isid, sizeof s->isid));
    return &s->server->buckets[h % ISCSI_SESSION_BUCKETS];
}

static struct list *tsih_bucket_of(struct iscsi_server *server, uint16_t tsih)
{
    return &server->tsih_buckets[tsih % ISCSI_SESSION_BUCKETS];
}

static bool same_nexus(const struct iscsi_session *a, const struct iscsi_session *b)
{
    return memcmp(a->isid, b->isid, sizeof a->isid) == 0 && a->tpgt == b->tpgt &&
           strcmp(a->initiator, b->initiator) == 0 && strcmp(a->iqn, b->iqn) == 0;
}

/* With server->lock held: the session of the table that s is another of. */
static struct iscsi_session *find(const struct iscsi_session *s)
{
    list_for_each(bucket_of(s), struct iscsi_session, table_link, each) {
        if (same_nexus(each, s)) {
            return each;
        }
    }
    return NULL;
}

static void insert(struct iscsi_session *s)
{
    list_push_back(bucket_of(s), &s->table_link);
    list_push_back(tsih_bucket_of(s->server, s->tsih), &s->tsih_link);
    s->in_table = true;
    s->server->session_count++;
}

unsigned iscsi_session_core(struct iscsi_server *server, const uint8_t isid[6], uint16_t tsih)
{
    unsigned core = rt_core_self();
    rt_mutex_lock(&server->lock);
    list_for_each(tsih_bucket_of(server, tsih), struct iscsi_session, tsih_link, s) {
        if (s->tsih == tsih && memcmp(s->isid, isid, sizeof s->isid) == 0) {
            core = s->core;
        }
    }
    rt_mutex_unlock(&server->lock);
    return core;
}

/*
 * The unsolicited data of a whole window: as much for each command as a quarter of what is free
 * allows, or nothing, and then every byte is asked for by R2T.
 */
void iscsi_session_reserve(struct iscsi_session *s)
{
    static const uint32_t steps[] = {ISCSI_FIRST_BURST_MAX, 16384, 8192};
    struct rt_credits *pool = &s->server->ingress;
    if (s->discovery) {
        return;
    }
    for (size_t i = 0; i < ARRAY_LEN(steps); i++) {
        uint64_t want = (uint64_t)steps[i] * ISCSI_WINDOW_MAX;
        uint64_t used = rt_credits_used(pool);
        if (used + want * 4 <= pool->total && rt_credits_try(pool, want)) {
            s->reserved = want;
            return;
        }
    }
}

int iscsi_session_admit(struct iscsi_conn *c, bool is_new)
{
    struct iscsi_server *server = c->server;
    struct iscsi_session *s = c->session;
    if (s->discovery) {
        iscsi_isns_meet(server, s->initiator);
        return 0;
    }
    rt_mutex_lock(&server->lock);
    bool full = server->session_count >= server->sessions_max;
    rt_mutex_unlock(&server->lock);
    if (full && is_new) {
        return -ISCSI_LOGIN_NO_RESOURCES;
    }
    if (!dev_target_is_reached(server->registry, s->iqn, s->tpgt)) {
        return -ISCSI_LOGIN_NOT_FOUND;
    }
    int r = scsi_target_get(server->host, s->iqn, &s->target);
    if (r < 0) {
        return r == -ENOENT ? -ISCSI_LOGIN_NOT_FOUND : -ISCSI_LOGIN_NO_RESOURCES;
    }
    struct dev_access *rules;
    r = dev_access_get(server->registry, s->iqn, &rules);
    if (r < 0) {
        return -ISCSI_LOGIN_NOT_FOUND;
    }
    bool allowed = dev_access_allows(rules, s->initiator, c->peer);
    dev_access_unref(rules);
    if (allowed && is_new) { /* a connection more does not ask anew whether the session may be */
        iscsi_isns_meet(server, s->initiator);
        allowed = iscsi_isns_allows(server, s->iqn, s->initiator);
    }
    return allowed ? 0 : -ISCSI_LOGIN_FORBIDDEN;
}

void iscsi_session_limits(const struct iscsi_session *s, struct iscsi_limits *ret_limits)
{
    *ret_limits = (struct iscsi_limits){
        .recv_len = ISCSI_RECV_LEN,
        .max_burst = ISCSI_BURST_MAX,
        .first_burst = (uint32_t)(s->reserved / ISCSI_WINDOW_MAX),
        .max_r2t = ISCSI_R2T_MAX,
        .max_connections = s->server->connections_max,
        .recovery = s->server->recovery,
        .time2retain = ISCSI_RETAIN_SECONDS,
        .immediate = s->reserved > 0,
        .unsolicited = s->reserved > 0,
    };
}

static void give_back(struct iscsi_session *s, uint64_t keep)
{
    if (s->reserved > keep) {
        rt_credits_give(&s->server->ingress, s->reserved - keep);
        s->reserved = keep;
    }
}

int iscsi_session_window(struct iscsi_session *s)
{
    uint64_t each = s->discovery ? 0 : iscsi_params_unsolicited(&s->params);
    s->window_size = ISCSI_WINDOW_MAX;
    if (each == 0) {
        give_back(s, 0);
        return 0;
    }
    /* An initiator that did not offer the keys keeps their defaults, which may be more than what we
     * had in mind. */
    if (s->reserved < each && !s->reserved) {
        uint64_t want = each * 4;
        if (!rt_credits_try(&s->server->ingress, want)) {
            return -ISCSI_LOGIN_NO_RESOURCES;
        }
        s->reserved = want;
    }
    uint64_t window = s->reserved / each;
    if (window == 0) {
        return -ISCSI_LOGIN_NO_RESOURCES;
    }
    s->window_size = (uint32_t)MIN_OF(window, ISCSI_WINDOW_MAX);
    give_back(s, s->window_size * each);
    return 0;
}

/* From scsi, on any core: it wants the session gone. */
static void on_dropped(void *arg)
{
    iscsi_session_poke(arg, ISCSI_POKE_ASYNC_DROP);
}

static void on_news(void *arg)
{
    iscsi_session_poke(arg, ISCSI_POKE_NEWS);
}

static int make_nexus(struct iscsi_session *s, const char *peer)
{
    struct scsi_nexus_options opt = {.initiator_name = s->initiator,
                                     .address = peer,
                                     .tpgt = s->tpgt,
                                     .relative_port = s->tpgt,
                                     .dropped = on_dropped,
                                     .news = on_news,
                                     .arg = s};
    memcpy(opt.isid, s->isid, sizeof opt.isid);
    return scsi_nexus_create(s->target, &opt, &s->nexus);
}

/* With server->lock held. */
static void join(struct iscsi_session *s, struct iscsi_conn *c)
{
    list_push_back(&s->conns, &c->session_link);
    c->joined = true;
    c->since_ns = rt_now_ns();
}

static uint16_t next_tsih(struct iscsi_server *server)
{
    if (++server->last_tsih == 0) {
        server->last_tsih = 1;
    }
    return server->last_tsih;
}

/*
 * Whoever proves who he is leaves alone what belongs to another who did, under the same name of an
 * initiator: such an account is good for more than one.
 */
static bool is_anothers(const struct iscsi_session *s, const struct iscsi_conn *c)
{
    return s->user && c->auth.user &&
           (s->method != c->auth.method || strcmp(s->user, c->auth.user) != 0);
}

/*
 * TSIH 0: a new session. One with the same nexus is ended first (§6.3.5), and its tasks with it.
 * With server->lock held, which is released while waiting.
 */
static int open_new(struct iscsi_conn *c, uint64_t deadline_ns)
{
    struct iscsi_server *server = c->server;
    struct iscsi_session *s = c->session;
    struct iscsi_session *old;
    while ((old = find(s)) != NULL) {
        if (is_anothers(old, c)) {
            return -ISCSI_LOGIN_FORBIDDEN;
        }
        msg_info_paced("iscsi", "%s: %s logs in again: its old session is ended", c->peer,
                       s->initiator);
        iscsi_session_poke(old, ISCSI_POKE_DROP);
        int r = rt_waitq_wait(&server->changed, &server->lock, deadline_ns);
        if (r < 0) {
            return -ISCSI_LOGIN_UNAVAILABLE;
        }
    }
    if (server->session_count >= server->sessions_max) {
        return -ISCSI_LOGIN_NO_RESOURCES;
    }
    if (c->auth.user) {
        s->user = strdup(c->auth.user);
        if (!s->user) {
            return -ISCSI_LOGIN_NO_RESOURCES;
        }
    }
    s->method = c->auth.method;
    s->tsih = next_tsih(server);
    s->since_ns = rt_now_ns();
    s->members = 1;
    insert(s);
    join(s, c);
    return 0;
}

struct iscsi_conn *iscsi_session_cid(struct iscsi_session *s, uint16_t cid)
{
    list_for_each(&s->conns, struct iscsi_conn, session_link, each) {
        if (each->cid == cid && !each->recovered) {
            return each;
        }
    }
    return NULL;
}

/* The connection with c's CID is ended first (§6.3.4), and its tasks with it. As open_new(). */
static int replace(struct iscsi_conn *c, struct iscsi_session *s, uint64_t deadline_ns)
{
    struct iscsi_conn *old = iscsi_session_cid(s, c->cid);
    if (old->replaced) {
        return -ISCSI_LOGIN_CANNOT_INCLUDE;
    }
    if (s->params.recovery == 2 && s->params.time2retain > 0 && !old->logged_out) {
        iscsi_conn_recover(old); /* an implicit logout, for recovery */
        return 0;
    }
    old->replaced = true;
    while (iscsi_session_cid(s, c->cid) == old) {
        iscsi_conn_poke(old, ISCSI_POKE_DROP);
        int r = rt_waitq_wait(&s->server->changed, &s->server->lock, deadline_ns);
        if (r < 0) {
            return -ISCSI_LOGIN_UNAVAILABLE;
        }
    }
    /* Another login with the CID was quicker, after the old one went. */
    return iscsi_session_cid(s, c->cid) ? -ISCSI_LOGIN_CANNOT_INCLUDE : 0;
}

/* With so many that have failed and were recovered, the oldest of them is not waited for. */
static bool let_go(struct iscsi_session *s)
{
    list_for_each(&s->conns, struct iscsi_conn, session_link, each) {
        if (each->state == ISCSI_CONN_FAILED && each->recovered && !each->logged_out) {
            each->logged_out = true;
            rt_gate_wake(&each->all_done);
            return true;
        }
    }
    return false;
}

/*
 * A TSIH: c is to be one more connection of that session, or to take the place of an older one.
 * Gives the session that is not c's: its own of before, or when it fails the one it is a member of.
 */
static int open_old(struct iscsi_conn *c, uint16_t tsih, uint64_t deadline_ns,
                    struct iscsi_session **ret_other)
{
    struct iscsi_session *s = find(c->session);
    if (!s || s->tsih != tsih || s->ending) {
        return -ISCSI_LOGIN_NO_SESSION;
    }
    if (is_anothers(s, c)) {
        return -ISCSI_LOGIN_FORBIDDEN;
    }
    if (s->core != rt_core_self()) {
        return -ISCSI_LOGIN_UNAVAILABLE; /* it has come since, or the login is too slow for it */
    }
    bool again = iscsi_session_cid(s, c->cid) != NULL;
    unsigned most = s->params.max_connections;
    /* Where tasks can be recovered, one more may come for that: §6.3.4. */
    if ((!again && s->members - s->failed >= most + (s->params.recovery == 2)) ||
        (s->members >= 2 * ISCSI_CONNECTIONS_MAX && !let_go(s))) {
        return -ISCSI_LOGIN_TOO_MANY_CONNECTIONS;
    }
    s->members++;
    iscsi_session_ref(s);
    *ret_other = s;
    int r = again ? replace(c, s, deadline_ns) : 0;
    if (r < 0 || s->ending) {
        return r < 0 ? r : -ISCSI_LOGIN_NO_SESSION;
    }
    *ret_other = c->session;
    c->session = s;
    join(s, c);
    return 0;
}

bool iscsi_session_agreed(struct iscsi_conn *c, uint16_t tsih, struct iscsi_params *ret_params)
{
    if (c->session->discovery) {
        return false; /* it has no target, and is in no table */
    }
    rt_mutex_lock(&c->server->lock);
    const struct iscsi_session *s = find(c->session);
    bool found = s && s->tsih == tsih;
    if (found) {
        *ret_params = s->params;
    }
    rt_mutex_unlock(&c->server->lock);
    return found;
}

static bool is_still_allowed(const struct iscsi_conn *c)
{
    struct dev_access *rules;
    if (dev_access_get(c->server->registry, c->session->iqn, &rules) < 0) {
        return false;
    }
    bool good = iscsi_auth_still_good(c, rules, atomic_load(&c->server->chap_minimum));
    dev_access_unref(rules);
    return good;
}

/* What was reserved for it, and its target. */
static void give_up(struct iscsi_session *s)
{
    give_back(s, 0);
    scsi_target_put(s->target);
    s->target = NULL;
}

/* The last member has left: nobody knows of its tasks any more. */
static void end(struct iscsi_session *s)
{
    struct iscsi_server *server = s->server;
    rt_group_cancel(s->group);
    rt_group_wait(s->group);
    iscsi_ffp_drop_held(s, NULL);
    ASSERT(s->task_count == 0);
    if (s->nexus) {
        scsi_nexus_destroy(s->nexus);
        s->nexus = NULL;
    }
    give_up(s);
    rt_mutex_lock(&server->lock);
    list_remove(&s->table_link);
    list_remove(&s->tsih_link);
    s->in_table = false;
    server->session_count--;
    rt_waitq_wake_all(&server->changed);
    rt_mutex_unlock(&server->lock);
}

static void drop_member(struct iscsi_session *s)
{
    rt_mutex_lock(&s->server->lock);
    bool last = --s->members == 0;
    s->ending = s->ending || last;
    rt_mutex_unlock(&s->server->lock);
    if (last) {
        end(s);
    }
}

/* Session-wide keys are the leading login's. */
static void adopt_params(struct iscsi_conn *c)
{
    const struct iscsi_session *s = c->session;
    c->params.initial_r2t = s->params.initial_r2t;
    c->params.immediate = s->params.immediate;
    c->params.max_burst = s->params.max_burst;
    c->params.first_burst = s->params.first_burst;
    c->params.max_r2t = s->params.max_r2t;
    c->params.level = s->params.level;
    c->params.reporting = s->params.reporting;
    c->params.max_connections = s->params.max_connections;
    c->params.recovery = s->params.recovery;
    c->params.time2wait = s->params.time2wait;
    c->params.time2retain = s->params.time2retain;
}

int iscsi_session_open(struct iscsi_conn *c, uint16_t tsih, uint64_t deadline_ns)
{
    struct iscsi_server *server = c->server;
    struct iscsi_session *other = NULL;
    rt_mutex_lock(&server->lock);
    int r = tsih ? open_old(c, tsih, deadline_ns, &other) : open_new(c, deadline_ns);
    rt_mutex_unlock(&server->lock);
    if (r >= 0 && other) {
        adopt_params(c);
        give_up(other);
    } else if (other) {
        rt_shield();
        drop_member(other);
        rt_unshield();
    }
    if (other) {
        iscsi_session_unref(other);
    } else if (r >= 0 && make_nexus(c->session, c->peer) < 0) {
        r = -ISCSI_LOGIN_NO_RESOURCES;
    }
    if (r < 0) {
        return r;
    }
    /* Whoever changes the rules looks at the table then: what has changed before that is seen here.
     */
    if (!iscsi_portal_still_good(c)) {
        return -ISCSI_LOGIN_NOT_FOUND;
    }
    return is_still_allowed(c) ? 0 : -ISCSI_LOGIN_FORBIDDEN;
}

void iscsi_session_leave(struct iscsi_conn *c)
{
    struct iscsi_session *s = c->session;
    ASSERT(c->task_count == 0);
    if (!c->joined) {
        give_up(s);
        return;
    }
    rt_mutex_lock(&s->server->lock);
    list_remove(&c->session_link);
    c->joined = false;
    rt_waitq_wake_all(&s->server->changed);
    rt_mutex_unlock(&s->server->lock);
    drop_member(s);
}

void iscsi_session_end(struct iscsi_session *s)
{
    rt_mutex_lock(&s->server->lock);
    s->ending = true;
    rt_waitq_wake_all(&s->server->changed);
    rt_mutex_unlock(&s->server->lock);
}

/* One of the connections tells them, for scsi gives each out once. */
static void tell_news(struct iscsi_session *s)
{
    list_for_each(&s->conns, struct iscsi_conn, session_link, c) {
        iscsi_conn_do(c, ISCSI_POKE_NEWS);
    }
}

void iscsi_session_heed(struct iscsi_session *s)
{
    unsigned what = atomic_exchange(&s->pokes, 0);
    if (what & ISCSI_POKE_NEWS) {
        tell_news(s);
    }
    if (what & (ISCSI_POKE_DROP | ISCSI_POKE_ASYNC_DROP)) {
        iscsi_session_end(s);
    }
    list_for_each(&s->conns, struct iscsi_conn, session_link, c) {
        iscsi_conn_do(c, what & ~(unsigned)ISCSI_POKE_NEWS);
    }
}

static void poked(void *arg)
{
    struct iscsi_session *s = arg;
    iscsi_session_heed(s);
    iscsi_session_unref(s);
}

void iscsi_session_poke(struct iscsi_session *s, enum iscsi_poke what)
{
    if (atomic_fetch_or(&s->pokes, what) != 0) {
        return; /* one is on its way */
    }
    iscsi_session_ref(s);
    if (rt_spawn_on(s->core, "iscsi-poke", poked, s) < 0) {
        iscsi_session_unref(s); /* no fiber is free; a connection heeds it when it next runs */
    }
}
