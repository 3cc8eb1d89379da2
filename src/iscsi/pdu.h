/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The codec of PDU headers (RFC 7143 §11): pure, bytes in and a struct out, or the other way round.
 * Data segments and digests are the caller's (rx.h, tx.h).
 *
 *     struct iscsi_request q;
 *     r = iscsi_request_decode(bhs, &q);          // 48 bytes
 *     if (q.opcode == ISCSI_SCSI_COMMAND) { use(q.command.edtl); }
 */
#pragma once
#include "base/attr.h"
#include "iscsi/pdu_format.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A request from the initiator. Which member of the union holds follows from opcode. */
struct iscsi_request {
    uint8_t opcode;
    bool immediate;
    bool final; /* F; T of a login request */
    bool more;  /* C of login and text requests */
    uint32_t ahs_len;
    uint32_t data_len;
    uint64_t lun;
    uint32_t itt;
    uint32_t cmdsn; /* not of Data-Out and SNACK */
    uint32_t exp_statsn;
    union {
        struct {
            bool read;
            bool write;
            uint8_t attr;
            uint32_t edtl;
            uint8_t cdb[16];
        } command;
        struct {
            uint32_t ttt;
            uint32_t datasn;
            uint32_t offset;
        } data_out;
        struct {
            uint8_t function;
            uint32_t ref_itt;
            uint32_t ref_cmdsn;
            uint32_t exp_datasn;
        } tmf;
        struct {
            uint8_t stage;      /* CSG */
            uint8_t next_stage; /* NSG */
            uint8_t version_max;
            uint8_t version_min;
            uint8_t isid[6];
            uint16_t tsih;
            uint16_t cid;
        } login;
        struct {
            uint32_t ttt;
        } text; /* and NOP-Out */
        struct {
            uint8_t reason;
            uint16_t cid;
        } logout;
        struct {
            uint8_t type;
            uint32_t ttt; /* or SNACK Tag */
            uint32_t begin;
            uint32_t length;
        } snack;
    };
};

/* 0, or ERR_PROTOCOL for an opcode that no initiator sends (the fields every PDU has are filled all
 * the same). */
MUST int iscsi_request_decode(const uint8_t bhs[ISCSI_BHS_BYTES], struct iscsi_request *ret);
/* Looks into a PDU ahead of its turn: a SCSI command that reads and has nothing after its header.
 */
bool iscsi_is_plain_read(const uint8_t bhs[ISCSI_BHS_BYTES]);
uint64_t iscsi_lun_of(const uint8_t bhs[ISCSI_BHS_BYTES]);
const uint8_t *iscsi_cdb_of(const uint8_t bhs[ISCSI_BHS_BYTES]);
/* Bytes of the data segment with its padding. */
static inline uint32_t iscsi_padded(uint32_t len)
{
    return (len + 3u) & ~3u;
}

struct iscsi_ahs {
    const uint8_t *cdb_rest; /* the bytes after the first 16; NULL = none */
    uint32_t cdb_rest_len;
    bool has_bidi;
    uint32_t bidi_len;
};
/* Walks the additional headers: 0 or ERR_PROTOCOL. cdb_rest points into ahs. */
MUST int iscsi_ahs_decode(const uint8_t *ahs, size_t len, struct iscsi_ahs *ret);

/* The three counters that every answer carries. */
struct iscsi_sn {
    uint32_t stat;
    uint32_t exp_cmd;
    uint32_t max_cmd;
};

/* Each fills all 48 bytes. data_len is the length of the data segment without padding. */
struct iscsi_scsi_response {
    uint32_t itt;
    uint8_t flags; /* residual bits */
    uint8_t response;
    uint8_t status;
    uint32_t exp_datasn;
    uint32_t residual;
    uint32_t bidi_residual;
    uint32_t snack_tag;
    uint32_t data_len;
};
void iscsi_encode_scsi_response(uint8_t bhs[ISCSI_BHS_BYTES], const struct iscsi_scsi_response *p,
                                const struct iscsi_sn *sn);

struct iscsi_data_in {
    uint64_t lun; /* and ttt: when A is set */
    uint32_t itt;
    uint32_t ttt;
    uint8_t flags; /* F, A, residual bits, S */
    uint8_t status;
    uint32_t datasn;
    uint32_t offset;
    uint32_t residual;
    uint32_t data_len;
};
/* StatSN is left zero unless the S bit is set. */
void iscsi_encode_data_in(uint8_t bhs[ISCSI_BHS_BYTES], const struct iscsi_data_in *p,
                          const struct iscsi_sn *sn);

struct iscsi_r2t {
    uint64_t lun;
    uint32_t itt;
    uint32_t ttt;
    uint32_t r2tsn;
    uint32_t offset;
    uint32_t len;
};
void iscsi_encode_r2t(uint8_t bhs[ISCSI_BHS_BYTES], const struct iscsi_r2t *p,
                      const struct iscsi_sn *sn);

struct iscsi_login_response {
    uint8_t flags; /* T, C, CSG, NSG */
    uint8_t isid[6];
    uint16_t tsih;
    uint32_t itt;
    uint16_t status;
    uint32_t data_len;
};
void iscsi_encode_login_response(uint8_t bhs[ISCSI_BHS_BYTES], const struct iscsi_login_response *p,
                                 const struct iscsi_sn *sn);

/* NOP-In, Text, TMF, Logout responses, Reject and Async Message share most of their layout. */
struct iscsi_answer {
    uint8_t opcode;
    uint8_t flags;  /* byte 1 */
    uint8_t result; /* byte 2: response, reason */
    uint64_t lun;
    uint32_t itt;
    uint32_t ttt;      /* NOP-In, Text: bytes 20 to 23 */
    uint8_t event;     /* Async Message: byte 36, then parameters 1 to 3 */
    uint16_t param[3]; /* Async; param[1], param[2] are Time2Wait and Time2Retain of Logout */
    uint8_t extra[3];  /* bytes 36 to 38 of a TMF response: RFC 7144 §4.2 */
    uint32_t data_len;
};
void iscsi_encode_answer(uint8_t bhs[ISCSI_BHS_BYTES], const struct iscsi_answer *p,
                         const struct iscsi_sn *sn);
/* A PDU that is sent again: ExpCmdSN and MaxCmdSN are as they are now. */
void iscsi_encode_again(uint8_t bhs[ISCSI_BHS_BYTES], const struct iscsi_sn *sn);
