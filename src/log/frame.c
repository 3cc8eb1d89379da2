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

/* Twice, for what was wrong may have been the way and not the store. */
static int frame_read_into(struct obj_store *store, enum obj_class c, const struct uuid *volume,
                           const struct log_location *at, uint8_t *stored, struct rt_piece *out)
{
    char name[OBJ_NAME_SIZE];
    log_segment_name(at->seq, name);
    const char *why = "the object ends before it";
    int r = -EBADMSG;
    for (int attempt = 0; attempt < 2 && r == -EBADMSG; attempt++) {
        r = frame_fetch(store, c, name, at, stored);
        if (r == 0) {
            r = segment_frame_decode(volume, at, stored, out->len / LOG_BLOCK_BYTES, out->buf->data,
                                     &why);
        }
    }
    if (r == -EBADMSG || r == -ENOTSUP) {
        return frame_corrupt(name, at, why);
    }
    return r;
}

int log_frame_read(struct obj_store *store, enum obj_class c, const struct uuid *volume,
                   const struct log_location *at, unsigned count, struct rt_piece *ret_piece)
{
    uint32_t len = count * LOG_BLOCK_BYTES;
    if (count < 1 || count > LOG_FRAME_BLOCKS_MAX || at->len_bytes <= SEGMENT_UNIT_BYTES ||
        at->len_bytes > SEGMENT_UNIT_BYTES + len) {
        return -EINVAL;
    }
    struct rt_buf *stored;
    int r = rt_buf_alloc(at->len_bytes, RT_MEM_BLOCK_CACHE, &stored);
    if (r < 0) {
        return r;
    }
    /* A buffer of just the blocks: the head would cost a cached block twice its size. */
    struct rt_piece out = {.len = len};
    r = rt_buf_alloc(len, RT_MEM_BLOCK_CACHE, &out.buf);
    if (r == 0) {
        r = frame_read_into(store, c, volume, at, stored->data, &out);
    }
    rt_buf_unref(stored);
    if (r < 0) {
        rt_buf_unref(out.buf);
        return r;
    }
    out.data = out.buf->data;
    *ret_piece = out;
    return 0;
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
