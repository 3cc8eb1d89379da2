/* SPDX-License-Identifier: Apache-2.0 */
/* dev_copy() on a real volume, with others at the same places. */
#include "vol/volume.h"

#include "dev/dev.h"

#define BLOCK 4096u
#define BLOCKS 512u
#define SIZE ((uint64_t)BLOCKS * BLOCK)
#define WORKERS 6u
#define ROUNDS 150u

static struct dev *devs[2];
static unsigned working;

static void make(struct dev_registry *g, const char *name, struct dev **ret)
{
    struct dev_info info;
    struct dev_create_options opt = {.kind = DEV_NBD, .name = name, .size_bytes = SIZE};
    assert_int_equal(dev_create(g, &opt, &info), 0);
    assert_int_equal(dev_find_nbd(g, name, ret), 0);
}

static void fill(struct dev *d, uint64_t off, uint32_t len, uint64_t tag)
{
    struct rt_buf *b;
    struct rt_chain c = {0};
    assert_int_equal(rt_buf_alloc(len, RT_MEM_INGRESS, &b), 0);
    for (uint32_t i = 0; i < len; i += 8) {
        memcpy(b->data + i, &tag, 8);
    }
    assert_int_equal(rt_chain_add(&c, b, b->data, len), 0);
    rt_buf_unref(b);
    assert_int_equal(dev_write(d, off, &c, 0, NULL), 0);
    rt_chain_free(&c);
}

/* Every block is of one write, whoever copied it. */
static void check_whole(struct dev *d, uint64_t off, uint32_t len)
{
    struct rt_chain c = {0};
    uint8_t *got = malloc(len);
    assert_non_null(got);
    assert_int_equal(dev_read(d, off, len, &c), 0);
    rt_chain_copy_out(&c, 0, got, len);
    rt_chain_free(&c);
    for (uint32_t at = 0; at < len; at += BLOCK) {
        for (uint32_t i = 8; i < BLOCK; i += 8) {
            assert_memory_equal(got + at, got + at + i, 8);
        }
    }
    free(got);
}

static void worker(void *arg)
{
    uint64_t id = (uint64_t)(uintptr_t)arg;
    struct rng g = rng_seeded(id);
    for (unsigned i = 0; i < ROUNDS; i++) {
        uint64_t count = 1 + rng_below(&g, 60);
        struct dev_copy c = {.src = devs[rng_below(&g, 2)],
                             .dst = devs[rng_below(&g, 2)],
                             .src_off = rng_below(&g, BLOCKS - count) * BLOCK,
                             .dst_off = rng_below(&g, BLOCKS - count) * BLOCK,
                             .len = count * BLOCK};
        uint64_t done;
        switch (rng_below(&g, 4)) {
        case 0:
            fill(c.dst, c.dst_off, (uint32_t)c.len, id << 32 | i);
            break;
        case 1:
            check_whole(c.src, c.src_off, (uint32_t)c.len);
            break;
        default: {
            int r = dev_copy(&c, rng_below(&g, 8) ? 0 : DEV_FUA, &done);
            bool overlap =
                c.src == c.dst && c.src_off < c.dst_off + c.len && c.dst_off < c.src_off + c.len;
            assert_int_equal(r, overlap ? -EINVAL : 0);
            assert_int_equal(done, overlap ? 0 : c.len);
        }
        }
    }
    working--;
}

static void at_the_same_places(struct rig *rig)
{
    struct dev_registry *g;
    assert_int_equal(dev_registry_open(rig->v, NULL, &g), 0);
    make(g, "a", &devs[0]);
    make(g, "b", &devs[1]);
    for (uint64_t i = 0; i < WORKERS; i++) {
        working++;
        assert_int_equal(rt_spawn("worker", worker, (void *)(uintptr_t)(i + 1)), 0);
    }
    uint64_t deadline = rt_after_ms(3600000);
    while (working > 0) {
        assert_true(rt_now_ns() < deadline); /* nobody waits for one that waits for him */
        assert_int_equal(rt_sleep_ms(10), 0);
    }
    check_whole(devs[0], 0, SIZE);
    check_whole(devs[1], 0, SIZE);
    assert_int_equal(vol_flush(rig->v), 0);
    assert_int_equal(vol_recount(rig->v), 0);
    dev_unref(devs[0]);
    dev_unref(devs[1]);
    dev_registry_close(g);
}

static void bounds(struct rig *rig)
{
    struct dev_registry *g;
    uint64_t done;
    assert_int_equal(dev_registry_open(rig->v, NULL, &g), 0);
    make(g, "a", &devs[0]);
    make(g, "b", &devs[1]);
    fill(devs[0], 0, BLOCK, 7);
    struct dev_copy c = {devs[0], 0, devs[1], SIZE - BLOCK, BLOCK};
    assert_int_equal(dev_copy(&c, DEV_FUA, &done), 0);
    assert_int_equal(done, BLOCK);
    check_whole(devs[1], SIZE - BLOCK, BLOCK);
    c.dst_off += 1;
    assert_int_equal(dev_copy(&c, 0, &done), -EINVAL);
    c.dst_off = UINT64_MAX - 100;
    assert_int_equal(dev_copy(&c, 0, &done), -EINVAL);
    c = (struct dev_copy){devs[0], SIZE, devs[1], 0, BLOCK};
    assert_int_equal(dev_copy(&c, 0, &done), -EINVAL);
    assert_int_equal(done, 0);
    /* Neighbours within one page: one lock for both. */
    c = (struct dev_copy){devs[0], 0, devs[0], BLOCK, BLOCK};
    assert_int_equal(dev_copy(&c, 0, &done), 0);
    check_whole(devs[0], 0, 2 * BLOCK);
    assert_int_equal(dev_delete(g, devs[1], true), 0);
    c = (struct dev_copy){devs[0], 0, devs[1], 0, BLOCK};
    assert_int_equal(dev_copy(&c, 0, &done), -ENODEV);
    dev_unref(devs[0]);
    dev_unref(devs[1]);
    dev_registry_close(g);
}

static uint64_t live_blocks(struct rig *rig)
{
    struct vol_counts c;
    rig_settle(rig);
    vol_counts(rig->v, &c);
    return c.live_blocks;
}

static void check_tag(struct dev *d, uint64_t tag)
{
    struct rt_chain c = {0};
    uint64_t got = 0;
    assert_int_equal(dev_read(d, 0, 8, &c), 0);
    rt_chain_copy_out(&c, 0, &got, 8);
    rt_chain_free(&c);
    assert_true(got == tag);
    check_whole(d, 0, SIZE);
}

/* What a hold has taken stays what it was, whatever becomes of its source, and it is gone with it.
 */
static void held(struct rig *rig)
{
    struct dev_registry *g;
    struct dev *hold;
    uint64_t done;
    assert_int_equal(dev_registry_open(rig->v, NULL, &g), 0);
    make(g, "a", &devs[0]);
    make(g, "b", &devs[1]);
    fill(devs[0], 0, SIZE, 7);
    uint64_t before = live_blocks(rig);
    assert_int_equal(dev_hold_create(g, 0, &hold), -EINVAL);
    assert_int_equal(dev_hold_create(g, SIZE, &hold), 0);
    struct dev_copy in = {devs[0], 0, hold, 0, SIZE};
    assert_int_equal(dev_copy(&in, 0, &done), 0);
    assert_int_equal(live_blocks(rig), before + BLOCKS);
    fill(devs[0], 0, SIZE, 8);
    struct dev_copy out = {hold, 0, devs[1], 0, SIZE};
    assert_int_equal(dev_copy(&out, 0, &done), 0);
    check_tag(devs[0], 8);
    check_tag(devs[1], 7);
    assert_int_equal(live_blocks(rig), before + 2 * BLOCKS);
    dev_hold_destroy(hold);
    assert_int_equal(live_blocks(rig), before + BLOCKS);
    check_tag(devs[1], 7);

    assert_int_equal(dev_hold_create(g, SIZE, &hold), 0);
    in.dst = hold;
    assert_int_equal(dev_copy(&in, 0, &done), 0);
    assert_int_equal(live_blocks(rig), before + 2 * BLOCKS);
    dev_unref(hold); /* as a crash leaves it */
    dev_unref(devs[0]);
    dev_unref(devs[1]);
    dev_registry_close(g);
    rig_crash(rig);
    assert_int_equal(dev_registry_open(rig->v, NULL, &g), 0);
    assert_int_equal(live_blocks(rig), before + BLOCKS);
    assert_int_equal(vol_recount(rig->v), 0);
    dev_registry_close(g);
}

#define PIECE (512u << 10)
#define WRITERS 24u

static struct vol *shared;

/* As a target does it: space first, then the data, then the range. */
static void write_with_space(void *arg)
{
    (void)arg;
    for (unsigned i = 0; i < 4; i++) {
        struct vol_space space = {0};
        struct rt_buf *b;
        struct rt_chain c = {0};
        assert_int_equal(vol_space_take(shared, PIECE, RT_FOREVER, &space), 0);
        assert_int_equal(rt_sleep_ms(1), 0);
        assert_int_equal(rt_buf_alloc(PIECE, RT_MEM_INGRESS, &b), 0);
        memset(b->data, (int)i, PIECE);
        assert_int_equal(rt_chain_add(&c, b, b->data, PIECE), 0);
        rt_buf_unref(b);
        assert_int_equal(dev_write(devs[0], 0, &c, 0, &space), 0);
        vol_space_release(shared, &space);
        rt_chain_free(&c);
    }
    working--;
}

/* Who copies holds ranges and needs space; who writes has space and needs ranges. */
static void space_and_ranges(struct rig *rig)
{
    struct dev_registry *g;
    uint64_t done;
    rig->opt.dirty_bytes = 8u << 20;
    rig_reopen(rig);
    shared = rig->v;
    assert_int_equal(dev_registry_open(rig->v, NULL, &g), 0);
    make(g, "a", &devs[0]);
    make(g, "b", &devs[1]);
    for (uint64_t i = 0; i < WRITERS; i++) {
        working++;
        assert_int_equal(rt_spawn("writer", write_with_space, NULL), 0);
    }
    rt_yield(); /* they have all the space there is */
    uint64_t deadline = rt_after_ms(3600000);
    struct dev_copy c = {devs[0], 0, devs[1], 0, PIECE};
    while (working > 0) {
        assert_true(rt_now_ns() < deadline);
        assert_int_equal(dev_copy(&c, 0, &done), 0);
        assert_int_equal(dev_zero(devs[0], 0, PIECE, DEV_NO_HOLE), 0);
        assert_int_equal(rt_sleep_ms(1), 0);
    }
    dev_unref(devs[0]);
    dev_unref(devs[1]);
    dev_registry_close(g);
}

static void test_space_and_ranges(void **state)
{
    (void)state;
    rig_run(space_and_ranges);
}

static void test_held(void **state)
{
    (void)state;
    rig_run(held);
}

static void test_contended(void **state)
{
    (void)state;
    rig_run(at_the_same_places);
}

static void test_bounds(void **state)
{
    (void)state;
    rig_run(bounds);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_contended),
        cmocka_unit_test(test_bounds),
        cmocka_unit_test(test_held),
        cmocka_unit_test(test_space_and_ranges),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
