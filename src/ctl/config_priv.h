/* SPDX-License-Identifier: Apache-2.0 */
/* The parts that reading a config is made of. */
#pragma once
#include "base/attr.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

/* Frees a text that may be secret. */
void config_wipe(char *text);
/* The text with $VAR, ${VAR} and $$ replaced, to be freed; NULL with the reason. */
char *config_expand(const char *text, char *ret_why, size_t why_cap);
/* Whether it has the form host:port, [v6]:port. */
bool config_address_ok(const char *address, char *ret_why, size_t why_cap);
/* The name most like `key` among count names, stride bytes apart; NULL when none is near. */
const char *config_nearest(const char *key, const char *const *names, size_t count, size_t stride);
/* "folder/name", to be freed. */
char *config_join(const char *folder, const char *name);
/* The file's text, to be wiped and freed; what hinders is printed to errors. */
MUST int config_read_text(const char *path, FILE *errors, char **ret_text, size_t *ret_len);
struct config_fault { /* where a mistake of the language is told */
    unsigned *line;
    char *why;
    size_t why_cap;
};
struct toml_doc;
/* As toml_parse(). */
MUST int config_parse_apart(const char *text, size_t len, struct toml_doc *ret_doc,
                            const struct config_fault *fault);
/* ERR_CONFIG, thrown here only. */
int config_error(void);
