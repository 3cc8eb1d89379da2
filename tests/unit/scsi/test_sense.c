/* SPDX-License-Identifier: Apache-2.0 */
#include "base/endian.h"
#include "scsi/sense.h"
#include "unit.h"

static uint8_t out[SCSI_SENSE_MAX];

static void fixed_format(void **state)
{
    (void)state;
    struct scsi_sense s = {.key = SCSI_KEY_ILLEGAL_REQUEST, .asc = 0x2400};
    assert_int_equal(scsi_sense_build(false, &s, out), 18);
    static const uint8_t plain[18] = {0x70, 0, 5, 0, 0, 0, 0, 10, 0, 0, 0, 0, 0x24};
    assert_memory_equal(out, plain, 18);
    s.field = SCSI_FIELD_CDB;
    s.field_byte = 0x0102;
    s.field_bit = 6;
    assert_int_equal(scsi_sense_build(false, &s, out), 18);
    static const uint8_t in_cdb[3] = {0xce, 1, 2};
    assert_memory_equal(out + 15, in_cdb, 3);
    s.field = SCSI_FIELD_DATA;
    s.field_bit = -1;
    assert_int_equal(scsi_sense_build(false, &s, out), 18);
    assert_int_equal(out[15], 0x80);
}

static void fixed_format_has_room_for_32_bits(void **state)
{
    (void)state;
    struct scsi_sense s = {.key = SCSI_KEY_MISCOMPARE, .asc = 0x1d00, .has_info = true};
    s.info = UINT32_MAX;
    assert_int_equal(scsi_sense_build(false, &s, out), 18);
    assert_int_equal(out[0], 0xf0);
    assert_int_equal(be32_load(out + 3), UINT32_MAX);
    s.info = UINT32_MAX + 1ull; /* does not fit: not valid */
    assert_int_equal(scsi_sense_build(false, &s, out), 18);
    assert_int_equal(out[0], 0x70);
    assert_int_equal(be32_load(out + 3), 0);
}

static void descriptor_format(void **state)
{
    (void)state;
    struct scsi_sense s = {.key = SCSI_KEY_MISCOMPARE, .asc = 0x1d00};
    assert_int_equal(scsi_sense_build(true, &s, out), 8);
    static const uint8_t plain[8] = {0x72, 0x0e, 0x1d, 0};
    assert_memory_equal(out, plain, 8);
    s.has_info = true;
    s.info = 0x123456789ull;
    s.field = SCSI_FIELD_CDB;
    s.field_byte = 9;
    s.field_bit = 7;
    assert_int_equal(scsi_sense_build(true, &s, out), 28);
    assert_int_equal(out[7], 20);
    static const uint8_t info[12] = {0, 10, 0x80, 0, 0, 0, 0, 1, 0x23, 0x45, 0x67, 0x89};
    assert_memory_equal(out + 8, info, 12);
    static const uint8_t field[8] = {2, 6, 0, 0, 0xcf, 0, 9, 0};
    assert_memory_equal(out + 20, field, 8);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fixed_format),
        cmocka_unit_test(fixed_format_has_room_for_32_bits),
        cmocka_unit_test(descriptor_format),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
