/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Store URLs, and the stack of layers built from one.
 *
 *     file:///absolute/folder        percent signs and question marks as %25 and %3f
 *     memory:
 *     s3://bucket/prefix             also s3a://
 *
 * and after a question mark, joined by '&', for tests and benchmarks:
 *
 *     delay_ms=20 or delay_ms=5-40   latency of each request
 *     fault=0.01                     half of it requests that never arrive, half lost replies
 *     fail_before= fail_after= duplicate= late=      the single probabilities
 *     late_ms=1000                   how late at most
 *     seed=7
 *     give_up_ms=30000               when the retry layer answers with an error; 0 = never
 */
#include "base/err.h"
#include "base/msg.h"
#include "obj/obj_layers.h"
#include "obj/obj_priv.h"
#include "obj/s3_priv.h"
#include "obj/why.h"
#include <limits.h>
#include <stdio.h>
#include <string.h>

#define GIVE_UP_MS 30000
#define LATE_MS 1000
#define VALUE_SIZE 32

enum backend {
    BACKEND_MEMORY,
    BACKEND_FILE,
    BACKEND_S3,
};

struct url {
    enum backend backend;
    char folder[PATH_MAX];
    char bucket[64];
    char prefix[512];
    struct obj_delay_options delay;
    struct obj_fault_options fault;
    struct obj_retry_options retry;
};

static int hex_digit(char ch)
{
    if (ch >= '0' && ch <= '9') {
        return ch - '0';
    }
    ch = (char)(ch | 0x20);
    return ch >= 'a' && ch <= 'f' ? ch - 'a' + 10 : -1;
}

/* The folder, with %xx undone. */
static int parse_folder(const char *at, size_t len, struct url *u, const struct obj_why *w)
{
    if (len == 0 || at[0] != '/') {
        return obj_wrong(w, "file:// needs an absolute folder: file:///var/lib/zerofs");
    }
    size_t n = 0;
    for (size_t i = 0; i < len; i++) {
        char ch = at[i];
        if (ch == '%') {
            int high = i + 2 < len ? hex_digit(at[i + 1]) : -1;
            int low = high >= 0 ? hex_digit(at[i + 2]) : -1;
            if (low < 0) {
                return obj_wrong(w, "a %% in a URL must be followed by two hexadecimal digits");
            }
            ch = (char)(high << 4 | low);
            i += 2;
        }
        if (ch == '\0' || n + 1 >= sizeof u->folder) {
            return obj_wrong(w, "the folder's name is too long or holds a zero byte");
        }
        u->folder[n++] = ch;
    }
    u->folder[n] = '\0';
    return 0;
}

static int parse_number(const char *text, uint64_t *ret_v)
{
    if (text[0] < '0' || text[0] > '9') {
        return -EINVAL;
    }
    char *end;
    errno = 0;
    unsigned long long v = strtoull(text, &end, 10);
    if (errno != 0 || *end != '\0') {
        return -EINVAL;
    }
    *ret_v = v;
    return 0;
}

static int parse_chance(const char *text, double *ret_v)
{
    char *end;
    double v = strtod(text, &end);
    if (end == text || *end != '\0' || !(v >= 0 && v <= 1)) {
        return -EINVAL;
    }
    *ret_v = v;
    return 0;
}

static int parse_span(char *text, struct obj_delay_options *d)
{
    char *dash = strchr(text, '-');
    if (!dash) {
        int r = parse_number(text, &d->min_ms);
        d->max_ms = d->min_ms;
        return r;
    }
    *dash = '\0';
    int r = parse_number(text, &d->min_ms);
    if (r < 0) {
        return r;
    }
    r = parse_number(dash + 1, &d->max_ms);
    return r < 0 || d->max_ms < d->min_ms ? -EINVAL : 0;
}

static int parse_both(const char *text, struct obj_fault_options *f)
{
    double v;
    int r = parse_chance(text, &v);
    if (r == 0) {
        f->fail_before = v / 2;
        f->fail_after = v / 2;
    }
    return r;
}

/* -ENOENT when there is no such option. */
static int parse_value(struct url *u, const char *key, char *value)
{
    const struct {
        const char *key;
        double *at;
    } chances[] = {
        {"fail_before", &u->fault.fail_before},
        {"fail_after", &u->fault.fail_after},
        {"duplicate", &u->fault.duplicate},
        {"late", &u->fault.late},
    };
    for (size_t i = 0; i < ARRAY_LEN(chances); i++) {
        if (strcmp(key, chances[i].key) == 0) {
            return parse_chance(value, chances[i].at);
        }
    }
    const struct {
        const char *key;
        uint64_t *at;
    } numbers[] = {
        {"late_ms", &u->fault.late_ms},
        {"seed", &u->fault.seed},
        {"give_up_ms", &u->retry.give_up_ms},
    };
    for (size_t i = 0; i < ARRAY_LEN(numbers); i++) {
        if (strcmp(key, numbers[i].key) == 0) {
            return parse_number(value, numbers[i].at);
        }
    }
    if (strcmp(key, "delay_ms") == 0) {
        return parse_span(value, &u->delay);
    }
    return strcmp(key, "fault") == 0 ? parse_both(value, &u->fault) : -ENOENT;
}

static int parse_options(const char *at, struct url *u, const struct obj_why *w)
{
    while (*at != '\0') {
        char key[VALUE_SIZE];
        size_t len = strcspn(at, "&");
        if (len >= sizeof key) {
            return obj_wrong(w, "the option \"%.*s\" of the store URL is too long", (int)len, at);
        }
        memcpy(key, at, len);
        key[len] = '\0';
        char *value = strchr(key, '=');
        if (!value) {
            return obj_wrong(w, "the option \"%s\" of the store URL has no value", key);
        }
        *value++ = '\0';
        int r = parse_value(u, key, value);
        if (r == -ENOENT) {
            return obj_wrong(w, "the store URL has an unknown option \"%s\"", key);
        }
        if (r < 0) {
            return obj_wrong(w, "the value of \"%s\" in the store URL is wrong", key);
        }
        at += len + (at[len] == '&');
    }
    return 0;
}

static int parse(const char *url, struct url *u, const struct obj_why *w)
{
    *u = (struct url){
        .fault.late_ms = LATE_MS,
        .fault.seed = 1,
        .retry.give_up_ms = GIVE_UP_MS,
    };
    size_t len = strcspn(url, "?");
    size_t s3 = strncmp(url, "s3://", 5) == 0 ? 5 : strncmp(url, "s3a://", 6) == 0 ? 6 : 0;
    int r;
    if (s3 > 0) {
        u->backend = BACKEND_S3;
        u->retry.denial_passes = true;
        r = s3_url_parse(url + s3, len - s3, u->bucket, u->prefix, w->text, w->cap);
    } else if (strncmp(url, "file://", 7) == 0 && len >= 7) {
        u->backend = BACKEND_FILE;
        r = parse_folder(url + 7, len - 7, u, w);
    } else if (len == 7 && strncmp(url, "memory:", 7) == 0) {
        r = 0;
    } else {
        r = obj_wrong(
            w, "\"%s\" is no store URL: it starts with s3:// or file://, or is memory:", url);
    }
    if (r < 0) {
        return r;
    }
    return url[len] == '?' ? parse_options(url + len + 1, u, w) : 0;
}

int obj_url_check(const char *url, char *ret_why, size_t why_cap)
{
    auto_free struct url *u = malloc(sizeof *u);
    if (!u) {
        return -ENOMEM;
    }
    return parse(url, u, &(struct obj_why){ret_why, why_cap});
}

/* Puts the layers that the URL asks for over the backend. On failure *s is what is to be closed. */
static int wrap(const struct url *u, struct obj_store **s)
{
    int r = 0;
    if (u->delay.max_ms > 0) {
        r = obj_delay_wrap(*s, &u->delay, s);
    }
    const struct obj_fault_options *f = &u->fault;
    if (r == 0 && (f->fail_before > 0 || f->fail_after > 0 || f->duplicate > 0 || f->late > 0)) {
        r = obj_fault_wrap(*s, f, s);
    }
    if (r == 0) {
        r = obj_stats_wrap(*s, s);
    }
    if (r == 0) {
        r = obj_retry_wrap(*s, &u->retry, s);
    }
    return r;
}

static int open_backend(const struct url *u, const struct obj_options *opt,
                        struct obj_store **ret_store)
{
    switch (u->backend) {
    case BACKEND_FILE:
        return obj_file_open(u->folder, ret_store);
    case BACKEND_S3:
        return obj_s3_open(u->bucket, u->prefix, &opt->s3, ret_store);
    case BACKEND_MEMORY:
        break;
    }
    return obj_mem_open(ret_store);
}

int obj_open(const char *url, struct obj_store **ret_store)
{
    return obj_open_with(url, NULL, ret_store);
}

int obj_open_with(const char *url, const struct obj_options *opt, struct obj_store **ret_store)
{
    static const struct obj_options no_options;
    auto_free struct url *u = malloc(sizeof *u);
    if (!u) {
        return -ENOMEM;
    }
    char why[256];
    int r = parse(url, u, &(struct obj_why){why, sizeof why});
    if (r < 0) {
        msg_error("obj", "%s", why);
        return r;
    }
    struct obj_store *s;
    r = open_backend(u, opt ? opt : &no_options, &s);
    if (r < 0) {
        return r;
    }
    r = wrap(u, &s);
    if (r < 0) {
        obj_close(s);
        return r;
    }
    *ret_store = s;
    return 0;
}
