/* SPDX-License-Identifier: Apache-2.0 */
/* Reading frames, and removing segments. */
#include "base/err.h"
#include "base/msg.h"
#include "log/log_priv.h"
#include <inttypes.h>

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

static int frame_check(const struct log_location *at, unsigned count)
{
    uint32_t len = count * LOG_BLOCK_BYTES;
    bool good = count >= 1 && count <= LOG_FRAME_BLOCKS_MAX && at->len_bytes > SEGMENT_UNIT_BYTES &&
                at->len_bytes <= SEGMENT_UNIT_BYTES + len;
    return good ? 0 : -EINVAL;
}

static int frame_decode(const struct uuid *volume, const struct log_location *at, unsigned count,
                        const uint8_t *unit, struct rt_piece *ret_piece, const char **ret_why)
{
    /* A buffer of just the blocks: the head would cost a cached block twice its size. */
    struct rt_piece out = {.len = count * LOG_BLOCK_BYTES};
    int r = rt_buf_alloc(out.len, RT_MEM_BLOCK_CACHE, &out.buf);
    if (r < 0) {
        return r;
    }
    out.data = out.buf->data;
    r = segment_frame_decode(volume, at, unit, count, out.buf->data, ret_why);
    if (r < 0) {
        rt_buf_unref(out.buf);
        return r;
    }
    *ret_piece = out;
    return 0;
}

int log_frame_decode(const struct uuid *volume, const struct log_location *at, unsigned count,
                     const uint8_t *unit, struct rt_piece *ret_piece)
{
    const char *why;
    int r = frame_check(at, count);
    return r < 0 ? r : frame_decode(volume, at, count, unit, ret_piece, &why);
}

struct frame_source {
    struct obj_store *store;
    enum obj_class class;
    const struct uuid *volume;
};

static int frame_read(const struct frame_source *from, const struct log_location *at,
                      unsigned count, int attempts, struct rt_piece *ret_piece)
{
    char name[OBJ_NAME_SIZE];
    const char *why = "the object ends before it";
    struct rt_buf *stored;
    int r = frame_check(at, count);
    if (r == 0) {
        r = rt_buf_alloc(at->len_bytes, RT_MEM_BLOCK_CACHE, &stored);
    }
    if (r < 0) {
        return r;
    }
    log_segment_name(at->seq, name);
    r = -EBADMSG;
    for (int i = 0; i < attempts && r == -EBADMSG; i++) {
        r = frame_fetch(from->store, from->class, name, at, stored->data);
        if (r == 0) {
            r = frame_decode(from->volume, at, count, stored->data, ret_piece, &why);
        }
    }
    rt_buf_unref(stored);
    return r == -EBADMSG || r == -ENOTSUP ? frame_corrupt(name, at, why) : r;
}

/* Twice, for what was wrong may have been the way and not the store. */
int log_frame_read(struct obj_store *store, enum obj_class c, const struct uuid *volume,
                   const struct log_location *at, unsigned count, struct rt_piece *ret_piece)
{
    return frame_read(&(struct frame_source){store, c, volume}, at, count, 2, ret_piece);
}

int log_frame_reread(struct obj_store *store, enum obj_class c, const struct uuid *volume,
                     const struct log_location *at, unsigned count, struct rt_piece *ret_piece)
{
    return frame_read(&(struct frame_source){store, c, volume}, at, count, 1, ret_piece);
}

int log_segment_remove(struct obj_store *store, uint64_t seq)
{
    char name[OBJ_NAME_SIZE];
    log_segment_name(seq, name);
    uint8_t bytes[SEGMENT_HEADER_BYTES];
    ssize_t n = obj_get(store, OBJ_COLLECT, name, 0, bytes, sizeof bytes);
    if (n < 0) {
        return n == -ENOENT ? 0 : (int)n;
    }
    struct segment_header h;
    const char *why = NULL;
    int r = segment_header_decode(bytes, (size_t)n, &h, &why);
    if (r < 0) {
        return log_slot_bad(seq, r, why);
    }
    if (h.kind == SEGMENT_FENCE && !log_test_rules.fences_deletable) {
        return -EPERM; /* I5 */
    }
    return obj_remove(store, OBJ_COLLECT, name);
}
