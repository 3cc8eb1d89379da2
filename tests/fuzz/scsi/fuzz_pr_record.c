/* SPDX-License-Identifier: Apache-2.0 */
/* Stored reservations: what is taken is whole, and has the same length when it is written again. */
#include "base/assert.h"
#include "base/err.h"
#include "scsi/pr.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    struct scsi_pr_state s;
    struct bytes_writer out = {0};
    int r = scsi_pr_decode(data, len, &s);
    if (r < 0) {
        ASSERT(r == ERR_CORRUPT_RECORD || r == -ENOTSUP);
        return 0;
    }
    ASSERT(s.type == SCSI_PR_NONE || scsi_pr_is_type(s.type));
    for (size_t i = 0; i < s.registrants.len; i++) {
        ASSERT(scsi_pr_find(&s, &s.registrants.at[i].nexus) == &s.registrants.at[i]);
    }
    scsi_pr_encode(&s, &out);
    ASSERT(out.len == len);
    bytes_writer_free(&out);
    scsi_pr_state_free(&s);
    return 0;
}
