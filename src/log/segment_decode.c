/* SPDX-License-Identifier: Apache-2.0 */
#include "base/bytes.h"
#include "base/crc32c.h"
#include "log/segment.h"
#include <openssl/evp.h>
#include <pthread.h>
#include <string.h>

static int bad(const char **ret_why, const char *why)
{
    *ret_why = why;
    return -EBADMSG;
}

static int too_new(const char **ret_why, const char *why)
{
    *ret_why = why;
    return -ENOTSUP;
}

uint32_t segment_place_crc(const struct uuid *volume, uint64_t seq, uint32_t offset, uint32_t len)
{
    uint8_t place[SEGMENT_PLACE_BYTES];
    struct log_location at = {seq, offset, len};
    segment_place(volume, &at, place);
    return crc32c(0, place, sizeof place);
}

static EVP_MD *sha256;

static void sha256_fetch(void)
{
    sha256 = EVP_MD_fetch(NULL, "SHA256", NULL);
}

int segment_prepare(void *unused)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    (void)unused;
    (void)pthread_once(&once, sha256_fetch);
    return sha256 ? crypt_prepare(NULL) : -ENOMEM;
}

int segment_digest(const uint8_t *header, const uint8_t *directory, uint32_t directory_len,
                   uint8_t ret_digest[SEGMENT_DIGEST_BYTES])
{
    int r = segment_prepare(NULL);
    if (r < 0) {
        return r;
    }
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    bool good = ctx && EVP_DigestInit_ex2(ctx, sha256, NULL) == 1 &&
                EVP_DigestUpdate(ctx, header, SEGMENT_HEADER_BYTES) == 1 &&
                EVP_DigestUpdate(ctx, directory, directory_len) == 1 &&
                EVP_DigestFinal_ex(ctx, ret_digest, NULL) == 1;
    EVP_MD_CTX_free(ctx);
    return good ? 0 : -ENOMEM;
}

int segment_header_decode(const uint8_t *p, size_t len, struct segment_header *ret_h,
                          const char **ret_why)
{
    if (len < SEGMENT_HEADER_BYTES ||
        memcmp(p, SEGMENT_HEADER_MAGIC, strlen(SEGMENT_HEADER_MAGIC)) != 0) {
        return bad(ret_why, "it does not start as a segment");
    }
    if (crc32c(0, p, SEGMENT_HEADER_AT_CRC) != le32_load(p + SEGMENT_HEADER_AT_CRC)) {
        return bad(ret_why, "the header's checksum is wrong");
    }
    uint8_t cipher = p[SEGMENT_HEADER_AT_ENCRYPTION];
    uint32_t key_id = le32_load(p + SEGMENT_HEADER_AT_KEY_ID);
    if (le16_load(p + SEGMENT_HEADER_AT_VERSION) != SEGMENT_VERSION ||
        le32_load(p + SEGMENT_HEADER_AT_INCOMPATIBLE) != 0 ||
        (cipher != CRYPT_NONE && !crypt_cipher_ok(cipher)) ||
        key_id != (cipher == CRYPT_NONE ? 0 : CRYPT_KEY_VOLUME)) {
        return too_new(ret_why, "it was written by a later version");
    }
    struct segment_header h = {
        .kind = p[SEGMENT_HEADER_AT_KIND],
        .cipher = cipher,
        .key_id = key_id,
        .seq = le64_load(p + SEGMENT_HEADER_AT_SEQ),
        .epoch = le64_load(p + SEGMENT_HEADER_AT_EPOCH),
        .stored_through = le64_load(p + SEGMENT_HEADER_AT_STORED_THROUGH),
        .resume = le64_load(p + SEGMENT_HEADER_AT_RESUME),
    };
    memcpy(h.volume.bytes, p + SEGMENT_HEADER_AT_VOLUME, sizeof h.volume.bytes);
    memcpy(h.open_id.bytes, p + SEGMENT_HEADER_AT_OPEN_ID, sizeof h.open_id.bytes);
    memcpy(h.salt, p + SEGMENT_HEADER_AT_SALT, sizeof h.salt);
    if (h.kind != SEGMENT_DATA && h.kind != SEGMENT_FENCE) {
        return bad(ret_why, "its kind is unknown");
    }
    if (h.kind == SEGMENT_FENCE ? h.resume <= h.seq : h.resume != 0) {
        return bad(ret_why, "its number and resume position contradict each other");
    }
    *ret_h = h;
    return 0;
}

static int footer_check(const struct segment_footer *f, const struct segment_header *h,
                        const char **ret_why)
{
    uint64_t directory_end = f->object_len - SEGMENT_FOOTER_BYTES;
    uint64_t entries = (uint64_t)f->batch_count * SEGMENT_BATCH_BYTES +
                       (uint64_t)f->frame_count * SEGMENT_FRAME_BYTES;
    if (f->seq != h->seq) {
        return bad(ret_why, "header and footer are of different segments");
    }
    if (h->kind == SEGMENT_FENCE) {
        bool empty = entries == 0 && f->directory_len == 0 &&
                     f->directory_at == SEGMENT_HEADER_BYTES &&
                     directory_end == SEGMENT_HEADER_BYTES;
        return empty ? 0 : bad(ret_why, "a fence that holds data");
    }
    if (f->directory_at < SEGMENT_HEADER_BYTES ||
        (uint64_t)f->directory_at + f->directory_len != directory_end ||
        f->directory_len !=
            SEGMENT_UNIT_BYTES + entries + (h->cipher == CRYPT_NONE ? 0 : SEGMENT_TAG_BYTES)) {
        return bad(ret_why, "the directory's place is impossible");
    }
    return 0;
}

int segment_footer_decode(const uint8_t *p, uint64_t object_len, const struct segment_header *h,
                          struct segment_footer *ret_f, const char **ret_why)
{
    if (object_len < SEGMENT_HEADER_BYTES + SEGMENT_FOOTER_BYTES ||
        object_len > SEGMENT_BYTES_MAX) {
        return bad(ret_why, "its length is impossible");
    }
    if (memcmp(p, SEGMENT_FOOTER_MAGIC, strlen(SEGMENT_FOOTER_MAGIC)) != 0) {
        return bad(ret_why, "it does not end as a segment");
    }
    uint32_t at = (uint32_t)(object_len - SEGMENT_FOOTER_BYTES);
    uint32_t crc = segment_place_crc(&h->volume, h->seq, at, SEGMENT_FOOTER_BYTES);
    if (crc32c(crc, p, SEGMENT_FOOTER_AT_CRC) != le32_load(p + SEGMENT_FOOTER_AT_CRC)) {
        return bad(ret_why, "the footer's checksum is wrong");
    }
    struct segment_footer f = {
        .directory_at = le32_load(p + SEGMENT_FOOTER_AT_DIRECTORY),
        .directory_len = le32_load(p + SEGMENT_FOOTER_AT_DIRECTORY_LEN),
        .batch_count = le32_load(p + SEGMENT_FOOTER_AT_BATCH_COUNT),
        .frame_count = le32_load(p + SEGMENT_FOOTER_AT_FRAME_COUNT),
        .object_len = le64_load(p + SEGMENT_FOOTER_AT_OBJECT_LEN),
        .seq = le64_load(p + SEGMENT_FOOTER_AT_SEQ),
    };
    memcpy(f.digest, p + SEGMENT_FOOTER_AT_DIGEST, sizeof f.digest);
    if (f.object_len != object_len) {
        return bad(ret_why, "its length is not the one it was written with");
    }
    int r = footer_check(&f, h, ret_why);
    if (r < 0) {
        return r;
    }
    *ret_f = f;
    return 0;
}

/* What a unit's head says. */
struct unit {
    enum segment_unit kind;
    enum log_codec codec;
    uint32_t stored_len; /* without the tag */
    uint32_t raw_len;
};

/* Checks the head of a unit of at->len_bytes, which is authentic or will be looked at again. */
static int unit_head(const struct segment_key *key, const struct log_location *at, const uint8_t *p,
                     struct unit *ret_u, const char **ret_why)
{
    struct unit u = {
        .kind = p[SEGMENT_UNIT_AT_KIND],
        .codec = p[SEGMENT_UNIT_AT_CODEC],
        .stored_len = at->len_bytes - SEGMENT_UNIT_BYTES,
        .raw_len = le32_load(p + SEGMENT_UNIT_AT_RAW_LEN),
    };
    if (u.codec >= LOG_CODECS ||
        le16_load(p + SEGMENT_UNIT_AT_KEY_ID) != (key->encrypted ? CRYPT_KEY_VOLUME : 0)) {
        return too_new(ret_why, "its codec or key is unknown");
    }
    bool fits = le32_load(p + SEGMENT_UNIT_AT_STORED_LEN) == u.stored_len;
    u.stored_len -= key->encrypted ? SEGMENT_TAG_BYTES : 0;
    if (!fits || (u.codec == LOG_CODEC_NONE && u.raw_len != u.stored_len)) {
        return bad(ret_why, "the lengths of a unit contradict each other");
    }
    *ret_u = u;
    return 0;
}

static bool unit_fits(const struct segment_key *key, const struct log_location *at)
{
    return at->seq == key->seq &&
           at->len_bytes >= SEGMENT_UNIT_BYTES + (key->encrypted ? SEGMENT_TAG_BYTES : 0);
}

/* Checks a unit that is not encrypted: checksum, kind and lengths. */
static int unit_check(const struct segment_key *key, const struct log_location *at,
                      const uint8_t *p, struct unit *ret_u, const char **ret_why)
{
    uint32_t crc = segment_place_crc(&key->volume, at->seq, at->offset, at->len_bytes);
    crc = crc32c(crc, p + SEGMENT_UNIT_AT_KIND, at->len_bytes - SEGMENT_UNIT_AT_KIND);
    if (crc != le32_load(p + SEGMENT_UNIT_AT_CRC)) {
        return bad(ret_why, "a checksum is wrong");
    }
    return unit_head(key, at, p, ret_u, ret_why);
}

/* Decrypts a unit's contents to dst (room for len bytes less head and tag) and checks it. */
static int unit_open(const struct segment_key *key, const struct log_location *at,
                     const uint8_t *footer, const uint8_t *p, uint8_t *dst, const char **ret_why)
{
    struct segment_aad aad = {{0}};
    struct crypt_message m = segment_message(key, at, p, footer, &aad);
    uint32_t len = at->len_bytes - SEGMENT_UNIT_BYTES - SEGMENT_TAG_BYTES;
    const uint8_t *contents = p + SEGMENT_UNIT_BYTES;
    int r = crypt_unit_open(&key->unit, &m, contents, len, dst, contents + len);
    return r == -EBADMSG ? bad(ret_why, "it is not as it was sealed, or not in its place") : r;
}

static int frame_entry_decode(const uint8_t *p, bool encrypted, struct log_frame *ret_f)
{
    *ret_f = (struct log_frame){
        .layer = le64_load(p + SEGMENT_FRAME_AT_LAYER),
        .page = le64_load(p + SEGMENT_FRAME_AT_PAGE),
        .first_block = p[SEGMENT_FRAME_AT_FIRST],
        .count = p[SEGMENT_FRAME_AT_COUNT],
        .offset = le32_load(p + SEGMENT_FRAME_AT_OFFSET),
        .len_bytes = le32_load(p + SEGMENT_FRAME_AT_LEN),
    };
    bool good = ret_f->count >= 1 && ret_f->count <= LOG_FRAME_BLOCKS_MAX &&
                ret_f->first_block + ret_f->count <= LOG_FRAME_BLOCKS_MAX &&
                ret_f->len_bytes > SEGMENT_UNIT_BYTES &&
                ret_f->len_bytes <= segment_frame_max(encrypted, ret_f->count);
    return good ? 0 : -EBADMSG;
}

static void batch_entry_decode(const uint8_t *p, uint32_t frame_first, struct segment_batch *ret_b)
{
    *ret_b = (struct segment_batch){
        .number = le64_load(p + SEGMENT_BATCH_AT_NUMBER),
        .records_at = le32_load(p + SEGMENT_BATCH_AT_RECORDS),
        .records_len = le32_load(p + SEGMENT_BATCH_AT_RECORDS_LEN),
        .records_crc = le32_load(p + SEGMENT_BATCH_AT_RECORDS_CRC),
        .frame_first = frame_first,
        .frame_count = le32_load(p + SEGMENT_BATCH_AT_FRAME_COUNT),
    };
}

/* The units of a batch lie one after the other: at *pos starts the next. */
static int batch_check(const struct segment_batch *b, const struct log_frame *frames, uint64_t *pos)
{
    for (uint32_t i = 0; i < b->frame_count; i++) {
        if (frames[i].offset != *pos) {
            return -EBADMSG;
        }
        *pos += frames[i].len_bytes;
    }
    if (b->records_len == 0) {
        return b->records_at == 0 && b->records_crc == 0 ? 0 : -EBADMSG;
    }
    if (b->records_at != *pos || b->records_len < SEGMENT_UNIT_BYTES) {
        return -EBADMSG;
    }
    *pos += b->records_len;
    return 0;
}

static int entries_decode(const struct segment_footer *f, const uint8_t *p, bool encrypted,
                          struct segment_directory *d)
{
    const uint8_t *frames = p + (size_t)f->batch_count * SEGMENT_BATCH_BYTES;
    for (uint32_t i = 0; i < f->frame_count; i++) {
        int r = frame_entry_decode(frames + (size_t)i * SEGMENT_FRAME_BYTES, encrypted,
                                   &d->frames.at[i]);
        if (r < 0) {
            return r;
        }
    }
    d->frames.len = f->frame_count;
    uint64_t pos = SEGMENT_HEADER_BYTES;
    uint32_t first = 0;
    for (uint32_t i = 0; i < f->batch_count; i++) {
        struct segment_batch *b = &d->batches.at[i];
        batch_entry_decode(p + (size_t)i * SEGMENT_BATCH_BYTES, first, b);
        if (b->frame_count > f->frame_count - first ||
            batch_check(b, d->frames.at + first, &pos) < 0) {
            return -EBADMSG;
        }
        first += b->frame_count;
    }
    d->batches.len = f->batch_count;
    return first == f->frame_count && pos == f->directory_at ? 0 : -EBADMSG;
}

/* The part of the footer that the directory's tag covers, at its place in *ret_footer. */
static void footer_sealed(const struct segment_footer *f, uint8_t ret_footer[SEGMENT_FOOTER_BYTES])
{
    le32_store(ret_footer + SEGMENT_FOOTER_AT_DIRECTORY, f->directory_at);
    le32_store(ret_footer + SEGMENT_FOOTER_AT_DIRECTORY_LEN, f->directory_len);
    le32_store(ret_footer + SEGMENT_FOOTER_AT_BATCH_COUNT, f->batch_count);
    le32_store(ret_footer + SEGMENT_FOOTER_AT_FRAME_COUNT, f->frame_count);
    le64_store(ret_footer + SEGMENT_FOOTER_AT_OBJECT_LEN, f->object_len);
    le64_store(ret_footer + SEGMENT_FOOTER_AT_SEQ, f->seq);
}

/* Gives where the entries are: in the unit, or decrypted in *room, which is the caller's to free.
 */
static int directory_open(const struct segment_key *key, const struct segment_footer *f,
                          const uint8_t *unit, uint8_t **room, const uint8_t **ret_entries,
                          const char **ret_why)
{
    struct unit u;
    struct log_location at = {key->seq, f->directory_at, f->directory_len};
    int r;
    *ret_entries = unit + SEGMENT_UNIT_BYTES;
    if (!unit_fits(key, &at)) {
        return bad(ret_why, "a unit is too short");
    }
    if (key->encrypted) {
        uint8_t footer[SEGMENT_FOOTER_BYTES];
        footer_sealed(f, footer);
        *room = malloc(at.len_bytes);
        *ret_entries = *room;
        r = *room ? unit_open(key, &at, footer, unit, *room, ret_why) : -ENOMEM;
        r = r < 0 ? r : unit_head(key, &at, unit, &u, ret_why);
    } else {
        r = unit_check(key, &at, unit, &u, ret_why);
    }
    if (r == 0 && (u.kind != SEGMENT_UNIT_DIRECTORY || u.codec != LOG_CODEC_NONE)) {
        r = bad(ret_why, "there is no directory where it should be");
    }
    return r;
}

static int digest_check(const uint8_t *header, const struct segment_footer *f, const uint8_t *unit,
                        const char **ret_why)
{
    uint8_t digest[SEGMENT_DIGEST_BYTES];
    int r = segment_digest(header, unit, f->directory_len, digest);
    if (r == 0 && memcmp(digest, f->digest, sizeof digest) != 0) {
        r = bad(ret_why, "the digest is wrong");
    }
    return r;
}

int segment_directory_decode(const struct segment_key *key, const uint8_t *header,
                             const struct segment_footer *f, const uint8_t *bytes,
                             struct segment_directory *ret_d, const char **ret_why)
{
    struct segment_directory d = {0};
    int r = digest_check(header, f, bytes, ret_why);
    if (r == 0 && f->directory_len == 0) { /* a fence */
        *ret_d = d;
    }
    if (r < 0 || f->directory_len == 0) {
        return r;
    }
    auto_free uint8_t *room = NULL;
    const uint8_t *entries;
    r = directory_open(key, f, bytes, &room, &entries, ret_why);
    if (r == 0) {
        r = vec_reserve(&d.batches, MAX_OF(f->batch_count, 1u));
    }
    if (r == 0) {
        r = vec_reserve(&d.frames, MAX_OF(f->frame_count, 1u));
    }
    if (r == 0 && entries_decode(f, entries, key->encrypted, &d) < 0) {
        r = bad(ret_why, "the directory's entries are impossible");
    }
    if (r < 0) {
        segment_directory_free(&d);
        return r;
    }
    *ret_d = d;
    return 0;
}

void segment_directory_free(struct segment_directory *d)
{
    vec_free(&d->batches);
    vec_free(&d->frames);
}

/* What the directory holds of a unit besides its place: the checksum, or the start of the tag. */
static uint32_t unit_mark(const struct segment_key *key, const struct segment_batch *b,
                          const uint8_t *unit)
{
    return le32_load(key->encrypted ? unit + b->records_len - SEGMENT_TAG_BYTES
                                    : unit + SEGMENT_UNIT_AT_CRC);
}

int segment_records_decode(const struct segment_key *key, const struct segment_batch *b,
                           uint8_t *unit, const char **ret_why)
{
    struct unit u;
    struct log_location at = {key->seq, b->records_at, b->records_len};
    if (b->records_len == 0) {
        return 0;
    }
    if (!unit_fits(key, &at)) {
        return bad(ret_why, "a unit is too short");
    }
    uint32_t mark = unit_mark(key, b, unit);
    int r;
    if (key->encrypted) {
        r = unit_open(key, &at, NULL, unit, unit + SEGMENT_UNIT_BYTES, ret_why);
        r = r < 0 ? r : unit_head(key, &at, unit, &u, ret_why);
    } else {
        r = unit_check(key, &at, unit, &u, ret_why);
    }
    if (r == 0 &&
        (u.kind != SEGMENT_UNIT_RECORDS || u.codec != LOG_CODEC_NONE || b->records_crc != mark)) {
        r = bad(ret_why, "there are no records where they should be");
    }
    return r;
}

const uint8_t *segment_records_of(const struct segment_key *key, const struct segment_batch *b,
                                  const uint8_t *unit, uint32_t *ret_len)
{
    if (b->records_len == 0) {
        *ret_len = 0;
        return NULL;
    }
    *ret_len = b->records_len - SEGMENT_UNIT_BYTES - (key->encrypted ? SEGMENT_TAG_BYTES : 0);
    return unit + SEGMENT_UNIT_BYTES;
}

/* Decrypts to where the frame's stored bytes can be unpacked from: dst itself when they are not
 * packed. */
static int frame_open(const struct segment_key *key, const struct log_location *at,
                      const uint8_t *unit, uint8_t *dst, const uint8_t **ret_stored,
                      const char **ret_why)
{
    uint8_t *room = unit[SEGMENT_UNIT_AT_CODEC] == LOG_CODEC_NONE ? dst : codec_room();
    if (!room) {
        return -ENOMEM;
    }
    *ret_stored = room;
    return unit_open(key, at, NULL, unit, room, ret_why);
}

int segment_frame_decode(const struct segment_key *key, const struct log_location *at,
                         const uint8_t *unit, unsigned count, uint8_t *dst, const char **ret_why)
{
    struct unit u;
    const uint8_t *stored = unit + SEGMENT_UNIT_BYTES;
    bool fits = unit_fits(key, at) && count >= 1 && count <= LOG_FRAME_BLOCKS_MAX &&
                at->len_bytes <= segment_frame_max(key->encrypted, count);
    if (!fits) {
        return bad(ret_why, "its length is impossible");
    }
    int r;
    if (key->encrypted) {
        r = frame_open(key, at, unit, dst, &stored, ret_why);
        r = r < 0 ? r : unit_head(key, at, unit, &u, ret_why);
    } else {
        r = unit_check(key, at, unit, &u, ret_why);
    }
    if (r < 0) {
        return r;
    }
    if (u.kind != SEGMENT_UNIT_FRAME || u.raw_len != count * LOG_BLOCK_BYTES) {
        return bad(ret_why, "it is no frame of that many blocks");
    }
    if (stored == dst) {
        return 0;
    }
    r = codec_unpack(u.codec, stored, u.stored_len, dst, u.raw_len);
    return r == -EBADMSG ? bad(ret_why, "it does not decompress") : r;
}
