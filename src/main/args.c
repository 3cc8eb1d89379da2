/* SPDX-License-Identifier: Apache-2.0 */
#include "main/args.h"
#include "base/assert.h"
#include <errno.h>
#include <stdio.h>
#include <string.h>

struct parser {
    struct args *out;
    int argc;
    char **argv;
    int at;
};

static int find_long(const struct arg_spec *specs, const char *name, size_t len)
{
    for (int i = 0; specs[i].name; i++) {
        if (strlen(specs[i].name) == len && memcmp(specs[i].name, name, len) == 0) {
            return i;
        }
    }
    return -1;
}

static int find_short(const struct arg_spec *specs, char letter)
{
    for (int i = 0; specs[i].name; i++) {
        if (specs[i].letter == letter) {
            return i;
        }
    }
    return -1;
}

/* Gives option i its value: what stands behind the '=', or the next word. */
static int set_option(struct parser *p, int i, const char *attached)
{
    const struct arg_spec *spec = &p->out->specs[i];
    if (p->out->values[i]) {
        fprintf(stderr, "zerofs: --%s is given twice\n", spec->name);
        return -EINVAL;
    }
    if (!spec->value) {
        if (attached) {
            fprintf(stderr, "zerofs: --%s takes no value\n", spec->name);
            return -EINVAL;
        }
        p->out->values[i] = "";
        return 0;
    }
    if (!attached) {
        if (p->at >= p->argc) {
            fprintf(stderr, "zerofs: --%s needs a value: --%s %s\n", spec->name, spec->name,
                    spec->value);
            return -EINVAL;
        }
        attached = p->argv[p->at++];
    }
    p->out->values[i] = attached;
    return 0;
}

static int parse_option(struct parser *p, const char *word)
{
    int i;
    const char *attached = NULL;
    if (word[1] == '-') {
        const char *name = word + 2;
        const char *equals = strchrnul(name, '=');
        i = find_long(p->out->specs, name, (size_t)(equals - name));
        attached = *equals ? equals + 1 : NULL;
    } else {
        i = find_short(p->out->specs, word[1]);
        attached = word[2] ? word + 2 : NULL;
    }
    if (i < 0) {
        fprintf(stderr, "zerofs: unknown option %s; --help shows what there is\n", word);
        return -EINVAL;
    }
    return set_option(p, i, attached);
}

static int parse_positional(struct parser *p, const char *word)
{
    for (int i = 0; p->out->specs[i].name; i++) {
        if (p->out->specs[i].positional && !p->out->values[i]) {
            p->out->values[i] = word;
            return 0;
        }
    }
    fprintf(stderr, "zerofs: unexpected word '%s'; --help shows how it goes\n", word);
    return -EINVAL;
}

int args_parse(const struct arg_spec *specs, int argc, char **argv, struct args *ret_args)
{
    *ret_args = (struct args){.specs = specs};
    struct parser p = {.out = ret_args, .argc = argc, .argv = argv};
    bool only_words = false;
    while (p.at < argc) {
        const char *word = argv[p.at++];
        int r;
        if (!only_words && strcmp(word, "--") == 0) {
            only_words = true;
            continue;
        }
        if (!only_words && (strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0)) {
            ret_args->help = true;
            return 0;
        }
        if (!only_words && word[0] == '-' && word[1]) {
            r = parse_option(&p, word);
        } else {
            r = parse_positional(&p, word);
        }
        if (r < 0) {
            return r;
        }
    }
    return 0;
}

const char *args_get(const struct args *a, const char *name)
{
    int i = find_long(a->specs, name, strlen(name));
    ASSERT(i < ARGS_MAX);
    return i < 0 ? NULL : a->values[i];
}

bool args_has(const struct args *a, const char *name)
{
    return args_get(a, name) != NULL;
}

void args_usage(const struct arg_spec *specs, const char *words, const char *summary)
{
    printf("usage: zerofs %s", words);
    for (int i = 0; specs[i].name; i++) {
        if (specs[i].positional) {
            printf(" [%s]", specs[i].value);
        }
    }
    printf(" [options]\n%s\n\n", summary);
    for (int i = 0; specs[i].name; i++) {
        char option[64];
        char letter[8] = "";
        if (specs[i].letter) {
            snprintf(letter, sizeof letter, "-%c, ", specs[i].letter);
        }
        snprintf(option, sizeof option, "%s--%s%s%s", letter, specs[i].name,
                 specs[i].value ? " " : "", specs[i].value ? specs[i].value : "");
        printf("  %-28s %s\n", option, specs[i].help);
    }
}
