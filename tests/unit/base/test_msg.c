/* SPDX-License-Identifier: Apache-2.0 */
#include "base/msg.h"
#include "unit.h"
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

static char got[8192];

/* What goes to stderr between begin() and end() is found in `got`. */
static int saved_stderr;
static int file;

static void begin(void)
{
    char path[] = "/tmp/test_msg_XXXXXX";
    fflush(stderr);
    saved_stderr = dup(2);
    file = mkstemp(path);
    assert_true(file >= 0);
    unlink(path);
    dup2(file, 2);
}

static void end(void)
{
    dup2(saved_stderr, 2);
    close(saved_stderr);
    ssize_t n = pread(file, got, sizeof got - 1, 0);
    assert_true(n >= 0);
    got[n] = '\0';
    close(file);
}

static void a_line_has_time_level_and_room(void **state)
{
    (void)state;
    begin();
    errno = ENOSPC;
    msg_warn("nbd", "%s %d", "text", 17);
    int kept = errno;
    end();
    assert_int_equal(kept, ENOSPC);
    int year, ms;
    char rest[64];
    assert_int_equal(sscanf(got, "%4d-%*2d-%*2dT%*2d:%*2d:%*2d.%3dZ %63[^\n]", &year, &ms, rest),
                     3);
    assert_true(year >= 2024);
    assert_string_equal(rest, "warn  nbd: text 17");
    assert_int_equal(got[strlen(got) - 1], '\n');
}

static void lines_below_the_level_are_not_written(void **state)
{
    (void)state;
    begin();
    msg_debug("x", "hidden");
    msg_level_set(MSG_DEBUG);
    msg_debug("x", "shown");
    msg_level_set(MSG_ERROR);
    msg_warn("x", "hidden too");
    msg_level_set(MSG_INFO);
    end();
    assert_null(strstr(got, "hidden"));
    assert_non_null(strstr(got, "shown"));
}

static void a_peer_cannot_forge_a_line(void **state)
{
    (void)state;
    begin();
    msg_info("x", "name=%s", "a\nb\x1b[2J\x7f");
    end();
    assert_non_null(strstr(got, "name=a?b?[2J?\n"));
}

static void a_long_line_is_cut_and_says_so(void **state)
{
    (void)state;
    char text[4000];
    memset(text, 'y', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    begin();
    msg_info("x", "%s", text);
    end();
    size_t len = strlen(got);
    assert_int_equal(len, 1023);
    assert_string_equal(got + len - 5, "y...\n");
}

static unsigned lines_of(const char *word)
{
    unsigned n = 0;
    for (const char *at = got; (at = strstr(at, word)) != NULL; at++) {
        n++;
    }
    return n;
}

static time_t second_now(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
    return now.tv_sec;
}

static void a_flood_is_paced(void **state)
{
    (void)state;
    begin();
    time_t first = second_now();
    int sent = 0;
    while (second_now() < first + 2) {
        msg_warn_paced("x", "flood %d", sent++);
    }
    msg_warn_paced("x", "another place");
    end();
    assert_in_range(sent, 1000, INT32_MAX);
    assert_in_range(lines_of("flood"), MSG_PACE_PER_S, 3 * MSG_PACE_PER_S);
    assert_in_range(lines_of("messages like the next one were left out"), 1, 2);
    assert_int_equal(lines_of("another place"), 1);
}

static void levels_have_names(void **state)
{
    (void)state;
    enum msg_level level = MSG_ERROR;
    assert_int_equal(msg_level_parse("debug", &level), 0);
    assert_int_equal(level, MSG_DEBUG);
    assert_int_equal(msg_level_parse("loud", &level), -EINVAL);
    assert_int_equal(level, MSG_DEBUG);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_line_has_time_level_and_room),
        cmocka_unit_test(lines_below_the_level_are_not_written),
        cmocka_unit_test(a_peer_cannot_forge_a_line),
        cmocka_unit_test(a_long_line_is_cut_and_says_so),
        cmocka_unit_test(a_flood_is_paced),
        cmocka_unit_test(levels_have_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
