/* SPDX-License-Identifier: Apache-2.0 */
/* Credentials as others write them: files of profiles, documents of the metadata services. Pure. */
#include "base/bytes.h"
#include "obj/s3_cred.h"
#include "obj/s3_text.h"
#include <errno.h>
#include <jansson.h>
#include <openssl/crypto.h>
#include <string.h>

#define MARGIN_S 300
#define REFRESH_MIN_S 5

static void wipe(char *text)
{
    if (text) {
        OPENSSL_cleanse(text, strlen(text));
        free(text);
    }
}

/* What can stand in a header. */
static bool is_plain(const char *text)
{
    for (const char *at = text; *at; at++) {
        if ((unsigned char)*at <= 0x20 || (unsigned char)*at >= 0x7f) {
            return false;
        }
    }
    return *text != '\0';
}

int s3_cred_make(const char *access_key, const char *secret_key, const char *token,
                 uint64_t expires_s, struct s3_cred **ret_cred)
{
    if (token && *token == '\0') {
        token = NULL;
    }
    if (!access_key || !secret_key || !is_plain(access_key) || !is_plain(secret_key) ||
        (token && !is_plain(token)) || strlen(access_key) > 128 || strlen(secret_key) > 256 ||
        (token && strlen(token) > 16384)) {
        return -EINVAL;
    }
    struct s3_cred *c = calloc(1, sizeof *c);
    if (!c) {
        return -ENOMEM;
    }
    atomic_init(&c->refs, 1);
    c->access_key = strdup(access_key);
    c->secret_key = strdup(secret_key);
    c->token = token ? strdup(token) : NULL;
    c->expires_s = expires_s;
    if (!c->access_key || !c->secret_key || (token && !c->token)) {
        s3_cred_unref(c);
        return -ENOMEM;
    }
    *ret_cred = c;
    return 0;
}

struct s3_cred *s3_cred_ref(struct s3_cred *c)
{
    atomic_fetch_add(&c->refs, 1);
    return c;
}

void s3_cred_unref(struct s3_cred *c)
{
    if (!c || atomic_fetch_sub(&c->refs, 1) > 1) {
        return;
    }
    free(c->access_key);
    wipe(c->secret_key);
    wipe(c->token);
    free(c);
}

void s3_profile_free(struct s3_profile *p)
{
    free(p->access_key);
    wipe(p->secret_key);
    wipe(p->token);
    free(p->region);
    *p = (struct s3_profile){0};
}

/* Narrows [*at, *at + *len) to what lies between blanks. */
static void trim(const char **at, size_t *len)
{
    while (*len > 0 && (**at == ' ' || **at == '\t')) {
        ++*at;
        --*len;
    }
    while (*len > 0 && strchr(" \t\r", (*at)[*len - 1])) {
        --*len;
    }
}

static bool equals(const char *at, size_t len, const char *text)
{
    return strlen(text) == len && memcmp(at, text, len) == 0;
}

/* "[name]", "[profile name]" */
static bool is_section(const char *at, size_t len, const char *name)
{
    at++;
    len -= 2;
    trim(&at, &len);
    if (len > 8 && memcmp(at, "profile", 7) == 0 && (at[7] == ' ' || at[7] == '\t')) {
        at += 7;
        len -= 7;
        trim(&at, &len);
    }
    return equals(at, len, name);
}

static int take_setting(struct s3_profile *p, const char *line, size_t len)
{
    const struct {
        const char *key;
        char **slot;
    } settings[] = {
        {"aws_access_key_id", &p->access_key},
        {"aws_secret_access_key", &p->secret_key},
        {"aws_session_token", &p->token},
        {"region", &p->region},
    };
    const char *equal = memchr(line, '=', len);
    if (!equal) {
        return 0;
    }
    const char *key = line;
    size_t key_len = (size_t)(equal - line);
    const char *value = equal + 1;
    size_t value_len = len - key_len - 1;
    trim(&key, &key_len);
    trim(&value, &value_len);
    for (size_t i = 0; i < ARRAY_LEN(settings); i++) {
        if (equals(key, key_len, settings[i].key) && !*settings[i].slot && value_len > 0) {
            *settings[i].slot = bytes_text(value, value_len);
            return *settings[i].slot ? 0 : -ENOMEM;
        }
    }
    return 0;
}

int s3_profile_parse(const char *text, size_t len, const char *name, struct s3_profile *profile)
{
    bool inside = false;
    const char *end = len > 0 ? text + len : text;
    for (const char *at = text; at < end;) {
        const char *stop = memchr(at, '\n', (size_t)(end - at));
        size_t n = stop ? (size_t)(stop - at) : (size_t)(end - at);
        const char *line = at;
        at += n + (stop != NULL);
        trim(&line, &n);
        if (n == 0 || line[0] == '#' || line[0] == ';') {
            continue;
        }
        if (n >= 2 && line[0] == '[' && line[n - 1] == ']') {
            inside = is_section(line, n, name);
            profile->found |= inside;
            continue;
        }
        int r = inside ? take_setting(profile, line, n) : 0;
        if (r < 0) {
            return r;
        }
    }
    return 0;
}

int s3_cred_parse(const char *text, size_t len, struct s3_cred **ret_cred)
{
    json_t *doc = json_loadb(text, len, 0, NULL);
    const char *code = json_string_value(json_object_get(doc, "Code"));
    const char *expiration = json_string_value(json_object_get(doc, "Expiration"));
    uint64_t expires_s = expiration ? s3_time_parse(expiration) : 0;
    int r = -EPROTO;
    if ((!code || strcmp(code, "Success") == 0) && (!expiration || expires_s > 0)) {
        r = s3_cred_make(json_string_value(json_object_get(doc, "AccessKeyId")),
                         json_string_value(json_object_get(doc, "SecretAccessKey")),
                         json_string_value(json_object_get(doc, "Token")), expires_s, ret_cred);
    }
    json_decref(doc);
    return r == -EINVAL ? -EPROTO : r;
}

uint64_t s3_cred_refresh_after(uint64_t now_s, uint64_t expires_s)
{
    uint64_t left = expires_s > now_s ? expires_s - now_s : 0;
    uint64_t margin = MIN_OF((uint64_t)MARGIN_S, left / 2);
    return MAX_OF(left - margin, (uint64_t)REFRESH_MIN_S);
}
