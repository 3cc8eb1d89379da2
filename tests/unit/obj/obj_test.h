/* SPDX-License-Identifier: Apache-2.0 */
/* What the tests of stores share. They run on fibers, so they use CHECK. */
#pragma once
#include "obj/obj_layers.h"
#include "rt/rt_test.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Puts the bytes in two pieces, so that chains of several pieces are met. */
static inline int put_bytes(struct obj_store *s, const char *name, const void *p, size_t len)
{
    struct rt_chain body = {0};
    const uint8_t *b = p;
    uint32_t half = (uint32_t)len / 2;
    int r = half > 0 ? rt_chain_add(&body, NULL, b, half) : 0;
    if (r == 0 && len > half) {
        r = rt_chain_add(&body, NULL, b + half, (uint32_t)len - half);
    }
    if (r == 0) {
        r = obj_put(s, OBJ_COMMIT, name, &body);
    }
    rt_chain_free(&body);
    return r;
}

static inline int put_text(struct obj_store *s, const char *name, const char *text)
{
    return put_bytes(s, name, text, strlen(text));
}

static inline bool has_text(struct obj_store *s, const char *name, const char *text)
{
    char got[256] = {0};
    ssize_t n = obj_get(s, OBJ_READ, name, 0, got, sizeof got);
    return n == (ssize_t)strlen(text) && memcmp(got, text, (size_t)n) == 0;
}

/* A fresh folder under TMPDIR; the caller frees the name and removes it with wipe(). */
static inline char *make_folder(void)
{
    const char *base = getenv("TMPDIR");
    char *path = NULL;
    CHECK(asprintf(&path, "%s/obj-test-XXXXXX", base ? base : "/tmp") > 0);
    CHECK(mkdtemp(path) != NULL);
    return path;
}

static inline void wipe(const char *folder)
{
    char cmd[512];
    (void)snprintf(cmd, sizeof cmd, "rm -rf -- '%s'", folder);
    CHECK(system(cmd) == 0);
}
