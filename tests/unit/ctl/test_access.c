/* SPDX-License-Identifier: Apache-2.0 */
/* Password files and key files: what is read from them, and what is refused. */
#include "base/err.h"
#include "ctl/access.h"
#include "folder.h"
#include <sys/stat.h>
#include <unistd.h>

#define PATH "secret"
#define KEY                                                                                        \
    "\x01\x02\x03\x04\x05\x06\x07\x08\t\n\x0b\x0c\r\x0e\x0f\x10"                                   \
    "abcdefghijklmno\n"

static void write_file(const char *bytes, size_t len, mode_t mode)
{
    (void)unlink(PATH);
    FILE *f = fopen(PATH, "we");
    assert_non_null(f);
    assert_int_equal(fwrite(bytes, 1, len, f), len);
    assert_int_equal(fclose(f), 0);
    assert_int_equal(chmod(PATH, mode), 0);
}

/* Reads the file; what is said about it goes into said. */
static struct crypt_secret *read_file(enum crypt_kdf kdf, char *said, size_t cap)
{
    struct crypt_secret *s = NULL;
    memset(said, 0, cap);
    FILE *errors = fmemopen(said, cap - 1, "w");
    assert_non_null(errors);
    int r = access_read_file(PATH, kdf, errors, &s);
    assert_int_equal(fclose(errors), 0);
    assert_int_equal(r, s ? 0 : ERR_CONFIG);
    return s;
}

static void gives(enum crypt_kdf kdf, const char *text, size_t len, const char *want,
                  size_t want_len)
{
    char said[512];
    write_file(text, len, 0600);
    struct crypt_secret *s = read_file(kdf, said, sizeof said);
    assert_string_equal(said, "");
    assert_non_null(s);
    assert_int_equal(s->len, want_len);
    assert_memory_equal(s->bytes, want, want_len);
    crypt_secret_free(s);
}

static void refuses(enum crypt_kdf kdf, const char *text, size_t len, const char *why)
{
    char said[512];
    write_file(text, len, 0600);
    struct crypt_secret *s = read_file(kdf, said, sizeof said);
    assert_null(s);
    if (!strstr(said, why)) {
        fail_msg("'%s' should have said '%s'", said, why);
    }
}

static void a_password_is_the_first_line(void **state)
{
    (void)state;
    gives(CRYPT_KDF_ARGON2ID, "open sesame", 11, "open sesame", 11);
    gives(CRYPT_KDF_ARGON2ID, "open sesame\n", 12, "open sesame", 11);
    gives(CRYPT_KDF_ARGON2ID, "open sesame\r\n", 13, "open sesame", 11);
    gives(CRYPT_KDF_ARGON2ID, " open sesame \n", 14, " open sesame ", 13);
    refuses(CRYPT_KDF_ARGON2ID, "", 0, "at least 8 bytes");
    refuses(CRYPT_KDF_ARGON2ID, "\nopen sesame\n", 13, "at least 8 bytes");
    refuses(CRYPT_KDF_ARGON2ID, "sesame\n", 7, "at least 8 bytes");
    refuses(CRYPT_KDF_ARGON2ID, "open sesame\nmore\n", 17, "more follows");
    refuses(CRYPT_KDF_ARGON2ID, "open\0sesame\n", 12, "no zero bytes");
    refuses(CRYPT_KDF_ARGON2ID, "CHANGEME\n", 9, "is no password");
    static char longest[ACCESS_PASSWORD_MAX + 1];
    memset(longest, 'x', sizeof longest);
    gives(CRYPT_KDF_ARGON2ID, longest, sizeof longest - 1, longest, sizeof longest - 1);
    refuses(CRYPT_KDF_ARGON2ID, longest, sizeof longest, "at most 4096");
}

static void a_key_is_raw_or_in_digits(void **state)
{
    (void)state;
    static const char digits[] =
        "000102030405060708090A0b0c0d0e0f101112131415161718191a1b1c1d1e1f\n";
    char counted[CRYPT_KEY_BYTES];
    for (unsigned i = 0; i < sizeof counted; i++) {
        counted[i] = (char)i;
    }
    gives(CRYPT_KDF_NONE, KEY, CRYPT_KEY_BYTES, KEY, CRYPT_KEY_BYTES);
    gives(CRYPT_KDF_NONE, digits, 65, counted, sizeof counted);
    gives(CRYPT_KDF_NONE, digits, 64, counted, sizeof counted);
    refuses(CRYPT_KDF_NONE, "", 0, "32 bytes, or 64");
    refuses(CRYPT_KDF_NONE, KEY, CRYPT_KEY_BYTES - 1, "32 bytes, or 64");
    refuses(CRYPT_KDF_NONE, digits, 63, "32 bytes, or 64");
    refuses(CRYPT_KDF_NONE, "g00102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f", 64,
            "32 bytes, or 64");
}

static void a_file_for_everybody_is_warned_of(void **state)
{
    (void)state;
    char said[512];
    write_file("open sesame\n", 12, 0644);
    struct crypt_secret *s = read_file(CRYPT_KDF_ARGON2ID, said, sizeof said);
    assert_non_null(s);
    assert_non_null(strstr(said, "warning: every user"));
    crypt_secret_free(s);
    write_file("open sesame\n", 12, 0640);
    s = read_file(CRYPT_KDF_ARGON2ID, said, sizeof said);
    assert_string_equal(said, "");
    crypt_secret_free(s);
    assert_int_equal(unlink(PATH), 0);
    assert_null(read_file(CRYPT_KDF_ARGON2ID, said, sizeof said));
    assert_non_null(strstr(said, "secret: cannot be read: No such file"));
}

static void digits_there_and_back(void **state)
{
    (void)state;
    struct crypt_secret *s = crypt_secret_create("\x00\xff\x1e sesame", 10);
    json_t *request = json_pack("{s:s, s:s, s:i}", "odd", "0", "not", "0x", "number", 1);
    assert_int_equal(access_put(request, "secret", s), 0);
    assert_string_equal(json_string_value(json_object_get(request, "secret")),
                        "00ff1e20736573616d65");
    struct crypt_secret *back = access_get(request, "secret");
    assert_int_equal(back->len, s->len);
    assert_memory_equal(back->bytes, s->bytes, s->len);
    assert_null(access_get(request, "odd"));
    assert_null(access_get(request, "not"));
    assert_null(access_get(request, "number"));
    assert_null(access_get(request, "none"));
    crypt_secret_free(back);
    crypt_secret_free(s);
    json_decref(request);
}

static unsigned mappings(void)
{
    char line[512];
    unsigned n = 0;
    FILE *f = fopen("/proc/self/maps", "re");
    assert_non_null(f);
    while (fgets(line, sizeof line, f)) {
        n++;
    }
    assert_int_equal(fclose(f), 0);
    return n;
}

/* Whatever is read is given back as a whole, pages that nobody may touch included. */
static void nothing_stays_behind(void **state)
{
    (void)state;
    gives(CRYPT_KDF_ARGON2ID, "correct horse", 13, "correct horse", 13);
    unsigned before = mappings();
    for (unsigned i = 0; i < 50; i++) {
        gives(CRYPT_KDF_ARGON2ID, "correct horse", 13, "correct horse", 13);
    }
    assert_in_range(mappings(), 0, before + 10);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_password_is_the_first_line),
        cmocka_unit_test(a_key_is_raw_or_in_digits),
        cmocka_unit_test(a_file_for_everybody_is_warned_of),
        cmocka_unit_test(digits_there_and_back),
        cmocka_unit_test(nothing_stays_behind),
    };
    return cmocka_run_group_tests(tests, folder_enter, folder_leave);
}
