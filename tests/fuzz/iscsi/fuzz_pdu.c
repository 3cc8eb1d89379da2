/* SPDX-License-Identifier: Apache-2.0 */
/* A header and its additional segments: what is pointed to lies inside of the input. */
#include "base/assert.h"
#include "iscsi/pdu.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct iscsi_request q;
    struct iscsi_ahs ahs;
    if (size < ISCSI_BHS_BYTES) {
        return 0;
    }
    int r = iscsi_request_decode(data, &q);
    ASSERT(q.ahs_len <= ISCSI_AHS_MAX && q.ahs_len % 4 == 0);
    ASSERT(q.data_len <= ISCSI_DATA_LEN_MAX && iscsi_padded(q.data_len) - q.data_len < 4);
    ASSERT(r >= 0 || q.opcode > 6);
    ASSERT(q.opcode != ISCSI_SNACK_REQUEST || q.snack.type < 16);
    const uint8_t *rest = data + ISCSI_BHS_BYTES;
    size_t rest_len = size - ISCSI_BHS_BYTES;
    if (iscsi_ahs_decode(rest, rest_len, &ahs) == 0 && ahs.cdb_rest) {
        ASSERT(ahs.cdb_rest >= rest && ahs.cdb_rest + ahs.cdb_rest_len <= rest + rest_len);
    }
    return 0;
}
