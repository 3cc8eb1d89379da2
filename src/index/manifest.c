/* SPDX-License-Identifier: Apache-2.0 */
#include "index/manifest.h"
#include "base/crc32c.h"
#include <errno.h>
#include <stdio.h>
#include <string.h>

#define CRC_AT 124
#define TAG_SIZE CRYPT_TAG_BYTES
#define FLAG_FIRST_OF_EPOCH 1u
#define BODY_FLAG_CLEAN 1u
#define BODY_FLAG_JOURNAL 2u

static const uint8_t magic[8] = MANIFEST_MAGIC;

void manifest_free(struct manifest *m)
{
    for (size_t i = 0; i < m->ssts.len; i++) {
        sst_meta_free(&m->ssts.at[i].meta);
    }
    vec_free(&m->ssts);
}

static void put_key(struct bytes_writer *out, const uint8_t *key, uint32_t len)
{
    bytes_put_varint(out, len);
    bytes_put(out, key, len);
}

static void put_sst(struct bytes_writer *out, const struct manifest_sst *s, bool encrypted)
{
    const struct sst_meta *m = &s->meta;
    bytes_put_u8(out, s->level);
    bytes_put_le64(out, m->epoch);
    bytes_put_le64(out, m->counter);
    bytes_put_le64(out, m->run);
    bytes_put_le64(out, m->size_bytes);
    bytes_put_le64(out, m->filter_off);
    bytes_put_le64(out, m->index_off);
    bytes_put_le64(out, m->entries);
    bytes_put_le64(out, m->tombstones);
    bytes_put(out, m->salt, SST_SALT_SIZE);
    if (encrypted) {
        bytes_put_u8(out, (uint8_t)m->cipher);
    }
    put_key(out, m->smallest, m->smallest_len);
    put_key(out, m->largest, m->largest_len);
}

static void put_body(struct bytes_writer *out, const struct manifest *m, bool encrypted)
{
    size_t owner_len = strnlen(m->owner, INDEX_OWNER_SIZE - 1);
    bytes_put(out, m->open_id.bytes, 16);
    bytes_put(out, m->journal.bytes, 16);
    bytes_put_le64(out, m->replay_from);
    bytes_put_le64(out, m->log_epoch);
    bytes_put_le64(out, m->last_batch);
    bytes_put_le64(out, m->closed_through);
    bytes_put_le64(out, m->swept_through);
    bytes_put_u8(out, (uint8_t)((m->clean ? BODY_FLAG_CLEAN : 0) |
                                (m->journal_in_use ? BODY_FLAG_JOURNAL : 0)));
    bytes_put_varint(out, owner_len);
    bytes_put(out, m->owner, owner_len);
    bytes_put_varint(out, m->ssts.len);
    for (size_t i = 0; i < m->ssts.len; i++) {
        put_sst(out, &m->ssts.at[i], encrypted);
    }
}

static void header_fill(const struct index_home *home, const struct manifest *m, size_t body_len,
                        uint8_t *h)
{
    memset(h, 0, MANIFEST_HEADER_SIZE);
    memcpy(h, magic, sizeof magic);
    le16_store(h + 8, MANIFEST_VERSION);
    h[10] = (uint8_t)crypt_keys_cipher(home->keys);
    h[11] = m->first_of_epoch ? FLAG_FIRST_OF_EPOCH : 0;
    le32_store(h + 12, MANIFEST_HEADER_SIZE);
    le64_store(h + 16, home->keys ? CRYPT_KEY_VOLUME : 0);
    memcpy(h + 24, home->volume.bytes, 16);
    le64_store(h + 40, m->number);
    le64_store(h + 48, m->epoch);
    memcpy(h + 56, m->salt, MANIFEST_SALT_SIZE);
    le64_store(h + 88, m->features_incompat);
    le64_store(h + 96, m->features_ro_compat);
    le64_store(h + 104, m->features_compat);
    le64_store(h + 112, body_len);
}

/* The key for the manifest whose header this is. */
static int unit_of(const struct index_home *home, const uint8_t *header, struct crypt_unit *ret_u)
{
    return crypt_unit_init(ret_u, home->keys,
                           &(struct crypt_unit_name){.cipher = header[10],
                                                     .key_id = CRYPT_KEY_VOLUME,
                                                     .kind = CRYPT_MANIFEST,
                                                     .salt = header + 56,
                                                     .volume = &home->volume});
}

/* One message: the body; all of the header goes with it. */
static struct crypt_message message_of(const uint8_t *header)
{
    return (struct crypt_message){.number = 0, .aad = header, .aad_len = MANIFEST_HEADER_SIZE};
}

static int seal(const struct index_home *home, uint8_t *header, size_t body_len)
{
    struct crypt_unit u;
    uint8_t *body = header + MANIFEST_HEADER_SIZE;
    size_t len = body_len - TAG_SIZE;
    int r = unit_of(home, header, &u);
    if (r == 0) {
        struct crypt_message m = message_of(header);
        r = crypt_unit_seal(&u, &m, body, len, body, body + len);
        crypt_unit_wipe(&u);
    }
    return r;
}

int manifest_encode(const struct index_home *home, const struct manifest *m,
                    struct bytes_writer *out)
{
    size_t start = out->len;
    if (bytes_grow(out, MANIFEST_HEADER_SIZE) == NULL) {
        return -ENOMEM;
    }
    put_body(out, m, home->keys != NULL);
    (void)bytes_grow(out, home->keys ? TAG_SIZE : 0);
    if (out->failed) {
        return -ENOMEM;
    }
    uint8_t *h = out->data + start;
    size_t body_len = out->len - start - MANIFEST_HEADER_SIZE;
    header_fill(home, m, body_len, h);
    if (home->keys) {
        return seal(home, h, body_len);
    }
    uint32_t crc = crc32c(0, h, CRC_AT);
    le32_store(h + CRC_AT, crc32c(crc, h + MANIFEST_HEADER_SIZE, body_len));
    return 0;
}

/* Decrypts the body to dst. */
static int open_body(const struct index_home *home, const uint8_t *header, size_t body_len,
                     uint8_t *dst)
{
    struct crypt_unit u;
    const uint8_t *body = header + MANIFEST_HEADER_SIZE;
    size_t len = body_len - TAG_SIZE;
    int r = unit_of(home, header, &u);
    if (r == 0) {
        struct crypt_message m = message_of(header);
        r = crypt_unit_open(&u, &m, body, len, dst, body + len);
        crypt_unit_wipe(&u);
    }
    return r;
}

static bool is_authentic(const uint8_t *h, size_t body_len)
{
    uint32_t crc = crc32c(0, h, CRC_AT);
    return le32_load(h + CRC_AT) == crc32c(crc, h + MANIFEST_HEADER_SIZE, body_len);
}

/* Before anything of it is believed: whether it may be authentic, and without keys, whether it is.
 */
static int look_at_header(const struct index_home *home, const uint8_t *h, size_t len)
{
    if (len < MANIFEST_HEADER_SIZE || len > MANIFEST_SIZE_MAX ||
        memcmp(h, magic, sizeof magic) != 0 || memcmp(h + 24, home->volume.bytes, 16) != 0 ||
        le64_load(h + 112) != len - MANIFEST_HEADER_SIZE) {
        return -EBADMSG;
    }
    bool good = home->keys ? crypt_cipher_ok(h[10]) && le64_load(h + 16) == CRYPT_KEY_VOLUME &&
                                 len >= MANIFEST_HEADER_SIZE + TAG_SIZE
                           : is_authentic(h, len - MANIFEST_HEADER_SIZE);
    return good ? 0 : -EBADMSG;
}

/* Of an authentic header. */
static int get_header(const struct index_home *home, const uint8_t *h, struct manifest *m)
{
    m->features_incompat = le64_load(h + 88);
    m->features_ro_compat = le64_load(h + 96);
    m->features_compat = le64_load(h + 104);
    if (le16_load(h + 8) != MANIFEST_VERSION ||
        (m->features_incompat & ~MANIFEST_INCOMPAT_KNOWN) != 0) {
        return -ENOTSUP;
    }
    m->first_of_epoch = h[11] & FLAG_FIRST_OF_EPOCH;
    m->number = le64_load(h + 40);
    m->epoch = le64_load(h + 48);
    memcpy(m->salt, h + 56, MANIFEST_SALT_SIZE);
    bool fits = home->keys || (h[10] == CRYPT_NONE && le64_load(h + 16) == 0);
    return le32_load(h + 12) == MANIFEST_HEADER_SIZE && fits ? 0 : -EBADMSG;
}

static const uint8_t *get_key(struct bytes_reader *r, uint32_t *ret_len)
{
    uint64_t len = bytes_varint(r);
    if (len == 0 || len > INDEX_KEY_MAX) {
        r->bad = true;
        return NULL;
    }
    *ret_len = (uint32_t)len;
    return bytes_take(r, len);
}

static bool sst_is_sound(const struct manifest_sst *s)
{
    const struct sst_meta *m = &s->meta;
    return s->level < INDEX_LEVELS && m->filter_off >= SST_HEADER_SIZE &&
           m->index_off >= m->filter_off + SST_UNIT_HEADER_SIZE && m->size_bytes < 1ull << 32 &&
           m->size_bytes >= SST_FOOTER_SIZE && m->tombstones <= m->entries &&
           m->index_off + SST_UNIT_HEADER_SIZE <= m->size_bytes - SST_FOOTER_SIZE;
}

static int get_sst(struct bytes_reader *r, bool encrypted, struct manifest_sst *s)
{
    struct sst_meta *m = &s->meta;
    uint32_t small_len = 0;
    uint32_t large_len = 0;
    s->level = bytes_u8(r);
    m->epoch = bytes_le64(r);
    m->counter = bytes_le64(r);
    m->run = bytes_le64(r);
    m->size_bytes = bytes_le64(r);
    m->filter_off = bytes_le64(r);
    m->index_off = bytes_le64(r);
    m->entries = bytes_le64(r);
    m->tombstones = bytes_le64(r);
    const uint8_t *salt = bytes_take(r, SST_SALT_SIZE);
    m->cipher = encrypted ? bytes_u8(r) : CRYPT_NONE;
    const uint8_t *small = get_key(r, &small_len);
    const uint8_t *large = get_key(r, &large_len);
    if (bytes_bad(r) || m->index_off >= 1ull << 32 || !sst_is_sound(s) ||
        index_key_compare(small, small_len, large, large_len) > 0 ||
        crypt_cipher_ok(m->cipher) != encrypted) {
        return -EBADMSG;
    }
    memcpy(m->salt, salt, SST_SALT_SIZE);
    return sst_meta_keys(m, small, small_len, large, large_len);
}

/* Level by level; level 0 newest run first, and within a run, as in the levels below, by key and
 * disjoint. */
static bool follows(const struct manifest_sst *a, const struct manifest_sst *b)
{
    if (a->level != b->level) {
        return a->level < b->level;
    }
    if (a->level == 0 && a->meta.run != b->meta.run) {
        return a->meta.run > b->meta.run;
    }
    return index_key_compare(a->meta.largest, a->meta.largest_len, b->meta.smallest,
                             b->meta.smallest_len) < 0;
}

static int get_ssts(struct bytes_reader *r, bool encrypted, struct manifest *m)
{
    uint64_t count = bytes_varint(r);
    for (uint64_t i = 0; i < count; i++) {
        struct manifest_sst s = {0};
        int err = get_sst(r, encrypted, &s);
        if (err < 0) {
            return err;
        }
        bool fits = m->ssts.len == 0 || follows(&m->ssts.at[m->ssts.len - 1], &s);
        err = fits ? vec_push(&m->ssts, s) : -EBADMSG;
        if (err < 0) {
            sst_meta_free(&s.meta);
            return err;
        }
    }
    return bytes_done(r) ? 0 : -EBADMSG;
}

static int get_body(struct bytes_reader *r, bool encrypted, struct manifest *m)
{
    const uint8_t *open_id = bytes_take(r, 16);
    const uint8_t *journal = bytes_take(r, 16);
    m->replay_from = bytes_le64(r);
    m->log_epoch = bytes_le64(r);
    m->last_batch = bytes_le64(r);
    m->closed_through = bytes_le64(r);
    m->swept_through = bytes_le64(r);
    uint8_t flags = bytes_u8(r);
    uint64_t owner_len = bytes_varint(r);
    if (owner_len >= INDEX_OWNER_SIZE) {
        return -EBADMSG;
    }
    const uint8_t *owner = bytes_take(r, owner_len);
    if (bytes_bad(r) || m->replay_from == 0) {
        return -EBADMSG;
    }
    memcpy(m->open_id.bytes, open_id, 16);
    memcpy(m->journal.bytes, journal, 16);
    memcpy(m->owner, owner, owner_len);
    m->clean = flags & BODY_FLAG_CLEAN;
    m->journal_in_use = flags & BODY_FLAG_JOURNAL;
    return get_ssts(r, encrypted, m);
}

int manifest_decode(const struct index_home *home, const void *bytes, size_t len,
                    struct manifest *ret_m)
{
    struct manifest m = {0};
    const uint8_t *body = (const uint8_t *)bytes + MANIFEST_HEADER_SIZE;
    auto_free uint8_t *room = NULL;
    int r = look_at_header(home, bytes, len);
    if (r < 0) {
        return r;
    }
    size_t body_len = len - MANIFEST_HEADER_SIZE;
    if (home->keys) {
        room = calloc(1, body_len);
        r = room ? open_body(home, bytes, body_len, room) : -ENOMEM;
        body = room;
        body_len -= TAG_SIZE;
    }
    if (r == 0) {
        r = get_header(home, bytes, &m);
    }
    if (r < 0) {
        return r;
    }
    struct bytes_reader reader = bytes_reader_of(body, body_len);
    r = get_body(&reader, home->keys != NULL, &m);
    if (r < 0) {
        manifest_free(&m);
        return r;
    }
    *ret_m = m;
    return 0;
}

void manifest_name(uint64_t number, char ret_name[OBJ_NAME_SIZE])
{
    (void)snprintf(ret_name, OBJ_NAME_SIZE, MANIFEST_PREFIX "%016llx",
                   (unsigned long long)(UINT64_MAX - number));
}

/* 16 lower-case hex digits, and nothing else but `end` after them. */
static bool hex_parse(const char *text, char end, uint64_t *ret_value)
{
    uint64_t v = 0;
    for (int i = 0; i < 16; i++) {
        char c = text[i];
        bool digit = c >= '0' && c <= '9';
        if (!digit && !(c >= 'a' && c <= 'f')) {
            return false;
        }
        v = v << 4 | (uint64_t)(digit ? c - '0' : c - 'a' + 10);
    }
    *ret_value = v;
    return text[16] == end;
}

int manifest_name_parse(const char *name, uint64_t *ret_number)
{
    uint64_t v;
    size_t prefix = sizeof MANIFEST_PREFIX - 1;
    if (strncmp(name, MANIFEST_PREFIX, prefix) != 0 || !hex_parse(name + prefix, '\0', &v)) {
        return -EINVAL;
    }
    *ret_number = UINT64_MAX - v;
    return 0;
}

void sst_name(uint64_t epoch, uint64_t counter, char ret_name[OBJ_NAME_SIZE])
{
    (void)snprintf(ret_name, OBJ_NAME_SIZE, SST_PREFIX "%016llx-%016llx", (unsigned long long)epoch,
                   (unsigned long long)counter);
}

int sst_name_parse(const char *name, uint64_t *ret_epoch, uint64_t *ret_counter)
{
    uint64_t epoch;
    uint64_t counter;
    size_t prefix = sizeof SST_PREFIX - 1;
    if (strncmp(name, SST_PREFIX, prefix) != 0 || !hex_parse(name + prefix, '-', &epoch) ||
        !hex_parse(name + prefix + 17, '\0', &counter)) {
        return -EINVAL;
    }
    *ret_epoch = epoch;
    *ret_counter = counter;
    return 0;
}
