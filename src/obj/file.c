/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The store "file://": a local folder.
 *
 * A NAME APPEARS WHOLE OR NOT AT ALL. The bytes go to a file in tmp/, are synced, and are given the
 * object's name with link(2), which fails with EEXIST when the name is taken: that is the
 * put-if-absent, and it holds between processes. Then the folder is synced. A name that was there
 * already is synced as well before EEXIST is said, for the caller may find that it is its own
 * object from an attempt that broke off between the two.
 *
 * LEFT-OVERS. A temporary file is locked (flock) by its writer as long as it lives. Opening a store
 * removes those that nobody has locked, and syncs every folder, so that what a process wrote that
 * was killed before its last sync is as durable as what is read.
 *
 * A STORE THAT IS GONE. Everything is reached through a descriptor of the root, and tmp/ is made at
 * open only. A name that is missing while tmp/ is missing too is not a missing object but a missing
 * store: -ESTALE. Nothing makes the root again.
 *
 * FOLDERS. Segments lie in 256 folders by the last two digits of their number. Other objects lie at
 * their names.
 */
#include "base/assert.h"
#include "base/err.h"
#include "base/msg.h"
#include "base/rng.h"
#include "obj/file_priv.h"
#include <dirent.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#define IOV_BATCH 128
#define SEGMENT_DIGITS 16
#define TEMP_SIZE 64

static struct file_store *of(struct obj_store *s)
{
    return container_of(s, struct file_store, base);
}

bool file_is_sharded_name(const char *name)
{
    size_t prefix = strlen(FILE_SHARDED);
    return strncmp(name, FILE_SHARDED, prefix) == 0 && strlen(name) == prefix + SEGMENT_DIGITS &&
           strspn(name + prefix, "0123456789abcdef") == SEGMENT_DIGITS;
}

/* Where the object lies below the root. -EINVAL for names that would meet the backend's own
 * folders. */
static int path_of(const char *name, char ret_path[FILE_PATH_SIZE])
{
    if (file_is_sharded_name(name)) {
        const char *digits = name + strlen(FILE_SHARDED);
        (void)snprintf(ret_path, FILE_PATH_SIZE, "%s%s/%s", FILE_SHARDED,
                       digits + SEGMENT_DIGITS - 2, digits);
        return 0;
    }
    bool reserved = strncmp(name, FILE_TEMP "/", strlen(FILE_TEMP) + 1) == 0 ||
                    strcmp(name, FILE_TEMP) == 0 ||
                    strncmp(name, FILE_SHARDED, strlen(FILE_SHARDED)) == 0;
    if (reserved) {
        return -EINVAL;
    }
    (void)snprintf(ret_path, FILE_PATH_SIZE, "%s", name);
    return 0;
}

int file_missing(struct file_store *f)
{
    if (faccessat(f->root_fd, FILE_TEMP, F_OK, 0) == 0 || errno != ENOENT) {
        return -ENOENT;
    }
    if (!atomic_exchange(&f->said_gone, true)) {
        msg_error("obj",
                  "the store's folder %s is gone; nothing is created there again before "
                  "the next start",
                  f->folder);
    }
    return -ESTALE;
}

static int sync_folder_of(struct file_store *f, const char *path)
{
    char folder[FILE_PATH_SIZE];
    const char *slash = strrchr(path, '/');
    size_t len = slash ? (size_t)(slash - path) : 1;
    memcpy(folder, slash ? path : ".", len);
    folder[len] = '\0';
    int fd = openat(f->root_fd, folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) {
        return -errno;
    }
    int r = fsync(fd) < 0 ? -errno : 0;
    (void)close(fd);
    return r;
}

/* Makes the folders above path, each synced into the one above it. */
static int make_folders(struct file_store *f, const char *path)
{
    char folder[FILE_PATH_SIZE];
    for (size_t i = 0; path[i] != '\0'; i++) {
        if (path[i] == '/') {
            folder[i] = '\0';
            if (mkdirat(f->root_fd, folder, 0755) < 0 && errno != EEXIST) {
                return errno == ENOENT ? file_missing(f) : -errno;
            }
            int r = sync_folder_of(f, folder);
            if (r < 0) {
                return r;
            }
        }
        folder[i] = path[i];
    }
    return 0;
}

struct put_job {
    struct file_store *f;
    const char *path;
    const struct rt_chain *body;
    char temp[TEMP_SIZE];
    int fd;
};

static int write_all(int fd, struct iovec *iov, size_t count)
{
    while (count > 0) {
        ssize_t n = writev(fd, iov, (int)count);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            return -errno;
        }
        for (; count > 0 && (size_t)n >= iov->iov_len; iov++, count--) {
            n -= (ssize_t)iov->iov_len;
        }
        if (count > 0) {
            iov->iov_base = (uint8_t *)iov->iov_base + n;
            iov->iov_len -= (size_t)n;
        }
    }
    return 0;
}

static int write_chain(int fd, const struct rt_chain *body)
{
    struct iovec iov[IOV_BATCH];
    const struct rt_piece *p = rt_chain_pieces(body);
    size_t filled = 0;
    for (uint32_t i = 0; i < body->count; i++) {
        iov[filled++] = (struct iovec){(void *)(uintptr_t)p[i].data, p[i].len};
        if (filled == IOV_BATCH || i + 1 == body->count) {
            int r = write_all(fd, iov, filled);
            if (r < 0) {
                return r;
            }
            filled = 0;
        }
    }
    return 0;
}

static int temp_write(struct put_job *j)
{
    struct file_store *f = j->f;
    (void)snprintf(j->temp, sizeof j->temp, FILE_TEMP "/%016" PRIx64 "-%" PRIu64, f->temp_tag,
                   atomic_fetch_add(&f->temp_count, 1));
    j->fd = openat(f->root_fd, j->temp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
    if (j->fd < 0) {
        return errno == ENOENT ? file_missing(f) : -errno;
    }
    (void)flock(j->fd, LOCK_SH | LOCK_NB);
    int r = write_chain(j->fd, j->body);
    if (r == 0 && fsync(j->fd) < 0) {
        r = -errno;
    }
    return r;
}

/* The name was taken: makes sure that what holds it is durable. */
static int settle_existing(struct put_job *j)
{
    int fd = openat(j->f->root_fd, j->path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return errno == ENOENT ? -EAGAIN : -errno; /* removed in between: the caller asks again */
    }
    int r = fsync(fd) < 0 ? -errno : 0;
    (void)close(fd);
    if (r == 0) {
        r = sync_folder_of(j->f, j->path);
    }
    return r < 0 ? r : -EEXIST;
}

static int temp_link(struct put_job *j)
{
    int root = j->f->root_fd;
    int bad = linkat(root, j->temp, root, j->path, 0) < 0 ? errno : 0;
    if (bad == ENOENT) {
        int r = make_folders(j->f, j->path);
        if (r < 0) {
            return r;
        }
        bad = linkat(root, j->temp, root, j->path, 0) < 0 ? errno : 0;
    }
    if (bad == EEXIST) {
        return settle_existing(j);
    }
    if (bad != 0) {
        return bad == ENOENT ? -EAGAIN : -bad; /* an opener took our file for a left-over */
    }
    return sync_folder_of(j->f, j->path);
}

static int put_run(void *arg)
{
    struct put_job *j = arg;
    j->fd = -1;
    int r = temp_write(j);
    if (r == 0) {
        r = temp_link(j);
    }
    if (j->fd >= 0) {
        (void)unlinkat(j->f->root_fd, j->temp, 0);
        (void)close(j->fd);
    }
    return r;
}

static int file_put(struct obj_store *s, enum obj_class c, const char *name,
                    const struct rt_chain *body)
{
    char path[FILE_PATH_SIZE];
    int r = path_of(name, path);
    if (r < 0) {
        return r;
    }
    struct put_job j = {.f = of(s), .path = path, .body = body};
    return rt_offload(obj_offload_kind(c), put_run, &j);
}

struct get_job {
    struct file_store *f;
    const char *path;
    uint64_t off;
    uint8_t *dst;
    size_t len;
    size_t done;
};

static int read_all(int fd, struct get_job *j)
{
    while (j->done < j->len) {
        ssize_t n = pread(fd, j->dst + j->done, j->len - j->done, (off_t)(j->off + j->done));
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            return n < 0 ? -errno : 0;
        }
        j->done += (size_t)n;
    }
    return 0;
}

static int get_run(void *arg)
{
    struct get_job *j = arg;
    struct file_fd *e = file_fds_find(&j->f->fds, j->path);
    if (!e) {
        int fd = openat(j->f->root_fd, j->path, O_RDONLY | O_CLOEXEC);
        if (fd < 0) {
            return errno == ENOENT ? file_missing(j->f) : -errno;
        }
        e = file_fds_keep(&j->f->fds, j->path, fd);
        if (!e) {
            return -ENOMEM;
        }
    }
    int r = read_all(e->fd, j);
    file_fds_give(&j->f->fds, e);
    return r;
}

/* Reads what the page cache holds without a thread: true when all of it was there. */
static bool get_cached(struct get_job *j)
{
    if (rt_is_sim()) {
        return false;
    }
    struct file_fd *e = file_fds_find(&j->f->fds, j->path);
    if (!e) {
        return false;
    }
    struct iovec iov = {j->dst, j->len};
    ssize_t n = preadv2(e->fd, &iov, 1, (off_t)j->off, RWF_NOWAIT);
    file_fds_give(&j->f->fds, e);
    j->done = n > 0 ? (size_t)n : 0;
    return j->done == j->len;
}

static ssize_t file_get(struct obj_store *s, enum obj_class c, const char *name, uint64_t off,
                        void *dst, size_t len)
{
    char path[FILE_PATH_SIZE];
    int r = path_of(name, path);
    if (r < 0) {
        return r;
    }
    if (off > INT64_MAX || len > INT64_MAX - off) {
        return -EINVAL;
    }
    struct get_job j = {.f = of(s), .path = path, .off = off, .dst = dst, .len = len};
    if (len > 0 && get_cached(&j)) {
        return (ssize_t)len;
    }
    r = rt_offload(obj_offload_kind(c), get_run, &j);
    return r < 0 ? r : (ssize_t)j.done;
}

struct name_job {
    struct file_store *f;
    const char *path;
    uint64_t size;
};

static int head_run(void *arg)
{
    struct name_job *j = arg;
    struct stat st;
    if (fstatat(j->f->root_fd, j->path, &st, AT_SYMLINK_NOFOLLOW) < 0) {
        return errno == ENOENT || errno == ENOTDIR ? file_missing(j->f) : -errno;
    }
    if (!S_ISREG(st.st_mode)) {
        return -ENOENT;
    }
    j->size = (uint64_t)st.st_size;
    return 0;
}

static int file_head(struct obj_store *s, enum obj_class c, const char *name, uint64_t *ret_size)
{
    char path[FILE_PATH_SIZE];
    int r = path_of(name, path);
    if (r < 0) {
        return r;
    }
    struct name_job j = {.f = of(s), .path = path};
    r = rt_offload(obj_offload_kind(c), head_run, &j);
    if (r == 0) {
        *ret_size = j.size;
    }
    return r;
}

static int remove_run(void *arg)
{
    struct name_job *j = arg;
    file_fds_drop(&j->f->fds, j->path);
    if (unlinkat(j->f->root_fd, j->path, 0) < 0) {
        if (errno != ENOENT) {
            return -errno;
        }
        int r = file_missing(j->f);
        return r == -ENOENT ? 0 : r;
    }
    return 0;
}

static int file_remove(struct obj_store *s, enum obj_class c, const char *name)
{
    char path[FILE_PATH_SIZE];
    int r = path_of(name, path);
    if (r < 0) {
        return r;
    }
    struct name_job j = {.f = of(s), .path = path};
    return rt_offload(obj_offload_kind(c), remove_run, &j);
}

struct list_job {
    struct file_store *f;
    const char *prefix;
    const char *after;
    size_t max;
    struct obj_names *names;
};

static int list_run(void *arg)
{
    struct list_job *j = arg;
    return file_list_run(j->f, j->prefix, j->after, j->max, j->names);
}

static int file_list(struct obj_store *s, enum obj_class c, const char *prefix, const char *after,
                     size_t max, struct obj_names *ret_names)
{
    struct list_job j = {
        .f = of(s), .prefix = prefix, .after = after, .max = max, .names = ret_names};
    return rt_offload(obj_offload_kind(c), list_run, &j);
}

static void file_close(struct obj_store *s)
{
    struct file_store *f = of(s);
    file_fds_destroy(&f->fds);
    (void)close(f->root_fd);
    free(f->folder);
    free(f);
}

static const struct obj_ops file_ops = {
    .name = "file",
    .put = file_put,
    .get = file_get,
    .head = file_head,
    .list = file_list,
    .remove = file_remove,
    .close = file_close,
};

/* Makes one folder and syncs the one above it. A folder that may not be made is no error while it
 * is there. */
static int make_one(char *path)
{
    if (mkdir(path, 0755) < 0) {
        int bad = errno;
        return access(path, F_OK) < 0 ? -bad : 0;
    }
    char *slash = strrchr(path, '/');
    *slash = '\0';
    int fd = open(slash == path ? "/" : path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    *slash = '/';
    if (fd < 0) {
        return -errno;
    }
    int r = fsync(fd) < 0 ? -errno : 0;
    (void)close(fd);
    return r;
}

/* mkdir -p. */
static int make_root(const char *folder)
{
    auto_free char *path = strdup(folder);
    if (!path) {
        return -ENOMEM;
    }
    for (char *at = path + 1;; at++) {
        char ch = *at;
        if (ch != '/' && ch != '\0') {
            continue;
        }
        *at = '\0';
        int r = make_one(path);
        *at = ch;
        if (r < 0 || ch == '\0') {
            return r;
        }
    }
}

/* Removes temporary files that no living writer has locked. */
static void clean_temp(struct file_store *f, int temp_fd)
{
    DIR *d = fdopendir(temp_fd);
    if (!d) {
        (void)close(temp_fd);
        return;
    }
    unsigned removed = 0;
    for (struct dirent *e = readdir(d); e; e = readdir(d)) {
        int fd = openat(dirfd(d), e->d_name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
        if (fd < 0) {
            continue;
        }
        struct stat st;
        if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && flock(fd, LOCK_EX | LOCK_NB) == 0 &&
            unlinkat(dirfd(d), e->d_name, 0) == 0) {
            removed++;
        }
        (void)close(fd);
    }
    (void)closedir(d);
    if (removed > 0) {
        msg_info("obj", "%s: removed %u unfinished files of an earlier run", f->folder, removed);
    }
}

/* Syncs one folder below the root. One that is not there is no error. */
static int sync_one(struct file_store *f, const char *folder)
{
    int fd = openat(f->root_fd, folder, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0) {
        return errno == ENOENT || errno == ENOTDIR ? 0 : -errno;
    }
    int r = fsync(fd) < 0 && errno != EROFS && errno != EINVAL ? -errno : 0;
    (void)close(fd);
    return r;
}

/* Syncs the root, the folders in it, and the folders of segments. */
static int sync_folders(struct file_store *f)
{
    int fd = openat(f->root_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *d = fd < 0 ? NULL : fdopendir(fd);
    if (!d) {
        return -errno;
    }
    int r = 0;
    for (struct dirent *e = readdir(d); e && r == 0; e = readdir(d)) {
        if (strcmp(e->d_name, "..") != 0 && (e->d_type == DT_DIR || e->d_type == DT_UNKNOWN)) {
            r = sync_one(f, e->d_name);
        }
    }
    (void)closedir(d);
    for (unsigned i = 0; i < 256 && r == 0; i++) {
        char shard[sizeof FILE_SHARDED + 2];
        (void)snprintf(shard, sizeof shard, FILE_SHARDED "%02x", i);
        r = sync_one(f, shard);
    }
    return r;
}

static int open_temp(struct file_store *f)
{
    int bad = mkdirat(f->root_fd, FILE_TEMP, 0755) < 0 ? errno : 0;
    int fd = openat(f->root_fd, FILE_TEMP, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) {
        return bad != 0 && bad != EEXIST ? -bad : -errno;
    }
    clean_temp(f, fd);
    return 0;
}

/* Runs in an offload thread. */
static int open_run(void *arg)
{
    struct file_store *f = arg;
    int r = make_root(f->folder);
    if (r < 0) {
        return r;
    }
    f->root_fd = open(f->folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (f->root_fd < 0) {
        return -errno;
    }
    r = open_temp(f);
    return r < 0 ? r : sync_folders(f);
}

int obj_file_open(const char *folder, struct obj_store **ret_store)
{
    if (folder[0] != '/') {
        return -EINVAL;
    }
    struct file_store *f = calloc(1, sizeof *f);
    if (!f) {
        return -ENOMEM;
    }
    f->base.ops = &file_ops;
    f->root_fd = -1;
    rng_secure(&f->temp_tag, sizeof f->temp_tag);
    f->folder = strdup(folder);
    int r = f->folder ? rt_offload(RT_OFFLOAD_IO, open_run, f) : -ENOMEM;
    if (r < 0) {
        msg_error("obj", "cannot open the store's folder %s: %s (%s)", folder, err_text(r),
                  err_name(r));
        if (f->root_fd >= 0) {
            (void)close(f->root_fd);
        }
        free(f->folder);
        free(f);
        return r;
    }
    file_fds_init(&f->fds);
    *ret_store = &f->base;
    return 0;
}
