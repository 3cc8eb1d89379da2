/* SPDX-License-Identifier: Apache-2.0 */
#include "base/bytes.h"
#include "base/err.h"
#include "ctl/config.h"
#include "ctl/config_priv.h"
#include <arpa/inet.h>
#include <ctype.h>
#include <string.h>
#include <unistd.h>

#define EDIT_DISTANCE_MAX_LEN 48
#define EXPANSION_ROOM 4096

int config_error(void)
{
    return ERR_CONFIG;
}

void config_wipe(char *text)
{
    if (text) {
        explicit_bzero(text, strlen(text));
        free(text);
    }
}

/* The length of the variable's name at text; 0 when there is none. */
static size_t variable_len(const char *text)
{
    size_t len = 0;
    if (!isalpha((unsigned char)text[0]) && text[0] != '_') {
        return 0;
    }
    while (isalnum((unsigned char)text[len]) || text[len] == '_') {
        len++;
    }
    return len;
}

/* Expands the variable at *at, which is just behind a dollar, and moves *at behind it. */
static bool expand_one(const char **at, struct bytes_writer *out, char *ret_why, size_t why_cap)
{
    if (**at == '$') {
        bytes_put_u8(out, '$');
        ++*at;
        return true;
    }
    bool braced = **at == '{';
    const char *start = *at + braced;
    size_t len = variable_len(start);
    char name[128];
    if (len == 0 || len >= sizeof name || (braced && start[len] != '}')) {
        snprintf(ret_why, why_cap, "a '$' must begin $VAR or ${VAR}; write '$$' for a dollar");
        return false;
    }
    memcpy(name, start, len);
    name[len] = 0;
    const char *value = getenv(name);
    if (!value) {
        snprintf(ret_why, why_cap, "the environment variable %s is not set", name);
        return false;
    }
    bytes_put(out, value, strlen(value));
    *at = start + len + braced;
    return true;
}

char *config_expand(const char *text, char *ret_why, size_t why_cap)
{
    struct bytes_writer out = {0};
    /* Growing would leave copies of what may be a password behind. */
    (void)bytes_grow(&out, strlen(text) + EXPANSION_ROOM);
    out.len = 0;
    while (*text) {
        const char *dollar = strchrnul(text, '$');
        bytes_put(&out, text, (size_t)(dollar - text));
        text = dollar;
        if (*text == '$') {
            text++;
            if (!expand_one(&text, &out, ret_why, why_cap)) {
                bytes_writer_free(&out);
                return NULL;
            }
        }
    }
    bytes_put_u8(&out, 0);
    if (out.failed) {
        snprintf(ret_why, why_cap, "out of memory");
        bytes_writer_free(&out);
        return NULL;
    }
    return (char *)out.data;
}

bool config_address_ok(const char *address, char *ret_why, size_t why_cap)
{
    const char *colon = strrchr(address, ':');
    const char *port = colon ? colon + 1 : "";
    size_t digits = strspn(port, "0123456789");
    size_t host_len = colon ? (size_t)(colon - address) : 0;
    bool v6 = host_len > 2 && address[0] == '[' && address[host_len - 1] == ']';
    bool port_ok =
        digits > 0 && digits <= 5 && port[digits] == 0 && strtoul(port, NULL, 10) < 65536;
    bool host_ok = false;
    char host[64] = "";
    if (host_len > 0 && host_len < sizeof host) {
        struct in6_addr parsed;
        memcpy(host, address + v6, host_len - 2 * v6);
        host_ok = inet_pton(v6 ? AF_INET6 : AF_INET, host, &parsed) == 1;
    }
    if (port_ok && host_ok) {
        return true;
    }
    snprintf(ret_why, why_cap, "\"%.60s\" is not an address like 127.0.0.1:10809 or [::1]:3260",
             address);
    return false;
}

static unsigned edit_distance(const char *a, const char *b)
{
    unsigned row[EDIT_DISTANCE_MAX_LEN + 1];
    size_t b_len = strlen(b);
    if (b_len > EDIT_DISTANCE_MAX_LEN) {
        return UINT32_MAX;
    }
    for (unsigned j = 0; j <= b_len; j++) {
        row[j] = j;
    }
    for (unsigned i = 1; a[i - 1]; i++) {
        unsigned diagonal = row[0];
        row[0] = i;
        for (unsigned j = 1; j <= b_len; j++) {
            unsigned above = row[j];
            unsigned best = MIN_OF(above, row[j - 1]) + 1;
            row[j] = MIN_OF(best, diagonal + (a[i - 1] != b[j - 1]));
            diagonal = above;
        }
    }
    return row[b_len];
}

const char *config_nearest(const char *key, const char *const *names, size_t count, size_t stride)
{
    const char *best = NULL;
    unsigned best_distance = 4;
    for (size_t i = 0; i < count; i++) {
        const char *name = *(const char *const *)(const void *)((const char *)names + i * stride);
        unsigned distance = edit_distance(key, name);
        if (distance < best_distance) {
            best_distance = distance;
            best = name;
        }
    }
    return best;
}

char *config_join(const char *folder, const char *name)
{
    char *path = NULL;
    return asprintf(&path, "%s/%s", folder, name) < 0 ? NULL : path;
}

static void list_free(struct config_list *list)
{
    for (size_t i = 0; i < list->count; i++) {
        free(list->at[i]);
    }
    free(list->at);
}

static void free_s3(struct obj_s3_options *o)
{
    crypt_secret_free(o->secret_access_key);
    crypt_secret_free(o->session_token);
    free(o->access_key_id);
    free(o->profile);
    free(o->credentials_file);
    free(o->region);
    free(o->endpoint);
    free(o->ca_bundle);
    free(o->storage_class);
    free(o->metadata_endpoint);
}

void config_free(struct config *c)
{
    if (!c) {
        return;
    }
    free(c->path);
    free(c->storage.url);
    free(c->storage.owner);
    free_s3(&c->store.s3);
    crypt_secret_free(c->encryption.password);
    free(c->encryption.password_file);
    free(c->encryption.key_file);
    free(c->cache.dir);
    list_free(&c->nbd.addresses);
    free(c->nbd.unix_socket);
    free(c->nbd.cert);
    free(c->nbd.key);
    free(c->nbd.ca);
    list_free(&c->iscsi.addresses);
    list_free(&c->iscsi.advertise);
    list_free(&c->iscsi.drain_redirect);
    free(c->iscsi.keytab);
    free(c->iscsi.principal);
    free(c->iscsi.isns.server);
    free(c->iscsi.isns.entity);
    free(c->admin.unix_socket);
    free(c);
}

const char *config_find(const char *given)
{
    if (given) {
        return given;
    }
    if (access(CONFIG_DEFAULT_NAME, F_OK) == 0) {
        return CONFIG_DEFAULT_NAME;
    }
    return access(CONFIG_SYSTEM_PATH, F_OK) == 0 ? CONFIG_SYSTEM_PATH : NULL;
}

static const char template_text[] =
    "# ZeroFS configuration. In strings, $VAR and ${VAR} are replaced by the environment; $$ is a "
    "dollar.\n"
    "\n"
    "[storage]\n"
    "url = \"file://%s/store\"      # where the volume lives\n"
    "#                             # or \"s3://bucket/prefix\", with [aws]\n"
    "# owner = \"server-1\"          # who opens the volume; default: the host's name\n"
    "\n"
    "# [aws]                       # for s3://; what is left out comes from the environment,\n"
    "#                             # ~/.aws/credentials, or the services of ECS and EC2\n"
    "# access_key_id = \"AKIAIOSFODNN7EXAMPLE\"\n"
    "# secret_access_key = \"wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY\"\n"
    "# region = \"eu-central-1\"\n"
    "# endpoint = \"https://s3.example.net:9000\"   # a server that is not Amazon's\n"
    "\n"
    "[cache]\n"
    "dir = \"%s/cache\"             # local: lock, admin socket\n"
    "memory_size_gb = 1.0          # all the memory the server may use, in 10^9 bytes\n"
    "\n"
    "[filesystem]\n"
    "compression = \"lz4\"           # or \"none\", \"zstd-1\" to \"zstd-19\"\n"
    "# max_size_gb = 100.0         # refuse writes beyond this much stored data\n"
    "\n"
    "%s"
    "\n"
    "[servers.nbd]\n"
    "addresses = [\"127.0.0.1:10809\"]\n"
    "# unix_socket = \"/run/zerofs/nbd.sock\"\n"
    "# tls = \"require\"             # \"off\", \"allow\" or \"require\"\n"
    "# tls_cert = \"/etc/zerofs/server.pem\"\n"
    "# tls_key = \"/etc/zerofs/server.key\"\n"
    "# tls_ca = \"/etc/zerofs/clients.pem\"   # clients must show a certificate signed by it\n"
    "# extended_headers = true     # the protocol's experiment; for clients that ask for it\n"
    "\n"
    "[servers.iscsi]\n"
    "addresses = [\"127.0.0.1:3260\"]\n"
    "# advertise = [\"192.0.2.1:3260\"]   # what discovery tells, if not the address a client came "
    "to\n"
    "# drain_redirect = \"192.0.2.2:3260\"   # where initiators are sent while the server stops\n"
    "# chap_minimum = \"sha256\"     # weaker CHAP algorithms will not do\n"
    "# session_connections = 1     # MC/S; default: up to 8, if the initiator asks\n"
    "# error_recovery = 0          # ErrorRecoveryLevel; default: up to 2, if the initiator asks\n"
    "\n"
    "# [servers.iscsi.kerberos]    # for accounts made with --kerberos\n"
    "# keytab = \"/etc/zerofs/zerofs.keytab\"\n"
    "# principal = \"iscsi/san.example.com@EXAMPLE.COM\"   # default: iscsi/ and the target's "
    "name\n"
    "\n"
    "# [servers.iscsi.isns]        # the iSNS server where the targets are registered\n"
    "# server = \"192.0.2.9\"        # a host, or host:port\n"
    "# entity = \"storage-1\"        # this server's name there; default: the host's name\n"
    "# period_secs = 3600          # a registration that nobody renews ends after this time\n"
    "# esi_interval_secs = 60      # so often is it to ask whether we are there; 0: never\n"
    "# esi_transport = \"tcp\"       # or \"udp\"\n"
    "# port = 0                    # where it asks; 0: any that is free\n"
    "# discovery_domains = true    # targets are shown to members of their domains only\n"
    "# notifications = true        # changes of domains are to be told; default: as "
    "discovery_domains\n"
    "\n"
    "# [admin]\n"
    "# unix_socket = \"/run/zerofs/admin.sock\"   # default: zerofs.sock in the cache folder\n"
    "\n"
    "# [runtime]\n"
    "# cores = 2                   # default: all that the process may use\n"
    "# log_level = \"info\"          # \"error\", \"warn\", \"info\" or \"debug\"\n";

/* The folder as it stands inside a TOML string that is expanded, and inside a URL in one. */
static char *escape_folder(const char *folder, bool in_url)
{
    struct bytes_writer out = {0};
    for (const char *at = folder; *at; at++) {
        char code[8];
        bool control = (unsigned char)*at < 0x20 || *at == 0x7f;
        if (in_url && (control || *at == '%' || *at == '?')) {
            snprintf(code, sizeof code, "%%%02x", (unsigned char)*at);
        } else if (control) {
            snprintf(code, sizeof code, "\\u%04x", (unsigned char)*at);
        } else {
            const char *before = *at == '"' || *at == '\\' ? "\\" : *at == '$' ? "$" : "";
            snprintf(code, sizeof code, "%s%c", before, *at);
        }
        bytes_put(&out, code, strlen(code));
    }
    bytes_put_u8(&out, 0);
    if (out.failed) {
        bytes_writer_free(&out);
    }
    return (char *)out.data;
}

static const char encrypted_text[] =
    "[encryption]\n"
    "password_file = \"%s\"   # whoever loses it loses the data: keep a copy elsewhere\n"
    "# In its place: password, key_file (32 random bytes), or mode \"none\", which stores in "
    "clear.\n"
    "# cipher = \"auto\"             # \"aes-256-gcm\" or \"chacha20-poly1305\"\n";
static const char clear_text[] =
    "[encryption]\n"
    "mode = \"none\"                 # everything is stored in clear\n";

/* The section of that name, to be freed. */
static char *encryption_section(const char *password_file)
{
    if (!password_file) {
        return strdup(clear_text);
    }
    auto_free char *place = escape_folder(password_file, false);
    char *text = NULL;
    return place && asprintf(&text, encrypted_text, place) >= 0 ? text : NULL;
}

char *config_template(const char *folder, const char *password_file)
{
    auto_free char *encryption = encryption_section(password_file);
    auto_free char *url_place = escape_folder(folder, true);
    auto_free char *place = escape_folder(folder, false);
    char *text = NULL;
    bool ok = url_place && place && encryption &&
              asprintf(&text, template_text, url_place, place, encryption) >= 0;
    return ok ? text : NULL;
}

static bool same_text(const char *a, const char *b)
{
    return a == b || (a && b && strcmp(a, b) == 0);
}

static bool same_list(const struct config_list *a, const struct config_list *b)
{
    bool same = a->count == b->count;
    for (size_t i = 0; same && i < a->count; i++) {
        same = strcmp(a->at[i], b->at[i]) == 0;
    }
    return same;
}

static bool same_s3(const struct obj_s3_options *a, const struct obj_s3_options *b)
{
    return same_text(a->access_key_id, b->access_key_id) &&
           crypt_secret_equal(a->secret_access_key, b->secret_access_key) &&
           crypt_secret_equal(a->session_token, b->session_token) &&
           same_text(a->profile, b->profile) &&
           same_text(a->credentials_file, b->credentials_file) && same_text(a->region, b->region) &&
           same_text(a->endpoint, b->endpoint) && same_text(a->ca_bundle, b->ca_bundle) &&
           same_text(a->storage_class, b->storage_class) &&
           same_text(a->metadata_endpoint, b->metadata_endpoint) &&
           a->allow_http == b->allow_http && a->virtual_hosted == b->virtual_hosted &&
           a->path_style == b->path_style && a->skip_signature == b->skip_signature &&
           a->unsafe_single_writer == b->unsafe_single_writer &&
           a->max_connections == b->max_connections &&
           a->connect_timeout_ms == b->connect_timeout_ms && a->timeout_ms == b->timeout_ms;
}

static bool same_isns(const struct config *old, const struct config *fresh)
{
    return old->iscsi.isns.period_s == fresh->iscsi.isns.period_s &&
           old->iscsi.isns.esi_interval_s == fresh->iscsi.isns.esi_interval_s &&
           old->iscsi.isns.port == fresh->iscsi.isns.port &&
           old->iscsi.isns.udp == fresh->iscsi.isns.udp &&
           old->iscsi.isns.domains == fresh->iscsi.isns.domains &&
           old->iscsi.isns.notifications == fresh->iscsi.isns.notifications;
}

unsigned config_report_fixed(const struct config *old, const struct config *fresh, FILE *out)
{
    const struct {
        const char *key;
        bool same;
    } fixed[] = {
        {"storage.url", same_text(old->storage.url, fresh->storage.url)},
        {"storage.owner", same_text(old->storage.owner, fresh->storage.owner)},
        {"aws", same_s3(&old->store.s3, &fresh->store.s3)},
        {"cache.dir", same_text(old->cache.dir, fresh->cache.dir)},
        {"cache.memory_size_gb", old->cache.memory_bytes == fresh->cache.memory_bytes},
        {"cache.disk_size_gb", old->cache.disk_bytes == fresh->cache.disk_bytes},
        {"filesystem.max_size_gb",
         old->filesystem.max_size_bytes == fresh->filesystem.max_size_bytes},
        {"encryption.mode", old->encryption.none == fresh->encryption.none},
        {"encryption.cipher", old->encryption.cipher == fresh->encryption.cipher},
        {"servers.nbd", old->nbd.enabled == fresh->nbd.enabled},
        {"servers.nbd.addresses", same_list(&old->nbd.addresses, &fresh->nbd.addresses)},
        {"servers.nbd.unix_socket", same_text(old->nbd.unix_socket, fresh->nbd.unix_socket)},
        {"servers.nbd.tls", old->nbd.tls == fresh->nbd.tls},
        {"servers.nbd.tls_cert", same_text(old->nbd.cert, fresh->nbd.cert)},
        {"servers.nbd.tls_key", same_text(old->nbd.key, fresh->nbd.key)},
        {"servers.nbd.tls_ca", same_text(old->nbd.ca, fresh->nbd.ca)},
        {"servers.nbd.extended_headers", old->nbd.extended_headers == fresh->nbd.extended_headers},
        {"servers.iscsi", old->iscsi.enabled == fresh->iscsi.enabled},
        {"servers.iscsi.addresses", same_list(&old->iscsi.addresses, &fresh->iscsi.addresses)},
        {"servers.iscsi.drain_redirect",
         same_list(&old->iscsi.drain_redirect, &fresh->iscsi.drain_redirect)},
        {"servers.iscsi.kerberos.keytab", same_text(old->iscsi.keytab, fresh->iscsi.keytab)},
        {"servers.iscsi.kerberos.principal",
         same_text(old->iscsi.principal, fresh->iscsi.principal)},
        {"servers.iscsi.isns.server", same_text(old->iscsi.isns.server, fresh->iscsi.isns.server)},
        {"servers.iscsi.isns.entity", same_text(old->iscsi.isns.entity, fresh->iscsi.isns.entity)},
        {"servers.iscsi.isns", same_isns(old, fresh)},
        {"servers.iscsi.session_connections",
         old->iscsi.session_connections == fresh->iscsi.session_connections},
        {"servers.iscsi.error_recovery", old->iscsi.error_recovery == fresh->iscsi.error_recovery},
        {"admin.unix_socket", same_text(old->admin.unix_socket, fresh->admin.unix_socket)},
        {"runtime.cores", old->runtime.cores == fresh->runtime.cores},
    };
    unsigned count = 0;
    for (size_t i = 0; i < ARRAY_LEN(fixed); i++) {
        if (!fixed[i].same) {
            fprintf(out, "%s has changed: it takes effect at the next start\n", fixed[i].key);
            count++;
        }
    }
    return count;
}
