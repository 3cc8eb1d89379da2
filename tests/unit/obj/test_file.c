/* SPDX-License-Identifier: Apache-2.0 */
/* The file backend's own promises: crashes, left-overs, a folder that is gone, full or read-only.
 */
#include "base/msg.h"
#include "obj_test.h"
#include <dirent.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/stat.h>

struct env {
    char *folder;
    struct obj_store *s;
    char path[512];
};

static const char *at(struct env *e, const char *below)
{
    (void)snprintf(e->path, sizeof e->path, "%s/%s", e->folder, below);
    return e->path;
}

static struct env setup(void)
{
    struct env e = {.folder = make_folder()};
    CHECK(obj_file_open(e.folder, &e.s) == 0);
    return e;
}

static void teardown(struct env *e)
{
    obj_close(e->s);
    wipe(e->folder);
    free(e->folder);
}

static unsigned entries(const char *folder)
{
    DIR *d = opendir(folder);
    CHECK(d != NULL);
    unsigned n = 0;
    for (struct dirent *x = readdir(d); x; x = readdir(d)) {
        n += x->d_name[0] != '.';
    }
    (void)closedir(d);
    return n;
}

static void places(void *arg)
{
    (void)arg;
    struct env e = setup();
    struct stat st;
    CHECK(put_text(e.s, "segments/00000000000012ab", "x") == 0);
    CHECK(stat(at(&e, "segments/ab/00000000000012ab"), &st) == 0 && st.st_size == 1);
    CHECK(put_text(e.s, "manifest/1", "y") == 0 && stat(at(&e, "manifest/1"), &st) == 0);
    CHECK(put_text(e.s, "segments/ab", "x") == -EINVAL);
    CHECK(put_text(e.s, "segments/00000000000012AB", "x") == -EINVAL);
    CHECK(put_text(e.s, "tmp/x", "x") == -EINVAL && put_text(e.s, "tmp", "x") == -EINVAL);
    CHECK(put_text(e.s, "manifest/1", "z") == -EEXIST);
    CHECK(entries(at(&e, "tmp")) == 0); /* nothing is left over, also of a refused put */
    /* A reopened store has it all. */
    obj_close(e.s);
    CHECK(obj_file_open(e.folder, &e.s) == 0);
    CHECK(has_text(e.s, "segments/00000000000012ab", "x") && has_text(e.s, "manifest/1", "y"));
    teardown(&e);
}

/* What a killed writer left goes at the next open; what a living one has locked stays. */
static void left_overs(void *arg)
{
    (void)arg;
    struct env e = setup();
    int dead = open(at(&e, "tmp/dead"), O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    CHECK(dead >= 0 && close(dead) == 0);
    int alive = open(at(&e, "tmp/alive"), O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    CHECK(alive >= 0 && flock(alive, LOCK_SH) == 0);
    struct obj_store *second;
    CHECK(obj_file_open(e.folder, &second) == 0);
    CHECK(access(at(&e, "tmp/dead"), F_OK) < 0 && access(at(&e, "tmp/alive"), F_OK) == 0);
    CHECK(close(alive) == 0);
    obj_close(second);
    CHECK(obj_file_open(e.folder, &second) == 0);
    CHECK(entries(at(&e, "tmp")) == 0);
    obj_close(second);
    teardown(&e);
}

/* Two stores on one folder, as two processes would be. */
static void shared_folder(void *arg)
{
    (void)arg;
    struct env e = setup();
    struct obj_store *second;
    CHECK(obj_file_open(e.folder, &second) == 0);
    CHECK(put_text(e.s, "a", "first") == 0);
    CHECK(put_text(second, "a", "second") == -EEXIST && has_text(second, "a", "first"));
    CHECK(obj_remove(second, OBJ_COLLECT, "a") == 0);
    CHECK(put_text(second, "a", "third") == 0);
    obj_close(second);
    teardown(&e);
}

static void vanished(void *arg)
{
    (void)arg;
    struct env e = setup();
    CHECK(put_text(e.s, "a/b", "x") == 0);
    wipe(e.folder);
    char byte;
    uint64_t size;
    struct obj_names n = {0};
    CHECK(put_text(e.s, "a/c", "x") == -ESTALE);
    CHECK(put_text(e.s, "c", "x") == -ESTALE);
    CHECK(obj_get(e.s, OBJ_READ, "a/never", 0, &byte, 1) == -ESTALE);
    CHECK(obj_head(e.s, OBJ_READ, "a/b", &size) == -ESTALE);
    CHECK(obj_list(e.s, OBJ_READ, "", "", 1, &n) == -ESTALE);
    CHECK(obj_remove(e.s, OBJ_READ, "a/b") == -ESTALE);
    CHECK(access(e.folder, F_OK) < 0); /* nothing made it again */
    /* Also not when another folder is there in its place. */
    CHECK(mkdir(e.folder, 0755) == 0);
    CHECK(put_text(e.s, "c", "x") == -ESTALE);
    CHECK(entries(e.folder) == 0);
    teardown(&e);
}

/* A limit on the size of files stands for a full disk: the write breaks off in the middle. */
static void full(void *arg)
{
    (void)arg;
    struct env e = setup();
    uint8_t *big = calloc(1, 1 << 20);
    struct rlimit old;
    CHECK(getrlimit(RLIMIT_FSIZE, &old) == 0);
    (void)signal(SIGXFSZ, SIG_IGN);
    struct rlimit small = {.rlim_cur = 100000, .rlim_max = old.rlim_max};
    CHECK(setrlimit(RLIMIT_FSIZE, &small) == 0);
    CHECK(put_bytes(e.s, "big", big, 1 << 20) == -EFBIG);
    CHECK(setrlimit(RLIMIT_FSIZE, &old) == 0);
    uint64_t size;
    CHECK(obj_head(e.s, OBJ_READ, "big", &size) == -ENOENT && entries(at(&e, "tmp")) == 0);
    CHECK(put_bytes(e.s, "big", big, 1 << 20) == 0);
    free(big);
    teardown(&e);
}

static void bad_places(void *arg)
{
    (void)arg;
    struct env e = setup();
    struct obj_store *s;
    CHECK(put_text(e.s, "plain", "x") == 0);
    CHECK(obj_file_open(at(&e, "plain"), &s) == -ENOTDIR);
    CHECK(obj_file_open(at(&e, "plain/deeper"), &s) == -ENOTDIR);
    CHECK(obj_file_open("relative", &s) == -EINVAL);
    CHECK(obj_file_open(at(&e, "new/and/deep"), &s) == 0);
    CHECK(put_text(s, "x", "y") == 0);
    obj_close(s);
    CHECK(obj_file_open("/proc/nothing/here", &s) == -ENOENT);
    CHECK(obj_file_open(at(&e, "slash/at/the/end/"), &s) == 0);
    obj_close(s);
    teardown(&e);
}

/* The descriptors kept open stay few, serve many readers at once, and go with their objects. */
struct reader {
    struct obj_store *s;
    unsigned running;
};

static void read_many(void *arg)
{
    struct reader *r = arg;
    for (int i = 0; i < 300; i++) {
        char name[32];
        char text[64];
        (void)snprintf(name, sizeof name, "o/%d", (int)(rt_random() % 200));
        (void)snprintf(text, sizeof text, "text of %s", name);
        CHECK(has_text(r->s, name, text));
    }
    r->running--;
}

static void descriptors(void *arg)
{
    (void)arg;
    struct env e = setup();
    for (int i = 0; i < 200; i++) {
        char name[32];
        char text[64];
        (void)snprintf(name, sizeof name, "o/%d", i);
        (void)snprintf(text, sizeof text, "text of %s", name);
        CHECK(put_text(e.s, name, text) == 0);
    }
    unsigned before = entries("/proc/self/fd");
    struct reader r = {e.s, 16};
    for (int i = 0; i < 16; i++) {
        CHECK(rt_spawn("reader", read_many, &r) == 0);
    }
    while (r.running > 0) {
        rt_yield();
    }
    CHECK(entries("/proc/self/fd") <= before + 64);
    for (int i = 0; i < 200; i++) {
        char name[32];
        (void)snprintf(name, sizeof name, "o/%d", i);
        CHECK(obj_remove(e.s, OBJ_COLLECT, name) == 0);
        CHECK(!has_text(e.s, name, "text of o/0"));
    }
    CHECK(entries("/proc/self/fd") == before);
    teardown(&e);
}

#define ON_FIBER(name)                                                                             \
    static void test_##name(void **state)                                                          \
    {                                                                                              \
        (void)state;                                                                               \
        run_on(1, name);                                                                           \
    }
ON_FIBER(places)
ON_FIBER(left_overs)
ON_FIBER(shared_folder)
ON_FIBER(vanished)
ON_FIBER(full)
ON_FIBER(bad_places)
ON_FIBER(descriptors)

int main(void)
{
    msg_level_set((enum msg_level) - 1);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_places),        cmocka_unit_test(test_left_overs),
        cmocka_unit_test(test_shared_folder), cmocka_unit_test(test_vanished),
        cmocka_unit_test(test_full),          cmocka_unit_test(test_bad_places),
        cmocka_unit_test(test_descriptors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
