/* SPDX-License-Identifier: Apache-2.0 */
/* Target port groups: what is told of them, what is carried out in which state, and who hears of a
 * change. Portal groups 1 (nexuses a, b) and 7 (nexus c). */
#include "scsi_test.h"

#define ACCESS_CHANGED 0x2a06

static struct scsi_nexus *c;

static void make_groups(struct world *w)
{
    struct scsi_nexus_options opt = {
        .initiator_name = "iqn.a", .tpgt = 7, .relative_port = 7, .dropped = count_drop, .arg = w};
    auto_free struct dev_group *group = calloc(1, sizeof *group);
    group->tag = 7;
    memcpy(group->name, "seven", sizeof "seven");
    fake_ways_reset();
    fake_ways.groups = dev_groups_copy(NULL);
    CHECK(dev_groups_put(fake_ways.groups, group) == 0);
    scsi_paths_changed(w->host, FAKE_IQN);
    CHECK(scsi_nexus_create(w->target, &opt, &c) == 0);
    for (uint32_t lun = 0; lun < 2; lun++) {
        clear_attentions(w->a, lun);
        clear_attentions(w->b, lun);
        clear_attentions(c, lun);
    }
}

static void drop_groups(void)
{
    scsi_nexus_destroy(c);
    fake_ways_reset();
}

static enum scsi_status set_groups(struct scsi_nexus *n, uint32_t lun, const uint8_t *list,
                                   size_t len)
{
    return out(n, lun, list, len, CDB(0xa4, 0x0a, 0, 0, 0, 0, 0, 0, 0, (uint8_t)len))->status;
}

/* Through nexus n, of the first LUN's group 7. */
static enum scsi_status set_seven(struct scsi_nexus *n, uint8_t state)
{
    const uint8_t list[] = {0, 0, 0, 0, state, 0, 0, 7};
    return set_groups(n, 0, list, sizeof list);
}

static int edit_state(struct dev_paths *draft, void *arg)
{
    dev_paths_set_state(draft, arg);
    return 0;
}

/* By the operator, of all LUNs. */
static void operate(struct world *w, uint16_t tag, enum dev_path_state state)
{
    struct dev_path path = {
        .tag = tag, .state = (uint8_t)state, .cause = DEV_PATH_BY_OPERATOR, .preferred = tag == 7};
    CHECK(dev_paths_change(NULL, FAKE_IQN, edit_state, &path) == 0);
    scsi_paths_changed(w->host, NULL);
}

static void groups_are_told(struct world *w)
{
    static const uint8_t both[] = {0, 0, 0,    24,   0x00, 0xcf, 0, 1, 0, 0, 0, 1, 0, 0,
                                   0, 1, 0x00, 0xcf, 0,    7,    0, 0, 0, 1, 0, 0, 0, 7};
    static const uint8_t head[] = {0, 0, 0, 28, 0x10, 0, 0, 0};
    make_groups(w);
    struct reply *r = in(w->a, 0, 255, CDB(0xa3, 0x0a, 0, 0, 0, 0, 0, 0, 0, 255));
    CHECK(r->status == SCSI_GOOD && r->len == sizeof both && r->under);
    CHECK(memcmp(r->data, both, sizeof both) == 0);
    r = in(c, 0, 255, CDB(0xa3, 0x2a, 0, 0, 0, 0, 0, 0, 0, 255));
    CHECK(r->len == sizeof both + 4 && memcmp(r->data, head, sizeof head) == 0);
    CHECK(memcmp(r->data + 8, both + 4, sizeof both - 4) == 0);
    CHECK(in(w->a, 0, 255, CDB(0xa3, 0x4a, 0, 0, 0, 0, 0, 0, 0, 255))->len == 0 && field_is(1, 7));
    operate(w, 7, DEV_PATH_STANDBY);
    r = in(w->b, 1, 255, CDB(0xa3, 0x0a, 0, 0, 0, 0, 0, 0, 0, 255));
    CHECK(attention_is(ACCESS_CHANGED));
    r = in(w->b, 1, 255, CDB(0xa3, 0x0a, 0, 0, 0, 0, 0, 0, 0, 255));
    CHECK(r->data[16] == 0x82 && r->data[21] == 2); /* preferred; by the operator */
    /* Each port has its designators, and all are listed. */
    r = in(c, 0, 1024, CDB(0x12, 1, 0x83, 4, 0));
    CHECK(memmem(r->data, r->len, FAKE_IQN ",t,0x0007", sizeof FAKE_IQN ",t,0x0007" - 1));
    CHECK(!memmem(r->data, r->len, ",t,0x0001", 9));
    CHECK(memmem(r->data, r->len, "\x51\x95\0\4\0\0\0\7", 8));
    CHECK(memmem(r->data, r->len, "\x51\x94\0\4\0\0\0\7", 8));
    r = in(w->a, 0, 1024, CDB(0x12, 1, 0x88, 4, 0));
    CHECK(r->len == 4u + be16_load(r->data + 2) && be16_load(r->data + 6) == 1);
    const uint8_t *second = r->data + 4 + 12 + be16_load(r->data + 14);
    CHECK(be16_load(second + 2) == 7 &&
          strcmp((const char *)second + 16, FAKE_IQN ",t,0x0007") == 0);
    CHECK(in(w->a, 0, 96, CDB(0x12, 0, 0, 0, 96))->data[6] == 0x10); /* MULTIP */
    drop_groups();
}
WORLD_TEST(groups_are_told)

/* What is carried out through a port in that state: of commands without data, and some with. */
static void check_state(struct world *w, enum dev_path_state state, uint16_t asc, unsigned lets)
{
    static const uint8_t same[] = {0, 0, 0, 0, 0, 0, 0, 1};
    operate(w, 7, state);
    CHECK(tur(c, 0) == SCSI_CHECK_CONDITION && attention_is(ACCESS_CHANGED));
    CHECK(tur(c, 0) == SCSI_CHECK_CONDITION && sense_is(SCSI_KEY_NOT_READY, asc));
    CHECK(in(c, 0, 512, CDB(0x28, 0, 0, 0, 0, 0, 0, 0, 1))->len == 0);
    CHECK(sense_is(SCSI_KEY_NOT_READY, asc));
    CHECK(none(c, 0, CDB(0x35)) == SCSI_CHECK_CONDITION && sense_is(SCSI_KEY_NOT_READY, asc));
    /* In all states. */
    CHECK(in(c, 0, 96, CDB(0x12, 0, 0, 0, 96))->len == 96);
    CHECK(in(c, 0, 64, CDB(0xa0, 0, 0, 0, 0, 0, 0, 0, 0, 64))->len > 8);
    CHECK(in(c, 0, 255, CDB(0xa3, 0x0a, 0, 0, 0, 0, 0, 0, 0, 255))->data[16] == (0x80 | state));
    struct reply *r = in(c, 0, 18, CDB(0x03, 0, 0, 0, 18));
    CHECK(r->status == SCSI_GOOD && r->data[2] == SCSI_KEY_NOT_READY &&
          be16_load(r->data + 12) == asc);
    /* In unavailable too, and in standby only. */
    CHECK((set_groups(c, 0, same, sizeof same) == SCSI_GOOD) == (lets >= 1));
    CHECK((in(c, 0, 8, CDB(0x25))->len == 8) == (lets >= 2));
    CHECK((in(c, 0, 32, CDB(0x9e, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 32))->len == 32) ==
          (lets >= 2));
    CHECK((in(c, 0, 64, CDB(0x1a, 0, 0x0a, 0, 64))->status == SCSI_GOOD) == (lets >= 2));
    CHECK((in(c, 0, 8, CDB(0x5e, 0, 0, 0, 0, 0, 0, 0, 8))->status == SCSI_GOOD) == (lets >= 2));
    /* The others go on through theirs, once they have heard of it. */
    CHECK(tur(w->a, 0) == SCSI_CHECK_CONDITION && attention_is(ACCESS_CHANGED));
    CHECK(tur(w->a, 0) == SCSI_GOOD);
    clear_attentions(w->b, 0);
}

static void each_state_lets_its_commands_in(struct world *w)
{
    make_groups(w);
    check_state(w, DEV_PATH_STANDBY, 0x040b, 2);
    check_state(w, DEV_PATH_UNAVAILABLE, 0x040c, 1);
    check_state(w, DEV_PATH_OFFLINE, 0x0412, 0);
    check_state(w, DEV_PATH_TRANSITIONING, 0x040a, 0);
    operate(w, 7, DEV_PATH_NON_OPTIMIZED);
    CHECK(tur(c, 0) == SCSI_CHECK_CONDITION && attention_is(ACCESS_CHANGED));
    CHECK(tur(c, 0) == SCSI_GOOD);
    CHECK(in(c, 0, 512, CDB(0x28, 0, 0, 0, 0, 0, 0, 0, 1))->len == 512);
    /* An unknown command is one in every state. */
    operate(w, 7, DEV_PATH_STANDBY);
    (void)tur(c, 0);
    CHECK(none(c, 0, CDB(0xff)) == SCSI_CHECK_CONDITION && sense_is(5, 0x2000));
    drop_groups();
}
WORLD_TEST(each_state_lets_its_commands_in)

static void a_command_changes_one_unit(struct world *w)
{
    make_groups(w);
    CHECK(set_seven(w->a, DEV_PATH_STANDBY) == SCSI_GOOD);
    /* The sender knows; all others of the unit hear of it. */
    CHECK(tur(w->a, 0) == SCSI_GOOD);
    CHECK(tur(w->b, 0) == SCSI_CHECK_CONDITION && attention_is(ACCESS_CHANGED));
    CHECK(tur(c, 0) == SCSI_CHECK_CONDITION && attention_is(ACCESS_CHANGED));
    CHECK(tur(c, 0) == SCSI_CHECK_CONDITION && sense_is(SCSI_KEY_NOT_READY, 0x040b));
    CHECK(tur(w->b, 1) == SCSI_GOOD && tur(c, 1) == SCSI_GOOD);
    struct reply *r = in(w->a, 0, 255, CDB(0xa3, 0x0a, 0, 0, 0, 0, 0, 0, 0, 255));
    CHECK(r->data[16] == 2 && r->data[21] == 1);
    /* The same again is no news. */
    uint64_t generation = fake_ways.generation;
    CHECK(set_seven(c, DEV_PATH_STANDBY) == SCSI_GOOD && generation == fake_ways.generation);
    CHECK(tur(w->b, 0) == SCSI_GOOD && tur(w->a, 0) == SCSI_GOOD);
    /* From the port itself. */
    CHECK(set_seven(c, DEV_PATH_OPTIMIZED) == SCSI_GOOD && tur(c, 0) == SCSI_GOOD);
    CHECK(tur(w->b, 0) == SCSI_CHECK_CONDITION && attention_is(ACCESS_CHANGED));
    /* Who comes finds what holds. */
    CHECK(tur(w->a, 0) == SCSI_CHECK_CONDITION && attention_is(ACCESS_CHANGED));
    CHECK(set_seven(w->a, DEV_PATH_OFFLINE) == SCSI_GOOD);
    scsi_nexus_destroy(c);
    struct scsi_nexus_options opt = {.initiator_name = "iqn.c", .tpgt = 7, .relative_port = 7};
    CHECK(scsi_nexus_create(w->target, &opt, &c) == 0);
    CHECK(tur(c, 0) == SCSI_CHECK_CONDITION && attention_is(0x2900));
    CHECK(tur(c, 0) == SCSI_CHECK_CONDITION && sense_is(SCSI_KEY_NOT_READY, 0x0412));
    drop_groups();
}
WORLD_TEST(a_command_changes_one_unit)

static void one_is_set(void)
{
    struct dev_path path = {.tag = 1, .state = DEV_PATH_NON_OPTIMIZED};
    CHECK(dev_paths_change(NULL, FAKE_IQN, edit_state, &path) == 0);
}

static void seven_is_set(void)
{
    struct dev_path path = {.tag = 7, .state = DEV_PATH_OFFLINE};
    CHECK(dev_paths_change(NULL, FAKE_IQN, edit_state, &path) == 0);
}

/* Of two changes at the same time, each is news to whoever did not make it. */
static void who_sets_hears_of_others(struct world *w)
{
    make_groups(w);
    fake_ways.meanwhile = one_is_set;
    CHECK(set_seven(w->a, DEV_PATH_STANDBY) == SCSI_GOOD);
    CHECK(tur(w->a, 0) == SCSI_CHECK_CONDITION && attention_is(ACCESS_CHANGED));
    CHECK(tur(w->b, 0) == SCSI_CHECK_CONDITION && attention_is(ACCESS_CHANGED));
    CHECK(tur(w->a, 0) == SCSI_GOOD && tur(w->b, 0) == SCSI_GOOD);
    /* Of the same group. */
    CHECK(set_seven(w->a, DEV_PATH_OPTIMIZED) == SCSI_GOOD && tur(w->a, 0) == SCSI_GOOD);
    fake_ways.meanwhile = seven_is_set;
    CHECK(tur(w->b, 0) == SCSI_CHECK_CONDITION && attention_is(ACCESS_CHANGED));
    CHECK(set_seven(w->a, DEV_PATH_STANDBY) == SCSI_GOOD);
    CHECK(tur(w->a, 0) == SCSI_CHECK_CONDITION && attention_is(ACCESS_CHANGED));
    /* What is so already, but not by whom asks for it. */
    struct dev_path path = {.tag = 7, .state = DEV_PATH_STANDBY};
    CHECK(dev_paths_change(NULL, FAKE_IQN, edit_state, &path) == 0);
    CHECK(set_seven(w->a, DEV_PATH_STANDBY) == SCSI_GOOD);
    CHECK(tur(w->a, 0) == SCSI_CHECK_CONDITION && attention_is(ACCESS_CHANGED));
    drop_groups();
}
WORLD_TEST(who_sets_hears_of_others)

static struct world *onlooker_world;
static struct scsi_nexus *onlooker;

/* Who comes, or changes another target, while a change is on its way to the store. */
static void somebody_comes(void)
{
    struct scsi_nexus_options opt = {.initiator_name = "iqn.d", .tpgt = 1, .relative_port = 1};
    CHECK(scsi_nexus_create(onlooker_world->target, &opt, &onlooker) == 0);
    scsi_paths_changed(onlooker_world->host, NULL);
}

/* Whoever makes the unit look first: it is a's change, and told to all but a. */
static void who_sets_is_not_told_by_others(struct world *w)
{
    make_groups(w);
    onlooker_world = w;
    fake_ways.meanwhile = somebody_comes;
    CHECK(set_seven(w->a, DEV_PATH_STANDBY) == SCSI_GOOD);
    CHECK(tur(w->a, 0) == SCSI_GOOD && tur(w->a, 1) == SCSI_GOOD);
    CHECK(tur(w->b, 0) == SCSI_CHECK_CONDITION && attention_is(ACCESS_CHANGED));
    CHECK(tur(c, 0) == SCSI_CHECK_CONDITION && attention_is(ACCESS_CHANGED));
    CHECK(tur(w->b, 0) == SCSI_GOOD && tur(w->b, 1) == SCSI_GOOD && tur(c, 1) == SCSI_GOOD);
    scsi_nexus_destroy(onlooker);
    /* What is done is no wish any more: the same from the operator is news to a. */
    CHECK(set_seven(w->a, DEV_PATH_OPTIMIZED) == SCSI_GOOD);
    operate(w, 7, DEV_PATH_STANDBY);
    CHECK(tur(w->a, 0) == SCSI_CHECK_CONDITION && attention_is(ACCESS_CHANGED));
    drop_groups();
}
WORLD_TEST(who_sets_is_not_told_by_others)

static void lists_are_looked_at(struct world *w)
{
    static const uint8_t unknown[] = {0, 0, 0, 0, 2, 0, 0, 7, 2, 0, 0, 8};
    static const uint8_t twice[] = {0, 0, 0, 0, 2, 0, 0, 7, 1, 0, 0, 7};
    make_groups(w);
    CHECK(set_groups(w->a, 0, unknown, 0) == SCSI_GOOD);
    CHECK(set_groups(w->a, 0, unknown, 4) == SCSI_GOOD);
    CHECK(set_groups(w->a, 0, unknown, 7) == SCSI_CHECK_CONDITION && sense_is(5, 0x1a00));
    CHECK(set_groups(w->a, 0, unknown, 3) == SCSI_CHECK_CONDITION && sense_is(5, 0x1a00));
    CHECK(set_groups(w->a, 0, unknown, 12) == SCSI_CHECK_CONDITION && sense_is(5, 0x2600));
    CHECK(be16_load(reply.sense + 16) == 10);
    CHECK(set_groups(w->a, 0, twice, 12) == SCSI_CHECK_CONDITION && sense_is(5, 0x2600));
    CHECK(set_seven(w->a, DEV_PATH_TRANSITIONING) == SCSI_CHECK_CONDITION && sense_is(5, 0x2600));
    CHECK(be16_load(reply.sense + 16) == 4);
    CHECK(set_seven(w->a, 4) == SCSI_CHECK_CONDITION && sense_is(5, 0x2600));
    /* Nothing has changed by all this; and nothing does when it cannot be stored. */
    fake_ways.result = -EIO;
    CHECK(set_seven(w->a, DEV_PATH_STANDBY) == SCSI_CHECK_CONDITION && sense_is(4, 0x670a));
    CHECK(tur(c, 0) == SCSI_GOOD && tur(w->b, 0) == SCSI_GOOD);
    /* What has entered a batch holds, also when the flush fails. */
    fake_ways.fake_entered = true;
    CHECK(set_seven(w->a, DEV_PATH_STANDBY) == SCSI_CHECK_CONDITION && sense_is(4, 0x670a));
    CHECK(tur(w->b, 0) == SCSI_CHECK_CONDITION && attention_is(ACCESS_CHANGED));
    drop_groups();
}
WORLD_TEST(lists_are_looked_at)

/* Reservations are of nexuses, of which the port is part. */
static void ports_count_for_reservations(struct world *w)
{
    uint8_t list[24] = {[15] = 9, [20] = 0x04}; /* ALL_TG_PT */
    make_groups(w);
    CHECK(out(w->a, 0, list, 24, CDB(0x5f, 0, 0, 0, 0, 0, 0, 0, 24))->status == SCSI_GOOD);
    struct reply *r = in(w->b, 0, 512, CDB(0x5e, 3, 0, 0, 0, 0, 0, 2, 0));
    CHECK(r->status == SCSI_GOOD);
    uint32_t first = 24 + be32_load(r->data + 8 + 20);
    CHECK(be16_load(r->data + 8 + 18) == 1 && be16_load(r->data + 8 + first + 18) == 7);
    /* c is iqn.a through the other port, with the same ISID: it is registered, b is not. */
    list[20] = 0;
    list[7] = 9;
    CHECK(out(c, 0, list, 24, CDB(0x5f, 1, 0x01, 0, 0, 0, 0, 0, 24))->status == SCSI_GOOD);
    CHECK(out(w->b, 0, list, 24, CDB(0x5f, 1, 0x01, 0, 0, 0, 0, 0, 24))->status ==
          SCSI_RESERVATION_CONFLICT);
    CHECK(none(w->a, 0, CDB(0x35)) == SCSI_RESERVATION_CONFLICT);
    CHECK(none(c, 0, CDB(0x35)) == SCSI_GOOD);
    /* Who may not write does not move the paths, but looks at them. */
    CHECK(set_seven(w->b, DEV_PATH_STANDBY) == SCSI_RESERVATION_CONFLICT);
    CHECK(in(w->b, 0, 64, CDB(0xa3, 0x0a, 0, 0, 0, 0, 0, 0, 0, 64))->status == SCSI_GOOD);
    drop_groups();
}
WORLD_TEST(ports_count_for_reservations)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_groups_are_told),
        cmocka_unit_test(test_each_state_lets_its_commands_in),
        cmocka_unit_test(test_a_command_changes_one_unit),
        cmocka_unit_test(test_who_sets_hears_of_others),
        cmocka_unit_test(test_who_sets_is_not_told_by_others),
        cmocka_unit_test(test_lists_are_looked_at),
        cmocka_unit_test(test_ports_count_for_reservations),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
