/* SPDX-License-Identifier: Apache-2.0 */
/* Mode pages (SPC-4 7.5, SBC-3 6.4): built from the unit's settings; MODE SELECT compares with what
 * was built. */
#pragma once
#include "scsi/scsi.h"

enum scsi_mode_pc { /* page control, SPC-4 6.11.1 */
    SCSI_MODE_CURRENT = 0,
    SCSI_MODE_CHANGEABLE = 1,
    SCSI_MODE_DEFAULT = 2,
    SCSI_MODE_SAVED = 3,
};

#define SCSI_MODE_PAGE_MAX 64
#define SCSI_MODE_PAGES 6
#define SCSI_MODE_ALL 0x3f
#define SCSI_MODE_ALL_SUBPAGES 0xff

/* The settings that pages are built from, and that MODE SELECT changes. */
struct scsi_mode {
    uint32_t bits; /* enum scsi_mode_bit */
    bool write_cache;
    uint64_t thresholds[2]; /* by enum scsi_resource */
};

struct scsi_mode scsi_mode_current(const struct scsi_lu *lu);
/* What stays over a reset and a restart. */
struct scsi_mode scsi_mode_saved(const struct scsi_lu *lu);
/* The i-th page by rising code: code and subpage; false when there are no more. */
bool scsi_mode_page_at(size_t i, uint8_t *ret_code, uint8_t *ret_subpage);
/* Writes a page with its header at p; its length, or 0 for a page there is not. */
size_t scsi_mode_page_put(enum scsi_mode_pc pc, const struct scsi_mode *m, unsigned page,
                          uint8_t p[SCSI_MODE_PAGE_MAX]);
/* Looks for a reserved value in a field that can be changed: its byte, and in ret_bit its bit; 0 =
 * none. */
size_t scsi_mode_page_check(const uint8_t *page, int *ret_bit);
/* The settings that a page, as sent by an initiator, asks for. */
void scsi_mode_page_take(const uint8_t *page, struct scsi_mode *m);
static inline unsigned scsi_mode_page(uint8_t code, uint8_t subpage)
{
    return (unsigned)code << 8 | subpage;
}
