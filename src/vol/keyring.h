/* SPDX-License-Identifier: Apache-2.0 */
/* Key objects, as formatting and opening need them; the rest of their calls are in vol/vol.h. */
#pragma once
#include "crypt/wrap.h"
#include "vol/superblock.h"

/* 0 when a key is there if the volume is encrypted, and only then; ERR_IS_ENCRYPTED,
 * ERR_NOT_ENCRYPTED. */
MUST int vol_keys_fit(const struct vol_superblock *sb, bool have_key);
/* As vol_keys_load(). */
MUST int vol_keys_open(struct obj_store *store, const struct vol_superblock *sb,
                       const struct crypt_access *access, struct crypt_keys **ret_keys) WAITS;
/* The first key object of a volume, with a fresh key; or what an interrupted format has left. */
MUST int vol_keys_create(struct obj_store *store, const struct vol_superblock *sb,
                         const struct crypt_access *access, struct crypt_keys **ret_keys) WAITS;
