/* SPDX-License-Identifier: Apache-2.0 */
#include "scsi_test.h"

static bool all_are(const uint8_t *p, size_t len, uint8_t value)
{
    for (size_t i = 0; i < len; i++) {
        if (p[i] != value) {
            return false;
        }
    }
    return true;
}

/* Fills the device with a byte, as if written. */
static struct dev *full(struct world *w, uint8_t value)
{
    struct dev *d = disk(w, 0);
    memset(d->data, value, FAKE_BYTES);
    memset(d->kinds, VOL_EXTENT_DATA, sizeof d->kinds);
    return d;
}

static enum scsi_status unmap(struct scsi_nexus *n, uint64_t lba, uint32_t blocks, bool anchor)
{
    uint8_t list[24] = {0, 22, 0, 16};
    be64_store(list + 8, lba);
    be32_store(list + 16, blocks);
    uint8_t cdb[16] = {0x42, anchor, 0, 0, 0, 0, 0, 0, sizeof list};
    return out(n, 0, list, sizeof list, cdb)->status;
}

static void unmapped_blocks_read_as_zeros(struct world *w)
{
    struct dev *d = full(w, 0xaa);
    CHECK(unmap(w->a, 9, 30, false) == SCSI_GOOD);
    CHECK(all_are(d->data + 9 * 512, 30 * 512, 0));
    CHECK(d->data[9 * 512 - 1] == 0xaa && d->data[39 * 512] == 0xaa);
    CHECK(d->kinds[1] == VOL_EXTENT_DATA && d->kinds[2] == VOL_EXTENT_HOLE);
    CHECK(unmap(w->a, 64, 8, true) == SCSI_GOOD && d->kinds[8] == VOL_EXTENT_ANCHORED);
    CHECK(unmap(w->a, LUN_BLOCKS, 0, false) == SCSI_GOOD);
    CHECK(unmap(w->a, LUN_BLOCKS - 1, 2, false) != SCSI_GOOD && sense_is(5, 0x2100));
}
WORLD_TEST(unmapped_blocks_read_as_zeros)

static void a_bad_unmap_list_does_nothing(struct world *w)
{
    struct dev *d = full(w, 0xaa);
    uint8_t list[40] = {0, 38, 0, 32};
    be32_store(list + 16, 8); /* blocks 0 to 7, and then some past the end */
    be64_store(list + 24, LUN_BLOCKS);
    be32_store(list + 32, 1);
    CHECK(out(w->a, 0, list, 40, CDB(0x42, 0, 0, 0, 0, 0, 0, 0, 40))->status != SCSI_GOOD);
    CHECK(sense_is(5, 0x2100) && d->data[0] == 0xaa);
    CHECK(out(w->a, 0, list, 7, CDB(0x42, 0, 0, 0, 0, 0, 0, 0, 7))->status != SCSI_GOOD);
    CHECK(sense_is(5, 0x1a00));
    CHECK(out(w->a, 0, list, 24, CDB(0x42, 0, 0, 0, 0, 0, 0, 0, 24))->status != SCSI_GOOD);
    CHECK(sense_is(5, 0x1a00) && d->data[0] == 0xaa);
    CHECK(none(w->a, 0, CDB(0x42)) == SCSI_GOOD);
    list[3] = 0;
    CHECK(out(w->a, 0, list, 8, CDB(0x42, 0, 0, 0, 0, 0, 0, 0, 8))->status == SCSI_GOOD);
    CHECK(d->data[0] == 0xaa);
}
WORLD_TEST(a_bad_unmap_list_does_nothing)

static void write_same_of_a_pattern(struct world *w)
{
    struct dev *d = disk(w, 0);
    uint8_t block[512];
    memset(block, 0x5c, sizeof block);
    block[511] = 1;
    /* 5000 blocks are more than one chunk, and no whole number of patterns. */
    const uint8_t *cdb = CDB(0x93, 0, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0x13, 0x88);
    CHECK(out(w->a, 0, block, 512, cdb)->status == SCSI_GOOD);
    for (size_t i = 3; i < 5003; i++) {
        CHECK(memcmp(d->data + i * 512, block, 512) == 0);
    }
    CHECK(d->data[2 * 512] == 0 && d->data[5003 * 512] == 0);
}
WORLD_TEST(write_same_of_a_pattern)

static void write_same_of_zeros(struct world *w)
{
    struct dev *d = full(w, 0xbb);
    uint8_t zeros[512] = {0};
    CHECK(out(w->a, 0, zeros, 512, CDB(0x41, 0, 0, 0, 0, 8, 0, 0, 16))->status == SCSI_GOOD);
    CHECK(d->kinds[1] == VOL_EXTENT_ZERO && d->kinds[2] == VOL_EXTENT_ZERO);
    CHECK(all_are(d->data + 4096, 8192, 0) && d->data[4095] == 0xbb && d->data[12288] == 0xbb);
    CHECK(out(w->a, 0, zeros, 512, CDB(0x41, 8, 0, 0, 0, 8, 0, 0, 8))->status == SCSI_GOOD);
    CHECK(d->kinds[1] == VOL_EXTENT_HOLE && d->kinds[2] == VOL_EXTENT_ZERO);
    CHECK(out(w->a, 0, zeros, 512, CDB(0x41, 0x18, 0, 0, 0, 8, 0, 0, 8))->status == SCSI_GOOD);
    CHECK(d->kinds[1] == VOL_EXTENT_ANCHORED);
    /* NDOB: no block is sent. */
    const uint8_t *ndob = CDB(0x93, 0x09, 0, 0, 0, 0, 0, 0, 0, 32, 0, 0, 0, 8);
    CHECK(none(w->a, 0, ndob) == SCSI_GOOD && d->kinds[4] == VOL_EXTENT_HOLE);
    /* UNMAP with data that is not zero: written. */
    zeros[5] = 9;
    CHECK(out(w->a, 0, zeros, 512, CDB(0x41, 8, 0, 0, 0, 32, 0, 0, 8))->status == SCSI_GOOD);
    CHECK(d->kinds[4] == VOL_EXTENT_DATA && d->data[4 * 4096 + 5] == 9);
}
WORLD_TEST(write_same_of_zeros)

static void write_same_that_is_wrong(struct world *w)
{
    uint8_t block[1024] = {0};
    CHECK(out(w->a, 0, block, 512, CDB(0x41))->status != 0 && field_is(7, 7));
    CHECK(out(w->a, 0, block, 512, CDB(0x93))->status != 0 && field_is(10, 7));
    CHECK(out(w->a, 0, block, 512, CDB(0x41, 0x10, 0, 0, 0, 0, 0, 0, 1))->status != 0);
    CHECK(field_is(1, 4));
    CHECK(out(w->a, 0, block, 512, CDB(0x41, 0x02, 0, 0, 0, 0, 0, 0, 1))->status != 0);
    CHECK(sense_is(5, 0x2400));
    CHECK(out(w->a, 0, block, 512, CDB(0x41, 0x20, 0, 0, 0, 0, 0, 0, 1))->status != 0);
    CHECK(field_is(1, 7));
    CHECK(out(w->a, 0, block, 1024, CDB(0x41, 0, 0, 0, 0, 0, 0, 0, 1))->status != 0);
    CHECK(field_is(7, 7));
    CHECK(out(w->a, 0, block, 0, CDB(0x41, 0, 0, 0, 0, 0, 0, 0, 1))->status != 0);
    CHECK(field_is(7, 7));
    CHECK(out(w->a, 0, block, 512, CDB(0x41, 0, 0, 0, 0x40, 0, 0, 0, 1))->status != 0);
    CHECK(sense_is(5, 0x2100));
    disk(w, 0)->info.size_bytes = 1ull << 40;
    const uint8_t *many = CDB(0x93, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x80, 0, 1);
    CHECK(out(w->a, 0, block, 512, many)->status != 0 && field_is(10, 7));
    disk(w, 0)->info.size_bytes = LUN_SIZE;
}
WORLD_TEST(write_same_that_is_wrong)

/* WSNZ = 0. */
static void write_same_of_no_blocks_goes_to_the_end(struct world *w)
{
    struct dev *d = full(w, 0xbb);
    uint8_t block[512] = {0}, ten[16] = {0x41}, sixteen[16] = {0x93};
    const uint32_t blocks = LUN_SIZE / 512;
    scsi_nexus_destroy(w->a); /* the unit is made anew with its target's list */
    scsi_nexus_destroy(w->b);
    d->info.same_to_end = true;
    d->info.lun = 5;
    w->registry->generation++;
    w->a = nexus_new(w, "iqn.a");
    clear_attentions(w->a, 1);
    d->info.lun = 0;
    w->registry->generation++;
    w->b = nexus_new(w, "iqn.b");
    clear_attentions(w->b, 0);
    struct reply *r = in(w->b, 0, 64, CDB(0x12, 1, 0xb0, 0, 64));
    CHECK(r->data[4] == 0 && be64_load(r->data + 36) == 0);
    be32_store(ten + 2, blocks - 8);
    CHECK(out(w->b, 0, block, 512, ten)->status == SCSI_GOOD);
    CHECK(all_are(d->data + LUN_SIZE - 4096, 4096, 0) && d->data[LUN_SIZE - 4097] == 0xbb);
    be64_store(sixteen + 2, blocks - 16);
    block[0] = 7;
    CHECK(out(w->b, 0, block, 512, sixteen)->status == SCSI_GOOD);
    CHECK(d->data[LUN_SIZE - 512] == 7 && d->data[LUN_SIZE - 8192] == 7);
    CHECK(d->data[LUN_SIZE - 8193] == 0xbb);
    be64_store(sixteen + 2, blocks);
    CHECK(out(w->b, 0, block, 512, sixteen)->status && sense_is(5, 0x2100));
    be32_store(ten + 2, blocks + 1);
    CHECK(out(w->b, 0, block, 512, ten)->status && sense_is(5, 0x2100));
    CHECK(d->data[LUN_SIZE - 8193] == 0xbb);
}
WORLD_TEST(write_same_of_no_blocks_goes_to_the_end)

static void lba_status_tells_extents(struct world *w)
{
    struct dev *d = full(w, 1);
    memset(d->kinds, VOL_EXTENT_HOLE, sizeof d->kinds);
    d->kinds[1] = VOL_EXTENT_DATA;
    d->kinds[2] = VOL_EXTENT_ZERO;
    d->kinds[3] = VOL_EXTENT_ANCHORED;
    uint8_t cdb[16] = {0x9e, 0x12, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 1, 0};
    struct reply *r = in(w->a, 0, 256, cdb);
    CHECK(r->status == SCSI_GOOD && r->len == 8 + 4 * 16 && be32_load(r->data) == r->len - 4);
    static const uint64_t want[4][3] = {
        {3, 5, 1}, {8, 16, 0}, {24, 8, 2}, {32, LUN_BLOCKS - 32, 1}};
    for (size_t i = 0; i < 4; i++) {
        const uint8_t *p = r->data + 8 + 16 * i;
        CHECK(be64_load(p) == want[i][0] && be32_load(p + 8) == want[i][1] && p[12] == want[i][2]);
    }
    /* Room for one descriptor. */
    cdb[12] = 0;
    cdb[13] = 24;
    r = in(w->a, 0, 24, cdb);
    CHECK(r->len == 24 && be32_load(r->data) == 20 && be32_load(r->data + 16) == 5);
    be64_store(cdb + 2, LUN_BLOCKS);
    CHECK(in(w->a, 0, 24, cdb)->status != SCSI_GOOD && sense_is(5, 0x2100));
}
WORLD_TEST(lba_status_tells_extents)

static void a_huge_hole_takes_several_descriptors(struct world *w)
{
    disk(w, 0)->info.size_bytes = 8ull << 40; /* 2^34 blocks */
    uint8_t cdb[16] = {0x9e, 0x12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0};
    struct reply *r = in(w->a, 0, 256, cdb);
    CHECK(r->len == 8 + 5 * 16 && be32_load(r->data + 16) == UINT32_MAX);
    CHECK(be64_load(r->data + 24) == UINT32_MAX);
    disk(w, 0)->info.size_bytes = LUN_SIZE;
}
WORLD_TEST(a_huge_hole_takes_several_descriptors)

static void capacity_in_both_forms(struct world *w)
{
    struct reply *r = in(w->a, 0, 8, CDB(0x25));
    CHECK(r->len == 8 && be32_load(r->data) == LUN_BLOCKS - 1 && be32_load(r->data + 4) == 512);
    r = in(w->a, 0, 32, CDB(0x9e, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 32));
    CHECK(r->len == 32 && be64_load(r->data) == LUN_BLOCKS - 1 && be32_load(r->data + 8) == 512);
    CHECK(r->data[13] == 3 && r->data[14] == 0xc0);
    disk(w, 0)->info.size_bytes = 4ull << 40;
    CHECK(be32_load(in(w->a, 0, 8, CDB(0x25))->data) == UINT32_MAX);
    disk(w, 0)->info.size_bytes = LUN_SIZE;
}
WORLD_TEST(capacity_in_both_forms)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_unmapped_blocks_read_as_zeros),
        cmocka_unit_test(test_a_bad_unmap_list_does_nothing),
        cmocka_unit_test(test_write_same_of_a_pattern),
        cmocka_unit_test(test_write_same_of_zeros),
        cmocka_unit_test(test_write_same_that_is_wrong),
        cmocka_unit_test(test_write_same_of_no_blocks_goes_to_the_end),
        cmocka_unit_test(test_lba_status_tells_extents),
        cmocka_unit_test(test_a_huge_hole_takes_several_descriptors),
        cmocka_unit_test(test_capacity_in_both_forms),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
