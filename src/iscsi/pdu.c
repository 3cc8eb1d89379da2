/* SPDX-License-Identifier: Apache-2.0 */
#include "iscsi/pdu.h"

#include "base/bytes.h"
#include "base/endian.h"
#include "base/err.h"

#include <string.h>

/* Where fields stand in the basic header segment. */
enum {
    AT_FLAGS = 1,
    AT_RESULT = 2,
    AT_AHS_LEN = 4,
    AT_DATA_LEN = 5,
    AT_LUN = 8,
    AT_ITT = 16,
    AT_TTT = 20,
    AT_STATSN = 24,
    AT_CMDSN = 24,
    AT_EXP_STATSN = 28,
    AT_EXP_CMDSN = 28,
    AT_MAX_CMDSN = 32,
    AT_DATASN = 36,
    AT_OFFSET = 40,
    AT_LAST = 44,
};

static void decode_login(const uint8_t *bhs, struct iscsi_request *q)
{
    q->more = bhs[AT_FLAGS] & ISCSI_CONTINUE;
    q->login.stage = bhs[AT_FLAGS] >> 2 & 3;
    q->login.next_stage = bhs[AT_FLAGS] & 3;
    q->login.version_max = bhs[2];
    q->login.version_min = bhs[3];
    memcpy(q->login.isid, bhs + AT_LUN, sizeof q->login.isid);
    q->login.tsih = be16_load(bhs + 14);
    q->login.cid = be16_load(bhs + 20);
    q->lun = 0;
}

static void decode_command(const uint8_t *bhs, struct iscsi_request *q)
{
    q->command.read = bhs[AT_FLAGS] & ISCSI_COMMAND_READ;
    q->command.write = bhs[AT_FLAGS] & ISCSI_COMMAND_WRITE;
    q->command.attr = bhs[AT_FLAGS] & 7;
    q->command.edtl = be32_load(bhs + 20);
    memcpy(q->command.cdb, bhs + 32, sizeof q->command.cdb);
}

static void decode_data_out(const uint8_t *bhs, struct iscsi_request *q)
{
    q->data_out.ttt = be32_load(bhs + AT_TTT);
    q->data_out.datasn = be32_load(bhs + AT_DATASN);
    q->data_out.offset = be32_load(bhs + AT_OFFSET);
    q->cmdsn = 0;
}

static void decode_tmf(const uint8_t *bhs, struct iscsi_request *q)
{
    q->tmf.function = bhs[AT_FLAGS] & 0x7f;
    q->tmf.ref_itt = be32_load(bhs + 20);
    q->tmf.ref_cmdsn = be32_load(bhs + 32);
    q->tmf.exp_datasn = be32_load(bhs + AT_DATASN);
}

int iscsi_request_decode(const uint8_t bhs[ISCSI_BHS_BYTES], struct iscsi_request *ret)
{
    *ret = (struct iscsi_request){
        .opcode = bhs[0] & ISCSI_OPCODE_MASK,
        .immediate = bhs[0] & ISCSI_IMMEDIATE,
        .final = bhs[AT_FLAGS] & ISCSI_FINAL,
        .ahs_len = bhs[AT_AHS_LEN] * 4u,
        .data_len = be24_load(bhs + AT_DATA_LEN),
        .lun = be64_load(bhs + AT_LUN),
        .itt = be32_load(bhs + AT_ITT),
        .cmdsn = be32_load(bhs + AT_CMDSN),
        .exp_statsn = be32_load(bhs + AT_EXP_STATSN),
    };
    switch (ret->opcode) {
    case ISCSI_SCSI_COMMAND:
        decode_command(bhs, ret);
        return 0;
    case ISCSI_DATA_OUT:
        decode_data_out(bhs, ret);
        return 0;
    case ISCSI_TMF_REQUEST:
        decode_tmf(bhs, ret);
        return 0;
    case ISCSI_LOGIN_REQUEST:
        decode_login(bhs, ret);
        return 0;
    case ISCSI_TEXT_REQUEST:
    case ISCSI_NOP_OUT:
        ret->more = ret->opcode == ISCSI_TEXT_REQUEST && (bhs[AT_FLAGS] & ISCSI_CONTINUE);
        ret->text.ttt = be32_load(bhs + AT_TTT);
        return 0;
    case ISCSI_LOGOUT_REQUEST:
        ret->logout.reason = bhs[AT_FLAGS] & 0x7f;
        ret->logout.cid = be16_load(bhs + 20);
        return 0;
    case ISCSI_SNACK_REQUEST:
        ret->snack.type = bhs[AT_FLAGS] & 0xf;
        ret->snack.ttt = be32_load(bhs + AT_TTT);
        ret->snack.begin = be32_load(bhs + AT_OFFSET);
        ret->snack.length = be32_load(bhs + AT_LAST);
        ret->cmdsn = 0;
        return 0;
    default:
        return ERR_PROTOCOL;
    }
}

bool iscsi_is_plain_read(const uint8_t bhs[ISCSI_BHS_BYTES])
{
    return (bhs[0] & ISCSI_OPCODE_MASK) == ISCSI_SCSI_COMMAND && bhs[AT_AHS_LEN] == 0 &&
           be24_load(bhs + AT_DATA_LEN) == 0 && bhs[AT_FLAGS] & ISCSI_COMMAND_READ;
}

uint64_t iscsi_lun_of(const uint8_t bhs[ISCSI_BHS_BYTES])
{
    return be64_load(bhs + AT_LUN);
}

const uint8_t *iscsi_cdb_of(const uint8_t bhs[ISCSI_BHS_BYTES])
{
    return bhs + 32;
}

int iscsi_ahs_decode(const uint8_t *ahs, size_t len, struct iscsi_ahs *ret)
{
    *ret = (struct iscsi_ahs){0};
    struct bytes_reader r = bytes_reader_of(ahs, len);
    while (bytes_left(&r) > 0) {
        uint16_t body_len = bytes_be16(&r);
        uint8_t type = bytes_u8(&r);
        const uint8_t *body = bytes_take(&r, body_len);
        if (bytes_bad(&r) || body_len == 0) {
            return ERR_PROTOCOL;
        }
        /* The length, type and body together are padded to words. */
        uint32_t pad = iscsi_padded(3u + body_len) - (3u + body_len);
        if (!bytes_take(&r, pad)) {
            return ERR_PROTOCOL;
        }
        if (type == ISCSI_AHS_EXTENDED_CDB && !ret->cdb_rest) {
            ret->cdb_rest = body + 1;
            ret->cdb_rest_len = body_len - 1u;
        } else if (type == ISCSI_AHS_BIDI_LENGTH && body_len == 5 && !ret->has_bidi) {
            ret->has_bidi = true;
            ret->bidi_len = be32_load(body + 1);
        } else {
            return ERR_PROTOCOL;
        }
    }
    return 0;
}

/* What all answers have in common. */
static void encode_head(uint8_t *bhs, uint8_t opcode, uint8_t flags, uint32_t data_len,
                        const struct iscsi_sn *sn)
{
    memset(bhs, 0, ISCSI_BHS_BYTES);
    bhs[0] = opcode;
    bhs[AT_FLAGS] = flags;
    be24_store(bhs + AT_DATA_LEN, data_len);
    be32_store(bhs + AT_STATSN, sn->stat);
    be32_store(bhs + AT_EXP_CMDSN, sn->exp_cmd);
    be32_store(bhs + AT_MAX_CMDSN, sn->max_cmd);
}

void iscsi_encode_scsi_response(uint8_t bhs[ISCSI_BHS_BYTES], const struct iscsi_scsi_response *p,
                                const struct iscsi_sn *sn)
{
    encode_head(bhs, ISCSI_SCSI_RESPONSE, p->flags | ISCSI_FINAL, p->data_len, sn);
    bhs[AT_RESULT] = p->response;
    bhs[3] = p->status;
    be32_store(bhs + AT_ITT, p->itt);
    be32_store(bhs + AT_TTT, p->snack_tag);
    be32_store(bhs + AT_DATASN, p->exp_datasn);
    be32_store(bhs + 40, p->bidi_residual);
    be32_store(bhs + AT_LAST, p->residual);
}

void iscsi_encode_data_in(uint8_t bhs[ISCSI_BHS_BYTES], const struct iscsi_data_in *p,
                          const struct iscsi_sn *sn)
{
    encode_head(bhs, ISCSI_DATA_IN, p->flags, p->data_len, sn);
    bool asks = p->flags & ISCSI_DATA_IN_ACK;
    be64_store(bhs + AT_LUN, asks ? p->lun : 0);
    be32_store(bhs + AT_ITT, p->itt);
    be32_store(bhs + AT_TTT, asks ? p->ttt : ISCSI_TAG_NONE);
    if (p->flags & ISCSI_DATA_IN_STATUS) {
        bhs[3] = p->status;
        be32_store(bhs + AT_LAST, p->residual);
    } else {
        be32_store(bhs + AT_STATSN, 0);
    }
    be32_store(bhs + AT_DATASN, p->datasn);
    be32_store(bhs + AT_OFFSET, p->offset);
}

void iscsi_encode_r2t(uint8_t bhs[ISCSI_BHS_BYTES], const struct iscsi_r2t *p,
                      const struct iscsi_sn *sn)
{
    encode_head(bhs, ISCSI_R2T, ISCSI_FINAL, 0, sn);
    be64_store(bhs + AT_LUN, p->lun);
    be32_store(bhs + AT_ITT, p->itt);
    be32_store(bhs + AT_TTT, p->ttt);
    be32_store(bhs + AT_DATASN, p->r2tsn);
    be32_store(bhs + AT_OFFSET, p->offset);
    be32_store(bhs + AT_LAST, p->len);
}

void iscsi_encode_login_response(uint8_t bhs[ISCSI_BHS_BYTES], const struct iscsi_login_response *p,
                                 const struct iscsi_sn *sn)
{
    encode_head(bhs, ISCSI_LOGIN_RESPONSE, p->flags, p->data_len, sn);
    memcpy(bhs + AT_LUN, p->isid, sizeof p->isid);
    be16_store(bhs + 14, p->tsih);
    be32_store(bhs + AT_ITT, p->itt);
    be16_store(bhs + 36, p->status);
}

void iscsi_encode_answer(uint8_t bhs[ISCSI_BHS_BYTES], const struct iscsi_answer *p,
                         const struct iscsi_sn *sn)
{
    encode_head(bhs, p->opcode, p->flags, p->data_len, sn);
    bhs[AT_RESULT] = p->result;
    be64_store(bhs + AT_LUN, p->lun);
    be32_store(bhs + AT_ITT, p->itt);
    switch (p->opcode) {
    case ISCSI_NOP_IN:
    case ISCSI_TEXT_RESPONSE:
        be32_store(bhs + AT_TTT, p->ttt);
        break;
    case ISCSI_ASYNC_MESSAGE:
        bhs[36] = p->event;
        be16_store(bhs + 38, p->param[0]);
        be16_store(bhs + 40, p->param[1]);
        be16_store(bhs + 42, p->param[2]);
        break;
    case ISCSI_LOGOUT_RESPONSE:
        be16_store(bhs + 40, p->param[1]);
        be16_store(bhs + 42, p->param[2]);
        break;
    case ISCSI_TMF_RESPONSE:
        memcpy(bhs + 36, p->extra, sizeof p->extra);
        break;
    default:
        break;
    }
}

void iscsi_encode_again(uint8_t bhs[ISCSI_BHS_BYTES], const struct iscsi_sn *sn)
{
    be32_store(bhs + AT_EXP_CMDSN, sn->exp_cmd);
    be32_store(bhs + AT_MAX_CMDSN, sn->max_cmd);
}
