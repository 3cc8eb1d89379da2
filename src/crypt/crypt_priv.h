/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of this room share. */
#pragma once
#include "crypt/crypt.h"
#include <openssl/evp.h>

/* The data key of that id, CRYPT_KEY_BYTES; NULL when it is not held. */
const uint8_t *crypt_keys_find(const struct crypt_keys *keys, uint32_t key_id);

/* The algorithms, fetched once: NULL before crypt_prepare(). */
const EVP_CIPHER *crypt_cipher_of(enum crypt_cipher cipher);
EVP_KDF *crypt_hkdf(void);
