/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory for secrets: locked, so that it is never swapped; left out of core dumps and of forked
 * children; with guard pages around; wiped when it is freed.
 *
 *     struct crypt_secret *password = crypt_secret_create(text, strlen(text));
 *     explicit_bzero(text, strlen(text));
 *     ... password->bytes, password->len ...
 *     crypt_secret_free(password);
 */
#pragma once
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
