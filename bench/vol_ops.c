/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What one operation costs inside the volume, without a protocol: nanoseconds per cached aligned
 * 4 KiB read and per 4 KiB write, and of a sustained run of writes with sealing, commit and apply.
 *
 *     vol_ops [URL [MEMORY_MIB [DEVICE_MIB]]]        default memory: 2048 256
 *
 * and the peak of resident memory at the end.
 */
#include "base/assert.h"
#include "base/err.h"
#include "base/rng.h"
#include "obj/obj.h"
#include "rt/rt.h"
#include "vol/vol.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

struct bench {
    const char *url;
    uint64_t memory_mib;
    uint64_t device; /* bytes */
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
        read_at(b, rng_below(&b->rng, b->device / len) * len, len);
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
        write_at(b, rng_below(&b->rng, b->device / len) * len, len);
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
    for (uint64_t off = 0; off < b->device; off += 1u << 20) {
        write_at(b, off, 1u << 20);
    }
    settle(b);
}

static void bench_main(void *arg)
{
    struct bench *b = arg;
    struct obj_store *store;
    struct vol_txn *t;
    uint64_t inode;
    int r = obj_open(b->url, &store);
    if (r == 0) {
        r = vol_format(store, &(struct vol_format_options){0});
    }
    if (r == 0) {
        struct vol_options opt = {
            .store = store, .owner = "bench", .memory_bytes = b->memory_mib << 20};
        r = vol_open(&opt, &b->v);
    }
    ASSERT(r == 0);
    r = vol_txn_begin(b->v, &t);
    ASSERT(r == 0);
    r = vol_txn_inode_create(t, b->device, &inode);
    ASSERT(r == 0);
    r = vol_txn_commit(t);
    ASSERT(r == 0);
    r = vol_file_open(b->v, inode, &b->f);
    ASSERT(r == 0);
    r = rt_buf_alloc(1u << 20, RT_MEM_INGRESS, &b->data);
    ASSERT(r == 0);
    memset(b->data->data, 7, 1u << 20);
    /* Where most reads miss, fewer do. */
    uint64_t reads = b->device <= b->memory_mib << 19 ? 2000000 : 20000;
    double cpu = cpu_s();
    uint64_t start = rt_now_ns();
    fill(b);
    report("1 MiB write, to the store", b->device >> 20, rt_now_ns() - start, cpu_s() - cpu);
    run_reads(b, "4 KiB random read, cached in frames", reads, 4096);
    run_reads(b, "1 MiB read, cached", 5000, 1u << 20);
    run_writes(b, "4 KiB random write, one batch", 3000, 4096);
    run_reads(b, "4 KiB random read, some in the open batch", reads / 4, 4096);
    settle(b);
    cpu = cpu_s();
    start = rt_now_ns();
    run_writes(b, "4 KiB random write, sustained", 500000, 4096);
    settle(b);
    report("  and until all is stored and applied", 500000, rt_now_ns() - start, cpu_s() - cpu);
    run_reads(b, "4 KiB random read, cached in blocks", reads, 4096);
    rt_buf_unref(b->data);
    vol_file_close(b->f);
    r = vol_close(b->v);
    ASSERT(r == 0);
    obj_close(store);
}

static void peak(void)
{
    char line[256];
    FILE *f = fopen("/proc/self/status", "r");
    while (f && fgets(line, sizeof line, f)) {
        if (strncmp(line, "VmHWM:", 6) == 0) {
            (void)fputs(line, stdout);
        }
    }
    if (f) {
        (void)fclose(f);
    }
}

int main(int argc, char **argv)
{
    struct bench b = {.rng = rng_seeded(1), .url = argc > 1 ? argv[1] : "memory:"};
    b.memory_mib = argc > 2 ? strtoull(argv[2], NULL, 10) : 2048;
    b.device = (argc > 3 ? strtoull(argv[3], NULL, 10) : 256) << 20;
    int r = rt_run(&(struct rt_options){.cores = 1}, bench_main, &b);
    if (r < 0) {
        (void)fprintf(stderr, "%s\n", err_text(r));
    }
    peak();
    return r < 0;
}
