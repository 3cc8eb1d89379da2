/* SPDX-License-Identifier: Apache-2.0 */
/* A record: one byte says how long the key is. What decodes is encoded the same again. */
#include "base/assert.h"
#include "dev/access.h"
#include "dev/loss_record.h"
#include "dev/overwrite.h"
#include "dev/paths.h"
#include "dev/record.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void device(const struct dev_record_bytes *in)
{
    struct dev_info info;
    uint8_t key[DEV_KEY_MAX];
    uint8_t value[DEV_VALUE_MAX];
    if (dev_record_decode(in, &info) < 0) {
        return;
    }
    ASSERT(dev_record_key(&info, key) == in->key_len);
    ASSERT(memcmp(key, in->key, in->key_len) == 0);
    size_t n = dev_record_value(&info, value);
    bool more = info.same_to_end || info.overwrite;
    ASSERT(!more || n <= in->value_len);
    /* The last byte, the saved modes, may be missing: then none are saved. */
    size_t both = n <= in->value_len ? n : n - 1;
    ASSERT(both <= in->value_len && (both == n || info.saved_modes == 0));
    both -= more; /* a byte of flags */
    /* All but the unknown flags. */
    ASSERT(memcmp(value + 2, (const uint8_t *)in->value + 2, both - 2) == 0);
}

static void target(const struct dev_record_bytes *in)
{
    struct dev_target_info info;
    uint8_t key[DEV_KEY_MAX];
    if (dev_target_decode(in, &info) == 0) {
        ASSERT(dev_target_key(info.iqn, key) == in->key_len);
        ASSERT(memcmp(key, in->key, in->key_len) == 0);
    }
}

static void overwrite(const struct dev_record_bytes *in)
{
    struct dev_overwrite *o;
    struct bytes_writer w = {0};
    if (dev_overwrite_decode(in->value, in->value_len, &o) < 0) {
        return;
    }
    dev_overwrite_encode(o, &w);
    ASSERT(w.len == in->value_len && memcmp(w.data, in->value, w.len) == 0);
    bytes_writer_free(&w);
    free(o);
}

/* Entries that are neither active nor owed are left out when it is encoded. */
static void loss(const struct dev_record_bytes *in)
{
    struct dev_loss_record rec;
    if (dev_loss_decode(in->value, in->value_len, &rec) < 0) {
        return;
    }
    struct bytes_writer w = {0};
    dev_loss_encode(&rec, &w);
    ASSERT(w.len <= in->value_len);
    bytes_writer_free(&w);
    dev_loss_record_free(&rec);
}

/* Units and tags come in order: what was encoded says the same. */
static void paths(const struct dev_record_bytes *in)
{
    struct dev_paths *p;
    struct dev_paths *again;
    struct bytes_writer w = {0};
    if (dev_paths_decode(in->value, in->value_len, &p) < 0) {
        return;
    }
    if (dev_paths_encode(p, &w) == 0) {
        ASSERT(dev_paths_decode(w.data, w.len, &again) == 0);
        ASSERT(again->member_count == p->member_count && again->state_count == p->state_count);
        ASSERT(again->luns.len == p->luns.len);
        dev_paths_unref(again);
    }
    bytes_writer_free(&w);
    dev_paths_unref(p);
}

static void groups(const struct dev_record_bytes *in)
{
    struct dev_groups *s;
    struct dev_groups *again;
    struct bytes_writer w = {0};
    if (dev_groups_decode(in->value, in->value_len, &s) < 0) {
        return;
    }
    if (dev_groups_encode(s, &w) == 0) {
        ASSERT(dev_groups_decode(w.data, w.len, &again) == 0);
        ASSERT(again->groups.len == s->groups.len);
        dev_groups_unref(again);
    }
    bytes_writer_free(&w);
    dev_groups_unref(s);
}

static void access_rules(const struct dev_record_bytes *in)
{
    struct dev_access *a;
    struct dev_access *again;
    struct bytes_writer w = {0};
    if (dev_access_decode(in->value, in->value_len, &a) < 0) {
        return;
    }
    if (dev_access_encode(a, &w) == 0) {
        ASSERT(dev_access_decode(w.data, w.len, &again) == 0);
        ASSERT(again->account_count == a->account_count && again->acl_count == a->acl_count);
        ASSERT(again->map_count == a->map_count && !again->own.secret == !a->own.secret);
        ASSERT(dev_access_has(again, true) == dev_access_has(a, true));
        dev_access_unref(again);
    }
    bytes_writer_free(&w);
    dev_access_unref(a);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0 || size - 1 < data[0]) {
        return 0;
    }
    struct dev_record_bytes in = {.key = data + 1,
                                  .key_len = data[0],
                                  .value = data + 1 + data[0],
                                  .value_len = size - 1 - data[0]};
    device(&in);
    target(&in);
    overwrite(&in);
    loss(&in);
    paths(&in);
    groups(&in);
    access_rules(&in);
    return 0;
}
