/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What one operation costs inside the volume, without a protocol: nanoseconds per cached aligned
 * 4 KiB read and per 4 KiB write, and of a sustained run of writes with sealing, commit and apply.
 *
 *     vol_ops [URL]        default memory:
 */
#include "base/assert.h"
#include "base/err.h"
#include "base/rng.h"
#include "obj/obj.h"
#include "rt/rt.h"
#include "vol/vol.h"
#include <stdio.h>
#include <string.h>
#include <time.h>

#define DEVICE (256ull << 20)
#define BLOCKS (DEVICE / 4096)

struct bench {
    struct vol *v;
    struct vol_file *f;
    struct rng rng;
    struct rt_buf *data; /* one block in a larger buffer, as received */
};

static double cpu_s(void)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static void write_at(struct bench *b, uint64_t off, uint32_t len)
{
    struct rt_chain c = {0};
    int r = rt_chain_add(&c, b->data, b->data->data, len);
    if (r == 0) {
        r = vol_write(b->f, off, &c, NULL);
    }
    ASSERT(r == 0);
    rt_chain_free(&c);
}

static void read_at(struct bench *b, uint64_t off, uint32_t len)
{
    struct rt_chain c = {0};
    int r = vol_read(b->f, off, len, &c);
    ASSERT(r == 0 && c.len == len);
    rt_chain_free(&c);
}

static void report(const char *what, uint64_t ops, uint64_t wall_ns, double cpu)
{
    (void)printf("%-44s %8.0f ns wall  %8.0f ns CPU per operation\n", what,
                 (double)wall_ns / (double)ops, cpu * 1e9 / (double)ops);
}

static void run_reads(struct bench *b, const char *what, uint64_t ops, uint32_t len)
{
    uint64_t start = rt_now_ns();
    double cpu = cpu_s();
    for (uint64_t i = 0; i < ops; i++) {
        read_at(b, rng_below(&b->rng, DEVICE / len) * len, len);
        if (i % 64 == 63) {
            rt_yield();
        }
    }
    report(what, ops, rt_now_ns() - start, cpu_s() - cpu);
}

static void run_writes(struct bench *b, const char *what, uint64_t ops, uint32_t len)
{
    uint64_t start = rt_now_ns();
    double cpu = cpu_s();
    for (uint64_t i = 0; i < ops; i++) {
        write_at(b, rng_below(&b->rng, DEVICE / len) * len, len);
        if (i % 64 == 63) {
            rt_yield();
        }
    }
    uint64_t took = rt_now_ns() - start;
    report(what, ops, took, cpu_s() - cpu);
}

static void settle(struct bench *b)
{
    int r = vol_flush(b->v);
    struct vol_counts c;
    ASSERT(r == 0);
    do {
        (void)rt_sleep_ms(5);
        vol_counts(b->v, &c);
    } while (c.dirty_bytes > 0);
}

static void fill(struct bench *b)
{
    for (uint64_t off = 0; off < DEVICE; off += 1u << 20) {
        write_at(b, off, 1u << 20);
    }
    settle(b);
}

static void bench_main(void *arg)
{
    const char *url = arg;
    struct bench b = {.rng = rng_seeded(1)};
    struct obj_store *store;
    struct vol_txn *t;
    uint64_t inode;
    int r = obj_open(url, &store);
    if (r == 0) {
        r = vol_format(store, &(struct vol_format_options){0});
    }
    if (r == 0) {
        struct vol_options opt = {.store = store, .owner = "bench", .memory_bytes = 2ull << 30};
        r = vol_open(&opt, &b.v);
    }
    ASSERT(r == 0);
    r = vol_txn_begin(b.v, &t);
    ASSERT(r == 0);
    r = vol_txn_inode_create(t, DEVICE, &inode);
    ASSERT(r == 0);
    r = vol_txn_commit(t);
    ASSERT(r == 0);
    r = vol_file_open(b.v, inode, &b.f);
    ASSERT(r == 0);
    r = rt_buf_alloc(1u << 20, RT_MEM_INGRESS, &b.data);
    ASSERT(r == 0);
    memset(b.data->data, 7, 1u << 20);
    double cpu = cpu_s();
    uint64_t start = rt_now_ns();
    fill(&b);
    report("1 MiB write, to the store", DEVICE >> 20, rt_now_ns() - start, cpu_s() - cpu);
    run_reads(&b, "4 KiB random read, cached in frames", 2000000, 4096);
    run_reads(&b, "1 MiB read, cached", 5000, 1u << 20);
    run_writes(&b, "4 KiB random write, one batch", 3000, 4096);
    run_reads(&b, "4 KiB random read, some in the open batch", 500000, 4096);
    settle(&b);
    cpu = cpu_s();
    start = rt_now_ns();
    run_writes(&b, "4 KiB random write, sustained", 500000, 4096);
    settle(&b);
    report("  and until all is stored and applied", 500000, rt_now_ns() - start, cpu_s() - cpu);
    run_reads(&b, "4 KiB random read, cached in blocks", 2000000, 4096);
    rt_buf_unref(b.data);
    vol_file_close(b.f);
    r = vol_close(b.v);
    ASSERT(r == 0);
    obj_close(store);
}

int main(int argc, char **argv)
{
    const char *url = argc > 1 ? argv[1] : "memory:";
    int r = rt_run(&(struct rt_options){.cores = 1}, bench_main, (void *)url);
    if (r < 0) {
        (void)fprintf(stderr, "%s\n", err_text(r));
    }
    return r < 0;
}
