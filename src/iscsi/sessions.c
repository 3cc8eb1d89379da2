/* SPDX-License-Identifier: Apache-2.0 */
/* What an administrator sees of sessions, and does to them. */
#include "base/attr.h"
#include "dev/access.h"
#include "iscsi/auth.h"
#include "iscsi/conn_priv.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* With server->lock held, of a connection that has joined its session. */
static void describe(struct iscsi_conn *c, struct iscsi_session_info *info)
{
    const struct iscsi_session *s = c->session;
    (void)snprintf(info->target, sizeof info->target, "%s", s->iqn);
    (void)snprintf(info->initiator, sizeof info->initiator, "%s", s->initiator);
    (void)snprintf(info->user, sizeof info->user, "%s", c->auth.user ? c->auth.user : "");
    memcpy(info->peer, c->peer, sizeof info->peer);
    memcpy(info->local, c->local, sizeof info->local);
    memcpy(info->isid, s->isid, sizeof info->isid);
    info->tpgt = s->tpgt;
    info->tsih = s->tsih;
    info->cid = c->cid;
    list_for_each(&s->conns, struct iscsi_conn, session_link, each) {
        info->connections += each->joined;
    }
    info->header_digest = c->params.header_digest;
    info->data_digest = c->params.data_digest;
    info->method = c->auth.method;
    info->chap = c->auth.method == ISCSI_METHOD_CHAP ? c->auth.algorithm : 0;
    info->mutual = c->auth.mutual;
    info->age_ns = rt_now_ns() - c->since_ns;
    info->commands = atomic_load_explicit(&c->commands, memory_order_relaxed);
    info->bytes_read = atomic_load_explicit(&c->bytes_read, memory_order_relaxed);
    info->bytes_written = atomic_load_explicit(&c->bytes_written, memory_order_relaxed);
}

int iscsi_sessions(struct iscsi_server *s, struct iscsi_session_info **ret_infos, size_t *ret_count)
{
    rt_mutex_lock(&s->lock);
    size_t room = s->conn_count + 16;
    rt_mutex_unlock(&s->lock);
    struct iscsi_session_info *infos = calloc(room, sizeof *infos);
    if (!infos) {
        return -ENOMEM;
    }
    size_t n = 0;
    rt_mutex_lock(&s->lock);
    list_for_each(&s->conns, struct iscsi_conn, all_link, c) {
        if (c->joined && n < room) {
            describe(c, &infos[n++]);
        }
    }
    rt_mutex_unlock(&s->lock);
    *ret_infos = infos;
    *ret_count = n;
    return 0;
}

size_t iscsi_disconnect(struct iscsi_server *s, const char *iqn, const char *initiator)
{
    size_t n = 0;
    rt_mutex_lock(&s->lock);
    uint64_t round = ++s->rounds;
    list_for_each(&s->conns, struct iscsi_conn, all_link, c) {
        struct iscsi_session *of = c->session;
        if (c->joined && strcmp(of->iqn, iqn) == 0 && dev_pattern_match(initiator, of->initiator)) {
            iscsi_session_poke(of, ISCSI_POKE_ASYNC_DROP);
            n += iscsi_session_once(of, round);
        }
    }
    rt_mutex_unlock(&s->lock);
    return n;
}

size_t iscsi_rules_changed(struct iscsi_server *s, const char *iqn)
{
    struct dev_access *rules;
    size_t n = 0;
    if (!*iqn || dev_access_get(s->registry, iqn, &rules) < 0) {
        return 0; /* discovery sessions are over soon */
    }
    unsigned minimum = atomic_load(&s->chap_minimum);
    rt_mutex_lock(&s->lock);
    uint64_t round = ++s->rounds;
    list_for_each(&s->conns, struct iscsi_conn, all_link, c) {
        if (c->joined && strcmp(c->session->iqn, iqn) == 0 &&
            !iscsi_auth_still_good(c, rules, minimum)) {
            iscsi_session_poke(c->session, ISCSI_POKE_ASYNC_DROP);
            n += iscsi_session_once(c->session, round);
        }
    }
    rt_mutex_unlock(&s->lock);
    dev_access_unref(rules);
    return n;
}

void iscsi_chap_minimum_set(struct iscsi_server *s, unsigned algorithm)
{
    atomic_store(&s->chap_minimum, algorithm ? algorithm : (unsigned)ISCSI_CHAP_MD5);
}
