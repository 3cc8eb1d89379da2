/* SPDX-License-Identifier: Apache-2.0 */
#include "net_test.h"
#include "rt/sync.h"
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>

#define BYTES (3u << 20)

static _Atomic unsigned served;
static _Atomic unsigned cores_seen;

/* The echo of the header's example. */
static void echo(struct net_stream *s, void *arg)
{
    static _Thread_local uint8_t buf[16384];
    ssize_t n;
    (void)arg;
    atomic_fetch_or(&cores_seen, 1u << rt_core_self());
    while ((n = net_recv(s, buf, sizeof buf, RT_FOREVER)) > 0) {
        if (net_send_copy(s, buf, (size_t)n) < 0 || net_send_wait(s, 1 << 16) < 0) {
            break;
        }
    }
    net_close(s);
    atomic_fetch_add(&served, 1);
}

static uint8_t pattern(size_t i)
{
    return (uint8_t)(i * 31 + (i >> 9));
}

static void send_pattern(void *arg)
{
    struct net_stream *s = arg;
    uint8_t part[1000];
    for (size_t done = 0; done < BYTES;) {
        size_t n = MIN_OF(sizeof part, BYTES - done);
        for (size_t i = 0; i < n; i++) {
            part[i] = pattern(done + i);
        }
        done += n;
        CHECK(net_send_copy(s, part, n) == 0);
        CHECK(net_send_wait(s, 1 << 17) == 0);
    }
}

/* Sends a few MiB and checks that they come back. */
static void talk(struct net_stream *s)
{
    static _Thread_local uint8_t buf[50000];
    size_t done = 0;
    CHECK(rt_spawn("send", send_pattern, s) == 0);
    while (done < BYTES) {
        ssize_t n = net_recv(s, buf, sizeof buf, RT_FOREVER);
        CHECK(n > 0);
        for (size_t i = 0; i < (size_t)n; i++) {
            CHECK(buf[i] == pattern(done + i));
        }
        done += (size_t)n;
    }
}

static void echo_main(void *arg)
{
    char text[NET_ADDRESS_SIZE];
    char other[NET_ADDRESS_SIZE];
    struct net_stream *s[4];
    struct net_listener *l = listen_at(arg, echo, 0);
    atomic_store(&served, 0);
    atomic_store(&cores_seen, 0);
    for (unsigned i = 0; i < 4; i++) {
        s[i] = connect_to(l);
        talk(s[i]);
    }
    CHECK(net_listener_connections(l) == 4);
    CHECK(atomic_load(&cores_seen) == (1u << rt_core_count()) - 1);
    net_listener_address(l, text);
    net_peer_address(s[0], other);
    CHECK(strcmp(text, other) == 0);
    for (unsigned i = 0; i < 4; i++) {
        net_close(s[i]);
    }
    net_listener_stop(l);
    while (atomic_load(&served) < 4) {
        CHECK(rt_sleep_ms(1) == 0);
    }
    net_listener_close(l);
    CHECK(rt_mem_used(RT_MEM_EGRESS) == 0);
    CHECK(rt_mem_used(RT_MEM_CONNECTIONS) == 0);
}

static void echo_everywhere(void **state)
{
    static char v4[] = "127.0.0.1:0";
    static char v6[] = "[::1]:0";
    (void)state;
    for (unsigned cores = 1; cores <= 2; cores++) {
        struct rt_options opt = {.cores = cores};
        assert_int_equal(rt_run(&opt, echo_main, v4), 0);
        assert_int_equal(rt_run(&opt, echo_main, v6), 0);
        assert_int_equal(rt_run(&opt, echo_main, unix_address), 0);
    }
    assert_int_equal(access(unix_path(), F_OK), -1);
}

static void echo_fiber(void *arg)
{
    echo(arg, NULL);
}

static void pipe_main(void *arg)
{
    struct net_stream *a;
    struct net_stream *b;
    char text[NET_ADDRESS_SIZE];
    uint8_t byte;
    (void)arg;
    CHECK(net_pipe(&a, &b) == 0);
    CHECK(rt_spawn("echo", echo_fiber, b) == 0);
    talk(a);
    net_peer_address(a, text);
    CHECK(strcmp(text, "memory") == 0);
    net_close(a);
    CHECK(net_pipe(&a, &b) == 0);
    CHECK(net_send_copy(a, "xy", 2) == 0);
    net_close(a);
    CHECK(net_recv_all(b, &byte, 1, RT_FOREVER) == 0 && byte == 'x');
    CHECK(net_recv_all(b, &byte, 1, RT_FOREVER) == 0 && byte == 'y');
    CHECK(net_recv(b, &byte, 1, RT_FOREVER) == 0);
    net_close(b);
}

static void echo_in_memory(void **state)
{
    (void)state;
    run_on(1, pipe_main);
    for (uint64_t seed = 0; seed < 5; seed++) {
        run_sim(seed, pipe_main, NULL);
    }
}

/* Queues pieces of all kinds, and never reads. */
static void send_much(struct net_stream *s, void *arg)
{
    struct rt_buf *buf;
    unsigned *progress = arg;
    CHECK(rt_buf_alloc(65536, RT_MEM_OTHER, &buf) == 0);
    memset(buf->data, 'b', buf->cap);
    for (unsigned i = 0; i < 400; i++) {
        struct rt_chain c = {0};
        CHECK(rt_chain_add(&c, buf, buf->data, 30000) == 0);
        CHECK(rt_chain_add_zeros(&c, 1000, 1) == 0);
        CHECK(rt_chain_add(&c, buf, buf->data, 30000) == 0);
        CHECK(net_send_copy(s, "head", 4) == 0);
        CHECK(net_send_chain(s, &c) == 0);
        CHECK(c.count == 0 && c.len == 0);
        CHECK(net_send_ref(s, buf, buf->data, 1) == 0);
        CHECK(net_send_wait(s, 200000) == 0);
        *progress = i + 1;
    }
    rt_buf_unref(buf);
    CHECK(net_send_wait(s, 0) == 0);
    net_close(s);
}

static void slow_peer_main(void *arg)
{
    static uint8_t part[61005];
    unsigned progress = 0;
    struct net_stream *s;
    struct net_listen_options opt = {
        .address = "127.0.0.1:0", .name = "test", .serve = send_much, .arg = &progress};
    struct net_listener *l;
    (void)arg;
    CHECK(net_listen(&opt, &l) == 0);
    s = connect_to(l);
    /* As long as nobody reads, the sender stands still once the kernel's buffers are full. */
    unsigned before;
    do {
        before = progress;
        CHECK(rt_sleep_ms(50) == 0);
    } while (before != progress || progress == 0);
    CHECK(progress < 400);
    for (unsigned i = 0; i < 400; i++) {
        CHECK(net_recv_all(s, part, sizeof part, RT_FOREVER) == 0);
        CHECK(memcmp(part, "head", 4) == 0 && part[4] == 'b' && part[30003] == 'b');
        CHECK(part[30004] == 0 && part[31003] == 0 && part[31004] == 'b' && part[61004] == 'b');
    }
    CHECK(net_recv(s, part, 1, RT_FOREVER) == 0);
    net_close(s);
    net_listener_close(l);
    CHECK(rt_mem_used(RT_MEM_EGRESS) == 0);
}

static void slow_peer_stops_only_its_sender(void **state)
{
    (void)state;
    run_on(1, slow_peer_main);
}

static _Atomic int serve_result;

static void flood(void *arg)
{
    static uint8_t bytes[65536];
    struct net_stream *s = arg;
    while (net_send_ref(s, NULL, bytes, sizeof bytes) == 0 && net_send_wait(s, 1 << 20) == 0) {
    }
    net_close(s);
}

static void swallow(struct net_stream *s, void *arg)
{
    static _Thread_local uint8_t buf[65536];
    ssize_t n;
    (void)arg;
    while ((n = net_recv(s, buf, sizeof buf, RT_FOREVER)) > 0) {
        atomic_fetch_add(&served, 1);
    }
    atomic_store(&serve_result, (int)n);
    net_close(s);
}

static void flood_main(void *arg)
{
    (void)arg;
    struct net_listener *l = listen_at("127.0.0.1:0", swallow, 0);
    atomic_store(&served, 0);
    CHECK(rt_spawn("flood", flood, connect_to(l)) == 0);
    while (atomic_load(&served) < 100) {
        CHECK(rt_sleep_ms(1) == 0);
    }
    net_listener_close(l);
    CHECK(atomic_load(&serve_result) == -ECANCELED);
}

/* A receiver that always finds bytes lets others run, and sees its cancellation. */
static void flood_holds_no_core(void **state)
{
    (void)state;
    run_on(1, flood_main);
}

static void timeout_main(void *arg)
{
    uint8_t byte;
    struct net_stream *a;
    struct net_stream *b;
    (void)arg;
    CHECK(net_pipe(&a, &b) == 0);
    CHECK(net_recv_try(a, &byte, 1) == -EAGAIN);
    CHECK(net_recv(a, &byte, 1, rt_after_ms(5)) == -ETIMEDOUT);
    CHECK(net_send_copy(b, "z", 1) == 0);
    CHECK(net_recv(a, &byte, 1, RT_FOREVER) == 1 && byte == 'z');
    net_close(a);
    net_close(b);
}

static void receive_times_out(void **state)
{
    (void)state;
    run_on(1, timeout_main);
    run_sim(1, timeout_main, NULL);
}

static unsigned others_ran;

static void run_along(void *arg)
{
    bool *stop = arg;
    while (!*stop) {
        others_ran++;
        rt_yield();
    }
}

static void byte_by_byte_main(void *arg)
{
    uint8_t byte;
    bool stop = false;
    struct net_stream *a;
    struct net_stream *b;
    (void)arg;
    others_ran = 0;
    CHECK(net_pipe(&a, &b) == 0);
    CHECK(net_send_ref(b, NULL, rt_zeros, 1000) == 0);
    CHECK(rt_spawn("along", run_along, &stop) == 0);
    for (unsigned i = 0; i < 1000; i++) {
        CHECK(net_recv(a, &byte, 1, RT_FOREVER) == 1);
    }
    CHECK(others_ran >= 900);
    stop = true;
    rt_yield();
    rt_yield();
    net_close(a);
    net_close(b);
}

/* Though there is always something to receive, others have their turn. */
static void receiver_lets_others_run(void **state)
{
    (void)state;
    run_on(1, byte_by_byte_main);
}

static void receive_late(struct net_stream *s, void *arg)
{
    uint8_t bytes[100];
    (void)arg;
    /* Until then bytes and end have both been reported. */
    CHECK(rt_sleep_ms(30) == 0);
    CHECK(net_recv(s, bytes, sizeof bytes, rt_after_ms(5000)) == 3);
    atomic_store(&serve_result, (int)net_recv(s, bytes, sizeof bytes, rt_after_ms(5000)));
    net_close(s);
}

static void late_main(void *arg)
{
    atomic_store(&serve_result, 1);
    struct net_listener *l = listen_at(arg, receive_late, 0);
    struct net_stream *s = connect_to(l);
    CHECK(net_send_copy(s, "end", 3) == 0);
    net_close(s);
    while (net_listener_connections(l) > 0 || atomic_load(&serve_result) == 1) {
        CHECK(rt_sleep_ms(1) == 0);
    }
    net_listener_close(l);
    CHECK(atomic_load(&serve_result) == 0);
}

/* The end that was reported together with the last bytes is seen after them. */
static void end_with_last_bytes(void **state)
{
    static char v4[] = "127.0.0.1:0";
    (void)state;
    assert_int_equal(rt_run(&(struct rt_options){.cores = 1}, late_main, v4), 0);
    assert_int_equal(rt_run(&(struct rt_options){.cores = 1}, late_main, unix_address), 0);
}

static int waiter_result;

static void wait_on(void *arg)
{
    uint8_t byte;
    waiter_result = (int)net_recv(arg, &byte, 1, RT_FOREVER);
}

static void fill_and_wait(void *arg)
{
    CHECK(net_send_ref(arg, NULL, rt_zeros, sizeof rt_zeros) == 0);
    CHECK(net_send_ref(arg, NULL, rt_zeros, sizeof rt_zeros) == 0);
    waiter_result = net_send_wait(arg, 0);
}

static void shutdown_main(void *arg)
{
    uint8_t byte;
    struct net_stream *a;
    struct net_stream *b;
    void (*const waiters[])(void *) = {wait_on, fill_and_wait};
    (void)arg;
    for (unsigned i = 0; i < 2; i++) {
        CHECK(net_pipe(&a, &b) == 0);
        waiter_result = 0;
        CHECK(rt_spawn_now("wait", waiters[i], a) == 0);
        CHECK(rt_sleep_ms(1) == 0);
        CHECK(waiter_result == 0);
        net_shutdown(a);
        CHECK(rt_sleep_ms(1) == 0);
        CHECK(waiter_result == -ECONNRESET);
        CHECK(net_send_queued(a) == 0);
        CHECK(net_send_copy(a, "x", 1) == -ECONNRESET);
        CHECK(net_recv(a, &byte, 1, RT_FOREVER) == -ECONNRESET);
        net_close(a);
        net_close(b);
    }
}

static void shutdown_wakes_waiters(void **state)
{
    (void)state;
    run_on(1, shutdown_main);
    run_sim(1, shutdown_main, NULL);
}

static void say_bye(struct net_stream *s, void *arg)
{
    uint8_t byte;
    (void)arg;
    CHECK(net_recv_all(s, &byte, 1, RT_FOREVER) == 0);
    CHECK(rt_sleep_ms(20) == 0);
    CHECK(net_send_copy(s, "bye", 3) == 0);
    net_close(s);
}

static void bye_main(void *arg)
{
    uint8_t bytes[4];
    struct net_listener *l = listen_at(arg, say_bye, 0);
    struct net_stream *s = connect_to(l);
    CHECK(net_send_ref(s, NULL, rt_zeros, 10000) == 0);
    CHECK(net_recv_all(s, bytes, 3, RT_FOREVER) == 0);
    CHECK(memcmp(bytes, "bye", 3) == 0);
    CHECK(net_recv(s, bytes, 1, RT_FOREVER) == 0);
    net_close(s);
    net_listener_close(l);
}

/* A close over bytes that nobody read is an orderly end, not a reset. */
static void last_words_arrive(void **state)
{
    static char v4[] = "127.0.0.1:0";
    (void)state;
    assert_int_equal(rt_run(&(struct rt_options){.cores = 1}, bye_main, v4), 0);
}

static void send_some(void *arg)
{
    struct net_stream *s = arg;
    CHECK(net_send_ref(s, NULL, rt_zeros, 50000) == 0);
    CHECK(net_send_wait(s, 60000) == 0);
    CHECK(net_send_queued(s) <= 60000);
    waiter_result++;
}

static void senders_main(void *arg)
{
    static uint8_t sink[10000];
    struct net_stream *a;
    struct net_stream *b;
    (void)arg;
    waiter_result = 0;
    CHECK(net_pipe(&a, &b) == 0);
    for (unsigned i = 0; i < 10; i++) {
        CHECK(rt_spawn_now("send", send_some, a) == 0);
    }
    CHECK(rt_sleep_ms(1) == 0);
    CHECK(waiter_result < 10);
    for (unsigned i = 0; i < 50; i++) {
        CHECK(net_recv_all(b, sink, sizeof sink, RT_FOREVER) == 0);
    }
    CHECK(rt_sleep_ms(1) == 0);
    CHECK(waiter_result == 10);
    net_close(a);
    net_close(b);
}

static void many_fibers_send(void **state)
{
    (void)state;
    run_on(1, senders_main);
    run_sim(2, senders_main, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(echo_everywhere),
        cmocka_unit_test(echo_in_memory),
        cmocka_unit_test(slow_peer_stops_only_its_sender),
        cmocka_unit_test(flood_holds_no_core),
        cmocka_unit_test(receive_times_out),
        cmocka_unit_test(shutdown_wakes_waiters),
        cmocka_unit_test(last_words_arrive),
        cmocka_unit_test(many_fibers_send),
        cmocka_unit_test(receiver_lets_others_run),
        cmocka_unit_test(end_with_last_bytes),
    };
    net_test_unix();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
