/* SPDX-License-Identifier: Apache-2.0 */
/* The program: a table of commands. Those with an op are admin requests (ctl/ops.h); the others are
 * functions. */
#include "base/err.h"
#include "crypt/secret.h"
#include "ctl/size.h"
#include "ctl/version.h"
#include "main/commands.h"
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#define CONFIG_OPTION COMMAND_CONFIG_OPTION
#define ADMIN_OPTIONS COMMAND_ADMIN_OPTIONS
#define CACHE_OPTION                                                                               \
    {                                                                                              \
        .name = "write-cache", .value = "on|off",                                                  \
        .help = "off: each write is durable when answered"                                         \
    }
#define READ_ONLY_OPTION                                                                           \
    {                                                                                              \
        .name = "read-only", .value = "on|off", .help = "on: initiators cannot change its data"    \
    }
#define REMOVABLE_OPTION                                                                           \
    {                                                                                              \
        .name = "removable", .help = "its medium can be ejected"                                   \
    }
#define SAME_OPTION                                                                                \
    {                                                                                              \
        .name = "write-same-to-end", .help = "WRITE SAME of 0 blocks goes to its end (WSNZ = 0)"   \
    }
#define SECTOR_OPTIONS                                                                             \
    {.name = "sector", .value = "512|4096", .help = "logical block; default 512"},                 \
    {                                                                                              \
        .name = "physical", .value = "512|4096", .help = "physical block; default 4096"            \
    }
#define DELETE_OPTIONS                                                                             \
    {.name = "force", .help = "do not ask"},                                                       \
    {                                                                                              \
        .name = "disconnect", .help = "also while clients are attached"                            \
    }

static const struct arg_spec init_specs[] = {
    {.name = "path",
     .value = "PATH",
     .help = "default zerofs.toml; - is standard output",
     .positional = true},
    {.name = "data",
     .value = "FOLDER",
     .help = "where data is kept; default zerofs-data beside the file"},
    {.name = "password-file",
     .value = "FILE",
     .help = "where a random password is written; default beside the configuration"},
    {.name = "unencrypted", .help = "for a volume that is stored in clear"},
    {.name = "force", .help = "overwrite; a password file is kept and used"},
    {0},
};
static const struct arg_spec run_specs[] = {CONFIG_OPTION, {0}};
static const struct arg_spec password_specs[] = {
    CONFIG_OPTION,
    {.name = "new-password-file",
     .value = "FILE",
     .help = "holds the new one; default: one line of standard input"},
    {.name = "new-key-file", .value = "FILE", .help = "a key of 32 bytes instead of a password"},
    {0}};
static const struct arg_spec none_specs[] = {{0}};
static const struct arg_spec plain_specs[] = {ADMIN_OPTIONS, {0}};

#define NAME_ARG                                                                                   \
    {                                                                                              \
        .name = "name", .value = "NAME", .help = "the device", .positional = true                  \
    }
#define SIZE_ARG                                                                                   \
    {                                                                                              \
        .name = "size", .value = "SIZE", .help = "10G, 512M, 1.5T, or bytes", .positional = true   \
    }
#define IQN_ARG COMMAND_IQN_ARG
#define LUN_ARG COMMAND_LUN_ARG

static const struct arg_spec create_specs[] = {
    NAME_ARG, SIZE_ARG, CACHE_OPTION, ADMIN_OPTIONS, {0}};
static const struct arg_spec name_specs[] = {NAME_ARG, ADMIN_OPTIONS, {0}};
static const struct arg_spec resize_specs[] = {
    NAME_ARG, SIZE_ARG, {.name = "force", .help = "also make it smaller"}, ADMIN_OPTIONS, {0}};
static const struct arg_spec delete_specs[] = {NAME_ARG, DELETE_OPTIONS, ADMIN_OPTIONS, {0}};
static const struct arg_spec set_specs[] = {NAME_ARG, CACHE_OPTION, ADMIN_OPTIONS, {0}};
static const struct arg_spec target_specs[] = {IQN_ARG, ADMIN_OPTIONS, {0}};
static const struct arg_spec target_lun_specs[] = {
    IQN_ARG,          LUN_ARG,          SIZE_ARG,    CACHE_OPTION,  SECTOR_OPTIONS,
    READ_ONLY_OPTION, REMOVABLE_OPTION, SAME_OPTION, ADMIN_OPTIONS, {0}};
static const struct arg_spec lun_resize_specs[] = {
    IQN_ARG,       LUN_ARG, SIZE_ARG, {.name = "force", .help = "also make it smaller"},
    ADMIN_OPTIONS, {0}};
static const struct arg_spec lun_delete_specs[] = {
    IQN_ARG, LUN_ARG, DELETE_OPTIONS, ADMIN_OPTIONS, {0}};
static const struct arg_spec lun_set_specs[] = {IQN_ARG,          LUN_ARG,       CACHE_OPTION,
                                                READ_ONLY_OPTION, ADMIN_OPTIONS, {0}};
static const struct arg_spec lun_eject_specs[] = {
    IQN_ARG,
    LUN_ARG,
    {.name = "force", .help = "also while an initiator prevents it"},
    ADMIN_OPTIONS,
    {0}};
static const struct arg_spec target_delete_specs[] = {IQN_ARG, DELETE_OPTIONS, ADMIN_OPTIONS, {0}};

static const struct arg_spec redirect_specs[] = {
    IQN_ARG,
    {.name = "to", .value = "ADDRESS", .help = "HOST, HOST:PORT or [IPV6]:PORT"},
    {.name = "permanent", .help = "the target has moved for good"},
    {.name = "clear", .help = "serve it here again"},
    {.name = "logout", .help = "ask the sessions there are to log out"},
    ADMIN_OPTIONS,
    {0}};

static const struct arg_spec lun_specs[] = {IQN_ARG, LUN_ARG, ADMIN_OPTIONS, {0}};
static const struct arg_spec reservations_clear_specs[] = {
    IQN_ARG, LUN_ARG, {.name = "force", .help = "needed: it is final"}, ADMIN_OPTIONS, {0}};

static const struct command commands[] = {
    {"init", "Writes a starter configuration.", init_specs, command_init, NULL, false},
    {"run", "Serves.", run_specs, command_run, NULL, false},
    {"nbd create", "Creates an NBD device.", create_specs, NULL, "nbd.create", false},
    {"nbd list", "Lists the NBD devices.", plain_specs, NULL, "nbd.list", false},
    {"nbd info", "Shows one NBD device.", name_specs, NULL, "nbd.info", false},
    {"nbd resize", "Changes the size of an NBD device.", resize_specs, NULL, "nbd.resize", false},
    {"nbd set", "Changes settings of an NBD device.", set_specs, NULL, "nbd.set", false},
    {"nbd delete", "Deletes an NBD device.", delete_specs, NULL, "nbd.delete", true},
    {"iscsi create-target", "Creates an iSCSI target, with a first LUN if a size is given.",
     target_lun_specs, NULL, "iscsi.create-target", false},
    {"iscsi list", "Lists the iSCSI targets and their LUNs.", plain_specs, NULL, "iscsi.list",
     false},
    {"iscsi info", "Shows one iSCSI target.", target_specs, NULL, "iscsi.info", false},
    {"iscsi add-lun", "Adds a LUN to a target.", target_lun_specs, NULL, "iscsi.add-lun", false},
    {"iscsi resize-lun", "Changes the size of a LUN.", lun_resize_specs, NULL, "iscsi.resize-lun",
     false},
    {"iscsi set-lun", "Changes settings of a LUN.", lun_set_specs, NULL, "iscsi.set-lun", false},
    {"iscsi eject", "Takes the medium of a removable LUN out.", lun_eject_specs, NULL,
     "iscsi.eject", false},
    {"iscsi insert", "Puts the medium of a removable LUN in.", lun_eject_specs, NULL,
     "iscsi.insert", false},
    {"iscsi remove-lun", "Removes a LUN and deletes its data.", lun_delete_specs, NULL,
     "iscsi.remove-lun", true},
    {"iscsi delete-target", "Deletes a target with its LUNs.", target_delete_specs, NULL,
     "iscsi.delete-target", true},
    {"iscsi redirect", "Sends a target's initiators to another address.", redirect_specs, NULL,
     "iscsi.redirect", false},
    {"iscsi reservations list", "Shows the persistent reservations of LUNs.", lun_specs, NULL,
     "iscsi.reservations.list", false},
    {"iscsi reservations clear", "Takes all registrations of a LUN away.", reservations_clear_specs,
     NULL, "iscsi.reservations.clear", false},
    {"change-password", "Makes the volume open with another password.", password_specs,
     command_change_password, NULL, false},
    {"flush", "Makes everything written so far durable.", plain_specs, NULL, "flush", false},
    {"status", "Shows the state of the server and the volume.", plain_specs, NULL, "status", false},
    {"version", "Shows the version.", none_specs, command_version, NULL, false},
};

/* The i-th of all commands; NULL after the last. */
static const struct command *command_at(size_t i)
{
    if (i < ARRAY_LEN(commands)) {
        return &commands[i];
    }
    i -= ARRAY_LEN(commands);
    size_t count = 0;
    while (access_commands[count].words) {
        count++;
    }
    const struct command *c = i < count ? &access_commands[i] : &path_commands[i - count];
    return c->words ? c : NULL;
}

/* Whether these are the first words of the command. */
static bool begins(const struct command *c, int count, char **words)
{
    const char *at = c->words;
    for (int n = 0; n < count; n++) {
        size_t len = strcspn(at, " ");
        if (strlen(words[n]) != len || memcmp(words[n], at, len) != 0) {
            return false;
        }
        at += len + (at[len] != 0);
    }
    return true;
}

/* How many of the words begin a command. */
static int family_of(int count, char **words)
{
    const struct command *c;
    int known = 0;
    for (size_t i = 0; (c = command_at(i)) != NULL; i++) {
        while (known < count && begins(c, known + 1, words)) {
            known++;
        }
    }
    return known;
}

/* The commands that begin with these words. */
static void usage(FILE *out, int count, char **words)
{
    const struct command *c;
    fprintf(out, "zerofs %s: block devices over iSCSI and NBD on an object store\n\n",
            ZEROFS_VERSION);
    for (size_t i = 0; (c = command_at(i)) != NULL; i++) {
        if (begins(c, count, words)) {
            fprintf(out, "  zerofs %-30s %s\n", c->words, c->summary);
        }
    }
    fprintf(out, "\n`zerofs COMMAND --help` tells more.\n");
}

/* The number of words that argv begins with and that name the command; 0 when they do not. */
static int matches(const struct command *c, int argc, char **argv)
{
    const char *at = c->words;
    for (int n = 0; n < argc; n++) {
        size_t len = strcspn(at, " ");
        if (strlen(argv[n]) != len || memcmp(argv[n], at, len) != 0) {
            return 0;
        }
        if (!at[len]) {
            return n + 1;
        }
        at += len + 1;
    }
    return 0;
}

static bool add_number(json_t *request, const struct args *a, const char *key)
{
    const char *text = args_get(a, key);
    char *end;
    if (!text) {
        return true;
    }
    errno = 0;
    unsigned long value = strtoul(text, &end, 10);
    if (errno || *end || !*text || text[0] == '-' || value > 1000000) {
        fprintf(stderr, "zerofs: --%s: '%.40s' is not a number that it could be\n", key, text);
        return false;
    }
    json_object_set_new(request, key, json_integer((json_int_t)value));
    return true;
}

static bool add_size(json_t *request, const struct args *a)
{
    const char *text = args_get(a, "size");
    uint64_t bytes;
    char why[160];
    if (!text) {
        return true;
    }
    if (size_parse(text, &bytes, why, sizeof why) < 0) {
        fprintf(stderr, "zerofs: invalid size: %s\n", why);
        return false;
    }
    json_object_set_new(request, "size", json_integer((json_int_t)bytes));
    return true;
}

static bool add_switch(json_t *request, const struct args *a, const char *option, const char *key)
{
    const char *text = args_get(a, option);
    if (!text) {
        return true;
    }
    bool on = strcmp(text, "on") == 0 || !*text; /* a flag in some commands */
    if (!on && strcmp(text, "off") != 0) {
        fprintf(stderr, "zerofs: --%s is on or off, not '%.40s'\n", option, text);
        return false;
    }
    json_object_set_new(request, key, json_boolean(on));
    return true;
}

/* "store-in-clear" is "store_in_clear" in a request. */
static void add_flag(json_t *request, const char *option)
{
    char key[32];
    snprintf(key, sizeof key, "%s", option);
    for (char *p = key; *p; p++) {
        *p = (char)(*p == '-' ? '_' : *p);
    }
    json_object_set_new(request, key, json_true());
}

/* The secret of a command that takes one: false after a message. */
static bool add_secret(json_t *request, const struct args *a)
{
    (void)prctl(PR_SET_DUMPABLE, 0); /* the request holds it in memory of all kinds */
    struct crypt_secret *s =
        command_secret(args_get(a, "secret-file"), access_chap_fault, "CHAP secret: ");
    bool good = s && access_put(request, "secret_hex", s) == 0;
    crypt_secret_free(s);
    return good;
}

/* The request that the arguments state; NULL after a message. */
static json_t *build_request(const struct command *c, const struct args *a)
{
    static const char *const texts[] = {"name",      "iqn",     "to",      "user",
                                        "initiator", "address", "minimum", "portals",
                                        "advertise", "groups",  "group",   "state"};
    static const char *const flags[] = {
        "force",  "disconnect",     "permanent", "clear",     "logout",
        "mutual", "store-in-clear", "kerberos",  "removable", "write-same-to-end"};
    json_t *request = json_pack("{s:s}", "op", c->op);
    for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
        const char *text = args_get(a, texts[i]);
        if (text && json_object_set_new(request, texts[i], json_string(text)) < 0) {
            fprintf(stderr, "zerofs: --%s is not UTF-8 text\n", texts[i]);
            json_decref(request);
            return NULL;
        }
    }
    for (size_t i = 0; i < ARRAY_LEN(flags); i++) {
        if (args_has(a, flags[i])) {
            add_flag(request, flags[i]);
        }
    }
    bool good =
        add_size(request, a) && add_number(request, a, "lun") && add_number(request, a, "device") &&
        add_number(request, a, "tag") && add_number(request, a, "sector") &&
        add_number(request, a, "physical") &&
        add_switch(request, a, "write-cache", "write_cache") &&
        add_switch(request, a, "read-only", "read_only") &&
        add_switch(request, a, "preferred", "preferred") &&
        (strcmp(c->op, "iscsi.auth.set") != 0 || args_has(a, "kerberos") || add_secret(request, a));
    if (!good) {
        json_decref(request);
        return NULL;
    }
    return request;
}

/* Asks on a terminal; elsewhere only --force will do. */
static bool confirmed(const struct command *c, const struct args *a)
{
    char answer[16] = "";
    const char *what = args_get(a, "name") ? args_get(a, "name") : args_get(a, "iqn");
    if (args_has(a, "force")) {
        return true;
    }
    if (!isatty(STDIN_FILENO)) {
        fprintf(stderr, "zerofs: `zerofs %s` cannot be undone: say --force\n", c->words);
        return false;
    }
    fprintf(stderr, "%s: '%s' and its data cannot be brought back. Go on? [y/N] ", c->words,
            what ? what : "");
    bool yes = fgets(answer, sizeof answer, stdin) && (answer[0] == 'y' || answer[0] == 'Y');
    if (!yes) {
        fprintf(stderr, "Deletion cancelled\n");
    }
    return yes;
}

static int run_admin(const struct command *c, const struct args *a)
{
    json_t *request = build_request(c, a);
    if (!request) {
        return OPS_USAGE;
    }
    int code = OPS_REFUSED;
    if (!c->asks || confirmed(c, a)) {
        struct config *config = command_config(a, &code);
        json_t *response = config ? oneshot_run(config, request, args_has(a, "takeover"), a) : NULL;
        if (config) {
            code = response ? command_show(c->op, a, response) : OPS_FAILED;
        }
        json_decref(response);
        config_free(config);
    }
    json_decref(request);
    return code;
}

struct config *command_config(const struct args *a, int *ret_exit)
{
    struct config *c = NULL;
    const char *path = config_find(args_get(a, "config"));
    *ret_exit = OPS_CONFIG;
    if (!path) {
        fprintf(stderr,
                "zerofs: neither ./%s nor %s is there: `zerofs init` writes one, -c FILE names "
                "another\n",
                CONFIG_DEFAULT_NAME, CONFIG_SYSTEM_PATH);
        return NULL;
    }
    if (config_load(path, stderr, &c) < 0) {
        return NULL;
    }
    return c;
}

int command_version(const struct args *a)
{
    (void)a;
    printf("zerofs %s\n", ZEROFS_VERSION);
    return OPS_OK;
}

static bool is_help(const char *word)
{
    return strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0;
}

/* The words are no command; they may be of those that begin some. */
static int without_command(int count, char **words)
{
    int known = family_of(count, words);
    if (known > 0 && known < count && is_help(words[known])) {
        usage(stdout, known, words);
        return OPS_OK;
    }
    fprintf(stderr, "zerofs: unknown command '");
    for (int i = 0; i < count && i <= known; i++) {
        fprintf(stderr, "%s%s", i > 0 ? " " : "", words[i]);
    }
    fprintf(stderr, "'\n\n");
    usage(stderr, known, words);
    return OPS_USAGE;
}

int main(int argc, char **argv)
{
    (void)signal(SIGPIPE, SIG_IGN);
    json_set_alloc_funcs(malloc, crypt_wiping_free); /* requests may hold a password */
    if (argc < 2) {
        usage(stderr, 0, NULL);
        return OPS_USAGE;
    }
    if (is_help(argv[1]) || strcmp(argv[1], "help") == 0) {
        usage(stdout, 0, NULL);
        return OPS_OK;
    }
    if (strcmp(argv[1], "--version") == 0) {
        return command_version(NULL);
    }
    const struct command *c;
    for (size_t i = 0; (c = command_at(i)) != NULL; i++) {
        int words = matches(c, argc - 1, argv + 1);
        struct args a;
        if (words == 0) {
            continue;
        }
        if (args_parse(c->specs, argc - 1 - words, argv + 1 + words, &a) < 0) {
            return OPS_USAGE;
        }
        if (a.help) {
            args_usage(c->specs, c->words, c->summary);
            return OPS_OK;
        }
        return c->run ? c->run(&a) : run_admin(c, &a);
    }
    return without_command(argc - 1, argv + 1);
}
