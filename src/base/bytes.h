/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Byte cursors for pure codecs: a reader that can never run over its end, and a growing writer.
 *
 *     struct bytes_reader r = bytes_reader_of(buf, len);
 *     uint32_t magic = bytes_le32(&r);
 *     const uint8_t *name = bytes_take(&r, name_len);
 *     if (bytes_bad(&r)) {                       // one check at the end is enough: once a read ran
 *         return ERR_CORRUPT_RECORD;             // over, all later ones give 0 or NULL
 *     }
 *
 *     struct bytes_writer w = {0};               // owns its memory; bytes_writer_free() when done
 *     bytes_put_le32(&w, magic);
 *     if (w.failed) { ... -ENOMEM ... }
 */
#pragma once
#include "base/attr.h"
#include "base/endian.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

struct bytes_reader {
    const uint8_t *at;
    const uint8_t *end;
    bool bad;
};

static inline struct bytes_reader bytes_reader_of(const void *p, size_t len)
{
    const uint8_t *b = p;
    return (struct bytes_reader){.at = b, .end = len ? b + len : b, .bad = false};
}

static inline size_t bytes_left(const struct bytes_reader *r)
{
    return (size_t)(r->end - r->at);
}

static inline bool bytes_bad(const struct bytes_reader *r)
{
    return r->bad;
}

/* True when everything was read and nothing ran over. */
static inline bool bytes_done(const struct bytes_reader *r)
{
    return !r->bad && r->at == r->end;
}

/* The next len bytes, or NULL (and bad) when there are fewer. */
static inline const uint8_t *bytes_take(struct bytes_reader *r, size_t len)
{
    if (unlikely(r->bad || bytes_left(r) < len)) {
        r->bad = true;
        return NULL;
    }
    const uint8_t *p = r->at;
    r->at += len;
    return p;
}

static inline uint8_t bytes_u8(struct bytes_reader *r)
{
    const uint8_t *p = bytes_take(r, 1);
    return p ? *p : 0;
}

#define BYTES_READ(order, bits)                                                                    \
    static inline uint##bits##_t bytes_##order##bits(struct bytes_reader *r)                       \
    {                                                                                              \
        const uint8_t *p = bytes_take(r, bits / 8);                                                \
        return p ? order##bits##_load(p) : 0;                                                      \
    }
BYTES_READ(le, 16)
BYTES_READ(le, 32)
BYTES_READ(le, 64)
BYTES_READ(be, 16)
BYTES_READ(be, 32)
BYTES_READ(be, 64)

/* Unsigned LEB128, at most 10 bytes; longer or overflowing encodings are bad. */
uint64_t bytes_varint(struct bytes_reader *r);

/* Text into a field of len bytes that it fills: no null follows. */
static inline void bytes_field(void *field, const char *text, size_t len)
{
    memcpy(field, text, len);
}

struct bytes_writer {
    uint8_t *data;
    size_t len;
    size_t cap;
    bool failed; /* out of memory; later puts do nothing */
};

void bytes_writer_free(struct bytes_writer *w);

/* Room for len more bytes at the end, to be filled by the caller; NULL when out of memory. */
uint8_t *bytes_grow(struct bytes_writer *w, size_t len);
void bytes_put(struct bytes_writer *w, const void *p, size_t len);
void bytes_put_u8(struct bytes_writer *w, uint8_t v);
void bytes_put_le16(struct bytes_writer *w, uint16_t v);
void bytes_put_le32(struct bytes_writer *w, uint32_t v);
void bytes_put_le64(struct bytes_writer *w, uint64_t v);
void bytes_put_be16(struct bytes_writer *w, uint16_t v);
void bytes_put_be32(struct bytes_writer *w, uint32_t v);
void bytes_put_be64(struct bytes_writer *w, uint64_t v);
void bytes_put_varint(struct bytes_writer *w, uint64_t v);

/* The len bytes, which need no end mark, as a string of their own: the caller frees it; NULL when
 * there is no memory. */
static inline char *bytes_text(const void *p, size_t len)
{
    char *text = malloc(len + 1);
    if (text) {
        memcpy(text, p, len);
        text[len] = '\0';
    }
    return text;
}
