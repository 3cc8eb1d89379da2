/* SPDX-License-Identifier: Apache-2.0 */
#include "base/endian.h"
#include "bench/nbd_wire.h"
#include "lg.h"
#include <string.h>

static void send_go(struct lg_wire *w)
{
    uint8_t b[512];
    size_t n = strlen(lg_options.name);
    if (n > sizeof b - 26) {
        lg_die("the name is too long");
    }
    be32_store(b, NBD_FLAG_FIXED_NEWSTYLE | NBD_FLAG_NO_ZEROES);
    be64_store(b + 4, NBD_OPTION_MAGIC);
    be32_store(b + 12, NBD_OPT_GO);
    be32_store(b + 16, (uint32_t)(4 + n + 2));
    be32_store(b + 20, (uint32_t)n);
    memcpy(b + 24, lg_options.name, n);
    be16_store(b + 24 + n, 0);
    lg_wire_write(w, b, 26 + n);
}

static void login(struct lg_conn *c)
{
    uint8_t b[1024];
    lg_wire_read(&c->wire, b, 18);
    if (be64_load(b) != NBD_MAGIC || be64_load(b + 8) != NBD_OPTION_MAGIC) {
        lg_die("not an NBD server of the new style");
    }
    send_go(&c->wire);
    for (;;) {
        lg_wire_read(&c->wire, b, 20);
        uint32_t type = be32_load(b + 12);
        uint32_t len = be32_load(b + 16);
        if (be64_load(b) != NBD_OPTION_REPLY_MAGIC || len > sizeof b || type >> 31) {
            lg_die("the server refuses the export");
        }
        lg_wire_read(&c->wire, b, len);
        if (type == NBD_REP_ACK) {
            return;
        }
        if (type == NBD_REP_INFO && len >= 12 && be16_load(b) == NBD_INFO_EXPORT) {
            lg_options.device_size = MIN_OF(lg_options.device_size, be64_load(b + 2));
        }
    }
}

static bool may_submit(const struct lg_conn *c)
{
    (void)c;
    return true;
}

static void submit(struct lg_conn *c, uint32_t slot)
{
    static const uint8_t commands[] = {
        [LG_READ] = NBD_CMD_READ, [LG_WRITE] = NBD_CMD_WRITE, [LG_FLUSH] = NBD_CMD_FLUSH};
    const struct lg_slot *s = &c->slots[slot];
    uint8_t *h = lg_wire_header(&c->wire, NBD_REQUEST_SIZE);
    be32_store(h, NBD_REQUEST_MAGIC);
    be16_store(h + 4, s->op == LG_WRITE && lg_options.durable ? NBD_CMD_FLAG_FUA : 0);
    be16_store(h + 6, commands[s->op]);
    be64_store(h + 8, slot);
    be64_store(h + 16, s->offset);
    be32_store(h + 24, s->op == LG_FLUSH ? 0 : lg_options.block_size);
    if (s->op == LG_WRITE) {
        lg_wire_payload(&c->wire, s->offset, lg_options.block_size);
    }
}

static bool parse(struct lg_conn *c)
{
    const uint8_t *h = lg_wire_peek(&c->wire, NBD_REPLY_SIZE);
    if (!h) {
        return false;
    }
    uint64_t slot = be64_load(h + 8);
    if (be32_load(h) != NBD_REPLY_MAGIC || be32_load(h + 4) != 0 || slot >= lg_options.depth) {
        lg_die("a bad reply, or an error");
    }
    lg_wire_used(&c->wire, NBD_REPLY_SIZE);
    c->finishing = (int64_t)slot;
    c->wire.rx_skip = c->slots[slot].op == LG_READ ? lg_options.block_size : 0;
    return true;
}

const struct lg_proto lg_nbd = {
    .login = login, .may_submit = may_submit, .submit = submit, .parse = parse};
