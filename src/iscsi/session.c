/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The table of sessions.
 *
 * INVARIANTS
 *   S1. At most one session in the table has a given (initiator name, ISID, target): the I_T nexus
 * of RFC 7143 §4.4. S2. A session leaves the table only after all of its tasks have ended and its
 * nexus is gone or handed over, so whoever waits for it to leave (reinstatement, §6.3.5) may start
 * at once. S3. A session in the table has its TSIH, which is not zero.
 */
#include "base/assert.h"
#include "base/hash.h"
#include "base/msg.h"
#include "dev/access.h"
#include "iscsi/auth.h"
#include "iscsi/conn_priv.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static struct list *bucket_of(const struct iscsi_conn *c)
{
    uint64_t h = hash_bytes(c->initiator, strlen(c->initiator));
    h = hash_pair(h, hash_bytes(c->iqn, strlen(c->iqn)));
    h = hash_pair(h, hash_bytes(c->isid, sizeof c->isid));
    return &c->server->buckets[h % ISCSI_SESSION_BUCKETS];
}

static bool same_nexus(const struct iscsi_conn *a, const struct iscsi_conn *b)
{
    return memcmp(a->isid, b->isid, sizeof a->isid) == 0 &&
           strcmp(a->initiator, b->initiator) == 0 && strcmp(a->iqn, b->iqn) == 0;
}

/* With server->lock held. */
static struct iscsi_conn *find(const struct iscsi_conn *c)
{
    list_for_each(bucket_of(c), struct iscsi_conn, session_link, each) {
        if (same_nexus(each, c)) {
            return each;
        }
    }
    return NULL;
}

static void insert(struct iscsi_conn *c)
{
    list_push_back(bucket_of(c), &c->session_link);
    c->in_table = true;
    c->server->session_count++;
}

/*
 * The unsolicited data of a whole window: as much for each command as a quarter of what is free
 * allows, or nothing, and then every byte is asked for by R2T.
 */
void iscsi_session_reserve(struct iscsi_conn *c)
{
    static const uint32_t steps[] = {ISCSI_FIRST_BURST_MAX, 16384, 8192};
    struct rt_credits *pool = &c->server->ingress;
    if (c->discovery) {
        return;
    }
    for (size_t i = 0; i < ARRAY_LEN(steps); i++) {
        uint64_t want = (uint64_t)steps[i] * ISCSI_WINDOW_MAX;
        uint64_t used = rt_credits_used(pool);
        if (used + want * 4 <= pool->total && rt_credits_try(pool, want)) {
            c->reserved = want;
            return;
        }
    }
}

int iscsi_session_admit(struct iscsi_conn *c)
{
    struct iscsi_server *s = c->server;
    if (c->discovery) {
        return 0;
    }
    rt_mutex_lock(&s->lock);
    bool full = s->session_count >= s->sessions_max;
    rt_mutex_unlock(&s->lock);
    if (full) {
        return -ISCSI_LOGIN_NO_RESOURCES;
    }
    int r = scsi_target_get(s->host, c->iqn, &c->target);
    if (r < 0) {
        return r == -ENOENT ? -ISCSI_LOGIN_NOT_FOUND : -ISCSI_LOGIN_NO_RESOURCES;
    }
    struct dev_access *rules;
    r = dev_access_get(s->registry, c->iqn, &rules);
    if (r < 0) {
        return -ISCSI_LOGIN_NOT_FOUND;
    }
    bool allowed = dev_access_allows(rules, c->initiator, c->peer);
    dev_access_unref(rules);
    return allowed ? 0 : -ISCSI_LOGIN_FORBIDDEN;
}

void iscsi_session_limits(struct iscsi_conn *c, struct iscsi_limits *ret_limits)
{
    *ret_limits = (struct iscsi_limits){
        .recv_len = ISCSI_RECV_LEN,
        .max_burst = ISCSI_BURST_MAX,
        .first_burst = (uint32_t)(c->reserved / ISCSI_WINDOW_MAX),
        .max_r2t = ISCSI_R2T_MAX,
        .immediate = c->reserved > 0,
        .unsolicited = c->reserved > 0,
    };
}

static void give_back(struct iscsi_conn *c, uint64_t keep)
{
    if (c->reserved > keep) {
        rt_credits_give(&c->server->ingress, c->reserved - keep);
        c->reserved = keep;
    }
}

int iscsi_session_window(struct iscsi_conn *c)
{
    uint64_t each = c->discovery ? 0 : iscsi_params_unsolicited(&c->params);
    c->window_size = ISCSI_WINDOW_MAX;
    if (each == 0) {
        give_back(c, 0);
        return 0;
    }
    /* An initiator that did not offer the keys keeps their defaults, which may be more than what we
     * had in mind. */
    if (c->reserved < each && !c->reserved) {
        uint64_t want = each * 4;
        if (!rt_credits_try(&c->server->ingress, want)) {
            return -ISCSI_LOGIN_NO_RESOURCES;
        }
        c->reserved = want;
    }
    uint64_t window = c->reserved / each;
    if (window == 0) {
        return -ISCSI_LOGIN_NO_RESOURCES;
    }
    c->window_size = (uint32_t)MIN_OF(window, ISCSI_WINDOW_MAX);
    give_back(c, c->window_size * each);
    return 0;
}

/* scsi wants the session gone. */
static void on_dropped(void *arg)
{
    struct iscsi_owner *o = arg;
    rt_mutex_lock(&o->lock);
    if (o->conn) {
        iscsi_conn_poke(o->conn, ISCSI_POKE_ASYNC_DROP);
    }
    rt_mutex_unlock(&o->lock);
}

static void on_news(void *arg)
{
    struct iscsi_owner *o = arg;
    rt_mutex_lock(&o->lock);
    if (o->conn) {
        iscsi_conn_poke(o->conn, ISCSI_POKE_NEWS);
    }
    rt_mutex_unlock(&o->lock);
}

static int make_nexus(struct iscsi_conn *c)
{
    struct iscsi_owner *o = calloc(1, sizeof *o);
    if (!o) {
        return -ENOMEM;
    }
    rt_mutex_init(&o->lock);
    o->conn = c;
    struct scsi_nexus_options opt = {.initiator_name = c->initiator,
                                     .address = c->peer,
                                     .tpgt = ISCSI_TPGT,
                                     .relative_port = 1,
                                     .dropped = on_dropped,
                                     .news = on_news,
                                     .arg = o};
    memcpy(opt.isid, c->isid, sizeof opt.isid);
    int r = scsi_nexus_create(c->target, &opt, &c->nexus);
    if (r < 0) {
        rt_mutex_destroy(&o->lock);
        free(o);
        return r;
    }
    c->owner = o;
    return 0;
}

static uint16_t next_tsih(struct iscsi_server *s)
{
    if (++s->last_tsih == 0) {
        s->last_tsih = 1;
    }
    return s->last_tsih;
}

/*
 * TSIH 0: a new session. One with the same nexus is ended first (§6.3.5), and its tasks with it.
 * With server->lock held, which is released while waiting.
 */
static int open_new(struct iscsi_conn *c, uint64_t deadline_ns)
{
    struct iscsi_server *s = c->server;
    struct iscsi_conn *old;
    while ((old = find(c)) != NULL) {
        msg_info_paced("iscsi", "%s: %s logs in again: its old session is ended", c->peer,
                       c->initiator);
        iscsi_conn_poke(old, ISCSI_POKE_DROP);
        int r = rt_waitq_wait(&s->changed, &s->lock, deadline_ns);
        if (r < 0) {
            return -ISCSI_LOGIN_UNAVAILABLE;
        }
    }
    if (s->session_count >= s->sessions_max) {
        return -ISCSI_LOGIN_NO_RESOURCES;
    }
    c->tsih = next_tsih(s);
    insert(c);
    return 0;
}

/* A TSIH: this connection is to take the place of the session's only one (§6.3.4). */
static int take_over(struct iscsi_conn *c, uint16_t tsih, uint64_t deadline_ns)
{
    struct iscsi_server *s = c->server;
    struct iscsi_conn *old = find(c);
    if (!old || old->tsih != tsih) {
        return -ISCSI_LOGIN_NO_SESSION;
    }
    if (old->cid != c->cid) {
        return -ISCSI_LOGIN_TOO_MANY_CONNECTIONS;
    }
    if (old->heir) {
        return -ISCSI_LOGIN_CANNOT_INCLUDE;
    }
    old->heir = c;
    iscsi_conn_poke(old, ISCSI_POKE_DROP);
    while (!c->inherited) {
        int r = rt_waitq_wait(&s->changed, &s->lock, deadline_ns);
        struct iscsi_conn *still = find(c);
        if (c->inherited) {
            break;
        }
        if (r < 0 || !still || still->heir != c) {
            if (still && still->heir == c) {
                still->heir = NULL;
            }
            return -ISCSI_LOGIN_UNAVAILABLE;
        }
    }
    return 0;
}

static bool is_still_allowed(const struct iscsi_conn *c)
{
    struct dev_access *rules;
    if (dev_access_get(c->server->registry, c->iqn, &rules) < 0) {
        return false;
    }
    bool good = iscsi_auth_still_good(c, rules, atomic_load(&c->server->chap_minimum));
    dev_access_unref(rules);
    return good;
}

int iscsi_session_open(struct iscsi_conn *c, uint16_t tsih, uint64_t deadline_ns)
{
    struct iscsi_server *s = c->server;
    c->since_ns = rt_now_ns();
    rt_mutex_lock(&s->lock);
    int r = tsih ? take_over(c, tsih, deadline_ns) : open_new(c, deadline_ns);
    rt_mutex_unlock(&s->lock);
    if (r >= 0 && !c->nexus) {
        r = make_nexus(c) < 0 ? -ISCSI_LOGIN_NO_RESOURCES : 0;
    }
    /* Whoever changes the rules looks at the table then: what has changed before that is seen here.
     */
    return r >= 0 && !is_still_allowed(c) ? -ISCSI_LOGIN_FORBIDDEN : r;
}

/* What belongs to the session moves to the new connection. With server->lock held. */
static void hand_over(struct iscsi_conn *from, struct iscsi_conn *to)
{
    rt_mutex_lock(&from->owner->lock);
    from->owner->conn = to;
    rt_mutex_unlock(&from->owner->lock);
    to->owner = from->owner;
    to->nexus = from->nexus;
    to->tsih = from->tsih;
    to->window = from->window;
    to->window_size = from->window_size;
    to->window_now = from->window_now;
    rt_credits_give(&to->server->ingress, to->reserved);
    to->reserved = from->reserved;
    /* Session-wide keys are the leading login's. */
    to->params.initial_r2t = from->params.initial_r2t;
    to->params.immediate = from->params.immediate;
    to->params.max_burst = from->params.max_burst;
    to->params.first_burst = from->params.first_burst;
    to->params.max_r2t = from->params.max_r2t;
    to->params.level = from->params.level;
    to->params.fast_abort = from->params.fast_abort;
    from->nexus = NULL;
    from->owner = NULL;
    from->reserved = 0;
    insert(to);
    to->inherited = true;
}

/* With server->lock held. */
static void leave_table(struct iscsi_conn *c)
{
    list_remove(&c->session_link);
    c->in_table = false;
    c->server->session_count--;
}

/* Hands the session to the connection that waits for it, if one does. Its tasks have ended. */
static void pass_on(struct iscsi_conn *c)
{
    struct iscsi_server *s = c->server;
    scsi_nexus_abort_all(c->nexus);
    rt_mutex_lock(&s->lock);
    if (c->heir && !c->logged_out) {
        leave_table(c);
        hand_over(c, c->heir);
        c->heir = NULL;
        rt_waitq_wake_all(&s->changed);
    }
    rt_mutex_unlock(&s->lock);
}

static void end_nexus(struct iscsi_conn *c)
{
    rt_mutex_lock(&c->owner->lock);
    c->owner->conn = NULL;
    rt_mutex_unlock(&c->owner->lock);
    scsi_nexus_destroy(c->nexus);
    rt_mutex_destroy(&c->owner->lock);
    free(c->owner);
    c->nexus = NULL;
    c->owner = NULL;
}

void iscsi_session_close(struct iscsi_conn *c)
{
    struct iscsi_server *s = c->server;
    ASSERT(c->task_count == 0);
    if (c->nexus) {
        pass_on(c);
    }
    if (c->nexus) {
        end_nexus(c);
    }
    rt_mutex_lock(&s->lock);
    if (c->in_table) {
        leave_table(c);
    }
    rt_waitq_wake_all(&s->changed);
    rt_mutex_unlock(&s->lock);
    give_back(c, 0);
    scsi_target_put(c->target);
    c->target = NULL;
}
