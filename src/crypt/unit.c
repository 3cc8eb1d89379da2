/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Units: keys by HKDF, messages by AEAD.
 *
 * Setting a key up costs as much as sealing a kilobyte, so each thread keeps a context for each
 * cipher and direction, and remembers by the unit's serial number which key is in it. A serial
 * stands for one derivation in the life of the process, so equal serials mean equal keys. The
 * contexts go when their thread ends.
 */
#include "base/assert.h"
#include "base/bytes.h"
#include "crypt/crypt_priv.h"
#include <errno.h>
#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/kdf.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

#define NONCE_BYTES 12
#define NONCE_AT_NUMBER 4

/* docs/FORMAT.md "Keys of units": label, cipher, kind, key id, volume. */
#define INFO_LABEL "ZeroFS unit 1"
#define INFO_LABEL_LEN (sizeof INFO_LABEL - 1)
#define INFO_BYTES (INFO_LABEL_LEN + 1 + 1 + 4 + 16)

enum direction {
    OPENING,
    SEALING,
    DIRECTIONS,
};

#define SLOTS (DIRECTIONS * 2)

struct slot {
    EVP_CIPHER_CTX *ctx;
    uint64_t serial; /* of the unit whose key it holds; 0 = none */
};

struct mine {
    struct slot slots[SLOTS];
    EVP_KDF_CTX *kdf;
};

static _Thread_local struct mine *mine;
static pthread_key_t mine_key;
static bool mine_key_made;

static void mine_free(void *arg)
{
    struct mine *m = arg;
    for (unsigned i = 0; i < SLOTS; i++) {
        EVP_CIPHER_CTX_free(m->slots[i].ctx);
    }
    EVP_KDF_CTX_free(m->kdf);
    free(m);
    mine = NULL;
}

static void make_key(void)
{
    mine_key_made = pthread_key_create(&mine_key, mine_free) == 0;
}

/* This thread's contexts; NULL when out of memory. */
static COLD struct mine *make_mine(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    (void)pthread_once(&once, make_key);
    if (!mine_key_made || crypt_prepare(NULL) < 0) {
        return NULL;
    }
    struct mine *m = calloc(1, sizeof *m);
    if (!m) {
        return NULL;
    }
    m->kdf = EVP_KDF_CTX_new(crypt_hkdf());
    bool good = m->kdf != NULL;
    for (unsigned i = 0; i < SLOTS; i++) {
        m->slots[i].ctx = EVP_CIPHER_CTX_new();
        good = good && m->slots[i].ctx;
    }
    if (!good || pthread_setspecific(mine_key, m) != 0) {
        mine_free(m);
        return NULL;
    }
    mine = m;
    return m;
}

static struct mine *my(void)
{
    return likely(mine) ? mine : make_mine();
}

static void make_info(const struct crypt_unit_name *name, uint8_t info[INFO_BYTES])
{
    uint8_t *at = info + INFO_LABEL_LEN;
    memcpy(info, INFO_LABEL, INFO_LABEL_LEN);
    at[0] = (uint8_t)name->cipher;
    at[1] = (uint8_t)name->kind;
    le32_store(at + 2, name->key_id);
    memcpy(at + 6, name->volume->bytes, sizeof name->volume->bytes);
}

int crypt_unit_init(struct crypt_unit *u, const struct crypt_keys *keys,
                    const struct crypt_unit_name *name)
{
    static atomic_uint_fast64_t serials = 1;
    static char sha256[] = "SHA256";
    if (!crypt_cipher_ok(name->cipher)) {
        return -EINVAL;
    }
    const uint8_t *key = crypt_keys_find(keys, name->key_id);
    if (!key) {
        return -ENOKEY;
    }
    struct mine *m = my();
    if (!m) {
        return -ENOMEM;
    }
    uint8_t info[INFO_BYTES];
    make_info(name, info);
    OSSL_PARAM params[] = {
        OSSL_PARAM_utf8_string(OSSL_KDF_PARAM_DIGEST, sha256, sizeof sha256 - 1),
        OSSL_PARAM_octet_string(OSSL_KDF_PARAM_KEY, (void *)(uintptr_t)key, CRYPT_KEY_BYTES),
        OSSL_PARAM_octet_string(OSSL_KDF_PARAM_SALT, (void *)(uintptr_t)name->salt,
                                CRYPT_SALT_BYTES),
        OSSL_PARAM_octet_string(OSSL_KDF_PARAM_INFO, info, sizeof info),
        OSSL_PARAM_END,
    };
    EVP_KDF_CTX_reset(m->kdf);
    int good = EVP_KDF_derive(m->kdf, u->key, sizeof u->key, params);
    EVP_KDF_CTX_reset(m->kdf); /* it wipes its copy of the data key */
    if (good != 1) {
        ERR_clear_error();
        return -ENOMEM;
    }
    u->cipher = name->cipher;
    u->serial = atomic_fetch_add_explicit(&serials, 1, memory_order_relaxed);
    return 0;
}

void crypt_unit_wipe(struct crypt_unit *u)
{
    OPENSSL_cleanse(u, sizeof *u);
}

/* A context with the unit's key and the message's nonce; associated data are in already. NULL when
 * out of memory. */
static EVP_CIPHER_CTX *begin(const struct crypt_unit *u, const struct crypt_message *msg,
                             enum direction way)
{
    ASSERT(crypt_cipher_ok(u->cipher) && msg->aad_len <= CRYPT_MESSAGE_MAX);
    struct mine *m = my();
    if (!m) {
        return NULL;
    }
    struct slot *slot = &m->slots[(u->cipher - 1) * DIRECTIONS + way];
    uint8_t nonce[NONCE_BYTES] = {0};
    le64_store(nonce + NONCE_AT_NUMBER, msg->number);
    bool known = slot->serial == u->serial;
    slot->serial = 0;
    int good = EVP_CipherInit_ex2(slot->ctx, known ? NULL : crypt_cipher_of(u->cipher),
                                  known ? NULL : u->key, nonce, way == SEALING, NULL);
    int n;
    if (good == 1 && msg->aad_len > 0) {
        good = EVP_CipherUpdate(slot->ctx, NULL, &n, msg->aad, (int)msg->aad_len);
    }
    if (good != 1) {
        ERR_clear_error();
        return NULL;
    }
    slot->serial = u->serial;
    return slot->ctx;
}

int crypt_unit_seal_pieces(const struct crypt_unit *u, const struct crypt_message *msg,
                           const struct iovec *in, size_t count, void *out,
                           uint8_t ret_tag[CRYPT_TAG_BYTES])
{
    EVP_CIPHER_CTX *ctx = begin(u, msg, SEALING);
    if (!ctx) {
        return -ENOMEM;
    }
    uint8_t *to = out;
    int good = 1;
    int n = 0;
    for (size_t i = 0; i < count && good == 1; i++) {
        ASSERT(in[i].iov_len <= CRYPT_MESSAGE_MAX);
        /* The library takes "no output" for associated data: an empty piece has none. */
        if (in[i].iov_len > 0) {
            good = EVP_EncryptUpdate(ctx, to, &n, in[i].iov_base, (int)in[i].iov_len);
            to += in[i].iov_len;
        }
    }
    uint8_t none[CRYPT_TAG_BYTES];
    if (good != 1 || EVP_EncryptFinal_ex(ctx, none, &n) != 1 ||
        EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_AEAD_GET_TAG, CRYPT_TAG_BYTES, ret_tag) != 1) {
        ERR_clear_error();
        return -ENOMEM;
    }
    return 0;
}

int crypt_unit_seal(const struct crypt_unit *u, const struct crypt_message *m, const void *in,
                    size_t len, void *out, uint8_t ret_tag[CRYPT_TAG_BYTES])
{
    struct iovec one = {.iov_base = (void *)(uintptr_t)in, .iov_len = len};
    return crypt_unit_seal_pieces(u, m, &one, 1, out, ret_tag);
}

int crypt_unit_open(const struct crypt_unit *u, const struct crypt_message *msg, const void *in,
                    size_t len, void *out, const uint8_t tag[CRYPT_TAG_BYTES])
{
    ASSERT(len <= CRYPT_MESSAGE_MAX);
    EVP_CIPHER_CTX *ctx = begin(u, msg, OPENING);
    if (!ctx) {
        return -ENOMEM;
    }
    uint8_t expected[CRYPT_TAG_BYTES];
    uint8_t none[CRYPT_TAG_BYTES];
    int n = 0;
    memcpy(expected, tag, sizeof expected);
    bool good = EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_AEAD_SET_TAG, CRYPT_TAG_BYTES, expected) == 1 &&
                (len == 0 || EVP_DecryptUpdate(ctx, out, &n, in, (int)len) == 1) &&
                EVP_DecryptFinal_ex(ctx, none, &n) == 1;
    if (!good) {
        ERR_clear_error();
        if (len > 0) {
            OPENSSL_cleanse(out, len);
        }
        return -EBADMSG;
    }
    return 0;
}
