/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A token stands for a hold (dev_hold_create()), into which POPULATE TOKEN has copied the ranges by
 * reference: so it is a copy of one point in time, whatever is written afterwards, and costs no
 * data. Tokens live in memory, and their holds go with the opening: after a restart they are
 * unknown.
 *
 * R1. rods->m guards the list and what changes of a token after it was published: pins, death, when
 *     it was used.
 * R2. The list has one pin of each token in it; whoever works with one has another. Killing takes
 * it out of the list, with that pin; who takes the last pin away, never under the mutex, frees it.
 * R3. A token dies of: its inactivity timeout; DEL_TKN; its unit being formatted or sanitized; or
 *     another one that is to be made, when its initiator has as many as one may have, or when all
 * are given. Then it is one of who has the most of them, if that leaves him as many as the one who
 *     asks will have, else one of his own: so whoever keeps what he can has, in the end, as many as
 *     any other who does so. Of one initiator's goes the one unused for longest. A pinned one lives
 *     on for those who have it.
 *
 * What is asked for after it has died is told why, for as long as that is remembered.
 */
#include "scsi/rod.h"
#include "base/assert.h"
#include "base/endian.h"
#include "base/time.h"
#include "scsi/sense.h"
#include "scsi/vpd.h"
#include <stdio.h>

#define GONE_MAX 64u
#define SECRET_AT (SCSI_ROD_TOKEN_BYTES - 32u)
#define SECRET_BYTES 32u
#define TICK_MS 1000u

struct gone {
    uint64_t number;
    uint16_t asc;
    uint8_t secret[SECRET_BYTES];
};

/* An initiator who has tokens in the list. */
struct scsi_rod_owner {
    struct list link;
    uint32_t count; /* with one that he is about to get */
    uint32_t idle;  /* see victim() */
    char name[DEV_IQN_MAX + 1];
};

struct scsi_rods {
    struct dev_registry *registry;
    struct rt_group *group;
    struct rt_mutex m;
    struct list all;
    struct list owners;
    uint32_t count;
    bool tended;
    uint64_t numbers;
    uint32_t gone_count;
    struct gone gone[GONE_MAX]; /* the last ones, round and round */
};

int scsi_rods_create(struct dev_registry *g, struct scsi_rods **ret_rods)
{
    struct scsi_rods *rods = calloc(1, sizeof *rods);
    if (!rods) {
        return -ENOMEM;
    }
    int r = rt_group_create(&rods->group);
    if (r < 0) {
        free(rods);
        return r;
    }
    rods->registry = g;
    rt_mutex_init(&rods->m);
    list_init(&rods->all);
    list_init(&rods->owners);
    rt_random_bytes(&rods->numbers, sizeof rods->numbers);
    *ret_rods = rods;
    return 0;
}

/* With the mutex. */
static void owner_leave(struct scsi_rod_owner *owner)
{
    if (--owner->count == 0) {
        list_remove(&owner->link);
        free(owner);
    }
}

/* With the mutex. */
static void kill_locked(struct scsi_rod *rod, uint16_t asc)
{
    struct scsi_rods *rods = rod->rods;
    if (list_is_empty(&rod->link)) {
        return;
    }
    list_remove(&rod->link);
    rods->count--;
    rod->pins--;
    owner_leave(rod->owner);
    rod->owner = NULL;
    if (rod->published) {
        struct gone *g = &rods->gone[rods->gone_count++ % GONE_MAX];
        *g = (struct gone){.number = rod->number, .asc = asc};
        memcpy(g->secret, rod->token + SECRET_AT, sizeof g->secret);
    }
}

void scsi_rod_kill(struct scsi_rod *rod, uint16_t asc)
{
    rt_mutex_lock(&rod->rods->m);
    kill_locked(rod, asc);
    rt_mutex_unlock(&rod->rods->m);
}

void scsi_rod_unpin(struct scsi_rod *rod)
{
    struct scsi_rods *rods = rod->rods;
    rt_mutex_lock(&rods->m);
    ASSERT(rod->pins > 0);
    bool last = --rod->pins == 0;
    rod->used_ns = rt_now_ns();
    if (!list_is_empty(&rod->link)) {
        list_remove(&rod->link);
        list_push_back(&rods->all, &rod->link);
    }
    rt_mutex_unlock(&rods->m);
    if (last) {
        dev_hold_destroy(rod->hold);
        free(rod);
    }
}

/* With the mutex: only the list has it. */
static bool is_idle(const struct scsi_rod *rod)
{
    return rod->published && rod->pins == 1;
}

static bool is_expired(const struct scsi_rod *rod, uint64_t now)
{
    return is_idle(rod) && now - rod->used_ns > rod->timeout_ns && now > rod->used_ns;
}

/* One that has expired, pinned and killed; NULL: none. */
static struct scsi_rod *expired(struct scsi_rods *rods)
{
    struct scsi_rod *found = NULL;
    uint64_t now = rt_now_ns();
    rt_mutex_lock(&rods->m);
    list_for_each(&rods->all, struct scsi_rod, link, rod) {
        if (is_expired(rod, now)) {
            found = rod;
            break;
        }
    }
    if (found) {
        found->pins++;
        kill_locked(found, SCSI_ASC_TOKEN_EXPIRED);
    }
    rods->tended = !list_is_empty(&rods->all) || found;
    rt_mutex_unlock(&rods->m);
    return found;
}

/* There as long as there are tokens. */
static void tend(void *arg)
{
    struct scsi_rods *rods = arg;
    bool more = true;
    while (more && rt_sleep_ms(TICK_MS) == 0) {
        struct scsi_rod *rod;
        while ((rod = expired(rods)) != NULL) {
            scsi_rod_unpin(rod);
        }
        rt_mutex_lock(&rods->m);
        more = rods->tended;
        rt_mutex_unlock(&rods->m);
    }
}

static int see_to_tending(struct scsi_rods *rods)
{
    rt_mutex_lock(&rods->m);
    bool was = rods->tended;
    rods->tended = true;
    rt_mutex_unlock(&rods->m);
    int r = was ? 0 : rt_group_spawn(rods->group, "scsi tokens", tend, rods);
    if (r < 0) {
        rt_mutex_lock(&rods->m);
        rods->tended = false;
        rt_mutex_unlock(&rods->m);
    }
    return r;
}

/* The next of that unit (NULL: of any), pinned and killed. */
static struct scsi_rod *take_one(struct scsi_rods *rods, const struct uuid *unit, uint16_t asc)
{
    struct scsi_rod *found = NULL;
    rt_mutex_lock(&rods->m);
    list_for_each(&rods->all, struct scsi_rod, link, rod) {
        if (!unit || uuid_equal(&rod->unit, unit)) {
            found = rod;
            break;
        }
    }
    if (found) {
        found->pins++;
        kill_locked(found, asc);
    }
    rt_mutex_unlock(&rods->m);
    return found;
}

void scsi_rods_revoke(struct scsi_rods *rods, const struct uuid *unit)
{
    struct scsi_rod *rod;
    while ((rod = take_one(rods, unit, SCSI_ASC_TOKEN_REVOKED)) != NULL) {
        scsi_rod_unpin(rod);
    }
}

void scsi_rods_destroy(struct scsi_rods *rods)
{
    if (!rods) {
        return;
    }
    rt_group_cancel(rods->group);
    rt_group_wait(rods->group);
    rt_group_destroy(rods->group);
    scsi_rods_revoke(rods, NULL);
    rt_mutex_destroy(&rods->m);
    free(rods);
}

static void put_creator(const struct scsi_lu *lu, uint8_t *p)
{
    p[0] = SCSI_COPY_TYPE_CSCD;
    p[4] = 1; /* binary */
    p[5] = 3; /* of the unit, NAA */
    p[7] = SCSI_NAA_BYTES;
    scsi_naa_put(&lu->uuid, p + 8);
    be24_store(p + 29, lu->block_bytes);
}

/* SPC-4 table 113; what has no meaning here is random. */
static void token_make(struct scsi_rod *rod, const struct scsi_task *t)
{
    uint8_t *p = rod->token;
    be32_store(p, SCSI_ROD_SNAPSHOT);
    be16_store(p + 6, SCSI_ROD_TOKEN_LENGTH);
    be64_store(p + 8, rod->number);
    put_creator(t->lu, p + 16);
    be64_store(p + 56, rod->bytes);
    be32_store(p + 96, t->lu->block_bytes); /* READ CAPACITY(16) from its byte 8 on */
    p[101] = (uint8_t)t->lu->physical_shift;
    p[102] = 0xc0;
    size_t used = 128 + scsi_target_designator_put(t->nexus->target->iqn, p + 128);
    rt_random_bytes(p + used, sizeof rod->token - used);
}

/*
 * Where the ranges are to lie in the hold, each in as many blocks of the store as it has in the
 * unit, so that none of its data are moved. Bytes of the hold.
 */
static uint64_t plan(struct scsi_rod *rod, const struct scsi_rod_list *list, unsigned shift)
{
    uint64_t end = 0;
    for (uint32_t i = 0; i < list->range_count; i++) {
        uint64_t off = list->ranges[i].lba << shift;
        uint64_t len = (uint64_t)list->ranges[i].blocks << shift;
        if (len == 0) {
            continue;
        }
        end = (end + VOL_BLOCK_BYTES - 1) / VOL_BLOCK_BYTES * VOL_BLOCK_BYTES;
        end += off % VOL_BLOCK_BYTES;
        rod->pieces[rod->piece_count++] =
            (struct scsi_rod_piece){.from = rod->bytes, .hold_off = end, .len = len};
        end += len;
        rod->bytes += len;
    }
    return end;
}

static struct scsi_rod_owner *find_owner(struct scsi_rods *rods, const char *name)
{
    list_for_each(&rods->owners, struct scsi_rod_owner, link, o) {
        if (strcmp(o->name, name) == 0) {
            return o;
        }
    }
    return NULL;
}

/* With the mutex, when all are given: of those who could lose one, who has the most. */
static struct scsi_rod_owner *richest(struct scsi_rods *rods)
{
    struct scsi_rod_owner *found = NULL;
    list_for_each(&rods->owners, struct scsi_rod_owner, link, o) {
        o->idle = 0;
    }
    list_for_each(&rods->all, struct scsi_rod, link, rod) {
        struct scsi_rod_owner *o = rod->owner;
        o->idle += is_idle(rod);
        found = o->idle > 0 && (!found || o->count > found->count) ? o : found;
    }
    return found;
}

/* With the mutex: one of his that is idle, pinned and killed, or NULL. */
static struct scsi_rod *take_idle(struct scsi_rods *rods, const struct scsi_rod_owner *owner)
{
    list_for_each(&rods->all, struct scsi_rod, link, rod) {
        if (rod->owner == owner && is_idle(rod)) {
            rod->pins++;
            kill_locked(rod, SCSI_ASC_TOKEN_REVOKED);
            return rod;
        }
    }
    return NULL;
}

/* With the mutex: one that makes room for another (R3), pinned and killed. */
static struct scsi_rod *victim(struct scsi_rods *rods, const struct scsi_rod_owner *own,
                               bool *ret_full)
{
    bool has_all = own->count > SCSI_RODS_OF_ONE_MAX;
    *ret_full = has_all || rods->count >= SCSI_RODS_MAX;
    if (!*ret_full) {
        return NULL;
    }
    const struct scsi_rod_owner *loser = has_all ? own : richest(rods);
    if (loser && loser->count <= own->count) {
        loser = own;
    }
    struct scsi_rod *idle = loser ? take_idle(rods, loser) : NULL;
    *ret_full = !idle;
    return idle;
}

/* With the mutex: takes over fresh, unless there is one of that name. */
static struct scsi_rod_owner *see_to_owner(struct scsi_rods *rods, struct scsi_rod_owner **fresh)
{
    struct scsi_rod_owner *owner = find_owner(rods, (*fresh)->name);
    if (!owner) {
        owner = take(*fresh);
        list_push_back(&rods->owners, &owner->link);
    }
    return owner;
}

/* Into the list; or -ENOSPC, -ENOMEM, and nobody has seen it. */
static int enter(struct scsi_rod *rod, const char *initiator) WAITS
{
    struct scsi_rods *rods = rod->rods;
    bool full;
    auto_free struct scsi_rod_owner *fresh = calloc(1, sizeof *fresh);
    if (!fresh) {
        return -ENOMEM;
    }
    snprintf(fresh->name, sizeof fresh->name, "%s", initiator);
    rt_mutex_lock(&rods->m);
    struct scsi_rod_owner *owner = see_to_owner(rods, &fresh);
    owner->count++;
    struct scsi_rod *old = victim(rods, owner, &full);
    if (!full) {
        rod->number = rods->numbers++;
        rod->pins = 2;
        rod->owner = owner;
        list_push_back(&rods->all, &rod->link);
        rods->count++;
    } else {
        owner_leave(owner);
    }
    rt_mutex_unlock(&rods->m);
    if (old) {
        scsi_rod_unpin(old);
    }
    return full ? -ENOSPC : 0;
}

int scsi_rod_begin(struct scsi_task *t, const struct scsi_rod_list *list, struct scsi_rod **ret_rod)
{
    struct scsi_rod *rod =
        calloc(1, sizeof *rod + list->range_count * sizeof(struct scsi_rod_piece));
    if (!rod) {
        return -ENOMEM;
    }
    rod->rods = t->nexus->target->host->rods;
    list_init(&rod->link);
    rod->timeout_ns = list->timeout_s * NS_PER_S;
    rod->unit = t->lu->uuid;
    uint64_t hold_bytes = plan(rod, list, t->lu->block_shift);
    int r = enter(rod, t->nexus->initiator);
    if (r < 0) {
        free(rod);
        return r;
    }
    /* From here on somebody may kill it, and have a pin while he does: R2. */
    r = see_to_tending(rod->rods);
    if (r >= 0) {
        r = dev_hold_create(rod->rods->registry, hold_bytes, &rod->hold);
    }
    if (r < 0) {
        scsi_rod_kill(rod, 0);
        scsi_rod_unpin(rod);
        return r;
    }
    token_make(rod, t);
    *ret_rod = rod;
    return 0;
}

int scsi_rod_fill(struct scsi_rod *rod, struct scsi_task *t, const struct scsi_rod_list *list,
                  bool (*may_go_on)(void *arg), void *arg)
{
    auto_free struct dev_piece *pieces = calloc(rod->piece_count, sizeof *pieces);
    if (!pieces) {
        return -ENOMEM;
    }
    uint32_t n = 0;
    for (uint32_t i = 0; i < list->range_count; i++) {
        if (list->ranges[i].blocks > 0) {
            pieces[n].src_off = list->ranges[i].lba << t->lu->block_shift;
            pieces[n].hold_off = rod->pieces[n].hold_off;
            pieces[n].len = rod->pieces[n].len;
            n++;
        }
    }
    return dev_hold_fill(&(struct dev_fill){.src = t->lu->dev,
                                            .hold = rod->hold,
                                            .pieces = pieces,
                                            .count = n,
                                            .may_go_on = may_go_on,
                                            .arg = arg});
}

void scsi_rod_publish(struct scsi_rod *rod)
{
    rt_mutex_lock(&rod->rods->m);
    rod->published = true;
    rod->used_ns = rt_now_ns();
    rt_mutex_unlock(&rod->rods->m);
}

/* In the same time for any two. */
static bool same_bytes(const uint8_t *a, const uint8_t *b, size_t len)
{
    unsigned differs = 0;
    for (size_t i = 0; i < len; i++) {
        differs |= (unsigned)(a[i] ^ b[i]);
    }
    return differs == 0;
}

static uint16_t why_gone(const struct scsi_rods *rods, uint64_t number, const uint8_t *secret)
{
    for (uint32_t i = 0; i < MIN_OF(rods->gone_count, GONE_MAX); i++) {
        const struct gone *g = &rods->gone[i];
        if (g->number == number && same_bytes(g->secret, secret, SECRET_BYTES)) {
            return g->asc;
        }
    }
    return SCSI_ASC_TOKEN_UNKNOWN;
}

static struct scsi_rod *by_number(struct scsi_rods *rods, uint64_t number)
{
    list_for_each(&rods->all, struct scsi_rod, link, rod) {
        if (rod->published && rod->number == number) {
            return rod;
        }
    }
    return NULL;
}

uint16_t scsi_rod_find(struct scsi_rods *rods, const uint8_t token[SCSI_ROD_TOKEN_BYTES],
                       struct scsi_rod **ret_rod)
{
    if (be32_load(token) != SCSI_ROD_SNAPSHOT) {
        return SCSI_ASC_TOKEN_TYPE;
    }
    if (be16_load(token + 6) != SCSI_ROD_TOKEN_LENGTH) {
        return SCSI_ASC_TOKEN_LENGTH;
    }
    uint16_t asc = 0;
    uint64_t number = be64_load(token + 8);
    rt_mutex_lock(&rods->m);
    struct scsi_rod *rod = by_number(rods, number);
    if (!rod) {
        asc = why_gone(rods, number, token + SECRET_AT);
    } else if (!same_bytes(rod->token, token, SCSI_ROD_TOKEN_BYTES)) {
        asc = SCSI_ASC_TOKEN_CORRUPT;
    } else if (is_expired(rod, rt_now_ns())) {
        asc = SCSI_ASC_TOKEN_EXPIRED;
    } else {
        rod->pins++;
        *ret_rod = rod;
    }
    rt_mutex_unlock(&rods->m);
    return asc;
}

bool scsi_rod_token(struct scsi_rods *rods, uint64_t number,
                    uint8_t ret_token[SCSI_ROD_TOKEN_BYTES])
{
    rt_mutex_lock(&rods->m);
    const struct scsi_rod *rod = by_number(rods, number);
    if (rod) {
        memcpy(ret_token, rod->token, SCSI_ROD_TOKEN_BYTES);
    }
    rt_mutex_unlock(&rods->m);
    return rod != NULL;
}

size_t scsi_rods_report(struct scsi_rods *rods, const struct uuid *unit,
                        uint8_t (*ret)[SCSI_ROD_MANAGEMENT_BYTES], size_t max)
{
    size_t n = 0;
    rt_mutex_lock(&rods->m);
    list_for_each(&rods->all, struct scsi_rod, link, rod) {
        if (rod->published && uuid_equal(&rod->unit, unit) && n < max) {
            memcpy(ret[n++], rod->token, SCSI_ROD_MANAGEMENT_BYTES);
        }
    }
    rt_mutex_unlock(&rods->m);
    return n;
}
