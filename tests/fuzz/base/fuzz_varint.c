/* SPDX-License-Identifier: Apache-2.0 */
/* A stream of varints: what decodes, encodes to bytes that decode to the same. */
#include "base/assert.h"
#include "base/bytes.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    struct bytes_reader r = bytes_reader_of(data, len);
    while (bytes_left(&r) > 0) {
        uint64_t v = bytes_varint(&r);
        if (bytes_bad(&r)) {
            break;
        }
        struct bytes_writer w = {0};
        bytes_put_varint(&w, v);
        struct bytes_reader again = bytes_reader_of(w.data, w.len);
        ASSERT(bytes_varint(&again) == v && bytes_done(&again));
        bytes_writer_free(&w);
    }
    return 0;
}
