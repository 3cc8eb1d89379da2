/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What sealing and opening segments costs on one core, for each cipher and compressor, beside what
 * the libraries alone take for the same frames: compressing each frame, encrypting it with a nonce
 * and associated data of its own (or, without a cipher, a CRC32C of it).
 *
 *     seal [MIB [PATTERN]]            default: 64; the lines whose name contains the text
 *
 * CPU time. A line: data, compressor, cipher; MB/s of blocks sealed, of the libraries, their ratio;
 * MB/s opened; stored size.
 */
#include "base/assert.h"
#include "base/crc32c.h"
#include "base/endian.h"
#include "base/rng.h"
#include "log/segment.h"
#include "rt/rt.h"
#include <lz4.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <zstd.h>

#define FRAME_BYTES (LOG_FRAME_BLOCKS_MAX * LOG_BLOCK_BYTES)
#define SEGMENT_FRAMES 128u
#define ROUNDS 8u

enum data {
    DATA_NOISE,
    DATA_TEXT,
};

struct bench {
    enum data data;
    enum crypt_cipher cipher;
    struct log_compression compression;
    unsigned blocks; /* of each frame */
    uint64_t mib;
    const char *pattern;
    uint8_t *bytes; /* one segment's */
    struct log_frame frames[SEGMENT_FRAMES];
    struct log_batch batch;
    struct crypt_keys *keys;
    struct codec_effort effort;
    uint64_t stored; /* bytes of the last segment */
};

static double cpu_s(void)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static void fill(struct bench *b)
{
    struct rng g = rng_seeded(1);
    static const char *const words[] = {"the ",  "storage ", "of ",    "blocks ",
                                        "in a ", "log ",     "which ", "is ",
                                        "read ", "again ",   "by ",    "number "};
    size_t len = (size_t)SEGMENT_FRAMES * FRAME_BYTES;
    for (size_t i = 0; i < len;) {
        if (b->data == DATA_NOISE) {
            b->bytes[i++] = (uint8_t)rng_next(&g);
            continue;
        }
        char word[24];
        int n = snprintf(word, sizeof word, "%s%llu ", words[rng_below(&g, ARRAY_LEN(words))],
                         (unsigned long long)rng_below(&g, 1000));
        for (int k = 0; k < n && i < len; k++) {
            b->bytes[i++] = (uint8_t)word[k];
        }
    }
}

static void lay_out(struct bench *b)
{
    for (unsigned i = 0; i < SEGMENT_FRAMES; i++) {
        struct log_frame *f = &b->frames[i];
        *f = (struct log_frame){.layer = 1, .page = i, .count = (uint8_t)b->blocks};
        for (unsigned k = 0; k < b->blocks; k++) {
            f->blocks[k] = b->bytes + (size_t)i * FRAME_BYTES + (size_t)k * LOG_BLOCK_BYTES;
        }
    }
    b->batch = (struct log_batch){.number = 1, .frames = b->frames, .frame_count = SEGMENT_FRAMES};
}

static uint64_t segment_bytes(const struct bench *b)
{
    return (uint64_t)SEGMENT_FRAMES * b->blocks * LOG_BLOCK_BYTES;
}

static struct segment_header header_of(uint64_t seq)
{
    struct segment_header h = {.kind = SEGMENT_DATA, .volume = {{1}}, .seq = seq, .epoch = 1};
    rt_random_bytes(h.salt, sizeof h.salt);
    return h;
}

static void seal_one(struct bench *b, uint64_t seq, struct segment_sealed *ret_sealed)
{
    struct log_batch *batches[1] = {&b->batch};
    struct segment_header h = header_of(seq);
    struct segment_options opt = {
        .compression = b->compression, .effort = &b->effort, .keys = b->keys};
    int r = segment_seal(&h, &opt, batches, 1, ret_sealed);
    ASSERT(r == 0);
}

/* MB/s. */
static double run_seal(struct bench *b, uint64_t bytes)
{
    double start = cpu_s();
    uint64_t done = 0;
    for (; done < bytes; done += segment_bytes(b)) {
        struct segment_sealed s;
        seal_one(b, done + 1, &s);
        b->stored = s.body.len;
        segment_sealed_free(&s);
    }
    return (double)done / 1e6 / (cpu_s() - start);
}

static double run_open(struct bench *b, uint64_t bytes)
{
    static uint8_t out[FRAME_BYTES];
    struct segment_sealed s;
    seal_one(b, 7, &s);
    uint8_t *whole = malloc(s.body.len);
    struct segment_key key;
    struct uuid volume = {{1}};
    ASSERT(whole != NULL);
    rt_chain_copy_out(&s.body, 0, whole, s.body.len);
    int r = segment_key_init(&volume, 7, &b->batch.salt, b->keys, &key);
    double start = cpu_s();
    uint64_t done = 0;
    for (; done < bytes && r == 0; done += segment_bytes(b)) {
        for (unsigned i = 0; i < SEGMENT_FRAMES && r == 0; i++) {
            const struct log_frame *f = &b->frames[i];
            struct log_location at = {7, f->offset, f->len_bytes};
            const char *why;
            r = segment_frame_decode(&key, &at, whole + f->offset, f->count, out, &why);
        }
    }
    double speed = (double)done / 1e6 / (cpu_s() - start);
    ASSERT(r == 0);
    free(whole);
    segment_sealed_free(&s);
    return speed;
}

/* The libraries alone. */
struct bare {
    EVP_CIPHER *cipher;
    EVP_CIPHER_CTX *ctx;
    ZSTD_CCtx *zstd;
    LZ4_stream_t lz4;
    uint8_t packed[FRAME_BYTES + FRAME_BYTES / 8];
    uint8_t *out; /* as large as a segment: that goes through the caches as well */
    uint32_t sum;
};

static uint32_t bare_pack(const struct bench *b, struct bare *x, const uint8_t *src, uint32_t len)
{
    uint32_t cap = len - len / 8;
    if (b->compression.codec == LOG_CODEC_LZ4) {
        LZ4_resetStream_fast(&x->lz4);
        int n = LZ4_compress_fast_continue(&x->lz4, (const char *)src, (char *)x->packed, (int)len,
                                           (int)cap, 1);
        if (n <= 0) {
            (void)LZ4_initStream(&x->lz4, sizeof x->lz4);
        }
        return n > 0 ? (uint32_t)n : 0;
    }
    if (b->compression.codec == LOG_CODEC_ZSTD) {
        size_t n = ZSTD_compressCCtx(x->zstd, x->packed, cap, src, len, b->compression.level);
        return ZSTD_isError(n) ? 0 : (uint32_t)n;
    }
    return 0;
}

static void bare_frame(const struct bench *b, struct bare *x, const uint8_t *src, uint64_t number)
{
    uint32_t len = b->blocks * LOG_BLOCK_BYTES;
    uint32_t n = bare_pack(b, x, src, len);
    const uint8_t *from = n > 0 ? x->packed : src;
    uint8_t aad[48] = {0};
    uint8_t nonce[12] = {0};
    uint8_t tag[16];
    int m;
    n = n > 0 ? n : len;
    if (!x->cipher) {
        x->sum += crc32c(0, from, n);
        return;
    }
    le64_store(nonce + 4, number);
    int good = EVP_EncryptInit_ex2(x->ctx, NULL, NULL, nonce, NULL) == 1 &&
               EVP_EncryptUpdate(x->ctx, NULL, &m, aad, sizeof aad) == 1 &&
               EVP_EncryptUpdate(x->ctx, x->out + number % SEGMENT_FRAMES * FRAME_BYTES, &m, from,
                                 (int)n) == 1 &&
               EVP_EncryptFinal_ex(x->ctx, tag, &m) == 1 &&
               EVP_CIPHER_CTX_ctrl(x->ctx, EVP_CTRL_AEAD_GET_TAG, sizeof tag, tag) == 1;
    ASSERT(good);
    x->sum += tag[0];
}

static struct bare *bare_create(const struct bench *b)
{
    static const char *const names[] = {
        [CRYPT_AES_256_GCM] = "AES-256-GCM", [CRYPT_CHACHA20_POLY1305] = "ChaCha20-Poly1305"};
    uint8_t key[32] = {1};
    struct bare *x = calloc(1, sizeof *x);
    ASSERT(x != NULL);
    x->out = malloc((size_t)SEGMENT_FRAMES * FRAME_BYTES);
    ASSERT(x->out != NULL);
    x->zstd = ZSTD_createCCtx();
    x->ctx = EVP_CIPHER_CTX_new();
    (void)LZ4_initStream(&x->lz4, sizeof x->lz4);
    if (b->cipher != CRYPT_NONE) {
        x->cipher = EVP_CIPHER_fetch(NULL, names[b->cipher], NULL);
        int r = EVP_EncryptInit_ex2(x->ctx, x->cipher, key, NULL, NULL);
        ASSERT(r == 1);
    }
    return x;
}

static void bare_free(struct bare *x)
{
    (void)ZSTD_freeCCtx(x->zstd);
    EVP_CIPHER_CTX_free(x->ctx);
    EVP_CIPHER_free(x->cipher);
    free(x->out);
    free(x);
}

static double run_bare(const struct bench *b, struct bare *x, uint64_t bytes)
{
    double start = cpu_s();
    uint64_t done = 0;
    for (; done < bytes; done += segment_bytes(b)) {
        for (unsigned i = 0; i < SEGMENT_FRAMES; i++) {
            bare_frame(b, x, b->frames[i].blocks[0], done * SEGMENT_FRAMES + i);
        }
    }
    return (double)done / 1e6 / (cpu_s() - start);
}

static double best(double a, double b)
{
    return a > b ? a : b;
}

static void run_one(struct bench *b)
{
    static const char *const data_names[] = {"noise", "text"};
    char text[LOG_COMPRESSION_TEXT];
    char name[96];
    log_compression_text(b->compression, text);
    (void)snprintf(name, sizeof name, "%s %s %s %u KiB", data_names[b->data], text,
                   crypt_cipher_name(b->cipher), b->blocks * LOG_BLOCK_BYTES / 1024);
    if (b->pattern && !strstr(name, b->pattern)) {
        return;
    }
    static const uint8_t key[CRYPT_KEY_BYTES] = {1};
    int r = b->cipher == CRYPT_NONE ? 0 : crypt_keys_create(key, b->cipher, &b->keys);
    ASSERT(r == 0);
    fill(b);
    lay_out(b);
    struct bare *x = bare_create(b);
    uint64_t bytes = (b->mib << 20) / (b->compression.level >= 10 ? 16 : 1) / ROUNDS;
    double ours = 0;
    double bare = 0;
    double opened = 0;
    for (unsigned i = 0; i < ROUNDS; i++) { /* in turns: others use the machine as well */
        ours = best(ours, run_seal(b, bytes));
        bare = best(bare, run_bare(b, x, bytes));
        opened = best(opened, run_open(b, bytes));
    }
    (void)printf("%-36s %8.0f %8.0f %6.2f %8.0f %5.1f%%\n", name, ours, bare, ours / bare, opened,
                 100.0 * (double)b->stored / (double)segment_bytes(b));
    (void)fflush(stdout);
    bare_free(x);
    crypt_keys_unref(b->keys);
    b->keys = NULL;
}

static void bench_main(void *arg)
{
    static const struct log_compression kinds[] = {{LOG_CODEC_NONE, 0},
                                                   {LOG_CODEC_LZ4, 0},
                                                   {LOG_CODEC_ZSTD, 1},
                                                   {LOG_CODEC_ZSTD, 3},
                                                   {LOG_CODEC_ZSTD, 19}};
    struct bench *b = arg;
    (void)printf("%-36s %8s %8s %6s %8s %6s\n", "", "seal", "bare", "ratio", "open", "stored");
    for (unsigned size = 0; size < 2; size++) {
        for (unsigned data = DATA_NOISE; data <= DATA_TEXT; data++) {
            for (size_t k = 0; k < ARRAY_LEN(kinds); k++) {
                for (unsigned c = CRYPT_NONE; c <= CRYPT_CHACHA20_POLY1305; c++) {
                    b->blocks = size ? 1 : LOG_FRAME_BLOCKS_MAX;
                    b->data = data;
                    b->compression = kinds[k];
                    b->cipher = c;
                    memset(&b->effort, 0, sizeof b->effort);
                    run_one(b);
                }
            }
        }
    }
}

int main(int argc, char **argv)
{
    static struct bench b;
    b.mib = argc > 1 ? strtoull(argv[1], NULL, 10) : 64;
    b.pattern = argc > 2 ? argv[2] : NULL;
    b.bytes = malloc((size_t)SEGMENT_FRAMES * FRAME_BYTES);
    if (b.mib == 0 || !b.bytes || segment_prepare(NULL) < 0) {
        (void)fputs("seal [MIB [PATTERN]]\n", stderr);
        return 1;
    }
    struct rt_options opt = {.cores = 1, .sim = true, .sim_seed = 1};
    int r = rt_run(&opt, bench_main, &b);
    free(b.bytes);
    return r == 0 ? 0 : 1;
}
