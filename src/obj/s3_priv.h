/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of the S3 backend share. */
#pragma once
#include "obj/obj_layers.h"
#include "obj/obj_priv.h"
#include "obj/s3_cred.h"
#include "obj/s3_sign.h"
#include "obj/s3_text.h"
#include <curl/curl.h>

#define S3_HOST_SIZE 280
#define S3_REGION_SIZE 64
#define S3_KEY_MAX 1024 /* bytes of a key in the bucket */
#define S3_WHY_SIZE CURL_ERROR_SIZE
#define S3_TRIES_SILENT 4 /* of one request, for redirects, clocks and regions */

/* Where the bucket is. Changes when the server says that it is elsewhere. */
struct s3_place {
    bool tls;
    bool custom; /* an endpoint was given: it does not follow from the region */
    bool virtual_hosted;
    char host[S3_HOST_SIZE]; /* with the port, without the bucket */
    char region[S3_REGION_SIZE];
};

/* "https://host:port". 0; -EINVAL with the reason. */
MUST int s3_place_parse(const char *endpoint, bool allow_http, struct s3_place *place,
                        char *ret_why, size_t why_cap);
/* The host that belongs to the region, for a place that is not custom. */
void s3_place_of_region(struct s3_place *place, const char *region);
/* Moves to where a redirect points: false when it leads nowhere. */
bool s3_place_follow(struct s3_place *place, const char *bucket, const struct s3_head *head,
                     const struct s3_error *fault, bool allow_http);
/* Parts of s3://bucket/prefix. -EINVAL with the reason. The prefix ends in '/' unless it is empty.
 */
MUST int s3_url_parse(const char *text, size_t len, char ret_bucket[64], char ret_prefix[512],
                      char *ret_why, size_t why_cap);

struct s3_store;

/*
 * One request and its answer, made by the fiber that waits for it. From s3_http_run() until that
 * returns it belongs to the thread of http.
 */
struct s3_exchange {
    struct s3_store *store;
    enum obj_class klass;
    const char *method;
    char key[S3_KEY_MAX + 1]; /* in the bucket; "" is the bucket */
    const char *query;        /* as in struct s3_signing */
    const char *body_hash;    /* NULL: no body */
    const char *content_md5;
    const struct rt_chain *body;
    bool if_absent;
    bool has_crc;
    uint32_t crc;
    bool has_range; /* the bytes [off, off + len) go to dst */
    uint64_t off;
    uint8_t *dst;
    size_t len;
    const struct s3_place *place_once; /* for this request alone; NULL: the store's */

    int error;             /* of the transport: 0 or -errno; then nothing below is good but why */
    char why[S3_WHY_SIZE]; /* the transport's own words */
    struct s3_head head;
    struct s3_error fault;    /* of an answer from 300 on */
    struct bytes_writer text; /* what came and does not belong into dst */
    size_t got;               /* bytes in dst */
    struct s3_place place;    /* where it was sent */
    struct s3_cred *cred;     /* who signed */
    uint64_t signed_s;        /* local time */

    /* Private to http. */
    struct list link;
    CURL *easy;
    struct curl_slist *lines;
    uint32_t piece; /* what of the body is sent: place in its chain */
    uint32_t piece_off;
    uint64_t arrived; /* bytes of the answer's body */
    bool bad_head;    /* the answer does not promise what was asked for */
    bool sent_again;  /* on a fresh connection, after a kept one broke */
    bool queued;
    bool cancelled;
    struct rt_event done;
};

/* For the object, or (NULL) for the bucket: 0, -ENOMEM, -ENAMETOOLONG. */
MUST int s3_exchange_make(struct s3_store *t, enum obj_class klass, const char *method,
                          const char *name, struct s3_exchange **ret_x);
void s3_exchange_free(struct s3_exchange *x); /* accepts NULL */

/* Fills in the easy handle: URL, headers with their signature, time limits. On http's thread. */
MUST int s3_request_prepare(struct s3_exchange *x, CURL *easy);

struct s3_http;
MUST int s3_http_open(unsigned max_connections, struct s3_http **ret_http);
/* 0 when there is an answer, of whatever status; else x->error: -ECANCELED, -ETIMEDOUT, ... */
MUST int s3_http_run(struct s3_http *h, struct s3_exchange *x) WAITS;
void s3_http_close(struct s3_http *h); /* blocks; nothing is under way; accepts NULL */

struct s3_store {
    struct obj_store base;
    struct s3_http *http;
    struct s3_creds *creds; /* NULL: requests are not signed */
    char bucket[64];
    char prefix[512];
    char *ca_bundle;
    char *storage_class;
    bool allow_http;
    bool proven;
    bool emulates_absence; /* the store does not honour put-if-absent, and that was allowed */
    unsigned connect_timeout_ms;
    unsigned timeout_ms;
    struct rt_mutex m; /* place, skew_s, last, last_status */
    struct s3_place place;
    int64_t skew_s;         /* the server's clock less ours */
    char last[S3_WHY_SIZE]; /* why the last request failed */
    long last_status;       /* of its answer; 0: there was none */
};

/* Runs the exchange, and again where the server only wants it somewhere else or signed for another
 * clock: the result of the request, 0 for every status below 300. */
MUST int s3_call(struct s3_exchange *x) WAITS;

/* Puts without asking that the name be free. */
MUST int s3_put_anyway(struct s3_store *t, const char *name, const struct rt_chain *body) WAITS;

/* Finds out whether the store does what is needed; messages in the log. At open, without putting
 * anything: */
MUST int s3_look(struct s3_store *t) WAITS;
/* And before it is written to: */
MUST int s3_prove(struct obj_store *s) WAITS;
extern const struct obj_ops s3_ops;

#define S3_PROBE_PREFIX "probe/" /* names that listings leave out */
