/* SPDX-License-Identifier: Apache-2.0 */
/* The superblock. An odd first byte has the checksum put right, so that what lies behind is
 * reached. */
#include "base/assert.h"
#include "base/crc32c.h"
#include "base/endian.h"
#include "vol/superblock.h"
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    uint8_t bytes[VOL_SUPERBLOCK_BYTES] = {0};
    struct vol_superblock sb;
    if (len == 0) {
        return 0;
    }
    memcpy(bytes, data + 1, MIN_OF(len - 1, sizeof bytes));
    if (data[0] % 2) {
        le32_store(bytes + sizeof bytes - 4, crc32c(0, bytes, sizeof bytes - 4));
    }
    (void)!vol_superblock_decode(bytes, MIN_OF(len - 1, sizeof bytes), true, &sb);
    if (vol_superblock_decode(bytes, sizeof bytes, false, &sb) == 0) {
        ASSERT((sb.incompatible & ~VOL_FEATURES_INCOMPATIBLE) == 0 && sb.read_only_compatible == 0);
    }
    return 0;
}
