/* SPDX-License-Identifier: Apache-2.0 */
/* Bytes of SSTs: round trips, and that truncated, flipped and misplaced bytes never pass for right
 * ones. */
#include "base/endian.h"
#include "base/err.h"
#include "base/rng.h"
#include "index/merge.h"
#include "index/sst.h"
#include "index/sst_filter.h"
#include "index/sst_unit.h"
#include "index/sst_writer.h"
#include "obj/obj_layers.h"
#include "rt/rt.h"
#include "unit.h"
#include "unit_keys.h"
#include <stdio.h>

#define ENTRIES 4000u

static const uint8_t salt[SST_SALT_SIZE] = {1, 2, 3, 4};
static struct sst_id id = {.volume = {{7}}, .epoch = 3, .counter = 9};
static struct index_home home = {{{7}}, NULL}; /* with the keys of this run, as id */

static struct sst_key key_of(const uint8_t of[SST_SALT_SIZE])
{
    struct sst_key key;
    assert_int_equal(
        sst_key_init(&home, &(struct sst_name){3, 9}, of, crypt_keys_cipher(home.keys), &key), 0);
    return key;
}

struct made {
    char key[40];
    uint8_t value[300];
    struct index_entry e;
};

static struct made *make_entries(unsigned from, unsigned step)
{
    struct made *m = calloc(ENTRIES, sizeof *m);
    assert_non_null(m);
    for (unsigned i = 0; i < ENTRIES; i++) {
        unsigned n = from + i * step;
        m[i].e.key_len = (uint32_t)snprintf(m[i].key, sizeof m[i].key, "%c%08u%s",
                                            n < 9000 ? 'a' : 'b', n, n % 5 ? "" : "-long-tail");
        m[i].e.key = (const uint8_t *)m[i].key;
        m[i].e.deleted = n % 7 == 0;
        m[i].e.value_len = m[i].e.deleted ? 0 : n * 31 % 299;
        m[i].e.value = m[i].value;
        memset(m[i].value, (int)(n & 255), sizeof m[i].value);
    }
    return m;
}

static void check_entry(const struct index_entry *got, const struct index_entry *want)
{
    assert_int_equal(index_key_compare(got->key, got->key_len, want->key, want->key_len), 0);
    assert_int_equal(got->deleted, want->deleted);
    assert_int_equal(got->value_len, want->value_len);
    assert_true(got->value_len == 0 || memcmp(got->value, want->value, want->value_len) == 0);
}

static void keys_have_byte_order(void **state)
{
    (void)state;
    assert_true(index_key_compare("a", 1, "b", 1) < 0);
    assert_true(index_key_compare("a", 1, "a\0", 2) < 0);
    assert_true(index_key_compare("\xff", 1, "a", 1) > 0);
    assert_int_equal(index_key_compare("ab", 2, "ab", 2), 0);
    assert_true(index_key_compare("", 0, "a", 1) < 0);
}

static void build_block(struct sst_block_writer *w, const struct made *m, unsigned count)
{
    w->restart_interval = SST_RESTART_INTERVAL;
    for (unsigned i = 0; i < count; i++) {
        size_t bound = sst_block_size_with(w, &m[i].e);
        assert_int_equal(sst_block_add(w, &m[i].e), 0);
        assert_true(sst_block_size(w) <= bound);
    }
    size_t size = sst_block_size(w);
    assert_int_equal(sst_block_finish(w), 0);
    assert_int_equal(w->raw.len, size);
}

static void blocks_come_back(void **state)
{
    (void)state;
    struct made *m = make_entries(1, 2);
    struct sst_block_writer w = {0};
    struct sst_block_iter it;
    build_block(&w, m, 333);
    assert_int_equal(sst_block_open(&it, w.raw.data, w.raw.len), 0);
    int r = sst_block_first(&it);
    for (unsigned i = 0; i < 333; i++) {
        assert_int_equal(r, 1);
        struct index_entry e = sst_block_entry(&it);
        check_entry(&e, &m[i].e);
        r = sst_block_next(&it);
    }
    assert_int_equal(r, 0);
    assert_int_equal(sst_block_next(&it), 0);
    for (unsigned i = 0; i < 333; i++) {
        char between[41];
        size_t len = m[i].e.key_len;
        memcpy(between, m[i].key, len);
        between[len] = '\0';
        assert_int_equal(sst_block_seek(&it, m[i].key, len), 1);
        struct index_entry e = sst_block_entry(&it);
        check_entry(&e, &m[i].e);
        assert_int_equal(sst_block_seek(&it, between, len + 1), i < 332);
        if (i < 332) {
            e = sst_block_entry(&it);
            check_entry(&e, &m[i + 1].e);
        }
    }
    assert_int_equal(sst_block_seek(&it, "", 0), 1);
    struct index_entry e = sst_block_entry(&it);
    check_entry(&e, &m[0].e);
    sst_block_writer_free(&w);
    free(m);
}

/* Without the checksum's protection: anything may come out, but nothing outside of the block is
 * read. */
static void spoilt_blocks_are_bounded(void **state)
{
    (void)state;
    struct made *m = make_entries(1, 2);
    struct sst_block_writer w = {0};
    struct rng rng = rng_seeded(1);
    build_block(&w, m, 100);
    for (unsigned i = 0; i < 20000; i++) {
        size_t len = 1 + rng_below(&rng, w.raw.len);
        struct sst_block_iter it;
        uint8_t *copy = malloc(len); /* so that a sanitizer sees its end */
        assert_non_null(copy);
        memcpy(copy, w.raw.data + w.raw.len - len, len);
        for (unsigned k = (unsigned)rng_below(&rng, 4); k > 0; k--) {
            copy[rng_below(&rng, len)] = (uint8_t)rng_next(&rng);
        }
        int r = sst_block_open(&it, copy, len);
        unsigned steps = 0;
        for (r = r < 0 ? r : sst_block_first(&it); r == 1; r = sst_block_next(&it)) {
            assert_true(++steps <= len);
            assert_true(it.key_len <= INDEX_KEY_MAX && it.value_len <= INDEX_VALUE_MAX);
        }
        assert_true(r == 0 || r == -EBADMSG);
        if (sst_block_open(&it, copy, len) == 0) {
            r = sst_block_seek(&it, m[50].key, m[50].e.key_len);
            assert_true(r == 0 || r == 1 || r == -EBADMSG);
        }
        free(copy);
    }
    sst_block_writer_free(&w);
    free(m);
}

/* Opens a copy, which is changed by it: the length of the contents. back is NULL or gets them. */
static int open_copy(const struct sst_key *key, const struct bytes_writer *from, size_t len,
                     uint64_t off, enum sst_unit_kind kind, uint8_t *back)
{
    uint8_t *copy = malloc(len + 1);
    size_t got = 0;
    assert_non_null(copy);
    memcpy(copy, from->data, len);
    int r = sst_unit_open(key, copy, len, off, kind, &got);
    if (r == 0 && back) {
        assert_int_equal(sst_unit_decode(key, copy, len, back, got), 0);
    }
    free(copy);
    return r < 0 ? r : (int)got;
}

static void check_unit(const uint8_t *raw, size_t raw_len, enum sst_unit_kind kind)
{
    struct bytes_writer out = {0};
    struct sst_key key = key_of(salt);
    assert_int_equal(sst_unit_encode(&key, raw, raw_len, 4711, kind, &out), 0);
    assert_int_equal(sst_unit_size(out.data, out.len), out.len);
    uint8_t *back = malloc(raw_len + 1);
    assert_non_null(back);
    assert_int_equal(open_copy(&key, &out, out.len, 4711, kind, back), raw_len);
    assert_memory_equal(back, raw, raw_len);
    free(back);
    /* Another place, another object, another kind, any end, any bit. */
    uint8_t other[SST_SALT_SIZE] = {1, 2, 3, 5};
    struct sst_key foreign = key_of(other);
    assert_int_equal(open_copy(&key, &out, out.len, 4712, kind, NULL), -EBADMSG);
    assert_int_equal(open_copy(&foreign, &out, out.len, 4711, kind, NULL), -EBADMSG);
    assert_int_equal(open_copy(&key, &out, out.len, 4711, 9, NULL), -EBADMSG);
    for (size_t len = 0; len < out.len; len++) {
        assert_int_equal(open_copy(&key, &out, len, 4711, kind, NULL), -EBADMSG);
    }
    for (size_t bit = 0; bit < out.len * 8; bit++) {
        out.data[bit / 8] ^= (uint8_t)(1u << bit % 8);
        assert_int_equal(open_copy(&key, &out, out.len, 4711, kind, NULL), -EBADMSG);
        out.data[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    bytes_writer_free(&out);
}

static void units_are_checked(void **state)
{
    (void)state;
    uint8_t raw[1500];
    memset(raw, 'x', sizeof raw);
    check_unit(raw, sizeof raw, SST_UNIT_DATA); /* shrinks */
    struct rng rng = rng_seeded(2);
    for (size_t i = 0; i < sizeof raw; i++) {
        raw[i] = (uint8_t)rng_next(&rng);
    }
    check_unit(raw, sizeof raw, SST_UNIT_INDEX); /* does not */
    check_unit(raw, 1, SST_UNIT_FILTER);
}

static void filters_know_their_keys(void **state)
{
    (void)state;
    struct bytes_writer out = {0};
    static uint64_t hashes[20000];
    unsigned wrong = 0;
    for (uint32_t i = 0; i < 40000; i++) {
        uint8_t key[12] = {9};
        be32_store(key + 3, i);
        uint64_t h = sst_filter_hash(key, 7 + i % 3);
        if (i < 20000) {
            hashes[i] = h;
        }
        if (i == 20000) {
            assert_int_equal(sst_filter_build(hashes, 20000, &out), 0);
            assert_true(sst_filter_is_good(out.data, out.len));
        }
        wrong += i >= 20000 && sst_filter_may_hold(out.data, out.len, h);
    }
    for (uint32_t i = 0; i < 20000; i++) {
        assert_true(sst_filter_may_hold(out.data, out.len, hashes[i]));
    }
    assert_true(wrong < 20000 * 3 / 100);
    assert_false(sst_filter_is_good(out.data, out.len - 1));
    assert_false(sst_filter_is_good(out.data, 8));
    out.data[out.len - 1] ^= 1;
    assert_false(sst_filter_is_good(out.data, out.len));
    bytes_writer_free(&out);
    /* The hash is part of the format: these values may never change. */
    assert_true(sst_filter_hash("zerofs", 6) == 0x112e0afaecb763ffull);
    assert_true(sst_filter_hash("0123456789abcdef", 16) == 0xff45e084dcdfcd0full);
}

/* Of the entries [from, to). */
static struct sst *write_sst(struct obj_store *store, const struct made *m, unsigned from,
                             unsigned to, uint64_t counter)
{
    struct sst_writer *w;
    struct sst_meta meta;
    struct sst *s;
    char name[OBJ_NAME_SIZE];
    struct sst_id mine = id;
    mine.counter = counter;
    assert_int_equal(sst_writer_create(&mine, salt, SST_TARGET_BYTES, &w), 0);
    for (unsigned i = from; i < to; i++) {
        assert_int_equal(sst_writer_add(w, &m[i].e), 0);
    }
    assert_int_equal(sst_writer_finish(w, &meta), 0);
    assert_int_equal(meta.size_bytes, sst_writer_body(w)->len);
    assert_int_equal(meta.entries, to - from);
    sst_name(meta.epoch, meta.counter, name);
    assert_int_equal(obj_put(store, OBJ_INDEX, name, sst_writer_body(w)), 0);
    sst_writer_free(w);
    assert_int_equal(sst_create(&home, &meta, &s), 0);
    return s;
}

static void ends_main(void *arg)
{
    (void)arg;
    struct obj_store *store;
    struct rt_buf *buf;
    size_t len;
    struct sst_meta meta;
    assert_int_equal(obj_mem_open(&store), 0);
    struct made *m = make_entries(0, 1);
    struct sst *s = write_sst(store, m, 0, ENTRIES, 9);
    const char *name = "sst/0000000000000003-0000000000000009";
    assert_int_equal(obj_get_all(store, OBJ_READ, name, 8 << 20, &buf, &len), 0);
    assert_int_equal(len, s->meta.size_bytes);
    assert_int_equal(sst_header_decode(buf->data, len, &id.volume, &meta), 0);
    assert_int_equal(meta.epoch, 3);
    assert_int_equal(meta.counter, 9);
    const uint8_t *footer = buf->data + len - SST_FOOTER_SIZE;
    assert_int_equal(sst_footer_decode(footer, SST_FOOTER_SIZE, &meta), 0);
    assert_int_equal(meta.index_off, s->meta.index_off);
    assert_int_equal(meta.filter_off, s->meta.filter_off);
    assert_int_equal(meta.entries, ENTRIES);
    assert_int_equal(meta.tombstones, s->meta.tombstones);
    assert_int_equal(meta.size_bytes, len);
    for (size_t bit = 0; bit < SST_HEADER_SIZE * 8; bit++) {
        buf->data[bit / 8] ^= (uint8_t)(1u << bit % 8);
        assert_int_equal(sst_header_decode(buf->data, len, &id.volume, &meta), -EBADMSG);
        buf->data[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    for (size_t bit = 0; bit < SST_FOOTER_SIZE * 8; bit++) {
        buf->data[len - SST_FOOTER_SIZE + bit / 8] ^= (uint8_t)(1u << bit % 8);
        assert_int_equal(sst_footer_decode(footer, SST_FOOTER_SIZE, &meta), -EBADMSG);
        buf->data[len - SST_FOOTER_SIZE + bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    rt_buf_unref(buf);
    sst_unref(s);
    free(m);
    obj_close(store);
}

static void objects_describe_themselves(void **state)
{
    (void)state;
    assert_int_equal(rt_run(&(struct rt_options){.sim = true}, ends_main, NULL), 0);
}

/* Merges everything into one SST, fetching as asked: the SST. */
static struct sst *merge_all(struct obj_store *store, struct merge *m, uint64_t counter)
{
    struct sst_meta meta;
    struct sst *s;
    char name[OBJ_NAME_SIZE];
    struct sst_id mine = id;
    int r;
    mine.counter = counter;
    assert_int_equal(sst_writer_create(&mine, salt, SST_TARGET_BYTES, &m->w), 0);
    while ((r = merge_step(m)) != MERGE_DONE) {
        assert_true(r == MERGE_NEED || r == MERGE_AGAIN);
        if (r == MERGE_NEED) {
            assert_int_equal(merge_fill(m, store, OBJ_COMPACT), 0);
        }
    }
    assert_int_equal(sst_writer_finish(m->w, &meta), 0);
    sst_name(meta.epoch, meta.counter, name);
    assert_int_equal(obj_put(store, OBJ_INDEX, name, sst_writer_body(m->w)), 0);
    sst_writer_free(m->w);
    assert_int_equal(sst_create(&home, &meta, &s), 0);
    return s;
}

static void merge_main(void *arg)
{
    bool drop = arg != NULL;
    struct obj_store *store;
    struct merge m;
    assert_int_equal(obj_mem_open(&store), 0);
    struct made *newer = make_entries(0, 3);
    struct made *older = make_entries(0, 2);
    /* A run of two SSTs over a run of three. */
    struct sst *top[] = {write_sst(store, newer, 0, 1500, 20),
                         write_sst(store, newer, 1500, ENTRIES, 21)};
    struct sst *low[] = {write_sst(store, older, 0, 100, 22), write_sst(store, older, 100, 101, 23),
                         write_sst(store, older, 101, ENTRIES, 24)};
    assert_int_equal(merge_init(&m, 2), 0);
    merge_add(&m, top, 2);
    merge_add(&m, low, 3);
    m.drop_tombstones = drop;
    struct sst *out = merge_all(store, &m, 30);
    merge_free(&m);

    struct sst_source src = {.store = store, .klass = OBJ_READ};
    struct sst_cursor *c = malloc(sizeof *c);
    assert_non_null(c);
    assert_int_equal(cache_create(1 << 20, RT_MEM_INDEX_CACHE, &src.cache), 0);
    sst_cursor_init(c, &out, 1);
    int r = sst_cursor_seek(c, &src, "", 0);
    size_t a = 0;
    size_t b = 0;
    while (a < ENTRIES || b < ENTRIES) {
        int order = a == ENTRIES   ? 1
                    : b == ENTRIES ? -1
                                   : index_key_compare(newer[a].key, newer[a].e.key_len,
                                                       older[b].key, older[b].e.key_len);
        const struct index_entry *want = order <= 0 ? &newer[a].e : &older[b].e;
        a += order <= 0;
        b += order >= 0;
        if (want->deleted && drop) {
            continue;
        }
        assert_int_equal(r, 1);
        struct index_entry e = sst_block_entry(&c->block);
        check_entry(&e, want);
        r = sst_cursor_next(c, &src);
    }
    assert_int_equal(r, 0);
    sst_cursor_free(c);
    free(c);
    cache_destroy(src.cache);
    sst_unref(out);
    for (unsigned i = 0; i < 5; i++) {
        sst_unref(i < 2 ? top[i] : low[i - 2]);
    }
    free(newer);
    free(older);
    obj_close(store);
}

static void runs_are_merged(void **state)
{
    (void)state;
    static int drop;
    assert_int_equal(rt_run(&(struct rt_options){.sim = true}, merge_main, NULL), 0);
    assert_int_equal(rt_run(&(struct rt_options){.sim = true}, merge_main, &drop), 0);
    assert_int_equal(rt_mem_used(RT_MEM_SEALING), 0);
    assert_int_equal(rt_mem_used(RT_MEM_INDEX_CACHE), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(keys_have_byte_order),      cmocka_unit_test(blocks_come_back),
        cmocka_unit_test(spoilt_blocks_are_bounded), cmocka_unit_test(units_are_checked),
        cmocka_unit_test(filters_know_their_keys),   cmocka_unit_test(objects_describe_themselves),
        cmocka_unit_test(runs_are_merged),
    };
    int failed = 0;
    for (enum crypt_cipher c = CRYPT_NONE; c <= CRYPT_CHACHA20_POLY1305; c++) {
        struct crypt_keys *keys = unit_keys(c);
        home.keys = keys;
        id.keys = keys;
        failed += cmocka_run_group_tests_name(crypt_cipher_name(c), tests, NULL, NULL);
        crypt_keys_unref(keys);
    }
    return failed;
}
