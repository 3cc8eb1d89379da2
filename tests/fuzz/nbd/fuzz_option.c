/* SPDX-License-Identifier: Apache-2.0 */
/* The data of a handshake option: what is decoded lies inside of the input. */
#include "base/assert.h"
#include "nbd/option.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void inside(const struct nbd_slice *s, const uint8_t *data, size_t size)
{
    ASSERT(s->len <= NBD_STRING_MAX && s->data >= data && s->data + s->len <= data + size);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct nbd_option_header header;
    struct nbd_info_request info;
    struct nbd_meta_request meta;
    if (size >= NBD_OPTION_HEADER_BYTES && nbd_option_decode(data, &header) == 0) {
        uint8_t back[NBD_OPTION_HEADER_BYTES];
        nbd_option_encode(&header, back);
        ASSERT(memcmp(back, data, sizeof back) == 0);
    }
    if (nbd_info_decode(data, size, &info) == 0) {
        inside(&info.name, data, size);
    }
    if (nbd_meta_decode(data, size, &meta) == 0) {
        inside(&meta.name, data, size);
    }
    return 0;
}
