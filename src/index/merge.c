/* SPDX-License-Identifier: Apache-2.0 */
#include "index/merge.h"
#include "base/err.h"
#include "base/msg.h"
#include "index/sst_unit.h"
#include <errno.h>
#include <string.h>

#define WINDOW_BYTES (256u << 10)
#define STEP_ENTRIES 16384u

int merge_init(struct merge *m, size_t max)
{
    *m = (struct merge){.inputs = calloc(max, sizeof(struct merge_input))};
    return m->inputs == NULL ? -ENOMEM : 0;
}

void merge_add(struct merge *m, struct sst *const *ssts, size_t count)
{
    m->inputs[m->count++] =
        (struct merge_input){.ssts = ssts, .count = count, .off = SST_HEADER_SIZE};
}

void merge_free(struct merge *m)
{
    for (size_t i = 0; i < m->count; i++) {
        rt_mem_add(RT_MEM_SEALING, -(int64_t)(m->inputs[i].window_cap + m->inputs[i].raw_cap));
        free(m->inputs[i].window);
        free(m->inputs[i].raw);
    }
    free(m->inputs);
}

static int reserve(uint8_t **at, size_t *cap, size_t want)
{
    if (*cap >= want) {
        return 0;
    }
    uint8_t *p = realloc(*at, want);
    if (p == NULL) {
        return -ENOMEM;
    }
    rt_mem_add(RT_MEM_SEALING, (int64_t)(want - *cap));
    *at = p;
    *cap = want;
    return 0;
}

/* The part of the window that starts at the next unit. */
static uint8_t *at_window(const struct merge_input *in, size_t *ret_len)
{
    if (in->off < in->window_off || in->off >= in->window_off + in->window_len) {
        *ret_len = 0;
        return NULL;
    }
    *ret_len = (size_t)(in->window_off + in->window_len - in->off);
    return in->window + (in->off - in->window_off);
}

/* Decodes the next data unit of the run: 0, MERGE_NEED, or an error. */
static int next_unit(struct merge_input *in)
{
    const struct sst_key *key = &in->ssts[in->at]->key;
    size_t len;
    size_t raw_len;
    uint8_t *unit = at_window(in, &len);
    size_t size = sst_unit_size(unit, len);
    if (len >= SST_UNIT_HEADER_SIZE && size == 0) {
        return -EBADMSG;
    }
    if (size == 0 || size > len) {
        return MERGE_NEED;
    }
    int r = sst_unit_open(key, unit, size, in->off, SST_UNIT_DATA, &raw_len);
    if (r < 0) {
        return r;
    }
    r = reserve(&in->raw, &in->raw_cap, raw_len);
    if (r == 0) {
        r = sst_unit_decode(key, unit, size, in->raw, raw_len);
    }
    if (r == 0) {
        r = sst_block_open(&in->it, in->raw, raw_len);
    }
    if (r == 0) {
        in->off += size;
    }
    return r;
}

/* Puts the input at its next entry, or at the end of its run: 0, MERGE_NEED, or an error. */
static int settle(struct merge_input *in)
{
    while (!in->valid && in->at < in->count) {
        int r = in->it.raw != NULL ? sst_block_next(&in->it) : 0;
        if (r < 0) {
            return r;
        }
        in->valid = r == 1;
        if (r == 0 && in->off >= in->ssts[in->at]->meta.filter_off) {
            in->at++;
            in->off = SST_HEADER_SIZE;
            in->window_len = 0;
            in->it.raw = NULL;
        } else if (r == 0) {
            r = next_unit(in);
            if (r != 0) {
                return r;
            }
        }
    }
    return 0;
}

static struct merge_input *smallest(struct merge *m)
{
    struct merge_input *best = NULL;
    for (size_t i = 0; i < m->count; i++) {
        struct merge_input *in = &m->inputs[i];
        if (in->valid && (best == NULL || index_key_compare(in->it.key, in->it.key_len,
                                                            best->it.key, best->it.key_len) < 0)) {
            best = in;
        }
    }
    return best;
}

/* Older inputs that stand at the same key have lost. */
static void drop_older(struct merge *m, const struct merge_input *winner)
{
    for (size_t i = (size_t)(winner - m->inputs) + 1; i < m->count; i++) {
        struct merge_input *in = &m->inputs[i];
        if (in->valid && index_key_compare(in->it.key, in->it.key_len, winner->it.key,
                                           winner->it.key_len) == 0) {
            in->valid = false;
        }
    }
}

int merge_step(void *merge)
{
    struct merge *m = merge;
    for (unsigned n = 0; n < STEP_ENTRIES; n++) {
        for (size_t i = 0; i < m->count; i++) {
            int r = m->inputs[i].valid ? 0 : settle(&m->inputs[i]);
            if (r != 0) {
                m->need = i;
                return r;
            }
        }
        struct merge_input *in = smallest(m);
        if (in == NULL) {
            return MERGE_DONE;
        }
        if (sst_writer_is_full(m->w)) {
            return MERGE_FULL;
        }
        if (!in->it.deleted || !m->drop_tombstones) {
            struct index_entry e = sst_block_entry(&in->it);
            int r = sst_writer_add(m->w, &e);
            if (r < 0) {
                return r;
            }
        }
        drop_older(m, in);
        in->valid = false;
    }
    return MERGE_AGAIN;
}

static int corrupt(const struct merge_input *in, const char *what)
{
    char name[OBJ_NAME_SIZE];
    const struct sst_meta *meta = &in->ssts[in->at]->meta;
    sst_name(meta->epoch, meta->counter, name);
    msg_error("index", "%s is corrupt: %s at offset %llu", name, what, (unsigned long long)in->off);
    return ERR_CORRUPT_INDEX;
}

int merge_fill(struct merge *m, struct obj_store *store, enum obj_class c) WAITS
{
    struct merge_input *in = &m->inputs[m->need];
    const struct sst_meta *meta = &in->ssts[in->at]->meta;
    char name[OBJ_NAME_SIZE];
    size_t have;
    const uint8_t *unit = at_window(in, &have);
    size_t size = MAX_OF(sst_unit_size(unit, have), (size_t)WINDOW_BYTES);
    size_t want = (size_t)MIN_OF((uint64_t)size, meta->filter_off - in->off);
    int r = reserve(&in->window, &in->window_cap, want);
    if (r < 0) {
        return r;
    }
    sst_name(meta->epoch, meta->counter, name);
    ssize_t got = obj_get(store, c, name, in->off, in->window, want);
    if (got == -ENOENT) {
        return corrupt(in, "it is not there; wanted");
    }
    if (got < 0) {
        return (int)got;
    }
    in->window_off = in->off;
    in->window_len = (size_t)got;
    in->fetched_again = false;
    /* Whatever is missing now does not exist. */
    const uint8_t *fresh = at_window(in, &have);
    size = sst_unit_size(fresh, have);
    bool torn = (size_t)got < want || size > want || want < SST_UNIT_HEADER_SIZE;
    return torn ? corrupt(in, "a unit is cut off") : 0;
}

int merge_refill(struct merge *m, struct obj_store *store, enum obj_class c) WAITS
{
    struct merge_input *in = &m->inputs[m->need];
    if (in->fetched_again) {
        return corrupt(in, "a unit is not as it was written");
    }
    char name[OBJ_NAME_SIZE];
    const struct sst_meta *meta = &in->ssts[in->at]->meta;
    sst_name(meta->epoch, meta->counter, name);
    obj_tell_spoilt(name);
    in->window_len = 0;
    int r = merge_fill(m, store, c);
    in->fetched_again = true;
    return r;
}
