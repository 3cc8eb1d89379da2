/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Opening and closing a volume (I4).
 *
 *     load the newest manifest -> may we? -> claim the next one -> load counts, holes, counters ->
 * replay and fence
 *          -> recheck: ours is still the newest -> writer -> fibers
 *
 * Whoever loses a race in between starts again from the newest manifest, a bounded number of times;
 * nothing of the lost attempt is kept.
 *
 * MEMORY. memory_bytes is split so that it adds up:
 *
 *     dirty_bytes              dirty: open, sealing and unapplied batches; a fifth unless
 * configured dirty_bytes              segments being built and uploaded, at worst all that is dirty
 *     4 x memtable_bytes       one filling, the others on their way out; memtable_bytes is a 32nd
 * unless configured a 16th, a 16th           decoded index blocks and filters; decoded page maps
 *     a 16th, an 8th of the rest
 *                              frames as stored, under way for reads, and ahead of them
 *     a 16th, a 16th           with a disk cache: its index, and what is on its way there
 *     what is left             block cache
 *
 * What is dirty comes and goes in waves, and becomes what is cached. Its memory stays with the
 * buffers (rt_buf_idle_max), and a server has the system back it at the start (`prefault`), but no
 * more than PREFAULT_MAX.
 */
#include "base/assert.h"
#include "base/err.h"
#include "base/msg.h"
#include "rt/offload.h"
#include "vol/keyring.h"
#include "vol/vol_priv.h"
#include <inttypes.h>

#define OPEN_TRIES 8
#define MEMORY_DEFAULT (256ull << 20)
#define MEMORY_MIN (8ull << 20)
#define DIRTY_MIN (1ull << 20)
/* While the store is away and VOL_BATCHES_MAX batches wait, all that is dirty may come to lie in
 * the open one, and a segment has at most 1 GiB. */
#define DIRTY_MAX (768ull << 20)
#define MEMTABLE_MIN (256ull << 10)
#define MEMTABLE_MAX (64ull << 20)
#define FETCH_MIN (1ull << 20)
#define AHEAD_BYTES_MAX (8ull << 20)
#define DISK_SLOT_BYTES 12u /* of index, for each block that the disk may hold */
#define DISK_PENDING_MAX (32ull << 20)
#define PREFAULT_MAX (1ull << 30)
#define PREFAULT_STEPS 2u /* at a time */
#define DELETE_AFTER_MS 600000u
#define ROTATE_AFTER_MS 1000u

struct split {
    uint64_t dirty;
    uint64_t memtable;
    uint64_t index_cache;
    uint64_t maps;
    uint64_t fetch;
    uint64_t ahead;
    uint64_t blocks;
    uint64_t disk_index;
    uint64_t disk_pending;
};

static bool has_disk(const struct vol_options *opt)
{
    return !opt->read_only && (opt->disk_dir || opt->disk_io) &&
           opt->disk_bytes >= CACHE_DISK_BYTES_MIN;
}

static struct split memory_split(const struct vol_options *opt)
{
    uint64_t all = MAX_OF(opt->memory_bytes ? opt->memory_bytes : MEMORY_DEFAULT, MEMORY_MIN);
    struct split s = {.dirty = opt->dirty_bytes ? opt->dirty_bytes : all / 5};
    s.dirty = MIN_OF(MAX_OF(s.dirty, DIRTY_MIN), DIRTY_MAX);
    s.memtable = MIN_OF(MAX_OF(all / 32, MEMTABLE_MIN), MEMTABLE_MAX);
    if (opt->memtable_bytes) {
        s.memtable = opt->memtable_bytes;
    }
    s.index_cache = all / 16;
    s.maps = all / 16;
    uint64_t used = 2 * s.dirty + 4 * s.memtable + s.index_cache + s.maps;
    s.blocks = used < all ? MAX_OF(all - used, all / 8) : all / 8;
    s.fetch = MAX_OF(s.blocks / 16, FETCH_MIN);
    s.ahead = MAX_OF(s.blocks / 8, FETCH_MIN);
    s.blocks -= MIN_OF(s.fetch + s.ahead, s.blocks / 4);
    if (has_disk(opt)) {
        s.disk_index = MIN_OF(all / 16, opt->disk_bytes / VOL_BLOCK_BYTES * DISK_SLOT_BYTES);
        s.disk_pending = MIN_OF(MAX_OF(all / 16, FETCH_MIN), DISK_PENDING_MAX);
        s.blocks -= MIN_OF(s.disk_index + s.disk_pending, s.blocks / 2);
    }
    rt_buf_idle_max(s.dirty + s.blocks);
    return s;
}

static void init(struct vol *v, const struct vol_options *opt)
{
    v->store = opt->store;
    v->opt = *opt;
    v->opt.owner = NULL;
    v->opt.keys = crypt_keys_ref(opt->keys);
    if (v->opt.delete_after_ms == 0) {
        v->opt.delete_after_ms = DELETE_AFTER_MS;
    }
    if (v->opt.rotate_after_ms == 0) {
        v->opt.rotate_after_ms = ROTATE_AFTER_MS;
    }
    rt_mutex_init(&v->m);
    rt_mutex_init(&v->hole_m);
    list_init(&v->batches);
    list_init(&v->files);
    rt_waitq_init(&v->commit_q);
    rt_waitq_init(&v->apply_q);
    rt_waitq_init(&v->room_q);
    rt_waitq_init(&v->drained_q);
    rt_waitq_init(&v->hole_q);
    rt_event_init(&v->aging);
    rt_event_init(&v->walking);
    rt_event_init(&v->reaping);
    rt_lock_init(&v->txn_lock, RT_RANK_VOLUME);
    vol_segments_init(&v->segs);
    vol_reload_init(&v->reload);
    atomic_init(&v->next_id, 1);
}

static int create(const struct vol_options *opt, const struct split *split, struct vol **ret_vol)
{
    struct vol *v = aligned_alloc(64, (sizeof *v + 63) / 64 * 64);
    if (!v) {
        return -ENOMEM;
    }
    memset(v, 0, sizeof *v);
    init(v, opt);
    v->dirty_configured = split->dirty;
    atomic_init(&v->dirty_limit, split->dirty);
    v->is_far = obj_is_far(opt->store);
    v->prefault_bytes = opt->prefault ? MIN_OF(split->dirty + split->blocks, PREFAULT_MAX) : 0;
    v->part_bytes =
        MIN_OF(split->dirty, VOL_DIRTY_FLOOR_BYTES) / 4 / VOL_PAGE_BYTES * VOL_PAGE_BYTES;
    rt_credits_init(&v->dirty, split->dirty);
    rt_credits_init(&v->fetch_room, split->fetch);
    rt_credits_init(&v->ahead_room, split->ahead);
    v->ahead_bytes = MIN_OF(MIN_OF(split->ahead, split->blocks / 8), AHEAD_BYTES_MAX) /
                     VOL_PAGE_BYTES * VOL_PAGE_BYTES;
    v->ahead_share = split->blocks / 8; /* half of what the cache keeps for it */
    *ret_vol = v;
    v->owner = strdup(opt->owner ? opt->owner : "");
    int r = v->owner ? vol_view_slots_create(v) : -ENOMEM;
    if (r == 0) {
        r = cache_create(split->blocks, RT_MEM_BLOCK_CACHE, &v->cache);
    }
    if (r == 0) {
        r = vol_map_cache_create(split->maps, &v->maps);
    }
    return r < 0 ? r : vol_holes_create(&v->holes);
}

/* Everything but the index, which has been closed; fibers have ended. */
static void destroy(struct vol *v)
{
    rt_group_destroy(v->idle);
    rt_group_destroy(v->work);
    vol_view_slots_free(v);
    list_for_each(&v->batches, struct vol_batch, link, b) {
        list_remove(&b->link);
        vol_batch_unref(b);
    }
    log_destroy(v->log);
    log_frames_destroy(v->frames);
    vol_holes_destroy(v->holes);
    vol_map_cache_destroy(v->maps);
    cache_destroy(v->cache);
    cache_disk_close(v->disk);
    vol_segments_destroy(&v->segs);
    vol_reload_destroy(&v->reload);
    rt_credits_destroy(&v->dirty);
    rt_credits_destroy(&v->fetch_room);
    rt_credits_destroy(&v->ahead_room);
    rt_lock_destroy(&v->txn_lock);
    rt_event_destroy(&v->aging);
    rt_event_destroy(&v->walking);
    rt_event_destroy(&v->reaping);
    rt_mutex_destroy(&v->hole_m);
    rt_mutex_destroy(&v->m);
    crypt_keys_unref(v->opt.keys);
    free(v->owner);
    free(v);
}

static int may_open(const struct vol *v, const struct index_manifest_info *info)
{
    if (v->opt.read_only || info->clean || info->owner[0] == '\0' ||
        strcmp(info->owner, v->owner) == 0) {
        return 0;
    }
    if (v->opt.takeover) {
        msg_warn("vol", "taking over from %s, which has not closed the volume", info->owner);
        return 0;
    }
    msg_error("vol", "%s has this volume open, or did not close it", info->owner);
    return ERR_OPEN_ELSEWHERE;
}

static int salt_of(void *arg, uint64_t seq, struct log_salt *ret_salt)
{
    struct vol *v = arg;
    return vol_segments_salt(&v->segs, seq, ret_salt);
}

static int load_segment(void *arg, const void *key, size_t key_len, const void *value,
                        size_t value_len)
{
    struct vol *v = arg;
    uint64_t seq;
    struct vol_segment_value seg = {0};
    int r = vol_key_segment_decode(key, key_len, &seq);
    if (r == 0) {
        r = vol_segment_decode(value, value_len, &seg);
    }
    return r < 0 ? r : vol_segments_add(&v->segs, seq, seg.live, &seg.salt);
}

static int load_hole(void *arg, const void *key, size_t key_len, const void *value,
                     size_t value_len)
{
    struct vol *v = arg;
    uint64_t parts[3];
    struct vol_hole_value hv = {0};
    int r = vol_key_hole_decode(key, key_len, parts);
    if (r == 0) {
        r = vol_hole_decode(value, value_len, &hv);
    }
    if (r == 0 && hv.count > UINT64_MAX - parts[2]) {
        r = ERR_CORRUPT_RECORD;
    }
    if (r < 0) {
        return r;
    }
    struct vol_hole hole = {.layer = parts[0],
                            .batch = parts[1],
                            .first = parts[2],
                            .end = parts[2] + hv.count,
                            .done_upto = hv.done_upto,
                            .flags = hv.flags};
    /* In rising order of batches, as they came; none covers another, that was settled when they
     * were applied. */
    struct vol_hole_list covered = {0};
    r = vol_holes_add(v->holes, &hole, &covered);
    vec_free(&covered.holes);
    return r;
}

static int load_kind(struct vol *v, uint8_t kind,
                     int (*each)(void *arg, const void *key, size_t key_len, const void *value,
                                 size_t value_len))
{
    struct vol_key from = vol_key_kind(kind);
    struct vol_key upto = vol_key_kind((uint8_t)(kind + 1));
    return index_scan(v->ix, &(struct index_range){from.bytes, from.len, upto.bytes, upto.len},
                      each, v);
}

static int load_counters(struct vol *v)
{
    struct vol_key key = vol_key_counters();
    struct bytes_writer value = {0};
    uint64_t next = 1;
    int r = index_get(v->ix, key.bytes, key.len, &value);
    if (r == 0) {
        r = vol_number_decode(value.data, value.len, &next);
    } else if (r == -ENOENT) {
        r = 0;
    }
    bytes_writer_free(&value);
    atomic_store(&v->next_id, next);
    return r;
}

/* One is enough. */
static int find_backref(void *arg, const void *key, size_t key_len, const void *value,
                        size_t value_len)
{
    (void)key;
    (void)key_len;
    (void)value;
    (void)value_len;
    struct vol *v = arg;
    v->has_backrefs = true;
    return 1;
}

static int load_state(struct vol *v)
{
    int r = load_kind(v, VOL_KEY_SEGMENT, load_segment);
    if (r == 0) {
        r = load_kind(v, VOL_KEY_HOLE, load_hole);
    }
    if (r == 0) {
        r = load_kind(v, VOL_KEY_BACKREF, find_backref);
    }
    return MIN_OF(r, 0);
}

static int replay(void *arg, const struct log_replayed *b)
{
    struct vol *v = arg;
    if (b->number < v->next_number) {
        msg_error("vol", "segment %016" PRIx64 " holds batch %" PRIu64 " out of order", b->seq,
                  b->number);
        return ERR_LOG_ORDER;
    }
    int r = vol_apply(v, &(struct vol_apply_in){.seq = b->seq,
                                                .number = b->number,
                                                .epoch = b->epoch,
                                                .salt = &b->salt,
                                                .frames = b->frames,
                                                .frame_count = b->frame_count,
                                                .records = b->records,
                                                .records_len = b->records_len});
    if (r == 0) {
        v->next_number = b->number + 1;
    } else if (r != -ECANCELED) {
        msg_error("vol", "batch %" PRIu64 " of segment %016" PRIx64 " cannot be replayed: %s",
                  b->number, b->seq, err_text(r));
    }
    return r;
}

/*
 * Who only reads creates nothing that would tell him the log's end from a segment that its owner
 * has deleted before he came to it: he would take an older state for the newest. -ESTALE: it was
 * that.
 */
static int check_end(struct vol *v, uint64_t end) WAITS
{
    char name[OBJ_NAME_SIZE];
    uint64_t replay_from;
    uint64_t size;
    int r = index_replay_newest(v->ix, &replay_from);
    if (r < 0 || replay_from <= end) {
        return r;
    }
    log_segment_name(end, name);
    r = obj_head(v->store, OBJ_INDEX, name, &size); /* it is there: it came later */
    return r == -ENOENT ? -ESTALE : r;
}

static int open_log(struct vol *v, const struct index_manifest_info *info,
                    const struct uuid *open_id)
{
    struct log_open_options lo = {.store = v->store,
                                  .volume = v->uuid,
                                  .keys = v->opt.keys,
                                  .epoch = v->epoch,
                                  .open_id = *open_id,
                                  .replay_from = info->replay_from,
                                  .log_epoch = info->log_epoch,
                                  .log_writer =
                                      info->epoch == info->log_epoch ? &info->open_id : NULL,
                                  .read_only = v->opt.read_only,
                                  .closed_through = info->clean ? info->closed_through : 0};
    struct log_open_result found;
    int r = log_open(&lo, replay, v, &found);
    if (r < 0 || v->opt.read_only) {
        return r < 0 ? r : check_end(v, found.next_seq);
    }
    r = index_recheck(v->ix);
    if (r < 0) {
        return r;
    }
    return log_create(&(struct log_options){.store = v->store,
                                            .volume = v->uuid,
                                            .keys = v->opt.keys,
                                            .epoch = v->epoch,
                                            .open_id = *open_id,
                                            .first_seq = found.next_seq,
                                            .compression = v->opt.compression},
                      &v->log);
}

static int warm_step(void *arg)
{
    uint64_t total_bytes = *(const uint64_t *)arg;
    bool more = true;
    for (unsigned i = 0; more && i < PREFAULT_STEPS; i++) {
        more = rt_buf_warm(total_bytes);
    }
    return more;
}

static void warm(void *arg)
{
    uint64_t total_bytes = ((struct vol *)arg)->prefault_bytes;
    while (!rt_cancelled() && rt_offload(RT_OFFLOAD_CPU, warm_step, &total_bytes) > 0) {
    }
}

static int start(struct vol *v)
{
    v->replayed_number = v->next_number - 1;
    atomic_store(&v->entered_number, v->replayed_number);
    atomic_store(&v->applied_seq, v->log ? log_stored_through(v->log) : 0);
    vol_usage_settle(v, 0);
    int r = vol_batches_start(v);
    if (r < 0 || v->opt.read_only) {
        return r;
    }
    struct {
        struct rt_group *group;
        const char *name;
        void (*fn)(void *arg);
    } fibers[] = {
        {v->work, "vol committer", vol_committer}, {v->work, "vol applier", vol_applier},
        {v->idle, "vol ager", vol_ager},           {v->idle, "vol walker", vol_walker},
        {v->idle, "vol reaper", vol_reaper},
    };
    for (size_t i = 0; r == 0 && i < ARRAY_LEN(fibers); i++) {
        r = rt_group_spawn(fibers[i].group, fibers[i].name, fibers[i].fn, v);
    }
    if (r == 0 && v->prefault_bytes > 0) {
        r = rt_group_spawn(v->idle, "vol warm", warm, v);
    }
    return r;
}

/*
 * What an opener finds missing or out of order may be the doing of one who came after it, and has
 * begun to delete: then it is not the newest any more, and that is all there is to say.
 */
static int if_overtaken(struct vol *v, int r)
{
    if (v->opt.read_only || r == -ECANCELED) {
        return r;
    }
    return index_recheck(v->ix) == ERR_LOST_OPEN_RACE ? ERR_FENCED : r;
}

/* What an earlier opening has cached nobody will believe any more; and nobody would remove of it
 * what is removed from the store. */
static void forget_disk(struct vol *v)
{
    if (v->opt.read_only || !v->opt.disk_dir) {
        return;
    }
    int r = cache_disk_forget(v->opt.disk_dir, &v->uuid);
    if (r < 0) {
        msg_warn("vol", "the disk cache in %s, which is not used any more, cannot be emptied: %s",
                 v->opt.disk_dir, err_text(r));
    }
}

/* After replay: what was cached before must be of the history that was found. */
static int open_disk(struct vol *v, const struct split *split, const struct uuid *open_id)
{
    if (!has_disk(&v->opt)) {
        forget_disk(v);
        return 0;
    }
    struct cache_disk_options opt = {.dir = v->opt.disk_dir,
                                     .io = v->opt.disk_io,
                                     .bytes = v->opt.disk_bytes,
                                     .index_bytes = split->disk_index,
                                     .pending_bytes = split->disk_pending,
                                     .volume = v->uuid,
                                     .before = v->opened_before,
                                     .open_id = *open_id,
                                     .last = log_stored_through(v->log),
                                     .adopt = v->opt.disk_adopt};
    return cache_disk_open(&opt, &v->disk);
}

static int open_index(struct vol *v, const struct split *split, struct uuid *ret_open_id)
{
    struct index_options io = {.store = v->store,
                               .volume = v->uuid,
                               .keys = v->opt.keys,
                               .memtable_bytes = split->memtable,
                               .cache_bytes = split->index_cache,
                               .delete_after_ms = v->opt.delete_after_ms,
                               .segments_max = v->opt.segments_max,
                               .read_only = v->opt.read_only,
                               .manifest_stored = vol_manifest_stored,
                               .arg = v};
    int r = index_load(&io, &v->ix);
    if (r < 0) {
        return r;
    }
    struct index_manifest_info info;
    index_manifest(v->ix, &info);
    v->opened_before = info.open_id;
    r = may_open(v, &info);
    rt_random_bytes(ret_open_id, sizeof *ret_open_id);
    if (r == 0 && !v->opt.read_only) {
        r = index_claim(v->ix, ret_open_id, v->owner, &v->epoch);
    }
    v->next_number = info.last_batch + 1;
    atomic_store(&v->replay_from, info.replay_from);
    if (r < 0) {
        return r;
    }
    r = load_state(v);
    if (r == 0) {
        r = open_log(v, &info, ret_open_id);
    }
    if (r == 0) {
        r = load_counters(v);
    }
    return r < 0 ? if_overtaken(v, r) : 0;
}

int vol_state_load(struct vol *v)
{
    struct split split = memory_split(&v->opt);
    struct uuid open_id;
    return open_index(v, &split, &open_id);
}

uint64_t vol_maps_bytes(const struct vol *v)
{
    return memory_split(&v->opt).maps;
}

/* An object that is not there was named by a manifest that is not the newest any more. */
bool vol_open_again(const struct vol_options *opt, int r)
{
    return r == ERR_LOST_OPEN_RACE || r == -ENOENT || (r == -ESTALE && opt->read_only);
}

static void stop(struct rt_group *g)
{
    if (g) {
        rt_group_cancel(g);
        rt_group_wait(g);
    }
}

static int open_once(const struct vol_options *opt, const struct vol_superblock *sb,
                     struct vol **ret_vol)
{
    struct vol *v = NULL;
    struct uuid open_id;
    struct split split = memory_split(opt);
    int r = create(opt, &split, &v);
    if (!v) {
        return r;
    }
    v->uuid = sb->uuid;
    if (r == 0) {
        r = log_frames_create(&(struct log_frames_options){.store = v->store,
                                                           .volume = v->uuid,
                                                           .keys = v->opt.keys,
                                                           .salt = salt_of,
                                                           .arg = v},
                              &v->frames);
    }
    if (r == 0) {
        r = rt_group_create(&v->work);
    }
    if (r == 0) {
        r = rt_group_create(&v->idle);
    }
    if (r == 0) {
        r = open_index(v, &split, &open_id);
    }
    if (r == 0) {
        r = open_disk(v, &split, &open_id);
    }
    if (r == 0) {
        r = start(v);
    }
    if (r < 0) {
        stop(v->idle);
        stop(v->work);
        if (v->ix && index_close(v->ix, false, 0) < 0) {
            msg_debug("vol", "the index of a failed opening did not close");
        }
        destroy(v);
        return r;
    }
    rt_event_set(&v->walking);
    rt_event_set(&v->reaping);
    *ret_vol = v;
    return 0;
}

int vol_open(const struct vol_options *opt, struct vol **ret_vol)
{
    struct vol_superblock sb;
    int r = vol_superblock_read(opt->store, opt->read_only, &sb);
    if (r == 0) {
        r = vol_keys_fit(&sb, opt->keys != NULL);
    }
    if (r == 0 && opt->keys) {
        r = rt_offload(RT_OFFLOAD_CPU, crypt_prepare, NULL);
    }
    if (r < 0) {
        return r;
    }
    for (int tries = 0; tries < OPEN_TRIES; tries++) {
        r = open_once(opt, &sb, ret_vol);
        if (!vol_open_again(opt, r)) {
            return r;
        }
        int slept = rt_sleep_ms(10 + rt_random() % (50u << tries));
        if (slept < 0) {
            return slept;
        }
    }
    return r;
}

static int close_writer(struct vol *v)
{
    stop(v->idle);
    int r = vol_flush(v);
    if (r == 0) {
        r = vol_drain(v);
    }
    if (r < 0) {
        v->abandoned = true;
        vol_fence(v);
    }
    stop(v->work);
    return r;
}

int vol_close(struct vol *v)
{
    stop(v->idle); /* what reads ahead holds files */
    ASSERT(list_is_empty(&v->files));
    int r = 0;
    uint64_t last = 0;
    if (!v->opt.read_only) {
        r = close_writer(v);
        last = log_stored_through(v->log);
    }
    int closed = index_close(v->ix, r == 0 && !v->opt.read_only, last);
    destroy(v);
    return r < 0 ? r : closed;
}

void vol_abandon(struct vol *v)
{
    v->abandoned = true;
    if (v->log) {
        vol_fence(v);
    }
    stop(v->idle);
    stop(v->work);
    int r = index_close(v->ix, false, 0);
    if (r < 0) {
        msg_debug("vol", "abandoned: %s", err_text(r));
    }
    destroy(v);
}

void vol_compression_set(struct vol *v, struct log_compression c)
{
    if (v->log) {
        log_compression_set(v->log, c);
    }
}

struct log_compression vol_compression(const struct vol *v)
{
    return v->log ? log_compression_get(v->log) : v->opt.compression;
}

void vol_uuid(const struct vol *v, struct uuid *ret_uuid)
{
    *ret_uuid = v->uuid;
}

const struct crypt_keys *vol_keys(const struct vol *v)
{
    return v->opt.keys;
}

uint64_t vol_epoch(const struct vol *v)
{
    return v->epoch;
}

uint64_t vol_batch_now(const struct vol *v)
{
    return atomic_load(&v->entered_number);
}

uint64_t vol_batch_replayed(const struct vol *v)
{
    return v->replayed_number;
}

bool vol_is_read_only(const struct vol *v)
{
    return v->opt.read_only;
}

bool vol_is_fenced(const struct vol *v)
{
    return atomic_load(&v->fenced);
}

bool vol_has_failed(const struct vol *v)
{
    return atomic_load(&v->failed);
}

void vol_on_fenced(struct vol *v, void (*fn)(void *arg), void *arg)
{
    v->on_fenced_arg = arg;
    v->on_fenced = fn;
}
