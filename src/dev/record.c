/* SPDX-License-Identifier: Apache-2.0 */
#include "dev/record.h"
#include "base/err.h"
#include <string.h>

#define TARGET_VERSION 1
#define THRESHOLDS_END (43 + 8 * DEV_THRESHOLDS)

enum {
    FLAG_WRITE_CACHE = 1,
    FLAG_READ_ONLY = 2,
    FLAG_REMOVABLE = 4,
    FLAG_EJECTED = 8,
    FLAG_SANITIZING = 16,
    FLAG_SANITIZE_FAILED = 32,
    FLAG_SANITIZE_AUSE = 64,
};

/* In a byte of their own. */
enum {
    MORE_SAME_TO_END = 1,
    MORE_OVERWRITE = 2,
};

size_t dev_record_key(const struct dev_info *info, uint8_t ret_key[DEV_KEY_MAX])
{
    size_t n = strnlen(info->name, DEV_NAME_MAX);
    ret_key[0] = DEV_KEY_DEVICE;
    ret_key[1] = (uint8_t)info->kind;
    memcpy(ret_key + 2, info->name, n);
    n += 2;
    if (info->kind == DEV_ISCSI) {
        ret_key[n++] = 0;
        be32_store(ret_key + n, info->lun);
        n += 4;
    }
    return n;
}

static uint8_t sanitize_flags(const struct dev_info *info)
{
    static const uint8_t states[] = {[DEV_SANITIZED_NOT] = 0,
                                     [DEV_SANITIZING] = FLAG_SANITIZING,
                                     [DEV_SANITIZE_FAILED] = FLAG_SANITIZE_FAILED};
    return (uint8_t)(states[info->sanitize] | (info->sanitize_ause ? FLAG_SANITIZE_AUSE : 0));
}

static uint8_t more_flags(const struct dev_info *info)
{
    return (uint8_t)((info->same_to_end ? MORE_SAME_TO_END : 0) |
                     (info->overwrite ? MORE_OVERWRITE : 0));
}

/* The first version that has to know all of it. */
static uint8_t version_of(const struct dev_info *info)
{
    if (more_flags(info)) {
        return 5;
    }
    if (sanitize_flags(info)) {
        return 4;
    }
    return info->removable ? 3 : info->read_only ? 2 : 1;
}

size_t dev_record_value(const struct dev_info *info, uint8_t ret_value[DEV_VALUE_MAX])
{
    uint8_t *p = ret_value;
    p[0] = version_of(info);
    p[1] =
        (uint8_t)((info->write_cache ? FLAG_WRITE_CACHE : 0) |
                  (info->read_only ? FLAG_READ_ONLY : 0) | (info->removable ? FLAG_REMOVABLE : 0) |
                  (info->ejected ? FLAG_EJECTED : 0) | sanitize_flags(info));
    memcpy(p + 2, info->uuid.bytes, 16);
    le64_store(p + 18, info->inode);
    le64_store(p + 26, info->created_ns);
    le32_store(p + 34, info->logical_block_bytes);
    le32_store(p + 38, info->physical_block_bytes);
    p[42] = info->saved_modes;
    size_t n = 43;
    for (unsigned i = 0; i < DEV_THRESHOLDS; i++) {
        le64_store(p + 43 + 8 * i, info->saved_thresholds[i]);
        n = info->saved_thresholds[i] ? THRESHOLDS_END : n;
    }
    p[THRESHOLDS_END] = more_flags(info);
    return p[THRESHOLDS_END] ? THRESHOLDS_END + 1 : n;
}

size_t dev_target_key(const char *iqn, uint8_t ret_key[DEV_KEY_MAX])
{
    size_t n = strnlen(iqn, DEV_IQN_MAX);
    ret_key[0] = DEV_KEY_TARGET;
    memcpy(ret_key + 1, iqn, n);
    return n + 1;
}

size_t dev_target_value(const struct dev_target_info *info, uint8_t ret_value[DEV_VALUE_MAX])
{
    uint8_t *p = ret_value;
    p[0] = (uint8_t)((info->confined ? DEV_TARGET_CONFINED : TARGET_VERSION) + info->ruled);
    memcpy(p + 1, info->uuid.bytes, 16);
    le64_store(p + 17, info->created_ns);
    size_t len = strnlen(info->moved_to, DEV_MOVED_MAX);
    if (len == 0) {
        return 25;
    }
    p[25] = info->moved_for_good ? 2 : 1;
    p[26] = (uint8_t)len;
    memcpy(p + 27, info->moved_to, len);
    return 27 + len;
}

/* A name of 1 to max bytes without NUL. */
static int take_name(struct bytes_reader *r, size_t len, size_t max, char *ret_name)
{
    const uint8_t *p = bytes_take(r, len);
    if (!p || len == 0 || len > max || memchr(p, 0, len)) {
        return ERR_CORRUPT_RECORD;
    }
    memcpy(ret_name, p, len);
    ret_name[len] = '\0';
    return 0;
}

static int decode_key(const struct dev_record_bytes *in, struct dev_info *info)
{
    struct bytes_reader r = bytes_reader_of(in->key, in->key_len);
    uint8_t first = bytes_u8(&r);
    uint8_t kind = bytes_u8(&r);
    if (bytes_bad(&r) || first != DEV_KEY_DEVICE || kind > DEV_ISCSI) {
        return ERR_CORRUPT_RECORD;
    }
    info->kind = kind;
    if (kind == DEV_NBD) {
        return take_name(&r, bytes_left(&r), DEV_NAME_MAX, info->name);
    }
    if (bytes_left(&r) < 5) {
        return ERR_CORRUPT_RECORD;
    }
    int rc = take_name(&r, bytes_left(&r) - 5, DEV_IQN_MAX, info->name);
    if (rc < 0) {
        return rc;
    }
    uint8_t zero = bytes_u8(&r);
    info->lun = bytes_be32(&r);
    return zero == 0 && info->lun <= DEV_LUN_MAX ? 0 : ERR_CORRUPT_RECORD;
}

static bool block_size_ok(uint32_t n)
{
    return n >= 512 && n <= 65536 && (n & (n - 1)) == 0;
}

int dev_record_decode(const struct dev_record_bytes *in, struct dev_info *ret_info)
{
    struct dev_info info = {0};
    int rc = decode_key(in, &info);
    if (rc < 0) {
        return rc;
    }
    struct bytes_reader r = bytes_reader_of(in->value, in->value_len);
    uint8_t version = bytes_u8(&r);
    if (version > DEV_RECORD_VERSION) {
        return -ENOTSUP;
    }
    uint8_t flags = bytes_u8(&r);
    const uint8_t *uuid = bytes_take(&r, 16);
    info.inode = bytes_le64(&r);
    info.created_ns = bytes_le64(&r);
    info.logical_block_bytes = bytes_le32(&r);
    info.physical_block_bytes = bytes_le32(&r);
    if (bytes_bad(&r) || version == 0 || !block_size_ok(info.logical_block_bytes) ||
        !block_size_ok(info.physical_block_bytes)) {
        return ERR_CORRUPT_RECORD;
    }
    memcpy(info.uuid.bytes, uuid, 16);
    info.write_cache = flags & FLAG_WRITE_CACHE;
    info.read_only = flags & FLAG_READ_ONLY;
    info.removable = flags & FLAG_REMOVABLE;
    info.ejected = info.removable && flags & FLAG_EJECTED;
    info.sanitize_ause = flags & FLAG_SANITIZE_AUSE;
    if (flags & (FLAG_SANITIZING | FLAG_SANITIZE_FAILED)) {
        info.sanitize = flags & FLAG_SANITIZING ? DEV_SANITIZING : DEV_SANITIZE_FAILED;
    }
    if (bytes_left(&r) > 0) {
        info.saved_modes = bytes_u8(&r);
    }
    for (unsigned i = 0; i < DEV_THRESHOLDS && in->value_len >= THRESHOLDS_END; i++) {
        info.saved_thresholds[i] = bytes_le64(&r);
    }
    if (version >= 5) {
        if (in->value_len <= THRESHOLDS_END) {
            return ERR_CORRUPT_RECORD;
        }
        uint8_t more = bytes_u8(&r);
        info.same_to_end = more & MORE_SAME_TO_END;
        info.overwrite = more & MORE_OVERWRITE;
    }
    if (bytes_bad(&r)) {
        return ERR_CORRUPT_RECORD;
    }
    *ret_info = info;
    return 0;
}

/* What may follow: where initiators are sent. */
static int decode_moved(struct bytes_reader *r, struct dev_target_info *info)
{
    if (bytes_left(r) == 0) {
        return 0;
    }
    uint8_t kind = bytes_u8(r);
    uint8_t len = bytes_u8(r);
    info->moved_for_good = kind == 2;
    if (bytes_bad(r) || kind < 1 || kind > 2) {
        return ERR_CORRUPT_RECORD;
    }
    return take_name(r, len, DEV_MOVED_MAX, info->moved_to);
}

int dev_target_decode(const struct dev_record_bytes *in, struct dev_target_info *ret_info)
{
    struct dev_target_info info = {0};
    struct bytes_reader k = bytes_reader_of(in->key, in->key_len);
    if (bytes_u8(&k) != DEV_KEY_TARGET || take_name(&k, bytes_left(&k), DEV_IQN_MAX, info.iqn)) {
        return ERR_CORRUPT_RECORD;
    }
    struct bytes_reader r = bytes_reader_of(in->value, in->value_len);
    uint8_t version = bytes_u8(&r);
    if (version > DEV_TARGET_CONFINED + 1) {
        return -ENOTSUP;
    }
    const uint8_t *uuid = bytes_take(&r, 16);
    info.created_ns = bytes_le64(&r);
    if (bytes_bad(&r) || version == 0) {
        return ERR_CORRUPT_RECORD;
    }
    memcpy(info.uuid.bytes, uuid, 16);
    info.ruled = version == DEV_TARGET_RULED || version == DEV_TARGET_CONFINED + 1;
    info.confined = version >= DEV_TARGET_CONFINED;
    int rc = decode_moved(&r, &info);
    if (rc < 0) {
        return rc;
    }
    *ret_info = info;
    return 0;
}
