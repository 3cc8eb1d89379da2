/* SPDX-License-Identifier: Apache-2.0 */
#include "fail.h"
#include "rt/buf.h"
#include "rt/rt.h"
#include <errno.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>

static bool armed;
static bool paused;
static uint64_t count;
static uint64_t fail_first;
static uint64_t fail_end;

void fail_arm(uint64_t first, uint64_t burst)
{
    count = 0;
    fail_first = first;
    fail_end = first + burst;
    armed = true;
}

uint64_t fail_disarm(void)
{
    armed = false;
    return count;
}

void fail_pause(void)
{
    paused = true;
}

void fail_resume(void)
{
    paused = false;
}

bool fail_happened(void)
{
    return count >= fail_first;
}

static bool fails(void)
{
    if (!armed || paused) {
        return false;
    }
    count++;
    if (count < fail_first || count >= fail_end) {
        return false;
    }
    errno = ENOMEM;
    return true;
}

/* The names are the linker's. */
#pragma GCC diagnostic ignored "-Wmissing-prototypes"
void *__real_malloc(size_t n);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *p, size_t n);
char *__real_strdup(const char *s);
char *__real_strndup(const char *s, size_t n);
void *__real_aligned_alloc(size_t align, size_t n);
int __real_posix_memalign(void **ret, size_t align, size_t n);
void *__real_mmap(void *at, size_t n, int prot, int flags, int fd, off_t off);

void *__wrap_malloc(size_t n)
{
    return fails() ? NULL : __real_malloc(n);
}

void *__wrap_calloc(size_t n, size_t size)
{
    return fails() ? NULL : __real_calloc(n, size);
}

void *__wrap_realloc(void *p, size_t n)
{
    return fails() ? NULL : __real_realloc(p, n);
}

char *__wrap_strdup(const char *s)
{
    return fails() ? NULL : __real_strdup(s);
}

char *__wrap_strndup(const char *s, size_t n)
{
    return fails() ? NULL : __real_strndup(s, n);
}

void *__wrap_aligned_alloc(size_t align, size_t n)
{
    return fails() ? NULL : __real_aligned_alloc(align, n);
}

int __wrap_posix_memalign(void **ret, size_t align, size_t n)
{
    return fails() ? ENOMEM : __real_posix_memalign(ret, align, n);
}

void *__wrap_mmap(void *at, size_t n, int prot, int flags, int fd, off_t off)
{
    return fails() ? MAP_FAILED : __real_mmap(at, n, prot, flags, fd, off);
}

/* Buffers and fibers that were used before are kept and given out again: so these are asked too. */
int __real_rt_buf_alloc(size_t len, enum rt_mem owner, struct rt_buf **ret_buf);
int __real_rt_spawn_on(unsigned core, const char *name, void (*fn)(void *arg), void *arg);
int __real_rt_group_spawn(struct rt_group *g, const char *name, void (*fn)(void *arg), void *arg);
int __real_rt_group_spawn_now(struct rt_group *g, const char *name, void (*fn)(void *arg),
                              void *arg);

int __wrap_rt_buf_alloc(size_t len, enum rt_mem owner, struct rt_buf **ret_buf)
{
    return fails() ? -ENOMEM : __real_rt_buf_alloc(len, owner, ret_buf);
}

int __wrap_rt_spawn_on(unsigned core, const char *name, void (*fn)(void *arg), void *arg)
{
    return fails() ? -EAGAIN : __real_rt_spawn_on(core, name, fn, arg);
}

int __wrap_rt_group_spawn(struct rt_group *g, const char *name, void (*fn)(void *arg), void *arg)
{
    return fails() ? -EAGAIN : __real_rt_group_spawn(g, name, fn, arg);
}

int __wrap_rt_group_spawn_now(struct rt_group *g, const char *name, void (*fn)(void *arg),
                              void *arg)
{
    return fails() ? -EAGAIN : __real_rt_group_spawn_now(g, name, fn, arg);
}
