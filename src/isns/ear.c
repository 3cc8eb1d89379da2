/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the server says to us: status inquiries (ESI) and state change notifications (SCN), by TCP
 * or UDP at ports of their own, or over the connection that we have opened.
 *
 * Anybody may send such a message. An inquiry about our entity is answered with what it says, as
 * the standard has it, and one about another entity is not; a notification makes us look, at most
 * once a second, and nothing more.
 */
#include "base/assert.h"
#include "base/err.h"
#include "base/msg.h"
#include "isns/client_priv.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define EAR_CONNECTIONS 64u
#define EAR_LEAVING 64u /* sent away, and not gone yet */
#define EAR_IDLE_MS 300000u
#define EAR_DATAGRAMS 16 /* at a time */
#define EAR_MESSAGE_MAX                                                                            \
    ISNS_PDU_PAYLOAD_MAX /* anybody may send one; an ESI or SCN is far shorter */

static int first_of(const struct isns_assembly *m, uint32_t tag, struct isns_attr *ret_attr)
{
    struct bytes_reader r = bytes_reader_of(m->payload.data, m->payload.len);
    int found;
    while ((found = isns_attr_next(&r, ret_attr)) > 0) {
        if (ret_attr->tag == tag) {
            return 1;
        }
    }
    return found;
}

static uint32_t heed_inquiry(struct isns_client *c, const struct isns_assembly *m,
                             struct bytes_writer *answer)
{
    struct isns_attr attr;
    char entity[ISNS_EID_MAX + 1];
    int r = first_of(m, ISNS_EID, &attr);
    if (r <= 0 || isns_attr_text(&attr, entity, sizeof entity) < 0) {
        return ISNS_FORMAT_ERROR;
    }
    if (strcasecmp(entity, c->entity) != 0) {
        return ISNS_NO_SUCH_ENTRY;
    }
    bytes_put(answer, m->payload.data, m->payload.len);
    rt_mutex_lock(&c->lock);
    c->counts.inquiries++;
    c->inquired_ns = rt_now_ns();
    rt_mutex_unlock(&c->lock);
    return ISNS_OK;
}

/*
 * §5.6.5.8: the node that is told, a time, and then bitmaps, each with the nodes it is about. Some
 * servers put a name of their own before the node's. ret_own: one of ours has been removed.
 */
static int read_notification(struct isns_client *c, const struct isns_assembly *m,
                             struct isns_attr *ret_to, bool *ret_own)
{
    struct bytes_reader in = bytes_reader_of(m->payload.data, m->payload.len);
    struct isns_attr attr;
    char name[ISNS_NAME_MAX + 1];
    uint32_t bits = 0;
    bool seen_bits = false;
    int r;
    while ((r = isns_attr_next(&in, &attr)) > 0) {
        if (attr.tag == ISNS_SCN_BITMAP) {
            r = isns_attr_u32(&attr, &bits);
            seen_bits = true;
        } else if (attr.tag == ISNS_NODE_NAME && !seen_bits) {
            *ret_to = attr;
        } else if (attr.tag == ISNS_NODE_NAME && (bits & ISNS_SCN_REMOVED)) {
            r = isns_attr_text(&attr, name, sizeof name);
            *ret_own |= r >= 0 && isns_client_registers(c, name);
        }
        if (r < 0) {
            break;
        }
    }
    return r;
}

static uint32_t heed_notification(struct isns_client *c, const struct isns_assembly *m,
                                  struct bytes_writer *answer)
{
    struct isns_attr to = {0};
    bool own = false;
    if (read_notification(c, m, &to, &own) < 0 || to.tag != ISNS_NODE_NAME) {
        return ISNS_FORMAT_ERROR;
    }
    isns_put_attr(answer, &to);
    rt_mutex_lock(&c->lock);
    c->counts.notifications++;
    c->news.lost |= own;
    c->news.domains = true;
    rt_waitq_wake_all(&c->changed);
    rt_mutex_unlock(&c->lock);
    return ISNS_OK;
}

void isns_ears_heed(struct isns_client *c, const struct isns_assembly *request,
                    struct bytes_writer *out)
{
    struct bytes_writer answer = {0};
    uint32_t status = ISNS_NOT_SUPPORTED;
    bytes_put_be32(&answer, 0);
    if (request->first.function == ISNS_ESI) {
        status = heed_inquiry(c, request, &answer);
    } else if (request->first.function == ISNS_SCN) {
        status = heed_notification(c, request, &answer);
    }
    if (!answer.failed) {
        be32_store(answer.data, status);
    }
    struct isns_header h = {.function = request->first.function | ISNS_RESPONSE,
                            .transaction = request->first.transaction,
                            .flags = ISNS_FROM_CLIENT};
    isns_message_put(out, &h, &answer);
    bytes_writer_free(&answer);
}

struct caller {
    struct list link; /* [lock] of the ear's; alone: it is sent away */
    struct rt_fiber *fiber;
};

static void come(struct isns_ear *e, struct caller *self)
{
    struct isns_client *c = e->client;
    self->fiber = rt_self();
    rt_mutex_lock(&c->lock);
    struct list *oldest = e->caller_count < EAR_CONNECTIONS ? NULL : list_pop_front(&e->callers);
    if (oldest) {
        e->caller_count--;
        /* It takes the mutex before it ends. */
        rt_fiber_cancel(container_of(oldest, struct caller, link)->fiber);
    }
    list_push_back(&e->callers, &self->link);
    e->caller_count++;
    rt_mutex_unlock(&c->lock);
}

static void speak(struct isns_ear *e, struct caller *self)
{
    rt_mutex_lock(&e->client->lock);
    if (!list_is_empty(&self->link)) {
        list_remove(&self->link);
        list_push_back(&e->callers, &self->link);
    }
    rt_mutex_unlock(&e->client->lock);
}

static void go(struct isns_ear *e, struct caller *self)
{
    rt_mutex_lock(&e->client->lock);
    if (!list_is_empty(&self->link)) {
        list_remove(&self->link);
        e->caller_count--;
    }
    rt_mutex_unlock(&e->client->lock);
}

static void serve(struct net_stream *s, void *arg)
{
    struct isns_ear *e = arg;
    struct isns_assembly a = {.max = EAR_MESSAGE_MAX};
    struct caller self;
    come(e, &self);
    while (isns_wire_recv(s, &a, rt_after_ms(EAR_IDLE_MS)) == 0 &&
           !(a.first.function & ISNS_RESPONSE)) {
        struct bytes_writer out = {0};
        speak(e, &self);
        isns_ears_heed(e->client, &a, &out);
        int r = out.failed ? -ENOMEM : net_send_copy(s, out.data, out.len);
        bytes_writer_free(&out);
        if (r < 0 || net_send_wait(s, 0) < 0) {
            break;
        }
    }
    go(e, &self);
    isns_assembly_free(&a);
    net_close(s);
}

static void take_datagram(struct isns_ear *e, const uint8_t *bytes, size_t len,
                          const struct sockaddr_storage *from, socklen_t from_len)
{
    struct isns_assembly a = {0};
    struct isns_header h;
    struct bytes_writer out = {0};
    if (len < ISNS_HEADER_LEN || isns_header_read(bytes, &h) < 0 ||
        len < ISNS_HEADER_LEN + (size_t)h.len || (h.function & ISNS_RESPONSE)) {
        return;
    }
    if (isns_assembly_add(&a, &h, bytes + ISNS_HEADER_LEN) == 1) {
        isns_ears_heed(e->client, &a, &out);
        if (!out.failed) {
            (void)sendto(e->udp.fd, out.data, out.len, MSG_DONTWAIT | MSG_NOSIGNAL,
                         (const struct sockaddr *)from, from_len);
        }
    }
    bytes_writer_free(&out);
    isns_assembly_free(&a);
}

static void udp_ready(struct rt_watch *w, uint32_t events)
{
    static _Thread_local uint8_t bytes[4096]; /* an ESI or SCN is far shorter */
    struct isns_ear *e = container_of(w, struct isns_ear, udp);
    (void)events;
    for (int i = 0; i < EAR_DATAGRAMS; i++) {
        struct sockaddr_storage from;
        socklen_t from_len = sizeof from;
        ssize_t n =
            recvfrom(w->fd, bytes, sizeof bytes, MSG_DONTWAIT, (struct sockaddr *)&from, &from_len);
        if (n < 0 && errno != EINTR) {
            return; /* the next datagram is reported */
        }
        if (n > 0) {
            take_datagram(e, bytes, (size_t)n, &from, from_len);
        }
    }
    /* The rest after whatever else has its turn: what is there already is reported anew. */
    rt_watch_remove(w);
    int r = rt_watch_add(w, EPOLLIN);
    if (r < 0) {
        msg_error("isns", "datagrams are not heard any more: %s", err_text(r));
    }
}

static int open_udp(struct isns_ear *e)
{
    struct sockaddr_storage at = {0};
    bool v4 = isns_address_is_v4(e->address);
    socklen_t len = v4 ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6);
    if (v4) {
        struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons(e->port)};
        memcpy(&in.sin_addr, e->address + 12, 4);
        memcpy(&at, &in, sizeof in);
    } else {
        struct sockaddr_in6 in6 = {.sin6_family = AF_INET6, .sin6_port = htons(e->port)};
        memcpy(&in6.sin6_addr, e->address, 16);
        memcpy(&at, &in6, sizeof in6);
    }
    int fd = socket(at.ss_family, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    int one = 1;
    if (fd < 0) {
        return -errno;
    }
    e->udp = (struct rt_watch){.fd = fd, .fn = udp_ready};
    int r = (!v4 && setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof one) < 0) ||
                    bind(fd, (struct sockaddr *)&at, len) < 0
                ? -errno
                : rt_watch_add(&e->udp, EPOLLIN);
    if (r < 0) {
        (void)close(fd);
        e->udp.fd = -1;
    }
    return r;
}

static int open_ear(struct isns_client *c, struct isns_ear *e, const char *address)
{
    struct net_listen_options l = {.address = address,
                                   .name = "isns",
                                   .connections_max = EAR_CONNECTIONS + EAR_LEAVING,
                                   .apart = true,
                                   .serve = serve,
                                   .arg = e};
    char bound[NET_ADDRESS_SIZE];
    int r = net_listen(&l, &e->listener);
    if (r < 0) {
        return r;
    }
    net_listener_address(e->listener, bound);
    r = isns_address_parse(bound, e->address, &e->port);
    if (r >= 0 && c->opt.udp) {
        r = open_udp(e);
    }
    if (r < 0) {
        net_listener_close(e->listener);
        e->listener = NULL;
    }
    return r;
}

static struct isns_ear *find_ear(struct isns_client *c, const uint8_t address[16])
{
    for (size_t i = 0; i < ARRAY_LEN(c->ears); i++) {
        struct isns_ear *e = &c->ears[i];
        if (e->listener && memcmp(e->address, address, 16) == 0) {
            return e;
        }
    }
    return NULL;
}

static struct isns_ear *free_ear(struct isns_client *c)
{
    for (size_t i = 0; i < ARRAY_LEN(c->ears); i++) {
        if (!c->ears[i].listener) {
            return &c->ears[i];
        }
    }
    return NULL;
}

/* At that address: HOST:PORT, without its port. */
static int add_ear(struct isns_client *c, const char *place, bool stays, char *ret_address)
{
    uint8_t bytes[16];
    uint16_t unused;
    const char *colon = strrchr(place, ':');
    struct isns_ear *e = free_ear(c);
    if (!e || !colon || isns_address_parse(place, bytes, &unused) < 0 || find_ear(c, bytes)) {
        return 0;
    }
    (void)snprintf(ret_address, NET_ADDRESS_SIZE, "%.*s:%u", (int)MIN_OF(colon - place, 100), place,
                   c->opt.port);
    *e = (struct isns_ear){.client = c, .stays = stays, .udp.fd = -1, .core = rt_core_self()};
    list_init(&e->callers);
    return open_ear(c, e, ret_address);
}

void isns_ears_open(struct isns_client *c)
{
    for (size_t i = 0; i < c->opt.place_count; i++) {
        char address[NET_ADDRESS_SIZE];
        int r = add_ear(c, c->opt.places[i], true, address);
        if (r < 0) {
            msg_warn("isns", "status inquiries are not heard at %s: %s", address, err_text(r));
        }
    }
}

void isns_ears_add(struct isns_client *c, const struct isns_picture *p)
{
    for (size_t i = 0; i < p->portals.len; i++) {
        char text[ISNS_ADDRESS_TEXT];
        char address[NET_ADDRESS_SIZE];
        if (isns_ears_port(c, &p->portals.at[i]) != 0) {
            continue;
        }
        isns_address_format(p->portals.at[i].address, p->portals.at[i].port, text);
        int r = add_ear(c, text, false, address);
        /* What is told need not be an address that is ours. */
        if (r < 0 && r != -EADDRNOTAVAIL) {
            msg_warn_paced("isns", "status inquiries are not heard at %s: %s", address,
                           err_text(r));
        }
    }
}

/* On the core that has opened it. */
static void close_ear(struct isns_ear *e) WAITS
{
    ASSERT(e->udp.fd < 0 || e->core == rt_core_self());
    if (e->udp.fd >= 0) {
        rt_watch_remove(&e->udp);
        (void)close(e->udp.fd);
    }
    net_listener_close(e->listener);
    e->listener = NULL;
}

void isns_ears_drop(struct isns_client *c, const struct isns_picture *p)
{
    for (size_t i = 0; i < ARRAY_LEN(c->ears); i++) {
        struct isns_ear *e = &c->ears[i];
        bool wanted = e->stays;
        for (size_t k = 0; k < p->portals.len; k++) {
            wanted = wanted || memcmp(p->portals.at[k].address, e->address, 16) == 0;
        }
        if (e->listener && !wanted) {
            close_ear(e);
        }
    }
}

void isns_ears_close(struct isns_client *c)
{
    for (size_t i = 0; i < ARRAY_LEN(c->ears); i++) {
        if (c->ears[i].listener) {
            close_ear(&c->ears[i]);
        }
    }
}

bool isns_ears_are_there(const struct isns_client *c)
{
    bool there = false;
    for (size_t i = 0; i < ARRAY_LEN(c->ears); i++) {
        there = there || c->ears[i].listener;
    }
    return there;
}

uint16_t isns_ears_port(const struct isns_client *c, const struct isns_portal *portal)
{
    for (size_t i = 0; i < ARRAY_LEN(c->ears); i++) {
        const struct isns_ear *e = &c->ears[i];
        bool same_family = isns_address_is_v4(e->address) == isns_address_is_v4(portal->address);
        if (e->listener && (memcmp(e->address, portal->address, 16) == 0 ||
                            (same_family && isns_address_is_any(e->address)))) {
            return e->port;
        }
    }
    return 0;
}
