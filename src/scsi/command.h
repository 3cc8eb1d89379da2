/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The table of commands: one row an operation code, or an operation code with a service action.
 * What REPORT SUPPORTED OPERATION CODES says is generated from it.
 */
#pragma once
#include "scsi/scsi.h"

#define SCSI_NO_ACTION (-1)

enum scsi_cmd_flags {
    SCSI_CMD_UA_OK = 1,       /* carried out with a unit attention pending (SPC-4 table 66 note) */
    SCSI_CMD_RESERVED_OK = 2, /* carried out while another nexus holds RESERVE (SPC-2 5.5.1) */
    SCSI_CMD_MEDIUM = 4,      /* reads or writes the medium: the hot path */
    SCSI_CMD_WRITES = 8,      /* changes the medium: refused under SWP */
    SCSI_CMD_NO_LU = 16,      /* answered for a LUN that does not exist */
    SCSI_CMD_WLUN = 32,       /* answered by the REPORT LUNS well-known logical unit */
    SCSI_CMD_SPACE = 64,      /* its data-out goes to the medium: takes dirty space */
    SCSI_CMD_QUICK = 128,     /* has no data, never waits: ends within begin */
    SCSI_CMD_GOVERNS = 256,   /* decides what others may do with the medium: refused to who may only
                                 read by his map */
    SCSI_CMD_SANITIZING = 1024, /* carried out while the unit is sanitized, and after a failure, as
                                   those of UA_OK */
    SCSI_CMD_LOADED = 512,      /* as those of MEDIUM, refused while the medium is out */
    SCSI_CMD_ENCRYPTED = 2048,  /* only there when what is stored is encrypted */
};

/*
 * What a command wants of the logical unit, which a persistent reservation may refuse: the columns
 * of SPC-4 table 65 and SBC-4 table 13. Whoever holds the reservation is refused nothing, and
 * neither is a registered nexus when the type is one of registrants.
 */
enum scsi_access {
    SCSI_ACCESS_UNSAID,     /* no row has this */
    SCSI_ACCESS_ANY,        /* never refused */
    SCSI_ACCESS_READ,       /* refused by the Exclusive Access types */
    SCSI_ACCESS_WRITE,      /* refused by all types */
    SCSI_ACCESS_START_STOP, /* as WRITE, unless it starts */
    SCSI_ACCESS_LEGACY,     /* RESERVE and RELEASE: SPC-4 5.13.3 */
    SCSI_ACCESS_PERSISTENT, /* PERSISTENT RESERVE IN and OUT have rules of their own */
};

/*
 * Access states of the target port (SPC-4 5.16.2.4) in which a command is carried out. INQUIRY,
 * REPORT LUNS and REQUEST SENSE are in all; READ CAPACITY is in standby too, though the standard
 * does not ask for it, so that hosts know what they have a spare path to.
 */
enum scsi_states {
    SCSI_STATES_ACTIVE,
    SCSI_STATES_STANDBY,     /* and in standby */
    SCSI_STATES_UNAVAILABLE, /* and in unavailable */
    SCSI_STATES_ALL,         /* and in offline and transitioning */
};

struct scsi_command {
    const char *name; /* NULL: no such command */
    uint8_t opcode;
    int8_t action;
    uint8_t cdb_len;
    uint8_t access;    /* enum scsi_access */
    uint8_t states;    /* enum scsi_states */
    uint8_t usage[16]; /* CDB usage data: a bit is set where the field is looked at */
    enum scsi_dir dir;
    uint8_t len_at;   /* where the CDB has its allocation or parameter list length, and */
    uint8_t len_size; /* its bytes; 0: parse() sets data_len */
    unsigned flags;
    void (*parse)(struct scsi_task
                      *t); /* checks, sets lba, blocks, data_len; may fail the task. NULL: none */
    void (*run)(struct scsi_task *t) WAITS;
};

/* NULL: not implemented. action_bad: the operation code is, that service action is not. */
const struct scsi_command *scsi_command_find(const uint8_t *cdb, size_t len, bool *ret_action_bad);
/* Whether this unit has the command. */
bool scsi_command_is_offered(const struct scsi_command *c, const struct scsi_lu *lu);
/* The n-th row, NULL after the last. */
const struct scsi_command *scsi_command_at(size_t n);
/* True when the operation code has service actions. */
bool scsi_command_has_actions(uint8_t opcode);

/* inquiry.c, vpd.c */
void scsi_inquiry_parse(struct scsi_task *t);
void scsi_inquiry_run(struct scsi_task *t);
/* report.c */
void scsi_report_luns_parse(struct scsi_task *t);
void scsi_report_luns_run(struct scsi_task *t);
void scsi_report_opcodes_parse(struct scsi_task *t);
void scsi_report_opcodes_run(struct scsi_task *t);
void scsi_report_tmfs_run(struct scsi_task *t);
void scsi_report_identity_parse(struct scsi_task *t);
void scsi_report_identity_run(struct scsi_task *t);
void scsi_report_timestamp_run(struct scsi_task *t);
/* alua.c */
void scsi_report_groups_parse(struct scsi_task *t);
void scsi_report_groups_run(struct scsi_task *t);
void scsi_set_groups_parse(struct scsi_task *t);
void scsi_set_groups_run(struct scsi_task *t) WAITS;
/* status.c */
void scsi_test_unit_ready_run(struct scsi_task *t);
void scsi_request_sense_run(struct scsi_task *t);
void scsi_start_stop_parse(struct scsi_task *t);
void scsi_start_stop_run(struct scsi_task *t) WAITS;
void scsi_send_diagnostic_parse(struct scsi_task *t);
void scsi_read_defects_run(struct scsi_task *t);
void scsi_send_diagnostic_run(struct scsi_task *t);
void scsi_receive_diagnostic_parse(struct scsi_task *t);
void scsi_receive_diagnostic_run(struct scsi_task *t);
void scsi_prevent_allow_parse(struct scsi_task *t);
void scsi_prevent_allow_run(struct scsi_task *t);
/* log.c */
void scsi_log_sense_parse(struct scsi_task *t);
void scsi_log_sense_run(struct scsi_task *t);
void scsi_log_select_parse(struct scsi_task *t);
void scsi_log_select_run(struct scsi_task *t);
/* format.c */
void scsi_format_parse(struct scsi_task *t);
void scsi_format_run(struct scsi_task *t) WAITS;
/* capacity.c */
void scsi_read_capacity10_run(struct scsi_task *t);
void scsi_read_capacity16_run(struct scsi_task *t);
void scsi_get_lba_status_parse(struct scsi_task *t);
void scsi_get_lba_status_run(struct scsi_task *t) WAITS;
/* mode.c, modeselect.c */
void scsi_mode_sense_parse(struct scsi_task *t);
void scsi_mode_sense_run(struct scsi_task *t);
void scsi_mode_select_parse(struct scsi_task *t);
void scsi_mode_select_run(struct scsi_task *t) WAITS;
/* rw.c */
void scsi_read_parse(struct scsi_task *t);
void scsi_read_run(struct scsi_task *t) WAITS;
/* The same where nothing has to be waited for, or else false. */
bool scsi_read_ready(struct scsi_task *t);
void scsi_write_parse(struct scsi_task *t);
void scsi_write_run(struct scsi_task *t) WAITS;
void scsi_sync_parse(struct scsi_task *t);
void scsi_sync_run(struct scsi_task *t) WAITS;
void scsi_prefetch_parse(struct scsi_task *t);
void scsi_prefetch_run(struct scsi_task *t) WAITS;
/* verify.c */
void scsi_verify_parse(struct scsi_task *t);
void scsi_verify_run(struct scsi_task *t) WAITS;
void scsi_write_verify_parse(struct scsi_task *t);
void scsi_write_verify_run(struct scsi_task *t) WAITS;
/* atomic.c */
void scsi_compare_write_parse(struct scsi_task *t);
void scsi_compare_write_run(struct scsi_task *t) WAITS;
void scsi_orwrite_parse(struct scsi_task *t);
void scsi_orwrite_run(struct scsi_task *t) WAITS;
void scsi_write_atomic_parse(struct scsi_task *t);
void scsi_write_atomic_run(struct scsi_task *t) WAITS;
/* sanitize.c */
void scsi_sanitize_parse(struct scsi_task *t);
void scsi_sanitize_run(struct scsi_task *t) WAITS;
void scsi_sanitize_exit_run(struct scsi_task *t) WAITS;
/* provisioning.c */
void scsi_unmap_parse(struct scsi_task *t);
void scsi_unmap_run(struct scsi_task *t) WAITS;
void scsi_write_same_parse(struct scsi_task *t);
void scsi_write_same_run(struct scsi_task *t) WAITS;
/* rod_run.c */
void scsi_rod_parse(struct scsi_task *t);
void scsi_rod_populate_run(struct scsi_task *t) WAITS;
void scsi_rod_write_run(struct scsi_task *t) WAITS;
void scsi_rod_report_run(struct scsi_task *t);
/* copy.c, copy_status.c */
void scsi_copy_parse(struct scsi_task *t);
void scsi_copy_run(struct scsi_task *t) WAITS;
void scsi_copy_status_run(struct scsi_task *t);
void scsi_copy_parameters_run(struct scsi_task *t);
void scsi_copy_failure_run(struct scsi_task *t);
void scsi_copy_status4_run(struct scsi_task *t);
void scsi_copy_token_run(struct scsi_task *t);
void scsi_copy_abort_run(struct scsi_task *t) WAITS;
/* pr_in.c, pr_out.c */
void scsi_pr_read_keys_run(struct scsi_task *t);
void scsi_pr_read_reservation_run(struct scsi_task *t);
void scsi_pr_capabilities_run(struct scsi_task *t);
void scsi_pr_full_status_run(struct scsi_task *t);
void scsi_pr_out_parse(struct scsi_task *t);
void scsi_pr_out_run(struct scsi_task *t) WAITS;
/* reserve.c */
void scsi_reserve_parse(struct scsi_task *t);
void scsi_reserve_run(struct scsi_task *t);
void scsi_release_run(struct scsi_task *t);
