/* SPDX-License-Identifier: Apache-2.0 */
/* The commands of the program. Each gives the exit code of the process (ctl/ops.h, docs/CLI.md). */
#pragma once
#include "ctl/config.h"
#include "ctl/ops.h"
#include "main/args.h"

int command_init(const struct args *a);
int command_change_password(const struct args *a);
int command_run(const struct args *a);
int command_version(const struct args *a);

/* Finds and reads the config that -c names: NULL after a message, with the exit code. */
struct config *command_config(const struct args *a, int *ret_exit);

/*
 * Carries an admin request out, through the running server if there is one, else by opening the
 * volume here: the response, or NULL when out of memory. takes_over: also when another owner did
 * not close the volume.
 */
json_t *oneshot_run(struct config *c, const json_t *request, bool takes_over);

/* Opens the lock file of the cache folder (made if need be) and locks it: the descriptor;
 * -EWOULDBLOCK when another process holds it. */
MUST int command_lock(const struct config *c);

struct dev_registry;
struct vol;
/* The devices of the volume; the witness of unflushed writes is in the cache folder. */
MUST int command_registry(const struct config *c, struct vol *v, struct dev_registry **ret_registry)
    WAITS;

/* Prints a good response as text: the op's name selects the form. */
void print_result(const char *op, const json_t *result);
