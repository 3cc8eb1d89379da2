/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Entry: varint shared (with the key before it), varint unshared, varint value_len << 1 | deleted,
 * the unshared bytes of the key, the value. At a restart point shared is 0. After the entries: the
 * restart points as le32 offsets, and their count.
 */
#include "index/sst_block.h"
#include "base/endian.h"
#include <errno.h>
#include <string.h>

#define ENTRY_HEAD_MAX 15 /* three varints of at most five bytes */

int index_key_compare(const void *a, size_t a_len, const void *b, size_t b_len)
{
    int c = memcmp(a, b, MIN_OF(a_len, b_len));
    return c != 0 ? c : (a_len > b_len) - (a_len < b_len);
}

void sst_block_writer_free(struct sst_block_writer *w)
{
    bytes_writer_free(&w->raw);
    vec_free(&w->restarts);
}

void sst_block_reset(struct sst_block_writer *w)
{
    w->raw.len = 0;
    w->restarts.len = 0;
    w->since_restart = 0;
    w->entries = 0;
    w->last_key_len = 0;
}

size_t sst_block_size(const struct sst_block_writer *w)
{
    return w->raw.len + w->restarts.len * 4 + 4;
}

size_t sst_block_size_with(const struct sst_block_writer *w, const struct index_entry *e)
{
    return sst_block_size(w) + ENTRY_HEAD_MAX + 4 + e->key_len + e->value_len;
}

static uint32_t shared_prefix(const struct sst_block_writer *w, const struct index_entry *e)
{
    uint32_t max = MIN_OF(w->last_key_len, e->key_len);
    uint32_t n = 0;
    while (n < max && w->last_key[n] == e->key[n]) {
        n++;
    }
    return n;
}

int sst_block_add(struct sst_block_writer *w, const struct index_entry *e)
{
    uint32_t shared = 0;
    if (w->restarts.len == 0 || w->since_restart == w->restart_interval) {
        int r = vec_push(&w->restarts, (uint32_t)w->raw.len);
        if (r < 0) {
            return r;
        }
        w->since_restart = 0;
    } else {
        shared = shared_prefix(w, e);
    }
    bytes_put_varint(&w->raw, shared);
    bytes_put_varint(&w->raw, e->key_len - shared);
    bytes_put_varint(&w->raw, (uint64_t)e->value_len << 1 | e->deleted);
    bytes_put(&w->raw, e->key + shared, e->key_len - shared);
    bytes_put(&w->raw, e->value, e->value_len);
    memcpy(w->last_key + shared, e->key + shared, e->key_len - shared);
    w->last_key_len = e->key_len;
    w->since_restart++;
    w->entries++;
    return w->raw.failed ? -ENOMEM : 0;
}

int sst_block_finish(struct sst_block_writer *w)
{
    for (size_t i = 0; i < w->restarts.len; i++) {
        bytes_put_le32(&w->raw, w->restarts.at[i]);
    }
    bytes_put_le32(&w->raw, (uint32_t)w->restarts.len);
    return w->raw.failed ? -ENOMEM : 0;
}

int sst_block_open(struct sst_block_iter *it, const void *raw, size_t len)
{
    if (len < 4 || len > SST_UNIT_RAW_MAX) {
        return -EBADMSG;
    }
    it->raw = raw;
    it->restart_count = le32_load(it->raw + len - 4);
    if (it->restart_count > (len - 4) / 4) {
        return -EBADMSG;
    }
    it->entries_end = (uint32_t)(len - 4 - (size_t)it->restart_count * 4);
    it->pos = 0;
    it->key_len = 0;
    it->value = it->raw;
    it->value_len = 0;
    it->deleted = false;
    return 0;
}

/* Lengths of the entry at the reader, which then stands at its key: false when it does not fit. */
static bool read_head(struct bytes_reader *r, uint64_t *shared, uint64_t *unshared, uint64_t *value)
{
    if (bytes_left(r) >= 3 && (r->at[0] | r->at[1] | r->at[2]) < 0x80) {
        *shared = r->at[0];
        *unshared = r->at[1];
        *value = r->at[2];
        r->at += 3;
    } else {
        *shared = bytes_varint(r);
        *unshared = bytes_varint(r);
        *value = bytes_varint(r);
    }
    return !bytes_bad(r) && *shared <= INDEX_KEY_MAX && *unshared <= INDEX_KEY_MAX - *shared &&
           *value >> 1 <= INDEX_VALUE_MAX && ((*value & 1) == 0 || *value == 1);
}

int sst_block_next(struct sst_block_iter *it)
{
    if (it->pos >= it->entries_end) {
        return 0;
    }
    struct bytes_reader r = bytes_reader_of(it->raw + it->pos, it->entries_end - it->pos);
    uint64_t shared, unshared, value;
    if (!read_head(&r, &shared, &unshared, &value) || shared > it->key_len ||
        shared + unshared == 0) {
        return -EBADMSG;
    }
    const uint8_t *suffix = bytes_take(&r, unshared);
    it->value = bytes_take(&r, value >> 1);
    if (bytes_bad(&r)) {
        return -EBADMSG;
    }
    memcpy(it->key + shared, suffix, unshared);
    it->key_len = (uint32_t)(shared + unshared);
    it->value_len = (uint32_t)(value >> 1);
    it->deleted = value & 1;
    it->pos = (uint32_t)(r.at - it->raw);
    return 1;
}

int sst_block_first(struct sst_block_iter *it)
{
    it->pos = 0;
    it->key_len = 0;
    return sst_block_next(it);
}

/* Compares the key at a restart point with key: 0 and *ret_order, or -EBADMSG. */
static int compare_restart(const struct sst_block_iter *it, uint32_t i, const void *key, size_t len,
                           int *ret_order, uint32_t *ret_pos)
{
    uint32_t pos = le32_load(it->raw + it->entries_end + (size_t)i * 4);
    if (pos >= it->entries_end) {
        return -EBADMSG;
    }
    struct bytes_reader r = bytes_reader_of(it->raw + pos, it->entries_end - pos);
    uint64_t shared, unshared, value;
    if (!read_head(&r, &shared, &unshared, &value) || shared != 0) {
        return -EBADMSG;
    }
    const uint8_t *at = bytes_take(&r, unshared);
    if (at == NULL) {
        return -EBADMSG;
    }
    *ret_order = index_key_compare(at, unshared, key, len);
    *ret_pos = pos;
    return 0;
}

int sst_block_seek(struct sst_block_iter *it, const void *key, size_t key_len)
{
    /* The last restart point whose key is not above ours: all before it are, all after it are not.
     */
    uint32_t low = 0;
    uint32_t high = it->restart_count;
    uint32_t start = 0;
    while (low < high) {
        uint32_t mid = low + (high - low) / 2;
        int order;
        uint32_t pos;
        int r = compare_restart(it, mid, key, key_len, &order, &pos);
        if (r < 0) {
            return r;
        }
        if (order <= 0) {
            low = mid + 1;
            start = pos;
        } else {
            high = mid;
        }
    }
    it->pos = start;
    it->key_len = 0;
    int r = sst_block_next(it);
    while (r == 1 && index_key_compare(it->key, it->key_len, key, key_len) < 0) {
        r = sst_block_next(it);
    }
    return r;
}

struct index_entry sst_block_entry(const struct sst_block_iter *it)
{
    return (struct index_entry){it->key, it->value, it->key_len, it->value_len, it->deleted};
}
