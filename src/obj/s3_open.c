/* SPDX-License-Identifier: Apache-2.0 */
/* From options, environment and profile to a store that is known to work. */
#include "base/err.h"
#include "base/msg.h"
#include "obj/s3_priv.h"
#include <malloc.h>
#include <pthread.h>
#include <string.h>
#include <strings.h>

#define CONNECTIONS 64u
#define CONNECT_MS 5000u
#define TIMEOUT_MS 20000u
#define REGION "us-east-1"

static pthread_once_t curl_once = PTHREAD_ONCE_INIT;

/* libcurl's memory is a line of the memory table: a connection has buffers of up to half a MiB.
 * Session tokens, and the credentials that services tell, pass through them: they are wiped. */
static void *counted(void *p)
{
    if (p) {
        rt_mem_add(RT_MEM_HTTP, (int64_t)malloc_usable_size(p));
    }
    return p;
}

static void *counted_malloc(size_t size)
{
    return counted(malloc(size));
}

static void *counted_calloc(size_t count, size_t size)
{
    return counted(calloc(count, size));
}

static char *counted_strdup(const char *text)
{
    return counted(strdup(text));
}

static void counted_free(void *p)
{
    rt_mem_add(RT_MEM_HTTP, -(int64_t)malloc_usable_size(p));
    crypt_wiping_free(p);
}

static void *counted_realloc(void *p, size_t size)
{
    int64_t before = (int64_t)malloc_usable_size(p);
    void *fresh = crypt_wiping_realloc(p, size);
    if (fresh) {
        rt_mem_add(RT_MEM_HTTP, -before);
    }
    return counted(fresh);
}

static void init_curl(void)
{
    (void)curl_global_init_mem(CURL_GLOBAL_DEFAULT, counted_malloc, counted_free, counted_realloc,
                               counted_strdup, counted_calloc);
}

static const char *given(const char *option, const char *variable, const char *other)
{
    const char *value = option ? option : getenv(variable);
    if (!value || !*value) {
        value = other ? getenv(other) : NULL;
    }
    return value && *value ? value : NULL;
}

static bool is_true(const char *variable)
{
    const char *value = getenv(variable);
    return value && (strcasecmp(value, "true") == 0 || strcmp(value, "1") == 0);
}

struct open_job {
    const struct obj_s3_options *opt;
    struct s3_store *t;
    char why[256];
};

static int find_place(struct open_job *j)
{
    struct s3_store *t = j->t;
    const struct obj_s3_options *opt = j->opt;
    struct s3_profile p;
    int r = s3_profile_read(opt, &p);
    if (r < 0) {
        return r;
    }
    const char *endpoint = given(opt->endpoint, "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL");
    const char *region = given(opt->region, "AWS_REGION", "AWS_DEFAULT_REGION");
    region = region ? region : p.region;
    if (endpoint) {
        r = s3_place_parse(endpoint, t->allow_http, &t->place, j->why, sizeof j->why);
    }
    s3_place_of_region(&t->place, region ? region : REGION);
    /* A certificate for *.host does not fit a bucket with dots. */
    t->place.virtual_hosted =
        opt->virtual_hosted || (!endpoint && !opt->path_style && !strchr(t->bucket, '.'));
    s3_profile_free(&p);
    return r;
}

static int copy_options(struct open_job *j)
{
    struct s3_store *t = j->t;
    const char *bundle = given(j->opt->ca_bundle, "AWS_CA_BUNDLE", NULL);
    t->ca_bundle = bundle ? strdup(bundle) : NULL;
    t->storage_class = j->opt->storage_class ? strdup(j->opt->storage_class) : NULL;
    t->allow_http = j->opt->allow_http || is_true("AWS_ALLOW_HTTP");
    t->emulates_absence = j->opt->unsafe_single_writer;
    t->connect_timeout_ms = j->opt->connect_timeout_ms ? j->opt->connect_timeout_ms : CONNECT_MS;
    t->timeout_ms = j->opt->timeout_ms ? j->opt->timeout_ms : TIMEOUT_MS;
    bool ok = (!bundle || t->ca_bundle) && (!j->opt->storage_class || t->storage_class);
    return ok ? 0 : -ENOMEM;
}

/* Reads files and asks services, so it runs on an offload thread. */
static int open_run(void *arg)
{
    struct open_job *j = arg;
    struct s3_store *t = j->t;
    (void)pthread_once(&curl_once, init_curl);
    int r = copy_options(j);
    if (r == 0) {
        r = find_place(j);
    }
    if (r == 0 && !j->opt->skip_signature) {
        r = s3_creds_open(j->opt, j->why, sizeof j->why, &t->creds);
    }
    if (r == 0) {
        unsigned max = j->opt->max_connections ? j->opt->max_connections : CONNECTIONS;
        r = s3_http_open(max, &t->http);
    }
    return r;
}

int obj_s3_open(const char *bucket, const char *prefix, const struct obj_s3_options *opt,
                struct obj_store **ret_store)
{
    struct s3_store *t = calloc(1, sizeof *t);
    if (!t) {
        return -ENOMEM;
    }
    t->base.ops = &s3_ops;
    rt_mutex_init(&t->m);
    (void)snprintf(t->bucket, sizeof t->bucket, "%s", bucket);
    (void)snprintf(t->prefix, sizeof t->prefix, "%s", prefix);
    struct open_job j = {.opt = opt, .t = t};
    int r = rt_offload(RT_OFFLOAD_IO, open_run, &j);
    if (r < 0) {
        msg_error("obj", "s3://%s: %s", bucket, j.why[0] ? j.why : err_text(r));
    } else {
        r = s3_look(t);
    }
    if (r < 0) {
        obj_close(&t->base);
        return r;
    }
    *ret_store = &t->base;
    return 0;
}
