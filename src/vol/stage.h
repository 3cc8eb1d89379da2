/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What apply is about to write into the index, collected: keys and values in one arena, handed to
 * index_apply() in one step. And how the steps of apply wait for what they lack.
 *
 *     struct vol_staged s = vol_stage_begin(st, INDEX_PUT, &key);
 *     vol_map_encode(map, &st->arena);
 *     r = vol_stage_end(st, &s);
 *
 * A step that gave -ENOMEM has staged nothing, so it may be done again.
 */
#pragma once
#include "base/bytes.h"
#include "base/vec.h"
#include "index/index.h"
#include "vol/key.h"
#include "vol/record.h"

struct vol;

struct vol_staged {
    enum index_op op;
    uint32_t key_len;
    uint32_t value_len;
    size_t at; /* key, then value */
};

struct vol_stage {
    struct vol *v;
    struct bytes_writer arena;
    VEC(struct vol_staged) staged;
};

/*
 * A stored batch has to be applied: where memory is lacking, it is waited for. For steps that have
 * done nothing when they give -ENOMEM.
 */
#define VOL_PATIENTLY(v, expr)                                                                     \
    ({                                                                                             \
        int patiently_r_;                                                                          \
        do {                                                                                       \
            patiently_r_ = (expr);                                                                 \
        } while (unlikely(patiently_r_ == -ENOMEM) && vol_memory_wait(v));                         \
        patiently_r_;                                                                              \
    })

/* False when the volume is fenced, so that nothing is to be waited for. */
bool vol_memory_wait(struct vol *v) WAITS;
/* An error of reading the index that no other try heals. */
bool vol_error_is_lasting(int r);
/* Between two tries of something that failed for a passing reason: -ECANCELED or ERR_FENCED end it,
 * and what only a newer manifest heals. */
MUST int vol_error_pause(struct vol *v, int why) WAITS;

/* The value is then put into the arena, by the caller. */
struct vol_staged vol_stage_begin(struct vol_stage *st, enum index_op op,
                                  const struct vol_key *key);
/* -ENOMEM: nothing of it stays. */
MUST int vol_stage_end(struct vol_stage *st, struct vol_staged *s);
MUST int vol_stage_put(struct vol_stage *st, const struct vol_key *key,
                       const struct bytes_writer *value);
MUST int vol_stage_delete(struct vol_stage *st, const struct vol_key *key);
/* A key and a value as a record has them. */
MUST int vol_stage_pair(struct vol_stage *st, const struct vol_record *rec);
void vol_stage_free(struct vol_stage *st);
