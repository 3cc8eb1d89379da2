/* SPDX-License-Identifier: Apache-2.0 */
/*
 * For tests with files: a folder of their own as the current one.
 *
 *     return cmocka_run_group_tests(tests, folder_enter, folder_leave);
 */
#pragma once
#include "unit.h"
#include <dirent.h>
#include <unistd.h>

static char folder[] = "/tmp/zerofs-ctl-XXXXXX";

static inline int folder_enter(void **state)
{
    (void)state;
    return mkdtemp(folder) && chdir(folder) == 0 ? 0 : -1;
}

/* With the files in it; there are no folders. */
static inline int folder_leave(void **state)
{
    (void)state;
    DIR *d = opendir(".");
    for (const struct dirent *e = d ? readdir(d) : NULL; e; e = readdir(d)) {
        (void)unlink(e->d_name);
    }
    return d && closedir(d) == 0 && chdir("/") == 0 && rmdir(folder) == 0 ? 0 : -1;
}
