/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Command line words. A command states its options and positional words in a table; both `--name N`
 * and `--name=N` are taken, and a positional word fills the next slot of the table that is still
 * empty.
 *
 *     static const struct arg_spec specs[] = {
 *         {.name = "name", .value = "NAME", .help = "the device", .positional = true},
 *         {.name = "force", .help = "do not ask"},
 *         {0},
 *     };
 *     struct args a;
 *     r = args_parse(specs, argc, argv, &a);      // message on stderr when negative
 *     const char *name = args_get(&a, "name");    // NULL when not given
 */
#pragma once
#include "base/attr.h"
#include <stdbool.h>

#define ARGS_MAX 16

struct arg_spec {
    const char *name;  /* long option, without dashes */
    char letter;       /* short option, or 0 */
    const char *value; /* placeholder of its value; NULL: a flag */
    const char *help;
    bool positional; /* may also be given without its name, in the order of the table */
};

struct args {
    const struct arg_spec *specs;
    const char *values[ARGS_MAX]; /* "" for a flag that is set */
    bool help;
};

/* 0 or -EINVAL. Points into argv. --help sets .help and ends the parsing. */
MUST int args_parse(const struct arg_spec *specs, int argc, char **argv, struct args *ret_args);
const char *args_get(const struct args *a, const char *name);
bool args_has(const struct args *a, const char *name);
/* Prints the usage line and the options of a command: words is "nbd create". */
void args_usage(const struct arg_spec *specs, const char *words, const char *summary);
