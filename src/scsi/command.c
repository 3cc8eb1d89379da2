/* SPDX-License-Identifier: Apache-2.0 */
#include "scsi/command.h"
#include "base/attr.h"
#include "scsi/scsi_priv.h"

#define FF2 0xff, 0xff
#define FF4 FF2, FF2
#define FF8 FF4, FF4
#define NACA 0x04 /* CONTROL: looked at, and refused */

/* Which bits are looked at in byte 1 of READ and WRITE: RDPROTECT or WRPROTECT, DPO, FUA. */
#define RW_BITS 0xf8
/* ... of VERIFY and WRITE AND VERIFY: protection, DPO, BYTCHK. */
#define VERIFY_BITS 0xf6

#define READ_FLAGS SCSI_CMD_MEDIUM
#define WRITE_FLAGS (SCSI_CMD_MEDIUM | SCSI_CMD_WRITES | SCSI_CMD_SPACE)
#define ALWAYS (SCSI_CMD_UA_OK | SCSI_CMD_RESERVED_OK | SCSI_CMD_NO_LU | SCSI_CMD_WLUN)

/* How a command stands to persistent reservations is no option: a row without it does not compile.
 */
#define ROW(op, text, length, to)                                                                  \
    .name = text, .opcode = op, .action = SCSI_NO_ACTION, .cdb_len = length,                       \
    .access = SCSI_ACCESS_##to
#define ACTION(op, sa, text, length, to)                                                           \
    .name = text, .opcode = op, .action = sa, .cdb_len = length, .access = SCSI_ACCESS_##to
#define IN(at, size) .dir = SCSI_DIR_IN, .len_at = at, .len_size = size
#define OUT(at, size) .dir = SCSI_DIR_OUT, .len_at = at, .len_size = size
#define DOES(p, r) .parse = p, .run = r

static const struct scsi_command by_opcode[256] = {
    [0x00] = {ROW(0x00, "TEST UNIT READY", 6, ANY), .usage = {0x00, 0, 0, 0, 0, NACA},
              .flags = SCSI_CMD_QUICK | SCSI_CMD_WLUN | SCSI_CMD_LOADED,
              DOES(NULL, scsi_test_unit_ready_run)},
    [0x03] = {ROW(0x03, "REQUEST SENSE", 6, ANY), .states = SCSI_STATES_ALL,
              .usage = {0x03, 0x01, 0, 0, 0xff, NACA}, .flags = ALWAYS, IN(4, 1),
              DOES(NULL, scsi_request_sense_run)},
    [0x04] = {ROW(0x04, "FORMAT UNIT", 6, WRITE), .usage = {0x04, 0xff, 0, 0, 0, NACA},
              .flags = SCSI_CMD_WRITES | SCSI_CMD_LOADED, .dir = SCSI_DIR_OUT,
              DOES(scsi_format_parse, scsi_format_run)},
    [0x08] = {ROW(0x08, "READ(6)", 6, READ), .usage = {0x08, 0x1f, FF2, 0xff, NACA},
              .flags = READ_FLAGS, .dir = SCSI_DIR_IN, DOES(scsi_read_parse, scsi_read_run)},
    [0x0a] = {ROW(0x0a, "WRITE(6)", 6, WRITE), .usage = {0x0a, 0x1f, FF2, 0xff, NACA},
              .flags = WRITE_FLAGS, .dir = SCSI_DIR_OUT, DOES(scsi_write_parse, scsi_write_run)},
    [0x12] = {ROW(0x12, "INQUIRY", 6, ANY), .states = SCSI_STATES_ALL,
              .usage = {0x12, 0x01, 0xff, FF2, NACA}, .flags = ALWAYS, IN(3, 2),
              DOES(scsi_inquiry_parse, scsi_inquiry_run)},
    [0x15] = {ROW(0x15, "MODE SELECT(6)", 6, WRITE), .states = SCSI_STATES_STANDBY,
              .usage = {0x15, 0x11, 0, 0, 0xff, NACA}, OUT(4, 1), .flags = SCSI_CMD_GOVERNS,
              DOES(scsi_mode_select_parse, scsi_mode_select_run)},
    [0x16] = {ROW(0x16, "RESERVE(6)", 6, LEGACY), .usage = {0x16, 0x11, 0, 0, 0, NACA},
              .flags = SCSI_CMD_QUICK | SCSI_CMD_GOVERNS,
              DOES(scsi_reserve_parse, scsi_reserve_run)},
    [0x17] = {ROW(0x17, "RELEASE(6)", 6, LEGACY), .usage = {0x17, 0x11, 0, 0, 0, NACA},
              .flags = SCSI_CMD_QUICK | SCSI_CMD_RESERVED_OK,
              DOES(scsi_reserve_parse, scsi_release_run)},
    [0x1a] = {ROW(0x1a, "MODE SENSE(6)", 6, READ), .states = SCSI_STATES_STANDBY,
              .usage = {0x1a, 0x08, 0xff, 0xff, 0xff, NACA}, IN(4, 1),
              DOES(scsi_mode_sense_parse, scsi_mode_sense_run)},
    [0x1b] = {ROW(0x1b, "START STOP UNIT", 6, START_STOP), .usage = {0x1b, 0x01, 0, 0, 0xf7, NACA},
              DOES(scsi_start_stop_parse, scsi_start_stop_run)},
    [0x1c] = {ROW(0x1c, "RECEIVE DIAGNOSTIC RESULTS", 6, READ), .states = SCSI_STATES_STANDBY,
              .usage = {0x1c, 0x01, 0xff, FF2, NACA}, IN(3, 2),
              DOES(scsi_receive_diagnostic_parse, scsi_receive_diagnostic_run)},
    [0x1d] = {ROW(0x1d, "SEND DIAGNOSTIC", 6, WRITE), .states = SCSI_STATES_STANDBY,
              .usage = {0x1d, 0xf4, 0, FF2, NACA}, OUT(3, 2),
              DOES(scsi_send_diagnostic_parse, scsi_send_diagnostic_run)},
    [0x1e] = {ROW(0x1e, "PREVENT ALLOW MEDIUM REMOVAL", 6, WRITE),
              .usage = {0x1e, 0, 0, 0, 0x03, NACA}, .flags = SCSI_CMD_QUICK,
              DOES(scsi_prevent_allow_parse, scsi_prevent_allow_run)},
    [0x25] = {ROW(0x25, "READ CAPACITY(10)", 10, ANY), .states = SCSI_STATES_STANDBY,
              .usage = {0x25, 0, 0, 0, 0, 0, 0, 0, 0, NACA}, .flags = SCSI_CMD_LOADED,
              .dir = SCSI_DIR_IN, DOES(NULL, scsi_read_capacity10_run)},
    [0x28] = {ROW(0x28, "READ(10)", 10, READ), .usage = {0x28, RW_BITS, FF4, 0, FF2, NACA},
              .flags = READ_FLAGS, .dir = SCSI_DIR_IN, DOES(scsi_read_parse, scsi_read_run)},
    [0x2a] = {ROW(0x2a, "WRITE(10)", 10, WRITE), .usage = {0x2a, RW_BITS, FF4, 0, FF2, NACA},
              .flags = WRITE_FLAGS, .dir = SCSI_DIR_OUT, DOES(scsi_write_parse, scsi_write_run)},
    [0x2e] = {ROW(0x2e, "WRITE AND VERIFY(10)", 10, WRITE),
              .usage = {0x2e, VERIFY_BITS, FF4, 0, FF2, NACA}, .flags = WRITE_FLAGS,
              .dir = SCSI_DIR_OUT, DOES(scsi_write_verify_parse, scsi_write_verify_run)},
    [0x2f] = {ROW(0x2f, "VERIFY(10)", 10, READ), .usage = {0x2f, VERIFY_BITS, FF4, 0, FF2, NACA},
              .flags = READ_FLAGS, .dir = SCSI_DIR_OUT, DOES(scsi_verify_parse, scsi_verify_run)},
    [0x34] = {ROW(0x34, "PRE-FETCH(10)", 10, READ), .usage = {0x34, 0x02, FF4, 0, FF2, NACA},
              .flags = READ_FLAGS, DOES(scsi_prefetch_parse, scsi_prefetch_run)},
    [0x35] = {ROW(0x35, "SYNCHRONIZE CACHE(10)", 10, WRITE),
              .usage = {0x35, 0x02, FF4, 0, FF2, NACA}, .flags = READ_FLAGS,
              DOES(scsi_sync_parse, scsi_sync_run)},
    [0x37] = {ROW(0x37, "READ DEFECT DATA(10)", 10, READ),
              .usage = {0x37, 0, 0x1f, 0, 0, 0, 0, FF2, NACA}, IN(7, 2),
              DOES(NULL, scsi_read_defects_run)},
    [0x41] = {ROW(0x41, "WRITE SAME(10)", 10, WRITE), .usage = {0x41, 0xf8, FF4, 0, FF2, NACA},
              .flags = WRITE_FLAGS, .dir = SCSI_DIR_OUT,
              DOES(scsi_write_same_parse, scsi_write_same_run)},
    [0x42] = {ROW(0x42, "UNMAP", 10, WRITE), .usage = {0x42, 0x01, 0, 0, 0, 0, 0, FF2, NACA},
              .flags = SCSI_CMD_MEDIUM | SCSI_CMD_WRITES, OUT(7, 2),
              DOES(scsi_unmap_parse, scsi_unmap_run)},
    [0x4c] = {ROW(0x4c, "LOG SELECT", 10, WRITE), .states = SCSI_STATES_STANDBY,
              .usage = {0x4c, 0x03, 0xff, 0xff, 0, 0, 0, FF2, NACA}, .flags = SCSI_CMD_GOVERNS,
              OUT(7, 2), DOES(scsi_log_select_parse, scsi_log_select_run)},
    [0x4d] = {ROW(0x4d, "LOG SENSE", 10, ANY), .states = SCSI_STATES_STANDBY,
              .usage = {0x4d, 0x01, 0xff, 0xff, 0, FF2, FF2, NACA}, .flags = SCSI_CMD_SANITIZING,
              IN(7, 2), DOES(scsi_log_sense_parse, scsi_log_sense_run)},
    [0x55] = {ROW(0x55, "MODE SELECT(10)", 10, WRITE), .states = SCSI_STATES_STANDBY,
              .usage = {0x55, 0x11, 0, 0, 0, 0, 0, FF2, NACA}, OUT(7, 2), .flags = SCSI_CMD_GOVERNS,
              DOES(scsi_mode_select_parse, scsi_mode_select_run)},
    [0x56] = {ROW(0x56, "RESERVE(10)", 10, LEGACY), .usage = {0x56, 0x13, 0, 0, 0, 0, 0, FF2, NACA},
              .flags = SCSI_CMD_QUICK | SCSI_CMD_GOVERNS,
              DOES(scsi_reserve_parse, scsi_reserve_run)},
    [0x57] = {ROW(0x57, "RELEASE(10)", 10, LEGACY), .usage = {0x57, 0x13, 0, 0, 0, 0, 0, FF2, NACA},
              .flags = SCSI_CMD_QUICK | SCSI_CMD_RESERVED_OK,
              DOES(scsi_reserve_parse, scsi_release_run)},
    [0x5a] = {ROW(0x5a, "MODE SENSE(10)", 10, READ), .states = SCSI_STATES_STANDBY,
              .usage = {0x5a, 0x18, 0xff, 0xff, 0, 0, 0, FF2, NACA}, IN(7, 2),
              DOES(scsi_mode_sense_parse, scsi_mode_sense_run)},
    [0x88] = {ROW(0x88, "READ(16)", 16, READ), .usage = {0x88, RW_BITS, FF8, FF4, 0, NACA},
              .flags = READ_FLAGS, .dir = SCSI_DIR_IN, DOES(scsi_read_parse, scsi_read_run)},
    [0x89] = {ROW(0x89, "COMPARE AND WRITE", 16, WRITE),
              .usage = {0x89, RW_BITS, FF8, 0, 0, 0, 0xff, 0, NACA}, .flags = WRITE_FLAGS,
              .dir = SCSI_DIR_OUT, DOES(scsi_compare_write_parse, scsi_compare_write_run)},
    [0x8a] = {ROW(0x8a, "WRITE(16)", 16, WRITE), .usage = {0x8a, RW_BITS, FF8, FF4, 0, NACA},
              .flags = WRITE_FLAGS, .dir = SCSI_DIR_OUT, DOES(scsi_write_parse, scsi_write_run)},
    [0x8b] = {ROW(0x8b, "ORWRITE(16)", 16, WRITE), .usage = {0x8b, RW_BITS, FF8, FF4, 0, NACA},
              .flags = WRITE_FLAGS, .dir = SCSI_DIR_OUT,
              DOES(scsi_orwrite_parse, scsi_orwrite_run)},
    [0x8e] = {ROW(0x8e, "WRITE AND VERIFY(16)", 16, WRITE),
              .usage = {0x8e, VERIFY_BITS, FF8, FF4, 0, NACA}, .flags = WRITE_FLAGS,
              .dir = SCSI_DIR_OUT, DOES(scsi_write_verify_parse, scsi_write_verify_run)},
    [0x8f] = {ROW(0x8f, "VERIFY(16)", 16, READ), .usage = {0x8f, VERIFY_BITS, FF8, FF4, 0, NACA},
              .flags = READ_FLAGS, .dir = SCSI_DIR_OUT, DOES(scsi_verify_parse, scsi_verify_run)},
    [0x90] = {ROW(0x90, "PRE-FETCH(16)", 16, READ), .usage = {0x90, 0x02, FF8, FF4, 0, NACA},
              .flags = READ_FLAGS, DOES(scsi_prefetch_parse, scsi_prefetch_run)},
    [0x91] = {ROW(0x91, "SYNCHRONIZE CACHE(16)", 16, WRITE),
              .usage = {0x91, 0x02, FF8, FF4, 0, NACA}, .flags = READ_FLAGS,
              DOES(scsi_sync_parse, scsi_sync_run)},
    [0x93] = {ROW(0x93, "WRITE SAME(16)", 16, WRITE), .usage = {0x93, 0xf9, FF8, FF4, 0, NACA},
              .flags = WRITE_FLAGS, .dir = SCSI_DIR_OUT,
              DOES(scsi_write_same_parse, scsi_write_same_run)},
    [0x9c] = {ROW(0x9c, "WRITE ATOMIC(16)", 16, WRITE),
              .usage = {0x9c, RW_BITS, FF8, FF2, FF2, 0, NACA}, .flags = WRITE_FLAGS,
              .dir = SCSI_DIR_OUT, DOES(scsi_write_atomic_parse, scsi_write_atomic_run)},
    [0xa0] = {ROW(0xa0, "REPORT LUNS", 12, ANY), .states = SCSI_STATES_ALL,
              .usage = {0xa0, 0, 0xff, 0, 0, 0, FF4, 0, NACA}, .flags = ALWAYS, IN(6, 4),
              DOES(scsi_report_luns_parse, scsi_report_luns_run)},
    [0xa8] = {ROW(0xa8, "READ(12)", 12, READ), .usage = {0xa8, RW_BITS, FF4, FF4, 0, NACA},
              .flags = READ_FLAGS, .dir = SCSI_DIR_IN, DOES(scsi_read_parse, scsi_read_run)},
    [0xaa] = {ROW(0xaa, "WRITE(12)", 12, WRITE), .usage = {0xaa, RW_BITS, FF4, FF4, 0, NACA},
              .flags = WRITE_FLAGS, .dir = SCSI_DIR_OUT, DOES(scsi_write_parse, scsi_write_run)},
    [0xae] = {ROW(0xae, "WRITE AND VERIFY(12)", 12, WRITE),
              .usage = {0xae, VERIFY_BITS, FF4, FF4, 0, NACA}, .flags = WRITE_FLAGS,
              .dir = SCSI_DIR_OUT, DOES(scsi_write_verify_parse, scsi_write_verify_run)},
    [0xaf] = {ROW(0xaf, "VERIFY(12)", 12, READ), .usage = {0xaf, VERIFY_BITS, FF4, FF4, 0, NACA},
              .flags = READ_FLAGS, .dir = SCSI_DIR_OUT, DOES(scsi_verify_parse, scsi_verify_run)},
    [0xb7] = {ROW(0xb7, "READ DEFECT DATA(12)", 12, READ),
              .usage = {0xb7, 0x1f, 0, 0, 0, 0, FF4, 0, NACA}, IN(6, 4),
              DOES(NULL, scsi_read_defects_run)},
};

/* PERSISTENT RESERVE IN, and OUT, whose scope and type are looked at by some. */
#define PR_IN(sa, text, fn)                                                                        \
    {                                                                                              \
        ACTION(0x5e, sa, "PERSISTENT RESERVE IN, " text, 10, PERSISTENT),                          \
            .states = SCSI_STATES_STANDBY, .usage = {0x5e, sa, 0, 0, 0, 0, 0, FF2, NACA},          \
            IN(7, 2), DOES(NULL, fn)                                                               \
    }
#define PR_OUT(sa, text, scope_type)                                                               \
    {                                                                                              \
        ACTION(0x5f, sa, "PERSISTENT RESERVE OUT, " text, 10, PERSISTENT),                         \
            .states = SCSI_STATES_STANDBY, .usage = {0x5f, sa, scope_type, 0, 0, FF4, NACA},       \
            .flags = (sa) == 0x00 || (sa) == 0x06 ? 0 : SCSI_CMD_GOVERNS, OUT(5, 4),               \
            DOES(scsi_pr_out_parse, scsi_pr_out_run)                                               \
    }

/* Third-party copy out; id: there is a LIST IDENTIFIER in the CDB. */
#define COPY_OUT(sa, text, to, id, more, parse_fn, fn)                                             \
    {                                                                                              \
        ACTION(0x83, sa, text, 16, to),                                                            \
            .usage = {0x83, sa, 0, 0, 0, 0, id, id, id, id, FF4, 0, NACA}, .flags = more,          \
            OUT(10, 4), DOES(parse_fn, fn)                                                         \
    }
/* Third-party copy in, of LID1 and of LID4; id: the LIST IDENTIFIER is looked at. */
#define COPY_IN(sa, text, id, fn)                                                                  \
    {                                                                                              \
        ACTION(0x84, sa, "RECEIVE COPY " text, 16, WRITE),                                         \
            .usage = {0x84, sa, id, 0, 0, 0, 0, 0, 0, 0, FF4, 0, NACA}, IN(10, 4), DOES(NULL, fn)  \
    }
#define COPY_IN4(sa, text, to, id, fn)                                                             \
    {                                                                                              \
        ACTION(0x84, sa, text, 16, to),                                                            \
            .usage = {0x84, sa, id, id, id, id, 0, 0, 0, 0, FF4, 0, NACA}, IN(10, 4),              \
            DOES(NULL, fn)                                                                         \
    }

/* SANITIZE; bits: those looked at in byte 1. */
#define SANITIZE(sa, text, bits, more, fn)                                                         \
    {                                                                                              \
        ACTION(0x48, sa, "SANITIZE, " text, 10, WRITE),                                            \
            .usage = {0x48, (bits & ~0x1f) | sa, 0, 0, 0, 0, 0, FF2, NACA},                        \
            .flags = SCSI_CMD_WRITES | SCSI_CMD_LOADED | SCSI_CMD_SANITIZING | (more), OUT(7, 2),  \
            DOES(scsi_sanitize_parse, fn)                                                          \
    }

static const struct scsi_command by_action[] = {
    PR_IN(0x00, "READ KEYS", scsi_pr_read_keys_run),
    PR_IN(0x01, "READ RESERVATION", scsi_pr_read_reservation_run),
    PR_IN(0x02, "REPORT CAPABILITIES", scsi_pr_capabilities_run),
    PR_IN(0x03, "READ FULL STATUS", scsi_pr_full_status_run),
    PR_OUT(0x00, "REGISTER", 0),
    PR_OUT(0x01, "RESERVE", 0xff),
    PR_OUT(0x02, "RELEASE", 0xff),
    PR_OUT(0x03, "CLEAR", 0),
    PR_OUT(0x04, "PREEMPT", 0xff),
    PR_OUT(0x05, "PREEMPT AND ABORT", 0xff),
    PR_OUT(0x06, "REGISTER AND IGNORE EXISTING KEY", 0),
    PR_OUT(0x07, "REGISTER AND MOVE", 0),
    SANITIZE(0x01, "OVERWRITE", 0xbf, 0, scsi_sanitize_run),
    SANITIZE(0x02, "BLOCK ERASE", 0xbf, 0, scsi_sanitize_run),
    SANITIZE(0x03, "CRYPTOGRAPHIC ERASE", 0xbf, SCSI_CMD_ENCRYPTED, scsi_sanitize_run),
    SANITIZE(0x1f, "EXIT FAILURE MODE", 0x1f, 0, scsi_sanitize_exit_run),
    COPY_OUT(0x00, "EXTENDED COPY(LID1)", WRITE, 0, 0, scsi_copy_parse, scsi_copy_run),
    COPY_OUT(0x01, "EXTENDED COPY(LID4)", WRITE, 0, 0, scsi_copy_parse, scsi_copy_run),
    COPY_OUT(0x10, "POPULATE TOKEN", READ, 0xff, SCSI_CMD_LOADED, scsi_rod_parse,
             scsi_rod_populate_run),
    COPY_OUT(0x11, "WRITE USING TOKEN", WRITE, 0xff, SCSI_CMD_WRITES | SCSI_CMD_LOADED,
             scsi_rod_parse, scsi_rod_write_run),
    {ACTION(0x83, 0x1c, "COPY OPERATION ABORT", 16, ANY),
     .usage = {0x83, 0x1c, FF4, 0, 0, 0, 0, 0, 0, 0, 0, 0, NACA}, DOES(NULL, scsi_copy_abort_run)},
    COPY_IN(0x00, "STATUS(LID1)", 0xff, scsi_copy_status_run),
    COPY_IN(0x03, "OPERATING PARAMETERS", 0, scsi_copy_parameters_run),
    COPY_IN(0x04, "FAILURE DETAILS(LID1)", 0xff, scsi_copy_failure_run),
    COPY_IN4(0x05, "RECEIVE COPY STATUS(LID4)", READ, 0xff, scsi_copy_status4_run),
    COPY_IN4(0x07, "RECEIVE ROD TOKEN INFORMATION", READ, 0xff, scsi_copy_token_run),
    COPY_IN4(0x08, "REPORT ALL ROD TOKENS", READ, 0, scsi_rod_report_run),
    {ACTION(0x9e, 0x10, "READ CAPACITY(16)", 16, ANY), .states = SCSI_STATES_STANDBY,
     .usage = {0x9e, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, FF4, 0, NACA}, .flags = SCSI_CMD_LOADED,
     IN(10, 4), DOES(NULL, scsi_read_capacity16_run)},
    {ACTION(0x9e, 0x12, "GET LBA STATUS", 16, READ), .usage = {0x9e, 0x12, FF8, FF4, 0, NACA},
     .flags = SCSI_CMD_MEDIUM, IN(10, 4), DOES(scsi_get_lba_status_parse, scsi_get_lba_status_run)},
    {ACTION(0xa3, 0x05, "REPORT IDENTIFYING INFORMATION", 12, ANY),
     .usage = {0xa3, 0x05, 0, 0, 0, 0, FF4, 0xfe, NACA}, IN(6, 4),
     DOES(scsi_report_identity_parse, scsi_report_identity_run)},
    {ACTION(0xa3, 0x0a, "REPORT TARGET PORT GROUPS", 12, ANY), .states = SCSI_STATES_ALL,
     .usage = {0xa3, 0xea, 0, 0, 0, 0, FF4, 0, NACA}, .flags = SCSI_CMD_RESERVED_OK, IN(6, 4),
     DOES(scsi_report_groups_parse, scsi_report_groups_run)},
    {ACTION(0xa3, 0x0c, "REPORT SUPPORTED OPERATION CODES", 12, READ),
     .states = SCSI_STATES_STANDBY, .usage = {0xa3, 0x0c, 0x87, 0xff, FF2, FF4, 0, NACA},
     .flags = SCSI_CMD_SANITIZING, IN(6, 4),
     DOES(scsi_report_opcodes_parse, scsi_report_opcodes_run)},
    {ACTION(0xa3, 0x0d, "REPORT SUPPORTED TASK MANAGEMENT FUNCTIONS", 12, READ),
     .states = SCSI_STATES_STANDBY, .usage = {0xa3, 0x0d, 0x80, 0, 0, 0, FF4, 0, NACA},
     .flags = SCSI_CMD_SANITIZING, IN(6, 4), DOES(NULL, scsi_report_tmfs_run)},
    {ACTION(0xa3, 0x0f, "REPORT TIMESTAMP", 12, ANY),
     .usage = {0xa3, 0x0f, 0, 0, 0, 0, FF4, 0, NACA}, IN(6, 4),
     DOES(NULL, scsi_report_timestamp_run)},
    {ACTION(0xa4, 0x0a, "SET TARGET PORT GROUPS", 12, WRITE), .states = SCSI_STATES_UNAVAILABLE,
     .usage = {0xa4, 0x0a, 0, 0, 0, 0, FF4, 0, NACA}, .flags = SCSI_CMD_GOVERNS, OUT(6, 4),
     DOES(scsi_set_groups_parse, scsi_set_groups_run)},
};

bool scsi_command_has_actions(uint8_t opcode)
{
    for (size_t i = 0; i < ARRAY_LEN(by_action); i++) {
        if (by_action[i].opcode == opcode) {
            return true;
        }
    }
    return false;
}

const struct scsi_command *scsi_command_find(const uint8_t *cdb, size_t len, bool *ret_action_bad)
{
    *ret_action_bad = false;
    if (len < 6) {
        return NULL;
    }
    const struct scsi_command *c = &by_opcode[cdb[0]];
    if (likely(c->name != NULL)) {
        return c->cdb_len <= len ? c : NULL;
    }
    for (size_t i = 0; i < ARRAY_LEN(by_action); i++) {
        c = &by_action[i];
        if (c->opcode != cdb[0] || c->cdb_len > len) {
            continue;
        }
        if (c->action == (cdb[1] & 0x1f)) {
            return c;
        }
        *ret_action_bad = true;
    }
    return NULL;
}

bool scsi_command_is_offered(const struct scsi_command *c, const struct scsi_lu *lu)
{
    return !(c->flags & SCSI_CMD_ENCRYPTED) || dev_is_encrypted(lu->dev);
}

const struct scsi_command *scsi_command_at(size_t n)
{
    for (size_t i = 0; i < ARRAY_LEN(by_opcode); i++) {
        if (by_opcode[i].name && n-- == 0) {
            return &by_opcode[i];
        }
    }
    return n < ARRAY_LEN(by_action) ? &by_action[n] : NULL;
}
