/* SPDX-License-Identifier: Apache-2.0 */
/*
 * WHETHER TO COMPRESS. A frame is stored compressed when that saves an eighth. First 256 bytes of
 * it are counted, which costs a quarter of a microsecond. Skewed counts promise something to zstd's
 * entropy coder and, most often, to LZ4. Even counts (compressed media, ciphertext) leave only
 * repeats to hope for; LZ4 finds those at several gigabytes per second, and so goes before zstd.
 * When tries fail all the same, fewer are made (struct codec_effort): data that do not compress
 * cost in the long run the counting and a fraction of a try.
 */
#include "log/codec.h"
#include "base/attr.h"
#include <errno.h>
#include <lz4.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zstd.h>
#include <zstd_errors.h>

#define RAW_MAX (LOG_FRAME_BLOCKS_MAX * LOG_BLOCK_BYTES)

#define SAMPLES 256u
/* Evenly spread bytes give a sum of squares of 2 * SAMPLES or so; text gives ten times as much.
 * Seven bits of entropy in a byte, which is an eighth to gain, give three times. */
#define SAMPLE_SQUARES_MIN 640u

#define FAILURES_BEFORE_SKIPPING 8u
/* One try in so many at the worst, as a power of two: of data that hardly ever shrink, and of data
 * whose next frame may well do. */
#define SKIP_LOG2_EVEN 6u
#define SKIP_LOG2_SKEWED 3u

struct workshop {
    LZ4_stream_t lz4;
    ZSTD_CCtx *zstd_pack; /* NULL until needed, as is the next */
    ZSTD_DCtx *zstd_unpack;
    uint8_t gathered[RAW_MAX];
    uint8_t packed[RAW_MAX]; /* as codec_room(): of frames that are not looked at yet */
};

static _Thread_local struct workshop *mine;
static pthread_key_t mine_key;
static bool mine_key_made;

static void workshop_free(void *arg)
{
    struct workshop *w = arg;
    (void)ZSTD_freeCCtx(w->zstd_pack);
    (void)ZSTD_freeDCtx(w->zstd_unpack);
    free(w);
    mine = NULL;
}

static void make_key(void)
{
    mine_key_made = pthread_key_create(&mine_key, workshop_free) == 0;
}

static COLD struct workshop *workshop_make(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    (void)pthread_once(&once, make_key);
    struct workshop *w = mine_key_made ? malloc(sizeof *w) : NULL;
    if (!w) {
        return NULL;
    }
    w->zstd_pack = NULL;
    w->zstd_unpack = NULL;
    (void)LZ4_initStream(&w->lz4, sizeof w->lz4);
    if (pthread_setspecific(mine_key, w) != 0) {
        free(w);
        return NULL;
    }
    mine = w;
    return w;
}

static struct workshop *workshop(void)
{
    return likely(mine) ? mine : workshop_make();
}

static enum codec_sample sample(const uint8_t *const *blocks, unsigned count)
{
    uint16_t counts[256] = {0};
    unsigned each = SAMPLES / count;
    unsigned stride = LOG_BLOCK_BYTES / each;
    for (unsigned b = 0; b < count; b++) {
        const uint8_t *p = blocks[b];
        for (unsigned i = 0; i < each; i++) {
            counts[p[i * stride + (i * 7 & 15)]]++; /* no fixed lane of a structure */
        }
    }
    uint32_t squares = 0;
    for (unsigned i = 0; i < 256; i++) {
        squares += (uint32_t)counts[i] * counts[i];
    }
    return squares >= SAMPLE_SQUARES_MIN * (each * count) / SAMPLES ? CODEC_SKEWED : CODEC_EVEN;
}

/* The blocks' bytes in one piece: where they are, if they are neighbours. */
static const uint8_t *gather(struct workshop *w, const uint8_t *const *blocks, unsigned count)
{
    bool neighbours = true;
    for (unsigned i = 1; i < count; i++) {
        neighbours = neighbours && blocks[i] == blocks[i - 1] + LOG_BLOCK_BYTES;
    }
    if (neighbours) {
        return blocks[0];
    }
    for (unsigned i = 0; i < count; i++) {
        memcpy(w->gathered + (size_t)i * LOG_BLOCK_BYTES, blocks[i], LOG_BLOCK_BYTES);
    }
    return w->gathered;
}

/* The packed length; 0 when it is more than cap. */
static int lz4_pack(struct workshop *w, const uint8_t *src, uint32_t len, uint32_t cap)
{
    LZ4_resetStream_fast(&w->lz4);
    int n = LZ4_compress_fast_continue(&w->lz4, (const char *)src, (char *)w->packed, (int)len,
                                       (int)cap, 1);
    if (n <= 0) {
        /* A stream that ran out of room is in no defined state. */
        (void)LZ4_initStream(&w->lz4, sizeof w->lz4);
        return 0;
    }
    return n;
}

static int zstd_pack(struct workshop *w, int level, const uint8_t *src, uint32_t len, uint32_t cap)
{
    if (!w->zstd_pack) {
        w->zstd_pack = ZSTD_createCCtx();
    }
    if (!w->zstd_pack) {
        return -ENOMEM;
    }
    size_t n = ZSTD_compressCCtx(w->zstd_pack, w->packed, cap, src, len, level);
    if (ZSTD_isError(n)) {
        return ZSTD_getErrorCode(n) == ZSTD_error_memory_allocation ? -ENOMEM : 0;
    }
    return (int)n;
}

static bool skips(struct codec_effort *e, enum log_codec codec, enum codec_sample kind)
{
    uint32_t skip = atomic_load_explicit(&e->of[codec][kind].skip, memory_order_relaxed);
    if (skip > 0) {
        atomic_store_explicit(&e->of[codec][kind].skip, skip - 1, memory_order_relaxed);
    }
    return skip > 0;
}

static void tried(struct codec_effort *e, enum log_codec codec, enum codec_sample kind, bool shrank)
{
    _Atomic uint32_t *failed_in_a_row = &e->of[codec][kind].failed_in_a_row;
    uint32_t failed = atomic_load_explicit(failed_in_a_row, memory_order_relaxed);
    if (shrank) {
        if (failed > 0) {
            atomic_store_explicit(failed_in_a_row, 0, memory_order_relaxed);
        }
        return;
    }
    failed++;
    atomic_store_explicit(failed_in_a_row, failed, memory_order_relaxed);
    if (failed >= FAILURES_BEFORE_SKIPPING) {
        uint32_t log2 = MIN_OF(failed - FAILURES_BEFORE_SKIPPING + 1,
                               kind == CODEC_EVEN ? SKIP_LOG2_EVEN : SKIP_LOG2_SKEWED);
        atomic_store_explicit(&e->of[codec][kind].skip, 1u << log2, memory_order_relaxed);
    }
}

int codec_pack(struct log_compression c, struct codec_effort *effort, const uint8_t *const *blocks,
               unsigned count, const uint8_t **ret_packed)
{
    if (c.codec == LOG_CODEC_NONE) {
        return 0;
    }
    enum codec_sample kind = sample(blocks, count);
    if (skips(effort, c.codec, kind)) {
        return 0;
    }
    struct workshop *w = workshop();
    if (!w) {
        return -ENOMEM;
    }
    uint32_t len = count * LOG_BLOCK_BYTES;
    uint32_t cap = len - len / 8;
    const uint8_t *src = gather(w, blocks, count);
    int n = 1;
    if (c.codec == LOG_CODEC_LZ4 || kind == CODEC_EVEN) {
        n = lz4_pack(w, src, len, cap);
    }
    if (c.codec == LOG_CODEC_ZSTD && n > 0) {
        n = zstd_pack(w, c.level, src, len, cap);
    }
    if (n >= 0) {
        tried(effort, c.codec, kind, n > 0);
    }
    *ret_packed = w->packed;
    return n;
}

uint8_t *codec_room(void)
{
    struct workshop *w = workshop();
    return w ? w->packed : NULL;
}

static int zstd_unpack(const uint8_t *packed, uint32_t len, uint8_t *dst, uint32_t raw_len)
{
    struct workshop *w = workshop();
    if (w && !w->zstd_unpack) {
        w->zstd_unpack = ZSTD_createDCtx();
    }
    if (!w || !w->zstd_unpack) {
        return -ENOMEM;
    }
    size_t n = ZSTD_decompressDCtx(w->zstd_unpack, dst, raw_len, packed, len);
    return n == raw_len ? 0 : -EBADMSG;
}

int codec_unpack(unsigned codec, const uint8_t *packed, uint32_t len, uint8_t *dst,
                 uint32_t raw_len)
{
    if (codec == LOG_CODEC_NONE) {
        if (len != raw_len) {
            return -EBADMSG;
        }
        memcpy(dst, packed, raw_len);
        return 0;
    }
    if (codec == LOG_CODEC_ZSTD) {
        return zstd_unpack(packed, len, dst, raw_len);
    }
    if (codec != LOG_CODEC_LZ4) {
        return -ENOTSUP;
    }
    int n = LZ4_decompress_safe((const char *)packed, (char *)dst, (int)len, (int)raw_len);
    return n == (int)raw_len ? 0 : -EBADMSG;
}

int log_compression_parse(const char *text, struct log_compression *ret_c)
{
    if (strcmp(text, "none") == 0) {
        *ret_c = (struct log_compression){.codec = LOG_CODEC_NONE};
        return 0;
    }
    if (strcmp(text, "lz4") == 0) {
        *ret_c = (struct log_compression){.codec = LOG_CODEC_LZ4};
        return 0;
    }
    if (strncmp(text, "zstd-", 5) != 0) {
        return -EINVAL;
    }
    for (unsigned level = LOG_ZSTD_LEVEL_MIN; level <= LOG_ZSTD_LEVEL_MAX; level++) {
        struct log_compression c = {.codec = LOG_CODEC_ZSTD, .level = (uint8_t)level};
        char name[LOG_COMPRESSION_TEXT];
        log_compression_text(c, name);
        if (strcmp(text, name) == 0) {
            *ret_c = c;
            return 0;
        }
    }
    return -EINVAL;
}

void log_compression_text(struct log_compression c, char ret_text[LOG_COMPRESSION_TEXT])
{
    if (c.codec == LOG_CODEC_ZSTD) {
        (void)snprintf(ret_text, LOG_COMPRESSION_TEXT, "zstd-%u", c.level);
    } else {
        (void)snprintf(ret_text, LOG_COMPRESSION_TEXT, "%s",
                       c.codec == LOG_CODEC_LZ4 ? "lz4" : "none");
    }
}
