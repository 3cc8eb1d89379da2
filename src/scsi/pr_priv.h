/* SPDX-License-Identifier: Apache-2.0 */
/* Persistent reservations within scsi: the state of a device, and those who look at it. */
#pragma once
#include "scsi/pr.h"
#include "scsi/scsi_priv.h"

/* That of the device, made when it is first asked for; NULL when out of memory. */
struct scsi_pr *scsi_pr_of(struct dev *d);

/* A view comes and goes; from its coming on itl->refuses says what it is refused. */
void scsi_pr_attach(struct scsi_itl *itl);
void scsi_pr_detach(struct scsi_itl *itl);

/* What a nexus would be refused that has no view: a bit per enum scsi_access. */
uint32_t scsi_pr_refused(struct scsi_pr *pr, const struct scsi_nexus *n);

/* The nexus has that name, whatever target it is of. */
bool scsi_pr_is_of(const struct scsi_nexus *n, const struct scsi_pr_nexus *name);

/* The state as it is now; attached says who is there. */
MUST int scsi_pr_snapshot(struct scsi_pr *pr, struct scsi_pr_state *ret_state);

/*
 * Adds the initiator ports of that name which are there, through that target port, to the others of
 * q: 0, -EINVAL when there are none, -ENOMEM.
 */
MUST int scsi_pr_add_known(struct scsi_lu *lu, const char *initiator, uint16_t port,
                           struct scsi_pr_request *q);

/* RESERVE(6), RELEASE(6) and their like: with the exceptions of SPC-4 5.13.3. Sets the status. */
void scsi_pr_legacy(struct scsi_task *t, bool reserve);

/* Carries the request out, on behalf of the task, and sets its status. */
void scsi_pr_change(struct scsi_task *t, const struct scsi_pr_request *q) WAITS;
