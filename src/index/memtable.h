/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The index in memory: a sorted map of copied keys and values. One writer at a time; readers on any
 * core at any time, without locks. What was added stays where it is until the last reference goes,
 * so a reader that holds one may keep its place across a wait.
 *
 *     r = memtable_reserve(mt, w, count);                  // all memory a batch can need, or
 * nothing for (...) { memtable_put(mt, &w[i]); }               // cannot fail if (memtable_get(mt,
 * key, key_len, &e)) { e.deleted ... e.value }
 */
#pragma once
#include "base/attr.h"
#include "index/index.h"
#include "index/sst_block.h"
#include <stdbool.h>

struct memtable;
struct memtable_node;

/* One reference. expected_bytes is the size it is likely to reach. 0 or -ENOMEM. */
MUST int memtable_create(uint64_t expected_bytes, struct memtable **ret_mt);
struct memtable *memtable_ref(struct memtable *mt);
void memtable_unref(struct memtable *mt); /* accepts NULL */

/* The writer's side. */
MUST int memtable_reserve(struct memtable *mt, const struct index_write *w, size_t count);
void memtable_put(struct memtable *mt, const struct index_write *w);
/* Before the puts of a batch, some steps ahead: fetches what the put of w will need. First the
 * bucket, then the node. */
void memtable_hint(const struct memtable *mt, const struct index_write *w, bool node);

/* Bytes used by nodes and values, also of values that were overwritten. */
uint64_t memtable_bytes(const struct memtable *mt);
uint64_t memtable_count(const struct memtable *mt);

/* False when the key was never written here. A tombstone is an entry. */
MUST bool memtable_get(const struct memtable *mt, const void *key, size_t key_len,
                       struct index_entry *ret_entry);
/* The first node with a key >= key, NULL at the end. key_len 0 = the first of all. */
const struct memtable_node *memtable_seek(const struct memtable *mt, const void *key,
                                          size_t key_len);
const struct memtable_node *memtable_next(const struct memtable_node *n);
/* The entry as it is now. */
struct index_entry memtable_entry(const struct memtable_node *n);
