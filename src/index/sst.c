/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Every unit that is read goes through load_unit(): fetch, check, decompress, and put into the
 * cache decoded. A unit that does not check is fetched once more (a transport may have spoilt it)
 * before it is called corrupt. A piece from the cache has a reference of its own, so that it may be
 * used across waits.
 */
#include "index/sst.h"
#include "base/err.h"
#include "base/msg.h"
#include "index/sst_filter.h"
#include "index/sst_unit.h"
#include <errno.h>

struct unit_load {
    const struct sst_source *src;
    const struct sst *sst;
    uint64_t off;
    size_t len;
    enum sst_unit_kind kind;
};

static int corrupt(const struct sst *s, uint64_t off, const char *what)
{
    char name[OBJ_NAME_SIZE];
    sst_name(s->meta.epoch, s->meta.counter, name);
    msg_error("index", "%s is corrupt: %s at offset %llu", name, what, (unsigned long long)off);
    return ERR_CORRUPT_INDEX;
}

/* The stored unit in a buffer: 0, -EBADMSG when it is short or does not check, -ESTALE, or the
 * store's error. */
static int fetch(const struct unit_load *u, struct rt_buf **ret_stored, size_t *ret_raw_len) WAITS
{
    char name[OBJ_NAME_SIZE];
    struct rt_buf *b;
    int r = rt_buf_alloc(u->len, RT_MEM_INDEX_CACHE, &b);
    if (r < 0) {
        return r;
    }
    sst_name(u->sst->meta.epoch, u->sst->meta.counter, name);
    ssize_t got = obj_get(u->src->store, u->src->klass, name, u->off, b->data, u->len);
    if (got == -ENOENT) {
        msg_error("index", "%s is not there", name);
        r = -ESTALE;
    } else if (got < 0) {
        r = (int)got;
    } else if ((size_t)got != u->len) {
        r = -EBADMSG;
    } else {
        r = sst_unit_open(&u->sst->key, b->data, u->len, u->off, u->kind, ret_raw_len);
    }
    if (r < 0) {
        rt_buf_unref(b);
        return r;
    }
    *ret_stored = b;
    return 0;
}

static int load_unit(void *arg, struct rt_piece *ret_piece) WAITS
{
    const struct unit_load *u = arg;
    struct rt_buf *stored = NULL;
    struct rt_buf *raw = NULL;
    size_t raw_len = 0;
    int r = fetch(u, &stored, &raw_len);
    if (r == -EBADMSG) {
        char name[OBJ_NAME_SIZE];
        sst_name(u->sst->meta.epoch, u->sst->meta.counter, name);
        obj_tell_spoilt(name);
        r = fetch(u, &stored, &raw_len);
    }
    if (r < 0) {
        return r == -EBADMSG ? corrupt(u->sst, u->off, "a unit is not as it was written") : r;
    }
    r = raw_len == 0 ? -EBADMSG : rt_buf_alloc(raw_len, RT_MEM_INDEX_CACHE, &raw);
    if (r == 0) {
        r = sst_unit_decode(&u->sst->key, stored->data, u->len, raw->data, raw_len);
    }
    if (r == 0 && u->kind == SST_UNIT_FILTER && !sst_filter_is_good(raw->data, raw_len)) {
        r = -EBADMSG;
    }
    rt_buf_unref(stored);
    if (r < 0) {
        rt_buf_unref(raw);
        return r == -EBADMSG ? corrupt(u->sst, u->off, "a unit does not decode") : r;
    }
    *ret_piece = (struct rt_piece){.data = raw->data, .len = (uint32_t)raw_len, .buf = raw};
    return 0;
}

static int get_unit_cached(const struct sst_source *src, const struct sst *s,
                           const struct unit_load *at, struct rt_piece *ret_piece)
{
    return cache_get(src->cache, s->cache_id, at->off, ret_piece) ? 0 : -EAGAIN;
}

static int get_unit(const struct sst_source *src, const struct sst *s, const struct unit_load *at,
                    struct rt_piece *ret_piece) WAITS
{
    struct unit_load u = *at;
    u.src = src;
    u.sst = s;
    return cache_load(src->cache, s->cache_id, u.off, load_unit, &u, ret_piece);
}

static struct unit_load filter_at(const struct sst *s)
{
    return (struct unit_load){.off = s->meta.filter_off,
                              .len = s->meta.index_off - s->meta.filter_off,
                              .kind = SST_UNIT_FILTER};
}

static struct unit_load index_at(const struct sst *s)
{
    return (struct unit_load){.off = s->meta.index_off,
                              .len = s->meta.size_bytes - SST_FOOTER_SIZE - s->meta.index_off,
                              .kind = SST_UNIT_INDEX};
}

/* The place of the data unit that an entry of the index names: 0 or -EBADMSG. */
static int block_at(const struct sst *s, const struct sst_block_iter *entry,
                    struct unit_load *ret_at)
{
    if (entry->value_len != 12) {
        return -EBADMSG;
    }
    uint64_t off = le64_load(entry->value);
    uint32_t len = le32_load(entry->value + 8);
    if (off < SST_HEADER_SIZE || off > s->meta.filter_off || len > s->meta.filter_off - off ||
        len < SST_UNIT_HEADER_SIZE) {
        return -EBADMSG;
    }
    *ret_at = (struct unit_load){.off = off, .len = len, .kind = SST_UNIT_DATA};
    return 0;
}

/* One look-up; unit() gets at the decoded units, with or without waiting. */
struct look {
    const struct sst_source *src;
    const struct sst *s;
    const struct sst_query *q;
    int (*unit)(const struct sst_source *src, const struct sst *s, const struct unit_load *at,
                struct rt_piece *ret_piece);
};

/* 1 = the key may be here, 0 = certainly not. */
static int ask_filter(const struct look *l)
{
    struct rt_piece p = {0};
    struct unit_load at = filter_at(l->s);
    int r = l->unit(l->src, l->s, &at, &p);
    if (r < 0) {
        return r;
    }
    r = sst_filter_may_hold(p.data, p.len, l->q->hash);
    rt_buf_unref(p.buf);
    return r;
}

/* Finds the data unit that would hold the key: 1, 0 = none. */
static int ask_index(const struct look *l, struct unit_load *ret_at)
{
    struct rt_piece p = {0};
    struct sst_block_iter it;
    struct unit_load at = index_at(l->s);
    int r = l->unit(l->src, l->s, &at, &p);
    if (r < 0) {
        return r;
    }
    r = sst_block_open(&it, p.data, p.len);
    if (r == 0) {
        r = sst_block_seek(&it, l->q->key, l->q->key_len);
    }
    if (r == 1) {
        int err = block_at(l->s, &it, ret_at);
        r = err < 0 ? err : 1;
    }
    rt_buf_unref(p.buf);
    return r == -EBADMSG ? corrupt(l->s, l->s->meta.index_off, "the block index does not decode")
                         : r;
}

static int ask_block(const struct look *l, const struct unit_load *at)
{
    struct rt_piece p = {0};
    struct sst_block_iter it;
    int r = l->unit(l->src, l->s, at, &p);
    if (r < 0) {
        return r;
    }
    r = sst_block_open(&it, p.data, p.len);
    if (r == 0) {
        r = sst_block_seek(&it, l->q->key, l->q->key_len);
    }
    if (r == 1 && index_key_compare(it.key, it.key_len, l->q->key, l->q->key_len) != 0) {
        r = SST_NONE;
    } else if (r == 1 && it.deleted) {
        r = SST_DELETED;
    } else if (r == 1) {
        bytes_put(l->q->ret_value, it.value, it.value_len);
        r = l->q->ret_value->failed ? -ENOMEM : SST_FOUND;
    }
    rt_buf_unref(p.buf);
    return r == -EBADMSG ? corrupt(l->s, at->off, "a data block does not decode") : r;
}

static int look_up(const struct look *l)
{
    struct unit_load at = {0};
    int r = ask_filter(l);
    if (r <= 0) {
        return r;
    }
    r = ask_index(l, &at);
    if (r <= 0) {
        return r;
    }
    return ask_block(l, &at);
}

int sst_get(const struct sst_source *src, const struct sst *s, const struct sst_query *q) WAITS
{
    struct look l = {src, s, q, get_unit};
    return look_up(&l);
}

int sst_get_cached(const struct sst_source *src, const struct sst *s, const struct sst_query *q)
{
    struct look l = {src, s, q, get_unit_cached};
    return look_up(&l);
}

void sst_cursor_init(struct sst_cursor *c, struct sst *const *ssts, size_t count)
{
    *c = (struct sst_cursor){.ssts = ssts, .count = count};
}

static void close_block(struct sst_cursor *c)
{
    rt_buf_unref(c->block_piece.buf);
    c->block_piece = (struct rt_piece){0};
}

static void close_sst(struct sst_cursor *c)
{
    close_block(c);
    rt_buf_unref(c->index_piece.buf);
    c->index_piece = (struct rt_piece){0};
    c->open = false;
}

void sst_cursor_free(struct sst_cursor *c)
{
    close_sst(c);
}

static int open_index(struct sst_cursor *c, const struct sst_source *src) WAITS
{
    const struct sst *s = c->ssts[c->at];
    struct unit_load at = index_at(s);
    int r = get_unit(src, s, &at, &c->index_piece);
    if (r < 0) {
        c->index_piece = (struct rt_piece){0};
        return r;
    }
    c->open = true;
    return sst_block_open(&c->index, c->index_piece.data, c->index_piece.len);
}

/* The data block that the index cursor names. */
static int open_block(struct sst_cursor *c, const struct sst_source *src) WAITS
{
    const struct sst *s = c->ssts[c->at];
    struct unit_load at;
    close_block(c);
    int r = block_at(s, &c->index, &at);
    if (r < 0) {
        return r;
    }
    r = get_unit(src, s, &at, &c->block_piece);
    if (r < 0) {
        c->block_piece = (struct rt_piece){0};
        return r;
    }
    return sst_block_open(&c->block, c->block_piece.data, c->block_piece.len);
}

/* To the next data block of the run: 1, 0 = there is none. */
static int next_block(struct sst_cursor *c, const struct sst_source *src) WAITS
{
    int r = c->open ? sst_block_next(&c->index) : 0;
    while (r == 0) {
        c->at += c->open;
        close_sst(c);
        if (c->at >= c->count) {
            return 0;
        }
        r = open_index(c, src);
        if (r == 0) {
            r = sst_block_first(&c->index);
        }
    }
    if (r == 1) {
        r = open_block(c, src);
        return r < 0 ? r : 1;
    }
    return r;
}

/* Goes on to an entry; r is what the last step within the block gave. */
static int settle(struct sst_cursor *c, const struct sst_source *src, int r) WAITS
{
    while (r == 0) {
        r = next_block(c, src);
        if (r == 0) {
            return 0;
        }
        if (r == 1) {
            r = sst_block_first(&c->block);
        }
    }
    if (r == -EBADMSG) {
        return corrupt(c->ssts[c->at], c->ssts[c->at]->meta.index_off, "a block does not decode");
    }
    return r;
}

int sst_cursor_seek(struct sst_cursor *c, const struct sst_source *src, const void *key,
                    size_t key_len) WAITS
{
    close_sst(c);
    c->at = sst_run_find(c->ssts, c->count, key, key_len);
    if (c->at == c->count) {
        return 0;
    }
    int r = open_index(c, src);
    if (r == 0) {
        r = sst_block_seek(&c->index, key, key_len);
    }
    if (r == 1) {
        r = open_block(c, src);
        if (r == 0) {
            r = sst_block_seek(&c->block, key, key_len);
        }
    }
    return settle(c, src, r);
}

int sst_cursor_next(struct sst_cursor *c, const struct sst_source *src) WAITS
{
    return settle(c, src, sst_block_next(&c->block));
}
