/* SPDX-License-Identifier: Apache-2.0 */
#include "vol/stage.h"
#include "base/err.h"
#include "base/msg.h"
#include "vol/vol_priv.h"

#define MEMORY_PAUSE_MS 20u
#define ERROR_PAUSE_MS 500u

bool vol_memory_wait(struct vol *v) WAITS
{
    if (atomic_load(&v->fenced)) {
        return false;
    }
    msg_warn_paced("vol", "a batch waits for memory to be applied");
    rt_shield();
    (void)rt_sleep_ms(MEMORY_PAUSE_MS);
    rt_unshield();
    return true;
}

bool vol_error_is_lasting(int r)
{
    return r == ERR_CORRUPT_RECORD || r == ERR_CORRUPT_INDEX || r == ERR_FORMAT_TOO_NEW;
}

int vol_error_pause(struct vol *v, int why) WAITS
{
    bool stale = why == -ESTALE && v->opt.read_only;
    if (why == -ECANCELED || why == ERR_FENCED || stale || atomic_load(&v->fenced)) {
        return why;
    }
    msg_warn("vol", "the index cannot be read: %s; trying again", err_text(why));
    return rt_sleep_ms(ERROR_PAUSE_MS);
}

struct vol_staged vol_stage_begin(struct vol_stage *st, enum index_op op, const struct vol_key *key)
{
    struct vol_staged s = {.op = op, .key_len = key->len, .at = st->arena.len};
    bytes_put(&st->arena, key->bytes, key->len);
    return s;
}

int vol_stage_end(struct vol_stage *st, struct vol_staged *s)
{
    s->value_len = (uint32_t)(st->arena.len - s->at - s->key_len);
    int r = st->arena.failed ? -ENOMEM : vec_push(&st->staged, *s);
    if (r < 0) {
        st->arena.len = s->at;
        st->arena.failed = false;
    }
    return r;
}

int vol_stage_put(struct vol_stage *st, const struct vol_key *key, const struct bytes_writer *value)
{
    if (value->failed) {
        return -ENOMEM;
    }
    struct vol_staged s = vol_stage_begin(st, INDEX_PUT, key);
    bytes_put(&st->arena, value->data, value->len);
    return vol_stage_end(st, &s);
}

int vol_stage_delete(struct vol_stage *st, const struct vol_key *key)
{
    struct vol_staged s = vol_stage_begin(st, INDEX_DELETE, key);
    return vol_stage_end(st, &s);
}

int vol_stage_pair(struct vol_stage *st, const struct vol_record *rec)
{
    struct vol_staged s = {.op = rec->kind == VOL_RECORD_PUT ? INDEX_PUT : INDEX_DELETE,
                           .key_len = rec->key_len,
                           .at = st->arena.len};
    bytes_put(&st->arena, rec->key, rec->key_len);
    bytes_put(&st->arena, rec->value, rec->value_len);
    return vol_stage_end(st, &s);
}

void vol_stage_free(struct vol_stage *st)
{
    bytes_writer_free(&st->arena);
    vec_free(&st->staged);
}
