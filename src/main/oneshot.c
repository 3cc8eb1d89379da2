/* SPDX-License-Identifier: Apache-2.0 */
/*
 * "Who may open" (docs/ARCHITECTURE.md): a one-shot command asks the live server through the admin
 * socket; when none listens it takes the lock of the cache folder and opens the volume itself.
 */
#include "base/err.h"
#include "base/msg.h"
#include "base/time.h"
#include "ctl/access.h"
#include "ctl/admin.h"
#include "main/commands.h"
#include "main/volume.h"
#include "rt/rt.h"
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define ONESHOT_MEMORY (128ull << 20)
#define LOCK_WAIT_MS 15000 /* others before us may each have a password to try */
#define LOCK_POLL_MS 50
#define WATCH_MS 500

struct oneshot {
    const struct config *config;
    const struct crypt_access *access; /* NULL: the volume is not encrypted */
    const json_t *request;
    bool takes_over;
    const struct args *args;
    struct ops ops;
    json_t *response;
};

/* mkdir -p, the last folder private. */
static int make_folder(const char *path)
{
    auto_free char *copy = strdup(path);
    if (!copy) {
        return -ENOMEM;
    }
    for (char *slash = strchr(copy + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
        *slash = 0;
        if (mkdir(copy, 0755) < 0 && errno != EEXIST) {
            return -errno;
        }
        *slash = '/';
    }
    return mkdir(copy, 0700) < 0 && errno != EEXIST ? -errno : 0;
}

int command_lock(const struct config *c)
{
    int r = make_folder(c->cache.dir);
    if (r < 0) {
        return r;
    }
    char *path = NULL;
    if (asprintf(&path, "%s/lock", c->cache.dir) < 0) {
        return -ENOMEM;
    }
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    r = fd < 0 ? -errno : 0;
    free(path);
    if (fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) < 0) {
        r = -errno;
        (void)close(fd);
    }
    return r < 0 ? r : fd;
}

int command_registry(const struct config *c, struct vol *v, struct dev_registry **ret_registry)
{
    auto_free char *path = NULL;
    if (asprintf(&path, "%s/witness", c->cache.dir) < 0) {
        return -ENOMEM;
    }
    return dev_registry_open(v, path, ret_registry);
}

/* True for the requests that make a volume where there is none. */
static bool creates(const json_t *request)
{
    const char *op = json_string_value(json_object_get(request, "op"));
    return op && (strcmp(op, "nbd.create") == 0 || strcmp(op, "iscsi.create-target") == 0 ||
                  strcmp(op, "iscsi.apply") == 0);
}

static json_t *open_failure(const struct oneshot *s, int r)
{
    const char *url = s->config->storage.url;
    if (r == ERR_OPEN_ELSEWHERE) {
        return ops_failure(
            OPS_HELD,
            "the volume at %s was not closed by its last owner (named above), which may "
            "still be running: stop it there, or say --takeover",
            url);
    }
    if (r == ERR_NOT_A_VOLUME) {
        return ops_failure(
            OPS_NOT_FOUND,
            "there is no volume at %s yet: `zerofs nbd create`, `zerofs iscsi create-target` "
            "and `zerofs run` make one",
            url);
    }
    return ops_failure(ops_exit_of_error(r), "the volume at %s cannot be opened: %s (%s)", url,
                       err_text(r), err_name(r));
}

/* The volume itself stays closed: its keys are enough. */
static bool needs_keys_only(const json_t *request)
{
    const char *op = json_string_value(json_object_get(request, "op"));
    return op && strcmp(op, "change-password") == 0;
}

static int open_volume(struct oneshot *s)
{
    struct volume_options opt = {
        .config = s->config,
        .access = s->access,
        .takeover = s->takes_over,
        .creates = creates(s->request),
        .keys_only = needs_keys_only(s->request),
        .memory_bytes = ONESHOT_MEMORY,
        .oneshot = true,
    };
    return volume_open(&opt, &s->ops);
}

/*
 * Reads give up by themselves when the store is away; what is to be stored is sent until it is
 * (I1). A command has no time for that, and ends as if it had been killed, which harms nothing.
 */
static void watch(void *arg)
{
    struct oneshot *s = arg;
    while (!s->ops.store || !obj_is_given_up(s->ops.store)) {
        if (rt_sleep_ms(WATCH_MS) < 0) {
            return;
        }
    }
    json_t *failure =
        ops_failure(OPS_STORE,
                    "the store at %s has been away for %llu s: it is not known "
                    "whether this was done",
                    s->config->storage.url, (unsigned long long)(obj_away_ms(s->ops.store) / 1000));
    const char *op = json_string_value(json_object_get(s->request, "op"));
    _exit(failure ? command_show(op, s->args, failure) : OPS_STORE);
}

static void work(void *arg)
{
    struct oneshot *s = arg;
    int r = obj_open_with(s->config->storage.url, &s->config->store, &s->ops.store);
    if (r < 0) {
        s->response = open_failure(s, r);
        return;
    }
    struct rt_group *watcher = NULL;
    if (rt_group_create(&watcher) == 0) {
        (void)!rt_group_spawn(watcher, "watch", watch, s); /* without it, it takes as long */
    }
    r = open_volume(s);
    if (r < 0) {
        s->response = open_failure(s, r);
    } else {
        rt_lock_init(&s->ops.one, RT_RANK_ADMIN);
        r = s->ops.vol ? command_registry(s->config, s->ops.vol, &s->ops.registry) : 0;
        s->response = r < 0 ? open_failure(s, r) : ops_run(&s->ops, s->request);
        dev_registry_close(s->ops.registry);
        rt_lock_destroy(&s->ops.one);
    }
    r = volume_close(&s->ops);
    if (s->response && r < 0 && ops_exit_of(s->response) == OPS_OK) {
        json_decref(s->response);
        s->response =
            ops_failure(ops_exit_of_error(r), "closing the volume failed: %s", err_text(r));
    }
    if (watcher) {
        rt_group_cancel(watcher);
        rt_group_wait(watcher);
        rt_group_destroy(watcher);
    }
}

static bool nobody_listens(int r)
{
    return r == -ENOENT || r == -ECONNREFUSED;
}

/* Asks the server, or takes the lock: 1 = answered, 0 = locked, negative = neither. */
static int reach(const struct config *c, const json_t *request, json_t **ret_response,
                 int *ret_lock)
{
    uint64_t give_up = time_monotonic_ns() + LOCK_WAIT_MS * NS_PER_MS;
    for (;;) {
        int r = admin_ask(c->admin.unix_socket, request, ret_response);
        if (r == 0) {
            return 1;
        }
        if (!nobody_listens(r)) {
            return r;
        }
        *ret_lock = command_lock(c);
        if (*ret_lock >= 0) {
            return 0;
        }
        if (*ret_lock != -EWOULDBLOCK || time_monotonic_ns() > give_up) {
            return *ret_lock;
        }
        /* A server that starts or stops holds the lock before and after it listens. */
        (void)poll(NULL, 0, LOCK_POLL_MS);
    }
}

json_t *oneshot_run(struct config *c, const json_t *request, bool takes_over, const struct args *a)
{
    json_t *response = NULL;
    int lock = -1;
    int r = reach(c, request, &response, &lock);
    if (r > 0) {
        return response;
    }
    if (r == -EWOULDBLOCK) {
        return ops_failure(OPS_HELD, "another zerofs holds %s/lock and does not answer on %s",
                           c->cache.dir, c->admin.unix_socket);
    }
    if (r < 0) {
        return ops_failure(OPS_FAILED,
                           "neither the server at %s nor the lock in %s can be reached: %s",
                           c->admin.unix_socket, c->cache.dir, err_text(r));
    }
    if (strncmp(c->storage.url, "memory:", 7) == 0) {
        (void)close(lock);
        return ops_failure(OPS_REFUSED,
                           "the volume at %s lives in the memory of the server, and none runs: "
                           "start `zerofs run` first",
                           c->storage.url);
    }
    struct oneshot s = {
        .config = c,
        .request = request,
        .takes_over = takes_over,
        .args = a,
        .ops = {.url = c->storage.url, .owner = c->storage.owner, .memory_bytes = ONESHOT_MEMORY},
    };
    struct crypt_access secret;
    r = volume_access(c, &secret, &s.access);
    if (r < 0) {
        (void)close(lock);
        return ops_failure(OPS_CONFIG, "what [encryption] names does not open a volume");
    }
    r = rt_run(&(struct rt_options){.cores = 1}, work, &s);
    access_wipe(&secret);
    (void)close(lock);
    return r < 0 ? ops_failure(OPS_FAILED, "the runtime does not start: %s", err_text(r))
                 : s.response;
}
