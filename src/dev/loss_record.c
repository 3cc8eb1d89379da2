/* SPDX-License-Identifier: Apache-2.0 */
#include "dev/loss_record.h"
#include "base/bytes.h"
#include "base/err.h"
#include <stdlib.h>
#include <string.h>

#define VERSION 1u

enum {
    FLAG_ACTIVE = 1,
    FLAG_OWED = 2,
    FLAG_ALONE = 4,
};

void dev_loss_key(const struct uuid *device, uint8_t ret_key[DEV_LOSS_KEY_BYTES])
{
    ret_key[0] = DEV_KEY_LOSS;
    memcpy(ret_key + 1, device->bytes, 16);
}

bool dev_loss_is_stored(const struct dev_loss_nexus *n)
{
    return n->active || n->owed;
}

static uint8_t flags_of(const struct dev_loss_nexus *n)
{
    unsigned flags = n->active ? FLAG_ACTIVE : 0;
    if (n->owed) {
        flags |= n->alone ? FLAG_OWED | FLAG_ALONE : FLAG_OWED;
    }
    return (uint8_t)flags;
}

void dev_loss_encode(const struct dev_loss_record *rec, struct bytes_writer *ret_value)
{
    bytes_put_u8(ret_value, VERSION);
    bytes_put_le64(ret_value, rec->epoch);
    for (size_t i = 0; i < rec->nexuses.len; i++) {
        const struct dev_loss_nexus *n = &rec->nexuses.at[i];
        if (!dev_loss_is_stored(n)) {
            continue;
        }
        size_t len = strlen(n->name);
        bytes_put_u8(ret_value, flags_of(n));
        bytes_put_u8(ret_value, (uint8_t)len);
        bytes_put(ret_value, n->name, len);
    }
}

static int decode_nexus(struct bytes_reader *in, struct dev_loss_record *rec)
{
    uint8_t flags = bytes_u8(in);
    uint8_t len = bytes_u8(in);
    const uint8_t *name = bytes_take(in, len);
    if (!name || (len > 0 && memchr(name, 0, len)) || rec->nexuses.len == DEV_LOSS_NEXUSES_MAX) {
        return ERR_CORRUPT_RECORD;
    }
    struct dev_loss_nexus n = {.name = bytes_text(name, len),
                               .active = flags & FLAG_ACTIVE,
                               .owed = flags & FLAG_OWED,
                               .alone = flags & FLAG_ALONE};
    int r = n.name ? vec_push(&rec->nexuses, n) : -ENOMEM;
    if (r < 0) {
        free(n.name);
    }
    return r;
}

int dev_loss_decode(const void *value, size_t len, struct dev_loss_record *ret_record)
{
    struct bytes_reader in = bytes_reader_of(value, len);
    uint8_t version = bytes_u8(&in);
    if (version > VERSION) {
        return -ENOTSUP;
    }
    struct dev_loss_record rec = {.epoch = bytes_le64(&in)};
    int r = bytes_bad(&in) || version == 0 ? ERR_CORRUPT_RECORD : 0;
    while (r == 0 && bytes_left(&in) > 0) {
        r = decode_nexus(&in, &rec);
    }
    if (r < 0) {
        dev_loss_record_free(&rec);
        return r;
    }
    *ret_record = rec;
    return 0;
}

void dev_loss_record_free(struct dev_loss_record *rec)
{
    for (size_t i = 0; i < rec->nexuses.len; i++) {
        free(rec->nexuses.at[i].name);
    }
    vec_free(&rec->nexuses);
}
