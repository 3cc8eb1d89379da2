/* SPDX-License-Identifier: Apache-2.0 */
/* Credentials: a file of profiles, and what a metadata service gives. */
#include "base/assert.h"
#include "obj/s3_cred.h"
#include <errno.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

/* What stands in a header must not end it. */
static void check_plain(const char *text)
{
    ASSERT(*text != '\0' && strpbrk(text, "\r\n ") == NULL);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    struct s3_profile p = {0};
    int r = s3_profile_parse((const char *)data, len, "work", &p);
    ASSERT(r == 0);
    ASSERT(p.found || (!p.access_key && !p.secret_key && !p.token && !p.region));
    s3_profile_free(&p);

    struct s3_cred *c = NULL;
    r = s3_cred_parse((const char *)data, len, &c);
    ASSERT(r == -EPROTO || (r == 0 && c != NULL));
    if (r == 0) {
        check_plain(c->access_key);
        check_plain(c->secret_key);
        s3_cred_unref(c);
    }
    return 0;
}
