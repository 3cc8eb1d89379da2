/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Password -> Argon2id with the object's salt -> a key -> (as every unit's) HKDF with the same
 * salt, the kind and the volume -> the key that seals the data key. A key file's 32 bytes stand in
 * the place of what Argon2id gives. Everything in the object before the sealed key is associated
 * data. Each wrapping has a salt, and so a key, of its own, and seals one message.
 */
#include "crypt/wrap.h"
#include "base/assert.h"
#include "base/bytes.h"
#include "base/crc32c.h"
#include "base/err.h"
#include "base/rng.h"
#include "crypt/crypt_priv.h"
#include <argon2.h>
#include <string.h>
#include <sys/mman.h>

/* Argon2's memory: large, for a moment, and made of the password. */
static int take_memory(uint8_t **ret_memory, size_t len)
{
    void *p = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED) {
        return ARGON2_MEMORY_ALLOCATION_ERROR;
    }
    (void)madvise(p, len, MADV_DONTDUMP);
    *ret_memory = p;
    return ARGON2_OK;
}

static void give_memory(uint8_t *memory, size_t len)
{
    (void)munmap(memory, len);
}

static int stretch(const struct crypt_wrap *w, const struct crypt_secret *password,
                   uint8_t ret_key[CRYPT_KEY_BYTES])
{
    argon2_context ctx = {
        .out = ret_key,
        .outlen = CRYPT_KEY_BYTES,
        .pwd = (uint8_t *)(uintptr_t)password->bytes,
        .pwdlen = (uint32_t)password->len,
        .salt = (uint8_t *)(uintptr_t)w->salt,
        .saltlen = CRYPT_SALT_BYTES,
        .t_cost = w->cost.passes,
        .m_cost = w->cost.memory_kib,
        .lanes = w->cost.lanes,
        .threads = 1,
        .version = ARGON2_VERSION_13,
        .allocate_cbk = take_memory,
        .free_cbk = give_memory,
    };
    return argon2id_ctx(&ctx) == ARGON2_OK ? 0 : -ENOMEM;
}

/* The unit whose one message is the data key. */
static int make_unit(const struct crypt_wrap *w, const struct crypt_secret *secret,
                     struct crypt_unit *ret_unit)
{
    struct crypt_secret *key = crypt_secret_create(NULL, CRYPT_KEY_BYTES);
    struct crypt_keys *keys = NULL;
    int r = key ? 0 : -ENOMEM;
    if (r == 0 && w->kdf == CRYPT_KDF_ARGON2ID) {
        r = stretch(w, secret, key->bytes);
    } else if (r == 0) {
        ASSERT(secret->len == CRYPT_KEY_BYTES);
        memcpy(key->bytes, secret->bytes, CRYPT_KEY_BYTES);
    }
    if (r == 0) {
        r = crypt_keys_create(key->bytes, w->cipher, &keys);
    }
    if (r == 0) {
        struct crypt_unit_name name = {.cipher = w->cipher,
                                       .kind = CRYPT_WRAP,
                                       .key_id = w->key_id,
                                       .salt = w->salt,
                                       .volume = &w->volume};
        r = crypt_unit_init(ret_unit, keys, &name);
    }
    crypt_keys_unref(keys);
    crypt_secret_free(key);
    return r;
}

static int no_entry(void)
{
    return ERR_WRONG_PASSWORD;
}

int crypt_keys_random(enum crypt_cipher cipher, struct crypt_keys **ret_keys)
{
    struct crypt_secret *key = crypt_secret_create(NULL, CRYPT_KEY_BYTES);
    if (!key) {
        return -ENOMEM;
    }
    rng_secure(key->bytes, key->len);
    int r = crypt_keys_create(key->bytes, cipher, ret_keys);
    crypt_secret_free(key);
    return r;
}

int crypt_wrap_seal(struct crypt_wrap *w, const struct crypt_access *access,
                    const struct crypt_keys *keys)
{
    struct crypt_unit unit;
    uint8_t bytes[WRAP_BYTES];
    w->key_id = CRYPT_KEY_VOLUME;
    w->cipher = access->cipher;
    w->kdf = access->kdf;
    w->cost = (struct crypt_cost){0};
    if (access->kdf == CRYPT_KDF_ARGON2ID) {
        w->cost = access->cost.memory_kib ? access->cost : CRYPT_COST_DEFAULT;
    }
    rng_secure(w->salt, sizeof w->salt);
    int r = make_unit(w, access->secret, &unit);
    if (r < 0) {
        return r;
    }
    crypt_wrap_encode(w, bytes);
    struct crypt_message m = {.aad = bytes, .aad_len = WRAP_AT_SEALED};
    const uint8_t *key = crypt_keys_find(keys, CRYPT_KEY_VOLUME);
    r = crypt_unit_seal(&unit, &m, key, CRYPT_KEY_BYTES, w->sealed, w->tag);
    crypt_unit_wipe(&unit);
    return r;
}

int crypt_wrap_open(const struct crypt_wrap *w, const struct crypt_access *access,
                    struct crypt_keys **ret_keys)
{
    struct crypt_unit unit;
    uint8_t bytes[WRAP_BYTES];
    if (w->kdf != access->kdf) {
        return no_entry();
    }
    struct crypt_secret *key = crypt_secret_create(NULL, CRYPT_KEY_BYTES);
    int r = key ? make_unit(w, access->secret, &unit) : -ENOMEM;
    if (r == 0) {
        crypt_wrap_encode(w, bytes);
        struct crypt_message m = {.aad = bytes, .aad_len = WRAP_AT_SEALED};
        r = crypt_unit_open(&unit, &m, w->sealed, sizeof w->sealed, key->bytes, w->tag);
        crypt_unit_wipe(&unit);
    }
    if (r == 0) {
        r = crypt_keys_create(key->bytes, access->cipher, ret_keys);
    }
    crypt_secret_free(key);
    return r == -EBADMSG ? no_entry() : r;
}

void crypt_wrap_encode(const struct crypt_wrap *w, uint8_t out[WRAP_BYTES])
{
    memset(out, 0, WRAP_BYTES);
    bytes_field(out, WRAP_MAGIC, WRAP_MAGIC_LEN);
    le32_store(out + WRAP_AT_VERSION, WRAP_VERSION);
    out[WRAP_AT_CIPHER] = (uint8_t)w->cipher;
    out[WRAP_AT_KDF] = (uint8_t)w->kdf;
    le32_store(out + WRAP_AT_KEY_ID, w->key_id);
    memcpy(out + WRAP_AT_VOLUME, w->volume.bytes, sizeof w->volume.bytes);
    le64_store(out + WRAP_AT_NUMBER, w->number);
    le32_store(out + WRAP_AT_MEMORY, w->cost.memory_kib);
    le32_store(out + WRAP_AT_PASSES, w->cost.passes);
    le32_store(out + WRAP_AT_LANES, w->cost.lanes);
    memcpy(out + WRAP_AT_SALT, w->salt, sizeof w->salt);
    memcpy(out + WRAP_AT_SEALED, w->sealed, sizeof w->sealed);
    memcpy(out + WRAP_AT_TAG, w->tag, sizeof w->tag);
    le32_store(out + WRAP_AT_CRC, crc32c(0, out, WRAP_AT_CRC));
}

static bool cost_ok(const struct crypt_wrap *w)
{
    const struct crypt_cost *c = &w->cost;
    if (w->kdf == CRYPT_KDF_NONE) {
        return c->memory_kib == 0 && c->passes == 0 && c->lanes == 0;
    }
    return c->lanes >= 1 && c->lanes <= CRYPT_COST_LANES_MAX && c->passes >= 1 &&
           c->passes <= CRYPT_COST_PASSES_MAX && c->memory_kib >= 8 * c->lanes &&
           c->memory_kib <= CRYPT_COST_MEMORY_KIB_MAX;
}

/* Reserved bytes, which are associated data or covered by the checksum, are zero in this version.
 */
static bool reserved_ok(const uint8_t *b)
{
    static const uint8_t zeros[WRAP_AT_CRC - WRAP_AT_END];
    return memcmp(b + WRAP_AT_KDF + 1, zeros, 2) == 0 &&
           memcmp(b + WRAP_AT_KEY_ID + 4, zeros, 4) == 0 &&
           memcmp(b + WRAP_AT_LANES + 4, zeros, 4) == 0 &&
           memcmp(b + WRAP_AT_END, zeros, sizeof zeros) == 0;
}

int crypt_wrap_decode(const void *bytes, size_t len, struct crypt_wrap *ret_wrap)
{
    const uint8_t *b = bytes;
    if (len < WRAP_BYTES || memcmp(b, WRAP_MAGIC, WRAP_MAGIC_LEN) != 0 ||
        le32_load(b + WRAP_AT_CRC) != crc32c(0, b, WRAP_AT_CRC)) {
        return ERR_CORRUPT_KEY;
    }
    struct crypt_wrap w = {
        .number = le64_load(b + WRAP_AT_NUMBER),
        .key_id = le32_load(b + WRAP_AT_KEY_ID),
        .cipher = (enum crypt_cipher)b[WRAP_AT_CIPHER],
        .kdf = (enum crypt_kdf)b[WRAP_AT_KDF],
        .cost = {.memory_kib = le32_load(b + WRAP_AT_MEMORY),
                 .passes = le32_load(b + WRAP_AT_PASSES),
                 .lanes = le32_load(b + WRAP_AT_LANES)},
    };
    if (le32_load(b + WRAP_AT_VERSION) != WRAP_VERSION || !crypt_cipher_ok(w.cipher) ||
        (w.kdf != CRYPT_KDF_ARGON2ID && w.kdf != CRYPT_KDF_NONE) || w.key_id != CRYPT_KEY_VOLUME ||
        !cost_ok(&w) || !reserved_ok(b)) {
        return ERR_FORMAT_TOO_NEW;
    }
    memcpy(w.volume.bytes, b + WRAP_AT_VOLUME, sizeof w.volume.bytes);
    memcpy(w.salt, b + WRAP_AT_SALT, sizeof w.salt);
    memcpy(w.sealed, b + WRAP_AT_SEALED, sizeof w.sealed);
    memcpy(w.tag, b + WRAP_AT_TAG, sizeof w.tag);
    *ret_wrap = w;
    return 0;
}
