/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One request as libcurl wants it. It is signed when it goes out, not when it is asked for, for it
 * may have stood in line. Everything here runs on the thread of http; the body is read from, and a
 * range is written into, the memory of the fiber that waits.
 */
#include "base/assert.h"
#include "base/err.h"
#include "base/time.h"
#include "obj/s3_priv.h"
#include <stdio.h>
#include <string.h>

#define HEADERS_MAX 12
#define VALUE_SIZE 2048
#define SLOW_BYTES_PER_S 1024
#define STALL_SECONDS 15       /* without progress, of the 20 s that an attempt has by default */
#define FLOOR_BYTES_PER_MS 256 /* a link slower than 256 KB/s is taken for a stalled one */
#define BUFFER_MIN (16l << 10)
#define BUFFER_MAX (256l << 10)
#define CONNECTION_AGE_S 50 /* idle for longer: the server closes it about now */
#define TEXT_MAX (16u << 20)

/* Sends from the chain; called again from the start when libcurl has to. */
static size_t on_send(char *dst, size_t size, size_t count, void *arg)
{
    struct s3_exchange *x = arg;
    const struct rt_piece *pieces = rt_chain_pieces(x->body);
    size_t cap = size * count;
    size_t done = 0;
    while (done < cap && x->piece < x->body->count) {
        const struct rt_piece *p = &pieces[x->piece];
        size_t n = MIN_OF(cap - done, (size_t)(p->len - x->piece_off));
        memcpy(dst + done, p->data + x->piece_off, n);
        done += n;
        x->piece_off += (uint32_t)n;
        if (x->piece_off == p->len) {
            x->piece++;
            x->piece_off = 0;
        }
    }
    return done;
}

static int on_rewind(void *arg, curl_off_t off, int origin)
{
    struct s3_exchange *x = arg;
    if (off != 0 || origin != SEEK_SET) {
        return CURL_SEEKFUNC_CANTSEEK;
    }
    x->piece = 0;
    x->piece_off = 0;
    return CURL_SEEKFUNC_OK;
}

/*
 * Whether a head is of the bytes that were asked for, or of those up to the object's end. One that
 * claims more would have the connection wait for what never comes.
 */
static bool promises_range(const struct s3_exchange *x)
{
    const struct s3_head *h = &x->head;
    if (h->status != 206) {
        return h->has_length; /* all of the object, from a server that passes over ranges */
    }
    uint64_t end = x->off + x->len;
    return h->has_range && h->has_total && h->range_first == x->off &&
           h->range_last + 1 == MIN_OF(end, h->range_total) &&
           (!h->has_length || h->length == h->range_last + 1 - h->range_first);
}

/* A 100 Continue, or an answer on a connection that was replaced, is followed by another head. */
static size_t on_line(char *line, size_t size, size_t count, void *arg)
{
    struct s3_exchange *x = arg;
    size_t all = size * count;
    size_t len = all;
    while (len > 0 && (line[len - 1] == '\n' || line[len - 1] == '\r')) {
        len--;
    }
    s3_head_line(&x->head, line, len);
    bool object = x->has_range && (x->head.status == 200 || x->head.status == 206);
    x->bad_head = len == 0 && object && !promises_range(x);
    return x->bad_head ? 0 : all;
}

/* The part of what arrived at `at` in the object that lies in the wanted range. */
static void keep_range(struct s3_exchange *x, uint64_t at, const char *data, size_t len)
{
    uint64_t from = MAX_OF(at, x->off);
    uint64_t to = MIN_OF(at + len, x->off + x->len);
    if (from < to) {
        memcpy(x->dst + (from - x->off), data + (from - at), (size_t)(to - from));
        x->got = (size_t)(to - x->off);
    }
}

static size_t on_data(char *data, size_t size, size_t count, void *arg)
{
    struct s3_exchange *x = arg;
    size_t len = size * count;
    uint64_t at = x->arrived;
    x->arrived += len;
    bool object = x->has_range && (x->head.status == 200 || x->head.status == 206);
    if (object) {
        /* A server that passes over the range sends all of the object. */
        bool partial = x->head.status == 206;
        if (partial && (!x->head.has_range || x->head.range_first != x->off)) {
            return 0;
        }
        keep_range(x, at + (partial ? x->off : 0), data, len);
        return len;
    }
    if (x->text.len + len > TEXT_MAX) {
        return 0;
    }
    bytes_put(&x->text, data, len);
    return x->text.failed ? 0 : len;
}

struct headers {
    struct s3_header at[HEADERS_MAX];
    size_t count;
};

static void add(struct headers *h, const char *name, const char *value)
{
    if (value) {
        ASSERT(h->count < HEADERS_MAX);
        h->at[h->count++] = (struct s3_header){name, value};
    }
}

static void crc_text(uint32_t crc, char ret_text[9])
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    uint64_t bits = (uint64_t)crc << 4;
    for (unsigned i = 0; i < 6; i++) {
        ret_text[i] = digits[bits >> (30 - 6 * i) & 63];
    }
    memcpy(ret_text + 6, "==", 3);
}

/* "name: value"; an empty value keeps libcurl from adding a header of its own. */
static int append_line(struct curl_slist **lines, const char *name, const char *value)
{
    char *text = NULL;
    if (asprintf(&text, "%s:%s%s", name, *value ? " " : "", value) < 0) {
        return -ENOMEM;
    }
    struct curl_slist *grown = curl_slist_append(*lines, text);
    crypt_wiping_free(text);
    if (!grown) {
        return -ENOMEM;
    }
    *lines = grown;
    return 0;
}

static int append_authorization(struct s3_exchange *x, const struct headers *h, const char *path,
                                uint64_t now_s)
{
    char value[VALUE_SIZE];
    struct s3_signing in = {
        .method = x->method,
        .path = path,
        .query = x->query ? x->query : "",
        .headers = h->at,
        .header_count = h->count,
        .body_hash = x->body_hash ? x->body_hash : s3_empty_hash,
        .time_s = now_s,
        .region = x->place.region,
        .service = "s3",
        .access_key = x->cred->access_key,
        .secret_key = x->cred->secret_key,
        .room = x->cred->room,
    };
    int r = s3_sign(&in, value, sizeof value);
    return r < 0 ? r : append_line(&x->lines, "authorization", value);
}

/* All headers, signed; sorted by name, as the signature wants them. */
static int make_lines(struct s3_exchange *x, const char *host, const char *path)
{
    struct s3_store *t = x->store;
    rt_mutex_lock(&t->m);
    int64_t skew_s = t->skew_s;
    rt_mutex_unlock(&t->m);
    x->signed_s = time_wall_ns() / NS_PER_S;
    uint64_t now_s = x->signed_s + (uint64_t)skew_s;
    char when[S3_TIME_TEXT_SIZE];
    char range[64];
    char crc[9];
    s3_time_text(now_s, when);
    crc_text(x->crc, crc);
    (void)snprintf(range, sizeof range, "bytes=%llu-%llu", (unsigned long long)x->off,
                   (unsigned long long)(x->off + x->len - 1));

    struct headers h = {0};
    bool put = strcmp(x->method, "PUT") == 0;
    add(&h, "content-md5", x->content_md5);
    add(&h, "host", host);
    add(&h, "if-none-match", x->if_absent ? "*" : NULL);
    add(&h, "range", x->has_range ? range : NULL);
    add(&h, "x-amz-checksum-crc32c", x->has_crc ? crc : NULL);
    add(&h, "x-amz-checksum-mode", x->has_range ? "ENABLED" : NULL);
    add(&h, "x-amz-content-sha256", x->body_hash ? x->body_hash : s3_empty_hash);
    add(&h, "x-amz-date", when);
    add(&h, "x-amz-security-token", x->cred ? x->cred->token : NULL);
    add(&h, "x-amz-storage-class", put ? t->storage_class : NULL);
    int r = 0;
    for (size_t i = 0; r == 0 && i < h.count; i++) {
        r = append_line(&x->lines, h.at[i].name, h.at[i].value);
    }
    r = r == 0 && x->cred ? append_authorization(x, &h, path, now_s) : r;
    r = r == 0 && x->body ? append_line(&x->lines, "content-type", "application/octet-stream") : r;
    return r == 0 ? append_line(&x->lines, "expect", "") : r;
}

/* The path, as sent and as signed. */
static int make_path(const struct s3_exchange *x, struct bytes_writer *w)
{
    bytes_put_u8(w, '/');
    if (!x->place.virtual_hosted) {
        s3_encode(w, x->store->bucket, false);
        bytes_put(w, "/", x->key[0] ? 1 : 0);
    }
    s3_encode(w, x->key, true);
    bytes_put_u8(w, '\0');
    return w->failed ? -ENOMEM : 0;
}

#define SET(option, value)                                                                         \
    do {                                                                                           \
        if (curl_easy_setopt(easy, (option), (value)) != CURLE_OK) {                               \
            return -ENOMEM;                                                                        \
        }                                                                                          \
    } while (0)

static int set_limits(const struct s3_exchange *x, CURL *easy)
{
    uint64_t bytes = MAX_OF(x->body ? x->body->len : 0, (uint64_t)x->len);
    long buffer = MIN_OF(MAX_OF((long)MIN_OF(bytes, (uint64_t)BUFFER_MAX), BUFFER_MIN), BUFFER_MAX);
    long timeout_ms = (long)(x->store->timeout_ms + bytes / FLOOR_BYTES_PER_MS);
    /* Who gives a store more time for an answer means it. */
    long stall_s = MAX_OF((long)x->store->timeout_ms / 1000 * 3 / 4, (long)STALL_SECONDS);
    SET(CURLOPT_NOSIGNAL, 1l);
    SET(CURLOPT_CONNECTTIMEOUT_MS, (long)x->store->connect_timeout_ms);
    SET(CURLOPT_TIMEOUT_MS, timeout_ms);
    SET(CURLOPT_LOW_SPEED_LIMIT, (long)SLOW_BYTES_PER_S);
    SET(CURLOPT_LOW_SPEED_TIME, stall_s);
    SET(CURLOPT_MAXAGE_CONN, (long)CONNECTION_AGE_S);
    SET(CURLOPT_TCP_NODELAY, 1l);
    SET(CURLOPT_TCP_KEEPALIVE, 1l);
    SET(CURLOPT_BUFFERSIZE, buffer);
    SET(CURLOPT_UPLOAD_BUFFERSIZE, buffer);
    return 0;
}

static int set_method(struct s3_exchange *x, CURL *easy)
{
    if (x->body && strcmp(x->method, "PUT") == 0) {
        SET(CURLOPT_UPLOAD, 1l);
        SET(CURLOPT_INFILESIZE_LARGE, (curl_off_t)x->body->len);
    } else if (x->body) {
        SET(CURLOPT_POST, 1l);
        SET(CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)x->body->len);
    } else if (strcmp(x->method, "HEAD") == 0) {
        SET(CURLOPT_NOBODY, 1l);
    } else {
        SET(CURLOPT_HTTPGET, 1l);
        SET(CURLOPT_CUSTOMREQUEST, x->method);
    }
    SET(CURLOPT_READFUNCTION, on_send);
    SET(CURLOPT_READDATA, x);
    SET(CURLOPT_SEEKFUNCTION, on_rewind);
    SET(CURLOPT_SEEKDATA, x);
    SET(CURLOPT_WRITEFUNCTION, on_data);
    SET(CURLOPT_WRITEDATA, x);
    SET(CURLOPT_HEADERFUNCTION, on_line);
    SET(CURLOPT_HEADERDATA, x);
    return 0;
}

static int set_target(struct s3_exchange *x, CURL *easy, const char *host, const char *path)
{
    char *url = NULL;
    bool query = x->query && x->query[0];
    if (asprintf(&url, "%s://%s%s%s%s", x->place.tls ? "https" : "http", host, path,
                 query ? "?" : "", query ? x->query : "") < 0) {
        return -ENOMEM;
    }
    CURLcode code = curl_easy_setopt(easy, CURLOPT_URL, url);
    free(url);
    if (code != CURLE_OK) {
        return -ENOMEM;
    }
    SET(CURLOPT_PATH_AS_IS, 1l);
    SET(CURLOPT_PROTOCOLS_STR, "http,https");
    SET(CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    SET(CURLOPT_HTTPHEADER, x->lines);
    SET(CURLOPT_ERRORBUFFER, x->why);
    SET(CURLOPT_PRIVATE, x);
    if (x->store->ca_bundle) {
        SET(CURLOPT_CAINFO, x->store->ca_bundle);
    }
    return 0;
}

int s3_request_prepare(struct s3_exchange *x, CURL *easy)
{
    struct s3_store *t = x->store;
    x->piece = 0;
    x->piece_off = 0;
    x->arrived = 0;
    x->got = 0;
    x->text.len = 0;
    x->head = (struct s3_head){0};
    x->fault = (struct s3_error){0};
    x->bad_head = false;
    x->why[0] = '\0';
    s3_cred_unref(x->cred);
    x->cred = t->creds ? s3_creds_take(t->creds) : NULL;
    if (x->place_once) {
        x->place = *x->place_once;
    } else {
        rt_mutex_lock(&t->m);
        x->place = t->place;
        rt_mutex_unlock(&t->m);
    }
    char host[S3_HOST_SIZE + 64];
    (void)snprintf(host, sizeof host, "%s%s%s", x->place.virtual_hosted ? t->bucket : "",
                   x->place.virtual_hosted ? "." : "", x->place.host);
    struct bytes_writer path = {0};
    int r = make_path(x, &path);
    if (r == 0) {
        r = make_lines(x, host, (const char *)path.data);
    }
    if (r == 0) {
        r = set_target(x, easy, host, (const char *)path.data);
    }
    bytes_writer_free(&path);
    if (r == 0) {
        r = set_limits(x, easy);
    }
    return r == 0 ? set_method(x, easy) : r;
}
