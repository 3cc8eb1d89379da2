/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A line is built on the stack and written once. Text may come from a peer (names, IQNs), so
 * control bytes are shown as '?': nobody outside can forge a line or drive the operator's terminal.
 */
#include "base/msg.h"
#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define LINE_SIZE 1024

enum msg_level msg_level_max = MSG_INFO;

static const char *const names[] = {"error", "warn", "info", "debug"};

void msg_level_set(enum msg_level level)
{
    __atomic_store_n(&msg_level_max, level, __ATOMIC_RELAXED);
}

int msg_level_parse(const char *text, enum msg_level *ret_level)
{
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        if (strcmp(text, names[i]) == 0) {
            *ret_level = (enum msg_level)i;
            return 0;
        }
    }
    return -EINVAL;
}

/* "2024-01-31T23:59:59.123Z info  nbd: ". The length. */
static size_t put_head(char *line, enum msg_level level, const char *room)
{
    struct timespec now;
    struct tm tm;
    clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &tm);
    size_t len = strftime(line, LINE_SIZE, "%Y-%m-%dT%H:%M:%S", &tm);
    int n =
        snprintf(line + len, 64, ".%03ldZ %-5s %.20s: ", now.tv_nsec / 1000000, names[level], room);
    return len + (size_t)MAX_OF(n, 0);
}

static void write_line(const char *line, size_t len)
{
    while (len > 0) {
        ssize_t n = write(STDERR_FILENO, line, len);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            return; /* nowhere to say it */
        }
        line += n;
        len -= (size_t)n;
    }
}

static PRINTF_LIKE(3, 0) void write_text(enum msg_level level, const char *room, const char *fmt,
                                         va_list args)
{
    int saved_errno = errno;
    char line[LINE_SIZE];
    size_t len = put_head(line, level, room);
    size_t room_left = LINE_SIZE - len - 1; /* one for the newline */

    int n = vsnprintf(line + len, room_left, fmt, args);
    size_t text_len = n < 0 ? 0 : MIN_OF((size_t)n, room_left - 1);
    for (size_t i = len; i < len + text_len; i++) {
        unsigned char c = (unsigned char)line[i];
        if (c < 0x20 || c == 0x7f) {
            line[i] = '?';
        }
    }
    len += text_len;
    if (n > 0 && (size_t)n > text_len) {
        memset(line + len - 3, '.', 3);
    }
    line[len++] = '\n';
    write_line(line, len);
    errno = saved_errno;
}

void msg_write(enum msg_level level, const char *room, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    write_text(level, room, fmt, args);
    va_end(args);
}

/* Threads that meet here may say a line more or less: that is good enough. */
static bool pace_allows(struct msg_pace *p, unsigned *ret_left_out)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
    uint64_t second = (uint64_t)now.tv_sec + 1; /* never that of a fresh one */
    if (__atomic_exchange_n(&p->second, second, __ATOMIC_RELAXED) != second) {
        __atomic_store_n(&p->said, 0, __ATOMIC_RELAXED);
    }
    if (__atomic_fetch_add(&p->said, 1, __ATOMIC_RELAXED) >= MSG_PACE_PER_S) {
        __atomic_fetch_add(&p->left_out, 1, __ATOMIC_RELAXED);
        return false;
    }
    *ret_left_out = __atomic_exchange_n(&p->left_out, 0, __ATOMIC_RELAXED);
    return true;
}

void msg_write_paced(struct msg_pace *pace, enum msg_level level, const char *room, const char *fmt,
                     ...)
{
    unsigned left_out;
    if (!pace_allows(pace, &left_out)) {
        return;
    }
    if (left_out > 0) {
        msg_write(level, room, "%u messages like the next one were left out", left_out);
    }
    va_list args;
    va_start(args, fmt);
    write_text(level, room, fmt, args);
    va_end(args);
}
