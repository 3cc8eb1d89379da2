/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Messages to the operator: one line each on stderr, with time, level, and room.
 *
 *     msg_warn("obj", "PUT %s failed: %s; trying again", name, err_name(r));
 *
 * A line is written with one write(2), so that lines of several threads do not mix. A request's id
 * is part of the text where there is one ("req=17"). Lines below the level cost one compare.
 *
 * What a peer can cause as often as it likes is paced: at most MSG_PACE_PER_S lines a second of one
 * place in the code; the next line says how many were left out.
 *
 *     msg_warn_paced("nbd", "%s: not an NBD request; closing", c->peer);
 */
#pragma once
#include "base/attr.h"
#include <stdint.h>

#define MSG_PACE_PER_S 10

enum msg_level {
    MSG_ERROR,
    MSG_WARN,
    MSG_INFO,
    MSG_DEBUG,
};

extern enum msg_level msg_level_max; /* default MSG_INFO; read and set through the calls below */

/* At start and on SIGHUP; any thread. */
void msg_level_set(enum msg_level level);

void msg_write(enum msg_level level, const char *room, const char *fmt, ...) PRINTF_LIKE(3, 4);

/* The lines of one place in the code. All zero at first; any thread. */
struct msg_pace {
    uint64_t second; /* the one that `said` is of */
    unsigned said;
    unsigned left_out;
};
void msg_write_paced(struct msg_pace *pace, enum msg_level level, const char *room, const char *fmt,
                     ...) PRINTF_LIKE(4, 5);

/* Parses "error", "warn", "info", "debug": 0 or -EINVAL. */
MUST int msg_level_parse(const char *text, enum msg_level *ret_level);

#define MSG_AT(level, ...)                                                                         \
    do {                                                                                           \
        if ((int)(level) <= (int)__atomic_load_n(&msg_level_max, __ATOMIC_RELAXED)) {              \
            msg_write((level), __VA_ARGS__);                                                       \
        }                                                                                          \
    } while (0)
#define msg_error(...) MSG_AT(MSG_ERROR, __VA_ARGS__)
#define msg_warn(...) MSG_AT(MSG_WARN, __VA_ARGS__)
#define msg_info(...) MSG_AT(MSG_INFO, __VA_ARGS__)
#define msg_debug(...) MSG_AT(MSG_DEBUG, __VA_ARGS__)
#define MSG_PACED_AT(level, ...)                                                                   \
    do {                                                                                           \
        if ((int)(level) <= (int)__atomic_load_n(&msg_level_max, __ATOMIC_RELAXED)) {              \
            static struct msg_pace pace_of_this_line;                                              \
            msg_write_paced(&pace_of_this_line, (level), __VA_ARGS__);                             \
        }                                                                                          \
    } while (0)
#define msg_warn_paced(...) MSG_PACED_AT(MSG_WARN, __VA_ARGS__)
#define msg_info_paced(...) MSG_PACED_AT(MSG_INFO, __VA_ARGS__)
