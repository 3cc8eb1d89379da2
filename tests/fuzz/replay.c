/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Drives a fuzz target where libFuzzer is not: every seed of a folder as it is, and then a fixed
 * number of mutations of the seeds and of nothing. The same inputs at every run.
 *
 *     fuzz_NAME CORPUS-FOLDER [MUTATIONS]          (the folder need not exist)
 */
#include "base/rng.h"
#include "base/vec.h"
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#define INPUT_MAX 65536
#define MUTATIONS_DEFAULT 20000

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

struct input {
    uint8_t *data;
    size_t len;
};

static VEC(struct input) seeds;

/* The target gets memory of the exact length, so that ASan sees every byte too far. */
static void run(const uint8_t *data, size_t len)
{
    uint8_t *exact = malloc(len ? len : 1);
    if (!exact) {
        abort();
    }
    if (len) {
        memcpy(exact, data, len);
    }
    LLVMFuzzerTestOneInput(exact, len);
    free(exact);
}

static void keep_seed(const uint8_t *data, size_t len)
{
    struct input seed = {.data = malloc(len ? len : 1), .len = len};
    if (!seed.data || vec_push(&seeds, seed) < 0) {
        abort();
    }
    memcpy(seed.data, data, len);
}

static void read_seeds(const char *folder)
{
    static uint8_t buf[INPUT_MAX];
    DIR *dir = opendir(folder);
    if (!dir) {
        return;
    }
    for (struct dirent *e = readdir(dir); e; e = readdir(dir)) {
        char path[4096 - 256];
        snprintf(path, sizeof path, "%s/%.255s", folder, e->d_name);
        FILE *f = e->d_name[0] == '.' ? NULL : fopen(path, "rb");
        if (f) {
            keep_seed(buf, fread(buf, 1, sizeof buf, f));
            fclose(f);
        }
    }
    closedir(dir);
}

static uint8_t interesting(struct rng *g)
{
    static const uint8_t bytes[] = {0, 1, 2, 4, 8, 0x10, 0x20, 0x40, 0x7f, 0x80, 0xfe, 0xff};
    return rng_below(g, 2) ? bytes[rng_below(g, sizeof bytes)] : (uint8_t)rng_next(g);
}

static void mutate(struct rng *g, uint8_t *buf, size_t *len)
{
    for (uint64_t left = 1 + rng_below(g, 6); left > 0; left--) {
        size_t at = rng_below(g, *len + 1);
        switch (rng_below(g, 4)) {
        case 0: /* cut off */
            *len = rng_below(g, 4) ? *len : at;
            break;
        case 1: /* grow */
            for (uint64_t n = rng_below(g, 64); n > 0 && *len < INPUT_MAX; n--) {
                buf[(*len)++] = interesting(g);
            }
            break;
        case 2: /* overwrite a run */
            for (size_t i = at; i < *len && i < at + 8; i++) {
                buf[i] = interesting(g);
            }
            break;
        default:
            if (at < *len) {
                buf[at] ^= (uint8_t)(1u << rng_below(g, 8));
            }
        }
    }
}

int main(int argc, char **argv)
{
    static uint8_t buf[INPUT_MAX];
    read_seeds(argc > 1 ? argv[1] : "corpus");
    for (size_t i = 0; i < seeds.len; i++) {
        run(seeds.at[i].data, seeds.at[i].len);
    }
    keep_seed((const uint8_t *)"", 0);
    unsigned long mutations = argc > 2 ? strtoul(argv[2], NULL, 10) : MUTATIONS_DEFAULT;
    struct rng g = rng_seeded(1);
    for (unsigned long n = 0; n < mutations; n++) {
        const struct input *seed = &seeds.at[rng_below(&g, seeds.len)];
        size_t len = seed->len;
        memcpy(buf, seed->data, len);
        mutate(&g, buf, &len);
        run(buf, len);
    }
    printf("%zu seeds, %lu mutations\n", seeds.len - 1, mutations);
    for (size_t i = 0; i < seeds.len; i++) {
        free(seeds.at[i].data);
    }
    vec_free(&seeds);
    return 0;
}
