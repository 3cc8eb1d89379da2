/* SPDX-License-Identifier: Apache-2.0 */
/* The file's text, and what TOML makes of it. It may hold a password: no copy is left behind. */
#include "base/err.h"
#include "ctl/config.h"
#include "ctl/config_priv.h"
#include "ctl/toml.h"
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/mman.h>

#define CONFIG_BYTES_MAX (1u << 20)
#define PARSER_STACK_BYTES (2u << 20)

int config_read_text(const char *path, FILE *errors, char **ret_text, size_t *ret_len)
{
    FILE *f = fopen(path, "re");
    if (!f) {
        int r = -errno;
        fprintf(errors, "%s: cannot be read: %s\n", path, err_text(r));
        return r;
    }
    (void)setvbuf(f, NULL, _IONBF, 0); /* no copy of what may be a password */
    char *text = malloc(CONFIG_BYTES_MAX + 1);
    size_t len = text ? fread(text, 1, CONFIG_BYTES_MAX + 1, f) : 0;
    int r = !text ? -ENOMEM : ferror(f) ? -EIO : len > CONFIG_BYTES_MAX ? -EFBIG : 0;
    (void)fclose(f);
    if (r < 0) {
        free(text);
        fprintf(errors, "%s: cannot be read: %s\n", path, err_text(r));
        return r;
    }
    *ret_text = text;
    *ret_len = len;
    return 0;
}

struct parse {
    const char *text;
    size_t len;
    struct toml_doc *doc;
    const struct config_fault *fault;
    int result;
};

static void *parse_job(void *arg)
{
    struct parse *p = arg;
    p->result =
        toml_parse(p->text, p->len, p->doc, p->fault->line, p->fault->why, p->fault->why_cap);
    return NULL;
}

/* Parses on a stack that is thrown away: the parser leaves strings there, and one may be a
 * password. */
int config_parse_apart(const char *text, size_t len, struct toml_doc *ret_doc,
                       const struct config_fault *fault)
{
    struct parse p = {text, len, ret_doc, fault, 0};
    void *stack = mmap(NULL, PARSER_STACK_BYTES, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);
    if (stack == MAP_FAILED) {
        return -ENOMEM;
    }
    pthread_attr_t attr;
    pthread_t thread;
    int r = pthread_attr_init(&attr);
    if (r == 0) {
        r = pthread_attr_setstack(&attr, stack, PARSER_STACK_BYTES);
        if (r == 0) {
            r = pthread_create(&thread, &attr, parse_job, &p);
        }
        (void)pthread_attr_destroy(&attr);
    }
    if (r == 0) {
        r = pthread_join(thread, NULL);
    }
    (void)munmap(stack, PARSER_STACK_BYTES);
    return r > 0 ? -r : p.result;
}
