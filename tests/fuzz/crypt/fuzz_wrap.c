/* SPDX-License-Identifier: Apache-2.0 */
/* Key objects. An odd first byte has the checksum put right, so that what lies behind is reached.
 * What decodes is the same after encoding it, and keeps the limits of what opening may cost. */
#include "base/assert.h"
#include "base/crc32c.h"
#include "base/endian.h"
#include "crypt/wrap.h"
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    uint8_t bytes[WRAP_BYTES] = {0};
    uint8_t again[WRAP_BYTES];
    struct crypt_wrap w;
    if (len == 0) {
        return 0;
    }
    memcpy(bytes, data + 1, MIN_OF(len - 1, sizeof bytes));
    if (data[0] % 2) {
        le32_store(bytes + WRAP_AT_CRC, crc32c(0, bytes, WRAP_AT_CRC));
    }
    (void)!crypt_wrap_decode(bytes, MIN_OF(len - 1, sizeof bytes), &w);
    if (crypt_wrap_decode(bytes, sizeof bytes, &w) == 0) {
        ASSERT(w.cost.memory_kib <= CRYPT_COST_MEMORY_KIB_MAX);
        ASSERT(w.cost.passes <= CRYPT_COST_PASSES_MAX);
        crypt_wrap_encode(&w, again);
        ASSERT(memcmp(bytes, again, sizeof bytes) == 0);
    }
    return 0;
}
