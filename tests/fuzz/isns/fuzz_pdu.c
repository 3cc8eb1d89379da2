/* SPDX-License-Identifier: Apache-2.0 */
/* PDUs one after the other: what is put together is as long as its parts, and what its attributes
 * say, written again, is what was read. */
#include "base/assert.h"
#include "base/err.h"
#include "isns/pdu.h"

#include <errno.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_values(const struct isns_attr *a)
{
    char text[ISNS_NAME_MAX + 1];
    uint32_t value;
    int r = isns_attr_text(a, text, sizeof text);
    ASSERT(r == ERR_PROTOCOL || (r == 0 && strlen(text) <= a->len));
    r = isns_attr_u32(a, &value);
    ASSERT((r == 0) == (a->len == 4));
}

static void check_message(const struct isns_assembly *m)
{
    struct bytes_reader in = bytes_reader_of(m->payload.data, m->payload.len);
    struct bytes_writer copy = {0}, out = {0};
    struct isns_attr a;
    int r;
    while ((r = isns_attr_next(&in, &a)) > 0) {
        check_values(&a);
        isns_put_attr(&copy, &a);
    }
    ASSERT(r == 0 || r == ERR_PROTOCOL);
    ASSERT(copy.len <= m->payload.len && (r < 0 || copy.len == m->payload.len));
    ASSERT(copy.len == 0 || memcmp(copy.data, m->payload.data, copy.len) == 0);
    isns_message_put(&out, &m->first, &m->payload);
    ASSERT(out.len >= m->payload.len + ISNS_HEADER_LEN);
    bytes_writer_free(&copy);
    bytes_writer_free(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct isns_assembly m = {0};
    struct isns_header h;
    while (size >= ISNS_HEADER_LEN && isns_header_read(data, &h) == 0 &&
           size - ISNS_HEADER_LEN >= h.len) {
        size_t before = m.open && !(h.flags & ISNS_FIRST) ? m.payload.len : 0;
        int r = isns_assembly_add(&m, &h, data + ISNS_HEADER_LEN);
        ASSERT(r == 0 || r == 1 || r == ERR_PROTOCOL || r == -E2BIG);
        ASSERT(r < 0 || m.payload.len == before + h.len);
        if (r == 1) {
            check_message(&m);
        }
        data += ISNS_HEADER_LEN + h.len;
        size -= ISNS_HEADER_LEN + h.len;
    }
    isns_assembly_free(&m);
    return 0;
}
