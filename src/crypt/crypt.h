/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sealing: a volume's data keys, and the units whose bytes are encrypted and authenticated with a
 * key of their own (I10). Nothing here waits or does I/O.
 *
 * A *unit* is whatever has one salt: a segment, an SST, a manifest. Its key comes from the data key
 * by HKDF, from the salt, the kind of the unit and the volume. Within a unit each message has a
 * number, its nonce, that is used once; what the message is (its place) goes into it as associated
 * data, so that it opens nowhere else.
 *
 *     struct crypt_unit u;
 *     r = crypt_unit_init(&u, keys, &(struct crypt_unit_name){.cipher = crypt_keys_cipher(keys),
 *                         .key_id = CRYPT_KEY_VOLUME, .kind = CRYPT_SEGMENT, .salt = salt,
 *                         .volume = &uuid});
 *     struct crypt_message m = {.number = offset, .aad = place, .aad_len = sizeof place};
 *     r = crypt_unit_seal(&u, &m, in, len, out, tag);
 *     ...
 *     r = crypt_unit_open(&u, &m, in, len, out, tag);          // -EBADMSG when anything differs
 *     crypt_unit_wipe(&u);
 *
 * Threads: keys are shared, counted and never change; a unit may be used by several threads at
 * once. Every call may be made on a fiber's stack once crypt_prepare() has run on a large one (the
 * library's first use reads its configuration).
 */
#pragma once
#include "base/attr.h"
#include "base/uuid.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#define CRYPT_KEY_BYTES 32
#define CRYPT_SALT_BYTES 32
#define CRYPT_TAG_BYTES 16
#define CRYPT_MESSAGE_MAX (1u << 30)

/* Numbers of docs/FORMAT.md. */
enum crypt_cipher {
    CRYPT_NONE = 0,
    CRYPT_AES_256_GCM = 1,
    CRYPT_CHACHA20_POLY1305 = 2,
};

/* What a unit is: part of what its key is made from. Numbers of docs/FORMAT.md. */
enum crypt_kind {
    CRYPT_SEGMENT = 1,
    CRYPT_SST = 2,
    CRYPT_MANIFEST = 3,
    CRYPT_WRAP = 4,   /* a key object */
    CRYPT_ACCESS = 5, /* an access record */
};

/* Loads what sealing needs: 0 or -ENOMEM. For rt_offload(), or before there are fibers. */
MUST int crypt_prepare(void *unused);

/* AES where the processor has instructions for it, else ChaCha20. */
enum crypt_cipher crypt_cipher_best(void);
/* "none", "aes-256-gcm", "chacha20-poly1305"; "unknown". */
const char *crypt_cipher_name(enum crypt_cipher cipher);
/* One of the above, or "auto" for the best: 0 or -EINVAL. */
MUST int crypt_cipher_parse(const char *name, enum crypt_cipher *ret_cipher);
/* Whether it is one that seals. */
bool crypt_cipher_ok(unsigned cipher);

/*
 * The data keys of a volume, in locked memory that no dump holds. Key ids are never 0; the volume's
 * own key is 1, others are for devices with a key of their own.
 */
struct crypt_keys;
#define CRYPT_KEY_VOLUME 1u

/* cipher: what is sealed from now on is sealed with it. 0 or -ENOMEM. */
MUST int crypt_keys_create(const uint8_t volume_key[CRYPT_KEY_BYTES], enum crypt_cipher cipher,
                           struct crypt_keys **ret_keys);
/* One more owner; NULL gives NULL. */
struct crypt_keys *crypt_keys_ref(struct crypt_keys *keys);
/* The last owner's wipes it; accepts NULL. */
void crypt_keys_unref(struct crypt_keys *keys);
bool crypt_keys_equal(const struct crypt_keys *a, const struct crypt_keys *b);
/* What to seal with: CRYPT_NONE for NULL, which is how a plain volume looks. */
enum crypt_cipher crypt_keys_cipher(const struct crypt_keys *keys);

/* The name of a unit: from it and a data key comes the unit's key. */
struct crypt_unit_name {
    enum crypt_cipher cipher;
    enum crypt_kind kind;
    uint32_t key_id;
    const uint8_t *salt; /* CRYPT_SALT_BYTES */
    const struct uuid *volume;
};

struct crypt_unit {
    uint8_t key[CRYPT_KEY_BYTES];
    uint64_t serial; /* of the derivation, so that a thread knows a key it has set up already */
    enum crypt_cipher cipher;
};

/* 0, -ENOKEY when no such key is held (keys is NULL, or another id), -EINVAL for a cipher that does
 * not seal, -ENOMEM. */
MUST int crypt_unit_init(struct crypt_unit *u, const struct crypt_keys *keys,
                         const struct crypt_unit_name *name);
void crypt_unit_wipe(struct crypt_unit *u);

struct crypt_message {
    uint64_t number; /* used for one message of the unit only */
    const void *aad; /* authenticated, not stored */
    size_t aad_len;
};

/* Seals len bytes of in to as many at out, which is in or does not overlap it, and gives the tag. 0
 * or -ENOMEM. At most CRYPT_MESSAGE_MAX. */
MUST int crypt_unit_seal(const struct crypt_unit *u, const struct crypt_message *m, const void *in,
                         size_t len, void *out, uint8_t ret_tag[CRYPT_TAG_BYTES]);
/* The same from pieces, which become one message. */
MUST int crypt_unit_seal_pieces(const struct crypt_unit *u, const struct crypt_message *m,
                                const struct iovec *in, size_t count, void *out,
                                uint8_t ret_tag[CRYPT_TAG_BYTES]);
/* 0; -EBADMSG when the bytes, the tag, the number, the associated data or the unit are others than
 * those that were sealed: out is zeroed then. -ENOMEM. */
MUST int crypt_unit_open(const struct crypt_unit *u, const struct crypt_message *m, const void *in,
                         size_t len, void *out, const uint8_t tag[CRYPT_TAG_BYTES]);
