/* SPDX-License-Identifier: Apache-2.0 */
/* Chains: pieces of bytes in order, four of them inline. */
#include "base/assert.h"
#include "rt/buf.h"
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

/* Room for one more piece: 0 or -ENOMEM. */
static int make_room(struct rt_chain *c)
{
    uint32_t cap = MAX_OF(c->cap, (uint32_t)RT_CHAIN_INLINE); /* 0: no heap yet */
    if (c->count < cap) {
        return 0;
    }
    struct rt_piece *grown = realloc(c->heap, 2 * (size_t)cap * sizeof *grown);
    if (!grown) {
        return -ENOMEM;
    }
    if (!c->heap) {
        memcpy(grown, c->inline_at, sizeof c->inline_at);
    }
    c->heap = grown;
    c->cap = 2 * cap;
    return 0;
}

/* True when p simply goes on where the last piece ends. */
static bool joins(struct rt_chain *c, const struct rt_piece *p)
{
    if (c->count == 0 || !p->buf) {
        return false;
    }
    const struct rt_piece *last = &rt_chain_at(c)[c->count - 1];
    return last->buf == p->buf && last->data + last->len == p->data &&
           last->is_hole == p->is_hole && last->len <= UINT32_MAX - p->len;
}

static int add_piece(struct rt_chain *c, struct rt_piece p)
{
    if (p.len == 0) {
        return 0;
    }
    if (joins(c, &p)) {
        rt_chain_at(c)[c->count - 1].len += p.len;
        c->len += p.len;
        return 0;
    }
    int r = make_room(c);
    if (r < 0) {
        return r;
    }
    if (p.buf) {
        (void)rt_buf_ref(p.buf);
    }
    rt_chain_at(c)[c->count++] = p;
    c->len += p.len;
    return 0;
}

int rt_chain_add(struct rt_chain *c, struct rt_buf *buf, const void *data, uint32_t len)
{
    return add_piece(c, (struct rt_piece){.data = data, .len = len, .buf = buf});
}

int rt_chain_take(struct rt_chain *c, struct rt_buf *buf, const void *data, uint32_t len)
{
    struct rt_piece p = {.data = data, .len = len, .buf = buf};
    int r = len == 0 || joins(c, &p) ? 1 : make_room(c);
    if (r == 0) {
        rt_chain_at(c)[c->count++] = p;
        c->len += len;
        return 0;
    }
    r = r > 0 ? add_piece(c, p) : r;
    rt_buf_unref(buf);
    return r;
}

int rt_chain_add_zeros(struct rt_chain *c, uint64_t len, int is_hole)
{
    while (len > 0) {
        uint32_t n = (uint32_t)MIN_OF(len, sizeof rt_zeros);
        int r =
            add_piece(c, (struct rt_piece){.data = rt_zeros, .len = n, .is_hole = is_hole != 0});
        if (r < 0) {
            return r;
        }
        len -= n;
    }
    return 0;
}

int rt_chain_add_range(struct rt_chain *c, const struct rt_chain *from, uint64_t off, uint64_t len)
{
    ASSERT(c != from && off <= from->len && len <= from->len - off);
    const struct rt_piece *p = rt_chain_pieces(from);
    for (; len > 0; p++) {
        if (off >= p->len) {
            off -= p->len;
            continue;
        }
        struct rt_piece part = *p;
        part.data += off;
        part.len = (uint32_t)MIN_OF(p->len - off, len);
        int r = add_piece(c, part);
        if (r < 0) {
            return r;
        }
        len -= part.len;
        off = 0;
    }
    return 0;
}

void rt_chain_free(struct rt_chain *c)
{
    struct rt_piece *p = rt_chain_at(c);
    for (uint32_t i = 0; i < c->count; i++) {
        rt_buf_unref(p[i].buf);
    }
    free(c->heap);
    *c = (struct rt_chain){0};
}

void rt_chain_copy_out(const struct rt_chain *c, uint64_t off, void *dst, uint64_t len)
{
    uint8_t *out = dst;
    ASSERT(off <= c->len && len <= c->len - off);
    for (const struct rt_piece *p = rt_chain_pieces(c); len > 0; p++) {
        if (off >= p->len) {
            off -= p->len;
            continue;
        }
        uint64_t n = MIN_OF(p->len - off, len);
        memcpy(out, p->data + off, n);
        out += n;
        len -= n;
        off = 0;
    }
}
