/* SPDX-License-Identifier: Apache-2.0 */
#include "base/err.h"
#include "dev/access.h"

#include <errno.h>
#include <string.h>

#define VERSION 2 /* 1 where there is no ENTRY_PRINCIPAL, which older programs do not know */

/* What an entry of a record is; see docs/FORMAT.md. */
enum entry_kind {
    ENTRY_ACCOUNT = 1,
    ENTRY_OWN = 2,
    ENTRY_ACL = 3,
    ENTRY_MAPS = 4, /* all of one pattern */
    ENTRY_PRINCIPAL = 5,
};

enum {
    MAP_READ_ONLY = 1,
};

static void put_text(struct bytes_writer *w, const char *text)
{
    size_t len = strlen(text);
    bytes_put_u8(w, (uint8_t)len);
    bytes_put(w, text, len);
}

static void put_secret(struct bytes_writer *w, const struct crypt_secret *s)
{
    bytes_put_u8(w, (uint8_t)s->len);
    bytes_put(w, s->bytes, s->len);
}

static void put_account(struct bytes_writer *w, enum entry_kind kind, const struct dev_account *a)
{
    bytes_put_u8(w, (uint8_t)kind);
    put_text(w, a->user);
    put_text(w, a->initiator);
    if (kind != ENTRY_PRINCIPAL) {
        put_secret(w, a->secret);
    }
}

static void put_acl(struct bytes_writer *w, const struct dev_acl *acl)
{
    bytes_put_u8(w, ENTRY_ACL);
    put_text(w, acl->initiator);
    bytes_put_u8(w, acl->any_address ? 0 : 1);
    if (!acl->any_address) {
        bytes_put(w, acl->from.address, sizeof acl->from.address);
        bytes_put_u8(w, acl->from.prefix);
    }
}

/* Those of one pattern from `first` on; how many. */
static size_t put_maps(struct bytes_writer *w, const struct dev_map *first, size_t left)
{
    size_t n = 1;
    while (n < left && strcmp(first[n].initiator, first->initiator) == 0) {
        n++;
    }
    bytes_put_u8(w, ENTRY_MAPS);
    put_text(w, first->initiator);
    bytes_put_le16(w, (uint16_t)n);
    for (size_t i = 0; i < n; i++) {
        bytes_put_le16(w, (uint16_t)first[i].lun);
        bytes_put_le16(w, (uint16_t)first[i].device);
        bytes_put_u8(w, first[i].read_only ? MAP_READ_ONLY : 0);
    }
    return n;
}

int dev_access_encode(const struct dev_access *a, struct bytes_writer *w)
{
    bytes_put_u8(w, dev_access_has(a, true) ? VERSION : 1);
    bytes_put_u8(w, a->minimum);
    for (size_t i = 0; i < a->account_count; i++) {
        bool kerberos = a->accounts[i].kerberos;
        put_account(w, kerberos ? ENTRY_PRINCIPAL : ENTRY_ACCOUNT, &a->accounts[i]);
    }
    if (a->own.secret) {
        put_account(w, ENTRY_OWN, &a->own);
    }
    for (size_t i = 0; i < a->acl_count; i++) {
        put_acl(w, &a->acls[i]);
    }
    for (size_t i = 0; i < a->map_count;) {
        i += put_maps(w, &a->maps[i], a->map_count - i);
    }
    if (w->failed) {
        return -ENOMEM;
    }
    return w->len > DEV_ACCESS_BYTES_MAX ? -E2BIG : 0;
}

/* A text of at most max bytes without NUL; empty only when it may be. */
static int take_text(struct bytes_reader *r, size_t max, char *ret_text)
{
    size_t len = bytes_u8(r);
    const uint8_t *p = bytes_take(r, len);
    if (bytes_bad(r) || len > max || (len > 0 && memchr(p, 0, len))) {
        return ERR_CORRUPT_RECORD;
    }
    if (len > 0) {
        memcpy(ret_text, p, len);
    }
    ret_text[len] = 0;
    return 0;
}

static int take_account(struct bytes_reader *r, struct dev_access *a, enum entry_kind kind)
{
    struct dev_account account = {.kerberos = kind == ENTRY_PRINCIPAL};
    if (take_text(r, DEV_USER_MAX, account.user) < 0 ||
        take_text(r, DEV_PATTERN_MAX, account.initiator) < 0) {
        return ERR_CORRUPT_RECORD;
    }
    if (account.kerberos) {
        return account.user[0] ? dev_account_set(a, &account) : ERR_CORRUPT_RECORD;
    }
    size_t len = bytes_u8(r);
    const uint8_t *secret = bytes_take(r, len);
    if (bytes_bad(r) || len == 0 || !account.user[0]) {
        return ERR_CORRUPT_RECORD;
    }
    account.secret = crypt_secret_create(secret, len);
    if (!account.secret) {
        return -ENOMEM;
    }
    int rc = kind == ENTRY_OWN ? dev_own_set(a, account.user, account.secret)
                               : dev_account_set(a, &account);
    crypt_secret_free(account.secret);
    return rc;
}

static int take_acl(struct bytes_reader *r, struct dev_access *a)
{
    struct dev_acl acl = {0};
    if (take_text(r, DEV_PATTERN_MAX, acl.initiator) < 0) {
        return ERR_CORRUPT_RECORD;
    }
    uint8_t addressed = bytes_u8(r);
    acl.any_address = addressed == 0;
    if (addressed == 1) {
        const uint8_t *address = bytes_take(r, sizeof acl.from.address);
        acl.from.prefix = bytes_u8(r);
        if (address) {
            memcpy(acl.from.address, address, sizeof acl.from.address);
        }
    }
    if (bytes_bad(r) || addressed > 1 || acl.from.prefix > 128) {
        return ERR_CORRUPT_RECORD;
    }
    return dev_acl_add(a, &acl);
}

static int take_maps(struct bytes_reader *r, struct dev_access *a)
{
    struct dev_map map = {0};
    if (take_text(r, DEV_PATTERN_MAX, map.initiator) < 0) {
        return ERR_CORRUPT_RECORD;
    }
    unsigned count = bytes_le16(r);
    for (unsigned i = 0; i < count; i++) {
        map.lun = bytes_le16(r);
        map.device = bytes_le16(r);
        map.read_only = bytes_u8(r) & MAP_READ_ONLY;
        if (bytes_bad(r) || map.lun > DEV_LUN_MAX || map.device > DEV_LUN_MAX) {
            return ERR_CORRUPT_RECORD;
        }
        int rc = dev_map_add(a, &map);
        if (rc < 0) {
            return rc;
        }
    }
    return 0;
}

static int take_entry(struct bytes_reader *r, struct dev_access *a)
{
    uint8_t kind = bytes_u8(r);
    switch (kind) {
    case ENTRY_ACCOUNT:
    case ENTRY_OWN:
    case ENTRY_PRINCIPAL:
        return take_account(r, a, (enum entry_kind)kind);
    case ENTRY_ACL:
        return take_acl(r, a);
    case ENTRY_MAPS:
        return take_maps(r, a);
    default:
        return ERR_CORRUPT_RECORD;
    }
}

int dev_access_decode(const void *value, size_t len, struct dev_access **ret_access)
{
    struct bytes_reader r = bytes_reader_of(value, len);
    uint8_t version = bytes_u8(&r);
    if (version > VERSION) {
        return -ENOTSUP;
    }
    uint8_t minimum = bytes_u8(&r);
    if (bytes_bad(&r) || version == 0) {
        return ERR_CORRUPT_RECORD;
    }
    struct dev_access *a = dev_access_new();
    if (!a) {
        return -ENOMEM;
    }
    a->minimum = minimum;
    int rc = 0;
    while (rc == 0 && bytes_left(&r) > 0) {
        rc = take_entry(&r, a);
    }
    if (rc < 0) {
        dev_access_unref(a);
        return rc == -ENOMEM ? rc : ERR_CORRUPT_RECORD;
    }
    *ret_access = a;
    return 0;
}
