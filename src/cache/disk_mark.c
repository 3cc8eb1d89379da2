/* SPDX-License-Identifier: Apache-2.0 */
#include "base/crc32c.h"
#include "base/endian.h"
#include "cache/disk_priv.h"
#include <string.h>

void disk_mark_encode(const struct disk_mark *m, uint64_t file_id, uint8_t *out)
{
    memset(out, 0, DISK_MARK_BYTES);
    le32_store(out + DISK_MARK_AT_KIND, m->kind);
    le32_store(out + DISK_MARK_AT_SMALL, m->small);
    le64_store(out + DISK_MARK_AT_X, m->x);
    le64_store(out + DISK_MARK_AT_Y, m->y);
    le64_store(out + DISK_MARK_AT_Z, m->z);
    le64_store(out + DISK_MARK_AT_FILE_ID, file_id);
    le32_store(out + DISK_MARK_AT_CRC, crc32c(0, out, DISK_MARK_AT_CRC));
}

bool disk_mark_decode(const uint8_t *p, uint32_t kind, uint64_t file_id, struct disk_mark *ret_m)
{
    if (le32_load(p + DISK_MARK_AT_KIND) != kind ||
        le64_load(p + DISK_MARK_AT_FILE_ID) != file_id ||
        le32_load(p + DISK_MARK_AT_CRC) != crc32c(0, p, DISK_MARK_AT_CRC)) {
        return false;
    }
    *ret_m = (struct disk_mark){.kind = kind,
                                .small = le32_load(p + DISK_MARK_AT_SMALL),
                                .x = le64_load(p + DISK_MARK_AT_X),
                                .y = le64_load(p + DISK_MARK_AT_Y),
                                .z = le64_load(p + DISK_MARK_AT_Z)};
    return true;
}
