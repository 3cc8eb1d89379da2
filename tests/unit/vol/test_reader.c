/* SPDX-License-Identifier: Apache-2.0 */
/* Readers of a volume that a writer changes meanwhile: what their manifest led to is deleted. */
#include "volume.h"

#include "vol/vol_priv.h"

#define MIB (1u << 20)
#define GRACE_MS 60000u
#define FIBERS 6
#define PAIRS 2000
#define PAIRS_KIND 0x70

static void reader_open(struct rig *rig, struct vol **ret_v, struct vol_file **ret_f)
{
    struct vol_options opt = rig->opt;
    opt.read_only = true;
    opt.owner = "reader";
    assert_int_equal(vol_open(&opt, ret_v), 0);
    assert_int_equal(vol_file_open(*ret_v, rig->inode, ret_f), 0);
}

static void reader_close(struct vol *v, struct vol_file *f)
{
    vol_file_close(f);
    assert_int_equal(vol_close(v), 0);
}

/* What the reader sees is what the writer has. */
static void reader_check(struct rig *rig, struct vol_file *f, uint64_t off, uint32_t len)
{
    struct vol_file *mine = rig->f;
    rig->f = f;
    rig_check(rig, off, len);
    rig->f = mine;
}

/* Everything anew, and until every trace of before is deleted. */
static void churn(struct rig *rig, unsigned seed)
{
    for (unsigned round = 0; round < 8; round++) {
        for (uint64_t off = 0; off < rig->size; off += 8192) {
            rig_write(rig, off + round % 2 * 4096, 4096, seed + round + off);
        }
        assert_int_equal(vol_flush(rig->v), 0);
        assert_int_equal(vol_drain(rig->v), 0);
        assert_int_equal(index_flush(rig->v->ix), 0);
    }
    for (unsigned i = 0; i < 4; i++) { /* deletion begins with a later manifest */
        assert_int_equal(rt_sleep_ms(3 * GRACE_MS), 0);
        rig_write(rig, 0, 4096, seed + i);
        assert_int_equal(vol_flush(rig->v), 0);
        assert_int_equal(vol_drain(rig->v), 0);
        assert_int_equal(index_flush(rig->v->ix), 0);
    }
}

struct crowd {
    struct rig *rig;
    struct vol_file *f;
    uint64_t off;
};

static void crowd_read(void *arg)
{
    struct crowd *c = arg;
    uint32_t len = (uint32_t)(c->rig->size / FIBERS / 4096 * 4096);
    struct rt_chain chain = {0};
    assert_int_equal(vol_read(c->f, c->off * len, len, &chain), 0);
    assert_int_equal(chain.len, len);
    uint8_t *got = malloc(len);
    assert_non_null(got);
    rt_chain_copy_out(&chain, 0, got, len);
    assert_memory_equal(got, c->rig->model + c->off * len, len);
    free(got);
    rt_chain_free(&chain);
}

static void crowd(struct rig *rig, struct vol_file *f)
{
    struct crowd all[FIBERS];
    struct rt_group *g;
    assert_int_equal(rt_group_create(&g), 0);
    for (unsigned i = 0; i < FIBERS; i++) {
        all[i] = (struct crowd){rig, f, i};
        assert_int_equal(rt_group_spawn(g, "reader", crowd_read, &all[i]), 0);
    }
    rt_group_wait(g);
    rt_group_destroy(g);
}

/* More than the blocks of the index that an opener happens to read. */
static void put_pairs(struct rig *rig, uint8_t fill)
{
    struct vol_txn *t;
    uint8_t value[200];
    memset(value, fill, sizeof value);
    assert_int_equal(vol_txn_begin(rig->v, &t), 0);
    for (unsigned i = 0; i < PAIRS; i++) {
        uint8_t key[3] = {PAIRS_KIND, (uint8_t)(i >> 8), (uint8_t)i};
        assert_int_equal(vol_txn_put(t, key, sizeof key, value, sizeof value), 0);
    }
    assert_int_equal(vol_txn_commit(t), 0);
}

/* Each once, in order. */
static int check_pair(void *arg, const void *key, size_t key_len, const void *value,
                      size_t value_len)
{
    unsigned *next = arg;
    const uint8_t *k = key;
    (void)value;
    assert_int_equal(key_len, 3);
    assert_int_equal(value_len, 200);
    assert_int_equal(k[1] << 8 | k[2], *next);
    ++*next;
    return 0;
}

/* Each with nothing in memory, so that the store has to be asked. */
static void a_reader_follows_the_writer(struct rig *rig)
{
    struct vol *v;
    struct vol_file *f;
    uint8_t prefix = PAIRS_KIND;
    rig_create(rig, 4 * MIB);
    put_pairs(rig, 1);
    churn(rig, 1);
    reader_open(rig, &v, &f);
    churn(rig, 1000);
    crowd(rig, f);
    assert_true(atomic_load(&v->reload.turn) > 0);
    reader_check(rig, f, 0, 4 * MIB);
    reader_close(v, f);

    reader_open(rig, &v, &f);
    put_pairs(rig, 2);
    churn(rig, 2000);
    unsigned next = 0;
    assert_int_equal(vol_scan(v, &prefix, 1, check_pair, &next), 0);
    assert_int_equal(next, PAIRS);
    assert_true(atomic_load(&v->reload.turn) > 0);
    reader_close(v, f);

    struct vol_extent extents[4];
    reader_open(rig, &v, &f);
    churn(rig, 3000);
    rig_discard(rig, 2 * MIB, MIB);
    assert_int_equal(vol_flush(rig->v), 0); /* in the log alone */
    reader_check(rig, f, 0, 4 * MIB);
    assert_true(atomic_load(&v->reload.turn) > 0);
    assert_int_equal(vol_extents(f, 0, 4 * MIB, extents, ARRAY_LEN(extents)), 3);
    assert_int_equal(extents[1].off, 2 * MIB);
    reader_close(v, f);
}

static void a_reader_hears_of_a_deleted_file(struct rig *rig)
{
    struct vol *v;
    struct vol_file *f;
    struct vol_txn *t;
    struct rt_chain chain = {0};
    rig_create(rig, MIB);
    churn(rig, 1);
    reader_open(rig, &v, &f);
    uint64_t first = rig->inode;
    vol_file_close(rig->f);
    assert_int_equal(vol_txn_begin(rig->v, &t), 0);
    assert_int_equal(vol_txn_inode_delete(t, first), 0);
    assert_int_equal(vol_txn_commit(t), 0);
    free(rig->model);
    rig_create(rig, MIB);
    churn(rig, 2);
    assert_int_equal(vol_read(f, 0, MIB, &chain), -ENOENT);
    assert_int_equal(chain.len, 0);
    reader_close(v, f);
}

/* Lost for good: said, not looked for for ever. */
static void a_reader_gives_up(struct rig *rig)
{
    struct vol *v;
    struct vol_file *f;
    struct rt_chain chain = {0};
    rig_create(rig, MIB);
    rig_write(rig, 0, MIB, 1);
    rig_reopen(rig);
    reader_open(rig, &v, &f);
    struct vol_map map;
    assert_int_equal(vol_map_load(v, f->layers[0], 0, &map), 0);
    assert_int_equal(log_segment_remove(v->frames, map.runs[0].seq), 0);
    assert_int_equal(vol_read(f, 0, MIB, &chain), -EIO);
    reader_close(v, f);
}

/* Without the grace, as a scrub has it done. */
static void delete_dead(struct rig *rig)
{
    struct vol *v = rig->v;
    assert_int_equal(vol_drain(v), 0);
    assert_int_equal(index_flush(v->ix), 0);
    unsigned deleted = 0;
    for (size_t i = 0; i < v->segs.at.len; i++) {
        const struct vol_segment *s = &v->segs.at.at[i];
        if (s->live == 0 && s->seq < atomic_load(&v->replay_from)) {
            assert_int_equal(log_segment_remove(v->frames, s->seq), 0);
            deleted++;
        }
    }
    assert_true(deleted > 0);
}

/* A store whose first request for a segment comes when that has been deleted. */
struct late_store {
    struct obj_store base;
    struct rig *rig;
    bool armed;
    bool churns;
};

static ssize_t late_get(struct obj_store *s, enum obj_class c, const char *name, uint64_t off,
                        void *dst, size_t len)
{
    struct late_store *late = container_of(s, struct late_store, base);
    if (late->armed && strncmp(name, "segments/", 9) == 0) {
        late->armed = false;
        late->churns = true;
        rt_shield();
        delete_dead(late->rig);
        rt_unshield();
        late->churns = false;
    }
    while (late->churns) {
        if (rt_sleep_ms(1000) < 0) {
            return -ECANCELED;
        }
    }
    return obj_get(s->next, c, name, off, dst, len);
}

static int late_head(struct obj_store *s, enum obj_class c, const char *name, uint64_t *ret_size)
{
    return obj_head(s->next, c, name, ret_size);
}

static int late_list(struct obj_store *s, enum obj_class c, const char *prefix, const char *after,
                     size_t max, struct obj_names *ret_names)
{
    return obj_list(s->next, c, prefix, after, max, ret_names);
}

/* What was durable before it opened is there, though the log is gone under its replay. */
static void a_reader_replays_late(struct rig *rig)
{
    static const struct obj_ops ops = {
        .name = "late", .get = late_get, .head = late_head, .list = late_list};
    struct late_store late = {.base = {.ops = &ops}, .rig = rig};
    struct vol_options opt = rig->opt;
    struct vol *v;
    uint8_t prefix = PAIRS_KIND;
    unsigned seen = 0;
    rig_create(rig, MIB);
    churn(rig, 1);
    put_pairs(rig, 1);
    assert_int_equal(vol_flush(rig->v), 0);
    late.base.next = rig->store;
    late.armed = true;
    opt.store = &late.base;
    opt.read_only = true;
    opt.owner = "reader";
    assert_int_equal(vol_open(&opt, &v), 0);
    assert_false(late.armed);
    assert_int_equal(vol_scan(v, &prefix, 1, check_pair, &seen), 0);
    assert_int_equal(seen, PAIRS);
    assert_int_equal(vol_close(v), 0);
}

static const struct vol_options options = {
    .memory_bytes = 64u << 20, .memtable_bytes = 16384, .delete_after_ms = GRACE_MS};

static void run_a_reader_follows_the_writer(void **state)
{
    (void)state;
    rig_run_with(a_reader_follows_the_writer, &options, true);
}

static void run_a_reader_hears_of_a_deleted_file(void **state)
{
    (void)state;
    rig_run_with(a_reader_hears_of_a_deleted_file, &options, true);
}

static void run_a_reader_replays_late(void **state)
{
    (void)state;
    rig_run_with(a_reader_replays_late, &options, true);
}

static void run_a_reader_gives_up(void **state)
{
    (void)state;
    rig_run_with(a_reader_gives_up, &options, true);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(run_a_reader_follows_the_writer),
        cmocka_unit_test(run_a_reader_hears_of_a_deleted_file),
        cmocka_unit_test(run_a_reader_gives_up),
        cmocka_unit_test(run_a_reader_replays_late),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
