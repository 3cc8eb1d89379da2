/* SPDX-License-Identifier: Apache-2.0 */
#include "scsi/vpd.h"
#include "base/bytes.h"
#include "base/endian.h"
#include "scsi/copy_priv.h"
#include "scsi/scsi_priv.h"
#include <stdio.h>

/* Designation descriptors, SPC-4 7.8.6: association and designator type share a byte. */
enum {
    CODE_BINARY = 1,
    CODE_ASCII = 2,
    CODE_UTF8 = 3,
    OF_LU = 0x00,
    OF_PORT = 0x10,
    OF_TARGET = 0x20,
    TYPE_T10 = 1,
    TYPE_NAA = 3,
    TYPE_RELATIVE_PORT = 4,
    TYPE_PORT_GROUP = 5,
    TYPE_NAME = 8,
    PIV = 0x80,
    PROTOCOL_ISCSI = 0x50,
};

static uint8_t *designator(uint8_t **at, uint8_t code_set, uint8_t type, size_t len)
{
    uint8_t *p = *at;
    p[0] = code_set;
    p[1] = type;
    if (type & (OF_PORT | OF_TARGET)) {
        p[0] |= PROTOCOL_ISCSI;
        p[1] |= PIV;
    }
    p[3] = (uint8_t)len;
    *at = p + 4 + len;
    return p + 4;
}

/* A SCSI name string: null-terminated and padded to a multiple of four. */
static void name_designator(uint8_t **at, uint8_t type, const char *name)
{
    size_t len = strlen(name);
    uint8_t *p = designator(at, CODE_UTF8, type, (len + 4) & ~(size_t)3);
    memcpy(p, name, len + 1);
}

size_t scsi_target_designator_put(const char *iqn, uint8_t *ret)
{
    uint8_t *at = ret;
    name_designator(&at, OF_TARGET | TYPE_NAME, iqn);
    return (size_t)(at - ret);
}

/* The target port: its name is the target's with the tag of its portal group (RFC 7143 §4.4.3). */
static void port_name_designator(uint8_t **at, const struct scsi_target *t, uint16_t tag)
{
    char name[DEV_IQN_MAX + 16];
    snprintf(name, sizeof name, "%s,t,0x%04x", t->iqn, tag);
    name_designator(at, OF_PORT | TYPE_NAME, name);
}

static void hex_of(const struct uuid *u, char ret[33])
{
    for (size_t i = 0; i < sizeof u->bytes; i++) {
        snprintf(ret + 2 * i, 3, "%02x", u->bytes[i]);
    }
}

static size_t put_supported(const struct scsi_task *t, uint8_t *p)
{
    static const uint8_t pages[] = {0x00, 0x80, 0x83, 0x86, 0x87, 0x88, 0x8f, 0xb0, 0xb1, 0xb2};
    size_t count = t->lu ? ARRAY_LEN(pages) : 1;
    memcpy(p + 4, pages, count);
    return 4 + count;
}

static size_t put_serial(const struct scsi_task *t, uint8_t *p)
{
    char hex[33];
    hex_of(&t->lu->uuid, hex);
    memcpy(p + 4, hex, 32);
    return 4 + 32;
}

/* NAA 3h, locally assigned: the first half of the device's UUID but for four bits. */
void scsi_naa_put(const struct uuid *u, uint8_t ret_naa[SCSI_NAA_BYTES])
{
    memcpy(ret_naa, u->bytes, SCSI_NAA_BYTES);
    ret_naa[0] = (uint8_t)(0x30 | (ret_naa[0] & 0x0f));
}

static size_t put_identification(const struct scsi_task *t, uint8_t *p)
{
    const struct scsi_nexus *n = t->nexus;
    const struct uuid *u = &t->lu->uuid;
    uint8_t *at = p + 4;
    scsi_naa_put(u, designator(&at, CODE_BINARY, OF_LU | TYPE_NAA, SCSI_NAA_BYTES));

    uint8_t *t10 = designator(&at, CODE_ASCII, OF_LU | TYPE_T10, 8 + 32);
    char hex[33];
    hex_of(u, hex);
    bytes_field(t10, SCSI_VENDOR, SCSI_VENDOR_LEN);
    memcpy(t10 + SCSI_VENDOR_LEN, hex, 32);

    uint8_t *port = designator(&at, CODE_BINARY, OF_PORT | TYPE_RELATIVE_PORT, 4);
    be16_store(port + 2, n->opt.relative_port);
    uint8_t *group = designator(&at, CODE_BINARY, OF_PORT | TYPE_PORT_GROUP, 4);
    be16_store(group + 2, n->opt.tpgt);
    port_name_designator(&at, n->target, n->opt.tpgt);
    name_designator(&at, OF_TARGET | TYPE_NAME, n->target->iqn);
    return (size_t)(at - p);
}

static size_t put_extended(uint8_t *p)
{
    p[5] = 0x07; /* HEADSUP, ORDSUP, SIMPSUP */
    p[6] = 0x01; /* V_SUP: there is a volatile cache */
    p[7] = 0x01; /* LUICLR */
    p[13] = SCSI_SENSE_MAX;
    return 64;
}

/* Mode page policy, SPC-4 7.8.11: all pages are the unit's, shared by all. */
static size_t put_policy(uint8_t *p)
{
    p[4] = 0x3f;
    p[5] = 0xff;
    return 8;
}

/* SCSI ports, SPC-4 7.8.14: one for each portal group. */
static size_t put_ports(const struct scsi_task *t, uint8_t *p)
{
    uint16_t ports[DEV_TAGS_MAX];
    uint8_t *at = p + 4;
    size_t count = scsi_target_ports(t->nexus->target, ports);
    for (size_t i = 0; i < count; i++) {
        uint8_t *names = at + 12; /* no initiator port TransportID */
        be16_store(at + 2, ports[i]);
        uint8_t *from = names;
        port_name_designator(&names, t->nexus->target, ports[i]);
        be16_store(at + 10, (uint16_t)(names - from));
        at = names;
    }
    return (size_t)(at - p);
}

static size_t put_limits(const struct scsi_task *t, uint8_t *p)
{
    uint32_t shift = t->lu->block_shift;
    uint32_t unit = VOL_BLOCK_BYTES >> shift;
    p[4] = t->lu->same_to_end ? 0 : 0x01; /* WSNZ: WRITE SAME of 0 blocks is refused */
    p[5] = SCSI_COMPARE_WRITE_MAX;
    be16_store(p + 6, (uint16_t)unit);
    be32_store(p + 8, SCSI_TRANSFER_MAX_BYTES >> shift);
    be32_store(p + 20, UINT32_MAX); /* maximum UNMAP LBA count: none */
    be32_store(p + 24, SCSI_UNMAP_DESCRIPTORS_MAX);
    be32_store(p + 28, unit);
    be32_store(p + 32, 0x80000000u);                                  /* UGAVALID, alignment 0 */
    be64_store(p + 36, t->lu->same_to_end ? 0 : SCSI_WRITE_SAME_MAX); /* 0: none */
    be32_store(p + 44, scsi_atomic_blocks(t->lu)); /* anywhere, of any length, without boundaries */
    return 64;
}

static size_t put_characteristics(const struct scsi_lu *lu, uint8_t *p)
{
    be16_store(p + 4, 1); /* does not rotate */
    p[7] = 0x40;          /* WABEREQ 01b: after BLOCK ERASE reads give zeroes */
    if (dev_is_encrypted(lu->dev)) {
        p[7] |= 0x10; /* WACEREQ 01b: and so do they after CRYPTOGRAPHIC ERASE */
    }
    return 64;
}

static size_t put_provisioning(const struct scsi_lu *lu, uint8_t *p)
{
    p[4] = (uint8_t)scsi_threshold_exponent(lu);
    p[5] = 0xe6; /* LBPU, LBPWS, LBPWS10, LBPRZ, ANC_SUP */
    p[6] = 0x02; /* thin */
    return 8;
}

bool scsi_vpd_known(const struct scsi_task *t, uint8_t page)
{
    uint8_t list[16] = {0};
    size_t len = put_supported(t, list);
    return memchr(list + 4, page, len - 4) != NULL;
}

size_t scsi_vpd_room(uint8_t page)
{
    return page == 0x88 ? SCSI_VPD_PORTS_MAX : SCSI_VPD_MAX;
}

size_t scsi_vpd_put(const struct scsi_task *t, uint8_t page, uint8_t *p)
{
    size_t len = 4;
    switch (page) {
    case 0x00:
        len = put_supported(t, p);
        break;
    case 0x80:
        len = put_serial(t, p);
        break;
    case 0x83:
        len = put_identification(t, p);
        break;
    case 0x86:
        len = put_extended(p);
        break;
    case 0x87:
        len = put_policy(p);
        break;
    case 0x88:
        len = put_ports(t, p);
        break;
    case 0x8f:
        len = scsi_copy_vpd_put(t->lu, p);
        break;
    case 0xb0:
        len = put_limits(t, p);
        break;
    case 0xb1:
        len = put_characteristics(t->lu, p);
        break;
    case 0xb2:
        len = put_provisioning(t->lu, p);
        break;
    default:
        break;
    }
    p[0] = scsi_peripheral(t);
    p[1] = page;
    be16_store(p + 2, (uint16_t)(len - 4));
    return len;
}
