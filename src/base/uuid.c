/* SPDX-License-Identifier: Apache-2.0 */
#include "base/uuid.h"
#include "base/rng.h"
#include <errno.h>
#include <string.h>

struct uuid uuid_random(void)
{
    struct uuid u;
    rng_secure(u.bytes, sizeof u.bytes);
    u.bytes[6] = (uint8_t)((u.bytes[6] & 0x0f) | 0x40); /* version 4 */
    u.bytes[8] = (uint8_t)((u.bytes[8] & 0x3f) | 0x80); /* RFC 4122 variant */
    return u;
}

/* A dash stands before these bytes. */
static bool dash_before(int byte)
{
    return byte == 4 || byte == 6 || byte == 8 || byte == 10;
}

void uuid_format(const struct uuid *u, char ret_text[UUID_TEXT_SIZE])
{
    static const char digits[] = "0123456789abcdef";
    char *out = ret_text;
    for (int i = 0; i < 16; i++) {
        if (dash_before(i)) {
            *out++ = '-';
        }
        *out++ = digits[u->bytes[i] >> 4];
        *out++ = digits[u->bytes[i] & 0x0f];
    }
    *out = '\0';
}

static int hex_value(char c)
{
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    if (c >= 'a' && c <= 'f') {
        return c - 'a' + 10;
    }
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -EINVAL;
}

int uuid_parse(const char *text, struct uuid *ret_uuid)
{
    if (strlen(text) != UUID_TEXT_SIZE - 1) {
        return -EINVAL;
    }
    struct uuid u;
    for (int i = 0; i < 16; i++) {
        if (dash_before(i) && *text++ != '-') {
            return -EINVAL;
        }
        int high = hex_value(*text++);
        int low = hex_value(*text++);
        if (high < 0 || low < 0) {
            return -EINVAL;
        }
        u.bytes[i] = (uint8_t)(high << 4 | low);
    }
    *ret_uuid = u;
    return 0;
}

bool uuid_equal(const struct uuid *a, const struct uuid *b)
{
    return memcmp(a->bytes, b->bytes, sizeof a->bytes) == 0;
}
