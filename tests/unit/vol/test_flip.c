/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A small volume whose objects are spoilt in every way: each byte is changed, objects are cut at
 * each length, shown under each other's names, taken away, left out of listings, replaced by those
 * of a copy of the volume that went its own way, or of one that is not encrypted. Opening and
 * reading give what was written, or an error that names damage; never anything else. What is wrong
 * only once, on the way, is not noticed by anybody, nor is an object that a listing leaves out.
 */
#include "base/msg.h"
#include "crypt/secret.h"
#include "index/index.h"
#include "vol/superblock.h"
#include "vol/vol_format.h"
#include "volume.h"
#include <inttypes.h>
#include <sys/stat.h>

#define BLOCKS 24u
#define TEXT "planted contents of a block, "
#define OWNER "planted-owner"
#define DEVICE "planted-device"
#define IQN "iqn.2026-01.planted:target"

enum spoil {
    SPOIL_NONE,
    SPOIL_FLIP,
    SPOIL_FLIP_ONCE, /* each object's first GET of the byte */
    SPOIL_CUT,
    SPOIL_SWAP,
    SPOIL_UNLISTED, /* it is there, and listings leave it out */
    SPOIL_GONE,
    SPOIL_ALIEN, /* what another store has under the name */
};

/* A store that shows one object otherwise than it is. */
struct spoiler {
    struct obj_store store;
    enum spoil how;
    const char *name;
    const char *other; /* SWAP: what is shown under the name */
    struct obj_store *alien;
    bool is_put; /* GONE: it was created anew */
    uint64_t at; /* the byte, or the length */
    uint8_t flip;
    bool done;
};

static struct spoiler *spoiler_of(struct obj_store *s)
{
    return container_of(s, struct spoiler, store);
}

static const char *shown(const struct spoiler *p, const char *name)
{
    return p->how == SPOIL_SWAP && strcmp(name, p->name) == 0 ? p->other : name;
}

static bool is_hidden(const struct spoiler *p, const char *name)
{
    return p->how == SPOIL_GONE && !p->is_put && strcmp(name, p->name) == 0;
}

static struct obj_store *holder(const struct spoiler *p, const char *name)
{
    return p->how == SPOIL_ALIEN && strcmp(name, p->name) == 0 ? p->alien : p->store.next;
}

static int spoiler_put(struct obj_store *s, enum obj_class c, const char *name,
                       const struct rt_chain *body)
{
    int r = obj_put(s->next, c, name, body);
    struct spoiler *p = spoiler_of(s);
    p->is_put = p->is_put || (r == 0 && strcmp(name, p->name) == 0);
    return r;
}

static ssize_t spoiler_get(struct obj_store *s, enum obj_class c, const char *name, uint64_t off,
                           void *dst, size_t len)
{
    struct spoiler *p = spoiler_of(s);
    if (is_hidden(p, name)) {
        return -ENOENT;
    }
    ssize_t got = obj_get(holder(p, name), c, shown(p, name), off, dst, len);
    if (got <= 0 || p->how == SPOIL_NONE || strcmp(name, p->name) != 0) {
        return got;
    }
    if (p->how == SPOIL_CUT) {
        return off >= p->at ? 0 : (ssize_t)MIN_OF((uint64_t)got, p->at - off);
    }
    bool flips = p->how == SPOIL_FLIP || p->how == SPOIL_FLIP_ONCE;
    if (flips && p->at >= off && p->at < off + (uint64_t)got && !p->done) {
        ((uint8_t *)dst)[p->at - off] ^= p->flip;
        p->done = p->how == SPOIL_FLIP_ONCE;
    }
    return got;
}

static int spoiler_head(struct obj_store *s, enum obj_class c, const char *name, uint64_t *ret_size)
{
    struct spoiler *p = spoiler_of(s);
    int r = is_hidden(p, name) ? -ENOENT : obj_head(holder(p, name), c, shown(p, name), ret_size);
    if (r == 0 && p->how == SPOIL_CUT && strcmp(name, p->name) == 0) {
        *ret_size = p->at;
    }
    return r;
}

static int spoiler_list(struct obj_store *s, enum obj_class c, const char *prefix,
                        const char *after, size_t max, struct obj_names *ret_names)
{
    struct spoiler *p = spoiler_of(s);
    bool omits = p->how == SPOIL_UNLISTED || (p->how == SPOIL_GONE && !p->is_put);
    int r = obj_list(s->next, c, prefix, after, max + omits, ret_names);
    for (size_t i = 0; r == 0 && omits && i < ret_names->names.len; i++) {
        char **at = &ret_names->names.at[i];
        if (strcmp(*at, p->name) == 0) {
            free(*at);
            memmove(at, at + 1, (ret_names->names.len - i - 1) * sizeof *at);
            ret_names->names.len--;
            break;
        }
    }
    if (r == 0 && ret_names->names.len > max) {
        free(ret_names->names.at[--ret_names->names.len]);
        ret_names->more = true;
    }
    return r;
}

static int spoiler_remove(struct obj_store *s, enum obj_class c, const char *name)
{
    /* Old key objects stay, as after a crash: a listing that leaves the new one out shows them. */
    bool stays = strncmp(name, VOL_KEYS_PREFIX, strlen(VOL_KEYS_PREFIX)) == 0;
    return stays ? 0 : obj_remove(s->next, c, name);
}

static void spoiler_close(struct obj_store *s)
{
    obj_close(s->next);
}

static const struct obj_ops spoiler_ops = {.name = "spoiler",
                                           .put = spoiler_put,
                                           .get = spoiler_get,
                                           .head = spoiler_head,
                                           .list = spoiler_list,
                                           .remove = spoiler_remove,
                                           .close = spoiler_close};

/* A volume, and what must be read from it. */
struct kind {
    enum crypt_cipher cipher;
    struct log_compression compression;
};

struct trial {
    struct kind kind;
    struct spoiler spoiler;
    struct crypt_access access;
    struct obj_names names;
    uint64_t *sizes;
    uint64_t inode;
    uint8_t model[BLOCKS * VOL_BLOCK_BYTES];
    uint8_t older[BLOCKS * VOL_BLOCK_BYTES]; /* after the first life */
    uint8_t variant;                         /* of what is written */
    bool older_is_good;                      /* the end of the log was taken away */
    uint64_t errors;                         /* trials that ended with one */
    uint64_t good;
};

static const struct crypt_access *access_of(const struct trial *t)
{
    return t->kind.cipher == CRYPT_NONE ? NULL : &t->access;
}

static int open_it(struct trial *t, bool read_only, struct vol **ret_v)
{
    struct crypt_keys *keys = NULL;
    int r = vol_keys_load(&t->spoiler.store, access_of(t), &keys);
    if (r == 0) {
        struct vol_options opt = {.store = &t->spoiler.store,
                                  .keys = keys,
                                  .owner = OWNER,
                                  .takeover = true,
                                  .read_only = read_only,
                                  .compression = t->kind.compression,
                                  .memory_bytes = 8u << 20,
                                  .delete_after_ms = 1u << 30};
        r = vol_open(&opt, ret_v);
    }
    crypt_keys_unref(keys);
    return r;
}

static void put_pair(struct vol *v, const char *name, const char *value)
{
    struct vol_txn *txn;
    assert_int_equal(vol_txn_begin(v, &txn), 0);
    assert_int_equal(vol_txn_put(txn, name, strlen(name), value, strlen(value)), 0);
    assert_int_equal(vol_txn_commit(txn), 0);
}

/* Every third block is noise, the others are text. */
static void write_blocks(struct trial *t, struct vol_file *f, unsigned first, unsigned count)
{
    struct rng g = rng_seeded(first + 1);
    uint8_t *at = t->model + (size_t)first * VOL_BLOCK_BYTES;
    uint32_t len = count * VOL_BLOCK_BYTES;
    struct rt_chain chain = {0};
    struct rt_buf *b;
    for (uint32_t i = 0; i < len; i++) {
        bool noise = (first + i / VOL_BLOCK_BYTES) % 3 == 2;
        at[i] = noise ? (uint8_t)rng_next(&g) : (uint8_t)TEXT[i % (sizeof TEXT - 1)];
        at[i] = (uint8_t)(at[i] + t->variant);
    }
    assert_int_equal(rt_buf_alloc(len, RT_MEM_INGRESS, &b), 0);
    memcpy(b->data, at, len);
    assert_int_equal(rt_chain_add(&chain, b, b->data, len), 0);
    rt_buf_unref(b);
    assert_int_equal(vol_write(f, (uint64_t)first * VOL_BLOCK_BYTES, &chain, NULL), 0);
    rt_chain_free(&chain);
}

/* Of two lives: of the first there are SSTs, of the second only the log. */
static void live_first(struct trial *t)
{
    struct vol *v;
    struct vol_file *f;
    struct vol_txn *txn;
    assert_int_equal(open_it(t, false, &v), 0);
    assert_int_equal(vol_txn_begin(v, &txn), 0);
    assert_int_equal(vol_txn_inode_create(txn, sizeof t->model, &t->inode), 0);
    assert_int_equal(vol_txn_commit(txn), 0);
    put_pair(v, "@" DEVICE, IQN);
    assert_int_equal(vol_file_open(v, t->inode, &f), 0);
    write_blocks(t, f, 0, 3);
    write_blocks(t, f, 13, 1);
    vol_file_close(f);
    assert_int_equal(vol_close(v), 0);
    memcpy(t->older, t->model, sizeof t->older);
}

static void live_again(struct trial *t)
{
    struct vol *v;
    struct vol_file *f;
    assert_int_equal(open_it(t, false, &v), 0);
    assert_int_equal(vol_file_open(v, t->inode, &f), 0);
    write_blocks(t, f, 1, 1);
    write_blocks(t, f, 16, 1);
    put_pair(v, "@2" DEVICE, "later");
    assert_int_equal(vol_flush(v), 0);
    vol_file_close(f);
    vol_abandon(v);
}

static bool is_named_damage(int r)
{
    return r == ERR_CORRUPT_SEGMENT || r == ERR_CORRUPT_FRAME || r == ERR_CORRUPT_INDEX ||
           r == ERR_CORRUPT_MANIFEST || r == ERR_CORRUPT_SUPERBLOCK || r == ERR_CORRUPT_KEY ||
           r == ERR_BAD_PAGE || r == ERR_LOG_GAP || r == ERR_LOG_ORDER;
}

/* So is what says that something is not there, where that is so. */
static bool is_expected(const struct trial *t, int r)
{
    bool absent = r == ERR_NOT_A_VOLUME || r == ERR_PREFIX_NOT_EMPTY || r == -ESTALE || r == -EIO ||
                  r == ERR_FENCED;
    /* The old one is the valid one when the new one is gone: what opens it is another. */
    bool old_key = r == ERR_WRONG_PASSWORD && t->spoiler.how == SPOIL_GONE;
    bool plain = r == ERR_NOT_ENCRYPTED && t->spoiler.how == SPOIL_ALIEN;
    return is_named_damage(r) || old_key || plain || (t->spoiler.how == SPOIL_GONE && absent);
}

static void explain(const struct trial *t, const char *what, int r)
{
    const struct spoiler *p = &t->spoiler;
    fail_msg("%s (%s); %s, %s, way %d, at %" PRIu64 ", other %s", what, err_name(r),
             crypt_cipher_name(t->kind.cipher), p->name, (int)p->how, p->at,
             p->other ? p->other : "-");
}

static void expect_pair(struct trial *t, struct vol *v, const char *name, const char *value)
{
    struct bytes_writer got = {0};
    int r = vol_get(v, name, strlen(name), &got);
    if (r == 0 && (got.len != strlen(value) || memcmp(got.data, value, got.len) != 0)) {
        explain(t, "a wrong value", r);
    }
    if (r < 0 && !is_expected(t, r) && !(r == -ENOENT && t->older_is_good)) {
        explain(t, "a value is not there", r);
    }
    t->errors += r < 0;
    bytes_writer_free(&got);
}

static bool is_right(const struct trial *t, const uint8_t *got, unsigned block)
{
    size_t at = (size_t)block * VOL_BLOCK_BYTES;
    return memcmp(got, t->model + at, VOL_BLOCK_BYTES) == 0 ||
           (t->older_is_good && memcmp(got, t->older + at, VOL_BLOCK_BYTES) == 0);
}

static void expect_blocks(struct trial *t, struct vol *v)
{
    struct vol_file *f;
    int r = vol_file_open(v, t->inode, &f);
    if (r < 0 && !is_expected(t, r)) {
        explain(t, "the inode", r);
    }
    t->errors += r < 0;
    for (unsigned i = 0; r == 0 && i < BLOCKS; i++) {
        static uint8_t got[VOL_BLOCK_BYTES];
        struct rt_chain chain = {0};
        int one = vol_read(f, (uint64_t)i * VOL_BLOCK_BYTES, VOL_BLOCK_BYTES, &chain);
        if (one < 0 && !is_expected(t, one)) {
            explain(t, "a block", one);
        }
        t->errors += one < 0;
        if (one == 0) {
            rt_chain_copy_out(&chain, 0, got, sizeof got);
            if (!is_right(t, got, i)) {
                explain(t, "wrong bytes", 0);
            }
        }
        rt_chain_free(&chain);
    }
    if (r == 0) {
        vol_file_close(f);
    }
}

/* Opens it for reading and looks at everything. */
static void look(struct trial *t)
{
    struct vol *v;
    uint64_t before = t->errors;
    t->spoiler.done = false;
    int r = open_it(t, true, &v);
    if (r < 0 && !is_expected(t, r)) {
        explain(t, "opening", r);
    }
    t->errors += r < 0;
    if (r == 0) {
        expect_pair(t, v, "@" DEVICE, IQN);
        expect_pair(t, v, "@2" DEVICE, "later");
        expect_blocks(t, v);
        assert_int_equal(vol_close(v), 0);
    }
    t->good += before == t->errors;
}

static void flip_all(struct trial *t, size_t object)
{
    t->spoiler.how = SPOIL_FLIP;
    t->spoiler.name = t->names.names.at[object];
    for (uint64_t at = 0; at < t->sizes[object]; at++) {
        t->spoiler.at = at;
        t->spoiler.flip = (uint8_t)(1u << at % 8);
        look(t);
    }
}

static struct obj_store *copy_of(const struct trial *t)
{
    struct obj_store *to;
    assert_int_equal(obj_mem_open(&to), 0);
    for (size_t i = 0; i < t->names.names.len; i++) {
        const char *name = t->names.names.at[i];
        struct rt_chain body = {0};
        struct rt_buf *b;
        size_t len;
        assert_int_equal(obj_get_all(t->spoiler.store.next, OBJ_READ, name, 1 << 20, &b, &len), 0);
        assert_int_equal(rt_chain_add(&body, b, b->data, (uint32_t)len), 0);
        assert_int_equal(obj_put(to, OBJ_COMMIT, name, &body), 0);
        rt_chain_free(&body);
        rt_buf_unref(b);
    }
    return to;
}

/* Who takes the volume over replays as well, and looks behind the end of the log. */
static void look_as_writer(struct trial *t)
{
    struct obj_store *kept = t->spoiler.store.next;
    struct obj_store *copy = copy_of(t);
    struct vol *v;
    uint64_t before = t->errors;
    t->spoiler.store.next = copy;
    t->spoiler.is_put = false;
    if (t->spoiler.how == SPOIL_GONE) {
        assert_int_equal(obj_remove(copy, OBJ_COMMIT, t->spoiler.name), 0);
    }
    int r = open_it(t, false, &v);
    if (r < 0 && !is_expected(t, r)) {
        explain(t, "opening for writing", r);
    }
    t->errors += r < 0;
    if (r == 0) {
        expect_pair(t, v, "@2" DEVICE, "later");
        expect_blocks(t, v);
        vol_abandon(v);
    }
    t->good += before == t->errors;
    t->spoiler.store.next = kept;
    t->spoiler.is_put = false;
    obj_close(copy);
}

static void flip_for_writer(struct trial *t, size_t object)
{
    t->spoiler.how = SPOIL_FLIP;
    t->spoiler.name = t->names.names.at[object];
    for (uint64_t at = object % 23; at < t->sizes[object]; at += 23) {
        t->spoiler.at = at;
        t->spoiler.flip = (uint8_t)(1u << at % 8);
        look_as_writer(t);
    }
}

static void flip_once(struct trial *t, size_t object)
{
    uint64_t before = t->errors;
    t->spoiler.how = SPOIL_FLIP_ONCE;
    t->spoiler.name = t->names.names.at[object];
    for (uint64_t at = 0; at < t->sizes[object]; at += 97) {
        t->spoiler.at = at;
        t->spoiler.flip = 4;
        look(t);
        if (t->errors != before) {
            explain(t, "damage on the way was not mended", 0);
        }
    }
}

static void cut_all(struct trial *t, size_t object)
{
    t->spoiler.how = SPOIL_CUT;
    t->spoiler.name = t->names.names.at[object];
    for (uint64_t at = 0; at < t->sizes[object]; at += at < 300 ? 1 : 61) {
        t->spoiler.at = at;
        look(t);
    }
}

static void swap_all(struct trial *t)
{
    t->spoiler.how = SPOIL_SWAP;
    for (size_t i = 0; i < t->names.names.len; i++) {
        for (size_t k = 0; k < t->names.names.len; k++) {
            t->spoiler.name = t->names.names.at[i];
            t->spoiler.other = t->names.names.at[k];
            if (i != k) {
                look(t);
            }
            if (i != k && (i + k) % 7 == 0) {
                look_as_writer(t);
            }
        }
    }
    t->spoiler.other = NULL;
}

/* A listing that leaves something out makes nobody take an older state for the newest. */
static void leave_out_all(struct trial *t)
{
    uint64_t before = t->errors;
    t->spoiler.how = SPOIL_UNLISTED;
    for (size_t i = 0; i < t->names.names.len; i++) {
        t->spoiler.name = t->names.names.at[i];
        look(t);
        look_as_writer(t);
        if (t->errors != before) {
            explain(t, "a listing decided", 0);
        }
    }
}

/* Who takes away the end of the log gets an older state, as after a crash; never another. */
static void take_away_all(struct trial *t)
{
    t->spoiler.how = SPOIL_GONE;
    for (size_t i = 0; i < t->names.names.len; i++) {
        t->spoiler.name = t->names.names.at[i];
        t->older_is_good = strncmp(t->spoiler.name, "segments/", 9) == 0;
        look(t);
        look_as_writer(t);
    }
    t->older_is_good = false;
}

static void replace_all(struct trial *t, struct obj_store *alien)
{
    t->spoiler.how = SPOIL_ALIEN;
    t->spoiler.alien = alien;
    for (size_t i = 0; i < t->names.names.len; i++) {
        uint64_t size;
        t->spoiler.name = t->names.names.at[i];
        if (obj_head(alien, OBJ_READ, t->spoiler.name, &size) == 0) {
            look(t);
            look_as_writer(t);
        }
    }
    obj_close(alien);
}

/* Looks for what was planted in everything that is stored. */
static bool finds(struct trial *t, const char *needle)
{
    bool found = false;
    for (size_t i = 0; i < t->names.names.len; i++) {
        struct rt_buf *b;
        size_t len;
        assert_int_equal(
            obj_get_all(t->spoiler.store.next, OBJ_READ, t->names.names.at[i], 1 << 20, &b, &len),
            0);
        found = found || memmem(b->data, len, needle, strlen(needle)) != NULL;
        rt_buf_unref(b);
    }
    return found;
}

static void search(struct trial *t)
{
    static const char *const needles[] = {OWNER, DEVICE, IQN, "planted contents"};
    for (size_t i = 0; i < ARRAY_LEN(needles); i++) {
        bool found = finds(t, needles[i]);
        assert_int_equal(found, t->kind.cipher == CRYPT_NONE);
    }
}

static void list_all(struct trial *t)
{
    obj_names_free(&t->names);
    assert_int_equal(obj_list(t->spoiler.store.next, OBJ_READ, "", "", 1000, &t->names), 0);
}

/* From a copy of the volume after its first life: another second life of it. */
static struct obj_store *make_branch(const struct trial *t, struct obj_store *copy)
{
    struct trial *b = malloc(sizeof *b);
    assert_non_null(b);
    *b = *t;
    b->spoiler.store.next = copy;
    b->variant = 7;
    live_again(b);
    free(b);
    return copy;
}

/* A volume in clear that says it is the same one. */
static struct obj_store *make_plain(struct trial *t)
{
    struct trial *p = malloc(sizeof *p);
    struct vol_superblock sb;
    uint8_t bytes[VOL_SUPERBLOCK_BYTES];
    struct rt_chain body = {0};
    struct obj_store *s;
    assert_non_null(p);
    assert_int_equal(vol_superblock_read(t->spoiler.store.next, true, &sb), 0);
    assert_int_equal(obj_mem_open(&s), 0);
    sb.incompatible &= ~VOL_FEATURE_ENCRYPTED;
    vol_superblock_encode(&sb, bytes);
    assert_int_equal(rt_chain_add(&body, NULL, bytes, sizeof bytes), 0);
    assert_int_equal(obj_put(s, OBJ_COMMIT, VOL_SUPERBLOCK_NAME, &body), 0);
    rt_chain_free(&body);
    assert_int_equal(index_format(s, &sb.uuid, NULL), 0);
    *p = *t;
    p->spoiler.store.next = s;
    p->spoiler.how = SPOIL_NONE;
    p->kind.cipher = CRYPT_NONE;
    p->variant = 9;
    live_first(p);
    live_again(p);
    free(p);
    return s;
}

/* From now on the volume opens with another key, and not with the one before. */
static void change_key(struct trial *t)
{
    struct crypt_keys *keys;
    struct crypt_access fresh = t->access;
    uint8_t secret[CRYPT_KEY_BYTES] = {1};
    assert_int_equal(vol_keys_load(&t->spoiler.store, &t->access, &keys), 0);
    fresh.secret = crypt_secret_create(secret, sizeof secret);
    assert_non_null(fresh.secret);
    assert_int_equal(vol_keys_change(&t->spoiler.store, keys, &fresh), 0);
    crypt_keys_unref(keys);
    crypt_secret_free(t->access.secret);
    t->access = fresh;
}

static void start(struct trial *t, const struct kind *k, struct obj_store **ret_branch)
{
    t->kind = *k;
    t->spoiler.store.ops = &spoiler_ops;
    assert_int_equal(obj_mem_open(&t->spoiler.store.next), 0);
    t->access = (struct crypt_access){.kdf = CRYPT_KDF_NONE,
                                      .secret = crypt_secret_create(NULL, CRYPT_KEY_BYTES),
                                      .cipher = k->cipher};
    assert_non_null(t->access.secret);
    t->spoiler.name = "";
    assert_int_equal(
        vol_format(&t->spoiler.store, &(struct vol_format_options){.access = access_of(t)}), 0);
    live_first(t);
    list_all(t);
    struct obj_store *copy = copy_of(t);
    live_again(t);
    *ret_branch = make_branch(t, copy);
    if (k->cipher != CRYPT_NONE) {
        change_key(t);
    }
    list_all(t);
    t->sizes = calloc(t->names.names.len, sizeof *t->sizes);
    assert_non_null(t->sizes);
    for (size_t i = 0; i < t->names.names.len; i++) {
        assert_int_equal(
            obj_head(t->spoiler.store.next, OBJ_READ, t->names.names.at[i], &t->sizes[i]), 0);
    }
    t->spoiler.name = "";
    look(t);
    assert_int_equal(t->errors, 0);
}

static void end(struct trial *t)
{
    crypt_secret_free((struct crypt_secret *)(uintptr_t)t->access.secret);
    obj_names_free(&t->names);
    free(t->sizes);
    obj_close(t->spoiler.store.next);
    free(t);
}

static void spoil_main(void *arg)
{
    const struct kind *k = arg;
    struct trial *t = calloc(1, sizeof *t);
    assert_non_null(t);
    struct obj_store *branch;
    start(t, k, &branch);
    search(t);
    for (size_t i = 0; i < t->names.names.len; i++) {
        flip_once(t, i);
        flip_all(t, i);
        flip_for_writer(t, i);
        cut_all(t, i);
    }
    assert_true(t->errors > 1000); /* it did spoil them */
    swap_all(t);
    leave_out_all(t);
    take_away_all(t);
    replace_all(t, branch);
    if (k->cipher != CRYPT_NONE) {
        replace_all(t, make_plain(t));
    }
    end(t);
}

static void run(enum crypt_cipher cipher, struct log_compression c)
{
    struct kind k = {cipher, c};
    struct rt_options opt = {.cores = 1, .sim = true, .sim_seed = 3};
    assert_int_equal(rt_run(&opt, spoil_main, &k), 0);
}

static void plain(void **state)
{
    (void)state;
    run(CRYPT_NONE, (struct log_compression){LOG_CODEC_NONE, 0});
}

static void plain_lz4(void **state)
{
    (void)state;
    run(CRYPT_NONE, (struct log_compression){LOG_CODEC_LZ4, 0});
}

static void aes_zstd(void **state)
{
    (void)state;
    run(CRYPT_AES_256_GCM, (struct log_compression){LOG_CODEC_ZSTD, 3});
}

static void aes_lz4(void **state)
{
    (void)state;
    run(CRYPT_AES_256_GCM, (struct log_compression){LOG_CODEC_LZ4, 0});
}

static void chacha(void **state)
{
    (void)state;
    run(CRYPT_CHACHA20_POLY1305, (struct log_compression){LOG_CODEC_NONE, 0});
}

int main(void)
{
    msg_level_set((enum msg_level) - 1);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(plain),   cmocka_unit_test(plain_lz4), cmocka_unit_test(aes_zstd),
        cmocka_unit_test(aes_lz4), cmocka_unit_test(chacha),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
