/* SPDX-License-Identifier: Apache-2.0 */
/* Keys for tests: always the same data key. */
#pragma once
#include "crypt/crypt.h"
#include "unit.h"

/* NULL for CRYPT_NONE; given back by crypt_keys_unref(). */
static inline struct crypt_keys *unit_keys(enum crypt_cipher cipher)
{
    static const uint8_t key[CRYPT_KEY_BYTES] = "a key for tests, and only those";
    struct crypt_keys *keys = NULL;
    assert_int_equal(crypt_prepare(NULL), 0);
    if (cipher != CRYPT_NONE) {
        assert_int_equal(crypt_keys_create(key, cipher, &keys), 0);
    }
    return keys;
}
