/* SPDX-License-Identifier: Apache-2.0 */
/* The peer is OpenSSL's own client on a blocking socket, in a thread. */
#include "../rt/rt_test.h"
#include "net/address.h"
#include "net/net.h"
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#define BYTES (2u << 20)

static char dir[] = "/tmp/zerofs-tls-XXXXXX";
static char ca_file[64];
static char cert_file[64];
static char key_file[64];

static void name_of(char *text, const char *file)
{
    (void)snprintf(text, 64, "%s/%s", dir, file);
}

/* A certificate for CN=name, signed by the issuer (or itself). */
static X509 *make_cert(EVP_PKEY *key, const char *name, X509 *issuer, EVP_PKEY *issuer_key)
{
    X509 *x = X509_new();
    assert_non_null(x);
    (void)X509_set_version(x, 2);
    (void)ASN1_INTEGER_set(X509_get_serialNumber(x), issuer ? 2 : 1);
    (void)X509_gmtime_adj(X509_getm_notBefore(x), -3600);
    (void)X509_gmtime_adj(X509_getm_notAfter(x), 86400);
    (void)X509_set_pubkey(x, key);
    (void)X509_NAME_add_entry_by_txt(X509_get_subject_name(x), "CN", MBSTRING_ASC,
                                     (const unsigned char *)name, -1, -1, 0);
    (void)X509_set_issuer_name(x, X509_get_subject_name(issuer ? issuer : x));
    if (!issuer) {
        X509_EXTENSION *e = X509V3_EXT_conf_nid(NULL, NULL, NID_basic_constraints, "CA:TRUE");
        (void)X509_add_ext(x, e, -1);
        X509_EXTENSION_free(e);
    }
    assert_true(X509_sign(x, issuer_key, EVP_sha256()) > 0);
    return x;
}

static void write_cert(const char *file, X509 *x)
{
    FILE *f = fopen(file, "w");
    assert_non_null(f);
    assert_int_equal(PEM_write_X509(f, x), 1);
    (void)fclose(f);
}

static int make_files(void **state)
{
    (void)state;
    assert_non_null(mkdtemp(dir));
    name_of(ca_file, "ca.pem");
    name_of(cert_file, "cert.pem");
    name_of(key_file, "key.pem");
    EVP_PKEY *ca_key = EVP_EC_gen("P-256");
    EVP_PKEY *key = EVP_EC_gen("P-256");
    X509 *ca = make_cert(ca_key, "test CA", NULL, ca_key);
    X509 *cert = make_cert(key, "localhost", ca, ca_key);
    write_cert(ca_file, ca);
    write_cert(cert_file, cert);
    FILE *f = fopen(key_file, "w");
    assert_non_null(f);
    assert_int_equal(PEM_write_PrivateKey(f, key, NULL, NULL, 0, NULL, NULL), 1);
    (void)fclose(f);
    X509_free(ca);
    X509_free(cert);
    EVP_PKEY_free(key);
    EVP_PKEY_free(ca_key);
    return 0;
}

static int remove_files(void **state)
{
    (void)state;
    (void)unlink(ca_file);
    (void)unlink(cert_file);
    (void)unlink(key_file);
    (void)rmdir(dir);
    return 0;
}

struct client {
    char address[NET_ADDRESS_SIZE];
    bool with_cert;
    int version;
    int result; /* 0: all came back; 1: refused */
    _Atomic bool done;
};

static int client_fd(const char *address)
{
    struct net_address a;
    CHECK(net_address_parse(address, &a) == 0);
    int fd = socket(a.sa.sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CHECK(fd >= 0 && connect(fd, &a.sa, a.len) == 0);
    return fd;
}

/* Sends pieces of odd sizes and reads each back: 0, or 1 when the server has ended the connection.
 */
static int client_talk(SSL *ssl)
{
    static uint8_t out[100000];
    static uint8_t in[100000];
    for (size_t i = 0; i < sizeof out; i++) {
        out[i] = (uint8_t)(i * 7 + (i >> 8));
    }
    for (size_t sum = 0, n = 1; sum < BYTES; sum += n, n = n * 3 % 99991) {
        if (SSL_write(ssl, out, (int)n) != (int)n) {
            return 1;
        }
        for (size_t got = 0; got < n;) {
            int r = SSL_read(ssl, in + got, (int)(n - got));
            if (r <= 0) {
                return 1;
            }
            got += (size_t)r;
        }
        CHECK(memcmp(in, out, n) == 0);
    }
    return 0;
}

static void *client_thread(void *arg)
{
    struct client *c = arg;
    SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
    CHECK(SSL_CTX_load_verify_locations(ctx, ca_file, NULL) == 1);
    SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER, NULL);
    CHECK(SSL_CTX_set_max_proto_version(ctx, c->version) == 1);
    if (c->with_cert) {
        CHECK(SSL_CTX_use_certificate_chain_file(ctx, cert_file) == 1);
        CHECK(SSL_CTX_use_PrivateKey_file(ctx, key_file, SSL_FILETYPE_PEM) == 1);
    }
    SSL *ssl = SSL_new(ctx);
    int fd = client_fd(c->address);
    char go;
    CHECK(recv(fd, &go, 1, 0) == 1 && go == 'G');
    CHECK(SSL_set_fd(ssl, fd) == 1);
    c->result = SSL_connect(ssl) == 1 ? client_talk(ssl) : 1;
    (void)SSL_shutdown(ssl);
    SSL_free(ssl);
    SSL_CTX_free(ctx);
    (void)close(fd);
    atomic_store(&c->done, true);
    return NULL;
}

static struct net_tls *tls;
static _Atomic int last_recv;

static void secure_echo(struct net_stream *s, void *arg)
{
    static _Thread_local uint8_t buf[40000];
    ssize_t n = -1;
    (void)arg;
    CHECK(net_send_copy(s, "G", 1) == 0);
    if (net_starttls(s, tls, RT_FOREVER) == 0) {
        while ((n = net_recv(s, buf, sizeof buf, RT_FOREVER)) > 0) {
            /* A small and a large piece, and by reference. */
            size_t half = (size_t)n / 2;
            struct rt_buf *b;
            CHECK(rt_buf_alloc((size_t)n, RT_MEM_OTHER, &b) == 0);
            memcpy(b->data, buf, (size_t)n);
            CHECK(net_send_copy(s, buf, half) == 0);
            CHECK(net_send_ref(s, b, b->data + half, (size_t)n - half) == 0);
            rt_buf_unref(b);
            if (net_send_wait(s, 1 << 20) < 0) {
                break;
            }
        }
    }
    atomic_store(&last_recv, (int)n);
    net_close(s);
}

static bool demand_cert;

static void tls_main(void *arg)
{
    struct client *c = arg;
    struct net_tls_options opt = {.cert_file = cert_file,
                                  .key_file = key_file,
                                  .ca_file = demand_cert ? ca_file : NULL,
                                  .verify_client = demand_cert};
    struct net_listen_options listen = {
        .address = "127.0.0.1:0", .name = "tls", .serve = secure_echo};
    struct net_listener *l;
    pthread_t thread;
    CHECK(net_tls_create(&opt, &tls) == 0);
    CHECK(net_listen(&listen, &l) == 0);
    net_listener_address(l, c->address);
    CHECK(pthread_create(&thread, NULL, client_thread, c) == 0);
    while (!atomic_load(&c->done) || net_listener_connections(l) > 0) {
        CHECK(rt_sleep_ms(1) == 0);
    }
    (void)pthread_join(thread, NULL);
    net_listener_close(l);
    net_tls_free(tls);
    CHECK(rt_mem_used(RT_MEM_EGRESS) == 0);
}

static int try_client(bool demand, bool with_cert, int version)
{
    struct client c = {.with_cert = with_cert, .version = version, .result = -1};
    demand_cert = demand;
    assert_int_equal(rt_run(&(struct rt_options){.cores = 1}, tls_main, &c), 0);
    return c.result;
}

static void echo_over_tls(void **state)
{
    (void)state;
    assert_int_equal(try_client(false, false, TLS1_3_VERSION), 0);
    assert_int_equal(atomic_load(&last_recv), 0);
    assert_int_equal(try_client(false, false, TLS1_2_VERSION), 0);
}

static void client_certificates(void **state)
{
    (void)state;
    assert_int_equal(try_client(true, true, TLS1_3_VERSION), 0);
    assert_int_equal(try_client(true, false, TLS1_3_VERSION), 1);
    assert_int_equal(try_client(true, false, TLS1_2_VERSION), 1);
    assert_int_equal(try_client(false, false, TLS1_1_VERSION), 1);
}

static void garbage_main(void *arg)
{
    struct net_tls_options opt = {.cert_file = cert_file, .key_file = key_file};
    struct net_stream *a;
    struct net_stream *b;
    (void)arg;
    CHECK(net_tls_create(&opt, &tls) == 0);
    CHECK(net_pipe(&a, &b) == 0);
    CHECK(net_send_copy(b, "GET / HTTP/1.0\r\n\r\n", 18) == 0);
    CHECK(net_starttls(a, tls, RT_FOREVER) == -EPROTO);
    CHECK(net_send_copy(a, "x", 1) == -EPROTO);
    net_close(a);
    net_close(b);
    CHECK(net_pipe(&a, &b) == 0);
    CHECK(net_starttls(a, tls, rt_after_ms(5)) == -ETIMEDOUT);
    net_close(a);
    net_close(b);
    CHECK(net_pipe(&a, &b) == 0);
    net_close(b);
    CHECK(net_starttls(a, tls, RT_FOREVER) == -ECONNRESET);
    net_close(a);
    net_tls_free(tls);
}

static void bad_handshakes(void **state)
{
    (void)state;
    run_on(1, garbage_main);
}

static void bad_files(void **state)
{
    struct net_tls *t;
    struct net_tls_options opt = {.cert_file = "/nonexistent", .key_file = key_file};
    (void)state;
    assert_int_equal(net_tls_create(&opt, &t), -EINVAL);
    opt = (struct net_tls_options){.cert_file = cert_file, .key_file = cert_file};
    assert_int_equal(net_tls_create(&opt, &t), -EINVAL);
    opt = (struct net_tls_options){
        .cert_file = cert_file, .key_file = key_file, .verify_client = true};
    assert_int_equal(net_tls_create(&opt, &t), -EINVAL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(echo_over_tls),
        cmocka_unit_test(client_certificates),
        cmocka_unit_test(bad_handshakes),
        cmocka_unit_test(bad_files),
    };
    return cmocka_run_group_tests(tests, make_files, remove_files);
}
