/* SPDX-License-Identifier: Apache-2.0 */
/* Looking where packets come in, now and then, and choosing the core: place.h says how. */
#include "net/place.h"
#include "base/assert.h"
#include "base/time.h"
#include "net/stream.h"
#include <sys/socket.h>

#define CALLS_PER_LOOK 64u /* who receives less often is not busy */
#define LOOK_NS (4 * NS_PER_MS)
#define LOOKS_ALIKE 4u /* before it counts */
#define MOVED_NS (100 * NS_PER_MS)

static struct rt_mutex lock;
static struct net_places places; /* [lock] */

static void wish_drop(struct net_places *ps, struct net_place *p)
{
    if (!p->wishes) {
        return;
    }
    uint16_t *wished = &ps->wished[p->core][p->wish];
    uint16_t *granted = &ps->granted[p->core][p->wish];
    p->wishes = false;
    if (*wished > 0) {
        (*wished)--;
    } else {
        ASSERT(*granted > 0);
        (*granted)--;
    }
}

void net_place_forget(struct net_places *ps, struct net_place *p)
{
    wish_drop(ps, p);
    if (p->busy) {
        ps->busy[p->core]--;
        p->busy = false;
    }
}

static void count_at(struct net_places *ps, struct net_place *p, unsigned core)
{
    net_place_forget(ps, p);
    p->busy = true;
    p->core = core;
    ps->busy[core]++;
}

/* P1: there is room for one more. */
static bool has_room(const struct net_places *ps, unsigned core)
{
    unsigned all = 0;
    ASSERT(ps->cores > 0);
    for (unsigned i = 0; i < ps->cores; i++) {
        all += ps->busy[i];
    }
    unsigned share = (all + ps->cores - 1) / ps->cores;
    return ps->busy[core] <= share;
}

/* True when the stream, which wishes to, may go now. */
static bool may_go(struct net_places *ps, struct net_place *p)
{
    uint16_t *opposite = &ps->wished[p->wish][p->core];
    if (ps->granted[p->core][p->wish] > 0) {
        return true;
    }
    if (*opposite > 0) {
        (*opposite)--;
        ps->granted[p->wish][p->core]++;
        return true;
    }
    return ps->busy[p->core] > 1 && has_room(ps, p->wish);
}

/* The wish goes, and takes a grant with it where there is one. */
static void wish_use(struct net_places *ps, struct net_place *p)
{
    uint16_t *granted = &ps->granted[p->core][p->wish];
    uint16_t *wished = &ps->wished[p->core][p->wish];
    if (*granted > 0) {
        (*granted)--;
    } else {
        (*wished)--;
    }
    p->wishes = false;
}

unsigned net_place_choose(struct net_places *ps, struct net_place *p, unsigned at, unsigned best)
{
    if (!p->busy || p->core != at) {
        count_at(ps, p, at);
    }
    if (p->wishes && p->wish != best) {
        wish_drop(ps, p);
    }
    if (best == at) {
        return at;
    }
    if (!p->wishes) {
        p->wishes = true;
        p->wish = best;
        ps->wished[at][best]++;
    }
    if (!may_go(ps, p)) {
        return at;
    }
    wish_use(ps, p);
    count_at(ps, p, best);
    return best;
}

/* The one core that runs on that CPU; `otherwise` when there is none, or several. */
static unsigned core_at(int cpu, unsigned otherwise)
{
    unsigned found = otherwise;
    unsigned count = 0;
    for (unsigned i = 0; cpu >= 0 && i < rt_core_count(); i++) {
        if (rt_core_cpu(i) == cpu) {
            found = i;
            count++;
        }
    }
    return count == 1 ? found : otherwise;
}

/* Where packets come in: the core there, or the stream's own when nothing is known. */
static unsigned best_core(const struct net_stream *s)
{
    int cpu = -1;
    socklen_t len = sizeof cpu;
    if (getsockopt(s->watch.fd, SOL_SOCKET, SO_INCOMING_CPU, &cpu, &len) < 0) {
        return s->core;
    }
    return core_at(cpu, s->core);
}

unsigned (*net_place_best)(const struct net_stream *s) = best_core;

/* With the lock held: another core that is busy runs on this one's CPU. */
static bool crowded(unsigned core)
{
    int cpu = rt_core_cpu(core);
    for (unsigned i = 0; i < rt_core_count(); i++) {
        if (i != core && places.busy[i] > 0 && rt_core_cpu(i) == cpu) {
            return true;
        }
    }
    return false;
}

bool net_place_due(struct net_stream *s)
{
    struct net_place *p = &s->place;
    if (likely(++p->calls % CALLS_PER_LOOK != 0)) {
        return false;
    }
    return rt_core_count() > 1 && s->watch.fd >= 0 && !s->tls && rt_turn_ns() >= p->not_before_ns;
}

unsigned net_place(struct net_stream *s)
{
    struct net_place *p = &s->place;
    unsigned best = net_place_best(s);
    p->not_before_ns = rt_turn_ns() + LOOK_NS;
    p->looks = p->looks > 0 && best == p->seen ? p->looks + 1 : 1;
    p->seen = best;
    rt_mutex_lock(&lock);
    places.cores = rt_core_count();
    unsigned to = net_place_choose(&places, p, s->core, p->looks < LOOKS_ALIKE ? s->core : best);
    p->crowded = crowded(s->core) ? p->crowded + 1 : 0;
    rt_mutex_unlock(&lock);
    if (p->crowded >= LOOKS_ALIKE) {
        p->crowded = 0;
        (void)rt_core_apart();
    }
    if (to != s->core) {
        p->looks = 0;
        p->not_before_ns = rt_turn_ns() + MOVED_NS;
    }
    return to;
}

void net_place_idle(struct net_stream *s)
{
    if (s->place.busy) {
        rt_mutex_lock(&lock);
        net_place_forget(&places, &s->place);
        rt_mutex_unlock(&lock);
    }
    s->place.looks = 0;
}
