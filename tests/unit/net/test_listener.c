/* SPDX-License-Identifier: Apache-2.0 */
#include "net/address.h"
#include "net/stream.h"
#include "net_test.h"
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>

static _Atomic unsigned served;
static _Atomic int serve_result;

static void echo_byte(struct net_stream *s, void *arg)
{
    uint8_t byte;
    (void)arg;
    if (net_recv(s, &byte, 1, RT_FOREVER) == 1) {
        CHECK(net_send_copy(s, &byte, 1) == 0);
    }
    net_close(s);
}

static void wait_for_bytes(struct net_stream *s, void *arg)
{
    uint8_t byte;
    (void)arg;
    atomic_store(&serve_result, 1);
    atomic_store(&serve_result, (int)net_recv(s, &byte, 1, RT_FOREVER));
    net_close(s);
}

static void cancel_main(void *arg)
{
    (void)arg;
    struct net_listener *l = listen_at("127.0.0.1:0", wait_for_bytes, 0);
    atomic_store(&serve_result, 0);
    struct net_stream *s = connect_to(l);
    while (atomic_load(&serve_result) != 1) {
        CHECK(rt_sleep_ms(1) == 0);
    }
    net_listener_close(l);
    CHECK(atomic_load(&serve_result) == -ECANCELED);
    uint8_t byte;
    CHECK(net_recv(s, &byte, 1, RT_FOREVER) == 0);
    net_close(s);
}

static void close_cancels_serving(void **state)
{
    (void)state;
    run_on(1, cancel_main);
    run_on(2, cancel_main);
}

/* The descriptors that connections may have are used up: a listener apart serves all the same. */
static void apart_main(void *arg)
{
    (void)arg;
    struct rlimit old;
    CHECK(getrlimit(RLIMIT_NOFILE, &old) == 0);
    struct rlimit few = {.rlim_cur = 40, .rlim_max = old.rlim_max}; /* 20 for connections */
    CHECK(setrlimit(RLIMIT_NOFILE, &few) == 0);
    struct net_listener *l = listen_at("127.0.0.1:0", wait_for_bytes, 0);
    CHECK(setrlimit(RLIMIT_NOFILE, &old) == 0);
    struct net_listen_options opt = {
        .address = "127.0.0.1:0", .name = "apart", .serve = echo_byte, .apart = true};
    struct net_listener *apart;
    CHECK(net_listen(&opt, &apart) == 0);
    struct net_stream *crowd[20];
    for (size_t i = 0; i < ARRAY_LEN(crowd); i++) {
        crowd[i] = connect_to(l);
    }
    while (net_listener_connections(l) < ARRAY_LEN(crowd)) {
        CHECK(rt_sleep_ms(1) == 0);
    }
    uint8_t byte = 1;
    struct net_stream *one_more = connect_to(l);
    struct net_stream *s = connect_to(apart);
    CHECK(net_send_copy(s, &byte, 1) == 0);
    CHECK(net_recv(s, &byte, 1, rt_after_ms(10000)) == 1);
    CHECK(net_listener_connections(l) == ARRAY_LEN(crowd));
    net_close(s);
    net_close(one_more);
    for (size_t i = 0; i < ARRAY_LEN(crowd); i++) {
        net_close(crowd[i]);
    }
    net_listener_close(apart);
    net_listener_close(l);
}

static void a_listener_apart(void **state)
{
    (void)state;
    run_on(1, apart_main);
}

static char control_served[16];

static void tell_control(struct net_stream *s, void *arg)
{
    uint8_t byte = 1;
    socklen_t len = sizeof control_served - 1;
    (void)arg;
    CHECK(getsockopt(s->watch.fd, IPPROTO_TCP, TCP_CONGESTION, control_served, &len) == 0);
    CHECK(net_send_copy(s, &byte, 1) == 0);
    net_close(s);
}

static void learn_control(const char *address)
{
    uint8_t byte;
    struct net_listener *l = listen_at(address, tell_control, 0);
    struct net_stream *s = connect_to(l);
    CHECK(net_recv(s, &byte, 1, RT_FOREVER) == 1);
    net_close(s);
    net_listener_close(l);
}

static void control_main(void *arg)
{
    char usual[sizeof control_served] = "";
    socklen_t len = sizeof usual - 1;
    (void)arg;
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    CHECK(fd >= 0);
    CHECK(getsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, usual, &len) == 0);
    bool allowed = setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, "reno", 4) == 0;
    CHECK(close(fd) == 0);
    learn_control("0.0.0.0:0");
    CHECK(strcmp(control_served, usual) == 0);
    learn_control("127.0.0.1:0");
    CHECK(strcmp(control_served, allowed ? "reno" : usual) == 0);
}

/* Connections at a loopback address are not paced; others are as the system has them. */
static void congestion_control(void **state)
{
    (void)state;
    run_on(1, control_main);
}

static void limit_main(void *arg)
{
    uint8_t byte;
    (void)arg;
    struct net_listener *l = listen_at("127.0.0.1:0", wait_for_bytes, 2);
    struct net_stream *a = connect_to(l);
    struct net_stream *b = connect_to(l);
    struct net_stream *c = connect_to(l);
    CHECK(net_recv(c, &byte, 1, RT_FOREVER) == 0);
    CHECK(net_listener_connections(l) == 2);
    net_close(a);
    net_close(c);
    while (net_listener_connections(l) == 2) {
        CHECK(rt_sleep_ms(1) == 0);
    }
    a = connect_to(l);
    while (net_listener_connections(l) < 2) {
        CHECK(rt_sleep_ms(1) == 0);
    }
    CHECK(net_recv(a, &byte, 1, rt_after_ms(10)) == -ETIMEDOUT);
    net_close(a);
    net_close(b);
    net_listener_close(l);
}

static void connections_are_limited(void **state)
{
    (void)state;
    run_on(1, limit_main);
}

static void check_credentials(struct net_stream *s, void *arg)
{
    uid_t uid;
    gid_t gid;
    (void)arg;
    CHECK(net_peer_credentials(s, &uid, &gid) == 0);
    CHECK(uid == geteuid() && gid == getegid());
    net_close(s);
    atomic_fetch_add(&served, 1);
}

static void unix_main(void *arg)
{
    struct stat st;
    uint8_t byte;
    uid_t uid;
    gid_t gid;
    struct net_listener *other;
    struct net_listen_options opt = {.address = unix_address, .name = "test", .serve = echo_byte};
    (void)arg;
    /* A socket file is left over from a process that was killed. */
    struct net_address a;
    CHECK(net_address_parse(unix_address, &a) == 0);
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    CHECK(fd >= 0 && bind(fd, &a.sa, a.len) == 0);
    (void)close(fd);
    atomic_store(&served, 0);
    struct net_listener *l = listen_at(unix_address, check_credentials, 0);
    CHECK(stat(unix_path(), &st) == 0 && (st.st_mode & 0777) == 0600);
    CHECK(net_listen(&opt, &other) == -EADDRINUSE);
    struct net_stream *s = connect_to(l);
    CHECK(net_recv(s, &byte, 1, RT_FOREVER) == 0);
    CHECK(atomic_load(&served) >= 1);
    net_close(s);
    net_listener_close(l);
    CHECK(stat(unix_path(), &st) < 0);
    CHECK(net_connect(unix_address, RT_FOREVER, &s) == -ENOENT);
    l = listen_at("127.0.0.1:0", echo_byte, 0);
    s = connect_to(l);
    CHECK(net_peer_credentials(s, &uid, &gid) == -ENOTSUP);
    net_close(s);
    net_listener_close(l);
}

static void unix_sockets(void **state)
{
    (void)state;
    run_on(1, unix_main);
}

static void refused_main(void *arg)
{
    char text[NET_ADDRESS_SIZE];
    struct net_stream *s;
    struct net_listener *other;
    (void)arg;
    struct net_listener *l = listen_at("127.0.0.1:0", echo_byte, 0);
    net_listener_address(l, text);
    struct net_listen_options opt = {.address = text, .name = "test", .serve = echo_byte};
    CHECK(net_listen(&opt, &other) == -EADDRINUSE);
    net_listener_stop(l);
    CHECK(net_connect(text, rt_after_ms(5000), &s) == -ECONNREFUSED);
    net_listener_close(l);
    opt.address = "nonsense";
    CHECK(net_listen(&opt, &other) == -EINVAL);
}

static void refusals(void **state)
{
    (void)state;
    run_on(1, refused_main);
}

static void exhausted_main(void *arg)
{
    struct rlimit old;
    uint8_t byte;
    (void)arg;
    struct net_listener *l = listen_at("127.0.0.1:0", echo_byte, 0);
    /* The next descriptor, and no other: it goes to the client, and none is left to accept with. */
    int next = dup(STDERR_FILENO);
    CHECK(next >= 0 && close(next) == 0);
    CHECK(getrlimit(RLIMIT_NOFILE, &old) == 0);
    struct rlimit tight = {.rlim_cur = (rlim_t)next + 1, .rlim_max = old.rlim_max};
    CHECK(setrlimit(RLIMIT_NOFILE, &tight) == 0);
    struct net_stream *s = connect_to(l);
    CHECK(net_send_copy(s, "x", 1) == 0);
    CHECK(net_recv(s, &byte, 1, rt_after_ms(50)) == -ETIMEDOUT);
    CHECK(net_listener_connections(l) == 0);
    CHECK(setrlimit(RLIMIT_NOFILE, &old) == 0);
    CHECK(net_recv(s, &byte, 1, rt_after_ms(5000)) == 1 && byte == 'x');
    net_close(s);
    net_listener_close(l);
}

/* Out of descriptors: the waiting connection is served once there are some again. */
static void exhaustion_is_survived(void **state)
{
    (void)state;
    run_on(1, exhausted_main);
}

static void addresses(void **state)
{
    static const char *const good[] = {"127.0.0.1:10809", "0.0.0.0:0", "[::1]:3260", "unix:/a/b"};
    static const bool loopback[] = {true, false, true, false};
    static const char *const bad[] = {"",        "127.0.0.1",  "127.0.0.1:",  "127.0.0.1:65536",
                                      ":1",      "::1:80",     "[::1]",       "[]:1",
                                      "unix:",   "host:1",     "127.0.0.1:x", "127.0.0.1:-1",
                                      "1.2.3:4", "[1.2.3.4]:5"};
    char text[NET_ADDRESS_SIZE];
    char path[200] = "unix:/";
    struct net_address a;
    (void)state;
    for (unsigned i = 0; i < ARRAY_LEN(good); i++) {
        assert_int_equal(net_address_parse(good[i], &a), 0);
        net_address_format(&a, text);
        assert_string_equal(text, good[i]);
        assert_int_equal(net_address_is_loopback(&a), loopback[i]);
    }
    for (unsigned i = 0; i < ARRAY_LEN(bad); i++) {
        assert_int_equal(net_address_parse(bad[i], &a), -EINVAL);
    }
    memset(path + 6, 'x', 107);
    assert_int_equal(net_address_parse(path, &a), -EINVAL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(addresses),          cmocka_unit_test(close_cancels_serving),
        cmocka_unit_test(congestion_control), cmocka_unit_test(connections_are_limited),
        cmocka_unit_test(a_listener_apart),   cmocka_unit_test(unix_sockets),
        cmocka_unit_test(refusals),           cmocka_unit_test(exhaustion_is_survived),
    };
    net_test_unix();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
