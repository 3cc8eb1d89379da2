/* SPDX-License-Identifier: Apache-2.0 */
/* Parameter lists of EXTENDED COPY: what is taken is within the limits, what is not has a reason.
 */
#include "base/assert.h"
#include "scsi/copy_list.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    static struct scsi_copy_list list;
    struct scsi_copy_error e;
    if (!scsi_copy_list_decode(data, len, &list, &e)) {
        ASSERT(e.asc != 0 && (!e.points || e.byte < len));
        return 0;
    }
    ASSERT(len >= SCSI_COPY_HEADER_BYTES + list.cscd_count * SCSI_COPY_CSCD_BYTES +
                      list.segment_count * SCSI_COPY_SEGMENT_BYTES);
    ASSERT(list.cscd_count <= SCSI_COPY_CSCDS_MAX && list.usage != 1);
    ASSERT(list.segment_count <= SCSI_COPY_SEGMENTS_MAX);
    for (size_t i = 0; i < list.cscd_count; i++) {
        ASSERT(list.cscds[i].designator_len <= SCSI_COPY_DESIGNATOR_MAX);
    }
    return 0;
}
