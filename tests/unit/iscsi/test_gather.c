/* SPDX-License-Identifier: Apache-2.0 */
/* Data-out in buffers: every byte has one place, also over the seams. */
#include "iscsi/task.h"
#include "unit.h"

static uint8_t byte_at(uint32_t off)
{
    return (uint8_t)(off * 31 + (off >> 9));
}

static void fill(struct iscsi_gather *g, uint32_t off, uint32_t end)
{
    while (off < end) {
        uint32_t len;
        struct rt_buf *buf;
        uint8_t *to = iscsi_gather_at(g, off, &len, &buf);
        assert_true(len > 0);
        assert_true(to >= buf->data && to + len <= buf->data + buf->cap);
        for (uint32_t i = 0; i < len && off < end; i++, off++) {
            to[i] = byte_at(off);
        }
    }
}

static void over_the_seams(void **state)
{
    (void)state;
    struct iscsi_gather g = {0};
    const uint32_t first = 65536, total = 1500 * 1000;
    assert_int_equal(iscsi_gather_room(&g, first), 0);
    fill(&g, 0, 5000);
    fill(&g, 5000, first);
    assert_int_equal(iscsi_gather_room(&g, total), 0);
    assert_int_equal(iscsi_gather_room(&g, total), 0); /* nothing more */
    fill(&g, first, total);
    struct rt_chain c = {0};
    assert_int_equal(iscsi_gather_chain(&g, total - 7, &c), 0);
    assert_int_equal(c.len, total - 7);
    assert_int_equal(g.count, 0);
    uint8_t *all = malloc(total);
    assert_non_null(all);
    rt_chain_copy_out(&c, 0, all, total - 7);
    for (uint32_t i = 0; i < total - 7; i++) {
        assert_int_equal(all[i], byte_at(i));
    }
    free(all);
    rt_chain_free(&c);
    assert_int_equal(rt_mem_used(RT_MEM_INGRESS), 0);
}

static void freed_half_way(void **state)
{
    (void)state;
    struct iscsi_gather g = {0};
    assert_int_equal(iscsi_gather_room(&g, 4u << 20), 0);
    assert_true(rt_mem_used(RT_MEM_INGRESS) >= 4u << 20);
    iscsi_gather_free(&g);
    iscsi_gather_free(&g);
    assert_int_equal(rt_mem_used(RT_MEM_INGRESS), 0);
}

static void small_has_one_buffer_of_its_size(void **state)
{
    (void)state;
    struct iscsi_gather g = {0};
    assert_int_equal(iscsi_gather_room(&g, 4096), 0);
    assert_int_equal(g.count, 1);
    assert_int_equal(g.inline_at[0].buf->cap, 4096);
    iscsi_gather_free(&g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(over_the_seams),
        cmocka_unit_test(freed_half_way),
        cmocka_unit_test(small_has_one_buffer_of_its_size),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
