/* SPDX-License-Identifier: Apache-2.0 */
/* A manifest under a right checksum: what decodes is sound, and comes back after encoding. */
#include "base/assert.h"
#include "base/crc32c.h"
#include "index/manifest.h"
#include <errno.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(const struct manifest *m, const struct index_home *home)
{
    struct bytes_writer out = {0};
    struct manifest back;
    for (size_t i = 0; i < m->ssts.len; i++) {
        const struct sst_meta *s = &m->ssts.at[i].meta;
        ASSERT(m->ssts.at[i].level < INDEX_LEVELS);
        ASSERT(s->smallest_len <= INDEX_KEY_MAX && s->largest_len <= INDEX_KEY_MAX);
        ASSERT(s->filter_off < s->index_off && s->index_off < s->size_bytes);
    }
    ASSERT(manifest_encode(home, m, &out) == 0);
    ASSERT(manifest_decode(home, out.data, out.len, &back) == 0);
    ASSERT(back.ssts.len == m->ssts.len && back.replay_from == m->replay_from);
    manifest_free(&back);
    bytes_writer_free(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct index_home home = {{{1}}, NULL};
    static struct crypt_keys *keys;
    static const uint8_t secret[CRYPT_KEY_BYTES] = {1};
    struct manifest m;
    uint8_t *copy = malloc(size + MANIFEST_HEADER_SIZE);
    ASSERT(copy != NULL);
    memset(copy, 0, MANIFEST_HEADER_SIZE);
    memcpy(copy + MANIFEST_HEADER_SIZE, data, size);
    size_t len = size + MANIFEST_HEADER_SIZE;
    memcpy(copy, (const uint8_t[8])MANIFEST_MAGIC, 8);
    le16_store(copy + 8, MANIFEST_VERSION);
    le32_store(copy + 12, MANIFEST_HEADER_SIZE);
    memcpy(copy + 24, home.volume.bytes, 16);
    le64_store(copy + 112, size);
    uint32_t crc = crc32c(0, copy, 124);
    le32_store(copy + 124, crc32c(crc, copy + MANIFEST_HEADER_SIZE, size));
    if (manifest_decode(&home, copy, len, &m) == 0) {
        check(&m, &home);
        manifest_free(&m);
    }
    ASSERT(keys || crypt_keys_create(secret, CRYPT_AES_256_GCM, &keys) == 0);
    home.keys = keys;
    copy[10] = CRYPT_AES_256_GCM;
    le64_store(copy + 16, CRYPT_KEY_VOLUME);
    ASSERT(manifest_decode(&home, copy, len, &m) == -EBADMSG); /* nobody guesses a tag */
    home.keys = NULL;
    free(copy);
    if (manifest_decode(&home, data, size, &m) == 0) {
        manifest_free(&m);
    }
    return 0;
}
