/* SPDX-License-Identifier: Apache-2.0 */
/* Key objects: who opens an encrypted volume, and how what opens it is changed. */
#include "unit.h"

#include "base/err.h"
#include "obj/obj.h"
#include "obj/obj_layers.h"
#include "rt/rt.h"
#include "vol/vol.h"
#include "vol/vol_format.h"
#include <stdio.h>

#define KEY_BYTES_MAX 1024

struct ring {
    struct obj_store *store;
    struct crypt_secret *words[3];
    struct crypt_access a, b, file; /* two passwords and a key file */
};

static int load(struct ring *k, const struct crypt_access *access)
{
    struct crypt_keys *keys = NULL;
    int r = vol_keys_load(k->store, access, &keys);
    crypt_keys_unref(keys);
    return r;
}

static int open_with(struct ring *k, const struct crypt_access *access, bool drop_keys)
{
    struct crypt_keys *keys = NULL;
    struct vol *v;
    int r = vol_keys_load(k->store, access, &keys);
    if (r == 0) {
        struct vol_options opt = {.store = k->store,
                                  .owner = "here",
                                  .memory_bytes = 64u << 20,
                                  .keys = drop_keys ? NULL : keys};
        r = vol_open(&opt, &v);
    }
    crypt_keys_unref(keys);
    if (r == 0) {
        assert_int_equal(vol_close(v), 0);
    }
    return r;
}

static int change(struct ring *k, const struct crypt_access *from, const struct crypt_access *to)
{
    struct crypt_keys *keys = NULL;
    int r = vol_keys_load(k->store, from, &keys);
    if (r == 0) {
        r = vol_keys_change(k->store, keys, to);
    }
    crypt_keys_unref(keys);
    return r;
}

static int format(struct ring *k, const struct crypt_access *access)
{
    return vol_format(k->store, &(struct vol_format_options){.access = access});
}

static size_t list(struct ring *k, const char *prefix, struct obj_names *ret_names)
{
    *ret_names = (struct obj_names){0};
    assert_int_equal(obj_list(k->store, OBJ_INDEX, prefix, "", 10, ret_names), 0);
    return ret_names->names.len;
}

static size_t count(struct ring *k, const char *prefix)
{
    struct obj_names names;
    size_t n = list(k, prefix, &names);
    obj_names_free(&names);
    return n;
}

/* The only object with that prefix: its name and bytes. */
static size_t fetch(struct ring *k, const char *prefix, char name[OBJ_NAME_SIZE], uint8_t *bytes)
{
    struct obj_names names;
    assert_int_equal(list(k, prefix, &names), 1);
    assert_int_equal(snprintf(name, OBJ_NAME_SIZE, "%s", names.names.at[0]),
                     (int)strlen(names.names.at[0]));
    obj_names_free(&names);
    ssize_t n = obj_get(k->store, OBJ_INDEX, name, 0, bytes, KEY_BYTES_MAX);
    assert_true(n > 0);
    return (size_t)n;
}

static void put(struct ring *k, const char *name, const uint8_t *bytes, size_t len)
{
    struct rt_chain body = {0};
    assert_int_equal(rt_chain_add(&body, NULL, bytes, (uint32_t)len), 0);
    assert_int_equal(obj_put(k->store, OBJ_INDEX, name, &body), 0);
    rt_chain_free(&body);
}

static void remove_all(struct ring *k, const char *prefix)
{
    struct obj_names names;
    for (size_t i = list(k, prefix, &names); i > 0; i--) {
        assert_int_equal(obj_remove(k->store, OBJ_INDEX, names.names.at[i - 1]), 0);
    }
    obj_names_free(&names);
}

static void only_the_password_opens(struct ring *k)
{
    assert_int_equal(format(k, &k->a), 0);
    assert_int_equal(load(k, &k->a), 0);
    assert_int_equal(load(k, &k->b), ERR_WRONG_PASSWORD);
    assert_int_equal(load(k, &k->file), ERR_WRONG_PASSWORD);
    assert_int_equal(load(k, NULL), ERR_IS_ENCRYPTED);
    assert_int_equal(open_with(k, &k->a, true), ERR_IS_ENCRYPTED);
    assert_int_equal(open_with(k, &k->a, false), 0);
    assert_int_equal(format(k, &k->a), -EEXIST);
}

static void only_the_key_file_opens(struct ring *k)
{
    assert_int_equal(format(k, &k->file), 0);
    assert_int_equal(load(k, &k->a), ERR_WRONG_PASSWORD);
    assert_int_equal(open_with(k, &k->file, false), 0);
}

static void a_plain_volume_takes_no_password(struct ring *k)
{
    struct crypt_keys *keys;
    struct vol *v;
    assert_int_equal(format(k, NULL), 0);
    assert_int_equal(count(k, VOL_KEYS_PREFIX), 0);
    assert_int_equal(load(k, &k->a), ERR_NOT_ENCRYPTED);
    assert_int_equal(crypt_keys_random(CRYPT_AES_256_GCM, &keys), 0);
    assert_int_equal(vol_open(&(struct vol_options){.store = k->store, .keys = keys}, &v),
                     ERR_NOT_ENCRYPTED);
    assert_int_equal(vol_keys_change(k->store, keys, &k->a), ERR_NOT_ENCRYPTED);
    assert_int_equal(vol_keys_change(k->store, NULL, &k->a), ERR_NOT_ENCRYPTED);
    crypt_keys_unref(keys);
    assert_int_equal(open_with(k, NULL, false), 0);
}

static void a_changed_password_is_the_only_one(struct ring *k)
{
    char name[OBJ_NAME_SIZE], later[OBJ_NAME_SIZE];
    uint8_t bytes[KEY_BYTES_MAX];
    assert_int_equal(format(k, &k->a), 0);
    (void)fetch(k, VOL_KEYS_PREFIX, name, bytes);
    assert_int_equal(change(k, &k->b, &k->b), ERR_WRONG_PASSWORD);
    assert_int_equal(load(k, &k->a), 0);
    assert_int_equal(change(k, &k->a, &k->b), 0);
    assert_int_equal(load(k, &k->a), ERR_WRONG_PASSWORD);
    assert_int_equal(load(k, &k->b), 0);
    /* Under a name of its own, before the old one in a listing; the old one is gone. */
    (void)fetch(k, VOL_KEYS_PREFIX, later, bytes);
    assert_true(strcmp(later, name) < 0);
    assert_int_equal(change(k, &k->b, &k->file), 0);
    assert_int_equal(change(k, &k->file, &k->a), 0);
    assert_int_equal(count(k, VOL_KEYS_PREFIX), 1);
    assert_int_equal(open_with(k, &k->a, false), 0);
}

static void the_newest_is_valid_after_a_crash_between(struct ring *k)
{
    char name[OBJ_NAME_SIZE];
    uint8_t bytes[KEY_BYTES_MAX];
    assert_int_equal(format(k, &k->a), 0);
    size_t len = fetch(k, VOL_KEYS_PREFIX, name, bytes);
    assert_int_equal(change(k, &k->a, &k->b), 0);
    put(k, name, bytes, len);
    assert_int_equal(load(k, &k->a), ERR_WRONG_PASSWORD);
    assert_int_equal(count(k, VOL_KEYS_PREFIX), 2);
    /* Whoever may open takes the old one away: what it wraps is still the volume's key. */
    assert_int_equal(load(k, &k->b), 0);
    assert_int_equal(count(k, VOL_KEYS_PREFIX), 1);
    put(k, name, bytes, len);
    assert_int_equal(change(k, &k->b, &k->file), 0);
    assert_int_equal(count(k, VOL_KEYS_PREFIX), 1);
    assert_int_equal(load(k, &k->file), 0);
}

static void damage_is_named(struct ring *k)
{
    char name[OBJ_NAME_SIZE];
    uint8_t bytes[KEY_BYTES_MAX];
    assert_int_equal(format(k, &k->a), 0);
    size_t len = fetch(k, VOL_KEYS_PREFIX, name, bytes);
    for (size_t at = 0; at < len; at += 13) {
        remove_all(k, VOL_KEYS_PREFIX);
        bytes[at] ^= 0x04;
        put(k, name, bytes, len);
        bytes[at] ^= 0x04;
        assert_int_equal(load(k, &k->a), ERR_CORRUPT_KEY);
    }
    remove_all(k, VOL_KEYS_PREFIX);
    assert_int_equal(load(k, &k->a), ERR_CORRUPT_KEY);
    /* The object of another number, and one with a strange name. */
    put(k, VOL_KEYS_PREFIX "fffffffffffffff0", bytes, len);
    assert_int_equal(load(k, &k->a), ERR_CORRUPT_KEY);
    remove_all(k, VOL_KEYS_PREFIX);
    put(k, VOL_KEYS_PREFIX "00ff", bytes, len);
    assert_int_equal(load(k, &k->a), ERR_CORRUPT_KEY);
    remove_all(k, VOL_KEYS_PREFIX);
    put(k, name, bytes, len);
    assert_int_equal(load(k, &k->a), 0);
}

static void an_interrupted_format_is_finished(struct ring *k)
{
    assert_int_equal(format(k, &k->a), 0);
    remove_all(k, "manifest/");
    assert_int_equal(format(k, &k->b), ERR_WRONG_PASSWORD);
    assert_int_equal(format(k, NULL), ERR_IS_ENCRYPTED);
    assert_int_equal(format(k, &k->a), 0);
    assert_int_equal(open_with(k, &k->a, false), 0);
    remove_all(k, "manifest/");
    remove_all(k, "segments/");
    assert_int_equal(load(k, &k->a), 0);
    remove_all(k, VOL_KEYS_PREFIX);
    assert_int_equal(load(k, &k->a), ERR_NOT_A_VOLUME); /* whoever makes volumes finishes it */
    assert_int_equal(load(k, NULL), ERR_IS_ENCRYPTED);
    assert_int_equal(format(k, NULL), ERR_IS_ENCRYPTED);
    assert_int_equal(format(k, &k->b), 0);
    assert_int_equal(open_with(k, &k->b, false), 0);
    remove_all(k, "");
    assert_int_equal(format(k, NULL), 0);
    remove_all(k, "manifest/");
    assert_int_equal(format(k, &k->a), ERR_NOT_ENCRYPTED);
    assert_int_equal(format(k, NULL), 0);
}

/* A store that ends with one of its requests: that one is carried out or not, and none after it. */
struct mortal {
    struct obj_store store;
    unsigned left; /* requests */
    bool last_is_done;
};

/* 0 = to be carried out; its answer is lost if it is the last. */
static int mortal_before(struct mortal *m)
{
    if (m->left == 0) {
        return -EIO;
    }
    m->left--;
    return m->left > 0 || m->last_is_done ? 0 : -EIO;
}

static struct mortal *mortal_of(struct obj_store *s)
{
    return container_of(s, struct mortal, store);
}

static int mortal_put(struct obj_store *s, enum obj_class c, const char *name,
                      const struct rt_chain *body)
{
    int r = mortal_before(mortal_of(s));
    r = r < 0 ? r : obj_put(s->next, c, name, body);
    return r == 0 && mortal_of(s)->left == 0 ? -EIO : r;
}

static ssize_t mortal_get(struct obj_store *s, enum obj_class c, const char *name, uint64_t off,
                          void *dst, size_t len)
{
    int r = mortal_before(mortal_of(s));
    return r < 0 ? r : obj_get(s->next, c, name, off, dst, len);
}

static int mortal_head(struct obj_store *s, enum obj_class c, const char *name, uint64_t *ret_size)
{
    int r = mortal_before(mortal_of(s));
    return r < 0 ? r : obj_head(s->next, c, name, ret_size);
}

static int mortal_list(struct obj_store *s, enum obj_class c, const char *prefix, const char *after,
                       size_t max, struct obj_names *ret_names)
{
    int r = mortal_before(mortal_of(s));
    return r < 0 ? r : obj_list(s->next, c, prefix, after, max, ret_names);
}

static int mortal_remove(struct obj_store *s, enum obj_class c, const char *name)
{
    int r = mortal_before(mortal_of(s));
    r = r < 0 ? r : obj_remove(s->next, c, name);
    return r == 0 && mortal_of(s)->left == 0 ? -EIO : r;
}

static const struct obj_ops mortal_ops = {.name = "mortal",
                                          .put = mortal_put,
                                          .get = mortal_get,
                                          .head = mortal_head,
                                          .list = mortal_list,
                                          .remove = mortal_remove};

#define REQUESTS_MAX 40u

/* What the program does at its start. */
static int open_or_make(struct ring *k, const struct crypt_access *access)
{
    int r = load(k, access);
    return r == ERR_NOT_A_VOLUME ? format(k, access) : r;
}

static bool ends(struct ring *k, unsigned at, bool is_done,
                 int (*body)(struct ring *k, const struct crypt_access *access))
{
    struct mortal m = {
        .store = {.ops = &mortal_ops, .next = k->store}, .left = at, .last_is_done = is_done};
    struct ring dying = *k;
    dying.store = &m.store;
    (void)body(&dying, &k->a);
    return m.left == 0;
}

/* Whenever a first start ends, the next one makes the volume. */
static void a_first_start_may_end_anywhere(struct ring *k)
{
    unsigned at = 1;
    for (bool ended = true; ended; at++) {
        assert_true(at < REQUESTS_MAX);
        for (int is_done = 0; is_done < 2; is_done++) {
            ended = ends(k, at, is_done, open_or_make);
            int r = open_or_make(k, &k->a);
            assert_true(r == 0);
            r = open_with(k, &k->a, false);
            if (r == ERR_NOT_A_VOLUME) { /* it has a key and no manifest */
                r = format(k, &k->a);
                r = r < 0 ? r : open_with(k, &k->a, false);
            }
            assert_int_equal(r, 0);
            remove_all(k, "");
            remove_all(k, "");
        }
    }
    assert_true(at > 8);
}

static int change_said;

static int change_a_to_b(struct ring *k, const struct crypt_access *access)
{
    change_said = change(k, access, &k->b);
    return change_said;
}

/* Whenever a change ends, exactly one of the two opens, and it alone is left. */
static void a_change_may_end_anywhere(struct ring *k)
{
    unsigned at = 1;
    for (bool ended = true; ended; at++) {
        assert_true(at < REQUESTS_MAX);
        for (int is_done = 0; is_done < 2; is_done++) {
            assert_int_equal(format(k, &k->a), 0);
            ended = ends(k, at, is_done, change_a_to_b);
            int a = load(k, &k->a);
            int b = load(k, &k->b);
            assert_true(a == 0 ? b == ERR_WRONG_PASSWORD : a == ERR_WRONG_PASSWORD && b == 0);
            assert_int_equal(count(k, VOL_KEYS_PREFIX), 1);
            assert_true(ended || change_said == 0);
            /* What was said is so. */
            assert_true(change_said == ERR_KEY_IN_DOUBT || (change_said == 0) == (b == 0));
            remove_all(k, "");
        }
    }
    assert_true(at > 8);
}

/* Two hosts at once: both are told that it is done, and one of the new passwords is valid. */
struct rivals {
    struct ring *k;
    const struct crypt_access *to[2];
    int said[2];
    unsigned next;
    unsigned running;
};

static void rival_fiber(void *arg)
{
    struct rivals *r = arg;
    unsigned me = r->next++;
    r->said[me] = change(r->k, &r->k->a, r->to[me]);
    r->running--;
}

static void two_changes_at_once(struct ring *k)
{
    struct rivals r = {.k = k, .to = {&k->b, &k->file}};
    for (unsigned round = 0; round < 10; round++) {
        assert_int_equal(format(k, &k->a), 0);
        r.next = 0;
        r.running = 2;
        assert_int_equal(rt_spawn("rival", rival_fiber, &r), 0);
        assert_int_equal(rt_spawn("rival", rival_fiber, &r), 0);
        while (r.running > 0) {
            assert_int_equal(rt_sleep_ms(1), 0);
        }
        /* The later one may have found the password changed already. */
        assert_true(r.said[0] == 0 || r.said[1] == 0);
        for (unsigned i = 0; i < 2; i++) {
            assert_true(r.said[i] == 0 || r.said[i] == ERR_WRONG_PASSWORD);
        }
        int b = load(k, &k->b);
        int file = load(k, &k->file);
        assert_int_equal(load(k, &k->a), ERR_WRONG_PASSWORD);
        assert_true((b == 0) != (file == 0));
        assert_int_equal(count(k, VOL_KEYS_PREFIX), 1);
        assert_int_equal(open_with(k, b == 0 ? &k->b : &k->file, false), 0);
        remove_all(k, "");
        remove_all(k, "");
    }
}

struct ring_main {
    void (*body)(struct ring *k);
};

static void ring_fiber(void *arg)
{
    struct ring_main *m = arg;
    static const struct crypt_cost cheap = {.memory_kib = 64, .passes = 1, .lanes = 1};
    struct ring k = {0};
    assert_int_equal(obj_mem_open(&k.store), 0);
    k.words[0] = crypt_secret_create("first password", 14);
    k.words[1] = crypt_secret_create("second password", 15);
    k.words[2] = crypt_secret_create("0123456789abcdef0123456789abcdef", CRYPT_KEY_BYTES);
    k.a = (struct crypt_access){.kdf = CRYPT_KDF_ARGON2ID,
                                .secret = k.words[0],
                                .cipher = CRYPT_AES_256_GCM,
                                .cost = cheap};
    k.b = k.a;
    k.b.secret = k.words[1];
    k.file = k.a;
    k.file.kdf = CRYPT_KDF_NONE;
    k.file.secret = k.words[2];
    m->body(&k);
    obj_close(k.store);
    for (unsigned i = 0; i < 3; i++) {
        crypt_secret_free(k.words[i]);
    }
}

static void ring_run(void (*body)(struct ring *k))
{
    struct ring_main m = {.body = body};
    assert_int_equal(
        rt_run(&(struct rt_options){.cores = 1, .sim = true, .sim_seed = 42}, ring_fiber, &m), 0);
}

#define RUN(name)                                                                                  \
    static void run_##name(void **state)                                                           \
    {                                                                                              \
        (void)state;                                                                               \
        ring_run(name);                                                                            \
    }
RUN(only_the_password_opens)
RUN(only_the_key_file_opens)
RUN(a_plain_volume_takes_no_password)
RUN(a_changed_password_is_the_only_one)
RUN(the_newest_is_valid_after_a_crash_between)
RUN(damage_is_named)
RUN(an_interrupted_format_is_finished)
RUN(a_first_start_may_end_anywhere)
RUN(a_change_may_end_anywhere)
RUN(two_changes_at_once)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(run_only_the_password_opens),
        cmocka_unit_test(run_only_the_key_file_opens),
        cmocka_unit_test(run_a_plain_volume_takes_no_password),
        cmocka_unit_test(run_a_changed_password_is_the_only_one),
        cmocka_unit_test(run_the_newest_is_valid_after_a_crash_between),
        cmocka_unit_test(run_damage_is_named),
        cmocka_unit_test(run_an_interrupted_format_is_finished),
        cmocka_unit_test(run_a_first_start_may_end_anywhere),
        cmocka_unit_test(run_a_change_may_end_anywhere),
        cmocka_unit_test(run_two_changes_at_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
