/* SPDX-License-Identifier: Apache-2.0 */
/* Which ciphers there are, and their implementations, which the library looks up once. */
#include "crypt/crypt_priv.h"
#include <errno.h>
#include <openssl/kdf.h>
#include <pthread.h>
#include <string.h>
#ifdef __aarch64__
#include <sys/auxv.h>
#endif

#define CIPHERS 3

static const char *const names[CIPHERS] = {
    [CRYPT_NONE] = "none",
    [CRYPT_AES_256_GCM] = "aes-256-gcm",
    [CRYPT_CHACHA20_POLY1305] = "chacha20-poly1305",
};

static EVP_CIPHER *fetched[CIPHERS];
static EVP_KDF *hkdf;

static void fetch(void)
{
    fetched[CRYPT_AES_256_GCM] = EVP_CIPHER_fetch(NULL, "AES-256-GCM", NULL);
    fetched[CRYPT_CHACHA20_POLY1305] = EVP_CIPHER_fetch(NULL, "ChaCha20-Poly1305", NULL);
    hkdf = EVP_KDF_fetch(NULL, "HKDF", NULL);
}

int crypt_prepare(void *unused)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    (void)unused;
    (void)pthread_once(&once, fetch);
    return fetched[CRYPT_AES_256_GCM] && fetched[CRYPT_CHACHA20_POLY1305] && hkdf ? 0 : -ENOMEM;
}

const EVP_CIPHER *crypt_cipher_of(enum crypt_cipher cipher)
{
    return fetched[cipher];
}

EVP_KDF *crypt_hkdf(void)
{
    return hkdf;
}

enum crypt_cipher crypt_cipher_best(void)
{
#if defined __x86_64__
    bool fast = __builtin_cpu_supports("aes") && __builtin_cpu_supports("pclmul");
#elif defined __aarch64__
    unsigned long wanted = HWCAP_AES | HWCAP_PMULL;
    bool fast = (getauxval(AT_HWCAP) & wanted) == wanted;
#else
    bool fast = false;
#endif
    return fast ? CRYPT_AES_256_GCM : CRYPT_CHACHA20_POLY1305;
}

const char *crypt_cipher_name(enum crypt_cipher cipher)
{
    return (unsigned)cipher < CIPHERS ? names[cipher] : "unknown";
}

int crypt_cipher_parse(const char *name, enum crypt_cipher *ret_cipher)
{
    if (strcmp(name, "auto") == 0) {
        *ret_cipher = crypt_cipher_best();
        return 0;
    }
    for (unsigned i = 0; i < CIPHERS; i++) {
        if (strcmp(name, names[i]) == 0) {
            *ret_cipher = (enum crypt_cipher)i;
            return 0;
        }
    }
    return -EINVAL;
}

bool crypt_cipher_ok(unsigned cipher)
{
    return cipher == CRYPT_AES_256_GCM || cipher == CRYPT_CHACHA20_POLY1305;
}
