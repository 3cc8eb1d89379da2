/* SPDX-License-Identifier: Apache-2.0 */
/* The rules themselves: matching, and editing a draft. */
#include "dev/access.h"

#include "base/err.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Backtracks to the last * only: linear in the name for each. */
bool dev_pattern_match(const char *pattern, const char *name)
{
    const char *star = NULL;
    const char *resume = NULL;
    while (*name) {
        if (*pattern == '*') {
            star = ++pattern;
            resume = name;
        } else if (*pattern == '?' || *pattern == *name) {
            pattern++;
            name++;
        } else if (star) {
            pattern = star;
            name = ++resume;
        } else {
            return false;
        }
    }
    while (*pattern == '*') {
        pattern++;
    }
    return !*pattern;
}

int dev_pattern_check(const char *pattern, char ret_pattern[DEV_PATTERN_MAX + 1], char *ret_why,
                      size_t why_cap)
{
    size_t len = strlen(pattern);
    if (len == 0 || len > DEV_PATTERN_MAX) {
        (void)snprintf(ret_why, why_cap, "the name of an initiator has 1 to %d bytes",
                       DEV_PATTERN_MAX);
        return -EINVAL;
    }
    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)pattern[i];
        if (c <= ' ' || c == 0x7f || c == ',') {
            (void)snprintf(ret_why, why_cap,
                           "'%.223s' is no name of an initiator: it has blanks, commas or "
                           "control characters",
                           pattern);
            return -EINVAL;
        }
    }
    for (size_t i = 0; i <= len; i++) {
        char c = pattern[i];
        ret_pattern[i] = (char)(c >= 'A' && c <= 'Z' ? c | 0x20 : c);
    }
    return 0;
}

/* An address without port or brackets. */
static int parse_plain(const char *text, uint8_t address[16], bool *ret_is_v4)
{
    static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};
    uint8_t v4[4];
    if (inet_pton(AF_INET, text, v4) == 1) {
        memcpy(address, mapped, sizeof mapped);
        memcpy(address + 12, v4, sizeof v4);
        *ret_is_v4 = true;
        return 0;
    }
    *ret_is_v4 = false;
    return inet_pton(AF_INET6, text, address) == 1 ? 0 : -EINVAL;
}

int dev_address_parse(const char *text, uint8_t ret_address[16])
{
    char plain[INET6_ADDRSTRLEN];
    bool is_v4;
    const char *end;
    if (*text == '[') {
        text++;
        end = text + strcspn(text, "]%");
    } else {
        const char *colon = strchr(text, ':');
        bool is_v6 = colon && strchr(colon + 1, ':');
        end = is_v6 ? text + strcspn(text, "%") : text + strcspn(text, ":");
    }
    size_t len = (size_t)(end - text);
    if (len == 0 || len >= sizeof plain) {
        return -EINVAL;
    }
    memcpy(plain, text, len);
    plain[len] = 0;
    return parse_plain(plain, ret_address, &is_v4);
}

static bool same_prefix(const uint8_t *a, const uint8_t *b, unsigned bits)
{
    unsigned whole = bits / 8;
    if (memcmp(a, b, whole) != 0) {
        return false;
    }
    return bits % 8 == 0 || ((a[whole] ^ b[whole]) >> (8 - bits % 8)) == 0;
}

int dev_cidr_parse(const char *text, struct dev_cidr *ret_cidr)
{
    char plain[INET6_ADDRSTRLEN];
    struct dev_cidr c;
    bool is_v4;
    size_t len = strcspn(text, "/");
    if (len >= sizeof plain) {
        return -EINVAL;
    }
    memcpy(plain, text, len);
    plain[len] = 0;
    int r = parse_plain(plain, c.address, &is_v4);
    if (r < 0) {
        return r;
    }
    unsigned long bits = is_v4 ? 32 : 128;
    if (text[len]) {
        char *end;
        const char *digits = text + len + 1;
        unsigned long given = strtoul(digits, &end, 10);
        if (*digits < '0' || *digits > '9' || *end || given > bits) {
            return -EINVAL;
        }
        bits = given;
    }
    c.prefix = (uint8_t)(bits + (is_v4 ? 96 : 0));
    for (unsigned i = c.prefix; i < 128; i++) {
        if (c.address[i / 8] >> (7 - i % 8) & 1) {
            return -EINVAL;
        }
    }
    *ret_cidr = c;
    return 0;
}

static bool is_mapped(const uint8_t address[16])
{
    static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};
    return memcmp(address, mapped, sizeof mapped) == 0;
}

static bool covers_v4(const struct dev_cidr *c)
{
    return c->prefix >= 96 && is_mapped(c->address);
}

void dev_cidr_format(const struct dev_cidr *c, char ret_text[DEV_CIDR_TEXT_SIZE])
{
    char plain[INET6_ADDRSTRLEN] = "";
    bool v4 = covers_v4(c);
    (void)inet_ntop(v4 ? AF_INET : AF_INET6, v4 ? c->address + 12 : c->address, plain,
                    sizeof plain);
    (void)snprintf(ret_text, DEV_CIDR_TEXT_SIZE, "%s/%u", plain,
                   v4 ? c->prefix - 96u : (unsigned)c->prefix);
}

/* "::/0" is all of IPv6, and nothing of IPv4, as it stands there. */
static bool is_within(const uint8_t address[16], const struct dev_cidr *c)
{
    return is_mapped(address) == covers_v4(c) && same_prefix(address, c->address, c->prefix);
}

bool dev_access_allows(const struct dev_access *a, const char *initiator, const char *address)
{
    uint8_t from[16];
    if (!a || a->acl_count == 0) {
        return true;
    }
    bool known = dev_address_parse(address, from) == 0;
    for (size_t i = 0; i < a->acl_count; i++) {
        const struct dev_acl *acl = &a->acls[i];
        bool near = acl->any_address || (known && is_within(from, &acl->from));
        if (near && dev_pattern_match(acl->initiator, initiator)) {
            return true;
        }
    }
    return false;
}

static struct dev_account *find_account(const struct dev_access *a, const char *user)
{
    for (size_t i = 0; a && i < a->account_count; i++) {
        if (strcmp(a->accounts[i].user, user) == 0) {
            return &a->accounts[i];
        }
    }
    return NULL;
}

bool dev_access_has(const struct dev_access *a, bool kerberos)
{
    for (size_t i = 0; a && i < a->account_count; i++) {
        if (a->accounts[i].kerberos == kerberos) {
            return true;
        }
    }
    return false;
}

const struct dev_account *dev_access_account(const struct dev_access *a, bool kerberos,
                                             const char *user, const char *initiator)
{
    const struct dev_account *account = find_account(a, user);
    bool good = account && account->kerberos == kerberos &&
                dev_pattern_match(account->initiator, initiator);
    return good ? account : NULL;
}

/* Room for one more of `count` elements; *at moves. */
static int grow(void **at, size_t count, size_t max, size_t elem_size)
{
    if (count >= max) {
        return -E2BIG;
    }
    void *more = reallocarray(*at, count + 1, elem_size);
    if (!more) {
        return -ENOMEM;
    }
    *at = more;
    return 0;
}

static struct crypt_secret *copy_secret(const struct crypt_secret *s)
{
    return crypt_secret_create(s->bytes, s->len);
}

int dev_account_set(struct dev_access *a, const struct dev_account *account)
{
    struct dev_account fresh = *account;
    fresh.secret = account->kerberos ? NULL : copy_secret(account->secret);
    if (!fresh.secret && !account->kerberos) {
        return -ENOMEM;
    }
    struct dev_account *old = find_account(a, account->user);
    if (old) {
        crypt_secret_free(old->secret);
        *old = fresh;
        return 0;
    }
    int r = grow((void **)&a->accounts, a->account_count, DEV_ACCOUNTS_MAX, sizeof *a->accounts);
    if (r < 0) {
        crypt_secret_free(fresh.secret);
        return r;
    }
    a->accounts[a->account_count++] = fresh;
    return 0;
}

int dev_account_remove(struct dev_access *a, const char *user)
{
    struct dev_account *account = find_account(a, user);
    if (!account) {
        return -ENOENT;
    }
    crypt_secret_free(account->secret);
    size_t after = (size_t)(&a->accounts[a->account_count] - (account + 1));
    memmove(account, account + 1, after * sizeof *account);
    a->account_count--;
    return 0;
}

void dev_accounts_clear(struct dev_access *a)
{
    for (size_t i = 0; i < a->account_count; i++) {
        crypt_secret_free(a->accounts[i].secret);
    }
    a->account_count = 0;
}

int dev_own_set(struct dev_access *a, const char *user, const struct crypt_secret *secret)
{
    struct crypt_secret *copy = copy_secret(secret);
    if (!copy) {
        return -ENOMEM;
    }
    dev_own_remove(a);
    (void)snprintf(a->own.user, sizeof a->own.user, "%s", user);
    a->own.secret = copy;
    return 0;
}

void dev_own_remove(struct dev_access *a)
{
    crypt_secret_free(a->own.secret);
    a->own = (struct dev_account){0};
}

static bool same_acl(const struct dev_acl *a, const struct dev_acl *b)
{
    return strcmp(a->initiator, b->initiator) == 0 && a->any_address == b->any_address &&
           (a->any_address || (a->from.prefix == b->from.prefix &&
                               memcmp(a->from.address, b->from.address, 16) == 0));
}

static size_t find_acl(const struct dev_access *a, const struct dev_acl *acl)
{
    size_t i = 0;
    while (i < a->acl_count && !same_acl(&a->acls[i], acl)) {
        i++;
    }
    return i;
}

int dev_acl_add(struct dev_access *a, const struct dev_acl *acl)
{
    if (find_acl(a, acl) < a->acl_count) {
        return -EEXIST;
    }
    int r = grow((void **)&a->acls, a->acl_count, DEV_ACLS_MAX, sizeof *a->acls);
    if (r < 0) {
        return r;
    }
    a->acls[a->acl_count++] = *acl;
    return 0;
}

int dev_acl_remove(struct dev_access *a, const struct dev_acl *acl)
{
    size_t i = find_acl(a, acl);
    if (i == a->acl_count) {
        return -ENOENT;
    }
    memmove(&a->acls[i], &a->acls[i + 1], (a->acl_count - i - 1) * sizeof *a->acls);
    a->acl_count--;
    return 0;
}

/* Maps are kept in order of (initiator, LUN). */
static int compare_map(const struct dev_map *m, const char *initiator, uint32_t lun)
{
    int c = strcmp(m->initiator, initiator);
    return c ? c : (m->lun > lun) - (m->lun < lun);
}

/* The first map that is not before that one. */
static size_t map_place(const struct dev_access *a, const char *initiator, uint32_t lun)
{
    size_t low = 0;
    size_t high = a->map_count;
    while (low < high) {
        size_t mid = (low + high) / 2;
        if (compare_map(&a->maps[mid], initiator, lun) < 0) {
            low = mid + 1;
        } else {
            high = mid;
        }
    }
    return low;
}

/* One pattern names a number once, and a device once. */
int dev_map_add(struct dev_access *a, const struct dev_map *map)
{
    for (size_t i = map_place(a, map->initiator, 0);
         i < a->map_count && strcmp(a->maps[i].initiator, map->initiator) == 0; i++) {
        if (a->maps[i].lun == map->lun || a->maps[i].device == map->device) {
            return -EEXIST;
        }
    }
    int r = grow((void **)&a->maps, a->map_count, DEV_MAPS_MAX, sizeof *a->maps);
    if (r < 0) {
        return r;
    }
    size_t i = map_place(a, map->initiator, map->lun);
    memmove(&a->maps[i + 1], &a->maps[i], (a->map_count - i) * sizeof *a->maps);
    a->maps[i] = *map;
    a->map_count++;
    return 0;
}

int dev_map_remove(struct dev_access *a, const char *initiator, uint32_t lun)
{
    size_t i = map_place(a, initiator, lun);
    if (i == a->map_count || compare_map(&a->maps[i], initiator, lun) != 0) {
        return -ENOENT;
    }
    memmove(&a->maps[i], &a->maps[i + 1], (a->map_count - i - 1) * sizeof *a->maps);
    a->map_count--;
    return 0;
}

bool dev_access_reflects(const struct dev_access *a)
{
    const struct crypt_secret *own = a->own.secret;
    for (size_t i = 0; own && i < a->account_count; i++) {
        if (crypt_secret_equal(own, a->accounts[i].secret)) {
            return true;
        }
    }
    return false;
}

struct dev_access *dev_access_new(void)
{
    struct dev_access *a = calloc(1, sizeof *a);
    if (a) {
        atomic_init(&a->refs, 1);
    }
    return a;
}

/* An array of its own; NULL for none, or, with *ok cleared, for want of memory. */
static void *copy_array(const void *from, size_t count, size_t size, bool *ok)
{
    void *copy = count ? reallocarray(NULL, count, size) : NULL;
    if (copy) {
        memcpy(copy, from, count * size);
    }
    *ok &= copy || !count;
    return copy;
}

struct dev_access *dev_access_copy(const struct dev_access *a)
{
    struct dev_access *copy = dev_access_new();
    if (!a || !copy) {
        return copy;
    }
    bool ok = true;
    copy->minimum = a->minimum;
    copy->acls = copy_array(a->acls, a->acl_count, sizeof *a->acls, &ok);
    copy->acl_count = copy->acls ? a->acl_count : 0;
    copy->maps = copy_array(a->maps, a->map_count, sizeof *a->maps, &ok);
    copy->map_count = copy->maps ? a->map_count : 0;
    for (size_t i = 0; i < a->account_count && ok; i++) {
        ok = dev_account_set(copy, &a->accounts[i]) == 0;
    }
    if (ok && a->own.secret) {
        ok = dev_own_set(copy, a->own.user, a->own.secret) == 0;
    }
    if (!ok) {
        dev_access_unref(copy);
        return NULL;
    }
    return copy;
}

bool dev_access_is_empty(const struct dev_access *a)
{
    return !a || (a->minimum == 0 && a->account_count == 0 && !a->own.secret && a->acl_count == 0 &&
                  a->map_count == 0);
}

struct dev_access *dev_access_ref(struct dev_access *a)
{
    if (a) {
        atomic_fetch_add(&a->refs, 1);
    }
    return a;
}

void dev_access_unref(struct dev_access *a)
{
    if (!a || atomic_fetch_sub(&a->refs, 1) != 1) {
        return;
    }
    dev_accounts_clear(a);
    crypt_secret_free(a->own.secret);
    free(a->accounts);
    free(a->acls);
    free(a->maps);
    free(a);
}
