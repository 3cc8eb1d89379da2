/* SPDX-License-Identifier: Apache-2.0 */
/* Documents as an S3 server may send them, in place of any that was expected. */
#include "base/assert.h"
#include "obj/s3_text.h"
#include <errno.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static void check_line(const char *text, size_t cap)
{
    size_t n = strnlen(text, cap);
    ASSERT(n < cap);
    for (size_t i = 0; i < n; i++) {
        ASSERT((unsigned char)text[i] >= 0x20); /* it goes into the log */
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    struct s3_error e;
    s3_error_parse(data, len, &e);
    check_line(e.code, sizeof e.code);
    check_line(e.message, sizeof e.message);

    struct s3_list l = {0};
    int r = s3_list_parse(data, len, &l);
    ASSERT(r == 0 || (r == -EPROTO && l.keys.len == 0));
    for (size_t i = 0; i < l.keys.len; i++) {
        ASSERT(l.keys.at[i] != NULL);
    }
    s3_list_free(&l);

    r = s3_deleted_parse(data, len, &e);
    ASSERT(r == 0 || r == -EPROTO);
    (void)s3_xml_has(data, len, "Status", "Enabled");
    return 0;
}
