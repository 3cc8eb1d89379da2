/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What [encryption] says, as what opens a volume: reads the password file or the key file.
 *
 *     struct crypt_access access;
 *     r = access_load(config, stderr, &access);         // 1 = there is one, 0 = mode = "none"
 *     ... vol_keys_load(store, r ? &access : NULL, &keys) ...
 *     access_wipe(&access);
 *
 * Blocking system calls: not for fibers.
 */
#pragma once
#include "crypt/wrap.h"
#include "ctl/config.h"
#include <jansson.h>

#define ACCESS_PASSWORD_MIN 8u
#define ACCESS_PASSWORD_MAX 4096u

/* 1, 0 for a volume that is not encrypted, or ERR_CONFIG after a message to `errors`. */
MUST int access_load(const struct config *c, FILE *errors, struct crypt_access *ret_access);
/* An access without a secret is fine. */
void access_wipe(struct crypt_access *a);

/*
 * The secret in a file: of a password the first line without its end; of a key 32 bytes, or 64
 * hexadecimal digits. 0, or ERR_CONFIG after a message to `errors`. Warns of a file that everybody
 * may read. "-" is standard input, for a password.
 */
MUST int access_read_file(const char *path, enum crypt_kdf kdf, FILE *errors,
                          struct crypt_secret **ret_secret);
/* NULL, or what is wrong with a secret, as half a sentence. */
typedef const char *access_fault(const void *secret, size_t len);
/* Of the first line of a file, or of standard input ("-"), that fault() finds nothing wrong with.
 */
MUST int access_read_line(const char *path, access_fault *fault, FILE *errors,
                          struct crypt_secret **ret_secret);
/* RFC 7143 §9.2.1: 12 to 255 bytes for CHAP. */
const char *access_chap_fault(const void *secret, size_t len);
/* NULL, or what is wrong with a password, as half a sentence. */
const char *access_password_fault(const void *password, size_t len);

/*
 * A secret in a request of the admin socket: a password, a key. It stands there as hexadecimal
 * digits, so that any bytes can. Both sides keep it in memory for secrets only, and free the
 * request soon: admin.c wipes the text of requests, main's json_set_alloc_funcs() what jansson
 * frees. A request is never logged, nor is what it holds part of an answer or an error.
 * tests/interop/store/memory.py searches a server's memory: what comes in so belongs there.
 *
 *     r = access_read_file(path, CRYPT_KDF_ARGON2ID, stderr, &secret);        // the command
 *     r = access_put(request, "secret", secret);
 *     ...
 *     struct crypt_secret *secret = access_get(request, "secret");            // the server
 *     ... secret->bytes, secret->len ...
 *     crypt_secret_free(secret);
 */
MUST int access_put(json_t *request, const char *key, const struct crypt_secret *s);
/* NULL when it is not there, or is no even number of digits. */
struct crypt_secret *access_get(const json_t *request, const char *key);
