/* SPDX-License-Identifier: Apache-2.0 */
#include "obj/outage.h"
#include "base/err.h"
#include "base/msg.h"
#include "base/time.h"
#include "rt/rt.h"
#include <inttypes.h>

#define SAY_EVERY_NS (60 * NS_PER_S)

void obj_outage_init(struct obj_outage *o)
{
    rt_mutex_init(&o->m);
    atomic_init(&o->is_out, false);
    o->since_ns = 0;
    o->said_ns = 0;
    o->said = false;
    o->of_puts = false;
    atomic_init(&o->put_ns, 0);
    o->failures = 0;
}

void obj_outage_destroy(struct obj_outage *o)
{
    rt_mutex_destroy(&o->m);
}

void obj_outage_failed(struct obj_outage *o, const struct obj_failure *f)
{
    uint64_t now = rt_now_ns();
    if (f->put_since_ns > 0 && atomic_load(&o->put_ns) > f->put_since_ns) {
        return; /* it was overtaken: on an idle server nothing would end its outage */
    }
    rt_mutex_lock(&o->m);
    if (!atomic_load(&o->is_out)) {
        atomic_store(&o->is_out, true);
        o->since_ns = now;
        o->failures = 0;
        o->said = false;
    }
    o->of_puts |= f->put_since_ns > 0;
    o->failures++;
    uint64_t failures = o->failures;
    uint64_t away_s = (now - o->since_ns) / NS_PER_S;
    bool say = o->said_ns == 0 || now - o->said_ns >= SAY_EVERY_NS;
    bool begins = !o->said;
    if (say) {
        o->said_ns = now;
        o->said = true;
    }
    rt_mutex_unlock(&o->m);

    if (!say) {
        return;
    }
    const char *detail = f->detail ? f->detail : "";
    const char *colon = *detail ? ": " : "";
    const char *text = err_text(f->error);
    const char *name = err_name(f->error);
    if (begins) {
        msg_warn("obj", "%s: %s (%s%s%s)%s", f->what, text, name, colon, detail,
                 f->is_answered ? "" : "; trying again until it works");
    } else {
        msg_warn("obj",
                 "%s: still failing after %" PRIu64 " s and %" PRIu64 " requests: %s (%s%s%s)",
                 f->what, away_s, failures, text, name, colon, detail);
    }
}

void obj_outage_ended(struct obj_outage *o, bool is_put)
{
    if (is_put) {
        atomic_store(&o->put_ns, rt_now_ns());
    }
    if (!atomic_load_explicit(&o->is_out, memory_order_relaxed)) {
        return;
    }
    rt_mutex_lock(&o->m);
    bool ends = atomic_load(&o->is_out) && (is_put || !o->of_puts);
    if (ends) {
        atomic_store(&o->is_out, false);
        o->of_puts = false;
    }
    bool say = ends && o->said;
    uint64_t away_ms = (rt_now_ns() - o->since_ns) / NS_PER_MS;
    uint64_t failures = o->failures;
    rt_mutex_unlock(&o->m);
    if (say) {
        msg_info("obj",
                 "the store answers again after %" PRIu64 ".%03" PRIu64 " s and %" PRIu64
                 " failed requests",
                 away_ms / 1000, away_ms % 1000, failures);
    }
}

uint64_t obj_outage_ms(struct obj_outage *o)
{
    rt_mutex_lock(&o->m);
    uint64_t ns = atomic_load(&o->is_out) ? rt_now_ns() - o->since_ns : 0;
    rt_mutex_unlock(&o->m);
    return ns > 0 ? MAX_OF(ns / NS_PER_MS, 1u) : 0;
}
