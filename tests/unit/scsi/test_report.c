/* SPDX-License-Identifier: Apache-2.0 */
#include "base/time.h"
#include "scsi_test.h"

static void report_luns_by_selection(struct world *w)
{
    fake_add(w->registry, 300, LUN_SIZE);
    struct reply *r = in(w->a, 0, 64, CDB(0xa0, 0, 0, 0, 0, 0, 0, 0, 0, 64));
    CHECK(r->status == SCSI_GOOD && r->len == 8 + 24 && be32_load(r->data) == 24);
    CHECK(be64_load(r->data + 8) == 0 && be64_load(r->data + 16) == 1ull << 48);
    CHECK(be64_load(r->data + 24) == 0x412cull << 48); /* flat addressing */
    r = in(w->a, 0, 64, CDB(0xa0, 0, 1, 0, 0, 0, 0, 0, 0, 64));
    CHECK(r->len == 16 && be64_load(r->data + 8) == 0xc101ull << 48);
    r = in(w->a, 0xc101, 64, CDB(0xa0, 0, 2, 0, 0, 0, 0, 0, 0, 64));
    CHECK(r->len == 8 + 32);
    CHECK(in(w->a, 0, 64, CDB(0xa0, 0, 0x10, 0, 0, 0, 0, 0, 0, 64))->len == 0 && field_is(2, 7));
    CHECK(in(w->a, 0, 15, CDB(0xa0, 0, 0, 0, 0, 0, 0, 0, 0, 15))->len == 0 && field_is(6, 7));
    CHECK(tur(w->a, 0x412c) == SCSI_CHECK_CONDITION && attention_is(0x2900));
    CHECK(tur(w->a, 0x412c) == SCSI_GOOD);
}
WORLD_TEST(report_luns_by_selection)

static void map(struct dev_access *rules, const char *initiator, uint32_t lun, uint32_t device)
{
    struct dev_map m = {.lun = lun, .device = device, .read_only = lun == 6};
    snprintf(m.initiator, sizeof m.initiator, "%s", initiator);
    CHECK(dev_map_add(rules, &m) == 0);
}

/* Takes over the rules, as a change of them does. */
static void rule(struct world *w, struct dev_access *rules)
{
    dev_access_unref(w->registry->rules);
    w->registry->rules = rules;
    w->registry->generation++;
    (void)rt_sleep_ms(100); /* a busy nexus may overlook it for a while */
}

static uint64_t luns_of(struct scsi_nexus *n)
{
    struct reply *r = in(n, 0, 64, CDB(0xa0, 0, 0, 0, 0, 0, 0, 0, 0, 64));
    CHECK(r->status == SCSI_GOOD);
    uint64_t luns = 0;
    for (size_t at = 8; at < r->len; at += 8) {
        luns = luns << 8 | (be64_load(r->data + at) >> 48);
    }
    return luns;
}

/* Each initiator sees what its maps say, by the numbers they say. */
static void maps_hide_and_renumber(struct world *w)
{
    fake_add(w->registry, 3, LUN_SIZE);
    struct dev_access *rules = dev_access_new();
    map(rules, "*.b", 0, 3);
    map(rules, "*.b", 6, 1);
    map(rules, scsi_nexus_initiator(w->b), 5, 0);
    map(rules, scsi_nexus_initiator(w->b), 6, 3); /* before the pattern's */
    rule(w, rules);
    CHECK(luns_of(w->a) == 0);
    CHECK(tur(w->a, 0) == SCSI_CHECK_CONDITION);
    CHECK(luns_of(w->b) == 0x0506);
    while (tur(w->b, 5) != SCSI_GOOD) {
    }
    CHECK(tur(w->b, 0) == SCSI_CHECK_CONDITION); /* taken for what is not there */
    CHECK(tur(w->b, 6) == SCSI_CHECK_CONDITION && attention_is(0x2900));
    CHECK(tur(w->b, 6) == SCSI_GOOD);
    /* A change that is not about it says nothing; one that is, does. */
    rules = dev_access_copy(rules);
    map(rules, "iqn.other", 0, 0);
    rule(w, rules);
    CHECK(tur(w->b, 5) == SCSI_GOOD);
    rules = dev_access_copy(rules);
    map(rules, scsi_nexus_initiator(w->b), 7, 1);
    rule(w, rules);
    CHECK(tur(w->b, 5) == SCSI_CHECK_CONDITION && attention_is(0x3f0e));
    CHECK(tur(w->b, 5) == SCSI_GOOD);
    CHECK(luns_of(w->b) == 0x050607);
    rule(w, NULL);
    CHECK(luns_of(w->a) == 0x000103);
    CHECK(luns_of(w->b) == 0x000103);
}
WORLD_TEST(maps_hide_and_renumber)

static void a_map_may_be_read_only(struct world *w)
{
    struct dev_access *rules = dev_access_new();
    map(rules, "*", 6, 0);
    rule(w, rules);
    while (tur(w->a, 6) != SCSI_GOOD) {
    }
    CHECK(in(w->a, 6, 64, CDB(0x1a, 0, 0x3f, 0, 64))->data[2] & 0x80);
    static const uint8_t block[512];
    struct reply *r = out(w->a, 6, block, 512, CDB(0x2a, 0, 0, 0, 0, 0, 0, 0, 1, 0));
    CHECK(r->status == SCSI_CHECK_CONDITION && sense_is(7, 0x2700));
    rule(w, NULL);
}
WORLD_TEST(a_map_may_be_read_only)

/* Nor does he end their commands. */
static void a_reader_resets_nothing_of_others(struct world *w)
{
    uint8_t extra[3];
    struct dev_access *rules = dev_access_new();
    map(rules, scsi_nexus_initiator(w->a), 6, 0);
    map(rules, scsi_nexus_initiator(w->a), 1, 1);
    map(rules, scsi_nexus_initiator(w->b), 0, 0);
    map(rules, scsi_nexus_initiator(w->b), 1, 1);
    rule(w, rules);
    clear_attentions(w->a, 6);
    clear_attentions(w->a, 1);
    clear_attentions(w->b, 0);
    clear_attentions(w->b, 1);
    const uint64_t six = 6ull << 48;
    CHECK(scsi_tmf(w->a, SCSI_TMF_LU_RESET, six, 0, extra) == SCSI_TMF_NOT_AUTHORIZED);
    CHECK(scsi_tmf(w->a, SCSI_TMF_CLEAR_TASK_SET, six, 0, extra) == SCSI_TMF_NOT_AUTHORIZED);
    CHECK(scsi_tmf(w->a, SCSI_TMF_ABORT_TASK_SET, six, 0, extra) == SCSI_TMF_COMPLETE);
    CHECK(scsi_tmf(w->a, SCSI_TMF_COLD_RESET, 0, 0, extra) == SCSI_TMF_NOT_AUTHORIZED);
    CHECK(tur(w->b, 0) == SCSI_GOOD);
    CHECK(scsi_tmf(w->a, SCSI_TMF_WARM_RESET, 0, 0, extra) == SCSI_TMF_COMPLETE);
    CHECK(tur(w->b, 0) == SCSI_GOOD);
    CHECK(tur(w->b, 1) == SCSI_CHECK_CONDITION && attention_is(0x2902));
    CHECK(scsi_tmf(w->b, SCSI_TMF_COLD_RESET, 0, 0, extra) == SCSI_TMF_COMPLETE);
    rule(w, NULL);
}
WORLD_TEST(a_reader_resets_nothing_of_others)

/* Who may only read does not decide over those who may write. */
static void a_reader_does_not_govern(struct world *w)
{
    static const uint8_t key_1[24] = {[15] = 1};
    static const uint8_t swp[16] = {[4] = 0x0a, 0x0a, 0x02, 0x10, 0, 0x08};
    struct dev_access *rules = dev_access_new();
    map(rules, scsi_nexus_initiator(w->a), 6, 0);
    map(rules, scsi_nexus_initiator(w->b), 0, 0);
    rule(w, rules);
    while (tur(w->a, 6) != SCSI_GOOD) {
    }
    while (tur(w->b, 0) != SCSI_GOOD) {
    }
    CHECK(out(w->a, 6, swp, 16, CDB(0x15, 0x10, 0, 0, 16))->status == SCSI_CHECK_CONDITION);
    CHECK(sense_is(7, 0x2700));
    CHECK(none(w->a, 6, CDB(0x16)) == SCSI_CHECK_CONDITION && sense_is(7, 0x2700));
    CHECK(out(w->a, 6, key_1, 24, CDB(0x5f, 0x00, 0, 0, 0, 0, 0, 0, 24))->status == SCSI_GOOD);
    for (uint8_t action = 1; action <= 7; action++) {
        if (action != 6) {
            const uint8_t *cdb = CDB(0x5f, action, 3, 0, 0, 0, 0, 0, 24);
            CHECK(out(w->a, 6, key_1, 24, cdb)->status == SCSI_CHECK_CONDITION);
            CHECK(sense_is(7, 0x2700));
        }
    }
    static const uint8_t block[512];
    struct reply *r = out(w->b, 0, block, 512, CDB(0x2a, 0, 0, 0, 0, 0, 0, 0, 1, 0));
    CHECK(r->status == SCSI_GOOD);
    rule(w, NULL);
}
WORLD_TEST(a_reader_does_not_govern)

/* A reset of the target is one of the units that its sender knows. */
static void a_reset_stays_within_the_map(struct world *w)
{
    uint8_t extra[3];
    struct dev_access *rules = dev_access_new();
    map(rules, scsi_nexus_initiator(w->a), 0, 0);
    map(rules, scsi_nexus_initiator(w->b), 0, 0);
    map(rules, scsi_nexus_initiator(w->b), 1, 1);
    rule(w, rules);
    while (tur(w->b, 0) != SCSI_GOOD || tur(w->b, 1) != SCSI_GOOD) {
    }
    CHECK(scsi_tmf(w->a, SCSI_TMF_WARM_RESET, 0, 0, extra) == SCSI_TMF_COMPLETE);
    CHECK(tur(w->b, 1) == SCSI_GOOD);
    CHECK(tur(w->b, 0) == SCSI_CHECK_CONDITION && attention_is(0x2902));
    CHECK(scsi_tmf(w->a, SCSI_TMF_COLD_RESET, 0, 0, extra) == SCSI_TMF_NOT_AUTHORIZED);
    CHECK(w->drops == 0 && tur(w->b, 0) == SCSI_GOOD);
    CHECK(scsi_tmf(w->b, SCSI_TMF_COLD_RESET, 0, 0, extra) == SCSI_TMF_COMPLETE && w->drops == 2);
    rule(w, NULL);
}
WORLD_TEST(a_reset_stays_within_the_map)

static void all_operation_codes_are_found_one_by_one(struct world *w)
{
    static uint8_t all[4096];
    struct reply *r = in(w->a, 0, 4096, CDB(0xa3, 0x0c, 0x80, 0, 0, 0, 0, 0, 16, 0));
    size_t len = r->len;
    CHECK(r->status == SCSI_GOOD && len == 4 + be32_load(r->data) && (len - 4) % 20 == 0);
    CHECK(len > 40 * 20);
    memcpy(all, r->data, len);
    for (size_t at = 4; at < len; at += 20) {
        bool actions = all[at + 5] & 1;
        CHECK((all[at + 5] & 2) && be16_load(all + at + 8) == 10);
        uint8_t cdb[16] = {0xa3, 0x0c, actions ? 2 : 1, all[at], all[at + 2], all[at + 3], 0, 0,
                           0,    64};
        r = in(w->a, 0, 64, cdb);
        CHECK(r->status == SCSI_GOOD && r->data[1] == 3);
        CHECK(be16_load(r->data + 2) == be16_load(all + at + 6) && r->data[4] == all[at]);
        CHECK(r->len == 4u + be16_load(r->data + 2));
        cdb[2] = actions ? 1 : 2; /* the wrong form */
        CHECK(in(w->a, 0, 64, cdb)->len == 0 && field_is(2, 2));
        cdb[2] = 0x83;
        r = in(w->a, 0, 64, cdb);
        CHECK(r->data[1] == 0x83 && r->len == 4u + be16_load(r->data + 2) + 12);
    }
    r = in(w->a, 0, 64, CDB(0xa3, 0x0c, 1, 0xc0, 0, 0, 0, 0, 0, 64));
    CHECK(r->status == SCSI_GOOD && r->len == 4 && r->data[1] == 1);
    CHECK(in(w->a, 0, 64, CDB(0xa3, 0x0c, 2, 0x9e, 0, 0x1f, 0, 0, 0, 64))->data[1] == 1);
    CHECK(in(w->a, 0, 64, CDB(0xa3, 0x0c, 4, 0, 0, 0, 0, 0, 0, 64))->len == 0 && field_is(2, 2));
}
WORLD_TEST(all_operation_codes_are_found_one_by_one)

static void task_management_functions(struct world *w)
{
    struct reply *r = in(w->a, 0, 64, CDB(0xa3, 0x0d, 0, 0, 0, 0, 0, 0, 0, 64));
    CHECK(r->len == 4 && r->data[0] == 0xde && r->data[1] == 7);
    r = in(w->a, 0, 64, CDB(0xa3, 0x0d, 0x80, 0, 0, 0, 0, 0, 0, 64));
    CHECK(r->len == 16 && r->data[3] == 12);
}
WORLD_TEST(task_management_functions)

static void what_the_operator_calls_it(struct world *w)
{
    struct reply *r = in(w->a, 1, 300, CDB(0xa3, 0x05, 0, 0, 0, 0, 0, 0, 1, 44));
    struct dev_info info;
    dev_info(disk(w, 1), &info);
    char uuid[UUID_TEXT_SIZE];
    uuid_format(&info.uuid, uuid);
    CHECK(r->len == 40 && be32_load(r->data) == 36 && memcmp(r->data + 4, uuid, 36) == 0);
    r = in(w->a, 1, 300, CDB(0xa3, 0x05, 0, 0, 0, 0, 0, 0, 1, 44, 0x02 << 1));
    CHECK(strcmp((char *)r->data + 4, FAKE_IQN " LUN 1") == 0);
    CHECK(r->len == 4 + sizeof FAKE_IQN " LUN 1" && be32_load(r->data) == r->len - 4);
    r = in(w->a, 1, 300, CDB(0xa3, 0x05, 0, 0, 0, 0, 0, 0, 1, 44, 0x7f << 1));
    CHECK(r->len == 12 && be32_load(r->data) == 8 && be32_load(r->data + 4) == 64);
    CHECK(be32_load(r->data + 8) == (0x04000000 | 256));
    CHECK(in(w->a, 1, 300, CDB(0xa3, 0x05, 0, 0, 0, 0, 0, 0, 1, 44, 0x01 << 1))->len == 0 &&
          field_is(10, 7));
}
WORLD_TEST(what_the_operator_calls_it)

static void the_time_of_day(struct world *w)
{
    uint64_t before = time_wall_ns() / NS_PER_MS;
    struct reply *r = in(w->a, 0, 12, CDB(0xa3, 0x0f, 0, 0, 0, 0, 0, 0, 0, 12));
    uint64_t after = time_wall_ns() / NS_PER_MS;
    CHECK(r->len == 12 && be16_load(r->data) == 10 && r->data[2] == 3);
    uint64_t ms = (uint64_t)be16_load(r->data + 4) << 32 | be32_load(r->data + 6);
    CHECK(ms >= before && ms <= after);
    CHECK(none(w->a, 0, CDB(0xa4, 0x0f)) == SCSI_CHECK_CONDITION && field_is(1, 4));
}
WORLD_TEST(the_time_of_day)

static void request_sense_takes_the_attention(struct world *w)
{
    fake_tell(disk(w, 0), DEV_EVENT_RESIZED);
    struct reply *r = in(w->a, 0, 252, CDB(0x03, 1, 0, 0, 252));
    CHECK(r->status == SCSI_GOOD && r->len == 8 && r->data[0] == 0x72 && r->data[1] == 6);
    CHECK(be16_load(r->data + 2) == 0x2a09);
    r = in(w->a, 0, 252, CDB(0x03, 0, 0, 0, 252));
    CHECK(r->len == 18 && r->data[0] == 0x70 && r->data[2] == 0 && tur(w->a, 0) == SCSI_GOOD);
    CHECK(tur(w->b, 0) == SCSI_CHECK_CONDITION && attention_is(0x2a09));
}
WORLD_TEST(request_sense_takes_the_attention)

static void small_commands(struct world *w)
{
    struct reply *r = in(w->a, 0, 64, CDB(0x37, 0, 0x1d, 0, 0, 0, 0, 0, 64));
    CHECK(r->len == 4 && r->data[1] == 0x1d && be16_load(r->data + 2) == 0);
    r = in(w->a, 0, 64, CDB(0xb7, 0x0c, 0, 0, 0, 0, 0, 0, 0, 64));
    CHECK(r->len == 8 && r->data[1] == 0x0c && be32_load(r->data + 4) == 0);
    CHECK(none(w->a, 0, CDB(0x1d, 0x04)) == SCSI_GOOD);
    CHECK(none(w->a, 0, CDB(0x1d, 0x20)) == SCSI_CHECK_CONDITION && field_is(1, 7));
}
WORLD_TEST(small_commands)

static void diagnostics_and_removal(struct world *w)
{
    static const uint8_t pages[] = {0, 0, 0, 1, 0};
    uint8_t list[8] = {0};
    struct reply *r = in(w->a, 0, 64, CDB(0x1c, 1, 0, 0, 64));
    CHECK(r->status == SCSI_GOOD && r->len == 5 && memcmp(r->data, pages, 5) == 0);
    CHECK(in(w->a, 0, 64, CDB(0x1c, 0, 7, 0, 64))->len == 5);
    CHECK(in(w->a, 0, 64, CDB(0x1c, 1, 7, 0, 64))->len == 0 && field_is(2, 7));
    CHECK(in(w->a, 0, 3, CDB(0x1c, 1, 0, 0, 64))->over && reply.residual == 2);
    CHECK(out(w->a, 0, list, 4, CDB(0x1d, 0x10, 0, 0, 4))->status == SCSI_GOOD);
    CHECK(out(w->a, 0, list, 4, CDB(0x1d, 0x00, 0, 0, 4))->status != 0 && field_is(3, 7));
    CHECK(out(w->a, 0, list, 4, CDB(0x1d, 0x14, 0, 0, 4))->status != 0 && field_is(3, 7));
    CHECK(out(w->a, 0, list, 3, CDB(0x1d, 0x10, 0, 0, 3))->status != 0 && sense_is(5, 0x1a00));
    list[3] = 1;
    CHECK(out(w->a, 0, list, 5, CDB(0x1d, 0x10, 0, 0, 5))->status != 0 && sense_is(5, 0x2600));
    list[0] = 0x40;
    CHECK(out(w->a, 0, list, 5, CDB(0x1d, 0x10, 0, 0, 5))->status != 0 && sense_is(5, 0x2600));
    CHECK(none(w->a, 0, CDB(0x1e, 0, 0, 0, 1)) == SCSI_GOOD);
    CHECK(none(w->a, 0, CDB(0x1e)) == SCSI_GOOD);
    CHECK(none(w->a, 0, CDB(0x1e, 0, 0, 0, 2)) == SCSI_CHECK_CONDITION && field_is(4, 1));
}
WORLD_TEST(diagnostics_and_removal)

static void a_reservation_keeps_others_out(struct world *w)
{
    uint8_t block[512] = {0};
    CHECK(none(w->a, 0, CDB(0x16)) == SCSI_GOOD && none(w->a, 0, CDB(0x56)) == SCSI_GOOD);
    CHECK(none(w->b, 0, CDB(0x16)) == SCSI_RESERVATION_CONFLICT);
    CHECK(tur(w->b, 0) == SCSI_RESERVATION_CONFLICT && tur(w->b, 1) == SCSI_GOOD);
    CHECK(in(w->b, 0, 512, CDB(0x28, 0, 0, 0, 0, 0, 0, 0, 1))->status == SCSI_RESERVATION_CONFLICT);
    CHECK(out(w->b, 0, block, 512, CDB(0x2a, 0, 0, 0, 0, 0, 0, 0, 1))->residual == 512);
    CHECK(reply.status == SCSI_RESERVATION_CONFLICT && reply.under);
    CHECK(in(w->b, 0, 96, CDB(0x12, 0, 0, 0, 96))->status == SCSI_GOOD);
    CHECK(in(w->b, 0, 18, CDB(0x03, 0, 0, 0, 18))->status == SCSI_GOOD);
    CHECK(in(w->b, 0, 64, CDB(0xa0, 0, 0, 0, 0, 0, 0, 0, 0, 64))->status == SCSI_GOOD);
    /* Somebody else's RELEASE is GOOD and does nothing. */
    CHECK(none(w->b, 0, CDB(0x17)) == SCSI_GOOD && tur(w->b, 0) == SCSI_RESERVATION_CONFLICT);
    CHECK(none(w->a, 0, CDB(0x17)) == SCSI_GOOD && tur(w->b, 0) == SCSI_GOOD);
    CHECK(none(w->a, 0, CDB(0x16, 0x10)) == SCSI_CHECK_CONDITION && field_is(1, 4));
    CHECK(none(w->a, 0, CDB(0x16, 0x01)) == SCSI_CHECK_CONDITION && field_is(1, 0));
    CHECK(none(w->a, 0, CDB(0x56, 0x02)) == SCSI_CHECK_CONDITION && field_is(1, 1));
}
WORLD_TEST(a_reservation_keeps_others_out)

static void a_reservation_ends_with_its_nexus_and_with_resets(struct world *w)
{
    static const enum scsi_tmf resets[] = {SCSI_TMF_LU_RESET, SCSI_TMF_WARM_RESET,
                                           SCSI_TMF_COLD_RESET};
    uint8_t extra[3];
    for (size_t i = 0; i < ARRAY_LEN(resets); i++) {
        CHECK(none(w->a, 0, CDB(0x16)) == SCSI_GOOD);
        CHECK(scsi_tmf(w->b, resets[i], 0, 0, extra) == SCSI_TMF_COMPLETE);
        CHECK(tur(w->b, 0) == SCSI_CHECK_CONDITION && attention_is(i == 0 ? 0x2903 : 0x2902));
        CHECK(tur(w->b, 0) == SCSI_GOOD);
        CHECK(tur(w->a, 0) == SCSI_CHECK_CONDITION && tur(w->a, 0) == SCSI_GOOD);
    }
    CHECK(w->drops == 2); /* the cold one drops every nexus */
    struct scsi_nexus *c = nexus_new(w, "iqn.c");
    clear_attentions(c, 0);
    CHECK(none(c, 0, CDB(0x16)) == SCSI_GOOD && tur(w->a, 0) == SCSI_RESERVATION_CONFLICT);
    scsi_nexus_destroy(c);
    CHECK(tur(w->a, 0) == SCSI_GOOD && none(w->a, 0, CDB(0x16)) == SCSI_GOOD);
    CHECK(scsi_tmf(w->a, SCSI_TMF_NEXUS_RESET, 0, 0, extra) == SCSI_TMF_COMPLETE);
    CHECK(tur(w->b, 0) == SCSI_GOOD);
    CHECK(tur(w->a, 0) == SCSI_CHECK_CONDITION && attention_is(0x2907));
}
WORLD_TEST(a_reservation_ends_with_its_nexus_and_with_resets)

static bool is_empty(struct scsi_nexus *n, const uint8_t *cdb)
{
    return none(n, 0, cdb) == SCSI_CHECK_CONDITION && sense_is(SCSI_KEY_NOT_READY, 0x3a00);
}

static void a_removable_medium_goes_out_and_in(struct world *w)
{
    struct dev *d = disk(w, 0);
    const uint8_t *eject = CDB(0x1b, 0, 0, 0, 2), *load = CDB(0x1b, 0, 0, 0, 3);
    CHECK(in(w->a, 0, 36, CDB(0x12, 0, 0, 0, 36))->data[1] == 0x80);
    CHECK(in(w->a, 1, 36, CDB(0x12, 0, 0, 0, 36))->data[1] == 0);
    CHECK(none(w->a, 0, eject) == SCSI_GOOD && d->flushes == 1 && d->info.ejected);
    CHECK(none(w->a, 0, eject) == SCSI_GOOD && d->flushes == 1);
    CHECK(is_empty(w->a, CDB(0x00)) && is_empty(w->b, CDB(0x00)) && is_empty(w->a, CDB(0x35)));
    CHECK(is_empty(w->a, CDB(0x25)) && is_empty(w->a, CDB(0x9e, 0x10)));
    CHECK(is_empty(w->a, CDB(0x28, 0, 0, 0, 0, 0, 0, 0, 1)) && is_empty(w->a, CDB(0x04)));
    CHECK(is_empty(w->a, CDB(0x1b, 0, 0, 0, 1)));
    CHECK(in(w->a, 0, 18, CDB(0x03, 0, 0, 0, 18))->data[2] == SCSI_KEY_NOT_READY);
    CHECK(in(w->a, 0, 255, CDB(0x1a, 8, 0x0a, 0, 255))->status == SCSI_GOOD);
    /* Who puts it in knows; the others are told. */
    CHECK(none(w->b, 0, load) == SCSI_GOOD && tur(w->b, 0) == SCSI_GOOD);
    CHECK(tur(w->a, 0) == SCSI_CHECK_CONDITION && attention_is(0x2800) && tur(w->a, 0) == 0);
    CHECK(none(w->b, 0, load) == SCSI_GOOD && tur(w->a, 0) == SCSI_GOOD);
}

static void removable(struct world *w)
{
    /* Units are made anew when the list of LUNs changes. */
    scsi_nexus_destroy(w->a);
    scsi_nexus_destroy(w->b);
    struct dev *d = disk(w, 0);
    d->info.removable = true;
    d->info.lun = 5;
    w->registry->generation++;
    w->a = nexus_new(w, "iqn.a");
    clear_attentions(w->a, 1);
    d->info.lun = 0;
    w->registry->generation++;
    w->b = nexus_new(w, "iqn.b");
    clear_attentions(w->b, 0);
    clear_attentions(w->a, 1);
    clear_attentions(w->a, 0);
}

static void removal(struct world *w)
{
    removable(w);
    a_removable_medium_goes_out_and_in(w);
}
WORLD_TEST(removal)

static bool is_prevented(struct scsi_nexus *n, const uint8_t *cdb)
{
    return none(n, 0, cdb) == SCSI_CHECK_CONDITION && sense_is(SCSI_KEY_ILLEGAL_REQUEST, 0x5302);
}

static void who_prevents_removal_keeps_the_medium_in(struct world *w)
{
    const uint8_t *eject = CDB(0x1b, 0, 0, 0, 2), *load = CDB(0x1b, 0, 0, 0, 3);
    const uint8_t *prevent = CDB(0x1e, 0, 0, 0, 1), *allow = CDB(0x1e);
    uint8_t extra[3];
    removable(w);
    CHECK(none(w->a, 0, prevent) == SCSI_GOOD && none(w->a, 0, prevent) == SCSI_GOOD);
    CHECK(none(w->b, 0, prevent) == SCSI_GOOD && is_prevented(w->a, eject));
    CHECK(none(w->a, 0, allow) == SCSI_GOOD && is_prevented(w->a, eject));
    CHECK(none(w->b, 0, allow) == SCSI_GOOD && none(w->a, 0, eject) == SCSI_GOOD);
    CHECK(none(w->b, 0, prevent) == SCSI_GOOD && is_prevented(w->a, load));
    /* It ends with its nexus, and with a reset. */
    scsi_nexus_destroy(w->b);
    CHECK(none(w->a, 0, load) == SCSI_GOOD && none(w->a, 0, prevent) == SCSI_GOOD);
    CHECK(scsi_tmf(w->a, SCSI_TMF_LU_RESET, 0, 0, extra) == SCSI_TMF_COMPLETE);
    clear_attentions(w->a, 0);
    CHECK(none(w->a, 0, eject) == SCSI_GOOD && none(w->a, 0, load) == SCSI_GOOD);
    w->b = nexus_new(w, "iqn.b");
}
WORLD_TEST(who_prevents_removal_keeps_the_medium_in)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_removal),
        cmocka_unit_test(test_who_prevents_removal_keeps_the_medium_in),
        cmocka_unit_test(test_report_luns_by_selection),
        cmocka_unit_test(test_maps_hide_and_renumber),
        cmocka_unit_test(test_a_map_may_be_read_only),
        cmocka_unit_test(test_a_reader_resets_nothing_of_others),
        cmocka_unit_test(test_a_reader_does_not_govern),
        cmocka_unit_test(test_a_reset_stays_within_the_map),
        cmocka_unit_test(test_all_operation_codes_are_found_one_by_one),
        cmocka_unit_test(test_task_management_functions),
        cmocka_unit_test(test_what_the_operator_calls_it),
        cmocka_unit_test(test_the_time_of_day),
        cmocka_unit_test(test_request_sense_takes_the_attention),
        cmocka_unit_test(test_small_commands),
        cmocka_unit_test(test_diagnostics_and_removal),
        cmocka_unit_test(test_a_reservation_keeps_others_out),
        cmocka_unit_test(test_a_reservation_ends_with_its_nexus_and_with_resets),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
