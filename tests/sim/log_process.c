/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One simulated process: opens the volume as the server does (I4), writes from several fibers,
 * flushes, takes checkpoints, deletes what is no longer needed. Its state is the list of payloads,
 * in order, that an index would hold.
 */
#include "base/assert.h"
#include "base/err.h"
#include "base/time.h"
#include "log_world.h"
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define FLUSHERS_MAX 12
#define SST_BYTES_MAX (WORLD_PAYLOADS * 4)

struct proc {
    struct world *w;
    unsigned id;
    uint32_t instance;
    struct obj_store *store;
    uint64_t n; /* number of our newest manifest */
    struct world_manifest man;
    struct uuid open_id;
    VEC(uint32_t) state; /* payloads, in order; of the prefix that was read or applied */
    size_t in_ssts;      /* of them */
    uint64_t next_apply;
    uint32_t of_seq[WORLD_SLOTS]; /* payload + 1 */
    struct log *l;
    unsigned flushers;
    uint32_t sst_counter;
    uint64_t gc_from;
    uint64_t first_seq;
};

static bool chance(struct proc *p, unsigned percent)
{
    (void)p;
    return rt_random() % 100 < percent;
}

static int put_whole(struct proc *p, const char *name, const void *bytes, size_t len)
{
    struct rt_chain body = {0};
    int r = rt_chain_add(&body, NULL, bytes, (uint32_t)len);
    if (r == 0) {
        r = obj_put(p->store, OBJ_INDEX, name, &body);
    }
    rt_chain_free(&body);
    if (r != -EEXIST) {
        return r;
    }
    /* Ours, or a rival's? */
    struct rt_buf *b;
    size_t there;
    r = obj_get_all(p->store, OBJ_INDEX, name, SST_BYTES_MAX, &b, &there);
    if (r < 0) {
        return r;
    }
    bool ours = there == len && (len == 0 || memcmp(b->data, bytes, len) == 0);
    rt_buf_unref(b);
    return ours ? 0 : -EEXIST;
}

/* The number of the newest manifest. */
static int newest(struct proc *p, uint64_t *ret_n)
{
    struct obj_names names = {0};
    int r = obj_list(p->store, OBJ_INDEX, "manifest/", "", 1, &names);
    if (r < 0) {
        return r;
    }
    uint64_t inverted = 0;
    ASSERT(names.names.len == 1 &&
           sscanf(names.names.at[0], "manifest/%16" SCNx64, &inverted) == 1);
    obj_names_free(&names);
    *ret_n = ~inverted;
    return 0;
}

static int manifest_get(struct proc *p, uint64_t n, struct world_manifest *ret_m)
{
    char name[OBJ_NAME_SIZE];
    world_manifest_name(n, name);
    ssize_t len = obj_get(p->store, OBJ_INDEX, name, 0, ret_m, sizeof *ret_m);
    if (len < 0) {
        return (int)len;
    }
    ASSERT(len == sizeof *ret_m);
    return 0;
}

/* Takes the next epoch: 0, or an error after which the opener starts anew. */
static int claim(struct proc *p)
{
    uint64_t n;
    struct world_manifest m;
    int r = newest(p, &n);
    if (r == 0) {
        r = manifest_get(p, n, &m);
    }
    if (r < 0) {
        return r;
    }
    m.epoch++;
    m.by = rt_random();
    m.is_first = 1;
    char name[OBJ_NAME_SIZE];
    world_manifest_name(n + 1, name);
    r = put_whole(p, name, &m, sizeof m);
    if (r == 0) {
        p->n = n + 1;
        p->man = m;
    }
    return r;
}

static int ssts_read(struct proc *p)
{
    p->state.len = 0;
    for (uint64_t i = 0; i < p->man.sst_count; i++) {
        char name[OBJ_NAME_SIZE];
        world_sst_name(p->man.ssts[i], name);
        struct rt_buf *b;
        size_t len;
        int r = obj_get_all(p->store, OBJ_INDEX, name, SST_BYTES_MAX, &b, &len);
        if (r < 0) {
            return r;
        }
        for (size_t at = 0; at + 4 <= len && r == 0; at += 4) {
            uint32_t payload;
            memcpy(&payload, b->data + at, 4);
            r = vec_push(&p->state, payload);
        }
        rt_buf_unref(b);
        if (r < 0) {
            return r;
        }
    }
    p->in_ssts = p->state.len;
    return 0;
}

static int apply(void *arg, const struct log_replayed *b)
{
    struct proc *p = arg;
    uint32_t payload;
    ASSERT(b->records_len == sizeof payload);
    memcpy(&payload, b->records, sizeof payload);
    if (chance(p, 20)) {
        rt_yield();
    }
    return vec_push(&p->state, payload);
}

static int recheck(struct proc *p)
{
    uint64_t n;
    int r = newest(p, &n);
    if (r < 0) {
        return r;
    }
    return n == p->n ? 0 : ERR_LOST_OPEN_RACE;
}

static int open_log(struct proc *p, struct log_open_result *ret_o)
{
    rt_random_bytes(&p->open_id, sizeof p->open_id);
    struct log_open_options opt = {
        .store = p->store,
        .volume = world_volume,
        .keys = world_keys,
        .epoch = p->man.epoch,
        .open_id = p->open_id,
        .replay_from = p->man.replay_from,
        .log_epoch = p->man.log_epoch,
    };
    int r = log_open(&opt, apply, p, ret_o);
    if (r == ERR_LOG_GAP || r == ERR_LOG_ORDER || r == ERR_CORRUPT_SEGMENT) {
        int overtaken = recheck(p);
        return overtaken < 0 ? overtaken : r;
    }
    return r;
}

static int open_volume(struct proc *p, struct log_open_result *ret_o)
{
    int r = claim(p);
    if (r == 0 && p->w->rules.recheck_before_fence) {
        r = recheck(p);
    }
    if (r == 0) {
        r = ssts_read(p);
    }
    if (r == 0) {
        r = open_log(p, ret_o);
    }
    if (r == 0 && !p->w->rules.no_recheck && !p->w->rules.recheck_before_fence) {
        r = recheck(p);
    }
    return r;
}

/* Fenced: that must be by a rival with a later epoch, or by a clone. */
static void check_rightly_fenced(struct proc *p)
{
    const struct world_instance *in = &p->w->instances[p->instance];
    struct obj_names names = {0};
    uint64_t inverted = 0;
    struct world_manifest m = {0};
    int r = obj_list(p->w->spy, OBJ_INDEX, "manifest/", "", 1, &names);
    ASSERT(r == 0 && names.names.len == 1);
    ASSERT(sscanf(names.names.at[0], "manifest/%16" SCNx64, &inverted) == 1);
    ssize_t len = obj_get(p->w->spy, OBJ_INDEX, names.names.at[0], 0, &m, sizeof m);
    obj_names_free(&names);
    if (len == sizeof m && m.epoch <= in->epoch && !in->is_clone) {
        world_violation(p->w, "I3", "the rightful writer of epoch %" PRIu64 " was fenced",
                        in->epoch);
    }
}

static void flusher(void *arg)
{
    struct proc *p = arg;
    struct world *w = p->w;
    uint64_t seq;
    int r = log_reserve(p->l, &seq);
    if (r == 0) {
        if (w->payload_count == WORLD_PAYLOADS || seq >= WORLD_SLOTS) {
            world_violation(w, "size", "the simulator has too few payloads");
        }
        uint32_t payload = w->payload_count++;
        w->payloads[payload] = (struct world_payload){p->instance, seq, false};
        p->of_seq[seq] = payload + 1;
        struct log_batch b = {
            .number = seq, .records = (const uint8_t *)&payload, .records_len = sizeof payload};
        r = log_commit(p->l, seq, &b);
        if (r == 0) {
            r = log_wait_stored(p->l, seq, RT_FOREVER);
        }
        if (r == 0) {
            w->payloads[payload].acked = true;
            w->acked++;
        }
    }
    if (r == ERR_FENCED) {
        check_rightly_fenced(p);
    }
    p->flushers--;
}

/* Moves what is in the stored prefix into the state. */
static void take_stored(struct proc *p)
{
    uint64_t through = log_stored_through(p->l);
    for (; p->next_apply <= through; p->next_apply++) {
        ASSERT(p->of_seq[p->next_apply] != 0);
        int r = vec_push(&p->state, p->of_seq[p->next_apply] - 1);
        ASSERT(r == 0);
    }
}

static void manifests_remove(struct proc *p)
{
    char name[OBJ_NAME_SIZE];
    world_manifest_name(p->n, name);
    struct obj_names old = {0};
    if (obj_list(p->store, OBJ_COLLECT, "manifest/", name, 100, &old) < 0) {
        return;
    }
    for (size_t i = 0; i < old.names.len; i++) {
        struct world_manifest m;
        ssize_t len = obj_get(p->store, OBJ_COLLECT, old.names.at[i], 0, &m, sizeof m);
        if (len == sizeof m && (!m.is_first || p->w->rules.first_manifests_deletable)) {
            (void)!obj_remove(p->store, OBJ_COLLECT, old.names.at[i]);
        }
    }
    obj_names_free(&old);
}

/*
 * Deletes at once what the new manifest does not need: harsher than I7, which waits ten minutes.
 * Not where a process was cloned: clones share an epoch, so that only what lies in a slot tells
 * them apart, and the ten minutes are what keeps it there for the slower one to see.
 */
static void collect(struct proc *p, const struct world_manifest *before)
{
    if (p->w->has_clone) {
        return;
    }
    struct log_frames *f;
    struct log_frames_options at = {.store = p->store, .volume = world_volume, .keys = world_keys};
    if (log_frames_create(&at, &f) < 0) {
        return;
    }
    for (; p->gc_from < p->man.replay_from; p->gc_from++) {
        (void)!log_segment_remove(f, p->gc_from);
    }
    log_frames_destroy(f);
    manifests_remove(p);
    for (uint64_t i = 0; i < before->sst_count; i++) {
        bool kept = false;
        for (uint64_t j = 0; j < p->man.sst_count; j++) {
            kept = kept || before->ssts[i] == p->man.ssts[j];
        }
        if (!kept) {
            char name[OBJ_NAME_SIZE];
            world_sst_name(before->ssts[i], name);
            (void)!obj_remove(p->store, OBJ_COLLECT, name);
        }
    }
}

/* Writes the applied state out and names it in the next manifest. An error: not the newest any
 * more. */
static int checkpoint(struct proc *p)
{
    take_stored(p);
    if (p->next_apply <= p->man.replay_from) {
        return 0;
    }
    struct world_manifest before = p->man;
    struct world_manifest m = before;
    bool compact = chance(p, 30) || m.sst_count == WORLD_SSTS;
    size_t from = compact ? 0 : p->in_ssts;
    size_t to = p->state.len;
    uint64_t id = p->man.epoch << 32 | ++p->sst_counter;
    char name[OBJ_NAME_SIZE];
    world_sst_name(id, name);
    m.sst_count = compact ? 0 : m.sst_count;
    m.ssts[m.sst_count++] = id;
    m.replay_from = p->next_apply;
    m.log_epoch = m.epoch;
    m.is_first = 0;
    m.by = rt_random();
    int r = put_whole(p, name, p->state.at + from, (to - from) * 4);
    if (r < 0) {
        return r;
    }
    world_manifest_name(p->n + 1, name);
    r = put_whole(p, name, &m, sizeof m);
    if (r < 0) {
        return r;
    }
    p->n++;
    p->man = m;
    p->in_ssts = to;
    collect(p, &before);
    return 0;
}

static void write_phase(struct proc *p)
{
    struct world *w = p->w;
    struct log_options opt = {
        .store = p->store,
        .volume = world_volume,
        .keys = world_keys,
        .epoch = p->man.epoch,
        .open_id = p->open_id,
        .first_seq = p->first_seq,
    };
    int r = log_create(&opt, &p->l);
    ASSERT(r == 0);
    uint64_t until = MIN_OF(w->end_ns, rt_after_ms(500 + rt_random() % 4000));
    while (rt_now_ns() < until && !log_is_fenced(p->l) && r == 0) {
        if (p->flushers < FLUSHERS_MAX && chance(p, 60)) {
            p->flushers++;
            r = rt_spawn("flusher", flusher, p);
            ASSERT(r == 0);
        }
        (void)rt_sleep_ms(rt_random() % 12);
        if (chance(p, 6)) {
            r = checkpoint(p);
        }
    }
    if (r < 0 && err_class(r) != EIO && err_class(r) != ETIMEDOUT && err_class(r) != EAGAIN) {
        log_abandon(p->l); /* another manifest has our number */
    }
    while (p->flushers > 0) {
        (void)rt_sleep_ms(5);
    }
    log_destroy(p->l);
    p->l = NULL;
}

static struct proc *copy_of(const struct proc *p, unsigned id);

/* The process as it is now goes on twice. */
static void clone_now(struct proc *p)
{
    struct world *w = p->w;
    w->rules.clone = false;
    struct proc *q = copy_of(p, ++w->procs);
    w->running++;
    w->instances[p->instance].is_clone = true;
    q->instance = w->instance_count++;
    w->instances[q->instance] = w->instances[p->instance];
    int r = rt_sim_process(q->id, "clone", proc_main, q);
    ASSERT(r == 0);
}

static void go_live(struct proc *p, const struct log_open_result *o)
{
    struct world *w = p->w;
    struct world_instance *in = &w->instances[p->instance];
    *in = (struct world_instance){.epoch = p->man.epoch, .first_seq = o->next_seq, .is_live = true};
    w->lives++;
    p->first_seq = o->next_seq;
    p->next_apply = o->next_seq;
    p->gc_from = p->man.replay_from;
    p->sst_counter = 0;
    if (w->rules.clone) {
        clone_now(p);
    }
    write_phase(p);
}

void proc_main(void *arg)
{
    struct proc *p = arg;
    struct world *w = p->w;
    if (p->first_seq > 0) { /* a clone is live already */
        write_phase(p);
    }
    while (rt_now_ns() < w->end_ns && w->instance_count < WORLD_INSTANCES) {
        p->instance = w->instance_count++;
        w->instances[p->instance].first_seq = UINT64_MAX / 2;
        struct log_open_result o;
        int r = open_volume(p, &o);
        if (r == 0) {
            go_live(p, &o);
        } else if (r == ERR_LOG_GAP || r == ERR_LOG_ORDER || r == ERR_CORRUPT_SEGMENT) {
            world_violation(w, "I4", "the newest opener was refused: %s", err_name(r));
        }
        (void)rt_sleep_ms(rt_random() % 800);
    }
    obj_close(p->store);
    w->running--;
}

static struct obj_store *stack_of(struct proc *p, const struct world *w, bool faults)
{
    struct rng g = rng_seeded(w->seed * 64 + p->id);
    struct obj_store *s;
    int r = obj_share(w->spy, &s);
    if (r == 0 && faults) {
        r = obj_delay_wrap(s, &(struct obj_delay_options){0, 2 + rng_below(&g, 150)}, &s);
    }
    double scale = (double)rng_below(&g, 4) * 0.04;
    struct obj_fault_options f = {
        .seed = rng_next(&g),
        .fail_before = scale,
        .fail_after = scale,
        .duplicate = scale,
        .late = scale,
        .late_ms = 10 + rng_below(&g, 4000),
    };
    if (r == 0 && faults) {
        r = obj_fault_wrap(s, &f, &s);
    }
    if (r == 0) {
        r = obj_retry_wrap(s, &(struct obj_retry_options){5, 100, 4000, false}, &s);
    }
    if (r == 0) {
        r = world_probe(p->w, &p->instance, s, &s);
    }
    ASSERT(r == 0);
    return s;
}

struct proc *proc_create(struct world *w, unsigned id)
{
    struct proc *p = calloc(1, sizeof *p);
    ASSERT(p != NULL);
    p->w = w;
    p->id = id;
    p->store = stack_of(p, w, id != 0);
    return p;
}

static struct proc *copy_of(const struct proc *p, unsigned id)
{
    struct proc *q = malloc(sizeof *q);
    ASSERT(q != NULL);
    *q = *p;
    q->id = id;
    q->state.at = NULL;
    q->state.cap = 0;
    q->state.len = 0;
    for (size_t i = 0; i < p->state.len; i++) {
        int r = vec_push(&q->state, p->state.at[i]);
        ASSERT(r == 0);
    }
    q->store = stack_of(q, q->w, true);
    return q;
}

/* The state is strictly rising, holds each acknowledged payload, and of each writer a prefix (I12).
 */
static void check_state(const struct world *w, const struct proc *p)
{
    static bool have[WORLD_PAYLOADS];
    memset(have, 0, sizeof have);
    uint64_t last_seq = 0;
    for (size_t i = 0; i < p->state.len; i++) {
        const struct world_payload *v = &w->payloads[p->state.at[i]];
        if (v->seq <= last_seq) {
            world_violation(w, "I12", "segment %" PRIu64 " was applied after %" PRIu64, v->seq,
                            last_seq);
        }
        last_seq = v->seq;
        have[p->state.at[i]] = true;
    }
    static bool ended[WORLD_INSTANCES];
    memset(ended, 0, sizeof ended);
    for (uint32_t i = 0; i < w->payload_count; i++) {
        const struct world_payload *v = &w->payloads[i];
        if (v->acked && !have[i]) {
            world_violation(w, "I12", "acknowledged payload %" PRIu32 " at %" PRIu64 " is lost", i,
                            v->seq);
        }
        if (have[i] && ended[v->instance] && !w->instances[v->instance].is_clone) {
            world_violation(w, "I12", "payload %" PRIu32 " survived an earlier one of its writer",
                            i);
        }
        ended[v->instance] = ended[v->instance] || !have[i];
    }
}

/* The header of what the store holds at seq. */
static bool header_at(const struct world *w, uint64_t seq, struct segment_header *ret_h)
{
    char name[OBJ_NAME_SIZE];
    uint8_t bytes[SEGMENT_HEADER_BYTES];
    const char *why = NULL;
    log_segment_name(seq, name);
    ssize_t n = obj_get(w->mem, OBJ_INDEX, name, 0, bytes, sizeof bytes);
    return n == sizeof bytes && segment_header_decode(bytes, sizeof bytes, ret_h, &why) == 0;
}

/* Whether a later segment says that seq was stored. */
static bool is_known_stored(const struct world *w, uint64_t seq, uint64_t epoch)
{
    for (uint64_t i = 1; i < log_window(); i++) {
        struct segment_header h;
        if (header_at(w, seq + i, &h) && h.kind == SEGMENT_DATA && h.epoch == epoch &&
            h.stored_through >= seq) {
            return true;
        }
    }
    return false;
}

/* Takes away one segment of the log that a later one knows of. False when there is none. */
static bool lose_one(struct world *w, struct proc *p)
{
    struct world_manifest m;
    uint64_t n;
    int r = newest(p, &n);
    ASSERT(r == 0 && manifest_get(p, n, &m) == 0);
    struct segment_header h;
    for (uint64_t s = m.replay_from; header_at(w, s, &h) && h.epoch == m.log_epoch; s++) {
        if (h.kind == SEGMENT_DATA && is_known_stored(w, s, h.epoch)) {
            char name[OBJ_NAME_SIZE];
            log_segment_name(s, name);
            r = obj_remove(w->mem, OBJ_COLLECT, name);
            ASSERT(r == 0);
            return true;
        }
    }
    return false;
}

void world_final_check(struct world *w)
{
    struct proc *p = proc_create(w, 0);
    bool lost = w->rules.lose_segment && lose_one(w, p);
    struct log_open_result o;
    p->instance = w->instance_count++;
    w->instances[p->instance].first_seq = UINT64_MAX / 2;
    int r = open_volume(p, &o);
    if (lost) {
        if (r != ERR_LOG_GAP) {
            world_violation(w, "I8", "a lost segment was not noticed: %s", err_name(r));
        }
        return;
    }
    if (r < 0) {
        world_violation(w, "I4", "the last opener fails: %s", err_name(r));
    }
    check_state(w, p);
}
