/* SPDX-License-Identifier: Apache-2.0 */
/*
 * TransportIDs of iSCSI initiators (SPC-4 7.6.4.6): pure codec. An initiator port is named
 * "iqn.2024-01.com.example:a,i,0x00023d000001", in lower case, with twelve digits of ISID, as
 * struct scsi_nexus has it; a TransportID without an ISID names all ports of an initiator.
 */
#pragma once
#include "base/attr.h"
#include "base/bytes.h"
#include "dev/dev.h"

struct scsi_transport_id {
    char name[DEV_NEXUS_MAX + 1];
    bool is_port; /* name has an ISID */
};

/* The next one of the list: 0; -EINVAL when it is none of iSCSI, or cut off. */
MUST int scsi_transport_id_decode(struct bytes_reader *in, struct scsi_transport_id *ret_id);
/* That of the initiator port `name`. */
void scsi_transport_id_encode(const char *name, struct bytes_writer *ret_bytes);
