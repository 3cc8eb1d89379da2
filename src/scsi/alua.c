/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Asymmetric logical unit access (SPC-4 5.16): each portal group is a target port group with one
 * target port, whose relative identifier is the group's tag. The states lie with dev (dev/paths.h);
 * a unit has a copy of its own, and each view that of the port it came through.
 *
 * INVARIANTS, under lu->m
 *   A1. lu->paths is what dev said at lu->path_generation, and that never goes back.
 *   A2. itl->access of every view is what lu->paths says.
 *   A3. Who is changing states is in lu->wishes from before dev hears of it until the unit has
 *       looked: whoever makes it look meanwhile knows whose change that is.
 * So whoever changes states has every unit look again, in whatever order they come there.
 *
 * A change reaches commands that begin after it; those which are under way end as they would have.
 */
#include "base/endian.h"
#include "base/msg.h"
#include "scsi/command.h"
#include "scsi/scsi_priv.h"
#include "scsi/sense.h"

#include <string.h>

#define HEADER_LEN 4u
#define HEADER_LEN_EXTENDED 8u
#define GROUP_LEN 8u
#define PORT_LEN 4u
#define LIST_MAX (HEADER_LEN + 4u * DEV_TAGS_MAX)

/* Table 307: all but LBD_SUP */
#define STATES_SUPPORTED 0xcf

static const struct dev_path *find_path(const struct scsi_lu *lu, uint16_t tag)
{
    for (size_t i = 0; i < lu->path_count; i++) {
        if (lu->paths[i].tag == tag) {
            return &lu->paths[i];
        }
    }
    return NULL;
}

/* Under lu->m. */
static void judge(struct scsi_itl *itl)
{
    const struct dev_path *path = find_path(itl->lu, itl->nexus->opt.tpgt);
    atomic_store_explicit(&itl->access, path ? path->state : DEV_PATH_OPTIMIZED,
                          memory_order_release);
}

static bool same_path(const struct dev_path *a, const struct dev_path *b)
{
    return a->tag == b->tag && a->state == b->state && a->preferred == b->preferred;
}

/* What SET TARGET PORT GROUPS wants of one unit. */
struct wish {
    struct list link;               /* of lu->wishes */
    const struct scsi_nexus *nexus; /* whose it is */
    _Atomic bool made;              /* something was to be changed */
    struct uuid device;
    size_t count;
    struct dev_path paths[DEV_TAGS_MAX];
};

/* Under lu->m: the states would be those if the wish were all that had changed. */
static bool explains(const struct wish *w, const struct scsi_lu *lu, const struct dev_path *paths,
                     size_t count)
{
    bool same = count == lu->path_count;
    for (size_t i = 0; i < count && same; i++) {
        struct dev_path expected = lu->paths[i];
        for (size_t k = 0; k < w->count; k++) {
            expected.state = w->paths[k].tag == expected.tag ? w->paths[k].state : expected.state;
        }
        same = same_path(&expected, &paths[i]);
    }
    return same;
}

/* Under lu->m: the nexus whose wish is all that has changed, or NULL. */
static const struct scsi_nexus *find_maker(const struct scsi_lu *lu, const struct dev_path *paths,
                                           size_t count)
{
    list_for_each(&lu->wishes, struct wish, link, w) {
        if (atomic_load(&w->made) && explains(w, lu, paths, count)) {
            return w->nexus;
        }
    }
    return NULL;
}

/*
 * Under lu->m: takes over what dev said, and the nexuses are told if it is news. Not to whom it was
 * just carried out for; but somebody else may have changed something at the same time.
 */
static void adopt(struct scsi_lu *lu, const struct dev_path *paths, size_t count)
{
    bool first = lu->path_count == 0;
    bool changed = count != lu->path_count;
    const struct scsi_nexus *except = find_maker(lu, paths, count);
    for (size_t i = 0; i < count; i++) {
        changed = changed || !same_path(&paths[i], &lu->paths[i]);
        lu->paths[i] = paths[i];
    }
    lu->path_count = count;
    list_for_each(&lu->views, struct scsi_itl, lu_link, itl) {
        judge(itl);
        if (changed && !first && itl->nexus != except) {
            scsi_attention_add(itl, SCSI_UA_ACCESS_STATE_CHANGED);
        }
    }
}

static void look(struct scsi_lu *lu, struct scsi_itl *fresh)
{
    struct dev_path paths[DEV_TAGS_MAX];
    uint64_t generation;
    size_t count =
        dev_path_list(lu->target->host->registry, lu->target->iqn, &lu->uuid, paths, &generation);
    rt_mutex_lock(&lu->m);
    if (count > 0 && (lu->path_count == 0 || generation > lu->path_generation)) {
        lu->path_generation = generation;
        adopt(lu, paths, count);
    }
    if (fresh) {
        judge(fresh);
        list_push_back(&lu->views, &fresh->lu_link);
    }
    rt_mutex_unlock(&lu->m);
}

void scsi_alua_attach(struct scsi_itl *itl)
{
    look(itl->lu, itl);
}

void scsi_alua_look(struct scsi_lu *lu)
{
    look(lu, NULL);
}

size_t scsi_alua_paths(struct scsi_lu *lu, struct dev_path ret_paths[DEV_TAGS_MAX])
{
    rt_mutex_lock(&lu->m);
    size_t count = lu->path_count;
    memcpy(ret_paths, lu->paths, count * sizeof *ret_paths);
    rt_mutex_unlock(&lu->m);
    return count;
}

bool scsi_alua_sense(unsigned access, struct scsi_sense *ret_sense)
{
    uint16_t asc = SCSI_ASC_NONE;
    switch ((enum dev_path_state)access) {
    case DEV_PATH_OPTIMIZED:
    case DEV_PATH_NON_OPTIMIZED:
        return false;
    case DEV_PATH_STANDBY:
        asc = SCSI_ASC_PORT_IN_STANDBY;
        break;
    case DEV_PATH_UNAVAILABLE:
        asc = SCSI_ASC_PORT_UNAVAILABLE;
        break;
    case DEV_PATH_OFFLINE:
        asc = SCSI_ASC_OFFLINE;
        break;
    case DEV_PATH_TRANSITIONING:
        asc = SCSI_ASC_ACCESS_STATE_TRANSITION;
        break;
    }
    *ret_sense = (struct scsi_sense){.key = SCSI_KEY_NOT_READY, .asc = asc};
    return true;
}

bool scsi_alua_lets(unsigned access, const struct scsi_command *c)
{
    switch ((enum dev_path_state)access) {
    case DEV_PATH_OPTIMIZED:
    case DEV_PATH_NON_OPTIMIZED:
        return true;
    case DEV_PATH_STANDBY:
        return c->states >= SCSI_STATES_STANDBY;
    case DEV_PATH_UNAVAILABLE:
        return c->states >= SCSI_STATES_UNAVAILABLE;
    case DEV_PATH_OFFLINE:
    case DEV_PATH_TRANSITIONING:
        break;
    }
    return c->states >= SCSI_STATES_ALL;
}

void scsi_report_groups_parse(struct scsi_task *t)
{
    if (t->cdb[1] >> 5 > 1) {
        scsi_fail_cdb(t, 1, 7); /* PARAMETER DATA FORMAT */
    }
}

void scsi_report_groups_run(struct scsi_task *t)
{
    struct dev_path paths[DEV_TAGS_MAX];
    size_t count = scsi_alua_paths(t->lu, paths);
    bool extended = t->cdb[1] >> 5 == 1;
    size_t head = extended ? HEADER_LEN_EXTENDED : HEADER_LEN;
    size_t len = head + count * (GROUP_LEN + PORT_LEN);
    struct rt_buf *b = scsi_reply_begin(t, len);
    if (!b) {
        return;
    }
    be32_store(b->data, (uint32_t)(len - HEADER_LEN));
    b->data[4] = extended ? 0x10 : 0; /* no IMPLICIT TRANSITION TIME: what takes long is told */
    for (size_t i = 0; i < count; i++) {
        uint8_t *p = b->data + head + i * (GROUP_LEN + PORT_LEN);
        p[0] = (uint8_t)((paths[i].preferred ? 0x80 : 0) | paths[i].state);
        p[1] = STATES_SUPPORTED;
        be16_store(p + 2, paths[i].tag);
        p[5] = paths[i].cause;
        p[7] = 1; /* TARGET PORT COUNT */
        be16_store(p + GROUP_LEN + 2, paths[i].tag);
    }
    scsi_reply_end(t, b, len);
}

void scsi_set_groups_parse(struct scsi_task *t)
{
    bool whole = t->data_len >= HEADER_LEN && (t->data_len - HEADER_LEN) % 4 == 0;
    if (t->data_len > LIST_MAX || (t->data_len > 0 && !whole)) {
        scsi_fail(t, SCSI_KEY_ILLEGAL_REQUEST, SCSI_ASC_PARAMETER_LIST_LENGTH);
    }
}

/* Table 331: true when there is such a group, and the state is one to be asked for. */
static bool read_one(struct scsi_task *t, const uint8_t *p, unsigned at, struct wish *w)
{
    struct dev_path paths[DEV_TAGS_MAX];
    size_t count = scsi_alua_paths(t->lu, paths);
    uint8_t state = p[0] & 0x0f;
    uint16_t tag = be16_load(p + 2);
    bool known = false;
    for (size_t i = 0; i < count; i++) {
        known = known || paths[i].tag == tag;
    }
    for (size_t i = 0; i < w->count; i++) {
        known = known && w->paths[i].tag != tag; /* once */
    }
    if (!dev_path_is_state(state) || state == DEV_PATH_TRANSITIONING) {
        scsi_fail_parameter(t, at, 3);
        return false;
    }
    if (!known) {
        scsi_fail_parameter(t, at + 2, 7);
        return false;
    }
    w->paths[w->count++] = (struct dev_path){.tag = tag, .state = state};
    return true;
}

static bool read_wish(struct scsi_task *t, struct wish *w)
{
    uint8_t list[LIST_MAX];
    size_t len = scsi_parameters(t, list, sizeof list);
    if (len < t->data_len) {
        scsi_fail(t, SCSI_KEY_ILLEGAL_REQUEST, SCSI_ASC_PARAMETER_LIST_LENGTH);
        return false;
    }
    for (unsigned at = HEADER_LEN; at < len; at += 4) {
        if (!read_one(t, list + at, at, w)) {
            return false;
        }
    }
    return true;
}

/* -EALREADY: there is nothing to change. Whoever looks from now on finds the wish made. */
static int edit_paths(struct dev_paths *draft, void *arg)
{
    struct wish *w = arg;
    int r = -EALREADY;
    for (size_t i = 0; i < w->count; i++) {
        struct dev_path path = dev_paths_state(draft, &w->device, w->paths[i].tag);
        if (path.state != w->paths[i].state) {
            path.state = w->paths[i].state;
            path.cause = DEV_PATH_BY_COMMAND;
            r = dev_paths_set_lun_state(draft, &w->device, &path);
            if (r < 0) {
                return r;
            }
        }
    }
    atomic_store(&w->made, r >= 0);
    return r;
}

/* Under the wish, the states are changed, and the unit has looked. */
static int carry_out(struct scsi_lu *lu, struct wish *w) WAITS
{
    struct scsi_target *target = w->nexus->target;
    rt_mutex_lock(&lu->m);
    list_push_back(&lu->wishes, &w->link);
    rt_mutex_unlock(&lu->m);
    int r = dev_paths_change(target->host->registry, target->iqn, edit_paths, w);
    look(lu, NULL); /* also when the flush has failed; or somebody else has just made it so */
    rt_mutex_lock(&lu->m);
    list_remove(&w->link);
    rt_mutex_unlock(&lu->m);
    return r;
}

void scsi_set_groups_run(struct scsi_task *t)
{
    struct scsi_target *target = t->nexus->target;
    struct wish w = {.nexus = t->nexus, .device = t->lu->uuid};
    if (!read_wish(t, &w) || w.count == 0) {
        return;
    }
    int r = carry_out(t->lu, &w);
    if (r >= 0) {
        msg_info_paced("scsi", "LUN %u of %s: %s has set access states", t->lu->lun, target->iqn,
                       t->nexus->initiator);
    }
    if (r == -ENOMEM || r == -ECANCELED) {
        scsi_fail_errno(t, r);
    } else if (r < 0 && r != -EALREADY) {
        scsi_fail(t, SCSI_KEY_HARDWARE_ERROR, SCSI_ASC_SET_PORT_GROUPS_FAILED);
    }
}
