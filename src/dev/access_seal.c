/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Access records as they are stored. A record holds secrets, and what is stored passes through
 * memory of all kinds: batches, memtables, blocks of the index. So in an encrypted volume the
 * record is sealed once more, by itself, and lies open only in memory for secrets, in here. Each
 * sealing has a salt, and by it a key, of its own.
 */
#include "base/assert.h"
#include "base/err.h"
#include "dev/access.h"
#include "dev/dev_priv.h"
#include "rt/rt.h"

#include <errno.h>
#include <string.h>

#define SEALED 3 /* the version; those below are records in clear */
#define HEAD (2 + CRYPT_SALT_BYTES)

/* At least as long as the record. */
static size_t room_for(const struct dev_access *a)
{
    size_t room = 2 + DEV_USER_MAX + DEV_SECRET_MAX + 4;
    for (size_t i = 0; i < a->account_count; i++) {
        const struct dev_account *account = &a->accounts[i];
        room += 4 + strlen(account->user) + strlen(account->initiator) +
                (account->secret ? account->secret->len : 0);
    }
    for (size_t i = 0; i < a->acl_count; i++) {
        room += 20 + strlen(a->acls[i].initiator);
    }
    for (size_t i = 0; i < a->map_count; i++) {
        room += 9 + strlen(a->maps[i].initiator);
    }
    return room;
}

/* The record, at the begin of memory for secrets. */
static int encode(const struct dev_access *a, struct crypt_secret **ret_clear, size_t *ret_len)
{
    struct crypt_secret *clear = crypt_secret_create(NULL, room_for(a));
    if (!clear) {
        return -ENOMEM;
    }
    struct bytes_writer w = {.data = clear->bytes, .cap = clear->len};
    int r = dev_access_encode(a, &w);
    ASSERT(w.data == clear->bytes); /* it never grew */
    if (r < 0) {
        crypt_secret_free(clear);
        return r;
    }
    *ret_clear = clear;
    *ret_len = w.len;
    return 0;
}

static int unit_of(const struct vol *v, const uint8_t *head, struct crypt_unit *ret_unit)
{
    struct uuid volume;
    vol_uuid(v, &volume);
    return crypt_unit_init(ret_unit, vol_keys(v),
                           &(struct crypt_unit_name){.cipher = head[1],
                                                     .key_id = CRYPT_KEY_VOLUME,
                                                     .kind = CRYPT_ACCESS,
                                                     .salt = head + 2,
                                                     .volume = &volume});
}

static int seal(const struct vol *v, const struct dev_stored_key *key, const struct iovec *clear,
                struct bytes_writer *w)
{
    struct crypt_unit u;
    uint8_t *head = bytes_grow(w, HEAD + clear->iov_len + CRYPT_TAG_BYTES);
    if (!head) {
        return -ENOMEM;
    }
    head[0] = SEALED;
    head[1] = (uint8_t)crypt_keys_cipher(vol_keys(v));
    rt_random_bytes(head + 2, CRYPT_SALT_BYTES);
    int r = unit_of(v, head, &u);
    if (r < 0) {
        return r;
    }
    struct crypt_message m = {.number = 0, .aad = key->bytes, .aad_len = key->len};
    r = crypt_unit_seal_pieces(&u, &m, clear, 1, head + HEAD, head + HEAD + clear->iov_len);
    crypt_unit_wipe(&u);
    return r;
}

int dev_access_put(struct vol *v, struct vol_txn *t, const struct dev_stored_key *key,
                   const struct dev_access *a)
{
    struct crypt_secret *clear;
    size_t len;
    int r = encode(a, &clear, &len);
    if (r < 0) {
        return r;
    }
    struct bytes_writer sealed = {0};
    if (vol_keys(v)) {
        r = seal(v, key, &(struct iovec){.iov_base = clear->bytes, .iov_len = len}, &sealed);
        r = r < 0 ? r : vol_txn_put(t, key->bytes, key->len, sealed.data, sealed.len);
    } else {
        r = vol_txn_put(t, key->bytes, key->len, clear->bytes, len);
    }
    bytes_writer_free(&sealed);
    crypt_secret_free(clear);
    return r;
}

static int unseal(const struct vol *v, const struct dev_stored_key *key, const uint8_t *value,
                  size_t len, struct dev_access **ret_access)
{
    struct crypt_unit u;
    if (len < HEAD + CRYPT_TAG_BYTES || !crypt_cipher_ok(value[1])) {
        return ERR_CORRUPT_RECORD;
    }
    size_t clear_len = len - HEAD - CRYPT_TAG_BYTES;
    struct crypt_secret *clear = crypt_secret_create(NULL, clear_len);
    if (!clear) {
        return -ENOMEM;
    }
    int r = unit_of(v, value, &u);
    if (r == 0) {
        struct crypt_message m = {.number = 0, .aad = key->bytes, .aad_len = key->len};
        r = crypt_unit_open(&u, &m, value + HEAD, clear_len, clear->bytes,
                            value + HEAD + clear_len);
        crypt_unit_wipe(&u);
    }
    if (r == 0) {
        r = dev_access_decode(clear->bytes, clear_len, ret_access);
    }
    crypt_secret_free(clear);
    return r == -EBADMSG || r == -ENOKEY ? ERR_CORRUPT_RECORD : r;
}

int dev_access_take(const struct vol *v, const struct dev_stored_key *key, const void *value,
                    size_t len, struct dev_access **ret_access)
{
    const uint8_t *bytes = value;
    if (len > 0 && bytes[0] == SEALED) {
        return unseal(v, key, bytes, len, ret_access);
    }
    return dev_access_decode(value, len, ret_access);
}
