/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The store "s3://": a bucket of an S3 server, over http.c's connections.
 *
 * PUT-IF-ABSENT is If-None-Match: *, which the server decides atomically. 412 is -EEXIST, whoever's
 * object it is; 409 says that another request for the name is under way, and passes.
 *
 * ABSENT is 404 with the code NoSuchKey, and nothing else: not 403, which is what a server says to
 * those who may not list, and not a bucket that is gone (-ESTALE). An answer to HEAD has no body to
 * tell these apart, so its 404 is asked about once more with GET.
 *
 * WHOLE. Bodies go out with their SHA-256, signed, and their CRC32C, so that a server that looks
 * notices what a link has changed. Of what comes back the length is checked always, the place of a
 * range too, and the CRC32C when the server knows it of all that was read.
 *
 * MENDED SILENTLY, a few times for one request: another region, another host, another clock. All
 * else is the retry layer's.
 */
#include "base/assert.h"
#include "base/crc32c.h"
#include "base/err.h"
#include "base/msg.h"
#include "base/time.h"
#include "obj/s3_priv.h"
#include <inttypes.h>
#include <openssl/evp.h>
#include <string.h>

#define HASH_OFFLOAD_BYTES (64u << 10)
#define PAGE_MAX 1000u /* keys of one page, and of one multi-object delete */
#define SKEW_MIN_S 2
#define HASH_BYTES 32

static struct s3_store *of(struct obj_store *s)
{
    return container_of(s, struct s3_store, base);
}

static bool is_code(const struct s3_exchange *x, const char *code)
{
    return strcmp(x->fault.code, code) == 0;
}

/* The body that the store got is not the one that its checksum was made of. */
static bool is_spoilt_body(const struct s3_exchange *x)
{
    return is_code(x, "BadDigest") || is_code(x, "XAmzContentSHA256Mismatch") ||
           is_code(x, "XAmzContentChecksumMismatch");
}

/* Keeps the reason for those who report it. */
static void remember(struct s3_exchange *x)
{
    struct s3_store *t = x->store;
    const struct s3_error *f = &x->fault;
    char text[S3_WHY_SIZE];
    if (x->error < 0) {
        (void)snprintf(text, sizeof text, "%s", x->why[0] ? x->why : err_text(x->error));
    } else {
        (void)snprintf(text, sizeof text, "%ld %s%s%.100s", x->head.status,
                       f->code[0] ? f->code : "without a code", f->message[0] ? ": " : "",
                       f->message);
    }
    msg_debug("obj", "%s %s: %s (request %s)", x->method, x->key, text,
              x->head.request_id[0] ? x->head.request_id : "without an id");
    if (is_spoilt_body(x)) {
        msg_warn("obj", "%s %s: what arrived there is not what was sent", x->method, x->key);
    }
    rt_mutex_lock(&t->m);
    memcpy(t->last, text, sizeof t->last);
    t->last_status = x->error < 0 ? 0 : x->head.status;
    rt_mutex_unlock(&t->m);
}

static bool is_refused_credential(const struct s3_exchange *x)
{
    static const char *const codes[] = {"ExpiredToken", "InvalidAccessKeyId", "InvalidToken",
                                        "TokenRefreshRequired", "SignatureDoesNotMatch"};
    for (size_t i = 0; i < ARRAY_LEN(codes); i++) {
        if (is_code(x, codes[i])) {
            return true;
        }
    }
    return false;
}

static int error_of_400(const struct s3_exchange *x)
{
    if (is_refused_credential(x)) {
        return -EACCES;
    }
    if (is_code(x, "RequestTimeout")) {
        return -ETIMEDOUT;
    }
    return is_code(x, "EntityTooLarge") || is_code(x, "KeyTooLongError") ? -EINVAL : -EIO;
}

/* A 404 that no S3 server wrote says nothing about the object. */
static int error_of_404(const struct s3_exchange *x)
{
    if (is_code(x, "NoSuchKey") || strcmp(x->method, "HEAD") == 0) {
        return -ENOENT;
    }
    return is_code(x, "NoSuchBucket") ? -ESTALE : -EIO;
}

/* What a status of 300 or more means. */
static int error_of(const struct s3_exchange *x)
{
    switch (x->head.status) {
    case 400:
        return error_of_400(x);
    case 401:
        return -EACCES;
    case 403:
        return is_code(x, "QuotaExceeded") ? -ENOSPC : -EACCES;
    case 404:
        return error_of_404(x);
    case 405:
    case 501:
        return -ENOTSUP;
    case 409:
    case 429:
    case 503:
        return -EAGAIN;
    case 412: /* where nothing was demanded it says nothing */
        return x->if_absent ? -EEXIST : -EIO;
    case 507:
        return -ENOSPC;
    default:
        return -EIO;
    }
}

/* The server's clock differs from ours by more than it accepts: sign by its clock from now on. */
static bool mend_clock(struct s3_exchange *x)
{
    struct s3_store *t = x->store;
    if (x->head.date_s == 0 ||
        (!is_code(x, "RequestTimeTooSkewed") && !is_code(x, "RequestExpired"))) {
        return false;
    }
    int64_t skew = (int64_t)(x->head.date_s - x->signed_s);
    rt_mutex_lock(&t->m);
    int64_t change = skew - t->skew_s;
    bool changed = change >= SKEW_MIN_S || change <= -SKEW_MIN_S;
    if (changed) {
        t->skew_s = skew;
    }
    rt_mutex_unlock(&t->m);
    if (changed) {
        msg_warn("obj",
                 "the clock of the store differs from this machine's by %" PRId64
                 " s: requests are signed by the store's",
                 skew);
    }
    return changed;
}

/* The bucket is somewhere else: for good, or (307) for this request. */
static bool mend_place(struct s3_exchange *x, struct s3_place *once)
{
    struct s3_store *t = x->store;
    struct s3_place to = x->place;
    bool tells = x->head.status <= 308 || is_code(x, "AuthorizationHeaderMalformed") ||
                 is_code(x, "IllegalLocationConstraintException") ||
                 (x->head.status == 400 && x->head.region[0]);
    if (!tells || !s3_place_follow(&to, t->bucket, &x->head, &x->fault, t->allow_http)) {
        return false;
    }
    if (x->head.status == 307 && strcmp(to.region, x->place.region) == 0) {
        *once = to;
        x->place_once = once;
        return true;
    }
    x->place_once = NULL;
    rt_mutex_lock(&t->m);
    bool news = strcmp(t->place.region, to.region) != 0 || strcmp(t->place.host, to.host) != 0;
    t->place = to;
    rt_mutex_unlock(&t->m);
    if (news) {
        msg_info("obj", "the bucket %s is at %s, region %s", t->bucket, to.host, to.region);
    }
    return true;
}

int s3_call(struct s3_exchange *x)
{
    struct s3_place once;
    for (unsigned tries = 0;; tries++) {
        int r = s3_http_run(x->store->http, x);
        if (r == 0 && x->head.status < 300) {
            return 0;
        }
        if (r == 0 && tries < S3_TRIES_SILENT && (mend_clock(x) || mend_place(x, &once))) {
            continue;
        }
        if (r != -ECANCELED) {
            remember(x);
        }
        if (r == 0 && is_refused_credential(x) && x->store->creds) {
            s3_creds_refused(x->store->creds, x->cred);
        }
        x->place_once = NULL;
        return r < 0 ? r : error_of(x);
    }
}

/* The checksums of a body. */
struct digest_job {
    const struct rt_chain *body;
    char hash[S3_HASH_TEXT_SIZE];
    uint32_t crc;
};

static int digest_run(void *arg)
{
    struct digest_job *j = arg;
    uint8_t digest[HASH_BYTES];
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    bool ok = ctx && EVP_DigestInit_ex(ctx, EVP_sha256(), NULL) == 1;
    const struct rt_piece *pieces = rt_chain_pieces(j->body);
    for (uint32_t i = 0; ok && i < j->body->count; i++) {
        ok = EVP_DigestUpdate(ctx, pieces[i].data, pieces[i].len) == 1;
        j->crc = crc32c(j->crc, pieces[i].data, pieces[i].len);
    }
    ok = ok && EVP_DigestFinal_ex(ctx, digest, NULL) == 1;
    EVP_MD_CTX_free(ctx);
    s3_hex(digest, ok ? sizeof digest : 0, j->hash);
    return ok ? 0 : -ENOMEM;
}

static int digest(struct digest_job *j)
{
    return j->body->len > HASH_OFFLOAD_BYTES ? rt_offload(RT_OFFLOAD_CPU, digest_run, j)
                                             : digest_run(j);
}

static int s3_head(struct obj_store *s, enum obj_class c, const char *name, uint64_t *ret_size);

/* if_absent: the store is to refuse a name that is taken. */
static int put(struct s3_store *t, enum obj_class c, const char *name, const struct rt_chain *body,
               bool if_absent)
{
    struct digest_job d = {.body = body};
    int r = digest(&d);
    if (r < 0) {
        return r;
    }
    struct s3_exchange *x;
    r = s3_exchange_make(t, c, "PUT", name, &x);
    if (r < 0) {
        return r;
    }
    x->body_hash = d.hash;
    x->body = body;
    x->if_absent = if_absent;
    x->has_crc = true;
    x->crc = d.crc;
    r = s3_call(x);
    s3_exchange_free(x);
    /* Absent can only be something that is not meant here. */
    return r == -ENOENT ? -EIO : r;
}

int s3_put_anyway(struct s3_store *t, const char *name, const struct rt_chain *body)
{
    return put(t, OBJ_INDEX, name, body, false);
}

static int s3_put(struct obj_store *s, enum obj_class c, const char *name,
                  const struct rt_chain *body)
{
    struct s3_store *t = of(s);
    uint64_t size;
    if (t->emulates_absence) {
        int present = s3_head(s, c, name, &size);
        if (present != -ENOENT) {
            return present == 0 ? -EEXIST : present;
        }
    }
    return put(t, c, name, body, !t->emulates_absence);
}

struct verify_job {
    const uint8_t *data;
    size_t len;
    uint32_t crc;
};

static int verify_run(void *arg)
{
    const struct verify_job *j = arg;
    return crc32c(0, j->data, j->len) == j->crc ? 0 : -EIO;
}

/* Whether what came is what the server says that it sent. */
static int check_answer(struct s3_exchange *x)
{
    const struct s3_head *h = &x->head;
    uint64_t total = h->status == 206 ? h->range_total : x->arrived;
    bool sized = h->status == 206 ? h->has_range && h->range_first == x->off : h->has_length;
    uint64_t wanted = x->off < total ? MIN_OF(total - x->off, (uint64_t)x->len) : 0;
    uint64_t sent = h->status == 206 ? h->range_last - h->range_first + 1 : h->length;
    if (!sized || x->arrived != sent || (h->status == 206 && !h->has_total) || x->got != wanted) {
        msg_warn("obj",
                 "GET %s: %zu bytes at %" PRIu64 " of %" PRIu64 " came where %" PRIu64
                 " were to come; reading again",
                 x->key, x->got, x->off, total, wanted);
        return -EIO;
    }
    if (!h->has_crc || x->off != 0 || x->got != total) {
        return 0;
    }
    struct verify_job v = {x->dst, x->got, h->crc};
    int r =
        x->got > HASH_OFFLOAD_BYTES ? rt_offload(RT_OFFLOAD_CPU, verify_run, &v) : verify_run(&v);
    if (r < 0) {
        msg_warn("obj", "GET %s: the bytes do not match their checksum; reading again", x->key);
    }
    return r;
}

/* Reads a range: what came, or the error; *ret_total: the size of the object. */
static ssize_t read_range(struct s3_exchange *x, uint64_t *ret_total)
{
    x->has_range = true;
    int r = s3_call(x);
    if (r < 0 && x->error == 0 && x->head.status == 416) {
        *ret_total = x->head.has_total ? x->head.range_total : x->off;
        return 0; /* past the end */
    }
    if (r == 0) {
        r = check_answer(x);
    }
    *ret_total = x->head.has_total ? x->head.range_total : x->arrived;
    return r < 0 ? r : (ssize_t)x->got;
}

static ssize_t s3_get(struct obj_store *s, enum obj_class c, const char *name, uint64_t off,
                      void *dst, size_t len)
{
    uint64_t total;
    if (len == 0) {
        return s3_head(s, c, name, &total);
    }
    struct s3_exchange *x;
    int r = s3_exchange_make(of(s), c, "GET", name, &x);
    if (r < 0) {
        return r;
    }
    x->off = off;
    x->dst = dst;
    x->len = len;
    ssize_t n = read_range(x, &total);
    s3_exchange_free(x);
    return n;
}

/* Asks with GET, whose failures have a code. */
static int head_again(struct s3_store *t, enum obj_class c, const char *name, uint64_t *ret_size)
{
    struct s3_exchange *x;
    int r = s3_exchange_make(t, c, "GET", name, &x);
    if (r < 0) {
        return r;
    }
    uint8_t first;
    uint64_t total;
    x->dst = &first;
    x->len = 1;
    ssize_t n = read_range(x, &total);
    s3_exchange_free(x);
    if (n < 0) {
        return (int)n;
    }
    *ret_size = total;
    return 0;
}

static int s3_head(struct obj_store *s, enum obj_class c, const char *name, uint64_t *ret_size)
{
    struct s3_exchange *x;
    int r = s3_exchange_make(of(s), c, "HEAD", name, &x);
    if (r < 0) {
        return r;
    }
    r = s3_call(x);
    if (r == 0 && !x->head.has_length) {
        r = -EIO;
    }
    uint64_t size = x->head.length;
    s3_exchange_free(x);
    if (r == -ENOENT) {
        return head_again(of(s), c, name, ret_size);
    }
    if (r == 0) {
        *ret_size = size;
    }
    return r;
}

/* Names of the probes of other openers are nobody's objects. */
static bool is_hidden(const char *name, const char *prefix)
{
    return strncmp(name, S3_PROBE_PREFIX, strlen(S3_PROBE_PREFIX)) == 0 &&
           strncmp(prefix, S3_PROBE_PREFIX, strlen(S3_PROBE_PREFIX)) != 0;
}

struct listing {
    struct s3_store *t;
    enum obj_class c;
    const char *prefix;
    size_t max;
    struct obj_names *names;
    char after[S3_KEY_MAX + 1]; /* key */
    char full_prefix[S3_KEY_MAX + 1];
    bool more; /* the server has more */
};

struct list_job {
    const struct s3_exchange *x;
    struct s3_list page;
};

static int list_run(void *arg)
{
    struct list_job *j = arg;
    return s3_list_parse(j->x->text.data, j->x->text.len, &j->page);
}

/* Takes the keys of one page. They must be in order, or the next page would go astray. */
static int take_page(struct listing *l, const struct s3_list *page)
{
    size_t own = strlen(l->t->prefix);
    size_t len = strlen(l->full_prefix);
    for (size_t i = 0; i < page->keys.len; i++) {
        const char *key = page->keys.at[i];
        if (strncmp(key, l->full_prefix, len) != 0 || strcmp(key, l->after) <= 0 ||
            strlen(key) > S3_KEY_MAX) {
            msg_error("obj", "the store lists \"%.100s\" where it should not: after \"%.100s\"",
                      key, l->after);
            return -EPROTO;
        }
        memcpy(l->after, key, strlen(key) + 1);
        const char *name = key + own;
        if (*name == '\0' || strlen(name) >= OBJ_NAME_SIZE || is_hidden(name, l->prefix)) {
            continue;
        }
        if (l->names->names.len == l->max) {
            l->names->more = true;
            return 0;
        }
        int r = obj_names_add(l->names, name);
        if (r < 0) {
            return r;
        }
    }
    l->more = page->truncated && page->keys.len > 0;
    return 0;
}

/* list-type=2&max-keys=1000&prefix=...&start-after=..., sorted as the signature wants it. */
static int make_list_query(const struct listing *l, struct bytes_writer *w)
{
    char head[64];
    size_t want = MIN_OF(l->max - l->names->names.len, (size_t)PAGE_MAX - 1) + 1;
    int n = snprintf(head, sizeof head, "list-type=2&max-keys=%zu&prefix=", want);
    bytes_put(w, head, (size_t)n);
    s3_encode(w, l->full_prefix, false);
    if (l->after[0]) {
        bytes_put(w, "&start-after=", 13);
        s3_encode(w, l->after, false);
    }
    bytes_put_u8(w, '\0');
    return w->failed ? -ENOMEM : 0;
}

static int list_page(struct listing *l)
{
    struct bytes_writer query = {0};
    int r = make_list_query(l, &query);
    if (r < 0) {
        bytes_writer_free(&query);
        return r;
    }
    struct s3_exchange *x;
    r = s3_exchange_make(l->t, l->c, "GET", NULL, &x);
    if (r < 0) {
        bytes_writer_free(&query);
        return r;
    }
    x->query = (const char *)query.data;
    struct list_job j = {.x = x};
    r = s3_call(x);
    r = r == 0 ? rt_offload(RT_OFFLOAD_CPU, list_run, &j) : r;
    l->more = false;
    r = r == 0 ? take_page(l, &j.page) : r;
    s3_list_free(&j.page);
    s3_exchange_free(x);
    bytes_writer_free(&query);
    if (r == -EPROTO) {
        return -EIO;
    }
    return r == -ENOENT ? -ESTALE : r; /* there is no bucket to list */
}

static int join(const struct s3_store *t, const char *name, char ret_key[S3_KEY_MAX + 1])
{
    int n = snprintf(ret_key, S3_KEY_MAX + 1, "%s%s", t->prefix, name);
    return n < 0 || n > S3_KEY_MAX ? -ENAMETOOLONG : 0;
}

static int s3_list(struct obj_store *s, enum obj_class c, const char *prefix, const char *after,
                   size_t max, struct obj_names *ret_names)
{
    struct s3_store *t = of(s);
    auto_free struct listing *l = calloc(1, sizeof *l);
    if (!l) {
        return -ENOMEM;
    }
    *l = (struct listing){.t = t, .c = c, .prefix = prefix, .max = max, .names = ret_names};
    int r = join(t, prefix, l->full_prefix);
    if (r == 0 && after[0]) {
        r = join(t, after, l->after);
    }
    do {
        r = r == 0 ? list_page(l) : r;
    } while (r == 0 && l->more && !ret_names->more);
    return r;
}

static int s3_remove(struct obj_store *s, enum obj_class c, const char *name)
{
    struct s3_exchange *x;
    int r = s3_exchange_make(of(s), c, "DELETE", name, &x);
    if (r < 0) {
        return r;
    }
    r = s3_call(x);
    s3_exchange_free(x);
    return r == -ENOENT ? 0 : r;
}

/* The document, its MD5 (which the request must have) and its SHA-256. */
struct delete_job {
    struct s3_store *t;
    const char *const *names;
    size_t count;
    struct bytes_writer text;
    char md5[32];
    struct rt_chain body;
};

static int make_document(struct delete_job *j)
{
    VEC(char *) keys = {0};
    int r = 0;
    for (size_t i = 0; r == 0 && i < j->count; i++) {
        char *key = NULL;
        r = asprintf(&key, "%s%s", j->t->prefix, j->names[i]) < 0 ? -ENOMEM : 0;
        r = r == 0 ? vec_push(&keys, key) : r;
    }
    if (r == 0) {
        s3_delete_document(&j->text, (const char *const *)keys.at, keys.len);
        r = j->text.failed ? -ENOMEM : 0;
    }
    for (size_t i = 0; i < keys.len; i++) {
        free(keys.at[i]);
    }
    vec_free(&keys);
    uint8_t md5[EVP_MAX_MD_SIZE];
    unsigned len = 0;
    if (r == 0 && EVP_Digest(j->text.data, j->text.len, md5, &len, EVP_md5(), NULL) != 1) {
        return -ENOTSUP; /* a library without MD5 */
    }
    if (r == 0) {
        (void)EVP_EncodeBlock((uint8_t *)j->md5, md5, (int)len);
        r = rt_chain_add(&j->body, NULL, j->text.data, (uint32_t)j->text.len);
    }
    return r;
}

/* 0, or the first failure that the answer tells. */
static int check_deleted(struct s3_exchange *x)
{
    struct s3_error first;
    int r = s3_deleted_parse(x->text.data, x->text.len, &first);
    if (r < 0) {
        return r == -EPROTO ? -EIO : r;
    }
    if (first.code[0] == '\0' || strcmp(first.code, "NoSuchKey") == 0) {
        return 0;
    }
    x->fault = first;
    x->head.status = strcmp(first.code, "AccessDenied") == 0 ? 403 : 500;
    remember(x);
    return error_of(x);
}

static int delete_page(struct delete_job *j, enum obj_class c)
{
    struct s3_exchange *x = NULL;
    int r = make_document(j);
    struct digest_job d = {.body = &j->body};
    r = r == 0 ? digest(&d) : r;
    r = r == 0 ? s3_exchange_make(j->t, c, "POST", NULL, &x) : r;
    if (r == 0) {
        x->query = "delete=";
        x->content_md5 = j->md5;
        x->body_hash = d.hash;
        x->body = &j->body;
        r = s3_call(x);
        r = r == 0 ? check_deleted(x) : r;
    }
    s3_exchange_free(x);
    bytes_writer_free(&j->text);
    rt_chain_free(&j->body);
    return r;
}

static int s3_remove_many(struct obj_store *s, enum obj_class c, const char *const *names,
                          size_t count)
{
    for (size_t done = 0; done < count;) {
        size_t n = MIN_OF(count - done, (size_t)PAGE_MAX);
        struct delete_job j = {.t = of(s), .names = names + done, .count = n};
        int r = delete_page(&j, c);
        if (r < 0) {
            return r;
        }
        done += n;
    }
    return 0;
}

static int close_run(void *arg)
{
    struct s3_store *t = arg;
    s3_http_close(t->http);
    s3_creds_close(t->creds);
    return 0;
}

static void s3_close(struct obj_store *s)
{
    struct s3_store *t = of(s);
    int r = rt_offload(RT_OFFLOAD_IO, close_run, t);
    ASSERT(r == 0);
    free(t->ca_bundle);
    free(t->storage_class);
    rt_mutex_destroy(&t->m);
    free(t);
}

static void s3_last_error(struct obj_store *s, char *ret_text, size_t cap)
{
    struct s3_store *t = of(s);
    rt_mutex_lock(&t->m);
    (void)snprintf(ret_text, cap, "%s", t->last);
    rt_mutex_unlock(&t->m);
}

const struct obj_ops s3_ops = {
    .name = "s3",
    .far = true,
    .put = s3_put,
    .get = s3_get,
    .head = s3_head,
    .list = s3_list,
    .remove = s3_remove,
    .remove_many = s3_remove_many,
    .prove = s3_prove,
    .last_error = s3_last_error,
    .close = s3_close,
};
