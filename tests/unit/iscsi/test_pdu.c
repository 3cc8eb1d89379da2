/* SPDX-License-Identifier: Apache-2.0 */
/* The header codec: each field at its place of RFC 7143 §11. */
#include "base/endian.h"
#include "base/err.h"
#include "iscsi/pdu.h"
#include "unit.h"

static void set32(uint8_t *bhs, unsigned at, uint32_t v)
{
    be32_store(bhs + at, v);
}

static void common_fields(void **state)
{
    (void)state;
    uint8_t bhs[48] = {0x41, 0x80, 0, 0, 3, 0x01, 0x02, 0x03};
    be64_store(bhs + 8, 0x0001000000000000);
    set32(bhs, 16, 0x11223344);
    set32(bhs, 24, 77);
    set32(bhs, 28, 88);
    struct iscsi_request q;
    assert_int_equal(iscsi_request_decode(bhs, &q), 0);
    assert_int_equal(q.opcode, ISCSI_SCSI_COMMAND);
    assert_true(q.immediate);
    assert_true(q.final);
    assert_int_equal(q.ahs_len, 12);
    assert_int_equal(q.data_len, 0x010203);
    assert_int_equal(q.lun, 0x0001000000000000);
    assert_int_equal(q.itt, 0x11223344);
    assert_int_equal(q.cmdsn, 77);
    assert_int_equal(q.exp_statsn, 88);
}

static void command_fields(void **state)
{
    (void)state;
    uint8_t bhs[48] = {0x01, 0x80 | 0x40 | 0x20 | 3};
    set32(bhs, 20, 65536);
    for (uint8_t i = 0; i < 16; i++) {
        bhs[32 + i] = (uint8_t)(i + 1);
    }
    struct iscsi_request q;
    assert_int_equal(iscsi_request_decode(bhs, &q), 0);
    assert_false(q.immediate);
    assert_true(q.command.read);
    assert_true(q.command.write);
    assert_int_equal(q.command.attr, 3);
    assert_int_equal(q.command.edtl, 65536);
    assert_memory_equal(q.command.cdb, bhs + 32, 16);
}

static void login_fields(void **state)
{
    (void)state;
    uint8_t bhs[48] = {0x43, 0x80 | 0x40 | 0x04 | 0x03, 2, 1};
    memcpy(bhs + 8, "ISID..", 6);
    be16_store(bhs + 14, 0x1234);
    be16_store(bhs + 20, 9);
    struct iscsi_request q;
    assert_int_equal(iscsi_request_decode(bhs, &q), 0);
    assert_true(q.final);
    assert_true(q.more);
    assert_int_equal(q.login.stage, ISCSI_STAGE_OPERATIONAL);
    assert_int_equal(q.login.next_stage, ISCSI_STAGE_FULL_FEATURE);
    assert_int_equal(q.login.version_max, 2);
    assert_int_equal(q.login.version_min, 1);
    assert_memory_equal(q.login.isid, "ISID..", 6);
    assert_int_equal(q.login.tsih, 0x1234);
    assert_int_equal(q.login.cid, 9);
}

static void other_fields(void **state)
{
    (void)state;
    struct iscsi_request q;
    uint8_t out[48] = {0x05, 0x80};
    set32(out, 20, 5);
    set32(out, 36, 6);
    set32(out, 40, 7);
    assert_int_equal(iscsi_request_decode(out, &q), 0);
    assert_int_equal(q.data_out.ttt, 5);
    assert_int_equal(q.data_out.datasn, 6);
    assert_int_equal(q.data_out.offset, 7);
    uint8_t tmf[48] = {0x42, 0x80 | 5};
    set32(tmf, 20, 21);
    set32(tmf, 32, 22);
    assert_int_equal(iscsi_request_decode(tmf, &q), 0);
    assert_int_equal(q.tmf.function, 5);
    assert_int_equal(q.tmf.ref_itt, 21);
    assert_int_equal(q.tmf.ref_cmdsn, 22);
    uint8_t logout[48] = {0x46, 0x80 | 1};
    be16_store(logout + 20, 4);
    assert_int_equal(iscsi_request_decode(logout, &q), 0);
    assert_int_equal(q.logout.reason, 1);
    assert_int_equal(q.logout.cid, 4);
}

static void snack_and_reassign(void **state)
{
    (void)state;
    uint8_t bhs[48] = {0x10, 0x80 | 3};
    set32(bhs, 20, 0x1111);
    set32(bhs, 28, 5);
    set32(bhs, 40, 0x2222);
    set32(bhs, 44, 0x3333);
    struct iscsi_request q;
    assert_int_equal(iscsi_request_decode(bhs, &q), 0);
    assert_int_equal(q.snack.type, ISCSI_SNACK_RESEGMENT);
    assert_int_equal(q.snack.ttt, 0x1111);
    assert_int_equal(q.snack.begin, 0x2222);
    assert_int_equal(q.snack.length, 0x3333);
    assert_int_equal(q.exp_statsn, 5);
    uint8_t tmf[48] = {0x42, 0x80 | 8};
    set32(tmf, 20, 0x4444);
    set32(tmf, 36, 7);
    assert_int_equal(iscsi_request_decode(tmf, &q), 0);
    assert_int_equal(q.tmf.function, 8);
    assert_int_equal(q.tmf.ref_itt, 0x4444);
    assert_int_equal(q.tmf.exp_datasn, 7);
    /* Sent again: but for ExpCmdSN and MaxCmdSN as it was. */
    uint8_t again[48];
    memset(again, 0x77, sizeof again);
    iscsi_encode_again(again, &(struct iscsi_sn){.stat = 1, .exp_cmd = 2, .max_cmd = 3});
    for (unsigned i = 0; i < sizeof again; i++) {
        uint8_t want = i == 31 ? 2 : i == 35 ? 3 : 0;
        assert_int_equal(again[i], i >= 28 && i < 36 ? want : 0x77);
    }
}

static void unknown_opcodes(void **state)
{
    (void)state;
    struct iscsi_request q;
    for (unsigned op = 0; op < 64; op++) {
        uint8_t bhs[48] = {(uint8_t)op, 0, 0, 0, 0, 0, 0, 9};
        bool known = op <= 6 || op == 0x10;
        assert_int_equal(iscsi_request_decode(bhs, &q), known ? 0 : ERR_PROTOCOL);
        assert_int_equal(q.data_len, 9);
    }
}

static void ahs_extended_cdb(void **state)
{
    (void)state;
    /* Length 17 = the reserved byte and 16 bytes of CDB; 3 + 17 is a whole number of words. */
    uint8_t ahs[20] = {0, 17, ISCSI_AHS_EXTENDED_CDB, 0, 0xa1};
    ahs[19] = 0xa2;
    struct iscsi_ahs a;
    assert_int_equal(iscsi_ahs_decode(ahs, sizeof ahs, &a), 0);
    assert_int_equal(a.cdb_rest_len, 16);
    assert_int_equal(a.cdb_rest[0], 0xa1);
    assert_int_equal(a.cdb_rest[15], 0xa2);
    assert_false(a.has_bidi);
}

static void ahs_bidi_and_both(void **state)
{
    (void)state;
    uint8_t ahs[16] = {0, 5, ISCSI_AHS_BIDI_LENGTH, 0, 0, 0, 0x10, 0};
    ahs[8] = 0;
    ahs[9] = 5;
    ahs[10] = ISCSI_AHS_EXTENDED_CDB;
    struct iscsi_ahs a;
    assert_int_equal(iscsi_ahs_decode(ahs, sizeof ahs, &a), 0);
    assert_true(a.has_bidi);
    assert_int_equal(a.bidi_len, 0x1000);
    assert_int_equal(a.cdb_rest_len, 4);
}

static void ahs_malformed(void **state)
{
    (void)state;
    struct iscsi_ahs a;
    const uint8_t too_long[8] = {0, 9, ISCSI_AHS_EXTENDED_CDB};
    assert_int_equal(iscsi_ahs_decode(too_long, sizeof too_long, &a), ERR_PROTOCOL);
    const uint8_t empty[4] = {0, 0, ISCSI_AHS_EXTENDED_CDB};
    assert_int_equal(iscsi_ahs_decode(empty, sizeof empty, &a), ERR_PROTOCOL);
    const uint8_t unknown[4] = {0, 1, 9};
    assert_int_equal(iscsi_ahs_decode(unknown, sizeof unknown, &a), ERR_PROTOCOL);
    const uint8_t twice[16] = {0, 5, 2, 0, 0, 0, 0, 1, 0, 5, 2, 0, 0, 0, 0, 1};
    assert_int_equal(iscsi_ahs_decode(twice, sizeof twice, &a), ERR_PROTOCOL);
    const uint8_t padding_missing[5] = {0, 2, ISCSI_AHS_EXTENDED_CDB, 0, 0};
    assert_int_equal(iscsi_ahs_decode(padding_missing, sizeof padding_missing, &a), ERR_PROTOCOL);
}

static const struct iscsi_sn sn = {.stat = 0x101, .exp_cmd = 0x202, .max_cmd = 0x303};

static void check_sn(const uint8_t *bhs)
{
    assert_int_equal(be32_load(bhs + 24), 0x101);
    assert_int_equal(be32_load(bhs + 28), 0x202);
    assert_int_equal(be32_load(bhs + 32), 0x303);
}

static void encode_response(void **state)
{
    (void)state;
    uint8_t bhs[48];
    struct iscsi_scsi_response p = {.itt = 5,
                                    .flags = ISCSI_RESPONSE_UNDER,
                                    .status = 2,
                                    .exp_datasn = 6,
                                    .residual = 7,
                                    .bidi_residual = 8,
                                    .data_len = 20};
    iscsi_encode_scsi_response(bhs, &p, &sn);
    check_sn(bhs);
    assert_int_equal(bhs[0], 0x21);
    assert_int_equal(bhs[1], 0x82);
    assert_int_equal(bhs[3], 2);
    assert_int_equal(be24_load(bhs + 5), 20);
    assert_int_equal(be32_load(bhs + 16), 5);
    assert_int_equal(be32_load(bhs + 36), 6);
    assert_int_equal(be32_load(bhs + 40), 8);
    assert_int_equal(be32_load(bhs + 44), 7);
}

static void encode_data_in(void **state)
{
    (void)state;
    uint8_t bhs[48];
    struct iscsi_data_in p = {.itt = 5,
                              .flags = ISCSI_FINAL | ISCSI_DATA_IN_STATUS | ISCSI_RESPONSE_UNDER,
                              .datasn = 1,
                              .offset = 8192,
                              .residual = 99,
                              .data_len = 4096};
    iscsi_encode_data_in(bhs, &p, &sn);
    check_sn(bhs);
    assert_int_equal(bhs[0], 0x25);
    assert_int_equal(bhs[1], 0x83);
    assert_int_equal(be32_load(bhs + 20), 0xffffffff);
    assert_int_equal(be32_load(bhs + 36), 1);
    assert_int_equal(be32_load(bhs + 40), 8192);
    assert_int_equal(be32_load(bhs + 44), 99);
    p.flags = 0;
    iscsi_encode_data_in(bhs, &p, &sn);
    assert_int_equal(be32_load(bhs + 24), 0); /* StatSN and residual go with S only */
    assert_int_equal(be32_load(bhs + 44), 0);
}

static void encode_r2t_and_login(void **state)
{
    (void)state;
    uint8_t bhs[48];
    struct iscsi_r2t r2t = {.lun = 1, .itt = 2, .ttt = 3, .r2tsn = 4, .offset = 5, .len = 6};
    iscsi_encode_r2t(bhs, &r2t, &sn);
    check_sn(bhs);
    assert_int_equal(bhs[0], 0x31);
    assert_int_equal(be64_load(bhs + 8), 1);
    for (unsigned i = 0; i < 2; i++) {
        assert_int_equal(be32_load(bhs + 16 + 4 * i), 2 + i);
    }
    assert_int_equal(be32_load(bhs + 36), 4);
    assert_int_equal(be32_load(bhs + 40), 5);
    assert_int_equal(be32_load(bhs + 44), 6);
    struct iscsi_login_response login = {
        .flags = 0x87, .isid = "abcdef", .tsih = 3, .itt = 4, .status = 0x0203, .data_len = 5};
    iscsi_encode_login_response(bhs, &login, &sn);
    assert_int_equal(bhs[0], 0x23);
    assert_int_equal(bhs[1], 0x87);
    assert_memory_equal(bhs + 8, "abcdef", 6);
    assert_int_equal(be16_load(bhs + 14), 3);
    assert_int_equal(be16_load(bhs + 36), 0x0203);
}

static void encode_answers(void **state)
{
    (void)state;
    uint8_t bhs[48];
    struct iscsi_answer a = {.opcode = ISCSI_ASYNC_MESSAGE,
                             .flags = 0x80,
                             .itt = 0xffffffff,
                             .event = 1,
                             .param = {1, 2, 3}};
    iscsi_encode_answer(bhs, &a, &sn);
    check_sn(bhs);
    assert_int_equal(bhs[36], 1);
    assert_int_equal(be16_load(bhs + 42), 3);
    a = (struct iscsi_answer){.opcode = ISCSI_NOP_IN, .itt = 7, .ttt = 8};
    iscsi_encode_answer(bhs, &a, &sn);
    assert_int_equal(be32_load(bhs + 16), 7);
    assert_int_equal(be32_load(bhs + 20), 8);
    a = (struct iscsi_answer){.opcode = ISCSI_TMF_RESPONSE, .result = 5, .extra = {1, 2, 3}};
    iscsi_encode_answer(bhs, &a, &sn);
    assert_int_equal(bhs[2], 5);
    assert_memory_equal(bhs + 36, "\1\2\3", 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(common_fields),      cmocka_unit_test(command_fields),
        cmocka_unit_test(login_fields),       cmocka_unit_test(other_fields),
        cmocka_unit_test(snack_and_reassign), cmocka_unit_test(unknown_opcodes),
        cmocka_unit_test(ahs_extended_cdb),   cmocka_unit_test(ahs_bidi_and_both),
        cmocka_unit_test(ahs_malformed),      cmocka_unit_test(encode_response),
        cmocka_unit_test(encode_data_in),     cmocka_unit_test(encode_r2t_and_login),
        cmocka_unit_test(encode_answers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
