/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `zerofs run`: from config to ready line, and from SIGTERM to a clean end.
 *
 *     LOCK -> OPEN -> LISTEN -> ready ... SIGTERM -> DRAIN -> CLOSE -> end
 *
 * DRAIN and CLOSE together have 10 s. When they are over, what is not durable yet is named, and the
 * process ends with OPS_STORE: the volume is as kill -9 would leave it, every acknowledged flush in
 * it.
 */
#include "base/err.h"
#include "base/msg.h"
#include "base/time.h"
#include "ctl/access.h"
#include "ctl/admin.h"
#include "ctl/version.h"
#include "main/commands.h"
#include "main/notify.h"
#include "main/volume.h"
#include "rt/offload.h"
#include "rt/rt.h"
#include "rt/sync.h"
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#define DRAIN_MS 10000
#define DRAIN_CLIENTS_MS 5000

struct serve {
    struct config *config;
    struct crypt_access secret;
    const struct crypt_access *access; /* the secret, until the volume is open */
    struct ops ops;
    struct admin *admin;
    struct rt_event stop;
    struct rt_group *dog; /* the fiber that keeps the time limit of stopping */
    bool ready;           /* from the ready line on, until stopping begins */
    bool stopping;
    bool fenced;
    int exit_code;
};

static struct serve *serving; /* for signals */

static void on_fenced(void *arg)
{
    struct serve *s = arg;
    const char *why = s->ops.vol && vol_has_failed(s->ops.vol)
                          ? "the volume cannot go on"
                          : "another writer has taken over the volume";
    msg_error("main", "%s: nothing more is acknowledged, stopping", why);
    s->fenced = true;
    rt_event_set(&s->stop);
}

struct load {
    const char *path;
    struct config *config;
};

static int load_job(void *arg)
{
    struct load *l = arg;
    return config_load(l->path, stderr, &l->config);
}

/*
 * Takes over what may change while the server runs, and says what may not. The file is read on a
 * thread: it may lie on a slow disk, and a parser of TOML needs more stack than a fiber has.
 */
static void reload(struct serve *s)
{
    struct load job = {.path = s->config->path};
    int r = rt_offload(RT_OFFLOAD_IO, load_job, &job);
    struct config *fresh = job.config;
    if (r < 0 || !s->ready) {
        config_free(fresh);
        if (r < 0) {
            msg_error("main", "%s is not taken: mend it and send SIGHUP again", s->config->path);
        }
        return;
    }
    unsigned fixed = config_report_fixed(s->config, fresh, stderr);
    msg_level_set(fresh->runtime.log_level);
    vol_compression_set(s->ops.vol, fresh->filesystem.compression);
    if (s->ops.iscsi) {
        const char *const *list = (const char *const *)fresh->iscsi.advertise.at;
        if (iscsi_advertise_set(s->ops.iscsi, list, fresh->iscsi.advertise.count) < 0) {
            msg_error("main", "the advertised addresses were not taken");
        }
        iscsi_chap_minimum_set(s->ops.iscsi, fresh->iscsi.chap_minimum);
    }
    msg_info("main", "%s read again; %u changes wait for the next start", s->config->path, fixed);
    config_free(fresh);
}

static void watchdog(void *arg)
{
    struct serve *s = arg;
    if (rt_sleep_ms(DRAIN_MS) < 0) {
        return;
    }
    struct vol_counts counts = {0};
    if (s->ops.vol) {
        vol_counts(s->ops.vol, &counts);
    }
    msg_error("main",
              "not stopped within %d s: %llu bytes that no flush has covered are not stored",
              DRAIN_MS / 1000, (unsigned long long)counts.undurable_bytes);
    _exit(s->fenced ? OPS_HELD : OPS_STORE);
}

/* Says what an outage holds back, before it is waited for. */
static void say_outage(struct serve *s)
{
    uint64_t away_ms = s->ops.store ? obj_away_ms(s->ops.store) : 0;
    if (away_ms == 0 || !s->ops.vol) {
        return;
    }
    struct vol_counts counts;
    vol_counts(s->ops.vol, &counts);
    msg_warn("main",
             "the store has been away for %llu s and %llu bytes are not stored yet: trying for "
             "another %d s",
             (unsigned long long)(away_ms / 1000), (unsigned long long)counts.undurable_bytes,
             DRAIN_MS / 1000);
}

/* The time limit counts from here on, also when the server is still starting. */
static void begin_stop(struct serve *s)
{
    if (s->stopping) {
        return;
    }
    s->stopping = true;
    s->ready = false;
    if (!s->dog || rt_group_spawn(s->dog, "watchdog", watchdog, s) < 0) {
        msg_warn("main", "no fiber left for the time limit");
    }
}

static void on_signal(int signal_number)
{
    if (signal_number == SIGHUP) {
        if (serving->ready) {
            reload(serving);
        }
        return;
    }
    if (serving->stopping) {
        msg_warn("main", "already stopping");
        return;
    }
    msg_info("main", "%s: stopping", signal_number == SIGTERM ? "SIGTERM" : "SIGINT");
    begin_stop(serving);
    rt_event_set(&serving->stop);
}

static int open_volume(struct serve *s)
{
    const struct config *c = s->config;
    int r = obj_open_with(c->storage.url, &c->store, &s->ops.store);
    if (r < 0) {
        return r;
    }
    struct volume_options opt = {
        .config = c,
        .access = s->access,
        .takeover = true,
        .creates = true,
        .memory_bytes = c->cache.memory_bytes,
    };
    r = volume_open(&opt, &s->ops);
    s->access = NULL;
    access_wipe(&s->secret);
    if (r == 0) {
        vol_on_fenced(s->ops.vol, on_fenced, s);
        r = command_registry(s->config, s->ops.vol, &s->ops.registry);
    }
    return r;
}

static int start_nbd(struct serve *s)
{
    const struct config *c = s->config;
    if (!c->nbd.enabled) {
        return 0;
    }
    struct nbd_options opt = {
        .registry = s->ops.registry,
        .addresses = (const char *const *)c->nbd.addresses.at,
        .address_count = c->nbd.addresses.count,
        .unix_socket = c->nbd.unix_socket,
        .tls = c->nbd.tls,
        .tls_files = {.cert_file = c->nbd.cert,
                      .key_file = c->nbd.key,
                      .ca_file = c->nbd.ca,
                      .verify_client = c->nbd.ca != NULL},
        .extended_headers = c->nbd.extended_headers,
    };
    return nbd_start(&opt, &s->ops.nbd);
}

static int start_iscsi(struct serve *s)
{
    const struct config *c = s->config;
    if (!c->iscsi.enabled) {
        return 0;
    }
    struct iscsi_isns_options isns = {
        .server = c->iscsi.isns.server,
        .entity = c->iscsi.isns.entity,
        .period_s = c->iscsi.isns.period_s,
        .esi_interval_s = c->iscsi.isns.esi_interval_s,
        .port = (uint16_t)c->iscsi.isns.port,
        .udp = c->iscsi.isns.udp,
        .domains = c->iscsi.isns.domains,
        .notifications = c->iscsi.isns.notifications,
    };
    struct iscsi_options opt = {
        .registry = s->ops.registry,
        .isns = isns.server ? &isns : NULL,
        .addresses = (const char *const *)c->iscsi.addresses.at,
        .address_count = c->iscsi.addresses.count,
        .advertise = (const char *const *)c->iscsi.advertise.at,
        .advertise_count = c->iscsi.advertise.count,
        .chap_minimum = c->iscsi.chap_minimum,
        .keytab = c->iscsi.keytab,
        .principal = c->iscsi.principal,
        .connections_max = c->iscsi.session_connections,
        .recovery = c->iscsi.error_recovery,
    };
    return iscsi_start(&opt, &s->ops.iscsi);
}

static int start(struct serve *s)
{
    int r = open_volume(s);
    if (r < 0) {
        msg_error("main", "the volume at %s cannot be opened: %s (%s)", s->config->storage.url,
                  err_text(r), err_name(r));
        s->exit_code = (int)ops_exit_of_error(r);
        return r;
    }
    r = start_nbd(s);
    if (r == 0) {
        r = start_iscsi(s);
    }
    if (r == 0) {
        r = admin_start(s->config->admin.unix_socket, &s->ops, &s->admin);
    }
    if (r < 0) {
        s->exit_code = OPS_FAILED;
    }
    return r;
}

static void print_ready(struct serve *s)
{
    const struct config *c = s->config;
    char address[NET_ADDRESS_SIZE];
    printf("zerofs %s ready: volume %s\n", ZEROFS_VERSION, c->storage.url);
    size_t listeners = c->nbd.addresses.count + (c->nbd.unix_socket != NULL);
    for (size_t i = 0; s->ops.nbd && i < listeners && nbd_address(s->ops.nbd, i, address) == 0;
         i++) {
        printf("  nbd    %s\n", address);
    }
    for (size_t i = 0; s->ops.iscsi && i < c->iscsi.addresses.count; i++) {
        if (iscsi_address(s->ops.iscsi, i, address) == 0) {
            printf("  iscsi  %s\n", address);
        }
    }
    printf("  admin  %s\n", c->admin.unix_socket);
    (void)fflush(stdout);
    notify_send("READY=1\nSTATUS=serving\n");
}

static void drain_iscsi(void *arg)
{
    struct serve *s = arg;
    const struct config_list *to = &s->config->iscsi.drain_redirect;
    iscsi_drain(s->ops.iscsi, to->count > 0 ? to->at[0] : NULL, rt_after_ms(DRAIN_CLIENTS_MS));
}

static void drain(struct serve *s)
{
    struct rt_group *g = NULL;
    notify_send("STOPPING=1\nSTATUS=draining\n");
    if (rt_group_create(&g) == 0 && s->ops.iscsi &&
        rt_group_spawn(g, "drain-iscsi", drain_iscsi, s) < 0) {
        msg_warn("main", "iSCSI sessions are not asked to log out: no fiber left");
    }
    if (s->ops.nbd) {
        nbd_drain(s->ops.nbd, rt_after_ms(DRAIN_CLIENTS_MS));
    }
    if (g) {
        rt_group_wait(g);
        rt_group_destroy(g);
    }
}

static void stop(struct serve *s)
{
    say_outage(s);
    /* Who is fenced has nothing to offer: its clients shall look for the other server at once. */
    if (!s->fenced) {
        drain(s);
    }
    iscsi_close(s->ops.iscsi);
    nbd_close(s->ops.nbd);
    admin_stop(s->admin); /* whoever asks asks these two */
    iscsi_stop(s->ops.iscsi);
    nbd_stop(s->ops.nbd);
    dev_registry_close(s->ops.registry);
    int r = volume_close(&s->ops);
    if (r < 0 && s->exit_code == OPS_OK) {
        msg_error("main", "closing the volume failed: %s (%s)", err_text(r), err_name(r));
        s->exit_code = (int)ops_exit_of_error(r);
    }
}

static void serve_main(void *arg)
{
    struct serve *s = arg;
    static const int signals[] = {SIGTERM, SIGINT, SIGHUP};
    rt_lock_init(&s->ops.one, RT_RANK_ADMIN);
    rt_event_init(&s->stop);
    serving = s;
    int r = rt_group_create(&s->dog);
    if (r == 0) {
        r = rt_signals_watch(signals, ARRAY_LEN(signals), on_signal);
    }
    if (r == 0) {
        r = start(s);
    }
    if (r == 0 && !s->stopping) {
        s->ops.started_ns = time_wall_ns();
        s->ready = true;
        obj_outlast(s->ops.store);
        print_ready(s);
        r = rt_event_wait(&s->stop, RT_FOREVER);
    }
    if (r < 0 && s->exit_code == OPS_OK) {
        msg_error("main", "not started: %s (%s)", err_text(r), err_name(r));
        s->exit_code = OPS_FAILED;
    }
    begin_stop(s);
    if (s->fenced) {
        s->exit_code = OPS_HELD;
    }
    stop(s);
    if (s->dog) {
        rt_group_cancel(s->dog);
        rt_group_wait(s->dog);
        rt_group_destroy(s->dog);
    }
    rt_event_destroy(&s->stop);
    rt_lock_destroy(&s->ops.one);
    if (s->exit_code == OPS_OK && r == 0) {
        msg_info("main", "stopped; everything is stored");
    }
}

/* Descriptors up to the hard limit; few malloc arenas, so that what is freed is used again by all
 * threads. */
static void tune_process(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
        limit.rlim_cur = limit.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &limit);
    }
    (void)mallopt(M_ARENA_MAX, 2);
    (void)mallopt(M_TRIM_THRESHOLD, 4 << 20);
    (void)mallopt(M_MMAP_THRESHOLD, 1 << 20); /* setting the other has fixed it at 128 KiB */
}

int command_run(const struct args *a)
{
    struct serve s = {0};
    s.config = command_config(a, &s.exit_code);
    if (!s.config) {
        return s.exit_code;
    }
    s.exit_code = OPS_OK;
    msg_level_set(s.config->runtime.log_level);
    s.ops.url = s.config->storage.url;
    s.ops.owner = s.config->storage.owner;
    s.ops.memory_bytes = s.config->cache.memory_bytes;
    int lock = command_lock(s.config);
    if (lock < 0) {
        fprintf(stderr, "zerofs: %s/lock: %s\n", s.config->cache.dir,
                lock == -EWOULDBLOCK ? "another zerofs is running" : err_text(lock));
        config_free(s.config);
        return lock == -EWOULDBLOCK ? OPS_HELD : OPS_FAILED;
    }
    tune_process();
    if (volume_access(s.config, &s.secret, &s.access) < 0) {
        (void)close(lock);
        config_free(s.config);
        return OPS_CONFIG;
    }
    int r = rt_run(&(struct rt_options){.cores = s.config->runtime.cores}, serve_main, &s);
    if (r < 0) {
        fprintf(stderr, "zerofs: the runtime does not start: %s\n", err_text(r));
        s.exit_code = OPS_FAILED;
    }
    access_wipe(&s.secret);
    (void)close(lock);
    config_free(s.config);
    return s.exit_code;
}
