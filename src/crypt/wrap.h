/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The data key, wrapped: sealed with a key that comes from what the operator keeps, a password or
 * a key file. Changing the password wraps the same data key anew; nothing else is touched.
 *
 *     struct crypt_access a = {.kdf = CRYPT_KDF_ARGON2ID, .secret = password,
 *                              .cost = CRYPT_COST_DEFAULT};
 *     struct crypt_wrap w = {.volume = uuid, .number = 1};
 *     r = crypt_wrap_seal(&w, &a, keys);                 // seconds of CPU: not on a core
 *     crypt_wrap_encode(&w, bytes);
 *     ...
 *     r = crypt_wrap_decode(bytes, len, &w);
 *     r = crypt_wrap_open(&w, &a, &keys);                // ERR_WRONG_PASSWORD
 *
 * Nothing here waits. Sealing and opening with a password take much time and memory by intent
 * (Argon2id, RFC 9106): for rt_offload().
 */
#pragma once
#include "crypt/crypt.h"
#include "crypt/secret.h"
#include "crypt/wrap_format.h"

/* How the wrapping key comes from the operator's secret. Numbers of docs/FORMAT.md. */
enum crypt_kdf {
    CRYPT_KDF_ARGON2ID = 1, /* of a password */
    CRYPT_KDF_NONE = 2,     /* the secret is a key itself, CRYPT_KEY_BYTES */
};

/* What guessing a password costs; stored beside the key. */
struct crypt_cost {
    uint32_t memory_kib;
    uint32_t passes;
    uint32_t lanes;
};

#define CRYPT_COST_DEFAULT ((struct crypt_cost){.memory_kib = 64 << 10, .passes = 3, .lanes = 1})
/* More is not believed of a key object: opening one must not exhaust the machine. */
#define CRYPT_COST_MEMORY_KIB_MAX (1u << 20)
#define CRYPT_COST_PASSES_MAX 100u
#define CRYPT_COST_LANES_MAX 16u

/* What opens a volume, and how new wrappings and new data are sealed. */
struct crypt_access {
    enum crypt_kdf kdf;
    struct crypt_secret *secret;
    enum crypt_cipher cipher;
    struct crypt_cost cost; /* of new wrappings; zeros = the default */
};

/* A key object. */
struct crypt_wrap {
    struct uuid volume;
    uint64_t number; /* of the object; the highest one is valid */
    uint32_t key_id;
    enum crypt_cipher cipher;
    enum crypt_kdf kdf;
    struct crypt_cost cost;
    uint8_t salt[CRYPT_SALT_BYTES];
    uint8_t sealed[CRYPT_KEY_BYTES];
    uint8_t tag[CRYPT_TAG_BYTES];
};

/* A random data key for a new volume; what is sealed with it is sealed with that cipher. */
MUST int crypt_keys_random(enum crypt_cipher cipher, struct crypt_keys **ret_keys);

/* Wraps the volume's key: volume and number are set, the rest is filled in. 0 or -ENOMEM. */
MUST int crypt_wrap_seal(struct crypt_wrap *w, const struct crypt_access *access,
                         const struct crypt_keys *keys);
/*
 * The keys. ERR_WRONG_PASSWORD: the secret is another, or of the other kind, or the object is for
 * another volume, or forged; -ENOMEM.
 */
MUST int crypt_wrap_open(const struct crypt_wrap *w, const struct crypt_access *access,
                         struct crypt_keys **ret_keys);

void crypt_wrap_encode(const struct crypt_wrap *w, uint8_t out[WRAP_BYTES]);
/* 0, ERR_CORRUPT_KEY, ERR_FORMAT_TOO_NEW. Pure. */
MUST int crypt_wrap_decode(const void *bytes, size_t len, struct crypt_wrap *ret_wrap);
