/* SPDX-License-Identifier: Apache-2.0 */
/* Credentials as others write them: files of profiles, documents of the metadata services. Pure. */
#include "base/bytes.h"
#include "obj/s3_cred.h"
#include "obj/s3_text.h"
#include <errno.h>
#include <jansson.h>
#include <string.h>

#define MARGIN_S 300
#define REFRESH_MIN_S 5

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

/* One piece of memory for all: a room to sign in, the key, the token. */
static int keep_secrets(struct s3_cred *c, const char *secret_key, const char *token)
{
    size_t room = sizeof *c->room;
    size_t key = strlen(secret_key) + 1;
    c->memory = crypt_secret_create(NULL, room + key + (token ? strlen(token) + 1 : 0));
    if (!c->memory) {
        return -ENOMEM;
    }
    c->room = (struct s3_sign_room *)(void *)c->memory->bytes;
    c->secret_key = memcpy(c->memory->bytes + room, secret_key, key);
    if (token) {
        c->token = memcpy(c->memory->bytes + room + key, token, strlen(token) + 1);
    }
    return 0;
}

int s3_cred_make(const char *access_key, const char *secret_key, const char *token,
                 uint64_t expires_s, struct s3_cred **ret_cred)
{
    if (token && *token == '\0') {
        token = NULL;
    }
    if (!access_key || !secret_key || !is_plain(access_key) || !is_plain(secret_key) ||
        (token && !is_plain(token)) || strlen(access_key) > 128 ||
        strlen(secret_key) > S3_SECRET_MAX || (token && strlen(token) > 16384)) {
        return -EINVAL;
    }
    struct s3_cred *c = calloc(1, sizeof *c);
    if (!c) {
        return -ENOMEM;
    }
    atomic_init(&c->refs, 1);
    c->access_key = strdup(access_key);
    c->expires_s = expires_s;
    if (!c->access_key || keep_secrets(c, secret_key, token) < 0) {
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
    crypt_secret_free(c->memory);
    free(c);
}

void s3_profile_free(struct s3_profile *p)
{
    free(p->access_key);
    crypt_secret_free(p->secret_key);
    crypt_secret_free(p->token);
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
        struct crypt_secret **secret;
    } settings[] = {
        {"aws_access_key_id", &p->access_key, NULL},
        {"aws_secret_access_key", NULL, &p->secret_key},
        {"aws_session_token", NULL, &p->token},
        {"region", &p->region, NULL},
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
        char **slot = settings[i].slot;
        struct crypt_secret **secret = settings[i].secret;
        if (!equals(key, key_len, settings[i].key) || value_len == 0) {
            continue;
        }
        if (slot && !*slot) {
            *slot = bytes_text(value, value_len);
            return *slot ? 0 : -ENOMEM;
        }
        if (secret && !*secret) {
            *secret = crypt_secret_create(value, value_len);
            return *secret ? 0 : -ENOMEM;
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
