/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What encryption adds to segments. A segment is one unit of `crypt`: its salt is in its header,
 * and the offset of what is sealed is the number (nonce) of the message. So no two messages of a
 * salt share a number, and the header, at offset 0, has one too: a message without contents, whose
 * tag authenticates what is in clear.
 *
 * The header's tag stands for all fields of the header, also where no more than the header is read,
 * and for fences, which have nothing else. The directory's tag covers what the footer says. Each
 * unit's tag covers its place and its head.
 */
#include "base/endian.h"
#include "log/segment.h"
#include <errno.h>
#include <string.h>

void segment_place(const struct uuid *volume, const struct log_location *at,
                   uint8_t ret_place[SEGMENT_PLACE_BYTES])
{
    memcpy(ret_place + SEGMENT_PLACE_AT_VOLUME, volume->bytes, sizeof volume->bytes);
    le64_store(ret_place + SEGMENT_PLACE_AT_SEQ, at->seq);
    le32_store(ret_place + SEGMENT_PLACE_AT_OFFSET, at->offset);
    le32_store(ret_place + SEGMENT_PLACE_AT_LEN, at->len_bytes);
}

struct crypt_message segment_message(const struct segment_key *key, const struct log_location *at,
                                     const uint8_t *head, const uint8_t *footer,
                                     struct segment_aad *ret_aad)
{
    uint8_t *p = ret_aad->bytes;
    segment_place(&key->volume, at, p);
    memcpy(p + SEGMENT_PLACE_BYTES, head, SEGMENT_UNIT_BYTES);
    size_t len = SEGMENT_PLACE_BYTES + SEGMENT_UNIT_BYTES;
    if (footer) {
        memcpy(p + len, footer + SEGMENT_FOOTER_SEALED_AT, SEGMENT_FOOTER_SEALED_BYTES);
        len += SEGMENT_FOOTER_SEALED_BYTES;
    }
    return (struct crypt_message){.number = at->offset, .aad = p, .aad_len = len};
}

struct log_salt segment_salt(const struct segment_header *h)
{
    struct log_salt salt = {.cipher = h->cipher};
    if (h->cipher != CRYPT_NONE) {
        memcpy(salt.bytes, h->salt, sizeof salt.bytes);
    }
    return salt;
}

int segment_key_init(const struct uuid *volume, uint64_t seq, const struct log_salt *salt,
                     const struct crypt_keys *keys, struct segment_key *ret_key)
{
    ret_key->volume = *volume;
    ret_key->seq = seq;
    ret_key->encrypted = salt->cipher != CRYPT_NONE;
    if (!ret_key->encrypted) {
        return 0;
    }
    return crypt_unit_init(&ret_key->unit, keys,
                           &(struct crypt_unit_name){.cipher = salt->cipher,
                                                     .key_id = CRYPT_KEY_VOLUME,
                                                     .kind = CRYPT_SEGMENT,
                                                     .salt = salt->bytes,
                                                     .volume = volume});
}

int segment_header_open(const struct segment_header *h, const uint8_t *bytes,
                        const struct crypt_keys *keys, struct segment_key *ret_key,
                        const char **ret_why)
{
    if ((h->cipher == CRYPT_NONE) != (keys == NULL)) {
        *ret_why = keys ? "it is not encrypted, and the volume is"
                        : "it is encrypted, and the volume is not";
        return -EBADMSG;
    }
    struct log_salt salt = segment_salt(h);
    int r = segment_key_init(&h->volume, h->seq, &salt, keys, ret_key);
    if (r < 0 || !ret_key->encrypted) {
        return r;
    }
    struct crypt_message m = {.number = 0, .aad = bytes, .aad_len = SEGMENT_HEADER_AT_TAG};
    r = crypt_unit_open(&ret_key->unit, &m, NULL, 0, NULL, bytes + SEGMENT_HEADER_AT_TAG);
    if (r == -EBADMSG) {
        *ret_why = "the header is not as it was sealed";
    }
    return r;
}

uint32_t segment_frame_max(bool encrypted, unsigned count)
{
    return SEGMENT_UNIT_BYTES + count * LOG_BLOCK_BYTES + (encrypted ? SEGMENT_TAG_BYTES : 0);
}
