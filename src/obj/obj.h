/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The object store: names to immutable bytes. Every object is created put-if-absent (I9) and never
 * changed.
 *
 * A store is a stack of layers over one backend, all with the same operations; obj_open() builds it
 * from a URL. Drawn top down:
 *
 *     retry     repeats what failed for a passing reason, with jittered exponential backoff
 *     stats     counts requests, bytes, errors and latency by class and kind
 *     fault     fails, loses, repeats or delays requests by a seed (tests)
 *     delay     adds latency (tests and benchmarks)
 *     file | memory | s3
 *
 * URLs: "file:///var/lib/zerofs", "memory:", "s3://bucket/prefix", with options for tests:
 * "?delay_ms=20&fault=0.01&seed=7" (url.c lists them). A folder that vanished under an open file
 * store gives -ESTALE: its objects are not missing, the store is. Names are relative paths of
 * [A-Za-z0-9._/-], at most 512 bytes, never starting or ending with '/', no "." or ".." part.
 */
#pragma once
#include "base/attr.h"
#include "base/vec.h"
#include "rt/buf.h"
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* What a request is for. Each class has its own share of connections and threads; the first two
 * have reserved ones. */
enum obj_class {
    OBJ_COMMIT,
    OBJ_INDEX,
    OBJ_READ,
    OBJ_PREFETCH,
    OBJ_COMPACT,
    OBJ_COLLECT,
    OBJ_CLASSES,
};

enum obj_kind {
    OBJ_PUT,
    OBJ_GET,
    OBJ_HEAD,
    OBJ_LIST,
    OBJ_DELETE,
    OBJ_KINDS,
};

#define OBJ_NAME_SIZE 513

struct obj_names {
    VEC(char *) names; /* owned; obj_names_free() */
    bool more;         /* the listing was cut at max */
};

void obj_names_free(struct obj_names *n);

struct obj_store;

/* All members are required, but for remove_many (NULL, or a result of -ENOTSUP: the backend has no
 * such request) and last_error (what the store said, for messages). A layer is a struct that starts
 * with struct obj_store. */
struct obj_ops {
    const char *name;
    bool far; /* what goes there takes its time, and many requests at once are faster than one */
    int (*put)(struct obj_store *s, enum obj_class c, const char *name, const struct rt_chain *body)
        WAITS;
    ssize_t (*get)(struct obj_store *s, enum obj_class c, const char *name, uint64_t off, void *dst,
                   size_t len) WAITS;
    int (*head)(struct obj_store *s, enum obj_class c, const char *name, uint64_t *ret_size) WAITS;
    int (*list)(struct obj_store *s, enum obj_class c, const char *prefix, const char *after,
                size_t max, struct obj_names *ret_names) WAITS;
    int (*remove)(struct obj_store *s, enum obj_class c, const char *name) WAITS;
    int (*remove_many)(struct obj_store *s, enum obj_class c, const char *const *names,
                       size_t count) WAITS;
    int (*prove)(struct obj_store *s) WAITS; /* NULL: there is nothing to find out */
    void (*last_error)(struct obj_store *s, char *ret_text, size_t cap);
    void (*close)(struct obj_store *s) WAITS; /* closes the layers below as well and frees */
};

struct obj_store {
    const struct obj_ops *ops;
    struct obj_store *next; /* the layer below; NULL at the backend */
};

/*
 * Creates the object if the name is free. 0; -EEXIST when it is taken (also by an earlier attempt
 * of this very call: the caller compares, I3); -EAGAIN, -ETIMEDOUT, -EIO and the like when it is
 * unknown whether it was stored. -ENOSPC, -EROFS, -EACCES as the store says. The body is not
 * changed and must live until the call returns.
 */
MUST int obj_put(struct obj_store *s, enum obj_class c, const char *name,
                 const struct rt_chain *body) WAITS;
/* True for an error that may be gone when the same request is sent again (time-outs, EIO, ...): not
 * ENOENT, EEXIST, ENOSPC, EROFS, EACCES, ESTALE. */
bool obj_error_passes(int r);
/* Reads up to len bytes at off: the number read (short only at the object's end, 0 past it),
 * -ENOENT, or as above. */
MUST ssize_t obj_get(struct obj_store *s, enum obj_class c, const char *name, uint64_t off,
                     void *dst, size_t len) WAITS;
/* For those who check what they read, and read it once more when it is not what was written there:
 * says so, with the name. */
void obj_tell_spoilt(const char *name);
/* The whole object in a fresh buffer of RT_MEM_OTHER: 0, -ENOENT, -EFBIG past max_bytes, ... */
MUST int obj_get_all(struct obj_store *s, enum obj_class c, const char *name, size_t max_bytes,
                     struct rt_buf **ret_buf, size_t *ret_len) WAITS;
MUST int obj_head(struct obj_store *s, enum obj_class c, const char *name, uint64_t *ret_size)
    WAITS;
/*
 * Names that start with prefix and sort after `after` ("" = from the first), in byte order, at most
 * max. Listings are strong: they show everything stored before the call.
 */
MUST int obj_list(struct obj_store *s, enum obj_class c, const char *prefix, const char *after,
                  size_t max, struct obj_names *ret_names) WAITS;
/* 0 also when there was none. */
MUST int obj_remove(struct obj_store *s, enum obj_class c, const char *name) WAITS;
/* As many at once as the store takes in one request. 0 when none of them is left; otherwise any may
 * be, and the same names may be handed in again. */
MUST int obj_remove_many(struct obj_store *s, enum obj_class c, const char *const *names,
                         size_t count) WAITS;
/* Finds out whether the store does what is needed, with objects that are put and removed again;
 * once for a store that was opened. Before anything else is written to it. 0 or the reason. */
MUST int obj_prove(struct obj_store *s) WAITS;
void obj_close(struct obj_store *s) WAITS; /* accepts NULL */
/* True when a layer or the backend is far. */
bool obj_is_far(const struct obj_store *s);

/*
 * How an S3 server is reached. Everything may be left out: NULL, 0 or false is the default, or what
 * the usual variables of the environment say (AWS_REGION, AWS_ENDPOINT_URL, AWS_CA_BUNDLE, ...).
 * The strings are the caller's; obj_open_with() copies what it needs.
 */
struct obj_s3_options {
    char *access_key_id;
    struct crypt_secret *secret_access_key;
    struct crypt_secret *session_token;
    char *profile;          /* of the file of profiles */
    char *credentials_file; /* the file of profiles */
    char *region;
    char *endpoint;  /* "https://host:port" */
    char *ca_bundle; /* PEM file */
    char *storage_class;
    char *metadata_endpoint; /* of EC2 */
    bool allow_http;
    bool virtual_hosted; /* the bucket is part of the host's name, also with an endpoint */
    bool path_style;     /* it is not, also without one */
    bool skip_signature;
    bool unsafe_single_writer; /* the store need not honour put-if-absent */
    unsigned max_connections;
    unsigned connect_timeout_ms;
    unsigned timeout_ms; /* of a small request; large ones get more */
};

struct obj_options {
    struct obj_s3_options s3;
};

/* Parses the URL and builds the stack; creates the folder of a file store; asks an S3 server
 * for an object, and puts none there: obj_prove(). 0, -EINVAL, or the backend's error (message in
 * the log). opt may be NULL. */
MUST int obj_open_with(const char *url, const struct obj_options *opt, struct obj_store **ret_store)
    WAITS;
MUST int obj_open(const char *url, struct obj_store **ret_store) WAITS;
/* 0 when obj_open() would take the URL; else -EINVAL and one line that says why. */
MUST int obj_url_check(const char *url, char *ret_why, size_t why_cap);

/*
 * From now on clients are served: what they wait for (OBJ_COMMIT, OBJ_INDEX, OBJ_READ) is repeated
 * for as long as the store is away, or until the fiber is cancelled. Before, and for other classes,
 * requests give up after half a minute.
 */
void obj_outlast(struct obj_store *s);
/* For how long the store has been away; 0 = it is not. */
uint64_t obj_away_ms(struct obj_store *s);
/* Before obj_outlast(): the store has been away for longer than a read would have waited. */
bool obj_is_given_up(struct obj_store *s);

/* Counters of the stats layer of a store made by obj_open(). */
struct obj_counts {
    uint64_t requests[OBJ_CLASSES][OBJ_KINDS];
    uint64_t errors[OBJ_CLASSES][OBJ_KINDS];
    uint64_t bytes_in;
    uint64_t bytes_out;
    uint64_t latency_us_log2[OBJ_KINDS][32]; /* histogram: slot i counts latencies below 2^i us */
};
void obj_counts(struct obj_store *s, struct obj_counts *ret_counts);
/* The same histogram of one class and kind. */
void obj_latency(struct obj_store *s, enum obj_class c, enum obj_kind kind,
                 uint64_t ret_us_log2[32]);
