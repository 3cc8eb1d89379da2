/* SPDX-License-Identifier: Apache-2.0 */
/* A request of the server, whatever it is: there is one response to it, whole, and what it makes
 * the client do is bounded. */
#include "base/assert.h"
#include "isns/client_priv.h"

#include <stdio.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_response(const struct isns_assembly *request, const struct bytes_writer *out)
{
    struct isns_assembly m = {0};
    size_t at = 0;
    int r = 0;
    while (r == 0) {
        struct isns_header h;
        ASSERT(out->len - at >= ISNS_HEADER_LEN);
        ASSERT(isns_header_read(out->data + at, &h) == 0);
        at += ISNS_HEADER_LEN;
        ASSERT(out->len - at >= h.len);
        r = isns_assembly_add(&m, &h, out->data + at);
        at += h.len;
    }
    ASSERT(r == 1 && at == out->len);
    ASSERT(m.first.function == (request->first.function | ISNS_RESPONSE));
    ASSERT(m.first.transaction == request->first.transaction);
    ASSERT(m.payload.len >= 4 && m.payload.len <= request->payload.len + 4);
    struct bytes_reader in = bytes_reader_of(m.payload.data + 4, m.payload.len - 4);
    struct isns_attr a;
    while ((r = isns_attr_next(&in, &a)) > 0) {
    }
    /* An inquiry is answered with its own words. */
    ASSERT(r == 0 || request->first.function == ISNS_ESI);
    isns_assembly_free(&m);
}

/* The first bit says that the bytes are the payload of an inquiry. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct isns_client *c = calloc(1, sizeof *c);
    struct isns_assembly m = {0};
    struct bytes_writer out = {0};
    if (size < 2 || !c) {
        free(c);
        return 0;
    }
    rt_mutex_init(&c->lock);
    rt_waitq_init(&c->changed);
    (void)snprintf(c->entity, sizeof c->entity, "storage-1");
    ASSERT(isns_picture_node(&c->registered, "iqn.2024-01.test:a") == 0);
    m.first.function = data[0] & 1 ? ISNS_ESI : data[0] & 2 ? ISNS_SCN : data[0];
    m.first.transaction = data[1];
    bytes_put(&m.payload, data + 2, (size - 2) & ~(size_t)3); /* as headers have it */
    isns_ears_heed(c, &m, &out);
    check_response(&m, &out);
    ASSERT(c->counts.inquiries + c->counts.notifications <= 1);
    bytes_writer_free(&out);
    isns_assembly_free(&m);
    isns_picture_free(&c->registered);
    rt_mutex_destroy(&c->lock);
    free(c);
    return 0;
}
