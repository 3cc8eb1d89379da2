/* SPDX-License-Identifier: Apache-2.0 */
/* Store URLs as a config may hold them: taken, or refused with a word about why. */
#include "base/assert.h"
#include "obj/obj.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    auto_free char *url = malloc(len + 1);
    ASSERT(url != NULL);
    if (len > 0) {
        memcpy(url, data, len);
    }
    url[len] = '\0';
    char why[64] = "";
    int r = obj_url_check(url, why, sizeof why);
    ASSERT(r == 0 || (r == -EINVAL && why[0] != '\0'));
    return 0;
}
