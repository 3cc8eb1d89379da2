/* SPDX-License-Identifier: Apache-2.0 */
#include "ctl/admin.h"
#include "base/endian.h"
#include "base/err.h"
#include "base/msg.h"
#include "crypt/secret.h"
#include "net/net.h"
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define MESSAGE_MAX (16u << 20)
#define REQUEST_MAX (4u << 20) /* a description of all targets */
#define IDLE_MS 60000

struct admin {
    struct ops *ops;
    struct net_listener *listener;
};

static bool is_allowed(const struct net_stream *s)
{
    uid_t uid;
    gid_t gid;
    if (net_peer_credentials(s, &uid, &gid) < 0) {
        return false;
    }
    if (uid != 0 && uid != geteuid()) {
        msg_warn("ctl", "admin socket: user %u is neither root nor the server's user; refused",
                 (unsigned)uid);
        return false;
    }
    return true;
}

/* What is sent goes back to the free lists as it is, so it is wiped before: when it has been taken,
 * or nothing takes it any more. */
static int send_and_wipe(struct net_stream *s, struct rt_buf *buf, size_t len) WAITS
{
    uint8_t head[4];
    be32_store(head, (uint32_t)len);
    int r = net_send_copy(s, head, sizeof head);
    if (r == 0) {
        r = net_send_ref(s, buf, buf->data, len);
    }
    if (r == 0) {
        r = net_send_wait(s, 0);
    }
    if (r < 0) {
        net_shutdown(s);
    }
    explicit_bzero(buf->data, len);
    return r;
}

/* Sends one response; takes its reference. */
static int respond(struct net_stream *s, json_t *response) WAITS
{
    char *text = response ? json_dumps(response, JSON_COMPACT) : NULL;
    json_decref(response);
    if (!text) {
        return -ENOMEM;
    }
    size_t len = strlen(text);
    struct rt_buf *buf;
    int r = rt_buf_alloc(len, RT_MEM_EGRESS, &buf);
    if (r == 0) {
        memcpy(buf->data, text, len);
        r = send_and_wipe(s, buf, len);
        rt_buf_unref(buf);
    }
    explicit_bzero(text, len); /* iscsi.export may give secrets */
    free(text);
    return r;
}

/* One request and its response: 0, or negative when the connection is at its end. */
static int converse(struct admin *a, struct net_stream *s)
{
    uint8_t head[4];
    int r = net_recv_all(s, head, sizeof head, rt_after_ms(IDLE_MS));
    if (r < 0) {
        return r;
    }
    uint32_t len = be32_load(head);
    if (len > REQUEST_MAX) {
        return ERR_PROTOCOL;
    }
    char *text = malloc(len + 1);
    if (!text) {
        return -ENOMEM;
    }
    json_error_t error;
    json_t *request = NULL;
    r = net_recv_all(s, text, len, rt_after_ms(IDLE_MS));
    if (r == 0) {
        request = json_loadb(text, len, 0, &error);
    }
    explicit_bzero(text, len); /* all of it: the next wipes its beginning only */
    crypt_wiping_free(text);   /* it may hold a password; so may the request (ctl/access.h) */
    if (r < 0) {
        return r;
    }
    if (!request) {
        return respond(s, ops_failure(OPS_USAGE, "the request is not JSON: %s", error.text));
    }
    json_t *response = ops_run(a->ops, request);
    json_decref(request);
    return respond(s, response);
}

static void serve(struct net_stream *s, void *arg)
{
    struct admin *a = arg;
    if (is_allowed(s)) {
        while (converse(a, s) >= 0) {
        }
    }
    net_close(s);
}

int admin_start(const char *socket_path, struct ops *ops, struct admin **ret_admin)
{
    struct admin *a = calloc(1, sizeof *a);
    if (!a) {
        return -ENOMEM;
    }
    a->ops = ops;
    char address[160];
    snprintf(address, sizeof address, "unix:%s", socket_path);
    struct net_listen_options opt = {
        .address = address,
        .name = "admin",
        .connections_max = 64,
        .apart = true, /* of a server full of clients something can still be asked */
        .serve = serve,
        .arg = a,
    };
    int r = net_listen(&opt, &a->listener);
    if (r < 0) {
        msg_error("ctl", "admin socket %s: %s", socket_path, err_text(r));
        free(a);
        return r;
    }
    *ret_admin = a;
    return 0;
}

void admin_stop(struct admin *a)
{
    if (a) {
        net_listener_close(a->listener);
        free(a);
    }
}

static int write_all(int fd, const void *data, size_t len)
{
    const char *at = data;
    while (len > 0) {
        ssize_t n = send(fd, at, len, MSG_NOSIGNAL);
        if (n < 0 && errno != EINTR) {
            return -errno;
        }
        if (n > 0) {
            at += n;
            len -= (size_t)n;
        }
    }
    return 0;
}

static int read_all(int fd, void *dst, size_t len)
{
    char *at = dst;
    while (len > 0) {
        ssize_t n = recv(fd, at, len, 0);
        if (n == 0) {
            return -ECONNRESET;
        }
        if (n < 0 && errno != EINTR) {
            return -errno;
        }
        if (n > 0) {
            at += n;
            len -= (size_t)n;
        }
    }
    return 0;
}

static int ask(int fd, const char *request, json_t **ret_response)
{
    uint8_t head[4];
    be32_store(head, (uint32_t)strlen(request));
    int r = write_all(fd, head, sizeof head);
    if (r == 0) {
        r = write_all(fd, request, strlen(request));
    }
    if (r == 0) {
        r = read_all(fd, head, sizeof head);
    }
    if (r < 0) {
        return r;
    }
    uint32_t len = be32_load(head);
    auto_free char *text = len <= MESSAGE_MAX ? malloc(len + 1) : NULL;
    if (!text) {
        return -EMSGSIZE;
    }
    r = read_all(fd, text, len);
    if (r < 0) {
        return r;
    }
    *ret_response = json_loadb(text, len, 0, NULL);
    explicit_bzero(text, len);
    return *ret_response ? 0 : ERR_PROTOCOL;
}

int admin_ask(const char *socket_path, const json_t *request, json_t **ret_response)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (strlen(socket_path) >= sizeof address.sun_path) {
        return -ENAMETOOLONG;
    }
    memcpy(address.sun_path, socket_path, strlen(socket_path));
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        return -errno;
    }
    int r = 0;
    if (connect(fd, (const struct sockaddr *)&address, sizeof address) < 0) {
        r = -errno;
    }
    auto_free char *text = r == 0 ? json_dumps(request, JSON_COMPACT) : NULL;
    if (r == 0) {
        r = text ? ask(fd, text, ret_response) : -ENOMEM;
    }
    if (text) {
        explicit_bzero(text, strlen(text)); /* it may hold a password */
    }
    (void)close(fd);
    return r;
}
