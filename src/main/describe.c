/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `zerofs iscsi apply` and `zerofs iscsi export`: the files. What they mean is in ctl/ops_apply.c.
 * Files that a description names for secrets are read here, with the rights of who calls, and go
 * into the request; relative names begin at the description's folder.
 */
#include "base/err.h"
#include "main/commands.h"
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

/* "folder of path/name", or name when it is absolute; to be freed. */
static char *beside(const char *path, const char *name)
{
    const char *slash = strrchr(path, '/');
    char *joined = NULL;
    if (name[0] == '/' || !slash) {
        return strdup(name);
    }
    int n = asprintf(&joined, "%.*s/%s", (int)(slash - path), path, name);
    return n < 0 ? NULL : joined;
}

/* "secret_file" and "secret" of an account become "secret_hex": false after a message. */
static bool take_secret(const char *path, json_t *account)
{
    const char *file = json_string_value(json_object_get(account, "secret_file"));
    const char *text = json_string_value(json_object_get(account, "secret"));
    struct crypt_secret *secret = NULL;
    if (text) {
        const char *fault = access_chap_fault(text, strlen(text));
        if (fault) {
            fprintf(stderr, "zerofs: %s: %s\n", path, fault);
            return false;
        }
        secret = crypt_secret_create(text, strlen(text));
    } else if (file) {
        char *name = beside(path, file);
        int r = name ? access_read_line(name, access_chap_fault, stderr, &secret) : -ENOMEM;
        free(name);
        if (r < 0) {
            return false;
        }
    } else {
        return true;
    }
    bool good = secret && access_put(account, "secret_hex", secret) == 0;
    crypt_secret_free(secret);
    json_object_del(account, "secret");
    json_object_del(account, "secret_file");
    return good;
}

static bool take_secrets(const char *path, json_t *scope)
{
    json_t *auth = json_object_get(scope, "auth");
    size_t i;
    json_t *account;
    json_array_foreach(json_object_get(auth, "accounts"), i, account)
    {
        if (!take_secret(path, account)) {
            return false;
        }
    }
    return take_secret(path, json_object_get(auth, "mutual"));
}

/* The description in a file, with its secrets; NULL after a message. */
static json_t *load(const char *path)
{
    json_error_t error;
    bool is_input = strcmp(path, "-") == 0;
    json_t *d = is_input ? json_loadf(stdin, JSON_REJECT_DUPLICATES, &error)
                         : json_load_file(path, JSON_REJECT_DUPLICATES, &error);
    if (!d) {
        fprintf(stderr, "zerofs: %s:%d: %s\n", is_input ? "standard input" : path, error.line,
                error.text);
        return NULL;
    }
    bool good = take_secrets(path, json_object_get(d, "discovery"));
    size_t i;
    json_t *target;
    json_array_foreach(json_object_get(d, "targets"), i, target)
    {
        good = good && take_secrets(path, target);
    }
    if (!good) {
        json_decref(d);
        return NULL;
    }
    return d;
}

/* Has the request carried out and its answer shown. Takes the request over. */
static int ask(const struct args *a, json_t *request, json_t **ret_response)
{
    int code = OPS_FAILED;
    struct config *config = request ? command_config(a, &code) : NULL;
    if (config) {
        *ret_response = oneshot_run(config, request, args_has(a, "takeover"), a);
        code = *ret_response ? (int)ops_exit_of(*ret_response) : OPS_FAILED;
    }
    config_free(config);
    json_decref(request);
    return code;
}

int command_apply(const struct args *a)
{
    const char *path = args_get(a, "file");
    json_t *response = NULL;
    if (!path) {
        fprintf(stderr, "zerofs: the file with the description is needed; - is standard input\n");
        return OPS_USAGE;
    }
    (void)prctl(PR_SET_DUMPABLE, 0); /* the request holds secrets in memory of all kinds */
    json_t *description = load(path);
    if (!description) {
        return OPS_USAGE;
    }
    json_t *request =
        json_pack("{s:s, s:o, s:b, s:b, s:b, s:b}", "op", "iscsi.apply", "description", description,
                  "dry_run", args_has(a, "dry-run"), "force", args_has(a, "force"), "disconnect",
                  args_has(a, "disconnect"), "store_in_clear", args_has(a, "store-in-clear"));
    int code = ask(a, request, &response);
    if (response) {
        code = command_show("iscsi.apply", a, response);
    }
    json_decref(response);
    return code;
}

/* Written for its owner alone: 0 or -errno. */
static int save(const char *path, const json_t *description)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0) {
        return -errno;
    }
    FILE *f = fchmod(fd, 0600) == 0 ? fdopen(fd, "w") : NULL;
    if (!f) {
        int r = -errno;
        (void)close(fd);
        return r;
    }
    int r = json_dumpf(description, f, JSON_INDENT(2)) == 0 && fputc('\n', f) != EOF ? 0 : -EIO;
    return fclose(f) == 0 ? r : -errno;
}

int command_export(const struct args *a)
{
    const char *path = args_get(a, "file");
    bool secrets = args_has(a, "with-secrets");
    json_t *response = NULL;
    if (secrets && !path) {
        fprintf(stderr, "zerofs: secrets are written into a file only: name one\n");
        return OPS_USAGE;
    }
    (void)prctl(PR_SET_DUMPABLE, 0);
    int code =
        ask(a, json_pack("{s:s, s:b}", "op", "iscsi.export", "with_secrets", secrets), &response);
    if (code == OPS_OK && path) {
        int r = save(path, json_object_get(response, "result"));
        if (r < 0) {
            fprintf(stderr, "zerofs: %s: %s\n", path, err_text(r));
            code = OPS_FAILED;
        }
    } else if (response) {
        code = command_show("iscsi.export", a, response);
    }
    json_decref(response);
    return code;
}
