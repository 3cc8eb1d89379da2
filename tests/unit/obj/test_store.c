/* SPDX-License-Identifier: Apache-2.0 */
/* What every backend must do, run on each of them. */
#include "base/rng.h"
#include "obj_test.h"

static void names_are(struct obj_names *n, const char *const *want, size_t count)
{
    CHECK(n->names.len == count);
    for (size_t i = 0; i < count; i++) {
        CHECK(strcmp(n->names.at[i], want[i]) == 0);
    }
    obj_names_free(n);
}

static void puts_once(struct obj_store *s)
{
    CHECK(put_text(s, "a/b", "first") == 0);
    CHECK(put_text(s, "a/b", "other") == -EEXIST);
    CHECK(has_text(s, "a/b", "first"));
    uint64_t size = 0;
    CHECK(obj_head(s, OBJ_READ, "a/b", &size) == 0 && size == 5);
    CHECK(obj_head(s, OBJ_READ, "a/c", &size) == -ENOENT);
    char got[8];
    CHECK(obj_get(s, OBJ_READ, "a/b", 3, got, 8) == 2 && memcmp(got, "st", 2) == 0);
    CHECK(obj_get(s, OBJ_READ, "a/b", 5, got, 8) == 0);
    CHECK(obj_get(s, OBJ_READ, "a/b", 500, got, 8) == 0);
    CHECK(obj_get(s, OBJ_READ, "a/nothing", 0, got, 8) == -ENOENT);
    CHECK(obj_remove(s, OBJ_COLLECT, "a/b") == 0);
    CHECK(obj_remove(s, OBJ_COLLECT, "a/b") == 0);
    CHECK(obj_get(s, OBJ_READ, "a/b", 0, got, 8) == -ENOENT);
    CHECK(put_text(s, "a/b", "") == 0);
    CHECK(obj_head(s, OBJ_READ, "a/b", &size) == 0 && size == 0);
    CHECK(obj_remove(s, OBJ_COLLECT, "a/b") == 0);
}

static void refuses_bad_names(struct obj_store *s)
{
    const char *const bad[] = {"", "/a", "a/", "a//b", "../a", "a/..", "a/./b", "a b", "a\n", "."};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        CHECK(put_text(s, bad[i], "x") == -EINVAL);
        CHECK(obj_remove(s, OBJ_COLLECT, bad[i]) == -EINVAL);
    }
    char name[600];
    memset(name, 'n', sizeof name);
    name[513] = '\0';
    CHECK(put_text(s, name, "x") == -EINVAL);
}

static void keeps_large_bodies(struct obj_store *s)
{
    size_t len = (3u << 20) + 17;
    uint8_t *data = malloc(len);
    struct rng g = rng_seeded(3);
    for (size_t i = 0; i < len; i++) {
        data[i] = (uint8_t)rng_next(&g);
    }
    struct rt_chain body = {0};
    for (size_t at = 0; at < len; at += 4099) { /* many pieces that do not join */
        size_t n = len - at < 4099 ? len - at : 4099;
        CHECK(rt_chain_add(&body, NULL, data + at, (uint32_t)(n - 1)) == 0);
        struct rt_buf *b;
        CHECK(rt_buf_alloc(1, RT_MEM_OTHER, &b) == 0);
        b->data[0] = data[at + n - 1];
        CHECK(rt_chain_add(&body, b, b->data, 1) == 0);
        rt_buf_unref(b);
    }
    CHECK(obj_put(s, OBJ_COMMIT, "big", &body) == 0);
    rt_chain_free(&body);
    struct rt_buf *got;
    size_t got_len;
    CHECK(obj_get_all(s, OBJ_READ, "big", len - 1, &got, &got_len) == -EFBIG);
    CHECK(obj_get_all(s, OBJ_READ, "big", len, &got, &got_len) == 0);
    CHECK(got_len == len && memcmp(got->data, data, len) == 0);
    rt_buf_unref(got);
    uint8_t piece[1000];
    CHECK(obj_get(s, OBJ_READ, "big", 1000001, piece, sizeof piece) == (ssize_t)sizeof piece);
    CHECK(memcmp(piece, data + 1000001, sizeof piece) == 0);
    CHECK(obj_remove(s, OBJ_COLLECT, "big") == 0);
    free(data);
}

static void lists_in_order(struct obj_store *s)
{
    /* In byte order: '-' < '.' < '/' < digits < letters. */
    const char *const all[] = {"m-1",
                               "m.1",
                               "m/0",
                               "m/1/x",
                               "m/1/y",
                               "m/2",
                               "m0",
                               "segments/00000000000000ff",
                               "segments/0000000000000100",
                               "segments/0000000000000101",
                               "segments/00000000000001ff",
                               "zz"};
    enum {
        COUNT = sizeof all / sizeof all[0]
    };
    for (size_t i = 0; i < COUNT; i++) {
        CHECK(put_text(s, all[(i * 7 + 3) % COUNT], "x") == 0);
    }
    struct obj_names n = {0};
    CHECK(obj_list(s, OBJ_INDEX, "", "", 100, &n) == 0 && !n.more);
    names_are(&n, all, COUNT);
    CHECK(obj_list(s, OBJ_INDEX, "", "", COUNT, &n) == 0 && !n.more);
    names_are(&n, all, COUNT);
    for (size_t from = 0; from < COUNT; from++) {
        for (size_t max = 1; max <= 4; max++) {
            size_t want = COUNT - from - 1 < max ? COUNT - from - 1 : max;
            CHECK(obj_list(s, OBJ_INDEX, "", all[from], max, &n) == 0);
            CHECK(n.more == (from + 1 + want < COUNT));
            names_are(&n, all + from + 1, want);
        }
    }
    CHECK(obj_list(s, OBJ_INDEX, "segments/", "", 2, &n) == 0 && n.more);
    names_are(&n, all + 7, 2);
    CHECK(obj_list(s, OBJ_INDEX, "segments/000000000000010", "", 9, &n) == 0 && !n.more);
    names_are(&n, all + 8, 2);
    CHECK(obj_list(s, OBJ_INDEX, "m/", "m/1/x", 9, &n) == 0 && !n.more);
    names_are(&n, all + 4, 2);
    CHECK(obj_list(s, OBJ_INDEX, "m/1", "m/", 9, &n) == 0 && !n.more);
    names_are(&n, all + 3, 2);
    CHECK(obj_list(s, OBJ_INDEX, "nothing", "", 9, &n) == 0 && !n.more);
    names_are(&n, all, 0);
    CHECK(obj_remove(s, OBJ_COLLECT, "m/1/x") == 0 && obj_remove(s, OBJ_COLLECT, "m/1/y") == 0);
    CHECK(obj_list(s, OBJ_INDEX, "m/", "", 1, &n) == 0 && n.more);
    names_are(&n, all + 2, 1);
    CHECK(obj_list(s, OBJ_INDEX, "m/", "m/0", 1, &n) == 0 && !n.more); /* over an empty folder */
    names_are(&n, all + 5, 1);
    for (size_t i = 0; i < COUNT; i++) {
        CHECK(obj_remove(s, OBJ_COLLECT, all[i]) == 0);
    }
    CHECK(obj_list(s, OBJ_INDEX, "", "", 1, &n) == 0 && !n.more);
    names_are(&n, all, 0);
}

/* Listings with random names, prefixes and starting points, against a plain sorted array. */
static void lists_like_a_model(struct obj_store *s)
{
    enum {
        NAMES = 300
    };
    char(*names)[40] = malloc((size_t)NAMES * 40);
    CHECK(names != NULL);
    struct rng g = rng_seeded(9);
    size_t count = 0;
    for (size_t i = 0; i < NAMES; i++) {
        uint64_t x = rng_next(&g);
        (void)snprintf(names[count], sizeof names[0], "%c%s%c%s%u", (char)('a' + x % 3),
                       x & 8 ? "/" : "-", (char)('a' + x / 16 % 3), x & 1024 ? "/" : ".",
                       (unsigned)(x >> 40) % 1000);
        count +=
            put_text(s, names[count], "x") == 0; /* a name twice, or under a file, is refused */
    }
    CHECK(count > 150);
    qsort(names, count, sizeof names[0], (int (*)(const void *, const void *))strcmp);
    for (int round = 0; round < 200; round++) {
        const char *after = names[rng_below(&g, count)];
        char prefix[8];
        (void)snprintf(prefix, sizeof prefix, "%.*s", (int)rng_below(&g, 5),
                       names[rng_below(&g, count)]);
        size_t max = 1 + rng_below(&g, 20);
        struct obj_names n = {0};
        CHECK(obj_list(s, OBJ_INDEX, prefix, round % 2 ? after : "", max, &n) == 0);
        size_t found = 0;
        bool more = false;
        for (size_t i = 0; i < count; i++) {
            if (strncmp(names[i], prefix, strlen(prefix)) != 0 ||
                (round % 2 && strcmp(names[i], after) <= 0)) {
                continue;
            }
            if (found == max) {
                more = true;
                break;
            }
            CHECK(found < n.names.len && strcmp(n.names.at[found], names[i]) == 0);
            found++;
        }
        CHECK(found == n.names.len && more == n.more);
        obj_names_free(&n);
    }
    for (size_t i = 0; i < count; i++) {
        CHECK(obj_remove(s, OBJ_COLLECT, names[i]) == 0);
    }
    free(names);
}

struct rivals {
    struct obj_store *s;
    unsigned running;
    unsigned won;
    int round;
};

static void rival(void *arg)
{
    struct rivals *v = arg;
    char name[64];
    (void)snprintf(name, sizeof name, "segments/%016x", v->round);
    int r = put_text(v->s, name, "mine");
    CHECK(r == 0 || r == -EEXIST);
    v->won += r == 0;
    v->running--;
}

static void one_of_many_wins(struct obj_store *s)
{
    for (int round = 1; round <= 20; round++) {
        struct rivals v = {.s = s, .running = 8, .round = round};
        for (int i = 0; i < 8; i++) {
            CHECK(rt_spawn("rival", rival, &v) == 0);
        }
        while (v.running > 0) {
            rt_yield();
        }
        CHECK(v.won == 1);
    }
}

static void all_on(struct obj_store *s)
{
    puts_once(s);
    refuses_bad_names(s);
    keeps_large_bodies(s);
    lists_in_order(s);
    lists_like_a_model(s);
    one_of_many_wins(s);
    obj_close(s);
}

static void mem_main(void *arg)
{
    (void)arg;
    struct obj_store *s;
    CHECK(obj_mem_open(&s) == 0);
    all_on(s);
}

static void file_main(void *arg)
{
    (void)arg;
    char *folder = make_folder();
    struct obj_store *s;
    CHECK(obj_file_open(folder, &s) == 0);
    all_on(s);
    wipe(folder);
    free(folder);
}

/* Through every layer, with nothing going wrong. */
static void stack_main(void *arg)
{
    (void)arg;
    struct obj_store *s;
    CHECK(obj_open("memory:?delay_ms=0-1&duplicate=0.000001&late_ms=1", &s) == 0);
    all_on(s);
}

static void mem_store(void **state)
{
    (void)state;
    run_on(1, mem_main);
}

static void file_store(void **state)
{
    (void)state;
    run_on(1, file_main);
}

static void whole_stack(void **state)
{
    (void)state;
    run_on(1, stack_main);
}

static void whole_stack_simulated(void **state)
{
    (void)state;
    run_sim(5, stack_main, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(mem_store),
        cmocka_unit_test(file_store),
        cmocka_unit_test(whole_stack),
        cmocka_unit_test(whole_stack_simulated),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
