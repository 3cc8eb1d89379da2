/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A client of an iSNS server (RFC 4171): keeps what there is registered, answers status inquiries,
 * hears of changes, and knows which initiators the discovery domains let in. A fiber of its own
 * does it all; whether the server is there, nobody else notices.
 *
 *     r = isns_client_start(&(struct isns_options){.server = "192.0.2.9", .entity = "host-1",
 *                                                  .describe = describe}, &c);
 *     isns_client_changed(c);                  // describe() would now say something else
 *     if (!isns_client_allows(c, target, initiator)) { ... }
 *     isns_client_leave(c, rt_after_ms(1000)); // deregisters
 *     isns_client_free(c);
 */
#pragma once
#include "base/attr.h"
#include "isns/picture.h"
#include "net/net.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct isns_client;
struct isns_lookup;

/* A server as the options take it. */
bool isns_server_ok(const char *text);

struct isns_options {
    const char *server;        /* "HOST", "HOST:PORT", "[ADDRESS]:PORT" */
    const char *entity;        /* EID: at most ISNS_EID_MAX bytes */
    unsigned period_s;         /* registration period asked for; 0 = 3600 */
    unsigned esi_interval_s;   /* between status inquiries; 0: none are asked for */
    bool udp;                  /* inquiries and notifications come by UDP */
    bool domains;              /* discovery domains are asked for */
    bool notifications;        /* SCN are asked for */
    const char *const *places; /* "ADDRESS:PORT" of the portals' listeners, where ESI and SCN are
                                  listened for, too, at a port of their own */
    size_t place_count;
    uint16_t port; /* 0: a free one at each place */
    /*
     * Says what there is. local: the address at which the server is reached from here, for portals
     * that listen everywhere; "" when that is not known. Called on a fiber, must not wait.
     */
    int (*describe)(void *arg, const char *local, struct isns_picture *p);
    void *arg;
    /* For tests; NULL: by TCP, and as the system finds hosts (isns/resolve.h). */
    int (*connect)(void *arg, uint64_t deadline_ns, struct net_stream **ret_stream);
    int (*resolve)(void *arg, struct isns_lookup *l);
};

/* Listens and begins, on this core: 0 or -errno. The texts are copied. */
MUST int isns_client_start(const struct isns_options *opt, struct isns_client **ret_client) WAITS;
/* From any core. Does not wait. Accept NULL. */
void isns_client_changed(struct isns_client *c);
/*
 * An initiator has come: when the server is there, and has not been asked lately what that one may
 * see, it is asked now, and its answer waited for, until the deadline.
 */
void isns_client_meet(struct isns_client *c, const char *initiator, uint64_t deadline_ns) WAITS;
/*
 * Whether target and initiator have a discovery domain in common. Also true as long as no server
 * has said anything about this target, and when domains are not asked for.
 */
bool isns_client_allows(struct isns_client *c, const char *target, const char *initiator);
/* Deregisters, if the server is there and answers before the deadline, and does no more. */
void isns_client_leave(struct isns_client *c, uint64_t deadline_ns) WAITS;
void isns_client_free(struct isns_client *c) WAITS;

enum isns_state {
    ISNS_IDLE,       /* there are no targets */
    ISNS_AWAY,       /* the server is not reached */
    ISNS_REFUSED,    /* it does not take the registration */
    ISNS_REGISTERED, /* all is as it should be */
    ISNS_LEFT,
};

struct isns_counts {
    enum isns_state state;
    char why[96];      /* AWAY, REFUSED: the reason */
    uint64_t since_ns; /* rt clock: of the state */
    uint64_t targets;  /* registered */
    uint64_t portals;  /* registered */
    uint64_t period_s; /* granted */
    uint64_t esi_s;    /* granted; 0: none */
    uint64_t registrations;
    uint64_t failures;
    uint64_t inquiries;     /* ESI answered */
    uint64_t notifications; /* SCN heard */
    uint64_t restricted;    /* targets whose initiators are known by discovery domain */
};
void isns_client_counts(struct isns_client *c, struct isns_counts *ret_counts);
const char *isns_state_name(enum isns_state state);
