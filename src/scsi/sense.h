/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sense data (SPC-4 4.5): what a command says when it ends with CHECK CONDITION. The codec is pure;
 * the scsi_fail functions give a task its status and sense, in the format that its logical unit's
 * D_SENSE bit asks for.
 */
#pragma once
#include "scsi/scsi.h"

enum scsi_key { /* SPC-4 table 37 */
    SCSI_KEY_NO_SENSE = 0x0,
    SCSI_KEY_NOT_READY = 0x2,
    SCSI_KEY_MEDIUM_ERROR = 0x3,
    SCSI_KEY_HARDWARE_ERROR = 0x4,
    SCSI_KEY_ILLEGAL_REQUEST = 0x5,
    SCSI_KEY_UNIT_ATTENTION = 0x6,
    SCSI_KEY_DATA_PROTECT = 0x7,
    SCSI_KEY_COPY_ABORTED = 0xa,
    SCSI_KEY_ABORTED_COMMAND = 0xb,
    SCSI_KEY_MISCOMPARE = 0xe,
};

enum scsi_asc { /* ASC << 8 | ASCQ, SPC-4 annex F */
    SCSI_ASC_NONE = 0x0000,
    SCSI_ASC_PROCESS_TERMINATED = 0x0006,
    SCSI_ASC_OPERATION_IN_PROGRESS = 0x0016,
    SCSI_ASC_MANUAL_INTERVENTION = 0x0403,
    SCSI_ASC_ACCESS_STATE_TRANSITION = 0x040a,
    SCSI_ASC_PORT_IN_STANDBY = 0x040b,
    SCSI_ASC_PORT_UNAVAILABLE = 0x040c,
    SCSI_ASC_OFFLINE = 0x0412,
    SCSI_ASC_SANITIZE_IN_PROGRESS = 0x041b,
    SCSI_ASC_WRITE_ERROR = 0x0c00,
    SCSI_ASC_THIRD_PARTY_FAILURE = 0x0d01,
    SCSI_ASC_COPY_UNREACHABLE = 0x0d02,
    SCSI_ASC_COPY_DEVICE_TYPE = 0x0d03,
    SCSI_ASC_INVALID_COMMAND_IU = 0x0e03,
    SCSI_ASC_UNRECOVERED_READ_ERROR = 0x1100,
    SCSI_ASC_PARAMETER_LIST_LENGTH = 0x1a00,
    SCSI_ASC_MISCOMPARE = 0x1d00,
    SCSI_ASC_INVALID_OPCODE = 0x2000,
    SCSI_ASC_LBA_OUT_OF_RANGE = 0x2100,
    SCSI_ASC_TOKEN_TYPE = 0x2301,
    SCSI_ASC_TOKEN_UNKNOWN = 0x2304,
    SCSI_ASC_TOKEN_CORRUPT = 0x2305,
    SCSI_ASC_TOKEN_REVOKED = 0x2306,
    SCSI_ASC_TOKEN_EXPIRED = 0x2307,
    SCSI_ASC_TOKEN_DELETED = 0x2309,
    SCSI_ASC_TOKEN_LENGTH = 0x230a,
    SCSI_ASC_INVALID_FIELD_IN_CDB = 0x2400,
    SCSI_ASC_LUN_NOT_SUPPORTED = 0x2500,
    SCSI_ASC_INVALID_FIELD_IN_PARAMETERS = 0x2600,
    SCSI_ASC_INVALID_RELEASE = 0x2604,
    SCSI_ASC_TOO_MANY_CSCDS = 0x2606,
    SCSI_ASC_UNSUPPORTED_CSCD = 0x2607,
    SCSI_ASC_TOO_MANY_SEGMENTS = 0x2608,
    SCSI_ASC_UNSUPPORTED_SEGMENT = 0x2609,
    SCSI_ASC_INEXACT_SEGMENT = 0x260a,
    SCSI_ASC_INLINE_DATA_LENGTH = 0x260b,
    SCSI_ASC_WRITE_PROTECTED = 0x2700,
    SCSI_ASC_SOFTWARE_WRITE_PROTECTED = 0x2702,
    SCSI_ASC_SPACE_ALLOCATION_FAILED = 0x2707,
    SCSI_ASC_MEDIUM_CHANGED = 0x2800, /* NOT READY TO READY CHANGE */
    SCSI_ASC_POWER_ON = 0x2900,
    SCSI_ASC_BUS_RESET = 0x2902,
    SCSI_ASC_DEVICE_RESET = 0x2903,
    SCSI_ASC_NEXUS_LOSS = 0x2907,
    SCSI_ASC_MODE_CHANGED = 0x2a01,
    SCSI_ASC_LOG_CHANGED = 0x2a02,
    SCSI_ASC_RESERVATIONS_PREEMPTED = 0x2a03,
    SCSI_ASC_RESERVATIONS_RELEASED = 0x2a04,
    SCSI_ASC_REGISTRATIONS_PREEMPTED = 0x2a05,
    SCSI_ASC_ACCESS_STATE_CHANGED = 0x2a06,
    SCSI_ASC_CAPACITY_CHANGED = 0x2a09,
    SCSI_ASC_PREVIOUS_BUSY = 0x2c07,
    SCSI_ASC_PREVIOUS_FULL = 0x2c08,
    SCSI_ASC_PREVIOUS_CONFLICT = 0x2c09,
    SCSI_ASC_COMMANDS_CLEARED = 0x2f00,
    SCSI_ASC_CLEARED_BY_PROTOCOL = 0x477f, /* SOME COMMANDS CLEARED BY ISCSI PROTOCOL EVENT */
    SCSI_ASC_COMMAND_TIMEOUT = 0x2e01,
    SCSI_ASC_SAVING_NOT_SUPPORTED = 0x3900,
    SCSI_ASC_SANITIZE_FAILED = 0x3103,
    SCSI_ASC_SOFT_THRESHOLD = 0x3807,
    SCSI_ASC_MEDIUM_NOT_PRESENT = 0x3a00,
    SCSI_ASC_LUNS_CHANGED = 0x3f0e,
    SCSI_ASC_INTERNAL_FAILURE = 0x4400,
    SCSI_ASC_INVALID_MESSAGE = 0x4900,
    SCSI_ASC_REMOVAL_PREVENTED = 0x5302,
    SCSI_ASC_NO_REGISTRATION_RESOURCES = 0x5504,
    SCSI_ASC_NO_ROD_RESOURCES = 0x550c,
    SCSI_ASC_NO_TOKEN_RESOURCES = 0x550d,
    SCSI_ASC_SET_PORT_GROUPS_FAILED = 0x670a,
};

enum scsi_field { /* what the sense-key specific field pointer points into */
    SCSI_FIELD_NONE,
    SCSI_FIELD_CDB,
    SCSI_FIELD_DATA,
    SCSI_FIELD_SEGMENT, /* a segment descriptor of a copy */
};

struct scsi_sense {
    enum scsi_key key;
    uint16_t asc;
    bool has_info;
    uint64_t info;
    bool has_command_info;
    uint32_t command_info; /* COMMAND-SPECIFIC INFORMATION: the number of a copy's segment */
    bool has_progress;
    uint16_t progress; /* of 65536: an indication instead of a field */
    enum scsi_field field;
    uint16_t field_byte;
    int field_bit; /* the field's most significant bit, or -1: the whole byte */
};

/* Fixed format (18 bytes), or descriptor format (8 to 40). Gives the length. */
size_t scsi_sense_build(bool descriptor, const struct scsi_sense *s, uint8_t ret[SCSI_SENSE_MAX]);

/* CHECK CONDITION. Any data-in gathered so far is dropped. */
void scsi_fail_sense(struct scsi_task *t, const struct scsi_sense *s);
void scsi_fail(struct scsi_task *t, enum scsi_key key, uint16_t asc);
/* INVALID FIELD IN CDB: the field that ends, or begins, at that byte; its highest bit, or -1. */
void scsi_fail_cdb(struct scsi_task *t, unsigned byte, int bit);
/* INVALID FIELD IN PARAMETER LIST. */
void scsi_fail_parameter(struct scsi_task *t, unsigned byte, int bit);
/* MISCOMPARE DURING VERIFY OPERATION; offset of the first byte that differs. */
void scsi_fail_miscompare(struct scsi_task *t, uint64_t offset);
/* Another status than CHECK CONDITION. */
void scsi_fail_status(struct scsi_task *t, enum scsi_status status);
/* By the table of sense.c, from the error of a dev_ call. */
void scsi_fail_errno(struct scsi_task *t, int r);
