/* SPDX-License-Identifier: Apache-2.0 */
#include "net/place.h"
#include "net_test.h"

#define STREAMS 64u

static struct net_places ps;
static struct net_place p[STREAMS];
static unsigned at[STREAMS];

static void begin(unsigned cores, unsigned streams)
{
    memset(&ps, 0, sizeof ps);
    memset(p, 0, sizeof p);
    ps.cores = cores;
    for (unsigned i = 0; i < streams; i++) {
        at[i] = i % cores;
        assert_int_equal(net_place_choose(&ps, &p[i], at[i], at[i]), at[i]);
    }
}

static unsigned ask(unsigned i, unsigned best)
{
    at[i] = net_place_choose(&ps, &p[i], at[i], best);
    return at[i];
}

static void assert_all_gone(unsigned streams)
{
    static const struct net_places none;
    for (unsigned i = 0; i < streams; i++) {
        net_place_forget(&ps, &p[i]);
    }
    ps.cores = 0;
    assert_memory_equal(&ps, &none, sizeof ps);
}

/* Two streams: whoever is alone on his core leaves it only in exchange. */
static void exchange(void **state)
{
    (void)state;
    begin(2, 2);
    assert_int_equal(ask(0, 1), 0);
    assert_int_equal(ask(0, 1), 0);
    assert_int_equal(ask(1, 0), 0);
    assert_int_equal(ask(0, 1), 1);
    assert_int_equal(ask(0, 1), 1);
    assert_int_equal(ps.busy[0], 1);
    assert_int_equal(ps.busy[1], 1);
    assert_all_gone(2);
}

/* Who changes his mind, or ends, takes his wish back. */
static void wishes_end(void **state)
{
    (void)state;
    begin(2, 2);
    assert_int_equal(ask(0, 1), 0);
    assert_int_equal(ask(0, 0), 0);
    assert_int_equal(ask(1, 0), 1);
    net_place_forget(&ps, &p[1]);
    assert_int_equal(ask(0, 1), 0);
    net_place_forget(&ps, &p[0]);
    begin(2, 2);
    assert_int_equal(ask(0, 1), 0);
    assert_int_equal(ask(1, 0), 0);
    net_place_forget(&ps, &p[0]); /* the way was granted to it */
    assert_all_gone(2);
}

/* All want to go to one core: it gets its share and one more, and no core is left empty. */
static void balance(void **state)
{
    (void)state;
    for (unsigned cores = 2; cores <= 8; cores *= 2) {
        for (unsigned streams = cores; streams <= STREAMS; streams += cores / 2) {
            begin(cores, streams);
            for (unsigned n = 0; n < 4 * streams; n++) {
                (void)ask(n % streams, 0);
                assert_true(ps.busy[0] <= (streams + cores - 1) / cores + 1);
            }
            for (unsigned i = 0; i < cores; i++) {
                assert_true(ps.busy[i] > 0);
            }
            assert_all_gone(streams);
        }
    }
}

/* With wishes that can all come true, they do. */
static void settles(void **state)
{
    (void)state;
    begin(2, 4);
    static const unsigned best[] = {1, 1, 0, 0};
    for (unsigned n = 0; n < 12; n++) {
        (void)ask(n % 4, best[n % 4]);
    }
    assert_memory_equal(at, best, sizeof best);
    assert_all_gone(4);
}

/* Whatever is asked in whatever order, counts are right and the load is bounded. */
static void any_order(void **state)
{
    (void)state;
    uint64_t x = 88172645463325252ull;
    begin(4, 16);
    for (unsigned n = 0; n < 100000; n++) {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        unsigned i = (unsigned)(x >> 20) % 16;
        if (x % 50 == 0) {
            net_place_forget(&ps, &p[i]);
            continue;
        }
        (void)ask(i, (unsigned)(x >> 40) % 4);
        unsigned busy = 0;
        for (unsigned k = 0; k < 4; k++) {
            busy += ps.busy[k];
        }
        assert_true(busy <= 16);
    }
    assert_all_gone(16);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(exchange), cmocka_unit_test(wishes_end), cmocka_unit_test(balance),
        cmocka_unit_test(settles),  cmocka_unit_test(any_order),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
