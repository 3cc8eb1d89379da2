/* SPDX-License-Identifier: Apache-2.0 */
#include "obj/s3_text.h"
#include "base/endian.h"
#include <errno.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#define VALUE_MAX 512

void s3_encode(struct bytes_writer *w, const char *text, bool keep_slash)
{
    for (const char *at = text; *at; at++) {
        unsigned char ch = (unsigned char)*at;
        bool plain = (ch >= 'a' && ch <= 'z') || (ch >= 'A' && ch <= 'Z') ||
                     (ch >= '0' && ch <= '9') || ch == '-' || ch == '.' || ch == '_' || ch == '~';
        if (plain || (keep_slash && ch == '/')) {
            bytes_put_u8(w, ch);
        } else {
            char code[4];
            (void)snprintf(code, sizeof code, "%%%02X", ch);
            bytes_put(w, code, 3);
        }
    }
}

static uint64_t seconds_of(struct tm *tm)
{
    time_t t = timegm(tm);
    return t > 0 ? (uint64_t)t : 0;
}

uint64_t s3_date_parse(const char *text)
{
    struct tm tm = {0};
    const char *end = strptime(text, "%a, %d %b %Y %H:%M:%S GMT", &tm);
    return end && *end == '\0' ? seconds_of(&tm) : 0;
}

uint64_t s3_time_parse(const char *text)
{
    struct tm tm = {0};
    const char *end = strptime(text, "%Y-%m-%dT%H:%M:%S", &tm);
    if (end && *end == '.') {
        end++;
        end += strspn(end, "0123456789");
    }
    return end && strcmp(end, "Z") == 0 ? seconds_of(&tm) : 0;
}

/* Decimal digits up to `end`, which must follow; moves *at behind them. */
static bool number(const char **at, char end, uint64_t *ret_v)
{
    uint64_t v = 0;
    const char *p = *at;
    if (*p < '0' || *p > '9') {
        return false;
    }
    for (; *p >= '0' && *p <= '9'; p++) {
        if (v > (UINT64_MAX - 9) / 10) {
            return false;
        }
        v = v * 10 + (uint64_t)(*p - '0');
    }
    if (*p != end) {
        return false;
    }
    *at = p + (end != '\0');
    *ret_v = v;
    return true;
}

static void take_range(struct s3_head *h, const char *value)
{
    if (strncasecmp(value, "bytes ", 6) != 0) {
        return;
    }
    const char *at = value + 6;
    uint64_t first = 0;
    uint64_t last = 0;
    if (strncmp(at, "*/", 2) == 0) { /* of a 416 */
        at += 2;
        h->has_total = number(&at, '\0', &h->range_total);
        return;
    }
    if (!number(&at, '-', &first) || !number(&at, '/', &last) || last < first) {
        return;
    }
    h->has_range = true;
    h->range_first = first;
    h->range_last = last;
    h->has_total = number(&at, '\0', &h->range_total);
}

/* Four bytes in base 64; "....-N" is a checksum of checksums of parts, which says nothing here. */
static void take_crc(struct s3_head *h, const char *value)
{
    uint8_t bytes[8];
    if (strlen(value) != 8 || strcmp(value + 6, "==") != 0 ||
        EVP_DecodeBlock(bytes, (const uint8_t *)value, 8) != 6) {
        return;
    }
    h->has_crc = true;
    h->crc = be32_load(bytes);
}

static void take_text(char *ret_field, size_t cap, const char *value)
{
    int n = snprintf(ret_field, cap, "%s", value);
    if (n < 0 || (size_t)n >= cap) {
        ret_field[0] = '\0';
    }
}

static void take_header(struct s3_head *h, const char *name, const char *value)
{
    if (strcasecmp(name, "content-length") == 0) {
        const char *at = value;
        h->has_length = number(&at, '\0', &h->length);
    } else if (strcasecmp(name, "content-range") == 0) {
        take_range(h, value);
    } else if (strcasecmp(name, "x-amz-checksum-crc32c") == 0) {
        take_crc(h, value);
    } else if (strcasecmp(name, "date") == 0) {
        h->date_s = s3_date_parse(value);
    } else if (strcasecmp(name, "x-amz-bucket-region") == 0) {
        take_text(h->region, sizeof h->region, value);
    } else if (strcasecmp(name, "location") == 0) {
        take_text(h->location, sizeof h->location, value);
    } else if (strcasecmp(name, "x-amz-request-id") == 0) {
        take_text(h->request_id, sizeof h->request_id, value);
    }
}

/* "HTTP/1.1 206 Partial Content" */
static bool take_status(struct s3_head *h, const char *line)
{
    if (strncmp(line, "HTTP/", 5) != 0) {
        return false;
    }
    *h = (struct s3_head){0};
    const char *at = strchr(line, ' ');
    for (unsigned i = 1; at && i <= 3; i++) {
        if (at[i] < '0' || at[i] > '9') {
            h->status = 0;
            return true;
        }
        h->status = h->status * 10 + (at[i] - '0');
    }
    return true;
}

void s3_head_line(struct s3_head *h, const char *line, size_t len)
{
    char text[VALUE_MAX + 64];
    if (len >= sizeof text || memchr(line, '\0', len)) {
        return;
    }
    memcpy(text, line, len);
    text[len] = '\0';
    if (take_status(h, text)) {
        return;
    }
    char *value = strchr(text, ':');
    if (!value) {
        return;
    }
    *value++ = '\0';
    value += strspn(value, " \t");
    for (size_t n = strlen(value); n > 0 && (value[n - 1] == ' ' || value[n - 1] == '\t'); n--) {
        value[n - 1] = '\0';
    }
    take_header(h, text, value);
}
