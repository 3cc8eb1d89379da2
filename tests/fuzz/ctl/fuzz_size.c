/* SPDX-License-Identifier: Apache-2.0 */
/* Any text as a size: a number within its limit, which is the same when written out in full, or a
 * reason. */
#include "base/assert.h"
#include "ctl/size.h"
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    auto_free char *text = malloc(len + 1);
    ASSERT(text != NULL);
    if (len > 0) {
        memcpy(text, data, len);
    }
    text[len] = '\0';
    uint64_t bytes = 0, again = 0;
    char why[64] = "", form[SIZE_TEXT_SIZE];
    int r = size_parse(text, &bytes, why, sizeof why);
    ASSERT(r == 0 || (r == -EINVAL && why[0]));
    if (r == 0) {
        ASSERT(bytes <= 1ull << 63);
        snprintf(form, sizeof form, "%" PRIu64, bytes);
        r = size_parse(form, &again, why, sizeof why);
        ASSERT(r == 0 && again == bytes);
        size_format(bytes, form);
        size_format_grouped(bytes, form);
    }
    return 0;
}
