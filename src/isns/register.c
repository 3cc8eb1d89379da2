/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the client says to the server, and asks.
 *
 * The first registration of a process replaces what the server has under our entity's name: what an
 * earlier process has left there is not ours to know. Later ones only add and change, so that
 * initiators do not see targets come and go; what has gone is deregistered by name.
 *
 * A message's source has to be a node of the entity (§5.6.1), so it is one that is registered
 * already, where there is such a one.
 */
#include "base/err.h"
#include "base/msg.h"
#include "isns/client_priv.h"

#include <errno.h>
#include <string.h>

#define PERIOD_MIN_S 6u
#define NAMES_MS 60000u
#define FIRST_MS 2000u /* for which names are waited for that were never looked up */

/* Of the nodes of p one that old has, too; else the first. */
static const char *choose_source(const struct isns_picture *p, const struct isns_picture *old)
{
    for (size_t i = 0; i < p->nodes.len; i++) {
        if (isns_picture_find(old, p->nodes.at[i].name)) {
            return p->nodes.at[i].name;
        }
    }
    return p->nodes.at[0].name;
}

/* The server may have changed what we have asked for (§5.7.5.1). */
static int take_terms(struct isns_client *c, struct bytes_reader answer)
{
    struct isns_attr attr;
    uint32_t period_s = c->opt.period_s, esi_s = 0, value;
    bool esi_at_all = false, behind = false;
    int r;
    while ((r = isns_attr_next(&answer, &attr)) > 0) {
        behind |= attr.tag == ISNS_DELIMITER;
        if (behind && attr.tag == ISNS_REGISTRATION_PERIOD && isns_attr_u32(&attr, &value) == 0) {
            period_s = value;
        } else if (behind && attr.tag == ISNS_ESI_INTERVAL && isns_attr_u32(&attr, &value) == 0) {
            esi_s = value;
            esi_at_all = true;
        }
    }
    if (!esi_at_all) {
        esi_s = c->terms.esi_interval_s;
    }
    rt_mutex_lock(&c->lock);
    c->counts.period_s = period_s;
    c->counts.esi_s = isns_ears_are_there(c) && c->terms.esi_interval_s > 0 ? esi_s : 0;
    rt_mutex_unlock(&c->lock);
    return r;
}

/* Gives up what this server does not have: true when that may help. */
static bool ask_for_less(struct isns_client *c, int status)
{
    if (status == ISNS_ESI_NOT_AVAILABLE && c->terms.esi_interval_s > 0) {
        msg_info("isns", "%s makes no status inquiries", c->server);
        c->terms.esi_interval_s = 0;
        return true;
    }
    if ((status == ISNS_FEATURE_NOT_SUPPORTED || status == ISNS_ATTRIBUTE_NOT_IMPLEMENTED) &&
        c->terms.groups) {
        msg_info("isns", "%s does not take portal groups", c->server);
        c->terms.groups = false;
        return true;
    }
    return false;
}

static int register_some(struct isns_client *c, const struct isns_picture *p,
                         const struct isns_picture *old, const char *source, size_t *at) WAITS
{
    bool replace = c->fresh && *at == 0;
    struct isns_header h = {.function = ISNS_DEV_ATTR_REG, .flags = replace ? ISNS_REPLACE : 0};
    size_t from = *at;
    int r;
    do {
        struct bytes_writer payload = {0};
        struct bytes_reader answer;
        *at = from;
        isns_put_registration(&payload, p, &c->terms, source, old, at);
        r = payload.failed ? -ENOMEM : isns_wire_call(c, h, &payload, &answer);
        bytes_writer_free(&payload);
        if (r == ISNS_OK && from == 0) {
            r = take_terms(c, answer);
        }
    } while (r > 0 && ask_for_less(c, r));
    return r;
}

static int deregister_gone(struct isns_client *c, const struct isns_picture *p) WAITS
{
    size_t at = 0;
    int r = 0;
    while (r == 0) {
        struct bytes_writer payload = {0};
        bool some = isns_put_gone(&payload, p, p->nodes.at[0].name, &c->registered, &at);
        if (some) {
            struct isns_header h = {.function = ISNS_DEV_DEREG};
            r = payload.failed ? -ENOMEM : isns_wire_call(c, h, &payload, NULL);
        }
        bytes_writer_free(&payload);
        if (!some && at == c->registered.nodes.len) {
            break;
        }
    }
    return r;
}

static bool is_heard(const struct isns_picture *p)
{
    bool heard = false;
    for (size_t i = 0; i < p->portals.len; i++) {
        heard |= p->portals.at[i].esi_port != 0;
    }
    return heard;
}

/* Notifications about each node that is new, and its initiators; about all of them where nothing
 * could be heard before. A server may refuse. */
static int register_notifications(struct isns_client *c, const struct isns_picture *p,
                                  const struct isns_picture *old) WAITS
{
    int r = 0;
    bool wanted = c->opt.notifications && is_heard(p);
    for (size_t i = 0; wanted && i < p->nodes.len && r >= 0; i++) {
        const char *name = p->nodes.at[i].name;
        if (old && is_heard(old) && isns_picture_find(old, name)) {
            continue;
        }
        struct bytes_writer payload = {0};
        isns_put_text(&payload, ISNS_NODE_NAME, name);
        isns_put_text(&payload, ISNS_NODE_NAME, name);
        isns_put_null(&payload, ISNS_DELIMITER);
        isns_put_u32(&payload, ISNS_SCN_BITMAP,
                     ISNS_SCN_INITIATORS | ISNS_SCN_REMOVED | ISNS_SCN_ADDED | ISNS_SCN_UPDATED);
        struct isns_header h = {.function = ISNS_SCN_REG};
        r = payload.failed ? -ENOMEM : isns_wire_call(c, h, &payload, NULL);
        bytes_writer_free(&payload);
        if (r > 0) {
            msg_warn_paced("isns", "%s sends no notifications about %s: %s", c->server, name,
                           isns_status_text((uint32_t)r));
        }
    }
    return r < 0 ? r : 0;
}

/* The messages; the picture is not taken over yet. */
static int say(struct isns_client *c, const struct isns_picture *p, const struct isns_picture *old)
    WAITS
{
    const char *source = choose_source(p, &c->registered);
    size_t at = 0;
    int r = 0;
    if (!old || isns_has_news(p, old, 0)) {
        do {
            r = register_some(c, p, old, source, &at);
        } while (r == ISNS_OK && isns_has_news(p, old, at));
    }
    if (r == ISNS_OK) {
        r = deregister_gone(c, p);
    }
    return r == ISNS_OK ? register_notifications(c, p, old) : r;
}

/* Sets when to say it all again: a registration lives by messages (§6.2.6). */
static void schedule(struct isns_client *c)
{
    rt_mutex_lock(&c->lock);
    uint64_t period_s = c->counts.period_s ? c->counts.period_s : c->opt.period_s;
    c->inquired_ns = rt_now_ns();
    rt_mutex_unlock(&c->lock);
    c->refresh_ns = rt_after_ms(MAX_OF(period_s, PERIOD_MIN_S) * 1000 / 3);
}

static void take_over(struct isns_client *c, struct isns_picture *p)
{
    rt_mutex_lock(&c->lock);
    struct isns_picture old = c->registered;
    c->registered = *p;
    c->counts.targets = p->nodes.len;
    c->counts.portals = p->portals.len;
    c->counts.registrations++;
    rt_mutex_unlock(&c->lock);
    *p = old;
}

/* For a while: what is found later is registered then. 0 or -ECANCELED. */
static int await_names(struct isns_client *c) WAITS
{
    uint64_t deadline_ns = rt_after_ms(FIRST_MS);
    int r = 0;
    rt_mutex_lock(&c->lock);
    while (isns_names_pending(&c->names) && !c->news.stop && r >= 0) {
        r = rt_waitq_wait(&c->changed, &c->lock, deadline_ns);
    }
    c->news.changed = false; /* what there is, is looked at afterwards */
    rt_mutex_unlock(&c->lock);
    return r == -ECANCELED ? r : 0;
}

/* What there is, with those addresses that are known of portals that are told by name. */
static int draw(struct isns_client *c, const char *local, struct isns_picture *ret_picture) WAITS
{
    *ret_picture = (struct isns_picture){.names = &c->names};
    int r = c->opt.describe(c->opt.arg, local, ret_picture);
    isns_names_look_up(&c->names);
    if (r >= 0 && isns_names_pending(&c->names)) {
        r = await_names(c);
        if (r < 0) {
            return r;
        }
        isns_picture_free(ret_picture);
        *ret_picture = (struct isns_picture){.names = &c->names};
        r = c->opt.describe(c->opt.arg, local, ret_picture);
        isns_names_look_up(&c->names); /* those that came meanwhile */
    }
    isns_ears_add(c, ret_picture);
    for (size_t i = 0; r >= 0 && i < ret_picture->portals.len; i++) {
        struct isns_portal *portal = &ret_picture->portals.at[i];
        portal->esi_port = isns_ears_port(c, portal);
    }
    return r;
}

/* Nothing more is to be said, but the farewell. */
static bool is_leaving(struct isns_client *c)
{
    rt_mutex_lock(&c->lock);
    bool leaving = c->news.stop;
    rt_mutex_unlock(&c->lock);
    return leaving || rt_cancelled();
}

int isns_register(struct isns_client *c, const char *local, bool all)
{
    struct isns_picture p;
    isns_names_stale(&c->names, all);
    int r = draw(c, local, &p);
    if (r >= 0 && is_leaving(c)) {
        r = -ECANCELED;
    }
    c->names_ns = isns_names_lack(&c->names) ? rt_after_ms(NAMES_MS) : RT_FOREVER;
    if (r >= 0 && p.nodes.len == 0) {
        isns_picture_free(&p);
        return isns_deregister(c);
    }
    if (r >= 0) {
        r = say(c, &p, all ? NULL : &c->registered);
    }
    if (r == 0) {
        c->fresh = false;
        take_over(c, &p);
        isns_ears_drop(c, &c->registered);
        if (all) {
            schedule(c);
        }
    }
    isns_picture_free(&p);
    return r;
}

int isns_deregister(struct isns_client *c)
{
    if (c->registered.nodes.len == 0) {
        return 0;
    }
    struct bytes_writer payload = {0};
    isns_put_text(&payload, ISNS_NODE_NAME, c->registered.nodes.at[0].name);
    isns_put_null(&payload, ISNS_DELIMITER);
    isns_put_text(&payload, ISNS_EID, c->entity);
    struct isns_header h = {.function = ISNS_DEV_DEREG};
    int r = payload.failed ? -ENOMEM : isns_wire_call(c, h, &payload, NULL);
    bytes_writer_free(&payload);
    if (r == 0) {
        struct isns_picture none = {0};
        take_over(c, &none);
        isns_picture_free(&none);
    }
    return r;
}

/* Adds the names with that tag behind the delimiter to the target's members; ours: none but those
 * of our nodes. */
static int take_members(struct isns_client *c, struct isns_domains *d, struct bytes_reader answer,
                        uint32_t tag, bool ours)
{
    struct isns_attr attr;
    bool behind = false;
    int r;
    while ((r = isns_attr_next(&answer, &attr)) > 0) {
        char name[ISNS_NAME_MAX + 1];
        behind |= attr.tag == ISNS_DELIMITER;
        if (!behind || attr.tag != tag || attr.len == 0) {
            continue;
        }
        r = isns_attr_text(&attr, name, sizeof name);
        if (r >= 0 && (!ours || isns_client_registers(c, name))) {
            r = isns_domains_member(d, name);
        }
        if (r < 0) {
            break;
        }
    }
    return r;
}

/* One query about the target; what it finds goes to d. The status or an error. */
static int ask(struct isns_client *c, const char *target, bool registered, struct isns_domains *d)
    WAITS
{
    uint32_t wanted = registered ? ISNS_NODE_NAME : ISNS_DD_MEMBER_NAME;
    struct bytes_writer payload = {0};
    struct bytes_reader answer;
    isns_put_text(&payload, ISNS_NODE_NAME, target);
    if (registered) {
        isns_put_u32(&payload, ISNS_NODE_TYPE, ISNS_INITIATOR);
    } else {
        isns_put_null(&payload, ISNS_DD_ID); /* of every domain that the source is in */
    }
    isns_put_null(&payload, ISNS_DELIMITER);
    isns_put_null(&payload, wanted);
    struct isns_header h = {.function = ISNS_DEV_ATTR_QRY};
    int r = payload.failed ? -ENOMEM : isns_wire_call(c, h, &payload, &answer);
    bytes_writer_free(&payload);
    if (r == ISNS_OK) {
        r = take_members(c, d, answer, wanted, false);
    }
    return r;
}

/*
 * Who shares a domain with the target: the initiators that are registered and that it may see
 * (which includes a default domain), and the members of its domains, registered or not. When the
 * server does not say, what it has said before holds.
 */
static int ask_about(struct isns_client *c, const char *target, struct isns_domains *d) WAITS
{
    int r = isns_domains_target(d, target);
    int seen = r < 0 ? r : ask(c, target, true, d);
    int members = seen < 0 ? seen : ask(c, target, false, d);
    if (members < 0) {
        return members;
    }
    if (seen == ISNS_OK || seen == ISNS_NO_SUCH_ENTRY) {
        return 0;
    }
    msg_warn_paced("isns", "%s does not say who may see %s: %s", c->server, target,
                   isns_status_text((uint32_t)seen));
    rt_mutex_lock(&c->lock);
    r = isns_domains_keep(d, c->domains);
    rt_mutex_unlock(&c->lock);
    return r;
}

/* As the initiator would ask: which targets there are for it. */
static int ask_as(struct isns_client *c, const char *initiator, struct isns_domains *d) WAITS
{
    struct bytes_writer payload = {0};
    struct bytes_reader answer = {0};
    isns_put_text(&payload, ISNS_NODE_NAME, initiator);
    isns_put_u32(&payload, ISNS_NODE_TYPE, ISNS_TARGET);
    isns_put_null(&payload, ISNS_DELIMITER);
    isns_put_null(&payload, ISNS_NODE_NAME);
    struct isns_header h = {.function = ISNS_DEV_ATTR_QRY};
    int r = isns_domains_target(d, initiator);
    if (r >= 0) {
        r = payload.failed ? -ENOMEM : isns_wire_call(c, h, &payload, &answer);
    }
    bytes_writer_free(&payload);
    if (r == ISNS_OK) {
        r = take_members(c, d, answer, ISNS_NODE_NAME, true);
    }
    return r == ISNS_NO_SUCH_ENTRY ? 0 : r;
}

/* One answer, and whoever waits for it hears of it. */
static int ask_visitor(struct isns_client *c, const char *name) WAITS
{
    /* Some servers say a name twice. */
    struct isns_domains *d = isns_domains_new(2 * c->registered.nodes.len);
    int r = d ? ask_as(c, name, d) : -ENOMEM;
    if (r == 0) {
        isns_domains_seal(d);
    } else {
        isns_domains_free(d);
        d = NULL;
    }
    /* A question that has broken the connection is not asked again by itself. */
    rt_mutex_lock(&c->lock);
    isns_visitors_told(&c->visitors, name, d, rt_now_ns());
    rt_waitq_wake_all(&c->changed);
    rt_mutex_unlock(&c->lock);
    return r < 0 && r != -E2BIG ? r : 0;
}

int isns_ask_visitors(struct isns_client *c)
{
    char name[ISNS_NAME_MAX + 1];
    int r = 0;
    bool more = true;
    while (more && r == 0) {
        rt_mutex_lock(&c->lock);
        const struct isns_visitor *one = isns_visitors_next(&c->visitors);
        more = one != NULL;
        if (one) {
            memcpy(name, one->name, sizeof name);
        }
        rt_mutex_unlock(&c->lock);
        if (more) {
            r = is_leaving(c) ? -ECANCELED : ask_visitor(c, name);
        }
    }
    return r;
}

int isns_ask_domains(struct isns_client *c)
{
    struct isns_domains *d = isns_domains_new(ISNS_MEMBERS_MAX);
    int r = d ? 0 : -ENOMEM;
    for (size_t i = 0; r >= 0 && i < c->registered.nodes.len; i++) {
        r = is_leaving(c) ? -ECANCELED : ask_about(c, c->registered.nodes.at[i].name, d);
    }
    if (r < 0) {
        isns_domains_free(d);
        if (r != -E2BIG) {
            return r;
        }
        msg_warn_paced("isns", "%s tells of more than %u initiators: the domains stay as they were",
                       c->server, ISNS_MEMBERS_MAX);
        return 0;
    }
    isns_domains_seal(d);
    rt_mutex_lock(&c->lock);
    struct isns_domains *old = c->domains;
    c->domains = d;
    c->counts.restricted = isns_domains_count(d);
    isns_visitors_stale(&c->visitors);
    rt_mutex_unlock(&c->lock);
    bool grown = old && isns_domains_count(old) != isns_domains_count(d); /* by what is new */
    if (!grown && !isns_domains_equal(old, d)) {
        msg_info("isns", "the discovery domains of %zu targets are known", isns_domains_count(d));
    }
    isns_domains_free(old);
    return 0;
}
