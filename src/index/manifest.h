/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A manifest: which SSTs make up the index, and from where the log is to be replayed. One sealed
 * unit, written whole for every change. With keys the body is encrypted and a manifest that is not
 * is none of this volume's. Encoding and decoding are pure; docs/FORMAT.md, "Manifests".
 *
 *     struct manifest m;
 *     r = manifest_decode(&home, bytes, len, &m);        // 0, -EBADMSG, -ENOTSUP (made by a
 * later version)
 *     ...
 *     manifest_free(&m);
 */
#pragma once
#include "base/attr.h"
#include "base/bytes.h"
#include "base/uuid.h"
#include "base/vec.h"
#include "index/index.h"
#include "index/sst_writer.h"
#include "obj/obj.h"

#define MANIFEST_MAGIC                                                                             \
    {                                                                                              \
        'Z', 'F', 'S', '-', 'M', 'A', 'N', 'F'                                                     \
    }
#define MANIFEST_VERSION 1
#define MANIFEST_HEADER_SIZE 128
#define MANIFEST_SALT_SIZE 32
#define MANIFEST_SIZE_MAX (64u << 20)
#define MANIFEST_PREFIX "manifest/"
#define SST_PREFIX "sst/"
#define INDEX_LEVELS 7u

/* Feature bits known here. A volume with other bits in features_incompat is refused; in
 * features_ro_compat, opened for reading only. */
#define MANIFEST_INCOMPAT_KNOWN 0ull
#define MANIFEST_RO_COMPAT_KNOWN 0ull

struct manifest_sst {
    struct sst_meta meta;
    uint8_t level;
};

struct manifest {
    uint64_t number;
    uint64_t epoch;
    uint64_t features_compat;
    uint64_t features_ro_compat;
    uint64_t features_incompat;
    uint8_t salt[MANIFEST_SALT_SIZE];
    bool first_of_epoch; /* I5: never deleted */
    bool clean;
    bool journal_in_use; /* reserved: a local journal holds acknowledged data */
    struct uuid journal; /* reserved: which */
    struct uuid open_id;
    char owner[INDEX_OWNER_SIZE];
    uint64_t replay_from;
    uint64_t log_epoch;
    uint64_t last_batch;
    uint64_t closed_through;
    uint64_t swept_through;        /* below this number only first manifests of epochs are left */
    VEC(struct manifest_sst) ssts; /* by level; level 0 newest run first, the others by key */
};

void manifest_free(struct manifest *m);
/* 0 or -ENOMEM. Once for a salt. */
MUST int manifest_encode(const struct index_home *home, const struct manifest *m,
                         struct bytes_writer *out);
MUST int manifest_decode(const struct index_home *home, const void *bytes, size_t len,
                         struct manifest *ret_m);

/* Named 2^64 - 1 - number, so that the newest is listed first. */
void manifest_name(uint64_t number, char ret_name[OBJ_NAME_SIZE]);
/* 0 or -EINVAL: not such a name. */
MUST int manifest_name_parse(const char *name, uint64_t *ret_number);
void sst_name(uint64_t epoch, uint64_t counter, char ret_name[OBJ_NAME_SIZE]);
MUST int sst_name_parse(const char *name, uint64_t *ret_epoch, uint64_t *ret_counter);
