/* SPDX-License-Identifier: Apache-2.0 */
#include "nbd/option.h"
#include "base/err.h"

int nbd_option_decode(const uint8_t in[NBD_OPTION_HEADER_BYTES],
                      struct nbd_option_header *ret_header)
{
    if (be64_load(in) != NBD_MAGIC_OPTION) {
        return -EPROTO;
    }
    *ret_header =
        (struct nbd_option_header){.option = be32_load(in + 8), .len = be32_load(in + 12)};
    return 0;
}

void nbd_option_encode(const struct nbd_option_header *header,
                       uint8_t ret_bytes[NBD_OPTION_HEADER_BYTES])
{
    be64_store(ret_bytes, NBD_MAGIC_OPTION);
    be32_store(ret_bytes + 8, header->option);
    be32_store(ret_bytes + 12, header->len);
}

/* A string with its length before it, at most NBD_STRING_MAX. */
static struct nbd_slice take_string(struct bytes_reader *r)
{
    uint32_t len = bytes_be32(r);
    if (len > NBD_STRING_MAX) {
        r->bad = true;
    }
    return (struct nbd_slice){.data = bytes_take(r, len), .len = len};
}

int nbd_info_decode(const uint8_t *data, size_t len, struct nbd_info_request *ret_info)
{
    struct bytes_reader r = bytes_reader_of(data, len);
    struct nbd_info_request info = {.name = take_string(&r)};
    uint32_t count = bytes_be16(&r);
    if (bytes_bad(&r) || bytes_left(&r) != count * 2) {
        return -EINVAL;
    }
    for (uint32_t i = 0; i < count; i++) {
        uint16_t item = bytes_be16(&r);
        info.want_name |= item == NBD_INFO_NAME;
        info.want_description |= item == NBD_INFO_DESCRIPTION;
        info.want_block_size |= item == NBD_INFO_BLOCK_SIZE;
    }
    *ret_info = info;
    return 0;
}

static bool is_text(const struct nbd_slice *s, const char *text)
{
    size_t len = strlen(text);
    return s->len == len && memcmp(s->data, text, len) == 0;
}

int nbd_meta_decode(const uint8_t *data, size_t len, struct nbd_meta_request *ret_meta)
{
    struct bytes_reader r = bytes_reader_of(data, len);
    struct nbd_meta_request meta = {.name = take_string(&r)};
    meta.queries = bytes_be32(&r);
    for (uint32_t i = 0; i < meta.queries && !bytes_bad(&r); i++) {
        struct nbd_slice query = take_string(&r);
        if (!bytes_bad(&r)) {
            meta.allocation |= is_text(&query, NBD_CONTEXT_ALLOCATION);
            meta.wildcard |= is_text(&query, "base:");
        }
    }
    if (!bytes_done(&r)) {
        return -EINVAL;
    }
    *ret_meta = meta;
    return 0;
}

void nbd_option_reply_encode(uint32_t option, uint32_t type, uint32_t len,
                             uint8_t ret_bytes[NBD_OPTION_REPLY_BYTES])
{
    be64_store(ret_bytes, NBD_MAGIC_OPTION_REPLY);
    be32_store(ret_bytes + 8, option);
    be32_store(ret_bytes + 12, type);
    be32_store(ret_bytes + 16, len);
}
