/* SPDX-License-Identifier: Apache-2.0 */
/* What the iSNS server is told of this one: each target, and the portals that lead to it. */
#include "isns/isns.h"
#include "base/err.h"
#include "base/msg.h"
#include "dev/paths.h"
#include "iscsi/conn_priv.h"
#include "isns/names.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define TARGETS_AT_ONCE 4
#define LEAVE_MS 1500
#define MEET_MS 2000

/*
 * The address that stands for a listener. One that is bound to all addresses is told by the one
 * through which we reach the iSNS server, as SendTargets tells the one through which the client has
 * come; "" when that is of the other family, or not known.
 */
static void tell_address(const char *bound, const char *local, char ret_text[NET_ADDRESS_SIZE])
{
    uint8_t at[16], from[16];
    uint16_t port, unused;
    ret_text[0] = 0;
    if (isns_address_parse(bound, at, &port) < 0) {
        return;
    }
    if (!isns_address_is_any(at)) {
        memcpy(ret_text, bound, NET_ADDRESS_SIZE);
    } else if (isns_address_parse(local, from, &unused) >= 0 &&
               isns_address_is_v4(at) == isns_address_is_v4(from)) {
        (void)snprintf(ret_text, NET_ADDRESS_SIZE, "%.*s:%u", (int)(strrchr(local, ':') - local),
                       local, port);
    }
}

/* The portals of a picture, with their tags, in the order of these. */
struct drawing {
    struct iscsi_server *server;
    const char *local;
    struct isns_picture *picture;
    bool loopback; /* the group is listened for there */
    struct isns_link portals[ISNS_PORTALS_MAX];
    size_t count;
};

/* A portal that does not fit is left out. */
static int add_address(struct drawing *d, const char *text, uint16_t tag)
{
    size_t portal = 0;
    int r = isns_picture_portal(d->picture, text, &portal);
    if (r == -E2BIG) {
        msg_warn_paced("isns", "the portal %s is not registered: %s", text, err_text(r));
        return 0;
    }
    bool is_new = r >= 0 && portal == d->count;
    if (is_new) {
        d->portals[d->count++] = (struct isns_link){.portal = portal, .tag = tag};
    }
    return r;
}

/* Of what is told, with its brackets if it has any. */
static bool has_port(const char *text)
{
    const char *host_end = *text == '[' ? strchr(text, ']') : text;
    return host_end && strchr(host_end, ':');
}

static bool is_loopback(const char *text)
{
    uint8_t address[16];
    uint16_t port;
    return isns_address_parse(text, address, &port) >= 0 && isns_address_is_loopback(address);
}

/* One of those that a name has. Many a host has its own name for a loopback address, where nobody
 * else finds it. */
static int add_found(struct drawing *d, const char *name, const char *found, uint16_t tag)
{
    if (!d->loopback && is_loopback(found)) {
        if (!d->server->isns_said) {
            d->server->isns_said = true;
            msg_warn("isns", "%s is %s here, which is not registered: nobody listens there", name,
                     found);
        }
        return 0;
    }
    int r = add_address(d, found, tag);
    return r == -EINVAL ? 0 : r; /* of some other family */
}

/* An address, or a name with all that are known to be its. */
static int add_portal(struct drawing *d, const char *text, uint16_t tag)
{
    const char(*found)[NET_ADDRESS_SIZE] = NULL;
    char whole[DEV_MOVED_MAX + NET_ADDRESS_SIZE];
    if (!has_port(text)) {
        (void)snprintf(whole, sizeof whole, "%s:%u", text, (unsigned)ISCSI_PORT_DEFAULT);
        text = whole;
    }
    int r = add_address(d, text, tag);
    if (r != -EINVAL) {
        return r;
    }
    size_t count = d->picture->names ? isns_names_find(d->picture->names, text, &found) : 0;
    r = 0;
    for (size_t i = 0; i < count && r >= 0; i++) {
        r = add_found(d, text, found[i], tag);
    }
    return r;
}

/* Where it is listened, if that is in the group. */
static int add_bound(struct drawing *d, const char *bound, uint16_t tag)
{
    char told[NET_ADDRESS_SIZE];
    tell_address(bound, d->local, told);
    if (!*told || dev_portal_tag(d->server->registry, told) != tag) {
        return 0;
    }
    return add_portal(d, told, tag);
}

/* What discovery tells of the default group, or where it is listened. */
static int add_default(struct drawing *d)
{
    struct iscsi_server *s = d->server;
    int r = 0;
    d->loopback = false;
    for (size_t i = 0; i < s->listener_count; i++) {
        d->loopback |= is_loopback(s->bound[i]);
    }
    rt_mutex_lock(&s->lock);
    for (size_t i = 0; i < s->advertise_count && r >= 0; i++) {
        r = add_portal(d, s->advertise[i], DEV_TAG_DEFAULT);
    }
    bool own = s->advertise_count == 0;
    rt_mutex_unlock(&s->lock);
    for (size_t i = 0; own && i < s->listener_count && r >= 0; i++) {
        r = add_bound(d, s->bound[i], DEV_TAG_DEFAULT);
    }
    return r;
}

static int add_group(struct drawing *d, const struct dev_group *group)
{
    int r = 0;
    d->loopback = false;
    for (size_t i = 0; i < group->portal_count; i++) {
        d->loopback |= isns_address_is_loopback(group->portals[i].address);
    }
    for (size_t i = 0; i < group->advertise_count && r >= 0; i++) {
        r = add_portal(d, group->advertise[i], group->tag);
    }
    for (size_t i = 0; group->advertise_count == 0 && i < group->portal_count && r >= 0; i++) {
        char text[DEV_PORTAL_TEXT_SIZE];
        char bound[NET_ADDRESS_SIZE];
        dev_portal_format(&group->portals[i], text);
        (void)snprintf(bound, sizeof bound, "%s", text);
        r = add_bound(d, bound, group->tag);
    }
    return r;
}

static int add_portals(struct drawing *d)
{
    struct dev_groups *groups = dev_groups_get(d->server->registry);
    int r = add_default(d);
    for (size_t i = 0; groups && i < groups->groups.len && r >= 0; i++) {
        r = add_group(d, &groups->groups.at[i]);
    }
    dev_groups_unref(groups);
    return r;
}

/* With the portals through which it is reached. */
static int add_target(struct drawing *d, const char *iqn)
{
    struct dev_path paths[DEV_TAGS_MAX];
    size_t count = dev_path_list(d->server->registry, iqn, NULL, paths, NULL);
    int r = isns_picture_node(d->picture, iqn);
    for (size_t i = 0; i < count && r >= 0; i++) {
        for (size_t k = 0; k < d->count && r >= 0; k++) {
            if (d->portals[k].tag == paths[i].tag) {
                r = isns_picture_link(d->picture, d->portals[k].portal, paths[i].tag);
            }
        }
    }
    return r;
}

static int describe(void *arg, const char *local, struct isns_picture *p)
{
    struct drawing d = {.server = arg, .local = local, .picture = p};
    struct dev_target_info infos[TARGETS_AT_ONCE];
    char after[DEV_IQN_MAX + 1] = "";
    size_t n = TARGETS_AT_ONCE;
    int r = add_portals(&d);
    while (n == TARGETS_AT_ONCE && r >= 0) {
        n = dev_target_list(d.server->registry, after, infos, TARGETS_AT_ONCE);
        for (size_t i = 0; i < n && r >= 0; i++) {
            r = add_target(&d, infos[i].iqn);
        }
        if (n > 0) {
            memcpy(after, infos[n - 1].iqn, sizeof after);
        }
    }
    return r;
}

static void on_targets(void *arg)
{
    isns_client_changed(arg);
}

int iscsi_isns_start(struct iscsi_server *s, const struct iscsi_isns_options *opt)
{
    const char *places[ISCSI_PORTALS_MAX];
    for (size_t i = 0; i < s->listener_count; i++) {
        places[i] = s->bound[i];
    }
    struct isns_options o = {.server = opt->server,
                             .entity = opt->entity,
                             .period_s = opt->period_s,
                             .esi_interval_s = opt->esi_interval_s,
                             .udp = opt->udp,
                             .domains = opt->domains,
                             .notifications = opt->notifications,
                             .port = opt->port,
                             .places = places,
                             .place_count = s->listener_count,
                             .describe = describe,
                             .arg = s};
    int r = isns_client_start(&o, &s->isns);
    if (r < 0) {
        msg_error("isns", "the server \"%s\" cannot be used: %s", opt->server, err_text(r));
        return r;
    }
    dev_targets_watch(s->registry, on_targets, s->isns);
    return 0;
}

void iscsi_isns_meet(struct iscsi_server *s, const char *initiator)
{
    isns_client_meet(s->isns, initiator, rt_after_ms(MEET_MS));
}

bool iscsi_isns_allows(struct iscsi_server *s, const char *iqn, const char *initiator)
{
    return isns_client_allows(s->isns, iqn, initiator);
}

void iscsi_isns_poke(struct iscsi_server *s)
{
    isns_client_changed(s->isns);
}

bool iscsi_isns_counts(struct iscsi_server *s, struct isns_counts *ret_counts)
{
    if (s->isns) {
        isns_client_counts(s->isns, ret_counts);
    }
    return s->isns != NULL;
}

void iscsi_isns_leave(struct iscsi_server *s)
{
    if (s->isns) {
        dev_targets_watch(s->registry, NULL, NULL);
        isns_client_leave(s->isns, rt_after_ms(LEAVE_MS));
    }
}

/* Who has not left before keeps his registration: it may be that of the server that has taken over
 * the volume, under the same name. */
void iscsi_isns_stop(struct iscsi_server *s)
{
    if (s->isns) {
        dev_targets_watch(s->registry, NULL, NULL);
    }
    isns_client_free(s->isns);
    s->isns = NULL;
}
