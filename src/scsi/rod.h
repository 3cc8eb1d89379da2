/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ROD tokens (SPC-4 5.17.6): what POPULATE TOKEN has put aside, and the 512 bytes by which WRITE
 * USING TOKEN asks for it, from whatever nexus, unit and target of this server. Whoever has the
 * bytes may: most of them are random.
 *
 *     r = scsi_rod_begin(t, list, &rod);       // pinned, in nobody's sight
 *     r = scsi_rod_fill(...); scsi_rod_publish(rod);
 *     asc = scsi_rod_find(rods, token, &rod);  // pinned
 *     scsi_rod_unpin(rod);                     // WAITS: the last one of a dead token frees it
 */
#pragma once
#include "scsi/rod_list.h"
#include "scsi/scsi_priv.h"

#define SCSI_RODS_MAX 1024u
#define SCSI_RODS_OF_ONE_MAX 128u /* of an initiator */
#define SCSI_ROD_MANAGEMENT_BYTES 96u
#define SCSI_ROD_BYTES_MAX (256ull << 20)
#define SCSI_ROD_BYTES_OPTIMAL (64ull << 20)

/* Where a range of the token lies. */
struct scsi_rod_piece {
    uint64_t from; /* in what the token stands for */
    uint64_t hold_off;
    uint64_t len;
};

struct scsi_rod {
    struct list link; /* of all, the one unused for longest first */
    struct scsi_rods *rods;
    unsigned pins;
    bool published;
    uint64_t number;
    uint64_t bytes;
    uint64_t timeout_ns;
    uint64_t used_ns;
    struct uuid unit;             /* its creator */
    struct scsi_rod_owner *owner; /* in the list: his, who made it */
    uint8_t token[SCSI_ROD_TOKEN_BYTES];
    struct dev *hold;
    uint32_t piece_count;
    struct scsi_rod_piece pieces[];
};

MUST int scsi_rods_create(struct dev_registry *g, struct scsi_rods **ret_rods);
void scsi_rods_destroy(struct scsi_rods *rods) WAITS; /* accepts NULL */

/*
 * A token to be, for those ranges of the task's unit, of which one at least is not empty. 0,
 * -ENOSPC when the initiators have all tokens there can be, -ENOMEM, -EAGAIN, and as
 * dev_hold_create().
 */
MUST int scsi_rod_begin(struct scsi_task *t, const struct scsi_rod_list *list,
                        struct scsi_rod **ret_rod) WAITS;
/* Copies what it stands for; as dev_hold_fill(). */
MUST int scsi_rod_fill(struct scsi_rod *rod, struct scsi_task *t, const struct scsi_rod_list *list,
                       bool (*may_go_on)(void *arg), void *arg) WAITS;
/* From now on it is found. */
void scsi_rod_publish(struct scsi_rod *rod);
/* 0, or the additional sense code that says what is wrong with the token. */
MUST uint16_t scsi_rod_find(struct scsi_rods *rods, const uint8_t token[SCSI_ROD_TOKEN_BYTES],
                            struct scsi_rod **ret_rod);
/* Nobody finds it any more, and then is told this code. */
void scsi_rod_kill(struct scsi_rod *rod, uint16_t asc);
void scsi_rod_unpin(struct scsi_rod *rod) WAITS;
/* The bytes of the token of that number; false: it is gone. */
MUST bool scsi_rod_token(struct scsi_rods *rods, uint64_t number,
                         uint8_t ret_token[SCSI_ROD_TOKEN_BYTES]);
/* The first SCSI_ROD_MANAGEMENT_BYTES of each token that the unit has made, at most max; how many.
 */
size_t scsi_rods_report(struct scsi_rods *rods, const struct uuid *unit,
                        uint8_t (*ret)[SCSI_ROD_MANAGEMENT_BYTES], size_t max);
/* The unit's data are to be nowhere any more: its tokens are revoked. */
void scsi_rods_revoke(struct scsi_rods *rods, const struct uuid *unit) WAITS;
