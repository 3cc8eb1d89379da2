/* SPDX-License-Identifier: Apache-2.0 */
#include "base/crc32c.h"
#include "rt/buf.h"
#include "rt/ctx.h"
#include "rt_test.h"
#include <pthread.h>
#include <string.h>

static void sizes(void **state)
{
    static const size_t lens[] = {1,     64,    4095,  4096,     4097,           32768,    32769,
                                  49000, 65536, 70000, 2u << 20, (2u << 20) + 1, 40u << 20};
    (void)state;
    for (unsigned i = 0; i < ARRAY_LEN(lens); i++) {
        struct rt_buf *b;
        assert_int_equal(rt_buf_alloc(lens[i], RT_MEM_DIRTY, &b), 0);
        assert_true(b->cap >= lens[i] && b->cap <= lens[i] + lens[i] / 2);
        assert_int_equal((uintptr_t)b->data % 64, 0);
        memset(b->data, 0xa5, b->cap);
        assert_int_equal(rt_mem_used(RT_MEM_DIRTY), b->cap);
        rt_buf_unref(b);
        assert_int_equal(rt_mem_used(RT_MEM_DIRTY), 0);
    }
    rt_buf_unref(NULL);
}

static void references(void **state)
{
    struct rt_buf *b;
    (void)state;
    assert_int_equal(rt_buf_alloc(4096, RT_MEM_DIRTY, &b), 0);
    assert_ptr_equal(rt_buf_ref(b), b);
    rt_buf_unref(b);
    assert_int_equal(rt_mem_used(RT_MEM_DIRTY), 4096);
    rt_buf_reown(b, RT_MEM_BLOCK_CACHE);
    assert_int_equal(rt_mem_used(RT_MEM_DIRTY), 0);
    assert_int_equal(rt_mem_used(RT_MEM_BLOCK_CACHE), 4096);
    rt_buf_unref(b);
    assert_int_equal(rt_mem_used(RT_MEM_BLOCK_CACHE), 0);
}

#define MANY 20000

static struct rt_buf *many[MANY];

static void *free_many(void *arg)
{
    (void)arg;
    for (unsigned i = 0; i < MANY; i++) {
        rt_buf_unref(many[i]);
    }
    return NULL;
}

/* Made here, freed by another thread: everything is accounted, the lists stay bounded and can be
 * emptied. */
static void across_threads(void **state)
{
    pthread_t t;
    (void)state;
    rt_buf_trim(); /* lists of other sizes hold parts of chunks */
    for (unsigned i = 0; i < MANY; i++) {
        assert_int_equal(rt_buf_alloc(4096, RT_MEM_SEALING, &many[i]), 0);
        many[i]->data[0] = 1;
    }
    assert_int_equal(rt_mem_used(RT_MEM_SEALING), (uint64_t)MANY * 4096);
    assert_int_equal(pthread_create(&t, NULL, free_many, NULL), 0);
    assert_int_equal(pthread_join(t, NULL), 0);
    assert_int_equal(rt_mem_used(RT_MEM_SEALING), 0);
    assert_true(rt_mem_used(RT_MEM_OTHER) <= 8u << 20);
    rt_buf_trim();
    assert_int_equal(rt_mem_used(RT_MEM_OTHER), 0);
}

/* Memory goes from one size to another, and idle memory is bounded. */
static void idle_chunks(void **state)
{
    struct rt_buf *b[64];
    (void)state;
    rt_buf_trim();
    rt_buf_idle_max(32u << 20);
    for (unsigned round = 0; round < 3; round++) {
        for (unsigned i = 0; i < ARRAY_LEN(b); i++) {
            assert_int_equal(rt_buf_alloc(round == 1 ? 32768 : 1u << 20, RT_MEM_DIRTY, &b[i]), 0);
            memset(b[i]->data, (int)i, b[i]->cap);
        }
        for (unsigned i = 0; i < ARRAY_LEN(b); i++) {
            assert_int_equal(b[i]->data[0], i);
            assert_int_equal(b[i]->data[b[i]->cap - 1], i);
            rt_buf_unref(b[i]);
        }
        assert_true(RT_ASAN || rt_mem_used(RT_MEM_OTHER) >= 32u << 20);
        assert_true(rt_mem_used(RT_MEM_OTHER) <= 40u << 20);
    }
    rt_buf_trim();
    assert_int_equal(rt_mem_used(RT_MEM_OTHER), 0);
    rt_buf_idle_max(0);
    assert_int_equal(rt_buf_alloc(2u << 20, RT_MEM_DIRTY, &b[0]), 0);
    assert_int_equal(rt_buf_alloc(2u << 20, RT_MEM_DIRTY, &b[1]), 0);
    rt_buf_unref(b[0]);
    rt_buf_unref(b[1]);
    assert_true(rt_mem_used(RT_MEM_OTHER) <= 2u << 20);
    rt_buf_trim();
    assert_int_equal(rt_mem_used(RT_MEM_OTHER), 0);
}

/* Frames of three and five blocks waste nothing, and lie in chunks like the others. */
static void classes(void **state)
{
    (void)state;
    for (uint32_t blocks = 1; blocks <= 8; blocks++) {
        struct rt_buf *b;
        uint32_t want = blocks == 7 ? 8 : blocks;
        assert_int_equal(rt_buf_alloc((size_t)blocks * 4096, RT_MEM_DIRTY, &b), 0);
        assert_int_equal(b->cap, want * 4096);
        memset(b->data, (int)blocks, b->cap);
        rt_buf_unref(b);
        assert_true(RT_ASAN || rt_mem_used(RT_MEM_OTHER) > 0);
    }
    rt_buf_trim();
    assert_int_equal(rt_mem_used(RT_MEM_OTHER), 0);
}

/* Warming stops at the total, what is in use included, and at what may be idle. */
static void warming(void **state)
{
    struct rt_buf *b[2];
    (void)state;
    rt_buf_trim();
    rt_buf_idle_max(16u << 20);
    assert_int_equal(rt_buf_alloc(2u << 20, RT_MEM_DIRTY, &b[0]), 0);
    unsigned steps = 0;
    while (rt_buf_warm(8u << 20)) {
        steps++;
    }
    assert_int_equal(steps, RT_ASAN ? 0 : 3);
    assert_int_equal(rt_mem_used(RT_MEM_OTHER), steps * (2u << 20));
    assert_int_equal(rt_buf_alloc(2u << 20, RT_MEM_DIRTY, &b[1]), 0);
    assert_true(RT_ASAN || rt_mem_used(RT_MEM_OTHER) == 4u << 20);
    rt_buf_unref(b[0]);
    rt_buf_unref(b[1]);
    while (rt_buf_warm(1u << 30)) {
        steps++;
    }
    assert_true(rt_mem_used(RT_MEM_OTHER) <= 20u << 20);
    rt_buf_idle_max(0);
    rt_buf_trim();
    assert_int_equal(rt_mem_used(RT_MEM_OTHER), 0);
}

/* What is remembered of a piece is what its bytes sum up to, wherever it lies in its buffer; and
 * the next user of the memory does not meet it. */
static void sums(void **state)
{
    static const uint32_t caps[] = {4096, 8192, 20480, 65536, 1u << 20};
    (void)state;
    rt_buf_trim();
    for (unsigned i = 0; i < 2 * sizeof caps / sizeof caps[0]; i++) {
        struct rt_buf *b;
        assert_int_equal(rt_buf_alloc(caps[i / 2], RT_MEM_DIRTY, &b), 0);
        for (uint32_t k = 0; k < b->cap; k++) {
            b->data[k] = (uint8_t)(k * 13 + (k >> 8) + i);
        }
        static const uint32_t offs[] = {0, 1, 512, 4095, 4096, 5000};
        for (unsigned turn = 0; turn < 2; turn++) {
            for (unsigned o = 0; o < sizeof offs / sizeof offs[0] && offs[o] < b->cap; o++) {
                struct rt_piece p = {b->data + offs[o], b->cap - offs[o], 0, b};
                assert_int_equal(rt_piece_crc32c(77, &p), crc32c(77, p.data, p.len));
                p.len = MIN_OF(p.len, 4096 + 17u);
                assert_int_equal(rt_piece_crc32c(0, &p), crc32c(0, p.data, p.len));
            }
        }
        assert_true(b->cap < 8192 || rt_mem_used(RT_MEM_OTHER) >= b->cap / 512);
        rt_buf_unref(b);
        rt_buf_trim();
        assert_int_equal(rt_mem_used(RT_MEM_OTHER), 0);
    }
    struct rt_piece zeros = {rt_zeros, sizeof rt_zeros, 1, NULL};
    assert_int_equal(rt_piece_crc32c(5, &zeros), crc32c(5, rt_zeros, sizeof rt_zeros));
    static uint8_t own[5000];
    memset(own, 3, sizeof own);
    struct rt_piece kept = {own, sizeof own, 0, NULL};
    assert_int_equal(rt_piece_crc32c(5, &kept), crc32c(5, own, sizeof own));
}

/* The second time the bytes are not looked at. */
static void sums_are_kept(void **state)
{
    struct rt_buf *b;
    (void)state;
    assert_int_equal(rt_buf_alloc(65536, RT_MEM_DIRTY, &b), 0);
    memset(b->data, 1, b->cap);
    struct rt_piece p = {b->data + 100, 40960, 0, b};
    uint32_t crc = rt_piece_crc32c(0, &p);
    memset(b->data, 2, b->cap); /* which nobody may do, but here it shows */
    assert_int_equal(rt_piece_crc32c(0, &p), crc);
    rt_buf_unref(b);
}

static void names(void **state)
{
    (void)state;
    for (unsigned i = 0; i < RT_MEM_OWNERS; i++) {
        assert_non_null(rt_mem_name((enum rt_mem)i));
    }
    rt_mem_add(RT_MEM_MEMTABLE, 100);
    rt_mem_add(RT_MEM_MEMTABLE, -40);
    assert_int_equal(rt_mem_used(RT_MEM_MEMTABLE), 60);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sizes),          cmocka_unit_test(references),
        cmocka_unit_test(across_threads), cmocka_unit_test(idle_chunks),
        cmocka_unit_test(classes),        cmocka_unit_test(warming),
        cmocka_unit_test(sums),           cmocka_unit_test(sums_are_kept),
        cmocka_unit_test(names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
