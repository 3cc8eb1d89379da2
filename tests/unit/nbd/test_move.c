/* SPDX-License-Identifier: Apache-2.0 */
/* Connections that change cores under load. All streams of the server want to be elsewhere, always,
 * and so change places again and again. */
#include "nbd/client.h"
#include "net/stream.h"

#define CLIENTS 4u
#define PART (1u << 20)
#define MOVES_WANTED 3u /* of each of two connections at least */

static unsigned (*kernels_best)(const struct net_stream *s);
static _Atomic bool enough;
static struct client clients[CLIENTS];
static _Atomic unsigned done;

/* Who was seen where, on the core itself. */
static struct rt_mutex seen_lock;
static struct seen {
    const struct net_stream *s;
    unsigned core;
    unsigned moves;
} seen[CLIENTS];

static void look(const struct net_stream *s)
{
    unsigned moved = 0;
    rt_mutex_lock(&seen_lock);
    for (unsigned i = 0; i < CLIENTS; i++) {
        if (!seen[i].s) {
            seen[i] = (struct seen){.s = s, .core = s->core};
        }
        if (seen[i].s == s) {
            seen[i].moves += seen[i].core != s->core;
            seen[i].core = s->core;
            break;
        }
    }
    for (unsigned i = 0; i < CLIENTS; i++) {
        moved += seen[i].moves >= MOVES_WANTED;
    }
    rt_mutex_unlock(&seen_lock);
    if (moved >= 2) {
        atomic_store(&enough, true);
    }
}

static unsigned elsewhere(const struct net_stream *s)
{
    assert_int_equal(s->core, rt_core_self());
    look(s);
    return (s->core + 1) % rt_core_count();
}

/* Writes and reads its own part of the device, until there were moves enough. */
static void work(void *arg)
{
    struct client *k = arg;
    unsigned which = (unsigned)(k - clients);
    uint8_t data[1024];
    uint8_t back[1024];
    uint64_t off;
    enter(k, NBD_MODE_SIMPLE);
    for (unsigned n = 0; !atomic_load(&enough); n++) {
        uint64_t at = which * PART + n % 256 * 4096;
        memset(data, (int)(n + which), sizeof data);
        assert_int_equal(do_write(k, 0, at, data, sizeof data), NBD_OK);
        request(k, NBD_CMD_READ, 0, at, sizeof data);
        assert_int_equal(simple(k, &off), NBD_OK);
        assert_int_equal(off, at);
        get(k, back, sizeof back);
        assert_memory_equal(back, data, sizeof data);
    }
    atomic_fetch_add(&done, 1);
}

static void start(void)
{
    atomic_store(&enough, false);
    atomic_store(&done, 0);
    memset(seen, 0, sizeof seen);
    rt_mutex_init(&seen_lock);
    kernels_best = net_place_best;
    net_place_best = elsewhere;
    server_up(&(struct nbd_options){0});
    for (unsigned i = 0; i < CLIENTS; i++) {
        assert_int_equal(rt_spawn("client", work, &clients[i]), 0);
    }
    while (atomic_load(&done) < CLIENTS) {
        assert_int_equal(rt_sleep_ms(1), 0);
    }
}

static void stop(void)
{
    server_down();
    net_place_best = kernels_best;
    assert_int_equal(rt_mem_used(RT_MEM_CONNECTIONS), 0);
}

/* They say goodbye, or just go. */
static void clients_leave_body(void *arg)
{
    (void)arg;
    start();
    for (unsigned i = 0; i < CLIENTS; i++) {
        if (i % 2 == 0) {
            request(&clients[i], NBD_CMD_DISC, 0, 0, 0);
            assert_closed(&clients[i]);
        }
        hang_up(&clients[i]);
    }
    stop();
}

/* The listener reaches its connections wherever they are. */
static void server_stops_body(void *arg)
{
    (void)arg;
    start();
    nbd_stop(server);
    server = NULL;
    for (unsigned i = 0; i < CLIENTS; i++) {
        assert_closed(&clients[i]);
        hang_up(&clients[i]);
    }
    stop();
}

/* So does the end of the device. */
static void device_goes_body(void *arg)
{
    struct dev *d;
    (void)arg;
    start();
    assert_int_equal(dev_find_nbd(reg, "disk", &d), 0);
    assert_int_equal(dev_delete(reg, d, true), 0);
    dev_unref(d);
    for (unsigned i = 0; i < CLIENTS; i++) {
        assert_closed(&clients[i]);
        hang_up(&clients[i]);
    }
    stop();
}

#define BODY2(name)                                                                                \
    static void name(void **state)                                                                 \
    {                                                                                              \
        (void)state;                                                                               \
        run_on(name##_body, 2);                                                                    \
    }

BODY2(clients_leave)
BODY2(server_stops)
BODY2(device_goes)

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(clients_leave),
                                       cmocka_unit_test(server_stops),
                                       cmocka_unit_test(device_goes)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
