/* SPDX-License-Identifier: Apache-2.0 */
#include "scsi/copy_list.h"
#include "scsi_test.h"

static uint8_t list[SCSI_COPY_LIST_MAX + 64];
static size_t list_len;

static void list_begin(uint8_t id, uint8_t usage)
{
    memset(list, 0, sizeof list);
    list[0] = id;
    list[1] = (uint8_t)(usage << 3);
    list_len = 16;
}

/* The device of that LUN, as VPD page 83h names it. */
static void add_cscd(struct world *w, uint32_t lun)
{
    uint8_t *p = list + list_len;
    struct dev_info info;
    dev_info(disk(w, lun), &info);
    p[0] = 0xe4;
    p[4] = 1;
    p[5] = 3;
    p[7] = 8;
    memcpy(p + 8, info.uuid.bytes, 8);
    p[8] = (uint8_t)(0x30 | (p[8] & 0x0f));
    be24_store(p + 29, info.logical_block_bytes);
    list_len += 32;
    be16_store(list + 2, (uint16_t)(be16_load(list + 2) + 32));
}

static uint8_t *add_segment(uint16_t src, uint16_t dst, uint16_t blocks, uint64_t from, uint64_t to)
{
    uint8_t *p = list + list_len;
    p[0] = 0x02;
    p[3] = 0x18;
    be16_store(p + 4, src);
    be16_store(p + 6, dst);
    be16_store(p + 10, blocks);
    be64_store(p + 12, from);
    be64_store(p + 20, to);
    list_len += 28;
    be32_store(list + 8, be32_load(list + 8) + 28);
    return p;
}

static enum scsi_status copy_to(struct scsi_nexus *n, uint32_t lun)
{
    uint8_t cdb[16] = {0x83};
    be32_store(cdb + 10, (uint32_t)list_len);
    return out(n, lun, list, list_len, cdb)->status;
}

static enum scsi_status copy(struct world *w)
{
    return copy_to(w->a, 0);
}

/* COPY ABORTED in that segment, pointing at that byte of its descriptor. */
static bool aborted_is(uint16_t asc, uint32_t segment, unsigned byte)
{
    return sense_is(SCSI_KEY_COPY_ABORTED, asc) && be32_load(reply.sense + 8) == segment &&
           reply.sense[15] == 0xa0 && be16_load(reply.sense + 16) == byte;
}

/* INVALID FIELD IN PARAMETER LIST, or a kindred code, at that byte. */
static bool list_is(uint16_t asc, size_t byte)
{
    return sense_is(5, asc) && (reply.sense[15] & 0xc0) == 0x80 &&
           be16_load(reply.sense + 16) == byte;
}

static void fill(struct world *w, uint32_t lun)
{
    for (size_t i = 0; i < FAKE_BYTES; i++) {
        disk(w, lun)->data[i] = (uint8_t)(i / 512 * 7 + i + lun);
    }
}

/* One segment between LUN 0 and LUN 1. */
static uint8_t *simple(struct world *w, uint16_t blocks, uint64_t from, uint64_t to)
{
    list_begin(0, SCSI_COPY_NO_ID);
    add_cscd(w, 0);
    add_cscd(w, 1);
    return add_segment(0, 1, blocks, from, to);
}

static void segments_are_copied(struct world *w)
{
    fill(w, 0);
    uint8_t *src = disk(w, 0)->data;
    uint8_t *dst = disk(w, 1)->data;
    simple(w, 100, 16, 24);
    add_segment(0, 0, 8, 0, 4000);
    add_segment(0xffff, 1, 1, 7, LUN_BLOCKS - 1);
    add_segment(0, 1, 0, 0, 0);
    CHECK(copy(w) == SCSI_GOOD);
    CHECK(memcmp(dst + 24 * 512, src + 16 * 512, 100 * 512) == 0);
    CHECK(dst[24 * 512 - 1] == 0 && dst[124 * 512] == 0);
    CHECK(memcmp(src + 4000 * 512, src, 8 * 512) == 0);
    CHECK(memcmp(dst + LUN_SIZE - 512, src + 7 * 512, 512) == 0);
    CHECK(disk(w, 1)->fua_writes == 0);
    list_len = 0;
    CHECK(copy(w) == SCSI_GOOD);
}
WORLD_TEST(segments_are_copied)

static void lists_that_are_wrong(struct world *w)
{
    simple(w, 1, 0, 0);
    list_len--;
    CHECK(copy(w) != 0 && sense_is(5, 0x1a00));
    list_len = 16 + 31;
    CHECK(copy(w) != 0 && sense_is(5, 0x1a00));
    list_len = 15;
    CHECK(copy(w) != 0 && sense_is(5, 0x1a00));
    simple(w, 1, 0, 0)[0] = 0x03;
    CHECK(copy(w) != 0 && list_is(0x2609, 80));
    simple(w, 1, 0, 0)[3] = 0x14;
    CHECK(copy(w) != 0 && list_is(0x2600, 82));
    simple(w, 1, 0, 0)[1] = 0x04;
    CHECK(copy(w) != 0 && list_is(0x2600, 81));
    simple(w, 1, 0, 0);
    list[48] = 0xe0;
    CHECK(copy(w) != 0 && list_is(0x2607, 48));
    simple(w, 1, 0, 0);
    list[16 + 7] = 21;
    CHECK(copy(w) != 0 && list_is(0x2600, 23));
    simple(w, 1, 0, 0);
    list[15] = 1;
    CHECK(copy(w) != 0 && sense_is(5, 0x260b));
    simple(w, 1, 0, 0);
    list[0] = 5; /* although there is to be no identifier */
    CHECK(copy(w) != 0 && list_is(0x2600, 0));
    simple(w, 1, 0, 0);
    list[1] = 1 << 3;
    CHECK(copy(w) != 0 && list_is(0x2600, 1));
}
WORLD_TEST(lists_that_are_wrong)

static void limits_are_told_and_kept(struct world *w)
{
    struct reply *r = in(w->a, 0, 64, CDB(0x84, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 64));
    CHECK(r->status == SCSI_GOOD && r->len == 46 && be32_load(r->data) == 42 && r->data[4] == 1);
    unsigned cscds = be16_load(r->data + 8);
    unsigned segments = be16_load(r->data + 10);
    unsigned bytes = be32_load(r->data + 12);
    CHECK(cscds == 16 && segments == 64 && bytes == 16 * 32 + 64 * 28);
    CHECK(be32_load(r->data + 16) == 256u << 20 && r->data[37] == 9);
    CHECK(r->data[43] == 2 && r->data[44] == 0x02 && r->data[45] == 0xe4);
    list_begin(1, SCSI_COPY_HOLD);
    for (unsigned i = 0; i < cscds; i++) {
        add_cscd(w, i % 2);
    }
    for (unsigned i = 0; i < segments; i++) {
        add_segment(0, 15, 1, i, i);
    }
    CHECK(copy(w) == SCSI_GOOD);
    add_segment(0, 15, 1, 0, 0);
    CHECK(copy(w) != 0 && sense_is(5, 0x1a00));
    list_begin(1, SCSI_COPY_HOLD);
    add_cscd(w, 0);
    for (unsigned i = 0; i <= segments; i++) {
        add_segment(0, 0, 1, i, i + 100);
    }
    CHECK(copy(w) != 0 && sense_is(5, 0x2608));
    list_begin(1, SCSI_COPY_HOLD);
    for (unsigned i = 0; i <= cscds; i++) {
        add_cscd(w, i % 2);
    }
    CHECK(copy(w) != 0 && sense_is(5, 0x2606));
}
WORLD_TEST(limits_are_told_and_kept)

static void segments_that_are_wrong(struct world *w)
{
    simple(w, 1, LUN_BLOCKS, 0);
    CHECK(copy(w) != 0 && aborted_is(0, 0, 12));
    simple(w, 2, 0, LUN_BLOCKS - 1);
    CHECK(copy(w) != 0 && aborted_is(0, 0, 20));
    simple(w, 1, 0, UINT64_MAX);
    CHECK(copy(w) != 0 && aborted_is(0, 0, 20));
    simple(w, 1, 0, 0);
    add_segment(0, 2, 1, 0, 0);
    CHECK(copy(w) != 0 && aborted_is(0x0d02, 1, 6));
    simple(w, 1, 0, 0);
    list[17] = 0x20; /* NUL */
    CHECK(copy(w) != 0 && aborted_is(0x0d02, 0, 4));
    simple(w, 1, 0, 0);
    list[16 + 15] ^= 1; /* nobody's */
    CHECK(copy(w) != 0 && aborted_is(0x0d02, 0, 4));
    simple(w, 1, 0, 0);
    list[49] = 1; /* a tape */
    CHECK(copy(w) != 0 && aborted_is(0x0d03, 0, 6));
    simple(w, 1, 0, 0);
    be24_store(list + 16 + 29, 4096);
    CHECK(copy(w) != 0 && aborted_is(0x0d03, 0, 4));
    list_begin(0, SCSI_COPY_NO_ID);
    add_cscd(w, 0);
    add_segment(0, 0xffff, 8, 0, 7);
    CHECK(copy(w) != 0 && aborted_is(0x2600, 0, 20));
    disk(w, 1)->fail = -EIO;
    simple(w, 1, 0, 0);
    CHECK(copy(w) != 0 && aborted_is(0x0d01, 0, 10));
    disk(w, 1)->fail = -ENOSPC;
    CHECK(copy(w) != 0 && sense_is(7, 0x2707));
    disk(w, 1)->fail = -ENOMEM;
    CHECK(copy(w) == SCSI_BUSY);
    disk(w, 1)->fail = 0;
}
WORLD_TEST(segments_that_are_wrong)

static void sectors_of_different_sizes(struct world *w)
{
    fake_add(w->registry, 2, LUN_SIZE);
    disk(w, 2)->info.logical_block_bytes = 4096;
    clear_attentions(w->a, 0);
    clear_attentions(w->a, 2);
    fill(w, 0);
    list_begin(0, SCSI_COPY_NO_ID);
    add_cscd(w, 0);
    add_cscd(w, 2);
    add_segment(0, 1, 16, 8, 3);        /* of the source */
    add_segment(0, 1, 1, 40, 9)[1] = 2; /* of the destination */
    add_segment(1, 0, 1, 3, 4000);
    CHECK(copy(w) == SCSI_GOOD);
    uint8_t *small = disk(w, 0)->data;
    uint8_t *big = disk(w, 2)->data;
    CHECK(memcmp(big + 3 * 4096, small + 8 * 512, 8192) == 0 && big[5 * 4096] == 0);
    CHECK(memcmp(big + 9 * 4096, small + 40 * 512, 4096) == 0 && big[10 * 4096] == 0);
    CHECK(memcmp(small + 4000 * 512, small + 8 * 512, 4096) == 0);
    add_segment(0, 1, 15, 8, 3);
    CHECK(copy(w) != 0 && aborted_is(0x260a, 3, 10));
}
WORLD_TEST(sectors_of_different_sizes)

static struct reply *results(struct scsi_nexus *n, uint8_t action, uint8_t id)
{
    return in(n, 0, 512, CDB(0x84, action, id, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0));
}

static void results_are_kept_by_identifier(struct world *w)
{
    CHECK(results(w->a, 0, 1)->status != 0 && sense_is(5, 0x2400));
    CHECK(be16_load(reply.sense + 16) == 2);
    simple(w, 64, 0, 0);
    list[1] = SCSI_COPY_HOLD << 3;
    list[0] = 1;
    CHECK(copy(w) == SCSI_GOOD);
    struct reply *r = results(w->a, 0, 1);
    CHECK(r->len == 12 && be32_load(r->data) == 8 && r->data[4] == 1);
    CHECK(be16_load(r->data + 5) == 1 && r->data[7] == 0 && be32_load(r->data + 8) == 32768);
    r = results(w->a, 4, 1);
    CHECK(r->status == SCSI_GOOD && r->len == 4 && be32_load(r->data) == 0);
    /* Of this nexus alone, and of this unit. */
    CHECK(results(w->b, 0, 1)->status != 0 && sense_is(5, 0x2400));
    CHECK(in(w->a, 1, 12, CDB(0x84, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 12))->status != 0);
    add_segment(0, 1, 1, LUN_BLOCKS, 0);
    list[0] = 2;
    CHECK(copy(w) != 0 && aborted_is(0, 1, 12));
    r = results(w->a, 0, 2);
    CHECK(r->data[4] == 2 && be16_load(r->data + 5) == 1 && be32_load(r->data + 8) == 32768);
    r = results(w->a, 4, 2);
    CHECK(r->len == 78 && be32_load(r->data) == 74 && r->data[56] == 2);
    CHECK(be16_load(r->data + 58) == 18 && (r->data[62] & 15) == SCSI_KEY_COPY_ABORTED);
    CHECK(results(w->a, 4, 2)->len == 4);
    /* There are places for 64: the oldest goes. */
    for (uint8_t id = 3; id < 66; id++) {
        simple(w, 1, 0, 0);
        list[0] = id;
        list[1] = SCSI_COPY_DISCARD << 3;
        CHECK(copy(w) == SCSI_GOOD);
    }
    CHECK(results(w->a, 0, 1)->status != 0 && results(w->a, 0, 2)->status == SCSI_GOOD);
    CHECK(results(w->a, 0, 17)->status == SCSI_GOOD);
    /* A copy without identifier leaves nothing. */
    simple(w, 1, 0, 0);
    CHECK(copy(w) == SCSI_GOOD && results(w->a, 0, 0)->status != 0);
}
WORLD_TEST(results_are_kept_by_identifier)

static void what_is_protected_is_not_written(struct world *w)
{
    fill(w, 0);
    simple(w, 1, 0, 0);
    disk(w, 1)->info.read_only = true;
    CHECK(copy(w) != 0 && aborted_is(0x0d01, 0, 6) && disk(w, 1)->data[1] == 0);
    disk(w, 1)->info.read_only = false;
    disk(w, 0)->info.read_only =
        true; /* where it comes from may be, also if that is told to copy */
    CHECK(copy(w) == SCSI_GOOD && disk(w, 1)->data[1] != 0);
    disk(w, 0)->info.read_only = false;
}
WORLD_TEST(what_is_protected_is_not_written)

/* Key 5, or the type with it, by PERSISTENT RESERVE OUT. */
static enum scsi_status persist(struct scsi_nexus *n, uint32_t lun, uint8_t action, uint8_t type)
{
    uint8_t parameters[24] = {0};
    parameters[action == 0 ? 15 : 7] = 5;
    uint8_t cdb[16] = {0x5f, action, type, 0, 0, 0, 0, 0, sizeof parameters};
    return out(n, lun, parameters, sizeof parameters, cdb)->status;
}

static void reservations_are_obeyed(struct world *w)
{
    fill(w, 0);
    CHECK(persist(w->b, 1, 0, 0) == SCSI_GOOD && persist(w->b, 1, 1, 1) == SCSI_GOOD);
    simple(w, 1, 0, 0);
    CHECK(copy(w) != 0 && aborted_is(0x0d01, 0, 6) && disk(w, 1)->data[1] == 0);
    CHECK(copy_to(w->a, 1) == SCSI_RESERVATION_CONFLICT);
    CHECK(in(w->a, 1, 46, CDB(0x84, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 46))->status ==
          SCSI_RESERVATION_CONFLICT);
    simple(w, 1, 0, 0);
    add_segment(1, 0, 1, 9, 9); /* Write Exclusive does not keep anybody from reading */
    be16_store(list + 80 + 6, 0);
    be64_store(list + 80 + 20, 50);
    CHECK(copy(w) == SCSI_GOOD && copy_to(w->b, 0) == SCSI_GOOD);
    CHECK(persist(w->b, 1, 2, 1) == SCSI_GOOD && persist(w->b, 1, 1, 3) == SCSI_GOOD);
    CHECK(copy(w) != 0 && aborted_is(0x0d01, 1, 4));
    CHECK(none(w->b, 0, CDB(0x16)) == SCSI_GOOD && copy(w) == SCSI_RESERVATION_CONFLICT);
    CHECK(none(w->b, 0, CDB(0x17)) == SCSI_GOOD);
}
WORLD_TEST(reservations_are_obeyed)

static void rules_set(struct world *w, struct dev_access **slot, struct dev_access *rules)
{
    dev_access_unref(*slot);
    *slot = rules;
    w->registry->generation++;
}

static struct dev_access *mapped(uint32_t device, bool read_only)
{
    struct dev_access *a = dev_access_new();
    CHECK(a);
    struct dev_map m = {.initiator = "iqn.a", .lun = 0, .device = device, .read_only = read_only};
    CHECK(dev_map_add(a, &m) == 0);
    return a;
}

static void what_is_masked_is_out_of_reach(struct world *w)
{
    simple(w, 1, 0, 0);
    rules_set(w, &w->registry->rules, mapped(0, false));
    clear_attentions(w->a, 0);
    CHECK(copy(w) != 0 && aborted_is(0x0d02, 0, 6));
    struct dev_access *both = dev_access_copy(w->registry->rules);
    struct dev_map m = {.initiator = "iqn.*", .lun = 7, .device = 1, .read_only = true};
    CHECK(both && dev_map_add(both, &m) == 0);
    rules_set(w, &w->registry->rules, both);
    clear_attentions(w->a, 0);
    CHECK(copy(w) != 0 && aborted_is(0x0d01, 0, 6));
    be16_store(list + 80 + 4, 1); /* to be read it is there */
    be16_store(list + 80 + 6, 0);
    CHECK(copy(w) == SCSI_GOOD);
    rules_set(w, &w->registry->rules, NULL);
}
WORLD_TEST(what_is_masked_is_out_of_reach)

static void other_targets_are_within_reach(struct world *w)
{
    fake_add_other(w->registry, 5, LUN_SIZE);
    clear_attentions(w->a, 0);
    fill(w, 0);
    list_begin(0, SCSI_COPY_NO_ID);
    add_cscd(w, 0);
    add_cscd(w, 5);
    add_segment(0, 1, 8, 0, 0);
    CHECK(copy(w) == SCSI_GOOD && memcmp(disk(w, 5)->data, disk(w, 0)->data, 4096) == 0);
    CHECK(disk(w, 5)->fua_writes == 1);
    /* Its maps, its list, its accounts. */
    struct dev_access **rules = &w->registry->other_rules;
    rules_set(w, rules, mapped(5, false));
    CHECK(copy(w) == SCSI_GOOD);
    rules_set(w, rules, mapped(5, true));
    CHECK(copy(w) != 0 && aborted_is(0x0d01, 0, 6));
    rules_set(w, rules, mapped(6, false));
    CHECK(copy(w) != 0 && aborted_is(0x0d02, 0, 6));
    struct dev_access *listed = dev_access_new();
    CHECK(listed &&
          dev_acl_add(listed, &(struct dev_acl){.initiator = "iqn.b", .any_address = true}) == 0);
    rules_set(w, rules, listed);
    clear_attentions(w->a, 0);
    CHECK(copy(w) != 0 && aborted_is(0x0d02, 0, 6));
    clear_attentions(w->b, 0);
    CHECK(copy_to(w->b, 0) == SCSI_GOOD);
    rules_set(w, rules, NULL);
}
WORLD_TEST(other_targets_are_within_reach)

static int edit_state(struct dev_paths *draft, void *arg)
{
    dev_paths_set_state(draft, arg);
    return 0;
}

static int edit_members(struct dev_paths *draft, void *arg)
{
    draft->member_count = 1;
    draft->members[0] = *(uint16_t *)arg;
    return 0;
}

static bool admits_b(void *arg, const char *iqn, const char *initiator)
{
    CHECK(arg == NULL && strcmp(iqn, FAKE_OTHER_IQN) == 0);
    return strcmp(initiator, "iqn.b") == 0;
}

static void only_where_the_port_leads(struct world *w)
{
    struct dev_path standby = {.tag = 1, .state = DEV_PATH_STANDBY};
    uint16_t other = 7;
    fake_add_other(w->registry, 5, LUN_SIZE);
    clear_attentions(w->a, 0);
    clear_attentions(w->b, 0);
    list_begin(0, SCSI_COPY_NO_ID);
    add_cscd(w, 0);
    add_cscd(w, 5);
    add_segment(0, 1, 8, 0, 0);
    scsi_host_guard(w->host, admits_b, NULL);
    CHECK(copy(w) != 0 && aborted_is(0x0d02, 0, 6) && copy_to(w->b, 0) == SCSI_GOOD);
    scsi_host_guard(w->host, NULL, NULL);
    CHECK(copy(w) == SCSI_GOOD);
    /* What changes is not told to the first target: it stands for one that has ways of its own. */
    CHECK(dev_paths_change(NULL, FAKE_OTHER_IQN, edit_state, &standby) == 0);
    CHECK(copy(w) != 0 && aborted_is(0x0d02, 0, 4));
    fake_ways_reset();
    scsi_paths_changed(w->host, NULL);
    clear_attentions(w->a, 0);
    CHECK(copy(w) == SCSI_GOOD);
    CHECK(dev_paths_change(NULL, FAKE_OTHER_IQN, edit_members, &other) == 0);
    CHECK(copy(w) != 0 && aborted_is(0x0d02, 0, 6));
    fake_ways_reset();
}
WORLD_TEST(only_where_the_port_leads)

static struct world *world;
static struct rt_group *jobs;

static void reset(void *arg)
{
    uint8_t extra[3];
    (void)arg;
    CHECK(scsi_tmf(world->b, SCSI_TMF_LU_RESET, 0, 0, extra) == SCSI_TMF_COMPLETE);
}

static void reset_once(void)
{
    fake_copied = NULL;
    CHECK(rt_group_spawn_now(jobs, "reset", reset, NULL) == 0);
}

/* The fiber is not cancelled here: the copy stops by itself, between two steps. */
static void an_abort_ends_it_between_steps(struct world *w)
{
    world = w;
    CHECK(rt_group_create(&jobs) == 0);
    disk(w, 0)->info.size_bytes = 64u << 20;
    disk(w, 1)->info.size_bytes = 64u << 20;
    simple(w, 0xffff, 0, 0); /* two steps */
    list[0] = 9;
    list[1] = SCSI_COPY_HOLD << 3;
    fake_copied = reset_once;
    CHECK(copy(w) == SCSI_TASK_ABORTED && reply.aborted);
    rt_group_wait(jobs);
    rt_group_destroy(jobs);
    clear_attentions(w->a, 0);
    struct reply *r = results(w->a, 0, 9);
    CHECK(r->status == SCSI_GOOD && r->data[4] == 2 && be16_load(r->data + 5) == 0);
    CHECK(be32_load(r->data + 8) == 16u << 20);
}
WORLD_TEST(an_abort_ends_it_between_steps)

static unsigned copied;

static void hide(void *arg)
{
    (void)arg;
    rules_set(world, &world->registry->rules, mapped(0, false));
    (void)tur(world->a, 0);
}

static void hide_once(void)
{
    if (copied++ == 0) {
        CHECK(rt_group_spawn(jobs, "hide", hide, NULL) == 0);
    }
}

static void what_is_hidden_meanwhile_is_out_of_reach(struct world *w)
{
    world = w;
    CHECK(rt_group_create(&jobs) == 0);
    disk(w, 0)->info.size_bytes = 64u << 20;
    disk(w, 1)->info.size_bytes = 64u << 20;
    simple(w, 0xffff, 0, 0); /* two steps */
    fake_copied = hide_once;
    CHECK(copy(w) != 0 && aborted_is(0x0d02, 0, 6) && copied == 1);
    fake_copied = NULL;
    rt_group_wait(jobs);
    rt_group_destroy(jobs);
    rules_set(w, &w->registry->rules, NULL);
}
WORLD_TEST(what_is_hidden_meanwhile_is_out_of_reach)

static void the_page_tells_what_there_is(struct world *w)
{
    struct reply *r = in(w->a, 0, 96, CDB(0x12, 0, 0, 0, 96));
    CHECK(r->data[5] & 0x08);
    r = in(w->a, 0, 1024, CDB(0x12, 1, 0x8f, 4, 0));
    CHECK(r->status == SCSI_GOOD && r->len == 4u + be16_load(r->data + 2));
    static const uint16_t types[] = {0x0000, 0x0001, 0x0004, 0x0008,
                                     0x000c, 0x0106, 0x0108, 0x8001};
    size_t at = 4;
    for (size_t i = 0; i < ARRAY_LEN(types); i++) {
        const uint8_t *d = r->data + at;
        CHECK(at + 4 <= r->len && be16_load(d) == types[i] && be16_load(d + 2) % 4 == 0);
        at += 4u + be16_load(d + 2);
    }
    CHECK(at == r->len);
}
WORLD_TEST(the_page_tells_what_there_is)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_segments_are_copied),
        cmocka_unit_test(test_lists_that_are_wrong),
        cmocka_unit_test(test_limits_are_told_and_kept),
        cmocka_unit_test(test_segments_that_are_wrong),
        cmocka_unit_test(test_sectors_of_different_sizes),
        cmocka_unit_test(test_results_are_kept_by_identifier),
        cmocka_unit_test(test_what_is_protected_is_not_written),
        cmocka_unit_test(test_reservations_are_obeyed),
        cmocka_unit_test(test_what_is_masked_is_out_of_reach),
        cmocka_unit_test(test_other_targets_are_within_reach),
        cmocka_unit_test(test_only_where_the_port_leads),
        cmocka_unit_test(test_an_abort_ends_it_between_steps),
        cmocka_unit_test(test_what_is_hidden_meanwhile_is_out_of_reach),
        cmocka_unit_test(test_the_page_tells_what_there_is),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
