/* SPDX-License-Identifier: Apache-2.0 */
#include "vol/key.h"
#include "base/err.h"

static struct vol_key key_of(uint8_t kind, const uint64_t *parts, unsigned count)
{
    struct vol_key k = {.len = 1 + 8 * count};
    k.bytes[0] = kind;
    for (unsigned i = 0; i < count; i++) {
        be64_store(k.bytes + 1 + 8 * i, parts[i]);
    }
    return k;
}

static bool parts_of(const void *key, size_t len, uint8_t kind, uint64_t *parts, unsigned count)
{
    struct bytes_reader r = bytes_reader_of(key, len);
    uint8_t got = bytes_u8(&r);
    for (unsigned i = 0; i < count; i++) {
        parts[i] = bytes_be64(&r);
    }
    return got == kind && bytes_done(&r);
}

struct vol_key vol_key_counters(void)
{
    return key_of(VOL_KEY_COUNTERS, NULL, 0);
}

struct vol_key vol_key_inode(uint64_t inode)
{
    return key_of(VOL_KEY_INODE, &inode, 1);
}

struct vol_key vol_key_page(uint64_t layer, uint64_t page)
{
    return key_of(VOL_KEY_PAGE, (const uint64_t[]){layer, page}, 2);
}

struct vol_key vol_key_hole(uint64_t layer, uint64_t batch, uint64_t first_page)
{
    return key_of(VOL_KEY_HOLE, (const uint64_t[]){layer, batch, first_page}, 3);
}

struct vol_key vol_key_segment(uint64_t seq)
{
    return key_of(VOL_KEY_SEGMENT, &seq, 1);
}

struct vol_key vol_key_backrefs(uint64_t seq)
{
    return key_of(VOL_KEY_BACKREF, &seq, 1);
}

struct vol_key vol_key_backref(uint64_t seq, uint32_t frame_offset, uint64_t layer, uint64_t page)
{
    struct vol_key k = vol_key_backrefs(seq);
    struct be32 offset = be32_of(frame_offset);
    memcpy(k.bytes + k.len, &offset, sizeof offset);
    be64_store(k.bytes + k.len + 4, layer);
    be64_store(k.bytes + k.len + 12, page);
    k.len += 20;
    return k;
}

int vol_key_backref_decode(const void *key, size_t len, uint64_t *ret_layer, uint64_t *ret_page)
{
    const uint8_t *p = key;
    if (len != vol_key_backrefs(0).len + 20 || p[0] != VOL_KEY_BACKREF) {
        return ERR_CORRUPT_RECORD;
    }
    *ret_layer = be64_load(p + len - 16);
    *ret_page = be64_load(p + len - 8);
    return 0;
}

struct vol_key vol_key_kind(uint8_t kind)
{
    return key_of(kind, NULL, 0);
}

int vol_key_page_decode(const void *key, size_t len, uint64_t *ret_layer, uint64_t *ret_page)
{
    uint64_t parts[2];
    if (!parts_of(key, len, VOL_KEY_PAGE, parts, 2)) {
        return ERR_CORRUPT_RECORD;
    }
    *ret_layer = parts[0];
    *ret_page = parts[1];
    return 0;
}

int vol_key_hole_decode(const void *key, size_t len, uint64_t ret_parts[3])
{
    uint64_t parts[3];
    if (!parts_of(key, len, VOL_KEY_HOLE, parts, 3)) {
        return ERR_CORRUPT_RECORD;
    }
    memcpy(ret_parts, parts, sizeof parts);
    return 0;
}

int vol_key_segment_decode(const void *key, size_t len, uint64_t *ret_seq)
{
    return parts_of(key, len, VOL_KEY_SEGMENT, ret_seq, 1) ? 0 : ERR_CORRUPT_RECORD;
}

void vol_inode_encode(const struct vol_inode *inode, struct bytes_writer *w)
{
    bytes_put_u8(w, VOL_INODE_VERSION);
    bytes_put_varint(w, inode->size);
    bytes_put_varint(w, inode->key_id);
    bytes_put_u8(w, (uint8_t)inode->layer_count);
    for (uint32_t i = 0; i < inode->layer_count; i++) {
        bytes_put_varint(w, inode->layers[i]);
    }
}

int vol_inode_decode(const void *value, size_t len, struct vol_inode *ret_inode)
{
    struct bytes_reader r = bytes_reader_of(value, len);
    uint8_t version = bytes_u8(&r);
    if (version > VOL_INODE_VERSION) {
        return ERR_FORMAT_TOO_NEW;
    }
    struct vol_inode inode = {.size = bytes_varint(&r), .key_id = bytes_varint(&r)};
    inode.layer_count = bytes_u8(&r);
    if (version == 0 || inode.layer_count == 0 || inode.layer_count > VOL_LAYERS_MAX) {
        return ERR_CORRUPT_RECORD;
    }
    for (uint32_t i = 0; i < inode.layer_count; i++) {
        inode.layers[i] = bytes_varint(&r);
    }
    if (!bytes_done(&r) || inode.size > VOL_SIZE_MAX) {
        return ERR_CORRUPT_RECORD;
    }
    *ret_inode = inode;
    return 0;
}

void vol_hole_encode(const struct vol_hole_value *hole, struct bytes_writer *w)
{
    bytes_put_varint(w, hole->flags);
    bytes_put_varint(w, hole->count);
    bytes_put_varint(w, hole->done_upto);
}

int vol_hole_decode(const void *value, size_t len, struct vol_hole_value *ret_hole)
{
    struct bytes_reader r = bytes_reader_of(value, len);
    struct vol_hole_value hole = {.flags = bytes_varint(&r)};
    hole.count = bytes_varint(&r);
    hole.done_upto = bytes_varint(&r);
    if (!bytes_done(&r)) {
        return ERR_CORRUPT_RECORD;
    }
    if (hole.flags & ~(uint64_t)VOL_HOLE_MASKS) {
        return ERR_FORMAT_TOO_NEW;
    }
    *ret_hole = hole;
    return 0;
}

void vol_segment_encode(const struct vol_segment_value *seg, struct bytes_writer *w)
{
    bytes_put_varint(w, seg->live);
    if (seg->salt.cipher != CRYPT_NONE) {
        bytes_put_u8(w, (uint8_t)seg->salt.cipher);
        bytes_put(w, seg->salt.bytes, sizeof seg->salt.bytes);
    }
}

int vol_segment_decode(const void *value, size_t len, struct vol_segment_value *ret_seg)
{
    struct bytes_reader r = bytes_reader_of(value, len);
    struct vol_segment_value seg = {.live = bytes_varint(&r)};
    if (bytes_left(&r) > 0) {
        uint8_t cipher = bytes_u8(&r);
        const uint8_t *salt = bytes_take(&r, sizeof seg.salt.bytes);
        if (!salt) {
            return ERR_CORRUPT_RECORD;
        }
        if (!crypt_cipher_ok(cipher)) {
            return ERR_FORMAT_TOO_NEW;
        }
        seg.salt.cipher = cipher;
        memcpy(seg.salt.bytes, salt, sizeof seg.salt.bytes);
    }
    if (!bytes_done(&r)) {
        return ERR_CORRUPT_RECORD;
    }
    *ret_seg = seg;
    return 0;
}

void vol_number_encode(uint64_t number, struct bytes_writer *w)
{
    bytes_put_varint(w, number);
}

int vol_number_decode(const void *value, size_t len, uint64_t *ret_number)
{
    struct bytes_reader r = bytes_reader_of(value, len);
    uint64_t number = bytes_varint(&r);
    if (!bytes_done(&r)) {
        return ERR_CORRUPT_RECORD;
    }
    *ret_number = number;
    return 0;
}
