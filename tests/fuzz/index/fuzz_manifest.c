/* SPDX-License-Identifier: Apache-2.0 */
/* A manifest under a right checksum: what decodes is sound, and comes back after encoding. */
#include "base/assert.h"
#include "base/crc32c.h"
#include "index/manifest.h"
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(const struct manifest *m, const struct uuid *volume)
{
    struct bytes_writer out = {0};
    struct manifest back;
    for (size_t i = 0; i < m->ssts.len; i++) {
        const struct sst_meta *s = &m->ssts.at[i].meta;
        ASSERT(m->ssts.at[i].level < INDEX_LEVELS);
        ASSERT(s->smallest_len <= INDEX_KEY_MAX && s->largest_len <= INDEX_KEY_MAX);
        ASSERT(s->filter_off < s->index_off && s->index_off < s->size_bytes);
    }
    ASSERT(manifest_encode(m, volume, &out) == 0);
    ASSERT(manifest_decode(out.data, out.len, volume, &back) == 0);
    ASSERT(back.ssts.len == m->ssts.len && back.replay_from == m->replay_from);
    manifest_free(&back);
    bytes_writer_free(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct uuid volume = {{1}};
    struct manifest m;
    uint8_t *copy = malloc(size + MANIFEST_HEADER_SIZE);
    ASSERT(copy != NULL);
    memset(copy, 0, MANIFEST_HEADER_SIZE);
    memcpy(copy + MANIFEST_HEADER_SIZE, data, size);
    size_t len = size + MANIFEST_HEADER_SIZE;
    memcpy(copy, (const uint8_t[8])MANIFEST_MAGIC, 8);
    le16_store(copy + 8, MANIFEST_VERSION);
    le32_store(copy + 12, MANIFEST_HEADER_SIZE);
    memcpy(copy + 24, volume.bytes, 16);
    le64_store(copy + 112, size);
    uint32_t crc = crc32c(0, copy, 124);
    le32_store(copy + 124, crc32c(crc, copy + MANIFEST_HEADER_SIZE, size));
    if (manifest_decode(copy, len, &volume, &m) == 0) {
        check(&m, &volume);
        manifest_free(&m);
    }
    free(copy);
    if (manifest_decode(data, size, &volume, &m) == 0) {
        manifest_free(&m);
    }
    return 0;
}
