/* SPDX-License-Identifier: Apache-2.0 */
#include "iscsi/text.h"

#include "base/err.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* §6.1: letters, digits, and - + . / @ _, beginning with a letter (X- and X# extensions begin with
 * X). */
static bool name_is_good(const char *name, size_t len)
{
    if (len == 0 || len > ISCSI_KEY_NAME_MAX) {
        return false;
    }
    for (size_t i = 0; i < len; i++) {
        char c = name[i];
        bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
        bool other = (c >= '0' && c <= '9') || (c != 0 && strchr("-+./@_#", c) != NULL);
        if (!letter && (i == 0 || !other)) {
            return false;
        }
    }
    return true;
}

int iscsi_text_next(struct iscsi_text *t, struct iscsi_key *ret_key)
{
    while (t->left > 0 && *t->at == 0) {
        t->at++;
        t->left--;
    }
    if (t->left == 0) {
        return 0;
    }
    const char *end = memchr(t->at, 0, t->left);
    if (!end || ++t->keys > ISCSI_KEYS_MAX) {
        return ERR_PROTOCOL;
    }
    size_t len = (size_t)(end - t->at);
    const char *equals = memchr(t->at, '=', len);
    if (!equals || !name_is_good(t->at, (size_t)(equals - t->at))) {
        return ERR_PROTOCOL;
    }
    *ret_key = (struct iscsi_key){
        .name = t->at, .name_len = (size_t)(equals - t->at), .value = equals + 1};
    t->at = end + 1;
    t->left -= len + 1;
    return 1;
}

bool iscsi_key_is(const struct iscsi_key *k, const char *name)
{
    return strlen(name) == k->name_len && memcmp(name, k->name, k->name_len) == 0;
}

static int digit_of(char c)
{
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    c = (char)(c | 0x20);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : 99;
}

int iscsi_text_number(const char *value, uint64_t *ret_number)
{
    unsigned base = 10;
    if (value[0] == '0' && (value[1] == 'x' || value[1] == 'X')) {
        base = 16;
        value += 2;
    }
    uint64_t n = 0;
    size_t digits = 0;
    for (; value[digits]; digits++) {
        unsigned d = (unsigned)digit_of(value[digits]);
        if (d >= base || digits >= 15) {
            return -EINVAL;
        }
        n = n * base + d;
    }
    if (digits == 0) {
        return -EINVAL;
    }
    *ret_number = n;
    return 0;
}

int iscsi_text_boolean(const char *value, bool *ret_yes)
{
    if (strcmp(value, "Yes") == 0) {
        *ret_yes = true;
        return 0;
    }
    if (strcmp(value, "No") == 0) {
        *ret_yes = false;
        return 0;
    }
    return -EINVAL;
}

int iscsi_text_choose(const char *value, const char *const *known, size_t count)
{
    for (const char *at = value;;) {
        size_t len = strcspn(at, ",");
        for (size_t i = 0; i < count; i++) {
            if (strlen(known[i]) == len && memcmp(known[i], at, len) == 0) {
                return (int)i;
            }
        }
        if (!at[len]) {
            return -ENOENT;
        }
        at += len + 1;
    }
}

void iscsi_text_put(struct bytes_writer *w, const char *name, const char *fmt, ...)
{
    char value[512];
    va_list ap;
    va_start(ap, fmt);
    int len = vsnprintf(value, sizeof value, fmt, ap);
    va_end(ap);
    if (len < 0 || (size_t)len >= sizeof value) {
        w->failed = true;
        return;
    }
    bytes_put(w, name, strlen(name));
    bytes_put_u8(w, '=');
    bytes_put(w, value, (size_t)len + 1);
}

void iscsi_text_put_key(struct bytes_writer *w, const struct iscsi_key *k, const char *value)
{
    bytes_put(w, k->name, k->name_len);
    bytes_put_u8(w, '=');
    bytes_put(w, value, strlen(value) + 1);
}

/* An odd number of digits has a leading zero that was left out. */
static int decode_hex(const char *text, uint8_t *bytes, size_t cap, size_t *ret_len)
{
    size_t digits = strlen(text);
    size_t len = (digits + 1) / 2;
    if (digits == 0 || len > cap) {
        return ERR_PROTOCOL;
    }
    unsigned value = 0;
    size_t at = 0;
    for (size_t i = 0; i < digits; i++) {
        unsigned d = (unsigned)digit_of(text[i]);
        if (d > 15) {
            return ERR_PROTOCOL;
        }
        value = value << 4 | d;
        if ((digits - i) % 2 == 1) {
            bytes[at++] = (uint8_t)value;
        }
    }
    *ret_len = len;
    return 0;
}

static int base64_digit(char c)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const char *p = c ? strchr(digits, c) : NULL;
    return p ? (int)(p - digits) : -1;
}

/* RFC 4648 §4, with its padding; bits that are left over are zero, so that a value has one form. */
static int decode_base64(const char *text, uint8_t *bytes, size_t cap, size_t *ret_len)
{
    size_t all = strlen(text);
    size_t digits = all;
    while (digits > 0 && text[digits - 1] == '=') {
        digits--;
    }
    size_t len = digits / 4 * 3 + (digits % 4 ? digits % 4 - 1 : 0);
    if (len == 0 || len > cap || all % 4 != 0 || all - digits > 2 || digits % 4 == 1) {
        return ERR_PROTOCOL;
    }
    uint32_t bits = 0;
    unsigned have = 0;
    size_t at = 0;
    for (size_t i = 0; i < digits; i++) {
        int d = base64_digit(text[i]);
        if (d < 0) {
            return ERR_PROTOCOL;
        }
        bits = bits << 6 | (uint32_t)d;
        have += 6;
        if (have >= 8) {
            have -= 8;
            bytes[at++] = (uint8_t)(bits >> have);
            bits &= (1u << have) - 1;
        }
    }
    *ret_len = len;
    return bits == 0 ? 0 : ERR_PROTOCOL;
}

int iscsi_text_binary(const char *text, uint8_t *ret_bytes, size_t cap, size_t *ret_len)
{
    if (text[0] != '0' || text[1] == 0) {
        return ERR_PROTOCOL;
    }
    switch (text[1]) {
    case 'x':
    case 'X':
        return decode_hex(text + 2, ret_bytes, cap, ret_len);
    case 'b':
    case 'B':
        return decode_base64(text + 2, ret_bytes, cap, ret_len);
    default:
        return ERR_PROTOCOL;
    }
}

void iscsi_text_put_binary(struct bytes_writer *w, const char *name, const void *bytes, size_t len)
{
    static const char digits[] = "0123456789abcdef";
    const uint8_t *p = bytes;
    bytes_put(w, name, strlen(name));
    bytes_put(w, "=0x", 3);
    for (size_t i = 0; i < len; i++) {
        bytes_put_u8(w, (uint8_t)digits[p[i] >> 4]);
        bytes_put_u8(w, (uint8_t)digits[p[i] & 15]);
    }
    bytes_put_u8(w, 0);
}
