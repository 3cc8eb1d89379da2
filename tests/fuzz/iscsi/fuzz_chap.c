/* SPDX-License-Identifier: Apache-2.0 */
/* The security stage's keys, request by request (0xff ends one): whatever comes, nobody gets in who
 * does not know the secret, and what is decoded is as long as its text says. */
#include "base/assert.h"
#include "base/err.h"
#include "iscsi/chap.h"

#include <errno.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const uint8_t secret[] = "nobody knows that";
static const uint8_t own[] = "nor that";

static void check_decode(const char *value)
{
    uint8_t bytes[ISCSI_CHAP_BINARY_MAX];
    size_t len = 0;
    int r = iscsi_text_binary(value, bytes, sizeof bytes, &len);
    ASSERT(r == ERR_PROTOCOL || (r == 0 && len > 0 && len <= sizeof bytes));
    ASSERT(r < 0 || len <= (strlen(value) - 1) / 2 + strlen(value) / 4);
    r = iscsi_chap_choose(value, ISCSI_CHAP_SHA1);
    ASSERT(r == -ENOENT || (r >= ISCSI_CHAP_SHA1 && r <= ISCSI_CHAP_SHA3_256));
}

/* One request: false when the login is over. */
static bool request(struct iscsi_chap *s, const uint8_t *data, size_t size)
{
    static const uint8_t random[1 + ISCSI_CHAP_CHALLENGE_BYTES] = {7};
    struct iscsi_chap_credentials cred = {.secret = secret,
                                          .secret_len = sizeof secret,
                                          .own_name = size & 1 ? "target" : NULL,
                                          .own_secret = own,
                                          .own_len = sizeof own};
    struct iscsi_text t = iscsi_text_of(data, size);
    struct iscsi_key k;
    struct bytes_writer out = {0};
    int r;
    while ((r = iscsi_text_next(&t, &k)) > 0) {
        check_decode(k.value);
        r = iscsi_chap_key(s, &k);
        ASSERT(r == 0 || r == 1 || r == ERR_PROTOCOL);
        if (r < 0) {
            return false;
        }
    }
    enum iscsi_chap_state before = s->state;
    r = r < 0 ? r : iscsi_chap_step(s, random, &out);
    ASSERT(r != 0 || (before == ISCSI_CHAP_OFFER && s->state == ISCSI_CHAP_RESPONSE));
    ASSERT((r == 1) <= (before == ISCSI_CHAP_RESPONSE && s->name && s->response));
    if (r == 1) {
        size_t said = out.len;
        r = iscsi_chap_verify(s, &cred, &out);
        ASSERT(r < 0 && out.len == said && s->state == ISCSI_CHAP_JUDGED);
    }
    bytes_writer_free(&out);
    return r == 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct iscsi_chap s;
    iscsi_chap_begin(&s, ISCSI_CHAP_MD5);
    while (size > 0) {
        const uint8_t *end = memchr(data, 0xff, size);
        size_t len = end ? (size_t)(end - data) : size;
        if (!request(&s, data, len)) {
            break;
        }
        data += end ? len + 1 : len;
        size -= end ? len + 1 : len;
    }
    return 0;
}
