/* SPDX-License-Identifier: Apache-2.0 */
/* The client against a server that does what the test says, under the simulator's clock. */
#include "base/endian.h"
#include "base/msg.h"
#include "isns/isns.h"
#include "isns/names.h"
#include "isns/pdu.h"
#include "isns/resolve.h"
#include "rt/rt.h"
#include "unit.h"

#include <errno.h>
#include <stdio.h>

#define CHECK(expr)                                                                                \
    do {                                                                                           \
        if (!(expr)) {                                                                             \
            print_error("%s:%d: check failed: %s\n", __FILE__, __LINE__, #expr);                   \
            abort();                                                                               \
        }                                                                                          \
    } while (0)
#define LIMIT_S 7200 /* virtual */
#define A "iqn.2024-01.test:a"
#define B "iqn.2024-01.test:b"
#define I "iqn.2024-01.test:i"
#define REQUESTS_MAX 256

/* What the server was asked. */
struct request {
    uint16_t function;
    uint16_t flags;
    char first[64];  /* the source */
    unsigned nodes;  /* operating attributes: iSCSI names */
    unsigned groups; /* portal group tags */
    bool esi;
    bool scn;
    bool entity; /* an EID */
    uint64_t at_ns;
};

static struct {
    struct isns_client *client;
    const char *targets[8];
    size_t target_count;
    bool away;           /* nobody answers */
    bool silent;         /* it is connected to, and says nothing */
    uint64_t answer_ms;  /* so long each answer takes */
    bool deaf;           /* ... and does not even take what comes, after the next message */
    uint32_t status[16]; /* of the next responses to registrations; then 0 */
    size_t refusals;
    uint32_t query_status;
    bool knows_initiator; /* who may see A; nobody B */
    bool shows_b;         /* to who asks as I */
    unsigned names;       /* portals that are told by name */
    uint64_t resolve_ms;  /* so long each look-up takes */
    bool unknown;         /* and finds nothing */
    unsigned resolved;    /* how many there were */
    struct net_stream *stream;
    unsigned connections;
    struct request requests[REQUESTS_MAX];
    size_t count;
    uint16_t answered; /* function of the last response that has come */
    uint32_t answer_status;
} world;

static int add_names(struct isns_picture *p)
{
    int r = 0;
    for (unsigned i = 0; i < world.names && r >= 0; i++) {
        char text[32];
        const char(*found)[NET_ADDRESS_SIZE] = NULL;
        size_t portal;
        (void)snprintf(text, sizeof text, "portal-%u:3260", i);
        size_t count = p->names ? isns_names_find(p->names, text, &found) : 0;
        r = count > 0 ? isns_picture_portal(p, found[0], &portal) : 0;
    }
    return r;
}

static int resolve(void *arg, struct isns_lookup *l)
{
    (void)arg;
    world.resolved++;
    if (rt_sleep_ms(world.resolve_ms) < 0 || world.unknown) {
        return -EAGAIN;
    }
    (void)snprintf(l->found[0], NET_ADDRESS_SIZE, "192.0.2.1%s:3260", strchr(l->host, '-') + 1);
    l->count = 1;
    return 0;
}

static int describe(void *arg, const char *local, struct isns_picture *p)
{
    size_t portal;
    int r = isns_picture_portal(p, "192.0.2.1:3260", &portal);
    (void)arg;
    (void)local;
    for (size_t i = 0; i < world.target_count && r >= 0; i++) {
        r = isns_picture_node(p, world.targets[i]);
        if (r >= 0) {
            r = isns_picture_link(p, portal, 1);
        }
    }
    return r < 0 ? r : add_names(p);
}

static void note_attr(struct request *q, const struct isns_attr *a, bool behind, bool first)
{
    if (first && a->tag == ISNS_NODE_NAME) {
        CHECK(isns_attr_text(a, q->first, sizeof q->first) == 0);
    }
    q->nodes += behind && a->tag == ISNS_NODE_NAME;
    q->groups += a->tag == ISNS_PG_TAG;
    q->esi |= a->tag == ISNS_ESI_PORT;
    q->scn |= a->tag == ISNS_SCN_PORT;
    q->entity |= behind && a->tag == ISNS_EID;
}

static void note(const struct isns_assembly *m, bool *ret_wants_members)
{
    CHECK(world.count < REQUESTS_MAX);
    struct request *q = &world.requests[world.count++];
    struct bytes_reader in = bytes_reader_of(m->payload.data, m->payload.len);
    struct isns_attr a;
    bool behind = false, first = true;
    *q = (struct request){
        .function = m->first.function, .flags = m->first.flags, .at_ns = rt_now_ns()};
    int r;
    while ((r = isns_attr_next(&in, &a)) > 0) {
        behind |= a.tag == ISNS_DELIMITER;
        note_attr(q, &a, behind, first);
        first = false;
        *ret_wants_members |= a.tag == ISNS_DD_MEMBER_NAME;
    }
    CHECK(r == 0);
}

static uint32_t next_status(uint16_t function)
{
    if (function == ISNS_DEV_ATTR_QRY) {
        return world.query_status;
    }
    if (function != ISNS_DEV_ATTR_REG || world.refusals == 0) {
        return ISNS_OK;
    }
    return world.status[--world.refusals];
}

static void answer(struct net_stream *s, const struct isns_assembly *m)
{
    struct bytes_writer payload = {0}, out = {0};
    bool members = false;
    note(m, &members);
    const struct request *q = &world.requests[world.count - 1];
    uint32_t status = next_status(q->function);
    bytes_put_be32(&payload, status);
    isns_put_null(&payload, ISNS_DELIMITER);
    if (q->function == ISNS_DEV_ATTR_REG && status == ISNS_OK) {
        isns_put_u32(&payload, ISNS_REGISTRATION_PERIOD, 600);
    }
    if (q->function == ISNS_DEV_ATTR_QRY && members && world.knows_initiator &&
        strcmp(q->first, A) == 0) {
        isns_put_text(&payload, ISNS_DD_MEMBER_NAME, I);
    }
    if (q->function == ISNS_DEV_ATTR_QRY && world.shows_b && strcmp(q->first, I) == 0) {
        isns_put_text(&payload, ISNS_NODE_NAME, B);
        for (int i = 0; i < 4; i++) { /* of others; no more than ours would fit are kept */
            isns_put_text(&payload, ISNS_NODE_NAME, B "-theirs");
        }
    }
    isns_message_put(&out,
                     &(struct isns_header){.function = q->function | ISNS_RESPONSE,
                                           .flags = ISNS_FROM_SERVER,
                                           .transaction = m->first.transaction},
                     &payload);
    CHECK(net_send_copy(s, out.data, out.len) == 0);
    bytes_writer_free(&payload);
    bytes_writer_free(&out);
}

/* The next message of the stream: false at its end. */
static bool receive(struct net_stream *s, struct isns_assembly *m)
{
    static uint8_t bytes[ISNS_PDU_PAYLOAD_MAX];
    uint8_t head[ISNS_HEADER_LEN];
    struct isns_header h;
    isns_assembly_reset(m);
    do {
        if (net_recv_all(s, head, sizeof head, RT_FOREVER) < 0) {
            return false;
        }
        CHECK(isns_header_read(head, &h) == 0);
        CHECK(net_recv_all(s, bytes, h.len, RT_FOREVER) == 0);
    } while (isns_assembly_add(m, &h, bytes) == 0);
    return true;
}

static void serve(void *arg)
{
    struct net_stream *s = arg;
    struct isns_assembly m = {0};
    while (receive(s, &m)) {
        while (world.deaf) {
            (void)rt_sleep_ms(100);
        }
        if (m.first.function & ISNS_RESPONSE) {
            world.answered = m.first.function;
            world.answer_status = be32_load(m.payload.data);
        } else if (!world.silent && rt_sleep_ms(world.answer_ms) == 0) {
            answer(s, &m);
        }
    }
    isns_assembly_free(&m);
    world.stream = world.stream == s ? NULL : world.stream;
    net_close(s);
}

static int connect(void *arg, uint64_t deadline_ns, struct net_stream **ret_stream)
{
    struct net_stream *s;
    (void)arg;
    (void)deadline_ns;
    if (world.away) {
        return -ECONNREFUSED;
    }
    CHECK(net_pipe(ret_stream, &s) == 0);
    CHECK(rt_spawn("server", serve, s) == 0);
    world.stream = s;
    world.connections++;
    return 0;
}

static void begin(const char *first, const char *second, bool domains)
{
    memset(&world, 0, sizeof world);
    world.targets[0] = first;
    world.targets[1] = second;
    world.target_count = (first != NULL) + (second != NULL);
    struct isns_options opt = {.server = "192.0.2.9",
                               .entity = "storage-1",
                               .esi_interval_s = 0,
                               .domains = domains,
                               .describe = describe,
                               .connect = connect,
                               .resolve = resolve};
    CHECK(isns_client_start(&opt, &world.client) == 0);
}

static struct isns_counts counts(void)
{
    struct isns_counts c;
    isns_client_counts(world.client, &c);
    return c;
}

static void wait_state(enum isns_state state)
{
    uint64_t limit_ns = rt_now_ns() + LIMIT_S * 1000000000ull;
    while (counts().state != state) {
        CHECK(rt_now_ns() < limit_ns);
        (void)rt_sleep_ms(10);
    }
}

/* Until the server was asked so often. */
static void wait_requests(size_t count)
{
    uint64_t limit_ns = rt_now_ns() + LIMIT_S * 1000000000ull;
    while (world.count < count) {
        CHECK(rt_now_ns() < limit_ns);
        (void)rt_sleep_ms(10);
    }
}

static void wait_answered(uint16_t function)
{
    uint64_t limit_ns = rt_now_ns() + LIMIT_S * 1000000000ull;
    while (world.answered != function) {
        CHECK(rt_now_ns() < limit_ns);
        (void)rt_sleep_ms(10);
    }
    world.answered = 0;
}

static void end(void)
{
    isns_client_leave(world.client, rt_after_ms(2000));
    CHECK(counts().state == ISNS_LEFT);
    isns_client_free(world.client);
}

static void tell(uint16_t function, const struct bytes_writer *payload)
{
    struct bytes_writer out = {0};
    isns_message_put(
        &out,
        &(struct isns_header){.function = function, .flags = ISNS_FROM_SERVER, .transaction = 99},
        payload);
    CHECK(world.stream);
    CHECK(net_send_copy(world.stream, out.data, out.len) == 0);
    bytes_writer_free(&out);
}

static void registers_and_leaves(void *arg)
{
    (void)arg;
    begin(A, B, false);
    wait_state(ISNS_REGISTERED);
    CHECK(world.count == 1);
    const struct request *q = world.requests;
    CHECK(q->function == ISNS_DEV_ATTR_REG && (q->flags & ISNS_REPLACE));
    CHECK(strcmp(q->first, A) == 0 && q->entity && q->nodes == 2 && q->groups == 2);
    CHECK(!q->esi && !q->scn); /* nothing is listened to */
    CHECK(counts().targets == 2 && counts().portals == 1 && counts().period_s == 600);
    CHECK(isns_client_allows(world.client, A, I) && isns_client_allows(NULL, A, I));
    end();
    CHECK(world.count == 2 && world.requests[1].function == ISNS_DEV_DEREG);
    CHECK(world.requests[1].entity);
}

/* Only what is new is registered, and what is gone is deregistered by name. */
static void follows_changes(void *arg)
{
    (void)arg;
    begin(A, NULL, false);
    wait_state(ISNS_REGISTERED);
    world.targets[1] = B;
    world.target_count = 2;
    isns_client_changed(world.client);
    wait_requests(2);
    const struct request *q = &world.requests[1];
    CHECK(q->function == ISNS_DEV_ATTR_REG && !(q->flags & ISNS_REPLACE) && q->nodes == 1);
    CHECK(strcmp(q->first, A) == 0);
    world.targets[0] = B;
    world.target_count = 1;
    isns_client_changed(world.client);
    wait_requests(3);
    q = &world.requests[2];
    CHECK(q->function == ISNS_DEV_DEREG && q->nodes == 1 && !q->entity);
    CHECK(strcmp(q->first, B) == 0);
    /* The last one takes the entity with it; and one that comes is registered again. */
    world.target_count = 0;
    isns_client_changed(world.client);
    wait_state(ISNS_IDLE);
    CHECK(world.count == 4 && world.requests[3].function == ISNS_DEV_DEREG);
    CHECK(world.requests[3].entity);
    world.target_count = 1;
    isns_client_changed(world.client);
    wait_state(ISNS_REGISTERED);
    CHECK(world.count == 5 && world.requests[4].nodes == 1);
    end();
}

/* A third of the period that the server has granted. */
static void says_it_again_in_time(void *arg)
{
    (void)arg;
    begin(A, NULL, false);
    wait_requests(3);
    for (size_t i = 1; i < 3; i++) {
        uint64_t gap_ns = world.requests[i].at_ns - world.requests[i - 1].at_ns;
        CHECK(gap_ns >= 190000000000ull && gap_ns <= 210000000000ull);
        CHECK(!(world.requests[i].flags & ISNS_REPLACE) && world.requests[i].nodes == 1);
    }
    end();
}

static void comes_back_to_a_server_that_was_away(void *arg)
{
    (void)arg;
    begin(A, NULL, false);
    wait_state(ISNS_REGISTERED);
    world.away = true;
    net_shutdown(world.stream);
    wait_state(ISNS_AWAY);
    CHECK(counts().why[0]);
    CHECK(counts().targets == 1);
    (void)rt_sleep_ms(300000);
    uint64_t failures = counts().failures;
    CHECK(failures >= 8 && failures <= 40); /* it backs off */
    world.targets[1] = B;                   /* meanwhile */
    world.target_count = 2;
    isns_client_changed(world.client);
    world.away = false;
    size_t before = world.count;
    wait_state(ISNS_REGISTERED);
    CHECK(world.requests[before].nodes == 2 && counts().targets == 2);
    end();
}

/* That it closes what is idle is not worth a word. */
static void takes_a_closed_connection_lightly(void *arg)
{
    (void)arg;
    begin(A, NULL, false);
    wait_state(ISNS_REGISTERED);
    net_shutdown(world.stream);
    wait_requests(2);
    CHECK(world.connections == 2);
    (void)rt_sleep_ms(100);
    CHECK(counts().state == ISNS_REGISTERED && counts().failures == 0);
    end();
}

static void asks_for_less(void *arg)
{
    (void)arg;
    begin(A, NULL, false);
    world.status[0] = ISNS_FEATURE_NOT_SUPPORTED;
    world.refusals = 1;
    wait_state(ISNS_REGISTERED);
    CHECK(world.count == 2 && world.connections == 1);
    CHECK(world.requests[0].groups == 1 && world.requests[1].groups == 0);
    end();
}

static void stands_a_refusal(void *arg)
{
    (void)arg;
    begin(A, NULL, false);
    for (size_t i = 0; i < 5; i++) {
        world.status[i] = 3;
    }
    world.refusals = 5;
    wait_state(ISNS_REFUSED);
    CHECK(strcmp(counts().why, "invalid registration") == 0 && counts().targets == 0);
    wait_state(ISNS_REGISTERED);
    CHECK(world.count == 6 && (world.requests[5].flags & ISNS_REPLACE));
    end();
}

/* A notification about a node. */
static void tell_change(uint32_t bits, const char *name)
{
    struct bytes_writer w = {0};
    isns_put_text(&w, ISNS_NODE_NAME, A);
    isns_put_u32(&w, ISNS_SCN_BITMAP, bits);
    isns_put_text(&w, ISNS_NODE_NAME, name);
    tell(ISNS_SCN, &w);
    bytes_writer_free(&w);
    wait_answered(ISNS_SCN | ISNS_RESPONSE);
}

static void stands_silence(void *arg)
{
    (void)arg;
    begin(A, NULL, false);
    world.silent = true;
    wait_state(ISNS_AWAY);
    uint64_t before_ns = rt_now_ns();
    isns_client_leave(world.client, rt_after_ms(1500));
    CHECK(rt_now_ns() - before_ns <= 1600000000ull);
    isns_client_free(world.client);
}

static void honours_domains(void *arg)
{
    (void)arg;
    world.query_status = ISNS_OK;
    begin(A, B, true);
    world.knows_initiator = true;
    CHECK(isns_client_allows(world.client, A, I)); /* nobody has said anything */
    wait_requests(5);                              /* one registration, two queries for each */
    (void)rt_sleep_ms(100);
    CHECK(counts().restricted == 2);
    CHECK(isns_client_allows(world.client, A, I) && !isns_client_allows(world.client, B, I));
    CHECK(!isns_client_allows(world.client, A, I "2"));
    /* A notification makes it look, and not more often than once a second. */
    world.knows_initiator = false;
    for (int i = 0; i < 10; i++) {
        tell_change(ISNS_SCN_UPDATED, I);
        CHECK(world.answer_status == ISNS_OK);
    }
    (void)rt_sleep_ms(3000);
    CHECK(counts().notifications == 10 && world.count <= 5 + 8);
    CHECK(!isns_client_allows(world.client, A, I));
    /* What it does not say leaves what it has said; and so does its absence. */
    world.query_status = 11;
    world.knows_initiator = true;
    (void)rt_sleep_ms(70000);
    CHECK(!isns_client_allows(world.client, A, I));
    world.away = true;
    net_shutdown(world.stream);
    wait_state(ISNS_AWAY);
    CHECK(!isns_client_allows(world.client, A, I));
    end();
}

/* What a server tells nobody but the initiator: it is asked when that one comes, and not again
 * soon. */
static void meets_initiators(void *arg)
{
    (void)arg;
    begin(A, B, true);
    world.shows_b = true;
    isns_client_meet(world.client, I, rt_after_ms(2000)); /* nobody is there yet */
    wait_requests(5);
    (void)rt_sleep_ms(100);
    CHECK(!isns_client_allows(world.client, B, I));
    isns_client_meet(world.client, I, rt_after_ms(2000));
    CHECK(world.count == 6 && strcmp(world.requests[5].first, I) == 0);
    CHECK(isns_client_allows(world.client, B, I) && !isns_client_allows(world.client, A, I));
    CHECK(!isns_client_allows(world.client, B, I "2"));
    isns_client_meet(world.client, I, rt_after_ms(2000));
    CHECK(world.count == 6);
    /* A server that says nothing is not waited for long. */
    world.silent = true;
    (void)rt_sleep_ms(31000);
    uint64_t before_ns = rt_now_ns();
    isns_client_meet(world.client, I, rt_after_ms(2000));
    CHECK(rt_now_ns() - before_ns <= 2100000000ull);
    CHECK(isns_client_allows(world.client, B, I));
    wait_state(ISNS_AWAY);
    before_ns = rt_now_ns();
    isns_client_meet(world.client, I "3", rt_after_ms(2000));
    CHECK(rt_now_ns() == before_ns);
    end();
}

/* Ours was removed there: all is said again. */
static void heals(void *arg)
{
    (void)arg;
    begin(A, B, false);
    wait_state(ISNS_REGISTERED);
    struct bytes_writer w = {0};
    isns_put_text(&w, ISNS_NODE_NAME, A);
    isns_put_u32(&w, ISNS_SCN_BITMAP, ISNS_SCN_REMOVED);
    isns_put_text(&w, ISNS_NODE_NAME, B);
    tell(ISNS_SCN, &w);
    bytes_writer_free(&w);
    wait_requests(2);
    CHECK(world.requests[1].function == ISNS_DEV_ATTR_REG && world.requests[1].nodes == 2);
    CHECK(!(world.requests[1].flags & ISNS_REPLACE));
    end();
}

/* Inquiries may come over the connection; one that is about somebody else is not answered with
 * what it says. */
static void answers_inquiries(void *arg)
{
    (void)arg;
    begin(A, NULL, false);
    wait_state(ISNS_REGISTERED);
    static const char *const entities[] = {"STORAGE-1", "storage-2"};
    for (size_t i = 0; i < 2; i++) {
        struct bytes_writer w = {0};
        isns_put_text(&w, ISNS_EID, entities[i]);
        tell(ISNS_ESI, &w);
        bytes_writer_free(&w);
        wait_answered(ISNS_ESI | ISNS_RESPONSE);
        CHECK(world.answer_status == (i ? ISNS_NO_SUCH_ENTRY : ISNS_OK));
    }
    CHECK(counts().inquiries == 1);
    struct bytes_writer none = {0};
    tell(ISNS_DEV_DEREG, &none);
    wait_answered(ISNS_DEV_DEREG | ISNS_RESPONSE);
    CHECK(world.answer_status == ISNS_NOT_SUPPORTED);
    tell(ISNS_SCN, &none);
    wait_answered(ISNS_SCN | ISNS_RESPONSE);
    CHECK(world.answer_status == ISNS_FORMAT_ERROR);
    end();
}

/* Who asks and asks, and takes no answer, is heard no further: answers do not pile up. */
static void answers_only_who_listens(void *arg)
{
    (void)arg;
    begin(A, NULL, false);
    wait_state(ISNS_REGISTERED);
    world.deaf = true;
    struct bytes_writer w = {0};
    isns_put_text(&w, ISNS_EID, "storage-1");
    isns_put_address(&w, ISNS_PORTAL_ADDRESS, (const uint8_t[16]){0});
    while (w.len < 60000) {
        isns_put_address(&w, ISNS_PORTAL_ADDRESS, (const uint8_t[16]){0});
    }
    for (int i = 0; i < 64; i++) {
        tell(ISNS_ESI, &w);
    }
    bytes_writer_free(&w);
    CHECK(rt_sleep_ms(10000) == 0 && counts().inquiries < 32);
    world.deaf = false;
    uint64_t limit_ns = rt_now_ns() + LIMIT_S * 1000000000ull;
    while (counts().inquiries < 64) {
        CHECK(rt_now_ns() < limit_ns && rt_sleep_ms(10) == 0);
    }
    end();
}

/* Names that take long are looked up side by side, and what is known is registered meanwhile. */
static void slow_names_hold_up_nothing(void *arg)
{
    (void)arg;
    uint64_t begin_ns = rt_now_ns();
    begin(A, NULL, false);
    world.names = 3;
    world.resolve_ms = 40000;
    wait_state(ISNS_REGISTERED);
    CHECK(rt_now_ns() - begin_ns < 10000000000ull && counts().portals == 1);
    struct bytes_writer w = {0};
    isns_put_text(&w, ISNS_EID, "storage-1");
    tell(ISNS_ESI, &w);
    bytes_writer_free(&w);
    wait_answered(ISNS_ESI | ISNS_RESPONSE);
    CHECK(rt_now_ns() - begin_ns < 10000000000ull);
    wait_requests(2);
    CHECK(rt_now_ns() - begin_ns < 60000000000ull);
    (void)rt_sleep_ms(1000);
    CHECK(counts().portals == 4 && world.resolved == 3);
    /* Whoever says that something was removed has it said again, and nothing looked up. */
    size_t before = world.count;
    for (int i = 0; i < 5; i++) {
        tell_change(ISNS_SCN_REMOVED, A);
        (void)rt_sleep_ms(2000);
    }
    CHECK(world.count > before && world.resolved == 3 && counts().portals == 4);
    /* After a while it is; and what takes long then does not keep it from leaving. */
    (void)rt_sleep_ms(60000);
    tell_change(ISNS_SCN_REMOVED, A);
    (void)rt_sleep_ms(5000);
    CHECK(world.resolved == 6);
    isns_client_leave(world.client, rt_after_ms(1500));
    CHECK(counts().state == ISNS_LEFT);
    CHECK(world.requests[world.count - 1].function == ISNS_DEV_DEREG);
    isns_client_free(world.client);
}

/* Nor does one that is looked up for the first time. */
static void leaves_while_a_name_is_looked_up(void *arg)
{
    (void)arg;
    begin(A, NULL, false);
    wait_state(ISNS_REGISTERED);
    world.names = 1;
    world.resolve_ms = 40000;
    world.targets[1] = B;
    isns_client_changed(world.client);
    (void)rt_sleep_ms(500);
    CHECK(world.resolved == 1);
    uint64_t before_ns = rt_now_ns();
    world.target_count = 2; /* which is not worth a word any more */
    isns_client_leave(world.client, rt_after_ms(1500));
    CHECK(rt_now_ns() - before_ns <= 1000000000ull);
    CHECK(world.count == 2 && world.requests[1].function == ISNS_DEV_DEREG);
    isns_client_free(world.client);
}

/* Names that take long not to be found are tried again after a minute all the same. */
static void tries_names_again(void *arg)
{
    (void)arg;
    begin(A, NULL, false);
    world.names = 1;
    world.unknown = true;
    world.resolve_ms = 40000;
    wait_state(ISNS_REGISTERED);
    (void)rt_sleep_ms(61000);
    CHECK(world.resolved == 2);
    end();
}

/* Who has not left before keeps the registration: by now it may be another one's of that name. */
static void ends_without_a_word(void *arg)
{
    (void)arg;
    begin(A, B, false);
    wait_state(ISNS_REGISTERED);
    isns_client_free(world.client);
    (void)rt_sleep_ms(1000);
    CHECK(world.count == 1);

    begin(A, B, false);
    world.names = 1; /* which keeps it from registering for a moment */
    world.resolve_ms = 40000;
    (void)rt_sleep_ms(500);
    CHECK(world.connections == 1 && world.count == 0);
    isns_client_free(world.client);
    (void)rt_sleep_ms(1000);
    CHECK(world.count == 0);
}

/* What a stop finds to be asked is left, for it takes too long. */
static void leaves_in_the_midst_of_questions(void *arg)
{
    (void)arg;
    begin(A, B, true);
    world.answer_ms = 300;
    wait_state(ISNS_REGISTERED);
    isns_client_leave(world.client, rt_after_ms(1000));
    CHECK(counts().state == ISNS_LEFT);
    CHECK(world.requests[world.count - 1].function == ISNS_DEV_DEREG);
    isns_client_free(world.client);
}

static void run_it(void (*fn)(void *arg))
{
    msg_level_set(MSG_ERROR);
    for (uint64_t seed = 1; seed <= 5; seed++) {
        assert_int_equal(rt_run(&(struct rt_options){.sim = true, .sim_seed = seed}, fn, NULL), 0);
    }
}

#define TEST(name)                                                                                 \
    static void test_##name(void **state)                                                          \
    {                                                                                              \
        (void)state;                                                                               \
        run_it(name);                                                                              \
    }
TEST(registers_and_leaves)
TEST(follows_changes)
TEST(says_it_again_in_time)
TEST(comes_back_to_a_server_that_was_away)
TEST(takes_a_closed_connection_lightly)
TEST(asks_for_less)
TEST(stands_a_refusal)
TEST(stands_silence)
TEST(honours_domains)
TEST(meets_initiators)
TEST(heals)
TEST(answers_inquiries)
TEST(answers_only_who_listens)
TEST(slow_names_hold_up_nothing)
TEST(leaves_while_a_name_is_looked_up)
TEST(tries_names_again)
TEST(ends_without_a_word)
TEST(leaves_in_the_midst_of_questions)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_registers_and_leaves),
        cmocka_unit_test(test_follows_changes),
        cmocka_unit_test(test_says_it_again_in_time),
        cmocka_unit_test(test_comes_back_to_a_server_that_was_away),
        cmocka_unit_test(test_takes_a_closed_connection_lightly),
        cmocka_unit_test(test_asks_for_less),
        cmocka_unit_test(test_stands_a_refusal),
        cmocka_unit_test(test_stands_silence),
        cmocka_unit_test(test_honours_domains),
        cmocka_unit_test(test_meets_initiators),
        cmocka_unit_test(test_heals),
        cmocka_unit_test(test_answers_inquiries),
        cmocka_unit_test(test_answers_only_who_listens),
        cmocka_unit_test(test_slow_names_hold_up_nothing),
        cmocka_unit_test(test_leaves_while_a_name_is_looked_up),
        cmocka_unit_test(test_tries_names_again),
        cmocka_unit_test(test_ends_without_a_word),
        cmocka_unit_test(test_leaves_in_the_midst_of_questions),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
