/* SPDX-License-Identifier: Apache-2.0 */
/* Counts of live references that went wrong: what they count is kept, over openings as well. */
#include "volume.h"

#include "vol/key.h"
#include "vol/vol_priv.h"

#define MIB (1u << 20)

static uint64_t segment_of_page_0(struct rig *rig)
{
    struct vol_inode inode = {0};
    struct vol_map map;
    struct vol_key key = vol_key_inode(rig->inode);
    struct bytes_writer value = {0};
    assert_int_equal(vol_get(rig->v, key.bytes, key.len, &value), 0);
    assert_int_equal(vol_inode_decode(value.data, value.len, &inode), 0);
    bytes_writer_free(&value);
    assert_int_equal(vol_drain(rig->v), 0);
    assert_int_equal(vol_map_load(rig->v, inode.layers[0], 0, &map), 0);
    assert_int_equal(map.runs[0].kind, VOL_RUN_DATA);
    return map.runs[0].seq;
}

/* As if references had been lost on the way. */
static void spoil_count(struct rig *rig, uint64_t seq)
{
    struct vol_segments *segs = &rig->v->segs;
    rt_mutex_lock(&segs->m);
    struct vol_segment *seg = vol_segments_find(segs, seq);
    assert_non_null(seg);
    assert_int_equal(seg->live, 8);
    seg->live = 2;
    atomic_fetch_sub(&segs->live_blocks, 6);
    rt_mutex_unlock(&segs->m);
}

static uint64_t live_of(struct rig *rig, uint64_t seq)
{
    struct vol_segments *segs = &rig->v->segs;
    rt_mutex_lock(&segs->m);
    const struct vol_segment *seg = vol_segments_find(segs, seq);
    uint64_t live = seg ? seg->live : 0;
    rt_mutex_unlock(&segs->m);
    return live;
}

/* 8 blocks, of which 5 are overwritten while the count says 2; 3 are still there. */
static void an_unknown_count_keeps_the_segment(struct rig *rig)
{
    struct vol_counts c;
    rig_create(rig, MIB);
    rig_write(rig, 0, 32768, 7);
    assert_int_equal(vol_flush(rig->v), 0);
    uint64_t seq = segment_of_page_0(rig);
    spoil_count(rig, seq);
    rig_write(rig, 12288, 20480, 8);
    assert_int_equal(vol_flush(rig->v), 0);
    assert_int_equal(vol_drain(rig->v), 0);
    assert_int_equal(live_of(rig, seq), VOL_LIVE_UNKNOWN);
    vol_counts(rig->v, &c);
    assert_int_equal(c.live_blocks, 5);
    rig_reopen(rig); /* a crash before would replay, and count rightly */
    rig_crash(rig);
    assert_int_equal(live_of(rig, seq), VOL_LIVE_UNKNOWN);
    assert_int_equal(vol_recount(rig->v), ERR_CORRUPT_INDEX);
    for (unsigned i = 0; i < 2; i++) {
        rig_reopen(rig);
        assert_int_equal(live_of(rig, seq), VOL_LIVE_UNKNOWN);
        assert_int_equal(rt_sleep_ms(24 * 3600 * 1000), 0);
        rig_write(rig, 65536, 4096, i);
        assert_int_equal(vol_flush(rig->v), 0);
    }
    rig_reopen(rig);
    vol_counts(rig->v, &c);
    assert_int_equal(c.live_blocks, 6);
    rig_check_all(rig);
    rig_write(rig, 0, 32768, 9); /* the last of it go: nobody knows that they were the last */
    rig_reopen(rig);
    assert_int_equal(live_of(rig, seq), VOL_LIVE_UNKNOWN);
}

static void run_an_unknown_count_keeps_the_segment(void **state)
{
    (void)state;
    rig_run(an_unknown_count_keeps_the_segment);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(run_an_unknown_count_keeps_the_segment),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
