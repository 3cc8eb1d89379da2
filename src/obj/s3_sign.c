/* SPDX-License-Identifier: Apache-2.0 */
#include "obj/s3_sign.h"
#include <errno.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#define HASH_BYTES 32

const char s3_empty_hash[S3_HASH_TEXT_SIZE] =
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

void s3_hex(const uint8_t *bytes, size_t len, char *ret_text)
{
    static const char digits[] = "0123456789abcdef";
    for (size_t i = 0; i < len; i++) {
        ret_text[2 * i] = digits[bytes[i] >> 4];
        ret_text[2 * i + 1] = digits[bytes[i] & 15];
    }
    ret_text[2 * len] = '\0';
}

void s3_time_text(uint64_t time_s, char ret_text[S3_TIME_TEXT_SIZE])
{
    time_t t = (time_t)time_s;
    struct tm tm = {0};
    (void)gmtime_r(&t, &tm);
    if (strftime(ret_text, S3_TIME_TEXT_SIZE, "%Y%m%dT%H%M%SZ", &tm) == 0) {
        ret_text[0] = '\0';
    }
}

/* A hash that is fed with text. */
struct hash {
    EVP_MD_CTX *ctx;
    bool bad;
};

static void feed(struct hash *h, const char *text)
{
    h->bad = h->bad || EVP_DigestUpdate(h->ctx, text, strlen(text)) != 1;
}

static void feed_names(struct hash *h, const struct s3_signing *in)
{
    for (size_t i = 0; i < in->header_count; i++) {
        feed(h, i > 0 ? ";" : "");
        feed(h, in->headers[i].name);
    }
}

/* The hash of the canonical request, in hexadecimal. */
static int hash_request(const struct s3_signing *in, char ret_hex[S3_HASH_TEXT_SIZE])
{
    struct hash h = {.ctx = EVP_MD_CTX_new()};
    uint8_t digest[HASH_BYTES];
    h.bad = !h.ctx || EVP_DigestInit_ex(h.ctx, EVP_sha256(), NULL) != 1;
    const char *const lines[] = {in->method, in->path, in->query};
    for (size_t i = 0; i < ARRAY_LEN(lines); i++) {
        feed(&h, lines[i]);
        feed(&h, "\n");
    }
    for (size_t i = 0; i < in->header_count; i++) {
        feed(&h, in->headers[i].name);
        feed(&h, ":");
        feed(&h, in->headers[i].value);
        feed(&h, "\n");
    }
    feed(&h, "\n");
    feed_names(&h, in);
    feed(&h, "\n");
    feed(&h, in->body_hash);
    h.bad = h.bad || EVP_DigestFinal_ex(h.ctx, digest, NULL) != 1;
    EVP_MD_CTX_free(h.ctx);
    if (h.bad) {
        return -EIO;
    }
    s3_hex(digest, sizeof digest, ret_hex);
    return 0;
}

static bool hmac(const void *key, size_t key_len, const char *text, uint8_t ret_mac[HASH_BYTES])
{
    return HMAC(EVP_sha256(), key, (int)key_len, (const uint8_t *)text, strlen(text), ret_mac,
                NULL) != NULL;
}

/* Makes room->key that of the scope: one day, region and service. */
static int make_key(const struct s3_signing *in, const char *day, const char *scope)
{
    struct s3_sign_room *m = in->room;
    if (strcmp(m->scope, scope) == 0) {
        return 0;
    }
    int n = snprintf(m->first, sizeof m->first, "AWS4%s", in->secret_key);
    if (n < 0 || (size_t)n >= sizeof m->first) {
        return -EOVERFLOW;
    }
    m->scope[0] = '\0';
    bool ok = hmac(m->first, (size_t)n, day, m->step[0]) &&
              hmac(m->step[0], HASH_BYTES, in->region, m->step[1]) &&
              hmac(m->step[1], HASH_BYTES, in->service, m->step[0]) &&
              hmac(m->step[0], HASH_BYTES, "aws4_request", m->key);
    if (ok) {
        (void)snprintf(m->scope, sizeof m->scope, "%s", scope);
    }
    return ok ? 0 : -EIO;
}

/* Appends to the value; false when it is full. */
static bool append(char *value, size_t cap, size_t *len, const char *text)
{
    size_t n = strlen(text);
    if (*len + n >= cap) {
        return false;
    }
    memcpy(value + *len, text, n + 1);
    *len += n;
    return true;
}

static int write_value(const struct s3_signing *in, const char *scope, const char *signature,
                       char *ret_value, size_t cap)
{
    const char *const before[] = {"AWS4-HMAC-SHA256 Credential=", in->access_key, "/", scope,
                                  ",SignedHeaders="};
    size_t len = 0;
    bool ok = true;
    for (size_t i = 0; i < ARRAY_LEN(before); i++) {
        ok = ok && append(ret_value, cap, &len, before[i]);
    }
    for (size_t i = 0; i < in->header_count; i++) {
        ok = ok && append(ret_value, cap, &len, i > 0 ? ";" : "") &&
             append(ret_value, cap, &len, in->headers[i].name);
    }
    ok = ok && append(ret_value, cap, &len, ",Signature=") &&
         append(ret_value, cap, &len, signature);
    return ok ? 0 : -EOVERFLOW;
}

int s3_sign(const struct s3_signing *in, char *ret_value, size_t cap)
{
    char hash[S3_HASH_TEXT_SIZE];
    int r = hash_request(in, hash);
    if (r < 0) {
        return r;
    }
    char now[S3_TIME_TEXT_SIZE];
    char day[9];
    char scope[S3_SCOPE_SIZE];
    char text[S3_SCOPE_SIZE + 128];
    s3_time_text(in->time_s, now);
    (void)snprintf(day, sizeof day, "%.8s", now);
    int n = snprintf(scope, sizeof scope, "%s/%s/%s/aws4_request", day, in->region, in->service);
    if (n < 0 || (size_t)n >= sizeof scope) {
        return -EOVERFLOW;
    }
    (void)snprintf(text, sizeof text, "AWS4-HMAC-SHA256\n%s\n%s\n%s", now, scope, hash);
    uint8_t mac[HASH_BYTES];
    r = make_key(in, day, scope);
    if (r < 0) {
        return r;
    }
    if (!hmac(in->room->key, HASH_BYTES, text, mac)) {
        return -EIO;
    }
    s3_hex(mac, sizeof mac, hash);
    return write_value(in, scope, hash, ret_value, cap);
}
