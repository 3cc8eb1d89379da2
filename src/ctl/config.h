/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The configuration: a TOML file, read whole, checked whole. Every mistake is reported with file
 * and line, all of them at once. $VAR and ${VAR} in strings are replaced by the environment, $$ is
 * a dollar.
 *
 *     struct config *c;
 *     int r = config_load(path, &c);            // messages on stderr; ERR_CONFIG, or -errno of
 * reading the file
 *     ...
 *     config_free(c);
 */
#pragma once
#include "base/attr.h"
#include "base/msg.h"
#include "crypt/crypt.h"
#include "crypt/secret.h"
#include "log/log.h"
#include "nbd/nbd.h"
#include "obj/obj.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#define CONFIG_DEFAULT_NAME "zerofs.toml"
#define CONFIG_SYSTEM_PATH "/etc/zerofs/zerofs.toml"
#define CONFIG_GB 1000000000ull     /* GB in *_gb keys are 10^9 bytes */
#define CONFIG_ISCSI_CONNECTIONS 8u /* of a session, at most, and unless said otherwise */
#define CONFIG_ISCSI_RECOVERY 2u    /* ErrorRecoveryLevel, likewise */

/* Strings of one array key. */
struct config_list {
    char **at;
    size_t count;
};

struct config {
    char *path;
    struct {
        char *url;
        char *owner; /* default: the host's name */
    } storage;
    struct obj_options store; /* [aws] */
    struct {
        char *dir;
        uint64_t memory_bytes;
        uint64_t disk_bytes;
    } cache;
    struct {
        struct log_compression compression;
        uint64_t max_size_bytes; /* 0 = no quota */
    } filesystem;
    struct { /* one of the first four is set */
        bool none;
        struct crypt_secret *password;
        char *password_file;
        char *key_file;
        enum crypt_cipher cipher; /* of what is sealed from now on */
    } encryption;
    struct {
        bool enabled; /* the section is there */
        struct config_list addresses;
        char *unix_socket;
        enum nbd_tls_mode tls;
        char *cert;
        char *key;
        char *ca;
        bool extended_headers;
    } nbd;
    struct {
        bool enabled;
        struct config_list addresses;
        struct config_list advertise;
        struct config_list drain_redirect; /* one at most */
        unsigned chap_minimum; /* number of the weakest algorithm that will do; 0: MD5 */
        char *keytab;          /* of Kerberos; NULL: there is none */
        char *principal;       /* of the service; NULL: the targets' own */
        struct {
            char *server; /* NULL: none */
            char *entity; /* default: the host's name */
            unsigned period_s;
            unsigned esi_interval_s;
            unsigned port;
            bool udp;
            bool domains;
            bool notifications; /* default: as domains */
        } isns;
        unsigned session_connections;
        unsigned error_recovery;
    } iscsi;
    struct {
        char *unix_socket; /* default: zerofs.sock in the cache folder */
    } admin;
    struct {
        unsigned cores;
        enum msg_level log_level;
    } runtime;
};

/* 0, ERR_CONFIG, -ENOENT and the like. Mistakes are printed to `errors`, one a line:
 * "zerofs.toml:7: ...". */
MUST int config_load(const char *path, FILE *errors, struct config **ret_config);
void config_free(struct config *c); /* accepts NULL */
/*
 * The file to use: `given`, or ./zerofs.toml, or /etc/zerofs/zerofs.toml, whichever is there. NULL
 * when none is.
 */
const char *config_find(const char *given);
/* The starter file, with folders below `folder`, and the file that holds the password, or NULL for
 * a volume in clear; both absolute. Text to be freed, NULL when out of memory. */
char *config_template(const char *folder, const char *password_file);
/*
 * What differs from `old` and cannot change while the server runs: prints one line each to `out`,
 * the number. What can change: log level, compression, advertised addresses, the CHAP minimum.
 */
unsigned config_report_fixed(const struct config *old, const struct config *fresh, FILE *out);
