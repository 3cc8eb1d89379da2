/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What an S3 server sends and gets as text: percent encoding, header lines, dates, XML documents.
 * All pure; what comes from the server is bounded and never trusted.
 */
#pragma once
#include "base/attr.h"
#include "base/bytes.h"
#include "base/vec.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Appends text with all but A-Z a-z 0-9 - . _ ~ (and '/', if keep_slash) as %XX. */
void s3_encode(struct bytes_writer *w, const char *text, bool keep_slash);

/* "Sun, 06 Nov 1994 08:49:37 GMT": seconds since 1970, or 0. */
uint64_t s3_date_parse(const char *text);
/* "2013-05-24T00:00:00Z", with or without a fraction: seconds since 1970, or 0. */
uint64_t s3_time_parse(const char *text);

/* The status line and the headers of one response. */
struct s3_head {
    long status;
    bool has_length;
    uint64_t length;
    bool has_range; /* Content-Range: bytes first-last/total */
    uint64_t range_first;
    uint64_t range_last;
    bool has_total;
    uint64_t range_total;
    bool has_crc; /* of the whole object */
    uint32_t crc;
    uint64_t date_s;
    char region[64];
    char location[512];
    char request_id[80];
};

/* Takes one line, without its end, into *h; what is malformed or unknown is passed over. A status
 * line begins a new response. */
void s3_head_line(struct s3_head *h, const char *line, size_t len);

/* The document of a failure. Empty fields where there is none, or it does not parse. */
struct s3_error {
    char code[64];
    char message[160];
    char region[64];
    char endpoint[256];
};
void s3_error_parse(const void *text, size_t len, struct s3_error *ret_error);

/* One page of ListObjectsV2: the keys as they stand. */
struct s3_list {
    VEC(char *) keys; /* owned; s3_list_free() */
    bool truncated;
};
/* 0, -EPROTO when it is no such document, -ENOMEM. */
MUST int s3_list_parse(const void *text, size_t len, struct s3_list *ret_list);
void s3_list_free(struct s3_list *l);

/* The answer to a multi-object delete: the first <Error> in it, empty if there is none. 0, -EPROTO,
 * -ENOMEM. */
MUST int s3_deleted_parse(const void *text, size_t len, struct s3_error *ret_first);
/* Whether the element stands anywhere in the document with this text. */
bool s3_xml_has(const void *text, size_t len, const char *element, const char *value);

/* The document that asks for the deletion of keys. */
void s3_delete_document(struct bytes_writer *w, const char *const *keys, size_t count);
