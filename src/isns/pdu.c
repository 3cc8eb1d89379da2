/* SPDX-License-Identifier: Apache-2.0 */
#include "isns/pdu.h"
#include "base/err.h"

int isns_header_read(const uint8_t bytes[ISNS_HEADER_LEN], struct isns_header *ret_header)
{
    struct bytes_reader r = bytes_reader_of(bytes, ISNS_HEADER_LEN);
    uint16_t version = bytes_be16(&r);
    *ret_header = (struct isns_header){.function = bytes_be16(&r),
                                       .len = bytes_be16(&r),
                                       .flags = bytes_be16(&r),
                                       .transaction = bytes_be16(&r),
                                       .sequence = bytes_be16(&r)};
    return version == ISNS_VERSION && ret_header->len % 4 == 0 ? 0 : ERR_PROTOCOL;
}

static void put_pdu(struct bytes_writer *out, const struct isns_header *h, const uint8_t *payload)
{
    bytes_put_be16(out, ISNS_VERSION);
    bytes_put_be16(out, h->function);
    bytes_put_be16(out, h->len);
    bytes_put_be16(out, h->flags);
    bytes_put_be16(out, h->transaction);
    bytes_put_be16(out, h->sequence);
    if (h->len > 0) {
        bytes_put(out, payload, h->len);
    }
}

void isns_message_put(struct bytes_writer *out, const struct isns_header *h,
                      const struct bytes_writer *payload)
{
    struct isns_header pdu = *h;
    size_t at = 0;
    pdu.sequence = 0;
    out->failed |= payload->failed;
    do {
        size_t left = payload->len - at;
        pdu.len = (uint16_t)MIN_OF(left, ISNS_PDU_PAYLOAD_MAX);
        pdu.flags =
            (uint16_t)(h->flags | (at == 0 ? ISNS_FIRST : 0) | (pdu.len == left ? ISNS_LAST : 0));
        put_pdu(out, &pdu, payload->data ? payload->data + at : NULL);
        at += pdu.len;
        pdu.sequence++;
    } while (at < payload->len);
}

int isns_assembly_add(struct isns_assembly *a, const struct isns_header *h, const uint8_t *payload)
{
    bool begins = (h->flags & ISNS_FIRST) != 0;
    if (begins) {
        isns_assembly_reset(a);
        a->first = *h;
        a->open = true;
    }
    if (!a->open || h->function != a->first.function || h->transaction != a->first.transaction ||
        h->sequence != a->next_sequence || (h->len == 0 && !(h->flags & ISNS_LAST))) {
        return ERR_PROTOCOL;
    }
    if (a->payload.len + h->len > (a->max ? a->max : ISNS_MESSAGE_MAX)) {
        return -E2BIG;
    }
    if (h->len > 0) {
        bytes_put(&a->payload, payload, h->len);
    }
    a->next_sequence++;
    a->open = (h->flags & ISNS_LAST) == 0;
    return a->payload.failed ? -ENOMEM : !a->open;
}

void isns_assembly_reset(struct isns_assembly *a)
{
    a->payload.len = 0;
    a->next_sequence = 0;
    a->open = false;
}

void isns_assembly_free(struct isns_assembly *a)
{
    bytes_writer_free(&a->payload);
    *a = (struct isns_assembly){0};
}

int isns_attr_next(struct bytes_reader *r, struct isns_attr *ret_attr)
{
    if (bytes_left(r) == 0) {
        return 0;
    }
    ret_attr->tag = bytes_be32(r);
    ret_attr->len = bytes_be32(r);
    ret_attr->value = bytes_take(r, ret_attr->len);
    return bytes_bad(r) || ret_attr->len % 4 != 0 ? ERR_PROTOCOL : 1;
}

int isns_attr_u32(const struct isns_attr *a, uint32_t *ret_value)
{
    if (a->len != 4) {
        return ERR_PROTOCOL;
    }
    *ret_value = be32_load(a->value);
    return 0;
}

int isns_attr_text(const struct isns_attr *a, char *ret_text, size_t cap)
{
    size_t len = 0;
    while (len < a->len && a->value[len] != 0) {
        if (a->value[len] < 0x20 || a->value[len] == 0x7f) {
            return ERR_PROTOCOL;
        }
        len++;
    }
    if (len >= cap) {
        return ERR_PROTOCOL;
    }
    if (len > 0) {
        memcpy(ret_text, a->value, len);
    }
    ret_text[len] = 0;
    return 0;
}

void isns_put_null(struct bytes_writer *w, uint32_t tag)
{
    bytes_put_be32(w, tag);
    bytes_put_be32(w, 0);
}

void isns_put_u32(struct bytes_writer *w, uint32_t tag, uint32_t value)
{
    bytes_put_be32(w, tag);
    bytes_put_be32(w, 4);
    bytes_put_be32(w, value);
}

void isns_put_text(struct bytes_writer *w, uint32_t tag, const char *text)
{
    static const uint8_t nulls[4];
    size_t len = strlen(text);
    size_t pad = 4 - len % 4; /* one null at least */
    bytes_put_be32(w, tag);
    bytes_put_be32(w, (uint32_t)(len + pad));
    if (len > 0) {
        bytes_put(w, text, len);
    }
    bytes_put(w, nulls, pad);
}

void isns_put_address(struct bytes_writer *w, uint32_t tag, const uint8_t address[16])
{
    bytes_put_be32(w, tag);
    bytes_put_be32(w, 16);
    bytes_put(w, address, 16);
}

void isns_put_attr(struct bytes_writer *w, const struct isns_attr *a)
{
    bytes_put_be32(w, a->tag);
    bytes_put_be32(w, a->len);
    if (a->len > 0) {
        bytes_put(w, a->value, a->len);
    }
}

const char *isns_status_text(uint32_t status)
{
    static const char *const texts[] = {"successful",
                                        "unknown error",
                                        "message format error",
                                        "invalid registration",
                                        "reserved",
                                        "invalid query",
                                        "source unknown",
                                        "source absent",
                                        "source unauthorized",
                                        "no such entry",
                                        "version not supported",
                                        "internal error",
                                        "busy",
                                        "option not understood",
                                        "invalid update",
                                        "message not supported",
                                        "SCN event rejected",
                                        "SCN registration rejected",
                                        "attribute not implemented",
                                        "FC_DOMAIN_ID not available",
                                        "FC_DOMAIN_ID not allocated",
                                        "ESI not available",
                                        "invalid deregistration",
                                        "registration feature not supported"};
    return status < ARRAY_LEN(texts) ? texts[status] : "a status that RFC 4171 does not know";
}
