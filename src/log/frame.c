/* SPDX-License-Identifier: Apache-2.0 */
/* Reading frames, and removing segments. */
#include "base/err.h"
#include "base/msg.h"
#include "base/vec.h"
#include "crypt/secret.h"
#include "log/log_priv.h"
#include <inttypes.h>
#include <string.h>

/* By number of the segment: each slot holds the last one's key. */
#define KEY_LOCKS 16u

struct key_slot {
    uint64_t seq; /* 0 = none */
    struct segment_key key;
};

struct log_frames {
    struct log_frames_options opt;
    struct rt_mutex m[KEY_LOCKS];
    struct key_slot *slots; /* LOG_FRAME_KEYS, with opt.keys; in memory for secrets */
    struct crypt_secret *memory;
};

int log_frames_create(const struct log_frames_options *opt, struct log_frames **ret_frames)
{
    struct log_frames *f = calloc(1, sizeof *f);
    if (!f) {
        return -ENOMEM;
    }
    f->opt = *opt;
    if (opt->keys) {
        size_t align = _Alignof(struct key_slot);
        f->memory = crypt_secret_create(NULL, LOG_FRAME_KEYS * sizeof *f->slots + align);
        if (!f->memory) {
            free(f);
            return -ENOMEM;
        }
        uintptr_t at = ((uintptr_t)f->memory->bytes + align - 1) / align * align;
        f->slots = (struct key_slot *)at;
    }
    for (unsigned i = 0; i < KEY_LOCKS; i++) {
        rt_mutex_init(&f->m[i]);
    }
    *ret_frames = f;
    return 0;
}

void log_frames_destroy(struct log_frames *f)
{
    if (!f) {
        return;
    }
    for (unsigned i = 0; i < KEY_LOCKS; i++) {
        rt_mutex_destroy(&f->m[i]);
    }
    crypt_secret_free(f->memory);
    free(f);
}

static bool key_known(struct log_frames *f, uint64_t seq, struct segment_key *ret_key)
{
    unsigned at = (unsigned)(seq % LOG_FRAME_KEYS);
    struct key_slot *slot = &f->slots[at];
    rt_mutex_lock(&f->m[at % KEY_LOCKS]);
    bool known = slot->seq == seq;
    if (known) {
        *ret_key = slot->key;
    }
    rt_mutex_unlock(&f->m[at % KEY_LOCKS]);
    return known;
}

static void key_keep(struct log_frames *f, uint64_t seq, const struct segment_key *key)
{
    unsigned at = (unsigned)(seq % LOG_FRAME_KEYS);
    struct key_slot *slot = &f->slots[at];
    rt_mutex_lock(&f->m[at % KEY_LOCKS]);
    slot->seq = seq;
    slot->key = *key;
    rt_mutex_unlock(&f->m[at % KEY_LOCKS]);
}

static int key_of(struct log_frames *f, uint64_t seq, struct segment_key *ret_key)
{
    struct log_salt salt = {.cipher = CRYPT_NONE};
    int r = 0;
    if (f->opt.keys) {
        if (key_known(f, seq, ret_key)) {
            return 0;
        }
        r = f->opt.salt(f->opt.arg, seq, &salt);
        if (r == 0 && salt.cipher == CRYPT_NONE) {
            r = -EBADMSG; /* what is not encrypted is not this volume's */
        }
    }
    if (r == 0) {
        r = segment_key_init(&f->opt.volume, seq, &salt, f->opt.keys, ret_key);
    }
    if (r == 0 && f->opt.keys) {
        key_keep(f, seq, ret_key);
    }
    return r;
}

static int frame_fetch(struct obj_store *store, enum obj_class c, const char *name,
                       const struct log_location *at, uint8_t *dst)
{
    ssize_t n = obj_get(store, c, name, at->offset, dst, at->len_bytes);
    if (n < 0) {
        return (int)n;
    }
    return (size_t)n == at->len_bytes ? 0 : -EBADMSG;
}

static int frame_corrupt(const char *name, const struct log_location *at, const char *why)
{
    msg_error("log", "%s at %" PRIu32 " (%" PRIu32 " bytes): %s: %s", name, at->offset,
              at->len_bytes, err_text(ERR_CORRUPT_FRAME), why);
    return ERR_CORRUPT_FRAME;
}

static int frame_check(const struct log_frames *f, const struct log_location *at, unsigned count)
{
    bool good = count >= 1 && count <= LOG_FRAME_BLOCKS_MAX && at->len_bytes > SEGMENT_UNIT_BYTES &&
                at->len_bytes <= segment_frame_max(f->opt.keys != NULL, count);
    return good ? 0 : -EINVAL;
}

static int frame_decode(struct log_frames *f, const struct log_location *at, unsigned count,
                        const uint8_t *unit, struct rt_piece *ret_piece, const char **ret_why)
{
    struct segment_key key;
    *ret_why = "its segment has no key";
    int r = key_of(f, at->seq, &key);
    /* A buffer of just the blocks: the head would cost a cached block twice its size. */
    struct rt_piece out = {.len = count * LOG_BLOCK_BYTES, .buf = NULL};
    if (r == 0) {
        r = rt_buf_alloc(out.len, RT_MEM_BLOCK_CACHE, &out.buf);
    }
    if (r == 0) {
        out.data = out.buf->data;
        r = segment_frame_decode(&key, at, unit, count, out.buf->data, ret_why);
    }
    crypt_unit_wipe(&key.unit);
    if (r < 0) {
        rt_buf_unref(out.buf);
        return r;
    }
    *ret_piece = out;
    return 0;
}

int log_frame_decode(struct log_frames *f, const struct log_location *at, unsigned count,
                     const uint8_t *unit, struct rt_piece *ret_piece)
{
    const char *why;
    int r = frame_check(f, at, count);
    return r < 0 ? r : frame_decode(f, at, count, unit, ret_piece, &why);
}

static int frame_read(struct log_frames *f, enum obj_class c, const struct log_location *at,
                      unsigned count, int attempts, struct rt_piece *ret_piece)
{
    char name[OBJ_NAME_SIZE];
    const char *why = "the object ends before it";
    struct rt_buf *stored;
    int r = frame_check(f, at, count);
    if (r == 0) {
        r = rt_buf_alloc(at->len_bytes, RT_MEM_BLOCK_CACHE, &stored);
    }
    if (r < 0) {
        return r;
    }
    log_segment_name(at->seq, name);
    r = -EBADMSG;
    for (int i = 0; i < attempts && r == -EBADMSG; i++) {
        if (i > 0) {
            obj_tell_spoilt(name);
        }
        r = frame_fetch(f->opt.store, c, name, at, stored->data);
        if (r == 0) {
            r = frame_decode(f, at, count, stored->data, ret_piece, &why);
        }
    }
    rt_buf_unref(stored);
    return r == -EBADMSG || r == -ENOTSUP ? frame_corrupt(name, at, why) : r;
}

/* Twice, for what was wrong may have been the way and not the store. */
int log_frame_read(struct log_frames *f, enum obj_class c, const struct log_location *at,
                   unsigned count, struct rt_piece *ret_piece)
{
    return frame_read(f, c, at, count, 2, ret_piece);
}

int log_frame_reread(struct log_frames *f, enum obj_class c, const struct log_location *at,
                     unsigned count, struct rt_piece *ret_piece)
{
    char name[OBJ_NAME_SIZE];
    log_segment_name(at->seq, name);
    obj_tell_spoilt(name);
    return frame_read(f, c, at, count, 1, ret_piece);
}

/*
 * 1 = it may go, 0 = it is gone, or the error. Who may write to the store must not make us take a
 * fence for a segment of data: the header is believed as far as it is authentic, and a segment
 * whose header is not stays where it is, and is named.
 */
static int look_at_dead(const struct log_frames *f, uint64_t seq)
{
    struct log_home home = {f->opt.store, f->opt.volume, f->opt.keys};
    struct segment_header h;
    int r = log_header_read(&home, OBJ_COLLECT, seq, &h);
    if (r < 0) {
        return r == -ENOENT ? 0 : r;
    }
    if (h.kind == SEGMENT_FENCE && !log_test_rules.fences_deletable) {
        return -EPERM; /* I5 */
    }
    return 1;
}

int log_segment_remove(struct log_frames *f, uint64_t seq)
{
    int r;
    log_segments_remove(f, &seq, 1, &r);
    return r;
}

void log_segments_remove(struct log_frames *f, const uint64_t *seqs, size_t count, int *ret_results)
{
    VEC(char *) names = {0};
    for (size_t i = 0; i < count; i++) {
        char name[OBJ_NAME_SIZE];
        log_segment_name(seqs[i], name);
        int r = look_at_dead(f, seqs[i]);
        if (r == 1) {
            auto_free char *copy = strdup(name);
            r = copy && vec_push(&names, copy) == 0 ? 1 : -ENOMEM;
            if (r == 1) {
                (void)take(copy);
            }
        }
        ret_results[i] = r;
    }
    int r = names.len > 0 ? obj_remove_many(f->opt.store, OBJ_COLLECT,
                                            (const char *const *)names.at, names.len)
                          : 0;
    for (size_t i = 0; i < count; i++) {
        ret_results[i] = ret_results[i] == 1 ? r : ret_results[i];
    }
    for (size_t i = 0; i < names.len; i++) {
        free(names.at[i]);
    }
    vec_free(&names);
}

int log_segment_scan(struct log_frames *f, uint64_t seq,
                     void (*each)(void *arg, const struct log_frame *frame), void *arg)
{
    struct log_home home = {f->opt.store, f->opt.volume, f->opt.keys};
    struct log_slot slot = {0};
    int r = log_slot_read(&home, seq, &slot);
    if (r < 0) {
        return r;
    }
    r = slot.missing ? -ENOENT : 0;
    for (size_t i = 0; r == 0 && i < slot.directory.frames.len; i++) {
        each(arg, &slot.directory.frames.at[i]);
    }
    log_slot_free(&slot);
    return r;
}
