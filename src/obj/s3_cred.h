/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who we are to an S3 server. The keeper finds credentials in this order, in the first place that
 * has some:
 *
 *     configuration, environment, file of profiles, container service (ECS), instance service (EC2)
 *
 * Those that expire are fetched anew, by a thread of the keeper, long before they do; a request
 * takes what is there and never waits for it.
 *
 *     struct s3_cred *c = s3_creds_take(k);      // NULL: requests are not signed
 *     ... sign ...
 *     s3_cred_unref(c);
 *
 * Secrets lie in memory for secrets, from where they are read to where they sign, and appear in no
 * message.
 */
#pragma once
#include "crypt/secret.h"
#include "obj/obj.h"
#include "obj/s3_sign.h"
#include <stdatomic.h>
#include <stdint.h>

/* Never changes, except for the room of the one thread that signs. */
struct s3_cred {
    _Atomic unsigned refs;
    char *access_key;
    struct crypt_secret *memory; /* of the following */
    const char *secret_key;
    const char *token; /* NULL: none */
    struct s3_sign_room *room;
    uint64_t expires_s; /* since 1970; 0 = never */
};

/* 0, -EINVAL when a key is missing or has bytes that cannot be sent, -ENOMEM. */
MUST int s3_cred_make(const char *access_key, const char *secret_key, const char *token,
                      uint64_t expires_s, struct s3_cred **ret_cred);
struct s3_cred *s3_cred_ref(struct s3_cred *c);
void s3_cred_unref(struct s3_cred *c); /* accepts NULL */

/* What a section of a file of profiles says; strings to be freed by s3_profile_free(). */
struct s3_profile {
    bool found;
    char *access_key;
    struct crypt_secret *secret_key;
    struct crypt_secret *token;
    char *region;
};
/* Pure. 0, or -ENOMEM. Sections are [name] and [profile name]; lines that are not understood are
 * passed over. What *profile has already stays. */
MUST int s3_profile_parse(const char *text, size_t len, const char *name,
                          struct s3_profile *profile);
void s3_profile_free(struct s3_profile *p);
/* Reads both files of profiles as the options and the environment say. Blocks. */
MUST int s3_profile_read(const struct obj_s3_options *opt, struct s3_profile *ret_profile);

/* Pure: the document of the container and of the instance service. 0, -EPROTO, -ENOMEM. */
MUST int s3_cred_parse(const char *text, size_t len, struct s3_cred **ret_cred);

struct s3_creds;
/* Blocks: for an offload thread. -EACCES when there are none anywhere: *why says where was looked.
 */
MUST int s3_creds_open(const struct obj_s3_options *opt, char *ret_why, size_t why_cap,
                       struct s3_creds **ret_creds);
struct s3_cred *s3_creds_take(struct s3_creds *k);
/* The server has refused these: fetches others, unless that has been done already. */
void s3_creds_refused(struct s3_creds *k, const struct s3_cred *which);
void s3_creds_close(struct s3_creds *k); /* blocks; accepts NULL */

/* The seconds after which credentials that expire then are fetched anew. Pure. */
uint64_t s3_cred_refresh_after(uint64_t now_s, uint64_t expires_s);
