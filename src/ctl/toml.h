/* SPDX-License-Identifier: Apache-2.0 */
/*
 * TOML documents as a flat list of settings: the C face of the toml++ library. Each leaf of the
 * document is one entry with its dotted key; the elements of an array are entries of the same key.
 * Entries stand in the order of their lines.
 *
 *     r = toml_parse(text, len, &doc, &line, why, sizeof why);
 *     for (size_t i = 0; i < doc.count; i++) { doc.entries[i].key ... }
 *     toml_free(&doc);
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum toml_type {
    TOML_STRING,
    TOML_INTEGER,
    TOML_FLOAT,
    TOML_BOOLEAN,
    TOML_OTHER, /* dates and the like, arrays in arrays */
    TOML_TABLE, /* a table's header: says that the table is there, even when it is empty */
    TOML_EMPTY_ARRAY,
};

struct toml_entry {
    char *key; /* "servers.nbd.addresses" */
    enum toml_type type;
    bool in_array;
    unsigned line;
    char *string;
    int64_t integer;
    double number;
    bool boolean;
};

struct toml_doc {
    struct toml_entry *entries;
    size_t count;
    size_t cap;
};

/* 0; -EINVAL with what is wrong and its line, -ENOMEM. Does not expand anything. */
int toml_parse(const char *text, size_t len, struct toml_doc *ret_doc, unsigned *ret_line,
               char *ret_why, size_t why_cap);
void toml_free(struct toml_doc *doc);

#ifdef __cplusplus
}
#endif
