/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Kerberos V5 as iSCSI uses it (RFC 7143 §12.1.1, RFC 4120 §3.2), the target's side, by libkrb5.
 *
 *     initiator                       target
 *     KRB_AP_REQ=0x6e82...     ->
 *                              <-     [KRB_AP_REP=0x6f81...]     when the request asks for it
 *
 *     struct iscsi_kerberos_job job = {.keytab = path, .service = "iscsi/iqn...", .request = p,
 *                                      .len = n};
 *     r = rt_offload(RT_OFFLOAD_IO, iscsi_kerberos_accept, &job);
 *     ... job.client, job.reply ...
 *     iscsi_kerberos_free(&job);
 *
 * libkrb5 reads its configuration (KRB5_CONFIG, /etc/krb5.conf), the keytab and the replay cache,
 * so all of this blocks, and belongs on an offload thread. Each job has a context of its own:
 * nothing is shared. The replay cache is the machine's for this user (KRB5RCACHENAME), so that a
 * request is good once, over restarts too.
 */
#pragma once
#include "base/attr.h"
#include "dev/access.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define ISCSI_KERBEROS_BINARY_MAX 65536u /* §12.1.1: the longest KRB_AP_REQ and KRB_AP_REP */
#define ISCSI_KERBEROS_WHY_SIZE 240

struct iscsi_kerberos_job {
    const char *keytab;     /* path of a file */
    const char *service;    /* whom the ticket must be for; without @REALM in any realm of the
                               keytab; NULL: for whomever the keytab has a key */
    const uint8_t *request; /* KRB_AP_REQ */
    size_t len;

    char client[DEV_USER_MAX + 1]; /* "alice@EXAMPLE.COM" */
    uint8_t *reply;                /* KRB_AP_REP; NULL: none was asked for */
    size_t reply_len;
    char why[ISCSI_KERBEROS_WHY_SIZE]; /* what failed, fit for the log */
};

/*
 * arg: a job. 0: the client is who he says. -EACCES: he is not, or his request is none, or no
 * longer; -EIO: our keytab or configuration is at fault; -ENOMEM. Blocks.
 */
MUST int iscsi_kerberos_accept(void *arg);
void iscsi_kerberos_free(struct iscsi_kerberos_job *job);

/* arg: a job, of which the keytab is looked at: 0, or -EIO with what is wrong with it. Blocks. */
MUST int iscsi_kerberos_check(void *arg);
