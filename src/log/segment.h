/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The codec of segments: structs in, bytes out, and back. Nothing here waits, logs or looks at the
 * store; decoders take any bytes and never read past them. Bytes that are not as written give
 * -EBADMSG and a word that says what is wrong; features of a later version give -ENOTSUP. Callers
 * name the object and turn these into the room's own codes.
 */
#pragma once
#include "base/vec.h"
#include "log/codec.h"
#include "log/log.h"
#include "log/segment_format.h"

struct segment_header {
    enum segment_kind kind;
    enum crypt_cipher cipher; /* CRYPT_NONE: not encrypted */
    uint32_t key_id;          /* of the volume's keys; 0 without encryption */
    struct uuid volume;
    uint64_t seq;
    uint64_t epoch;
    struct uuid open_id;
    uint64_t stored_through;
    uint64_t resume; /* of a fence: the next number that may be used */
    uint8_t salt[SEGMENT_SALT_BYTES];
};

/* Without the tag. */
void segment_header_encode(const struct segment_header *h, uint8_t ret_out[SEGMENT_HEADER_BYTES]);
MUST int segment_header_decode(const uint8_t *p, size_t len, struct segment_header *ret_h,
                               const char **ret_why);

/* What the units of one segment are sealed and checked with. */
struct segment_key {
    struct uuid volume;
    uint64_t seq;
    bool encrypted;
    struct crypt_unit unit; /* when encrypted */
};

/* What readers of its frames need of a header; without encryption nothing. */
struct log_salt segment_salt(const struct segment_header *h);
/* The key of a segment with that salt: 0, -ENOMEM, -ENOKEY, -EINVAL. */
MUST int segment_key_init(const struct uuid *volume, uint64_t seq, const struct log_salt *salt,
                          const struct crypt_keys *keys, struct segment_key *ret_key);

/*
 * Makes the key of a decoded header's segment and checks the header with it. A segment that is
 * encrypted without keys given, or is not with keys given, is none of this volume's: 0, -ENOMEM, or
 * as above. bytes: the SEGMENT_HEADER_BYTES.
 */
MUST int segment_header_open(const struct segment_header *h, const uint8_t *bytes,
                             const struct crypt_keys *keys, struct segment_key *ret_key,
                             const char **ret_why);

struct segment_footer {
    uint32_t directory_at;
    uint32_t directory_len;
    uint32_t batch_count;
    uint32_t frame_count;
    uint64_t object_len;
    uint64_t seq;
    uint8_t digest[SEGMENT_DIGEST_BYTES];
};

/* p: the last SEGMENT_FOOTER_BYTES of an object of object_len bytes. */
MUST int segment_footer_decode(const uint8_t *p, uint64_t object_len,
                               const struct segment_header *h, struct segment_footer *ret_f,
                               const char **ret_why);

struct segment_batch {
    uint64_t number;
    uint32_t records_at;
    uint32_t records_len;
    uint32_t records_crc; /* with encryption: the first four bytes of the tag */
    uint32_t frame_first; /* index into frames */
    uint32_t frame_count;
};

struct segment_directory {
    VEC(struct segment_batch) batches;
    VEC(struct log_frame) frames;
};

/*
 * bytes: the directory unit (directory_len bytes of the object), header: the SEGMENT_HEADER_BYTES
 * of the object; the digest is checked over both. 0, -ENOMEM, or as above.
 */
MUST int segment_directory_decode(const struct segment_key *key, const uint8_t *header,
                                  const struct segment_footer *f, const uint8_t *bytes,
                                  struct segment_directory *ret_d, const char **ret_why);
void segment_directory_free(struct segment_directory *d);

/* unit: the records_len bytes at records_at. Opens them in place: once. */
MUST int segment_records_decode(const struct segment_key *key, const struct segment_batch *b,
                                uint8_t *unit, const char **ret_why);
/* Where the records lie in a unit that was decoded. */
const uint8_t *segment_records_of(const struct segment_key *key, const struct segment_batch *b,
                                  const uint8_t *unit, uint32_t *ret_len);

/* unit: the at->len_bytes of a frame of the key's segment. Writes count * LOG_BLOCK_BYTES to dst.
 */
MUST int segment_frame_decode(const struct segment_key *key, const struct log_location *at,
                              const uint8_t *unit, unsigned count, uint8_t *dst,
                              const char **ret_why);
/* The longest unit of a frame of count blocks. */
uint32_t segment_frame_max(bool encrypted, unsigned count);

/* How to seal; a fence needs nothing of it. */
struct segment_options {
    struct log_compression compression;
    struct codec_effort *effort;
    const struct crypt_keys *keys; /* NULL: not encrypted. They decide the header's cipher */
};

/*
 * A sealed segment. The body refers to the callers' blocks and records where they are stored as
 * they are, and to buffers of its own (RT_MEM_SEALING) for the rest.
 */
struct segment_sealed {
    struct rt_chain body;
    uint8_t header[SEGMENT_HEADER_BYTES];
    uint8_t footer[SEGMENT_FOOTER_BYTES];
};

/*
 * Lays out and checksums a segment; sets offset and len_bytes of every frame. A fence has no
 * batches. 0, -ENOMEM, -EFBIG; may be called again after a failure.
 */
MUST int segment_seal(const struct segment_header *h, const struct segment_options *opt,
                      struct log_batch *const *batches, size_t count,
                      struct segment_sealed *ret_sealed);
void segment_sealed_free(struct segment_sealed *s);

/*
 * Loads what digests and ciphers need, on a thread with a large stack (rt_offload): the first use
 * of the library reads its configuration. Without it the first digest does so where it is.
 */
MUST int segment_prepare(void *unused);

/* For both directions. */
void segment_place(const struct uuid *volume, const struct log_location *at,
                   uint8_t ret_place[SEGMENT_PLACE_BYTES]);
uint32_t segment_place_crc(const struct uuid *volume, uint64_t seq, uint32_t offset, uint32_t len);
/* What a unit's tag covers besides its contents; number: its offset. */
#define SEGMENT_AAD_BYTES (SEGMENT_PLACE_BYTES + SEGMENT_UNIT_BYTES + SEGMENT_FOOTER_SEALED_BYTES)
struct segment_aad {
    uint8_t bytes[SEGMENT_AAD_BYTES];
};
/* footer: of a directory, else NULL. Gives the message; its associated data lie in *ret_aad. */
struct crypt_message segment_message(const struct segment_key *key, const struct log_location *at,
                                     const uint8_t *head, const uint8_t *footer,
                                     struct segment_aad *ret_aad);
MUST int segment_digest(const uint8_t *header, const uint8_t *directory, uint32_t directory_len,
                        uint8_t ret_digest[SEGMENT_DIGEST_BYTES]);
