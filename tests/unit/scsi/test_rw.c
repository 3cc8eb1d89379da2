/* SPDX-License-Identifier: Apache-2.0 */
#include "scsi/scsi_priv.h"
#include "scsi_test.h"

static uint8_t pattern[65536];

static void fill(unsigned seed)
{
    for (size_t i = 0; i < sizeof pattern; i++) {
        pattern[i] = (uint8_t)(i * 7 + i / 512 * 31 + seed);
    }
}

static void what_is_written_is_read_back(struct world *w)
{
    static const struct {
        uint8_t write[16];
        uint8_t read[16];
    } sizes[] = {
        {{0x0a, 0, 0, 10, 4}, {0x08, 0, 0, 10, 4}},
        {{0x2a, 0, 0, 0, 0, 20, 0, 0, 4}, {0x28, 0, 0, 0, 0, 20, 0, 0, 4}},
        {{0xaa, 0, 0, 0, 0, 30, 0, 0, 0, 4}, {0xa8, 0, 0, 0, 0, 30, 0, 0, 0, 4}},
        {{0x8a, 0, 0, 0, 0, 0, 0, 0, 0, 40, 0, 0, 0, 4},
         {0x88, 0, 0, 0, 0, 0, 0, 0, 0, 40, 0, 0, 0, 4}},
        {{0x2e, 0, 0, 0, 0, 50, 0, 0, 4}, {0x28, 0, 0, 0, 0, 50, 0, 0, 4}},
        {{0xae, 2, 0, 0, 0, 60, 0, 0, 0, 4}, {0xa8, 0, 0, 0, 0, 60, 0, 0, 0, 4}},
        {{0x8e, 2, 0, 0, 0, 0, 0, 0, 0, 70, 0, 0, 0, 4},
         {0x88, 0, 0, 0, 0, 0, 0, 0, 0, 70, 0, 0, 0, 4}},
    };
    for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
        fill((unsigned)i);
        CHECK(out(w->a, 0, pattern, 2048, sizes[i].write)->status == SCSI_GOOD);
        struct reply *r = in(w->b, 0, 2048, sizes[i].read);
        CHECK(r->status == SCSI_GOOD && r->len == 2048 && !r->under && !r->over);
        CHECK(memcmp(r->data, pattern, 2048) == 0);
        CHECK(memcmp(disk(w, 0)->data + (i + 1) * 10 * 512, pattern, 2048) == 0);
    }
}
WORLD_TEST(what_is_written_is_read_back)

static bool is_ready(struct world *w, const uint8_t *cdb, enum scsi_attr attr)
{
    struct scsi_task t;
    task_start(&t, w->a, 0, cdb);
    t.transport_read = true;
    t.edtl = 4096;
    t.attr = attr;
    scsi_task_begin(&t);
    bool ready = scsi_task_run_ready(&t);
    CHECK(ready == t.ended && t.status == SCSI_GOOD);
    CHECK(t.data_in.len == (ready ? 4096u : 0));
    scsi_task_end(&t);
    return ready;
}

static void only_plain_reads_are_ready(struct world *w)
{
    (void)in(w->a, 0, 512, CDB(0x28, 0, 0, 0, 0, 0, 0, 0, 1));
    CHECK(is_ready(w, CDB(0x28, 0, 0, 0, 0, 0, 0, 0, 8), SCSI_ATTR_SIMPLE));
    CHECK(is_ready(w, CDB(0x88, 0, 0, 0, 0, 0, 0, 0, 0, 8, 0, 0, 0, 8), SCSI_ATTR_HEAD));
    CHECK(!is_ready(w, CDB(0x28, 0x08, 0, 0, 0, 0, 0, 0, 8), SCSI_ATTR_SIMPLE)); /* FUA */
    CHECK(!is_ready(w, CDB(0x28, 0, 0, 0, 0, 0, 0, 0, 8), SCSI_ATTR_ORDERED));
    CHECK(!is_ready(w, CDB(0x35), SCSI_ATTR_SIMPLE)); /* SYNCHRONIZE CACHE */
}
WORLD_TEST(only_plain_reads_are_ready)

static void ranges_end_at_the_last_block(struct world *w)
{
    uint8_t last[16] = {0x28};
    be32_store(last + 2, LUN_BLOCKS - 1);
    last[8] = 1;
    CHECK(in(w->a, 0, 512, last)->status == SCSI_GOOD);
    last[8] = 2;
    CHECK(in(w->a, 0, 1024, last)->residual == 1024 && sense_is(SCSI_KEY_ILLEGAL_REQUEST, 0x2100));
    be32_store(last + 2, LUN_BLOCKS);
    last[8] = 0;
    CHECK(in(w->a, 0, 0, last)->status == SCSI_GOOD);
    be32_store(last + 2, LUN_BLOCKS + 1);
    CHECK(in(w->a, 0, 0, last)->status == SCSI_CHECK_CONDITION && sense_is(5, 0x2100));
    uint8_t far[16] = {0x88};
    be64_store(far + 2, UINT64_MAX);
    far[13] = 1;
    CHECK(in(w->a, 0, 512, far)->status == SCSI_CHECK_CONDITION && sense_is(5, 0x2100));
    far[0] = 0x8a;
    CHECK(out(w->a, 0, pattern, 512, far)->status == SCSI_CHECK_CONDITION && sense_is(5, 0x2100));
    uint8_t six[16] = {0x08, 0x00, 0x3f, 0xff, 0};
    CHECK(in(w->a, 0, 256 * 512, six)->status == SCSI_CHECK_CONDITION && sense_is(5, 0x2100));
}
WORLD_TEST(ranges_end_at_the_last_block)

static void protection_and_naca_are_refused(struct world *w)
{
    CHECK(in(w->a, 0, 512, CDB(0x28, 0x20, 0, 0, 0, 0, 0, 0, 1))->len == 0 && field_is(1, 7));
    CHECK(out(w->a, 0, pattern, 512, CDB(0x2a, 0xe0, 0, 0, 0, 0, 0, 0, 1))->len == 0);
    CHECK(field_is(1, 7));
    CHECK(in(w->a, 0, 512, CDB(0x28, 0, 0, 0, 0, 0, 0, 0, 1, 4))->len == 0 && field_is(9, 2));
    /* READ(6) has its LBA there. */
    CHECK(in(w->a, 0, 512, CDB(0x08, 0xe0, 0, 0, 1))->status == SCSI_GOOD);
}
WORLD_TEST(protection_and_naca_are_refused)

static void too_long_a_transfer_points_at_its_length(struct world *w)
{
    struct dev *d = disk(w, 0);
    d->info.size_bytes = 1ull << 40;
    uint8_t cdb[16] = {0x88};
    be32_store(cdb + 10, (32u << 20) / 512 + 1);
    CHECK(in(w->a, 0, 512, cdb)->status == SCSI_CHECK_CONDITION && field_is(10, 7));
    d->info.size_bytes = LUN_SIZE;
}
WORLD_TEST(too_long_a_transfer_points_at_its_length)

static void fua_and_sync_reach_the_store(struct world *w)
{
    struct dev *d = disk(w, 0);
    CHECK(out(w->a, 0, pattern, 512, CDB(0x2a, 0x08, 0, 0, 0, 0, 0, 0, 1))->status == SCSI_GOOD);
    CHECK(d->fua_writes == 1 && d->flushes == 0);
    CHECK(in(w->a, 0, 512, CDB(0x28, 0x18, 0, 0, 0, 0, 0, 0, 1))->status == SCSI_GOOD);
    CHECK(d->flushes == 1);
    CHECK(none(w->a, 0, CDB(0x35)) == SCSI_GOOD && d->flushes == 2);
    CHECK(none(w->a, 0, CDB(0x91, 2, 0, 0, 0, 0, 0, 0, 0, 1)) == SCSI_GOOD && d->flushes == 3);
    CHECK(none(w->a, 0, CDB(0x35, 0, 0xff)) == SCSI_CHECK_CONDITION && sense_is(5, 0x2100));
    CHECK(none(w->a, 0, CDB(0x1b, 0, 0, 0, 0)) == SCSI_GOOD && d->flushes == 4);
    CHECK(none(w->a, 0, CDB(0x1b, 0, 0, 0, 1)) == SCSI_GOOD && d->flushes == 4);
    CHECK(none(w->a, 0, CDB(0x1b, 0, 0, 0, 4)) == SCSI_GOOD && d->flushes == 4);
    CHECK(none(w->a, 0, CDB(0x1b, 0, 0, 0, 2)) == SCSI_CHECK_CONDITION && field_is(4, 1));
}
WORLD_TEST(fua_and_sync_reach_the_store)

/* Not done, and an error that initiators do not repeat by themselves; once. */
static void a_lost_cache_is_told_by_what_makes_durable(struct world *w)
{
    struct dev *d = disk(w, 0);
    const uint8_t *fua[] = {CDB(0x2a, 0x08, 0, 0, 0, 0, 0, 0, 1),
                            CDB(0x2e, 0x00, 0, 0, 0, 0, 0, 0, 1)};
    for (size_t i = 0; i < ARRAY_LEN(fua); i++) {
        unsigned before = d->fua_writes;
        fake_loss = ERR_CACHE_LOST;
        CHECK(out(w->a, 0, pattern, 512, fua[i])->status == SCSI_CHECK_CONDITION);
        CHECK(sense_is(SCSI_KEY_HARDWARE_ERROR, 0x0c00) && reply.sense[0] == 0x70);
        CHECK(d->fua_writes == before);
        CHECK(out(w->a, 0, pattern, 512, fua[i])->status == SCSI_GOOD);
        CHECK(d->fua_writes == before + 1);
    }
    fake_loss = ERR_CACHE_LOST;
    CHECK(none(w->a, 0, CDB(0x35)) == SCSI_CHECK_CONDITION && sense_is(4, 0x0c00));
    CHECK(d->flushes == 0);
    CHECK(none(w->a, 0, CDB(0x35)) == SCSI_GOOD && d->flushes == 1);
    fake_loss = ERR_CACHE_LOST;
    CHECK(out(w->a, 0, pattern, 512, CDB(0x2a, 0, 0, 0, 0, 0, 0, 0, 1))->status == SCSI_GOOD);
    CHECK(in(w->a, 0, 512, CDB(0x28, 0x08, 0, 0, 0, 0, 0, 0, 1))->status == SCSI_GOOD);
    CHECK(fake_loss == ERR_CACHE_LOST);
    fake_loss = 0;
}
WORLD_TEST(a_lost_cache_is_told_by_what_makes_durable)

/* SYNCHRONIZE CACHE that came that way, whose response goes out or not. */
static enum scsi_status sync_by(struct scsi_nexus *n, const void *way, bool sent)
{
    struct scsi_task t;
    task_start(&t, n, 0, CDB(0x35));
    t.way = way;
    scsi_task_begin(&t);
    scsi_task_run(&t);
    CHECK(t.tells_loss == (t.status != SCSI_GOOD));
    if (sent && t.tells_loss) {
        scsi_task_told(&t);
    }
    task_finish(&t, &reply);
    return reply.status;
}

static void who_was_told_has_heard_or_not(struct world *w)
{
    const int ways[2] = {0};
    fake_heard = 0;
    fake_unheard = 0;
    fake_loss = ERR_CACHE_LOST;
    CHECK(sync_by(w->a, &ways[0], false) == SCSI_CHECK_CONDITION && fake_unheard == 1);
    fake_loss = ERR_CACHE_LOST;
    CHECK(sync_by(w->a, &ways[0], true) == SCSI_CHECK_CONDITION && sense_is(4, 0x0c00));
    CHECK(sync_by(w->a, &ways[0], true) == SCSI_GOOD);
    scsi_nexus_heard(w->a, &ways[1], true);
    CHECK(fake_heard == 0);
    CHECK(sync_by(w->a, &ways[1], true) == SCSI_CHECK_CONDITION && sense_is(4, 0x0c00));
    scsi_nexus_heard(w->a, &ways[0], false);
    CHECK(fake_heard == 0 && fake_unheard == 1);
    scsi_nexus_heard(w->a, &ways[1], true);
    CHECK(fake_heard == 1 && fake_unheard == 1);
    CHECK(sync_by(w->a, &ways[0], true) == SCSI_GOOD);
    fake_loss = ERR_CACHE_LOST;
    CHECK(sync_by(w->a, &ways[1], true) == SCSI_CHECK_CONDITION);
    scsi_nexus_heard(w->a, &ways[1], false);
    CHECK(fake_heard == 1 && fake_unheard == 2);
    CHECK(sync_by(w->b, &ways[1], true) == SCSI_GOOD);
}
WORLD_TEST(who_was_told_has_heard_or_not)

/* However many ways it comes: each is told once, and what is heard on any of them is heard. */
static void each_way_is_told_once(struct world *w)
{
    const int ways[SCSI_TOLD_WAYS_MAX + 1] = {0};
    fake_heard = 0;
    fake_unheard = 0;
    fake_loss = ERR_CACHE_LOST;
    for (unsigned i = 0; i <= SCSI_TOLD_WAYS_MAX; i++) {
        CHECK(sync_by(w->a, &ways[i], true) == SCSI_CHECK_CONDITION);
        CHECK(sync_by(w->a, &ways[0], true) == SCSI_GOOD);
    }
    scsi_nexus_heard(w->a, &ways[SCSI_TOLD_WAYS_MAX], true); /* one too many to keep in mind */
    CHECK(sync_by(w->a, &ways[SCSI_TOLD_WAYS_MAX], false) == SCSI_CHECK_CONDITION);
    CHECK(fake_heard == 0 && fake_unheard == 0);
    scsi_nexus_heard(w->a, &ways[1], false);
    scsi_nexus_heard(w->a, &ways[0], true);
    CHECK(fake_heard == 1 && fake_unheard == 0);
    for (unsigned i = 0; i <= SCSI_TOLD_WAYS_MAX; i++) {
        CHECK(sync_by(w->a, &ways[i], true) == SCSI_GOOD);
        scsi_nexus_heard(w->a, &ways[i], false);
    }
    CHECK(fake_heard == 1 && fake_unheard == 0);
}
WORLD_TEST(each_way_is_told_once)

static void prefetch_says_condition_met(struct world *w)
{
    CHECK(none(w->a, 0, CDB(0x34, 0, 0, 0, 0, 0, 0, 0, 8)) == SCSI_CONDITION_MET);
    CHECK(none(w->a, 0, CDB(0x90, 2)) == SCSI_CONDITION_MET);
    CHECK(none(w->a, 0, CDB(0x34, 0, 0xff, 0, 0, 0, 0, 0, 8)) == SCSI_CHECK_CONDITION);
}
WORLD_TEST(prefetch_says_condition_met)

static void residuals_of_reads(struct world *w)
{
    const uint8_t *two = CDB(0x28, 0, 0, 0, 0, 0, 0, 0, 2);
    struct reply *r = in(w->a, 0, 10000, two);
    CHECK(r->len == 1024 && r->under && r->residual == 10000 - 1024);
    r = in(w->a, 0, 512, two);
    CHECK(r->status == SCSI_GOOD && r->len == 512 && r->over && r->residual == 512);
    r = in(w->a, 0, 200, two);
    CHECK(r->len == 200 && r->over && r->residual == 824);
    r = in(w->a, 0, 0, two);
    CHECK(r->len == 0 && r->over && r->residual == 1024);
    /* No data of a failed command counts. */
    r = in(w->a, 0, 512, CDB(0x28, 0, 0xff, 0, 0, 0, 0, 0, 1));
    CHECK(r->status == SCSI_CHECK_CONDITION && r->under && r->residual == 512);
}
WORLD_TEST(residuals_of_reads)

static void residuals_of_writes(struct world *w)
{
    struct dev *d = disk(w, 0);
    const uint8_t *two = CDB(0x2a, 0, 0, 0, 0, 0, 0, 0, 2);
    memset(d->data, 0xee, 2048);
    fill(1);
    struct reply *r = out(w->a, 0, pattern, 512, two);
    CHECK(r->status == SCSI_GOOD && r->over && r->residual == 512);
    CHECK(memcmp(d->data, pattern, 512) == 0 && d->data[512] == 0xee);
    /* Only whole blocks are written. */
    memset(d->data, 0xee, 2048);
    r = out(w->a, 0, pattern, 700, two);
    CHECK(r->over && r->residual == 324 && d->data[511] == pattern[511] && d->data[512] == 0xee);
    r = out(w->a, 0, pattern, 4096, two);
    CHECK(r->status == SCSI_GOOD && r->under && r->residual == 4096 - 1024);
    CHECK(memcmp(d->data, pattern, 1024) == 0 && d->data[1024] == 0xee);
}
WORLD_TEST(residuals_of_writes)

static void verify_compares(struct world *w)
{
    struct dev *d = disk(w, 0);
    fill(3);
    memcpy(d->data, pattern, 4096);
    CHECK(none(w->a, 0, CDB(0x2f, 0, 0, 0, 0, 0, 0, 0, 8)) == SCSI_GOOD);
    CHECK(out(w->a, 0, pattern, 4096, CDB(0x2f, 2, 0, 0, 0, 0, 0, 0, 8))->status == SCSI_GOOD);
    pattern[3001] ^= 1;
    CHECK(out(w->a, 0, pattern, 4096, CDB(0x2f, 2, 0, 0, 0, 0, 0, 0, 8))->status != SCSI_GOOD);
    CHECK(sense_is(SCSI_KEY_MISCOMPARE, 0x1d00) && be32_load(reply.sense + 3) == 3001);
    CHECK(reply.sense[0] == 0xf0);
    for (size_t i = 0; i < 8; i++) {
        memset(d->data + i * 512, 0x5a, 512);
    }
    memset(pattern, 0x5a, 512);
    const uint8_t *same = CDB(0xaf, 6, 0, 0, 0, 0, 0, 0, 0, 8);
    CHECK(out(w->a, 0, pattern, 512, same)->status == SCSI_GOOD);
    d->data[2049] = 0;
    CHECK(out(w->a, 0, pattern, 512, same)->status == SCSI_CHECK_CONDITION);
    CHECK(sense_is(SCSI_KEY_MISCOMPARE, 0x1d00) && be32_load(reply.sense + 3) == 2049);
    CHECK(none(w->a, 0, CDB(0x8f, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1)) != 0 && field_is(1, 2));
    CHECK(none(w->a, 0, CDB(0x2f, 0x20, 0, 0, 0, 0, 0, 0, 1)) != 0 && field_is(1, 7));
    CHECK(none(w->a, 0, CDB(0x2f)) == SCSI_GOOD);
}
WORLD_TEST(verify_compares)

static unsigned turns;
static bool counting;

static void count_turns(void *arg)
{
    (void)arg;
    while (counting) {
        turns++;
        rt_yield();
    }
}

/* However long the range is, and however quickly each part of it is there. */
static void verify_lets_others_run(struct world *w)
{
    turns = 0;
    counting = true;
    CHECK(rt_spawn("other", count_turns, NULL) == 0);
    CHECK(none(w->a, 0, CDB(0x8f, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x40)) == SCSI_GOOD);
    counting = false;
    CHECK(turns >= 8);
    rt_yield();
}
WORLD_TEST(verify_lets_others_run)

static void compare_and_write_is_all_or_nothing(struct world *w)
{
    struct dev *d = disk(w, 0);
    fill(5);
    memcpy(d->data, pattern, 1024);
    uint8_t both[2048];
    memcpy(both, pattern, 1024);
    memset(both + 1024, 0x77, 1024);
    const uint8_t *cdb = CDB(0x89, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2);
    CHECK(out(w->a, 0, both, 2048, cdb)->status == SCSI_GOOD);
    CHECK(d->data[0] == 0x77 && d->data[1023] == 0x77 && d->locked == 0);
    d->data[600] = 1;
    memset(both, 0x77, 1024);
    memset(both + 1024, 0x11, 1024);
    CHECK(out(w->a, 0, both, 2048, cdb)->status == SCSI_CHECK_CONDITION);
    CHECK(sense_is(SCSI_KEY_MISCOMPARE, 0x1d00) && be32_load(reply.sense + 3) == 600);
    CHECK(d->data[0] == 0x77 && d->locked == 0);
    CHECK(out(w->a, 0, both, 1024, cdb)->status != 0 && field_is(13, 7));
    CHECK(out(w->a, 0, both, 1024, CDB(0x89))->status != 0 && field_is(13, 7));
    CHECK(out(w->a, 0, both, 0, CDB(0x89))->status == SCSI_GOOD);
    const uint8_t *many = CDB(0x89, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 129);
    CHECK(out(w->a, 0, pattern, 512, many)->status != 0 && field_is(13, 7));
    d->fail = -EIO;
    CHECK(out(w->a, 0, both, 2048, cdb)->status != 0 && sense_is(SCSI_KEY_MEDIUM_ERROR, 0x0c00));
    d->fail = 0;
}
WORLD_TEST(compare_and_write_is_all_or_nothing)

static void orwrite_sets_bits(struct world *w)
{
    struct dev *d = disk(w, 0);
    memset(d->data + 512, 0x0f, 1024);
    memset(pattern, 0xa0, 1024);
    const uint8_t *cdb = CDB(0x8b, 0x08, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 2);
    CHECK(out(w->a, 0, pattern, 1024, cdb)->status == SCSI_GOOD);
    CHECK(d->data[512] == 0xaf && d->data[1535] == 0xaf && d->data[1536] == 0 && d->flushes == 1);
}
WORLD_TEST(orwrite_sets_bits)

static void an_atomic_write_is_one_write(struct world *w)
{
    struct dev *d = disk(w, 0);
    fill(9);
    const uint8_t *cdb = CDB(0x9c, 0, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 2);
    CHECK(out(w->a, 0, pattern, 1024, cdb)->status == SCSI_GOOD);
    CHECK(memcmp(d->data + 3 * 512, pattern, 1024) == 0);
    CHECK(d->atomic_writes == 1 && d->fua_writes == 0);
    const uint8_t *fua = CDB(0x9c, 0x08, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 128);
    CHECK(out(w->a, 0, pattern, 65536, fua)->status == SCSI_GOOD);
    CHECK(d->atomic_writes == 2 && d->fua_writes == 1);
    CHECK(none(w->a, 0, CDB(0x9c)) == SCSI_GOOD && d->atomic_writes == 2);
    /* What VPD page B0h says, it is: no more than that, no boundary, and never a part. */
    struct reply *r = in(w->a, 0, 255, CDB(0x12, 1, 0xb0, 0, 255));
    CHECK(be32_load(r->data + 44) == 128);
    for (size_t at = 48; at < 64; at += 4) {
        CHECK(be32_load(r->data + at) == 0);
    }
    const uint8_t *more = CDB(0x9c, 0, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 129);
    CHECK(out(w->a, 0, pattern, 65536, more)->status != 0 && field_is(12, 7));
    const uint8_t *boundary = CDB(0x9c, 0, 0, 0, 0, 0, 0, 0, 0, 3, 0, 1, 0, 2);
    CHECK(out(w->a, 0, pattern, 1024, boundary)->status != 0 && field_is(10, 7));
    CHECK(out(w->a, 0, pattern, 512, cdb)->status != 0 && field_is(12, 7));
    const uint8_t *protect = CDB(0x9c, 0x20, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 2);
    CHECK(out(w->a, 0, pattern, 1024, protect)->status != 0 && field_is(1, 7));
    uint8_t far[16] = {0x9c};
    be64_store(far + 2, LUN_BLOCKS - 1);
    far[13] = 2;
    CHECK(out(w->a, 0, pattern, 1024, far)->status != 0 && sense_is(5, 0x2100));
    CHECK(d->atomic_writes == 2);
}
WORLD_TEST(an_atomic_write_is_one_write)

static void errors_become_sense(struct world *w)
{
    static const struct {
        int r;
        uint8_t key;
        uint16_t read_asc;
        uint16_t write_asc;
    } rows[] = {
        {-EIO, 3, 0x1100, 0x0c00},         {ERR_CORRUPT_FRAME, 3, 0x1100, 0x0c00},
        {-ENOSPC, 7, 0x2707, 0x2707},      {ERR_FENCED, 2, 0x0403, 0x0403},
        {-ENODEV, 5, 0x2500, 0x2500},      {-ECANCELED, 0xb, 0, 0},
        {-ETIMEDOUT, 0xb, 0x2e01, 0x2e01}, {-EPROTO, 4, 0x4400, 0x4400},
    };
    struct dev *d = disk(w, 0);
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        d->fail = rows[i].r;
        CHECK(in(w->a, 0, 512, CDB(0x28, 0, 0, 0, 0, 0, 0, 0, 1))->len == 0);
        CHECK(sense_is(rows[i].key, rows[i].read_asc));
        CHECK(out(w->a, 0, pattern, 512, CDB(0x2a, 0, 0, 0, 0, 0, 0, 0, 1))->status != SCSI_GOOD);
        CHECK(sense_is(rows[i].key, rows[i].write_asc));
    }
    d->fail = -ENOMEM;
    CHECK(in(w->a, 0, 512, CDB(0x28, 0, 0, 0, 0, 0, 0, 0, 1))->status == SCSI_BUSY);
    d->fail = 0;
}
WORLD_TEST(errors_become_sense)

/* A unit with blocks of 4 KiB: every length and limit follows. */
static void big_blocks(struct world *w)
{
    struct dev *d = fake_dev_new(9, LUN_SIZE);
    d->info.logical_block_bytes = 4096;
    w->registry->luns[2] = d;
    w->registry->generation++;
    clear_attentions(w->a, 9);
    struct reply *r = in(w->a, 9, 32, CDB(0x9e, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 32));
    CHECK(be64_load(r->data) == LUN_SIZE / 4096 - 1 && be32_load(r->data + 8) == 4096);
    CHECK(r->data[13] == 0);
    r = in(w->a, 9, 255, CDB(0x12, 1, 0xb0, 0, 255));
    CHECK(be16_load(r->data + 6) == 1 && be32_load(r->data + 8) == (32u << 20) / 4096);
    CHECK(be32_load(r->data + 28) == 1);
    fill(9);
    CHECK(out(w->a, 9, pattern, 8192, CDB(0x2a, 0, 0, 0, 0, 3, 0, 0, 2))->status == SCSI_GOOD);
    CHECK(memcmp(d->data + 3 * 4096, pattern, 8192) == 0);
    r = in(w->a, 9, 8192, CDB(0x28, 0, 0, 0, 0, 3, 0, 0, 2));
    CHECK(r->len == 8192 && memcmp(r->data, pattern, 8192) == 0);
    CHECK(out(w->a, 9, pattern, 4096, CDB(0x41, 0, 0, 0, 0, 7, 0, 0, 3))->status == SCSI_GOOD);
    CHECK(memcmp(d->data + 9 * 4096, pattern, 4096) == 0 && d->data[10 * 4096 + 1] == 0);
}
WORLD_TEST(big_blocks)

static void unknown_commands(struct world *w)
{
    CHECK(none(w->a, 0, CDB(0xc0)) == SCSI_CHECK_CONDITION && sense_is(5, 0x2000));
    CHECK(none(w->a, 0, CDB(0x7f)) == SCSI_CHECK_CONDITION && sense_is(5, 0x2000));
    CHECK(none(w->a, 0, CDB(0x9e, 0x1f)) == SCSI_CHECK_CONDITION && field_is(1, 4));
}
WORLD_TEST(unknown_commands)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_is_written_is_read_back),
        cmocka_unit_test(test_only_plain_reads_are_ready),
        cmocka_unit_test(test_ranges_end_at_the_last_block),
        cmocka_unit_test(test_protection_and_naca_are_refused),
        cmocka_unit_test(test_too_long_a_transfer_points_at_its_length),
        cmocka_unit_test(test_fua_and_sync_reach_the_store),
        cmocka_unit_test(test_prefetch_says_condition_met),
        cmocka_unit_test(test_a_lost_cache_is_told_by_what_makes_durable),
        cmocka_unit_test(test_who_was_told_has_heard_or_not),
        cmocka_unit_test(test_each_way_is_told_once),
        cmocka_unit_test(test_residuals_of_reads),
        cmocka_unit_test(test_residuals_of_writes),
        cmocka_unit_test(test_verify_compares),
        cmocka_unit_test(test_verify_lets_others_run),
        cmocka_unit_test(test_compare_and_write_is_all_or_nothing),
        cmocka_unit_test(test_orwrite_sets_bits),
        cmocka_unit_test(test_an_atomic_write_is_one_write),
        cmocka_unit_test(test_errors_become_sense),
        cmocka_unit_test(test_big_blocks),
        cmocka_unit_test(test_unknown_commands),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
