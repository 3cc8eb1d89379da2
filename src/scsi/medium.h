/* SPDX-License-Identifier: Apache-2.0 */
/* What the commands that touch the medium share: their CDB fields and their checks. */
#pragma once
#include "scsi/scsi.h"

/* Takes t->lba and t->blocks from a CDB of 6, 10, 12 or 16 bytes. */
void scsi_range_load(struct scsi_task *t);
/* The range is within the unit, else LBA OUT OF RANGE and false. */
bool scsi_range_check(struct scsi_task *t);
/* RDPROTECT, WRPROTECT, VRPROTECT are 0, else INVALID FIELD and false: INQUIRY says PROTECT = 0. */
bool scsi_protect_check(struct scsi_task *t);
/* blocks blocks are not over the announced limit, else INVALID FIELD at the CDB's length and false.
 */
bool scsi_limit_check(struct scsi_task *t, uint64_t blocks_max);
/*
 * The initiator means to send exactly data_len bytes. Otherwise the CDB does not say what it meant:
 * INVALID FIELD at that byte, and false.
 */
bool scsi_exact_check(struct scsi_task *t, unsigned byte);
/* False when the client has lost writes and is told so now: the task has failed. Before anything
 * that makes data durable. */
bool scsi_loss_check(struct scsi_task *t);
/* The task that tells so is not answered. */
void scsi_task_untold(struct scsi_task *t);
uint64_t scsi_offset(const struct scsi_task *t);
uint64_t scsi_length(const struct scsi_task *t);
/* How many of the wanted bytes of data-out have come, in whole blocks. */
uint64_t scsi_whole_blocks(const struct scsi_task *t);
/* The offset of the first byte in which chain a, from off on, differs from b; len when they are
 * equal. */
uint64_t scsi_compare(const struct rt_chain *a, uint64_t off, const struct rt_chain *b,
                      uint64_t len);
/* Writes the first len bytes of data-out at the task's LBA, out of the task's space. */
MUST int scsi_write_data(struct scsi_task *t, uint64_t len, unsigned flags) WAITS;
