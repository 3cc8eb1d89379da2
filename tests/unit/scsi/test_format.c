/* SPDX-License-Identifier: Apache-2.0 */
#include "scsi_test.h"

static void dirty(struct world *w)
{
    memset(disk(w, 0)->data, 0x55, 65536);
    memset(disk(w, 0)->kinds, VOL_EXTENT_DATA, 16);
}

static bool is_clean(struct world *w)
{
    return disk(w, 0)->data[0] == 0 && disk(w, 0)->data[65535] == 0 &&
           disk(w, 0)->kinds[3] == VOL_EXTENT_HOLE;
}

static enum scsi_status format(struct world *w, uint8_t flags, const uint8_t *list, size_t len)
{
    uint8_t cdb[16] = {0x04, flags};
    dirty(w);
    return out(w->a, 0, list, len, cdb)->status;
}

/* INVALID FIELD IN PARAMETER LIST at that byte, and nothing was formatted. */
static bool refused_at(struct world *w, unsigned byte)
{
    return sense_is(SCSI_KEY_ILLEGAL_REQUEST, 0x2600) && be16_load(reply.sense + 16) == byte &&
           !is_clean(w);
}

static void formatted_is_as_new(struct world *w)
{
    static const uint8_t zeros[16];
    CHECK(format(w, 0x00, NULL, 0) == SCSI_GOOD && is_clean(w));
    CHECK(format(w, 0x10, zeros, 4) == SCSI_GOOD && is_clean(w) && reply.residual == 0);
    CHECK(format(w, 0x10, (const uint8_t[4]){0, 0x82}, 4) == SCSI_GOOD && is_clean(w)); /* IMMED */
    CHECK(format(w, 0x38, zeros, 8) == SCSI_GOOD && is_clean(w));
    CHECK(in(w->b, 0, 512, CDB(0x28, 0, 0, 0, 0, 0, 0, 0, 1))->data[0] == 0);
    /* A pattern, which is zero. */
    CHECK(format(w, 0x10, (const uint8_t[9]){0, 0x88, 0, 0, 0, 1, 0, 1}, 9) == SCSI_GOOD);
    CHECK(is_clean(w));
    CHECK(format(w, 0x10, (const uint8_t[8]){0, 0x88}, 8) == SCSI_GOOD && is_clean(w));
}
WORLD_TEST(formatted_is_as_new)

static void what_cannot_be_is_refused(struct world *w)
{
    static const uint8_t zeros[16];
    CHECK(format(w, 0x80, NULL, 0) != SCSI_GOOD && field_is(1, 7) && !is_clean(w));
    CHECK(format(w, 0x20, NULL, 0) != SCSI_GOOD && field_is(1, 4));
    CHECK(format(w, 0x10, zeros, 3) != SCSI_GOOD && sense_is(5, 0x1a00));
    CHECK(format(w, 0x10, NULL, 0) != SCSI_GOOD && sense_is(5, 0x1a00));
    CHECK(format(w, 0x30, zeros, 7) != SCSI_GOOD && sense_is(5, 0x1a00) && !is_clean(w));
    CHECK(format(w, 0x10, (const uint8_t[4]){1}, 4) != SCSI_GOOD && refused_at(w, 0));
    CHECK(format(w, 0x10, (const uint8_t[4]){0, 0x40}, 4) != SCSI_GOOD && refused_at(w, 1));
    CHECK(format(w, 0x10, (const uint8_t[8]){0, 0, 0, 4}, 8) != SCSI_GOOD && refused_at(w, 2));
    CHECK(format(w, 0x30, (const uint8_t[8]){0, 0, 0, 1}, 8) != SCSI_GOOD && refused_at(w, 3));
    CHECK(format(w, 0x30, (const uint8_t[8]){0, 0, 0, 0, 1}, 8) != SCSI_GOOD && refused_at(w, 4));
    CHECK(format(w, 0x10, (const uint8_t[7]){0, 0x88}, 7) != SCSI_GOOD && sense_is(5, 0x1a00));
    static const struct {
        uint8_t list[10];
        unsigned byte;
    } patterns[] = {
        {{0, 0x88, 0, 0, 0x20}, 4},               /* SI */
        {{0, 0x88, 0, 0, 0, 2}, 5},               /* a type there is not */
        {{0, 0x88, 0, 0, 0, 0, 0, 1}, 6},         /* the default has no bytes */
        {{0, 0x88, 0, 0, 0, 1, 0, 0}, 6},         /* a pattern has some, */
        {{0, 0x88, 0, 0, 0, 1, 2, 1}, 6},         /* at most a block */
        {{0, 0x88, 0, 0, 0, 1, 0, 2, 0, 0xaa}, 9} /* not zero */
    };
    for (size_t i = 0; i < ARRAY_LEN(patterns); i++) {
        CHECK(format(w, 0x10, patterns[i].list, 10) != SCSI_GOOD);
        CHECK(refused_at(w, patterns[i].byte));
    }
    CHECK(format(w, 0x10, (const uint8_t[9]){0, 0x88, 0, 0, 0, 1, 0, 2}, 9) != SCSI_GOOD);
    CHECK(sense_is(5, 0x1a00) && !is_clean(w));
}
WORLD_TEST(what_cannot_be_is_refused)

static void errors_below_are_told(struct world *w)
{
    disk(w, 0)->fail = -ENOSPC;
    CHECK(format(w, 0, NULL, 0) != SCSI_GOOD && sense_is(SCSI_KEY_DATA_PROTECT, 0x2707));
    disk(w, 0)->fail = 0;
    fake_loss = ERR_CACHE_LOST;
    CHECK(format(w, 0, NULL, 0) != SCSI_GOOD && sense_is(SCSI_KEY_HARDWARE_ERROR, 0x0c00));
    CHECK(!is_clean(w));
    disk(w, 0)->info.read_only = true;
    CHECK(format(w, 0, NULL, 0) != SCSI_GOOD && sense_is(SCSI_KEY_DATA_PROTECT, 0x2700));
}
WORLD_TEST(errors_below_are_told)

static void sanitizing_keeps_all_else_away(struct world *w)
{
    struct dev *d = disk(w, 0);
    const uint8_t *erase = CDB(0x48, 0x82), *leave = CDB(0x48, 0x1f);
    CHECK(none(w->a, 0, CDB(0x48, 0x02)) == SCSI_GOOD && d->info.sanitize == DEV_SANITIZED_NOT);
    CHECK(none(w->a, 0, leave) == SCSI_GOOD);
    CHECK(none(w->a, 0, erase) == SCSI_GOOD && d->info.sanitize == DEV_SANITIZING);
    CHECK(tur(w->b, 0) == SCSI_CHECK_CONDITION && sense_is(SCSI_KEY_NOT_READY, 0x041b));
    CHECK(reply.sense[15] == 0x80 && be16_load(reply.sense + 16) == 0x1234);
    CHECK(none(w->a, 0, erase) == SCSI_CHECK_CONDITION && sense_is(SCSI_KEY_NOT_READY, 0x041b));
    CHECK(none(w->a, 0, leave) == SCSI_CHECK_CONDITION && sense_is(SCSI_KEY_NOT_READY, 0x041b));
    CHECK(none(w->a, 0, CDB(0x35)) != 0 && sense_is(SCSI_KEY_NOT_READY, 0x041b));
    CHECK(in(w->a, 0, 512, CDB(0x28, 0, 0, 0, 0, 0, 0, 0, 1))->status != 0);
    CHECK(in(w->a, 0, 255, CDB(0x1a, 0, 0x0a, 0, 255))->status != 0);
    CHECK(in(w->a, 0, 36, CDB(0x12, 0, 0, 0, 36))->status == SCSI_GOOD);
    CHECK(in(w->a, 0, 18, CDB(0x03, 0, 0, 0, 18))->data[2] == SCSI_KEY_NOT_READY);
    CHECK(reply.data[12] == 0x04 && reply.data[13] == 0x1b && be16_load(reply.data + 16) == 0x1234);
    CHECK(in(w->a, 0, 64, CDB(0xa3, 0x0d, 0, 0, 0, 0, 0, 0, 0, 64))->status == SCSI_GOOD);
    CHECK(tur(w->a, 1) == SCSI_GOOD);
    /* A failure stays, unless AUSE said before that it may be left. */
    d->info.sanitize = DEV_SANITIZE_FAILED;
    CHECK(tur(w->a, 0) == SCSI_CHECK_CONDITION && sense_is(SCSI_KEY_MEDIUM_ERROR, 0x3103));
    CHECK(none(w->a, 0, leave) == SCSI_CHECK_CONDITION && field_is(1, 4));
    CHECK(none(w->a, 0, CDB(0x48, 0x22)) == SCSI_CHECK_CONDITION && field_is(1, 5));
    CHECK(none(w->a, 0, CDB(0x48, 0x02)) == SCSI_GOOD && tur(w->a, 0) == SCSI_GOOD);
    CHECK(none(w->a, 0, CDB(0x48, 0x22)) == SCSI_GOOD && tur(w->a, 0) == SCSI_GOOD);
    d->info.sanitize = DEV_SANITIZE_FAILED;
    CHECK(none(w->a, 0, leave) == SCSI_GOOD && tur(w->a, 0) == SCSI_GOOD);
}
WORLD_TEST(sanitizing_keeps_all_else_away)

/* With one alone the key of what was written can go. */
static void cryptographic_erase_wants_encryption(struct world *w)
{
    struct dev *d = disk(w, 0);
    const uint8_t *erase = CDB(0x48, 0x83), *page = CDB(0x12, 1, 0xb1, 0, 64);
    const uint8_t *all = CDB(0xa3, 0x0c, 0, 0, 0, 0, 0, 0, 0xff, 0xff);
    const uint8_t *one = CDB(0xa3, 0x0c, 2, 0x48, 0, 3, 0, 0, 0, 64);
    CHECK(none(w->a, 0, erase) != 0 && field_is(1, 4) && d->info.sanitize == DEV_SANITIZED_NOT);
    CHECK(in(w->a, 0, 64, page)->data[7] == 0x40);
    CHECK(in(w->a, 0, 64, one)->data[1] == 1);
    size_t len = in(w->a, 0, 65535, all)->len;
    CHECK(be32_load(reply.data) == len - 4);
    fake_encrypted = true;
    CHECK(in(w->a, 0, 64, page)->data[7] == 0x50);
    CHECK(in(w->a, 0, 64, one)->data[1] == 3 && reply.data[5] == 0xa3);
    CHECK(in(w->a, 0, 65535, all)->len == len + 8 && be32_load(reply.data) == len + 4);
    CHECK(none(w->a, 0, erase) == SCSI_GOOD && d->info.sanitize == DEV_SANITIZING);
    CHECK(tur(w->b, 0) == SCSI_CHECK_CONDITION && sense_is(SCSI_KEY_NOT_READY, 0x041b));
    fake_encrypted = false;
}
WORLD_TEST(cryptographic_erase_wants_encryption)

#define OVERWRITE(flags, len) CDB(0x48, 0x01 | (flags), 0, 0, 0, 0, 0, (len) >> 8, (len)&0xff)

static void overwriting_takes_a_pattern(struct world *w)
{
    struct dev *d = disk(w, 0);
    uint8_t list[4 + 513] = {0x80 | 31, 0, 0, 3, 1, 2, 3};
    CHECK(out(w->a, 0, list, 7, OVERWRITE(0xa0, 7))->status == SCSI_GOOD);
    CHECK(d->info.sanitize == DEV_SANITIZING && d->info.sanitize_ause && fake_sanitize.ause);
    CHECK(fake_sanitize.passes == 31 && fake_sanitize.invert && fake_sanitize.pattern_bytes == 3);
    CHECK(memcmp(fake_pattern, list + 4, 3) == 0);
    d->info.sanitize = DEV_SANITIZED_NOT;
    list[0] = 1;
    be16_store(list + 2, 512);
    CHECK(out(w->a, 0, list, 516, OVERWRITE(0, 516))->status == SCSI_GOOD);
    CHECK(fake_sanitize.passes == 1 && !fake_sanitize.invert && !fake_sanitize.ause);
    CHECK(fake_sanitize.pattern_bytes == 512 && d->info.sanitize == DEV_SANITIZED_NOT);
    fake_sanitize.passes = 0;
    CHECK(in(w->a, 0, 64, CDB(0xa3, 0x0c, 2, 0x48, 0, 1, 0, 0, 0, 64))->data[1] == 3);
    CHECK(reply.data[5] == 0xa1 && be16_load(reply.data + 11) == 0xffff);
    /* The length, and what the list says. */
    CHECK(out(w->a, 0, list, 4, OVERWRITE(0, 4))->status && field_is(7, 7));
    CHECK(out(w->a, 0, list, 517, OVERWRITE(0, 517))->status && field_is(7, 7));
    CHECK(none(w->a, 0, CDB(0x48, 0x01)) && field_is(7, 7));
    CHECK(out(w->a, 0, list, 516, OVERWRITE(0x40, 516))->status && field_is(1, 6));
    CHECK(out(w->a, 0, list, 12, OVERWRITE(0, 12))->status &&
          sense_is(SCSI_KEY_ILLEGAL_REQUEST, 0x1a00));
    be16_store(list + 2, 0);
    CHECK(out(w->a, 0, list, 12, OVERWRITE(0, 12))->status &&
          sense_is(SCSI_KEY_ILLEGAL_REQUEST, 0x2600));
    be16_store(list + 2, 513);
    CHECK(out(w->a, 0, list, 516, OVERWRITE(0, 516))->status &&
          sense_is(SCSI_KEY_ILLEGAL_REQUEST, 0x2600));
    be16_store(list + 2, 1);
    list[0] = 0x20 | 1; /* TEST */
    CHECK(out(w->a, 0, list, 12, OVERWRITE(0, 12))->status &&
          sense_is(SCSI_KEY_ILLEGAL_REQUEST, 0x2600));
    list[0] = 0x80; /* no passes */
    CHECK(out(w->a, 0, list, 12, OVERWRITE(0, 12))->status &&
          sense_is(SCSI_KEY_ILLEGAL_REQUEST, 0x2400));
    list[0] = 1;
    d->info.read_only = true;
    CHECK(out(w->a, 0, list, 12, OVERWRITE(0, 12))->status &&
          sense_is(SCSI_KEY_DATA_PROTECT, 0x2700));
    CHECK(fake_sanitize.passes == 0 && d->info.sanitize == DEV_SANITIZED_NOT);
}
WORLD_TEST(overwriting_takes_a_pattern)

static void sanitize_says_what_it_does_not_do(struct world *w)
{
    uint8_t list[8] = {0};
    CHECK(none(w->a, 0, CDB(0x48, 0x04)) != 0 && field_is(1, 4));
    CHECK(none(w->a, 0, CDB(0x48, 0x42)) != 0 && field_is(1, 6));
    CHECK(none(w->a, 0, CDB(0x48, 0x02, 0, 0, 1)) != 0 && field_is(4, 7));
    CHECK(out(w->a, 0, list, 8, CDB(0x48, 0x02, 0, 0, 0, 0, 0, 0, 8))->status && field_is(7, 7));
    disk(w, 0)->info.read_only = true;
    CHECK(none(w->a, 0, CDB(0x48, 0x02)) != 0 && sense_is(SCSI_KEY_DATA_PROTECT, 0x2700));
    CHECK(in(w->a, 0, 64, CDB(0x12, 1, 0xb1, 0, 64))->data[7] == 0x40); /* WABEREQ */
}
WORLD_TEST(sanitize_says_what_it_does_not_do)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sanitizing_keeps_all_else_away),
        cmocka_unit_test(test_cryptographic_erase_wants_encryption),
        cmocka_unit_test(test_overwriting_takes_a_pattern),
        cmocka_unit_test(test_sanitize_says_what_it_does_not_do),
        cmocka_unit_test(test_formatted_is_as_new),
        cmocka_unit_test(test_what_cannot_be_is_refused),
        cmocka_unit_test(test_errors_below_are_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
