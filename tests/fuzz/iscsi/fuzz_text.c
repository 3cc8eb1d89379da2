/* SPDX-License-Identifier: Apache-2.0 */
/* Text keys, and their negotiation: what is agreed is within its limits, whatever was offered. */
#include "base/assert.h"
#include "base/err.h"
#include "iscsi/nego.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(const struct iscsi_nego *n)
{
    const struct iscsi_params *p = &n->agreed;
    ASSERT(p->send_len >= 512 && p->send_len < 1u << 24);
    ASSERT(p->max_burst >= 512 && p->max_burst <= 1u << 20);
    ASSERT(p->first_burst >= 512 && p->first_burst <= 65536);
    ASSERT(p->max_r2t >= 1 && p->max_r2t <= 8);
    ASSERT(p->time2wait <= 3600 && p->time2retain <= 3600);
    ASSERT(p->level <= 2);
    ASSERT(iscsi_params_unsolicited(p) <= p->max_burst);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct iscsi_limits limits = {.recv_len = 262144,
                                               .max_burst = 1u << 20,
                                               .first_burst = 65536,
                                               .max_r2t = 8,
                                               .immediate = true,
                                               .unsolicited = true};
    struct iscsi_nego n;
    struct bytes_writer out = {0};
    struct iscsi_key k;
    iscsi_nego_init(&n, &limits, size & 1);
    struct iscsi_text t = iscsi_text_of(data, size);
    int r;
    while ((r = iscsi_text_next(&t, &k)) > 0) {
        const uint8_t *value = (const uint8_t *)k.value;
        ASSERT((const uint8_t *)k.name >= data && value + strlen(k.value) < data + size);
        int answered = iscsi_nego_key(&n, &k, &out);
        ASSERT(answered == 0 || answered == 1 || answered == ERR_PROTOCOL);
        check(&n);
    }
    ASSERT(r == 0 || r == ERR_PROTOCOL);
    bytes_writer_free(&out);
    return 0;
}
