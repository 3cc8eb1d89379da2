/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fixed newstyle negotiation of one connection.
 *
 *     greeting -> client flags -> options ... -> EXPORT_NAME or GO: transmission
 *                                    |    `-> ABORT: the end
 *                                    `-> STARTTLS: what was negotiated is forgotten, options go on
 * under TLS
 *
 * Bytes are received exactly as far as they are understood, so that nothing is left over when TLS
 * begins. All of it has one deadline; option data, options and queued replies are bounded.
 */
#include "base/bytes.h"
#include "base/err.h"
#include "base/msg.h"
#include "nbd/conn.h"
#include "nbd/option.h"
#include <stdio.h>

struct talk {
    struct nbd_conn *c;
    uint64_t deadline_ns;
    uint32_t option;
    uint8_t *data; /* of the option */
    uint32_t len;
};

/* What an option comes to, besides errors. */
enum outcome {
    GO_ON,
    TRANSMIT,
    LEAVE,
};

static int reply(struct talk *t, uint32_t type, const void *data, size_t len)
{
    uint8_t head[NBD_OPTION_REPLY_BYTES];
    nbd_option_reply_encode(t->option, type, (uint32_t)len, head);
    int r = net_send_copy(t->c->stream, head, sizeof head);
    return r < 0 || len == 0 ? r : net_send_copy(t->c->stream, data, len);
}

static int reply_error(struct talk *t, uint32_t type, const char *why)
{
    return reply(t, type, why, strlen(why));
}

static int ack(struct talk *t)
{
    return reply(t, NBD_REP_ACK, NULL, 0);
}

static int recv_exactly(struct talk *t, void *dst, size_t len) WAITS
{
    return net_recv_all(t->c->stream, dst, len, t->deadline_ns);
}

static int greet(struct talk *t) WAITS
{
    struct nbd_conn *c = t->c;
    uint8_t hello[18];
    be64_store(hello, NBD_MAGIC_INIT);
    be64_store(hello + 8, NBD_MAGIC_OPTION);
    be16_store(hello + 16, NBD_FLAG_FIXED_NEWSTYLE | NBD_FLAG_NO_ZEROES);
    int r = net_send_copy(c->stream, hello, sizeof hello);
    if (r < 0) {
        return r;
    }
    uint8_t answer[4];
    r = recv_exactly(t, answer, sizeof answer);
    if (r < 0) {
        return r;
    }
    uint32_t flags = be32_load(answer);
    if (flags & ~(uint32_t)(NBD_FLAG_FIXED_NEWSTYLE | NBD_FLAG_NO_ZEROES)) {
        return -EPROTO;
    }
    c->fixed_newstyle = flags & NBD_FLAG_FIXED_NEWSTYLE;
    c->no_zeroes = flags & NBD_FLAG_NO_ZEROES;
    return 0;
}

/* The device of that name: 0 or -ENOENT. */
static int find(struct nbd_conn *c, const uint8_t *name, uint32_t len, struct dev **ret_dev)
{
    char text[DEV_NAME_MAX + 1];
    if (len > DEV_NAME_MAX || (len > 0 && memchr(name, 0, len))) {
        return -ENOENT;
    }
    if (len > 0) {
        memcpy(text, name, len);
    }
    text[len] = '\0';
    return dev_find_nbd(c->server->opt.registry, text, ret_dev);
}

static bool same_name(const char *have, const uint8_t *name, uint32_t len)
{
    return have && strlen(have) == len && (len == 0 || memcmp(have, name, len) == 0);
}

static void forget_context(struct nbd_conn *c)
{
    c->has_context = false;
    free(take(c->context_name));
}

static uint16_t flags_for(const struct nbd_conn *c, const uint8_t *name, uint32_t len)
{
    unsigned flags = NBD_FLAG_HAS_FLAGS | NBD_FLAG_SEND_FLUSH | NBD_FLAG_SEND_FUA |
                     NBD_FLAG_SEND_TRIM | NBD_FLAG_SEND_WRITE_ZEROES | NBD_FLAG_CAN_MULTI_CONN |
                     NBD_FLAG_SEND_CACHE | NBD_FLAG_SEND_FAST_ZERO;
    flags |= c->mode == NBD_MODE_SIMPLE ? 0 : NBD_FLAG_SEND_DF;
    bool context = c->has_context && same_name(c->context_name, name, len);
    flags |= c->mode == NBD_MODE_EXTENDED && context ? NBD_FLAG_BLOCK_STATUS_PAYLOAD : 0;
    return (uint16_t)flags;
}

static void on_event(struct dev_watch *w, enum dev_event event)
{
    struct nbd_conn *c = container_of(w, struct nbd_conn, watch);
    if (event == DEV_EVENT_REMOVED) {
        nbd_server_kick(c->server, atomic_load(&c->core_index)); /* or nbd_session_run() sees it */
    }
}

/* Takes over the reference. */
static int attach(struct nbd_conn *c, struct dev *d, const uint8_t *name, uint32_t len)
{
    char who[NET_ADDRESS_SIZE + 8];
    snprintf(who, sizeof who, "nbd %s", c->peer);
    c->watch.fn = on_event;
    int r = dev_attach(d, who, "", &c->watch);
    if (r < 0) {
        dev_unref(d);
        return r;
    }
    c->dev = d;
    if (!same_name(c->context_name, name, len)) {
        c->has_context = false;
    }
    return 0;
}

static int do_export_name(struct talk *t)
{
    struct nbd_conn *c = t->c;
    struct dev *d;
    int r = c->server->draining ? ERR_DRAINING : find(c, t->data, t->len, &d);
    if (r < 0) {
        return r;
    }
    uint8_t answer[10 + 124] = {0};
    be64_store(answer, dev_size(d));
    be16_store(answer + 8, flags_for(c, t->data, t->len));
    r = attach(c, d, t->data, t->len);
    if (r < 0) {
        return r;
    }
    r = net_send_copy(c->stream, answer, c->no_zeroes ? 10 : sizeof answer);
    return r < 0 ? r : TRANSMIT;
}

#define DESCRIPTION_SIZE 64

/* One line for a human being: its length. */
static size_t describe(const struct dev_info *info, char ret_text[DESCRIPTION_SIZE])
{
    char uuid[UUID_TEXT_SIZE];
    uuid_format(&info->uuid, uuid);
    return (size_t)snprintf(ret_text, DESCRIPTION_SIZE, "ZeroFS device %s", uuid);
}

static int reply_infos(struct talk *t, struct dev *d, const struct nbd_info_request *q)
{
    struct dev_info info;
    dev_info(d, &info);
    uint8_t bytes[2 + DEV_NAME_MAX];
    be16_store(bytes, NBD_INFO_EXPORT);
    be64_store(bytes + 2, info.size_bytes);
    be16_store(bytes + 10, flags_for(t->c, q->name.data, q->name.len));
    int r = reply(t, NBD_REP_INFO, bytes, 12);
    if (r >= 0 && q->want_name) {
        size_t len = strlen(info.name);
        be16_store(bytes, NBD_INFO_NAME);
        memcpy(bytes + 2, info.name, len);
        r = reply(t, NBD_REP_INFO, bytes, 2 + len);
    }
    if (r >= 0 && q->want_description) {
        be16_store(bytes, NBD_INFO_DESCRIPTION);
        r = reply(t, NBD_REP_INFO, bytes, 2 + describe(&info, (char *)bytes + 2));
    }
    if (r >= 0 && q->want_block_size) {
        be16_store(bytes, NBD_INFO_BLOCK_SIZE);
        be32_store(bytes + 2, 1);
        be32_store(bytes + 6, VOL_BLOCK_BYTES);
        be32_store(bytes + 10, NBD_PAYLOAD_MAX);
        r = reply(t, NBD_REP_INFO, bytes, 14);
    }
    return r;
}

/* INFO and GO */
static int do_info(struct talk *t)
{
    struct nbd_info_request q;
    struct dev *d;
    if (nbd_info_decode(t->data, t->len, &q) < 0) {
        return reply_error(t, NBD_REP_ERR_INVALID, "the option is malformed");
    }
    if (find(t->c, q.name.data, q.name.len, &d) < 0) {
        return reply_error(t, NBD_REP_ERR_UNKNOWN,
                           q.name.len > 0 ? "there is no export of this name"
                                          : "an empty name means the only export, and there is "
                                            "none or more than one");
    }
    int r = reply_infos(t, d, &q);
    if (r >= 0 && t->option == NBD_OPT_GO) {
        r = attach(t->c, d, q.name.data, q.name.len);
        if (r == -ENODEV) {
            return reply_error(t, NBD_REP_ERR_UNKNOWN, "the export was removed just now");
        }
        d = NULL;
    }
    dev_unref(d);
    if (r >= 0) {
        r = ack(t);
    }
    return r < 0 ? r : t->option == NBD_OPT_GO ? TRANSMIT : GO_ON;
}

static int do_list(struct talk *t) WAITS
{
    if (t->len > 0) {
        return reply_error(t, NBD_REP_ERR_INVALID, "LIST takes no data");
    }
    struct dev_info info;
    struct dev_info *after = NULL;
    while (dev_list(t->c->server->opt.registry, DEV_NBD, after, &info, 1) == 1) {
        uint8_t bytes[4 + DEV_NAME_MAX + DESCRIPTION_SIZE];
        uint32_t len = (uint32_t)strlen(info.name);
        be32_store(bytes, len);
        memcpy(bytes + 4, info.name, len);
        size_t more = describe(&info, (char *)bytes + 4 + len);
        int r = reply(t, NBD_REP_SERVER, bytes, 4 + len + more);
        if (r >= 0) {
            r = net_send_wait(t->c->stream, NBD_OPTION_DATA_MAX);
        }
        if (r < 0) {
            return r;
        }
        after = &info;
    }
    return ack(t);
}

static int do_structured(struct talk *t)
{
    struct nbd_conn *c = t->c;
    if (t->len > 0) {
        return reply_error(t, NBD_REP_ERR_INVALID, "the option takes no data");
    }
    if (c->mode == NBD_MODE_EXTENDED) {
        return reply_error(t, NBD_REP_ERR_EXT_HEADER_REQD, "extended headers are negotiated");
    }
    c->mode = NBD_MODE_STRUCTURED;
    return ack(t);
}

static int do_extended(struct talk *t)
{
    struct nbd_conn *c = t->c;
    if (!c->server->opt.extended_headers) {
        return reply_error(t, NBD_REP_ERR_UNSUP, "extended headers are switched off");
    }
    if (t->len > 0 || c->mode == NBD_MODE_EXTENDED) {
        return reply_error(t, NBD_REP_ERR_INVALID,
                           t->len > 0 ? "the option takes no data" : "negotiated already");
    }
    c->mode = NBD_MODE_EXTENDED;
    return ack(t);
}

static int reply_context(struct talk *t, uint32_t id)
{
    uint8_t bytes[4 + sizeof NBD_CONTEXT_ALLOCATION];
    be32_store(bytes, id);
    memcpy(bytes + 4, NBD_CONTEXT_ALLOCATION, sizeof NBD_CONTEXT_ALLOCATION - 1);
    return reply(t, NBD_REP_META_CONTEXT, bytes, 4 + sizeof NBD_CONTEXT_ALLOCATION - 1);
}

/* LIST_META_CONTEXT and SET_META_CONTEXT */
static int do_meta(struct talk *t)
{
    struct nbd_conn *c = t->c;
    bool set = t->option == NBD_OPT_SET_META_CONTEXT;
    struct nbd_meta_request q;
    struct dev *d;
    if (set) {
        forget_context(c);
    }
    if (c->mode == NBD_MODE_SIMPLE) {
        return reply_error(t, NBD_REP_ERR_INVALID, "negotiate structured replies first");
    }
    if (nbd_meta_decode(t->data, t->len, &q) < 0) {
        return reply_error(t, NBD_REP_ERR_INVALID, "the option is malformed");
    }
    if (find(c, q.name.data, q.name.len, &d) < 0) {
        return reply_error(t, NBD_REP_ERR_UNKNOWN, "there is no export of this name");
    }
    dev_unref(d);
    bool chosen = q.allocation || (!set && (q.wildcard || q.queries == 0));
    if (chosen && set) {
        c->context_name = bytes_text(q.name.data, q.name.len);
        if (!c->context_name) {
            return -ENOMEM;
        }
        c->has_context = true;
    }
    int r = chosen ? reply_context(t, set ? NBD_CONTEXT_ALLOCATION_ID : 0) : 0;
    return r < 0 ? r : ack(t);
}

static int do_starttls(struct talk *t) WAITS
{
    struct nbd_conn *c = t->c;
    if (!c->server->tls || !c->fixed_newstyle) {
        return reply_error(t, NBD_REP_ERR_POLICY, "TLS is switched off");
    }
    if (c->tls || t->len > 0) {
        return reply_error(t, NBD_REP_ERR_INVALID, c->tls ? "TLS is on already" : "takes no data");
    }
    int r = ack(t);
    if (r >= 0) {
        r = net_send_wait(c->stream, 0);
    }
    if (r >= 0) {
        r = net_starttls(c->stream, c->server->tls, t->deadline_ns);
    }
    if (r < 0) {
        return r;
    }
    c->tls = true;
    c->mode = NBD_MODE_SIMPLE;
    forget_context(c);
    return GO_ON;
}

static int dispatch(struct talk *t) WAITS
{
    int r;
    switch (t->option) {
    case NBD_OPT_EXPORT_NAME:
        return do_export_name(t);
    case NBD_OPT_ABORT:
        r = ack(t);
        return r < 0 ? r : LEAVE;
    case NBD_OPT_LIST:
        return do_list(t);
    case NBD_OPT_STARTTLS:
        return do_starttls(t);
    case NBD_OPT_INFO:
    case NBD_OPT_GO:
        return do_info(t);
    case NBD_OPT_STRUCTURED_REPLY:
        return do_structured(t);
    case NBD_OPT_LIST_META_CONTEXT:
    case NBD_OPT_SET_META_CONTEXT:
        return do_meta(t);
    case NBD_OPT_EXTENDED_HEADERS:
        return do_extended(t);
    default:
        return reply_error(t, NBD_REP_ERR_UNSUP, "the option is not known");
    }
}

/* An option with its data, as far as it may be heard now. */
static int hear(struct talk *t) WAITS
{
    struct nbd_conn *c = t->c;
    bool harmless = t->option == NBD_OPT_STARTTLS || t->option == NBD_OPT_ABORT;
    if (c->server->opt.tls == NBD_TLS_REQUIRE && !c->tls && !harmless) {
        return t->option == NBD_OPT_EXPORT_NAME
                   ? -EPROTO
                   : reply_error(t, NBD_REP_ERR_TLS_REQD, "this server serves over TLS only");
    }
    if (c->server->draining && !harmless && t->option != NBD_OPT_EXPORT_NAME) {
        return reply_error(t, NBD_REP_ERR_SHUTDOWN, "the server is shutting down");
    }
    return dispatch(t);
}

/* Data that nobody would keep: passed over, up to a point. */
static int too_long(struct talk *t) WAITS
{
    uint8_t sink[1024];
    uint32_t left = t->len;
    if (left > NBD_OPTION_SKIP_MAX || t->option == NBD_OPT_EXPORT_NAME) {
        (void)!reply_error(t, NBD_REP_ERR_TOO_BIG, "the option is too long");
        return -EPROTO;
    }
    while (left > 0) {
        uint32_t n = MIN_OF(left, (uint32_t)sizeof sink);
        int r = recv_exactly(t, sink, n);
        if (r < 0) {
            return r;
        }
        left -= n;
    }
    return reply_error(t, NBD_REP_ERR_TOO_BIG, "the option is too long");
}

static int one_option(struct talk *t) WAITS
{
    uint8_t bytes[NBD_OPTION_HEADER_BYTES];
    struct nbd_option_header header;
    int r = recv_exactly(t, bytes, sizeof bytes);
    if (r < 0) {
        return r;
    }
    r = nbd_option_decode(bytes, &header);
    if (r < 0) {
        return r;
    }
    t->option = header.option;
    t->len = header.len;
    if (t->len > NBD_OPTION_DATA_MAX) {
        return too_long(t);
    }
    auto_free uint8_t *data = malloc(MAX_OF(t->len, 1u));
    if (!data) {
        return -ENOMEM;
    }
    r = recv_exactly(t, data, t->len);
    if (r < 0) {
        return r;
    }
    t->data = data;
    r = hear(t);
    t->data = NULL;
    if (r < 0) {
        return r;
    }
    int sent = net_send_wait(t->c->stream, NBD_OPTION_DATA_MAX);
    return sent < 0 ? sent : r;
}

int nbd_handshake(struct nbd_conn *c)
{
    struct talk t = {.c = c, .deadline_ns = rt_after_ms(c->server->opt.handshake_timeout_s * 1000)};
    int r = greet(&t);
    for (unsigned n = 0; r == GO_ON && n < NBD_OPTIONS_MAX; n++) {
        r = one_option(&t);
    }
    return r == TRANSMIT ? 0 : r == LEAVE ? 1 : r < 0 ? r : -EPROTO;
}
