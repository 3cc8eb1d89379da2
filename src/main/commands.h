/* SPDX-License-Identifier: Apache-2.0 */
/* The commands of the program. Each gives the exit code of the process (ctl/ops.h, docs/CLI.md). */
#pragma once
#include "ctl/access.h"
#include "ctl/config.h"
#include "ctl/ops.h"
#include "main/args.h"

struct command {
    const char *words; /* "nbd create" */
    const char *summary;
    const struct arg_spec *specs;
    int (*run)(const struct args *a); /* NULL: an admin request */
    const char *op;
    bool asks; /* for confirmation */
};
/* The commands of access to iSCSI targets; the last one has no words. */
extern const struct command access_commands[];
/* Those of portal groups; likewise. */
extern const struct command path_commands[];

#define COMMAND_CONFIG_OPTION                                                                      \
    {                                                                                              \
        .name = "config", .letter = 'c', .value = "FILE",                                          \
        .help = "default: ./zerofs.toml, then /etc/zerofs/zerofs.toml"                             \
    }
#define COMMAND_ADMIN_OPTIONS                                                                      \
    COMMAND_CONFIG_OPTION, {.name = "json", .help = "print JSON (docs/CLI.md)"},                   \
    {                                                                                              \
        .name = "takeover", .help = "open the volume even if its last owner did not close it"      \
    }
#define COMMAND_IQN_ARG                                                                            \
    {                                                                                              \
        .name = "iqn", .value = "IQN", .help = "the target's name", .positional = true             \
    }
#define COMMAND_LUN_ARG                                                                            \
    {                                                                                              \
        .name = "lun", .value = "LUN", .help = "0 to 16383", .positional = true                    \
    }

int command_init(const struct args *a);
int command_change_password(const struct args *a);
int command_apply(const struct args *a);
int command_export(const struct args *a);
int command_run(const struct args *a);
int command_version(const struct args *a);

/* Finds and reads the config that -c names: NULL after a message, with the exit code. */
struct config *command_config(const struct args *a, int *ret_exit);

/*
 * Carries an admin request out, through the running server if there is one, else by opening the
 * volume here: the response, or NULL when out of memory. takes_over: also when another owner did
 * not close the volume. When the store stays away in the midst of it, the process ends here, and
 * says so as the arguments ask for.
 */
json_t *oneshot_run(struct config *c, const json_t *request, bool takes_over, const struct args *a);

/* Opens the lock file of the cache folder (made if need be) and locks it: the descriptor;
 * -EWOULDBLOCK when another process holds it. */
MUST int command_lock(const struct config *c);

struct dev_registry;
struct vol;
/* The devices of the volume; the witness of unflushed writes is in the cache folder. */
MUST int command_registry(const struct config *c, struct vol *v, struct dev_registry **ret_registry)
    WAITS;

/* Prints what a response says, as text or, with --json, as it is; the exit code. */
int command_show(const char *op, const struct args *a, const json_t *response);
/*
 * A new secret: the first line of the file, or, when file is NULL, of standard input; a terminal is
 * asked twice, with that prompt. NULL after a message.
 */
struct crypt_secret *command_secret(const char *file, access_fault *fault, const char *prompt);

/* Prints a good response of access_commands as text. */
void print_access_result(const char *op, const json_t *result);
/* ... of path_commands. */
void print_paths_result(const json_t *result);
/* Prints a good response as text: the op's name selects the form. */
void print_result(const char *op, const json_t *result);
