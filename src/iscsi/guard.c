/* SPDX-License-Identifier: Apache-2.0 */
#include "iscsi/guard.h"

#include "base/attr.h"
#include "base/hash.h"

#include <string.h>

struct price {
    uint64_t cost_ns;
    uint64_t free_ns; /* what may be owed without waiting */
};
/* Of a name at an address: 4 at once, then one a second. Of an address: 64, then ten a second. */
static const struct price of_pair = {1000000000ull, 4000000000ull};
static const struct price of_address = {100000000ull, 6400000000ull};

struct iscsi_guard_who iscsi_guard_who(const void *address, size_t len, const char *name)
{
    uint64_t a = hash_bytes(address, len);
    uint64_t pair = hash_pair(a, hash_bytes(name, strlen(name)));
    return (struct iscsi_guard_who){.address = a ? a : 1, .pair = pair ? pair : 1};
}

static struct iscsi_guard_slot *find(struct iscsi_guard *g, uint64_t key)
{
    struct iscsi_guard_slot *set = g->slots[key % ISCSI_GUARD_SETS];
    for (size_t i = 0; i < ISCSI_GUARD_WAYS; i++) {
        if (set[i].key == key) {
            return &set[i];
        }
    }
    return NULL;
}

/* The slot of the key, made if need be. */
static struct iscsi_guard_slot *claim(struct iscsi_guard *g, uint64_t key)
{
    struct iscsi_guard_slot *slot = find(g, key);
    if (slot) {
        return slot;
    }
    struct iscsi_guard_slot *set = g->slots[key % ISCSI_GUARD_SETS];
    slot = &set[0];
    for (size_t i = 1; i < ISCSI_GUARD_WAYS; i++) {
        if (set[i].paid_ns < slot->paid_ns) {
            slot = &set[i];
        }
    }
    *slot = (struct iscsi_guard_slot){.key = key};
    return slot;
}

static uint64_t wait_of(struct iscsi_guard *g, uint64_t key, uint64_t now, const struct price *p)
{
    const struct iscsi_guard_slot *slot = find(g, key);
    uint64_t owed = slot && slot->paid_ns > now ? slot->paid_ns - now : 0;
    return owed + p->cost_ns > p->free_ns ? owed + p->cost_ns - p->free_ns : 0;
}

static void charge(struct iscsi_guard *g, uint64_t key, uint64_t now, const struct price *p)
{
    struct iscsi_guard_slot *slot = claim(g, key);
    slot->paid_ns = MAX_OF(slot->paid_ns, now) + p->cost_ns;
}

static void give_back(struct iscsi_guard *g, uint64_t key, const struct price *p)
{
    struct iscsi_guard_slot *slot = find(g, key);
    if (slot) {
        slot->paid_ns -= MIN_OF(slot->paid_ns, p->cost_ns);
    }
}

bool iscsi_guard_enter(struct iscsi_guard *g, const struct iscsi_guard_who *who, uint64_t now_ns,
                       uint64_t *ret_wait_ns)
{
    uint64_t pair = wait_of(g, who->pair, now_ns, &of_pair);
    uint64_t address = wait_of(g, who->address, now_ns, &of_address);
    uint64_t wait = MAX_OF(pair, address);
    if (wait > ISCSI_GUARD_WAIT_MAX_NS) {
        return false;
    }
    charge(g, who->pair, now_ns, &of_pair);
    charge(g, who->address, now_ns, &of_address);
    *ret_wait_ns = wait;
    return true;
}

void iscsi_guard_pardon(struct iscsi_guard *g, const struct iscsi_guard_who *who)
{
    give_back(g, who->pair, &of_pair);
    give_back(g, who->address, &of_address);
}
