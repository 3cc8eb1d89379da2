/* SPDX-License-Identifier: Apache-2.0 */
/* RESERVE and RELEASE, 6 and 10 bytes: of the whole unit, for the sender (SPC-2 7.21, 7.16),
 * unless somebody is registered for persistent reservations. */
#include "base/endian.h"
#include "scsi/pr_priv.h"
#include "scsi/sense.h"

void scsi_reserve_parse(struct scsi_task *t)
{
    if (t->cdb[1] & 0x10) {
        scsi_fail_cdb(t, 1, 4); /* 3RDPTY */
    } else if (t->cdb[1] & 0x01) {
        scsi_fail_cdb(t, 1, 0); /* EXTENT */
    } else if (t->command->cdb_len == 10 && (t->cdb[1] & 0x02)) {
        scsi_fail_cdb(t, 1, 1); /* LONGID */
    } else if (t->command->cdb_len == 10 && be16_load(t->cdb + 7) != 0) {
        scsi_fail_cdb(t, 7, 7);
    }
}

void scsi_reserve_run(struct scsi_task *t)
{
    scsi_pr_legacy(t, true);
}

/* By anybody but the holder: GOOD, and nothing happens. */
void scsi_release_run(struct scsi_task *t)
{
    scsi_pr_legacy(t, false);
}
