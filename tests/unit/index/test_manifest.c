/* SPDX-License-Identifier: Apache-2.0 */
#include "base/crc32c.h"
#include "base/rng.h"
#include "index/manifest.h"
#include "unit.h"
#include "unit_keys.h"
#include <errno.h>

static struct index_home home = {{{4, 5, 6}}, NULL};

static void add(struct manifest *m, unsigned level, uint64_t run, const char *small,
                const char *large)
{
    struct manifest_sst s = {.level = (uint8_t)level};
    s.meta = (struct sst_meta){.epoch = 2,
                               .counter = m->ssts.len,
                               .run = run,
                               .size_bytes = 5000,
                               .filter_off = 4000,
                               .index_off = 4500,
                               .entries = 10,
                               .tombstones = 2,
                               .salt = {1, 2},
                               .cipher = crypt_keys_cipher(home.keys)};
    assert_int_equal(
        sst_meta_keys(&s.meta, small, (uint32_t)strlen(small), large, (uint32_t)strlen(large)), 0);
    assert_int_equal(vec_push(&m->ssts, s), 0);
}

static struct manifest sample(void)
{
    struct manifest m = {.number = 17,
                         .epoch = 4,
                         .features_compat = 5,
                         .features_ro_compat = 6,
                         .salt = {9, 8},
                         .first_of_epoch = true,
                         .clean = true,
                         .open_id = {{1}},
                         .owner = "a host",
                         .replay_from = 100,
                         .log_epoch = 3,
                         .last_batch = 99,
                         .closed_through = 163,
                         .swept_through = 12};
    add(&m, 0, 7, "b", "d");
    add(&m, 0, 7, "e", "f");
    add(&m, 0, 6, "a", "z");
    add(&m, 1, 0, "a", "b");
    add(&m, 1, 0, "c", "c");
    add(&m, 6, 0, "a", "zzzz");
    return m;
}

static void encode(const struct manifest *m, struct bytes_writer *out)
{
    assert_int_equal(manifest_encode(&home, m, out), 0);
}

static int decode(const struct bytes_writer *in, size_t len)
{
    struct manifest m;
    uint8_t *copy = malloc(len + 1); /* so that a sanitizer sees its end */
    assert_non_null(copy);
    memcpy(copy, in->data, len);
    int r = manifest_decode(&home, copy, len, &m);
    if (r == 0) {
        manifest_free(&m);
    }
    free(copy);
    return r;
}

static void comes_back(void **state)
{
    (void)state;
    struct manifest m = sample();
    struct manifest b;
    struct bytes_writer out = {0};
    struct bytes_writer again = {0};
    encode(&m, &out);
    assert_int_equal(manifest_decode(&home, out.data, out.len, &b), 0);
    assert_int_equal(b.number, 17);
    assert_int_equal(b.epoch, 4);
    assert_true(b.first_of_epoch && b.clean && !b.journal_in_use);
    assert_string_equal(b.owner, "a host");
    assert_int_equal(b.replay_from, 100);
    assert_int_equal(b.log_epoch, 3);
    assert_int_equal(b.last_batch, 99);
    assert_int_equal(b.closed_through, 163);
    assert_int_equal(b.swept_through, 12);
    assert_int_equal(b.ssts.len, 6);
    assert_int_equal(b.ssts.at[5].level, 6);
    assert_memory_equal(b.ssts.at[5].meta.largest, "zzzz", 4);
    encode(&b, &again);
    assert_int_equal(again.len, out.len);
    assert_memory_equal(again.data, out.data, out.len);
    manifest_free(&m);
    manifest_free(&b);
    bytes_writer_free(&out);
    bytes_writer_free(&again);
}

static void damage_is_noticed(void **state)
{
    (void)state;
    struct manifest m = sample();
    struct bytes_writer out = {0};
    encode(&m, &out);
    for (size_t len = 0; len < out.len; len++) {
        assert_int_equal(decode(&out, len), -EBADMSG);
    }
    for (size_t bit = 0; bit < out.len * 8; bit++) {
        out.data[bit / 8] ^= (uint8_t)(1u << bit % 8);
        assert_int_equal(decode(&out, out.len), -EBADMSG);
        out.data[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    assert_int_equal(decode(&out, out.len), 0);
    struct uuid other = {{4, 5, 7}};
    struct manifest b;
    assert_int_equal(manifest_decode(&(struct index_home){other, home.keys}, out.data, out.len, &b),
                     -EBADMSG);
    manifest_free(&m);
    bytes_writer_free(&out);
}

static void seal(struct bytes_writer *w)
{
    uint32_t crc = crc32c(0, w->data, 124);
    le32_store(w->data + 124,
               crc32c(crc, w->data + MANIFEST_HEADER_SIZE, w->len - MANIFEST_HEADER_SIZE));
}

/* Hostile bytes under a right checksum: refused or taken, never a crash. */
static void nonsense_is_bounded(void **state)
{
    (void)state;
    struct manifest m = sample();
    struct bytes_writer out = {0};
    struct rng rng = rng_seeded(5);
    encode(&m, &out);
    for (unsigned i = 0; i < 20000; i++) {
        struct bytes_writer bad = {0};
        bytes_put(&bad, out.data,
                  MANIFEST_HEADER_SIZE + rng_below(&rng, out.len - MANIFEST_HEADER_SIZE + 1));
        for (unsigned k = (unsigned)rng_below(&rng, 4); k > 0 && bad.len > MANIFEST_HEADER_SIZE;
             k--) {
            bad.data[MANIFEST_HEADER_SIZE + rng_below(&rng, bad.len - MANIFEST_HEADER_SIZE)] =
                (uint8_t)rng_next(&rng);
        }
        le64_store(bad.data + 112, bad.len - MANIFEST_HEADER_SIZE);
        seal(&bad);
        int r = decode(&bad, bad.len);
        assert_true(r == 0 || r == -EBADMSG);
        bytes_writer_free(&bad);
    }
    manifest_free(&m);
    bytes_writer_free(&out);
}

static void refuse_order(unsigned level, uint64_t run, const char *small, const char *large)
{
    struct manifest m = sample();
    struct bytes_writer out = {0};
    add(&m, level, run, small, large);
    encode(&m, &out);
    assert_int_equal(decode(&out, out.len), -EBADMSG);
    manifest_free(&m);
    bytes_writer_free(&out);
}

static void order_matters(void **state)
{
    (void)state;
    refuse_order(1, 0, "x", "y");          /* after level 6 */
    refuse_order(6, 0, "zzzz", "zzzzz");   /* overlaps */
    refuse_order(7, 0, "zzzzz", "zzzzzz"); /* there is no such level */
    refuse_order(6, 0, "zzzzzz", "zzzzz"); /* ends before it starts */
}

static void the_future_is_refused(void **state)
{
    (void)state;
    struct manifest m = sample();
    struct bytes_writer out = {0};
    m.features_incompat = 1;
    encode(&m, &out);
    assert_int_equal(decode(&out, out.len), -ENOTSUP);
    le64_store(out.data + 88, 0);
    seal(&out);
    assert_int_equal(decode(&out, out.len), home.keys ? -EBADMSG : 0);
    le16_store(out.data + 8, MANIFEST_VERSION + 1);
    seal(&out);
    assert_int_equal(decode(&out, out.len), home.keys ? -EBADMSG : -ENOTSUP);
    manifest_free(&m);
    bytes_writer_free(&out);
}

static void names_list_the_newest_first(void **state)
{
    (void)state;
    char a[OBJ_NAME_SIZE];
    char b[OBJ_NAME_SIZE];
    uint64_t n;
    uint64_t c;
    manifest_name(0, a);
    assert_string_equal(a, "manifest/ffffffffffffffff");
    manifest_name(1, b);
    assert_true(strcmp(b, a) < 0);
    manifest_name(0x1234567890, b);
    assert_int_equal(manifest_name_parse(b, &n), 0);
    assert_int_equal(n, 0x1234567890);
    assert_int_equal(manifest_name_parse("manifest/fffffffffffffffg", &n), -EINVAL);
    assert_int_equal(manifest_name_parse("manifest/ffffffffffffffff0", &n), -EINVAL);
    assert_int_equal(manifest_name_parse("manifest/fff", &n), -EINVAL);
    assert_int_equal(manifest_name_parse("manifest/FFFFFFFFFFFFFFFF", &n), -EINVAL);
    assert_int_equal(manifest_name_parse("sst/ffffffffffffffff", &n), -EINVAL);
    sst_name(3, 77, a);
    assert_string_equal(a, "sst/0000000000000003-000000000000004d");
    assert_int_equal(sst_name_parse(a, &n, &c), 0);
    assert_int_equal(n, 3);
    assert_int_equal(c, 77);
    assert_int_equal(sst_name_parse("sst/0000000000000003-000000000000004", &n, &c), -EINVAL);
    assert_int_equal(sst_name_parse("sst/0000000000000003_000000000000004d", &n, &c), -EINVAL);
    assert_int_equal(sst_name_parse("sst/", &n, &c), -EINVAL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(comes_back),
        cmocka_unit_test(damage_is_noticed),
        cmocka_unit_test(nonsense_is_bounded),
        cmocka_unit_test(order_matters),
        cmocka_unit_test(the_future_is_refused),
        cmocka_unit_test(names_list_the_newest_first),
    };
    int failed = 0;
    for (enum crypt_cipher c = CRYPT_NONE; c <= CRYPT_CHACHA20_POLY1305; c++) {
        struct crypt_keys *keys = unit_keys(c);
        home.keys = keys;
        failed += cmocka_run_group_tests_name(crypt_cipher_name(c), tests, NULL, NULL);
        crypt_keys_unref(keys);
    }
    return failed;
}
