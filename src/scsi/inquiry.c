/* SPDX-License-Identifier: Apache-2.0 */
/* INQUIRY: standard data (SPC-4 6.6). Vital product data pages are in vpd.c. */
#include "base/bytes.h"
#include "base/endian.h"
#include "scsi/scsi_priv.h"
#include "scsi/sense.h"
#include "scsi/vpd.h"

#define STANDARD_LEN 96

static const uint16_t versions[] = {
    0x00a0, /* SAM-5 */
    0x0960, /* iSCSI */
    0x0460, /* SPC-4 */
    0x04c0, /* SBC-3 */
};

void scsi_inquiry_parse(struct scsi_task *t)
{
    bool evpd = t->cdb[1] & 0x01;
    if (t->cdb[1] & 0x02) {
        scsi_fail_cdb(t, 1, 1); /* CMDDT, obsolete */
    } else if (!evpd && t->cdb[2] != 0) {
        scsi_fail_cdb(t, 2, 7);
    } else if (evpd && !scsi_vpd_known(t, t->cdb[2])) {
        scsi_fail_cdb(t, 2, 7);
    }
}

uint8_t scsi_peripheral(const struct scsi_task *t)
{
    if (t->lu) {
        return 0x00; /* connected, direct access block device */
    }
    return scsi_lun_decode(t->lun_raw) == SCSI_WLUN_REPORT_LUNS ? 0x1e : 0x7f;
}

static void put_standard(const struct scsi_task *t, uint8_t *p)
{
    p[0] = scsi_peripheral(t);
    p[1] = t->lu && t->lu->removable ? 0x80 : 0; /* RMB */
    p[2] = 0x06;                                 /* SPC-4 */
    p[3] = 0x12;                                 /* HISUP, response data format 2 */
    p[4] = STANDARD_LEN - 5;
    p[5] = 0x38; /* TPGS: implicit and explicit; 3PC */
    uint16_t ports[DEV_TAGS_MAX];
    p[6] = scsi_target_ports(t->nexus->target, ports) > 1 ? 0x10 : 0; /* MULTIP */
    p[7] = 0x02;                                                      /* CMDQUE */
    bytes_field(p + 8, SCSI_VENDOR, SCSI_VENDOR_LEN);
    bytes_field(p + 16, SCSI_PRODUCT, SCSI_PRODUCT_LEN);
    bytes_field(p + 32, SCSI_REVISION, SCSI_REVISION_LEN);
    for (size_t i = 0; i < ARRAY_LEN(versions); i++) {
        be16_store(p + 58 + 2 * i, versions[i]);
    }
}

void scsi_inquiry_run(struct scsi_task *t)
{
    struct rt_buf *b = scsi_reply_begin(t, scsi_vpd_room(t->cdb[2]));
    if (!b) {
        return;
    }
    size_t len = STANDARD_LEN;
    if (t->cdb[1] & 0x01) {
        len = scsi_vpd_put(t, t->cdb[2], b->data);
    } else {
        put_standard(t, b->data);
    }
    scsi_reply_end(t, b, len);
}
