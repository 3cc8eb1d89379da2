/* SPDX-License-Identifier: Apache-2.0 */
/* The commands about who may log in to iSCSI targets, and what their answers look like. */
#include "main/commands.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define SCOPE_ARG                                                                                  \
    {                                                                                              \
        .name = "iqn", .value = "IQN", .help = "the target's name, or: discovery",                 \
        .positional = true                                                                         \
    }
#define USER_ARG                                                                                   \
    {                                                                                              \
        .name = "user", .value = "NAME", .help = "the account (CHAP name, principal)",             \
        .positional = true                                                                         \
    }
#define MUTUAL_OPTION                                                                              \
    {                                                                                              \
        .name = "mutual", .help = "the account by which the target proves itself"                  \
    }
#define PATTERN_ARG                                                                                \
    {                                                                                              \
        .name = "initiator", .value = "INITIATOR",                                                 \
        .help = "an initiator's name; * and ? stand for any characters", .positional = true        \
    }
#define LAST_OPTION                                                                                \
    {                                                                                              \
        .name = "force", .help = "also the last one, which opens the target to everybody"          \
    }
#define ADDRESS_OPTION                                                                             \
    {                                                                                              \
        .name = "address", .value = "NETWORK", .help = "from there only: 10.1.0.0/16, fd00::/8"    \
    }

static const struct arg_spec auth_set_specs[] = {
    SCOPE_ARG,
    USER_ARG,
    {.name = "secret-file",
     .value = "FILE",
     .help = "holds the secret; default: one line of standard input"},
    {.name = "initiator",
     .value = "PATTERN",
     .help = "the initiators that may use the account; default *"},
    {.name = "kerberos", .help = "NAME is a Kerberos principal: alice@EXAMPLE.COM; no secret"},
    MUTUAL_OPTION,
    {.name = "store-in-clear", .help = "also into a volume that is not encrypted"},
    COMMAND_ADMIN_OPTIONS,
    {0},
};
static const struct arg_spec auth_remove_specs[] = {
    SCOPE_ARG, USER_ARG, MUTUAL_OPTION, LAST_OPTION, COMMAND_ADMIN_OPTIONS, {0}};
static const struct arg_spec auth_minimum_specs[] = {
    SCOPE_ARG,
    {.name = "minimum",
     .value = "ALGORITHM",
     .help = "md5, sha1, sha256, sha3-256; default: as [servers.iscsi] says",
     .positional = true},
    COMMAND_ADMIN_OPTIONS,
    {0}};
static const struct arg_spec scope_specs[] = {SCOPE_ARG, COMMAND_ADMIN_OPTIONS, {0}};
static const struct arg_spec target_specs[] = {COMMAND_IQN_ARG, COMMAND_ADMIN_OPTIONS, {0}};
static const struct arg_spec acl_add_specs[] = {
    COMMAND_IQN_ARG, PATTERN_ARG, ADDRESS_OPTION, COMMAND_ADMIN_OPTIONS, {0}};
static const struct arg_spec acl_remove_specs[] = {
    COMMAND_IQN_ARG, PATTERN_ARG, ADDRESS_OPTION, LAST_OPTION, COMMAND_ADMIN_OPTIONS, {0}};
static const struct arg_spec map_add_specs[] = {
    COMMAND_IQN_ARG,
    PATTERN_ARG,
    COMMAND_LUN_ARG,
    {.name = "device", .value = "LUN", .help = "the target's LUN behind it; default the same"},
    {.name = "read-only", .help = "these initiators cannot change its data"},
    COMMAND_ADMIN_OPTIONS,
    {0}};
static const struct arg_spec map_remove_specs[] = {
    COMMAND_IQN_ARG,
    PATTERN_ARG,
    COMMAND_LUN_ARG,
    {.name = "force", .help = "also the last one: then everybody sees every LUN"},
    COMMAND_ADMIN_OPTIONS,
    {0}};
static const struct arg_spec sessions_specs[] = {COMMAND_ADMIN_OPTIONS, {0}};
static const struct arg_spec disconnect_specs[] = {
    COMMAND_IQN_ARG, PATTERN_ARG, COMMAND_ADMIN_OPTIONS, {0}};

static const struct arg_spec apply_specs[] = {
    {.name = "file",
     .value = "FILE",
     .help = "the description; - is standard input",
     .positional = true},
    {.name = "dry-run", .help = "only say what would be done"},
    {.name = "force", .help = "also what loses data: LUNs and targets that are not in it"},
    {.name = "disconnect", .help = "those also while clients are attached"},
    {.name = "store-in-clear", .help = "secrets also into a volume that is not encrypted"},
    COMMAND_ADMIN_OPTIONS,
    {0}};
static const struct arg_spec export_specs[] = {
    {.name = "file", .value = "FILE", .help = "default: standard output", .positional = true},
    {.name = "with-secrets", .help = "into the file, which its owner alone may read"},
    COMMAND_ADMIN_OPTIONS,
    {0}};

#define ADMIN(words, summary, specs, op)                                                           \
    {                                                                                              \
        (words), (summary), (specs), NULL, (op), false                                             \
    }

const struct command access_commands[] = {
    {"iscsi auth set", "Sets an account (CHAP, Kerberos) of a target or of discovery.",
     auth_set_specs, NULL, "iscsi.auth.set", false},
    ADMIN("iscsi auth remove", "Removes an account.", auth_remove_specs, "iscsi.auth.remove"),
    ADMIN("iscsi auth minimum", "Says which CHAP algorithms are strong enough.", auth_minimum_specs,
          "iscsi.auth.minimum"),
    ADMIN("iscsi auth list", "Lists the accounts.", scope_specs, "iscsi.auth.list"),
    ADMIN("iscsi acl add", "Lets initiators log in to a target.", acl_add_specs, "iscsi.acl.add"),
    ADMIN("iscsi acl remove", "Takes that back.", acl_remove_specs, "iscsi.acl.remove"),
    ADMIN("iscsi acl list", "Lists who may log in.", target_specs, "iscsi.acl.list"),
    ADMIN("iscsi map add", "Shows a LUN to initiators, by a number of their own.", map_add_specs,
          "iscsi.map.add"),
    ADMIN("iscsi map remove", "Takes that back.", map_remove_specs, "iscsi.map.remove"),
    ADMIN("iscsi map list", "Lists who sees what.", target_specs, "iscsi.map.list"),
    ADMIN("iscsi sessions", "Lists the sessions.", sessions_specs, "iscsi.sessions"),
    ADMIN("iscsi disconnect", "Ends sessions of a target; they may log in again.", disconnect_specs,
          "iscsi.disconnect"),
    {"iscsi apply", "Makes all targets as a file describes them.", apply_specs, command_apply, NULL,
     false},
    {"iscsi export", "Describes all targets as they are.", export_specs, command_export, NULL,
     false},
    {NULL, NULL, NULL, NULL, NULL, false},
};

static const char *text_of(const json_t *object, const char *key)
{
    const char *text = json_string_value(json_object_get(object, key));
    return text ? text : "";
}

static uint64_t number_of(const json_t *object, const char *key)
{
    return (uint64_t)json_integer_value(json_object_get(object, key));
}

static void print_ended(const json_t *result)
{
    uint64_t ended = number_of(result, "disconnected");
    if (ended > 0) {
        printf("%" PRIu64 " session%s ended\n", ended, ended == 1 ? "" : "s");
    }
}

static void print_auth(const json_t *scope)
{
    const json_t *auth = json_object_get(scope, "auth");
    const json_t *accounts = json_object_get(auth, "accounts");
    const json_t *mutual = json_object_get(auth, "mutual");
    unsigned principals = 0;
    size_t i;
    json_t *account;
    json_array_foreach(accounts, i, account)
    {
        principals += json_is_true(json_object_get(account, "kerberos"));
    }
    printf("%s: %s\n", text_of(scope, "iqn"),
           json_array_size(accounts) == 0            ? "no authentication"
           : principals == 0                         ? "CHAP is required"
           : principals == json_array_size(accounts) ? "Kerberos is required"
                                                     : "CHAP or Kerberos is required");
    json_array_foreach(accounts, i, account)
    {
        bool kerberos = json_is_true(json_object_get(account, "kerberos"));
        printf("  %-8s %-32s %s\n", kerberos ? "kerberos" : "account", text_of(account, "user"),
               text_of(account, "initiator"));
    }
    if (json_is_object(mutual)) {
        printf("  mutual   %s\n", text_of(mutual, "user"));
    }
    if (*text_of(auth, "minimum")) {
        printf("  minimum  %s\n", text_of(auth, "minimum"));
    }
}

static void print_acl(const json_t *scope)
{
    const json_t *acl = json_object_get(scope, "acl");
    printf("%s: %s\n", text_of(scope, "iqn"),
           json_array_size(acl) > 0 ? "for these only" : "everybody may log in");
    size_t i;
    json_t *rule;
    json_array_foreach(acl, i, rule)
    {
        const char *address = text_of(rule, "address");
        printf("  %-48s %s\n", text_of(rule, "initiator"), *address ? address : "from everywhere");
    }
}

static void print_maps(const json_t *scope)
{
    const json_t *maps = json_object_get(scope, "maps");
    printf("%s: %s\n", text_of(scope, "iqn"),
           json_array_size(maps) > 0 ? "these LUNs only" : "everybody sees every LUN");
    size_t i;
    json_t *map;
    json_array_foreach(maps, i, map)
    {
        printf("  %-48s LUN %-5" PRIu64 " is %" PRIu64 "%s\n", text_of(map, "initiator"),
               number_of(map, "lun"), number_of(map, "device"),
               json_is_true(json_object_get(map, "read_only")) ? ", read only" : "");
    }
}

static void print_scope(const json_t *scope)
{
    if (json_object_get(scope, "auth")) {
        print_auth(scope);
    } else if (json_object_get(scope, "acl")) {
        print_acl(scope);
    } else {
        print_maps(scope);
    }
    print_ended(scope);
}

static void print_scopes(const json_t *result)
{
    size_t i;
    json_t *scope;
    json_array_foreach(json_object_get(result, "targets"), i, scope)
    {
        print_scope(scope);
    }
}

static void print_sessions(const json_t *result)
{
    const json_t *sessions = json_object_get(result, "sessions");
    if (json_array_size(sessions) == 0) {
        printf("No sessions%s\n", json_is_true(json_object_get(result, "running"))
                                      ? ""
                                      : ": no server of iSCSI is running");
        return;
    }
    printf("%-40s %-40s %-24s %-12s %5s %5s %-14s %10s %12s\n", "TARGET", "INITIATOR", "ADDRESS",
           "ISID", "TSIH", "CID", "AUTH", "AGE (s)", "COMMANDS");
    size_t i;
    json_t *s;
    json_array_foreach(sessions, i, s)
    {
        const json_t *auth = json_object_get(s, "auth");
        char how[32];
        bool kerberos = strcmp(text_of(auth, "method"), "KRB5") == 0;
        snprintf(how, sizeof how, "%s%s",
                 kerberos                      ? "kerberos"
                 : *text_of(auth, "algorithm") ? text_of(auth, "algorithm")
                                               : "none",
                 json_is_true(json_object_get(auth, "mutual")) ? "+mutual" : "");
        printf("%-40s %-40s %-24s %-12s %5" PRIu64 " %5" PRIu64 " %-14s %10" PRIu64 " %12" PRIu64
               "\n",
               text_of(s, "target"), text_of(s, "initiator"), text_of(s, "address"),
               text_of(s, "isid"), number_of(s, "tsih"), number_of(s, "cid"), how,
               number_of(s, "age_seconds"), number_of(s, "commands"));
    }
}

static void print_changes(const json_t *result)
{
    const json_t *changes = json_object_get(result, "changes");
    bool applied = json_is_true(json_object_get(result, "applied"));
    size_t i;
    json_t *line;
    json_array_foreach(changes, i, line)
    {
        printf("%s\n", json_string_value(line));
    }
    if (json_array_size(changes) == 0) {
        printf("Nothing to change\n");
    } else {
        printf("%s\n", applied ? "Applied" : "Not applied: this was only asked");
    }
}

void print_access_result(const char *op, const json_t *result)
{
    if (strcmp(op, "iscsi.sessions") == 0) {
        print_sessions(result);
    } else if (strcmp(op, "iscsi.apply") == 0) {
        print_changes(result);
    } else if (strcmp(op, "iscsi.export") == 0) {
        json_dumpf(result, stdout, JSON_INDENT(2));
        putchar('\n');
    } else if (strcmp(op, "iscsi.disconnect") == 0) {
        print_ended(result);
    } else if (json_object_get(result, "targets")) {
        print_scopes(result);
    } else {
        print_scope(result);
    }
}
