/* SPDX-License-Identifier: Apache-2.0 */
#include "scsi_test.h"

#define CONTROL_D_SENSE 0x04
#define CONTROL_QERR 0x06
#define CONTROL_SWP 0x08
#define CONTROL_UA_INTLCK 0x30
#define CONTROL_TAS 0x40
#define CONTROL_IALUAE 0x01 /* of the control extension page */

/* The page as MODE SENSE(10) gives it, without header and descriptors. */
static const uint8_t *page(struct scsi_nexus *n, uint8_t pc, uint8_t code, uint8_t sub)
{
    uint8_t cdb[16] = {0x5a, 0x08, (uint8_t)(pc << 6 | code), sub, 0, 0, 0, 1, 0};
    CHECK(in(n, 0, 256, cdb)->status == SCSI_GOOD);
    CHECK(be16_load(reply.data) == reply.len - 2 && be16_load(reply.data + 6) == 0);
    return reply.data + 8;
}

static enum scsi_status select6(struct scsi_nexus *n, const uint8_t *list, uint8_t len)
{
    uint8_t cdb[16] = {0x15, 0x10, 0, 0, len};
    return out(n, 0, list, len, cdb)->status;
}

/* Sets bytes 2, 4 and 5 of the control page. */
static enum scsi_status control(struct scsi_nexus *n, uint8_t b2, uint8_t b4, uint8_t b5)
{
    uint8_t list[16] = {0,    0,  0,  0, 0x0a, 0x0a, (uint8_t)(b2 | 0x02),
                        0x10, b4, b5, 0, 0,    0xff, 0xff};
    return select6(n, list, sizeof list);
}

static enum scsi_status caching(struct scsi_nexus *n, bool write_cache)
{
    uint8_t list[24] = {0, 0, 0, 0, 0x08, 0x12, write_cache ? 0x04 : 0};
    return select6(n, list, sizeof list);
}

static void pages_by_control(struct world *w)
{
    static const uint8_t lens[][3] = {{0x01, 0x00, 12}, {0x08, 0x00, 20}, {0x0a, 0x00, 12},
                                      {0x0a, 0x01, 32}, {0x1c, 0x00, 12}, {0x1c, 0x02, 32}};
    size_t all = 0;
    for (size_t i = 0; i < ARRAY_LEN(lens); i++) {
        for (uint8_t pc = 0; pc < 3; pc++) {
            const uint8_t *p = page(w->a, pc, lens[i][0], lens[i][1]);
            CHECK(reply.len == 8u + lens[i][2] && (p[0] & 0x3f) == lens[i][0]);
        }
        all += lens[i][2];
    }
    (void)page(w->a, 0, 0x3f, 0xff);
    CHECK(reply.len == 8 + all);
    (void)page(w->a, 0, 0x3f, 0x00);
    CHECK(reply.len == 8 + all - 32 - 32);
    (void)page(w->a, 0, 0x0a, 0xff);
    CHECK(reply.len == 8 + 44);
    CHECK(page(w->a, 0, 0x08, 0)[2] == 0x04 && page(w->a, 1, 0x08, 0)[2] == 0x04);
    CHECK(page(w->a, 1, 0x0a, 0)[2] == CONTROL_D_SENSE);
    CHECK(page(w->a, 1, 0x0a, 0)[3] == CONTROL_QERR);
    CHECK(page(w->a, 1, 0x0a, 0)[4] == (CONTROL_SWP | CONTROL_UA_INTLCK));
    CHECK(page(w->a, 1, 0x0a, 0)[5] == CONTROL_TAS);
    /* The operator changes access states, as TPGS of INQUIRY says. */
    CHECK((page(w->a, 0, 0x0a, 1)[4] & CONTROL_IALUAE) && page(w->a, 1, 0x0a, 1)[4] == 0);
}
WORLD_TEST(pages_by_control)

static void headers_and_descriptors(struct world *w)
{
    struct reply *r = in(w->a, 0, 255, CDB(0x1a, 0, 0x08, 0, 255));
    CHECK(r->len == 4 + 8 + 20 && r->data[0] == r->len - 1 && r->data[2] == 0x10 &&
          r->data[3] == 8);
    CHECK(be32_load(r->data + 4) == LUN_BLOCKS && be24_load(r->data + 9) == 512);
    r = in(w->a, 0, 255, CDB(0x5a, 0x10, 0x08, 0, 0, 0, 0, 0, 255));
    CHECK(r->len == 8 + 16 + 20 && r->data[4] == 1 && be16_load(r->data + 6) == 16);
    CHECK(be64_load(r->data + 8) == LUN_BLOCKS && be32_load(r->data + 20) == 512);
    r = in(w->a, 0, 4, CDB(0x1a, 0, 0x3f, 0, 4));
    CHECK(r->len == 4 && r->data[0] > 60);
}
WORLD_TEST(headers_and_descriptors)

static void pages_there_are_not(struct world *w)
{
    CHECK(in(w->a, 0, 255, CDB(0x1a, 0, 0x05, 0, 255))->len == 0 && field_is(2, 5));
    CHECK(in(w->a, 0, 255, CDB(0x1a, 0, 0x08, 7, 255))->len == 0 && field_is(3, 7));
    CHECK(in(w->a, 0, 255, CDB(0x1a, 0, 0x3f, 7, 255))->len == 0 && field_is(3, 7));
}
WORLD_TEST(pages_there_are_not)

static void a_change_is_an_attention_to_the_others(struct world *w)
{
    CHECK(control(w->a, 0, 0, CONTROL_TAS) == SCSI_GOOD);
    CHECK(page(w->a, 0, 0x0a, 0)[5] == CONTROL_TAS && page(w->a, 2, 0x0a, 0)[5] == 0);
    CHECK(tur(w->b, 0) == SCSI_CHECK_CONDITION && attention_is(0x2a01));
    CHECK(tur(w->b, 0) == SCSI_GOOD && tur(w->a, 0) == SCSI_GOOD);
    CHECK(tur(w->b, 1) == SCSI_GOOD);
    /* The same again changes nothing. */
    CHECK(control(w->a, 0, 0, CONTROL_TAS) == SCSI_GOOD && tur(w->b, 0) == SCSI_GOOD);
}
WORLD_TEST(a_change_is_an_attention_to_the_others)

static void write_cache_goes_to_the_device(struct world *w)
{
    struct dev *d = disk(w, 0);
    CHECK(caching(w->a, false) == SCSI_GOOD && !d->info.write_cache);
    CHECK(page(w->a, 0, 0x08, 0)[2] == 0);
    CHECK(tur(w->b, 0) == SCSI_CHECK_CONDITION && attention_is(0x2a01));
    CHECK(tur(w->b, 0) == SCSI_GOOD && tur(w->a, 0) == SCSI_GOOD);
    /* Changed by an operator: everybody is told. */
    CHECK(dev_write_cache_set(w->registry, d, true) == 0);
    CHECK(tur(w->a, 0) == SCSI_CHECK_CONDITION && attention_is(0x2a01));
    CHECK(tur(w->b, 0) == SCSI_CHECK_CONDITION && attention_is(0x2a01));
}
WORLD_TEST(write_cache_goes_to_the_device)

static void software_write_protect(struct world *w)
{
    uint8_t block[512] = {0};
    CHECK(control(w->a, 0, CONTROL_SWP, 0) == SCSI_GOOD);
    CHECK(out(w->a, 0, block, 512, CDB(0x2a, 0, 0, 0, 0, 0, 0, 0, 1))->status != SCSI_GOOD);
    CHECK(sense_is(SCSI_KEY_DATA_PROTECT, 0x2702));
    CHECK(out(w->a, 0, block, 24, CDB(0x42, 0, 0, 0, 0, 0, 0, 0, 24))->status != SCSI_GOOD);
    CHECK(in(w->a, 0, 512, CDB(0x28, 0, 0, 0, 0, 0, 0, 0, 1))->status == SCSI_GOOD);
    CHECK(in(w->a, 0, 255, CDB(0x1a, 0, 0x08, 0, 255))->data[2] == 0x90);
    CHECK(control(w->a, 0, 0, 0) == SCSI_GOOD);
    CHECK(out(w->a, 0, block, 512, CDB(0x2a, 0, 0, 0, 0, 0, 0, 0, 1))->status == SCSI_GOOD);
}
WORLD_TEST(software_write_protect)

static void descriptor_sense(struct world *w)
{
    CHECK(control(w->a, CONTROL_D_SENSE, 0, 0) == SCSI_GOOD);
    CHECK(none(w->a, 0, CDB(0xc0)) == SCSI_CHECK_CONDITION);
    CHECK(reply.sense[0] == 0x72 && reply.sense_len == 8 && sense_is(5, 0x2000));
    CHECK(in(w->a, 0, 96, CDB(0x12, 0, 0x83, 0, 96))->len == 0 && reply.sense[0] == 0x72);
    CHECK(reply.sense_len == 16 && reply.sense[7] == 8 && reply.sense[8] == 2);
    CHECK(reply.sense[9] == 6 && reply.sense[12] == 0xcf && be16_load(reply.sense + 13) == 2);
    /* A reset brings the defaults back. */
    uint8_t extra[3];
    CHECK(scsi_tmf(w->a, SCSI_TMF_LU_RESET, 0, 0, extra) == SCSI_TMF_COMPLETE);
    CHECK(tur(w->a, 0) == SCSI_CHECK_CONDITION && reply.sense[0] == 0x70);
    CHECK(attention_is(0x2903));
}
WORLD_TEST(descriptor_sense)

static void a_list_is_checked_whole(struct world *w)
{
    /* Not changeable: RLEC of the control page, after a page that is fine. */
    uint8_t two[36] = {0, 0, 0, 0, 0x08, 0x12, 0};
    memcpy(two + 24, (uint8_t[12]){0x0a, 0x0a, 0x03, 0x10, 0, 0, 0, 0, 0xff, 0xff}, 12);
    CHECK(select6(w->a, two, 36) == SCSI_CHECK_CONDITION && sense_is(5, 0x2600));
    CHECK(reply.sense[15] == 0x88 && be16_load(reply.sense + 16) == 26);
    CHECK(disk(w, 0)->info.write_cache);
    two[26] = 0x02;
    CHECK(select6(w->a, two, 35) == SCSI_CHECK_CONDITION && sense_is(5, 0x1a00));
    two[25] = 0x0b;
    CHECK(select6(w->a, two, 36) == SCSI_CHECK_CONDITION && sense_is(5, 0x2600));
    two[24] = 0x05;
    CHECK(select6(w->a, two, 36) == SCSI_CHECK_CONDITION && sense_is(5, 0x2600));
    CHECK(disk(w, 0)->info.write_cache && tur(w->b, 0) == SCSI_GOOD);
    CHECK(select6(w->a, two, 3) == SCSI_CHECK_CONDITION && sense_is(5, 0x1a00));
    CHECK(select6(w->a, two, 0) == SCSI_GOOD);
    CHECK(out(w->a, 0, two, 36, CDB(0x15, 0x00, 0, 0, 36))->status != 0 && field_is(1, 4));
}
WORLD_TEST(a_list_is_checked_whole)

static void saved_modes_outlive_a_reset(struct world *w)
{
    uint8_t list[16] = {0, 0, 0, 0, 0x0a, 0x0a, 0x06, 0x10, 0, 0x40, 0, 0, 0xff, 0xff};
    uint8_t extra[3];
    CHECK(in(w->a, 0, 255, CDB(0x1a, 8, 0xca, 0, 255))->status == SCSI_GOOD);
    CHECK(reply.data[4] == 0x8a && !(reply.data[6] & 4) && reply.data[9] == 0);
    CHECK(out(w->a, 0, list, 16, CDB(0x15, 0x11, 0, 0, 16))->status == SCSI_GOOD);
    CHECK(disk(w, 0)->info.saved_modes == 5 && tur(w->b, 0) == SCSI_CHECK_CONDITION);
    list[6] = 0x02; /* and now without SP: the current values alone */
    CHECK(select6(w->a, list, 16) == SCSI_GOOD && disk(w, 0)->info.saved_modes == 5);
    CHECK(!(in(w->a, 0, 255, CDB(0x1a, 8, 0x0a, 0, 255))->data[6] & 4));
    CHECK(in(w->a, 0, 255, CDB(0x1a, 8, 0xca, 0, 255))->data[6] & 4);
    CHECK(scsi_tmf(w->a, SCSI_TMF_LU_RESET, 0, 0, extra) == SCSI_TMF_COMPLETE);
    CHECK(tur(w->a, 0) == SCSI_CHECK_CONDITION && reply.sense[0] == 0x72);
    CHECK(in(w->a, 0, 255, CDB(0x1a, 8, 0x0a, 0, 255))->data[6] & 4);
    CHECK(reply.data[9] == 0x40);
}
WORLD_TEST(saved_modes_outlive_a_reset)

static void a_unit_that_is_read_only(struct world *w)
{
    static const uint8_t writers[][16] = {
        {0x0a, 0, 0, 0, 1},
        {0x2a, 0, 0, 0, 0, 0, 0, 0, 1},
        {0xaa, 0, 0, 0, 0, 0, 0, 0, 0, 1},
        {0x8a, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1},
        {0x2e, 0, 0, 0, 0, 0, 0, 0, 1},
        {0xae, 0, 0, 0, 0, 0, 0, 0, 0, 1},
        {0x8e, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1},
        {0x41, 0, 0, 0, 0, 0, 0, 0, 1},
        {0x93, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1},
        {0x89, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1},
        {0x8b, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1},
        {0x9c, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1},
        {0x42, 0, 0, 0, 0, 0, 0, 0, 24},
    };
    uint8_t block[1024] = {0};
    disk(w, 0)->info.read_only = true;
    fake_tell(disk(w, 0), DEV_EVENT_SETTINGS);
    CHECK(tur(w->a, 0) == SCSI_CHECK_CONDITION && attention_is(0x2a01));
    for (size_t i = 0; i < ARRAY_LEN(writers); i++) {
        CHECK(out(w->a, 0, block, 1024, writers[i])->status == SCSI_CHECK_CONDITION);
        CHECK(sense_is(SCSI_KEY_DATA_PROTECT, 0x2700) && reply.residual == 1024);
    }
    CHECK(in(w->a, 0, 512, CDB(0x28, 0, 0, 0, 0, 0, 0, 0, 1))->status == SCSI_GOOD);
    CHECK(none(w->a, 0, CDB(0x35)) == SCSI_GOOD);
    CHECK(in(w->a, 0, 255, CDB(0x1a, 0, 0x08, 0, 255))->data[2] == 0x90);
    CHECK(in(w->a, 0, 255, CDB(0x5a, 0, 0x08, 0, 0, 0, 0, 0, 255))->data[3] == 0x90);
}
WORLD_TEST(a_unit_that_is_read_only)

static void block_descriptors_say_what_is(struct world *w)
{
    uint8_t list[36] = {0, 0, 0, 0, 0, 0, 0, 8, 0, 0, 0x40, 0, 0, 0, 2, 0, 0x08, 0x12, 0x04};
    const uint8_t *cdb = CDB(0x55, 0x10, 0, 0, 0, 0, 0, 0, 36);
    CHECK(out(w->a, 0, list, 36, cdb)->status == SCSI_GOOD);
    list[14] = 4;
    CHECK(out(w->a, 0, list, 36, cdb)->status != SCSI_GOOD && sense_is(5, 0x2600));
    CHECK(be16_load(reply.sense + 16) == 13);
    list[14] = 2;
    list[10] = 0x41;
    CHECK(out(w->a, 0, list, 36, cdb)->status != SCSI_GOOD && sense_is(5, 0x2600));
    list[7] = 9;
    CHECK(out(w->a, 0, list, 36, cdb)->status != SCSI_GOOD && sense_is(5, 0x2600));
}
WORLD_TEST(block_descriptors_say_what_is)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pages_by_control),
        cmocka_unit_test(test_headers_and_descriptors),
        cmocka_unit_test(test_pages_there_are_not),
        cmocka_unit_test(test_a_change_is_an_attention_to_the_others),
        cmocka_unit_test(test_write_cache_goes_to_the_device),
        cmocka_unit_test(test_software_write_protect),
        cmocka_unit_test(test_descriptor_sense),
        cmocka_unit_test(test_a_list_is_checked_whole),
        cmocka_unit_test(test_block_descriptors_say_what_is),
        cmocka_unit_test(test_saved_modes_outlive_a_reset),
        cmocka_unit_test(test_a_unit_that_is_read_only),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
