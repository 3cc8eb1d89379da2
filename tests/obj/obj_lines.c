/* SPDX-License-Identifier: Apache-2.0 */
/*
 * zerofs-obj URL [OPTION=VALUE ...]: opens a store and does what it is told on standard input, one
 * line of answer for each line: a result, then what was found.
 *
 *     put CLASS NAME TEXT    get CLASS NAME OFF LEN    head CLASS NAME
 *     list CLASS PREFIX AFTER MAX (each "-" for none)  remove CLASS NAME...
 *     outlast                requests
 */
#include "base/err.h"
#include "base/msg.h"
#include "crypt/secret.h"
#include "obj/obj.h"
#include "rt/offload.h"
#include "rt/rt.h"
#include <stdio.h>
#include <string.h>

#define LINE_MAX_BYTES (1u << 20)
#define WORDS_MAX 64

struct tool {
    const char *url;
    struct obj_options opt;
    struct obj_store *s;
    char *line;
    char *words[WORDS_MAX];
    size_t count;
    int result;
};

static int read_line(void *arg)
{
    struct tool *t = arg;
    if (!fgets(t->line, LINE_MAX_BYTES, stdin)) {
        return 0;
    }
    t->line[strcspn(t->line, "\n")] = '\0';
    return 1;
}

static void split(struct tool *t)
{
    char *at = t->line;
    t->count = 0;
    while (*at && t->count < WORDS_MAX) {
        t->words[t->count++] = at;
        at += strcspn(at, " ");
        if (*at) {
            *at++ = '\0';
        }
    }
}

static const char *word(const struct tool *t, size_t i)
{
    return i < t->count && strcmp(t->words[i], "-") != 0 ? t->words[i] : "";
}

static uint64_t number(const struct tool *t, size_t i)
{
    return strtoull(word(t, i), NULL, 10);
}

static void answer(int r)
{
    printf("%s", r < 0 ? err_name(r) : "ok");
}

static void put(struct tool *t, enum obj_class c)
{
    struct rt_chain body = {0};
    const char *text = word(t, 3);
    int r = rt_chain_add(&body, NULL, text, (uint32_t)strlen(text));
    if (r == 0) {
        r = obj_put(t->s, c, word(t, 2), &body);
    }
    rt_chain_free(&body);
    answer(r);
}

static void get(struct tool *t, enum obj_class c)
{
    size_t len = (size_t)number(t, 4);
    auto_free char *dst = malloc(len + 1);
    ssize_t n = dst ? obj_get(t->s, c, word(t, 2), number(t, 3), dst, len) : -ENOMEM;
    answer((int)n);
    if (n >= 0) {
        printf(" %.*s", (int)n, dst);
    }
}

static void list(struct tool *t, enum obj_class c)
{
    struct obj_names names = {0};
    int r = obj_list(t->s, c, word(t, 2), word(t, 3), (size_t)number(t, 4), &names);
    answer(r);
    for (size_t i = 0; i < names.names.len; i++) {
        printf(" %s", names.names.at[i]);
    }
    printf("%s", names.more ? " ..." : "");
    obj_names_free(&names);
}

static void remove_all(struct tool *t, enum obj_class c)
{
    answer(obj_remove_many(t->s, c, (const char *const *)t->words + 2, t->count - 2));
}

static void requests(struct tool *t)
{
    struct obj_counts n;
    uint64_t sum = 0;
    obj_counts(t->s, &n);
    for (unsigned c = 0; c < OBJ_CLASSES; c++) {
        for (unsigned k = 0; k < OBJ_KINDS; k++) {
            sum += n.requests[c][k];
        }
    }
    printf("ok %llu", (unsigned long long)sum);
}

static void obey(struct tool *t)
{
    const char *what = word(t, 0);
    enum obj_class c = (enum obj_class)(number(t, 1) % OBJ_CLASSES);
    uint64_t size = 0;
    if (strcmp(what, "put") == 0) {
        put(t, c);
    } else if (strcmp(what, "get") == 0) {
        get(t, c);
    } else if (strcmp(what, "head") == 0) {
        int r = obj_head(t->s, c, word(t, 2), &size);
        answer(r);
        printf(" %llu", (unsigned long long)size);
    } else if (strcmp(what, "list") == 0) {
        list(t, c);
    } else if (strcmp(what, "remove") == 0 && t->count > 2) {
        remove_all(t, c);
    } else if (strcmp(what, "outlast") == 0) {
        obj_outlast(t->s);
        answer(0);
    } else if (strcmp(what, "requests") == 0) {
        requests(t);
    } else {
        printf("what?");
    }
    printf("\n");
    (void)fflush(stdout);
}

static void work(void *arg)
{
    struct tool *t = arg;
    t->result = obj_open_with(t->url, &t->opt, &t->s);
    if (t->result == 0) {
        t->result = obj_prove(t->s);
    }
    answer(t->result);
    printf("\n");
    (void)fflush(stdout);
    while (t->result == 0 && rt_offload(RT_OFFLOAD_IO, read_line, t) > 0) {
        split(t);
        obey(t);
    }
    obj_close(t->s);
}

/* OPTION=VALUE into the options. */
static bool take_option(struct obj_s3_options *o, char *text)
{
    const struct {
        const char *key;
        char **text;
        bool *flag;
        unsigned *number;
        struct crypt_secret **secret;
    } table[] = {
        {.key = "secret_access_key", .secret = &o->secret_access_key},
        {.key = "session_token", .secret = &o->session_token},
        {"access_key_id", &o->access_key_id, NULL, NULL, NULL},
        {"profile", &o->profile, NULL, NULL, NULL},
        {"region", &o->region, NULL, NULL, NULL},
        {"endpoint", &o->endpoint, NULL, NULL, NULL},
        {"storage_class", &o->storage_class, NULL, NULL, NULL},
        {"ca_bundle", &o->ca_bundle, NULL, NULL, NULL},
        {"metadata_endpoint", &o->metadata_endpoint, NULL, NULL, NULL},
        {"allow_http", NULL, &o->allow_http, NULL, NULL},
        {"virtual_hosted", NULL, &o->virtual_hosted, NULL, NULL},
        {"skip_signature", NULL, &o->skip_signature, NULL, NULL},
        {"unsafe_single_writer", NULL, &o->unsafe_single_writer, NULL, NULL},
        {"timeout_ms", NULL, NULL, &o->timeout_ms, NULL},
        {"max_connections", NULL, NULL, &o->max_connections, NULL},
    };
    char *value = strchr(text, '=');
    if (!value) {
        return false;
    }
    *value++ = '\0';
    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        if (strcmp(text, table[i].key) != 0) {
            continue;
        }
        if (table[i].secret) {
            *table[i].secret = crypt_secret_of(value);
        } else if (table[i].text) {
            *table[i].text = value;
        } else if (table[i].flag) {
            *table[i].flag = strcmp(value, "true") == 0;
        } else {
            *table[i].number = (unsigned)strtoul(value, NULL, 10);
        }
        return true;
    }
    return false;
}

int main(int argc, char **argv)
{
    struct tool t = {.url = argc > 1 ? argv[1] : ""};
    for (int i = 2; i < argc; i++) {
        if (!take_option(&t.opt.s3, argv[i])) {
            fprintf(stderr, "%s: no such option\n", argv[i]);
            return 2;
        }
    }
    t.line = malloc(LINE_MAX_BYTES);
    if (!t.line || rt_run(&(struct rt_options){.cores = 1}, work, &t) < 0) {
        return 1;
    }
    free(t.line);
    return t.result == 0 ? 0 : 1;
}
