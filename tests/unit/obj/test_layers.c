/* SPDX-License-Identifier: Apache-2.0 */
/* The layers over a backend: each does what it says and nothing else. In virtual time. */
#include "base/err.h"
#include "base/msg.h"
#include "base/time.h"
#include "obj/outage.h"
#include "obj_test.h"

static struct obj_store *mem(void)
{
    struct obj_store *s;
    CHECK(obj_mem_open(&s) == 0);
    return s;
}

static struct obj_store *faulty(struct obj_store *below, const struct obj_fault_options *f)
{
    struct obj_store *shared;
    struct obj_store *s;
    CHECK(obj_share(below, &shared) == 0);
    CHECK(obj_fault_wrap(shared, f, &s) == 0);
    return s;
}

static void share_leaves_open(void *arg)
{
    (void)arg;
    struct obj_store *m = mem();
    struct obj_store *s;
    CHECK(obj_share(m, &s) == 0);
    CHECK(put_text(s, "a", "x") == 0);
    obj_close(s);
    CHECK(has_text(m, "a", "x"));
    obj_close(m);
}

static void fault_kinds(void *arg)
{
    (void)arg;
    struct obj_store *m = mem();
    struct obj_store *s = faulty(m, &(struct obj_fault_options){.fail_before = 1});
    CHECK(put_text(s, "before", "x") == ERR_FAULT_INJECTED && !has_text(m, "before", "x"));
    obj_fault_set(s, &(struct obj_fault_options){.fail_after = 1});
    CHECK(put_text(s, "after", "x") == -ETIMEDOUT && has_text(m, "after", "x"));
    CHECK(obj_remove(s, OBJ_COLLECT, "after") == -ETIMEDOUT && !has_text(m, "after", "x"));
    obj_fault_set(s, &(struct obj_fault_options){.late = 1, .late_ms = 1000});
    char body[] = "first";
    CHECK(put_text(s, "late", body) == -ETIMEDOUT && !has_text(m, "late", "first"));
    memcpy(body, "XXXXX", 5); /* the request has a copy */
    CHECK(rt_sleep_ms(1100) == 0 && has_text(m, "late", "first"));
    obj_fault_set(s, &(struct obj_fault_options){.duplicate = 1, .late_ms = 1000});
    CHECK(put_text(s, "twice", "x") == 0 && obj_remove(m, OBJ_COLLECT, "twice") == 0);
    CHECK(rt_sleep_ms(1100) == 0 && has_text(m, "twice", "x"));
    obj_fault_set(s, &(struct obj_fault_options){.down_until_ns = rt_after_ms(100)});
    CHECK(put_text(s, "down", "x") == -EAGAIN);
    CHECK(rt_sleep_ms(101) == 0 && put_text(s, "down", "x") == 0);
    obj_fault_set(s, &(struct obj_fault_options){.late = 1, .late_ms = 1000});
    CHECK(put_text(s, "at the end", "x") == -EINVAL && put_text(s, "end", "x") == -ETIMEDOUT);
    obj_close(s); /* waits for what is under way */
    CHECK(has_text(m, "end", "x"));
    obj_close(m);
}

static void fault_rates(void *arg)
{
    (void)arg;
    struct obj_store *m = mem();
    struct obj_store *s = faulty(m, &(struct obj_fault_options){.seed = 4, .fail_before = 0.25});
    int failed = 0;
    for (int i = 0; i < 2000; i++) {
        char byte;
        failed += obj_get(s, OBJ_READ, "none", 0, &byte, 1) != -ENOENT;
    }
    CHECK(failed > 400 && failed < 600);
    obj_close(s);
    obj_close(m);
}

static void delay(void *arg)
{
    (void)arg;
    struct obj_store *s;
    CHECK(obj_delay_wrap(mem(), &(struct obj_delay_options){20, 30}, &s) == 0);
    uint64_t from = rt_now_ns();
    CHECK(put_text(s, "a", "x") == 0 && has_text(s, "a", "x"));
    uint64_t took = rt_now_ns() - from;
    CHECK(took >= 40 * NS_PER_MS && took < 62 * NS_PER_MS);
    obj_close(s);
}

static void retry(void *arg)
{
    (void)arg;
    struct obj_store *m = mem();
    struct obj_fault_options down = {.down_until_ns = rt_after_ms(2000)};
    struct obj_store *s = faulty(m, &down);
    struct obj_store *f = s;
    CHECK(obj_retry_wrap(s, &(struct obj_retry_options){10, 100, 5000, false}, &s) == 0);
    uint64_t from = rt_now_ns();
    struct rt_chain body = {0};
    CHECK(rt_chain_add(&body, NULL, "x", 1) == 0);
    CHECK(obj_put(s, OBJ_COMPACT, "a", &body) == 0); /* over a passing outage */
    uint64_t took = rt_now_ns() - from;
    CHECK(took >= 2000 * NS_PER_MS && took < 2200 * NS_PER_MS);
    /* A long one: reads give up in time, the index goes on, a commit is told at once. */
    down.down_until_ns = rt_after_ms(3600 * 1000);
    obj_fault_set(f, &down);
    from = rt_now_ns();
    char byte;
    CHECK(obj_get(s, OBJ_READ, "a", 0, &byte, 1) == -EAGAIN);
    took = rt_now_ns() - from;
    CHECK(took > 4500 * NS_PER_MS && took <= 5000 * NS_PER_MS);
    from = rt_now_ns();
    CHECK(obj_put(s, OBJ_COMMIT, "b", &body) == -EAGAIN && rt_now_ns() - from < NS_PER_MS);
    CHECK(obj_put(s, OBJ_INDEX, "c", &body) == 0 && rt_now_ns() >= down.down_until_ns);
    /* Answers are no failures. */
    from = rt_now_ns();
    CHECK(obj_put(s, OBJ_INDEX, "c", &body) == -EEXIST);
    CHECK(obj_get(s, OBJ_READ, "none", 0, &byte, 1) == -ENOENT && rt_now_ns() - from < NS_PER_MS);
    rt_chain_free(&body);
    obj_close(s);
    obj_close(m);
}

/* A backend that denies until some time, and counts what it is asked. */
struct denier {
    struct obj_store base;
    uint64_t until_ns;
    unsigned asked;
};

static ssize_t deny(struct obj_store *s, enum obj_class c, const char *name, uint64_t off,
                    void *dst, size_t len)
{
    (void)c, (void)name, (void)off, (void)dst;
    struct denier *d = container_of(s, struct denier, base);
    d->asked++;
    return rt_now_ns() < d->until_ns ? -EACCES : (ssize_t)len;
}

static void close_nothing(struct obj_store *s)
{
    (void)s;
}

static void outlasts(void *arg)
{
    (void)arg;
    static const struct obj_ops ops = {.name = "denier", .get = deny, .close = close_nothing};
    struct denier d = {.base.ops = &ops, .until_ns = rt_after_ms(3600 * 1000)};
    struct obj_store *s;
    CHECK(obj_retry_wrap(&d.base, &(struct obj_retry_options){10, 5000, 30000, true}, &s) == 0);
    char byte;
    /* Before clients are served a denial is the answer. */
    CHECK(obj_get(s, OBJ_READ, "a", 0, &byte, 1) == -EACCES && d.asked == 1);
    CHECK(obj_away_ms(s) == 0);
    obj_outlast(s);
    uint64_t from = rt_now_ns();
    CHECK(obj_get(s, OBJ_PREFETCH, "a", 0, &byte, 1) == -EACCES);
    CHECK(rt_now_ns() - from > 20 * NS_PER_S && rt_now_ns() - from <= 30 * NS_PER_S);
    CHECK(obj_away_ms(s) > 20000);
    CHECK(obj_get(s, OBJ_READ, "a", 0, &byte, 1) == 1 && rt_now_ns() >= d.until_ns);
    CHECK(obj_away_ms(s) == 0);
    obj_close(s);
}

static int is_full(struct obj_store *s, enum obj_class c, const char *name,
                   const struct rt_chain *body)
{
    (void)c, (void)name, (void)body;
    struct denier *d = container_of(s, struct denier, base);
    return rt_now_ns() < d->until_ns ? -ENOSPC : 0;
}

static ssize_t answers(struct obj_store *s, enum obj_class c, const char *name, uint64_t off,
                       void *dst, size_t len)
{
    (void)s, (void)c, (void)name, (void)off, (void)dst;
    return (ssize_t)len;
}

/* Two puts of one segment: the later one succeeds, and the store is not away for the other. */
static void a_put_that_was_overtaken(void *arg)
{
    struct obj_outage o;
    (void)arg;
    obj_outage_init(&o);
    uint64_t sent = rt_now_ns();
    CHECK(rt_sleep_ms(1000) == 0);
    obj_outage_ended(&o, true);
    CHECK(rt_sleep_ms(1000) == 0);
    struct obj_failure f = {.what = "a", .error = -ETIMEDOUT, .put_since_ns = sent};
    obj_outage_failed(&o, &f);
    CHECK(obj_outage_ms(&o) == 0);
    f.put_since_ns = rt_now_ns();
    obj_outage_failed(&o, &f);
    CHECK(rt_sleep_ms(1000) == 0);
    obj_outage_ended(&o, false);
    CHECK(obj_outage_ms(&o) == 1000);
    obj_outage_destroy(&o);
}

/* A store that is full answers reads all the same: until a put succeeds it is away. */
static void reads_end_no_outage_of_puts(void *arg)
{
    (void)arg;
    static const struct obj_ops ops = {
        .name = "full", .put = is_full, .get = answers, .close = close_nothing};
    struct denier d = {.base.ops = &ops, .until_ns = rt_after_ms(60000)};
    struct obj_store *s;
    char byte;
    struct rt_chain body = {0};
    CHECK(rt_chain_add(&body, NULL, "x", 1) == 0);
    CHECK(obj_retry_wrap(&d.base, &(struct obj_retry_options){10, 5000, 30000, true}, &s) == 0);
    CHECK(obj_put(s, OBJ_COMPACT, "a", &body) == -ENOSPC && obj_away_ms(s) == 0);
    /* The index is told at once, and tries again: whoever waits for it sees the outage. */
    CHECK(obj_put(s, OBJ_INDEX, "a", &body) == -ENOSPC && rt_sleep_ms(35000) == 0);
    CHECK(obj_away_ms(s) >= 35000 && !obj_is_given_up(s));
    CHECK(rt_sleep_ms(10000) == 0 && obj_is_given_up(s));
    d.until_ns = 0;
    CHECK(obj_put(s, OBJ_INDEX, "a", &body) == 0 && obj_away_ms(s) == 0);
    d.until_ns = rt_after_ms(60000);
    CHECK(obj_put(s, OBJ_COMMIT, "a", &body) == -ENOSPC && rt_sleep_ms(5000) == 0);
    CHECK(obj_get(s, OBJ_READ, "a", 0, &byte, 1) == 1 && obj_away_ms(s) >= 5000);
    CHECK(rt_sleep_until(d.until_ns) == 0);
    CHECK(obj_get(s, OBJ_READ, "a", 0, &byte, 1) == 1 && obj_away_ms(s) >= 60000);
    CHECK(obj_put(s, OBJ_COMMIT, "a", &body) == 0 && obj_away_ms(s) == 0);
    /* Once clients are served the index waits for room as well. */
    obj_outlast(s);
    d.until_ns = rt_after_ms(60000);
    CHECK(obj_put(s, OBJ_COMPACT, "a", &body) == -ENOSPC);
    CHECK(obj_put(s, OBJ_INDEX, "a", &body) == 0 && rt_now_ns() >= d.until_ns);
    CHECK(obj_away_ms(s) == 0);
    rt_chain_free(&body);
    obj_close(s);
}

struct cancelled {
    struct obj_store *s;
    int result;
};

static void put_for_ever(void *arg)
{
    struct cancelled *c = arg;
    struct rt_chain body = {0};
    CHECK(rt_chain_add(&body, NULL, "x", 1) == 0);
    c->result = obj_put(c->s, OBJ_INDEX, "a", &body);
    rt_chain_free(&body);
}

static void retry_is_cancelled(void *arg)
{
    (void)arg;
    struct obj_store *m = mem();
    struct cancelled c = {.s = faulty(m, &(struct obj_fault_options){.down_until_ns = UINT64_MAX})};
    CHECK(obj_retry_wrap(c.s, &(struct obj_retry_options){0}, &c.s) == 0);
    struct rt_group *g;
    CHECK(rt_group_create(&g) == 0 && rt_group_spawn(g, "put", put_for_ever, &c) == 0);
    CHECK(rt_sleep_ms(60000) == 0);
    rt_group_cancel(g);
    rt_group_wait(g);
    rt_group_destroy(g);
    CHECK(c.result == -EAGAIN);
    obj_close(c.s);
    obj_close(m);
}

static void stats(void *arg)
{
    (void)arg;
    struct obj_store *s;
    CHECK(obj_open("memory:?delay_ms=3", &s) == 0);
    char byte;
    CHECK(put_text(s, "a", "12345") == 0 && put_text(s, "a", "12345") == -EEXIST);
    CHECK(obj_get(s, OBJ_READ, "a", 0, &byte, 1) == 1);
    CHECK(obj_get(s, OBJ_PREFETCH, "none", 0, &byte, 1) == -ENOENT);
    struct obj_counts n;
    obj_counts(s, &n);
    CHECK(n.requests[OBJ_COMMIT][OBJ_PUT] == 2 && n.errors[OBJ_COMMIT][OBJ_PUT] == 0);
    CHECK(n.requests[OBJ_READ][OBJ_GET] == 1 && n.requests[OBJ_PREFETCH][OBJ_GET] == 1);
    CHECK(n.requests[OBJ_INDEX][OBJ_LIST] == 0);
    CHECK(n.bytes_out == 10 && n.bytes_in == 1);
    uint64_t in_time = 0;
    for (int i = 0; i < 32; i++) {
        in_time += i == 12 ? n.latency_us_log2[OBJ_PUT][i] : 0; /* 2048 to 4095 us */
    }
    CHECK(in_time == 2);
    obj_close(s);
}

#define IN_SIM(name)                                                                               \
    static void test_##name(void **state)                                                          \
    {                                                                                              \
        (void)state;                                                                               \
        for (uint64_t seed = 1; seed <= 10; seed++) {                                              \
            run_sim(seed, name, NULL);                                                             \
        }                                                                                          \
    }
IN_SIM(share_leaves_open)
IN_SIM(fault_kinds)
IN_SIM(fault_rates)
IN_SIM(delay)
IN_SIM(retry)
IN_SIM(outlasts)
IN_SIM(reads_end_no_outage_of_puts)
IN_SIM(a_put_that_was_overtaken)
IN_SIM(retry_is_cancelled)
IN_SIM(stats)

static void test_on_threads(void **state)
{
    (void)state;
    run_on(1, fault_rates);
    run_on(1, share_leaves_open);
    run_on(1, fault_kinds);
}

int main(void)
{
    msg_level_set((enum msg_level) - 1);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_share_leaves_open),
        cmocka_unit_test(test_fault_kinds),
        cmocka_unit_test(test_fault_rates),
        cmocka_unit_test(test_delay),
        cmocka_unit_test(test_retry),
        cmocka_unit_test(test_outlasts),
        cmocka_unit_test(test_reads_end_no_outage_of_puts),
        cmocka_unit_test(test_a_put_that_was_overtaken),
        cmocka_unit_test(test_retry_is_cancelled),
        cmocka_unit_test(test_stats),
        cmocka_unit_test(test_on_threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
