/* SPDX-License-Identifier: Apache-2.0 */
#include "vol/backref.h"
#include "vol/vol_priv.h"

/* True when an earlier run of the record is of the same frame. */
static bool is_told(const struct vol_record *rec, uint32_t i)
{
    const struct vol_record_run *run = &rec->runs[i];
    for (uint32_t k = 0; k < i; k++) {
        const struct vol_record_run *other = &rec->runs[k];
        if (other->kind == VOL_RUN_STORED && other->seq == run->seq &&
            other->offset == run->offset) {
            return true;
        }
    }
    return false;
}

int vol_backrefs_stage(struct vol_stage *st, const struct vol_record *rec) WAITS
{
    int r = 0;
    for (uint32_t i = 0; i < rec->run_count && r == 0; i++) {
        const struct vol_record_run *run = &rec->runs[i];
        if (run->kind != VOL_RUN_STORED || is_told(rec, i)) {
            continue;
        }
        struct vol_key key = vol_key_backref(run->seq, run->offset, rec->layer, rec->page);
        struct bytes_writer value = {0};
        vol_number_encode(1, &value);
        r = VOL_PATIENTLY(st->v, vol_stage_put(st, &key, &value));
        bytes_writer_free(&value);
        st->v->has_backrefs = true;
    }
    return r;
}

static int drop(void *arg, const void *key, size_t key_len, const void *value, size_t value_len)
{
    (void)value;
    (void)value_len;
    struct vol_stage *st = arg;
    struct vol_key k = {.len = (uint32_t)key_len};
    memcpy(k.bytes, key, MIN_OF(key_len, sizeof k.bytes));
    return VOL_PATIENTLY(st->v, vol_stage_delete(st, &k));
}

int vol_backrefs_drop(struct vol_stage *st, uint64_t seq) WAITS
{
    size_t staged = st->staged.len;
    size_t arena = st->arena.len;
    struct vol_key from = vol_key_backrefs(seq);
    struct vol_key upto = vol_key_backrefs(seq + 1);
    int r;
    while ((r = index_scan(st->v->ix,
                           &(struct index_range){from.bytes, from.len, upto.bytes, upto.len}, drop,
                           st)) < 0) {
        if (vol_error_is_lasting(r)) {
            return 0; /* they stay, and do no harm */
        }
        r = vol_error_pause(st->v, r);
        if (r < 0) {
            return r;
        }
        st->staged.len = staged; /* the scan begins anew */
        st->arena.len = arena;
    }
    return 0;
}
