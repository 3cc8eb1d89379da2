/* SPDX-License-Identifier: Apache-2.0 */
/* Units of other sector formats than 512e: 4Kn (LUN 2) and 512n (LUN 3). */
#include "scsi_test.h"

#define NATIVE_BLOCKS (LUN_SIZE / 4096)

static uint8_t pattern[16384];

static void add_units(struct world *w)
{
    fake_add(w->registry, 2, LUN_SIZE);
    disk(w, 2)->info.logical_block_bytes = 4096;
    fake_add(w->registry, 3, LUN_SIZE);
    disk(w, 3)->info.physical_block_bytes = 512;
    (void)tur(w->a, 0); /* the list of LUNs has changed */
    clear_attentions(w->a, 0);
    clear_attentions(w->a, 2);
    clear_attentions(w->a, 3);
    for (size_t i = 0; i < sizeof pattern; i++) {
        pattern[i] = (uint8_t)(1 + i * 3 + i / 4096);
    }
}

static void capacities_and_limits(struct world *w)
{
    static const struct {
        uint32_t lun;
        uint32_t block;
        uint8_t exponent;
    } units[] = {{0, 512, 3}, {2, 4096, 0}, {3, 512, 0}};
    add_units(w);
    for (size_t i = 0; i < ARRAY_LEN(units); i++) {
        uint32_t lun = units[i].lun;
        uint32_t blocks = LUN_SIZE / units[i].block;
        struct reply *r = in(w->a, lun, 8, CDB(0x25));
        CHECK(be32_load(r->data) == blocks - 1 && be32_load(r->data + 4) == units[i].block);
        r = in(w->a, lun, 32, CDB(0x9e, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 32));
        CHECK(be64_load(r->data) == blocks - 1 && be32_load(r->data + 8) == units[i].block);
        CHECK(r->data[13] == units[i].exponent && be16_load(r->data + 14) == 0xc000);
        r = in(w->a, lun, 255, CDB(0x5a, 0x10, 0x08, 0, 0, 0, 0, 0, 255));
        CHECK(be64_load(r->data + 8) == blocks && be32_load(r->data + 20) == units[i].block);
        r = in(w->a, lun, 255, CDB(0x12, 1, 0xb0, 0, 255));
        CHECK(be16_load(r->data + 6) == 4096 / units[i].block);
        CHECK(be32_load(r->data + 8) == (32u << 20) / units[i].block);
        CHECK(be32_load(r->data + 28) == 4096 / units[i].block);
    }
}
WORLD_TEST(capacities_and_limits)

static void blocks_of_4096_bytes(struct world *w)
{
    add_units(w);
    CHECK(out(w->a, 2, pattern, 8192, CDB(0x2a, 0, 0, 0, 0, 5, 0, 0, 2))->status == SCSI_GOOD);
    CHECK(memcmp(disk(w, 2)->data + 5ul * 4096, pattern, 8192) == 0);
    struct reply *r = in(w->a, 2, 4096, CDB(0x28, 0, 0, 0, 0, 6, 0, 0, 1));
    CHECK(r->len == 4096 && memcmp(r->data, pattern + 4096, 4096) == 0);
    /* Less than a block is none. */
    CHECK(out(w->a, 2, pattern, 1024, CDB(0x2a, 0, 0, 0, 0, 9, 0, 0, 1))->status == SCSI_GOOD);
    CHECK(reply.over && reply.residual == 3072 && disk(w, 2)->data[9 * 4096] == 0);
    CHECK(out(w->a, 2, pattern, 4096, CDB(0x41, 0, 0, 0, 0, 20, 0, 0, 2))->status == SCSI_GOOD);
    CHECK(memcmp(disk(w, 2)->data + 21ul * 4096, pattern, 4096) == 0);
    CHECK(out(w->a, 2, pattern, 512, CDB(0x41, 0, 0, 0, 0, 20, 0, 0, 2))->status != SCSI_GOOD);
    CHECK(field_is(7, 7));
    uint8_t same[16] = {0x2f, 6, 0, 0, 0, 20, 0, 0, 2}; /* VERIFY, BYTCHK 11b */
    CHECK(out(w->a, 2, pattern, 4096, same)->status == SCSI_GOOD);
    same[5] = 19;
    CHECK(out(w->a, 2, pattern, 4096, same)->status != SCSI_GOOD && sense_is(0xe, 0x1d00));
}
WORLD_TEST(blocks_of_4096_bytes)

static void compare_and_write_of_4096_bytes(struct world *w)
{
    uint8_t caw[16] = {0x89, 0, 0, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0, 1};
    static uint8_t both[8192];
    add_units(w);
    memset(both, 0, 4096);
    memcpy(both + 4096, pattern, 4096);
    CHECK(out(w->a, 2, both, 8192, caw)->status == SCSI_GOOD);
    CHECK(memcmp(disk(w, 2)->data + 7ul * 4096, pattern, 4096) == 0);
    memcpy(both, pattern, 4096);
    both[4000]++;
    CHECK(out(w->a, 2, both, 8192, caw)->status != SCSI_GOOD && sense_is(0xe, 0x1d00));
    CHECK((reply.sense[0] & 0x80) && be32_load(reply.sense + 3) == 4000);
    CHECK(out(w->a, 2, both, 1024, caw)->status != SCSI_GOOD && field_is(13, 7));
}
WORLD_TEST(compare_and_write_of_4096_bytes)

static void the_end_of_a_native_unit(struct world *w)
{
    uint8_t last[16] = {0x88};
    add_units(w);
    be64_store(last + 2, NATIVE_BLOCKS - 1);
    last[13] = 1;
    CHECK(in(w->a, 2, 4096, last)->status == SCSI_GOOD);
    last[13] = 2;
    CHECK(in(w->a, 2, 8192, last)->len == 0 && sense_is(5, 0x2100));
    be64_store(last + 2, UINT64_MAX >> 12); /* as bytes it would wrap around */
    CHECK(in(w->a, 2, 8192, last)->len == 0 && sense_is(5, 0x2100));
    uint8_t list[24] = {0, 22, 0, 16};
    be64_store(list + 8, NATIVE_BLOCKS - 2);
    be32_store(list + 16, 2);
    CHECK(out(w->a, 2, list, 24, CDB(0x42, 0, 0, 0, 0, 0, 0, 0, 24))->status == SCSI_GOOD);
    be32_store(list + 16, 3);
    CHECK(out(w->a, 2, list, 24, CDB(0x42, 0, 0, 0, 0, 0, 0, 0, 24))->status != SCSI_GOOD);
    CHECK(sense_is(5, 0x2100));
}
WORLD_TEST(the_end_of_a_native_unit)

static void status_in_units_of_4096_bytes(struct world *w)
{
    uint8_t status[16] = {0x9e, 0x12, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 56};
    add_units(w);
    CHECK(out(w->a, 2, pattern, 4096, CDB(0x2a, 0, 0, 0, 0, 5, 0, 0, 1))->status == SCSI_GOOD);
    struct reply *r = in(w->a, 2, 56, status);
    CHECK(r->status == SCSI_GOOD && r->len == 56);
    CHECK(be64_load(r->data + 8) == 3 && be32_load(r->data + 16) == 2 && r->data[20] == 1);
    CHECK(be64_load(r->data + 24) == 5 && be32_load(r->data + 32) == 1 && r->data[36] == 0);
    CHECK(be64_load(r->data + 40) == 6 && r->data[52] == 1);
}
WORLD_TEST(status_in_units_of_4096_bytes)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_capacities_and_limits),
        cmocka_unit_test(test_blocks_of_4096_bytes),
        cmocka_unit_test(test_compare_and_write_of_4096_bytes),
        cmocka_unit_test(test_the_end_of_a_native_unit),
        cmocka_unit_test(test_status_in_units_of_4096_bytes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
