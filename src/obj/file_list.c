/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Listings of the file backend, in byte order of the objects' names.
 *
 * A folder counts as its name with a slash, which gives the order of the full names. Of each folder
 * only the first few candidates that a listing can need are kept while it is read, so that asking
 * for the newest manifest of a million costs no memory. Where folders among the candidates turn out
 * to hold nothing, the folder is read again from the last candidate on.
 */
#include "base/assert.h"
#include "obj/file_priv.h"
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define DEPTH_MAX 16
#define KEEP_SLACK 64

struct level {
    char dir[OBJ_NAME_SIZE]; /* "" or with a slash at its end */
    VEC(char *) keys;        /* full names; those of folders end in a slash */
    size_t next;
    bool cut; /* there may be more after the last key */
};

struct walk {
    struct file_store *f;
    const char *prefix;
    size_t prefix_len;
    const char *after;
    size_t
        want; /* names still wanted, one more than the caller's max: tells whether there are more */
    struct obj_names *names;
    struct level *levels;
    size_t depth;
};

static int compare(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static void keys_cut(struct level *l, size_t to)
{
    if (l->keys.len == 0) {
        return;
    }
    qsort(l->keys.at, l->keys.len, sizeof l->keys.at[0], compare);
    while (l->keys.len > to) {
        free(l->keys.at[--l->keys.len]);
        l->cut = true;
    }
}

static void level_free(struct level *l)
{
    for (size_t i = 0; i < l->keys.len; i++) {
        free(l->keys.at[i]);
    }
    vec_free(&l->keys);
}

/* Whether the name, or what is in the folder of that name, can be part of the listing. */
static bool can_match(const struct walk *w, const char *key, size_t len, bool is_folder)
{
    if (!is_folder) {
        return strncmp(key, w->prefix, w->prefix_len) == 0 && strcmp(key, w->after) > 0;
    }
    return strncmp(key, w->prefix, MIN_OF(len, w->prefix_len)) == 0 &&
           strncmp(key, w->after, len) >= 0;
}

/* Takes one entry of a folder as a candidate. floor: only names after it (a second reading). */
static int offer(const struct walk *w, struct level *l, const char *entry, bool is_folder,
                 const char *floor)
{
    char key[OBJ_NAME_SIZE + 1];
    int n = snprintf(key, sizeof key, "%s%s%s", l->dir, entry, is_folder ? "/" : "");
    if (n < 0 || (size_t)n >= OBJ_NAME_SIZE || !can_match(w, key, (size_t)n, is_folder) ||
        strcmp(key, floor) <= 0) {
        return 0;
    }
    auto_free char *copy = strdup(key);
    if (!copy) {
        return -ENOMEM;
    }
    int r = vec_push(&l->keys, copy);
    if (r < 0) {
        return r;
    }
    (void)take(copy);
    if (l->keys.len / 2 >= w->want && l->keys.len / 2 - w->want >= KEEP_SLACK) {
        keys_cut(l, w->want);
    }
    return 0;
}

static bool is_folder_entry(int dir_fd, const struct dirent *e)
{
    if (e->d_type != DT_UNKNOWN) {
        return e->d_type == DT_DIR;
    }
    int fd = openat(dir_fd, e->d_name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd >= 0) {
        (void)close(fd);
    }
    return fd >= 0;
}

static bool is_hidden(const struct level *l, const char *entry)
{
    bool root = l->dir[0] == '\0';
    return strcmp(entry, ".") == 0 || strcmp(entry, "..") == 0 ||
           (root && strcmp(entry, FILE_TEMP) == 0);
}

/* Reads one folder on disk into the level. A folder that is not there is empty. */
static int read_folder(const struct walk *w, struct level *l, const char *path, const char *floor)
{
    int fd = openat(w->f->root_fd, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) {
        return errno == ENOENT ? 0 : -errno;
    }
    DIR *d = fdopendir(fd);
    if (!d) {
        int r = -errno;
        (void)close(fd);
        return r;
    }
    int r = 0;
    struct dirent *e;
    errno = 0;
    while (r == 0 && (e = readdir(d)) != NULL) {
        if (!is_hidden(l, e->d_name)) {
            r = offer(w, l, e->d_name, is_folder_entry(fd, e), floor);
        }
        errno = 0;
    }
    if (r == 0 && errno != 0) {
        r = -errno;
    }
    (void)closedir(d);
    return r;
}

static int level_read(const struct walk *w, struct level *l, const char *floor)
{
    l->next = 0;
    l->cut = false;
    int r = 0;
    if (strcmp(l->dir, FILE_SHARDED) == 0) {
        for (unsigned i = 0; i < 256 && r == 0; i++) {
            char shard[sizeof FILE_SHARDED + 2];
            (void)snprintf(shard, sizeof shard, FILE_SHARDED "%02x", i);
            r = read_folder(w, l, shard, floor);
        }
    } else {
        r = read_folder(w, l, l->dir[0] == '\0' ? "." : l->dir, floor);
    }
    keys_cut(l, w->want);
    return r;
}

static int push(struct walk *w, const char *dir)
{
    if (w->depth == DEPTH_MAX) {
        return 0; /* deeper than any name of ours */
    }
    struct level *l = &w->levels[w->depth++];
    *l = (struct level){0};
    memcpy(l->dir, dir, strlen(dir) + 1);
    return level_read(w, l, "");
}

/* All candidates of the level are done: reads on where they were cut, or leaves the folder. */
static int level_ends(struct walk *w, struct level *l)
{
    if (!l->cut) {
        level_free(l);
        w->depth--;
        return 0;
    }
    auto_free char *floor = take(l->keys.at[l->keys.len - 1]);
    l->keys.len--;
    level_free(l);
    return level_read(w, l, floor);
}

static int step(struct walk *w)
{
    struct level *l = &w->levels[w->depth - 1];
    if (l->next == l->keys.len) {
        return level_ends(w, l);
    }
    const char *key = l->keys.at[l->next++];
    size_t len = strlen(key);
    if (key[len - 1] == '/') {
        return push(w, key);
    }
    w->want--;
    if (w->want == 0) {
        w->names->more = true;
        return 0;
    }
    return obj_names_add(w->names, key);
}

int file_list_run(struct file_store *f, const char *prefix, const char *after, size_t max,
                  struct obj_names *ret_names)
{
    if (strlen(prefix) >= OBJ_NAME_SIZE || strlen(after) >= OBJ_NAME_SIZE) {
        return -EINVAL;
    }
    if (faccessat(f->root_fd, FILE_TEMP, F_OK, 0) < 0 && errno == ENOENT) {
        return file_missing(f);
    }
    struct walk w = {
        .f = f,
        .prefix = prefix,
        .prefix_len = strlen(prefix),
        .after = after,
        .want = max == SIZE_MAX ? SIZE_MAX : max + 1,
        .names = ret_names,
    };
    w.levels = calloc(DEPTH_MAX, sizeof *w.levels);
    if (!w.levels) {
        return -ENOMEM;
    }
    int r = push(&w, "");
    while (r == 0 && w.depth > 0 && w.want > 0) {
        r = step(&w);
    }
    while (w.depth > 0) {
        level_free(&w.levels[--w.depth]);
    }
    free(w.levels);
    return r;
}
