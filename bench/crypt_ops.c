/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What sealing costs: frames per cipher and size, through crypt_unit_seal() and by the bare
 * library, taking turns; CPU time of this thread.
 *
 *     crypt_ops [--units]         with --units each frame is of another unit than the one before
 *
 * One line each: cipher, bytes of a frame, MB/s of the library, MB/s of ours, their ratio.
 */
#include "base/bytes.h"
#include "base/time.h"
#include "crypt/wrap.h"
#include <openssl/evp.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#define FRAME_MAX (32u << 10)
#define BYTES_A_TURN (24u << 20)
#define TURNS 9
#define UNITS 2
#define PLACE_BYTES 32

static uint8_t in[FRAME_MAX], out[FRAME_MAX], place[PLACE_BYTES];

static uint64_t cpu_ns(void)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (uint64_t)t.tv_sec * NS_PER_S + (uint64_t)t.tv_nsec;
}

static uint64_t bare(EVP_CIPHER_CTX *ctx, size_t len)
{
    uint64_t from = cpu_ns();
    for (uint64_t i = 0; i < BYTES_A_TURN / len; i++) {
        uint8_t nonce[12] = {0}, tag[16];
        int n;
        le64_store(nonce + 4, i);
        if (EVP_EncryptInit_ex2(ctx, NULL, NULL, nonce, NULL) != 1 ||
            EVP_EncryptUpdate(ctx, NULL, &n, place, sizeof place) != 1 ||
            EVP_EncryptUpdate(ctx, out, &n, in, (int)len) != 1 ||
            EVP_EncryptFinal_ex(ctx, out, &n) != 1 ||
            EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_AEAD_GET_TAG, sizeof tag, tag) != 1) {
            return 0;
        }
    }
    return cpu_ns() - from;
}

static uint64_t ours(const struct crypt_unit *units, unsigned count, size_t len)
{
    uint64_t from = cpu_ns();
    for (uint64_t i = 0; i < BYTES_A_TURN / len; i++) {
        uint8_t tag[CRYPT_TAG_BYTES];
        struct crypt_message m = {.number = i, .aad = place, .aad_len = sizeof place};
        if (crypt_unit_seal(&units[i % count], &m, in, len, out, tag) < 0) {
            return 0;
        }
    }
    return cpu_ns() - from;
}

/* The fastest turn of each, which was disturbed least. */
static int measure(struct crypt_keys *keys, enum crypt_cipher cipher, size_t len, unsigned count)
{
    static const uint8_t salts[UNITS][CRYPT_SALT_BYTES] = {{1}, {2}};
    static const struct uuid volume;
    struct crypt_unit units[UNITS];
    uint64_t best[2] = {UINT64_MAX, UINT64_MAX};
    const EVP_CIPHER *evp =
        cipher == CRYPT_AES_256_GCM ? EVP_aes_256_gcm() : EVP_chacha20_poly1305();
    EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
    if (!ctx || EVP_EncryptInit_ex2(ctx, evp, place, in, NULL) != 1) {
        return -1;
    }
    for (unsigned i = 0; i < UNITS; i++) {
        struct crypt_unit_name name = {.cipher = cipher,
                                       .kind = CRYPT_SEGMENT,
                                       .key_id = CRYPT_KEY_VOLUME,
                                       .salt = salts[i],
                                       .volume = &volume};
        if (crypt_unit_init(&units[i], keys, &name) < 0) {
            return -1;
        }
    }
    for (unsigned turn = 0; turn < TURNS; turn++) {
        uint64_t a = bare(ctx, len);
        uint64_t b = ours(units, count, len);
        if (a == 0 || b == 0) {
            return -1;
        }
        best[0] = MIN_OF(best[0], a);
        best[1] = MIN_OF(best[1], b);
    }
    EVP_CIPHER_CTX_free(ctx);
    double bytes = (double)(BYTES_A_TURN / len * len) * 1e3;
    printf("%-18s %6zu %8.0f %8.0f %6.3f\n", crypt_cipher_name(cipher), len,
           bytes / (double)best[0], bytes / (double)best[1], (double)best[0] / (double)best[1]);
    return 0;
}

int main(int argc, char **argv)
{
    unsigned count = argc > 1 && strcmp(argv[1], "--units") == 0 ? UNITS : 1;
    struct crypt_keys *keys;
    if (crypt_prepare(NULL) < 0 || crypt_keys_random(CRYPT_AES_256_GCM, &keys) < 0) {
        return 1;
    }
    for (enum crypt_cipher c = CRYPT_AES_256_GCM; c <= CRYPT_CHACHA20_POLY1305; c++) {
        for (size_t len = 4096; len <= FRAME_MAX; len *= 2) {
            if (measure(keys, c, len, count) < 0) {
                fprintf(stderr, "the library failed\n");
                return 1;
            }
        }
    }
    crypt_keys_unref(keys);
    return 0;
}
