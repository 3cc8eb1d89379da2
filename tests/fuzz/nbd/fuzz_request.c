/* SPDX-License-Identifier: Apache-2.0 */
/* A request header in each mode: what passes the checks lies inside of the device. */
#include "base/assert.h"
#include "nbd/request.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const uint64_t device = 1ull << 40;
    uint64_t effect;
    for (enum nbd_mode mode = NBD_MODE_SIMPLE; mode <= NBD_MODE_EXTENDED; mode++) {
        struct nbd_request q;
        if (size < nbd_request_bytes(mode) || nbd_request_decode(data, mode, &q) < 0) {
            continue;
        }
        if (nbd_request_check(&q, mode, true) == NBD_OK &&
            nbd_request_check_range(&q, device) == NBD_OK) {
            ASSERT(q.off <= device && q.off + q.len <= device && q.off + q.len >= q.off);
            ASSERT(q.command != NBD_CMD_WRITE || q.payload_len <= NBD_PAYLOAD_MAX);
        }
    }
    if (nbd_status_payload_decode(data, size, &effect) == 0) {
        ASSERT(effect > 0 && size == 12);
    }
    return 0;
}
