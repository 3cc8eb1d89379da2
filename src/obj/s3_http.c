/* SPDX-License-Identifier: Apache-2.0 */
/*
 * HTTP for the S3 backend: one thread that drives all connections with libcurl's multi interface,
 * off the cores.
 *
 *     fiber -> line of its class -> [a connection is free] -> easy handle -> answer -> fiber wakes
 *
 * WHO GOES FIRST. At most max_connections requests are under way. Commits, and the index's own
 * objects, have some of them to themselves and take more while there are any; background classes
 * get at most half of the rest, so that a read always finds one. Within a class the order is that
 * of asking.
 *
 * CONNECTIONS are kept and used again. One that the server has closed meanwhile is noticed with the
 * first bytes, and the request goes out once more on a fresh one, silently: libcurl does so when it
 * was to read an answer, send_again() when it was still sending. A PUT may then meet its own
 * object, which its caller sorts out (I3).
 *
 * EVENTS. The thread waits in an epoll of its own for the sockets that libcurl names, for the time
 * that libcurl wants to be called at, and for kicks: a turn costs what has happened, and not what
 * is under way.
 *
 * CANCELLATION. A fiber that is cancelled while it waits takes its request out: at once from a
 * line, or by dropping the connection. Its memory is not touched when the wait has ended.
 */
#include "base/assert.h"
#include "base/err.h"
#include "base/list.h"
#include "base/msg.h"
#include "base/time.h"
#include "obj/s3_priv.h"
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define CONNECTIONS_MIN 8u
#define IDLE_POLL_MS 60000
#define EVENTS_AT_ONCE 64
#define SPARE_HANDLES_MAX 64

struct s3_http {
    pthread_t thread;
    CURLM *multi;
    int epoll_fd;
    int kick_fd;         /* edge-triggered, and never read */
    _Atomic bool kicked; /* the thread will look at the lines again */
    struct rt_mutex m;   /* the lines, cancels, stop, and queued and cancelled of each exchange */
    struct list lines[OBJ_CLASSES];
    unsigned cancels;
    bool stop;
    /* The thread's own. */
    uint64_t due_ns; /* when libcurl wants to be called; UINT64_MAX = never */
    struct list active;
    unsigned running[OBJ_CLASSES];
    unsigned reserved[OBJ_CLASSES];
    unsigned shared;
    CURL *spare[SPARE_HANDLES_MAX];
    unsigned spares;
};

static bool is_background(unsigned c)
{
    return c >= OBJ_PREFETCH;
}

/* Whether one more of the class may go out. */
static bool has_room(const struct s3_http *h, unsigned c)
{
    if (h->running[c] < h->reserved[c]) {
        return true;
    }
    unsigned used = 0;
    unsigned background = 0;
    for (unsigned i = 0; i < OBJ_CLASSES; i++) {
        used += h->running[i] > h->reserved[i] ? h->running[i] - h->reserved[i] : 0;
        background += is_background(i) ? h->running[i] : 0;
    }
    return used < h->shared && (!is_background(c) || background < h->shared / 2);
}

/* The next exchange that may go out, or NULL. */
static struct s3_exchange *take_next(struct s3_http *h)
{
    struct s3_exchange *x = NULL;
    rt_mutex_lock(&h->m);
    for (unsigned c = 0; !x && c < OBJ_CLASSES; c++) {
        if (!list_is_empty(&h->lines[c]) && has_room(h, c)) {
            x = container_of(list_pop_front(&h->lines[c]), struct s3_exchange, link);
            x->queued = false;
        }
    }
    rt_mutex_unlock(&h->m);
    return x;
}

/* Gives back what is http's and wakes the fiber; x is gone then. */
static void finish(struct s3_http *h, struct s3_exchange *x, int error)
{
    if (x->easy) {
        if (h->spares < SPARE_HANDLES_MAX) {
            curl_easy_reset(x->easy);
            h->spare[h->spares++] = x->easy;
        } else {
            curl_easy_cleanup(x->easy);
        }
        x->easy = NULL;
    }
    curl_slist_free_all(x->lines);
    x->lines = NULL;
    x->error = error;
    if (error == 0 && x->head.status >= 300 && x->text.len > 0) {
        s3_error_parse(x->text.data, x->text.len, &x->fault);
    }
    rt_event_set(&x->done);
}

static void start(struct s3_http *h, struct s3_exchange *x)
{
    x->easy = h->spares > 0 ? h->spare[--h->spares] : curl_easy_init();
    int r = x->easy ? s3_request_prepare(x, x->easy) : -ENOMEM;
    if (r == 0 && curl_multi_add_handle(h->multi, x->easy) != CURLM_OK) {
        r = -ENOMEM;
    }
    if (r < 0) {
        finish(h, x, r);
        return;
    }
    h->running[x->klass]++;
    list_push_back(&h->active, &x->link);
}

/* Takes an exchange that is under way out. */
static void end(struct s3_http *h, struct s3_exchange *x, int error)
{
    (void)curl_multi_remove_handle(h->multi, x->easy);
    list_remove(&x->link);
    h->running[x->klass]--;
    finish(h, x, error);
}

/* libcurl takes for an answer also what ends after a status of 1xx, and more. */
static bool is_answered(const struct s3_exchange *x)
{
    return x->head.status >= 200;
}

/* Whatever a connection may do to an exchange passes with another one. */
static int error_of(CURLcode code, const struct s3_exchange *x)
{
    switch ((int)code) {
    case CURLE_OK:
        return is_answered(x) ? 0 : -EIO;
    case CURLE_OPERATION_TIMEDOUT:
        return -ETIMEDOUT;
    case CURLE_COULDNT_CONNECT:
        return -ECONNREFUSED;
    case CURLE_COULDNT_RESOLVE_HOST:
    case CURLE_COULDNT_RESOLVE_PROXY:
        return -EHOSTUNREACH;
    case CURLE_SEND_ERROR:
    case CURLE_RECV_ERROR:
    case CURLE_GOT_NOTHING:
        return -ECONNRESET;
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_SSL_CACERT_BADFILE:
        return -EACCES; /* at open that is the end; later it may pass */
    case CURLE_OUT_OF_MEMORY:
        return -ENOMEM;
    default:
        return -EIO;
    }
}

/* True when a kept connection broke before any byte of an answer, and the request is under way on a
 * fresh one. */
static bool send_again(struct s3_http *h, struct s3_exchange *x, CURLcode code)
{
    long fresh_connections = 0;
    if ((code != CURLE_SEND_ERROR && code != CURLE_RECV_ERROR) || x->head.status != 0 ||
        x->sent_again ||
        curl_easy_getinfo(x->easy, CURLINFO_NUM_CONNECTS, &fresh_connections) != CURLE_OK ||
        fresh_connections > 0) {
        return false;
    }
    x->sent_again = true;
    x->why[0] = '\0';
    x->piece = 0;
    x->piece_off = 0;
    return curl_multi_remove_handle(h->multi, x->easy) == CURLM_OK &&
           curl_easy_setopt(x->easy, CURLOPT_FRESH_CONNECT, 1l) == CURLE_OK &&
           curl_multi_add_handle(h->multi, x->easy) == CURLM_OK;
}

static void reap(struct s3_http *h)
{
    int left;
    CURLMsg *m;
    while ((m = curl_multi_info_read(h->multi, &left)) != NULL) {
        struct s3_exchange *x = NULL;
        CURLcode code = m->data.result;
        if (m->msg != CURLMSG_DONE ||
            curl_easy_getinfo(m->easy_handle, CURLINFO_PRIVATE, (char **)&x) != CURLE_OK) {
            continue;
        }
        if (send_again(h, x, code)) {
            continue;
        }
        if (x->bad_head) {
            (void)snprintf(x->why, sizeof x->why, "the answer is not of the bytes asked for");
        } else if (code == CURLE_OK && !is_answered(x)) {
            (void)snprintf(x->why, sizeof x->why, "the answer has no status");
        } else if (code != CURLE_OK && x->why[0] == '\0') {
            (void)snprintf(x->why, sizeof x->why, "%s", curl_easy_strerror(code));
        }
        end(h, x, error_of(code, x));
    }
}

static void drop_cancelled(struct s3_http *h)
{
    rt_mutex_lock(&h->m);
    bool any = h->cancels > 0;
    h->cancels = 0;
    rt_mutex_unlock(&h->m);
    if (!any) {
        return;
    }
    list_for_each(&h->active, struct s3_exchange, link, x) {
        rt_mutex_lock(&h->m);
        bool cancelled = x->cancelled;
        rt_mutex_unlock(&h->m);
        if (cancelled) {
            end(h, x, -ECANCELED);
        }
    }
}

static void start_all(struct s3_http *h)
{
    struct s3_exchange *x;
    while ((x = take_next(h)) != NULL) {
        start(h, x);
    }
}

static bool is_stopped(struct s3_http *h)
{
    rt_mutex_lock(&h->m);
    bool stop = h->stop;
    rt_mutex_unlock(&h->m);
    return stop;
}

/* libcurl's: what of this socket it wants to be told of. */
static int on_socket(CURL *easy, curl_socket_t fd, int what, void *arg, void *sock_arg)
{
    struct s3_http *h = arg;
    (void)easy;
    (void)sock_arg;
    if (what == CURL_POLL_REMOVE) {
        (void)epoll_ctl(h->epoll_fd, EPOLL_CTL_DEL, fd, NULL);
        return 0;
    }
    struct epoll_event e = {.data.fd = fd};
    e.events = (what & CURL_POLL_IN ? EPOLLIN : 0u) | (what & CURL_POLL_OUT ? EPOLLOUT : 0u);
    if (epoll_ctl(h->epoll_fd, EPOLL_CTL_MOD, fd, &e) < 0 &&
        epoll_ctl(h->epoll_fd, EPOLL_CTL_ADD, fd, &e) < 0) {
        msg_warn_paced("obj", "a connection to the store cannot be watched: %s", err_text(-errno));
        return -1;
    }
    return 0;
}

/* libcurl's: when it wants to be called. */
static int on_timer(CURLM *multi, long timeout_ms, void *arg)
{
    struct s3_http *h = arg;
    (void)multi;
    h->due_ns = timeout_ms < 0 ? UINT64_MAX : rt_now_ns() + (uint64_t)timeout_ms * NS_PER_MS;
    return 0;
}

/* What is due by the clock, handles that have just been added among it. */
static void run_due(struct s3_http *h)
{
    int running;
    while (h->due_ns <= rt_now_ns()) {
        h->due_ns = UINT64_MAX;
        (void)curl_multi_socket_action(h->multi, CURL_SOCKET_TIMEOUT, 0, &running);
    }
}

static int wait_ms(const struct s3_http *h)
{
    uint64_t now = rt_now_ns();
    uint64_t ms = h->due_ns <= now ? 0 : (h->due_ns - now - 1) / NS_PER_MS + 1;
    return (int)MIN_OF(ms, (uint64_t)IDLE_POLL_MS);
}

static void wait_and_run(struct s3_http *h)
{
    struct epoll_event events[EVENTS_AT_ONCE];
    int n = epoll_wait(h->epoll_fd, events, EVENTS_AT_ONCE, wait_ms(h));
    for (int i = 0; i < n; i++) {
        int running;
        uint32_t is = events[i].events;
        if (events[i].data.fd == h->kick_fd) {
            continue;
        }
        int what = (is & EPOLLIN ? CURL_CSELECT_IN : 0) | (is & EPOLLOUT ? CURL_CSELECT_OUT : 0) |
                   (is & (EPOLLERR | EPOLLHUP) ? CURL_CSELECT_ERR : 0);
        (void)curl_multi_socket_action(h->multi, events[i].data.fd, what, &running);
    }
    run_due(h);
}

static void *worker(void *arg)
{
    struct s3_http *h = arg;
    while (!is_stopped(h)) {
        atomic_store(&h->kicked, false);
        drop_cancelled(h);
        start_all(h);
        run_due(h);
        rt_wakes_hold(); /* for all that have ended together */
        reap(h);
        rt_wakes_release();
        start_all(h);
        wait_and_run(h);
    }
    return NULL;
}

static void wake_up(struct s3_http *h)
{
    uint64_t one = 1;
    ssize_t n = write(h->kick_fd, &one, sizeof one);
    ASSERT(n == (ssize_t)sizeof one);
}

static void kick(struct s3_http *h)
{
    if (!atomic_exchange(&h->kicked, true)) {
        wake_up(h);
    }
}

int s3_http_run(struct s3_http *h, struct s3_exchange *x)
{
    rt_event_init(&x->done);
    x->cancelled = false;
    rt_mutex_lock(&h->m);
    x->queued = true;
    list_push_back(&h->lines[x->klass], &x->link);
    rt_mutex_unlock(&h->m);
    kick(h);
    int r = rt_event_wait(&x->done, RT_FOREVER);
    if (r < 0) {
        rt_mutex_lock(&h->m);
        bool queued = x->queued;
        if (queued) {
            list_remove(&x->link);
            x->queued = false;
            x->error = -ECANCELED;
        } else {
            x->cancelled = true;
            h->cancels++;
        }
        rt_mutex_unlock(&h->m);
        if (!queued) {
            kick(h);
            rt_shield();
            r = rt_event_wait(&x->done, RT_FOREVER);
            ASSERT(r == 0);
            rt_unshield();
        }
    }
    rt_event_destroy(&x->done);
    return x->error;
}

int s3_exchange_make(struct s3_store *t, enum obj_class klass, const char *method, const char *name,
                     struct s3_exchange **ret_x)
{
    struct s3_exchange *x = calloc(1, sizeof *x);
    if (!x) {
        return -ENOMEM;
    }
    x->store = t;
    x->klass = klass;
    x->method = method;
    int n = name ? snprintf(x->key, sizeof x->key, "%s%s", t->prefix, name) : 0;
    if (n < 0 || (size_t)n >= sizeof x->key) {
        free(x);
        return -ENAMETOOLONG;
    }
    *ret_x = x;
    return 0;
}

void s3_exchange_free(struct s3_exchange *x)
{
    if (x) {
        bytes_writer_free(&x->text);
        s3_cred_unref(x->cred);
        free(x);
    }
}

static void divide(struct s3_http *h, unsigned max)
{
    max = MAX_OF(max, CONNECTIONS_MIN);
    h->reserved[OBJ_COMMIT] = max / 4;
    h->reserved[OBJ_INDEX] = max / 8;
    h->shared = max - h->reserved[OBJ_COMMIT] - h->reserved[OBJ_INDEX];
    (void)curl_multi_setopt(h->multi, CURLMOPT_MAXCONNECTS, (long)max);
    (void)curl_multi_setopt(h->multi, CURLMOPT_PIPELINING, (long)CURLPIPE_NOTHING);
}

static int open_events(struct s3_http *h)
{
    h->due_ns = UINT64_MAX;
    h->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    h->kick_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    struct epoll_event e = {.events = EPOLLIN | EPOLLET, .data.fd = h->kick_fd};
    if (h->epoll_fd < 0 || h->kick_fd < 0 ||
        epoll_ctl(h->epoll_fd, EPOLL_CTL_ADD, h->kick_fd, &e) < 0) {
        return -errno;
    }
    (void)curl_multi_setopt(h->multi, CURLMOPT_SOCKETFUNCTION, on_socket);
    (void)curl_multi_setopt(h->multi, CURLMOPT_SOCKETDATA, h);
    (void)curl_multi_setopt(h->multi, CURLMOPT_TIMERFUNCTION, on_timer);
    (void)curl_multi_setopt(h->multi, CURLMOPT_TIMERDATA, h);
    return 0;
}

/* Sockets that libcurl still had are no longer watched when it closes them. */
static void free_all(struct s3_http *h)
{
    (void)curl_multi_cleanup(h->multi);
    if (h->epoll_fd >= 0) {
        (void)close(h->epoll_fd);
    }
    if (h->kick_fd >= 0) {
        (void)close(h->kick_fd);
    }
    rt_mutex_destroy(&h->m);
    free(h);
}

static int start_thread(struct s3_http *h)
{
    sigset_t all;
    sigset_t old;
    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, &all, &old);
    int r = pthread_create(&h->thread, NULL, worker, h);
    (void)pthread_sigmask(SIG_SETMASK, &old, NULL);
    return r == 0 ? 0 : -EAGAIN;
}

int s3_http_open(unsigned max_connections, struct s3_http **ret_http)
{
    struct s3_http *h = calloc(1, sizeof *h);
    if (!h) {
        return -ENOMEM;
    }
    h->epoll_fd = h->kick_fd = -1;
    rt_mutex_init(&h->m);
    list_init(&h->active);
    for (unsigned c = 0; c < OBJ_CLASSES; c++) {
        list_init(&h->lines[c]);
    }
    h->multi = curl_multi_init();
    int r = h->multi ? open_events(h) : -ENOMEM;
    if (r == 0) {
        divide(h, max_connections);
        r = start_thread(h);
    }
    if (r < 0) {
        free_all(h);
        return r;
    }
    *ret_http = h;
    return 0;
}

void s3_http_close(struct s3_http *h)
{
    if (!h) {
        return;
    }
    rt_mutex_lock(&h->m);
    h->stop = true;
    rt_mutex_unlock(&h->m);
    wake_up(h);
    (void)pthread_join(h->thread, NULL);
    while (h->spares > 0) {
        curl_easy_cleanup(h->spare[--h->spares]);
    }
    free_all(h);
}
