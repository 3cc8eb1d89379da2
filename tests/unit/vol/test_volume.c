/* SPDX-License-Identifier: Apache-2.0 */
#include "volume.h"

#define MIB (1u << 20)

static void empty_reads_zeros(struct rig *rig)
{
    rig_create(rig, 8 * MIB + 512);
    rig_check_all(rig);
    struct rt_chain c = {0};
    assert_int_equal(vol_read(rig->f, 8 * MIB, 513, &c), -EINVAL);
    assert_int_equal(vol_read(rig->f, 0, 8192, &c), 0);
    assert_int_equal(rt_chain_pieces(&c)[0].is_hole, 1);
    rt_chain_free(&c);
}

static void what_is_written_is_read(struct rig *rig)
{
    rig_create(rig, 8 * MIB + 512);
    rig_write(rig, 0, 4096, 1);
    rig_write(rig, 4096 * 9, 8192, 2);
    rig_write(rig, 100, 50, 3);
    rig_write(rig, 4090, 5000, 4);
    rig_write(rig, 8 * MIB - 100, 612, 5);
    rig_write(rig, MIB - 7, 3 * MIB, 6);
    rig_check_all(rig);
    assert_int_equal(vol_flush(rig->v), 0);
    rig_check_all(rig);
    rig_write(rig, 4096, 4096, 7);
    rig_write(rig, 2 * MIB, MIB, 8);
    rig_check_all(rig);
    rig_reopen(rig);
    rig_check_all(rig);
    assert_int_equal(vol_recount(rig->v), 0);
}

static void what_is_in_memory_is_ready(struct rig *rig)
{
    rig_create(rig, 1u << 20);
    assert_true(rig_check_ready(rig, 0, 32768) > 0); /* a hole */
    rig_write(rig, 0, 1u << 20, 5);
    assert_true(rig_check_ready(rig, 4096, 4096) > 0); /* in the open batch */
    assert_int_equal(vol_flush(rig->v), 0);
    rig_check(rig, 0, 1u << 20);
    struct vol_counts c;
    do { /* applied, and its frames in the cache */
        assert_int_equal(rt_sleep_ms(100), 0);
        vol_counts(rig->v, &c);
    } while (c.batches_open > 1);
    rig_check(rig, 0, 1u << 20);
    assert_true(rig_check_ready(rig, 0, 1u << 20) >= 32);
    struct vol_ready bad[3] = {{.off = 30000, .len = 4096},    /* in two pages */
                               {.off = 1u << 20, .len = 4096}, /* past the end */
                               {.off = 0, .len = 4096, .result = -EAGAIN}};
    vol_read_ready(rig->f, bad, 3);
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(bad[i].result, -EAGAIN);
        assert_int_equal(bad[i].data.len, 0);
    }
    rig_reopen(rig);
    assert_int_equal(rig_check_ready(rig, 65536, 4096), 0); /* not in memory */
    rig_check(rig, 65536, 4096);
    assert_true(rig_check_ready(rig, 65536, 4096) > 0);
}

static void a_flush_survives_a_crash(struct rig *rig)
{
    rig_create(rig, 4 * MIB);
    for (unsigned i = 0; i < 100; i++) {
        rig_write(rig, rng_below(&rig->rng, 1000) * 4096, 4096, i);
        if (i % 10 == 9) {
            assert_int_equal(vol_flush(rig->v), 0);
            rig_crash(rig);
            rig_check_all(rig);
        }
    }
    assert_int_equal(vol_recount(rig->v), 0);
}

static void what_is_atomic_is_in_one_batch(struct rig *rig)
{
    rig_create(rig, 8 * MIB);
    uint32_t max = (uint32_t)vol_atomic_max(rig->v);
    assert_true(max >= 128u << 10 && (max & (max - 1)) == 0);
    rig_write(rig, 0, 3 * MIB, 1);
    assert_int_equal(rig_write_by(rig, 512, max, 2, vol_write_atomic), 0);
    assert_int_equal(rig_write_by(rig, 2 * MIB - 4000, 7904, 3, vol_write_atomic), 0);
    assert_int_equal(rig_write_by(rig, 5 * MIB + 100, 100, 4, vol_write_atomic), 0);
    assert_int_equal(rig_write_by(rig, 8 * MIB - max, max, 5, vol_write_atomic), 0);
    rig_check_all(rig);
    assert_int_equal(rig_write_by(rig, 0, max + 512, 6, vol_write_atomic), -EINVAL);
    assert_int_equal(rig_write_by(rig, 8 * MIB - 512, 1024, 6, vol_write_atomic), -EINVAL);
    rig_check_all(rig);
    assert_int_equal(vol_flush(rig->v), 0);
    rig_check_all(rig);
    rig_reopen(rig);
    rig_check_all(rig);
    assert_int_equal(vol_recount(rig->v), 0);
}

static void random_against_the_model(struct rig *rig)
{
    rig_create(rig, 4 * MIB + 1536);
    for (unsigned i = 0; i < 2000; i++) {
        uint64_t off = rng_below(&rig->rng, rig->size);
        uint64_t most = rng_below(&rig->rng, 8) == 0 ? MIB : 20000;
        uint64_t len = 1 + rng_below(&rig->rng, rig->size - off < most ? rig->size - off : most);
        if (rng_below(&rig->rng, 2)) {
            off = off / 4096 * 4096;
            len = len < 4096 ? 4096 : len / 4096 * 4096;
            len = off + len > rig->size ? rig->size - off : len;
        }
        switch (rng_below(&rig->rng, 12)) {
        case 0:
            rig_discard(rig, off, len);
            break;
        case 1:
            rig_zero(rig, off, len, (enum vol_zero_kind)rng_below(&rig->rng, 3));
            break;
        case 2:
            if (rng_below(&rig->rng, 4) == 0) {
                assert_int_equal(vol_flush(rig->v), 0);
            }
            break;
        case 3:
            if (rng_below(&rig->rng, 40) == 0) {
                rig_reopen(rig);
            }
            break;
        case 4:
            if (rng_below(&rig->rng, 40) == 0) {
                rig_discard(rig, 0, rig->size);
            }
            break;
        case 5:
        case 6:
        case 7:
            rig_check(rig, off, (uint32_t)len);
            break;
        default:
            rig_write(rig, off, (uint32_t)len, i);
            break;
        }
    }
    rig_check_all(rig);
    assert_int_equal(vol_recount(rig->v), 0);
    rig_reopen(rig);
    rig_check_all(rig);
    assert_int_equal(vol_recount(rig->v), 0);
}

static void test_empty(void **state)
{
    (void)state;
    rig_run(empty_reads_zeros);
}

static void test_read_write(void **state)
{
    (void)state;
    rig_run(what_is_written_is_read);
}

static void test_atomic(void **state)
{
    (void)state;
    rig_run(what_is_atomic_is_in_one_batch);
}

static void test_ready(void **state)
{
    (void)state;
    rig_run(what_is_in_memory_is_ready);
}

static void test_crash(void **state)
{
    (void)state;
    rig_run(a_flush_survives_a_crash);
}

static void test_random(void **state)
{
    (void)state;
    rig_run(random_against_the_model);
}

static void test_random_threads(void **state)
{
    (void)state;
    rig_run_with(random_against_the_model, &(struct vol_options){.memory_bytes = 64u << 20}, false);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_empty),          cmocka_unit_test(test_read_write),
        cmocka_unit_test(test_ready),          cmocka_unit_test(test_crash),
        cmocka_unit_test(test_atomic),         cmocka_unit_test(test_random),
        cmocka_unit_test(test_random_threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
