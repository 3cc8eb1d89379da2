/* SPDX-License-Identifier: Apache-2.0 */
#include "isns/picture.h"
#include "isns/pdu.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <strings.h>

#define MESSAGE_BYTES 4000u /* or little more: open-isns takes 8 KiB at a time */

static int parse_host(const char *host, size_t len, bool v6, uint8_t ret_address[16])
{
    static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};
    char text[64];
    if (len >= sizeof text) {
        return -EINVAL;
    }
    memcpy(text, host, len);
    text[len] = 0;
    text[strcspn(text, "%")] = 0; /* a zone means nothing elsewhere */
    if (v6) {
        return inet_pton(AF_INET6, text, ret_address) == 1 ? 0 : -EINVAL;
    }
    memcpy(ret_address, mapped, sizeof mapped);
    return inet_pton(AF_INET, text, ret_address + 12) == 1 ? 0 : -EINVAL;
}

int isns_address_parse(const char *text, uint8_t ret_address[16], uint16_t *ret_port)
{
    const char *colon = strrchr(text, ':');
    size_t len = colon ? (size_t)(colon - text) : 0;
    bool v6 = len > 2 && text[0] == '[' && text[len - 1] == ']';
    char *end = NULL;
    unsigned long port = len > 0 ? strtoul(colon + 1, &end, 10) : 0;
    if (len == 0 || colon[1] < '0' || colon[1] > '9' || *end || port > UINT16_MAX) {
        return -EINVAL;
    }
    *ret_port = (uint16_t)port;
    return parse_host(text + v6, len - 2u * v6, v6, ret_address);
}

void isns_address_format(const uint8_t address[16], uint16_t port, char ret_text[ISNS_ADDRESS_TEXT])
{
    char host[INET6_ADDRSTRLEN];
    bool v4 = isns_address_is_v4(address);
    (void)inet_ntop(v4 ? AF_INET : AF_INET6, v4 ? address + 12 : address, host, sizeof host);
    (void)snprintf(ret_text, ISNS_ADDRESS_TEXT, v4 ? "%s:%u" : "[%s]:%u", host, port);
}

bool isns_address_is_loopback(const uint8_t address[16])
{
    static const uint8_t v6[16] = {[15] = 1};
    return isns_address_is_v4(address) ? address[12] == 127 : memcmp(address, v6, sizeof v6) == 0;
}

bool isns_address_is_any(const uint8_t address[16])
{
    uint8_t bits = 0;
    for (size_t i = isns_address_is_v4(address) ? 12 : 0; i < 16; i++) {
        bits |= address[i];
    }
    return bits == 0;
}

int isns_picture_portal(struct isns_picture *p, const char *address, size_t *ret_portal)
{
    struct isns_portal portal = {0};
    int r = isns_address_parse(address, portal.address, &portal.port);
    if (r < 0) {
        return r;
    }
    for (size_t i = 0; i < p->portals.len; i++) {
        const struct isns_portal *is = &p->portals.at[i];
        if (is->port == portal.port && memcmp(is->address, portal.address, 16) == 0) {
            *ret_portal = i;
            return 0;
        }
    }
    if (p->portals.len == ISNS_PORTALS_MAX) {
        return -E2BIG;
    }
    *ret_portal = p->portals.len;
    return vec_push(&p->portals, portal);
}

int isns_picture_node(struct isns_picture *p, const char *name)
{
    struct isns_node node = {.first_link = p->links.len};
    size_t len = strlen(name);
    if (len == 0 || len > ISNS_NAME_MAX ||
        (p->nodes.len > 0 && strcmp(p->nodes.at[p->nodes.len - 1].name, name) >= 0)) {
        return -EINVAL;
    }
    memcpy(node.name, name, len + 1);
    return vec_push(&p->nodes, node);
}

int isns_picture_link(struct isns_picture *p, size_t portal, uint16_t tag)
{
    if (p->nodes.len == 0 || portal >= p->portals.len) {
        return -EINVAL;
    }
    int r = vec_push(&p->links, ((struct isns_link){.portal = portal, .tag = tag}));
    if (r == 0) {
        p->nodes.at[p->nodes.len - 1].link_count++;
    }
    return r;
}

void isns_picture_free(struct isns_picture *p)
{
    vec_free(&p->portals);
    vec_free(&p->nodes);
    vec_free(&p->links);
}

const struct isns_node *isns_picture_find(const struct isns_picture *p, const char *name)
{
    size_t low = 0, high = p->nodes.len;
    while (low < high) {
        size_t mid = (low + high) / 2;
        int c = strcasecmp(p->nodes.at[mid].name, name);
        if (c == 0) {
            return &p->nodes.at[mid];
        }
        if (c < 0) {
            low = mid + 1;
        } else {
            high = mid;
        }
    }
    return NULL;
}

bool isns_picture_same_portals(const struct isns_picture *a, const struct isns_picture *b)
{
    bool same = a->portals.len == b->portals.len;
    for (size_t i = 0; same && i < a->portals.len; i++) {
        const struct isns_portal *x = &a->portals.at[i], *y = &b->portals.at[i];
        same = x->port == y->port && x->esi_port == y->esi_port &&
               memcmp(x->address, y->address, 16) == 0;
    }
    return same;
}

bool isns_picture_same_node(const struct isns_picture *a, const struct isns_node *in_a,
                            const struct isns_picture *b, const struct isns_node *in_b)
{
    bool same = in_a->link_count == in_b->link_count;
    for (size_t i = 0; same && i < in_a->link_count; i++) {
        const struct isns_link *x = &a->links.at[in_a->first_link + i];
        const struct isns_link *y = &b->links.at[in_b->first_link + i];
        same = x->portal == y->portal && x->tag == y->tag;
    }
    return same;
}

static void put_portal(struct bytes_writer *w, const struct isns_portal *portal,
                       const struct isns_terms *t)
{
    isns_put_address(w, ISNS_PORTAL_ADDRESS, portal->address);
    isns_put_u32(w, ISNS_PORTAL_PORT, portal->port);
    if (portal->esi_port != 0) {
        uint32_t port = portal->esi_port | (t->udp ? ISNS_UDP : 0);
        if (t->esi_interval_s > 0) {
            isns_put_u32(w, ISNS_ESI_INTERVAL, t->esi_interval_s);
            isns_put_u32(w, ISNS_ESI_PORT, port);
        }
        if (t->notifications) {
            isns_put_u32(w, ISNS_SCN_PORT, port);
        }
    }
}

static void put_group_portal(struct bytes_writer *w, const struct isns_portal *portal)
{
    isns_put_address(w, ISNS_PG_ADDRESS, portal->address);
    isns_put_u32(w, ISNS_PG_PORT, portal->port);
}

/* §5.6.5.1: each tag, and behind it the portals that have it; last those that do not lead there. */
static void put_groups(struct bytes_writer *w, const struct isns_picture *p,
                       const struct isns_node *n)
{
    const struct isns_link *links = p->links.at + n->first_link;
    uint64_t linked = 0; /* a bit for each portal */
    for (size_t i = 0; i < n->link_count; i++) {
        const struct isns_link *l = &links[i];
        if (i == 0 || l->tag != links[i - 1].tag) {
            isns_put_u32(w, ISNS_PG_TAG, l->tag);
        }
        put_group_portal(w, &p->portals.at[l->portal]);
        linked |= 1ull << l->portal;
    }
    bool first = true;
    for (size_t i = 0; i < p->portals.len; i++) {
        if (linked & (1ull << i)) {
            continue;
        }
        if (first) {
            isns_put_null(w, ISNS_PG_TAG);
            first = false;
        }
        put_group_portal(w, &p->portals.at[i]);
    }
}

static bool is_news(const struct isns_picture *p, const struct isns_node *n,
                    const struct isns_picture *old)
{
    const struct isns_node *was = old ? isns_picture_find(old, n->name) : NULL;
    return !was || !isns_picture_same_portals(p, old) || !isns_picture_same_node(p, n, old, was);
}

bool isns_has_news(const struct isns_picture *p, const struct isns_picture *old, size_t at)
{
    while (at < p->nodes.len && !is_news(p, &p->nodes.at[at], old)) {
        at++;
    }
    return at < p->nodes.len;
}

void isns_put_registration(struct bytes_writer *w, const struct isns_picture *p,
                           const struct isns_terms *t, const char *source,
                           const struct isns_picture *old, size_t *at)
{
    isns_put_text(w, ISNS_NODE_NAME, source);
    isns_put_text(w, ISNS_EID, t->entity);
    isns_put_null(w, ISNS_DELIMITER);
    isns_put_text(w, ISNS_EID, t->entity);
    isns_put_u32(w, ISNS_ENTITY_PROTOCOL, ISNS_PROTOCOL_ISCSI);
    isns_put_u32(w, ISNS_REGISTRATION_PERIOD, t->period_s);
    if (*at == 0 && !(old && isns_picture_same_portals(p, old))) {
        for (size_t i = 0; i < p->portals.len; i++) {
            put_portal(w, &p->portals.at[i], t);
        }
    }
    bool any = false; /* one at least, or there is no end to it */
    while (*at < p->nodes.len && (!any || w->len < MESSAGE_BYTES)) {
        const struct isns_node *n = &p->nodes.at[(*at)++];
        if (!is_news(p, n, old)) {
            continue;
        }
        any = true;
        isns_put_text(w, ISNS_NODE_NAME, n->name);
        isns_put_u32(w, ISNS_NODE_TYPE, ISNS_TARGET);
        if (t->groups) {
            put_groups(w, p, n);
        }
    }
}

static bool has_portal(const struct isns_picture *p, const struct isns_portal *portal)
{
    for (size_t i = 0; i < p->portals.len; i++) {
        const struct isns_portal *is = &p->portals.at[i];
        if (is->port == portal->port && memcmp(is->address, portal->address, 16) == 0) {
            return true;
        }
    }
    return false;
}

static void put_gone_portals(struct bytes_writer *w, const struct isns_picture *p,
                             const struct isns_picture *old)
{
    for (size_t i = 0; i < old->portals.len; i++) {
        const struct isns_portal *portal = &old->portals.at[i];
        if (!has_portal(p, portal)) {
            isns_put_address(w, ISNS_PORTAL_ADDRESS, portal->address);
            isns_put_u32(w, ISNS_PORTAL_PORT, portal->port);
        }
    }
}

bool isns_put_gone(struct bytes_writer *w, const struct isns_picture *p, const char *source,
                   const struct isns_picture *old, size_t *at)
{
    isns_put_text(w, ISNS_NODE_NAME, source);
    isns_put_null(w, ISNS_DELIMITER);
    size_t head = w->len;
    if (*at == 0) {
        put_gone_portals(w, p, old);
    }
    while (*at < old->nodes.len && w->len < MESSAGE_BYTES) {
        const char *name = old->nodes.at[(*at)++].name;
        if (!isns_picture_find(p, name)) {
            isns_put_text(w, ISNS_NODE_NAME, name);
        }
    }
    return w->len > head;
}
