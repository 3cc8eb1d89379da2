/* SPDX-License-Identifier: Apache-2.0 */
#include "scsi_test.h"

static void standard_data_names_us(struct world *w)
{
    struct reply *r = in(w->a, 0, 255, CDB(0x12, 0, 0, 0, 255));
    CHECK(r->status == SCSI_GOOD && r->len == 96);
    CHECK(r->data[0] == 0 && r->data[1] == 0 && r->data[2] == 6 && r->data[3] == 0x12);
    CHECK(r->data[4] == 91 && r->data[5] == 0x38 && r->data[6] == 0 && r->data[7] == 0x02);
    CHECK(memcmp(r->data + 8, "ZEROFS  ", 8) == 0);
    CHECK(be16_load(r->data + 58) == 0x00a0 && be16_load(r->data + 60) == 0x0960);
    CHECK(be16_load(r->data + 62) == 0x0460 && be16_load(r->data + 64) == 0x04c0);
    CHECK(r->under && r->residual == 255 - 96);
}
WORLD_TEST(standard_data_names_us)

static void the_allocation_length_cuts(struct world *w)
{
    struct reply *r = in(w->a, 0, 64, CDB(0x12, 0, 0, 0, 5));
    CHECK(r->status == SCSI_GOOD && r->len == 5 && r->data[4] == 91);
    CHECK(r->under && r->residual == 59);
    r = in(w->a, 0, 0, CDB(0x12, 0, 0, 0, 0));
    CHECK(r->status == SCSI_GOOD && r->len == 0 && !r->under && !r->over);
    /* Less room at the initiator than the CDB says: overflow. */
    r = in(w->a, 0, 36, CDB(0x12, 0, 0, 0, 96));
    CHECK(r->status == SCSI_GOOD && r->len == 36 && r->over && r->residual == 60);
}
WORLD_TEST(the_allocation_length_cuts)

static void a_page_without_evpd_is_refused(struct world *w)
{
    CHECK(in(w->a, 0, 96, CDB(0x12, 0, 0x83, 0, 96))->len == 0 && field_is(2, 7));
    CHECK(in(w->a, 0, 96, CDB(0x12, 2, 0, 0, 96))->len == 0 && field_is(1, 1));
    CHECK(in(w->a, 0, 96, CDB(0x12, 1, 0x42, 0, 96))->len == 0 && field_is(2, 7));
}
WORLD_TEST(a_page_without_evpd_is_refused)

static void every_listed_page_is_there(struct world *w)
{
    static const uint8_t pages[] = {0x00, 0x80, 0x83, 0x86, 0x87, 0x88, 0x8f, 0xb0, 0xb1, 0xb2};
    struct reply *r = in(w->a, 0, 255, CDB(0x12, 1, 0, 0, 255));
    CHECK(r->len == 4 + sizeof pages && be16_load(r->data + 2) == sizeof pages);
    CHECK(memcmp(r->data + 4, pages, sizeof pages) == 0);
    for (size_t i = 0; i < sizeof pages; i++) {
        r = in(w->a, 0, 1024, CDB(0x12, 1, pages[i], 4, 0));
        CHECK(r->status == SCSI_GOOD && r->data[0] == 0 && r->data[1] == pages[i]);
        CHECK(r->len == 4u + be16_load(r->data + 2));
    }
}
WORLD_TEST(every_listed_page_is_there)

static void identification_holds_its_designators(struct world *w)
{
    struct reply *r = in(w->a, 0, 1024, CDB(0x12, 1, 0x83, 4, 0));
    unsigned seen = 0;
    for (size_t at = 4; at < r->len; at += 4u + r->data[at + 3]) {
        const uint8_t *d = r->data + at;
        CHECK(at + 4 + d[3] <= r->len);
        switch (d[1] & 0x3f) {
        case 0x03:
            CHECK(d[0] == 1 && d[3] == 8 && d[4] >> 4 == 3);
            break;
        case 0x01:
            CHECK(d[0] == 2 && memcmp(d + 4, "ZEROFS  ", 8) == 0);
            break;
        case 0x14:
            CHECK(d[0] == 0x51 && (d[1] & 0x80) && be32_load(d + 4) == 1);
            break;
        case 0x15:
            CHECK(d[0] == 0x51 && (d[1] & 0x80) && d[3] == 4 && be32_load(d + 4) == 1);
            break;
        case 0x18:
            CHECK(d[0] == 0x53 && strcmp((const char *)d + 4, FAKE_IQN ",t,0x0001") == 0);
            CHECK(d[3] % 4 == 0);
            break;
        case 0x28:
            CHECK(d[0] == 0x53 && strcmp((const char *)d + 4, FAKE_IQN) == 0);
            break;
        default:
            CHECK(false);
        }
        seen++;
    }
    CHECK(seen == 6);
}
WORLD_TEST(identification_holds_its_designators)

static void units_differ_and_nexuses_agree(struct world *w)
{
    uint8_t first[12];
    struct reply *r = in(w->a, 0, 1024, CDB(0x12, 1, 0x83, 4, 0));
    memcpy(first, r->data + 4, 12);
    CHECK(memcmp(in(w->b, 0, 1024, CDB(0x12, 1, 0x83, 4, 0))->data + 4, first, 12) == 0);
    CHECK(memcmp(in(w->a, 1, 1024, CDB(0x12, 1, 0x83, 4, 0))->data + 4, first, 12) != 0);
    r = in(w->a, 0, 255, CDB(0x12, 1, 0x80, 0, 255));
    CHECK(r->len == 36 && memcmp(r->data + 4, "101112131415", 12) == 0);
}
WORLD_TEST(units_differ_and_nexuses_agree)

static void what_is_extended(struct world *w)
{
    static const uint8_t page[14] = {0, 0x86, 0, 60, 0, 0x07, 0x01, 0x01, [13] = SCSI_SENSE_MAX};
    struct reply *r = in(w->a, 0, 255, CDB(0x12, 1, 0x86, 0, 255));
    CHECK(r->len == 64 && memcmp(r->data, page, sizeof page) == 0);
}
WORLD_TEST(what_is_extended)

static void policy_and_ports(struct world *w)
{
    static const uint8_t policy[] = {0, 0x87, 0, 4, 0x3f, 0xff, 0, 0};
    struct reply *r = in(w->a, 0, 255, CDB(0x12, 1, 0x87, 0, 255));
    CHECK(r->len == 8 && memcmp(r->data, policy, 8) == 0);
    r = in(w->a, 0, 255, CDB(0x12, 1, 0x88, 0, 255));
    const uint8_t *p = r->data + 4;
    CHECK(be16_load(p + 2) == 1 && be16_load(p + 6) == 0);
    CHECK(be16_load(p + 10) + 16u == r->len);
    CHECK(p[12] == 0x53 && p[13] == 0x98 &&
          strcmp((const char *)p + 16, FAKE_IQN ",t,0x0001") == 0);
}
WORLD_TEST(policy_and_ports)

static void limits_and_provisioning(struct world *w)
{
    struct reply *r = in(w->a, 0, 255, CDB(0x12, 1, 0xb0, 0, 255));
    CHECK(r->len == 64 && r->data[4] == 1 && r->data[5] == 128);
    CHECK(be16_load(r->data + 6) == 8 && be32_load(r->data + 8) == (32u << 20) / 512);
    CHECK(be32_load(r->data + 20) == UINT32_MAX && be32_load(r->data + 24) == 256);
    CHECK(be32_load(r->data + 28) == 8 && be32_load(r->data + 32) == 0x80000000);
    r = in(w->a, 0, 255, CDB(0x12, 1, 0xb1, 0, 255));
    CHECK(r->len == 64 && be16_load(r->data + 4) == 1);
    r = in(w->a, 0, 255, CDB(0x12, 1, 0xb2, 0, 255));
    CHECK(r->len == 8 && r->data[4] == 11 && r->data[5] == 0xe6 && r->data[6] == 2);
}
WORLD_TEST(limits_and_provisioning)

static void a_unit_that_is_not_there(struct world *w)
{
    struct reply *r = in(w->a, 7, 96, CDB(0x12, 0, 0, 0, 96));
    CHECK(r->status == SCSI_GOOD && r->data[0] == 0x7f);
    CHECK(tur(w->a, 7) == SCSI_CHECK_CONDITION && sense_is(SCSI_KEY_ILLEGAL_REQUEST, 0x2500));
    r = in(w->a, 7, 18, CDB(0x03, 0, 0, 0, 18));
    CHECK(r->status == SCSI_GOOD && r->data[2] == 5 && be16_load(r->data + 12) == 0x2500);
    CHECK(in(w->a, 7, 64, CDB(0xa0, 0, 0, 0, 0, 0, 0, 0, 0, 64))->status == SCSI_CHECK_CONDITION);
    /* The well-known unit of REPORT LUNS. */
    r = in(w->a, 0xc101, 96, CDB(0x12, 0, 0, 0, 96));
    CHECK(r->status == SCSI_GOOD && r->data[0] == 0x1e);
    CHECK(tur(w->a, 0xc101) == SCSI_GOOD);
    CHECK(none(w->a, 0xc101, CDB(0x35)) == SCSI_CHECK_CONDITION && sense_is(5, 0x2000));
}
WORLD_TEST(a_unit_that_is_not_there)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_standard_data_names_us),
        cmocka_unit_test(test_the_allocation_length_cuts),
        cmocka_unit_test(test_a_page_without_evpd_is_refused),
        cmocka_unit_test(test_every_listed_page_is_there),
        cmocka_unit_test(test_identification_holds_its_designators),
        cmocka_unit_test(test_units_differ_and_nexuses_agree),
        cmocka_unit_test(test_limits_and_provisioning),
        cmocka_unit_test(test_what_is_extended),
        cmocka_unit_test(test_policy_and_ports),
        cmocka_unit_test(test_a_unit_that_is_not_there),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
