/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory for secrets: locked, so that it is never swapped; left out of core dumps and of forked
 * children; with guard pages around; wiped when it is freed.
 *
 * There are few: keys, passwords, what signs requests. Each has pages of its own.
 *
 *     struct crypt_secret *password = crypt_secret_create(text, strlen(text));
 *     explicit_bzero(text, strlen(text));
 *     ... password->bytes, password->len ...
 *     crypt_secret_free(password);
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct crypt_secret {
    size_t len;
    uint8_t bytes[];
};

/* A copy of len bytes (zeros when from is NULL), followed by a zero byte; NULL when out of memory.
 * Where the system locks no more memory (ulimit -l), that is said once in the log. */
struct crypt_secret *crypt_secret_create(const void *from, size_t len);
void crypt_secret_free(struct crypt_secret *s); /* accepts NULL */
/* The same of a string, whose text the copy's bytes are; NULL gives NULL. */
struct crypt_secret *crypt_secret_of(const char *text);
/* The text; NULL for NULL. */
const char *crypt_secret_text(const struct crypt_secret *s);
bool crypt_secret_equal(const struct crypt_secret *a, const struct crypt_secret *b);

/*
 * Memory for libraries that hold secrets for a moment and have hooks for their memory (jansson,
 * libcurl): what they give back is wiped, as far as its first 64 KiB.
 */
void crypt_wiping_free(void *p);
void *crypt_wiping_realloc(void *p, size_t len);
