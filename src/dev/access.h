/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who may log in to an iSCSI target, how he proves who he is, and what he sees of it; and the same,
 * as far as it applies, for discovery (scope ""). A scope's rules are one record of the volume and
 * one object in memory that never changes: a change makes a new one.
 *
 *     struct dev_access *a;
 *     r = dev_access_get(reg, "iqn.2024-01.com.example:a", &a);     // NULL: there are no rules
 *     if (!dev_access_allows(a, initiator, address)) { refuse }
 *     dev_access_unref(a);
 *
 *     r = dev_access_change(reg, iqn, add_rule, &rule);             // add_rule(draft, &rule)
 *
 * No rules mean no limits: without accounts no authentication, without an ACL everybody, without
 * maps all LUNs under their own numbers. Names of initiators are compared in lower case; patterns
 * know * (any number of characters) and ? (one).
 *
 * Secrets are as safe as the volume: the caller sees to it that they are not stored in clear.
 */
#pragma once
#include "base/attr.h"
#include "base/bytes.h"
#include "crypt/secret.h"
#include "dev/dev.h"
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define DEV_USER_MAX 255    /* RFC 7143 §12.1.3: CHAP_N; and of a Kerberos principal */
#define DEV_PATTERN_MAX 223 /* of an initiator's name */
#define DEV_SECRET_MIN 12u  /* §9.2.1: 96 bits */
#define DEV_SECRET_MAX 255u
#define DEV_ACCOUNTS_MAX 256u
#define DEV_ACLS_MAX 1024u
#define DEV_MAPS_MAX 4096u
#define DEV_ACCESS_BYTES_MAX 60000u /* of a record */
#define DEV_CIDR_TEXT_SIZE 64

/* A name of CHAP with its secret, or a Kerberos principal ("alice@EXAMPLE.COM"), which has none:
 * its key is with the KDC. */
struct dev_account {
    char user[DEV_USER_MAX + 1];
    char initiator[DEV_PATTERN_MAX + 1]; /* for whom it is good */
    bool kerberos;
    struct crypt_secret *secret; /* NULL if and only if kerberos */
};

/* A network, IPv4 as IPv6 (::ffff:0:0/96). */
struct dev_cidr {
    uint8_t address[16];
    uint8_t prefix; /* 0 to 128 */
};

struct dev_acl {
    char initiator[DEV_PATTERN_MAX + 1];
    bool any_address;
    struct dev_cidr from;
};

struct dev_map {
    char initiator[DEV_PATTERN_MAX + 1];
    uint32_t lun;    /* as the initiator sees it */
    uint32_t device; /* the LUN of the target */
    bool read_only;
};

struct dev_access {
    _Atomic unsigned refs;
    uint8_t minimum; /* number of the weakest CHAP algorithm that will do; 0: the server's */
    struct dev_account *accounts;
    size_t account_count;
    struct dev_account own; /* what the target proves itself with; secret NULL: it does not */
    struct dev_acl *acls;
    size_t acl_count;
    struct dev_map *maps;
    size_t map_count;
};

/* access.c: rules. All accept NULL for "no rules". */
bool dev_pattern_match(const char *pattern, const char *name);
/* In lower case, checked: 0 or -EINVAL with the reason. */
MUST int dev_pattern_check(const char *pattern, char ret_pattern[DEV_PATTERN_MAX + 1],
                           char *ret_why, size_t why_cap);
/* "10.1.0.0/16", "fd00::/8", or a single address. Bits beyond the prefix are -EINVAL. */
MUST int dev_cidr_parse(const char *text, struct dev_cidr *ret_cidr);
void dev_cidr_format(const struct dev_cidr *c, char ret_text[DEV_CIDR_TEXT_SIZE]);
/* The 16 bytes of "192.0.2.1:3260" or "[fe80::1%eth0]:3260", the port may be missing; -EINVAL. */
MUST int dev_address_parse(const char *text, uint8_t ret_address[16]);

/* address: as dev_address_parse() takes it; one that is none is in no network. */
bool dev_access_allows(const struct dev_access *a, const char *initiator, const char *address);
static inline bool dev_access_authenticates(const struct dev_access *a)
{
    return a && a->account_count > 0;
}
/* Whether there are accounts of that kind. */
bool dev_access_has(const struct dev_access *a, bool kerberos);
/* The account of that kind and name which is good for the initiator, or NULL. */
const struct dev_account *dev_access_account(const struct dev_access *a, bool kerberos,
                                             const char *user, const char *initiator);

/* Editing a draft. Each 0, -ENOMEM, -EEXIST (set replaces), -ENOENT, -E2BIG. A name is that of one
 * account, of either kind. */
MUST int dev_account_set(struct dev_access *a, const struct dev_account *account); /* copies */
MUST int dev_account_remove(struct dev_access *a, const char *user);
void dev_accounts_clear(struct dev_access *a);
MUST int dev_own_set(struct dev_access *a, const char *user, const struct crypt_secret *secret);
void dev_own_remove(struct dev_access *a);
MUST int dev_acl_add(struct dev_access *a, const struct dev_acl *acl);
MUST int dev_acl_remove(struct dev_access *a, const struct dev_acl *acl);
MUST int dev_map_add(struct dev_access *a, const struct dev_map *map);
MUST int dev_map_remove(struct dev_access *a, const char *initiator, uint32_t lun);
/* True when a secret of the draft would serve both directions (§9.2.1). */
bool dev_access_reflects(const struct dev_access *a);

struct dev_access *dev_access_new(void);
/* A copy to be edited; of NULL an empty one. NULL: out of memory. */
struct dev_access *dev_access_copy(const struct dev_access *a);
bool dev_access_is_empty(const struct dev_access *a);
struct dev_access *dev_access_ref(struct dev_access *a);
void dev_access_unref(struct dev_access *a);

/* access_record.c: docs/FORMAT.md "Access records", in clear. */
#define DEV_KEY_ACCESS 0x48
/* The record; -E2BIG, -ENOMEM. It holds secrets: for memory that is made for them. */
MUST int dev_access_encode(const struct dev_access *a, struct bytes_writer *w);
/* 0, ERR_CORRUPT_RECORD, -ENOTSUP (another version), -ENOMEM. */
MUST int dev_access_decode(const void *value, size_t len, struct dev_access **ret_access);

/* access_store.c: the registry's. */
/* The rules of a target, or of discovery (""): a reference, NULL when there are none; -ENOENT: no
 * such target. */
MUST int dev_access_get(struct dev_registry *g, const char *iqn, struct dev_access **ret_access);
/*
 * Makes edit() change a draft, and stores it: what edit says, and -ENOENT, -E2BIG, what the volume
 * says; -ELOOP: a secret would serve both directions, here and at another target. Durable when it
 * returns; dev_target_generation() has moved. edit must not wait.
 */
typedef int dev_access_edit(struct dev_access *draft, void *arg);
MUST int dev_access_change(struct dev_registry *g, const char *iqn, dev_access_edit *edit,
                           void *arg) WAITS;
