/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A volume that is open for reading only sees what the newest manifest said when it was opened. A
 * writer elsewhere goes on, merges SSTs and deletes segments; sooner or later an object that the
 * reader was told of is gone, which shows as -ESTALE. Then the reader loads the newest manifest,
 * replays what follows it, and does the whole call again.
 *
 *     vol_reading(): come in -> the call -> leave -> -ESTALE? the state of someone's turn is
 * replaced, once for all who found it stale -> again
 *
 * E1. The state (index, maps, holes, segments, layers and sizes of files) is replaced while nobody
 * is inside. So a call sees one state from its begin to its end. E2. Who is inside does not come in
 * again. E3. Those who do not wait (vol_reading_try()) do without while it is being replaced.
 *
 * The block cache stays: what it holds is immutable.
 */
#include "base/err.h"
#include "base/msg.h"
#include "vol/vol_priv.h"

#define LOAD_TRIES 5
#define READ_TRIES 6
#define PAUSE_MS 10u

void vol_reload_init(struct vol_reload *l)
{
    rt_mutex_init(&l->m);
    rt_waitq_init(&l->q);
}

void vol_reload_destroy(struct vol_reload *l)
{
    rt_mutex_destroy(&l->m);
}

static int come_in(struct vol_reload *l, uint64_t *ret_turn)
{
    int r = 0;
    rt_mutex_lock(&l->m);
    while (r == 0 && l->closed) {
        r = rt_waitq_wait(&l->q, &l->m, RT_FOREVER);
    }
    if (r == 0) {
        l->inside++;
        *ret_turn = atomic_load(&l->turn);
    }
    rt_mutex_unlock(&l->m);
    return r;
}

bool vol_reading_try(struct vol *v)
{
    if (likely(!v->opt.read_only)) {
        return true;
    }
    rt_mutex_lock(&v->reload.m);
    bool in = !v->reload.closed;
    v->reload.inside += in;
    rt_mutex_unlock(&v->reload.m);
    return in;
}

void vol_reading_end(struct vol *v)
{
    if (likely(!v->opt.read_only)) {
        return;
    }
    rt_mutex_lock(&v->reload.m);
    if (--v->reload.inside == 0 && v->reload.closed) {
        rt_waitq_wake_all(&v->reload.q);
    }
    rt_mutex_unlock(&v->reload.m);
}

/* What is replaced. */
struct state {
    struct index *ix;
    struct vol_map_cache *maps;
    struct vol_holes *holes;
    struct vol_segments segs;
};

static void exchange(struct vol *v, struct state *s)
{
    struct index *ix = v->ix;
    struct vol_map_cache *maps = v->maps;
    struct vol_holes *holes = v->holes;
    v->ix = s->ix;
    v->maps = s->maps;
    v->holes = s->holes;
    s->ix = ix;
    s->maps = maps;
    s->holes = holes;
    vol_segments_exchange(&v->segs, &s->segs);
}

static void state_free(struct state *s)
{
    if (s->ix && index_close(s->ix, false, 0) < 0) {
        msg_debug("vol", "the index of an earlier state did not close");
    }
    vol_map_cache_destroy(s->maps);
    vol_holes_destroy(s->holes);
    vol_segments_destroy(&s->segs);
}

struct file_state {
    struct vol_file *f;
    struct vol_inode inode;
    int found; /* 0, -ENOENT */
};

struct file_states {
    VEC(struct file_state) at;
};

/* With references, so that they stay. Who opens a file later looks at the turn. */
static int list_files(struct vol *v, struct file_states *all)
{
    int r = 0;
    rt_mutex_lock(&v->m);
    list_for_each(&v->files, struct vol_file, link, f) {
        struct file_state s = {.f = f};
        if (r == 0) {
            r = vec_push(&all->at, s);
            f->refs += r == 0;
        }
    }
    rt_mutex_unlock(&v->m);
    return r;
}

static int load_file(struct vol *v, struct file_state *s)
{
    struct vol_key key = vol_key_inode(s->f->inode);
    struct bytes_writer value = {0};
    s->found = index_get(v->ix, key.bytes, key.len, &value);
    if (s->found == 0) {
        s->found = vol_inode_decode(value.data, value.len, &s->inode);
    }
    bytes_writer_free(&value);
    return s->found == -ENOENT ? 0 : s->found;
}

static void update_file(const struct file_state *s)
{
    struct vol_file *f = s->f;
    f->gone = s->found == -ENOENT;
    if (!f->gone) {
        f->layer_count = s->inode.layer_count;
        memcpy(f->layers, s->inode.layers, sizeof f->layers);
        atomic_store_explicit(&f->size, s->inode.size, memory_order_release);
    }
}

static int load_files(struct vol *v)
{
    struct file_states all = {0};
    int r = list_files(v, &all);
    for (size_t i = 0; r == 0 && i < all.at.len; i++) {
        r = load_file(v, &all.at.at[i]);
    }
    for (size_t i = 0; i < all.at.len; i++) {
        if (r == 0) {
            update_file(&all.at.at[i]);
        }
        vol_file_close(all.at.at[i].f);
    }
    vec_free(&all.at);
    return r;
}

/* Nobody is inside. The old state comes back when there is no new one. */
static int load_once(struct vol *v)
{
    struct state other = {0};
    vol_segments_init(&other.segs);
    int r = vol_map_cache_create(vol_maps_bytes(v), &other.maps);
    if (r == 0) {
        r = vol_holes_create(&other.holes);
    }
    if (r == 0) {
        exchange(v, &other);
        r = vol_state_load(v);
        if (r == 0) {
            r = load_files(v);
        }
        if (r < 0) {
            exchange(v, &other);
        }
    }
    state_free(&other);
    return r;
}

static int load(struct vol *v)
{
    int r = load_once(v);
    for (int tries = 1; vol_open_again(&v->opt, r) && tries < LOAD_TRIES; tries++) {
        int slept = rt_sleep_ms(PAUSE_MS << tries);
        r = slept < 0 ? slept : load_once(v);
    }
    return r;
}

/* 0 as well when another has done it since that turn. */
static int reload(struct vol *v, uint64_t turn)
{
    struct vol_reload *l = &v->reload;
    int r = 0;
    rt_mutex_lock(&l->m);
    while (r == 0 && l->closed) {
        r = rt_waitq_wait(&l->q, &l->m, RT_FOREVER);
    }
    bool mine = r == 0 && atomic_load(&l->turn) == turn;
    l->closed |= mine;
    while (mine && r == 0 && l->inside > 0) {
        r = rt_waitq_wait(&l->q, &l->m, RT_FOREVER);
    }
    rt_mutex_unlock(&l->m);
    if (!mine) {
        return r;
    }
    if (r == 0) {
        atomic_fetch_add(&l->turn, 1);
        r = load(v);
    }
    rt_mutex_lock(&l->m);
    l->closed = false;
    rt_waitq_wake_all(&l->q);
    rt_mutex_unlock(&l->m);
    return r;
}

int vol_reading(struct vol *v, int (*fn)(void *arg), void *arg)
{
    int r = -ESTALE;
    for (int tries = 0; r == -ESTALE && tries < READ_TRIES; tries++) {
        uint64_t turn = 0;
        r = come_in(&v->reload, &turn);
        if (r < 0) {
            return r;
        }
        r = fn(arg);
        vol_reading_end(v);
        if (r == -ESTALE) {
            int loaded = reload(v, turn);
            if (loaded < 0) {
                return loaded;
            }
        }
    }
    if (r == -ESTALE) {
        msg_error("vol", "an object that the newest manifest leads to is missing");
        r = -EIO;
    }
    return r;
}
