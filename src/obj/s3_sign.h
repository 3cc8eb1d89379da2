/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Signature Version 4 of a request with a header: pure, from what is sent to the value of the
 * Authorization header.
 *
 *     canonical request = method \n path \n query \n headers \n names \n hash of the body
 *     string to sign    = algorithm \n time \n scope \n SHA-256 of the canonical request
 *     signature         = HMAC of it under a key made from secret, day, region and service
 */
#pragma once
#include "base/attr.h"
#include <stddef.h>
#include <stdint.h>

#define S3_HASH_TEXT_SIZE 65 /* SHA-256 in hexadecimal */
#define S3_TIME_TEXT_SIZE 17 /* 20130524T000000Z */
#define S3_SCOPE_SIZE 128
#define S3_SECRET_MAX 256

/* SHA-256 of no bytes. */
extern const char s3_empty_hash[S3_HASH_TEXT_SIZE];

struct s3_header {
    const char *name; /* in lower case */
    const char *value;
};

/*
 * Where the keys are made that signatures are made with: memory for secrets, all zeros at first. It
 * belongs to one secret key, and keeps the signing key of the last day, region and service; one
 * thread uses it.
 */
struct s3_sign_room {
    char scope[S3_SCOPE_SIZE]; /* whose key it is */
    uint8_t key[32];
    uint8_t step[2][32];
    char first[S3_SECRET_MAX + 8];
};

struct s3_signing {
    const char *method;
    const char *path;  /* as sent, percent-encoded */
    const char *query; /* as sent: encoded, sorted by name, each with a '='; "" = none */
    const struct s3_header *headers; /* all that are signed, sorted by name */
    size_t header_count;
    const char *body_hash;
    uint64_t time_s; /* since 1970 */
    const char *region;
    const char *service; /* "s3" */
    const char *access_key;
    const char *secret_key;
    struct s3_sign_room *room;
};

/* The header's value: 0, or -EOVERFLOW when it does not fit, -EIO when the library refuses. */
MUST int s3_sign(const struct s3_signing *in, char *ret_value, size_t cap);
void s3_time_text(uint64_t time_s, char ret_text[S3_TIME_TEXT_SIZE]);
void s3_hex(const uint8_t *bytes, size_t len, char *ret_text);
