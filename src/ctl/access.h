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
/* NULL, or what is wrong with a password, as half a sentence. */
const char *access_password_fault(const void *password, size_t len);

/* Text in hexadecimal digits, for the admin socket: to be wiped and freed; NULL when out of memory.
 */
char *access_hex(const struct crypt_secret *s);
/* NULL when they are no digits. */
struct crypt_secret *access_from_hex(const char *hex);
