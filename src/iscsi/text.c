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
