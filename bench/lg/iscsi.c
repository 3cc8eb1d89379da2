/* SPDX-License-Identifier: Apache-2.0 */
/*
 * iSCSI (RFC 7143), one session of one connection, one LUN. Login goes straight to full feature;
 * writes send immediate data, then unsolicited data up to the first burst, then what R2Ts ask for.
 * With digests everything that is sent has them; those that come are thrown away like the data.
 */
#include "base/crc32c.h"
#include "base/endian.h"
#include "lg.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BHS 48
#define DIGEST 4
#define CDB_FUA 0x08
#define NO_TAG 0xffffffffu
#define TEXT_MAX 8192
#define SENT_AT_ONCE_BYTES 65536

enum {
    OP_NOP_OUT = 0x00,
    OP_COMMAND = 0x01,
    OP_LOGIN = 0x03,
    OP_DATA_OUT = 0x05,
    OP_NOP_IN = 0x20,
    OP_RESPONSE = 0x21,
    OP_DATA_IN = 0x25,
    OP_R2T = 0x31,
    OP_IMMEDIATE = 0x40,
};

/* For the login, which one thread does for all connections in turn. */
static char text[TEXT_MAX + 8];

static size_t padded(size_t len)
{
    return (len + 3) & ~(size_t)3;
}

static size_t login_text(void)
{
    static const char *const keys[] = {
        "InitiatorName=iqn.2024-01.net.zerofs:lg",
        "SessionType=Normal",
        "InitialR2T=No",
        "ImmediateData=Yes",
        "MaxRecvDataSegmentLength=262144",
        "MaxBurstLength=1048576",
        "FirstBurstLength=262144",
        "MaxOutstandingR2T=1",
        "MaxConnections=1",
        "ErrorRecoveryLevel=0",
        "DataPDUInOrder=Yes",
        "DataSequenceInOrder=Yes",
        "DefaultTime2Wait=2",
        "DefaultTime2Retain=0",
    };
    size_t n = 0;
    for (unsigned i = 0; i < ARRAY_LEN(keys); i++) {
        n += (size_t)snprintf(text + n, TEXT_MAX - n, "%s", keys[i]) + 1;
    }
    const char *digest = lg_options.digests ? "CRC32C" : "None";
    n += (size_t)snprintf(text + n, TEXT_MAX - n, "HeaderDigest=%s", digest) + 1;
    n += (size_t)snprintf(text + n, TEXT_MAX - n, "DataDigest=%s", digest) + 1;
    n += (size_t)snprintf(text + n, TEXT_MAX - n, "TargetName=%s", lg_options.name) + 1;
    if (n > TEXT_MAX) {
        lg_die("the name is too long");
    }
    memset(text + n, 0, padded(n) - n);
    return n;
}

/* What the target said about itself. */
static void take_key(struct lg_iscsi *s, const char *key)
{
    const char *value = strchr(key, '=');
    size_t len = value ? (size_t)(value++ - key) : 0;
    if (len == 24 && strncmp(key, "MaxRecvDataSegmentLength", len) == 0) {
        s->segment_max = (uint32_t)lg_number(value, UINT32_MAX);
    } else if (len == 16 && strncmp(key, "FirstBurstLength", len) == 0) {
        s->first_burst = (uint32_t)lg_number(value, UINT32_MAX);
    } else if (len == 10 && strncmp(key, "InitialR2T", len) == 0) {
        s->initial_r2t = strcmp(value, "Yes") == 0;
    } else if (len == 13 && strncmp(key, "ImmediateData", len) == 0) {
        s->immediate_data = strcmp(value, "Yes") == 0;
    }
}

/* Bytes of a digest behind so much. */
static size_t digest_of(const struct lg_conn *c, size_t len)
{
    return c->iscsi.digests && len > 0 ? DIGEST : 0;
}

/* Reads one answer, its data into text (NUL-terminated): the data's length. */
static uint32_t read_pdu(struct lg_conn *c, uint8_t *h)
{
    uint8_t digest[DIGEST];
    lg_wire_read(&c->wire, h, BHS);
    lg_wire_read(&c->wire, digest, digest_of(c, BHS));
    uint32_t len = be24_load(h + 5);
    if (len > TEXT_MAX) {
        lg_die("an answer is too long");
    }
    lg_wire_read(&c->wire, text, padded(len));
    lg_wire_read(&c->wire, digest, digest_of(c, len));
    text[len] = 0;
    c->iscsi.exp_stat_sn = be32_load(h + 24) + 1;
    c->iscsi.max_cmd_sn = be32_load(h + 32);
    return len;
}

/* The unit attentions of a new nexus are taken away by TEST UNIT READY. */
static void settle(struct lg_conn *c)
{
    uint8_t h[BHS + DIGEST];
    for (unsigned i = 0; i < 8; i++) {
        memset(h, 0, sizeof h);
        h[0] = OP_COMMAND;
        h[1] = 0x81;
        h[9] = (uint8_t)lg_options.lun;
        be32_store(h + 16, i);
        be32_store(h + 24, c->iscsi.cmd_sn++);
        be32_store(h + 28, c->iscsi.exp_stat_sn);
        le32_store(h + BHS, crc32c(0, h, BHS));
        lg_wire_write(&c->wire, h, BHS + digest_of(c, BHS));
        (void)read_pdu(c, h);
        if (h[3] == 0) {
            return;
        }
    }
    lg_die("the unit does not get ready");
}

static void login(struct lg_conn *c)
{
    uint8_t h[BHS];
    c->iscsi = (struct lg_iscsi){
        .cmd_sn = 1, .segment_max = 8192, .first_burst = 65536, .immediate_data = true};
    size_t len = login_text();
    uint32_t isid = (uint32_t)rng_next(&c->rng);
    for (;;) {
        memset(h, 0, sizeof h);
        h[0] = OP_IMMEDIATE | OP_LOGIN;
        h[1] = 0x87; /* transit, from operational to full feature */
        be24_store(h + 5, (uint32_t)len);
        h[8] = 0x80; /* a random ISID */
        be32_store(h + 9, isid);
        be32_store(h + 24, c->iscsi.cmd_sn);
        be32_store(h + 28, c->iscsi.exp_stat_sn);
        lg_wire_write(&c->wire, h, BHS);
        lg_wire_write(&c->wire, text, padded(len));
        uint32_t got = read_pdu(c, h);
        if (h[36] != 0) {
            lg_die("the target refuses the login");
        }
        for (const char *p = text; p < text + got; p += strlen(p) + 1) {
            take_key(&c->iscsi, p);
        }
        if (h[1] & 0x80) {
            break;
        }
        len = 0;
    }
    c->iscsi.digests = lg_options.digests;
    settle(c);
}

static bool may_submit(const struct lg_conn *c)
{
    return (int32_t)(c->iscsi.max_cmd_sn - c->iscsi.cmd_sn) >= 0;
}

static uint8_t *begin_pdu(struct lg_conn *c)
{
    return lg_wire_header(&c->wire, BHS + digest_of(c, BHS));
}

/*
 * The header is complete; len bytes for that place of the device follow. Much data is sent at once,
 * as initiators do: with digests the caches still have what was summed.
 */
static void end_pdu(struct lg_conn *c, uint8_t *h, uint64_t offset, uint32_t len)
{
    if (c->iscsi.digests) {
        le32_store(h + BHS, crc32c(0, h, BHS));
    }
    const uint8_t *data = lg_wire_payload(&c->wire, offset, len);
    if (digest_of(c, len) > 0) {
        uint32_t crc = crc32c(0, data, len);
        le32_store(lg_wire_header(&c->wire, DIGEST), crc);
    }
    if (len >= SENT_AT_ONCE_BYTES) {
        lg_wire_flush(&c->wire);
    }
}

/* One burst of Data-Out PDUs. */
static void data_out(struct lg_conn *c, uint32_t slot, uint32_t ttt, uint32_t off, uint32_t len)
{
    for (uint32_t sn = 0; len > 0; sn++) {
        uint32_t n = MIN_OF(len, c->iscsi.segment_max);
        uint8_t *h = begin_pdu(c);
        h[0] = OP_DATA_OUT;
        h[1] = n == len ? 0x80 : 0;
        h[9] = (uint8_t)lg_options.lun;
        be24_store(h + 5, n);
        be32_store(h + 16, slot);
        be32_store(h + 20, ttt);
        be32_store(h + 28, c->iscsi.exp_stat_sn);
        be32_store(h + 36, sn);
        be32_store(h + 40, off);
        end_pdu(c, h, c->slots[slot].offset + off, n);
        off += n;
        len -= n;
    }
}

static void submit(struct lg_conn *c, uint32_t slot)
{
    static const uint8_t cdb[] = {[LG_READ] = 0x88, [LG_WRITE] = 0x8a, [LG_FLUSH] = 0x91};
    const struct lg_slot *s = &c->slots[slot];
    struct lg_iscsi *i = &c->iscsi;
    uint32_t len = s->op == LG_FLUSH ? 0 : lg_options.block_size;
    uint32_t unsolicited = s->op == LG_WRITE ? MIN_OF(len, i->first_burst) : 0;
    uint32_t immediate = i->immediate_data ? MIN_OF(unsolicited, i->segment_max) : 0;
    uint8_t *h = begin_pdu(c);
    if (i->initial_r2t) {
        unsolicited = immediate;
    }
    h[0] = OP_COMMAND;
    h[1] = 0x01;
    h[1] |= s->op == LG_READ ? 0x40 : s->op == LG_WRITE ? 0x20 : 0;
    h[1] |= unsolicited == immediate ? 0x80 : 0;
    be24_store(h + 5, immediate);
    h[9] = (uint8_t)lg_options.lun;
    be32_store(h + 16, slot);
    be32_store(h + 20, len);
    be32_store(h + 24, i->cmd_sn++);
    be32_store(h + 28, i->exp_stat_sn);
    h[32] = cdb[s->op];
    h[33] = s->op == LG_WRITE && lg_options.durable ? CDB_FUA : 0;
    be64_store(h + 34, s->offset / 512);
    be32_store(h + 42, len / 512);
    end_pdu(c, h, s->offset, immediate);
    if (unsolicited > immediate) {
        data_out(c, slot, NO_TAG, immediate, unsolicited - immediate);
    }
}

static void answer_nop(struct lg_conn *c, const uint8_t *in)
{
    uint8_t *h = begin_pdu(c);
    h[0] = OP_IMMEDIATE | OP_NOP_OUT;
    h[1] = 0x80;
    memcpy(h + 8, in + 8, 8);
    be32_store(h + 16, NO_TAG);
    memcpy(h + 20, in + 20, 4);
    be32_store(h + 24, c->iscsi.cmd_sn);
    be32_store(h + 28, c->iscsi.exp_stat_sn);
    end_pdu(c, h, 0, 0);
}

static void take_status(struct lg_conn *c, const uint8_t *h)
{
    if (h[3] != 0) {
        lg_die("a command failed");
    }
    c->iscsi.exp_stat_sn = be32_load(h + 24) + 1;
    c->finishing = be32_load(h + 16);
}

static bool parse(struct lg_conn *c)
{
    size_t header_len = BHS + digest_of(c, BHS);
    const uint8_t *h = lg_wire_peek(&c->wire, header_len);
    if (!h) {
        return false;
    }
    unsigned op = h[0] & 0x3f;
    uint32_t len = be24_load(h + 5);
    c->wire.rx_skip = padded(len) + digest_of(c, len);
    lg_wire_used(&c->wire, header_len);
    c->iscsi.max_cmd_sn = be32_load(h + 32);
    if (op == OP_RESPONSE) {
        take_status(c, h);
    } else if (op == OP_DATA_IN) {
        if (h[1] & 1) {
            take_status(c, h);
        }
    } else if (op == OP_R2T) {
        uint32_t slot = be32_load(h + 16);
        if (slot >= lg_options.depth) {
            lg_die("an R2T for no command");
        }
        data_out(c, slot, be32_load(h + 20), be32_load(h + 40), be32_load(h + 44));
    } else if (op == OP_NOP_IN) {
        if (be32_load(h + 20) != NO_TAG) {
            answer_nop(c, h);
        }
    } else {
        lg_die("an unexpected PDU");
    }
    return true;
}

const struct lg_proto lg_iscsi = {
    .login = login, .may_submit = may_submit, .submit = submit, .parse = parse};
