/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One page of header, then slots, mapped shared. The header is written last, so that a file that is
 * half made is not believed. Nothing here is ever synchronized to the disk: whatever a power
 * failure leaves is from another boot.
 */
#include "dev/witness.h"
#include "base/err.h"
#include "base/msg.h"
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define MAGIC "ZFSWITN1"
#define HEADER_BYTES 4096u
#define BOOT_ID "/proc/sys/kernel/random/boot_id"

struct slot {
    struct uuid device;
    _Atomic uint64_t batch;
    uint64_t taken;
};

struct header {
    char magic[8];
    char boot[40];
    struct dev_witness_scope scope;
};

struct dev_witness {
    struct header *header;
    struct slot *slots;
    char boot[40];
    bool believed; /* what the last server left can be used */
    uint32_t used;
};

#define FILE_BYTES (HEADER_BYTES + DEV_WITNESS_SLOTS * sizeof(struct slot))

static int boot_id(char ret[40])
{
    int fd = open(BOOT_ID, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return -errno;
    }
    ssize_t n = read(fd, ret, 36);
    (void)close(fd);
    return n == 36 ? 0 : -EIO;
}

/* The whole file has its blocks before it is mapped: a full disk is an error here, not a SIGBUS. */
static int map_file(const char *path, void **ret_map)
{
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0) {
        return -errno;
    }
    int r = -posix_fallocate(fd, 0, (off_t)FILE_BYTES);
    if (r == 0) {
        void *map = mmap(NULL, FILE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        if (map == MAP_FAILED) {
            r = -errno;
        } else {
            *ret_map = map;
        }
    }
    (void)close(fd);
    return r;
}

struct dev_witness *dev_witness_open(const char *path)
{
    if (!path) {
        return NULL;
    }
    struct dev_witness *w = calloc(1, sizeof *w);
    void *map = NULL;
    int r = w ? boot_id(w->boot) : -ENOMEM;
    if (r == 0) {
        r = map_file(path, &map);
    }
    if (r < 0 || !map) {
        msg_warn("dev",
                 "%s cannot be used (%s): should the server be killed, clients may be told "
                 "of lost writes where none were lost",
                 path, err_text(r));
        free(w);
        return NULL;
    }
    w->header = map;
    w->slots = (void *)((uint8_t *)map + HEADER_BYTES);
    w->believed = memcmp(w->header->magic, MAGIC, 8) == 0 &&
                  memcmp(w->header->boot, w->boot, sizeof w->boot) == 0;
    return w;
}

void dev_witness_close(struct dev_witness *w)
{
    if (w) {
        (void)munmap(w->header, FILE_BYTES);
        free(w);
    }
}

bool dev_witness_clears(const struct dev_witness *w, const struct dev_witness_scope *scope,
                        const struct uuid *device, uint64_t stored)
{
    if (!w || !w->believed || w->header->scope.epoch != scope->epoch ||
        !uuid_equal(&w->header->scope.volume, &scope->volume)) {
        return false;
    }
    for (size_t i = 0; i < DEV_WITNESS_SLOTS && w->slots[i].taken; i++) {
        if (uuid_equal(&w->slots[i].device, device)) {
            return atomic_load(&w->slots[i].batch) <= stored;
        }
    }
    return false;
}

void dev_witness_begin(struct dev_witness *w, const struct dev_witness_scope *scope)
{
    if (!w) {
        return;
    }
    w->believed = false;
    memset(w->header->magic, 0, sizeof w->header->magic);
    atomic_thread_fence(memory_order_seq_cst);
    memset(w->slots, 0, DEV_WITNESS_SLOTS * sizeof(struct slot));
    w->header->scope = *scope;
    memcpy(w->header->boot, w->boot, sizeof w->boot);
    atomic_thread_fence(memory_order_seq_cst);
    memcpy(w->header->magic, MAGIC, 8);
}

_Atomic uint64_t *dev_witness_slot(struct dev_witness *w, const struct uuid *device)
{
    if (!w || w->used == DEV_WITNESS_SLOTS) {
        return NULL;
    }
    struct slot *s = &w->slots[w->used++];
    s->device = *device;
    s->taken = 1;
    return &s->batch;
}
