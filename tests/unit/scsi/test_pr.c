/* SPDX-License-Identifier: Apache-2.0 */
/* Persistent reservations: what each service action does, says, and tells to whom. */
#include "base/bytes.h"
#include "pr_test.h"

static void a_key_is_registered_changed_and_taken_back(struct world *w)
{
    CHECK(pr(w->a, REGISTER, 0, 5, 1) == SCSI_RESERVATION_CONFLICT);
    CHECK(pr(w->a, REGISTER, 0, 0, 0) == SCSI_GOOD && keys(w->a) == 0 && generation() == 0);
    CHECK(pr(w->a, REGISTER, 0, 0, 1) == SCSI_GOOD);
    CHECK(keys(w->b) == 1 && key_at(0) == 1 && generation() == 1);
    CHECK(pr(w->a, REGISTER, 0, 2, 3) == SCSI_RESERVATION_CONFLICT);
    CHECK(pr(w->a, REGISTER, 0, 1, 3) == SCSI_GOOD);
    CHECK(pr(w->b, REGISTER_IGNORE, 0, 77, 4) == SCSI_GOOD);
    CHECK(keys(w->a) == 2 && generation() == 3 && key_at(0) + key_at(1) == 7);
    CHECK(pr(w->b, REGISTER_IGNORE, 0, 0, 0) == SCSI_GOOD);
    CHECK(pr(w->a, REGISTER, 0, 3, 0) == SCSI_GOOD && keys(w->a) == 0 && generation() == 5);
    CHECK(pr(w->b, REGISTER_IGNORE, 0, 0, 0) == SCSI_GOOD && tur(w->a, 0) == SCSI_GOOD);
}
WORLD_TEST(a_key_is_registered_changed_and_taken_back)

static void everything_but_registering_takes_a_registration(struct world *w)
{
    for (unsigned action = RESERVE; action <= PREEMPT_ABORT; action++) {
        CHECK(pr(w->a, action, WE, 0, 1) == SCSI_RESERVATION_CONFLICT);
    }
    CHECK(move(w->a, 0, 1, 0, 1, "iqn.b,i,0x0") == SCSI_RESERVATION_CONFLICT);
    CHECK(pr(w->a, REGISTER, 0, 0, 9) == SCSI_GOOD);
    for (unsigned action = RESERVE; action <= PREEMPT_ABORT; action++) {
        CHECK(pr(w->a, action, WE, 8, 9) == SCSI_RESERVATION_CONFLICT);
    }
    CHECK(keys(w->a) == 1 && generation() == 1);
}
WORLD_TEST(everything_but_registering_takes_a_registration)

static void lists_have_their_length(struct world *w)
{
    uint8_t list[64] = {[15] = 1};
    for (uint8_t action = 0; action < 8; action++) {
        CHECK(out(w->a, 0, list, 23, CDB(0x5f, action, 0, 0, 0, 0, 0, 0, 23))->status != 0);
        CHECK(sense_is(SCSI_KEY_ILLEGAL_REQUEST, 0x1a00));
        CHECK(none(w->a, 0, CDB(0x5f, action)) != SCSI_GOOD);
        CHECK(sense_is(SCSI_KEY_ILLEGAL_REQUEST, 0x1a00));
        CHECK(out(w->a, 0, list, 28, CDB(0x5f, action, 0, 0, 0, 0, 0, 0, 28))->status != 0);
        CHECK(sense_is(SCSI_KEY_ILLEGAL_REQUEST, 0x1a00));
        /* Fewer bytes come than the CDB says. */
        CHECK(out(w->a, 0, list, 16, CDB(0x5f, action, 0, 0, 0, 0, 0, 0, 24))->status != 0);
        CHECK(sense_is(SCSI_KEY_ILLEGAL_REQUEST, 0x1a00));
    }
    CHECK(out(w->a, 0, list, 64, CDB(0x5f, 0, 0, 0, 0, 0, 2))->status != 0 && field_is(5, 7));
    CHECK(none(w->a, 0, CDB(0x5f, 8, 0, 0, 0, 0, 0, 0, 24)) != SCSI_GOOD && field_is(1, 4));
    CHECK(in(w->a, 0, 64, CDB(0x5e, 4, 0, 0, 0, 0, 0, 0, 64))->status != 0 && field_is(1, 4));
    CHECK(keys(w->a) == 0);
}
WORLD_TEST(lists_have_their_length)

static void scope_and_type_are_checked_where_they_count(struct world *w)
{
    CHECK(pr(w->a, REGISTER, 0x12, 0, 1) == SCSI_GOOD); /* ignored here */
    static const uint8_t bad[] = {0x00, 0x02, 0x04, 0x09, 0x0f, 0x11, 0x21};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        CHECK(pr(w->a, RESERVE, bad[i], 1, 0) != SCSI_GOOD && field_is(2, 7));
    }
    CHECK(pr(w->a, RESERVE, WE, 1, 0) == SCSI_GOOD && reservation(w->b) == WE && holder_key() == 1);
    CHECK(pr(w->a, RESERVE, WE, 1, 0) == SCSI_GOOD);
    CHECK(pr(w->a, RESERVE, EA, 1, 0) == SCSI_RESERVATION_CONFLICT);
    CHECK(pr(w->a, RELEASE, EA, 1, 0) != SCSI_GOOD);
    CHECK(sense_is(SCSI_KEY_ILLEGAL_REQUEST, 0x2604));
    CHECK(pr(w->a, RELEASE, 0x10 | WE, 1, 0) != SCSI_GOOD);
    CHECK(sense_is(SCSI_KEY_ILLEGAL_REQUEST, 0x2604));
    CHECK(pr(w->a, PREEMPT, 0x02, 1, 1) != SCSI_GOOD && field_is(2, 7));
    CHECK(pr(w->a, PREEMPT, WE, 1, 0) != SCSI_GOOD);
    CHECK(sense_is(SCSI_KEY_ILLEGAL_REQUEST, 0x2600));
    CHECK(pr(w->a, PREEMPT, WE, 1, 2) == SCSI_RESERVATION_CONFLICT); /* nobody has key 2 */
    CHECK(pr(w->b, REGISTER, 0, 0, 2) == SCSI_GOOD);
    CHECK(pr(w->b, RESERVE, WE, 2, 0) == SCSI_RESERVATION_CONFLICT);
    CHECK(pr(w->b, RELEASE, EA, 2, 0) == SCSI_GOOD);   /* not its own: nothing happens */
    CHECK(pr(w->a, PREEMPT, 0xff, 1, 2) == SCSI_GOOD); /* not looked at */
    CHECK(reservation(w->a) == WE && tur(w->b, 0) != SCSI_GOOD && attention_is(0x2a05));
    CHECK(pr(w->a, RELEASE, WE, 1, 0) == SCSI_GOOD && reservation(w->a) == 0);
}
WORLD_TEST(scope_and_type_are_checked_where_they_count)

static void release_tells_registrants(struct world *w)
{
    static const uint8_t types[] = {WE, EA, WE_RO, EA_RO, WE_AR, EA_AR};
    struct scsi_nexus *c = third(w);
    CHECK(pr(w->a, REGISTER, 0, 0, 1) == SCSI_GOOD && pr(w->b, REGISTER, 0, 0, 2) == SCSI_GOOD);
    for (size_t i = 0; i < ARRAY_LEN(types); i++) {
        bool told = types[i] > EA;
        CHECK(pr(w->a, RESERVE, types[i], 1, 0) == SCSI_GOOD && reservation(c) == types[i]);
        CHECK(holder_key() == (types[i] < WE_AR ? 1 : 0));
        CHECK(pr(w->a, RELEASE, types[i], 1, 0) == SCSI_GOOD && reservation(c) == 0);
        CHECK(tur(w->a, 0) == SCSI_GOOD && tur(c, 0) == SCSI_GOOD);
        CHECK((tur(w->b, 0) != SCSI_GOOD) == told && (!told || attention_is(0x2a04)));
        CHECK(tur(w->b, 0) == SCSI_GOOD && keys(c) == 2);
    }
    scsi_nexus_destroy(c);
}
WORLD_TEST(release_tells_registrants)

static void a_reservation_goes_with_its_holder(struct world *w)
{
    static const uint8_t types[] = {WE, EA, WE_RO, EA_RO, WE_AR, EA_AR};
    for (size_t i = 0; i < ARRAY_LEN(types); i++) {
        bool shared = types[i] >= WE_AR;
        CHECK(pr(w->a, REGISTER, 0, 0, 1) == SCSI_GOOD);
        CHECK(pr(w->b, REGISTER, 0, 0, 2) == SCSI_GOOD);
        CHECK(pr(w->a, RESERVE, types[i], 1, 0) == SCSI_GOOD);
        CHECK(pr(w->a, REGISTER, 0, 1, 0) == SCSI_GOOD);
        bool told = types[i] == WE_RO || types[i] == EA_RO;
        CHECK((tur(w->b, 0) != SCSI_GOOD) == told && (!told || attention_is(0x2a04)));
        CHECK(reservation(w->b) == (shared ? types[i] : 0));
        CHECK(pr(w->b, REGISTER, 0, 2, 0) == SCSI_GOOD && reservation(w->b) == 0);
        CHECK(tur(w->a, 0) == SCSI_GOOD && write_one(w->a) == SCSI_GOOD);
    }
}
WORLD_TEST(a_reservation_goes_with_its_holder)

static void clear_takes_everything_and_tells_it(struct world *w)
{
    struct scsi_nexus *c = third(w);
    CHECK(pr(w->a, REGISTER, 0, 0, 1) == SCSI_GOOD && pr(w->b, REGISTER, 0, 0, 2) == SCSI_GOOD);
    CHECK(pr(w->a, RESERVE, EA, 1, 0) == SCSI_GOOD);
    CHECK(pr(w->b, CLEAR, 0, 2, 0) == SCSI_GOOD && keys(w->b) == 0 && reservation(w->b) == 0);
    CHECK(tur(w->a, 0) != SCSI_GOOD && attention_is(0x2a03) && tur(w->a, 0) == SCSI_GOOD);
    CHECK(tur(w->b, 0) == SCSI_GOOD && tur(c, 0) == SCSI_GOOD && tur(w->a, 1) == SCSI_GOOD);
    scsi_nexus_destroy(c);
}
WORLD_TEST(clear_takes_everything_and_tells_it)

/* The reservation is that key's. */
static bool holder_is(struct scsi_nexus *n, uint64_t key)
{
    return reservation(n) != 0 && holder_key() == key;
}

static void preempting_replaces_a_reservation(struct world *w)
{
    struct scsi_nexus *c = third(w);
    CHECK(pr(w->a, REGISTER, 0, 0, 1) == SCSI_GOOD && pr(w->b, REGISTER, 0, 0, 2) == SCSI_GOOD);
    CHECK(pr(c, REGISTER, 0, 0, 3) == SCSI_GOOD && pr(w->a, RESERVE, WE_RO, 1, 0) == SCSI_GOOD);
    CHECK(pr(w->b, PREEMPT, EA_RO, 2, 1) == SCSI_GOOD);
    CHECK(holder_is(w->b, 2) && reservation(w->b) == EA_RO);
    CHECK(keys(w->b) == 2 && generation() == 4);
    CHECK(tur(w->a, 0) != SCSI_GOOD && attention_is(0x2a05)); /* lost its registration */
    CHECK(tur(c, 0) != SCSI_GOOD && attention_is(0x2a04));    /* the type has changed */
    CHECK(tur(w->b, 0) == SCSI_GOOD && tur(w->a, 0) == SCSI_GOOD && tur(c, 0) == SCSI_GOOD);
    /* The same type: those who stay hear nothing. */
    CHECK(pr(w->a, REGISTER, 0, 0, 1) == SCSI_GOOD);
    CHECK(pr(c, PREEMPT, EA_RO, 3, 2) == SCSI_GOOD && tur(w->a, 0) == SCSI_GOOD);
    CHECK(tur(w->b, 0) != SCSI_GOOD && attention_is(0x2a05) && holder_is(c, 3));
    /* Its own: another type, and it stays registered. */
    CHECK(pr(c, PREEMPT, WE, 3, 3) == SCSI_GOOD && reservation(c) == WE && holder_is(c, 3));
    CHECK(tur(c, 0) == SCSI_GOOD && tur(w->a, 0) != SCSI_GOOD && attention_is(0x2a04));
    /* Who shares the holder's key and is not the sender goes too. */
    CHECK(pr(w->b, REGISTER, 0, 0, 3) == SCSI_GOOD && pr(w->a, PREEMPT, WE, 1, 3) == SCSI_GOOD);
    CHECK(keys(w->a) == 1 && holder_is(w->a, 1) && tur(w->b, 0) != 0 && attention_is(0x2a05));
    scsi_nexus_destroy(c);
}
WORLD_TEST(preempting_replaces_a_reservation)

static void preempting_all_registrants(struct world *w)
{
    struct scsi_nexus *c = third(w);
    CHECK(pr(w->a, REGISTER, 0, 0, 1) == SCSI_GOOD && pr(w->b, REGISTER, 0, 0, 2) == SCSI_GOOD);
    CHECK(pr(c, REGISTER, 0, 0, 3) == SCSI_GOOD && pr(w->a, RESERVE, WE_AR, 1, 0) == SCSI_GOOD);
    CHECK(pr(w->b, PREEMPT, EA, 2, 3) == SCSI_GOOD); /* a key: only registrations go */
    CHECK(reservation(w->a) == WE_AR && keys(w->a) == 2);
    CHECK(tur(c, 0) != SCSI_GOOD && attention_is(0x2a05) && tur(w->a, 0) == SCSI_GOOD);
    CHECK(pr(w->b, PREEMPT, EA, 2, 0) == SCSI_GOOD && reservation(w->b) == EA);
    CHECK(keys(w->b) == 1 && holder_is(w->b, 2) && tur(w->a, 0) != 0 && attention_is(0x2a05));
    /* The last registration that is preempted takes the reservation of all with it. */
    CHECK(pr(w->b, PREEMPT, EA_AR, 2, 2) == SCSI_GOOD && reservation(w->b) == EA_AR);
    CHECK(pr(w->b, PREEMPT, EA_AR, 2, 2) == SCSI_GOOD && keys(w->b) == 0);
    CHECK(reservation(w->b) == 0 && tur(w->b, 0) == SCSI_GOOD && write_one(w->a) == SCSI_GOOD);
    scsi_nexus_destroy(c);
}
WORLD_TEST(preempting_all_registrants)

static void a_reservation_is_moved(struct world *w)
{
    CHECK(pr(w->a, REGISTER, 0, 0, 1) == SCSI_GOOD);
    CHECK(move(w->a, 1, 2, 0, 1, "iqn.b,i,0x0") != SCSI_GOOD && field_is(2, 7)); /* there is none */
    CHECK(pr(w->a, RESERVE, WE, 1, 0) == SCSI_GOOD);
    CHECK(move(w->a, 2, 2, 0, 1, "iqn.b,i,0x0") == SCSI_RESERVATION_CONFLICT);
    CHECK(move(w->a, 1, 0, 0, 1, "iqn.b,i,0x0") != SCSI_GOOD && bad_list());
    CHECK(move(w->a, 1, 2, 0, 1, "iqn.a,i,0x0") != SCSI_GOOD && bad_list()); /* its own */
    CHECK(move(w->a, 1, 2, 0, 7, "iqn.b,i,0x0") != SCSI_GOOD && bad_list()); /* no such port */
    CHECK(move(w->a, 1, 2, 0, 1, "iqn.z") != SCSI_GOOD && bad_list());       /* nobody known */
    CHECK(move(w->a, 1, 2, 0, 1, "IQN.B") == SCSI_GOOD); /* all the ports it has: one */
    CHECK(keys(w->a) == 2 && holder_is(w->b, 2) && write_one(w->a) == SCSI_RESERVATION_CONFLICT);
    CHECK(write_one(w->b) == SCSI_GOOD && keys(w->b) == 2 && generation() == 2);
    CHECK(move(w->a, 1, 2, 0, 1, "iqn.b,i,0x0") == SCSI_RESERVATION_CONFLICT); /* not its own */
    CHECK(move(w->b, 2, 4, UNREG, 1, "iqn.somewhere.else,i,0x00023D000001") == SCSI_GOOD);
    CHECK(keys(w->a) == 2 && holder_is(w->a, 4) && write_one(w->b) == SCSI_RESERVATION_CONFLICT);
    CHECK(tur(w->a, 0) == SCSI_GOOD && tur(w->b, 0) == SCSI_GOOD);
    CHECK(pr(w->a, PREEMPT, WE_AR, 1, 4) == SCSI_GOOD);
    CHECK(move(w->a, 1, 2, 0, 1, "iqn.b,i,0x0") == SCSI_RESERVATION_CONFLICT); /* of all */
}
WORLD_TEST(a_reservation_is_moved)

static void others_are_registered_along(struct world *w)
{
    static const char *const names[] = {"iqn.b,i,0x000000000000", "iqn.far.away,i,0x00023d000001"};
    CHECK(pr_with(w->a, 0, 5, 0, names, 2) == SCSI_GOOD && keys(w->b) == 3 && generation() == 1);
    CHECK(key_at(0) == 5 && key_at(1) == 5 && key_at(2) == 5);
    CHECK(pr(w->b, RESERVE, EA, 5, 0) == SCSI_GOOD && write_one(w->a) != SCSI_GOOD);
    CHECK(pr_with(w->a, 5, 6, 0, names, 2) != SCSI_GOOD && bad_list()); /* it is registered */
    CHECK(pr_with(w->a, 5, 0, 0, names, 2) != SCSI_GOOD && bad_list());
    CHECK(pr_with(w->a, 4, 6, 0, names, 2) == SCSI_RESERVATION_CONFLICT);
    CHECK(pr(w->a, REGISTER, 0, 5, 0) == SCSI_GOOD);
    CHECK(pr_with(w->a, 0, 5, 0, names, 1) != SCSI_GOOD && bad_list()); /* one of them is */
    CHECK(keys(w->a) == 2 && pr(w->b, CLEAR, 0, 5, 0) == SCSI_GOOD);
    clear_attentions(w->a, 0);
    CHECK(pr_with(w->a, 0, 5, ALL_TG_PT, names, 2) == SCSI_GOOD && keys(w->b) == 3);
    CHECK(pr_flags(w->b, REGISTER_IGNORE, 0, 0, 5, SPEC_I_PT) != SCSI_GOOD && bad_list());
    CHECK(pr_flags(w->a, RESERVE, WE, 5, 0, SPEC_I_PT) != SCSI_GOOD && bad_list());
    CHECK(pr_flags(w->a, CLEAR, 0, 5, 0, ALL_TG_PT | APTPL) == SCSI_GOOD); /* ignored here */
}
WORLD_TEST(others_are_registered_along)

static void hostile_transport_ids_register_nobody(struct world *w)
{
    static const char *const good[] = {"iqn.far.away,i,0x00023d000001"};
    uint8_t list[256];
    size_t len = put_list(list, 0, 5, SPEC_I_PT, good, 1);
    uint8_t *id = list + 28;
    static const struct {
        uint8_t at;
        uint8_t value;
    } bad[] = {{0, 0x46}, {0, 0x85}, {0, 0xc5}, {0, 0x05}, {3, 255},  {3, 19},   {3, 16},
               {2, 1},    {4, 0},    {16, ' '}, {8, 0x7f}, {16, 'x'}, {23, 'g'}, {18, ' '}};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        uint8_t was = id[bad[i].at];
        id[bad[i].at] = bad[i].value;
        CHECK(out(w->a, 0, list, len, CDB(0x5f, 0, 0, 0, 0, 0, 0, 0, (uint8_t)len))->status != 0);
        CHECK(sense_is(SCSI_KEY_ILLEGAL_REQUEST, 0x2600) && keys(w->a) == 0);
        id[bad[i].at] = was;
    }
    memset(id + 4, 'x', len - 32); /* no null */
    CHECK(out(w->a, 0, list, len, CDB(0x5f, 0, 0, 0, 0, 0, 0, 0, (uint8_t)len))->status != 0);
    CHECK(bad_list() && keys(w->a) == 0);
    list[27]--; /* the length of the list against that of the parameter list */
    CHECK(out(w->a, 0, list, len, CDB(0x5f, 0, 0, 0, 0, 0, 0, 0, (uint8_t)len))->status != 0);
    CHECK(sense_is(SCSI_KEY_ILLEGAL_REQUEST, 0x1a00) && keys(w->a) == 0);
}
WORLD_TEST(hostile_transport_ids_register_nobody)

static void there_is_an_end_to_registrations(struct world *w)
{
    char name[40];
    const char *one[] = {name};
    for (unsigned i = 0; i + 1 < SCSI_PR_REGISTRANTS_MAX; i++) {
        snprintf(name, sizeof name, "iqn.many,i,0x%012x", i);
        CHECK(pr_with(w->a, 0, 5, 0, one, 1) == SCSI_GOOD);
        CHECK(pr(w->a, REGISTER, 0, 5, 0) == SCSI_GOOD);
    }
    CHECK(pr(w->a, REGISTER, 0, 0, 1) == SCSI_GOOD);
    CHECK(pr(w->b, REGISTER, 0, 0, 1) != SCSI_GOOD);
    CHECK(sense_is(SCSI_KEY_ILLEGAL_REQUEST, 0x5504));
    CHECK(keys(w->b) == SCSI_PR_REGISTRANTS_MAX);
    CHECK(in(w->b, 0, 65535, CDB(0x5e, 3, 0, 0, 0, 0, 0, 0xff, 0xff))->status == SCSI_GOOD);
    CHECK(be32_load(reply.data + 4) == (SCSI_PR_REGISTRANTS_MAX - 1) * 56 + 52);
    CHECK(pr(w->a, PREEMPT, 0, 1, 5) == SCSI_GOOD && keys(w->b) == 1);
    CHECK(pr(w->b, REGISTER, 0, 0, 1) == SCSI_GOOD);
}
WORLD_TEST(there_is_an_end_to_registrations)

static void the_full_status_names_every_nexus(struct world *w)
{
    static const char *const far[] = {"iqn.far.away,i,0x00023d000001"};
    CHECK(pr_with(w->a, 0, 5, 0, far, 1) == SCSI_GOOD);
    CHECK(pr(w->a, RESERVE, EA_RO, 5, 0) == SCSI_GOOD);
    CHECK(in(w->b, 0, 512, CDB(0x5e, 3, 0, 0, 0, 0, 0, 2, 0))->status == SCSI_GOOD);
    const uint8_t *p = reply.data;
    CHECK(be32_load(p) == 1 && be32_load(p + 4) == 52 + 60 && reply.len == 8 + 52 + 60);
    CHECK(be64_load(p + 8) == 5 && p[20] == 1 && p[21] == EA_RO && be16_load(p + 26) == 1);
    CHECK(be32_load(p + 28) == 28 && p[32] == 0x45 && be16_load(p + 34) == 24);
    CHECK(strcmp((const char *)p + 36, "iqn.a,i,0x000000000000") == 0);
    p += 52;
    CHECK(be64_load(p + 8) == 5 && p[20] == 0 && p[21] == 0 && be32_load(p + 28) == 36);
    CHECK(strcmp((const char *)p + 36, far[0]) == 0);
    /* Cut by the allocation length, with lengths that are not. */
    CHECK(in(w->b, 0, 512, CDB(0x5e, 3, 0, 0, 0, 0, 0, 0, 20))->len == 20);
    CHECK(be32_load(reply.data + 4) == 52 + 60);
    CHECK(in(w->b, 0, 512, CDB(0x5e, 0, 0, 0, 0, 0, 0, 0, 0))->status == SCSI_GOOD);
    CHECK(pr(w->a, PREEMPT, EA_AR, 5, 5) == SCSI_GOOD);
    CHECK(in(w->b, 0, 512, CDB(0x5e, 3, 0, 0, 0, 0, 0, 2, 0))->data[20] == 1);
}
WORLD_TEST(the_full_status_names_every_nexus)

static void the_capabilities_are_what_there_is(struct world *w)
{
    CHECK(in(w->b, 0, 64, CDB(0x5e, 2, 0, 0, 0, 0, 0, 0, 64))->len == 8);
    CHECK(memcmp(reply.data, "\x00\x08\x1d\xc0\xea\x01\x00\x00", 8) == 0);
    CHECK(pr_flags(w->a, REGISTER, 0, 0, 1, APTPL) == SCSI_GOOD);
    CHECK(in(w->b, 0, 64, CDB(0x5e, 2, 0, 0, 0, 0, 0, 0, 64))->data[3] == 0xc1);
    /* Every service action has its row in REPORT SUPPORTED OPERATION CODES. */
    for (uint8_t action = 0; action < 8; action++) {
        CHECK(in(w->a, 0, 64, CDB(0xa3, 0x0c, 2, 0x5f, 0, action, 0, 0, 0, 64))->data[1] == 3);
        CHECK(reply.data[4] == 0x5f && reply.data[5] == action && reply.data[3] == 10);
    }
    CHECK(in(w->a, 0, 64, CDB(0xa3, 0x0c, 2, 0x5f, 0, 8, 0, 0, 0, 64))->data[1] == 1);
}
WORLD_TEST(the_capabilities_are_what_there_is)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_key_is_registered_changed_and_taken_back),
        cmocka_unit_test(test_everything_but_registering_takes_a_registration),
        cmocka_unit_test(test_lists_have_their_length),
        cmocka_unit_test(test_scope_and_type_are_checked_where_they_count),
        cmocka_unit_test(test_release_tells_registrants),
        cmocka_unit_test(test_a_reservation_goes_with_its_holder),
        cmocka_unit_test(test_clear_takes_everything_and_tells_it),
        cmocka_unit_test(test_preempting_replaces_a_reservation),
        cmocka_unit_test(test_preempting_all_registrants),
        cmocka_unit_test(test_a_reservation_is_moved),
        cmocka_unit_test(test_others_are_registered_along),
        cmocka_unit_test(test_hostile_transport_ids_register_nobody),
        cmocka_unit_test(test_there_is_an_end_to_registrations),
        cmocka_unit_test(test_the_full_status_names_every_nexus),
        cmocka_unit_test(test_the_capabilities_are_what_there_is),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
