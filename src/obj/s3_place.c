/* SPDX-License-Identifier: Apache-2.0 */
/* Buckets, endpoints and regions: from text to where a request goes. Pure. */
#include "obj/s3_priv.h"
#include "obj/why.h"
#include <stdio.h>
#include <string.h>
#include <strings.h>

#define BUCKET_SIZE 64
#define PREFIX_SIZE 512
#define PREFIX_MAX 400 /* with a name of 512 bytes behind it below what a key may have */

static bool is_bucket(const char *text, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        char ch = text[i];
        bool letter =
            (ch >= 'a' && ch <= 'z') || (ch >= 'A' && ch <= 'Z') || (ch >= '0' && ch <= '9');
        if (!letter && (i == 0 || (ch != '-' && ch != '.' && ch != '_'))) {
            return false;
        }
    }
    return len >= 3 && len < BUCKET_SIZE;
}

/* Neither "." nor ".." nor empty, and nothing that XML or a log line cannot hold. */
static bool is_prefix_part(const char *part, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        if ((unsigned char)part[i] <= 0x20 || part[i] == 0x7f || (unsigned char)part[i] >= 0x80) {
            return false;
        }
    }
    return len > 0 && !(part[0] == '.' && (len == 1 || (len == 2 && part[1] == '.')));
}

int s3_url_parse(const char *text, size_t len, char ret_bucket[BUCKET_SIZE],
                 char ret_prefix[PREFIX_SIZE], char *ret_why, size_t why_cap)
{
    const struct obj_why w = {ret_why, why_cap};
    const char *slash = memchr(text, '/', len);
    size_t bucket_len = slash ? (size_t)(slash - text) : len;
    if (!is_bucket(text, bucket_len)) {
        return obj_wrong(&w, "s3:// needs the name of a bucket: s3://bucket/prefix");
    }
    const char *at = slash ? slash + 1 : text + len;
    size_t left = (size_t)(text + len - at);
    while (left > 0 && at[left - 1] == '/') {
        left--;
    }
    if (left > PREFIX_MAX) {
        return obj_wrong(&w, "the prefix in the bucket is longer than %d bytes", PREFIX_MAX);
    }
    for (size_t from = 0; left > 0 && from <= left;) {
        const char *end = memchr(at + from, '/', left - from);
        size_t part = end ? (size_t)(end - at) - from : left - from;
        if (!is_prefix_part(at + from, part)) {
            return obj_wrong(
                &w, "the prefix in the bucket has an empty part, \".\", \"..\", a blank or "
                    "a byte that is not ASCII");
        }
        from += part + 1;
    }
    memcpy(ret_bucket, text, bucket_len);
    ret_bucket[bucket_len] = '\0';
    (void)snprintf(ret_prefix, PREFIX_SIZE, "%.*s%s", (int)left, at, left > 0 ? "/" : "");
    return 0;
}

static bool is_host_char(char ch)
{
    return (ch >= 'a' && ch <= 'z') || (ch >= 'A' && ch <= 'Z') || (ch >= '0' && ch <= '9') ||
           ch == '.' || ch == '-' || ch == '_' || ch == ':' || ch == '[' || ch == ']';
}

/* The length of the host and port at the start of text. */
static size_t host_len(const char *text)
{
    size_t n = 0;
    while (is_host_char(text[n])) {
        n++;
    }
    return n;
}

int s3_place_parse(const char *endpoint, bool allow_http, struct s3_place *place, char *ret_why,
                   size_t why_cap)
{
    const struct obj_why w = {ret_why, why_cap};
    bool tls = strncasecmp(endpoint, "https://", 8) == 0;
    if (!tls && strncasecmp(endpoint, "http://", 7) != 0) {
        return obj_wrong(&w, "the endpoint \"%.100s\" does not start with https:// or http://",
                         endpoint);
    }
    if (!tls && !allow_http) {
        return obj_wrong(&w,
                         "the endpoint \"%.100s\" is not encrypted: allow_http = true permits that",
                         endpoint);
    }
    const char *host = endpoint + (tls ? 8 : 7);
    size_t n = host_len(host);
    if (n == 0 || n >= sizeof place->host || (host[n] != '\0' && strcmp(host + n, "/") != 0)) {
        return obj_wrong(&w, "the endpoint \"%.100s\" is not https://HOST or https://HOST:PORT",
                         endpoint);
    }
    place->tls = tls;
    place->custom = true;
    memcpy(place->host, host, n);
    place->host[n] = '\0';
    /* The port that the scheme implies is not part of what is signed. */
    const char *implied = tls ? ":443" : ":80";
    size_t tail = strlen(implied);
    if (n > tail && strcmp(place->host + n - tail, implied) == 0) {
        place->host[n - tail] = '\0';
    }
    return 0;
}

static bool is_region(const char *text)
{
    size_t n = strspn(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_");
    return n > 0 && n < S3_REGION_SIZE && text[n] == '\0';
}

void s3_place_of_region(struct s3_place *place, const char *region)
{
    (void)snprintf(place->region, sizeof place->region, "%s", region);
    if (!place->custom) {
        place->tls = true;
        (void)snprintf(place->host, sizeof place->host, "s3.%s.amazonaws.com%s", place->region,
                       strncmp(region, "cn-", 3) == 0 ? ".cn" : "");
    }
}

/* Takes the host of a URL or of a bare host's name, without the bucket in front of it. */
static bool take_host(struct s3_place *place, const char *text, const char *bucket, bool allow_http)
{
    struct s3_place to = *place;
    char url[S3_HOST_SIZE + 16];
    char why[8];
    const char *scheme = strstr(text, "://");
    const char *host = scheme ? scheme + 3 : text;
    bool tls = scheme ? strncasecmp(text, "https:", 6) == 0 : place->tls;
    if (place->tls && !tls) {
        return false; /* nobody moves us from an encrypted place to another */
    }
    size_t bucket_len = strlen(bucket);
    to.virtual_hosted = strncmp(host, bucket, bucket_len) == 0 && host[bucket_len] == '.';
    host += to.virtual_hosted ? bucket_len + 1 : 0;
    int n =
        snprintf(url, sizeof url, "%s://%.*s", tls ? "https" : "http", (int)host_len(host), host);
    if (n < 0 || (size_t)n >= sizeof url ||
        s3_place_parse(url, allow_http, &to, why, sizeof why) < 0) {
        return false;
    }
    to.custom = place->custom;
    *place = to;
    return true;
}

bool s3_place_follow(struct s3_place *place, const char *bucket, const struct s3_head *head,
                     const struct s3_error *fault, bool allow_http)
{
    struct s3_place to = *place;
    const char *region = head->region[0] ? head->region : fault->region;
    if (is_region(region) && strcmp(region, to.region) != 0) {
        s3_place_of_region(&to, region);
    }
    bool redirected = head->status >= 301 && head->status <= 308 && head->status != 304;
    if (redirected && head->location[0]) {
        (void)take_host(&to, head->location, bucket, allow_http);
    } else if (redirected && fault->endpoint[0]) {
        (void)take_host(&to, fault->endpoint, bucket, allow_http);
    }
    bool moved = strcmp(to.region, place->region) != 0 || strcmp(to.host, place->host) != 0 ||
                 to.virtual_hosted != place->virtual_hosted;
    *place = to;
    return moved;
}
