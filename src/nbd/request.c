/* SPDX-License-Identifier: Apache-2.0 */
#include "nbd/request.h"
#include "base/err.h"

int nbd_request_decode(const uint8_t *in, enum nbd_mode mode, struct nbd_request *ret_request)
{
    bool ext = mode == NBD_MODE_EXTENDED;
    if (unlikely(be32_load(in) != (ext ? NBD_MAGIC_REQUEST_EXT : NBD_MAGIC_REQUEST))) {
        return -EPROTO;
    }
    struct nbd_request q = {
        .flags = be16_load(in + 4),
        .command = be16_load(in + 6),
        .cookie = be64_load(in + 8),
        .off = be64_load(in + 16),
        .len = ext ? be64_load(in + 24) : be32_load(in + 24),
    };
    /* A WRITE always has a payload, also from a client that forgets to say so. */
    bool has_payload = q.command == NBD_CMD_WRITE || (ext && q.flags & NBD_CMD_FLAG_PAYLOAD_LEN);
    q.payload_len = has_payload ? q.len : 0;
    *ret_request = q;
    return 0;
}

static uint16_t flags_of(uint16_t command, enum nbd_mode mode)
{
    uint16_t flags = NBD_CMD_FLAG_FUA; /* valid with every command */
    uint16_t payload = mode == NBD_MODE_EXTENDED ? NBD_CMD_FLAG_PAYLOAD_LEN : 0;
    switch (command) {
    case NBD_CMD_READ:
        return flags | (mode == NBD_MODE_SIMPLE ? 0 : NBD_CMD_FLAG_DF);
    case NBD_CMD_WRITE:
        return flags | payload;
    case NBD_CMD_WRITE_ZEROES:
        return flags | NBD_CMD_FLAG_NO_HOLE | NBD_CMD_FLAG_FAST_ZERO;
    case NBD_CMD_BLOCK_STATUS:
        return flags | NBD_CMD_FLAG_REQ_ONE | payload;
    default:
        return flags;
    }
}

enum nbd_error nbd_request_check(const struct nbd_request *q, enum nbd_mode mode, bool has_contexts)
{
    if (unlikely(q->command > NBD_CMD_BLOCK_STATUS || q->command == NBD_CMD_DISC)) {
        return NBD_EINVAL;
    }
    if (unlikely(q->flags & ~flags_of(q->command, mode))) {
        return NBD_EINVAL;
    }
    switch (q->command) {
    case NBD_CMD_READ:
    case NBD_CMD_WRITE:
        return q->len > NBD_PAYLOAD_MAX ? NBD_EINVAL : NBD_OK;
    case NBD_CMD_FLUSH:
        return q->len != 0 || q->off != 0 ? NBD_EINVAL : NBD_OK;
    case NBD_CMD_BLOCK_STATUS:
        return q->len == 0 || !has_contexts ? NBD_EINVAL : NBD_OK;
    default:
        return NBD_OK;
    }
}

enum nbd_error nbd_request_check_range(const struct nbd_request *q, uint64_t size_bytes)
{
    if (likely(q->off <= size_bytes && q->len <= size_bytes - q->off)) {
        return NBD_OK;
    }
    bool writes = q->command == NBD_CMD_WRITE || q->command == NBD_CMD_WRITE_ZEROES;
    return writes ? NBD_ENOSPC : NBD_EINVAL;
}

int nbd_status_payload_decode(const uint8_t *data, size_t len, uint64_t *ret_effect_len)
{
    struct bytes_reader r = bytes_reader_of(data, len);
    uint64_t effect = bytes_be64(&r);
    uint32_t id = bytes_be32(&r); /* there is one context: its id, once */
    if (!bytes_done(&r) || id != NBD_CONTEXT_ALLOCATION_ID || effect == 0) {
        return -EINVAL;
    }
    *ret_effect_len = effect;
    return 0;
}

enum nbd_error nbd_error_of(int r)
{
    if (r >= 0) {
        return NBD_OK;
    }
    if (r == ERR_FENCED || r == -ECANCELED) {
        return NBD_ESHUTDOWN;
    }
    switch (err_class(r)) {
    case EPERM:
    case EACCES:
    case EROFS:
        return NBD_EPERM;
    case ENOMEM:
        return NBD_ENOMEM;
    case EINVAL:
        return NBD_EINVAL;
    case ENOSPC:
    case EDQUOT:
    case EFBIG:
        return NBD_ENOSPC;
    case EOVERFLOW:
        return NBD_EOVERFLOW;
    case ENOTSUP:
        return NBD_ENOTSUP;
    case ESHUTDOWN:
    case ENODEV:
        return NBD_ESHUTDOWN;
    default:
        return NBD_EIO;
    }
}

void nbd_simple_reply_encode(uint64_t cookie, enum nbd_error error,
                             uint8_t ret_bytes[NBD_SIMPLE_REPLY_BYTES])
{
    be32_store(ret_bytes, NBD_MAGIC_SIMPLE_REPLY);
    be32_store(ret_bytes + 4, error);
    be64_store(ret_bytes + 8, cookie);
}

size_t nbd_chunk_encode(const struct nbd_chunk *chunk, enum nbd_mode mode, uint8_t *ret_bytes)
{
    bool ext = mode == NBD_MODE_EXTENDED;
    be32_store(ret_bytes, ext ? NBD_MAGIC_CHUNK_EXT : NBD_MAGIC_CHUNK);
    be16_store(ret_bytes + 4, chunk->flags);
    be16_store(ret_bytes + 6, chunk->type);
    be64_store(ret_bytes + 8, chunk->cookie);
    if (!ext) {
        be32_store(ret_bytes + 16, (uint32_t)chunk->payload_len);
        return NBD_CHUNK_BYTES;
    }
    be64_store(ret_bytes + 16, chunk->off);
    be64_store(ret_bytes + 24, chunk->payload_len);
    return NBD_CHUNK_EXT_BYTES;
}
