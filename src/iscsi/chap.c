/* SPDX-License-Identifier: Apache-2.0 */
#include "iscsi/chap.h"

#include "base/err.h"

#include <errno.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <string.h>

static const struct {
    enum iscsi_chap_algorithm number;
    unsigned bytes;
    const char *name;
    const char *digest; /* OpenSSL's name */
} algorithms[] = {
    {ISCSI_CHAP_MD5, 16, "md5", "MD5"},
    {ISCSI_CHAP_SHA1, 20, "sha1", "SHA1"},
    {ISCSI_CHAP_SHA256, 32, "sha256", "SHA256"},
    {ISCSI_CHAP_SHA3_256, 32, "sha3-256", "SHA3-256"},
};

static size_t index_of(unsigned number)
{
    size_t i = 0;
    while (i < ARRAY_LEN(algorithms) && algorithms[i].number != number) {
        i++;
    }
    return i;
}

const char *iscsi_chap_name(unsigned algorithm)
{
    size_t i = index_of(algorithm);
    return i < ARRAY_LEN(algorithms) ? algorithms[i].name : NULL;
}

unsigned iscsi_chap_number(const char *name)
{
    for (size_t i = 0; i < ARRAY_LEN(algorithms); i++) {
        if (strcmp(algorithms[i].name, name) == 0) {
            return algorithms[i].number;
        }
    }
    return 0;
}

/* The number that text begins with and that ends at a comma or the end; 0 for anything else. */
static unsigned list_item(const char *text, size_t len)
{
    unsigned number = 0;
    if (len == 0 || len > 3) {
        return 0;
    }
    for (size_t i = 0; i < len; i++) {
        if (text[i] < '0' || text[i] > '9') {
            return 0;
        }
        number = number * 10 + (unsigned)(text[i] - '0');
    }
    return number;
}

int iscsi_chap_choose(const char *list, enum iscsi_chap_algorithm minimum)
{
    unsigned best = 0;
    for (const char *at = list;;) {
        size_t len = strcspn(at, ",");
        unsigned number = list_item(at, len);
        if (number >= minimum && number > best && iscsi_chap_name(number)) {
            best = number;
        }
        if (!at[len]) {
            break;
        }
        at += len + 1;
    }
    return best ? (int)best : -ENOENT;
}

int iscsi_chap_answer(const struct iscsi_chap_question *q, const void *secret, size_t len,
                      uint8_t ret_answer[ISCSI_CHAP_DIGEST_MAX])
{
    size_t i = index_of(q->algorithm);
    EVP_MD *md = i < ARRAY_LEN(algorithms) ? EVP_MD_fetch(NULL, algorithms[i].digest, NULL) : NULL;
    if (!md) {
        return -ENOTSUP;
    }
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    bool good = ctx && EVP_DigestInit_ex2(ctx, md, NULL) > 0 &&
                EVP_DigestUpdate(ctx, &q->id, 1) > 0 && EVP_DigestUpdate(ctx, secret, len) > 0 &&
                EVP_DigestUpdate(ctx, q->challenge, q->challenge_len) > 0 &&
                EVP_DigestFinal_ex(ctx, ret_answer, NULL) > 0;
    EVP_MD_CTX_free(ctx); /* wipes */
    EVP_MD_free(md);
    return good ? (int)algorithms[i].bytes : -ENOMEM;
}

void iscsi_chap_begin(struct iscsi_chap *s, enum iscsi_chap_algorithm minimum)
{
    *s = (struct iscsi_chap){.minimum = minimum};
}

int iscsi_chap_key(struct iscsi_chap *s, const struct iscsi_key *k)
{
    const struct {
        const char *name;
        const char **at;
        size_t max;
    } keys[] = {
        {"CHAP_A", &s->offered, ISCSI_CHAP_NAME_MAX},
        {"CHAP_N", &s->name, ISCSI_CHAP_NAME_MAX},
        {"CHAP_R", &s->response, 2 + 2 * ISCSI_CHAP_BINARY_MAX},
        {"CHAP_I", &s->peer_id, ISCSI_CHAP_NAME_MAX},
        {"CHAP_C", &s->peer_challenge, 2 + 2 * ISCSI_CHAP_BINARY_MAX},
    };
    for (size_t i = 0; i < ARRAY_LEN(keys); i++) {
        if (iscsi_key_is(k, keys[i].name)) {
            bool good = !*keys[i].at && strlen(k->value) <= keys[i].max;
            *keys[i].at = k->value;
            return good ? 0 : ERR_PROTOCOL;
        }
    }
    return 1;
}

static int take_offer(struct iscsi_chap *s, const uint8_t *random, struct bytes_writer *out)
{
    if (s->name || s->response || s->peer_id || s->peer_challenge) {
        return ERR_PROTOCOL;
    }
    if (!s->offered) {
        return -ENODATA;
    }
    int r = iscsi_chap_choose(s->offered, s->minimum);
    if (r < 0) {
        return r;
    }
    s->algorithm = (enum iscsi_chap_algorithm)r;
    s->id = random[0];
    memcpy(s->challenge, random + 1, sizeof s->challenge);
    iscsi_text_put(out, "CHAP_A", "%d", r);
    iscsi_text_put(out, "CHAP_I", "%u", (unsigned)s->id);
    iscsi_text_put_binary(out, "CHAP_C", s->challenge, sizeof s->challenge);
    s->offered = NULL;
    s->state = ISCSI_CHAP_RESPONSE;
    return 0;
}

int iscsi_chap_step(struct iscsi_chap *s, const uint8_t random[1 + ISCSI_CHAP_CHALLENGE_BYTES],
                    struct bytes_writer *out)
{
    if (s->state == ISCSI_CHAP_OFFER) {
        return take_offer(s, random, out);
    }
    if (s->state == ISCSI_CHAP_JUDGED || s->offered || !s->peer_id != !s->peer_challenge) {
        return ERR_PROTOCOL;
    }
    if (!s->name || !s->response) {
        return -ENODATA;
    }
    return s->name[0] ? 1 : ERR_PROTOCOL;
}

/* Whether the response at hand is that of the secret; ours is never NULL. */
static int judge(const struct iscsi_chap *s, const struct iscsi_chap_credentials *cred,
                 const uint8_t response[ISCSI_CHAP_BINARY_MAX], size_t len)
{
    static const uint8_t nobody[16] = "no such account";
    struct iscsi_chap_question q = {.algorithm = s->algorithm,
                                    .id = s->id,
                                    .challenge = s->challenge,
                                    .challenge_len = sizeof s->challenge};
    uint8_t expected[ISCSI_CHAP_DIGEST_MAX];
    const uint8_t *secret = cred->secret ? cred->secret : nobody;
    size_t secret_len = cred->secret ? cred->secret_len : sizeof nobody;
    int r = iscsi_chap_answer(&q, secret, secret_len, expected);
    if (r < 0) {
        return r;
    }
    bool right = len == (size_t)r && CRYPTO_memcmp(expected, response, (size_t)r) == 0;
    OPENSSL_cleanse(expected, sizeof expected);
    return right && cred->secret ? 0 : -EACCES;
}

static bool same(const uint8_t *a, size_t a_len, const uint8_t *b, size_t b_len)
{
    return a_len == b_len && CRYPTO_memcmp(a, b, a_len) == 0;
}

/* The initiator wants to know who we are. */
static int answer_back(const struct iscsi_chap *s, const struct iscsi_chap_credentials *cred,
                       const uint8_t *response, size_t response_len, struct bytes_writer *out)
{
    uint8_t challenge[ISCSI_CHAP_BINARY_MAX];
    uint8_t own[ISCSI_CHAP_DIGEST_MAX];
    struct iscsi_chap_question q = {.algorithm = s->algorithm, .challenge = challenge};
    uint64_t id;
    if (iscsi_text_number(s->peer_id, &id) < 0 || id > UINT8_MAX ||
        iscsi_text_binary(s->peer_challenge, challenge, sizeof challenge, &q.challenge_len) < 0) {
        return ERR_PROTOCOL;
    }
    q.id = (uint8_t)id;
    if (!cred->own_name) {
        return -EACCES;
    }
    if (same(challenge, q.challenge_len, s->challenge, sizeof s->challenge) ||
        same(cred->secret, cred->secret_len, cred->own_secret, cred->own_len)) {
        return -ELOOP;
    }
    int r = iscsi_chap_answer(&q, cred->own_secret, cred->own_len, own);
    if (r < 0) {
        return r;
    }
    if (same(own, (size_t)r, response, response_len)) {
        return -ELOOP;
    }
    iscsi_text_put(out, "CHAP_N", "%s", cred->own_name);
    iscsi_text_put_binary(out, "CHAP_R", own, (size_t)r);
    return 0;
}

int iscsi_chap_verify(struct iscsi_chap *s, const struct iscsi_chap_credentials *cred,
                      struct bytes_writer *out)
{
    uint8_t response[ISCSI_CHAP_BINARY_MAX];
    size_t len;
    s->state = ISCSI_CHAP_JUDGED;
    if (iscsi_text_binary(s->response, response, sizeof response, &len) < 0) {
        return ERR_PROTOCOL;
    }
    int r = judge(s, cred, response, len);
    if (r == 0 && s->peer_id) {
        r = answer_back(s, cred, response, len, out);
    }
    return r;
}
