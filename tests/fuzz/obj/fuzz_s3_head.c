/* SPDX-License-Identifier: Apache-2.0 */
/* Status and header lines as an S3 server may send them, and where a redirect then leads. */
#include "base/assert.h"
#include "obj/s3_priv.h"
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    struct s3_head h = {0};
    const char *at = (const char *)data;
    const char *end = len > 0 ? at + len : at;
    while (at < end) {
        const char *stop = memchr(at, '\n', (size_t)(end - at));
        size_t n = stop ? (size_t)(stop - at) : (size_t)(end - at);
        s3_head_line(&h, at, n);
        at += n + (stop != NULL);
    }
    ASSERT(!h.has_range || h.range_first <= h.range_last);
    ASSERT(strnlen(h.location, sizeof h.location) < sizeof h.location);
    ASSERT(h.status >= 0 && h.status <= 999);

    struct s3_error none = {0};
    struct s3_place place = {0};
    s3_place_of_region(&place, "us-east-1");
    (void)s3_place_follow(&place, "bucket", &h, &none, true);
    ASSERT(place.tls);
    ASSERT(place.host[strspn(place.host, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                         "0123456789.-_:[]")] == '\0');
    return 0;
}
