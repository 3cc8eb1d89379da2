/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which SSTs there are (version), and what a reader looks at (view: memtables and a version). Both
 * are counted and never change; a change makes a new one. Who holds a view may read everything it
 * names, for as long as it likes.
 */
#pragma once
#include "base/attr.h"
#include "base/vec.h"
#include "index/manifest.h"
#include "index/memtable.h"
#include "index/sst_writer.h"

/* One SST of the index, open. */
struct sst {
    _Atomic uint32_t refs;
    uint64_t cache_id; /* its object number in the block cache */
    struct sst_meta meta;
    struct sst_key key;
};

/* Takes over the keys of meta. 0, -ENOMEM or -EBADMSG, see sst_key_init() (then meta is still the
 * caller's). */
MUST int sst_create(const struct index_home *home, const struct sst_meta *meta,
                    struct sst **ret_sst);
struct sst *sst_ref(struct sst *s);
void sst_unref(struct sst *s);
/* <0, 0, >0: the key is below, within, above the SST's range. */
int sst_compare_key(const struct sst *s, const void *key, size_t key_len);
bool sst_overlaps(const struct sst *a, const struct sst *b);

struct sst_list {
    VEC(struct sst *) v;
};

/* With references of their own. 0 or -ENOMEM. */
MUST int sst_list_push(struct sst_list *l, struct sst *s);
void sst_list_free(struct sst_list *l);
bool sst_list_has(const struct sst_list *l, const struct sst *s);
/* Of a sorted, disjoint run: the index of the first SST whose largest key is >= key; count if none.
 */
size_t sst_run_find(struct sst *const *ssts, size_t count, const void *key, size_t key_len);
uint64_t sst_list_bytes(const struct sst_list *l);

struct version {
    _Atomic uint32_t refs;
    struct sst_list levels[INDEX_LEVELS]; /* 0: newest run first; others by key, disjoint */
};

MUST int version_create(struct version **ret_version);
struct version *version_ref(struct version *v);
void version_unref(struct version *v); /* accepts NULL */
/* How many runs level 0 has. */
unsigned version_run_count(const struct version *v);
/* A version like v, without the SSTs of `remove`, with those of `add` at a level (both may be
 * NULL). 0 or -ENOMEM. */
MUST int version_edit(const struct version *v, const struct sst_list *remove,
                      const struct sst_list *add, unsigned add_level, struct version **ret_version);
/* Fills the manifest's list (keys are not copied: see manifest_drop_ssts()), and back. */
MUST int version_to_manifest(const struct version *v, struct manifest *m);
void manifest_drop_ssts(struct manifest *m);
/* Takes the keys over from m, whose list is empty afterwards. */
MUST int version_from_manifest(const struct index_home *home, struct manifest *m,
                               struct version **ret_version);

struct view {
    _Atomic uint32_t refs;
    uint32_t mem_count;
    struct version *version;
    struct memtable *mem[]; /* newest first */
};

/* Takes references of its own. */
MUST int view_create(struct version *v, struct memtable *const *mem, size_t count,
                     struct view **ret_view);
struct view *view_ref(struct view *v);
void view_unref(struct view *v); /* accepts NULL */
