/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The client's fiber:
 *
 *     IDLE        no targets; waits for one
 *     CONNECT     with back-off, for ever
 *     REGISTER    all of it
 *     STAY        until the connection breaks: changes are registered as they come; all of it is
 *                 said again when a third of the registration period is over, when inquiries fail
 *                 to come, and when the server tells that something of ours was removed
 *     LEAVE       deregisters
 *
 * INVARIANTS
 *   1. `registered` is what the server was last told, and taken over only when it has said yes:
 * after a failure the difference is still there, and the next attempt says it again.
 *   2. Nothing here is waited for by anybody but isns_client_leave(), which has a deadline.
 *   3. The log has a line when the state changes or its reason does, not for each attempt.
 */
#include "base/err.h"
#include "base/msg.h"
#include "isns/client_priv.h"
#include "isns/resolve.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PERIOD_S 3600u
#define BACKOFF_MIN_MS 250u
#define BACKOFF_MAX_MS 30000u
#define LASTING_NS 10000000000ull /* so long a connection is no attempt among many */
#define PACE_MS 1000u             /* between answers to what the server tells */
#define VISIT_NS 30000000000ull   /* so long an initiator's own view is relied on */
#define DOMAINS_MS 60000u         /* not every change is told */
#define INQUIRIES_MISSED 3u       /* before we ask ourselves */

const char *isns_state_name(enum isns_state state)
{
    static const char *const names[] = {
        [ISNS_IDLE] = "idle",       [ISNS_AWAY] = "away",
        [ISNS_REFUSED] = "refused", [ISNS_REGISTERED] = "registered",
        [ISNS_LEFT] = "left",
    };
    return names[state];
}

static void be(struct isns_client *c, enum isns_state state, const char *why)
{
    rt_mutex_lock(&c->lock);
    if (c->counts.state != state) {
        c->counts.since_ns = rt_now_ns();
    }
    c->counts.state = state;
    rt_waitq_wake_all(&c->changed); /* who has waited for the server */
    (void)snprintf(c->counts.why, sizeof c->counts.why, "%s", why);
    size_t targets = c->counts.targets;
    rt_mutex_unlock(&c->lock);
    char line[sizeof c->said];
    (void)snprintf(line, sizeof line, "%s %s", isns_state_name(state), why);
    if (strcmp(line, c->said) == 0) {
        return;
    }
    memcpy(c->said, line, sizeof line);
    switch (state) {
    case ISNS_AWAY:
        msg_warn("isns", "the server %s is not reached: %s; trying again and again", c->server,
                 why);
        break;
    case ISNS_REFUSED:
        msg_warn("isns", "the server %s refuses the registration of \"%s\": %s; trying again",
                 c->server, c->entity, why);
        break;
    case ISNS_REGISTERED:
        msg_info("isns", "\"%s\" is registered with %s: %zu targets", c->entity, c->server,
                 targets);
        break;
    case ISNS_IDLE:
    case ISNS_LEFT:
        break;
    }
}

static bool is_told(const struct isns_news *n)
{
    return n->stop || n->changed || n->lost || n->domains || n->visitors;
}

/* Waits for one of these, and takes what it returns. broken: the connection's end is news, too. */
static struct isns_news wait_for_news(struct isns_client *c, uint64_t deadline_ns, bool broken)
    WAITS
{
    int r = 0;
    rt_mutex_lock(&c->lock);
    while (!is_told(&c->news) && !(broken && c->wire.broken) && r >= 0) {
        r = rt_waitq_wait(&c->changed, &c->lock, deadline_ns);
    }
    struct isns_news n = c->news;
    n.stop |= r == -ECANCELED;
    c->news = (struct isns_news){.stop = n.stop};
    rt_mutex_unlock(&c->lock);
    return n;
}

/* The time when inquiries have failed to come; RT_FOREVER when none are expected. */
static uint64_t silence_ns(struct isns_client *c)
{
    rt_mutex_lock(&c->lock);
    uint64_t esi_s = c->counts.esi_s;
    uint64_t at = c->inquired_ns + esi_s * INQUIRIES_MISSED * 1000000000ull;
    rt_mutex_unlock(&c->lock);
    return esi_s > 0 ? at : RT_FOREVER;
}

/* Registers and asks, as is due. What has not been done is still to be done: *due. 0, a status, or
 * an error. */
static int attend(struct isns_client *c, const char *local, struct isns_news *due) WAITS
{
    int r = 0;
    uint64_t now = rt_now_ns();
    if (now >= c->refresh_ns || now >= silence_ns(c)) {
        due->lost = true;
    }
    due->changed |= now >= c->names_ns;
    if (due->lost || due->changed) {
        r = isns_register(c, local, due->lost);
        due->domains |= r == 0; /* of what is new */
    }
    if (r == 0) {
        due->lost = due->changed = false;
        be(c, c->registered.nodes.len > 0 ? ISNS_REGISTERED : ISNS_IDLE, "");
    }
    if (r == 0 && c->opt.domains) {
        r = isns_ask_visitors(c);
    }
    if (r == 0 && c->opt.domains && (due->domains || now >= c->domains_ns)) {
        r = isns_ask_domains(c);
        c->domains_ns = rt_after_ms(DOMAINS_MS);
    }
    due->domains = false;
    return r;
}

static bool is_broken(struct isns_client *c)
{
    rt_mutex_lock(&c->lock);
    bool broken = c->wire.broken;
    rt_mutex_unlock(&c->lock);
    return broken;
}

static void add_news(struct isns_news *to, const struct isns_news *n)
{
    to->stop |= n->stop;
    to->changed |= n->changed;
    to->lost |= n->lost;
    to->domains |= n->domains;
}

/* Lets that time come, and what is told meanwhile be dealt with together. */
static void gather(struct isns_client *c, uint64_t until_ns, struct isns_news *due) WAITS
{
    while (!due->stop && rt_now_ns() < until_ns && !is_broken(c)) {
        struct isns_news n = wait_for_news(c, until_ns, true);
        add_news(due, &n);
    }
}

/* While connected. 0 when it is over: somebody said stop, or there are no more targets. */
static int stay(struct isns_client *c, const char *local) WAITS
{
    struct isns_news due = {.lost = true};
    for (;;) {
        int r = attend(c, local, &due);
        if (r == -ECANCELED && !rt_cancelled()) {
            return isns_deregister(c); /* told to leave in the midst of it */
        }
        if (r != 0) {
            return r;
        }
        if (c->registered.nodes.len == 0) {
            return 0;
        }
        uint64_t pace_ns = rt_after_ms(PACE_MS);
        uint64_t at = MIN_OF(c->refresh_ns, silence_ns(c));
        at = MIN_OF(at, c->names_ns);
        at = c->opt.domains ? MIN_OF(at, c->domains_ns) : at;
        struct isns_news n = wait_for_news(c, at, true);
        add_news(&due, &n);
        if (due.stop) {
            return rt_cancelled() ? -ECANCELED : isns_deregister(c);
        }
        if (is_broken(c)) {
            return -ECONNRESET;
        }
        if (n.lost || n.domains) {
            gather(c, pace_ns, &due);
        }
    }
}

static bool has_targets(struct isns_client *c)
{
    struct isns_picture p = {0};
    int r = c->opt.describe(c->opt.arg, "", &p);
    bool has = r < 0 || p.nodes.len > 0;
    isns_picture_free(&p);
    return has;
}

/*
 * One connection from its beginning to its end; as stay(). ret_worked: it was of use, and its end
 * is none to speak of, for servers close what is idle: what counts is whether the next one comes.
 */
static int connect_once(struct isns_client *c, bool *ret_worked) WAITS
{
    char local[NET_ADDRESS_SIZE];
    uint64_t before = c->counts.registrations;
    int r = isns_wire_open(c, local);
    if (r < 0) {
        return r;
    }
    r = stay(c, local);
    *ret_worked = r <= 0 && c->counts.registrations > before;
    isns_wire_close(c);
    return r;
}

static void say_failure(struct isns_client *c, int r)
{
    rt_mutex_lock(&c->lock);
    c->counts.failures++;
    rt_mutex_unlock(&c->lock);
    if (r < 0) {
        be(c, ISNS_AWAY, err_text(r));
    } else {
        be(c, ISNS_REFUSED, isns_status_text((uint32_t)r));
    }
}

static uint64_t jittered(uint64_t ms)
{
    return ms / 2 + rt_random() % (ms / 2 + 1);
}

static void run(struct isns_client *c) WAITS
{
    uint64_t backoff_ms = BACKOFF_MIN_MS;
    struct isns_news n = {0};
    while (!n.stop) {
        if (c->registered.nodes.len == 0 && !has_targets(c)) {
            be(c, ISNS_IDLE, "");
            n = wait_for_news(c, RT_FOREVER, false);
            continue;
        }
        c->terms.esi_interval_s = c->opt.esi_interval_s;
        c->terms.groups = true;
        bool worked = false;
        uint64_t began_ns = rt_now_ns();
        int r = connect_once(c, &worked);
        if (worked && rt_now_ns() - began_ns > LASTING_NS) {
            backoff_ms = BACKOFF_MIN_MS;
        }
        if (r != 0 && !worked) {
            say_failure(c, r);
        }
        uint64_t deadline_ns = r == 0 ? rt_now_ns() : rt_after_ms(jittered(backoff_ms));
        /* What changes meanwhile is no reason to try earlier. */
        do {
            n = wait_for_news(c, deadline_ns, false);
        } while (!n.stop && rt_now_ns() < deadline_ns);
        backoff_ms = MIN_OF(backoff_ms * 2, BACKOFF_MAX_MS);
    }
    be(c, ISNS_LEFT, "");
}

static void client_main(void *arg)
{
    struct isns_client *c = arg;
    run(c);
    rt_mutex_lock(&c->lock);
    c->ended = true;
    rt_waitq_wake_all(&c->changed);
    rt_mutex_unlock(&c->lock);
}

/* A look-up has ended: whoever waits for it hears of it, and what is new is registered. */
static void on_found(void *arg, bool news)
{
    struct isns_client *c = arg;
    rt_mutex_lock(&c->lock);
    c->news.changed |= news;
    rt_waitq_wake_all(&c->changed);
    rt_mutex_unlock(&c->lock);
}

static int resolve(void *arg, struct isns_lookup *l) WAITS
{
    struct isns_client *c = arg;
    return c->opt.resolve ? c->opt.resolve(c->opt.arg, l) : isns_resolve(l);
}

static struct isns_client *client_new(const struct isns_options *opt)
{
    struct isns_client *c = calloc(1, sizeof *c);
    if (!c) {
        return NULL;
    }
    c->opt = *opt;
    c->opt.period_s = opt->period_s ? opt->period_s : PERIOD_S;
    c->opt.server = NULL;
    (void)snprintf(c->entity, sizeof c->entity, "%s", opt->entity);
    c->opt.entity = c->entity;
    c->terms = (struct isns_terms){.entity = c->entity,
                                   .period_s = c->opt.period_s,
                                   .udp = opt->udp,
                                   .groups = true,
                                   .notifications = opt->notifications};
    c->fresh = true;
    rt_mutex_init(&c->lock);
    rt_waitq_init(&c->changed);
    isns_visitors_init(&c->visitors);
    c->names_ns = RT_FOREVER;
    c->server = strdup(opt->server);
    const struct isns_names_options names = {.found = on_found, .resolve = resolve, .arg = c};
    if (!c->server || isns_names_init(&c->names, &names) < 0 || rt_group_create(&c->group) < 0) {
        isns_client_free(c);
        return NULL;
    }
    return c;
}

int isns_client_start(const struct isns_options *opt, struct isns_client **ret_client)
{
    char host[ISNS_HOST_MAX + 1];
    uint16_t port;
    if (isns_server_parse(opt->server, host, &port) < 0 || !*opt->entity ||
        strlen(opt->entity) > ISNS_EID_MAX) {
        return -EINVAL;
    }
    struct isns_client *c = client_new(opt);
    if (!c) {
        return -ENOMEM;
    }
    isns_ears_open(c);
    c->opt.places = NULL; /* the caller's */
    c->opt.place_count = 0;
    int r = rt_group_spawn(c->group, "isns", client_main, c);
    if (r < 0) {
        isns_client_free(c);
        return r;
    }
    *ret_client = c;
    return 0;
}

void isns_client_changed(struct isns_client *c)
{
    if (!c) {
        return;
    }
    rt_mutex_lock(&c->lock);
    c->news.changed = true;
    rt_waitq_wake_all(&c->changed);
    rt_mutex_unlock(&c->lock);
}

bool isns_client_allows(struct isns_client *c, const char *target, const char *initiator)
{
    if (!c) {
        return true;
    }
    rt_mutex_lock(&c->lock);
    bool allows = isns_domains_allow(c->domains, target, initiator) ||
                  isns_visitors_sees(&c->visitors, initiator, target);
    rt_mutex_unlock(&c->lock);
    return allows;
}

void isns_client_meet(struct isns_client *c, const char *initiator, uint64_t deadline_ns)
{
    if (!c || !c->opt.domains) {
        return;
    }
    rt_mutex_lock(&c->lock);
    const struct isns_visitor *v = isns_visitors_find(&c->visitors, initiator);
    bool lately = v && v->told_ns > 0 && rt_now_ns() - v->told_ns < VISIT_NS;
    bool waits =
        !lately && c->counts.state == ISNS_REGISTERED && isns_visitors_ask(&c->visitors, initiator);
    if (waits) {
        c->news.visitors = true;
        rt_waitq_wake_all(&c->changed);
    }
    int r = 0;
    while (waits && r >= 0 && c->counts.state == ISNS_REGISTERED) {
        v = isns_visitors_find(&c->visitors, initiator);
        waits = v && v->asked;
        if (waits) {
            r = rt_waitq_wait(&c->changed, &c->lock, deadline_ns);
        }
    }
    rt_mutex_unlock(&c->lock);
}

bool isns_client_registers(struct isns_client *c, const char *name)
{
    rt_mutex_lock(&c->lock);
    bool found = isns_picture_find(&c->registered, name) != NULL;
    rt_mutex_unlock(&c->lock);
    return found;
}

void isns_client_leave(struct isns_client *c, uint64_t deadline_ns)
{
    int r = 0;
    if (!c) {
        return;
    }
    rt_mutex_lock(&c->lock);
    c->news.stop = true;
    rt_waitq_wake_all(&c->changed);
    while (!c->ended && r >= 0) {
        r = rt_waitq_wait(&c->changed, &c->lock, deadline_ns);
    }
    rt_mutex_unlock(&c->lock);
    rt_group_cancel(c->group);
}

void isns_client_free(struct isns_client *c)
{
    if (!c) {
        return;
    }
    if (c->group) {
        rt_group_cancel(c->group);
        rt_group_wait(c->group);
        rt_group_destroy(c->group);
    }
    isns_names_free(&c->names);
    isns_ears_close(c);
    isns_picture_free(&c->registered);
    isns_domains_free(c->domains);
    isns_visitors_free(&c->visitors);
    rt_mutex_destroy(&c->lock);
    free(c->server);
    free(c);
}

void isns_client_counts(struct isns_client *c, struct isns_counts *ret_counts)
{
    rt_mutex_lock(&c->lock);
    *ret_counts = c->counts;
    rt_mutex_unlock(&c->lock);
}
