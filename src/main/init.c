/* SPDX-License-Identifier: Apache-2.0 */
#include "base/err.h"
#include "base/rng.h"
#include "main/commands.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define PASSWORD_SIZE (5 * 9 + 1)

/* The absolute folder of path's data: the path's own folder, with zerofs-data behind it. To be
 * freed. */
static char *data_folder(const char *path)
{
    const char *slash = strrchr(path, '/');
    int dir_len = slash ? (int)(slash - path) : 0;
    char *folder = NULL;
    if (path[0] == '/') {
        return asprintf(&folder, "%.*s/zerofs-data", dir_len, path) < 0 ? NULL : folder;
    }
    auto_free char *cwd = getcwd(NULL, 0);
    if (!cwd) {
        return NULL;
    }
    const char *root = strcmp(cwd, "/") == 0 ? "" : cwd;
    int n = asprintf(&folder, "%s%s%.*s/zerofs-data", root, dir_len ? "/" : "", dir_len, path);
    return n < 0 ? NULL : folder;
}

static int write_file(const char *path, const char *text, bool overwrite)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC | (overwrite ? O_TRUNC : O_EXCL), 0600);
    if (fd < 0) {
        return -errno;
    }
    FILE *f = fdopen(fd, "w");
    if (!f) {
        (void)close(fd);
        return -ENOMEM;
    }
    int r = fputs(text, f) < 0 || fflush(f) != 0 || fsync(fd) < 0 ? -EIO : 0;
    return fclose(f) != 0 ? -EIO : r;
}

/* A file of its own beside the configuration: zerofs.toml has zerofs.password. Absolute, to be
 * freed. */
static char *password_path(const char *path)
{
    const char *slash = strrchr(path, '/');
    const char *dot = strrchr(path, '.');
    size_t len =
        dot && (!slash || dot > slash + 1) && dot != path ? (size_t)(dot - path) : strlen(path);
    auto_free char *cwd = path[0] == '/' ? strdup("") : getcwd(NULL, 0);
    char *text = NULL;
    if (!cwd) {
        return NULL;
    }
    const char *root = strcmp(cwd, "/") == 0 ? "" : cwd;
    int n = asprintf(&text, "%s%s%.*s.password", root, path[0] == '/' ? "" : "/", (int)len, path);
    return n < 0 ? NULL : text;
}

/* Five groups of eight letters and digits: 200 bits. */
static void random_password(char text[PASSWORD_SIZE])
{
    static const char letters[] = "abcdefghijkmnpqrstuvwxyz23456789";
    uint8_t random[PASSWORD_SIZE];
    rng_secure(random, sizeof random);
    for (size_t i = 0; i < PASSWORD_SIZE - 2; i++) {
        text[i] = i % 9 == 8 ? '-' : letters[random[i] % 32];
    }
    text[PASSWORD_SIZE - 2] = '\n';
    text[PASSWORD_SIZE - 1] = 0;
    explicit_bzero(random, sizeof random);
}

/*
 * Never overwrites: whoever loses a password loses what it encrypts. With keep, one that is there
 * is used.
 */
static int write_password(const char *path, bool keep)
{
    char text[PASSWORD_SIZE];
    random_password(text);
    int r = write_file(path, text, false);
    explicit_bzero(text, sizeof text);
    if (r == -EEXIST && keep) {
        printf("Kept the password in %s\n", path);
        return OPS_OK;
    }
    if (r < 0) {
        fprintf(stderr, "zerofs: %s %s%s\n", path,
                r == -EEXIST
                    ? "is there already, and may be some volume's password; --force uses it"
                    : "cannot be written: ",
                r == -EEXIST ? "" : err_text(r));
        return r == -EEXIST ? OPS_EXISTS : OPS_FAILED;
    }
    printf("Wrote a random password to %s. Keep a copy in a safe place: whoever loses it loses the "
           "data\n",
           path);
    return OPS_OK;
}

/* Both files, the password first: a configuration without one is of no use. */
static int write_files(const struct args *a, const char *path, const char *password,
                       const char *text)
{
    bool force = args_has(a, "force");
    if (!force && access(path, F_OK) == 0) {
        fprintf(stderr, "zerofs: %s is there already; --force overwrites it\n", path);
        return OPS_EXISTS;
    }
    int code = password ? write_password(password, force) : OPS_OK;
    if (code != OPS_OK) {
        return code;
    }
    int r = write_file(path, text, force);
    if (r < 0) {
        fprintf(stderr, "zerofs: %s cannot be written: %s\n", path, err_text(r));
        return r == -EEXIST ? OPS_EXISTS : OPS_FAILED;
    }
    return OPS_OK;
}

int command_init(const struct args *a)
{
    const char *path = args_get(a, "path") ? args_get(a, "path") : CONFIG_DEFAULT_NAME;
    bool to_stdout = strcmp(path, "-") == 0;
    const char *given = args_get(a, "data");
    const char *chosen = args_get(a, "password-file");
    if (chosen && chosen[0] != '/') {
        fprintf(stderr, "zerofs: --password-file: '%s' is not an absolute path\n", chosen);
        return OPS_USAGE;
    }
    if (given && given[0] != '/') {
        fprintf(stderr, "zerofs: --data: '%s' is not an absolute path\n", given);
        return OPS_USAGE;
    }
    auto_free char *folder =
        given ? strdup(given) : data_folder(to_stdout ? CONFIG_DEFAULT_NAME : path);
    bool clear = args_has(a, "unencrypted");
    auto_free char *password = clear    ? NULL
                               : chosen ? strdup(chosen)
                                        : password_path(to_stdout ? CONFIG_DEFAULT_NAME : path);
    auto_free char *text = folder && (clear || password) ? config_template(folder, password) : NULL;
    if (!text) {
        fprintf(stderr, "zerofs: the current folder cannot be told\n");
        return OPS_FAILED;
    }
    if (to_stdout) {
        return fputs(text, stdout) < 0 || fflush(stdout) != 0 ? OPS_FAILED : OPS_OK;
    }
    int code = write_files(a, path, password, text);
    if (code != OPS_OK) {
        return code;
    }
    printf("Wrote %s; data will be kept in %s\n", path, folder);
    return OPS_OK;
}
