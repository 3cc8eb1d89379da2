/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One row per key: where it goes and how it is read. Reading goes through all entries of the
 * document and reports every mistake, so that an operator mends the file in one go.
 */
#include "ctl/config.h"
#include "base/err.h"
#include "ctl/access.h"
#include "ctl/config_priv.h"
#include "ctl/toml.h"
#include "iscsi/chap.h"
#include "iscsi/iscsi.h"
#include "isns/isns.h"
#include "obj/obj.h"
#include <errno.h>
#include <stdarg.h>
#include <string.h>
#include <unistd.h>

#define SOCKET_PATH_MAX 100

struct reader {
    struct config *c;
    const char *path;
    FILE *errors;
    unsigned mistakes;
    const struct toml_doc *doc;
    const struct toml_entry *entry; /* the one being read */
};

static void mistake(struct reader *rd, const char *fmt, ...) PRINTF_LIKE(2, 3);
static void mistake(struct reader *rd, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    fprintf(rd->errors, "%s:%u: ", rd->path, rd->entry ? rd->entry->line : 1);
    vfprintf(rd->errors, fmt, args);
    fputc('\n', rd->errors);
    va_end(args);
    rd->mistakes++;
}

/* The expanded text of a string entry, to be freed, or NULL after a mistake. */
static char *text_of(struct reader *rd)
{
    const struct toml_entry *e = rd->entry;
    if (e->type != TOML_STRING) {
        mistake(rd, "%s must be a string in quotes", e->key);
        return NULL;
    }
    char why[256];
    char *text = config_expand(e->string, why, sizeof why);
    if (!text) {
        mistake(rd, "%s: %s", e->key, why);
    }
    return text;
}

static void set_text(struct reader *rd, char **slot)
{
    char *text = text_of(rd);
    if (!text) {
        return;
    }
    if (*text == 0) {
        mistake(rd, "%s must not be empty; leave the key out for its default", rd->entry->key);
        free(text);
        return;
    }
    free(*slot);
    *slot = text;
}

static void add_address(struct reader *rd, struct config_list *list)
{
    if (rd->entry->type == TOML_EMPTY_ARRAY) {
        return;
    }
    auto_free char *text = text_of(rd);
    char why[128];
    if (text && !config_address_ok(text, why, sizeof why)) {
        mistake(rd, "%s: %s", rd->entry->key, why);
        return;
    }
    if (!text) {
        return;
    }
    char **grown = realloc(list->at, (list->count + 1) * sizeof *grown);
    if (!grown) {
        mistake(rd, "out of memory");
        return;
    }
    list->at = grown;
    list->at[list->count++] = take(text);
}

static void set_bool(struct reader *rd, bool *slot)
{
    if (rd->entry->type != TOML_BOOLEAN) {
        mistake(rd, "%s must be true or false", rd->entry->key);
        return;
    }
    *slot = rd->entry->boolean;
}

/* A size in units of 10^9 bytes, between low and high gigabytes. */
static void set_gb(struct reader *rd, uint64_t *slot, double low, double high)
{
    const struct toml_entry *e = rd->entry;
    if (e->type != TOML_INTEGER && e->type != TOML_FLOAT) {
        mistake(rd, "%s must be a number of gigabytes, such as 1.0", e->key);
        return;
    }
    if (!(e->number >= low && e->number <= high)) {
        mistake(rd, "%s must be between %g and %g, not %g", e->key, low, high, e->number);
        return;
    }
    *slot = (uint64_t)(e->number * (double)CONFIG_GB);
}

static void set_url(struct reader *rd)
{
    set_text(rd, &rd->c->storage.url);
    char why[256];
    if (rd->c->storage.url && obj_url_check(rd->c->storage.url, why, sizeof why) < 0) {
        mistake(rd, "storage.url: %s", why);
    }
}

static void check_printable(struct reader *rd, const char *text)
{
    for (const char *at = text; at && *at; at++) {
        if ((unsigned char)*at < 0x20 || *at == 0x7f) {
            mistake(rd, "%s has a control character", rd->entry->key);
            return;
        }
    }
}

/* As a password: its text is wiped wherever it was. */
static void set_aws_secret(struct reader *rd)
{
    struct obj_s3_options *o = &rd->c->store.s3;
    bool token = strcmp(rd->entry->key, "aws.session_token") == 0;
    struct crypt_secret **slot = token ? &o->session_token : &o->secret_access_key;
    char *text = text_of(rd);
    check_printable(rd, text);
    crypt_secret_free(*slot);
    *slot = crypt_secret_of(text);
    if (text && !*slot) {
        mistake(rd, "out of memory");
    }
    config_wipe(text);
}

/* The keys whose text goes as it is to the store. */
static void set_aws(struct reader *rd)
{
    struct obj_s3_options *o = &rd->c->store.s3;
    const struct {
        const char *key;
        char **slot;
    } texts[] = {
        {"aws.access_key_id", &o->access_key_id},
        {"aws.profile", &o->profile},
        {"aws.shared_credentials_file", &o->credentials_file},
        {"aws.region", &o->region},
        {"aws.default_region", &o->region},
        {"aws.endpoint", &o->endpoint},
        {"aws.ca_bundle", &o->ca_bundle},
        {"aws.storage_class", &o->storage_class},
        {"storage.storage_class", &o->storage_class},
        {"aws.metadata_endpoint", &o->metadata_endpoint},
    };
    for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
        if (strcmp(rd->entry->key, texts[i].key) == 0) {
            set_text(rd, texts[i].slot);
            check_printable(rd, *texts[i].slot);
        }
    }
}

/* A truth value, also as text, for that is how others write these keys. */
static bool set_aws_bool(struct reader *rd, bool *slot)
{
    const struct toml_entry *e = rd->entry;
    if (e->type == TOML_STRING &&
        (strcmp(e->string, "true") == 0 || strcmp(e->string, "false") == 0)) {
        *slot = e->string[0] == 't';
        return true;
    }
    set_bool(rd, slot);
    return e->type == TOML_BOOLEAN;
}

static void set_aws_allow_http(struct reader *rd)
{
    (void)set_aws_bool(rd, &rd->c->store.s3.allow_http);
}

static void set_aws_style(struct reader *rd)
{
    struct obj_s3_options *o = &rd->c->store.s3;
    if (set_aws_bool(rd, &o->virtual_hosted)) {
        o->path_style = !o->virtual_hosted;
    }
}

static void set_aws_skip(struct reader *rd)
{
    (void)set_aws_bool(rd, &rd->c->store.s3.skip_signature);
}

static void set_aws_conditional_put(struct reader *rd)
{
    auto_free char *text = text_of(rd);
    if (!text) {
        return;
    }
    rd->c->store.s3.unsafe_single_writer = strcmp(text, "unsafe-single-writer") == 0;
    if (!rd->c->store.s3.unsafe_single_writer && strcmp(text, "etag") != 0) {
        mistake(rd,
                "aws.conditional_put must be \"etag\" (the store's own If-None-Match) or "
                "\"unsafe-single-writer\", not \"%.40s\"",
                text);
    }
}

static void set_whole(struct reader *rd, unsigned *slot, unsigned low, unsigned high)
{
    const struct toml_entry *e = rd->entry;
    if (e->type != TOML_INTEGER || e->integer < low || e->integer > high) {
        mistake(rd, "%s must be a whole number from %u to %u", e->key, low, high);
        return;
    }
    *slot = (unsigned)e->integer;
}

static void set_aws_connections(struct reader *rd)
{
    set_whole(rd, &rd->c->store.s3.max_connections, 8, 1024);
}

static void set_aws_connect_timeout(struct reader *rd)
{
    unsigned seconds = 0;
    set_whole(rd, &seconds, 1, 300);
    rd->c->store.s3.connect_timeout_ms = seconds * 1000;
}

static void set_aws_timeout(struct reader *rd)
{
    unsigned seconds = 0;
    set_whole(rd, &seconds, 1, 3600);
    rd->c->store.s3.timeout_ms = seconds * 1000;
}

static void set_owner(struct reader *rd)
{
    set_text(rd, &rd->c->storage.owner);
    if (rd->c->storage.owner && strlen(rd->c->storage.owner) > 200) {
        mistake(rd, "storage.owner is longer than 200 bytes");
    }
}

static void set_dir(struct reader *rd)
{
    set_text(rd, &rd->c->cache.dir);
}

static void set_memory(struct reader *rd)
{
    set_gb(rd, &rd->c->cache.memory_bytes, 0.05, 100000);
}

static void set_disk(struct reader *rd)
{
    set_gb(rd, &rd->c->cache.disk_bytes, 0, 1e6);
}

static void set_compression(struct reader *rd)
{
    auto_free char *text = text_of(rd);
    if (!text) {
        return;
    }
    if (log_compression_parse(text, &rd->c->filesystem.compression) < 0) {
        mistake(rd,
                "filesystem.compression must be \"none\", \"lz4\" or \"zstd-1\" to \"zstd-19\", "
                "not \"%.40s\"",
                text);
    }
}

static void set_max_size(struct reader *rd)
{
    set_gb(rd, &rd->c->filesystem.max_size_bytes, 0, 1e9);
}

static void set_encryption(struct reader *rd)
{
    auto_free char *text = text_of(rd);
    if (text && strcmp(text, "none") != 0) {
        mistake(rd,
                "encryption.mode may only be \"none\", not \"%.40s\": what encrypts is a "
                "password, a password_file or a key_file",
                text);
    }
    rd->c->encryption.none = true;
}

/* Its text is wiped wherever it was, and never told. */
static void set_password(struct reader *rd)
{
    char *text = text_of(rd);
    const char *fault = text ? access_password_fault(text, strlen(text)) : NULL;
    if (fault) {
        mistake(rd, "%s: %s", rd->entry->key, fault);
    }
    if (text && !fault && !rd->c->encryption.password) {
        rd->c->encryption.password = crypt_secret_create(text, strlen(text));
        if (!rd->c->encryption.password) {
            mistake(rd, "out of memory");
        }
    }
    config_wipe(text);
}

static void set_password_file(struct reader *rd)
{
    set_text(rd, &rd->c->encryption.password_file);
}

static void set_key_file(struct reader *rd)
{
    set_text(rd, &rd->c->encryption.key_file);
}

static void set_cipher(struct reader *rd)
{
    auto_free char *text = text_of(rd);
    enum crypt_cipher *cipher = &rd->c->encryption.cipher;
    if (text && (crypt_cipher_parse(text, cipher) < 0 || !crypt_cipher_ok(*cipher))) {
        mistake(rd,
                "encryption.cipher must be \"auto\", \"aes-256-gcm\" or \"chacha20-poly1305\", not "
                "\"%.40s\"",
                text);
    }
}

static void set_nbd_addresses(struct reader *rd)
{
    add_address(rd, &rd->c->nbd.addresses);
}

static void set_nbd_socket(struct reader *rd)
{
    set_text(rd, &rd->c->nbd.unix_socket);
}

static void set_nbd_tls(struct reader *rd)
{
    static const char *const modes[] = {"off", "allow", "require"};
    auto_free char *text = text_of(rd);
    for (unsigned i = 0; text && i < ARRAY_LEN(modes); i++) {
        if (strcmp(text, modes[i]) == 0) {
            rd->c->nbd.tls = (enum nbd_tls_mode)i;
            return;
        }
    }
    if (text) {
        mistake(rd, "servers.nbd.tls must be \"off\", \"allow\" or \"require\", not \"%.40s\"",
                text);
    }
}

static void set_nbd_cert(struct reader *rd)
{
    set_text(rd, &rd->c->nbd.cert);
}

static void set_nbd_key(struct reader *rd)
{
    set_text(rd, &rd->c->nbd.key);
}

static void set_nbd_ca(struct reader *rd)
{
    set_text(rd, &rd->c->nbd.ca);
}

static void set_nbd_extended(struct reader *rd)
{
    set_bool(rd, &rd->c->nbd.extended_headers);
}

static void set_iscsi_addresses(struct reader *rd)
{
    add_address(rd, &rd->c->iscsi.addresses);
}

static void set_iscsi_advertise(struct reader *rd)
{
    add_address(rd, &rd->c->iscsi.advertise);
}

static void set_iscsi_drain(struct reader *rd)
{
    add_address(rd, &rd->c->iscsi.drain_redirect);
}

static void set_iscsi_keytab(struct reader *rd)
{
    set_text(rd, &rd->c->iscsi.keytab);
}

static void set_iscsi_principal(struct reader *rd)
{
    set_text(rd, &rd->c->iscsi.principal);
}

static void set_iscsi_chap_minimum(struct reader *rd)
{
    auto_free char *text = text_of(rd);
    rd->c->iscsi.chap_minimum = text ? iscsi_chap_number(text) : 0;
    if (text && rd->c->iscsi.chap_minimum == 0) {
        mistake(rd, "servers.iscsi.chap_minimum must be \"md5\", \"sha1\", \"sha256\" or "
                    "\"sha3-256\"");
    }
}

static void set_isns_server(struct reader *rd)
{
    char **slot = &rd->c->iscsi.isns.server;
    set_text(rd, slot);
    if (*slot && !isns_server_ok(*slot)) {
        mistake(rd, "%s: \"%.60s\" is not HOST, HOST:PORT or [IPV6]:PORT", rd->entry->key, *slot);
    }
}

static void set_isns_entity(struct reader *rd)
{
    char **slot = &rd->c->iscsi.isns.entity;
    set_text(rd, slot);
    check_printable(rd, *slot);
    if (*slot && strlen(*slot) > ISNS_EID_MAX) {
        mistake(rd, "%s is longer than %u bytes", rd->entry->key, ISNS_EID_MAX);
    }
}

static void set_isns_number(struct reader *rd)
{
    const char *key = rd->entry->key + strlen("servers.iscsi.isns.");
    if (strcmp(key, "period_secs") == 0) {
        set_whole(rd, &rd->c->iscsi.isns.period_s, 10, 604800);
    } else if (strcmp(key, "esi_interval_secs") == 0) {
        set_whole(rd, &rd->c->iscsi.isns.esi_interval_s, 0, 86400);
    } else {
        set_whole(rd, &rd->c->iscsi.isns.port, 0, 65535);
    }
}

static void set_isns_transport(struct reader *rd)
{
    auto_free char *text = text_of(rd);
    rd->c->iscsi.isns.udp = text && strcmp(text, "udp") == 0;
    if (text && !rd->c->iscsi.isns.udp && strcmp(text, "tcp") != 0) {
        mistake(rd, "%s must be \"tcp\" or \"udp\"", rd->entry->key);
    }
}

static void set_isns_flag(struct reader *rd)
{
    bool domains = strcmp(rd->entry->key, "servers.iscsi.isns.discovery_domains") == 0;
    set_bool(rd, domains ? &rd->c->iscsi.isns.domains : &rd->c->iscsi.isns.notifications);
}

static void set_iscsi_connections(struct reader *rd)
{
    set_whole(rd, &rd->c->iscsi.session_connections, 1, CONFIG_ISCSI_CONNECTIONS);
}

static void set_iscsi_recovery(struct reader *rd)
{
    set_whole(rd, &rd->c->iscsi.error_recovery, 0, CONFIG_ISCSI_RECOVERY);
}

static void set_admin_socket(struct reader *rd)
{
    set_text(rd, &rd->c->admin.unix_socket);
}

static void set_cores(struct reader *rd)
{
    const struct toml_entry *e = rd->entry;
    if (e->type != TOML_INTEGER || e->integer < 1 || e->integer > RT_CORES_MAX) {
        mistake(rd, "runtime.cores must be a whole number from 1 to %d", RT_CORES_MAX);
        return;
    }
    rd->c->runtime.cores = (unsigned)e->integer;
}

static void set_log_level(struct reader *rd)
{
    auto_free char *text = text_of(rd);
    if (text && msg_level_parse(text, &rd->c->runtime.log_level) < 0) {
        mistake(rd, "runtime.log_level must be \"error\", \"warn\", \"info\" or \"debug\"");
    }
}

static const struct key {
    const char *name;
    void (*set)(struct reader *rd);
    bool is_array;
} keys[] = {
    {"aws.access_key_id", set_aws, false},
    {"aws.secret_access_key", set_aws_secret, false},
    {"aws.session_token", set_aws_secret, false},
    {"aws.profile", set_aws, false},
    {"aws.shared_credentials_file", set_aws, false},
    {"aws.region", set_aws, false},
    {"aws.default_region", set_aws, false},
    {"aws.endpoint", set_aws, false},
    {"aws.ca_bundle", set_aws, false},
    {"aws.storage_class", set_aws, false},
    {"aws.metadata_endpoint", set_aws, false},
    {"aws.allow_http", set_aws_allow_http, false},
    {"aws.virtual_hosted_style_request", set_aws_style, false},
    {"aws.skip_signature", set_aws_skip, false},
    {"aws.conditional_put", set_aws_conditional_put, false},
    {"aws.max_connections", set_aws_connections, false},
    {"aws.connect_timeout_secs", set_aws_connect_timeout, false},
    {"aws.timeout_secs", set_aws_timeout, false},
    {"storage.storage_class", set_aws, false},
    {"storage.url", set_url, false},
    {"storage.owner", set_owner, false},
    {"cache.dir", set_dir, false},
    {"cache.memory_size_gb", set_memory, false},
    {"cache.disk_size_gb", set_disk, false},
    {"filesystem.compression", set_compression, false},
    {"filesystem.max_size_gb", set_max_size, false},
    {"encryption.mode", set_encryption, false},
    {"encryption.password", set_password, false},
    {"storage.encryption_password", set_password, false},
    {"encryption.password_file", set_password_file, false},
    {"encryption.key_file", set_key_file, false},
    {"encryption.cipher", set_cipher, false},
    {"servers.nbd.addresses", set_nbd_addresses, true},
    {"servers.nbd.unix_socket", set_nbd_socket, false},
    {"servers.nbd.tls", set_nbd_tls, false},
    {"servers.nbd.tls_cert", set_nbd_cert, false},
    {"servers.nbd.tls_key", set_nbd_key, false},
    {"servers.nbd.tls_ca", set_nbd_ca, false},
    {"servers.nbd.extended_headers", set_nbd_extended, false},
    {"servers.iscsi.addresses", set_iscsi_addresses, true},
    {"servers.iscsi.advertise", set_iscsi_advertise, true},
    {"servers.iscsi.drain_redirect", set_iscsi_drain, false},
    {"servers.iscsi.chap_minimum", set_iscsi_chap_minimum, false},
    {"servers.iscsi.kerberos.keytab", set_iscsi_keytab, false},
    {"servers.iscsi.kerberos.principal", set_iscsi_principal, false},
    {"servers.iscsi.isns.server", set_isns_server, false},
    {"servers.iscsi.isns.entity", set_isns_entity, false},
    {"servers.iscsi.isns.period_secs", set_isns_number, false},
    {"servers.iscsi.isns.esi_interval_secs", set_isns_number, false},
    {"servers.iscsi.isns.port", set_isns_number, false},
    {"servers.iscsi.isns.esi_transport", set_isns_transport, false},
    {"servers.iscsi.isns.discovery_domains", set_isns_flag, false},
    {"servers.iscsi.isns.notifications", set_isns_flag, false},
    {"servers.iscsi.session_connections", set_iscsi_connections, false},
    {"servers.iscsi.error_recovery", set_iscsi_recovery, false},
    {"admin.unix_socket", set_admin_socket, false},
    {"runtime.cores", set_cores, false},
    {"runtime.log_level", set_log_level, false},
};

/* True when name is a table that some key lies in. */
static bool is_known_table(const char *name)
{
    size_t len = strlen(name);
    for (size_t i = 0; i < ARRAY_LEN(keys); i++) {
        if (strncmp(keys[i].name, name, len) == 0 && keys[i].name[len] == '.') {
            return true;
        }
    }
    return false;
}

static void read_entry(struct reader *rd)
{
    const struct toml_entry *e = rd->entry;
    if (e->type == TOML_TABLE) {
        rd->c->nbd.enabled |= strcmp(e->key, "servers.nbd") == 0;
        rd->c->iscsi.enabled |= strcmp(e->key, "servers.iscsi") == 0;
        if (!is_known_table(e->key)) {
            mistake(rd, "unknown section [%s]", e->key);
        }
        return;
    }
    for (size_t i = 0; i < ARRAY_LEN(keys); i++) {
        if (strcmp(e->key, keys[i].name) != 0) {
            continue;
        }
        bool given_array = e->in_array || e->type == TOML_EMPTY_ARRAY;
        if (given_array != keys[i].is_array) {
            mistake(rd, keys[i].is_array ? "%s must be a list: [\"...\"]" : "%s must not be a list",
                    e->key);
            return;
        }
        keys[i].set(rd);
        return;
    }
    const char *near = config_nearest(e->key, &keys[0].name, ARRAY_LEN(keys), sizeof keys[0]);
    if (near) {
        mistake(rd, "unknown key %s; did you mean %s?", e->key, near);
    } else {
        mistake(rd, "unknown key %s", e->key);
    }
}

static void set_default_text(struct reader *rd, char **slot, const char *text)
{
    if (!*slot && !(*slot = strdup(text))) {
        mistake(rd, "out of memory");
    }
}

static void default_address(struct reader *rd, struct config_list *list, const char *address)
{
    if (list->count > 0) {
        return;
    }
    list->at = malloc(sizeof *list->at);
    if (!list->at || !(list->at[0] = strdup(address))) {
        mistake(rd, "out of memory");
        return;
    }
    list->count = 1;
}

/* Where the document says something about the key; NULL when it does not. */
static const struct toml_entry *find_entry(const struct reader *rd, const char *key)
{
    for (size_t i = 0; i < rd->doc->count; i++) {
        if (strcmp(rd->doc->entries[i].key, key) == 0) {
            return &rd->doc->entries[i];
        }
    }
    return NULL;
}

/* Exactly one way to open the volume; none at all has to be said, too. */
static void check_encryption(struct reader *rd)
{
    static const char *const ways[] = {"encryption.password", "storage.encryption_password",
                                       "encryption.password_file", "encryption.key_file",
                                       "encryption.mode"};
    unsigned given = 0;
    rd->entry = find_entry(rd, "encryption");
    for (size_t i = 0; i < ARRAY_LEN(ways); i++) {
        const struct toml_entry *e = find_entry(rd, ways[i]);
        if (e) {
            given++;
            rd->entry = e;
        }
    }
    if (given == 0) {
        mistake(rd, "[encryption] must say one of password_file, password, key_file, or mode = "
                    "\"none\" for a volume that is stored in clear");
    } else if (given > 1) {
        mistake(rd, "[encryption] must say only one of password_file, password (or storage."
                    "encryption_password), key_file, mode");
    }
}

/* What the sections must fulfil together; a mistake is reported where its first key stands. */
static void check_together(struct reader *rd)
{
    const struct config *c = rd->c;
    rd->entry = find_entry(rd, "storage");
    if (!find_entry(rd, "storage.url")) {
        mistake(rd,
                "[storage] url is missing; where is the volume? e.g. \"file:///var/lib/zerofs\"");
    }
    rd->entry = find_entry(rd, "cache");
    if (!find_entry(rd, "cache.dir")) {
        mistake(rd, "[cache] dir is missing: a local folder for the lock and the admin socket");
    }
    rd->entry = find_entry(rd, "aws.access_key_id");
    rd->entry = rd->entry ? rd->entry : find_entry(rd, "aws.secret_access_key");
    if (!c->store.s3.access_key_id != !c->store.s3.secret_access_key) {
        mistake(rd, "aws.access_key_id and aws.secret_access_key belong together");
    }
    check_encryption(rd);
    rd->entry = find_entry(rd, "servers.iscsi.addresses");
    if (c->iscsi.addresses.count > ISCSI_PORTALS_MAX) {
        mistake(rd, "servers.iscsi.addresses has more than %d entries", ISCSI_PORTALS_MAX);
    }
    rd->entry = find_entry(rd, "servers.iscsi.kerberos");
    if (rd->entry && !find_entry(rd, "servers.iscsi.kerberos.keytab")) {
        mistake(rd, "[servers.iscsi.kerberos] needs the keytab (a file)");
    }
    rd->entry = find_entry(rd, "servers.iscsi.isns");
    if (rd->entry && !c->iscsi.isns.server) {
        mistake(rd, "servers.iscsi.isns.server is missing: the host of the iSNS server");
    }
    rd->entry = find_entry(rd, "servers.nbd.tls");
    if (c->nbd.tls != NBD_TLS_OFF &&
        (!find_entry(rd, "servers.nbd.tls_cert") || !find_entry(rd, "servers.nbd.tls_key"))) {
        mistake(rd, "servers.nbd.tls needs tls_cert and tls_key (PEM files)");
    }
    rd->entry = find_entry(rd, "admin.unix_socket");
    if (c->admin.unix_socket && strlen(c->admin.unix_socket) > SOCKET_PATH_MAX) {
        mistake(rd, "the admin socket's path is longer than %d bytes: set [admin] unix_socket",
                SOCKET_PATH_MAX);
    }
    rd->entry = NULL;
}

/* The defaults, and what the whole must fulfil. */
static void complete(struct reader *rd)
{
    struct config *c = rd->c;
    rd->entry = NULL;
    char host[256] = "localhost";
    (void)gethostname(host, sizeof host - 1);
    set_default_text(rd, &c->storage.owner, host);
    if (c->nbd.enabled && !c->nbd.unix_socket) {
        default_address(rd, &c->nbd.addresses, "127.0.0.1:10809");
    }
    set_default_text(rd, &c->iscsi.isns.entity, host);
    if (!find_entry(rd, "servers.iscsi.isns.notifications")) {
        c->iscsi.isns.notifications = c->iscsi.isns.domains;
    }
    if (c->iscsi.enabled) {
        default_address(rd, &c->iscsi.addresses, "127.0.0.1:3260");
    }
    if (!c->admin.unix_socket && c->cache.dir) {
        c->admin.unix_socket = config_join(c->cache.dir, "zerofs.sock");
    }
    check_together(rd);
}

int config_load(const char *path, FILE *errors, struct config **ret_config)
{
    auto_free char *text = NULL;
    size_t len = 0;
    int r = config_read_text(path, errors, &text, &len);
    if (r < 0 || !text) {
        return r;
    }
    struct toml_doc doc = {0};
    char why[256];
    unsigned line = 1;
    r = config_parse_apart(text, len, &doc, &(struct config_fault){&line, why, sizeof why});
    explicit_bzero(text, len);
    if (r < 0) {
        fprintf(errors, "%s:%u: %s\n", path, line, why);
        return r == -EINVAL ? config_error() : r;
    }
    struct config *c = calloc(1, sizeof *c);
    if (!c || !(c->path = strdup(path))) {
        config_free(c);
        toml_free(&doc);
        return -ENOMEM;
    }
    c->cache.memory_bytes = CONFIG_GB / 4;
    c->filesystem.compression.codec = LOG_CODEC_LZ4;
    c->encryption.cipher = crypt_cipher_best();
    c->runtime.log_level = MSG_INFO;
    c->iscsi.isns.period_s = 3600;
    c->iscsi.isns.esi_interval_s = 60;
    c->iscsi.session_connections = CONFIG_ISCSI_CONNECTIONS;
    c->iscsi.error_recovery = CONFIG_ISCSI_RECOVERY;
    struct reader rd = {.c = c, .path = path, .errors = errors, .doc = &doc};
    for (size_t i = 0; i < doc.count; i++) {
        rd.entry = &doc.entries[i];
        read_entry(&rd);
    }
    complete(&rd);
    toml_free(&doc);
    if (rd.mistakes > 0) {
        config_free(c);
        return config_error();
    }
    *ret_config = c;
    return 0;
}
