/* SPDX-License-Identifier: Apache-2.0 */
/* The configuration: what is read, what is refused and in which words. */
#include "base/err.h"
#include "ctl/config.h"
#include "ctl/config_priv.h"
#include "folder.h"
#include <errno.h>
#include <unistd.h>

#define PATH "config.toml"
/* What every good file has, but for encryption; on lines 1 to 4. */
#define PLAIN_HEAD "[storage]\nurl = \"memory:\"\n[cache]\ndir = \"/c\"\n"
/* What every good file has; on lines 1 to 4. */
#define HEAD "encryption.mode = \"none\"\nstorage.url = \"memory:\"\n[cache]\ndir = \"/c\"\n"

static void write_file(const char *text)
{
    FILE *f = fopen(PATH, "we");
    assert_non_null(f);
    assert_true(fputs(text, f) >= 0);
    assert_int_equal(fclose(f), 0);
}

/* Reads the text as a file; what is printed about it goes into said. */
static int load(const char *text, struct config **ret_config, char *said, size_t cap)
{
    write_file(text);
    memset(said, 0, cap);
    FILE *errors = fmemopen(said, cap - 1, "w");
    assert_non_null(errors);
    int r = config_load(PATH, errors, ret_config);
    assert_int_equal(fclose(errors), 0);
    return r;
}

static struct config *load_good(const char *text)
{
    struct config *c = NULL;
    char said[1024];
    int r = load(text, &c, said, sizeof said);
    if (r != 0 || *said) {
        fail_msg("%d: %s\nof:\n%s", r, said, text);
    }
    return c;
}

static void gives_defaults(void **state)
{
    (void)state;
    char host[256] = "";
    assert_int_equal(gethostname(host, sizeof host - 1), 0);
    struct config *c = load_good(HEAD);
    assert_string_equal(c->path, PATH);
    assert_string_equal(c->storage.url, "memory:");
    assert_string_equal(c->storage.owner, host);
    assert_string_equal(c->cache.dir, "/c");
    assert_string_equal(c->admin.unix_socket, "/c/zerofs.sock");
    assert_true(c->cache.memory_bytes == CONFIG_GB / 4);
    assert_int_equal(c->filesystem.compression.codec, LOG_CODEC_LZ4);
    assert_true(c->filesystem.max_size_bytes == 0);
    assert_int_equal(c->runtime.log_level, MSG_INFO);
    assert_false(c->nbd.enabled);
    assert_false(c->iscsi.enabled);
    assert_int_equal(c->nbd.addresses.count, 0);
    config_free(c);
}

static void an_empty_section_switches_a_server_on(void **state)
{
    (void)state;
    struct config *c = load_good(HEAD "[servers.nbd]\n[servers.iscsi]\n");
    assert_true(c->nbd.enabled);
    assert_true(c->iscsi.enabled);
    assert_int_equal(c->nbd.addresses.count, 1);
    assert_string_equal(c->nbd.addresses.at[0], "127.0.0.1:10809");
    assert_string_equal(c->iscsi.addresses.at[0], "127.0.0.1:3260");
    assert_null(c->nbd.unix_socket);
    assert_int_equal(c->nbd.tls, NBD_TLS_OFF);
    config_free(c);

    /* Who asks for a unix socket alone gets no TCP. */
    c = load_good(HEAD "[servers.nbd]\nunix_socket = \"/s\"\n");
    assert_int_equal(c->nbd.addresses.count, 0);
    config_free(c);
}

static void reads_every_key(void **state)
{
    (void)state;
    struct config *c = load_good("[storage]\n"
                                 "url = \"file:///srv/a\"\n"
                                 "owner = \"me\"\n"
                                 "[cache]\n"
                                 "dir = \"/var/cache/z\"\n"
                                 "memory_size_gb = 2\n"
                                 "disk_size_gb = 1.5\n"
                                 "[filesystem]\n"
                                 "compression = \"none\"\n"
                                 "max_size_gb = 0.001\n"
                                 "[encryption]\n"
                                 "mode = \"none\"\n"
                                 "[servers.nbd]\n"
                                 "addresses = [\"0.0.0.0:1\", \"[::1]:65535\"]\n"
                                 "unix_socket = \"/run/n\"\n"
                                 "tls = \"require\"\n"
                                 "tls_cert = \"/c\"\n"
                                 "tls_key = \"/k\"\n"
                                 "tls_ca = \"/a\"\n"
                                 "extended_headers = true\n"
                                 "[servers.iscsi]\n"
                                 "addresses = [\"[::]:3260\"]\n"
                                 "advertise = [\"192.0.2.1:3260\"]\n"
                                 "[admin]\n"
                                 "unix_socket = \"/run/z\"\n"
                                 "[runtime]\n"
                                 "cores = 3\n"
                                 "log_level = \"debug\"\n");
    assert_string_equal(c->storage.url, "file:///srv/a");
    assert_string_equal(c->storage.owner, "me");
    assert_true(c->cache.memory_bytes == 2 * CONFIG_GB);
    assert_true(c->cache.disk_bytes == 3 * CONFIG_GB / 2);
    assert_int_equal(c->filesystem.compression.codec, LOG_CODEC_NONE);
    assert_true(c->filesystem.max_size_bytes == CONFIG_GB / 1000);
    assert_int_equal(c->nbd.addresses.count, 2);
    assert_string_equal(c->nbd.addresses.at[1], "[::1]:65535");
    assert_string_equal(c->nbd.unix_socket, "/run/n");
    assert_int_equal(c->nbd.tls, NBD_TLS_REQUIRE);
    assert_string_equal(c->nbd.cert, "/c");
    assert_string_equal(c->nbd.key, "/k");
    assert_string_equal(c->nbd.ca, "/a");
    assert_true(c->nbd.extended_headers);
    assert_string_equal(c->iscsi.addresses.at[0], "[::]:3260");
    assert_string_equal(c->iscsi.advertise.at[0], "192.0.2.1:3260");
    assert_string_equal(c->admin.unix_socket, "/run/z");
    assert_int_equal(c->runtime.cores, 3);
    assert_int_equal(c->runtime.log_level, MSG_DEBUG);
    config_free(c);
}

static void expands_variables(void **state)
{
    (void)state;
    setenv("ZT_A", "one", 1);
    setenv("ZT_B_2", "two/$ZT_A", 1);
    static const struct {
        const char *text;
        const char *expanded;
    } good[] = {
        {"", ""},
        {"plain", "plain"},
        {"$ZT_A", "one"},
        {"${ZT_A}", "one"},
        {"x$ZT_A-y", "xone-y"},
        {"${ZT_A}s", "ones"},
        {"$ZT_A$ZT_A", "oneone"},
        {"${ZT_B_2}", "two/$ZT_A"}, /* once */
        {"$$", "$"},
        {"$$ZT_A", "$ZT_A"},
        {"a$$$ZT_A", "a$one"},
    };
    char why[256];
    for (size_t i = 0; i < ARRAY_LEN(good); i++) {
        char *text = config_expand(good[i].text, why, sizeof why);
        assert_non_null(text);
        assert_string_equal(text, good[i].expanded);
        free(text);
    }
    static const char *const bad[] = {"$",      "a$", "$ a",    "${",   "${}",
                                      "${ZT_A", "$1", "${ZT-A", "$-ZT", "${1A}"};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        assert_null(config_expand(bad[i], why, sizeof why));
        assert_non_null(strstr(why, "write '$$' for a dollar"));
    }
    assert_null(config_expand("${ZT_NOT_SET}", why, sizeof why));
    assert_string_equal(why, "the environment variable ZT_NOT_SET is not set");
    struct config *c = load_good("[storage]\nurl = \"file:///${ZT_A}\"\n[cache]\ndir = \"/$$\"\n"
                                 "[encryption]\nmode = \"none\"\n");
    assert_string_equal(c->storage.url, "file:///one");
    assert_string_equal(c->cache.dir, "/$");
    config_free(c);
}

/* Each mistake by itself, with its line. */
static void reads_an_isns_server(void **state)
{
    (void)state;
    char host[256] = "";
    assert_int_equal(gethostname(host, sizeof host - 1), 0);
    struct config *c = load_good(HEAD "[servers.iscsi.isns]\nserver = \"[::1]:3206\"\n");
    assert_true(c->iscsi.enabled);
    assert_string_equal(c->iscsi.isns.server, "[::1]:3206");
    assert_string_equal(c->iscsi.isns.entity, host);
    assert_int_equal(c->iscsi.isns.period_s, 3600);
    assert_int_equal(c->iscsi.isns.esi_interval_s, 60);
    assert_false(c->iscsi.isns.udp || c->iscsi.isns.domains || c->iscsi.isns.notifications);
    config_free(c);
    c = load_good(HEAD "[servers.iscsi.isns]\nserver = \"isns.example.net\"\nentity = \"e\"\n"
                       "period_secs = 600\nesi_interval_secs = 0\nesi_transport = \"udp\"\n"
                       "port = 3206\ndiscovery_domains = true\n");
    assert_string_equal(c->iscsi.isns.entity, "e");
    assert_int_equal(c->iscsi.isns.period_s, 600);
    assert_int_equal(c->iscsi.isns.esi_interval_s, 0);
    assert_int_equal(c->iscsi.isns.port, 3206);
    assert_true(c->iscsi.isns.udp && c->iscsi.isns.domains && c->iscsi.isns.notifications);
    config_free(c);
    c = load_good(HEAD "[servers.iscsi.isns]\nserver = \"a\"\ndiscovery_domains = true\n"
                       "notifications = false\n");
    assert_true(c->iscsi.isns.domains && !c->iscsi.isns.notifications);
    config_free(c);
}

static void names_every_mistake(void **state)
{
    (void)state;
    static const struct {
        const char *text; /* behind HEAD: the first line is 5 */
        const char *said;
    } table[] = {
        {"[cach]\n", "5: unknown section [cach]"},
        {"[filesystem]\ncompresion = \"lz4\"\n",
         "6: unknown key filesystem.compresion; did you mean filesystem.compression?"},
        {"[runtime]\n\ncore = 1\n", "7: unknown key runtime.core; did you mean runtime.cores?"},
        {"[runtime]\nwhatever = 1\n", "6: unknown key runtime.whatever"},
        {"[storage.url]\n", "5: "},
        {"[[servers.nbd]]\n", "5: unknown key servers.nbd"},
        {"[servers.nbd]\naddresses = \"127.0.0.1:1\"\n",
         "6: servers.nbd.addresses must be a list: [\"...\"]"},
        {"[servers.nbd]\naddresses = [1]\n", "6: servers.nbd.addresses must be a string in quotes"},
        {"[servers.nbd]\naddresses = [\n  \"127.0.0.1:1\",\n  \"localhost:1\"]\n",
         "8: servers.nbd.addresses: \"localhost:1\" is not an address"},
        {"[servers.iscsi]\nadvertise = [\"1.2.3.4\"]\n", "6: servers.iscsi.advertise: \"1.2.3.4\""},
        {"[servers.iscsi.isns]\nentity = \"e\"\n", "5: servers.iscsi.isns.server is missing"},
        {"[servers.iscsi.isns]\nserver = \"a:b\"\n",
         "6: servers.iscsi.isns.server: \"a:b\" is not HOST"},
        {"[servers.iscsi.isns]\nserver = \"a\"\nperiod_secs = 1\n",
         "7: servers.iscsi.isns.period_secs must be a whole number from 10"},
        {"[servers.iscsi.isns]\nserver = \"a\"\nesi_transport = \"sctp\"\n",
         "7: servers.iscsi.isns.esi_transport must be"},
        {"[servers.nbd]\ntls = \"on\"\n", "6: servers.nbd.tls must be \"off\", \"allow\""},
        {"[servers.nbd]\ntls = \"require\"\n", "6: servers.nbd.tls needs tls_cert and tls_key"},
        {"[servers.nbd]\nextended_headers = 1\n",
         "6: servers.nbd.extended_headers must be true or false"},
        {"[servers.nbd]\nunix_socket = [\"/a\"]\n",
         "6: servers.nbd.unix_socket must not be a list"},
        {"[servers.nbd]\nunix_socket = \"\"\n", "6: servers.nbd.unix_socket must not be empty"},
        {"[servers.nbd]\nunix_socket = \"a\\u0000b\"\n", "6: servers.nbd.unix_socket must be"},
        {"[filesystem]\ncompression = \"zip\"\n",
         "6: filesystem.compression must be \"none\", \"lz4\" or"},
        {"[filesystem]\nmax_size_gb = \"1\"\n", "6: filesystem.max_size_gb must be a number"},
        {"[filesystem]\nmax_size_gb = -1\n", "6: filesystem.max_size_gb must be between"},
        {"[filesystem]\nmax_size_gb = nan\n", "6: filesystem.max_size_gb must be between"},
        {"[filesystem]\nmax_size_gb = 1979-05-27\n", "6: filesystem.max_size_gb must be a number"},
        {"[runtime]\ncores = 0\n", "6: runtime.cores must be a whole number from 1"},
        {"[runtime]\ncores = 1.5\n", "6: runtime.cores must be a whole number from 1"},
        {"[runtime]\ncores = 100000\n", "6: runtime.cores must be a whole number from 1"},
        {"[runtime]\nlog_level = \"loud\"\n", "6: runtime.log_level must be \"error\""},
        {"[admin]\nunix_socket = \"$ZT_NOT_SET\"\n",
         "6: admin.unix_socket: the environment variable ZT_NOT_SET is not set"},
        {"[admin]\nunix_socket = \"/ab$\"\n", "6: admin.unix_socket: a '$' must begin"},
        {"[admin]\nunix_socket = "
         "\"/1234567890123456789012345678901234567890123456789012345678901234"
         "567890123456789012345678901234567890\"\n",
         "6: the admin socket's path is longer than 100 bytes"},
        {"[cache]\n", "5: "},            /* a second time */
        {"[runtime]\ncores =\n", "6: "}, /* not TOML */
        {"[runtime\n", "5: "},
        {"[runtime]\nlog_level = \"\xff\"\n", "6: "},
    };
    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        char text[1024], said[1024], want[256];
        struct config *c = NULL;
        snprintf(text, sizeof text, HEAD "%s", table[i].text);
        snprintf(want, sizeof want, PATH ":%s", table[i].said);
        int r = load(text, &c, said, sizeof said);
        if (r != ERR_CONFIG || c || strncmp(said, want, strlen(want)) != 0 ||
            strchr(said, '\n') != said + strlen(said) - 1) {
            fail_msg("%d, and should have said\n%s\nbut said\n%s\nof:\n%s", r, want, said, text);
        }
    }
}

static void encryption_is_said_in_one_way(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        const char *said;
    } bad[] = {
        {"", ":1: [encryption] must say one of"},
        {"[encryption]\n", ":5: [encryption] must say one of"},
        {"[encryption]\ncipher = \"auto\"\n", ":5: [encryption] must say one of"},
        {"[encryption]\nmode = \"aes\"\n", ":6: encryption.mode may only be \"none\""},
        {"[encryption]\nmode = \"none\"\nkey_file = \"/k\"\n",
         ":6: [encryption] must say only one"},
        {"[encryption]\npassword_file = \"/p\"\nkey_file = \"/k\"\n",
         ":7: [encryption] must say only one"},
        {"[encryption]\npassword = \"Sesame-77\"\npassword_file = \"/p\"\n",
         ":7: [encryption] must say only one"},
        {"[encryption]\npassword = \"Ses77\"\n",
         ":6: encryption.password: a password has at least 8"},
        {"[encryption]\npassword = \"CHANGEME\"\n", ":6: encryption.password: CHANGEME is no"},
        {"[encryption]\npassword = 12345678\n", ":6: encryption.password must be a string"},
        {"[encryption]\nmode = \"none\"\ncipher = \"none\"\n", ":7: encryption.cipher must be"},
    };
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        char text[512], said[1024];
        struct config *c = NULL;
        snprintf(text, sizeof text, PLAIN_HEAD "%s", bad[i].text);
        int r = load(text, &c, said, sizeof said);
        if (r != ERR_CONFIG || !strstr(said, bad[i].said) || strstr(said, "Ses")) {
            fail_msg("%d, and should have said\n%s\nbut said\n%s\nof:\n%s", r, bad[i].said, said,
                     text);
        }
    }
}

static void takes_each_way_of_encryption(void **state)
{
    (void)state;
    assert_int_equal(setenv("ZT_PASSWORD", "Sesame-77", 1), 0);
    struct config *c = load_good(PLAIN_HEAD "[encryption]\npassword = \"$ZT_PASSWORD\"\n");
    assert_string_equal((char *)c->encryption.password->bytes, "Sesame-77");
    assert_int_equal(c->encryption.cipher, crypt_cipher_best());
    config_free(c);
    c = load_good("[cache]\ndir = \"/c\"\n[storage]\nurl = \"memory:\"\n"
                  "encryption_password = \"open sesame\"\n");
    assert_string_equal((char *)c->encryption.password->bytes, "open sesame");
    assert_false(c->encryption.none);
    config_free(c);
    c = load_good(PLAIN_HEAD "[encryption]\npassword_file = \"/p\"\n"
                             "cipher = \"chacha20-poly1305\"\n");
    assert_string_equal(c->encryption.password_file, "/p");
    assert_int_equal(c->encryption.cipher, CRYPT_CHACHA20_POLY1305);
    config_free(c);
    c = load_good(PLAIN_HEAD "[encryption]\nkey_file = \"/k\"\n");
    assert_string_equal(c->encryption.key_file, "/k");
    config_free(c);
}

static void names_them_all_at_once(void **state)
{
    (void)state;
    char said[2048];
    struct config *c = NULL;
    const char *text = "[runtime]\n"
                       "cores = 0\n"
                       "[storage]\n"
                       "owner = 5\n"
                       "[cache]\n"
                       "memory_size_gb = 0.001\n"
                       "[nonsense]\n"
                       "a = 1\n";
    assert_int_equal(load(text, &c, said, sizeof said), ERR_CONFIG);
    static const char *const wanted[] = {
        ":2: runtime.cores",         ":4: storage.owner",          ":6: cache.memory_size_gb",
        ":7: unknown section",       ":8: unknown key nonsense.a", ":3: [storage] url is missing",
        ":5: [cache] dir is missing"};
    for (size_t i = 0; i < ARRAY_LEN(wanted); i++) {
        if (!strstr(said, wanted[i])) {
            fail_msg("%s is not in\n%s", wanted[i], said);
        }
    }
}

static void a_bad_store_url_is_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {"", "/srv/store", "ftp://x", "file://relative/x",
                                      "memory:?nonsense=1"};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        char text[256], said[512];
        struct config *c = NULL;
        snprintf(text, sizeof text, "[cache]\ndir = \"/c\"\n[storage]\nurl = \"%s\"\n", bad[i]);
        assert_int_equal(load(text, &c, said, sizeof said), ERR_CONFIG);
        assert_non_null(strstr(said, PATH ":4: storage.url"));
        assert_null(strstr(said, "missing"));
    }
}

static void files_that_cannot_be_read(void **state)
{
    (void)state;
    char said[512] = "";
    struct config *c = NULL;
    FILE *errors = fmemopen(said, sizeof said - 1, "w");
    assert_non_null(errors);
    assert_int_equal(config_load("no/such/file", errors, &c), -ENOENT);
    assert_true(config_load(folder, errors, &c) < 0);
    assert_int_equal(fclose(errors), 0);
    assert_non_null(strstr(said, "no/such/file: cannot be read: "));
    assert_non_null(strstr(said, folder));

    char *long_text = malloc((2u << 20) + 1);
    assert_non_null(long_text);
    memset(long_text, '#', 2u << 20);
    long_text[2u << 20] = 0;
    assert_int_equal(load(long_text, &c, said, sizeof said), -EFBIG);
    free(long_text);
}

static void addresses(void **state)
{
    (void)state;
    static const char *const good[] = {"127.0.0.1:0", "0.0.0.0:65535", "[::1]:3260",
                                       "[2001:db8::1]:1", "[::ffff:1.2.3.4]:5"};
    static const char *const bad[] = {"",
                                      ":",
                                      ":3260",
                                      "127.0.0.1",
                                      "127.0.0.1:",
                                      "127.0.0.1:65536",
                                      "127.0.0.1:99999999999",
                                      "127.0.0.1:-1",
                                      "127.0.0.1: 1",
                                      "127.0.0.1:1x",
                                      "127.0.0:1",
                                      "1.2.3.4.5:1",
                                      "localhost:1",
                                      "::1:3260",
                                      "[::1]",
                                      "[]:1",
                                      "[::1:1",
                                      "[127.0.0.1]:1",
                                      "[1:2:3:4:5:6:7:8:9:10:11:12:13:14:15:16:17:18:19:20:21]:1"};
    char why[128];
    for (size_t i = 0; i < ARRAY_LEN(good); i++) {
        assert_true(config_address_ok(good[i], why, sizeof why));
    }
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        if (config_address_ok(bad[i], why, sizeof why)) {
            fail_msg("'%s' was taken", bad[i]);
        }
    }
}

static void the_template_loads_as_it_is(void **state)
{
    (void)state;
    static const struct {
        const char *folder;
        const char *in_url;
    } table[] = {
        {"/srv/zerofs", "/srv/zerofs"},
        {"/with \"quotes\"/and $dollar/\\back", "/with \"quotes\"/and $dollar/\\back"},
        {"/100%/what?/a\tb\n", "/100%25/what%3f/a%09b%0a"},
    };
    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        char url[128], dir[128];
        char *text = config_template(table[i].folder, i ? table[i].folder : NULL);
        assert_non_null(text);
        struct config *c = load_good(text);
        snprintf(url, sizeof url, "file://%s/store", table[i].in_url);
        snprintf(dir, sizeof dir, "%s/cache", table[i].folder);
        assert_string_equal(c->storage.url, url);
        assert_string_equal(c->cache.dir, dir);
        assert_int_equal(c->encryption.none, i == 0);
        if (i > 0) {
            assert_string_equal(c->encryption.password_file, table[i].folder);
        }
        assert_true(c->nbd.enabled && c->iscsi.enabled);
        assert_string_equal(c->nbd.addresses.at[0], "127.0.0.1:10809");
        assert_string_equal(c->iscsi.addresses.at[0], "127.0.0.1:3260");
        config_free(c);
        free(text);
    }
}

static void every_line_of_the_template_is_true(void **state)
{
    (void)state;
    /* With each "# key = value" and "# [section]" taken out of its comment. */
    char *text = config_template("/srv", "/etc/zerofs/password");
    assert_non_null(text);
    for (char *at = text; at; at = strchr(at, '\n') ? strchr(at, '\n') + 1 : NULL) {
        const char *equals = strchr(at, '=');
        const char *end = strchr(at, '\n');
        bool is_key = equals && end && equals < end && strncmp(at, "# ZeroFS", 8) != 0;
        if (at[0] == '#' && (is_key || at[2] == '[')) {
            at[0] = ' ';
        }
    }
    struct config *c = load_good(text);
    assert_string_equal(c->storage.owner, "server-1");
    assert_string_equal(c->store.s3.endpoint, "https://s3.example.net:9000");
    assert_true(c->filesystem.max_size_bytes == 100 * CONFIG_GB);
    assert_int_equal(c->nbd.tls, NBD_TLS_REQUIRE);
    assert_string_equal(c->iscsi.advertise.at[0], "192.0.2.1:3260");
    assert_int_equal(c->runtime.cores, 2);
    config_free(c);
    free(text);
}

static void finds_the_file(void **state)
{
    (void)state;
    assert_string_equal(config_find("given.toml"), "given.toml");
    (void)unlink(CONFIG_DEFAULT_NAME);
    const char *found = config_find(NULL);
    assert_true(!found || strcmp(found, CONFIG_SYSTEM_PATH) == 0);
    FILE *f = fopen(CONFIG_DEFAULT_NAME, "we");
    assert_non_null(f);
    assert_int_equal(fclose(f), 0);
    assert_string_equal(config_find(NULL), CONFIG_DEFAULT_NAME);
}

static void tells_what_waits_for_a_start(void **state)
{
    (void)state;
    struct config *old = load_good(HEAD "[servers.iscsi]\n");
    struct config *same = load_good(HEAD "[servers.iscsi]\nadvertise = [\"192.0.2.1:3260\"]\n"
                                         "[filesystem]\ncompression = \"none\"\n"
                                         "[runtime]\nlog_level = \"warn\"\n");
    struct config *other = load_good("[storage]\nurl = \"file:///x\"\n[cache]\ndir = \"/c\"\n"
                                     "memory_size_gb = 3\n[encryption]\nmode = \"none\"\n"
                                     "[servers.nbd]\n[servers.iscsi]\n"
                                     "addresses = [\"127.0.0.1:1\"]\n");
    char said[1024] = "";
    FILE *out = fmemopen(said, sizeof said - 1, "w");
    assert_non_null(out);
    assert_int_equal(config_report_fixed(old, old, out), 0);
    assert_int_equal(config_report_fixed(old, same, out), 0);
    assert_int_equal(fflush(out), 0);
    assert_string_equal(said, "");
    assert_int_equal(config_report_fixed(old, other, out), 5);
    assert_int_equal(fclose(out), 0);
    static const char *const wanted[] = {"storage.url ", "cache.memory_size_gb ", "servers.nbd ",
                                         "servers.nbd.addresses ", "servers.iscsi.addresses "};
    for (size_t i = 0; i < ARRAY_LEN(wanted); i++) {
        assert_non_null(strstr(said, wanted[i]));
    }
    config_free(old);
    config_free(same);
    config_free(other);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gives_defaults),
        cmocka_unit_test(an_empty_section_switches_a_server_on),
        cmocka_unit_test(reads_every_key),
        cmocka_unit_test(expands_variables),
        cmocka_unit_test(reads_an_isns_server),
        cmocka_unit_test(names_every_mistake),
        cmocka_unit_test(encryption_is_said_in_one_way),
        cmocka_unit_test(takes_each_way_of_encryption),
        cmocka_unit_test(names_them_all_at_once),
        cmocka_unit_test(a_bad_store_url_is_refused),
        cmocka_unit_test(files_that_cannot_be_read),
        cmocka_unit_test(addresses),
        cmocka_unit_test(the_template_loads_as_it_is),
        cmocka_unit_test(every_line_of_the_template_is_true),
        cmocka_unit_test(finds_the_file),
        cmocka_unit_test(tells_what_waits_for_a_start),
    };
    return cmocka_run_group_tests(tests, folder_enter, folder_leave);
}
