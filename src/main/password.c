/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `zerofs change-password`. The new secret comes from a file, from a line of standard input, or
 * from a terminal, which is asked twice; never from the command line, which everybody can read.
 */
#include "base/err.h"
#include "ctl/access.h"
#include "main/commands.h"
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <termios.h>
#include <unistd.h>

/* One line of the terminal without echo; NULL after a message. */
static struct crypt_secret *ask(const char *prompt)
{
    struct termios was, quiet;
    struct crypt_secret *s = NULL;
    fprintf(stderr, "%s", prompt);
    if (tcgetattr(STDIN_FILENO, &was) < 0) {
        fprintf(stderr, "the terminal does not answer: %s\n", err_text(-errno));
        return NULL;
    }
    quiet = was;
    quiet.c_lflag &= ~(tcflag_t)ECHO;
    quiet.c_lflag |= ECHONL;
    (void)tcsetattr(STDIN_FILENO, TCSAFLUSH, &quiet);
    struct crypt_secret *line = crypt_secret_create(NULL, ACCESS_PASSWORD_MAX + 1);
    ssize_t n = line ? read(STDIN_FILENO, line->bytes, line->len) : -1;
    (void)tcsetattr(STDIN_FILENO, TCSAFLUSH, &was);
    if (n > 0) {
        size_t len = (size_t)n - (line->bytes[n - 1] == '\n');
        s = crypt_secret_create(line->bytes, len);
    }
    crypt_secret_free(line);
    if (!s) {
        fprintf(stderr, "zerofs: no password was read\n");
    }
    return s;
}

/* Asks twice; NULL after a message. */
static struct crypt_secret *ask_twice(access_fault *check, const char *prompt)
{
    struct crypt_secret *first = ask(prompt);
    struct crypt_secret *again = first ? ask("Once more: ") : NULL;
    bool same =
        again && first->len == again->len && memcmp(first->bytes, again->bytes, first->len) == 0;
    const char *fault = same ? check(first->bytes, first->len) : NULL;
    if (again && !same) {
        fprintf(stderr, "zerofs: these were two; nothing was changed\n");
    } else if (fault) {
        fprintf(stderr, "zerofs: %s\n", fault);
    }
    crypt_secret_free(again);
    if (!same || fault) {
        crypt_secret_free(first);
        return NULL;
    }
    return first;
}

struct crypt_secret *command_secret(const char *file, access_fault *fault, const char *prompt)
{
    struct crypt_secret *s = NULL;
    if (!file && isatty(STDIN_FILENO)) {
        return ask_twice(fault, prompt);
    }
    int r = access_read_line(file ? file : "-", fault, stderr, &s);
    return r < 0 ? NULL : s;
}

/* The new secret; NULL after a message. */
static struct crypt_secret *new_secret(const struct args *a)
{
    struct crypt_secret *s = NULL;
    const char *file = args_get(a, "new-password-file");
    const char *key = args_get(a, "new-key-file");
    if (file && key) {
        fprintf(stderr, "zerofs: --new-password-file or --new-key-file, not both\n");
        return NULL;
    }
    if (!key) {
        return command_secret(file, access_password_fault, "New password: ");
    }
    int r = access_read_file(key, CRYPT_KDF_NONE, stderr, &s);
    return r < 0 ? NULL : s;
}

static json_t *build_request(const struct crypt_secret *secret, bool is_key)
{
    json_t *request = json_pack("{s:s, s:b}", "op", "change-password", "key_file", is_key);
    if (request && access_put(request, "secret", secret) < 0) {
        json_decref(request);
        return NULL;
    }
    return request;
}

/* What the operator has to do now, so that the next start succeeds. */
static void remind(const struct config *c, bool is_key)
{
    const char *what = is_key ? "key" : "password";
    if (!is_key && c->encryption.password_file) {
        printf("Before the next start: the new password has to stand in %s\n",
               c->encryption.password_file);
    } else if (is_key && c->encryption.key_file) {
        printf("Before the next start: the new key has to stand in %s\n", c->encryption.key_file);
    } else {
        printf("Before the next start: [encryption] in %s has to tell the new %s\n", c->path, what);
    }
}

int command_change_password(const struct args *a)
{
    int code;
    bool is_key = args_has(a, "new-key-file");
    struct config *config = command_config(a, &code);
    if (!config) {
        return code;
    }
    json_t *response = NULL;
    if (config->encryption.none) {
        fprintf(stderr, "zerofs: [encryption] in %s says mode = \"none\": there is no password\n",
                config->path);
        config_free(config);
        return OPS_REFUSED;
    }
    (void)prctl(PR_SET_DUMPABLE, 0); /* the request holds the secret in memory of all kinds */
    struct crypt_secret *secret = new_secret(a);
    code = OPS_USAGE;
    if (secret) {
        json_t *request = build_request(secret, is_key);
        crypt_secret_free(secret);
        response = request ? oneshot_run(config, request, false, a) : NULL;
        json_decref(request);
        code = response ? (int)ops_exit_of(response) : OPS_FAILED;
        const json_t *error = json_object_get(response, "error");
        if (code == OPS_OK) {
            printf("The volume opens with the new %s only\n", is_key ? "key" : "password");
            remind(config, is_key);
        } else {
            const char *why = json_string_value(json_object_get(error, "message"));
            fprintf(stderr, "zerofs: %s\n", why ? why : "failed");
        }
    }
    json_decref(response);
    config_free(config);
    return code;
}
