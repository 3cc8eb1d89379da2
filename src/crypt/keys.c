/* SPDX-License-Identifier: Apache-2.0 */
/* The data keys: counted, because cores, offload threads and commands share them. */
#include "base/assert.h"
#include "crypt/crypt.h"
#include "crypt/crypt_priv.h"
#include "crypt/secret.h"
#include <errno.h>
#include <openssl/crypto.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

struct crypt_keys {
    atomic_uint owners;
    enum crypt_cipher cipher;
    struct crypt_secret *volume; /* the key with id CRYPT_KEY_VOLUME */
};

int crypt_keys_create(const uint8_t volume_key[CRYPT_KEY_BYTES], enum crypt_cipher cipher,
                      struct crypt_keys **ret_keys)
{
    ASSERT(crypt_cipher_ok(cipher));
    struct crypt_keys *keys = calloc(1, sizeof *keys);
    if (!keys) {
        return -ENOMEM;
    }
    keys->volume = crypt_secret_create(volume_key, CRYPT_KEY_BYTES);
    if (!keys->volume) {
        free(keys);
        return -ENOMEM;
    }
    atomic_init(&keys->owners, 1);
    keys->cipher = cipher;
    *ret_keys = keys;
    return 0;
}

struct crypt_keys *crypt_keys_ref(struct crypt_keys *keys)
{
    if (keys) {
        atomic_fetch_add_explicit(&keys->owners, 1, memory_order_relaxed);
    }
    return keys;
}

void crypt_keys_unref(struct crypt_keys *keys)
{
    if (keys && atomic_fetch_sub(&keys->owners, 1) == 1) {
        crypt_secret_free(keys->volume);
        free(keys);
    }
}

enum crypt_cipher crypt_keys_cipher(const struct crypt_keys *keys)
{
    return keys ? keys->cipher : CRYPT_NONE;
}

bool crypt_keys_equal(const struct crypt_keys *a, const struct crypt_keys *b)
{
    return CRYPTO_memcmp(a->volume->bytes, b->volume->bytes, CRYPT_KEY_BYTES) == 0;
}

const uint8_t *crypt_keys_find(const struct crypt_keys *keys, uint32_t key_id)
{
    return keys && key_id == CRYPT_KEY_VOLUME ? keys->volume->bytes : NULL;
}
