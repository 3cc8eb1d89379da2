/* SPDX-License-Identifier: Apache-2.0 */
/* change-password: wraps the data key anew (vol/keyring.c). The request holds a secret: see
 * ctl/access.h. */
#include "base/err.h"
#include "base/msg.h"
#include "ctl/access.h"
#include "ctl/ops_priv.h"
#include <string.h>

static const char *fault_of(const struct crypt_access *a)
{
    if (!a->secret) {
        return "the request has no \"secret\"";
    }
    if (a->kdf == CRYPT_KDF_ARGON2ID) {
        return access_password_fault(a->secret->bytes, a->secret->len);
    }
    return a->secret->len == CRYPT_KEY_BYTES ? NULL : "a key has 32 bytes";
}

json_t *ops_change_password(struct ops *o, const json_t *request)
{
    bool is_key = ops_flag(request, "key_file", false);
    if (!o->keys) {
        return ops_failure(OPS_REFUSED, "the volume at %s is not encrypted: it has no password",
                           o->url);
    }
    struct crypt_access access = {.kdf = is_key ? CRYPT_KDF_NONE : CRYPT_KDF_ARGON2ID,
                                  .cipher = crypt_keys_cipher(o->keys),
                                  .secret = access_get(request, "secret")};
    const char *fault = fault_of(&access);
    int r = fault ? 0 : vol_keys_change(o->store, o->keys, &access);
    access_wipe(&access);
    if (fault) {
        return ops_failure(OPS_USAGE, "%s", fault);
    }
    if (r < 0) {
        return ops_error(r, r == ERR_KEY_IN_DOUBT ? "try the new password, then the old one"
                                                  : "the password was not changed");
    }
    msg_info("ctl", "the volume opens with another %s now", is_key ? "key file" : "password");
    return ops_success(json_pack("{s:s}", "opens_with", is_key ? "key file" : "password"));
}
