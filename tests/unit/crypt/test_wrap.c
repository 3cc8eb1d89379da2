/* SPDX-License-Identifier: Apache-2.0 */
#include "base/crc32c.h"
#include "base/endian.h"
#include "base/err.h"
#include "base/rng.h"
#include "crypt/wrap.h"
#include "unit.h"
#include <stdio.h>

static const struct crypt_cost cheap = {.memory_kib = 16, .passes = 1, .lanes = 1};

struct fixture {
    struct crypt_keys *keys;
    struct crypt_secret *password;
    struct crypt_secret *file_key;
    struct crypt_access by_password;
    struct crypt_access by_file;
    struct uuid volume;
};

static void make(struct fixture *f)
{
    uint8_t key[CRYPT_KEY_BYTES], file_key[CRYPT_KEY_BYTES];
    for (unsigned i = 0; i < sizeof key; i++) {
        key[i] = (uint8_t)i;
        file_key[i] = (uint8_t)(0xa0 + i);
    }
    for (unsigned i = 0; i < sizeof f->volume.bytes; i++) {
        f->volume.bytes[i] = (uint8_t)(0x40 + i);
    }
    assert_int_equal(crypt_keys_create(key, CRYPT_AES_256_GCM, &f->keys), 0);
    f->password = crypt_secret_create("correct horse", 13);
    f->file_key = crypt_secret_create(file_key, sizeof file_key);
    f->by_password = (struct crypt_access){.kdf = CRYPT_KDF_ARGON2ID,
                                           .secret = f->password,
                                           .cipher = CRYPT_AES_256_GCM,
                                           .cost = cheap};
    f->by_file = (struct crypt_access){
        .kdf = CRYPT_KDF_NONE, .secret = f->file_key, .cipher = CRYPT_CHACHA20_POLY1305};
}

static void done(struct fixture *f)
{
    crypt_keys_unref(f->keys);
    crypt_secret_free(f->password);
    crypt_secret_free(f->file_key);
}

/* Seals a word with one and opens it with the other. */
static bool same_keys(const struct crypt_keys *a, const struct crypt_keys *b)
{
    static const uint8_t salt[CRYPT_SALT_BYTES];
    static const struct uuid volume;
    struct crypt_unit_name name = {.cipher = CRYPT_AES_256_GCM,
                                   .kind = CRYPT_SEGMENT,
                                   .key_id = CRYPT_KEY_VOLUME,
                                   .salt = salt,
                                   .volume = &volume};
    struct crypt_unit u, v;
    struct crypt_message m = {.number = 1};
    uint8_t word[4] = "word", tag[CRYPT_TAG_BYTES];
    assert_int_equal(crypt_unit_init(&u, a, &name), 0);
    assert_int_equal(crypt_unit_init(&v, b, &name), 0);
    assert_int_equal(crypt_unit_seal(&u, &m, word, sizeof word, word, tag), 0);
    return crypt_unit_open(&v, &m, word, sizeof word, word, tag) == 0;
}

static void opens(struct fixture *f, const struct crypt_access *access)
{
    uint8_t bytes[WRAP_BYTES];
    struct crypt_wrap w = {.volume = f->volume, .number = 7};
    struct crypt_wrap read;
    struct crypt_keys *keys;
    assert_int_equal(crypt_wrap_seal(&w, access, f->keys), 0);
    crypt_wrap_encode(&w, bytes);
    assert_int_equal(crypt_wrap_decode(bytes, sizeof bytes, &read), 0);
    assert_int_equal(read.number, 7);
    assert_int_equal(crypt_wrap_open(&read, access, &keys), 0);
    assert_true(same_keys(keys, f->keys));
    assert_int_equal(crypt_keys_cipher(keys), access->cipher);
    crypt_keys_unref(keys);
}

static void what_was_wrapped_opens(void **state)
{
    (void)state;
    struct fixture f;
    make(&f);
    opens(&f, &f.by_password);
    opens(&f, &f.by_file);
    done(&f);
}

static void each_wrapping_has_its_own_salt(void **state)
{
    (void)state;
    struct fixture f;
    make(&f);
    struct crypt_wrap a = {.volume = f.volume, .number = 1};
    struct crypt_wrap b = {.volume = f.volume, .number = 1};
    assert_int_equal(crypt_wrap_seal(&a, &f.by_password, f.keys), 0);
    assert_int_equal(crypt_wrap_seal(&b, &f.by_password, f.keys), 0);
    assert_memory_not_equal(a.salt, b.salt, sizeof a.salt);
    assert_memory_not_equal(a.sealed, b.sealed, sizeof a.sealed);
    done(&f);
}

static void another_secret_does_not_open(void **state)
{
    (void)state;
    struct fixture f;
    make(&f);
    struct crypt_wrap w = {.volume = f.volume, .number = 1};
    struct crypt_keys *keys = NULL;
    struct crypt_access other = f.by_password;
    assert_int_equal(crypt_wrap_seal(&w, &f.by_password, f.keys), 0);
    struct crypt_secret *near = crypt_secret_create("correct horsf", 13);
    other.secret = near;
    assert_int_equal(crypt_wrap_open(&w, &other, &keys), ERR_WRONG_PASSWORD);
    assert_int_equal(crypt_wrap_open(&w, &f.by_file, &keys), ERR_WRONG_PASSWORD);
    /* Of another volume, of another number, and at another cost it is another object. */
    struct crypt_wrap moved = w;
    moved.volume.bytes[3] ^= 1;
    assert_int_equal(crypt_wrap_open(&moved, &f.by_password, &keys), ERR_WRONG_PASSWORD);
    moved = w;
    moved.number++;
    assert_int_equal(crypt_wrap_open(&moved, &f.by_password, &keys), ERR_WRONG_PASSWORD);
    moved = w;
    moved.cost.passes++;
    assert_int_equal(crypt_wrap_open(&moved, &f.by_password, &keys), ERR_WRONG_PASSWORD);
    moved = w;
    moved.tag[0] ^= 0x80;
    assert_int_equal(crypt_wrap_open(&moved, &f.by_password, &keys), ERR_WRONG_PASSWORD);
    assert_null(keys);
    assert_int_equal(crypt_wrap_open(&w, &f.by_password, &keys), 0);
    crypt_keys_unref(keys);
    crypt_secret_free(near);
    done(&f);
}

/* The sealed bytes come from another implementation (Python's hmac and cryptography). */
static void a_known_object_opens(void **state)
{
    (void)state;
    struct fixture f;
    make(&f);
    static const uint8_t sealed[CRYPT_KEY_BYTES + CRYPT_TAG_BYTES] = {
        0xcd, 0x8f, 0xbb, 0xa2, 0x5f, 0xf9, 0xbe, 0x0f, 0x29, 0x3a, 0x5e, 0x44,
        0xb8, 0x52, 0xd3, 0xa7, 0x1d, 0x86, 0xca, 0x66, 0x68, 0x12, 0x69, 0x25,
        0xda, 0x40, 0xa8, 0xe1, 0xbc, 0x5c, 0x0a, 0xf3, 0xd1, 0x97, 0x26, 0x17,
        0xe8, 0x2d, 0x82, 0xb9, 0x61, 0xc0, 0x6c, 0x0f, 0xaf, 0xb9, 0xbb, 0xf4,
    };
    struct crypt_wrap w = {.volume = f.volume,
                           .number = 1,
                           .key_id = CRYPT_KEY_VOLUME,
                           .cipher = CRYPT_AES_256_GCM,
                           .kdf = CRYPT_KDF_NONE};
    for (unsigned i = 0; i < sizeof w.salt; i++) {
        w.salt[i] = (uint8_t)(0x80 + i);
    }
    memcpy(w.sealed, sealed, sizeof w.sealed);
    memcpy(w.tag, sealed + sizeof w.sealed, sizeof w.tag);
    struct crypt_keys *keys;
    assert_int_equal(crypt_wrap_open(&w, &f.by_file, &keys), 0);
    assert_true(same_keys(keys, f.keys));
    crypt_keys_unref(keys);
    done(&f);
}

static int decode_with(const uint8_t *good, size_t at, uint8_t value)
{
    uint8_t bytes[WRAP_BYTES];
    struct crypt_wrap w;
    memcpy(bytes, good, sizeof bytes);
    bytes[at] = value;
    le32_store(bytes + WRAP_AT_CRC, crc32c(0, bytes, WRAP_AT_CRC));
    return crypt_wrap_decode(bytes, sizeof bytes, &w);
}

static void what_is_not_known_is_refused(void **state)
{
    (void)state;
    struct fixture f;
    make(&f);
    uint8_t bytes[WRAP_BYTES];
    struct crypt_wrap w = {.volume = f.volume, .number = 1};
    struct crypt_wrap read;
    assert_int_equal(crypt_wrap_seal(&w, &f.by_password, f.keys), 0);
    crypt_wrap_encode(&w, bytes);
    assert_int_equal(decode_with(bytes, WRAP_AT_VOLUME, 0), 0);
    assert_int_equal(decode_with(bytes, 0, 'X'), ERR_CORRUPT_KEY);
    assert_int_equal(decode_with(bytes, WRAP_AT_VERSION, 2), ERR_FORMAT_TOO_NEW);
    assert_int_equal(decode_with(bytes, WRAP_AT_CIPHER, 0), ERR_FORMAT_TOO_NEW);
    assert_int_equal(decode_with(bytes, WRAP_AT_CIPHER, 3), ERR_FORMAT_TOO_NEW);
    assert_int_equal(decode_with(bytes, WRAP_AT_KDF, 3), ERR_FORMAT_TOO_NEW);
    assert_int_equal(decode_with(bytes, WRAP_AT_KDF, CRYPT_KDF_NONE), ERR_FORMAT_TOO_NEW);
    assert_int_equal(decode_with(bytes, WRAP_AT_KEY_ID, 2), ERR_FORMAT_TOO_NEW);
    assert_int_equal(decode_with(bytes, WRAP_AT_MEMORY + 3, 1), ERR_FORMAT_TOO_NEW);
    assert_int_equal(decode_with(bytes, WRAP_AT_PASSES + 2, 1), ERR_FORMAT_TOO_NEW);
    assert_int_equal(decode_with(bytes, WRAP_AT_LANES, 0), ERR_FORMAT_TOO_NEW);
    assert_int_equal(decode_with(bytes, WRAP_AT_END, 1), ERR_FORMAT_TOO_NEW);
    assert_int_equal(crypt_wrap_decode(bytes, WRAP_BYTES - 1, &read), ERR_CORRUPT_KEY);
    for (size_t at = 0; at < WRAP_BYTES; at++) {
        bytes[at] ^= 0x10;
        assert_int_equal(crypt_wrap_decode(bytes, sizeof bytes, &read), ERR_CORRUPT_KEY);
        bytes[at] ^= 0x10;
    }
    done(&f);
}

/* How often the pattern lies in memory that a core dump would hold. The pattern is given with each
 * byte inverted, so that it does not count itself. */
static unsigned dumped(const uint8_t inverted[CRYPT_KEY_BYTES])
{
    FILE *maps = fopen("/proc/self/smaps", "re");
    FILE *mem = fopen("/proc/self/mem", "re");
    assert_true(maps && mem);
    assert_int_equal(setvbuf(mem, NULL, _IONBF, 0), 0);
    char line[512];
    unsigned long from = 0, to = 0;
    char readable = '-';
    unsigned count = 0;
    while (fgets(line, sizeof line, maps)) {
        unsigned long a, b;
        char r;
        if (sscanf(line, "%lx-%lx %c", &a, &b, &r) == 3) {
            from = a;
            to = b;
            readable = r;
        }
        if (strncmp(line, "VmFlags:", 8) != 0 || readable != 'r' || strstr(line, " dd") ||
            to - from > (256ul << 20)) {
            continue;
        }
        uint8_t *copy = malloc(to - from);
        assert_non_null(copy);
        size_t n = fseek(mem, (long)from, SEEK_SET) == 0 ? fread(copy, 1, to - from, mem) : 0;
        for (size_t i = 0; i + CRYPT_KEY_BYTES <= n; i++) {
            size_t k = 0;
            while (k < CRYPT_KEY_BYTES && (copy[i + k] ^ inverted[k]) == 0xff) {
                k++;
            }
            count += k == CRYPT_KEY_BYTES;
        }
        explicit_bzero(copy, to - from);
        free(copy);
    }
    assert_int_equal(fclose(maps) | fclose(mem), 0);
    return count;
}

/* A secret whose inverse is given, random. */
static struct crypt_secret *secret_of(uint8_t ret_inverted[CRYPT_KEY_BYTES])
{
    struct crypt_secret *s = crypt_secret_create(NULL, CRYPT_KEY_BYTES);
    assert_non_null(s);
    rng_secure(ret_inverted, CRYPT_KEY_BYTES);
    for (unsigned i = 0; i < CRYPT_KEY_BYTES; i++) {
        s->bytes[i] = (uint8_t)~ret_inverted[i];
    }
    return s;
}

static void keys_leave_no_copies(void **state)
{
    (void)state;
    struct fixture f;
    uint8_t data_key[CRYPT_KEY_BYTES], file_key[CRYPT_KEY_BYTES], password[CRYPT_KEY_BYTES];
    make(&f);
    crypt_keys_unref(f.keys);
    crypt_secret_free(f.file_key);
    crypt_secret_free(f.password);
    struct crypt_secret *key = secret_of(data_key);
    f.by_file.secret = f.file_key = secret_of(file_key);
    f.by_password.secret = f.password = secret_of(password);
    assert_int_equal(crypt_keys_create(key->bytes, CRYPT_AES_256_GCM, &f.keys), 0);
    opens(&f, &f.by_file);
    opens(&f, &f.by_password);
    unsigned left = dumped(data_key) + dumped(file_key) + dumped(password);
    assert_true(left == 0 || UNIT_SANITIZED);
    /* That it would find one. */
    uint8_t *copy = malloc(CRYPT_KEY_BYTES);
    assert_non_null(copy);
    memcpy(copy, key->bytes, CRYPT_KEY_BYTES);
    assert_int_not_equal(dumped(data_key), 0);
    free(copy);
    crypt_secret_free(key);
    done(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_was_wrapped_opens),
        cmocka_unit_test(each_wrapping_has_its_own_salt),
        cmocka_unit_test(another_secret_does_not_open),
        cmocka_unit_test(a_known_object_opens),
        cmocka_unit_test(what_is_not_known_is_refused),
        cmocka_unit_test(keys_leave_no_copies),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
