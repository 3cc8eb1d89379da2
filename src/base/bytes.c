/* SPDX-License-Identifier: Apache-2.0 */
#include "base/bytes.h"

#define FIRST_CAP 64

uint64_t bytes_varint(struct bytes_reader *r)
{
    uint64_t v = 0;
    for (unsigned int shift = 0; shift < 64; shift += 7) {
        uint8_t b = bytes_u8(r);
        if (shift == 63 && b > 1) {
            break; /* more than 64 bits, or an eleventh byte to come */
        }
        v |= (uint64_t)(b & 0x7f) << shift;
        if (!(b & 0x80)) {
            return r->bad ? 0 : v;
        }
    }
    r->bad = true;
    return 0;
}

void bytes_writer_free(struct bytes_writer *w)
{
    if (w) {
        free(w->data);
        *w = (struct bytes_writer){0};
    }
}

uint8_t *bytes_grow(struct bytes_writer *w, size_t len)
{
    size_t need;
    if (w->failed || __builtin_add_overflow(w->len, len, &need)) {
        w->failed = true;
        return NULL;
    }
    if (need > w->cap || !w->data) {
        size_t cap = MAX_OF(need, w->cap <= SIZE_MAX / 2 ? w->cap * 2 : need);
        cap = MAX_OF(cap, (size_t)FIRST_CAP);
        uint8_t *data = realloc(w->data, cap);
        if (!data) {
            w->failed = true;
            return NULL;
        }
        w->data = data;
        w->cap = cap;
    }
    uint8_t *at = w->data + w->len;
    w->len = need;
    return at;
}

void bytes_put(struct bytes_writer *w, const void *p, size_t len)
{
    uint8_t *at = bytes_grow(w, len);
    if (at && len > 0) {
        memcpy(at, p, len);
    }
}

void bytes_put_u8(struct bytes_writer *w, uint8_t v)
{
    bytes_put(w, &v, 1);
}

#define BYTES_PUT(order, bits)                                                                     \
    void bytes_put_##order##bits(struct bytes_writer *w, uint##bits##_t v)                         \
    {                                                                                              \
        struct order##bits stored = order##bits##_of(v);                                           \
        bytes_put(w, &stored, sizeof stored);                                                      \
    }
BYTES_PUT(le, 16)
BYTES_PUT(le, 32)
BYTES_PUT(le, 64)
BYTES_PUT(be, 16)
BYTES_PUT(be, 32)
BYTES_PUT(be, 64)

void bytes_put_varint(struct bytes_writer *w, uint64_t v)
{
    uint8_t text[10];
    size_t len = 0;
    while (v >= 0x80) {
        text[len++] = (uint8_t)(v | 0x80);
        v >>= 7;
    }
    text[len++] = (uint8_t)v;
    bytes_put(w, text, len);
}
