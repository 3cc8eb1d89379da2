/* SPDX-License-Identifier: Apache-2.0 */
#include "base/err.h"
#include "crypt/crypt.h"
#include "unit.h"
#include <pthread.h>
#include <stdio.h>

#define NUMBER 0x1122334455667788ull

struct fixture {
    struct crypt_keys *keys;
    struct uuid volume;
    uint8_t salt[CRYPT_SALT_BYTES];
};

static void make(struct fixture *f)
{
    uint8_t key[CRYPT_KEY_BYTES];
    for (unsigned i = 0; i < sizeof key; i++) {
        key[i] = (uint8_t)i;
        f->salt[i] = (uint8_t)(0x80 + i);
    }
    for (unsigned i = 0; i < sizeof f->volume.bytes; i++) {
        f->volume.bytes[i] = (uint8_t)(0x40 + i);
    }
    assert_int_equal(crypt_keys_create(key, CRYPT_AES_256_GCM, &f->keys), 0);
}

static struct crypt_unit unit_of(const struct fixture *f, enum crypt_cipher cipher,
                                 enum crypt_kind kind)
{
    struct crypt_unit u;
    struct crypt_unit_name name = {.cipher = cipher,
                                   .kind = kind,
                                   .key_id = CRYPT_KEY_VOLUME,
                                   .salt = f->salt,
                                   .volume = &f->volume};
    assert_int_equal(crypt_unit_init(&u, f->keys, &name), 0);
    return u;
}

static void hex_equal(const uint8_t *bytes, size_t len, const char *hex)
{
    char text[256] = "";
    for (size_t i = 0; i < len; i++) {
        (void)snprintf(text + 2 * i, 3, "%02x", bytes[i]);
    }
    assert_string_equal(text, hex);
}

/* The expected bytes come from another implementation (Python's hmac and cryptography). */
static void known_answers(void **state)
{
    (void)state;
    struct fixture f;
    make(&f);
    struct crypt_message m = {.number = NUMBER, .aad = "place", .aad_len = 5};
    uint8_t out[14 + CRYPT_TAG_BYTES];
    struct crypt_unit u = unit_of(&f, CRYPT_AES_256_GCM, CRYPT_SEGMENT);
    hex_equal(u.key, sizeof u.key,
              "148dd26e63dc973ca8ea33aed274f3ba339001373e92881d4ad7937c200fe355");
    assert_int_equal(crypt_unit_seal(&u, &m, "attack at dawn", 14, out, out + 14), 0);
    hex_equal(out, sizeof out, "5e2b1f890478610c79f45dd08398a8933ab80895dfcca63107b03bb84b19");
    u = unit_of(&f, CRYPT_CHACHA20_POLY1305, CRYPT_MANIFEST);
    hex_equal(u.key, sizeof u.key,
              "e8075ccef8364325bd2b312081e668d3e7ed5e7941ebb33e58654259b6d0a9f8");
    assert_int_equal(crypt_unit_seal(&u, &m, "attack at dawn", 14, out, out + 14), 0);
    hex_equal(out, sizeof out, "3062d5a7b1d34bfdac58b07d1f5737c2e764325bcaa1d41fca5d2f53e86b");
    crypt_keys_unref(f.keys);
}

#define LEN 9000

static void whole_equals_pieces(enum crypt_cipher cipher)
{
    struct fixture f;
    make(&f);
    static uint8_t in[LEN], out[LEN], pieces[LEN], back[LEN];
    uint8_t tag[CRYPT_TAG_BYTES], tag_pieces[CRYPT_TAG_BYTES];
    for (size_t i = 0; i < LEN; i++) {
        in[i] = (uint8_t)(i * 7 + i / 251);
    }
    struct crypt_unit u = unit_of(&f, cipher, CRYPT_SST);
    struct crypt_message m = {.number = 1};
    struct iovec cut[] = {{in, 1}, {in + 1, 0}, {in + 1, 4096}, {in + 4097, LEN - 4097}};
    assert_int_equal(crypt_unit_seal(&u, &m, in, LEN, out, tag), 0);
    assert_int_equal(crypt_unit_seal_pieces(&u, &m, cut, 4, pieces, tag_pieces), 0);
    assert_memory_equal(out, pieces, LEN);
    assert_memory_equal(tag, tag_pieces, sizeof tag);
    assert_memory_not_equal(in, out, LEN);
    assert_int_equal(crypt_unit_open(&u, &m, out, LEN, back, tag), 0);
    assert_memory_equal(in, back, LEN);
    /* In place, and nothing but associated data. */
    memcpy(back, in, LEN);
    assert_int_equal(crypt_unit_seal(&u, &m, back, LEN, back, tag), 0);
    assert_memory_equal(out, back, LEN);
    assert_int_equal(crypt_unit_open(&u, &m, back, LEN, back, tag), 0);
    assert_memory_equal(in, back, LEN);
    m.number = 2;
    m.aad = "only this";
    m.aad_len = 9;
    assert_int_equal(crypt_unit_seal(&u, &m, "", 0, out, tag), 0);
    assert_int_equal(crypt_unit_open(&u, &m, "", 0, back, tag), 0);
    m.aad = "only that";
    assert_int_equal(crypt_unit_open(&u, &m, "", 0, back, tag), -EBADMSG);
    crypt_keys_unref(f.keys);
}

static void pieces_make_the_same_message(void **state)
{
    (void)state;
    whole_equals_pieces(CRYPT_AES_256_GCM);
    whole_equals_pieces(CRYPT_CHACHA20_POLY1305);
}

static void refused(const struct crypt_unit *u, const struct crypt_message *m,
                    const uint8_t *sealed, const uint8_t *tag)
{
    static const uint8_t zeros[64];
    uint8_t back[64];
    memset(back, 0xee, sizeof back);
    assert_int_equal(crypt_unit_open(u, m, sealed, sizeof back, back, tag), -EBADMSG);
    assert_memory_equal(back, zeros, sizeof back);
}

static void changes_are_found(enum crypt_cipher cipher)
{
    struct fixture f;
    make(&f);
    struct crypt_unit u = unit_of(&f, cipher, CRYPT_SEGMENT);
    struct crypt_message m = {.number = 5, .aad = "here", .aad_len = 4};
    uint8_t in[64] = "something", out[64], back[64], tag[CRYPT_TAG_BYTES];
    assert_int_equal(crypt_unit_seal(&u, &m, in, sizeof in, out, tag), 0);
    for (unsigned bit = 0; bit < 8 * sizeof out; bit += 5) {
        out[bit / 8] ^= (uint8_t)(1u << bit % 8);
        refused(&u, &m, out, tag);
        out[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    for (unsigned bit = 0; bit < 8 * sizeof tag; bit++) {
        tag[bit / 8] ^= (uint8_t)(1u << bit % 8);
        refused(&u, &m, out, tag);
        tag[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    struct crypt_message other = m;
    other.number = 6;
    refused(&u, &other, out, tag);
    other = m;
    other.aad = "hers";
    refused(&u, &other, out, tag);
    other.aad_len = 0;
    refused(&u, &other, out, tag);
    struct crypt_unit kind = unit_of(&f, cipher, CRYPT_SST);
    refused(&kind, &m, out, tag);
    f.salt[31] ^= 1;
    struct crypt_unit salt = unit_of(&f, cipher, CRYPT_SEGMENT);
    refused(&salt, &m, out, tag);
    f.salt[31] ^= 1;
    f.volume.bytes[0] ^= 1;
    struct crypt_unit volume = unit_of(&f, cipher, CRYPT_SEGMENT);
    refused(&volume, &m, out, tag);
    /* And after all the failures the right one opens. */
    assert_int_equal(crypt_unit_open(&u, &m, out, sizeof out, back, tag), 0);
    assert_memory_equal(in, back, sizeof in);
    crypt_keys_unref(f.keys);
}

static void any_change_is_found(void **state)
{
    (void)state;
    changes_are_found(CRYPT_AES_256_GCM);
    changes_are_found(CRYPT_CHACHA20_POLY1305);
}

static void a_key_that_is_not_held(void **state)
{
    (void)state;
    struct fixture f;
    make(&f);
    struct crypt_unit u;
    struct crypt_unit_name name = {.cipher = CRYPT_AES_256_GCM,
                                   .kind = CRYPT_SEGMENT,
                                   .key_id = 2,
                                   .salt = f.salt,
                                   .volume = &f.volume};
    assert_int_equal(crypt_unit_init(&u, f.keys, &name), -ENOKEY);
    name.key_id = CRYPT_KEY_VOLUME;
    assert_int_equal(crypt_unit_init(&u, NULL, &name), -ENOKEY);
    name.cipher = CRYPT_NONE;
    assert_int_equal(crypt_unit_init(&u, f.keys, &name), -EINVAL);
    assert_int_equal(crypt_keys_cipher(NULL), CRYPT_NONE);
    assert_int_equal(crypt_keys_cipher(f.keys), CRYPT_AES_256_GCM);
    assert_ptr_equal(crypt_keys_ref(f.keys), f.keys);
    crypt_keys_unref(f.keys);
    name.cipher = CRYPT_CHACHA20_POLY1305;
    assert_int_equal(crypt_unit_init(&u, f.keys, &name), 0);
    crypt_keys_unref(f.keys);
}

static void names_of_ciphers(void **state)
{
    (void)state;
    enum crypt_cipher c;
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(crypt_cipher_parse(crypt_cipher_name((enum crypt_cipher)i), &c), 0);
        assert_int_equal(c, i);
    }
    assert_int_equal(crypt_cipher_parse("auto", &c), 0);
    assert_true(crypt_cipher_ok(c));
    assert_int_equal(crypt_cipher_parse("rot13", &c), -EINVAL);
    assert_false(crypt_cipher_ok(CRYPT_NONE) || crypt_cipher_ok(3));
}

struct worker {
    const struct crypt_unit *units;
    int bad;
};

#define UNITS 4

/* Changes the unit with every message, as interleaved readers of several segments do. */
static void *work(void *arg)
{
    struct worker *w = arg;
    uint8_t in[512], out[512], tag[CRYPT_TAG_BYTES];
    for (unsigned i = 0; i < 2000; i++) {
        const struct crypt_unit *u = &w->units[i % UNITS];
        struct crypt_message m = {.number = i};
        memset(in, (int)i, sizeof in);
        w->bad |= crypt_unit_seal(u, &m, in, sizeof in, out, tag) != 0;
        w->bad |= crypt_unit_open(u, &m, out, sizeof out, out, tag) != 0;
        w->bad |= memcmp(in, out, sizeof in) != 0;
    }
    return NULL;
}

/* A quarter of what a fiber has: and threads may share a unit. */
#define SMALL_STACK (16 << 10)

static void threads_share_units_on_small_stacks(void **state)
{
    (void)state;
    struct fixture f;
    make(&f);
    struct crypt_unit units[UNITS];
    for (unsigned i = 0; i < UNITS; i++) {
        f.salt[0] = (uint8_t)i;
        units[i] = unit_of(&f, i % 2 ? CRYPT_CHACHA20_POLY1305 : CRYPT_AES_256_GCM, CRYPT_SEGMENT);
    }
    struct worker workers[3] = {{units, 0}, {units, 0}, {units, 0}};
    pthread_t threads[3];
    pthread_attr_t attr;
    assert_int_equal(pthread_attr_init(&attr), 0);
    if (!UNIT_SANITIZED) {
        assert_int_equal(pthread_attr_setstacksize(&attr, SMALL_STACK), 0);
    }
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(pthread_create(&threads[i], &attr, work, &workers[i]), 0);
    }
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
        assert_int_equal(workers[i].bad, 0);
    }
    assert_int_equal(pthread_attr_destroy(&attr), 0);
    crypt_keys_unref(f.keys);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(known_answers),
        cmocka_unit_test(pieces_make_the_same_message),
        cmocka_unit_test(any_change_is_found),
        cmocka_unit_test(a_key_that_is_not_held),
        cmocka_unit_test(names_of_ciphers),
        cmocka_unit_test(threads_share_units_on_small_stacks),
    };
    if (crypt_prepare(NULL) < 0) {
        return 1;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
