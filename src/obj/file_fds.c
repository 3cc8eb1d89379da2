/* SPDX-License-Identifier: Apache-2.0 */
#include "base/assert.h"
#include "obj/file_priv.h"
#include <string.h>
#include <unistd.h>

void file_fds_init(struct file_fds *c)
{
    *c = (struct file_fds){0};
    rt_mutex_init(&c->m);
}

static void entry_free(struct file_fd *e)
{
    (void)close(e->fd);
    free(e->path);
    free(e);
}

void file_fds_destroy(struct file_fds *c)
{
    for (size_t i = 0; i < FILE_FDS_MAX; i++) {
        if (c->slots[i]) {
            ASSERT(c->slots[i]->refs == 0);
            entry_free(c->slots[i]);
        }
    }
    rt_mutex_destroy(&c->m);
}

static struct file_fd **slot_of(struct file_fds *c, const char *path)
{
    for (size_t i = 0; i < FILE_FDS_MAX; i++) {
        if (c->slots[i] && strcmp(c->slots[i]->path, path) == 0) {
            return &c->slots[i];
        }
    }
    return NULL;
}

struct file_fd *file_fds_find(struct file_fds *c, const char *path)
{
    rt_mutex_lock(&c->m);
    struct file_fd **slot = slot_of(c, path);
    struct file_fd *e = slot ? *slot : NULL;
    if (e) {
        e->refs++;
        e->used = ++c->clock;
    }
    rt_mutex_unlock(&c->m);
    return e;
}

/* An empty slot, or the one used longest ago whose entry nobody uses; NULL when all are in use. */
static struct file_fd **slot_to_fill(struct file_fds *c)
{
    struct file_fd **oldest = NULL;
    for (size_t i = 0; i < FILE_FDS_MAX; i++) {
        struct file_fd *e = c->slots[i];
        if (!e) {
            return &c->slots[i];
        }
        if (e->refs == 0 && (!oldest || e->used < (*oldest)->used)) {
            oldest = &c->slots[i];
        }
    }
    return oldest;
}

struct file_fd *file_fds_keep(struct file_fds *c, const char *path, int fd)
{
    struct file_fd *e = calloc(1, sizeof *e);
    if (e) {
        e->path = strdup(path);
    }
    if (!e || !e->path) {
        free(e);
        (void)close(fd);
        return NULL;
    }
    e->fd = fd;
    e->refs = 1;
    struct file_fd *evicted = NULL;
    rt_mutex_lock(&c->m);
    e->used = ++c->clock;
    struct file_fd **slot = slot_of(c, path) ? NULL : slot_to_fill(c);
    if (slot) {
        evicted = *slot;
        *slot = e;
    } else {
        e->dropped = true; /* no room, or another reader was faster: closed after use */
    }
    rt_mutex_unlock(&c->m);
    if (evicted) {
        entry_free(evicted);
    }
    return e;
}

void file_fds_give(struct file_fds *c, struct file_fd *e)
{
    rt_mutex_lock(&c->m);
    e->refs--;
    bool ends = e->refs == 0 && e->dropped;
    rt_mutex_unlock(&c->m);
    if (ends) {
        entry_free(e);
    }
}

void file_fds_drop(struct file_fds *c, const char *path)
{
    rt_mutex_lock(&c->m);
    struct file_fd **slot = slot_of(c, path);
    struct file_fd *e = slot ? *slot : NULL;
    bool ends = false;
    if (e) {
        *slot = NULL;
        e->dropped = true;
        ends = e->refs == 0;
    }
    rt_mutex_unlock(&c->m);
    if (ends) {
        entry_free(e);
    }
}
