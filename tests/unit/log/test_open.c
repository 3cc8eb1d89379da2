/* SPDX-License-Identifier: Apache-2.0 */
/* Opening: replay, fences, and what must be refused. In virtual time, over a store with delays. */
#include "base/crc32c.h"
#include "base/endian.h"
#include "base/err.h"
#include "base/msg.h"
#include "base/time.h"
#include "log_test.h"

struct scene {
    struct obj_store *mem;
    struct obj_store *s;
    struct seen *seen;
    struct log_open_result o;
};

static struct scene setup(void)
{
    struct scene c = {.seen = calloc(1, sizeof *c.seen)};
    struct obj_store *shared;
    CHECK(c.seen && obj_mem_open(&c.mem) == 0 && obj_share(c.mem, &shared) == 0);
    CHECK(obj_delay_wrap(shared, &(struct obj_delay_options){10, 20}, &c.s) == 0);
    return c;
}

static void teardown(struct scene *c)
{
    obj_close(c->s);
    obj_close(c->mem);
    free(c->seen);
}

static int open_as(struct scene *c, uint64_t epoch)
{
    c->seen->count = 0;
    struct log_open_options opt = open_options(c->s, epoch);
    return log_open(&opt, see, c->seen, &c->o);
}

/* Opens as that epoch and writes count batches with rising numbers. */
static void write_as(struct scene *c, uint64_t epoch, uint64_t count)
{
    CHECK(open_as(c, epoch) == 0);
    struct log *l = make_log(c->mem, epoch, c->o.next_seq);
    for (uint64_t i = 0; i < count; i++) {
        CHECK(commit_number(l, epoch * 1000 + i, NULL) == 0);
    }
    log_destroy(l);
}

static void drop(struct scene *c, uint64_t seq)
{
    char name[OBJ_NAME_SIZE];
    log_segment_name(seq, name);
    CHECK(obj_remove(c->mem, OBJ_COLLECT, name) == 0);
}

static bool exists(struct scene *c, uint64_t seq)
{
    char name[OBJ_NAME_SIZE];
    uint64_t size;
    log_segment_name(seq, name);
    return obj_head(c->mem, OBJ_READ, name, &size) == 0;
}

static void flip(struct scene *c, uint64_t seq, size_t from_end)
{
    char name[OBJ_NAME_SIZE];
    log_segment_name(seq, name);
    struct rt_buf *b;
    size_t len;
    struct rt_chain body = {0};
    CHECK(obj_get_all(c->mem, OBJ_READ, name, 1 << 20, &b, &len) == 0);
    b->data[len - from_end] ^= 0x10;
    drop(c, seq);
    CHECK(rt_chain_add(&body, b, b->data, (uint32_t)len) == 0);
    CHECK(obj_put(c->mem, OBJ_COMMIT, name, &body) == 0);
    rt_chain_free(&body);
    rt_buf_unref(b);
}

static void many_epochs(void *arg)
{
    (void)arg;
    struct scene c = setup();
    uint64_t want = 0;
    uint64_t fence = 1;
    for (uint64_t epoch = 1; epoch <= 5; epoch++) {
        write_as(&c, epoch, epoch * 3);
        CHECK(c.o.fence_seq == fence && c.o.next_seq == fence + LOG_WINDOW);
        CHECK(c.seen->count == want);
        want += epoch * 3;
        fence = c.o.next_seq + epoch * 3;
    }
    CHECK(open_as(&c, 6) == 0 && c.seen->count == want);
    for (size_t i = 1; i < want; i++) {
        CHECK(c.seen->numbers[i] > c.seen->numbers[i - 1]);
    }
    teardown(&c);
}

/* A thousand segments of 15 ms each are read 64 at a time. */
static void long_replay(void *arg)
{
    (void)arg;
    struct scene c = setup();
    write_as(&c, 1, 1000);
    uint64_t from = rt_now_ns();
    CHECK(open_as(&c, 2) == 0 && c.seen->count == 1000);
    CHECK(rt_now_ns() - from < 1000 * 15 * NS_PER_MS / 10);
    /* From a later position only the rest is read. */
    struct log_open_options opt = open_options(c.s, 3);
    opt.replay_from = c.o.fence_seq - 10;
    opt.log_epoch = 1;
    c.seen->count = 0;
    CHECK(log_open(&opt, see, c.seen, &c.o) == 0 && c.seen->count == 10);
    teardown(&c);
}

static void gap_is_refused(void *arg)
{
    (void)arg;
    struct scene c = setup();
    write_as(&c, 1, 10);
    uint64_t lost = c.o.next_seq + 4;
    drop(&c, lost);
    CHECK(open_as(&c, 2) == ERR_LOG_GAP);
    CHECK(!exists(&c, lost)); /* no fence that would hide it */
    CHECK(open_as(&c, 3) == ERR_LOG_GAP);
    /* The end of the log is told only by a clean close. */
    struct scene d = setup();
    write_as(&d, 1, 10);
    uint64_t last = d.o.next_seq + 9;
    drop(&d, last);
    struct log_open_options opt = open_options(d.s, 2);
    opt.closed_through = last;
    CHECK(log_open(&opt, see, d.seen, &d.o) == ERR_LOG_GAP && !exists(&d, last));
    opt.closed_through = last - 1;
    CHECK(log_open(&opt, see, d.seen, &d.o) == 0 && d.o.fence_seq == last);
    teardown(&c);
    teardown(&d);
}

/* What old writers left in the dead zone is never looked at again. */
static void zombies(void *arg)
{
    (void)arg;
    struct scene c = setup();
    write_as(&c, 1, 3);
    CHECK(open_as(&c, 2) == 0);
    uint64_t fence = c.o.fence_seq;
    struct log *old = make_log(c.mem, 1, fence);
    uint64_t seq;
    CHECK(log_reserve(old, &seq) == 0 && seq == fence); /* never sent */
    for (uint64_t i = 1; i < LOG_WINDOW; i++) {
        CHECK(commit_number(old, 99, NULL) == 0);
    }
    struct log_batch b = {0};
    CHECK(log_commit(old, seq, &b) == ERR_FENCED && log_is_fenced(old));
    log_destroy(old);
    struct log *l = make_log(c.mem, 2, c.o.next_seq);
    CHECK(commit_number(l, 2000, NULL) == 0);
    log_destroy(l);
    CHECK(open_as(&c, 3) == 0 && c.seen->count == 4 && c.seen->numbers[3] == 2000);
    teardown(&c);
}

static void overtaken(void *arg)
{
    (void)arg;
    struct scene c = setup();
    write_as(&c, 1, 2);
    CHECK(open_as(&c, 3) == 0);
    CHECK(open_as(&c, 2) == ERR_FENCED); /* a fence of a later epoch */
    CHECK(open_as(&c, 3) == ERR_FENCED); /* of our own, but not ours */
    CHECK(open_as(&c, 4) == 0);
    teardown(&c);
}

static void foreign_epoch(void *arg)
{
    (void)arg;
    struct scene c = setup();
    write_as(&c, 1, 2);
    struct log *l = make_log(c.mem, 9, c.o.next_seq + 2); /* nobody let it in */
    CHECK(commit_number(l, 1, NULL) == 0);
    log_destroy(l);
    CHECK(open_as(&c, 10) == ERR_LOG_ORDER);
    teardown(&c);
}

static void damage_is_named(void *arg)
{
    (void)arg;
    struct scene c = setup();
    write_as(&c, 1, 5);
    uint64_t seq = c.o.next_seq + 2;
    for (size_t from_end = 1; from_end <= 312; from_end += 3) {
        flip(&c, seq, from_end);
        CHECK(open_as(&c, 2) == ERR_CORRUPT_SEGMENT);
        CHECK(c.seen->count == 2);
        flip(&c, seq, from_end);
    }
    CHECK(open_as(&c, 2) == 0 && c.seen->count == 5);
    struct log_open_options opt = open_options(c.s, 3);
    opt.volume.bytes[0] ^= 1;
    CHECK(log_open(&opt, see, c.seen, &c.o) == ERR_CORRUPT_SEGMENT); /* another volume's */
    teardown(&c);
}

static void apply_fails(void *arg)
{
    (void)arg;
    struct scene c = setup();
    write_as(&c, 1, 5);
    c.seen->fail_with = -ENOMEM;
    CHECK(open_as(&c, 2) == -ENOMEM && c.seen->count == 1);
    teardown(&c);
}

static void fences_stay(void *arg)
{
    (void)arg;
    struct scene c = setup();
    write_as(&c, 1, 2);
    struct log_frames *f;
    struct log_frames_options at = {.store = c.s, .volume = test_volume, .keys = test_keys};
    CHECK(log_frames_create(&at, &f) == 0);
    CHECK(log_segment_remove(f, 1) == -EPERM && exists(&c, 1)); /* I5 */
    CHECK(log_segment_remove(f, 65) == 0 && !exists(&c, 65));
    CHECK(log_segment_remove(f, 65) == 0);
    log_frames_destroy(f);
    teardown(&c);
}

/* A header says "data", and its checksum is right. */
static void forge_kind(struct scene *c, uint64_t seq)
{
    char name[OBJ_NAME_SIZE];
    log_segment_name(seq, name);
    struct rt_buf *b;
    size_t len;
    struct rt_chain body = {0};
    CHECK(obj_get_all(c->mem, OBJ_READ, name, 1 << 20, &b, &len) == 0);
    b->data[SEGMENT_HEADER_AT_KIND] = SEGMENT_DATA;
    le64_store(b->data + SEGMENT_HEADER_AT_RESUME, 0);
    le32_store(b->data + SEGMENT_HEADER_AT_CRC, crc32c(0, b->data, SEGMENT_HEADER_AT_CRC));
    drop(c, seq);
    CHECK(rt_chain_add(&body, b, b->data, (uint32_t)len) == 0);
    CHECK(obj_put(c->mem, OBJ_COMMIT, name, &body) == 0);
    rt_chain_free(&body);
    rt_buf_unref(b);
}

/* A copy of the store went its own way: what was written there is authentic, of the same epoch and
 * number, and does not come into this log. */
static void branches_do_not_mix(void *arg)
{
    (void)arg;
    struct scene c = setup();
    write_as(&c, 1, 2);
    struct log_options opt = {.store = c.mem,
                              .volume = test_volume,
                              .keys = test_keys,
                              .epoch = 1,
                              .open_id = {{1, 99}},
                              .first_seq = c.o.next_seq + 2};
    struct log *other;
    CHECK(log_create(&opt, &other) == 0);
    CHECK(commit_number(other, 1002, NULL) == 0);
    log_destroy(other);
    CHECK(open_as(&c, 2) == ERR_LOG_ORDER && c.seen->count == 2);
    /* From there on, what the manifest knows of the writer decides. */
    struct log_open_options from = open_options(c.s, 2);
    struct uuid writer = {{1, 1}};
    from.replay_from = opt.first_seq;
    from.log_epoch = 1;
    from.read_only = true;
    c.seen->count = 0;
    CHECK(log_open(&from, see, c.seen, &c.o) == 0 && c.seen->count == 1);
    from.log_writer = &writer;
    c.seen->count = 0;
    CHECK(log_open(&from, see, c.seen, &c.o) == ERR_LOG_ORDER && c.seen->count == 0);
    teardown(&c);
}

/* Who may write to the store cannot make the reaper believe that a fence is none. */
static void forged_headers_delete_nothing(void *arg)
{
    (void)arg;
    struct scene c = setup();
    struct log_frames *f;
    CHECK(open_as(&c, 1) == 0 && c.o.fence_seq == 1);
    struct log_frames_options at = {.store = c.s, .volume = test_volume, .keys = test_keys};
    CHECK(log_frames_create(&at, &f) == 0);
    CHECK(log_segment_remove(f, 1) == -EPERM);
    forge_kind(&c, 1);
    int r = log_segment_remove(f, 1);
    CHECK(test_keys ? r == ERR_CORRUPT_SEGMENT && exists(&c, 1) : r == 0);
    log_frames_destroy(f);
    teardown(&c);
}

static void read_only(void *arg)
{
    (void)arg;
    struct scene c = setup();
    write_as(&c, 1, 4);
    struct log_open_options opt = open_options(c.s, 1); /* the live writer's own epoch */
    opt.read_only = true;
    c.seen->count = 0;
    CHECK(log_open(&opt, see, c.seen, &c.o) == 0 && c.seen->count == 4);
    CHECK(c.o.fence_seq == 0 && !exists(&c, 69));
    teardown(&c);
}

/* The store answers some requests twice, late or never: the opener comes through all the same. */
static void lossy_open(void *arg)
{
    (void)arg;
    struct scene c = setup();
    struct obj_store *clean = c.s;
    write_as(&c, 1, 20);
    for (uint64_t epoch = 2; epoch < 12; epoch++) {
        struct obj_fault_options f = {.seed = rt_random(),
                                      .fail_before = 0.2,
                                      .fail_after = 0.2,
                                      .late = 0.1,
                                      .duplicate = 0.1,
                                      .late_ms = 100};
        struct obj_store *s;
        CHECK(obj_share(clean, &s) == 0 && obj_fault_wrap(s, &f, &s) == 0);
        CHECK(obj_retry_wrap(s, &(struct obj_retry_options){5, 50, 0, false}, &s) == 0);
        c.s = s;
        CHECK(open_as(&c, epoch) == 0 && c.seen->count == 20);
        obj_close(s);
    }
    c.s = clean;
    teardown(&c);
}

#define IN_SIM(name)                                                                               \
    static void test_##name(void **state)                                                          \
    {                                                                                              \
        (void)state;                                                                               \
        for (uint64_t seed = 1; seed <= 3; seed++) {                                               \
            run_sim(seed, name, NULL);                                                             \
        }                                                                                          \
    }
IN_SIM(many_epochs)
IN_SIM(long_replay)
IN_SIM(gap_is_refused)
IN_SIM(zombies)
IN_SIM(overtaken)
IN_SIM(foreign_epoch)
IN_SIM(damage_is_named)
IN_SIM(apply_fails)
IN_SIM(fences_stay)
IN_SIM(forged_headers_delete_nothing)
IN_SIM(branches_do_not_mix)
IN_SIM(read_only)
IN_SIM(lossy_open)

int main(void)
{
    msg_level_set((enum msg_level) - 1);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_many_epochs),
        cmocka_unit_test(test_long_replay),
        cmocka_unit_test(test_gap_is_refused),
        cmocka_unit_test(test_zombies),
        cmocka_unit_test(test_overtaken),
        cmocka_unit_test(test_foreign_epoch),
        cmocka_unit_test(test_damage_is_named),
        cmocka_unit_test(test_apply_fails),
        cmocka_unit_test(test_fences_stay),
        cmocka_unit_test(test_read_only),
        cmocka_unit_test(test_lossy_open),
        cmocka_unit_test(test_forged_headers_delete_nothing),
        cmocka_unit_test(test_branches_do_not_mix),
    };
    return run_with_each_cipher(tests, ARRAY_LEN(tests));
}
