/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Range reads, in chunks: take the current view, put a cursor on each of its sources at the key to
 * go on from, merge a bounded number of entries into a buffer, let the view go, and only then hand
 * the entries out. So each() may wait for as long as it likes without pinning memtables or SSTs,
 * and flushes and compactions in between are nothing special: the next chunk starts from a key, on
 * whatever view there is then.
 */
#include "base/err.h"
#include "index/index_priv.h"
#include <errno.h>
#include <string.h>

#define CHUNK_FIRST 32u
#define CHUNK_MAX 512u
#define CHUNK_BYTES (128u << 10)
#define CHUNK_VISITS 8192u /* tombstones count too */

/* One sorted source: a memtable, or a run of SSTs. */
struct source {
    const struct memtable_node *node;
    struct sst_cursor cursor;
    struct index_entry e;
    bool is_mem;
    bool valid;
};

struct scan {
    struct index *ix;
    struct view *view;
    struct source *sources; /* newest first */
    size_t count;
    const uint8_t *to;
    size_t to_len;             /* 0 = no end */
    struct bytes_writer next;  /* the key to go on from */
    struct bytes_writer found; /* key_len u32, value_len u32, key, value, ... */
    unsigned limit;
    bool done;
};

static int source_settle(struct source *s, int r)
{
    s->valid = r == 1;
    if (r == 1) {
        s->e = s->is_mem ? memtable_entry(s->node) : sst_block_entry(&s->cursor.block);
    }
    return r < 0 ? r : 0;
}

static int source_next(struct scan *sc, struct source *s) WAITS
{
    if (s->is_mem) {
        s->node = memtable_next(s->node);
        return source_settle(s, s->node != NULL);
    }
    return source_settle(s, sst_cursor_next(&s->cursor, &sc->ix->reads));
}

static void add_run(struct scan *sc, struct sst *const *ssts, size_t count)
{
    sst_cursor_init(&sc->sources[sc->count++].cursor, ssts, count);
}

static int add_sources(struct scan *sc)
{
    const struct view *v = sc->view;
    const struct sst_list *top = &v->version->levels[0];
    size_t max = v->mem_count + top->v.len + INDEX_LEVELS;
    sc->sources = calloc(max, sizeof *sc->sources);
    if (sc->sources == NULL) {
        return -ENOMEM;
    }
    for (uint32_t i = 0; i < v->mem_count; i++) {
        sc->sources[sc->count].is_mem = true;
        sc->sources[sc->count++].node = memtable_seek(v->mem[i], sc->next.data, sc->next.len);
    }
    for (size_t i = 0; i < top->v.len;) {
        size_t n = 1;
        while (i + n < top->v.len && top->v.at[i + n]->meta.run == top->v.at[i]->meta.run) {
            n++;
        }
        add_run(sc, top->v.at + i, n);
        i += n;
    }
    for (unsigned level = 1; level < INDEX_LEVELS; level++) {
        const struct sst_list *l = &v->version->levels[level];
        if (l->v.len > 0) {
            add_run(sc, l->v.at, l->v.len);
        }
    }
    return 0;
}

static void chunk_close(struct scan *sc)
{
    for (size_t i = 0; i < sc->count; i++) {
        if (!sc->sources[i].is_mem) {
            sst_cursor_free(&sc->sources[i].cursor);
        }
    }
    free(sc->sources);
    sc->sources = NULL;
    sc->count = 0;
    view_unref(sc->view);
    sc->view = NULL;
}

static int chunk_open(struct scan *sc) WAITS
{
    sc->view = index_view_take(sc->ix);
    int r = add_sources(sc);
    for (size_t i = 0; r == 0 && i < sc->count; i++) {
        struct source *s = &sc->sources[i];
        int at = s->node != NULL;
        if (!s->is_mem) {
            at = sst_cursor_seek(&s->cursor, &sc->ix->reads, sc->next.data, sc->next.len);
        }
        r = source_settle(s, at);
    }
    return r;
}

/* The source with the smallest key; of several the newest. NULL at the end of all. */
static struct source *smallest(struct scan *sc)
{
    struct source *best = NULL;
    for (size_t i = 0; i < sc->count; i++) {
        struct source *s = &sc->sources[i];
        if (s->valid && (best == NULL || index_key_compare(s->e.key, s->e.key_len, best->e.key,
                                                           best->e.key_len) < 0)) {
            best = s;
        }
    }
    return best;
}

static void remember(struct scan *sc, const struct index_entry *e)
{
    if (!e->deleted) {
        bytes_put_le32(&sc->found, e->key_len);
        bytes_put_le32(&sc->found, e->value_len);
        bytes_put(&sc->found, e->key, e->key_len);
        bytes_put(&sc->found, e->value, e->value_len);
    }
    /* The least key above this one, which is also what tells the sources that stand at this one. */
    sc->next.len = 0;
    bytes_put(&sc->next, e->key, e->key_len);
    bytes_put_u8(&sc->next, 0);
}

static int skip_key(struct scan *sc) WAITS
{
    for (size_t i = 0; i < sc->count; i++) {
        struct source *s = &sc->sources[i];
        if (s->valid &&
            index_key_compare(s->e.key, s->e.key_len, sc->next.data, sc->next.len) < 0) {
            int r = source_next(sc, s);
            if (r < 0) {
                return r;
            }
        }
    }
    return 0;
}

static int chunk_gather(struct scan *sc) WAITS
{
    int r = 0;
    unsigned got = 0;
    for (unsigned visits = 0; r == 0 && visits < CHUNK_VISITS; visits++) {
        const struct source *s = smallest(sc);
        if (s == NULL || (sc->to_len > 0 &&
                          index_key_compare(s->e.key, s->e.key_len, sc->to, sc->to_len) >= 0)) {
            sc->done = true;
            return 0;
        }
        if (got == sc->limit || sc->found.len >= CHUNK_BYTES) {
            return 0;
        }
        got += !s->e.deleted;
        remember(sc, &s->e);
        if (sc->found.failed || sc->next.failed) {
            return -ENOMEM;
        }
        r = skip_key(sc);
    }
    return r;
}

static int chunk_give(struct scan *sc,
                      int (*each)(void *arg, const void *key, size_t key_len, const void *value,
                                  size_t value_len) WAITS,
                      void *arg) WAITS
{
    struct bytes_reader in = bytes_reader_of(sc->found.data, sc->found.len);
    int r = 0;
    while (r == 0 && bytes_left(&in) > 0) {
        uint32_t key_len = bytes_le32(&in);
        uint32_t value_len = bytes_le32(&in);
        const uint8_t *key = bytes_take(&in, key_len);
        const uint8_t *value = bytes_take(&in, value_len);
        r = each(arg, key, key_len, value, value_len);
    }
    sc->found.len = 0;
    return r;
}

int index_scan(struct index *ix, const struct index_range *range,
               int (*each)(void *arg, const void *key, size_t key_len, const void *value,
                           size_t value_len) WAITS,
               void *arg) WAITS
{
    struct scan sc = {.ix = ix, .to = range->to, .to_len = range->to_len, .limit = CHUNK_FIRST};
    int r = 0;
    bytes_put(&sc.next, range->from_len > 0 ? range->from : "", range->from_len);
    bytes_put_u8(&sc.next, 0); /* so that there is memory even for the empty key */
    r = sc.next.failed ? -ENOMEM : 0;
    sc.next.len = range->from_len;
    while (r == 0 && !sc.done) {
        r = index_fenced(ix);
        if (r == 0) {
            r = chunk_open(&sc);
            if (r == 0) {
                r = chunk_gather(&sc);
            }
            chunk_close(&sc);
        }
        if (r == 0) {
            r = chunk_give(&sc, each, arg);
        }
        sc.limit = MIN_OF(sc.limit * 4, CHUNK_MAX);
    }
    bytes_writer_free(&sc.next);
    bytes_writer_free(&sc.found);
    return r == -ESTALE && !ix->opt.read_only ? index_sst_missing(ix) : r;
}
