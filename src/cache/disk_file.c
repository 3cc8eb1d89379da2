/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The disk cache's file, for real. Opening anew puts the new file under the old descriptor, so that
 * readers under way need no care. The file is private to the server's user.
 */
#include "base/crc32c.h"
#include "base/endian.h"
#include "cache/disk_priv.h"
#include "rt/offload.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define FILE_NAME "frames"

struct disk_file {
    char *dir;
    char *path;
    int fd;
};

static int file_open(void *arg)
{
    struct disk_file *f = arg;
    if (mkdir(f->dir, 0700) < 0 && errno != EEXIST) {
        return -errno;
    }
    int fd = open(f->path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0) {
        return -errno;
    }
    if (f->fd < 0) {
        f->fd = fd;
        return 0;
    }
    int r = dup3(fd, f->fd, O_CLOEXEC) < 0 ? -errno : 0;
    (void)close(fd);
    return r;
}

static ssize_t file_read(void *arg, void *dst, size_t len, uint64_t off)
{
    const struct disk_file *f = arg;
    size_t done = 0;
    while (done < len) {
        ssize_t n = pread(f->fd, (uint8_t *)dst + done, len - done, (off_t)(off + done));
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            return n < 0 ? -errno : (ssize_t)done;
        }
        done += (size_t)n;
    }
    return (ssize_t)done;
}

static int file_write(void *arg, const void *src, size_t len, uint64_t off)
{
    const struct disk_file *f = arg;
    struct stat st;
    if (fstat(f->fd, &st) < 0) {
        return -errno;
    }
    if (st.st_nlink == 0) {
        return -ESTALE;
    }
    for (size_t done = 0; done < len;) {
        ssize_t n = pwrite(f->fd, (const uint8_t *)src + done, len - done, (off_t)(off + done));
        if (n < 0 && errno != EINTR) {
            return -errno;
        }
        done += n > 0 ? (size_t)n : 0;
    }
    return 0;
}

static int file_cut(void *arg)
{
    const struct disk_file *f = arg;
    return ftruncate(f->fd, 0) < 0 || fdatasync(f->fd) < 0 ? -errno : 0;
}

static void file_close(void *arg)
{
    struct disk_file *f = arg;
    if (f->fd >= 0) {
        (void)close(f->fd);
    }
    free(f->path);
    free(f->dir);
    free(f);
}

int disk_file_create(const char *dir, struct cache_disk_io *ret_io)
{
    auto_free struct disk_file *f = calloc(1, sizeof *f);
    if (f == NULL) {
        return -ENOMEM;
    }
    f->fd = -1;
    f->dir = strdup(dir);
    if (f->dir == NULL || asprintf(&f->path, "%s/" FILE_NAME, dir) < 0) {
        free(f->dir);
        return -ENOMEM;
    }
    *ret_io = (struct cache_disk_io){.open = file_open,
                                     .read = file_read,
                                     .write = file_write,
                                     .cut = file_cut,
                                     .close = file_close,
                                     .arg = take(f)};
    return 0;
}

struct forgetting {
    char *path;
    struct uuid volume;
};

/* True when the file is another volume's, and says so. */
static bool is_of_another(struct disk_file *f, const struct uuid *volume)
{
    uint8_t h[DISK_HEADER_AT_CRC + 4];
    return file_read(f, h, sizeof h, 0) == (ssize_t)sizeof h &&
           le64_load(h + DISK_HEADER_AT_MAGIC) == DISK_MAGIC &&
           le32_load(h + DISK_HEADER_AT_CRC) == crc32c(0, h, DISK_HEADER_AT_CRC) &&
           memcmp(h + DISK_HEADER_AT_VOLUME, volume, sizeof *volume) != 0;
}

static int forget_job(void *arg)
{
    const struct forgetting *g = arg;
    struct disk_file f = {.fd = open(g->path, O_RDWR | O_CLOEXEC)};
    struct stat st;
    if (f.fd < 0) {
        return errno == ENOENT ? 0 : -errno;
    }
    int r = fstat(f.fd, &st) < 0 ? -errno : 0;
    if (r == 0 && S_ISREG(st.st_mode) && st.st_size > 0 && !is_of_another(&f, &g->volume)) {
        r = file_cut(&f);
    }
    (void)close(f.fd);
    return r;
}

int cache_disk_forget(const char *dir, const struct uuid *volume)
{
    struct forgetting g = {.volume = *volume};
    if (asprintf(&g.path, "%s/" FILE_NAME, dir) < 0) {
        return -ENOMEM;
    }
    int r = rt_offload(RT_OFFLOAD_CACHE, forget_job, &g);
    free(g.path);
    return r;
}
