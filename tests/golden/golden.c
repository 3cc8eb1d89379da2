/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A volume that every later version must open.
 *
 *     golden make FOLDER [password|key]    creates it: done once for each version of the format,
 * and kept here; encrypted, with zstd, opened by the one or other golden check FOLDER
 * [password|key]   opens it (which writes to it: use a copy) and compares every byte
 *
 * In it: compressed and plain frames, page maps with runs of every kind, SSTs, a tail of the log
 * that was never flushed to an SST, a range hole that nobody has walked, metadata, and no clean
 * close.
 */
#include "base/err.h"
#include "base/rng.h"
#include "obj/obj.h"
#include "rt/rt.h"
#include "vol/vol.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SMALL (4ull << 20)
#define LARGE (1ull << 30)
#define STEPS 60

struct golden {
    const char *folder;
    bool makes;
    struct vol *v;
    struct vol_file *small;
    struct vol_file *large;
    uint64_t inodes[2];
    uint8_t *model; /* of the small device */
    int result;
    struct crypt_access *access; /* NULL: not encrypted */
    struct crypt_keys *keys;
};

#define PASSWORD "a golden password"
#define KEY "golden key, golden key, gold key"

#define TRY(call)                                                                                  \
    do {                                                                                           \
        int r_ = (call);                                                                           \
        if (r_ < 0) {                                                                              \
            (void)fprintf(stderr, "%s: %s\n", #call, err_text(r_));                                \
            g->result = 1;                                                                         \
            return;                                                                                \
        }                                                                                          \
    } while (0)

static void fill(uint8_t *p, uint64_t len, uint64_t seed)
{
    struct rng g = rng_seeded(seed);
    for (uint64_t i = 0; i < len; i++) {
        p[i] = seed % 2 ? (uint8_t)rng_next(&g) : (uint8_t)(seed + i / 512);
    }
}

static int do_write(struct golden *g, struct vol_file *f, uint64_t off, uint32_t len, uint64_t seed)
{
    struct rt_chain c = {0};
    struct rt_buf *b;
    int r = rt_buf_alloc(len, RT_MEM_INGRESS, &b);
    if (r < 0) {
        return r;
    }
    fill(b->data, len, seed);
    if (f == g->small) {
        memcpy(g->model + off, b->data, len);
    }
    r = rt_chain_add(&c, b, b->data, len);
    if (r == 0 && g->makes) {
        r = vol_write(f, off, &c, NULL);
    }
    rt_buf_unref(b);
    rt_chain_free(&c);
    return r;
}

static int do_zero(struct golden *g, uint64_t off, uint64_t len, enum vol_zero_kind kind)
{
    memset(g->model + off, 0, len);
    return g->makes ? vol_zero(g->small, off, len, kind) : 0;
}

/* The same steps in making and in checking; checking only keeps the model. */
static int steps(struct golden *g, uint64_t seed)
{
    struct rng rng = rng_seeded(seed);
    for (unsigned i = 0; i < STEPS; i++) {
        uint64_t off = rng_below(&rng, SMALL / 512 - 32) * 512;
        uint32_t len = 512 * (1 + (uint32_t)rng_below(&rng, 16));
        uint64_t what = rng_below(&rng, 8);
        if (what < 3) {
            off = off / 4096 * 4096;
        }
        int r = what < 6 ? do_write(g, g->small, off, len, seed + i)
                         : do_zero(g, off, len, (enum vol_zero_kind)rng_below(&rng, 3));
        if (r == 0 && i % 9 == 8 && g->makes) {
            r = vol_flush(g->v);
        }
        if (r < 0) {
            return r;
        }
    }
    return g->makes ? vol_flush(g->v) : 0;
}

static int create(struct golden *g)
{
    struct vol_txn *t;
    int r = vol_txn_begin(g->v, &t);
    if (r == 0) {
        r = vol_txn_inode_create(t, SMALL, &g->inodes[0]);
    }
    if (r == 0) {
        r = vol_txn_inode_create(t, LARGE, &g->inodes[1]);
    }
    if (r == 0) {
        r = vol_txn_put(t, "\x60golden", 7, g->inodes, sizeof g->inodes);
    }
    return r == 0 ? vol_txn_commit(t) : r;
}

static int find(struct golden *g)
{
    struct bytes_writer w = {0};
    int r = vol_get(g->v, "\x60golden", 7, &w);
    if (r == 0 && w.len != sizeof g->inodes) {
        r = ERR_CORRUPT_RECORD;
    }
    if (r == 0) {
        memcpy(g->inodes, w.data, sizeof g->inodes);
    }
    bytes_writer_free(&w);
    return r;
}

static int open_files(struct golden *g)
{
    int r = vol_file_open(g->v, g->inodes[0], &g->small);
    return r < 0 ? r : vol_file_open(g->v, g->inodes[1], &g->large);
}

static void close_files(struct golden *g)
{
    vol_file_close(g->small);
    vol_file_close(g->large);
    g->small = NULL;
    g->large = NULL;
}

static void make(struct golden *g, struct obj_store *store)
{
    struct vol_options opt = {.store = store,
                              .owner = "golden",
                              .compression = {.codec = LOG_CODEC_LZ4},
                              .memory_bytes = 64u << 20};
    struct uuid uuid;
    if (g->access) {
        TRY(log_compression_parse("zstd-3", &opt.compression));
    }
    TRY(uuid_parse("6f6c6467-656e-4000-8000-7a65726f6673", &uuid));
    TRY(vol_format(store, &(struct vol_format_options){.uuid = uuid, .access = g->access}));
    TRY(vol_keys_load(store, g->access, &g->keys));
    opt.keys = g->keys;
    TRY(vol_open(&opt, &g->v));
    TRY(create(g));
    TRY(open_files(g));
    TRY(steps(g, 1000));
    for (uint64_t off = 0; off < LARGE; off += LARGE / 16) {
        TRY(do_write(g, g->large, off, 4096, 2000));
    }
    close_files(g);
    TRY(vol_close(g->v));
    TRY(vol_open(&opt, &g->v));
    TRY(open_files(g));
    TRY(steps(g, 3000));
    TRY(vol_discard(g->large, 0, LARGE / 2));
    TRY(vol_flush(g->v));
    close_files(g);
    vol_abandon(g->v);
    if (g->access) {
        TRY(vol_keys_change(store, g->keys, g->access));
    }
}

static int compare(struct golden *g)
{
    struct rt_chain c = {0};
    uint8_t *got = malloc(SMALL);
    int r = got ? vol_read(g->small, 0, (uint32_t)SMALL, &c) : -ENOMEM;
    if (r == 0) {
        rt_chain_copy_out(&c, 0, got, SMALL);
        r = memcmp(got, g->model, SMALL) == 0 ? 0 : -EILSEQ;
    }
    rt_chain_free(&c);
    free(got);
    return r;
}

static int compare_large(struct golden *g)
{
    uint8_t want[1024];
    uint8_t got[1024];
    fill(want, sizeof want, 2000);
    for (uint64_t off = 0; off < LARGE; off += LARGE / 16) {
        struct rt_chain c = {0};
        int r = vol_read(g->large, off, sizeof got, &c);
        if (r < 0) {
            return r;
        }
        rt_chain_copy_out(&c, 0, got, sizeof got);
        rt_chain_free(&c);
        if (off < LARGE / 2) {
            memset(want, 0, sizeof want);
        } else {
            fill(want, sizeof want, 2000);
        }
        if (memcmp(got, want, sizeof got) != 0) {
            return -EILSEQ;
        }
    }
    return 0;
}

static void check(struct golden *g, struct obj_store *store)
{
    struct vol_options opt = {.store = store, .owner = "later", .memory_bytes = 64u << 20};
    TRY(vol_keys_load(store, g->access, &g->keys));
    opt.keys = g->keys;
    if (vol_open(&opt, &g->v) != ERR_OPEN_ELSEWHERE) {
        (void)fprintf(stderr, "its owner was not noticed\n");
        g->result = 1;
        return;
    }
    opt.takeover = true;
    for (unsigned round = 0; round < 2; round++) {
        TRY(vol_open(&opt, &g->v));
        TRY(find(g));
        TRY(open_files(g));
        memset(g->model, 0, SMALL);
        TRY(steps(g, 1000));
        TRY(steps(g, 3000));
        TRY(compare(g));
        TRY(compare_large(g));
        TRY(vol_recount(g->v));
        close_files(g);
        TRY(vol_close(g->v));
    }
}

static void golden_main(void *arg)
{
    struct golden *g = arg;
    static char url[4096];
    struct obj_store *store;
    (void)snprintf(url, sizeof url, "file://%s", g->folder);
    TRY(obj_open(url, &store));
    if (g->makes) {
        make(g, store);
    } else {
        check(g, store);
    }
    crypt_keys_unref(g->keys);
    obj_close(store);
}

/* AES opened by a password, ChaCha20 by a key: 0, or -EINVAL for another word. */
static int choose(const char *word, struct crypt_access *ret_access)
{
    struct crypt_access by_password = {.kdf = CRYPT_KDF_ARGON2ID,
                                       .cipher = CRYPT_AES_256_GCM,
                                       .cost = {.memory_kib = 1024, .passes = 2, .lanes = 2}};
    struct crypt_access by_key = {.kdf = CRYPT_KDF_NONE, .cipher = CRYPT_CHACHA20_POLY1305};
    bool is_key = strcmp(word, "key") == 0;
    if (!is_key && strcmp(word, "password") != 0) {
        return -EINVAL;
    }
    *ret_access = is_key ? by_key : by_password;
    const char *secret = is_key ? KEY : PASSWORD;
    ret_access->secret = crypt_secret_create(secret, strlen(secret));
    return ret_access->secret ? 0 : -ENOMEM;
}

int main(int argc, char **argv)
{
    struct golden g = {0};
    struct crypt_access access = {0};
    bool good = (argc == 3 || argc == 4) &&
                (strcmp(argv[1], "make") == 0 || strcmp(argv[1], "check") == 0) &&
                (argc == 3 || choose(argv[3], &access) == 0);
    if (!good) {
        (void)fprintf(stderr, "usage: golden make|check FOLDER [password|key]\n");
        return 2;
    }
    g.access = argc == 4 ? &access : NULL;
    g.makes = strcmp(argv[1], "make") == 0;
    g.folder = argv[2];
    g.model = calloc(1, SMALL);
    int r = g.model ? rt_run(&(struct rt_options){.cores = 1}, golden_main, &g) : -ENOMEM;
    free(g.model);
    crypt_secret_free(access.secret);
    return r < 0 || g.result != 0;
}
