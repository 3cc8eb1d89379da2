/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is found out before a volume is trusted to a store. When it is opened, which touches
 * nothing:
 *
 *     what is absent is said to be absent     GET of a name that nobody has
 *
 * Before it is written to, and so after the password was found good, with a few small objects that
 * are removed again:
 *
 *     a name is given once only               PUT, PUT of other bytes under the same name
 *     what was put is read, and is listed     GET, LIST
 *     nobody else deletes or keeps objects    the bucket's versioning and life-cycle (warnings)
 *
 * The names are random, and begin with the time, so that a probe that was killed leaves an object
 * that a later one knows to be old.
 */
#include "base/err.h"
#include "base/msg.h"
#include "base/time.h"
#include "obj/s3_priv.h"
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define GETS 2
#define NAME_SIZE 80
#define STALE_S 86400u
#define PATIENCE_MS 30000u
#define BACKOFF_FIRST_MS 100u
#define BACKOFF_MAX_MS 3000u
#define STALE_MAX 100u

struct probe {
    struct s3_store *t;
    uint64_t deadline_ns;
    char name[NAME_SIZE];
    bool said_away;
};

static void make_name(char ret_name[NAME_SIZE])
{
    uint64_t random[2];
    rt_random_bytes(random, sizeof random);
    (void)snprintf(ret_name, NAME_SIZE, S3_PROBE_PREFIX "%010" PRIx64 "-%016" PRIx64 "%016" PRIx64,
                   (uint64_t)(time_wall_ns() / NS_PER_S), random[0], random[1]);
}

static const char *last_error(struct probe *p, char text[S3_WHY_SIZE])
{
    p->t->base.ops->last_error(&p->t->base, text, S3_WHY_SIZE);
    return text;
}

/* True when the request is to be sent again, after a pause. */
static bool again(struct probe *p, ssize_t r, uint64_t *backoff_ms)
{
    char why[S3_WHY_SIZE];
    if (r >= 0 || !obj_error_passes((int)r) || rt_now_ns() >= p->deadline_ns) {
        return false;
    }
    if (!p->said_away) {
        p->said_away = true;
        msg_warn("obj", "the store does not answer as it should: %s; trying for %u s",
                 last_error(p, why), PATIENCE_MS / 1000);
    }
    uint64_t ms = *backoff_ms;
    *backoff_ms = MIN_OF(ms * 2, (uint64_t)BACKOFF_MAX_MS);
    return rt_sleep_ms(ms / 2 + rt_random() % (ms / 2 + 1)) == 0;
}

static int put(struct probe *p, const char *name, const char *text)
{
    struct rt_chain body = {0};
    uint64_t backoff_ms = BACKOFF_FIRST_MS;
    int r = rt_chain_add(&body, NULL, text, (uint32_t)strlen(text));
    if (r < 0) {
        return r;
    }
    do {
        r = p->t->base.ops->put(&p->t->base, OBJ_INDEX, name, &body);
    } while (again(p, r, &backoff_ms));
    rt_chain_free(&body);
    return r;
}

static ssize_t get(struct probe *p, const char *name, char *dst, size_t len)
{
    uint64_t backoff_ms = BACKOFF_FIRST_MS;
    ssize_t n;
    do {
        n = p->t->base.ops->get(&p->t->base, OBJ_INDEX, name, 0, dst, len);
    } while (again(p, n, &backoff_ms));
    return n;
}

static int list(struct probe *p, struct obj_names *ret_names)
{
    uint64_t backoff_ms = BACKOFF_FIRST_MS;
    int r;
    do {
        obj_names_free(ret_names);
        r = p->t->base.ops->list(&p->t->base, OBJ_INDEX, S3_PROBE_PREFIX, "", SIZE_MAX, ret_names);
    } while (again(p, r, &backoff_ms));
    return r;
}

/* The reason in one line, and the error. */
static int refuse(struct probe *p, const char *what, int r)
{
    char why[S3_WHY_SIZE];
    msg_error("obj", "s3://%s/%s: %s (%s)", p->t->bucket, p->t->prefix, what, last_error(p, why));
    return r;
}

static int refuse_overwriting(struct probe *p, const char *how)
{
    msg_error("obj",
              "s3://%s/%s: the store does not honour put-if-absent (If-None-Match: *)%s: a second "
              "server could overwrite what is acknowledged here. [aws] conditional_put = "
              "\"unsafe-single-writer\" permits that where there is certainly one server only",
              p->t->bucket, p->t->prefix, how);
    return -ENOTSUP;
}

/* Whether the condition may be what is refused: a store that is out of order does not say 400. */
static bool may_be_condition(struct s3_store *t, int r)
{
    rt_mutex_lock(&t->m);
    long status = t->last_status;
    rt_mutex_unlock(&t->m);
    return r == -ENOTSUP || r == -EINVAL || (r == -EIO && status == 400);
}

/* Some stores refuse the condition itself, each in its own words: then it is taken without. */
static int refuse_put(struct probe *p, int r)
{
    char why[S3_WHY_SIZE];
    char how[S3_WHY_SIZE + 32];
    struct rt_chain body = {0};
    if (r == -ESTALE) {
        return refuse(p, "there is no such bucket", r);
    }
    (void)snprintf(how, sizeof how, ", but answers \"%s\"", last_error(p, why));
    bool is_condition = !p->t->emulates_absence && may_be_condition(p->t, r) &&
                        rt_chain_add(&body, NULL, "plain", 5) == 0 &&
                        s3_put_anyway(p->t, p->name, &body) == 0;
    rt_chain_free(&body);
    return is_condition ? refuse_overwriting(p, how) : refuse(p, "objects cannot be created", r);
}

static int check_put(struct probe *p)
{
    int r = put(p, p->name, "first");
    if (r == -EEXIST) {
        r = 0; /* of an attempt whose answer was lost: the name is nobody else's */
    }
    if (r < 0) {
        return refuse_put(p, r);
    }
    r = put(p, p->name, "second");
    if (r == -EEXIST) {
        return 0;
    }
    return r < 0 ? refuse(p, "the same name cannot be tried twice", r) : refuse_overwriting(p, "");
}

static int check_get(struct probe *p)
{
    char got[16] = "";
    ssize_t n;
    bool same = false;
    /* A byte may have changed on the way, once. */
    for (int i = 0; i < GETS && !same; i++) {
        n = get(p, p->name, got, sizeof got);
        if (n < 0) {
            return refuse(p, "objects cannot be read", (int)n);
        }
        same = n == 5 && memcmp(got, "first", 5) == 0;
    }
    if (!same) {
        return refuse(p, "the store does not give back what was put", -EIO);
    }
    return 0;
}

static int check_absent(struct probe *p)
{
    char got[16];
    ssize_t n = get(p, p->name, got, sizeof got);
    if (n == -ENOENT) {
        return 0;
    }
    if (n == -ESTALE) {
        return refuse(p, "there is no such bucket", (int)n);
    }
    if (n == -EACCES) {
        return refuse(p,
                      "an object that does not exist is answered with \"denied\", which cannot be "
                      "told from one that does: the permission s3:ListBucket is needed",
                      (int)n);
    }
    return n < 0 ? refuse(p, "objects cannot be read", (int)n)
                 : refuse(p, "the store finds an object that does not exist", -EIO);
}

/* Left by a probe that was killed. */
static void remove_stale(struct probe *p, const struct obj_names *names)
{
    uint64_t now_s = time_wall_ns() / NS_PER_S;
    unsigned count = 0;
    for (size_t i = 0; i < names->names.len && count < STALE_MAX; i++) {
        char *end;
        const char *name = names->names.at[i];
        uint64_t made_s = strtoull(name + strlen(S3_PROBE_PREFIX), &end, 16);
        if (*end == '-' && made_s + STALE_S < now_s) {
            (void)!p->t->base.ops->remove(&p->t->base, OBJ_COLLECT, name);
            count++;
        }
    }
}

static int check_list(struct probe *p)
{
    struct obj_names names = {0};
    int r = list(p, &names);
    bool found = false;
    for (size_t i = 0; i < names.names.len; i++) {
        found |= strcmp(names.names.at[i], p->name) == 0;
    }
    if (r == 0 && found) {
        remove_stale(p, &names);
    }
    obj_names_free(&names);
    if (r < 0) {
        return refuse(p, "objects cannot be listed", r);
    }
    return found ? 0 : refuse(p, "the store does not list what was just put", -EIO);
}

/* Asks about the bucket; what is not answered is not known, and no reason to refuse. */
static bool bucket_has(struct probe *p, const char *query, const char *element, const char *value)
{
    struct s3_exchange *x;
    int r = s3_exchange_make(p->t, OBJ_INDEX, "GET", NULL, &x);
    if (r < 0) {
        return false;
    }
    x->query = query;
    r = s3_call(x);
    bool has = r == 0 && s3_xml_has(x->text.data, x->text.len, element, value);
    s3_exchange_free(x);
    return has;
}

static void warn_about_bucket(struct probe *p)
{
    if (bucket_has(p, "versioning=", "Status", "Enabled")) {
        msg_warn("obj",
                 "the bucket %s keeps versions: what is deleted here goes on to be stored and paid "
                 "for, unless a life-cycle rule removes old versions",
                 p->t->bucket);
    }
    if (bucket_has(p, "lifecycle=", "Status", "Enabled")) {
        msg_warn("obj",
                 "the bucket %s has life-cycle rules: one that deletes or archives objects below "
                 "\"%s\" destroys the volume",
                 p->t->bucket, p->t->prefix);
    }
}

int s3_look(struct s3_store *t)
{
    struct probe p = {.t = t, .deadline_ns = rt_after_ms(PATIENCE_MS)};
    make_name(p.name);
    return check_absent(&p);
}

int s3_prove(struct obj_store *s)
{
    struct s3_store *t = container_of(s, struct s3_store, base);
    struct probe p = {.t = t, .deadline_ns = rt_after_ms(PATIENCE_MS)};
    if (t->proven) {
        return 0;
    }
    make_name(p.name);
    if (t->emulates_absence) {
        msg_warn("obj", "conditional_put = \"unsafe-single-writer\": nothing keeps a second server "
                        "from overwriting what this one has acknowledged");
    }
    int r = check_put(&p);
    if (r == 0) {
        r = check_get(&p);
    }
    if (r == 0) {
        r = check_list(&p);
    }
    if (r == 0) {
        warn_about_bucket(&p);
    }
    int removed = t->base.ops->remove(&t->base, OBJ_COLLECT, p.name);
    if (removed < 0 && r == 0) {
        msg_warn("obj", "objects cannot be deleted (%s): space will not be given back",
                 err_text(removed));
    }
    t->proven = r == 0;
    return r;
}
