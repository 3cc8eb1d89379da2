/* SPDX-License-Identifier: Apache-2.0 */
/* Scrubbing: what a file held is in no object afterwards, and what others hold is untouched. */
#include "log/log.h"
#include "volume.h"

#define MIB (1u << 20)
#define BLOCK 4096u
#define MARK_BYTES 32u
#define PAIRS 24u

/* Blocks of the file that is scrubbed have this in them, and no others. */
static const char mark[MARK_BYTES + 1] = "what shall be gone from the store";

struct other {
    struct rig *rig;
    struct vol_file *f; /* the file under scrub is another one */
    unsigned rewritten;
    bool stopped;
};

static void put(struct vol_file *f, uint64_t off, uint32_t blocks, const char *text, unsigned seed)
{
    struct rt_buf *b;
    struct rt_chain chain = {0};
    assert_int_equal(rt_buf_alloc(blocks * BLOCK, RT_MEM_INGRESS, &b), 0);
    rig_fill(b->data, blocks * BLOCK, seed);
    for (uint32_t i = 0; text && i < blocks; i++) {
        memcpy(b->data + i * BLOCK + 100, text, MARK_BYTES);
    }
    assert_int_equal(rt_chain_add(&chain, b, b->data, blocks * BLOCK), 0);
    assert_int_equal(vol_write(f, off, &chain, NULL), 0);
    rt_buf_unref(b);
    rt_chain_free(&chain);
}

static unsigned marks_in(struct rig *rig, const char *name)
{
    struct rt_buf *b = NULL;
    size_t len = 0;
    unsigned found = 0;
    assert_int_equal(obj_get_all(rig->store, OBJ_READ, name, 64u << 20, &b, &len), 0);
    for (size_t i = 0; b && i + MARK_BYTES <= len; i++) {
        found += memcmp(b->data + i, mark, MARK_BYTES) == 0;
    }
    rt_buf_unref(b);
    return found;
}

static unsigned marks_stored(struct rig *rig)
{
    unsigned marks = 0;
    for (uint64_t seq = 1; seq < 4096; seq++) {
        char name[OBJ_NAME_SIZE];
        uint64_t size;
        log_segment_name(seq, name);
        if (obj_head(rig->store, OBJ_READ, name, &size) == 0) {
            marks += marks_in(rig, name);
        }
    }
    return marks;
}

static int rewrite(void *arg, uint64_t layer, uint64_t page, uint64_t seq)
{
    struct other *o = arg;
    if (!vol_file_has_layer(o->f, layer)) {
        return 0;
    }
    o->rewritten++;
    return vol_rewrite(o->f, page, seq);
}

static bool stops(void *arg)
{
    const struct other *o = arg;
    return o->stopped;
}

static void progress(void *arg, uint64_t done, uint64_t of)
{
    (void)arg;
    assert_true(done <= of);
}

static int scrub(struct other *o, struct vol_file *f)
{
    return vol_scrub(
        o->rig->v,
        &(struct vol_scrub){
            .file = f, .rewrite = rewrite, .stop = stops, .progress = progress, .arg = o});
}

/* The rig's own file is the one that stays. */
static void what_is_gone_is_gone(struct rig *rig)
{
    struct vol_txn *t;
    struct vol_file *f;
    uint64_t inode;
    struct other o = {.rig = rig};
    rig_create(rig, 8 * MIB);
    assert_int_equal(vol_txn_begin(rig->v, &t), 0);
    assert_int_equal(vol_txn_inode_create(t, 8 * MIB, &inode), 0);
    assert_int_equal(vol_txn_commit(t), 0);
    assert_int_equal(vol_file_open(rig->v, inode, &f), 0);
    o.f = rig->f;
    for (unsigned i = 0; i < PAIRS; i++) { /* each segment holds some of both */
        put(f, i % 20 * 64 * BLOCK, 16, mark, i);
        rig_write(rig, i * 32 * BLOCK, 3 * BLOCK + 100, i);
        assert_int_equal(vol_flush(rig->v), 0);
    }
    /* What is copied out of the file is not its own any more, but shares its frames. */
    put(f, 0, 8, NULL, 99);
    assert_int_equal(vol_flush(rig->v), 0);
    assert_int_equal(vol_copy(f, 0, rig->f, 6 * MIB, 8 * BLOCK), 0);
    rig_fill(rig->model + 6 * MIB, 8 * BLOCK, 99);
    assert_int_equal(vol_flush(rig->v), 0);
    assert_true(marks_stored(rig) >= PAIRS * 16);
    rig_check_all(rig);

    assert_int_equal(vol_zero(f, 0, 8 * MIB, VOL_HOLE), 0);
    o.stopped = true;
    assert_int_equal(scrub(&o, f), -ECANCELED);
    o.stopped = false;
    assert_int_equal(scrub(&o, f), 0);
    assert_true(o.rewritten >= PAIRS);
    assert_int_equal(marks_stored(rig), 0);
    rig_check_all(rig);
    assert_int_equal(vol_recount(rig->v), 0);
    assert_int_equal(scrub(&o, f), 0); /* nothing is left to do */
    vol_file_close(f);
    rig_crash(rig);
    rig_check_all(rig);
    assert_int_equal(vol_recount(rig->v), 0);
    rig_reopen(rig);
    assert_int_equal(vol_file_open(rig->v, inode, &f), 0);
    o.f = rig->f;
    assert_int_equal(scrub(&o, f), 0); /* nor is there anything that would have to be applied */
    vol_file_close(f);
}

static void test_scrub(void **state)
{
    (void)state;
    rig_run(what_is_gone_is_gone);
}

/* A byte in the midst of each SST is another one from now on. */
static void spoil_ssts(struct rig *rig)
{
    struct obj_names names = {0};
    assert_int_equal(obj_list(rig->store, OBJ_INDEX, "sst/", "", 100, &names), 0);
    assert_true(names.names.len > 0);
    for (size_t i = 0; i < names.names.len; i++) {
        struct rt_buf *b;
        struct rt_chain body = {0};
        size_t len;
        const char *name = names.names.at[i];
        assert_int_equal(obj_get_all(rig->store, OBJ_INDEX, name, MIB, &b, &len), 0);
        b->data[len / 4] ^= 1;
        assert_int_equal(rt_chain_add(&body, b, b->data, (uint32_t)len), 0);
        assert_int_equal(obj_remove(rig->store, OBJ_INDEX, name), 0);
        assert_int_equal(obj_put(rig->store, OBJ_INDEX, name, &body), 0);
        rt_chain_free(&body);
        rt_buf_unref(b);
    }
    obj_names_free(&names);
}

/* Where the maps of what was discarded are lost, nobody looks for them again with each batch, and
 * who wants the data removed hears that it cannot be. */
static void what_is_lost_is_left_alone(struct rig *rig)
{
    struct vol_txn *t;
    struct vol_file *f;
    uint64_t inode;
    struct other o = {.rig = rig};
    rig_create(rig, 256 * MIB);
    assert_int_equal(vol_zero(rig->f, 0, 256 * MIB, VOL_ZEROED), 0);
    assert_int_equal(vol_txn_begin(rig->v, &t), 0);
    assert_int_equal(vol_txn_inode_create(t, MIB, &inode), 0);
    assert_int_equal(vol_txn_commit(t), 0);
    rig_close(rig);
    spoil_ssts(rig);
    rig_open(rig);
    assert_int_equal(vol_file_open(rig->v, inode, &f), 0);
    assert_int_equal(vol_zero(rig->f, 0, 256 * MIB, VOL_HOLE), 0);
    assert_int_equal(vol_flush(rig->v), 0);
    assert_int_equal(rt_sleep_ms(30000), 0); /* it is looked at some times before */
    uint64_t before = rig_requests(rig, OBJ_INDEX, OBJ_GET);
    for (unsigned i = 0; i < 20; i++) {
        put(f, i * BLOCK, 1, NULL, i);
        assert_int_equal(vol_flush(rig->v), 0);
        assert_int_equal(rt_sleep_ms(100), 0);
    }
    assert_true(rig_requests(rig, OBJ_INDEX, OBJ_GET) - before < 10);
    o.f = f;
    assert_int_equal(scrub(&o, rig->f), ERR_CORRUPT_INDEX);
    vol_file_close(f);
}

static void test_lost_maps(void **state)
{
    (void)state;
    rig_run(what_is_lost_is_left_alone);
}

/* A store that goes away, for long, when the first object is to be deleted; or that is there, and
 * lets nobody delete. */
struct pit {
    struct obj_store base;
    uint64_t away_until_ns;
    bool was_away;
    bool denies;
};

static int pit_answer(struct obj_store *s)
{
    return rt_now_ns() < container_of(s, struct pit, base)->away_until_ns ? -EIO : 0;
}

static int pit_put(struct obj_store *s, enum obj_class c, const char *name,
                   const struct rt_chain *body)
{
    int r = pit_answer(s);
    return r < 0 ? r : obj_put(s->next, c, name, body);
}

static ssize_t pit_get(struct obj_store *s, enum obj_class c, const char *name, uint64_t off,
                       void *dst, size_t len)
{
    int r = pit_answer(s);
    return r < 0 ? r : obj_get(s->next, c, name, off, dst, len);
}

static int pit_head(struct obj_store *s, enum obj_class c, const char *name, uint64_t *ret_size)
{
    int r = pit_answer(s);
    return r < 0 ? r : obj_head(s->next, c, name, ret_size);
}

static int pit_list(struct obj_store *s, enum obj_class c, const char *prefix, const char *after,
                    size_t max, struct obj_names *ret_names)
{
    int r = pit_answer(s);
    return r < 0 ? r : obj_list(s->next, c, prefix, after, max, ret_names);
}

static int pit_remove(struct obj_store *s, enum obj_class c, const char *name)
{
    struct pit *p = container_of(s, struct pit, base);
    if (p->denies) {
        return -EACCES;
    }
    if (!p->was_away) {
        p->was_away = true;
        p->away_until_ns = rt_after_ms(600000);
    }
    int r = pit_answer(s);
    return r < 0 ? r : obj_remove(s->next, c, name);
}

static void pit_close(struct obj_store *s)
{
    obj_close(s->next);
    free(container_of(s, struct pit, base));
}

static struct pit *pit_open(struct rig *rig)
{
    static const struct obj_ops ops = {
        .name = "pit",
        .put = pit_put,
        .get = pit_get,
        .head = pit_head,
        .list = pit_list,
        .remove = pit_remove,
        .close = pit_close,
    };
    struct obj_retry_options opt = {.give_up_ms = 30000, .denial_passes = true};
    struct pit *pit = calloc(1, sizeof *pit);
    assert_non_null(pit);
    pit->base = (struct obj_store){.ops = &ops, .next = rig->store};
    rig_close(rig);
    assert_int_equal(obj_retry_wrap(&pit->base, &opt, &rig->store), 0);
    obj_outlast(rig->store);
    rig_open(rig);
    rig_create(rig, MIB);
    return pit;
}

static void outage_is_waited_for(struct rig *rig)
{
    struct other o = {.rig = rig};
    struct pit *pit = pit_open(rig);
    put(rig->f, 0, 16, mark, 1);
    assert_int_equal(vol_zero(rig->f, 0, MIB, VOL_HOLE), 0);
    o.f = rig->f;
    assert_int_equal(scrub(&o, rig->f), 0);
    assert_true(pit->was_away && rt_now_ns() >= pit->away_until_ns);
    assert_int_equal(marks_stored(rig), 0);
}

static void test_outage(void **state)
{
    (void)state;
    struct vol_options opt = {.memory_bytes = 64 * MIB, .delete_after_ms = 1ull << 40};
    rig_run_with(outage_is_waited_for, &opt, true);
}

static void denial_is_not_waited_for(struct rig *rig)
{
    struct other o = {.rig = rig};
    struct pit *pit = pit_open(rig);
    put(rig->f, 0, 16, mark, 1);
    assert_int_equal(vol_zero(rig->f, 0, MIB, VOL_HOLE), 0);
    o.f = rig->f;
    pit->denies = true;
    assert_int_equal(scrub(&o, rig->f), -EIO);
    pit->denies = false;
    pit->was_away = true;
    assert_int_equal(scrub(&o, rig->f), 0);
    assert_int_equal(marks_stored(rig), 0);
}

static void test_denial(void **state)
{
    (void)state;
    struct vol_options opt = {.memory_bytes = 64 * MIB, .delete_after_ms = 1ull << 40};
    rig_run_with(denial_is_not_waited_for, &opt, true);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_scrub), cmocka_unit_test(test_lost_maps),
        cmocka_unit_test(test_outage), cmocka_unit_test(test_denial)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
