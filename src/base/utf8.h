/* SPDX-License-Identifier: Apache-2.0 */
/* Whether bytes from outside are text that may be stored, printed, and shown as JSON. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The length of the character that these bytes begin with; 0: none (RFC 3629). */
static inline size_t utf8_char(const uint8_t *p, size_t len)
{
    static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    size_t n = p[0] < 0x80 ? 1 : p[0] < 0xc0 ? 0 : p[0] < 0xe0 ? 2 : p[0] < 0xf0 ? 3 : 4;
    if (n == 0 || n > len || p[0] > 0xf4) {
        return 0;
    }
    uint32_t c = n == 1 ? p[0] : p[0] & (0x7fu >> n);
    for (size_t i = 1; i < n; i++) {
        if ((p[i] & 0xc0) != 0x80) {
            return 0;
        }
        c = c << 6 | (p[i] & 0x3fu);
    }
    bool good = c >= least[n] && c <= 0x10ffff && (c < 0xd800 || c > 0xdfff);
    return good ? n : 0;
}

static inline bool utf8_is_text(const void *bytes, size_t len)
{
    const uint8_t *p = bytes;
    for (size_t at = 0; at < len;) {
        size_t n = utf8_char(p + at, len - at);
        if (n == 0) {
            return false;
        }
        at += n;
    }
    return true;
}
