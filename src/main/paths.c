/* SPDX-License-Identifier: Apache-2.0 */
/* The commands about portal groups and access states, and what their answers look like. */
#include "main/commands.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define NAME_ARG                                                                                   \
    {                                                                                              \
        .name = "name", .value = "NAME", .help = "the portal group", .positional = true            \
    }
#define ADDRESS_OPTIONS                                                                            \
    {.name = "portals",                                                                            \
     .value = "LIST",                                                                              \
     .help = "where it is listened: 192.0.2.1:3260,[2001:db8::1]:3260"},                           \
    {                                                                                              \
        .name = "advertise", .value = "LIST",                                                      \
        .help = "what discovery tells instead of the portals; \"\": nothing"                       \
    }
#define DISCONNECT_OPTION                                                                          \
    {                                                                                              \
        .name = "disconnect", .help = "also when sessions end by it"                               \
    }

static const struct arg_spec create_specs[] = {
    NAME_ARG,
    ADDRESS_OPTIONS,
    {.name = "tag", .value = "NUMBER", .help = "TPGT, 2 to 65534; default: one that is free"},
    DISCONNECT_OPTION,
    COMMAND_ADMIN_OPTIONS,
    {0}};
static const struct arg_spec set_specs[] = {
    NAME_ARG, ADDRESS_OPTIONS, DISCONNECT_OPTION, COMMAND_ADMIN_OPTIONS, {0}};
static const struct arg_spec delete_specs[] = {
    NAME_ARG, DISCONNECT_OPTION, COMMAND_ADMIN_OPTIONS, {0}};
static const struct arg_spec list_specs[] = {COMMAND_IQN_ARG, COMMAND_ADMIN_OPTIONS, {0}};
static const struct arg_spec assign_specs[] = {
    COMMAND_IQN_ARG,
    {.name = "groups",
     .value = "GROUPS",
     .help = "the names of the groups through which it is reached: a,b; or: all",
     .positional = true},
    DISCONNECT_OPTION,
    COMMAND_ADMIN_OPTIONS,
    {0}};
static const struct arg_spec set_state_specs[] = {
    COMMAND_IQN_ARG,
    {.name = "group", .value = "GROUP", .help = "the portal group", .positional = true},
    {.name = "state",
     .value = "STATE",
     .help = "optimized, non-optimized, standby, unavailable, offline, transitioning",
     .positional = true},
    {.name = "lun", .value = "LUN", .help = "of that one; default: of all"},
    {.name = "preferred", .value = "on|off", .help = "the path to be used when there is a choice"},
    COMMAND_ADMIN_OPTIONS,
    {0}};

#define ADMIN(words, summary, specs, op)                                                           \
    {                                                                                              \
        (words), (summary), (specs), NULL, (op), false                                             \
    }

const struct command path_commands[] = {
    ADMIN("iscsi portal-group create", "Makes a portal group.", create_specs,
          "iscsi.portal-group.create"),
    ADMIN("iscsi portal-group set", "Changes the addresses of a portal group.", set_specs,
          "iscsi.portal-group.set"),
    ADMIN("iscsi portal-group delete", "Deletes a portal group.", delete_specs,
          "iscsi.portal-group.delete"),
    ADMIN("iscsi portal-group list", "Lists portal groups, and what is reached through them.",
          list_specs, "iscsi.portal-group.list"),
    ADMIN("iscsi portal-group assign", "Says through which groups a target is reached.",
          assign_specs, "iscsi.portal-group.assign"),
    ADMIN("iscsi portal-group set-state", "Sets an access state (ALUA) of a group.",
          set_state_specs, "iscsi.portal-group.set-state"),
    {NULL, NULL, NULL, NULL, NULL, false},
};

static const char *text_of(const json_t *object, const char *key)
{
    const char *text = json_string_value(json_object_get(object, key));
    return text ? text : "";
}

static void print_words(const char *what, const json_t *words)
{
    size_t i;
    json_t *word;
    if (json_array_size(words) == 0) {
        return;
    }
    printf("  %-14s", what);
    json_array_foreach(words, i, word)
    {
        printf("%s%s", i > 0 ? ", " : "", json_string_value(word));
    }
    putchar('\n');
}

static bool has_word(const json_t *words, const json_t *word)
{
    size_t i;
    json_t *each;
    json_array_foreach(words, i, each)
    {
        if (json_equal(each, word)) {
            return true;
        }
    }
    return false;
}

static void print_group(const json_t *group)
{
    const json_t *listening = json_object_get(group, "listening");
    size_t i;
    json_t *portal;
    printf("%s: tag %" JSON_INTEGER_FORMAT "\n", text_of(group, "name"),
           json_integer_value(json_object_get(group, "tag")));
    print_words("portals", json_object_get(group, "portals"));
    print_words("advertises", json_object_get(group, "advertise"));
    json_array_foreach(json_object_get(group, "portals"), i, portal)
    {
        if (listening && !has_word(listening, portal)) {
            printf("  not listened: %s\n", json_string_value(portal));
        }
    }
}

static void print_target(const json_t *target)
{
    size_t i;
    json_t *state;
    const json_t *groups = json_object_get(target, "portal_groups");
    printf("%s\n", text_of(target, "iqn"));
    if (json_is_array(groups)) {
        print_words("through", groups);
    } else {
        printf("  %-14s%s\n", "through", "all portal groups");
    }
    json_array_foreach(json_object_get(target, "access_states"), i, state)
    {
        char unit[32] = "all LUNs";
        const json_t *lun = json_object_get(state, "lun");
        if (lun) {
            snprintf(unit, sizeof unit, "LUN %" JSON_INTEGER_FORMAT, json_integer_value(lun));
        }
        printf("  %-14s%s, %s%s\n", text_of(state, "group"), unit, text_of(state, "state"),
               json_is_true(json_object_get(state, "preferred")) ? ", preferred" : "");
    }
}

void print_paths_result(const json_t *result)
{
    const json_t *targets = json_object_get(result, "targets");
    json_int_t ended = json_integer_value(json_object_get(result, "disconnected"));
    size_t i;
    json_t *each;
    json_array_foreach(json_object_get(result, "groups"), i, each)
    {
        print_group(each);
    }
    json_array_foreach(targets, i, each)
    {
        print_target(each);
    }
    if (json_object_get(result, "iqn")) {
        print_target(result);
    }
    if (ended > 0) {
        printf("%" JSON_INTEGER_FORMAT " session%s ended\n", ended, ended == 1 ? "" : "s");
    }
}
