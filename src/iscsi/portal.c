/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Portals, and the portal groups that they belong to (dev/paths.h). The addresses of the
 * configuration are listened on from start to end; those which a group names besides, as long as it
 * does. A group's portal that cannot be opened is warned about, and tried again at the next change
 * of the groups.
 *
 * `opening` is held while portals are opened and closed; who stops the server finds them all in
 * `opened`, and after him none is opened. The array changes under the server's lock.
 */
#include "base/err.h"
#include "base/msg.h"
#include "iscsi/conn_priv.h"

#include <string.h>

static struct net_listener *listener_at(const struct iscsi_server *s, size_t i)
{
    return i < s->listener_count ? s->listeners[i] : s->opened[i - s->listener_count];
}

/* With the server's lock held. */
static bool is_listened(const struct iscsi_server *s, const struct dev_portal *at)
{
    for (size_t i = 0; i < s->listener_count + s->opened_count; i++) {
        char text[NET_ADDRESS_SIZE];
        struct dev_portal bound;
        if (!listener_at(s, i)) {
            continue; /* it has gone for good */
        }
        net_listener_address(listener_at(s, i), text);
        if (dev_portal_parse(text, &bound) == 0 && dev_portal_covers(&bound, at)) {
            return true;
        }
    }
    return false;
}

bool iscsi_listens(struct iscsi_server *s, const char *text)
{
    struct dev_portal at;
    rt_mutex_lock(&s->lock);
    bool listens = dev_portal_parse(text, &at) == 0 && is_listened(s, &at);
    rt_mutex_unlock(&s->lock);
    return listens;
}

static bool is_named(const struct dev_groups *groups, const struct net_listener *l)
{
    char text[NET_ADDRESS_SIZE];
    struct dev_portal bound;
    net_listener_address(l, text);
    if (!groups || dev_portal_parse(text, &bound) < 0) {
        return false;
    }
    for (size_t i = 0; i < groups->groups.len; i++) {
        const struct dev_group *group = &groups->groups.at[i];
        for (size_t k = 0; k < group->portal_count; k++) {
            if (memcmp(group->portals[k].address, bound.address, sizeof bound.address) == 0 &&
                group->portals[k].port == bound.port) {
                return true;
            }
        }
    }
    return false;
}

/* One that no group names, taken out; or NULL. */
static struct net_listener *take_unnamed(struct iscsi_server *s, const struct dev_groups *groups)
{
    struct net_listener *l = NULL;
    rt_mutex_lock(&s->lock);
    for (size_t i = 0; i < s->opened_count && !l; i++) {
        if (!is_named(groups, s->opened[i])) {
            l = s->opened[i];
            s->opened[i] = s->opened[--s->opened_count];
        }
    }
    rt_mutex_unlock(&s->lock);
    return l;
}

static void open_one(struct iscsi_server *s, const struct dev_group *group,
                     const struct dev_portal *portal)
{
    char text[DEV_PORTAL_TEXT_SIZE];
    dev_portal_format(portal, text);
    struct net_listen_options l = {.address = text,
                                   .name = "iscsi",
                                   .connections_max = s->sessions_max + ISCSI_PENDING_MAX,
                                   .serve = iscsi_conn_serve,
                                   .crowded = iscsi_conn_make_room,
                                   .arg = s};
    struct net_listener *listener;
    int r = net_listen(&l, &listener);
    if (r < 0) {
        msg_warn("iscsi", "portal group %s: cannot listen on %s: %s", group->name, text,
                 err_text(r));
        return;
    }
    rt_mutex_lock(&s->lock);
    s->opened[s->opened_count++] = listener;
    rt_mutex_unlock(&s->lock);
    msg_info("iscsi", "portal group %s: listening on %s", group->name, text);
}

static void open_all(struct iscsi_server *s, const struct dev_groups *groups)
{
    for (size_t i = 0; groups && i < groups->groups.len; i++) {
        const struct dev_group *group = &groups->groups.at[i];
        for (size_t k = 0; k < group->portal_count; k++) {
            rt_mutex_lock(&s->lock);
            bool wanted = !is_listened(s, &group->portals[k]) && s->opened_count < ISCSI_OPENED_MAX;
            rt_mutex_unlock(&s->lock);
            if (wanted) {
                open_one(s, group, &group->portals[k]);
            }
        }
    }
}

void iscsi_portals_open(struct iscsi_server *s)
{
    rt_lock_take(&s->opening);
    struct dev_groups *groups = dev_groups_get(s->registry);
    if (!atomic_load(&s->draining)) {
        struct net_listener *l;
        while ((l = take_unnamed(s, groups)) != NULL) {
            net_listener_close(l);
        }
        open_all(s, groups);
    }
    dev_groups_unref(groups);
    rt_lock_release(&s->opening);
}

void iscsi_portals_close(struct iscsi_server *s, bool stop)
{
    rt_lock_take(&s->opening);
    for (size_t i = 0; stop && i < s->opened_count; i++) {
        net_listener_stop(s->opened[i]);
    }
    struct net_listener *l;
    while (!stop && (l = take_unnamed(s, NULL)) != NULL) {
        net_listener_close(l);
    }
    rt_lock_release(&s->opening);
}

bool iscsi_portal_still_good(const struct iscsi_conn *c)
{
    struct dev_registry *g = c->server->registry;
    return dev_portal_tag(g, c->local) == c->session->tpgt &&
           dev_target_is_reached(g, c->session->iqn, c->session->tpgt);
}

/* As it would be. With the server's lock held, of a connection that has joined. */
static bool would_be_good(const struct iscsi_conn *c, const struct iscsi_change *change)
{
    if (change->groups) {
        return dev_groups_tag(change->groups, c->local) == c->session->tpgt;
    }
    return strcmp(change->iqn, c->session->iqn) != 0 ||
           dev_paths_reach(change->paths, c->session->tpgt);
}

size_t iscsi_cut_off(struct iscsi_server *s, const struct iscsi_change *change)
{
    size_t n = 0;
    rt_mutex_lock(&s->lock);
    uint64_t round = ++s->rounds;
    list_for_each(&s->conns, struct iscsi_conn, all_link, c) {
        if (c->joined && !would_be_good(c, change)) {
            n += iscsi_session_once(c->session, round);
        }
    }
    rt_mutex_unlock(&s->lock);
    return n;
}

/* With the server's lock held; the registry's is a leaf. */
static bool drop_if_bad(struct iscsi_conn *c)
{
    if (iscsi_portal_still_good(c)) {
        return false;
    }
    iscsi_session_poke(c->session, ISCSI_POKE_ASYNC_DROP);
    return true;
}

size_t iscsi_paths_changed(struct iscsi_server *s, const char *iqn)
{
    size_t n = 0;
    scsi_paths_changed(s->host, iqn);
    rt_mutex_lock(&s->lock);
    uint64_t round = ++s->rounds;
    list_for_each(&s->conns, struct iscsi_conn, all_link, c) {
        if (c->joined && (!iqn || strcmp(c->session->iqn, iqn) == 0) && drop_if_bad(c)) {
            n += iscsi_session_once(c->session, round);
        }
    }
    rt_mutex_unlock(&s->lock);
    if (!iqn) {
        iscsi_portals_open(s);
    }
    iscsi_isns_poke(s);
    return n;
}

/* Of the default group: what the configuration says, or where the client came in, if through it. */
static void put_default(struct iscsi_conn *c, struct bytes_writer *out)
{
    struct iscsi_server *s = c->server;
    rt_mutex_lock(&s->lock);
    for (size_t i = 0; i < s->advertise_count; i++) {
        iscsi_text_put(out, "TargetAddress", "%s,%u", s->advertise[i], DEV_TAG_DEFAULT);
    }
    bool told = s->advertise_count > 0;
    rt_mutex_unlock(&s->lock);
    if (!told && c->session->tpgt == DEV_TAG_DEFAULT) {
        iscsi_text_put(out, "TargetAddress", "%s,%u", c->local, DEV_TAG_DEFAULT);
    }
}

/*
 * Of another: what it advertises, or its portals. For one that stands for all addresses there is
 * the address by which the client came, if it came through the group.
 */
static void put_group(struct iscsi_conn *c, const struct dev_group *group, struct bytes_writer *out)
{
    bool came_told = c->session->tpgt != group->tag;
    for (size_t i = 0; i < group->advertise_count; i++) {
        iscsi_text_put(out, "TargetAddress", "%s,%u", group->advertise[i], (unsigned)group->tag);
    }
    for (size_t i = 0; group->advertise_count == 0 && i < group->portal_count; i++) {
        char text[DEV_PORTAL_TEXT_SIZE];
        bool any = dev_portal_is_any(&group->portals[i]);
        dev_portal_format(&group->portals[i], text);
        if (any && came_told) {
            continue;
        }
        came_told = came_told || any || strcmp(text, c->local) == 0;
        iscsi_text_put(out, "TargetAddress", "%s,%u", any ? c->local : text, (unsigned)group->tag);
    }
}

void iscsi_portals_put(struct iscsi_conn *c, const char *iqn, struct bytes_writer *out)
{
    struct dev_path paths[DEV_TAGS_MAX];
    struct dev_registry *g = c->server->registry;
    struct dev_groups *groups = dev_groups_get(g);
    size_t count = dev_path_list(g, iqn, NULL, paths, NULL);
    for (size_t i = 0; i < count; i++) {
        const struct dev_group *group = dev_groups_find_tag(groups, paths[i].tag);
        if (paths[i].tag == DEV_TAG_DEFAULT) {
            put_default(c, out);
        } else if (group) {
            put_group(c, group, out);
        }
    }
    dev_groups_unref(groups);
}
