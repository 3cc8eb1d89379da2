/* SPDX-License-Identifier: Apache-2.0 */
/*
 * CHAP as iSCSI uses it (RFC 7143 §12.1.3), the target's side. Pure: keys in, keys out.
 *
 *     initiator                       target
 *     CHAP_A=7,5               ->
 *                              <-     CHAP_A=7 CHAP_I=i CHAP_C=c
 *     CHAP_N=n CHAP_R=r        ->
 *     [CHAP_I=i CHAP_C=c]      <-     [CHAP_N=n CHAP_R=r]
 *
 *     struct iscsi_chap s;
 *     iscsi_chap_begin(&s, ISCSI_CHAP_MD5);
 *     r = iscsi_chap_key(&s, &key);                   // for each key of a request
 *     r = iscsi_chap_step(&s, random, &out);          // at its end: 0 answered, 1 there is a
 * response r = iscsi_chap_verify(&s, &credentials, &out);  // 0: it is right
 *
 * Nothing is given away by how long a comparison takes, nor by whether a name is known. A response
 * is never accepted, or given, where it could be the reflection of our own: not for a challenge
 * that is ours, nor with a secret that serves both directions, nor when it equals what we would
 * say.
 */
#pragma once
#include "base/attr.h"
#include "base/bytes.h"
#include "iscsi/text.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Numbers of the IANA registry "PPP Authentication Algorithms", the stronger the higher. */
enum iscsi_chap_algorithm {
    ISCSI_CHAP_MD5 = 5,
    ISCSI_CHAP_SHA1 = 6,
    ISCSI_CHAP_SHA256 = 7,
    ISCSI_CHAP_SHA3_256 = 8,
};

#define ISCSI_CHAP_DIGEST_MAX 32u
#define ISCSI_CHAP_CHALLENGE_BYTES 32u /* of ours */
#define ISCSI_CHAP_BINARY_MAX 1024u    /* §12.1.3: the longest CHAP_C and CHAP_R */
#define ISCSI_CHAP_NAME_MAX 255u

enum iscsi_chap_state {
    ISCSI_CHAP_OFFER,    /* CHAP_A is to come */
    ISCSI_CHAP_RESPONSE, /* CHAP_N and CHAP_R are */
    ISCSI_CHAP_JUDGED,
};

struct iscsi_chap {
    enum iscsi_chap_state state;
    enum iscsi_chap_algorithm minimum;
    enum iscsi_chap_algorithm algorithm;
    uint8_t id;
    uint8_t challenge[ISCSI_CHAP_CHALLENGE_BYTES];
    /* Of the request at hand; they point into its text. */
    const char *offered; /* CHAP_A */
    const char *name;
    const char *response;
    const char *peer_id;
    const char *peer_challenge;
};

/* "md5", "sha1", "sha256", "sha3-256"; NULL for a number that is none of them. */
const char *iscsi_chap_name(unsigned algorithm);
/* The number, or 0. */
unsigned iscsi_chap_number(const char *name);
/* The strongest algorithm of a list of numbers that is not below the minimum: -ENOENT when there is
 * none. */
MUST int iscsi_chap_choose(const char *list, enum iscsi_chap_algorithm minimum);

/* The response to a challenge: its length, -ENOMEM, -ENOTSUP where the system has switched the
 * algorithm off. */
struct iscsi_chap_question {
    enum iscsi_chap_algorithm algorithm;
    uint8_t id;
    const uint8_t *challenge;
    size_t challenge_len;
};
MUST int iscsi_chap_answer(const struct iscsi_chap_question *q, const void *secret, size_t len,
                           uint8_t ret_answer[ISCSI_CHAP_DIGEST_MAX]);

void iscsi_chap_begin(struct iscsi_chap *s, enum iscsi_chap_algorithm minimum);
/* 1: not a key of CHAP; ERR_PROTOCOL: twice in a request, or too long. */
MUST int iscsi_chap_key(struct iscsi_chap *s, const struct iscsi_key *k);
/*
 * All keys of a request have come. random: identifier and challenge to be. 0: the answer is in out;
 * 1: iscsi_chap_verify() is to judge; ERR_PROTOCOL: keys that do not belong here; -ENODATA: one is
 * missing; -ENOENT: no algorithm that we take.
 */
MUST int iscsi_chap_step(struct iscsi_chap *s, const uint8_t random[1 + ISCSI_CHAP_CHALLENGE_BYTES],
                         struct bytes_writer *out);

struct iscsi_chap_credentials {
    const uint8_t *secret; /* of s->name; NULL: there is none */
    size_t secret_len;
    const char *own_name; /* what we answer with; NULL: we cannot */
    const uint8_t *own_secret;
    size_t own_len;
};
/*
 * 0: the response is right, and ours, if asked for, is in out. -EACCES: it is wrong, or the
 * initiator asks for what we have not; -ELOOP: a reflection; ERR_PROTOCOL, -ENOMEM, -ENOTSUP.
 */
MUST int iscsi_chap_verify(struct iscsi_chap *s, const struct iscsi_chap_credentials *cred,
                           struct bytes_writer *out);
