/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The inside of the client. Private to isns.
 *
 * WHO TOUCHES WHAT. The client's fiber (client.c) and, while there is a connection, the fiber that
 * receives (wire.c) live on one core; the listeners' (ear.c) on any. What they tell each other is
 * under the mutex, which is a leaf; `changed` wakes the client's fiber.
 */
#pragma once
#include "base/bytes.h"
#include "isns/domains.h"
#include "isns/isns.h"
#include "isns/names.h"
#include "isns/pdu.h"
#include "isns/visitors.h"
#include "rt/rt.h"
#include "rt/sync.h"

#define ISNS_CALL_NS 10000000000ull

struct isns_ear {
    struct isns_client *client;
    struct net_listener *listener; /* NULL: the place is free */
    bool stays;                    /* as long as the client */
    struct list callers;           /* [lock] who has said nothing for longest in front */
    size_t caller_count;           /* [lock] */
    struct rt_watch udp;           /* fd -1: none */
    unsigned core;                 /* of the watch */
    uint8_t address[16];
    uint16_t port;
};

/* The connection to the server. */
struct isns_wire {
    struct net_stream *stream;
    struct rt_group *group;     /* the fiber that receives */
    uint16_t transaction;       /* of the last request */
    bool waiting;               /* [lock] for its response */
    bool answered;              /* [lock] */
    bool broken;                /* [lock] */
    struct bytes_writer answer; /* [lock] the response's payload */
};

/* [lock] what the client's fiber has to see to. */
struct isns_news {
    bool stop;
    bool changed;  /* the picture */
    bool lost;     /* the server has forgotten us, or something of ours */
    bool domains;  /* may have changed */
    bool visitors; /* some are to be asked about */
};

struct isns_client {
    struct isns_options opt; /* its texts are those below */
    char *server;
    char entity[ISNS_EID_MAX + 1];
    struct isns_ear ears[ISNS_PORTALS_MAX]; /* changed by the client's fiber alone */
    struct isns_names names;
    uint64_t names_ns; /* when those that were not found are tried again */
    struct rt_group *group;
    struct isns_terms terms;
    struct isns_picture registered; /* changed by the client's fiber alone, under the lock */
    bool fresh;                     /* what an earlier process registered may still be there */
    uint64_t refresh_ns;
    uint64_t domains_ns;
    char said[160]; /* the last line of the log */
    struct isns_wire wire;

    struct rt_mutex lock;
    struct rt_waitq changed;
    struct isns_news news;         /* [lock] */
    struct isns_counts counts;     /* [lock] */
    uint64_t inquired_ns;          /* [lock] when the last ESI came, or ESI began */
    bool ended;                    /* [lock] the client's fiber */
    struct isns_visitors visitors; /* [lock] */
    struct isns_domains *domains;  /* [lock] NULL: nothing is known */
};

/* wire.c */
/* Connects within a few seconds: 0 or an error. The local address, "" when it has none. */
MUST int isns_wire_open(struct isns_client *c, char ret_local[NET_ADDRESS_SIZE]) WAITS;
void isns_wire_close(struct isns_client *c) WAITS;
/*
 * Sends the request and waits for its response: the status, or a negative error after which the
 * connection is of no use. ret_answer, which may be NULL: what follows the status; it lives until
 * the next call.
 */
MUST int isns_wire_call(struct isns_client *c, struct isns_header request,
                        const struct bytes_writer *payload, struct bytes_reader *ret_answer) WAITS;
/* The next message; payload as isns_assembly's. 0 or an error. */
MUST int isns_wire_recv(struct net_stream *s, struct isns_assembly *a, uint64_t deadline_ns) WAITS;

/* ear.c */
/* Listens at the places of the options where it can; says where it cannot. */
void isns_ears_open(struct isns_client *c) WAITS;
/* Listens at those portals, too, that are addresses of ours. */
void isns_ears_add(struct isns_client *c, const struct isns_picture *p) WAITS;
/* And no longer at those which the picture has no more. */
void isns_ears_drop(struct isns_client *c, const struct isns_picture *p) WAITS;
bool isns_ears_are_there(const struct isns_client *c);
void isns_ears_close(struct isns_client *c) WAITS;
/* Where the server is to ask about this portal; 0: nowhere. */
uint16_t isns_ears_port(const struct isns_client *c, const struct isns_portal *portal);
/* Takes a request of the server; the response is appended to out. */
void isns_ears_heed(struct isns_client *c, const struct isns_assembly *request,
                    struct bytes_writer *out);

/* client.c */
/* Whether that node is registered, or about to be. From any core. */
bool isns_client_registers(struct isns_client *c, const char *name);

/* register.c */
/*
 * Makes the server's picture ours: all of it, or what has changed since. Replaces what the server
 * has of this entity when we are fresh. 0, a status of the server (positive), or an error.
 */
MUST int isns_register(struct isns_client *c, const char *local, bool all) WAITS;
/* Takes all of it back. */
MUST int isns_deregister(struct isns_client *c) WAITS;
/* Asks what those may see who have come. 0 or an error. */
MUST int isns_ask_visitors(struct isns_client *c) WAITS;
/* Asks who may see each target. 0 or an error. */
MUST int isns_ask_domains(struct isns_client *c) WAITS;
