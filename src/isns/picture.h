/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What there is to register: portals, nodes (targets), and which portal leads to which node under
 * which portal group tag. Pure; and the messages that say so.
 *
 *     struct isns_picture p = {0};
 *     r = isns_picture_portal(&p, "192.0.2.1:3260", &portal);
 *     r = isns_picture_node(&p, "iqn.2024-01.com.example:a");      // in order of name
 *     r = isns_picture_link(&p, portal, 1);                        // of the node before
 *     isns_picture_free(&p);
 */
#pragma once
#include "base/attr.h"
#include "base/bytes.h"
#include "base/vec.h"
#include "isns/format.h"
#include <stdbool.h>
#include <stdint.h>

#define ISNS_PORTALS_MAX 64u
#define ISNS_ADDRESS_TEXT 64u

struct isns_portal {
    uint8_t address[16]; /* IPv4 as ::ffff:0:0/96 */
    uint16_t port;
    uint16_t esi_port; /* where ESI and SCN are heard; 0: nowhere */
};

struct isns_node {
    char name[ISNS_NAME_MAX + 1];
    size_t first_link;
    size_t link_count;
};

struct isns_link {
    size_t portal;
    uint16_t tag;
};

struct isns_names;

struct isns_picture {
    struct isns_names *names; /* of whoever asks for it, or NULL */
    VEC(struct isns_portal) portals;
    VEC(struct isns_node) nodes;
    VEC(struct isns_link) links;
};

/* The 16 bytes and the port of "192.0.2.1:3260" or "[fe80::1%eth0]:3260": 0 or -EINVAL. */
MUST int isns_address_parse(const char *text, uint8_t ret_address[16], uint16_t *ret_port);
/* The other way round. */
void isns_address_format(const uint8_t address[16], uint16_t port,
                         char ret_text[ISNS_ADDRESS_TEXT]);
/* True for 127.0.0.0/8 and ::1. */
bool isns_address_is_loopback(const uint8_t address[16]);
/* True for 0.0.0.0 and ::. */
bool isns_address_is_any(const uint8_t address[16]);
static inline bool isns_address_is_v4(const uint8_t address[16])
{
    static const uint8_t prefix[12] = {[10] = 0xff, [11] = 0xff};
    return memcmp(address, prefix, sizeof prefix) == 0;
}

/* Its number; the same for the same address. 0, -EINVAL, -ENOMEM, -E2BIG. */
MUST int isns_picture_portal(struct isns_picture *p, const char *address, size_t *ret_portal);
/* -EINVAL: a name that is too long, or not behind the one before. */
MUST int isns_picture_node(struct isns_picture *p, const char *name);
MUST int isns_picture_link(struct isns_picture *p, size_t portal, uint16_t tag);
void isns_picture_free(struct isns_picture *p);

/* The node of that name, or NULL. Case is no matter. */
const struct isns_node *isns_picture_find(const struct isns_picture *p, const char *name);
bool isns_picture_same_portals(const struct isns_picture *a, const struct isns_picture *b);
/* Whether the same portals lead there by the same tags; both pictures have the same portals. */
bool isns_picture_same_node(const struct isns_picture *a, const struct isns_node *in_a,
                            const struct isns_picture *b, const struct isns_node *in_b);

struct isns_terms {
    const char *entity;
    unsigned period_s;
    unsigned esi_interval_s; /* 0: no ESI */
    bool udp;                /* ESI and SCN come by UDP */
    bool groups;             /* portal groups are said */
    bool notifications;      /* SCN are wanted */
};

/*
 * The payload of a DevAttrReg: the entity, its portals if asked for, and of the nodes from *at on
 * those that old (which may be NULL) has not or has otherwise, as many as go into one message; *at
 * is where the next one goes on.
 */
void isns_put_registration(struct bytes_writer *w, const struct isns_picture *p,
                           const struct isns_terms *t, const char *source,
                           const struct isns_picture *old, size_t *at);
/* Whether such a message would have any nodes. */
bool isns_has_news(const struct isns_picture *p, const struct isns_picture *old, size_t at);
/* The payload of a DevDereg of what old has, from node *at on, and p has not, in as many messages;
 * false when there is nothing more such. */
bool isns_put_gone(struct bytes_writer *w, const struct isns_picture *p, const char *source,
                   const struct isns_picture *old, size_t *at);
