/* SPDX-License-Identifier: Apache-2.0 */
#include "index/sst_writer.h"
#include "base/assert.h"
#include "base/crc32c.h"
#include "index/sst_filter.h"
#include "index/sst_unit.h"
#include <errno.h>
#include <string.h>

#define BODY_BUF_BYTES (256u << 10)

static const uint8_t magic[8] = SST_MAGIC;

/*
 * The object grows in counted buffers: `body` holds the full ones, `tail` the one being filled. All
 * multi-byte fields are little-endian; docs/FORMAT.md has the table.
 */
struct sst_writer {
    struct sst_id id;
    struct sst_key key;
    enum crypt_cipher cipher;
    uint64_t target_bytes;
    struct rt_chain body;
    struct rt_buf *tail;
    uint32_t tail_len;
    uint64_t raw_bytes;
    uint64_t entries;
    uint64_t tombstones;
    struct bytes_writer unit; /* scratch */
    struct bytes_writer first_key;
    VEC(uint64_t) hashes;
    struct sst_block_writer block;
    struct sst_block_writer index;
};

void sst_meta_free(struct sst_meta *m)
{
    free(m->smallest);
    m->smallest = NULL;
    m->largest = NULL;
}

int sst_meta_keys(struct sst_meta *m, const void *smallest, uint32_t smallest_len,
                  const void *largest, uint32_t largest_len)
{
    uint8_t *keys = malloc((size_t)smallest_len + largest_len);
    if (keys == NULL) {
        return -ENOMEM;
    }
    memcpy(keys, smallest, smallest_len);
    memcpy(keys + smallest_len, largest, largest_len);
    m->smallest = keys;
    m->largest = keys + smallest_len;
    m->smallest_len = smallest_len;
    m->largest_len = largest_len;
    return 0;
}

static uint64_t offset_now(const struct sst_writer *w)
{
    return w->body.len + w->tail_len;
}

static int flush_tail(struct sst_writer *w)
{
    if (w->tail_len == 0) {
        return 0;
    }
    int r = rt_chain_add(&w->body, w->tail, w->tail->data, w->tail_len);
    if (r < 0) {
        return r;
    }
    rt_buf_unref(take(w->tail));
    w->tail_len = 0;
    return 0;
}

static int append(struct sst_writer *w, const uint8_t *p, size_t len)
{
    while (len > 0) {
        if (w->tail == NULL) {
            int r = rt_buf_alloc(BODY_BUF_BYTES, RT_MEM_SEALING, &w->tail);
            if (r < 0) {
                return r;
            }
        }
        size_t n = MIN_OF(len, (size_t)(BODY_BUF_BYTES - w->tail_len));
        memcpy(w->tail->data + w->tail_len, p, n);
        w->tail_len += (uint32_t)n;
        p += n;
        len -= n;
        if (w->tail_len == BODY_BUF_BYTES) {
            int r = flush_tail(w);
            if (r < 0) {
                return r;
            }
        }
    }
    return 0;
}

static void header_encode(const struct sst_writer *w, uint8_t out[SST_HEADER_SIZE])
{
    memset(out, 0, SST_HEADER_SIZE);
    memcpy(out, magic, sizeof magic);
    le16_store(out + 8, SST_VERSION);
    out[10] = (uint8_t)w->cipher;
    le32_store(out + 12, SST_HEADER_SIZE);
    le64_store(out + 16, w->key.encrypted ? CRYPT_KEY_VOLUME : 0);
    memcpy(out + 24, w->id.volume.bytes, 16);
    le64_store(out + 40, w->id.epoch);
    le64_store(out + 48, w->id.counter);
    memcpy(out + 56, w->key.salt, SST_SALT_SIZE);
    le32_store(out + 92, crc32c(0, out, 92));
}

int sst_header_decode(const void *bytes, size_t len, const struct uuid *volume,
                      struct sst_meta *ret_meta)
{
    const uint8_t *p = bytes;
    if (len < SST_HEADER_SIZE || memcmp(p, magic, sizeof magic) != 0 ||
        le32_load(p + 92) != crc32c(0, p, 92) || le16_load(p + 8) != SST_VERSION ||
        (p[10] != CRYPT_NONE && !crypt_cipher_ok(p[10])) || le32_load(p + 12) != SST_HEADER_SIZE ||
        memcmp(p + 24, volume->bytes, 16) != 0) {
        return -EBADMSG;
    }
    *ret_meta = (struct sst_meta){
        .epoch = le64_load(p + 40), .counter = le64_load(p + 48), .cipher = p[10]};
    memcpy(ret_meta->salt, p + 56, SST_SALT_SIZE);
    return 0;
}

static void footer_encode(const struct sst_meta *m, uint8_t out[SST_FOOTER_SIZE])
{
    memset(out, 0, SST_FOOTER_SIZE);
    le64_store(out, m->index_off);
    le64_store(out + 8, m->filter_off);
    le64_store(out + 16, m->entries);
    le64_store(out + 24, m->tombstones);
    le64_store(out + 32, m->size_bytes);
    memcpy(out + 56, magic, sizeof magic);
    uint32_t crc = crc32c(0, m->salt, SST_SALT_SIZE);
    le32_store(out + 52, crc32c(crc, out, 52));
}

int sst_footer_decode(const void *bytes, size_t len, struct sst_meta *meta)
{
    const uint8_t *p = bytes;
    uint32_t crc = crc32c(0, meta->salt, SST_SALT_SIZE);
    if (len != SST_FOOTER_SIZE || memcmp(p + 56, magic, sizeof magic) != 0 ||
        le32_load(p + 52) != crc32c(crc, p, 52)) {
        return -EBADMSG;
    }
    meta->index_off = le64_load(p);
    meta->filter_off = le64_load(p + 8);
    meta->entries = le64_load(p + 16);
    meta->tombstones = le64_load(p + 24);
    meta->size_bytes = le64_load(p + 32);
    bool ordered = meta->filter_off >= SST_HEADER_SIZE && meta->index_off > meta->filter_off &&
                   meta->size_bytes >= SST_FOOTER_SIZE &&
                   meta->index_off < meta->size_bytes - SST_FOOTER_SIZE;
    return ordered ? 0 : -EBADMSG;
}

int sst_writer_create(const struct sst_id *id, const uint8_t salt[SST_SALT_SIZE],
                      uint64_t target_bytes, struct sst_writer **ret_w)
{
    struct sst_writer *w = calloc(1, sizeof *w);
    if (w == NULL) {
        return -ENOMEM;
    }
    w->id = *id;
    w->cipher = crypt_keys_cipher(id->keys);
    int r = sst_key_init(&(struct index_home){id->volume, id->keys},
                         &(struct sst_name){id->epoch, id->counter}, salt, w->cipher, &w->key);
    if (r < 0) {
        free(w);
        return r;
    }
    w->target_bytes = target_bytes;
    w->block.restart_interval = SST_RESTART_INTERVAL;
    w->index.restart_interval = 1;
    uint8_t header[SST_HEADER_SIZE];
    header_encode(w, header);
    r = append(w, header, sizeof header);
    if (r < 0) {
        sst_writer_free(w);
        return r;
    }
    *ret_w = w;
    return 0;
}

void sst_writer_free(struct sst_writer *w)
{
    if (w == NULL) {
        return;
    }
    rt_chain_free(&w->body);
    rt_buf_unref(w->tail);
    bytes_writer_free(&w->unit);
    bytes_writer_free(&w->first_key);
    vec_free(&w->hashes);
    sst_block_writer_free(&w->block);
    sst_block_writer_free(&w->index);
    sst_key_wipe(&w->key);
    free(w);
}

static int put_unit(struct sst_writer *w, const void *raw, size_t raw_len, enum sst_unit_kind kind)
{
    w->unit.len = 0;
    int r = sst_unit_encode(&w->key, raw, raw_len, offset_now(w), kind, &w->unit);
    if (r < 0) {
        return r;
    }
    return append(w, w->unit.data, w->unit.len);
}

/* Closes the data block, and names it in the index by its last key. */
static int close_block(struct sst_writer *w)
{
    uint64_t off = offset_now(w);
    int r = sst_block_finish(&w->block);
    if (r < 0) {
        return r;
    }
    r = put_unit(w, w->block.raw.data, w->block.raw.len, SST_UNIT_DATA);
    if (r < 0) {
        return r;
    }
    w->raw_bytes += w->block.raw.len;
    uint8_t place[12];
    le64_store(place, off);
    le32_store(place + 8, (uint32_t)(offset_now(w) - off));
    struct index_entry e = {.key = w->block.last_key,
                            .key_len = w->block.last_key_len,
                            .value = place,
                            .value_len = sizeof place};
    r = sst_block_add(&w->index, &e);
    sst_block_reset(&w->block);
    return r;
}

int sst_writer_add(struct sst_writer *w, const struct index_entry *e)
{
    if (w->block.entries > 0 && sst_block_size_with(&w->block, e) > SST_BLOCK_BYTES) {
        int r = close_block(w);
        if (r < 0) {
            return r;
        }
    }
    if (w->entries == 0) {
        bytes_put(&w->first_key, e->key, e->key_len);
        if (w->first_key.failed) {
            return -ENOMEM;
        }
    }
    int r = vec_push(&w->hashes, sst_filter_hash(e->key, e->key_len));
    if (r < 0) {
        return r;
    }
    w->entries++;
    w->tombstones += e->deleted;
    return sst_block_add(&w->block, e);
}

bool sst_writer_is_full(const struct sst_writer *w)
{
    return offset_now(w) + w->hashes.len * SST_FILTER_BITS_PER_KEY / 8 >= w->target_bytes ||
           w->raw_bytes >= SST_TARGET_RAW_BYTES;
}

uint64_t sst_writer_entries(const struct sst_writer *w)
{
    return w->entries;
}

static int put_tables(struct sst_writer *w, struct sst_meta *m)
{
    struct bytes_writer filter = {0};
    int r = sst_filter_build(w->hashes.at, w->hashes.len, &filter);
    if (r == 0) {
        m->filter_off = offset_now(w);
        r = put_unit(w, filter.data, filter.len, SST_UNIT_FILTER);
    }
    bytes_writer_free(&filter);
    if (r < 0) {
        return r;
    }
    r = sst_block_finish(&w->index);
    if (r < 0) {
        return r;
    }
    m->index_off = offset_now(w);
    return put_unit(w, w->index.raw.data, w->index.raw.len, SST_UNIT_INDEX);
}

int sst_writer_finish(struct sst_writer *w, struct sst_meta *ret_meta)
{
    ASSERT(w->entries > 0);
    struct sst_meta m = {.epoch = w->id.epoch,
                         .counter = w->id.counter,
                         .entries = w->entries,
                         .tombstones = w->tombstones,
                         .cipher = w->cipher};
    memcpy(m.salt, w->key.salt, SST_SALT_SIZE);
    int r = close_block(w);
    if (r < 0) {
        return r;
    }
    r = put_tables(w, &m);
    if (r < 0) {
        return r;
    }
    m.size_bytes = offset_now(w) + SST_FOOTER_SIZE;
    uint8_t footer[SST_FOOTER_SIZE];
    footer_encode(&m, footer);
    r = append(w, footer, sizeof footer);
    if (r < 0) {
        return r;
    }
    r = flush_tail(w);
    if (r < 0) {
        return r;
    }
    r = sst_meta_keys(&m, w->first_key.data, (uint32_t)w->first_key.len, w->index.last_key,
                      w->index.last_key_len);
    if (r < 0) {
        return r;
    }
    *ret_meta = m;
    return 0;
}

const struct rt_chain *sst_writer_body(const struct sst_writer *w)
{
    return &w->body;
}
