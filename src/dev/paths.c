/* SPDX-License-Identifier: Apache-2.0 */
/* The rules themselves: matching, and editing a draft. */
#include "dev/paths.h"

#include "dev/access.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const uint8_t v4_prefix[12] = {[10] = 0xff, [11] = 0xff};

static bool is_v4(const struct dev_portal *p)
{
    return memcmp(p->address, v4_prefix, sizeof v4_prefix) == 0;
}

int dev_portal_parse(const char *text, struct dev_portal *ret_portal)
{
    struct dev_portal p = {0};
    const char *colon = strrchr(text, ':');
    bool bracketed = colon && colon > text && text[0] == '[' && colon[-1] == ']';
    bool plain = colon && strchr(text, ':') == colon;
    char *end = NULL;
    if ((!bracketed && !plain) || colon[1] < '0' || colon[1] > '9') {
        return -EINVAL;
    }
    unsigned long port = strtoul(colon + 1, &end, 10);
    if (*end || port == 0 || port > UINT16_MAX) {
        return -EINVAL;
    }
    p.port = (uint16_t)port;
    int r = dev_address_parse(text, p.address);
    if (r >= 0) {
        *ret_portal = p;
    }
    return r;
}

void dev_portal_format(const struct dev_portal *p, char ret_text[DEV_PORTAL_TEXT_SIZE])
{
    char host[INET6_ADDRSTRLEN] = "";
    bool v4 = is_v4(p);
    (void)inet_ntop(v4 ? AF_INET : AF_INET6, v4 ? p->address + 12 : p->address, host, sizeof host);
    (void)snprintf(ret_text, DEV_PORTAL_TEXT_SIZE, v4 ? "%s:%u" : "[%s]:%u", host,
                   (unsigned)p->port);
}

bool dev_portal_is_any(const struct dev_portal *p)
{
    static const uint8_t zeros[16];
    return is_v4(p) ? memcmp(p->address + 12, zeros, 4) == 0
                    : memcmp(p->address, zeros, sizeof zeros) == 0;
}

static bool same_portal(const struct dev_portal *a, const struct dev_portal *b)
{
    return a->port == b->port && memcmp(a->address, b->address, sizeof a->address) == 0;
}

bool dev_portal_covers(const struct dev_portal *p, const struct dev_portal *at)
{
    return same_portal(p, at) ||
           (p->port == at->port && is_v4(p) == is_v4(at) && dev_portal_is_any(p));
}

int dev_group_name_check(const char *name, char *ret_why, size_t why_cap)
{
    size_t len = strlen(name);
    size_t good = strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-");
    if (len == 0 || len > DEV_GROUP_NAME_MAX || good != len) {
        (void)snprintf(ret_why, why_cap,
                       "the name of a portal group has 1 to %d letters, digits, dots, dashes and "
                       "underscores",
                       DEV_GROUP_NAME_MAX);
        return -EINVAL;
    }
    return 0;
}

bool dev_path_is_state(unsigned state)
{
    return state <= DEV_PATH_UNAVAILABLE || state == DEV_PATH_OFFLINE ||
           state == DEV_PATH_TRANSITIONING;
}

const struct dev_group *dev_groups_find(const struct dev_groups *s, const char *name)
{
    for (size_t i = 0; s && i < s->groups.len; i++) {
        if (strcmp(s->groups.at[i].name, name) == 0) {
            return &s->groups.at[i];
        }
    }
    return NULL;
}

const struct dev_group *dev_groups_find_tag(const struct dev_groups *s, uint16_t tag)
{
    for (size_t i = 0; s && i < s->groups.len; i++) {
        if (s->groups.at[i].tag == tag) {
            return &s->groups.at[i];
        }
    }
    return NULL;
}

uint16_t dev_groups_tag(const struct dev_groups *s, const char *local)
{
    struct dev_portal at;
    uint16_t tag = DEV_TAG_DEFAULT;
    if (!s || dev_portal_parse(local, &at) < 0) {
        return tag;
    }
    for (size_t i = 0; i < s->groups.len; i++) {
        const struct dev_group *group = &s->groups.at[i];
        for (size_t k = 0; k < group->portal_count; k++) {
            if (same_portal(&group->portals[k], &at)) {
                return group->tag;
            }
            if (dev_portal_covers(&group->portals[k], &at)) {
                tag = group->tag;
            }
        }
    }
    return tag;
}

bool dev_paths_reach(const struct dev_paths *p, uint16_t tag)
{
    for (size_t i = 0; p && i < p->member_count; i++) {
        if (p->members[i] == tag) {
            return true;
        }
    }
    return !p || p->member_count == 0;
}

bool dev_paths_is_empty(const struct dev_paths *p)
{
    return !p || (p->member_count == 0 && p->state_count == 0 && p->luns.len == 0);
}

static bool share_portal(const struct dev_group *a, const struct dev_group *b)
{
    for (size_t i = 0; i < a->portal_count; i++) {
        for (size_t k = 0; k < b->portal_count; k++) {
            if (same_portal(&a->portals[i], &b->portals[k])) {
                return true;
            }
        }
    }
    return false;
}

/* Index of the group of that tag, or where it would be. */
static size_t place_of(const struct dev_groups *s, uint16_t tag)
{
    size_t i = 0;
    while (i < s->groups.len && s->groups.at[i].tag < tag) {
        i++;
    }
    return i;
}

int dev_groups_put(struct dev_groups *s, const struct dev_group *group)
{
    size_t at = place_of(s, group->tag);
    bool replaces = false;
    for (size_t i = 0; i < s->groups.len; i++) {
        const struct dev_group *other = &s->groups.at[i];
        bool same = other->tag == group->tag && strcmp(other->name, group->name) == 0;
        if (!same && (other->tag == group->tag || strcmp(other->name, group->name) == 0 ||
                      share_portal(other, group))) {
            return -EEXIST;
        }
        replaces = replaces || same;
    }
    if (replaces) {
        s->groups.at[at] = *group;
        return 0;
    }
    if (s->groups.len >= DEV_GROUPS_MAX) {
        return -E2BIG;
    }
    int r = vec_push(&s->groups, *group);
    if (r < 0) {
        return r;
    }
    memmove(&s->groups.at[at + 1], &s->groups.at[at],
            (s->groups.len - 1 - at) * sizeof s->groups.at[0]);
    s->groups.at[at] = *group;
    return 0;
}

int dev_groups_remove(struct dev_groups *s, const char *name)
{
    const struct dev_group *group = dev_groups_find(s, name);
    if (!group) {
        return -ENOENT;
    }
    size_t at = (size_t)(group - s->groups.at);
    s->groups.len--;
    memmove(&s->groups.at[at], &s->groups.at[at + 1],
            (s->groups.len - at) * sizeof s->groups.at[0]);
    return 0;
}

uint16_t dev_groups_free_tag(const struct dev_groups *s)
{
    for (uint16_t tag = DEV_TAG_DEFAULT + 1; tag < UINT16_MAX; tag++) {
        if (!dev_groups_find_tag(s, tag)) {
            return tag;
        }
    }
    return 0;
}

static void drop_lun_states(struct dev_paths *p, uint16_t tag)
{
    size_t kept = 0;
    for (size_t i = 0; i < p->luns.len; i++) {
        if (p->luns.at[i].path.tag != tag) {
            p->luns.at[kept++] = p->luns.at[i];
        }
    }
    p->luns.len = kept;
}

static size_t find_state(const struct dev_paths *p, uint16_t tag)
{
    size_t i = 0;
    while (i < p->state_count && p->states[i].tag != tag) {
        i++;
    }
    return i;
}

void dev_paths_set_state(struct dev_paths *p, const struct dev_path *path)
{
    size_t at = find_state(p, path->tag);
    drop_lun_states(p, path->tag);
    if (at < DEV_TAGS_MAX) {
        p->states[at] = *path;
        p->state_count = MAX_OF(p->state_count, at + 1);
    }
}

static int compare(const struct dev_lun_path *a, const struct uuid *device, uint16_t tag)
{
    int c = memcmp(a->device.bytes, device->bytes, sizeof device->bytes);
    return c != 0 ? c : (a->path.tag > tag) - (a->path.tag < tag);
}

/* The first that is not less. */
static size_t find_lun_state(const struct dev_paths *p, const struct uuid *device, uint16_t tag)
{
    size_t low = 0;
    size_t high = p->luns.len;
    while (low < high) {
        size_t mid = (low + high) / 2;
        if (compare(&p->luns.at[mid], device, tag) < 0) {
            low = mid + 1;
        } else {
            high = mid;
        }
    }
    return low;
}

static bool has_lun_state(const struct dev_paths *p, size_t at, const struct uuid *device,
                          uint16_t tag)
{
    return at < p->luns.len && compare(&p->luns.at[at], device, tag) == 0;
}

int dev_paths_set_lun_state(struct dev_paths *p, const struct uuid *device,
                            const struct dev_path *path)
{
    size_t at = find_lun_state(p, device, path->tag);
    struct dev_lun_path fresh = {.device = *device, .path = *path};
    if (!has_lun_state(p, at, device, path->tag)) {
        int r = vec_push(&p->luns, fresh);
        if (r < 0) {
            return r;
        }
        memmove(&p->luns.at[at + 1], &p->luns.at[at],
                (p->luns.len - 1 - at) * sizeof p->luns.at[0]);
    }
    p->luns.at[at] = fresh;
    return 0;
}

struct dev_path dev_paths_state(const struct dev_paths *p, const struct uuid *device, uint16_t tag)
{
    struct dev_path path = {.tag = tag};
    if (!p) {
        return path;
    }
    size_t at = device ? find_lun_state(p, device, tag) : p->luns.len;
    if (device && has_lun_state(p, at, device, tag)) {
        return p->luns.at[at].path;
    }
    at = find_state(p, tag);
    return at < p->state_count ? p->states[at] : path;
}

bool dev_paths_drop_tag(struct dev_paths *p, uint16_t tag)
{
    size_t luns = p->luns.len;
    size_t at = find_state(p, tag);
    bool known = at < p->state_count;
    drop_lun_states(p, tag);
    if (known) {
        p->state_count--;
        p->states[at] = p->states[p->state_count];
    }
    return known || p->luns.len != luns;
}

struct dev_groups *dev_groups_copy(const struct dev_groups *s)
{
    struct dev_groups *copy = calloc(1, sizeof *copy);
    if (!copy) {
        return NULL;
    }
    atomic_init(&copy->refs, 1);
    size_t count = s ? s->groups.len : 0;
    if (count > 0) {
        if (vec_reserve(&copy->groups, count) < 0) {
            free(copy);
            return NULL;
        }
        memcpy(copy->groups.at, s->groups.at, count * sizeof s->groups.at[0]);
        copy->groups.len = count;
    }
    return copy;
}

struct dev_groups *dev_groups_ref(struct dev_groups *s)
{
    if (s) {
        atomic_fetch_add(&s->refs, 1);
    }
    return s;
}

void dev_groups_unref(struct dev_groups *s)
{
    if (s && atomic_fetch_sub(&s->refs, 1) == 1) {
        vec_free(&s->groups);
        free(s);
    }
}

struct dev_paths *dev_paths_copy(const struct dev_paths *p)
{
    struct dev_paths *copy = calloc(1, sizeof *copy);
    if (!copy) {
        return NULL;
    }
    atomic_init(&copy->refs, 1);
    if (!p) {
        return copy;
    }
    copy->member_count = p->member_count;
    memcpy(copy->members, p->members, sizeof p->members);
    copy->state_count = p->state_count;
    memcpy(copy->states, p->states, sizeof p->states);
    if (p->luns.len > 0) {
        if (vec_reserve(&copy->luns, p->luns.len) < 0) {
            free(copy);
            return NULL;
        }
        memcpy(copy->luns.at, p->luns.at, p->luns.len * sizeof p->luns.at[0]);
        copy->luns.len = p->luns.len;
    }
    return copy;
}

struct dev_paths *dev_paths_ref(struct dev_paths *p)
{
    if (p) {
        atomic_fetch_add(&p->refs, 1);
    }
    return p;
}

void dev_paths_unref(struct dev_paths *p)
{
    if (p && atomic_fetch_sub(&p->refs, 1) == 1) {
        vec_free(&p->luns);
        free(p);
    }
}
