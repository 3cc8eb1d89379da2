/* SPDX-License-Identifier: Apache-2.0 */
/* What there is: REPORT LUNS, REPORT SUPPORTED OPERATION CODES, ... TASK MANAGEMENT FUNCTIONS,
 * REPORT IDENTIFYING INFORMATION, REPORT TIMESTAMP (SPC-4). */
#include "base/endian.h"
#include "base/time.h"
#include "scsi/scsi_priv.h"
#include "scsi/sense.h"
#include <stdio.h>

void scsi_report_luns_parse(struct scsi_task *t)
{
    uint32_t lun = scsi_lun_decode(t->lun_raw);
    if (!t->lu && lun != 0 && lun != SCSI_WLUN_REPORT_LUNS) {
        scsi_fail(t, SCSI_KEY_ILLEGAL_REQUEST, SCSI_ASC_LUN_NOT_SUPPORTED);
    } else if (t->cdb[2] > 0x02) {
        scsi_fail_cdb(t, 2, 7); /* administrative and conglomerate logical units: none */
    } else if (t->data_len < 16) {
        scsi_fail_cdb(t, 6, 7);
    }
}

void scsi_report_luns_run(struct scsi_task *t)
{
    struct scsi_nexus *n = t->nexus;
    uint8_t select = t->cdb[2];
    struct rt_buf *b = scsi_reply_begin(t, 8 + 8 * (n->itl_count + 1));
    if (!b) {
        return;
    }
    size_t len = 8;
    if (select != 0x00) {
        be64_store(b->data + len, scsi_lun_encode(SCSI_WLUN_REPORT_LUNS));
        len += 8;
    }
    for (size_t i = 0; select != 0x01 && i < n->itl_count; i++) {
        be64_store(b->data + len, scsi_lun_encode(n->itls[i]->lun));
        len += 8;
    }
    be32_store(b->data, (uint32_t)(len - 8));
    for (size_t i = 0; i < n->itl_count; i++) {
        atomic_fetch_and(&n->itls[i]->ua, ~(1u << SCSI_UA_LUNS_CHANGED)); /* SPC-4 6.33 */
    }
    scsi_reply_end(t, b, len);
}

/* REPORTING OPTIONS, SPC-4 6.35 */
enum {
    ALL_COMMANDS = 0,
    BY_OPCODE = 1,
    BY_ACTION = 2,
    BY_EITHER = 3,
};

#define TIMEOUTS_LEN 12

static void put_timeouts(const struct scsi_command *c, uint8_t *p)
{
    be16_store(p, TIMEOUTS_LEN - 2);
    be32_store(p + 8, c->flags & SCSI_CMD_MEDIUM ? 60 : 10); /* recommended, in seconds */
}

void scsi_report_opcodes_parse(struct scsi_task *t)
{
    unsigned option = t->cdb[2] & 0x07;
    bool actions = scsi_command_has_actions(t->cdb[3]);
    if (option > BY_EITHER) {
        scsi_fail_cdb(t, 2, 2);
    } else if (option == BY_OPCODE && actions) {
        scsi_fail_cdb(t, 2, 2);
    } else if (option == BY_ACTION && !actions) {
        scsi_fail_cdb(t, 2, 2);
    }
}

static void report_all(struct scsi_task *t, bool timeouts)
{
    size_t row = timeouts ? 8 + TIMEOUTS_LEN : 8;
    size_t count = 0;
    while (scsi_command_at(count)) {
        count++;
    }
    struct rt_buf *b = scsi_reply_begin(t, 4 + row * count);
    if (!b) {
        return;
    }
    uint8_t *p = b->data + 4;
    for (size_t i = 0; i < count; i++) {
        const struct scsi_command *c = scsi_command_at(i);
        if (!scsi_command_is_offered(c, t->lu)) {
            continue;
        }
        p[0] = c->opcode;
        if (c->action != SCSI_NO_ACTION) {
            be16_store(p + 2, (uint16_t)c->action);
            p[5] |= 0x01; /* SERVACTV */
        }
        be16_store(p + 6, c->cdb_len);
        if (timeouts) {
            p[5] |= 0x02; /* CTDP */
            put_timeouts(c, p + 8);
        }
        p += row;
    }
    size_t len = (size_t)(p - b->data);
    be32_store(b->data, (uint32_t)(len - 4));
    scsi_reply_end(t, b, len);
}

static const struct scsi_command *find_one(const struct scsi_task *t)
{
    uint8_t cdb[32] = {t->cdb[3]};
    uint16_t action = be16_load(t->cdb + 4);
    bool actions = scsi_command_has_actions(t->cdb[3]);
    if (actions ? action > 0x1f : action != 0 && (t->cdb[2] & 0x07) == BY_EITHER) {
        return NULL;
    }
    cdb[1] = actions ? (uint8_t)action : 0;
    bool action_bad;
    const struct scsi_command *c = scsi_command_find(cdb, sizeof cdb, &action_bad);
    return c && scsi_command_is_offered(c, t->lu) ? c : NULL;
}

static void report_one(struct scsi_task *t, bool timeouts)
{
    struct rt_buf *b = scsi_reply_begin(t, 64);
    if (!b) {
        return;
    }
    const struct scsi_command *c = find_one(t);
    size_t len = 4;
    b->data[1] = 0x01; /* SUPPORT: not supported */
    if (c) {
        b->data[1] = 0x03; /* in conformance with a standard */
        be16_store(b->data + 2, c->cdb_len);
        memcpy(b->data + 4, c->usage, c->cdb_len);
        len += c->cdb_len;
        if (timeouts) {
            b->data[1] |= 0x80; /* CTDP */
            put_timeouts(c, b->data + len);
            len += TIMEOUTS_LEN;
        }
    }
    scsi_reply_end(t, b, len);
}

void scsi_report_opcodes_run(struct scsi_task *t)
{
    bool timeouts = t->cdb[2] & 0x80; /* RCTD */
    if ((t->cdb[2] & 0x07) == ALL_COMMANDS) {
        report_all(t, timeouts);
    } else {
        report_one(t, timeouts);
    }
}

void scsi_report_tmfs_run(struct scsi_task *t)
{
    bool extended = t->cdb[2] & 0x80; /* REPD */
    struct rt_buf *b = scsi_reply_begin(t, 16);
    if (!b) {
        return;
    }
    b->data[0] = 0x80 | 0x40 | 0x10 | 0x08 | 0x04 | 0x02; /* ATS ATSS CTSS LURS QTS TRS */
    b->data[1] = 0x07;                                    /* QAES QTSS ITNRS */
    size_t len = 4;
    if (extended) {
        b->data[3] = 12;
        b->data[4] = 0x01;             /* TMFTMOV */
        be32_store(b->data + 8, 300);  /* the long ones, in units of 100 ms */
        be32_store(b->data + 12, 300); /* the short ones */
        len = 16;
    }
    scsi_reply_end(t, b, len);
}

/* IDENTIFYING INFORMATION TYPE, SPC-4 6.32. None of it can be set: it is what the operator's
 * commands call the unit. */
enum {
    IDENTITY_DEVICE = 0x00,
    IDENTITY_TEXT = 0x02,
    IDENTITY_TYPES = 0x7f,
};
#define IDENTITY_DEVICE_MAX 64
#define IDENTITY_TEXT_MAX 256
_Static_assert(DEV_IQN_MAX + sizeof " LUN 16383" <= IDENTITY_TEXT_MAX, "every text has room");

void scsi_report_identity_parse(struct scsi_task *t)
{
    uint8_t type = t->cdb[10] >> 1;
    if (type != IDENTITY_DEVICE && type != IDENTITY_TEXT && type != IDENTITY_TYPES) {
        scsi_fail_cdb(t, 10, 7);
    }
}

static size_t put_identity_type(uint8_t type, uint16_t max, uint8_t *p)
{
    p[0] = (uint8_t)(type << 1);
    be16_store(p + 2, max);
    return 4;
}

void scsi_report_identity_run(struct scsi_task *t)
{
    struct rt_buf *b = scsi_reply_begin(t, 4 + IDENTITY_TEXT_MAX);
    if (!b) {
        return;
    }
    uint8_t type = t->cdb[10] >> 1;
    char *text = (char *)b->data + 4;
    size_t len;
    if (type == IDENTITY_DEVICE) {
        uuid_format(&t->lu->uuid, text);
        len = UUID_TEXT_SIZE - 1;
    } else if (type == IDENTITY_TEXT) { /* its null is part of it */
        len = 1 + (size_t)snprintf(text, IDENTITY_TEXT_MAX, "%s LUN %u", t->lu->target->iqn,
                                   t->lu->lun);
    } else {
        len = put_identity_type(IDENTITY_DEVICE, IDENTITY_DEVICE_MAX, b->data + 4);
        len += put_identity_type(IDENTITY_TEXT, IDENTITY_TEXT_MAX, b->data + 4 + len);
    }
    be16_store(b->data + 2, (uint16_t)len);
    scsi_reply_end(t, b, 4 + len);
}

/* SPC-4 6.37: the machine's clock, which SET TIMESTAMP may not change (TCMOS, and not SCSIP, in
 * the control extension page). */
void scsi_report_timestamp_run(struct scsi_task *t)
{
    struct rt_buf *b = scsi_reply_begin(t, 12);
    if (!b) {
        return;
    }
    be16_store(b->data, 12 - 2);
    b->data[2] = 0x03; /* TIMESTAMP ORIGIN: by methods outside of the standard */
    uint64_t ms = time_wall_ns() / NS_PER_MS;
    be16_store(b->data + 4, (uint16_t)(ms >> 32));
    be32_store(b->data + 6, (uint32_t)ms);
    scsi_reply_end(t, b, 12);
}
