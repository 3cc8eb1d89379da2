/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Parameter lists of POPULATE TOKEN, WRITE USING TOKEN and EXTENDED COPY(LID4); the first byte says
 * which: what is taken is within the limits, what is not has a reason.
 */
#include "base/assert.h"
#include "scsi/rod_list.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static void check_ranges(const struct scsi_rod_list *list)
{
    uint64_t blocks = 0;
    ASSERT(list->range_count > 0 && list->range_count <= SCSI_ROD_RANGES_MAX);
    for (uint32_t i = 0; i < list->range_count; i++) {
        blocks += list->ranges[i].blocks;
    }
    ASSERT(blocks == list->blocks && list->timeout_s <= SCSI_ROD_TIMEOUT_MAX_S);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    static struct scsi_rod_list rods;
    static struct scsi_copy_list list;
    struct scsi_copy_error e;
    if (len == 0) {
        return 0;
    }
    uint8_t which = *data++ % 3;
    len--;
    bool good = which == 0   ? scsi_rod_populate_decode(data, len, &rods, &e)
                : which == 1 ? scsi_rod_write_decode(data, len, &rods, &e)
                             : scsi_copy_list4_decode(data, len, &list, &e);
    if (!good) {
        ASSERT(e.asc != 0 && (!e.points || e.byte < len));
        return 0;
    }
    if (which < 2) {
        check_ranges(&rods);
        return 0;
    }
    ASSERT(len >= SCSI_COPY_HEADER4_BYTES + list.cscd_count * SCSI_COPY_CSCD_BYTES +
                      list.segment_count * SCSI_COPY_SEGMENT_BYTES);
    ASSERT(list.usage != 1 && !(list.immed && list.usage == SCSI_COPY_NO_ID));
    ASSERT(list.cscd_count <= SCSI_COPY_CSCDS_MAX && list.segment_count <= SCSI_COPY_SEGMENTS_MAX);
    return 0;
}
