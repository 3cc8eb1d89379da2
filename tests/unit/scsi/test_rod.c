/* SPDX-License-Identifier: Apache-2.0 */
/* Copies in two steps, and copies in the background. */
#include "scsi/rod.h"
#include "scsi/vpd.h"
#include "scsi_test.h"

#define PT 0x10
#define WUT 0x11

static uint8_t list[SCSI_ROD_LIST_MAX];
static size_t list_len;
static uint8_t token[SCSI_ROD_TOKEN_BYTES];

static size_t header; /* of the list */

static void add_range(uint64_t lba, uint32_t blocks)
{
    uint8_t *p = list + list_len;
    be64_store(p, lba);
    be32_store(p + 8, blocks);
    list_len += 16;
    be16_store(list, (uint16_t)(list_len - 2));
    be16_store(list + header - 2, (uint16_t)(list_len - header));
}

static void populate_begin(uint8_t flags)
{
    memset(list, 0, sizeof list);
    list[2] = flags;
    list_len = header = SCSI_ROD_POPULATE_HEADER;
}

static void write_begin(uint8_t flags, uint64_t offset)
{
    memset(list, 0, sizeof list);
    list[2] = flags;
    be64_store(list + 8, offset);
    memcpy(list + 16, token, sizeof token);
    list_len = header = SCSI_ROD_WRITE_HEADER;
}

static enum scsi_status send_list(struct scsi_nexus *n, uint32_t lun, uint8_t action, uint32_t id)
{
    uint8_t cdb[16] = {0x83, action};
    be32_store(cdb + 6, id);
    be32_store(cdb + 10, (uint32_t)list_len);
    return out(n, lun, list, list_len, cdb)->status;
}

static struct reply *ask(struct scsi_nexus *n, uint32_t lun, uint8_t action, uint32_t id)
{
    uint8_t cdb[16] = {0x84, action};
    be32_store(cdb + 2, id);
    be32_store(cdb + 10, 1024);
    return in(n, lun, 1024, cdb);
}

/* RECEIVE ROD TOKEN INFORMATION: the copy's status, its blocks, and its token. */
static uint8_t rrti(struct scsi_nexus *n, uint32_t lun, uint32_t id, uint64_t *ret_blocks)
{
    struct reply *r = ask(n, lun, 0x07, id);
    CHECK(r->status == SCSI_GOOD && r->len == 4u + be32_load(r->data) && r->data[15] == 0xf1);
    size_t at = 32u + r->data[13];
    uint32_t bytes = be32_load(r->data + at);
    CHECK(r->len == at + 4 + bytes && (bytes == 0 || bytes == 514));
    if (bytes > 0) {
        memcpy(token, r->data + at + 6, sizeof token);
    }
    *ret_blocks = be64_load(r->data + 16);
    return r->data[5];
}

static void populate(struct scsi_nexus *n, uint32_t lun, uint64_t lba, uint32_t blocks)
{
    uint64_t done;
    populate_begin(0);
    add_range(lba, blocks);
    CHECK(send_list(n, lun, PT, 1) == SCSI_GOOD);
    memset(token, 0, sizeof token);
    CHECK(rrti(n, lun, 1, &done) == 0x01 && done == blocks);
}

static void fill(struct world *w, uint32_t lun, uint8_t tag)
{
    for (size_t i = 0; i < FAKE_BYTES; i++) {
        disk(w, lun)->data[i] = (uint8_t)(i / 512 * 7 + i + tag);
    }
}

static bool list_is(uint16_t asc, size_t byte)
{
    return sense_is(5, asc) && (reply.sense[15] & 0xc0) == 0x80 &&
           be16_load(reply.sense + 16) == byte;
}

static void what_a_token_stands_for_does_not_change(struct world *w)
{
    static uint8_t before[FAKE_BYTES];
    uint64_t done;
    fill(w, 0, 1);
    memcpy(before, disk(w, 0)->data, sizeof before);
    populate_begin(0);
    add_range(3, 100);
    add_range(0, 0);
    add_range(1000, 50);
    CHECK(send_list(w->a, 0, PT, 0xdeadbeef) == SCSI_GOOD && fake_holds == 1);
    CHECK(rrti(w->a, 0, 0xdeadbeef, &done) == 0x01 && done == 150);
    CHECK(be32_load(token) == 0x00800000 && be16_load(token + 6) == 0x1f8);
    CHECK(token[16] == 0xe4 && be64_load(token + 56) == 150u * 512);
    CHECK(be32_load(token + 96) == 512);
    fill(w, 0, 77);
    /* Another nexus, another unit, other ranges. */
    write_begin(0, 0);
    add_range(8, 120);
    add_range(4000, 30);
    CHECK(send_list(w->b, 1, WUT, 5) == SCSI_GOOD);
    CHECK(rrti(w->b, 1, 5, &done) == 0x01 && done == 150);
    const uint8_t *got = disk(w, 1)->data;
    CHECK(memcmp(got + 8 * 512, before + 3 * 512, 100 * 512) == 0);
    CHECK(memcmp(got + 108 * 512, before + 1000 * 512, 20 * 512) == 0);
    CHECK(memcmp(got + 4000 * 512, before + 1020 * 512, 30 * 512) == 0);
    CHECK(got[8 * 512 - 1] == 0 && got[128 * 512] == 0 && got[4030 * 512] == 0);
    /* A part of it, from the middle on; then it is given back. */
    write_begin(2, 140);
    add_range(6000, 10);
    CHECK(send_list(w->a, 1, WUT, 6) == SCSI_GOOD && fake_holds == 0);
    CHECK(memcmp(got + 6000 * 512, before + 1040 * 512, 10 * 512) == 0);
    CHECK(send_list(w->a, 1, WUT, 6) != 0 && sense_is(5, SCSI_ASC_TOKEN_DELETED));
    /* The status of a token that is gone comes without it. */
    memset(token, 0, sizeof token);
    CHECK(rrti(w->a, 0, 0xdeadbeef, &done) == 0x01 && token[2] == 0);
}
WORLD_TEST(what_a_token_stands_for_does_not_change)

static void lists_that_are_wrong(struct world *w)
{
    populate_begin(0);
    CHECK(send_list(w->a, 0, PT, 1) != 0 && list_is(0x2600, 0));
    add_range(0, 1);
    list_len--;
    CHECK(send_list(w->a, 0, PT, 1) != 0 && sense_is(5, 0x1a00));
    list_len = 15;
    CHECK(send_list(w->a, 0, PT, 1) != 0 && sense_is(5, 0x1a00));
    list_len = 0;
    CHECK(send_list(w->a, 0, PT, 1) == SCSI_GOOD);
    populate_begin(2); /* RTV, with type 0 */
    add_range(0, 1);
    CHECK(send_list(w->a, 0, PT, 1) != 0 && list_is(0x2600, 8));
    be32_store(list + 8, 0x00800002);
    CHECK(send_list(w->a, 0, PT, 1) != 0 && list_is(0x2600, 8));
    be32_store(list + 8, 0x0080ffff);
    CHECK(send_list(w->a, 0, PT, 1) == SCSI_GOOD);
    be32_store(list + 4, 601);
    CHECK(send_list(w->a, 0, PT, 1) != 0 && list_is(0x2600, 4));
    populate_begin(0);
    add_range(10, 5);
    add_range(14, 5);
    CHECK(send_list(w->a, 0, PT, 1) != 0 && list_is(0x2600, 32));
    populate_begin(0);
    add_range(LUN_BLOCKS - 1, 2);
    CHECK(send_list(w->a, 0, PT, 1) != 0 && sense_is(5, 0x2100));
    populate_begin(0);
    add_range(UINT64_MAX, 2);
    CHECK(send_list(w->a, 0, PT, 1) != 0 && sense_is(5, 0x2100));
    populate_begin(0);
    add_range(5, 0);
    CHECK(send_list(w->a, 0, PT, 1) != 0 && list_is(0x2600, 24));
    populate_begin(0);
    for (unsigned i = 0; i < 64; i++) {
        add_range(i * 2, 1);
    }
    CHECK(send_list(w->a, 0, PT, 1) == SCSI_GOOD);
    add_range(500, 1);
    CHECK(send_list(w->a, 0, PT, 1) != 0 && sense_is(5, 0x2608));
    disk(w, 0)->info.size_bytes = 1ull << 30;
    populate_begin(0);
    add_range(0, (256 << 11) + 1);
    CHECK(send_list(w->a, 0, PT, 1) != 0 && list_is(0x2600, 14));
    fake_hold_fail = -ENOSPC;
    populate_begin(0);
    add_range(0, 1);
    CHECK(send_list(w->a, 0, PT, 1) != 0 && sense_is(5, SCSI_ASC_NO_TOKEN_RESOURCES));
    fake_hold_fail = 0;
    disk(w, 0)->fail = -EIO;
    CHECK(send_list(w->a, 0, PT, 1) != 0 && sense_is(3, 0x1100) && fake_holds == 2);
    disk(w, 0)->fail = 0;
}
WORLD_TEST(lists_that_are_wrong)

static void tokens_that_are_wrong(struct world *w)
{
    populate(w->a, 0, 0, 10);
    write_begin(0, 0);
    add_range(0, 10);
    list[16 + 511] ^= 1;
    CHECK(send_list(w->a, 1, WUT, 1) != 0 && sense_is(5, SCSI_ASC_TOKEN_CORRUPT));
    list[16 + 511] ^= 1;
    list[16 + 15] ^= 0x80;
    CHECK(send_list(w->a, 1, WUT, 1) != 0 && sense_is(5, SCSI_ASC_TOKEN_UNKNOWN));
    list[16 + 15] ^= 0x80;
    list[16 + 3] = 1;
    CHECK(send_list(w->a, 1, WUT, 1) != 0 && sense_is(5, SCSI_ASC_TOKEN_TYPE));
    list[16 + 3] = 0;
    list[16 + 7] = 0;
    CHECK(send_list(w->a, 1, WUT, 1) != 0 && sense_is(5, SCSI_ASC_TOKEN_LENGTH));
    list[16 + 7] = 0xf8;
    be64_store(list + 8, 1);
    CHECK(send_list(w->a, 1, WUT, 1) != 0 && list_is(0x2600, 8));
    be64_store(list + 8, UINT64_MAX);
    CHECK(send_list(w->a, 1, WUT, 1) != 0 && list_is(0x2600, 8));
    be64_store(list + 8, 0);
    CHECK(disk(w, 1)->data[0] == 0);
    CHECK(send_list(w->a, 1, WUT, 1) == SCSI_GOOD);
    /* Formatting leaves nothing of the data. */
    CHECK(none(w->a, 1, CDB(0x04)) == SCSI_GOOD && fake_holds == 1);
    CHECK(none(w->a, 0, CDB(0x04)) == SCSI_GOOD && fake_holds == 0);
    CHECK(send_list(w->a, 1, WUT, 1) != 0 && sense_is(5, SCSI_ASC_TOKEN_REVOKED));
    populate(w->a, 0, 0, 10);
    CHECK(fake_holds == 1 && none(w->a, 0, CDB(0x48, 0x02)) == SCSI_GOOD && fake_holds == 0);
}
WORLD_TEST(tokens_that_are_wrong)

static void the_zero_token_writes_zeroes(struct world *w)
{
    uint64_t done;
    fill(w, 1, 1);
    memset(token, 0, sizeof token);
    be32_store(token, 0xffff0001);
    be16_store(token + 6, 0x1f8);
    write_begin(0, 0);
    add_range(8, 64);
    CHECK(send_list(w->a, 1, WUT, 1) == SCSI_GOOD && rrti(w->a, 1, 1, &done) == 1 && done == 64);
    for (size_t i = 8 * 512; i < 72 * 512; i++) {
        CHECK(disk(w, 1)->data[i] == 0);
    }
    CHECK(disk(w, 1)->data[72 * 512 + 1] != 0 && disk(w, 1)->kinds[1] == VOL_EXTENT_HOLE);
}
WORLD_TEST(the_zero_token_writes_zeroes)

static void an_initiator_has_so_many(struct world *w)
{
    static uint8_t first[SCSI_ROD_TOKEN_BYTES];
    populate(w->b, 0, 0, 1);
    populate(w->a, 0, 0, 1);
    memcpy(first, token, sizeof first);
    for (unsigned i = 0; i < SCSI_RODS_OF_ONE_MAX; i++) {
        populate(w->a, 0, i, 1);
    }
    CHECK(fake_holds == SCSI_RODS_OF_ONE_MAX + 1);
    memcpy(token, first, sizeof token);
    write_begin(0, 0);
    add_range(0, 1);
    CHECK(send_list(w->a, 1, WUT, 1) != 0 && sense_is(5, SCSI_ASC_TOKEN_REVOKED));
    /* What is told of them: of this unit, and nothing that is secret. */
    struct reply *r = ask(w->a, 0, 0x08, 0);
    CHECK(r->status == SCSI_GOOD && be32_load(r->data) == 4 + 96 * (SCSI_RODS_OF_ONE_MAX + 1));
    CHECK(r->len == 1024 && be32_load(r->data + 8) == 0x00800000);
    CHECK(ask(w->a, 1, 0x08, 0)->len == 8);
}
WORLD_TEST(an_initiator_has_so_many)

static unsigned made_by(struct scsi_nexus *n, unsigned count)
{
    unsigned good = 0;
    for (unsigned i = 0; i < count; i++) {
        populate_begin(0);
        add_range(i, 1);
        good += send_list(n, 0, PT, 1) == SCSI_GOOD;
    }
    return good;
}

/* Those who keep all they can get leave the others their share. */
static void nobody_keeps_all_tokens(struct world *w)
{
    enum {
        GREEDY = SCSI_RODS_MAX / SCSI_RODS_OF_ONE_MAX
    };
    struct scsi_nexus *greedy[GREEDY];
    static uint8_t first[SCSI_ROD_TOKEN_BYTES];
    for (unsigned i = 0; i < GREEDY; i++) {
        char name[16];
        snprintf(name, sizeof name, "iqn.g%u", i);
        struct scsi_nexus_options opt = {.initiator_name = name, .tpgt = 1, .relative_port = 1};
        CHECK(scsi_nexus_create(w->target, &opt, &greedy[i]) == 0);
        clear_attentions(greedy[i], 0);
        clear_attentions(greedy[i], 1);
        CHECK(made_by(greedy[i], SCSI_RODS_OF_ONE_MAX) == SCSI_RODS_OF_ONE_MAX);
    }
    CHECK(fake_holds == SCSI_RODS_MAX);
    unsigned share = SCSI_RODS_MAX / (GREEDY + 1);
    populate(w->a, 0, 7, 1);
    memcpy(first, token, sizeof first);
    CHECK(made_by(w->a, share - 1) == share - 1 && fake_holds == SCSI_RODS_MAX);
    /* Whoever has more than others takes what he wants of his own. */
    for (unsigned i = 0; i < GREEDY; i++) {
        CHECK(made_by(greedy[i], 20) == 20);
    }
    CHECK(fake_holds == SCSI_RODS_MAX);
    write_begin(0, 0);
    memcpy(list + 16, first, sizeof first);
    add_range(0, 1);
    CHECK(send_list(w->a, 1, WUT, 1) == SCSI_GOOD);
    for (unsigned i = 0; i < GREEDY; i++) {
        scsi_nexus_destroy(greedy[i]);
    }
}
WORLD_TEST(nobody_keeps_all_tokens)

static void what_is_protected_is_not_written(struct world *w)
{
    disk(w, 0)->info.read_only = true;
    populate(w->a, 0, 0, 4);
    write_begin(0, 0);
    add_range(0, 4);
    CHECK(send_list(w->a, 0, WUT, 2) != 0 && sense_is(7, 0x2700));
    disk(w, 0)->info.read_only = false;
    /* Write Exclusive of another one lets read, and ask, but not write. */
    uint8_t parameters[24] = {[15] = 5};
    CHECK(out(w->b, 1, parameters, 24, CDB(0x5f, 0, 0, 0, 0, 0, 0, 0, 24))->status == SCSI_GOOD);
    memset(parameters, 0, sizeof parameters);
    parameters[7] = 5;
    CHECK(out(w->b, 1, parameters, 24, CDB(0x5f, 1, 1, 0, 0, 0, 0, 0, 24))->status == SCSI_GOOD);
    CHECK(send_list(w->a, 1, WUT, 2) == SCSI_RESERVATION_CONFLICT);
    populate(w->a, 1, 0, 4);
    CHECK(out(w->b, 1, parameters, 24, CDB(0x5f, 3, 0, 0, 0, 0, 0, 0, 24))->status == SCSI_GOOD);
    clear_attentions(w->a, 1);
    write_begin(0, 0);
    add_range(0, 4);
    CHECK(send_list(w->a, 1, WUT, 2) == SCSI_GOOD);
}
WORLD_TEST(what_is_protected_is_not_written)

static void tokens_expire(struct world *w)
{
    populate_begin(0);
    be32_store(list + 4, 5);
    add_range(0, 4);
    uint64_t done;
    CHECK(send_list(w->a, 0, PT, 1) == SCSI_GOOD && rrti(w->a, 0, 1, &done) == 1);
    for (unsigned i = 0; i < 4; i++) { /* its use keeps it alive */
        CHECK(rt_sleep_ms(4000) == 0);
        write_begin(0, 0);
        add_range(0, 4);
        CHECK(send_list(w->a, 1, WUT, 2) == SCSI_GOOD);
    }
    CHECK(fake_holds == 1 && rt_sleep_ms(8000) == 0 && fake_holds == 0);
    CHECK(send_list(w->a, 1, WUT, 2) != 0 && sense_is(5, SCSI_ASC_TOKEN_EXPIRED));
    populate(w->a, 0, 0, 4); /* and somebody looks after the next one as well */
    CHECK(fake_holds == 1 && rt_sleep_ms(62000) == 0 && fake_holds == 0);
}

/* In virtual time. */
static void test_tokens_expire(void **state)
{
    (void)state;
    world_body = tokens_expire;
    assert_int_equal(rt_run(&(struct rt_options){.sim = true, .sim_seed = 1}, world_main, NULL), 0);
}

static enum scsi_status stop(struct scsi_nexus *n, uint32_t lun, uint32_t id)
{
    uint8_t cdb[16] = {0x83, 0x1c};
    be32_store(cdb + 2, id);
    return none(n, lun, cdb);
}

static void let_go(void *arg)
{
    CHECK(rt_sleep_ms(30) == 0);
    rt_event_set(arg);
}

static void copies_in_the_background(struct world *w)
{
    struct rt_event gate;
    uint64_t done;
    fill(w, 0, 1);
    populate(w->a, 0, 0, 8);
    rt_event_init(&gate);
    fake_gate = &gate;
    write_begin(1, 0);
    add_range(16, 8);
    CHECK(send_list(w->a, 1, WUT, 3) == SCSI_GOOD);
    CHECK(rrti(w->a, 1, 3, &done) == 0x12 && done == 0 && be32_load(reply.data + 8) > 0);
    CHECK(send_list(w->a, 1, WUT, 3) != 0 && sense_is(5, SCSI_ASC_OPERATION_IN_PROGRESS));
    CHECK(rt_spawn("gate", let_go, &gate) == 0);
    while (rrti(w->a, 1, 3, &done) == 0x12) {
        CHECK(rt_sleep_ms(1) == 0);
    }
    CHECK(rrti(w->a, 1, 3, &done) == 0x01 && done == 8);
    CHECK(memcmp(disk(w, 1)->data + 16 * 512, disk(w, 0)->data, 8 * 512) == 0);
    /* One that is stopped: whoever asked for that is answered when it has ended. */
    rt_event_reset(&gate);
    add_range(100, 0);
    CHECK(send_list(w->a, 1, WUT, 3) == SCSI_GOOD && rrti(w->a, 1, 3, &done) == 0x12);
    CHECK(stop(w->a, 1, 4) != 0 && field_is(2, 7) == false && sense_is(5, 0x2400));
    rt_yield(); /* it copies */
    CHECK(rt_spawn("gate", let_go, &gate) == 0);
    CHECK(stop(w->a, 1, 3) == SCSI_GOOD && rt_event_is_set(&gate));
    CHECK(rrti(w->a, 1, 3, &done) == 0x01 && stop(w->a, 1, 3) == SCSI_GOOD);
    /* A nexus takes those of its copies along that go on. */
    rt_event_reset(&gate);
    struct scsi_nexus *c = nexus_new(w, "iqn.c");
    clear_attentions(c, 1);
    CHECK(send_list(c, 1, WUT, 3) == SCSI_GOOD && rrti(c, 1, 3, &done) == 0x12);
    scsi_nexus_destroy(c);
    fake_gate = NULL;
    rt_event_destroy(&gate);
}
WORLD_TEST(copies_in_the_background)

/* Each has a fiber, so a nexus has no more than so many. */
static void copies_in_the_background_are_limited(struct world *w)
{
    struct rt_event gate;
    uint64_t done;
    fake_add(w->registry, 2, LUN_SIZE);
    for (uint32_t lun = 0; lun < 3; lun++) {
        clear_attentions(w->a, lun);
        clear_attentions(w->b, lun);
    }
    fill(w, 0, 1);
    populate(w->a, 0, 0, 8);
    rt_event_init(&gate);
    fake_gate = &gate;
    write_begin(1, 0);
    add_range(16, 8);
    for (uint32_t i = 0; i < 128; i++) {
        CHECK(send_list(w->a, i % 2, WUT, 10 + i) == SCSI_GOOD);
    }
    CHECK(send_list(w->a, 2, WUT, 3) == SCSI_BUSY && rrti(w->a, 2, 3, &done) == 0x02);
    CHECK(send_list(w->b, 2, WUT, 3) == SCSI_GOOD);
    fake_gate = NULL;
    rt_event_set(&gate);
    while (rrti(w->a, 1, 137, &done) == 0x12) {
        CHECK(rt_sleep_ms(1) == 0);
    }
    CHECK(send_list(w->a, 2, WUT, 3) == SCSI_GOOD);
    while (rrti(w->a, 2, 3, &done) == 0x12 || rrti(w->b, 2, 3, &done) == 0x12) {
        CHECK(rt_sleep_ms(1) == 0);
    }
    rt_event_destroy(&gate);
}
WORLD_TEST(copies_in_the_background_are_limited)

/* EXTENDED COPY(LID4), from LUN 0 to the unit the command is sent to. */
static void lid4(struct world *w, uint8_t usage, bool immed, uint32_t id, uint16_t blocks)
{
    struct dev_info info;
    dev_info(disk(w, 0), &info);
    memset(list, 0, sizeof list);
    list[0] = 1;
    list[1] = (uint8_t)(usage << 3);
    list[3] = 0x20;
    list[15] = immed;
    list[16] = 0xff;
    be32_store(list + 20, id);
    be16_store(list + 42, 32);
    be16_store(list + 44, 28);
    uint8_t *p = list + 48;
    p[0] = 0xe4;
    p[4] = 1;
    p[5] = 3;
    p[7] = 8;
    scsi_naa_put(&info.uuid, p + 8);
    p += 32;
    p[0] = 0x02;
    p[3] = 0x18;
    be16_store(p + 6, 0xffff);
    be16_store(p + 10, blocks);
    list_len = 108;
}

static void lid4_copies(struct world *w)
{
    fill(w, 0, 1);
    lid4(w, 0, false, 0x12345678, 50);
    CHECK(send_list(w->a, 1, 0x01, 0) == SCSI_GOOD);
    CHECK(memcmp(disk(w, 1)->data, disk(w, 0)->data, 50 * 512) == 0);
    struct reply *r = ask(w->a, 1, 0x05, 0x12345678);
    CHECK(r->status == SCSI_GOOD && r->len == 32 && r->data[4] == 1 && r->data[5] == 1);
    CHECK(r->data[15] == 0 && be64_load(r->data + 16) == 50 * 512);
    CHECK(be16_load(r->data + 24) == 1);
    be64_store(list + 80 + 12, LUN_BLOCKS);
    CHECK(send_list(w->a, 1, 0x01, 0) != 0 && sense_is(10, 0));
    r = ask(w->a, 1, 0x05, 0x12345678);
    CHECK(r->data[5] == 2 && r->data[12] == 2 && r->data[13] == 18 && r->len == 50);
    lid4(w, 3, false, 0, 1);
    CHECK(send_list(w->a, 1, 0x01, 0) == SCSI_GOOD);
    list[15] = 1;
    CHECK(send_list(w->a, 1, 0x01, 0) != 0 && list_is(0x2600, 15));
    lid4(w, 3, false, 7, 1);
    CHECK(send_list(w->a, 1, 0x01, 0) != 0 && list_is(0x2600, 20));
    lid4(w, 0, false, 7, 1);
    list[0] = 0;
    CHECK(send_list(w->a, 1, 0x01, 0) != 0 && list_is(0x2600, 0));
    lid4(w, 0, false, 7, 1);
    list[16] = 0;
    CHECK(send_list(w->a, 1, 0x01, 0) != 0 && list_is(0x2600, 16));
    lid4(w, 0, false, 7, 1);
    list[47] = 1;
    CHECK(send_list(w->a, 1, 0x01, 0) != 0 && sense_is(5, 0x260b));
    list_len = 47;
    CHECK(send_list(w->a, 1, 0x01, 0) != 0 && sense_is(5, 0x1a00));
    lid4(w, 0, true, 7, 9);
    CHECK(send_list(w->a, 1, 0x01, 0) == SCSI_GOOD);
    while ((r = ask(w->a, 1, 0x05, 7))->data[5] == 0x12) {
        CHECK(rt_sleep_ms(1) == 0);
    }
    CHECK(r->data[5] == 1 && be64_load(r->data + 16) == 9 * 512);
}
WORLD_TEST(lid4_copies)

/* What ends the commands of a unit ends, and waits for, copies that read it and were sent
 * elsewhere.
 */
static void copies_are_guests_elsewhere(struct world *w)
{
    struct rt_event gate;
    uint8_t extra[3];
    lid4(w, 0, true, 9, 8);
    rt_event_init(&gate);
    fake_gate = &gate;
    CHECK(send_list(w->a, 1, 0x01, 0) == SCSI_GOOD);
    rt_yield(); /* it copies */
    CHECK(ask(w->a, 1, 0x05, 9)->data[5] == 0x12);
    CHECK(rt_spawn("gate", let_go, &gate) == 0);
    CHECK(scsi_tmf(w->b, SCSI_TMF_LU_RESET, 0, 0, extra) == SCSI_TMF_COMPLETE);
    CHECK(rt_event_is_set(&gate) && ask(w->a, 1, 0x05, 9)->data[5] == 0x01);
    /* What is left of a copy whose unit was cleared is not done. */
    disk(w, 0)->info.size_bytes = disk(w, 1)->info.size_bytes = 64u << 20;
    clear_attentions(w->a, 0);
    lid4(w, 0, true, 9, 0xffff);
    rt_event_reset(&gate);
    CHECK(send_list(w->a, 1, 0x01, 0) == SCSI_GOOD);
    rt_yield();
    CHECK(rt_spawn("gate", let_go, &gate) == 0);
    CHECK(scsi_tmf(w->b, SCSI_TMF_LU_RESET, 0, 0, extra) == SCSI_TMF_COMPLETE);
    struct reply *r = ask(w->a, 1, 0x05, 9);
    CHECK(r->data[5] == 0x02 && be64_load(r->data + 16) == 16u << 20);
    CHECK((r->data[34] & 15) == SCSI_KEY_COPY_ABORTED && be16_load(r->data + 44) == 0x2f00);
    fake_gate = NULL;
    rt_event_destroy(&gate);
    /* The unit it was sent to itself. */
    lid4(w, 0, true, 9, 8);
    CHECK(send_list(w->a, 1, 0x01, 0) == SCSI_GOOD);
    CHECK(scsi_tmf(w->b, SCSI_TMF_LU_RESET, 1ull << 48, 0, extra) == SCSI_TMF_COMPLETE);
    clear_attentions(w->a, 1);
    uint8_t operation = ask(w->a, 1, 0x05, 9)->data[5];
    CHECK(operation == 0x60 || operation == 0x01);
}
WORLD_TEST(copies_are_guests_elsewhere)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_a_token_stands_for_does_not_change),
        cmocka_unit_test(test_lists_that_are_wrong),
        cmocka_unit_test(test_tokens_that_are_wrong),
        cmocka_unit_test(test_the_zero_token_writes_zeroes),
        cmocka_unit_test(test_an_initiator_has_so_many),
        cmocka_unit_test(test_nobody_keeps_all_tokens),
        cmocka_unit_test(test_what_is_protected_is_not_written),
        cmocka_unit_test(test_tokens_expire),
        cmocka_unit_test(test_copies_in_the_background),
        cmocka_unit_test(test_copies_in_the_background_are_limited),
        cmocka_unit_test(test_lid4_copies),
        cmocka_unit_test(test_copies_are_guests_elsewhere),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
