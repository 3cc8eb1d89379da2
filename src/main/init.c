/* SPDX-License-Identifier: Apache-2.0 */
#include "base/err.h"
#include "main/commands.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

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
    int r = fputs(text, f) < 0 ? -EIO : 0;
    return fclose(f) != 0 ? -EIO : r;
}

int command_init(const struct args *a)
{
    const char *path = args_get(a, "path") ? args_get(a, "path") : CONFIG_DEFAULT_NAME;
    bool to_stdout = strcmp(path, "-") == 0;
    const char *given = args_get(a, "data");
    if (given && given[0] != '/') {
        fprintf(stderr, "zerofs: --data: '%s' is not an absolute path\n", given);
        return OPS_USAGE;
    }
    auto_free char *folder =
        given ? strdup(given) : data_folder(to_stdout ? CONFIG_DEFAULT_NAME : path);
    auto_free char *text = folder ? config_template(folder) : NULL;
    if (!text) {
        fprintf(stderr, "zerofs: the current folder cannot be told\n");
        return OPS_FAILED;
    }
    if (to_stdout) {
        return fputs(text, stdout) < 0 || fflush(stdout) != 0 ? OPS_FAILED : OPS_OK;
    }
    int r = write_file(path, text, args_has(a, "force"));
    if (r == -EEXIST) {
        fprintf(stderr, "zerofs: %s is there already; --force overwrites it\n", path);
        return OPS_EXISTS;
    }
    if (r < 0) {
        fprintf(stderr, "zerofs: %s cannot be written: %s\n", path, err_text(r));
        return OPS_FAILED;
    }
    printf("Wrote %s; data will be kept in %s\n", path, folder);
    return OPS_OK;
}
