/* SPDX-License-Identifier: Apache-2.0 */
#include "scsi_test.h"

static const uint8_t *statistics(struct world *w, uint8_t first)
{
    uint8_t cdb[16] = {0x4d, 0, 0x59, 0, 0, 0, first, 0, 255};
    CHECK(in(w->b, 0, 255, cdb)->status == SCSI_GOOD);
    CHECK(reply.data[0] == 0x19 && be16_load(reply.data + 2) + 4u == reply.len);
    return reply.data + 4;
}

static void the_list_of_pages(struct world *w)
{
    struct reply *r = in(w->a, 0, 64, CDB(0x4d, 0, 0x40, 0, 0, 0, 0, 0, 64));
    static const uint8_t pages[] = {0, 0, 0, 3, 0x00, 0x0c, 0x19};
    CHECK(r->status == SCSI_GOOD && r->len == 7 && memcmp(r->data, pages, 7) == 0);
    static const uint8_t subpages[] = {0x40, 0xff, 0, 8, 0, 0, 0, 0xff, 0x0c, 0, 0x19, 0};
    r = in(w->a, 0, 64, CDB(0x4d, 0, 0x40, 0xff, 0, 0, 0, 0, 64));
    CHECK(r->len == 12 && memcmp(r->data, subpages, 12) == 0);
    CHECK(in(w->a, 0, 64, CDB(0x4d, 0, 0x4d, 0, 0, 0, 0, 0, 64))->len == 0 && field_is(2, 5));
    CHECK(in(w->a, 0, 64, CDB(0x4d, 1, 0x40, 0, 0, 0, 0, 0, 64))->len == 0 && field_is(1, 0));
    CHECK(in(w->a, 0, 64, CDB(0x4d, 0, 0x40, 1, 0, 0, 0, 0, 64))->len == 0 && field_is(3, 7));
    CHECK(in(w->a, 0, 64, CDB(0x4d, 0, 0x59, 0xff, 0, 0, 0, 0, 64))->len == 0 && field_is(3, 7));
    CHECK(in(w->a, 0, 64, CDB(0x4d, 0, 0x40, 0, 0, 0, 1, 0, 64))->len == 0 && field_is(5, 7));
    CHECK(in(w->a, 0, 64, CDB(0x4d, 0, 0x59, 0, 0, 0, 4, 0, 64))->len == 0 && field_is(5, 7));
    r = in(w->a, 0, 64, CDB(0x4d, 0, 0x59, 0, 0, 0, 0, 0, 10));
    CHECK(r->len == 10 && be16_load(r->data + 2) == 92);
}
WORLD_TEST(the_list_of_pages)

static void commands_are_counted(struct world *w)
{
    static const uint8_t data[2048];
    struct scsi_nexus *c = nexus_new(w, "iqn.c");
    clear_attentions(c, 0);
    (void)in(w->a, 0, 1024, CDB(0x28, 0, 0, 0, 0, 0, 0, 0, 2));
    (void)in(w->b, 0, 512, CDB(0x88, 0, 0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 1));
    (void)in(w->b, 1, 512, CDB(0x28, 0, 0, 0, 0, 0, 0, 0, 1)); /* another unit's */
    (void)out(c, 0, data, 2048, CDB(0x2a, 0, 0, 0, 0, 0, 0, 0, 4));
    (void)out(w->a, 0, data, 512, CDB(0xae, 0, 0, 0, 0, 0, 0, 0, 0, 1));
    (void)out(w->a, 0, data, 24, CDB(0x42, 0, 0, 0, 0, 0, 0, 0, 24));
    scsi_nexus_destroy(c); /* what it did stays counted */
    const uint8_t *p = statistics(w, 0);
    CHECK(reply.len == 4 + 68 + 12 + 12);
    CHECK(be16_load(p) == 1 && p[3] == 64);
    CHECK(be64_load(p + 4) == 2 && be64_load(p + 12) == 3);
    CHECK(be64_load(p + 20) == 5 && be64_load(p + 28) == 3);
    CHECK(be64_load(p + 52) == 0 && be64_load(p + 60) == 0);
    CHECK(be16_load(p + 68) == 2 && p[71] == 8);
    CHECK(be16_load(p + 80) == 3 && p[83] == 8);
    CHECK(be32_load(p + 84) == 6 && be32_load(p + 88) == 1);
    CHECK(be16_load(statistics(w, 2)) == 2 && reply.len == 4 + 24);
    CHECK(be16_load(statistics(w, 3)) == 3 && reply.len == 4 + 12);
}
WORLD_TEST(commands_are_counted)

static void log_select_begins_anew(struct world *w)
{
    (void)in(w->a, 0, 1024, CDB(0x28, 0, 0, 0, 0, 0, 0, 0, 2));
    CHECK(none(w->a, 0, CDB(0x4c, 0, 0x40)) == SCSI_GOOD); /* asks for nothing */
    CHECK(none(w->a, 0, CDB(0x4c, 2, 0x4c)) == SCSI_GOOD); /* nothing there to begin anew */
    CHECK(be64_load(statistics(w, 0) + 4) == 1);
    CHECK(none(w->a, 0, CDB(0x4c, 2, 0x40)) == SCSI_GOOD);
    CHECK(tur(w->a, 0) == SCSI_GOOD);
    CHECK(tur(w->b, 0) == SCSI_CHECK_CONDITION && attention_is(0x2a02));
    const uint8_t *p = statistics(w, 0);
    for (size_t at = 4; at < 68; at += 8) {
        CHECK(be64_load(p + at) == 0);
    }
    (void)in(w->b, 0, 512, CDB(0x28, 0, 0, 0, 0, 0, 0, 0, 1));
    CHECK(be64_load(statistics(w, 0) + 4) == 1);
    CHECK(none(w->b, 0, CDB(0x4c, 0, 0xd9)) == SCSI_GOOD); /* PC = 11b */
    CHECK(be64_load(statistics(w, 0) + 4) == 0);
    static const uint8_t list[8] = {0x19, 0, 0, 4};
    CHECK(out(w->b, 0, list, 8, CDB(0x4c, 0, 0x40, 0, 0, 0, 0, 0, 8))->status && field_is(7, 7));
    CHECK(none(w->b, 0, CDB(0x4c, 3, 0x40)) != 0 && field_is(1, 0));
    CHECK(none(w->b, 0, CDB(0x4c, 2, 0x4d)) != 0 && field_is(2, 5));
    CHECK(none(w->b, 0, CDB(0x4c, 2, 0x59, 1)) != 0 && field_is(3, 7));
}
WORLD_TEST(log_select_begins_anew)

static void slow_read(void *arg)
{
    struct world *w = arg;
    (void)in(w->a, 0, 512, CDB(0x28, 0x08, 0, 0, 0, 0, 0, 0, 1));
}

/* A command that takes its time makes the unit busy for so long. */
static void time_is_counted(struct world *w)
{
    struct rt_event gate;
    struct rt_group *g;
    const uint8_t *p = statistics(w, 0);
    uint64_t read_us = be64_load(p + 36);
    uint64_t idle_us = be64_load(p + 72);
    CHECK(rt_group_create(&g) == 0);
    rt_event_init(&gate);
    fake_gate = &gate;
    CHECK(rt_group_spawn(g, "slow read", slow_read, w) == 0);
    CHECK(rt_sleep_ms(30) == 0);
    fake_gate = NULL;
    rt_event_set(&gate);
    rt_group_wait(g);
    rt_group_destroy(g);
    rt_event_destroy(&gate);
    p = statistics(w, 0);
    CHECK(be64_load(p + 36) - read_us >= 29000 && be64_load(p + 44) == 0);
    CHECK(rt_sleep_ms(20) == 0);
    p = statistics(w, 0);
    CHECK(be64_load(p + 72) - idle_us >= 19000);
}
WORLD_TEST(time_is_counted)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_list_of_pages),
        cmocka_unit_test(test_commands_are_counted),
        cmocka_unit_test(test_log_select_begins_anew),
        cmocka_unit_test(test_time_is_counted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
