/* SPDX-License-Identifier: Apache-2.0 */
/* Mutexes between threads: exclusion, and that nobody who sleeps is forgotten. */
#include "rt/sync.h"
#include "rt_test.h"
#include <pthread.h>
#include <sched.h>

#define THREADS 4

static struct rt_mutex m;
static uint64_t number; /* under m */
static unsigned rounds;
static unsigned hold_every; /* a holder keeps it for long enough that the others go to sleep */

static void *work(void *arg)
{
    (void)arg;
    for (unsigned i = 0; i < rounds; i++) {
        rt_mutex_lock(&m);
        uint64_t seen = number;
        if (i % hold_every == 0) {
            for (volatile unsigned k = 0; k < 20000; k = k + 1) {
            }
        } else if (i % 64 == 0) {
            (void)sched_yield();
        }
        number = seen + 1;
        rt_mutex_unlock(&m);
    }
    return NULL;
}

static void contend(unsigned count, unsigned every)
{
    pthread_t t[THREADS];
    rounds = count;
    hold_every = every;
    number = 0;
    rt_mutex_init(&m);
    for (unsigned i = 0; i < THREADS; i++) {
        assert_int_equal(pthread_create(&t[i], NULL, work, NULL), 0);
    }
    for (unsigned i = 0; i < THREADS; i++) {
        assert_int_equal(pthread_join(t[i], NULL), 0);
    }
    assert_int_equal(number, (uint64_t)THREADS * count);
    rt_mutex_destroy(&m);
}

static void one_at_a_time(void **state)
{
    (void)state;
    contend(20000, 20001);
}

static void sleepers_are_woken(void **state)
{
    (void)state;
    contend(100, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_at_a_time),
        cmocka_unit_test(sleepers_are_woken),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
