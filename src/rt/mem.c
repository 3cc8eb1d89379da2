/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The memory table. Each line is spread over shards, one per thread as long as there are enough, so
 * that accounting costs no traffic between cores. A shard may be negative (taken on one thread,
 * given back on another); the sum is not, but for moments in which it is being read.
 */
#include "base/assert.h"
#include "rt/buf.h"

#define SHARDS 64

struct shard {
    _Alignas(64) _Atomic int64_t used[RT_MEM_OWNERS];
};

static struct shard shards[SHARDS];
static _Atomic unsigned next_shard;
static _Thread_local struct shard *shard_here;

static const char *const names[RT_MEM_OWNERS] = {
    [RT_MEM_DIRTY] = "dirty",
    [RT_MEM_SEALING] = "sealing",
    [RT_MEM_MEMTABLE] = "memtable",
    [RT_MEM_INDEX_CACHE] = "index-cache",
    [RT_MEM_BLOCK_CACHE] = "block-cache",
    [RT_MEM_DISK_CACHE] = "disk-cache",
    [RT_MEM_INGRESS] = "ingress",
    [RT_MEM_EGRESS] = "egress",
    [RT_MEM_STACKS] = "stacks",
    [RT_MEM_CONNECTIONS] = "connections",
    [RT_MEM_HTTP] = "http",
    [RT_MEM_OTHER] = "other",
};

const char *rt_mem_name(enum rt_mem owner)
{
    ASSERT(owner < RT_MEM_OWNERS);
    return names[owner];
}

void rt_mem_add(enum rt_mem owner, int64_t delta_bytes)
{
    ASSERT(owner < RT_MEM_OWNERS);
    if (unlikely(!shard_here)) {
        shard_here = &shards[atomic_fetch_add(&next_shard, 1) % SHARDS];
    }
    atomic_fetch_add_explicit(&shard_here->used[owner], delta_bytes, memory_order_relaxed);
}

uint64_t rt_mem_used(enum rt_mem owner)
{
    int64_t sum = 0;
    ASSERT(owner < RT_MEM_OWNERS);
    for (unsigned i = 0; i < SHARDS; i++) {
        sum += atomic_load_explicit(&shards[i].used[owner], memory_order_relaxed);
    }
    return sum < 0 ? 0 : (uint64_t)sum;
}
