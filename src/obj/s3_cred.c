/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The keeper of credentials. Those of the configuration and the environment stay as they are; those
 * of a file are read again, and those of a metadata service fetched again, by a thread: before they
 * expire, and when the server has refused them. What is there stays in use until there is better.
 */
#include "obj/s3_cred.h"
#include "base/bytes.h"
#include "base/err.h"
#include "base/msg.h"
#include "base/time.h"
#include "rt/rt.h"
#include <curl/curl.h>
#include <fcntl.h>
#include <openssl/crypto.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <time.h>
#include <unistd.h>

#define ANSWER_MAX (32u << 10)
#define FILE_MAX (64u << 10)
#define CONNECT_MS 1000l
#define ANSWER_MS 5000l
#define TRIES 3
#define AGAIN_S 5      /* after a fetch that failed */
#define FILE_AGAIN_S 2 /* at the earliest, after credentials were refused */
#define SAY_EVERY_S 60
#define INSTANCE_PLACE "http://169.254.169.254"
#define CONTAINER_PLACE "http://169.254.170.2"
#define ROLES_PATH "/latest/meta-data/iam/security-credentials/"
#define URL_SIZE 512
#define AUTHORIZATION "Authorization: "

enum source {
    FROM_FIXED,
    FROM_PROFILE,
    FROM_CONTAINER,
    FROM_INSTANCE,
};

struct s3_creds {
    enum source source;
    char *profile;
    char *file;
    char *metadata; /* endpoint of the instance service */
    pthread_mutex_t m;
    pthread_cond_t changed;
    struct s3_cred *current;
    bool refused; /* current is */
    bool stop;
    bool has_thread;
    pthread_t thread;
    uint64_t said_s;
};

/* A request to a metadata service. */
struct ask {
    const char *method;
    char url[URL_SIZE];
    const char *header;          /* NULL: none */
    struct crypt_secret *answer; /* of ANSWER_MAX bytes, and a zero byte behind what is there */
    size_t len;
    long status;
};

static size_t on_data(char *data, size_t size, size_t count, void *arg)
{
    struct ask *a = arg;
    size_t n = size * count;
    if (n > a->answer->len - a->len) {
        return 0;
    }
    memcpy(a->answer->bytes + a->len, data, n);
    a->len += n;
    return n;
}

static bool ask_once(struct ask *a)
{
    CURL *easy = curl_easy_init();
    struct curl_slist *lines = a->header ? curl_slist_append(NULL, a->header) : NULL;
    bool ok = easy && (!a->header || lines);
    a->len = 0;
    if (ok) {
        ok = curl_easy_setopt(easy, CURLOPT_URL, a->url) == CURLE_OK &&
             curl_easy_setopt(easy, CURLOPT_CUSTOMREQUEST, a->method) == CURLE_OK &&
             curl_easy_setopt(easy, CURLOPT_HTTPHEADER, lines) == CURLE_OK &&
             curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1l) == CURLE_OK &&
             curl_easy_setopt(easy, CURLOPT_PROXY, "") == CURLE_OK &&
             curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https") == CURLE_OK &&
             curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, CONNECT_MS) == CURLE_OK &&
             curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, ANSWER_MS) == CURLE_OK &&
             curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, on_data) == CURLE_OK &&
             curl_easy_setopt(easy, CURLOPT_WRITEDATA, a) == CURLE_OK &&
             curl_easy_perform(easy) == CURLE_OK &&
             curl_easy_getinfo(easy, CURLINFO_RESPONSE_CODE, &a->status) == CURLE_OK;
    }
    curl_slist_free_all(lines);
    curl_easy_cleanup(easy);
    a->answer->bytes[a->len] = '\0';
    return ok;
}

/* 0; -EIO when nobody answers, -EACCES when the answer is none. */
static int ask(struct ask *a)
{
    a->answer = crypt_secret_create(NULL, ANSWER_MAX);
    for (unsigned i = 0; a->answer && i < TRIES; i++) {
        bool answered = ask_once(a);
        if (answered && a->status < 500) {
            return a->status == 200 ? 0 : -EACCES;
        }
    }
    return a->answer ? -EIO : -ENOMEM;
}

static char *answer_text(const struct ask *a)
{
    return (char *)a->answer->bytes;
}

static void ask_free(struct ask *a)
{
    crypt_secret_free(a->answer);
    a->answer = NULL;
}

static bool cut_line(char *text)
{
    text[strcspn(text, "\r\n")] = '\0';
    return *text != '\0';
}

/* The service of EC2 in its second version: a token first, then the role, then its credentials. */
static int fetch_instance(const struct s3_creds *k, struct s3_cred **ret_cred)
{
    char header[256];
    struct ask token = {.method = "PUT", .header = "X-aws-ec2-metadata-token-ttl-seconds: 300"};
    struct ask roles = {.method = "GET", .header = header};
    struct ask role = {.method = "GET", .header = header};
    (void)snprintf(token.url, sizeof token.url, "%s/latest/api/token", k->metadata);
    (void)snprintf(roles.url, sizeof roles.url, "%s" ROLES_PATH, k->metadata);
    int r = ask(&token);
    if (r == 0) {
        int n = cut_line(answer_text(&token))
                    ? snprintf(header, sizeof header, "X-aws-ec2-metadata-token: %s",
                               answer_text(&token))
                    : -1;
        r = n < 0 || (size_t)n >= sizeof header ? -EPROTO : ask(&roles);
    }
    if (r == 0) {
        int n = cut_line(answer_text(&roles))
                    ? snprintf(role.url, sizeof role.url, "%s" ROLES_PATH "%s", k->metadata,
                               answer_text(&roles))
                    : -1;
        r = n < 0 || (size_t)n >= sizeof role.url ? -EPROTO : ask(&role);
    }
    if (r == 0) {
        r = s3_cred_parse(answer_text(&role), role.len, ret_cred);
    }
    OPENSSL_cleanse(header, sizeof header);
    ask_free(&token);
    ask_free(&roles);
    ask_free(&role);
    return r;
}

/* A whole file of at most FILE_MAX bytes; NULL when it cannot be read. */
static struct crypt_secret *read_file(const char *path, size_t *ret_len)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    struct crypt_secret *s = fd >= 0 ? crypt_secret_create(NULL, FILE_MAX) : NULL;
    size_t len = 0;
    ssize_t n = 1;
    while (s && len < s->len && n > 0) {
        n = read(fd, s->bytes + len, s->len - len);
        len += n > 0 ? (size_t)n : 0;
    }
    if (fd >= 0) {
        (void)close(fd);
    }
    *ret_len = len;
    return s;
}

/* Where plain http may carry a token: this machine, and the services' own addresses. */
static bool is_local(const char *url)
{
    static const char *const hosts[] = {"127.0.0.1",     "localhost",      "[::1]",
                                        "169.254.170.2", "169.254.170.23", "[fd00:ec2::23]"};
    for (size_t i = 0; i < ARRAY_LEN(hosts); i++) {
        size_t n = strlen(hosts[i]);
        if (strncasecmp(url + 7, hosts[i], n) == 0 && strchr(":/", url[7 + n])) {
            return true;
        }
    }
    return false;
}

static int container_url(char ret_url[URL_SIZE])
{
    const char *relative = getenv("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI");
    const char *full = getenv("AWS_CONTAINER_CREDENTIALS_FULL_URI");
    int n;
    if (relative && relative[0] == '/') {
        n = snprintf(ret_url, URL_SIZE, CONTAINER_PLACE "%s", relative);
    } else if (full && (strncasecmp(full, "https://", 8) == 0 ||
                        (strncasecmp(full, "http://", 7) == 0 && is_local(full)))) {
        n = snprintf(ret_url, URL_SIZE, "%s", full);
    } else {
        return -EINVAL;
    }
    return n < 0 || n >= URL_SIZE ? -EINVAL : 0;
}

/*
 * A secret of the environment; NULL when it is not set. It is taken out of there, into memory for
 * secrets, where it stays: the environment can be read in /proc, and lies on the stack.
 */
static const char *secret_of_environment(const char *name)
{
    static struct {
        const char *name;
        struct crypt_secret *kept;
    } all[] = {{"AWS_SECRET_ACCESS_KEY", NULL},
               {"AWS_SESSION_TOKEN", NULL},
               {"AWS_CONTAINER_AUTHORIZATION_TOKEN", NULL}};
    static pthread_mutex_t m = PTHREAD_MUTEX_INITIALIZER;
    const char *text = NULL;
    char *value = getenv(name);
    (void)pthread_mutex_lock(&m);
    for (size_t i = 0; value && i < ARRAY_LEN(all); i++) {
        if (strcmp(all[i].name, name) != 0) {
            continue;
        }
        struct crypt_secret *fresh = *value ? crypt_secret_of(value) : NULL;
        if (fresh) {
            explicit_bzero(value, strlen(value));
            all[i].kept = fresh; /* those who have the old one may use it still */
        }
        text = crypt_secret_text(all[i].kept);
    }
    (void)pthread_mutex_unlock(&m);
    return text;
}

static int fetch_container(struct s3_cred **ret_cred)
{
    struct ask a = {.method = "GET"};
    int r = container_url(a.url);
    if (r < 0) {
        return r;
    }
    const char *token_file = getenv("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE");
    const char *token = secret_of_environment("AWS_CONTAINER_AUTHORIZATION_TOKEN");
    size_t len;
    struct crypt_secret *from_file = token_file ? read_file(token_file, &len) : NULL;
    if (from_file) {
        token = cut_line((char *)from_file->bytes) ? crypt_secret_text(from_file) : NULL;
    }
    struct crypt_secret *header = NULL;
    r = token && strpbrk(token, "\r\n") ? -EINVAL : 0;
    if (r == 0 && token) {
        header = crypt_secret_create(NULL, sizeof AUTHORIZATION + strlen(token));
        r = header ? 0 : -ENOMEM;
    }
    if (header) {
        (void)snprintf((char *)header->bytes, header->len, AUTHORIZATION "%s", token);
    }
    a.header = crypt_secret_text(header);
    r = r == 0 ? ask(&a) : r;
    crypt_secret_free(header);
    crypt_secret_free(from_file);
    if (r == 0) {
        r = s3_cred_parse(answer_text(&a), a.len, ret_cred);
    }
    ask_free(&a);
    return r;
}

static int read_profiles(const char *path, const char *name, struct s3_profile *profile)
{
    size_t len = 0;
    struct crypt_secret *text = read_file(path, &len);
    if (!text) {
        return 0;
    }
    int r = s3_profile_parse((const char *)text->bytes, len, name, profile);
    crypt_secret_free(text);
    return r;
}

static const char *given(const char *option, const char *variable)
{
    const char *value = option ? option : getenv(variable);
    return value && *value ? value : NULL;
}

static int read_profile(const char *file, const char *profile, struct s3_profile *ret_profile)
{
    const char *home = getenv("HOME");
    const char *config = given(NULL, "AWS_CONFIG_FILE");
    const char *name = given(profile, "AWS_PROFILE");
    auto_free char *default_file = NULL;
    auto_free char *default_config = NULL;
    file = given(file, "AWS_SHARED_CREDENTIALS_FILE");
    name = name ? name : "default";
    if (home && asprintf(&default_file, "%s/.aws/credentials", home) < 0) {
        default_file = NULL;
    }
    if (home && asprintf(&default_config, "%s/.aws/config", home) < 0) {
        default_config = NULL;
    }
    file = file ? file : default_file;
    config = config ? config : default_config;
    struct s3_profile p = {0};
    int r = file ? read_profiles(file, name, &p) : 0;
    if (r == 0 && config) {
        r = read_profiles(config, name, &p);
    }
    if (r < 0) {
        s3_profile_free(&p);
        return r;
    }
    *ret_profile = p;
    return 0;
}

int s3_profile_read(const struct obj_s3_options *opt, struct s3_profile *ret_profile)
{
    return read_profile(opt->credentials_file, opt->profile, ret_profile);
}

static int fetch_profile(const struct s3_creds *k, struct s3_cred **ret_cred)
{
    struct s3_profile p;
    int r = read_profile(k->file, k->profile, &p);
    if (r < 0) {
        return r;
    }
    r = p.access_key || p.secret_key ? s3_cred_make(p.access_key, crypt_secret_text(p.secret_key),
                                                    crypt_secret_text(p.token), 0, ret_cred)
                                     : -ENOENT;
    s3_profile_free(&p);
    return r;
}

static int fetch(const struct s3_creds *k, struct s3_cred **ret_cred)
{
    switch (k->source) {
    case FROM_PROFILE:
        return fetch_profile(k, ret_cred);
    case FROM_CONTAINER:
        return fetch_container(ret_cred);
    case FROM_INSTANCE:
        return fetch_instance(k, ret_cred);
    case FROM_FIXED:
        break;
    }
    return -EINVAL;
}

/* Waits until new ones are due: when they are refused, or near their end. False: stop. */
static bool wait_due(struct s3_creds *k, uint64_t not_before_s)
{
    (void)pthread_mutex_lock(&k->m);
    uint64_t now = time_wall_ns() / NS_PER_S;
    uint64_t due = k->current->expires_s > 0
                       ? now + s3_cred_refresh_after(now, k->current->expires_s)
                       : UINT64_MAX;
    for (;;) {
        now = time_wall_ns() / NS_PER_S;
        uint64_t at = k->refused ? 0 : due;
        at = at < not_before_s ? not_before_s : at;
        if (k->stop || at <= now) {
            break;
        }
        if (at == UINT64_MAX) {
            (void)pthread_cond_wait(&k->changed, &k->m);
        } else {
            struct timespec until = {.tv_sec = (time_t)at};
            (void)pthread_cond_timedwait(&k->changed, &k->m, &until);
        }
    }
    bool stop = k->stop;
    (void)pthread_mutex_unlock(&k->m);
    return !stop;
}

static void exchange(struct s3_creds *k, struct s3_cred *fresh)
{
    (void)pthread_mutex_lock(&k->m);
    struct s3_cred *old = k->current;
    k->current = fresh;
    k->refused = false;
    (void)pthread_mutex_unlock(&k->m);
    s3_cred_unref(old);
}

static void *keeper(void *arg)
{
    struct s3_creds *k = arg;
    uint64_t not_before_s = 0;
    while (wait_due(k, not_before_s)) {
        struct s3_cred *fresh = NULL;
        int r = fetch(k, &fresh);
        uint64_t now = time_wall_ns() / NS_PER_S;
        if (r == 0) {
            exchange(k, fresh);
            k->said_s = 0;
            not_before_s = now + FILE_AGAIN_S;
            msg_debug("obj", "fresh credentials for the store");
            continue;
        }
        not_before_s = now + AGAIN_S;
        if (k->said_s == 0 || now - k->said_s >= SAY_EVERY_S) {
            k->said_s = now;
            msg_warn("obj", "no fresh credentials for the store: %s; trying again", err_text(r));
        }
    }
    return NULL;
}

static int start_thread(struct s3_creds *k)
{
    sigset_t all;
    sigset_t old;
    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, &all, &old);
    k->has_thread = pthread_create(&k->thread, NULL, keeper, k) == 0;
    (void)pthread_sigmask(SIG_SETMASK, &old, NULL);
    return k->has_thread ? 0 : -EAGAIN;
}

static bool instance_is_off(void)
{
    const char *off = getenv("AWS_EC2_METADATA_DISABLED");
    return off && strcasecmp(off, "true") == 0;
}

static void say(char *ret_why, size_t cap, const char *text)
{
    (void)snprintf(ret_why, cap, "%s", text);
}

/* Looks in each place in turn. -ENOENT: nowhere. */
static int find(struct s3_creds *k, const struct obj_s3_options *opt, char *ret_why, size_t cap)
{
    if (opt->access_key_id || opt->secret_access_key) {
        say(ret_why, cap, "[aws] access_key_id and secret_access_key belong together");
        return s3_cred_make(opt->access_key_id, crypt_secret_text(opt->secret_access_key),
                            crypt_secret_text(opt->session_token), 0, &k->current);
    }
    const char *id = given(NULL, "AWS_ACCESS_KEY_ID");
    if (id && !opt->profile) {
        say(ret_why, cap, "AWS_SECRET_ACCESS_KEY is not set, or not as it should be");
        return s3_cred_make(id, secret_of_environment("AWS_SECRET_ACCESS_KEY"),
                            secret_of_environment("AWS_SESSION_TOKEN"), 0, &k->current);
    }
    k->source = FROM_PROFILE;
    int r = fetch(k, &k->current);
    if (r != -ENOENT) {
        say(ret_why, cap, "the file of profiles has no good pair of keys");
        return r;
    }
    if (opt->profile) {
        (void)snprintf(ret_why, cap, "no file has a profile \"%.60s\" with keys", opt->profile);
        return -EACCES;
    }
    k->source = FROM_CONTAINER;
    if (getenv("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI") ||
        getenv("AWS_CONTAINER_CREDENTIALS_FULL_URI")) {
        say(ret_why, cap, "the container service (AWS_CONTAINER_CREDENTIALS_*) gives none");
        return fetch(k, &k->current);
    }
    k->source = FROM_INSTANCE;
    say(ret_why, cap,
        "neither [aws] access_key_id, AWS_ACCESS_KEY_ID, a file of profiles, a container service "
        "nor an instance service gives any");
    return instance_is_off() ? -EACCES : fetch(k, &k->current);
}

static char *copy(const char *text)
{
    return text ? strdup(text) : NULL;
}

int s3_creds_open(const struct obj_s3_options *opt, char *ret_why, size_t why_cap,
                  struct s3_creds **ret_creds)
{
    struct s3_creds *k = calloc(1, sizeof *k);
    if (!k) {
        return -ENOMEM;
    }
    (void)pthread_mutex_init(&k->m, NULL);
    (void)pthread_cond_init(&k->changed, NULL);
    const char *metadata = given(opt->metadata_endpoint, "AWS_EC2_METADATA_SERVICE_ENDPOINT");
    k->profile = copy(opt->profile);
    k->file = copy(opt->credentials_file);
    k->metadata = strdup(metadata ? metadata : INSTANCE_PLACE);
    int r = k->metadata ? find(k, opt, ret_why, why_cap) : -ENOMEM;
    if (r == 0 && k->source != FROM_FIXED) {
        r = start_thread(k);
    }
    if (r < 0) {
        s3_creds_close(k);
        return r == -ENOMEM || r == -EAGAIN ? r : -EACCES;
    }
    *ret_creds = k;
    return 0;
}

struct s3_cred *s3_creds_take(struct s3_creds *k)
{
    (void)pthread_mutex_lock(&k->m);
    struct s3_cred *c = s3_cred_ref(k->current);
    (void)pthread_mutex_unlock(&k->m);
    return c;
}

void s3_creds_refused(struct s3_creds *k, const struct s3_cred *which)
{
    (void)pthread_mutex_lock(&k->m);
    if (k->current == which && !k->refused && k->source != FROM_FIXED) {
        k->refused = true;
        (void)pthread_cond_signal(&k->changed);
    }
    (void)pthread_mutex_unlock(&k->m);
}

void s3_creds_close(struct s3_creds *k)
{
    if (!k) {
        return;
    }
    (void)pthread_mutex_lock(&k->m);
    k->stop = true;
    (void)pthread_cond_signal(&k->changed);
    (void)pthread_mutex_unlock(&k->m);
    if (k->has_thread) {
        (void)pthread_join(k->thread, NULL);
    }
    s3_cred_unref(k->current);
    (void)pthread_cond_destroy(&k->changed);
    (void)pthread_mutex_destroy(&k->m);
    free(k->profile);
    free(k->file);
    free(k->metadata);
    free(k);
}
