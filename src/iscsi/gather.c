/* SPDX-License-Identifier: Apache-2.0 */
#include "base/assert.h"
#include "iscsi/task.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static struct iscsi_segment *segments(struct iscsi_gather *g)
{
    return g->segments ? g->segments : g->inline_at;
}

static int grow(struct iscsi_gather *g)
{
    uint32_t cap = MAX_OF(g->cap, (uint32_t)ARRAY_LEN(g->inline_at)) * 2;
    struct iscsi_segment *more = realloc(g->segments, cap * sizeof *more);
    if (!more) {
        return -ENOMEM;
    }
    if (!g->segments) {
        memcpy(more, g->inline_at, sizeof g->inline_at);
    }
    g->segments = more;
    g->cap = cap;
    return 0;
}

int iscsi_gather_room(struct iscsi_gather *g, uint32_t upto)
{
    while (g->room < upto) {
        uint32_t have = g->segments ? g->cap : (uint32_t)ARRAY_LEN(g->inline_at);
        if (g->count == have) {
            int r = grow(g);
            if (r < 0) {
                return r;
            }
        }
        uint32_t len = MIN_OF(upto - g->room, ISCSI_GATHER_BYTES);
        struct rt_buf *buf;
        int r = rt_buf_alloc(len, RT_MEM_INGRESS, &buf);
        if (r < 0) {
            return r;
        }
        segments(g)[g->count++] = (struct iscsi_segment){.buf = buf, .offset = g->room, .len = len};
        g->room += len;
    }
    return 0;
}

uint8_t *iscsi_gather_at(struct iscsi_gather *g, uint32_t offset, uint32_t *ret_len,
                         struct rt_buf **ret_buf)
{
    ASSERT(offset < g->room);
    struct iscsi_segment *s = segments(g);
    while (offset >= s->offset + s->len) {
        s++;
    }
    *ret_len = s->len - (offset - s->offset);
    *ret_buf = s->buf;
    return s->buf->data + (offset - s->offset);
}

int iscsi_gather_chain(struct iscsi_gather *g, uint32_t len, struct rt_chain *ret_chain)
{
    ASSERT(len <= g->room);
    struct iscsi_segment *s = segments(g);
    int r = 0;
    for (uint32_t i = 0; i < g->count && r >= 0; i++) {
        uint32_t take_len = s[i].offset < len ? MIN_OF(s[i].len, len - s[i].offset) : 0;
        if (take_len > 0) {
            r = rt_chain_add(ret_chain, s[i].buf, s[i].buf->data, take_len);
        }
    }
    iscsi_gather_free(g);
    return r;
}

void iscsi_gather_free(struct iscsi_gather *g)
{
    struct iscsi_segment *s = segments(g);
    for (uint32_t i = 0; i < g->count; i++) {
        rt_buf_unref(s[i].buf);
    }
    free(g->segments);
    g->segments = NULL;
    g->count = 0;
    g->cap = 0;
    g->room = 0;
}
