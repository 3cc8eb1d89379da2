/* SPDX-License-Identifier: Apache-2.0 */
/* Persistent reservations and the rest of the logical unit: commands, sessions, tasks, the store.
 */
#include "pr_test.h"
#include "scsi/command.h"
#include "scsi/scsi_priv.h"

/* SPC-4 table 65, SBC-4 table 13, by name: commands that are not listed are refused by every type.
 */
static const char *const any[] = {"TEST UNIT READY",
                                  "REQUEST SENSE",
                                  "INQUIRY",
                                  "READ CAPACITY(10)",
                                  "READ CAPACITY(16)",
                                  "LOG SENSE",
                                  "REPORT LUNS",
                                  "RESERVE(6)",
                                  "RESERVE(10)",
                                  "RELEASE(6)",
                                  "RELEASE(10)",
                                  "PERSISTENT RESERVE",
                                  "COPY OPERATION ABORT",
                                  "REPORT IDENTIFYING INFORMATION",
                                  "REPORT TARGET PORT GROUPS",
                                  "REPORT TIMESTAMP"};
static const char *const reading[] = {"READ(",
                                      "VERIFY(",
                                      "PRE-FETCH(",
                                      "READ DEFECT DATA(",
                                      "MODE SENSE(",
                                      "READ BUFFER(",
                                      "RECEIVE DIAGNOSTIC RESULTS",
                                      "GET LBA STATUS",
                                      "POPULATE TOKEN",
                                      "RECEIVE COPY STATUS(LID4)",
                                      "RECEIVE ROD TOKEN INFORMATION",
                                      "REPORT ALL ROD TOKENS",
                                      "REPORT SUPPORTED OPERATION CODES",
                                      "REPORT SUPPORTED TASK MANAGEMENT FUNCTIONS"};

static bool begins(const char *name, const char *const *list, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (strncmp(name, list[i], strlen(list[i])) == 0) {
            return true;
        }
    }
    return false;
}

/* The command gets no further than its beginning. */
__attribute__((noinline)) static bool is_refused(struct scsi_nexus *n, const uint8_t *cdb)
{
    struct scsi_task t;
    task_start(&t, n, 0, cdb);
    scsi_task_begin(&t);
    bool conflict = t.status == SCSI_RESERVATION_CONFLICT;
    scsi_task_end(&t);
    return conflict;
}

static void check_row(struct world *w, struct scsi_nexus *c, const struct scsi_command *row,
                      unsigned type)
{
    uint8_t cdb[16] = {row->opcode, row->action == SCSI_NO_ACTION ? 0 : (uint8_t)row->action};
    bool ea = type == EA || type == EA_RO || type == EA_AR;
    bool refused = !begins(row->name, any, ARRAY_LEN(any)) &&
                   (ea || !begins(row->name, reading, ARRAY_LEN(reading)));
    bool registrants = type >= WE_RO;
    if (strncmp(row->name, "RESERVE(", 8) == 0 || strncmp(row->name, "RELEASE(", 8) == 0) {
        CHECK(is_refused(w->b, cdb) == !registrants && is_refused(c, cdb) &&
              !is_refused(w->a, cdb));
        return;
    }
    CHECK(!is_refused(w->a, cdb));
    CHECK(is_refused(w->b, cdb) == (refused && !registrants));
    if (is_refused(c, cdb) != refused) {
        print_error("%s, type %u\n", row->name, type);
        CHECK(false);
    }
}

static void every_command_by_every_type_from_everybody(struct world *w)
{
    static const uint8_t types[] = {WE, EA, WE_RO, EA_RO, WE_AR, EA_AR};
    struct scsi_nexus *c = third(w);
    CHECK(pr(w->a, REGISTER, 0, 0, 1) == SCSI_GOOD && pr(w->b, REGISTER, 0, 0, 2) == SCSI_GOOD);
    for (size_t i = 0; i < ARRAY_LEN(types); i++) {
        const struct scsi_command *row;
        CHECK(pr(w->a, RESERVE, types[i], 1, 0) == SCSI_GOOD);
        for (size_t n = 0; (row = scsi_command_at(n)) != NULL; n++) {
            CHECK(row->access != SCSI_ACCESS_UNSAID);
            check_row(w, c, row, types[i]);
        }
        /* A unit that is started needs no right to write. */
        CHECK(!is_refused(c, CDB(0x1b, 0, 0, 0, 1)) && is_refused(c, CDB(0x1b, 0, 0, 0, 0x11)));
        CHECK(is_refused(c, CDB(0x1b, 0, 0, 0, 0)));
        CHECK(pr(w->a, RELEASE, types[i], 1, 0) == SCSI_GOOD);
        clear_attentions(w->b, 0);
        CHECK(!is_refused(c, CDB(0x2a)) && !is_refused(c, CDB(0x28)));
    }
    scsi_nexus_destroy(c);
}
WORLD_TEST(every_command_by_every_type_from_everybody)

static void reserve_6_and_registrations_exclude_each_other(struct world *w)
{
    CHECK(none(w->a, 0, CDB(0x16)) == SCSI_GOOD);
    CHECK(pr(w->a, REGISTER, 0, 0, 1) == SCSI_RESERVATION_CONFLICT); /* not even its own */
    CHECK(pr(w->b, REGISTER, 0, 0, 1) == SCSI_RESERVATION_CONFLICT);
    CHECK(in(w->a, 0, 64, CDB(0x5e, 0, 0, 0, 0, 0, 0, 0, 64))->status == SCSI_RESERVATION_CONFLICT);
    CHECK(none(w->b, 0, CDB(0x17)) == SCSI_GOOD && write_one(w->b) == SCSI_RESERVATION_CONFLICT);
    CHECK(none(w->a, 0, CDB(0x17)) == SCSI_GOOD);
    CHECK(pr(w->a, REGISTER, 0, 0, 1) == SCSI_GOOD);
    CHECK(none(w->a, 0, CDB(0x16)) == SCSI_RESERVATION_CONFLICT);
    CHECK(none(w->b, 0, CDB(0x16)) == SCSI_RESERVATION_CONFLICT);
    CHECK(none(w->b, 0, CDB(0x57)) == SCSI_RESERVATION_CONFLICT);
    CHECK(pr(w->a, RESERVE, WE, 1, 0) == SCSI_GOOD);
    CHECK(none(w->a, 0, CDB(0x16)) == SCSI_GOOD && none(w->a, 0, CDB(0x17)) == SCSI_GOOD);
    CHECK(reservation(w->a) == WE && none(w->b, 0, CDB(0x16)) == SCSI_RESERVATION_CONFLICT);
    CHECK(pr(w->a, CLEAR, 0, 1, 0) == SCSI_GOOD && none(w->b, 0, CDB(0x16)) == SCSI_GOOD);
}
WORLD_TEST(reserve_6_and_registrations_exclude_each_other)

static void a_registration_outlives_sessions_and_resets(struct world *w)
{
    uint8_t extra[3];
    CHECK(pr(w->a, REGISTER, 0, 0, 1) == SCSI_GOOD && pr(w->a, RESERVE, EA, 1, 0) == SCSI_GOOD);
    CHECK(scsi_tmf(w->b, SCSI_TMF_LU_RESET, 0, 0, extra) == SCSI_TMF_COMPLETE);
    clear_attentions(w->a, 0);
    clear_attentions(w->b, 0);
    CHECK(reservation(w->b) == EA && write_one(w->a) == SCSI_GOOD);
    scsi_nexus_destroy(w->a);
    scsi_nexus_destroy(w->b);
    w->b = nexus_new(w, "iqn.b"); /* not one session was left */
    clear_attentions(w->b, 0);
    CHECK(write_one(w->b) == SCSI_RESERVATION_CONFLICT && reservation(w->b) == EA);
    struct scsi_nexus *other;
    struct scsi_nexus_options opt = {
        .initiator_name = "iqn.a", .isid = {1}, .tpgt = 1, .relative_port = 1};
    CHECK(scsi_nexus_create(w->target, &opt, &other) == 0);
    clear_attentions(other, 0);
    CHECK(write_one(other) == SCSI_RESERVATION_CONFLICT); /* another ISID is another nexus */
    w->a = nexus_new(w, "iqn.a");
    clear_attentions(w->a, 0);
    CHECK(write_one(w->a) == SCSI_GOOD && pr(w->a, RELEASE, EA, 1, 0) == SCSI_GOOD);
    CHECK(write_one(w->b) == SCSI_GOOD && disk(w, 0)->stores == 0);
    scsi_nexus_destroy(other);
}
WORLD_TEST(a_registration_outlives_sessions_and_resets)

/* A command on a fiber of its own. */
struct job {
    struct scsi_task t;
    struct scsi_nexus *n;
    const uint8_t *cdb;
    uint8_t list[24];
    unsigned told;
    bool done;
    struct reply r;
};

static struct job job[3];
static struct rt_group *jobs;

static void on_abort(struct scsi_task *t)
{
    ((struct job *)t->transport_arg)->told++;
}

static void run_job(void *arg)
{
    struct job *j = arg;
    bool writes = j->cdb[0] == 0x5f;
    task_start(&j->t, j->n, 0, j->cdb);
    j->t.transport_read = !writes;
    j->t.transport_write = writes;
    j->t.edtl = writes ? 24 : 512;
    j->t.on_abort = on_abort;
    j->t.transport_arg = j;
    task_go(&j->t, j->list, &j->r);
    j->done = true;
}

static void start(unsigned i, struct scsi_nexus *n, const uint8_t *cdb, uint64_t key,
                  uint64_t action_key)
{
    memset(&job[i], 0, sizeof job[i]);
    job[i].n = n;
    job[i].cdb = cdb;
    be64_store(job[i].list, key);
    be64_store(job[i].list + 8, action_key);
    job[i].list[20] = APTPL;
    CHECK(rt_group_spawn_now(jobs, "job", run_job, &job[i]) == 0);
    for (int k = 0; k < 20; k++) {
        rt_yield();
    }
}

static void preempt_and_abort_ends_what_runs(struct world *w)
{
    static const uint8_t read_10[16] = {0x28, 0, 0, 0, 0, 0, 0, 0, 1};
    static const uint8_t abort_10[16] = {0x5f, PREEMPT_ABORT, EA, 0, 0, 0, 0, 0, 24};
    struct scsi_nexus *c = third(w);
    struct rt_event gate;
    CHECK(pr(w->a, REGISTER, 0, 0, 1) == SCSI_GOOD && pr(w->b, REGISTER, 0, 0, 2) == SCSI_GOOD);
    CHECK(pr(w->b, RESERVE, WE, 2, 0) == SCSI_GOOD);
    rt_event_init(&gate);
    CHECK(rt_group_create(&jobs) == 0);
    fake_gate = &gate;
    start(0, w->b, read_10, 0, 0);
    start(1, c, read_10, 0, 0);
    start(2, w->a, abort_10, 1, 2);
    CHECK(job[0].told == 1 && job[1].told == 0);
    CHECK(!job[0].done && !job[1].done && !job[2].done); /* it waits for the read of b */
    rt_event_set(&gate);
    fake_gate = NULL;
    rt_group_wait(jobs);
    rt_group_destroy(jobs);
    rt_event_destroy(&gate);
    CHECK(job[0].r.aborted && !job[1].r.aborted && job[1].r.status == SCSI_GOOD);
    CHECK(job[2].r.status == SCSI_GOOD && !job[2].r.aborted);
    CHECK(reservation(w->a) == EA && tur(w->b, 0) != SCSI_GOOD && attention_is(0x2a05));
    CHECK(tur(w->b, 0) == SCSI_GOOD); /* and of nothing else */
    scsi_nexus_destroy(c);
}
WORLD_TEST(preempt_and_abort_ends_what_runs)

/* Registered with APTPL: what is stored before the status, gives the same after a restart. */
static void what_persists_is_stored_first(struct world *w)
{
    struct dev *d = disk(w, 0);
    CHECK(pr_flags(w->a, REGISTER, 0, 0, 1, APTPL) == SCSI_GOOD && d->stores == 1);
    CHECK(pr_flags(w->b, REGISTER, 0, 0, 2, APTPL) == SCSI_GOOD && d->stores == 2);
    CHECK(pr(w->a, RESERVE, EA_RO, 1, 0) == SCSI_GOOD && d->stores == 3);
    struct scsi_pr_state s;
    CHECK(scsi_pr_decode(d->stored, d->stored_len, &s) == 0);
    CHECK(s.type == EA_RO && s.aptpl && s.registrants.len == 2 && s.generation == 0);
    CHECK(s.registrants.at[0].holder && s.registrants.at[0].key == 1);
    scsi_pr_state_free(&s);
    /* Another device, that was found in the volume with this. */
    struct dev *e = disk(w, 1);
    scsi_nexus_destroy(w->a);
    scsi_nexus_destroy(w->b);
    e->stored = malloc(d->stored_len);
    CHECK(e->stored);
    memcpy(e->stored, d->stored, d->stored_len);
    e->stored_len = d->stored_len;
    scsi_target_put(w->target);
    struct dev_keep *kept = atomic_exchange(&e->keep, NULL);
    kept->free(kept);
    CHECK(scsi_target_get(w->host, FAKE_IQN, &w->target) == 0);
    w->a = nexus_new(w, "iqn.a");
    w->b = nexus_new(w, "iqn.c");
    clear_attentions(w->a, 1);
    clear_attentions(w->b, 1);
    CHECK(none(w->b, 1, CDB(0x5a)) == SCSI_RESERVATION_CONFLICT);
    CHECK(in(w->a, 1, 64, CDB(0x5e, 1, 0, 0, 0, 0, 0, 0, 64))->data[21] == EA_RO);
    CHECK(be32_load(reply.data) == 0 && holder_key() == 1);
    CHECK(in(w->a, 1, 64, CDB(0x5e, 2, 0, 0, 0, 0, 0, 0, 64))->data[3] == 0xc1); /* PTPL_A */
    /* Without APTPL nothing is stored any more, and with the last registration. */
    clear_attentions(w->a, 0);
    CHECK(pr(w->a, REGISTER, 0, 1, 3) == SCSI_GOOD && d->stored_len == 0);
    CHECK(pr_flags(w->a, REGISTER, 0, 3, 4, APTPL) == SCSI_GOOD && d->stored_len > 0);
    CHECK(pr(w->a, CLEAR, 0, 4, 0) == SCSI_GOOD && d->stored_len == 0);
}
WORLD_TEST(what_persists_is_stored_first)

static void only_changes_wait_for_the_store(struct world *w)
{
    static const uint8_t reg[16] = {0x5f, REGISTER, 0, 0, 0, 0, 0, 0, 24};
    struct rt_event gate;
    rt_event_init(&gate);
    CHECK(rt_group_create(&jobs) == 0);
    fake_store_gate = &gate;
    start(0, w->a, reg, 0, 1);
    start(1, w->b, reg, 0, 2);
    CHECK(!job[0].done && !job[1].done && disk(w, 0)->stores == 1); /* one after the other */
    CHECK(write_one(w->b) == SCSI_GOOD && keys(w->a) == 0);         /* it is not so yet */
    CHECK(none(w->b, 0, CDB(0x16)) == SCSI_BUSY);
    fake_store_gate = NULL;
    rt_event_set(&gate);
    rt_group_wait(jobs);
    rt_group_destroy(jobs);
    rt_event_destroy(&gate);
    CHECK(job[0].r.status == SCSI_GOOD && job[1].r.status == SCSI_GOOD && keys(w->a) == 2);
}
WORLD_TEST(only_changes_wait_for_the_store)

static void an_aborted_change_that_waits_changes_nothing(struct world *w)
{
    static const uint8_t reg[16] = {0x5f, REGISTER, 0, 0, 0, 0, 0, 0, 24};
    struct rt_event gate;
    rt_event_init(&gate);
    CHECK(rt_group_create(&jobs) == 0);
    fake_store_gate = &gate;
    start(0, w->a, reg, 0, 1);
    start(1, w->b, reg, 0, 2);
    CHECK(scsi_taskset_abort(job[1].t.lu, &(struct scsi_taskset_filter){.nexus = w->b->id}, w->a) ==
          1);
    fake_store_gate = NULL;
    rt_event_set(&gate);
    rt_group_wait(jobs);
    rt_group_destroy(jobs);
    rt_event_destroy(&gate);
    CHECK(job[0].r.status == SCSI_GOOD && job[1].r.aborted && keys(w->a) == 1 && key_at(0) == 1);
}
WORLD_TEST(an_aborted_change_that_waits_changes_nothing)

static void what_fails_before_the_batch_has_not_happened(struct world *w)
{
    fake_store_fail = -ENOSPC;
    fake_store_enters = false;
    CHECK(pr_flags(w->a, REGISTER, 0, 0, 1, APTPL) == SCSI_CHECK_CONDITION && keys(w->a) == 0);
    /* In the batch, and not known to be durable: it has happened, and the sender hears of it. */
    fake_store_enters = true;
    CHECK(pr_flags(w->a, REGISTER, 0, 0, 1, APTPL) == SCSI_CHECK_CONDITION && keys(w->a) == 1);
    fake_store_fail = 0;
    fake_store_enters = false;
    CHECK(pr(w->a, RESERVE, WE, 1, 0) == SCSI_GOOD);
}
WORLD_TEST(what_fails_before_the_batch_has_not_happened)

static void the_operator_sees_and_clears(struct world *w)
{
    struct scsi_pr_state s;
    scsi_nexus_destroy(w->b);
    w->b = nexus_new(w, "iqn.d");
    clear_attentions(w->b, 0);
    static const char *const gone[] = {"iqn.b,i,0x000000000000"};
    CHECK(pr_with(w->a, 0, 1, APTPL, gone, 1) == SCSI_GOOD);
    CHECK(pr(w->a, RESERVE, EA, 1, 0) == SCSI_GOOD);
    CHECK(scsi_reservations_get(disk(w, 0), &s) == 0 && s.registrants.len == 2 && s.type == EA);
    for (size_t i = 0; i < 2; i++) {
        bool a = strncmp(s.registrants.at[i].nexus.initiator, "iqn.a,", 6) == 0;
        CHECK(s.registrants.at[i].attached == a && s.registrants.at[i].holder == a);
    }
    scsi_pr_state_free(&s);
    CHECK(scsi_reservations_clear(disk(w, 0)) == 0 && disk(w, 0)->stored_len == 0);
    CHECK(tur(w->b, 0) == SCSI_GOOD && tur(w->a, 0) != SCSI_GOOD && attention_is(0x2a03));
    CHECK(keys(w->b) == 0 && generation() == 2 && write_one(w->b) == SCSI_GOOD);
}
WORLD_TEST(the_operator_sees_and_clears)

static void records_that_contradict_themselves_are_none(void **state)
{
    (void)state;
    static const struct {
        const char *bytes;
        size_t len;
        int result;
    } records[] = {
#define REG(flags, key, name) flags key "\0\0\0\0\0\0\0\1\0\1" name
        {"\1\0", 2, 0},
        {"\1\0" REG("\0", "\5", "a"), 2 + 13, 0},
        {"\1\1" REG("\1", "\5", "a"), 2 + 13, 0},
        {"\1\7" REG("\0", "\5", "a"), 2 + 13, 0},
        {"", 0, ERR_CORRUPT_RECORD},
        {"\0\0", 2, ERR_CORRUPT_RECORD},
        {"\2\0", 2, -ENOTSUP},
        {"\1\1", 2, ERR_CORRUPT_RECORD},
        {"\1\7", 2, ERR_CORRUPT_RECORD},
        {"\1\2" REG("\1", "\5", "a"), 2 + 13, ERR_CORRUPT_RECORD},
        {"\1\0" REG("\1", "\5", "a"), 2 + 13, ERR_CORRUPT_RECORD},
        {"\1\7" REG("\1", "\5", "a"), 2 + 13, ERR_CORRUPT_RECORD},
        {"\1\1" REG("\0", "\5", "a"), 2 + 13, ERR_CORRUPT_RECORD},
        {"\1\0" REG("\0", "\0", "a"), 2 + 13, ERR_CORRUPT_RECORD},
        {"\1\0" REG("\0", "\5", "\0"), 2 + 13, ERR_CORRUPT_RECORD},
        {"\1\0" REG("\0", "\5", ""), 2 + 12, ERR_CORRUPT_RECORD},
        {"\1\0" REG("\0", "\5", "a") REG("\0", "\5", "a"), 2 + 26, ERR_CORRUPT_RECORD},
    };
    for (size_t i = 0; i < ARRAY_LEN(records); i++) {
        struct scsi_pr_state s = {0};
        assert_int_equal(scsi_pr_decode(records[i].bytes, records[i].len, &s), records[i].result);
        scsi_pr_state_free(&s);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(records_that_contradict_themselves_are_none),
        cmocka_unit_test(test_every_command_by_every_type_from_everybody),
        cmocka_unit_test(test_reserve_6_and_registrations_exclude_each_other),
        cmocka_unit_test(test_a_registration_outlives_sessions_and_resets),
        cmocka_unit_test(test_preempt_and_abort_ends_what_runs),
        cmocka_unit_test(test_what_persists_is_stored_first),
        cmocka_unit_test(test_only_changes_wait_for_the_store),
        cmocka_unit_test(test_an_aborted_change_that_waits_changes_nothing),
        cmocka_unit_test(test_what_fails_before_the_batch_has_not_happened),
        cmocka_unit_test(test_the_operator_sees_and_clears),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
