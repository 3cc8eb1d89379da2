/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Each secret has pages of its own: there are few, and a page can be locked, left out of dumps and
 * guarded as a whole only. In front of the secret's pages and behind them lies one that nobody may
 * touch.
 */
#include "crypt/secret.h"
#include "base/msg.h"
#include <errno.h>
#include <malloc.h>
#include <openssl/crypto.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static size_t page_bytes(void)
{
    return (size_t)sysconf(_SC_PAGESIZE);
}

static size_t inner_bytes(size_t len)
{
    size_t page = page_bytes();
    return (sizeof(struct crypt_secret) + len + 1 + page - 1) / page * page;
}

static void say_unlocked(int error)
{
    static atomic_bool said;
    if (!atomic_exchange(&said, true)) {
        msg_warn("crypt", "secrets cannot be locked in memory (%s): raise the limit (ulimit -l)",
                 strerrordesc_np(error));
    }
}

struct crypt_secret *crypt_secret_create(const void *from, size_t len)
{
    size_t page = page_bytes();
    size_t inner = inner_bytes(len);
    uint8_t *all =
        mmap(NULL, inner + 2 * page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (all == MAP_FAILED) {
        return NULL;
    }
    void *at = all + page;
    if (mprotect(at, inner, PROT_READ | PROT_WRITE) < 0 || madvise(at, inner, MADV_DONTDUMP) < 0 ||
        madvise(at, inner, MADV_DONTFORK) < 0) {
        (void)munmap(all, inner + 2 * page);
        return NULL;
    }
    if (mlock(at, inner) < 0) {
        say_unlocked(errno);
    }
    struct crypt_secret *s = at;
    s->len = len;
    if (from && len > 0) {
        memcpy(s->bytes, from, len);
    }
    return s;
}

void crypt_secret_free(struct crypt_secret *s)
{
    if (!s) {
        return;
    }
    size_t page = page_bytes();
    size_t inner = inner_bytes(s->len);
    explicit_bzero(s, inner);
    (void)munmap((uint8_t *)(void *)s - page, inner + 2 * page);
}

struct crypt_secret *crypt_secret_of(const char *text)
{
    return text ? crypt_secret_create(text, strlen(text)) : NULL;
}

const char *crypt_secret_text(const struct crypt_secret *s)
{
    return s ? (const char *)s->bytes : NULL;
}

bool crypt_secret_equal(const struct crypt_secret *a, const struct crypt_secret *b)
{
    return a == b || (a && b && a->len == b->len && CRYPTO_memcmp(a->bytes, b->bytes, a->len) == 0);
}

#define WIPE_MAX (64u << 10)

static size_t wiped_bytes(void *p)
{
    size_t len = malloc_usable_size(p);
    return len < WIPE_MAX ? len : WIPE_MAX;
}

void crypt_wiping_free(void *p)
{
    if (p) {
        explicit_bzero(p, wiped_bytes(p));
        free(p);
    }
}

/* Never in place: the library's own would leave a copy behind when it moves. */
void *crypt_wiping_realloc(void *p, size_t len)
{
    size_t had = p ? malloc_usable_size(p) : 0;
    if (len > 0 && len <= had && len >= had / 2) {
        return p;
    }
    void *q = malloc(len);
    if (q && p) {
        memcpy(q, p, had < len ? had : len);
        crypt_wiping_free(p);
    }
    return q;
}
