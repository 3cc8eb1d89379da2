/* SPDX-License-Identifier: Apache-2.0 */
#include "ctl/access.h"
#include "base/err.h"
#include "ctl/config_priv.h"
#include "dev/access.h"
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* A whole file of one line, and room to notice that there is more. */
#define FILE_BYTES_MAX (ACCESS_PASSWORD_MAX + 2)

static int refuse(FILE *errors, const char *path, const char *why)
{
    fprintf(errors, "%s: %s\n", path, why);
    return config_error();
}

/* Reads into locked memory, as much as there is room for. Its length says what is freed, and stays.
 */
static int read_secret(int fd, struct crypt_secret *s, size_t *ret_len)
{
    size_t len = 0;
    while (len < s->len) {
        ssize_t n = read(fd, s->bytes + len, s->len - len);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            return -errno;
        }
        if (n == 0) {
            break;
        }
        len += (size_t)n;
    }
    *ret_len = len;
    return 0;
}

const char *access_password_fault(const void *password, size_t len)
{
    static const char sample[] = "CHANGEME";
    if (memchr(password, 0, len)) {
        return "a password has no zero bytes";
    }
    if (len < ACCESS_PASSWORD_MIN) {
        return "a password has at least 8 bytes";
    }
    if (len > ACCESS_PASSWORD_MAX) {
        return "a password has at most 4096 bytes";
    }
    if (len == sizeof sample - 1 && memcmp(password, sample, len) == 0) {
        return "CHANGEME is no password";
    }
    return NULL;
}

const char *access_chap_fault(const void *secret, size_t len)
{
    if (memchr(secret, 0, len)) {
        return "a CHAP secret has no zero bytes";
    }
    if (len < DEV_SECRET_MIN) {
        return "a CHAP secret has at least 12 bytes (RFC 7143)";
    }
    return len > DEV_SECRET_MAX ? "a CHAP secret has at most 255 bytes" : NULL;
}

/* Of all that was read, the first line. */
static struct crypt_secret *line_of(const uint8_t *bytes, size_t all, access_fault *fault,
                                    const char **ret_why)
{
    const uint8_t *end = memchr(bytes, '\n', all);
    size_t len = end ? (size_t)(end - bytes) : all;
    if (len > 0 && bytes[len - 1] == '\r') {
        len--;
    }
    *ret_why = fault(bytes, len);
    if (!*ret_why && end && end + 1 < bytes + all) {
        *ret_why = "the secret is the first line, and more follows";
    }
    return *ret_why ? NULL : crypt_secret_create(bytes, len);
}

static int digit(char c)
{
    return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static struct crypt_secret *from_digits(const char *hex, size_t len)
{
    struct crypt_secret *s = len % 2 == 0 ? crypt_secret_create(NULL, len / 2) : NULL;
    for (size_t i = 0; s && i < len; i += 2) {
        int high = digit((char)(hex[i] | 0x20));
        int low = digit((char)(hex[i + 1] | 0x20));
        if (high < 0 || low < 0) {
            crypt_secret_free(s);
            return NULL;
        }
        s->bytes[i / 2] = (uint8_t)(high << 4 | low);
    }
    return s;
}

struct crypt_secret *access_get(const json_t *request, const char *key)
{
    const char *hex = json_string_value(json_object_get(request, key));
    return hex ? from_digits(hex, strlen(hex)) : NULL;
}

int access_put(json_t *request, const char *key, const struct crypt_secret *s)
{
    static const char digits[] = "0123456789abcdef";
    struct crypt_secret *text = crypt_secret_create(NULL, 2 * s->len);
    for (size_t i = 0; text && i < s->len; i++) {
        text->bytes[2 * i] = (uint8_t)digits[s->bytes[i] >> 4];
        text->bytes[2 * i + 1] = (uint8_t)digits[s->bytes[i] & 15];
    }
    int r = text ? json_object_set_new(request, key, json_string(crypt_secret_text(text))) : -1;
    crypt_secret_free(text);
    return r < 0 ? -ENOMEM : 0;
}

static struct crypt_secret *key_of(const uint8_t *bytes, size_t len, const char **ret_why)
{
    if (len == CRYPT_KEY_BYTES) {
        return crypt_secret_create(bytes, len);
    }
    while (len > 0 && (bytes[len - 1] == '\n' || bytes[len - 1] == '\r')) {
        len--;
    }
    struct crypt_secret *key = NULL;
    if (len == (size_t)2 * CRYPT_KEY_BYTES) {
        key = from_digits((const char *)bytes, len);
    }
    *ret_why = key ? NULL : "a key file holds 32 bytes, or 64 hexadecimal digits";
    return key;
}

static void warn_of_readers(int fd, const char *path, FILE *errors)
{
    struct stat st;
    if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && (st.st_mode & (S_IROTH | S_IWOTH))) {
        fprintf(errors, "%s: warning: every user of this machine may read it: chmod 600\n", path);
    }
}

/* A key file when there is no fault(). */
static int read_any(const char *path, access_fault *fault, FILE *errors,
                    struct crypt_secret **ret_secret)
{
    bool is_input = strcmp(path, "-") == 0;
    int fd = is_input ? STDIN_FILENO : open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        fprintf(errors, "%s: cannot be read: %s\n", path, err_text(-errno));
        return config_error();
    }
    const char *why = NULL;
    struct crypt_secret *secret = NULL;
    struct crypt_secret *all = crypt_secret_create(NULL, FILE_BYTES_MAX);
    size_t len = 0;
    int r = all ? read_secret(fd, all, &len) : -ENOMEM;
    if (r == 0) {
        secret = fault ? line_of(all->bytes, len, fault, &why) : key_of(all->bytes, len, &why);
        r = secret ? 0 : -ENOMEM;
        warn_of_readers(fd, path, errors);
    }
    crypt_secret_free(all);
    if (!is_input) {
        (void)close(fd);
    }
    if (why || r < 0) {
        return refuse(errors, is_input ? "standard input" : path, why ? why : err_text(r));
    }
    *ret_secret = secret;
    return 0;
}

int access_read_file(const char *path, enum crypt_kdf kdf, FILE *errors,
                     struct crypt_secret **ret_secret)
{
    return read_any(path, kdf == CRYPT_KDF_NONE ? NULL : access_password_fault, errors, ret_secret);
}

int access_read_line(const char *path, access_fault *fault, FILE *errors,
                     struct crypt_secret **ret_secret)
{
    return read_any(path, fault, errors, ret_secret);
}

int access_load(const struct config *c, FILE *errors, struct crypt_access *ret_access)
{
    struct crypt_access a = {.kdf = CRYPT_KDF_ARGON2ID, .cipher = c->encryption.cipher};
    int r = 0;
    *ret_access = a;
    if (c->encryption.none) {
        return 0;
    }
    if (c->encryption.password) {
        a.secret = crypt_secret_create(c->encryption.password->bytes, c->encryption.password->len);
        r = a.secret ? 0 : refuse(errors, c->path, err_text(-ENOMEM));
    } else if (c->encryption.password_file) {
        r = access_read_file(c->encryption.password_file, a.kdf, errors, &a.secret);
    } else {
        a.kdf = CRYPT_KDF_NONE;
        r = access_read_file(c->encryption.key_file, a.kdf, errors, &a.secret);
    }
    if (r < 0) {
        return r;
    }
    *ret_access = a;
    return 1;
}

void access_wipe(struct crypt_access *a)
{
    crypt_secret_free(a->secret);
    a->secret = NULL;
}
