/* SPDX-License-Identifier: Apache-2.0 */
/* Vital product data (SPC-4 7.8, SBC-3 6.5), and the limits it announces. */
#pragma once
#include "dev/paths.h"
#include "scsi/scsi.h"

#define SCSI_VENDOR "ZEROFS  "
#define SCSI_VENDOR_LEN 8
#define SCSI_PRODUCT "VIRTUAL DISK    "
#define SCSI_PRODUCT_LEN 16
#define SCSI_REVISION "0001"
#define SCSI_REVISION_LEN 4

#define SCSI_VPD_MAX 1024 /* of a page, but for that of the ports */
#define SCSI_VPD_PORTS_MAX (4 + DEV_TAGS_MAX * (12 + 4 + DEV_IQN_MAX + 17))

/* Limits of VPD page B0h, which the commands enforce. */
#define SCSI_TRANSFER_MAX_BYTES DEV_IO_MAX
#define SCSI_COMPARE_WRITE_MAX 128u /* blocks */
#define SCSI_UNMAP_DESCRIPTORS_MAX 256u
#define SCSI_WRITE_SAME_MAX (1u << 23) /* blocks, unless WSNZ is 0 */

/* The designator of type NAA in VPD page 83h. */
#define SCSI_NAA_BYTES 8
void scsi_naa_put(const struct uuid *u, uint8_t ret_naa[SCSI_NAA_BYTES]);
/* The designation descriptor of a target, at most 4 + 224 + 4 bytes; its length. */
size_t scsi_target_designator_put(const char *iqn, uint8_t *ret);
bool scsi_vpd_known(const struct scsi_task *t, uint8_t page);
/* Room for the page. */
size_t scsi_vpd_room(uint8_t page);
/* Writes the page at p, so many zero bytes; its length. */
size_t scsi_vpd_put(const struct scsi_task *t, uint8_t page, uint8_t *p);
/* Peripheral qualifier and device type of what the task's LUN is. */
uint8_t scsi_peripheral(const struct scsi_task *t);
