/* SPDX-License-Identifier: Apache-2.0 */
#include "scsi_test.h"

#define MIB (1ull << 20)

/* Header and mode page 1Ch/02h with these thresholds; 0 is none. */
static void put_list(uint8_t list[36], uint32_t available, uint32_t used)
{
    memset(list, 0, 36);
    memcpy(list + 4, (uint8_t[4]){0x5c, 0x02, 0, 28}, 4);
    list[20] = available ? 0x80 : 0;
    list[21] = 1;
    be32_store(list + 24, available);
    list[28] = (uint8_t)((used ? 0x80 : 0) | 1);
    list[29] = 2;
    be32_store(list + 32, used);
}

static enum scsi_status choose(struct world *w, uint32_t available, uint32_t used)
{
    uint8_t list[36];
    put_list(list, available, used);
    enum scsi_status status = out(w->a, 0, list, 36, CDB(0x15, 0x10, 0, 0, 36))->status;
    if (status == SCSI_GOOD && tur(w->b, 0) != SCSI_GOOD) {
        CHECK(attention_is(0x2a01));
    }
    return status;
}

static bool reached_is(unsigned at)
{
    return attention_is(0x3807) && (reply.sense[0] & 0x80) && be32_load(reply.sense + 3) == at;
}

static void counts_of_the_log_page(struct world *w)
{
    fake_usage = (struct dev_usage){.used_bytes = 5 * MIB + 1};
    struct reply *r = in(w->a, 0, 255, CDB(0x4d, 0, 0x4c, 0, 0, 0, 0, 0, 255));
    CHECK(r->status == SCSI_GOOD && r->len == 4 + 12 && be16_load(r->data + 2) == 12);
    CHECK(be16_load(r->data + 4) == 2 && r->data[6] == 3 && r->data[7] == 8);
    CHECK(be32_load(r->data + 8) == 6 && r->data[12] == 2);
    fake_usage.max_bytes = 100 * MIB;
    r = in(w->a, 0, 255, CDB(0x4d, 0, 0x4c, 0, 0, 0, 0, 0, 255));
    CHECK(r->len == 4 + 24 && be16_load(r->data + 4) == 1 && be32_load(r->data + 8) == 94);
    CHECK(be16_load(r->data + 16) == 2 && be32_load(r->data + 20) == 6);
    CHECK(in(w->a, 0, 255, CDB(0x4d, 0, 0x4c, 0, 0, 0, 2, 0, 255))->len == 4 + 12);
    CHECK(in(w->a, 0, 255, CDB(0x4d, 0, 0x4c, 0, 0, 0, 3, 0, 255))->len == 0 && field_is(5, 7));
    CHECK(in(w->a, 0, 255, CDB(0x12, 1, 0xb2, 0, 255))->data[4] == 11);
    disk(w, 0)->info.size_bytes = 1ull << 60;
    CHECK(in(w->a, 0, 255, CDB(0x12, 1, 0xb2, 0, 255))->data[4] == 20);
    r = in(w->a, 0, 255, CDB(0x4d, 0, 0x4c, 0, 0, 0, 2, 0, 255));
    CHECK(be32_load(r->data + 8) == 1); /* of 512 MiB each */
    disk(w, 0)->info.size_bytes = LUN_SIZE;
    fake_usage = (struct dev_usage){0};
}
WORLD_TEST(counts_of_the_log_page)

static void a_threshold_is_told_once(struct world *w)
{
    fake_usage = (struct dev_usage){.used_bytes = 10 * MIB, .max_bytes = 100 * MIB};
    CHECK(choose(w, 20, 50) == SCSI_GOOD && tur(w->a, 0) == SCSI_GOOD);
    fake_usage.used_bytes = 50 * MIB;
    CHECK(tur(w->a, 0) == SCSI_CHECK_CONDITION && reached_is(24) && tur(w->a, 0) == SCSI_GOOD);
    CHECK(tur(w->b, 0) == SCSI_CHECK_CONDITION && reached_is(24) && tur(w->b, 0) == SCSI_GOOD);
    fake_usage.used_bytes = 90 * MIB;
    CHECK(tur(w->a, 0) == SCSI_CHECK_CONDITION && reached_is(16) && tur(w->a, 0) == SCSI_GOOD);
    /* Left, and reached again. */
    fake_usage.used_bytes = 60 * MIB;
    CHECK(tur(w->a, 0) == SCSI_GOOD);
    fake_usage.used_bytes = 80 * MIB;
    CHECK(tur(w->a, 0) == SCSI_CHECK_CONDITION && reached_is(16));
    CHECK(choose(w, 0, 0) == SCSI_GOOD);
    fake_usage.used_bytes = 99 * MIB;
    while (tur(w->a, 0) != SCSI_GOOD) {
        CHECK(!attention_is(0x3807));
    }
    fake_usage = (struct dev_usage){0};
}
WORLD_TEST(a_threshold_is_told_once)

static void without_a_limit_nothing_runs_out(struct world *w)
{
    fake_usage = (struct dev_usage){.used_bytes = 10 * MIB};
    CHECK(choose(w, UINT32_MAX, 0) == SCSI_GOOD && tur(w->a, 0) == SCSI_GOOD);
    fake_usage.used_bytes = 1ull << 50;
    CHECK(tur(w->a, 0) == SCSI_GOOD);
    fake_usage = (struct dev_usage){0};
}
WORLD_TEST(without_a_limit_nothing_runs_out)

static void the_mode_page(struct world *w)
{
    static const uint8_t enabled[] = {0x80, 1, 0, 0, 0, 0, 0, 20, 0x01, 2, 0, 0, 0, 0, 0, 0};
    uint8_t extra[3];
    uint8_t list[36];
    const uint8_t *cdb = CDB(0x1a, 8, 0x1c, 2, 255);
    CHECK(choose(w, 20, 0) == SCSI_GOOD);
    struct reply *r = in(w->a, 0, 255, cdb);
    CHECK(r->status == SCSI_GOOD && r->len == 36 && memcmp(r->data + 20, enabled, 16) == 0);
    put_list(list, 20, 0);
    list[21] = 2; /* another resource */
    CHECK(out(w->a, 0, list, 36, CDB(0x15, 0x10, 0, 0, 36))->status != SCSI_GOOD);
    CHECK(sense_is(5, 0x2600) && be16_load(reply.sense + 16) == 21);
    put_list(list, 20, 0);
    list[28] = 0; /* the use of something that decreases */
    CHECK(out(w->a, 0, list, 36, CDB(0x15, 0x10, 0, 0, 36))->status != SCSI_GOOD);
    CHECK(sense_is(5, 0x2600) && be16_load(reply.sense + 16) == 28);
    CHECK(scsi_tmf(w->a, SCSI_TMF_LU_RESET, 0, 0, extra) == SCSI_TMF_COMPLETE);
    clear_attentions(w->a, 0);
    CHECK(in(w->a, 0, 255, cdb)->data[20] == 0 && be32_load(reply.data + 24) == 0);
}
WORLD_TEST(the_mode_page)

static void saved_thresholds_outlive_a_reset(struct world *w)
{
    uint8_t extra[3];
    uint8_t list[36];
    const uint8_t *now = CDB(0x1a, 8, 0x1c, 2, 255), *saved = CDB(0x1a, 8, 0xdc, 2, 255);
    put_list(list, 20, 50);
    CHECK(out(w->a, 0, list, 36, CDB(0x15, 0x11, 0, 0, 36))->status == SCSI_GOOD);
    CHECK(disk(w, 0)->info.saved_thresholds[0] == (1ull << 32 | 20));
    CHECK(tur(w->a, 0) == SCSI_GOOD && tur(w->b, 0) != SCSI_GOOD && attention_is(0x2a01));
    CHECK(choose(w, 30, 0) == SCSI_GOOD); /* without SP */
    CHECK(in(w->a, 0, 255, now)->data[27] == 30 && in(w->a, 0, 255, saved)->data[27] == 20);
    CHECK(reply.data[4] == 0xdc && reply.data[28] == 0x81 && reply.data[35] == 50);
    CHECK(scsi_tmf(w->a, SCSI_TMF_LU_RESET, 0, 0, extra) == SCSI_TMF_COMPLETE);
    clear_attentions(w->a, 0);
    CHECK(in(w->a, 0, 255, now)->data[27] == 20 && reply.data[35] == 50);
    CHECK(in(w->a, 0, 255, CDB(0x1a, 8, 0x9c, 2, 255))->data[27] == 0); /* the default */
}
WORLD_TEST(saved_thresholds_outlive_a_reset)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_counts_of_the_log_page),
        cmocka_unit_test(test_a_threshold_is_told_once),
        cmocka_unit_test(test_without_a_limit_nothing_runs_out),
        cmocka_unit_test(test_the_mode_page),
        cmocka_unit_test(test_saved_thresholds_outlive_a_reset),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
