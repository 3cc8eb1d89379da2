/* SPDX-License-Identifier: Apache-2.0 */
#include "ctl/size.h"
#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#define SIZE_LIMIT ((unsigned __int128)1 << 63)
#define FRACTION_DIGITS_MAX 18

static int fail(char *ret_why, size_t cap, const char *text, const char *reason)
{
    snprintf(ret_why, cap, "'%.64s' %s; use a form like 10G, 512M, 1.5T or plain bytes", text,
             reason);
    return -EINVAL;
}

/* The power of two that a suffix stands for, or -1. */
static int suffix_shift(const char *suffix)
{
    static const char letters[] = "KMGTP";
    if (*suffix == 0 || strcasecmp(suffix, "b") == 0) {
        return 0;
    }
    const char *letter = strchr(letters, toupper((unsigned char)*suffix));
    const char *rest = suffix + 1;
    if (!letter || (*rest && strcasecmp(rest, "b") != 0 && strcasecmp(rest, "ib") != 0)) {
        return -1;
    }
    return 10 * (int)(letter - letters + 1);
}

/* Reads digits into *value, counting them; false when the number outgrows 64 bits. */
static bool take_digits(const char **at, unsigned __int128 *value, unsigned *ret_count)
{
    *ret_count = 0;
    while (isdigit((unsigned char)**at)) {
        *value = *value * 10 + (unsigned)(**at - '0');
        if (*value >= (unsigned __int128)1 << 64) {
            return false;
        }
        ++*at;
        ++*ret_count;
    }
    return true;
}

int size_parse(const char *text, uint64_t *ret_bytes, char *ret_why, size_t why_cap)
{
    unsigned __int128 value = 0;
    unsigned whole_digits, fraction_digits = 0;
    const char *at = text;
    if (!take_digits(&at, &value, &whole_digits)) {
        return fail(ret_why, why_cap, text, "is too large");
    }
    if (*at == '.') {
        at++;
        if (!take_digits(&at, &value, &fraction_digits) || fraction_digits > FRACTION_DIGITS_MAX) {
            return fail(ret_why, why_cap, text, "has too many digits");
        }
    }
    if (whole_digits == 0 || (fraction_digits == 0 && at > text && at[-1] == '.')) {
        return fail(ret_why, why_cap, text, "is not a size");
    }
    while (*at == ' ') {
        at++;
    }
    int shift = suffix_shift(at);
    if (shift < 0) {
        return fail(ret_why, why_cap, text, "has an unknown suffix");
    }
    unsigned __int128 bytes = value << shift;
    unsigned __int128 scale = 1;
    for (unsigned i = 0; i < fraction_digits; i++) {
        scale *= 10;
    }
    if (bytes % scale != 0) {
        return fail(ret_why, why_cap, text, "is not a whole number of bytes");
    }
    bytes /= scale;
    if (bytes > SIZE_LIMIT) {
        return fail(ret_why, why_cap, text, "is too large");
    }
    *ret_bytes = (uint64_t)bytes;
    return 0;
}

void size_format(uint64_t bytes, char ret_text[SIZE_TEXT_SIZE])
{
    static const char *const units[] = {"B", "KB", "MB", "GB", "TB", "PB", "EB"};
    unsigned unit = 0;
    double value = (double)bytes;
    while (value >= 1024 && unit + 1 < ARRAY_LEN(units)) {
        value /= 1024;
        unit++;
    }
    snprintf(ret_text, SIZE_TEXT_SIZE, unit == 0 ? "%.0f %s" : "%.2f %s", value, units[unit]);
}

void size_format_grouped(uint64_t bytes, char ret_text[SIZE_TEXT_SIZE])
{
    char digits[24];
    int len = snprintf(digits, sizeof digits, "%" PRIu64, bytes);
    size_t out = 0;
    for (int i = 0; i < len; i++) {
        if (i > 0 && (len - i) % 3 == 0) {
            ret_text[out++] = ',';
        }
        ret_text[out++] = digits[i];
    }
    ret_text[out] = 0;
}
