/* SPDX-License-Identifier: Apache-2.0 */
/* What each service action of PERSISTENT RESERVE OUT does (SPC-4 5.13.7 to 5.13.11, 6.16). */
#include "scsi/command.h"
#include "scsi/pr.h"
#include <stdlib.h>
#include <string.h>

void scsi_pr_state_free(struct scsi_pr_state *s)
{
    vec_free(&s->registrants);
}

void scsi_pr_outcome_free(struct scsi_pr_outcome *o)
{
    vec_free(&o->notices);
}

int scsi_pr_state_copy(const struct scsi_pr_state *s, struct scsi_pr_state *ret_copy)
{
    struct scsi_pr_state copy = {.generation = s->generation, .aptpl = s->aptpl, .type = s->type};
    int r = vec_reserve(&copy.registrants, s->registrants.len);
    if (r < 0) {
        return r;
    }
    copy.registrants.len = s->registrants.len;
    for (size_t i = 0; i < s->registrants.len; i++) {
        copy.registrants.at[i] = s->registrants.at[i];
    }
    *ret_copy = copy;
    return 0;
}

static bool same(const struct scsi_pr_nexus *a, const struct scsi_pr_nexus *b)
{
    return a->port == b->port && strcmp(a->initiator, b->initiator) == 0;
}

struct scsi_registrant *scsi_pr_find(const struct scsi_pr_state *s, const struct scsi_pr_nexus *n)
{
    for (size_t i = 0; i < s->registrants.len; i++) {
        if (same(&s->registrants.at[i].nexus, n)) {
            return &s->registrants.at[i];
        }
    }
    return NULL;
}

bool scsi_pr_is_type(unsigned type)
{
    return type == SCSI_PR_WRITE_EXCLUSIVE || type == SCSI_PR_EXCLUSIVE_ACCESS ||
           (type >= SCSI_PR_WRITE_EXCLUSIVE_RO && type <= SCSI_PR_EXCLUSIVE_ACCESS_AR);
}

static bool is_registrants_only(unsigned type)
{
    return type == SCSI_PR_WRITE_EXCLUSIVE_RO || type == SCSI_PR_EXCLUSIVE_ACCESS_RO;
}

static bool is_all_registrants(unsigned type)
{
    return type == SCSI_PR_WRITE_EXCLUSIVE_AR || type == SCSI_PR_EXCLUSIVE_ACCESS_AR;
}

bool scsi_pr_of_registrants(unsigned type)
{
    return is_registrants_only(type) || is_all_registrants(type);
}

bool scsi_pr_holds(const struct scsi_pr_state *s, const struct scsi_registrant *reg)
{
    return is_all_registrants(s->type) || (s->type != SCSI_PR_NONE && reg->holder);
}

uint32_t scsi_pr_refusals(const struct scsi_pr_state *s, const struct scsi_pr_nexus *n)
{
    const struct scsi_registrant *reg = s->type != SCSI_PR_NONE ? scsi_pr_find(s, n) : NULL;
    if (s->type == SCSI_PR_NONE ||
        (reg && (scsi_pr_of_registrants(s->type) || scsi_pr_holds(s, reg)))) {
        return 0;
    }
    bool reads_too = s->type == SCSI_PR_EXCLUSIVE_ACCESS ||
                     s->type == SCSI_PR_EXCLUSIVE_ACCESS_RO ||
                     s->type == SCSI_PR_EXCLUSIVE_ACCESS_AR;
    return 1u << SCSI_ACCESS_WRITE | 1u << SCSI_ACCESS_START_STOP |
           (reads_too ? 1u << SCSI_ACCESS_READ : 0);
}

static int notice(struct scsi_pr_outcome *o, const struct scsi_pr_nexus *n, enum scsi_pr_news news,
                  bool abort)
{
    return vec_push(&o->notices,
                    ((struct scsi_pr_notice){.nexus = *n, .news = news, .abort = abort}));
}

/* Everyone registered but the sender. */
static int notice_others(const struct scsi_pr_state *s, const struct scsi_pr_request *q,
                         enum scsi_pr_news news, struct scsi_pr_outcome *o)
{
    int r = 0;
    for (size_t i = 0; i < s->registrants.len && r >= 0; i++) {
        const struct scsi_pr_nexus *n = &s->registrants.at[i].nexus;
        r = same(n, &q->self) ? 0 : notice(o, n, news, false);
    }
    return r;
}

static void remove_at(struct scsi_pr_state *s, size_t i)
{
    s->registrants.at[i] = s->registrants.at[--s->registrants.len];
}

static void drop_reservation(struct scsi_pr_state *s)
{
    s->type = SCSI_PR_NONE;
    for (size_t i = 0; i < s->registrants.len; i++) {
        s->registrants.at[i].holder = false;
    }
}

/* 5.13.11.2.3. A reservation of all registrants goes with the last of them. */
static int unregister(struct scsi_pr_state *s, const struct scsi_pr_request *q,
                      struct scsi_registrant *reg, struct scsi_pr_outcome *o)
{
    bool released = is_all_registrants(s->type) ? s->registrants.len == 1 : reg->holder;
    int r = 0;
    if (released && is_registrants_only(s->type)) {
        r = notice_others(s, q, SCSI_PR_RESERVATIONS_RELEASED, o);
    }
    if (r < 0) {
        return r;
    }
    if (released) {
        drop_reservation(s);
    }
    remove_at(s, (size_t)(reg - s->registrants.at));
    return 0;
}

/* Makes a registration, or gives it another key. */
static enum scsi_pr_verdict put(struct scsi_pr_state *s, const char *initiator, uint16_t port,
                                uint64_t key)
{
    struct scsi_registrant fresh = {.nexus = {.port = port}, .key = key};
    memcpy(fresh.nexus.initiator, initiator, strlen(initiator) + 1);
    struct scsi_registrant *reg = scsi_pr_find(s, &fresh.nexus);
    if (reg) {
        reg->key = key;
        return SCSI_PR_DONE;
    }
    if (s->registrants.len >= SCSI_PR_REGISTRANTS_MAX) {
        return SCSI_PR_NO_RESOURCES;
    }
    return vec_push(&s->registrants, fresh) < 0 ? SCSI_PR_NO_MEMORY : SCSI_PR_DONE;
}

/* Through the port it came by, or through all. */
static enum scsi_pr_verdict put_ports(struct scsi_pr_state *s, const struct scsi_pr_request *q,
                                      const char *initiator)
{
    if (!q->all_tg_pt) {
        return put(s, initiator, q->self.port, q->action_key);
    }
    enum scsi_pr_verdict v = SCSI_PR_DONE;
    for (size_t i = 0; i < q->port_count && v == SCSI_PR_DONE; i++) {
        v = put(s, initiator, q->ports[i], q->action_key);
    }
    return v;
}

/* Table 67, note b: those that are specified must not be registered, the sender's own name may
 * be there. */
static bool others_are_new(const struct scsi_pr_state *s, const struct scsi_pr_request *q)
{
    for (size_t i = 0; i < q->others.len; i++) {
        for (size_t k = 0; k < q->port_count; k++) {
            struct scsi_pr_nexus n = q->others.at[i];
            n.port = q->ports[k];
            if ((q->all_tg_pt || n.port == q->self.port) && scsi_pr_find(s, &n)) {
                return false;
            }
        }
    }
    return true;
}

static enum scsi_pr_verdict set_key(struct scsi_pr_state *s, const struct scsi_pr_request *q,
                                    struct scsi_registrant *reg, struct scsi_pr_outcome *o)
{
    if (q->action_key == 0) {
        return unregister(s, q, reg, o) < 0 ? SCSI_PR_NO_MEMORY : SCSI_PR_DONE;
    }
    if (q->spec_i_pt && !others_are_new(s, q)) {
        return SCSI_PR_BAD_LIST;
    }
    enum scsi_pr_verdict v = put_ports(s, q, q->self.initiator);
    for (size_t i = 0; i < q->others.len && v == SCSI_PR_DONE; i++) {
        v = put_ports(s, q, q->others.at[i].initiator);
    }
    return v;
}

/* 5.13.7, tables 67 and 68. */
static enum scsi_pr_verdict do_register(struct scsi_pr_state *s, const struct scsi_pr_request *q,
                                        struct scsi_pr_outcome *o)
{
    struct scsi_registrant *reg = scsi_pr_find(s, &q->self);
    bool ignores = q->action == SCSI_PR_REGISTER_IGNORE;
    if (ignores && q->spec_i_pt) {
        return SCSI_PR_BAD_LIST;
    }
    if (!ignores && q->key != (reg ? reg->key : 0)) {
        return SCSI_PR_CONFLICT;
    }
    if (!reg && q->action_key == 0) {
        return SCSI_PR_DONE;
    }
    if (reg && q->spec_i_pt) {
        return SCSI_PR_BAD_LIST;
    }
    enum scsi_pr_verdict v = set_key(s, q, reg, o);
    s->aptpl = q->aptpl;
    s->generation++;
    return v;
}

static enum scsi_pr_verdict check_new(const struct scsi_pr_request *q)
{
    return q->scope != 0 || !scsi_pr_is_type(q->type) ? SCSI_PR_BAD_CDB : SCSI_PR_DONE;
}

/* 5.13.9. */
static enum scsi_pr_verdict do_reserve(struct scsi_pr_state *s, const struct scsi_pr_request *q,
                                       struct scsi_registrant *reg)
{
    enum scsi_pr_verdict v = check_new(q);
    if (v != SCSI_PR_DONE) {
        return v;
    }
    if (s->type != SCSI_PR_NONE) {
        return scsi_pr_holds(s, reg) && s->type == q->type ? SCSI_PR_DONE : SCSI_PR_CONFLICT;
    }
    s->type = q->type;
    reg->holder = !is_all_registrants(q->type);
    return SCSI_PR_DONE;
}

/* 5.13.11.2.2. */
static enum scsi_pr_verdict do_release(struct scsi_pr_state *s, const struct scsi_pr_request *q,
                                       struct scsi_registrant *reg, struct scsi_pr_outcome *o)
{
    if (!scsi_pr_holds(s, reg)) {
        return SCSI_PR_DONE;
    }
    if (q->scope != 0 || q->type != s->type) {
        return SCSI_PR_BAD_RELEASE;
    }
    if (scsi_pr_of_registrants(s->type) &&
        notice_others(s, q, SCSI_PR_RESERVATIONS_RELEASED, o) < 0) {
        return SCSI_PR_NO_MEMORY;
    }
    drop_reservation(s);
    return SCSI_PR_DONE;
}

/* 5.13.11.2.7. */
static enum scsi_pr_verdict do_clear(struct scsi_pr_state *s, const struct scsi_pr_request *q,
                                     struct scsi_pr_outcome *o)
{
    if (notice_others(s, q, SCSI_PR_RESERVATIONS_PREEMPTED, o) < 0) {
        return SCSI_PR_NO_MEMORY;
    }
    drop_reservation(s);
    s->registrants.len = 0;
    s->generation++;
    return SCSI_PR_DONE;
}

/* Takes the registrations of that key away (0: all), with or without the sender's; how many there
 * were, or -ENOMEM. */
static int evict(struct scsi_pr_state *s, const struct scsi_pr_request *q, bool keeps_self,
                 struct scsi_pr_outcome *o)
{
    int count = 0;
    bool aborts = q->action == SCSI_PR_PREEMPT_ABORT;
    for (size_t i = s->registrants.len; i-- > 0;) {
        struct scsi_registrant *reg = &s->registrants.at[i];
        if (q->action_key != 0 && reg->key != q->action_key) {
            continue;
        }
        bool self = same(&reg->nexus, &q->self);
        enum scsi_pr_news news = self ? SCSI_PR_NEWS_NONE : SCSI_PR_REGISTRATIONS_PREEMPTED;
        if (notice(o, &reg->nexus, news, aborts) < 0) {
            return -ENOMEM;
        }
        count++;
        if (!self || !keeps_self) {
            remove_at(s, i);
        }
    }
    return count;
}

/* 5.13.11.2.4.3: another reservation comes in the place of the one that is there. */
static enum scsi_pr_verdict replace(struct scsi_pr_state *s, const struct scsi_pr_request *q,
                                    struct scsi_pr_outcome *o)
{
    enum scsi_pr_verdict v = check_new(q);
    if (v != SCSI_PR_DONE) {
        return v;
    }
    bool changes = s->type != q->type;
    if (evict(s, q, true, o) < 0) {
        return SCSI_PR_NO_MEMORY;
    }
    drop_reservation(s);
    s->type = q->type;
    scsi_pr_find(s, &q->self)->holder = !is_all_registrants(q->type);
    if (changes && notice_others(s, q, SCSI_PR_RESERVATIONS_RELEASED, o) < 0) {
        return SCSI_PR_NO_MEMORY;
    }
    s->generation++;
    return SCSI_PR_DONE;
}

/* 5.13.11.2.5. Who holds the reservation alone has another key. */
static enum scsi_pr_verdict remove_keys(struct scsi_pr_state *s, const struct scsi_pr_request *q,
                                        struct scsi_pr_outcome *o)
{
    int count = evict(s, q, false, o);
    if (count <= 0) {
        return count < 0 ? SCSI_PR_NO_MEMORY : SCSI_PR_CONFLICT;
    }
    if (s->registrants.len == 0) {
        drop_reservation(s);
    }
    s->generation++;
    return SCSI_PR_DONE;
}

/* Table 72. */
static enum scsi_pr_verdict do_preempt(struct scsi_pr_state *s, const struct scsi_pr_request *q,
                                       struct scsi_pr_outcome *o)
{
    if (q->action_key == 0) {
        return is_all_registrants(s->type) ? replace(s, q, o) : SCSI_PR_BAD_LIST;
    }
    bool of_holder = false;
    for (size_t i = 0; i < s->registrants.len; i++) {
        const struct scsi_registrant *reg = &s->registrants.at[i];
        of_holder = of_holder || (reg->holder && reg->key == q->action_key);
    }
    return of_holder ? replace(s, q, o) : remove_keys(s, q, o);
}

/* The initiator port without target port. */
static bool same_initiator(const struct scsi_pr_nexus *a, const struct scsi_pr_nexus *b)
{
    return strcmp(a->initiator, b->initiator) == 0;
}

/* 5.13.8, table 70. */
static enum scsi_pr_verdict do_move(struct scsi_pr_state *s, const struct scsi_pr_request *q,
                                    struct scsi_registrant *reg)
{
    if (s->type == SCSI_PR_NONE) {
        return SCSI_PR_BAD_CDB;
    }
    if (is_all_registrants(s->type) || !reg->holder) {
        return SCSI_PR_CONFLICT;
    }
    if (q->action_key == 0 || q->others.len != 1 || same_initiator(&q->others.at[0], &q->self)) {
        return SCSI_PR_BAD_LIST;
    }
    const struct scsi_pr_nexus *to = &q->others.at[0];
    enum scsi_pr_verdict v = put(s, to->initiator, to->port, q->action_key);
    if (v != SCSI_PR_DONE) {
        return v;
    }
    reg = scsi_pr_find(s, &q->self); /* the array may have moved */
    reg->holder = false;
    scsi_pr_find(s, to)->holder = true;
    if (q->unreg) {
        remove_at(s, (size_t)(reg - s->registrants.at));
    }
    s->aptpl = q->aptpl;
    s->generation++;
    return SCSI_PR_DONE;
}

enum scsi_pr_verdict scsi_pr_apply(struct scsi_pr_state *s, const struct scsi_pr_request *q,
                                   struct scsi_pr_outcome *ret_outcome)
{
    if (q->action == SCSI_PR_REGISTER || q->action == SCSI_PR_REGISTER_IGNORE) {
        return do_register(s, q, ret_outcome);
    }
    if (q->spec_i_pt) {
        return SCSI_PR_BAD_LIST;
    }
    struct scsi_registrant *reg = scsi_pr_find(s, &q->self);
    if (!reg || reg->key != q->key) {
        return SCSI_PR_CONFLICT;
    }
    switch (q->action) {
    case SCSI_PR_RESERVE:
        return do_reserve(s, q, reg);
    case SCSI_PR_RELEASE:
        return do_release(s, q, reg, ret_outcome);
    case SCSI_PR_CLEAR:
        return do_clear(s, q, ret_outcome);
    case SCSI_PR_PREEMPT:
    case SCSI_PR_PREEMPT_ABORT:
        return do_preempt(s, q, ret_outcome);
    case SCSI_PR_REGISTER_MOVE:
        return do_move(s, q, reg);
    case SCSI_PR_REGISTER:
    case SCSI_PR_REGISTER_IGNORE:
    default:
        return SCSI_PR_BAD_CDB;
    }
}
