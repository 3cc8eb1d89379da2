/* SPDX-License-Identifier: Apache-2.0 */
/* The superblock: what a volume is and which features it uses. Created once, read back, never
 * changed (I9). */
#include "base/bytes.h"
#include "base/crc32c.h"
#include "base/err.h"
#include "base/msg.h"
#include "vol/keyring.h"
#include "vol/vol_priv.h"

/* docs/FORMAT.md "Superblock". */
#define AT_VERSION 8
#define AT_PAGE_BLOCKS 12
#define AT_UUID 16
#define AT_COMPATIBLE 32
#define AT_READ_ONLY 40
#define AT_INCOMPATIBLE 48
#define AT_CRC (VOL_SUPERBLOCK_BYTES - 4)

void vol_superblock_encode(const struct vol_superblock *sb, uint8_t out[VOL_SUPERBLOCK_BYTES])
{
    memset(out, 0, VOL_SUPERBLOCK_BYTES);
    bytes_field(out, VOL_SUPERBLOCK_MAGIC, VOL_SUPERBLOCK_MAGIC_LEN);
    le32_store(out + AT_VERSION, VOL_FORMAT_VERSION);
    le32_store(out + AT_PAGE_BLOCKS, VOL_PAGE_BLOCKS);
    memcpy(out + AT_UUID, sb->uuid.bytes, sizeof sb->uuid.bytes);
    le64_store(out + AT_COMPATIBLE, sb->compatible);
    le64_store(out + AT_READ_ONLY, sb->read_only_compatible);
    le64_store(out + AT_INCOMPATIBLE, sb->incompatible);
    le32_store(out + AT_CRC, crc32c(0, out, AT_CRC));
}

int vol_superblock_decode(const void *bytes, size_t len, bool read_only,
                          struct vol_superblock *ret_sb)
{
    const uint8_t *b = bytes;
    if (len < VOL_SUPERBLOCK_BYTES ||
        memcmp(b, VOL_SUPERBLOCK_MAGIC, VOL_SUPERBLOCK_MAGIC_LEN) != 0 ||
        le32_load(b + AT_CRC) != crc32c(0, b, AT_CRC)) {
        return ERR_CORRUPT_SUPERBLOCK;
    }
    struct vol_superblock sb = {.compatible = le64_load(b + AT_COMPATIBLE),
                                .read_only_compatible = le64_load(b + AT_READ_ONLY),
                                .incompatible = le64_load(b + AT_INCOMPATIBLE)};
    memcpy(sb.uuid.bytes, b + AT_UUID, sizeof sb.uuid.bytes);
    bool too_new = le32_load(b + AT_VERSION) != VOL_FORMAT_VERSION ||
                   le32_load(b + AT_PAGE_BLOCKS) != VOL_PAGE_BLOCKS ||
                   (sb.incompatible & ~VOL_FEATURES_INCOMPATIBLE) != 0 ||
                   (!read_only && (sb.read_only_compatible & ~VOL_FEATURES_READ_ONLY_COMPATIBLE));
    if (too_new) {
        return ERR_FORMAT_TOO_NEW;
    }
    *ret_sb = sb;
    return 0;
}

int vol_superblock_read(struct obj_store *store, bool read_only, struct vol_superblock *ret_sb)
{
    uint8_t bytes[VOL_SUPERBLOCK_BYTES];
    int r = ERR_CORRUPT_SUPERBLOCK;
    for (unsigned tries = 0; tries < 2 && r == ERR_CORRUPT_SUPERBLOCK; tries++) {
        if (tries > 0) {
            obj_tell_spoilt(VOL_SUPERBLOCK_NAME);
        }
        ssize_t n = obj_get(store, OBJ_INDEX, VOL_SUPERBLOCK_NAME, 0, bytes, sizeof bytes);
        if (n < 0) {
            return n == -ENOENT ? ERR_NOT_A_VOLUME : (int)n;
        }
        r = vol_superblock_decode(bytes, (size_t)n, read_only, ret_sb);
    }
    return r;
}

int vol_probe(struct obj_store *store)
{
    struct vol_superblock sb;
    return vol_superblock_read(store, true, &sb);
}

/* 0 = nothing is there; 1 = a superblock and at most a key object: an interrupted format; -EEXIST,
 * ERR_PREFIX_NOT_EMPTY. */
static int look_around(struct obj_store *store)
{
    struct obj_names names = {0};
    int r = obj_list(store, OBJ_INDEX, "", "", 3, &names);
    if (r < 0) {
        return r;
    }
    size_t count = names.names.len;
    bool begun =
        count > 0 && count <= 2 && strcmp(names.names.at[count - 1], VOL_SUPERBLOCK_NAME) == 0 &&
        (count == 1 || strncmp(names.names.at[0], VOL_KEYS_PREFIX, strlen(VOL_KEYS_PREFIX)) == 0);
    obj_names_free(&names);
    if (count == 0) {
        return 0;
    }
    if (begun) {
        return 1;
    }
    uint64_t size;
    r = obj_head(store, OBJ_INDEX, VOL_SUPERBLOCK_NAME, &size);
    if (r == 0) {
        return -EEXIST;
    }
    return r == -ENOENT ? ERR_PREFIX_NOT_EMPTY : r;
}

static int put_superblock(struct obj_store *store, const struct vol_superblock *sb)
{
    uint8_t bytes[VOL_SUPERBLOCK_BYTES];
    struct rt_chain body = {0};
    vol_superblock_encode(sb, bytes);
    int r = rt_chain_add(&body, NULL, bytes, sizeof bytes);
    if (r == 0) {
        r = obj_put(store, OBJ_INDEX, VOL_SUPERBLOCK_NAME, &body);
    }
    rt_chain_free(&body);
    /* Taken, perhaps by an earlier attempt of ours: what is there decides. */
    return r == -EEXIST ? 0 : r;
}

int vol_format(struct obj_store *store, const struct vol_format_options *opt)
{
    int r = look_around(store);
    if (r < 0) {
        return r;
    }
    struct vol_superblock ours = {.uuid = opt->uuid,
                                  .incompatible = opt->access ? VOL_FEATURE_ENCRYPTED : 0};
    struct uuid zero = {{0}};
    if (uuid_equal(&ours.uuid, &zero)) {
        rt_random_bytes(&ours.uuid, sizeof ours.uuid);
    }
    bool resumed = r == 1;
    if (!resumed) {
        r = put_superblock(store, &ours);
        if (r < 0) {
            return r;
        }
    }
    struct vol_superblock there;
    r = vol_superblock_read(store, false, &there);
    if (r < 0) {
        return r;
    }
    if (!resumed && !uuid_equal(&there.uuid, &ours.uuid)) {
        return -EEXIST;
    }
    struct crypt_keys *keys = NULL;
    r = vol_keys_fit(&there, opt->access != NULL);
    if (r == 0 && opt->access) {
        r = vol_keys_create(store, &there, opt->access, &keys);
    }
    if (r == 0) {
        r = index_format(store, &there.uuid, keys);
    }
    crypt_keys_unref(keys);
    return r;
}
