/* SPDX-License-Identifier: Apache-2.0 */
/* Several nexuses: unit attentions, ordering, task management, changes of the LUN list. */
#include "scsi/scsi_priv.h"
#include "scsi_test.h"

/* A READ(10) that waits in the device until the gate opens, on a fiber of its own. */
struct job {
    struct scsi_task t;
    struct scsi_nexus *n;
    enum scsi_attr attr;
    uint64_t tag;
    uint32_t lun;
    unsigned told; /* of its abortion */
    bool ended;
    unsigned place; /* in the order of ending */
    struct reply r;
};

static struct rt_event gate;
static struct rt_group *jobs;
static unsigned ended_jobs;
static struct job job[4];

static void on_abort(struct scsi_task *t)
{
    ((struct job *)t->transport_arg)->told++;
}

static void run_job(void *arg)
{
    struct job *j = arg;
    task_start(&j->t, j->n, j->lun, CDB(0x28, 0, 0, 0, 0, 0, 0, 0, 1));
    j->t.attr = j->attr;
    j->t.tag = j->tag;
    j->t.transport_read = true;
    j->t.edtl = 512;
    j->t.on_abort = on_abort;
    j->t.transport_arg = j;
    task_go(&j->t, NULL, &j->r);
    j->ended = true;
    j->place = ++ended_jobs;
}

static void settle(void)
{
    for (int i = 0; i < 20; i++) {
        rt_yield();
    }
}

static struct job *start(unsigned i, struct scsi_nexus *n, enum scsi_attr attr)
{
    job[i] = (struct job){.n = n, .attr = attr, .tag = 100 + i};
    CHECK(rt_group_spawn_now(jobs, "job", run_job, &job[i]) == 0);
    settle();
    return &job[i];
}

static void gate_close(void)
{
    ended_jobs = 0;
    rt_event_init(&gate);
    CHECK(rt_group_create(&jobs) == 0);
    fake_gate = &gate;
}

static void gate_open(void)
{
    rt_event_set(&gate);
    fake_gate = NULL;
    rt_group_wait(jobs);
    rt_group_destroy(jobs);
}

/* A management function on a fiber: it waits for tasks. */
struct function {
    struct scsi_nexus *n;
    enum scsi_tmf what;
    uint64_t tag;
    uint32_t lun;
    bool done;
    enum scsi_tmf_response response;
};

static struct function function;

static void run_function(void *arg)
{
    struct function *f = arg;
    uint8_t extra[3];
    f->response = scsi_tmf(f->n, f->what, (uint64_t)f->lun << 48, f->tag, extra);
    f->done = true;
}

static void manage(struct scsi_nexus *n, enum scsi_tmf what, uint64_t tag)
{
    function = (struct function){.n = n, .what = what, .tag = tag};
    CHECK(rt_group_spawn_now(jobs, "function", run_function, &function) == 0);
    settle();
}

static void a_new_nexus_hears_of_power_on(struct world *w)
{
    struct scsi_nexus *c = nexus_new(w, "iqn.c");
    CHECK(scsi_target_sessions(w->target) == 3);
    /* INQUIRY and REPORT LUNS neither report nor clear it. */
    CHECK(in(c, 0, 96, CDB(0x12, 0, 0, 0, 96))->status == SCSI_GOOD);
    CHECK(in(c, 0, 64, CDB(0xa0, 0, 0, 0, 0, 0, 0, 0, 0, 64))->status == SCSI_GOOD);
    CHECK(in(c, 0, 512, CDB(0x28, 0, 0, 0, 0, 0, 0, 0, 1))->len == 0 && attention_is(0x2900));
    CHECK(tur(c, 0) == SCSI_GOOD && tur(c, 1) != SCSI_GOOD && attention_is(0x2900));
    scsi_nexus_destroy(c);
    CHECK(scsi_target_sessions(w->target) == 2);
}
WORLD_TEST(a_new_nexus_hears_of_power_on)

static void attentions_come_by_precedence(struct world *w)
{
    uint8_t extra[3];
    fake_tell(disk(w, 0), DEV_EVENT_RESIZED);
    fake_tell(disk(w, 0), DEV_EVENT_SETTINGS);
    CHECK(scsi_tmf(w->b, SCSI_TMF_LU_RESET, 0, 0, extra) == SCSI_TMF_COMPLETE);
    CHECK(scsi_tmf(w->a, SCSI_TMF_QUERY_ASYNC_EVENT, 0, 0, extra) == SCSI_TMF_SUCCEEDED);
    CHECK(extra[0] == 0x26 && extra[1] == 0x29 && extra[2] == 0x03);
    static const uint16_t order[] = {0x2903, 0x2a01, 0x2a09};
    for (size_t i = 0; i < ARRAY_LEN(order); i++) {
        CHECK(tur(w->a, 0) == SCSI_CHECK_CONDITION && attention_is(order[i]));
    }
    CHECK(tur(w->a, 0) == SCSI_GOOD);
    CHECK(scsi_tmf(w->a, SCSI_TMF_QUERY_ASYNC_EVENT, 0, 0, extra) == SCSI_TMF_COMPLETE);
}
WORLD_TEST(attentions_come_by_precedence)

static void luns_come_and_go(struct world *w)
{
    fake_add(w->registry, 2, LUN_SIZE);
    CHECK(tur(w->a, 0) == SCSI_CHECK_CONDITION && attention_is(0x3f0e));
    CHECK(tur(w->a, 2) == SCSI_CHECK_CONDITION && attention_is(0x2900));
    CHECK(tur(w->a, 1) == SCSI_CHECK_CONDITION && attention_is(0x3f0e));
    /* REPORT LUNS says it all, and clears it everywhere. */
    CHECK(in(w->b, 0, 64, CDB(0xa0, 0, 0, 0, 0, 0, 0, 0, 0, 64))->len == 32);
    CHECK(tur(w->b, 0) == SCSI_GOOD && tur(w->b, 1) == SCSI_GOOD);
    fake_remove(w->registry, 1);
    CHECK(tur(w->b, 1) == SCSI_CHECK_CONDITION && sense_is(5, 0x2500));
    CHECK(tur(w->b, 0) == SCSI_CHECK_CONDITION && attention_is(0x3f0e));
    /* Another device under the same number is another unit. */
    fake_add(w->registry, 1, LUN_SIZE);
    CHECK(tur(w->b, 1) == SCSI_CHECK_CONDITION && attention_is(0x2900));
}
WORLD_TEST(luns_come_and_go)

static void a_unit_lives_until_its_last_task_ended(struct world *w)
{
    gate_close();
    job[0] = (struct job){.n = w->a, .lun = 1, .tag = 1};
    CHECK(rt_group_spawn_now(jobs, "job", run_job, &job[0]) == 0);
    fake_remove(w->registry, 1);
    CHECK(tur(w->a, 1) == SCSI_CHECK_CONDITION && sense_is(5, 0x2500));
    CHECK(!job[0].ended);
    gate_open();
    CHECK(job[0].r.status == SCSI_CHECK_CONDITION);
    CHECK(be16_load(job[0].r.sense + 12) == 0x2500);
}
WORLD_TEST(a_unit_lives_until_its_last_task_ended)

static void a_deleted_target_drops_its_nexuses(struct world *w)
{
    w->registry->deleted = true;
    CHECK(tur(w->a, 0) == SCSI_CHECK_CONDITION && sense_is(5, 0x2500) && w->drops == 1);
    CHECK(tur(w->a, 0) == SCSI_CHECK_CONDITION && w->drops == 1);
    struct scsi_target *t;
    CHECK(scsi_target_get(w->host, FAKE_IQN, &t) == -ENOENT);
}
WORLD_TEST(a_deleted_target_drops_its_nexuses)

static void simple_tasks_overtake(struct world *w)
{
    gate_close();
    struct job *slow = start(0, w->a, SCSI_ATTR_SIMPLE);
    CHECK(none(w->a, 0, CDB(0x35)) == SCSI_GOOD && !slow->ended);
    gate_open();
    CHECK(slow->r.status == SCSI_GOOD && slow->r.len == 512);
}
WORLD_TEST(simple_tasks_overtake)

static void ordered_tasks_wait_and_are_waited_for(struct world *w)
{
    gate_close();
    start(0, w->a, SCSI_ATTR_SIMPLE);
    fake_gate = NULL;
    start(1, w->b, SCSI_ATTR_ORDERED); /* of another nexus: one task set for all */
    start(2, w->a, SCSI_ATTR_SIMPLE);
    CHECK(!job[0].ended && !job[1].ended && !job[2].ended);
    start(3, w->a, SCSI_ATTR_HEAD);
    CHECK(job[3].ended && job[3].place == 1);
    gate_open();
    CHECK(job[0].place == 2 && job[1].place == 3 && job[2].place == 4);
    for (size_t i = 0; i < 4; i++) {
        CHECK(job[i].r.status == SCSI_GOOD && job[i].r.len == 512);
    }
}
WORLD_TEST(ordered_tasks_wait_and_are_waited_for)

static void ordered_tasks_go_one_by_one(struct world *w)
{
    gate_close();
    start(0, w->a, SCSI_ATTR_ORDERED);
    fake_gate = NULL;
    start(1, w->b, SCSI_ATTR_ORDERED);
    start(2, w->a, SCSI_ATTR_ORDERED);
    /* A TEST UNIT READY that must wait is no quick one. */
    CHECK(!job[1].ended && !job[2].ended);
    /* One of them is aborted while it waits: the others do not wait for it. */
    manage(w->b, SCSI_TMF_ABORT_TASK, 101);
    CHECK(function.done && function.response == SCSI_TMF_COMPLETE);
    CHECK(job[1].ended && job[1].r.aborted && !job[0].ended && !job[2].ended);
    gate_open();
    CHECK(job[0].place == 2 && job[2].place == 3 && job[2].r.status == SCSI_GOOD);
}
WORLD_TEST(ordered_tasks_go_one_by_one)

static void abort_task_answers_when_it_has_ended(struct world *w)
{
    gate_close();
    start(0, w->a, SCSI_ATTR_SIMPLE);
    start(1, w->a, SCSI_ATTR_SIMPLE);
    manage(w->b, SCSI_TMF_ABORT_TASK, 100); /* not its own */
    CHECK(function.done && function.response == SCSI_TMF_NO_TASK);
    manage(w->a, SCSI_TMF_QUERY_TASK, 100);
    CHECK(function.done && function.response == SCSI_TMF_SUCCEEDED);
    manage(w->a, SCSI_TMF_ABORT_TASK, 100);
    CHECK(!function.done && job[0].told == 1 && job[1].told == 0);
    CHECK(scsi_task_is_aborted(&job[0].t));
    gate_open();
    CHECK(function.done && function.response == SCSI_TMF_COMPLETE);
    CHECK(job[0].r.aborted && !job[1].r.aborted && job[1].r.status == SCSI_GOOD);
    uint8_t extra[3];
    CHECK(scsi_tmf(w->a, SCSI_TMF_ABORT_TASK, 0, 100, extra) == SCSI_TMF_NO_TASK);
    CHECK(scsi_tmf(w->a, SCSI_TMF_QUERY_TASK, 0, 100, extra) == SCSI_TMF_COMPLETE);
    CHECK(scsi_tmf(w->a, SCSI_TMF_ABORT_TASK, 7ull << 48, 100, extra) == SCSI_TMF_NO_LUN);
    CHECK(scsi_tmf(w->a, SCSI_TMF_CLEAR_ACA, 0, 0, extra) == SCSI_TMF_NOT_SUPPORTED);
    CHECK(scsi_tmf(w->a, SCSI_TMF_TASK_REASSIGN, 0, 0, extra) == SCSI_TMF_NO_REASSIGN);
    CHECK(tur(w->a, 0) == SCSI_GOOD);
}
WORLD_TEST(abort_task_answers_when_it_has_ended)

static void abort_task_set_is_of_one_nexus(struct world *w)
{
    gate_close();
    start(0, w->a, SCSI_ATTR_SIMPLE);
    start(1, w->b, SCSI_ATTR_SIMPLE);
    manage(w->a, SCSI_TMF_ABORT_TASK_SET, 0);
    CHECK(!function.done);
    gate_open();
    CHECK(function.done && job[0].r.aborted && !job[1].r.aborted);
    CHECK(tur(w->a, 0) == SCSI_GOOD && tur(w->b, 0) == SCSI_GOOD);
}
WORLD_TEST(abort_task_set_is_of_one_nexus)

static void clear_task_set_tells_the_others(struct world *w)
{
    gate_close();
    start(0, w->a, SCSI_ATTR_SIMPLE);
    start(1, w->b, SCSI_ATTR_SIMPLE);
    manage(w->a, SCSI_TMF_CLEAR_TASK_SET, 0);
    gate_open();
    CHECK(function.done && job[0].r.aborted && job[1].r.aborted);
    CHECK(!job[1].t.send_aborted);
    CHECK(tur(w->a, 0) == SCSI_GOOD);
    CHECK(tur(w->b, 0) == SCSI_CHECK_CONDITION && attention_is(0x2f00));
    CHECK(tur(w->b, 0) == SCSI_GOOD);
}
WORLD_TEST(clear_task_set_tells_the_others)

static void with_tas_the_others_get_a_status(struct world *w)
{
    uint8_t list[16] = {0, 0, 0, 0, 0x0a, 0x0a, 0x02, 0x10, 0, 0x40, 0, 0, 0xff, 0xff};
    CHECK(out(w->a, 0, list, 16, CDB(0x15, 0x10, 0, 0, 16))->status == SCSI_GOOD);
    clear_attentions(w->b, 0);
    gate_close();
    start(0, w->a, SCSI_ATTR_SIMPLE);
    start(1, w->b, SCSI_ATTR_SIMPLE);
    manage(w->a, SCSI_TMF_CLEAR_TASK_SET, 0);
    gate_open();
    CHECK(job[1].t.send_aborted && job[1].r.status == SCSI_TASK_ABORTED);
    CHECK(!job[0].t.send_aborted && tur(w->b, 0) == SCSI_GOOD);
}
WORLD_TEST(with_tas_the_others_get_a_status)

static void a_reset_aborts_everybody(struct world *w)
{
    gate_close();
    start(0, w->a, SCSI_ATTR_SIMPLE);
    start(1, w->b, SCSI_ATTR_SIMPLE);
    manage(w->a, SCSI_TMF_WARM_RESET, 0);
    CHECK(!function.done);
    gate_open();
    CHECK(function.done && job[0].r.aborted && job[1].r.aborted);
    for (uint32_t lun = 0; lun < 2; lun++) {
        CHECK(tur(w->a, lun) == SCSI_CHECK_CONDITION && attention_is(0x2902));
        CHECK(tur(w->b, lun) == SCSI_CHECK_CONDITION && attention_is(0x2902));
        CHECK(tur(w->a, lun) == SCSI_GOOD && tur(w->b, lun) == SCSI_GOOD);
    }
}
WORLD_TEST(a_reset_aborts_everybody)

/* MODE SELECT of the control page: QERR, UA_INTLCK_CTRL, TAS. */
static enum scsi_status control(struct scsi_nexus *n, uint8_t qerr, uint8_t intlck, bool tas)
{
    uint8_t list[16] = {0, 0, 0, 0, 0x0a, 0x0a, 0x02, (uint8_t)(0x10 | qerr << 1)};
    list[8] = (uint8_t)(intlck << 4);
    list[9] = tas ? 0x40 : 0;
    list[12] = list[13] = 0xff;
    return out(n, 0, list, 16, CDB(0x15, 0x10, 0, 0, 16))->status;
}

static void set_control(struct world *w, uint8_t qerr, uint8_t intlck, bool tas)
{
    CHECK(control(w->a, qerr, intlck, tas) == SCSI_GOOD);
    (void)in(w->b, 0, 252, CDB(0x03, 0, 0, 0, 252)); /* MODE PARAMETERS CHANGED */
    CHECK(tur(w->a, 0) == SCSI_GOOD && tur(w->b, 0) == SCSI_GOOD);
}

/* What a function of a's does to a task of a's, to one of b's, and to one of a's on another LUN. */
struct scope {
    enum scsi_tmf what;
    bool tas;
    bool own;
    bool others;
    bool other_lun;
    bool other_status;  /* TASK ABORTED */
    uint16_t attention; /* of b */
};

static void check_scope(struct world *w, const struct scope *s)
{
    set_control(w, 0, 0, s->tas);
    gate_close();
    start(0, w->a, SCSI_ATTR_SIMPLE);
    start(1, w->b, SCSI_ATTR_SIMPLE);
    job[2] = (struct job){.n = w->a, .lun = 1, .tag = 102};
    CHECK(rt_group_spawn_now(jobs, "job", run_job, &job[2]) == 0);
    manage(w->a, s->what, 100);
    CHECK(!function.done);
    gate_open();
    CHECK(function.done && function.response == SCSI_TMF_COMPLETE);
    CHECK(job[0].r.aborted == s->own && job[1].r.aborted == s->others);
    CHECK(job[2].r.aborted == s->other_lun && !job[0].t.send_aborted);
    CHECK(job[1].t.send_aborted == s->other_status);
    CHECK(!s->others || (job[1].t.by_other && job[1].t.by_set && job[1].t.abort_id > 0));
    CHECK(job[0].t.by_set == (s->what != SCSI_TMF_ABORT_TASK) && !job[0].t.by_other);
    if (s->attention) {
        CHECK(tur(w->b, 0) == SCSI_CHECK_CONDITION && attention_is(s->attention));
    }
    CHECK(tur(w->b, 0) == SCSI_GOOD);
    for (uint32_t lun = 0; lun < 2; lun++) {
        clear_attentions(w->a, lun);
        clear_attentions(w->b, lun);
    }
}

static void functions_have_their_scope(struct world *w)
{
    static const struct scope scopes[] = {
        {SCSI_TMF_ABORT_TASK, true, true, false, false, false, 0},
        {SCSI_TMF_ABORT_TASK_SET, true, true, false, false, false, 0},
        {SCSI_TMF_CLEAR_TASK_SET, false, true, true, false, false, 0x2f00},
        {SCSI_TMF_CLEAR_TASK_SET, true, true, true, false, true, 0},
        {SCSI_TMF_LU_RESET, false, true, true, false, false, 0x2903},
        {SCSI_TMF_LU_RESET, true, true, true, false, true, 0x2903},
        {SCSI_TMF_WARM_RESET, false, true, true, true, false, 0x2902},
        {SCSI_TMF_WARM_RESET, true, true, true, true, true, 0x2902},
        {SCSI_TMF_COLD_RESET, false, true, true, true, false, 0x2902},
        {SCSI_TMF_NEXUS_RESET, true, true, false, true, false, 0},
    };
    for (size_t i = 0; i < ARRAY_LEN(scopes); i++) {
        check_scope(w, &scopes[i]);
    }
    CHECK(w->drops == 2); /* the cold reset */
}
WORLD_TEST(functions_have_their_scope)

/* A CHECK CONDITION of a's while a task of each nexus is under way. */
static void fail_among_others(struct world *w, uint8_t qerr)
{
    set_control(w, qerr, 0, false);
    gate_close();
    start(0, w->a, SCSI_ATTR_SIMPLE);
    start(1, w->b, SCSI_ATTR_SIMPLE);
    CHECK(none(w->a, 0, CDB(0x1b, 0, 0, 0, 0xf0)) == SCSI_CHECK_CONDITION);
    gate_open();
    CHECK(job[0].r.aborted == (qerr != 0) && job[1].r.aborted == (qerr == 1));
    if (qerr == 1) {
        CHECK(tur(w->b, 0) == SCSI_CHECK_CONDITION && attention_is(0x2f00));
    }
    CHECK(tur(w->a, 0) == SCSI_GOOD && tur(w->b, 0) == SCSI_GOOD);
}

static void qerr_says_whom_an_error_aborts(struct world *w)
{
    fail_among_others(w, 0);
    fail_among_others(w, 1);
    fail_among_others(w, 3);
    CHECK(control(w->a, 2, 0, false) == SCSI_CHECK_CONDITION && sense_is(5, 0x2600));
    CHECK(control(w->a, 0, 1, false) == SCSI_CHECK_CONDITION && sense_is(5, 0x2600));
}
WORLD_TEST(qerr_says_whom_an_error_aborts)

static void interlocked_attentions_stay(struct world *w)
{
    set_control(w, 0, 2, false);
    fake_tell(disk(w, 0), DEV_EVENT_RESIZED);
    CHECK(tur(w->b, 0) == SCSI_CHECK_CONDITION && attention_is(0x2a09));
    CHECK(tur(w->b, 0) == SCSI_CHECK_CONDITION && attention_is(0x2a09));
    CHECK(in(w->b, 0, 252, CDB(0x03, 0, 0, 0, 252))->data[12] == 0x2a);
    CHECK(tur(w->b, 0) == SCSI_GOOD);
    CHECK(none(w->a, 0, CDB(0x16)) != SCSI_GOOD && in(w->a, 0, 252, CDB(0x03, 0, 0, 0, 252)));
    CHECK(none(w->a, 0, CDB(0x16)) == SCSI_GOOD);
    CHECK(tur(w->b, 0) == SCSI_RESERVATION_CONFLICT);
    CHECK(none(w->a, 0, CDB(0x17)) == SCSI_GOOD && tur(w->b, 0) == SCSI_GOOD);
    set_control(w, 0, 3, false);
    CHECK(none(w->a, 0, CDB(0x16)) == SCSI_GOOD);
    CHECK(tur(w->b, 0) == SCSI_RESERVATION_CONFLICT);
    CHECK(none(w->a, 0, CDB(0x17)) == SCSI_GOOD);
    CHECK(tur(w->b, 0) == SCSI_CHECK_CONDITION && attention_is(0x2c09));
    CHECK(in(w->b, 0, 252, CDB(0x03, 0, 0, 0, 252))->data[13] == 0x09);
    CHECK(tur(w->b, 0) == SCSI_GOOD);
}
WORLD_TEST(interlocked_attentions_stay)

static void a_full_set_takes_no_more(struct world *w)
{
    gate_close();
    start(0, w->a, SCSI_ATTR_SIMPLE);
    start(1, w->a, SCSI_ATTR_SIMPLE);
    struct scsi_lu *lu = job[0].t.lu;
    lu->shard_tasks_max = 2;
    start(2, w->a, SCSI_ATTR_ORDERED);
    CHECK(job[2].ended && job[2].r.status == SCSI_TASK_SET_FULL && !job[2].r.aborted);
    CHECK(tur(w->b, 0) == SCSI_GOOD); /* another shard */
    lu->shard_tasks_max = 0;
    CHECK(tur(w->b, 0) == SCSI_BUSY); /* nothing of its own is in the set */
    lu->shard_tasks_max = 2;
    manage(w->a, SCSI_TMF_ABORT_TASK, 102);
    CHECK(function.done && function.response == SCSI_TMF_NO_TASK);
    gate_open();
    CHECK(job[0].r.status == SCSI_GOOD && job[1].r.status == SCSI_GOOD);
    CHECK(tur(w->a, 0) == SCSI_GOOD);
    lu->shard_tasks_max = SCSI_SHARD_TASKS_MAX;
}
WORLD_TEST(a_full_set_takes_no_more)

static void there_are_news_of_luns_and_capacity(struct world *w)
{
    uint64_t lun;
    uint8_t sense[SCSI_SENSE_MAX];
    size_t len;
    CHECK(!scsi_nexus_news(w->a, &lun, sense, &len));
    fake_add(w->registry, 2, LUN_SIZE);
    fake_tell(disk(w, 1), DEV_EVENT_RESIZED);
    CHECK(scsi_nexus_news(w->a, &lun, sense, &len));
    CHECK(len == 18 && sense[2] == 6 && be16_load(sense + 12) == 0x3f0e);
    CHECK(scsi_nexus_news(w->a, &lun, sense, &len));
    CHECK(lun == 1ull << 48 && be16_load(sense + 12) == 0x2a09);
    CHECK(!scsi_nexus_news(w->a, &lun, sense, &len));
    /* The attentions are there all the same. */
    CHECK(tur(w->a, 0) == SCSI_CHECK_CONDITION && attention_is(0x3f0e));
}
WORLD_TEST(there_are_news_of_luns_and_capacity)

static struct scsi_nexus *dying;

static void destroy_it(void *arg)
{
    (void)arg;
    scsi_nexus_destroy(dying);
    dying = NULL;
}

static void a_lost_nexus_waits_for_its_tasks(struct world *w)
{
    gate_close();
    dying = nexus_new(w, "iqn.c");
    clear_attentions(dying, 0);
    start(0, dying, SCSI_ATTR_SIMPLE);
    start(1, w->a, SCSI_ATTR_SIMPLE);
    CHECK(rt_group_spawn_now(jobs, "destroy", destroy_it, NULL) == 0);
    settle();
    CHECK(dying && job[0].told == 1 && job[1].told == 0);
    gate_open();
    CHECK(!dying && job[0].r.aborted && !job[1].r.aborted);
}
WORLD_TEST(a_lost_nexus_waits_for_its_tasks)

/* Nexuses on two cores, with every attribute, and resets in between: nothing is lost or stuck. */
static struct world *shared;

static void worker(void *arg)
{
    uint64_t seed = (uintptr_t)arg;
    struct scsi_nexus *n = nexus_new(shared, seed & 1 ? "iqn.odd" : "iqn.even");
    for (unsigned i = 0; i < 300; i++) {
        struct scsi_task t;
        task_start(&t, n, 0, CDB(0x28, 0, 0, 0, 0, 0, 0, 0, 1));
        seed = seed * 6364136223846793005ull + 1442695040888963407ull;
        t.attr = SCSI_ATTR_SIMPLE + (seed >> 33) % 3;
        t.tag = i;
        t.transport_read = true;
        t.edtl = 512;
        scsi_task_begin(&t);
        scsi_task_turn(&t);
        scsi_task_run(&t);
        CHECK(t.aborted || t.status == SCSI_GOOD || t.status == SCSI_CHECK_CONDITION);
        scsi_task_end(&t);
        if (i % 50 == 7) {
            uint8_t extra[3];
            enum scsi_tmf what = i % 100 == 7 ? SCSI_TMF_LU_RESET : SCSI_TMF_CLEAR_TASK_SET;
            CHECK(scsi_tmf(n, what, 0, 0, extra) == SCSI_TMF_COMPLETE);
        }
        if (i % 16 == 0) {
            rt_yield();
        }
    }
    scsi_nexus_destroy(n);
}

static void cores_main(void *arg)
{
    struct world w = {0};
    struct rt_group *g;
    (void)arg;
    shared = &w;
    w.registry = fake_registry();
    fake_add(w.registry, 0, LUN_SIZE);
    CHECK(scsi_host_create(w.registry, &w.host) == 0);
    CHECK(scsi_target_get(w.host, FAKE_IQN, &w.target) == 0);
    CHECK(rt_group_create(&g) == 0);
    for (unsigned i = 0; i < 6; i++) {
        CHECK(rt_group_spawn_on(g, i % 2, "worker", worker, (void *)(uintptr_t)(i + 1)) == 0);
    }
    rt_group_wait(g);
    rt_group_destroy(g);
    scsi_target_put(w.target);
    scsi_host_destroy(w.host);
    fake_registry_free(w.registry);
}

static void test_two_cores(void **state)
{
    (void)state;
    assert_int_equal(rt_run(&(struct rt_options){.cores = 2}, cores_main, NULL), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_new_nexus_hears_of_power_on),
        cmocka_unit_test(test_attentions_come_by_precedence),
        cmocka_unit_test(test_luns_come_and_go),
        cmocka_unit_test(test_a_unit_lives_until_its_last_task_ended),
        cmocka_unit_test(test_a_deleted_target_drops_its_nexuses),
        cmocka_unit_test(test_simple_tasks_overtake),
        cmocka_unit_test(test_ordered_tasks_wait_and_are_waited_for),
        cmocka_unit_test(test_ordered_tasks_go_one_by_one),
        cmocka_unit_test(test_abort_task_answers_when_it_has_ended),
        cmocka_unit_test(test_abort_task_set_is_of_one_nexus),
        cmocka_unit_test(test_clear_task_set_tells_the_others),
        cmocka_unit_test(test_with_tas_the_others_get_a_status),
        cmocka_unit_test(test_a_reset_aborts_everybody),
        cmocka_unit_test(test_functions_have_their_scope),
        cmocka_unit_test(test_qerr_says_whom_an_error_aborts),
        cmocka_unit_test(test_interlocked_attentions_stay),
        cmocka_unit_test(test_a_full_set_takes_no_more),
        cmocka_unit_test(test_there_are_news_of_luns_and_capacity),
        cmocka_unit_test(test_a_lost_nexus_waits_for_its_tasks),
        cmocka_unit_test(test_two_cores),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
