/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A lost write cache is noticed. A crash: the volume as it was at the last flush is opened anew,
 * while the registry of the dead server is closed without a trace.
 */
#include "dev/dev_priv.h"
#include "dev/fake_vol.h"
#include "dev/loss_record.h"
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#define NEXUS_A "iqn.2024-01.net.zerofs:a,i,0x00023d000001"
#define NEXUS_A2 "iqn.2024-01.net.zerofs:a,i,0x00023d000002"
#define NEXUS_A3 "iqn.2024-01.net.zerofs:a,i,0x00023d000003"
#define NEXUS_A4 "iqn.2024-01.net.zerofs:a,i,0x00023d000004"
#define NEXUS_B "iqn.2024-01.net.zerofs:ab,i,0x00023d000001"

static struct vol *volume;
static struct dev_registry *reg;
static struct dev *disk;
static char witness[256];
static bool witnessed; /* the cache folder outlives the server */

static void on_event(struct dev_watch *w, enum dev_event event)
{
    (void)w;
    (void)event;
}

static void open_it(void)
{
    assert_int_equal(dev_registry_open(volume, witnessed ? witness : NULL, &reg), 0);
    assert_int_equal(dev_find_nbd(reg, "a", &disk), 0);
}

static void close_it(void)
{
    dev_unref(disk);
    dev_registry_close(reg);
}

/* The records as they are now are what a crash leaves; stored: the last batch that survives. */
static void crash(uint64_t stored)
{
    struct list kept;
    list_init(&kept);
    list_for_each(&volume->records, struct fake_record, link, r) {
        struct fake_record *copy = malloc(sizeof *copy);
        *copy = *r;
        list_push_back(&kept, &copy->link);
    }
    char saved[sizeof witness + 8];
    char copy[2 * sizeof saved + 16];
    snprintf(saved, sizeof saved, "%s.kept", witness);
    snprintf(copy, sizeof copy, "cp %s %s", witness, saved);
    assert_true(!witnessed || system(copy) == 0);
    close_it();
    snprintf(copy, sizeof copy, "mv %s %s", saved, witness);
    assert_true(!witnessed || system(copy) == 0);
    list_for_each(&volume->records, struct fake_record, link, r) {
        list_remove(&r->link);
        free(r);
    }
    list_for_each(&kept, struct fake_record, link, r) {
        list_remove(&r->link);
        list_push_back(&volume->records, &r->link);
    }
    volume->epoch++;
    volume->replayed = stored;
    open_it();
}

static unsigned loss_records(void)
{
    unsigned n = 0;
    list_for_each(&volume->records, struct fake_record, link, r) {
        n += r->key[0] == DEV_KEY_LOSS;
    }
    return n;
}

static int put(unsigned flags)
{
    struct rt_chain c = {0};
    assert_int_equal(rt_chain_add(&c, NULL, "x", 1), 0);
    int r = dev_write(disk, 0, &c, flags, NULL);
    rt_chain_free(&c);
    return r;
}

/* What was heard is in the record. */
static void settle(void)
{
    while (atomic_load(&disk->loss.unsaved)) {
        rt_yield();
    }
    rt_lock_take(&disk->loss.lock);
    rt_lock_release(&disk->loss.lock);
}

/* Comes, flushes, hears the answer or goes without, and goes. */
static int ask_and(bool hear, const char *nexus)
{
    struct dev_watch w = {.fn = on_event};
    assert_int_equal(dev_attach(disk, nexus, nexus, &w), 0);
    int r = dev_check_loss(disk, &w);
    if (hear) {
        dev_loss_heard(disk, &w);
        settle();
    }
    dev_detach(disk, &w);
    return r;
}

static int ask(const char *nexus)
{
    return ask_and(true, nexus);
}

static void begin(bool with_witness)
{
    struct dev_info info;
    struct dev_create_options opt = {.kind = DEV_NBD, .name = "a", .size_bytes = 1 << 20};
    witnessed = with_witness;
    assert_int_equal(dev_registry_open(volume, witnessed ? witness : NULL, &reg), 0);
    assert_int_equal(dev_create(reg, &opt, &info), 0);
    assert_int_equal(dev_find_nbd(reg, "a", &disk), 0);
}

static void told_once_body(void *arg)
{
    (void)arg;
    struct dev_watch w = {.fn = on_event};
    begin(false);
    assert_int_equal(dev_attach(disk, "a", NEXUS_A, &w), 0);
    unsigned before = fake_flushes;
    assert_int_equal(put(0), 0);
    assert_int_equal(fake_flushes, before + 1); /* with the record */
    assert_int_equal(loss_records(), 1);
    assert_int_equal(put(0), 0);
    assert_int_equal(fake_flushes, before + 1);
    assert_int_equal(dev_check_loss(disk, &w), 0);
    dev_detach(disk, &w);
    crash(0);
    assert_int_equal(ask(NEXUS_B), 0);
    crash(0); /* before it was told */
    assert_int_equal(ask(NEXUS_A), ERR_CACHE_LOST);
    assert_int_equal(ask(NEXUS_A), 0);
    assert_int_equal(loss_records(), 0);
    crash(0);
    assert_int_equal(ask(NEXUS_A), 0);
    close_it();
}

/* Who was told, and went without having heard, is told again: whoever comes, and whatever ends. */
static void unheard_body(void *arg)
{
    (void)arg;
    struct dev_watch w = {.fn = on_event};
    struct dev_watch other = {.fn = on_event};
    begin(false);
    assert_int_equal(dev_attach(disk, "a", NEXUS_A, &w), 0);
    assert_int_equal(put(0), 0);
    dev_detach(disk, &w);
    crash(0);
    assert_int_equal(ask_and(false, NEXUS_A), ERR_CACHE_LOST);
    assert_int_equal(ask_and(false, NEXUS_A), ERR_CACHE_LOST);
    crash(0); /* it was told, and had not heard */
    assert_int_equal(ask_and(false, NEXUS_A), ERR_CACHE_LOST);
    close_it();
    open_it();
    /* One attachment is told once, unless the answer did not reach it. */
    assert_int_equal(dev_attach(disk, "a", NEXUS_A, &w), 0);
    assert_int_equal(dev_check_loss(disk, &w), ERR_CACHE_LOST);
    assert_int_equal(dev_check_loss(disk, &w), 0);
    dev_loss_unheard(disk, &w);
    assert_int_equal(dev_check_loss(disk, &w), ERR_CACHE_LOST);
    /* Another one of that name does not wait for the end of the first. */
    assert_int_equal(dev_attach(disk, "a", NEXUS_A, &other), 0);
    assert_int_equal(dev_check_loss(disk, &other), ERR_CACHE_LOST);
    dev_detach(disk, &w);
    assert_int_equal(loss_records(), 1);
    dev_loss_heard(disk, &other);
    dev_loss_heard(disk, &other);
    dev_loss_unheard(disk, &other); /* too late */
    settle();
    assert_int_equal(loss_records(), 0);
    assert_int_equal(dev_check_loss(disk, &other), 0);
    dev_detach(disk, &other);
    assert_int_equal(ask(NEXUS_A), 0);
    crash(0);
    assert_int_equal(ask(NEXUS_A), 0);
    close_it();
}

/* Who was asked already when another one gives its debt back is told of it; also of a sibling's. */
static void given_back_body(void *arg)
{
    (void)arg;
    struct dev_watch a = {.fn = on_event};
    struct dev_watch a2 = {.fn = on_event};
    struct dev_watch b = {.fn = on_event};
    begin(false);
    assert_int_equal(dev_attach(disk, "a", NEXUS_A, &a), 0);
    assert_int_equal(put(0), 0);
    dev_detach(disk, &a);
    crash(0);
    assert_int_equal(dev_attach(disk, "b", NEXUS_B, &b), 0);
    assert_int_equal(dev_attach(disk, "a2", NEXUS_A2, &a2), 0);
    assert_int_equal(dev_check_loss(disk, &b), 0);
    assert_int_equal(dev_check_loss(disk, &a2), ERR_CACHE_LOST);
    assert_int_equal(ask_and(false, NEXUS_A3), ERR_CACHE_LOST);
    dev_loss_heard(disk, &a2); /* for A and all of its other sessions, but for A itself */
    settle();
    assert_int_equal(ask(NEXUS_A3), 0);
    assert_int_equal(dev_attach(disk, "a", NEXUS_A, &a), 0);
    assert_int_equal(dev_check_loss(disk, &a), ERR_CACHE_LOST);
    dev_loss_unheard(disk, &a);
    assert_int_equal(dev_check_loss(disk, &a2), 0);
    assert_int_equal(dev_check_loss(disk, &b), 0);
    dev_detach(disk, &a);
    dev_detach(disk, &a2);
    dev_detach(disk, &b);
    crash(0); /* that A2 has heard is known after it, too */
    assert_int_equal(ask(NEXUS_A2), 0);
    assert_int_equal(ask(NEXUS_A), ERR_CACHE_LOST);
    assert_int_equal(loss_records(), 0);
    close_it();
}

static void another_isid_body(void *arg)
{
    (void)arg;
    struct dev_watch w = {.fn = on_event};
    begin(false);
    assert_int_equal(dev_attach(disk, "a", NEXUS_A, &w), 0);
    assert_int_equal(put(0), 0);
    dev_detach(disk, &w);
    crash(0);
    assert_int_equal(dev_attach(disk, "a2", NEXUS_A2, &w), 0);
    assert_int_equal(dev_check_loss(disk, &w), ERR_CACHE_LOST);
    assert_int_equal(dev_check_loss(disk, &w), 0);
    dev_loss_heard(disk, &w);
    dev_detach(disk, &w);
    assert_int_equal(ask(NEXUS_A2), 0);
    assert_int_equal(ask(NEXUS_A3), 0); /* one debt, so one of them */
    assert_int_equal(ask(NEXUS_A), ERR_CACHE_LOST);
    assert_int_equal(loss_records(), 0);
    close_it();
}

/* Two nexuses of one initiator are owed a loss. */
static void two_lose_writes(void)
{
    struct dev_watch a = {.fn = on_event};
    struct dev_watch a2 = {.fn = on_event};
    begin(false);
    assert_int_equal(dev_attach(disk, "a", NEXUS_A, &a), 0);
    assert_int_equal(dev_attach(disk, "a2", NEXUS_A2, &a2), 0);
    assert_int_equal(put(0), 0);
    dev_detach(disk, &a);
    dev_detach(disk, &a2);
    crash(0);
}

/* Whatever other sessions the initiator has, and however often, each nexus is told of its loss. */
static void each_for_itself_body(void *arg)
{
    (void)arg;
    two_lose_writes();
    assert_int_equal(ask(NEXUS_A), ERR_CACHE_LOST);
    assert_int_equal(ask(NEXUS_A), 0); /* it comes again, and does not take what is A2's */
    assert_int_equal(ask(NEXUS_A3), ERR_CACHE_LOST);
    assert_int_equal(ask(NEXUS_A4), 0);
    crash(0);
    assert_int_equal(ask(NEXUS_A4), 0); /* that A3 was told is known after a crash, too */
    assert_int_equal(rt_sleep_ms(300000), 0);
    assert_int_equal(ask(NEXUS_A2), ERR_CACHE_LOST);
    assert_int_equal(ask(NEXUS_A2), 0);
    assert_int_equal(loss_records(), 0);
    close_it();
}

/* A sibling's debt does not grow too old for others while nobody has heard of it. */
static void slow_sibling_body(void *arg)
{
    (void)arg;
    struct dev_watch w = {.fn = on_event};
    begin(false);
    assert_int_equal(dev_attach(disk, "a", NEXUS_A, &w), 0);
    assert_int_equal(put(0), 0);
    dev_detach(disk, &w);
    crash(0);
    assert_int_equal(dev_attach(disk, "a2", NEXUS_A2, &w), 0);
    assert_int_equal(dev_check_loss(disk, &w), ERR_CACHE_LOST);
    assert_int_equal(rt_sleep_ms(150000), 0);
    assert_int_equal(ask_and(false, NEXUS_A3), ERR_CACHE_LOST);
    dev_detach(disk, &w);
    assert_int_equal(rt_sleep_ms(150000), 0);
    assert_int_equal(ask_and(false, NEXUS_A4), ERR_CACHE_LOST);
    assert_int_equal(rt_sleep_ms(150000), 0);
    assert_int_equal(ask(NEXUS_A3), ERR_CACHE_LOST);
    assert_int_equal(ask(NEXUS_A2), 0); /* the initiator has heard */
    assert_int_equal(ask(NEXUS_A), ERR_CACHE_LOST);
    assert_int_equal(loss_records(), 0);
    close_it();
}

static int answer;

static void asks(void *arg)
{
    (void)arg;
    (void)rt_sleep_ms(1000);
    answer = ask(NEXUS_A);
}

/* Who is aborted before it has its answer was not told. */
static void aborted_body(void *arg)
{
    (void)arg;
    struct dev_watch a = {.fn = on_event};
    struct rt_group *group;
    begin(false);
    assert_int_equal(dev_attach(disk, "a", NEXUS_A, &a), 0);
    assert_int_equal(put(0), 0);
    dev_detach(disk, &a);
    crash(0);
    assert_int_equal(rt_group_create(&group), 0);
    assert_int_equal(rt_group_spawn(group, "asks", asks, NULL), 0);
    rt_yield();
    rt_group_cancel(group);
    rt_group_wait(group);
    rt_group_destroy(group);
    assert_int_equal(answer, -ECANCELED);
    assert_int_equal(ask(NEXUS_A), ERR_CACHE_LOST);
    assert_int_equal(ask(NEXUS_A), 0);
    close_it();
}

/* Who comes under another name much later is not told, and who had the writes still is. */
static void late_sibling_body(void *arg)
{
    (void)arg;
    two_lose_writes();
    assert_int_equal(ask(NEXUS_A3), ERR_CACHE_LOST);
    assert_int_equal(rt_sleep_ms(150000), 0);
    assert_int_equal(ask(NEXUS_A4), 0);
    crash(0);
    assert_int_equal(ask(NEXUS_A4), 0);
    assert_int_equal(ask(NEXUS_A), ERR_CACHE_LOST);
    assert_int_equal(ask(NEXUS_A2), ERR_CACHE_LOST);
    close_it();
}

/* Names that are made up for each session do not fill the record for good. */
static void many_names_body(void *arg)
{
    (void)arg;
    char name[64];
    begin(false);
    for (unsigned i = 0; i < 2 * DEV_LOSS_NEXUSES_MAX; i++) {
        struct dev_watch w = {.fn = on_event};
        snprintf(name, sizeof name, "iqn.2024-01.net.zerofs:a,i,0x%012x", i);
        assert_int_equal(dev_attach(disk, "a", name, &w), 0);
        assert_int_equal(dev_check_loss(disk, &w), i > 0 ? ERR_CACHE_LOST : 0);
        dev_loss_heard(disk, &w);
        settle();
        assert_int_equal(put(0), 0);
        dev_detach(disk, &w);
        crash(0);
    }
    assert_int_equal(ask(NEXUS_A), ERR_CACHE_LOST);
    assert_int_equal(ask(NEXUS_A2), 0);
    assert_int_equal(ask(name), ERR_CACHE_LOST);
    close_it();
}

/* Who attaches after the mark is in the record before the next change is acknowledged. */
static void late_comer_body(void *arg)
{
    (void)arg;
    struct dev_watch a = {.fn = on_event};
    struct dev_watch b = {.fn = on_event};
    begin(false);
    assert_int_equal(dev_attach(disk, "a", NEXUS_A, &a), 0);
    assert_int_equal(put(0), 0);
    assert_int_equal(dev_attach(disk, "b", NEXUS_B, &b), 0);
    unsigned before = fake_flushes;
    assert_int_equal(put(0), 0);
    assert_int_equal(fake_flushes, before + 1);
    dev_detach(disk, &a);
    dev_detach(disk, &b);
    crash(0);
    assert_int_equal(ask(NEXUS_B), ERR_CACHE_LOST);
    assert_int_equal(ask(NEXUS_A), ERR_CACHE_LOST);
    close_it();
}

static void nothing_to_lose_body(void *arg)
{
    (void)arg;
    struct dev_watch w = {.fn = on_event};
    begin(false);
    assert_int_equal(dev_attach(disk, "a", "", &w), 0);
    assert_int_equal(put(DEV_FUA), 0);
    assert_int_equal(dev_write_cache_set(reg, disk, false), 0);
    assert_int_equal(put(0), 0);
    dev_detach(disk, &w);
    assert_int_equal(loss_records(), 0);
    crash(0);
    assert_int_equal(ask(""), 0);
    /* A clean end takes the record away. */
    assert_int_equal(dev_write_cache_set(reg, disk, true), 0);
    assert_int_equal(put(0), 0);
    assert_int_equal(loss_records(), 1);
    close_it();
    assert_int_equal(loss_records(), 0);
    open_it();
    assert_int_equal(ask(""), 0);
    /* So does the device's deletion. */
    assert_int_equal(put(0), 0);
    assert_int_equal(dev_delete(reg, disk, false), 0);
    assert_int_equal(loss_records(), 0);
    close_it();
}

static void witness_test_body(void *arg)
{
    (void)arg;
    struct dev_watch w = {.fn = on_event};
    begin(true);
    assert_int_equal(dev_attach(disk, "a", "", &w), 0);
    assert_int_equal(put(0), 0);
    assert_int_equal(put(0), 0);
    uint64_t last = volume->batch;
    dev_detach(disk, &w);
    crash(last); /* all was stored */
    assert_int_equal(ask(""), 0);
    assert_int_equal(put(0), 0);
    last = volume->batch;
    crash(last - 1);
    assert_int_equal(ask(""), ERR_CACHE_LOST);
    assert_int_equal(put(0), 0);
    assert_int_equal(unlink(witness), 0); /* another machine */
    assert_int_equal(close(creat(witness, 0600)), 0);
    crash(UINT64_MAX);
    assert_int_equal(ask(""), ERR_CACHE_LOST);
    close_it();
}

/* What was quiet for long enough is clean, without a client having to leave. */
static void quiet_body(void *arg)
{
    (void)arg;
    struct dev_watch w = {.fn = on_event};
    begin(false);
    assert_int_equal(dev_attach(disk, "a", "", &w), 0);
    assert_int_equal(put(0), 0);
    assert_int_equal(rt_sleep_ms(60000), 0);
    assert_int_equal(loss_records(), 1);
    assert_int_equal(rt_sleep_ms(120000), 0);
    assert_int_equal(loss_records(), 0);
    unsigned before = fake_flushes;
    assert_int_equal(put(0), 0);
    assert_int_equal(fake_flushes, before + 1);
    assert_int_equal(loss_records(), 1);
    dev_detach(disk, &w);
    close_it();
}

static void run(void (*body)(void *arg), bool sim)
{
    volume = fake_vol_new();
    fake_flush_result = 0;
    fake_commit_result = 0;
    fake_flushes = 0;
    struct rt_options opt = {.cores = 1, .sim = sim, .sim_seed = 1};
    assert_int_equal(rt_run(&opt, body, NULL), 0);
    fake_vol_free(volume);
}

#define BODY(name, sim)                                                                            \
    static void name(void **state)                                                                 \
    {                                                                                              \
        (void)state;                                                                               \
        run(name##_body, sim);                                                                     \
    }
BODY(told_once, false)
BODY(unheard, false)
BODY(given_back, true)
BODY(another_isid, false)
BODY(each_for_itself, true)
BODY(aborted, true)
BODY(late_sibling, true)
BODY(slow_sibling, true)
BODY(many_names, false)
BODY(late_comer, false)
BODY(nothing_to_lose, false)
BODY(witness_test, false)
BODY(quiet, true)

static void records(void **state)
{
    (void)state;
    static const uint8_t good[] = {1, 9, 0, 0, 0, 0, 0, 0, 0, 1, 0, 6, 3, 'a', 'b', 'c'};
    struct dev_loss_record rec = {0};
    assert_int_equal(dev_loss_decode(good, sizeof good, &rec), 0);
    assert_int_equal(rec.epoch, 9);
    assert_int_equal(rec.nexuses.len, 2);
    assert_true(rec.nexuses.at[0].active && !rec.nexuses.at[0].owed);
    assert_true(rec.nexuses.at[1].owed && rec.nexuses.at[1].alone);
    assert_string_equal(rec.nexuses.at[1].name, "abc");
    struct bytes_writer w = {0};
    dev_loss_encode(&rec, &w);
    assert_int_equal(w.len, sizeof good);
    assert_memory_equal(w.data, good, sizeof good);
    bytes_writer_free(&w);
    dev_loss_record_free(&rec);
    for (size_t n = 0; n < sizeof good; n++) {
        int r = dev_loss_decode(good, n, &rec);
        assert_true(r == ERR_CORRUPT_RECORD || n == 9 || n == 11);
        if (r == 0) {
            dev_loss_record_free(&rec);
        }
    }
    assert_int_equal(dev_loss_decode("\2", 1, &rec), -ENOTSUP);
}

int main(void)
{
    int fd = -1;
    snprintf(witness, sizeof witness, "%s/witness-XXXXXX",
             getenv("TMPDIR") ? getenv("TMPDIR") : "/tmp");
    fd = mkstemp(witness);
    if (fd < 0) {
        return 1;
    }
    (void)close(fd);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(records),      cmocka_unit_test(told_once),
        cmocka_unit_test(unheard),      cmocka_unit_test(given_back),
        cmocka_unit_test(another_isid), cmocka_unit_test(each_for_itself),
        cmocka_unit_test(aborted),      cmocka_unit_test(late_sibling),
        cmocka_unit_test(slow_sibling), cmocka_unit_test(many_names),
        cmocka_unit_test(late_comer),   cmocka_unit_test(nothing_to_lose),
        cmocka_unit_test(witness_test), cmocka_unit_test(quiet)};
    int r = cmocka_run_group_tests(tests, NULL, NULL);
    (void)unlink(witness);
    return r;
}
