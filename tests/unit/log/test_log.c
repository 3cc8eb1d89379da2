/* SPDX-License-Identifier: Apache-2.0 */
/* The writer, over a store in memory with all kinds of faults, mostly in virtual time. */
#include "base/err.h"
#include "base/msg.h"
#include "base/time.h"
#include "log_test.h"

static struct obj_store *mem(void)
{
    struct obj_store *s;
    CHECK(obj_mem_open(&s) == 0);
    return s;
}

/* Written data comes back, by replay and by frame. */

struct replay_check {
    struct test_batch *t;
    size_t count;
    size_t next;
    struct obj_store *s;
};

static int check_batch(void *arg, const struct log_replayed *b)
{
    struct replay_check *c = arg;
    CHECK(c->next < c->count);
    struct test_batch *t = &c->t[c->next++];
    CHECK(b->number == t->b.number && b->frame_count == t->b.frame_count && b->epoch == 1);
    CHECK(b->records_len == t->b.records_len);
    CHECK(b->records_len == 0 || memcmp(b->records, t->records, b->records_len) == 0);
    for (uint32_t i = 0; i < b->frame_count; i++) {
        struct log_location at = {b->seq, b->frames[i].offset, b->frames[i].len_bytes};
        CHECK(at.offset == t->frames[i].offset && at.len_bytes == t->frames[i].len_bytes);
        struct rt_piece p;
        CHECK(read_frame(c->s, &b->salt, &at, t->frames[i].count, &p) == 0);
        CHECK(p.len == t->frames[i].count * LOG_BLOCK_BYTES);
        CHECK(frame_holds(&t->frames[i], p.data));
        rt_buf_unref(p.buf);
    }
    return 0;
}

static void on_sealed(struct log_batch *b, uint64_t seq)
{
    *(uint64_t *)b->arg = seq;
    CHECK(b->frame_count == 0 || b->frames[0].len_bytes > 0);
}

static void writes_and_replays(void *arg)
{
    struct obj_store *s = arg;
    struct log_open_options opt = open_options(s, 1);
    static struct seen none;
    none.count = 0;
    struct log_open_result o;
    CHECK(log_open(&opt, see, &none, &o) == 0);
    CHECK(o.fence_seq == 1 && o.next_seq == 65 && o.last_seq == 0 && none.count == 0);
    struct log *l = make_log(s, 1, o.next_seq);
    enum {
        COUNT = 12
    };
    static struct test_batch t[COUNT];
    for (int i = 0; i < COUNT; i++) {
        /* small ones, large ones (sealed on a thread, read back by their suffix), empty ones */
        const uint32_t frames[] = {1, 0, 90, 7};
        const uint32_t records[] = {30, 10, 70000, 0};
        t[i] = make_batch((uint64_t)i + 1, frames[i % 4], records[i % 4], (enum fill)(i % 3));
        uint64_t seq;
        uint64_t told = 0;
        t[i].b.sealed = on_sealed;
        t[i].b.arg = &told;
        CHECK(log_reserve(l, &seq) == 0 && seq == o.next_seq + (uint64_t)i);
        CHECK(log_commit(l, seq, &t[i].b) == 0 && told == seq);
        CHECK(log_wait_stored(l, seq, RT_FOREVER) == 0 && log_stored_through(l) == seq);
    }
    log_destroy(l);
    struct replay_check c = {t, COUNT, 0, s};
    opt = open_options(s, 2);
    CHECK(log_open(&opt, check_batch, &c, &o) == 0);
    CHECK(c.next == COUNT && o.last_seq == 64 + COUNT && o.fence_seq == 65 + COUNT);
    /* Reading creates nothing and may be done at any time. */
    c.next = 0;
    opt.read_only = true;
    CHECK(log_open(&opt, check_batch, &c, &o) == 0 && c.next == COUNT);
    for (int i = 0; i < COUNT; i++) {
        free_batch(&t[i]);
    }
    obj_close(s);
}

static void writes_and_replays_sim(void *arg)
{
    (void)arg;
    writes_and_replays(mem());
}

/* Segments stored in any order; flushes are answered in the order of the prefix. */

struct order {
    struct log *l;
    unsigned running;
};

static void flusher(void *arg)
{
    struct order *o = arg;
    uint64_t seq;
    int r = log_reserve(o->l, &seq);
    CHECK(r == 0);
    uint64_t number = seq;
    struct log_batch b = {
        .number = number, .records = (const uint8_t *)&number, .records_len = sizeof number};
    CHECK(log_commit(o->l, seq, &b) == 0);
    CHECK(log_wait_stored(o->l, seq, RT_FOREVER) == 0);
    CHECK(log_stored_through(o->l) >= seq);
    o->running--;
}

static void many_at_once(void *arg)
{
    double p = arg ? *(double *)arg : 0.1;
    struct obj_store *s;
    struct obj_store *shared;
    struct obj_store *base = mem();
    CHECK(obj_share(base, &shared) == 0);
    CHECK(obj_delay_wrap(shared, &(struct obj_delay_options){1, 50}, &s) == 0);
    struct obj_fault_options f = {.seed = rt_random(),
                                  .fail_before = p,
                                  .fail_after = p,
                                  .duplicate = p,
                                  .late = p,
                                  .late_ms = 500};
    CHECK(obj_fault_wrap(s, &f, &s) == 0);
    struct order o = {.l = make_log(s, 1, 1), .running = 300};
    for (int i = 0; i < 300; i++) {
        CHECK(rt_spawn("flusher", flusher, &o) == 0);
    }
    while (o.running > 0) {
        CHECK(rt_sleep_ms(10) == 0);
        CHECK(o.l->next_seq <= o.l->base + LOG_WINDOW); /* I2 */
    }
    CHECK(log_stored_through(o.l) == 300);
    CHECK(log_round_trip_ns(o.l) > 5 * NS_PER_MS);
    log_destroy(o.l);
    obj_close(s);
    struct log_open_options opt = open_options(base, 2);
    opt.log_epoch = 1;
    struct seen *seen = calloc(1, sizeof *seen);
    struct log_open_result res;
    CHECK(log_open(&opt, see, seen, &res) == 0);
    CHECK(seen->count == 300);
    for (size_t i = 0; i < 300; i++) {
        CHECK(seen->numbers[i] == i + 1);
    }
    free(seen);
    obj_close(base);
}

/* An outage only delays. */

static void outage(void *arg)
{
    (void)arg;
    struct obj_store *s;
    struct obj_fault_options f = {.down_until_ns = rt_after_ms(3 * 3600 * 1000)};
    CHECK(obj_fault_wrap(mem(), &f, &s) == 0);
    struct log *l = make_log(s, 1, 1);
    uint64_t seq = 0;
    CHECK(commit_number(l, 5, &seq) == 0 && seq == 1);
    CHECK(rt_now_ns() >= f.down_until_ns);
    CHECK(log_wait_stored(l, 1, 0) == 0);
    log_destroy(l);
    obj_close(s);
}

/* log_abandon() ends those who wait, whatever they wait for. */

struct stuck {
    struct log *l;
    int results[3];
    unsigned running;
};

static void stuck_commit(void *arg)
{
    struct stuck *k = arg;
    k->results[0] = commit_number(k->l, 1, NULL);
    k->running--;
}

static void stuck_wait(void *arg)
{
    struct stuck *k = arg;
    k->results[1] = log_wait_stored(k->l, 1, RT_FOREVER);
    k->running--;
}

static void abandon(void *arg)
{
    (void)arg;
    struct obj_store *s;
    CHECK(obj_fault_wrap(mem(), &(struct obj_fault_options){.down_until_ns = UINT64_MAX}, &s) == 0);
    struct stuck k = {.l = make_log(s, 1, 1), .running = 2};
    CHECK(rt_spawn_now("commit", stuck_commit, &k) == 0);
    CHECK(rt_sleep_ms(100) == 0);
    CHECK(log_wait_stored(k.l, 1, rt_after_ms(5)) == -ETIMEDOUT);
    CHECK(rt_spawn_now("wait", stuck_wait, &k) == 0);
    CHECK(rt_sleep_ms(100) == 0 && k.running == 2);
    log_abandon(k.l);
    uint64_t before = rt_now_ns();
    while (k.running > 0) {
        CHECK(rt_sleep_ms(1) == 0);
    }
    CHECK(rt_now_ns() - before < NS_PER_S);
    CHECK(k.results[0] == ERR_FENCED && k.results[1] == ERR_FENCED);
    uint64_t seq;
    CHECK(log_reserve(k.l, &seq) == ERR_FENCED && log_is_fenced(k.l));
    log_destroy(k.l);
    obj_close(s);
}

/* Who loses a number is fenced; whose reply was lost is not (I3). */

static void rivals(void *arg)
{
    (void)arg;
    struct obj_store *s = mem();
    struct log *a = make_log(s, 1, 1);
    struct log *b = make_log(s, 1, 1); /* a cloned process: all is alike but the salt */
    CHECK(commit_number(a, 1, NULL) == 0);
    CHECK(commit_number(b, 1, NULL) == ERR_FENCED);
    CHECK(log_is_fenced(b) && !log_is_fenced(a));
    CHECK(log_wait_stored(b, 1, RT_FOREVER) == ERR_FENCED);
    log_destroy(b);
    struct obj_store *lossy;
    struct obj_store *shared;
    CHECK(obj_share(s, &shared) == 0);
    CHECK(obj_fault_wrap(shared, &(struct obj_fault_options){.fail_after = 0.7, .seed = 2},
                         &lossy) == 0);
    struct log *c = make_log(lossy, 1, 2);
    for (uint64_t i = 0; i < 40; i++) {
        CHECK(commit_number(c, i, NULL) == 0);
    }
    log_destroy(c);
    obj_close(lossy);
    log_destroy(a);
    obj_close(s);
}

/* A store whose answers to PUTs are lost, and on the way from which bytes are spoiled: what is read
 * back to see whose object is there (I3) is no rival's for that. */

struct noisy {
    struct obj_store base;
    struct rng rng;
};

static int noisy_put(struct obj_store *s, enum obj_class c, const char *name,
                     const struct rt_chain *body)
{
    struct noisy *n = container_of(s, struct noisy, base);
    int r = obj_put(s->next, c, name, body);
    return r == 0 && rng_below(&n->rng, 4) > 0 ? -ETIMEDOUT : r;
}

static ssize_t noisy_get(struct obj_store *s, enum obj_class c, const char *name, uint64_t off,
                         void *dst, size_t len)
{
    struct noisy *n = container_of(s, struct noisy, base);
    ssize_t got = obj_get(s->next, c, name, off, dst, len);
    if (got > 0 && rng_below(&n->rng, 3) == 0) {
        ((uint8_t *)dst)[rng_below(&n->rng, (uint64_t)got)] ^=
            (uint8_t)(1 + rng_below(&n->rng, 255));
    }
    return got;
}

static void spoiled_on_the_way(void *arg)
{
    (void)arg;
    const struct obj_ops ops = {.name = "noisy", .put = noisy_put, .get = noisy_get};
    struct noisy n = {.base = {.ops = &ops, .next = mem()}, .rng = rng_seeded(rt_random())};
    struct log *l = make_log(&n.base, 1, 1);
    for (uint64_t i = 0; i < 100; i++) {
        CHECK(commit_number(l, i, NULL) == 0);
    }
    CHECK(!log_is_fenced(l) && log_stored_through(l) == 100);
    struct log *rival = make_log(&n.base, 1, 1);
    CHECK(commit_number(rival, 1, NULL) == ERR_FENCED);
    log_destroy(rival);
    log_destroy(l);
    obj_close(n.base.next);
}

/* A PUT that hangs is sent again, and the first answer counts (I3). */

static void hedge(void *arg)
{
    (void)arg;
    struct obj_store *base = mem();
    struct obj_store *s;
    CHECK(obj_delay_wrap(base, &(struct obj_delay_options){4, 6}, &s) == 0);
    struct obj_store *slow_layer;
    CHECK(obj_fault_wrap(s, &(struct obj_fault_options){0}, &slow_layer) == 0);
    struct log *l = make_log(slow_layer, 1, 1);
    for (uint64_t i = 0; i < 100; i++) {
        CHECK(commit_number(l, i, NULL) == 0);
    }
    uint64_t after = log_estimate_hedge_ns(&l->estimate, 1000);
    CHECK(after >= 100 * NS_PER_MS && after < NS_PER_S);
    log_destroy(l);
    obj_close(slow_layer);
}

/* A store that takes the first attempt of each second number and never answers before a minute has
 * passed. */

struct tar_pit {
    struct obj_store base;
    unsigned puts;
    unsigned hung;
};

static int pit_put(struct obj_store *s, enum obj_class c, const char *name,
                   const struct rt_chain *body)
{
    struct tar_pit *p = container_of(s, struct tar_pit, base);
    CHECK(rt_sleep_ms(5) == 0);
    if (p->puts++ == 100) {
        p->hung++;
        CHECK(rt_sleep_ms(60000) == 0);
    }
    return obj_put(s->next, c, name, body);
}

static ssize_t pit_get(struct obj_store *s, enum obj_class c, const char *name, uint64_t off,
                       void *dst, size_t len)
{
    return obj_get(s->next, c, name, off, dst, len);
}

static void flush_in_pit(void *arg)
{
    struct stuck *k = arg;
    k->results[0] = commit_number(k->l, 1, NULL);
    k->running--;
}

static void hangs(void *arg)
{
    (void)arg;
    const struct obj_ops ops = {.name = "pit", .put = pit_put, .get = pit_get};
    struct tar_pit pit = {.base = {.ops = &ops, .next = mem()}};
    struct stuck k = {.l = make_log(&pit.base, 1, 1), .running = 1};
    for (uint64_t i = 0; i < 100; i++) {
        CHECK(commit_number(k.l, i, NULL) == 0);
    }
    uint64_t from = rt_now_ns();
    CHECK(rt_spawn_now("flush", flush_in_pit, &k) == 0);
    CHECK(log_wait_stored(k.l, 101, RT_FOREVER) == 0);
    CHECK(pit.hung == 1 && rt_now_ns() - from < NS_PER_S);
    while (k.running > 0) {
        CHECK(rt_sleep_ms(1000) == 0);
    }
    CHECK(k.results[0] == 0 && rt_now_ns() - from >= 60 * NS_PER_S);
    CHECK(!log_is_fenced(k.l)); /* the slow one found its own bytes there */
    log_destroy(k.l);
    obj_close(pit.base.next);
}

/* A store that is full, read-only or forbidden for a while: the commit waits it out. And one whose
 * PUTs take as long as their bytes. */

struct odd_store {
    struct obj_store base;
    unsigned refused;
    uint64_t bytes_per_ms;
};

static int odd_put(struct obj_store *s, enum obj_class c, const char *name,
                   const struct rt_chain *body)
{
    struct odd_store *o = container_of(s, struct odd_store, base);
    const int errors[] = {-ENOSPC, -EROFS, -EACCES, -EDQUOT, -ESTALE, -EMFILE};
    if (o->refused > 0) {
        return errors[--o->refused % 6];
    }
    CHECK(rt_sleep_ms(o->bytes_per_ms > 0 ? 10 + body->len / o->bytes_per_ms : 1) == 0);
    return obj_put(s->next, c, name, body);
}

static const struct obj_ops odd_ops = {.name = "odd", .put = odd_put, .get = pit_get};

static void refusals(void *arg)
{
    (void)arg;
    struct odd_store odd = {.base = {.ops = &odd_ops, .next = mem()}, .refused = 20};
    struct log *l = make_log(&odd.base, 1, 1);
    CHECK(commit_number(l, 1, NULL) == 0 && odd.refused == 0);
    CHECK(log_stored_through(l) == 1);
    log_destroy(l);
    obj_close(odd.base.next);
}

static void rates(void *arg)
{
    (void)arg;
    struct odd_store odd = {.base = {.ops = &odd_ops, .next = mem()}, .bytes_per_ms = 100000};
    struct log *l = make_log(&odd.base, 1, 1);
    for (uint64_t i = 0; i < 40; i++) {
        CHECK(commit_number(l, i, NULL) == 0);
    }
    CHECK(log_upload_rate(l) == 0); /* small ones say nothing about it */
    uint64_t rtt = log_round_trip_ns(l);
    CHECK(rtt >= 9 * NS_PER_MS && rtt < 15 * NS_PER_MS);
    struct test_batch t = make_batch(1, 1, 8 << 20, FILL_RANDOM);
    for (int i = 0; i < 20; i++) {
        uint64_t seq;
        CHECK(log_reserve(l, &seq) == 0 && log_commit(l, seq, &t.b) == 0);
    }
    CHECK(log_upload_rate(l) > 70000000 && log_upload_rate(l) < 110000000);
    free_batch(&t);
    log_destroy(l);
    obj_close(odd.base.next);
}

/* Numbers are given in the order of the calls, also to those who had to wait for the window. */

struct queue {
    struct log *l;
    unsigned called;
    unsigned got;
    unsigned running;
};

static void queue_up(void *arg)
{
    struct queue *q = arg;
    uint64_t seq;
    unsigned turn = q->called++;
    CHECK(log_reserve(q->l, &seq) == 0);
    CHECK(seq == 1 + turn && q->got++ == turn);
    struct log_batch b = {.number = seq};
    CHECK(log_commit(q->l, seq, &b) == 0);
    q->running--;
}

static void reserve_in_order(void *arg)
{
    (void)arg;
    struct obj_store *s;
    CHECK(obj_delay_wrap(mem(), &(struct obj_delay_options){1, 40}, &s) == 0);
    struct queue q = {.l = make_log(s, 1, 1), .running = 250};
    for (int i = 0; i < 250; i++) {
        CHECK(rt_spawn("queue", queue_up, &q) == 0);
    }
    while (q.running > 0) {
        CHECK(rt_sleep_ms(5) == 0);
    }
    log_destroy(q.l);
    obj_close(s);
}

/* Damage on the way is read again; damage in the store is an error of that frame. */

static void corrupt_frame(void *arg)
{
    (void)arg;
    struct obj_store *s = mem();
    struct log *l = make_log(s, 1, 1);
    struct test_batch t = make_batch(3, 4, 10, FILL_RANDOM);
    uint64_t seq;
    CHECK(log_reserve(l, &seq) == 0 && log_commit(l, seq, &t.b) == 0);
    log_destroy(l);
    char name[OBJ_NAME_SIZE];
    log_segment_name(seq, name);
    struct rt_buf *b;
    size_t len;
    CHECK(obj_get_all(s, OBJ_READ, name, 1 << 30, &b, &len) == 0);
    b->data[t.frames[2].offset + 1000] ^= 1;
    struct rt_chain body = {0};
    CHECK(obj_remove(s, OBJ_COLLECT, name) == 0);
    CHECK(rt_chain_add(&body, b, b->data, (uint32_t)len) == 0);
    CHECK(obj_put(s, OBJ_COMMIT, name, &body) == 0);
    rt_chain_free(&body);
    rt_buf_unref(b);
    for (uint32_t i = 0; i < 4; i++) {
        struct log_location at = {seq, t.frames[i].offset, t.frames[i].len_bytes};
        struct rt_piece p;
        int r = read_frame(s, &t.b.salt, &at, t.frames[i].count, &p);
        CHECK(r == (i == 2 ? ERR_CORRUPT_FRAME : 0));
        if (r == 0) {
            rt_buf_unref(p.buf);
        }
    }
    struct log_location past = {seq, (uint32_t)len - 10, 5000};
    struct rt_piece p;
    CHECK(read_frame(s, &t.b.salt, &past, 4, &p) == ERR_CORRUPT_FRAME);
    past.seq++;
    CHECK(read_frame(s, &t.b.salt, &past, 4, &p) == -ENOENT);
    free_batch(&t);
    obj_close(s);
}

#define SIM_TEST(name)                                                                             \
    static void test_##name(void **state)                                                          \
    {                                                                                              \
        (void)state;                                                                               \
        for (uint64_t seed = 1; seed <= 5; seed++) {                                               \
            run_sim(seed, name, NULL);                                                             \
        }                                                                                          \
    }
SIM_TEST(writes_and_replays_sim)
SIM_TEST(many_at_once)
SIM_TEST(outage)
SIM_TEST(abandon)
SIM_TEST(rivals)
SIM_TEST(spoiled_on_the_way)
SIM_TEST(hedge)
SIM_TEST(hangs)
SIM_TEST(refusals)
SIM_TEST(rates)
SIM_TEST(reserve_in_order)
SIM_TEST(corrupt_frame)

static void test_on_threads(void **state)
{
    (void)state;
    double p = 0.01;
    run_on(2, writes_and_replays_sim);
    assert_int_equal(rt_run(&(struct rt_options){.cores = 2}, many_at_once, &p), 0);
}

int main(void)
{
    msg_level_set(MSG_ERROR);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_writes_and_replays_sim),
        cmocka_unit_test(test_many_at_once),
        cmocka_unit_test(test_outage),
        cmocka_unit_test(test_abandon),
        cmocka_unit_test(test_rivals),
        cmocka_unit_test(test_spoiled_on_the_way),
        cmocka_unit_test(test_hedge),
        cmocka_unit_test(test_hangs),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_rates),
        cmocka_unit_test(test_reserve_in_order),
        cmocka_unit_test(test_corrupt_frame),
        cmocka_unit_test(test_on_threads),
    };
    return run_with_each_cipher(tests, ARRAY_LEN(tests));
}
