/* SPDX-License-Identifier: Apache-2.0 */
/* Keys and values of the index: page maps, inodes, range holes, numbers. */
#include "base/assert.h"
#include "vol/key.h"
#include "vol/page_map.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static void map(const uint8_t *data, size_t len)
{
    struct vol_map m;
    if (vol_map_decode(data, len, &m) < 0) {
        return;
    }
    unsigned next = 0;
    for (uint32_t i = 0; i < m.count; i++) {
        ASSERT(m.runs[i].first >= next);
        next = (unsigned)m.runs[i].first + m.runs[i].count;
    }
    ASSERT(next <= VOL_PAGE_BLOCKS);
    struct vol_map_changes changes = {.count = 0};
    struct vol_map merged;
    struct vol_map empty = {.count = 0};
    vol_map_merge(&empty, &m, &merged, &changes);
    vol_map_spoil(&merged);
    vol_map_drop(&m, &changes);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    struct vol_inode inode;
    struct vol_hole_value hole;
    uint64_t numbers[3];
    map(data, len);
    if (vol_inode_decode(data, len, &inode) == 0) {
        ASSERT(inode.layer_count >= 1 && inode.layer_count <= VOL_LAYERS_MAX);
        ASSERT(inode.size <= VOL_SIZE_MAX);
    }
    if (vol_hole_decode(data, len, &hole) == 0) {
        ASSERT(hole.flags <= VOL_HOLE_MASKS);
    }
    (void)!vol_number_decode(data, len, numbers);
    struct vol_segment_value seg;
    (void)!vol_segment_decode(data, len, &seg);
    (void)!vol_key_page_decode(data, len, &numbers[0], &numbers[1]);
    (void)!vol_key_hole_decode(data, len, numbers);
    (void)!vol_key_segment_decode(data, len, numbers);
    return 0;
}
