/* SPDX-License-Identifier: Apache-2.0 */
/* Command line words: named, positional, and wrong ones. */
#include "main/args.h"
#include "unit.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

static const struct arg_spec specs[] = {
    {.name = "name", .value = "NAME", .help = "the device", .positional = true},
    {.name = "size", .value = "SIZE", .help = "how long", .positional = true},
    {.name = "config", .letter = 'c', .value = "FILE", .help = "the file"},
    {.name = "force", .letter = 'f', .help = "do not ask"},
    {0},
};

#define WORDS_MAX 8

static int parse(const char *const words[WORDS_MAX], struct args *ret_args)
{
    char *argv[WORDS_MAX];
    int argc = 0;
    while (argc < WORDS_MAX && words[argc]) {
        argv[argc] = (char *)(uintptr_t)words[argc];
        argc++;
    }
    return args_parse(specs, argc, argv, ret_args);
}

static void assert_value(const struct args *a, const char *name, const char *value)
{
    const char *got = args_get(a, name);
    if ((got == NULL) != (value == NULL) || (got && strcmp(got, value) != 0)) {
        fail_msg("--%s is %s and not %s", name, got ? got : "absent", value ? value : "absent");
    }
}

static void takes_every_form(void **state)
{
    (void)state;
    static const struct {
        const char *words[WORDS_MAX];
        const char *name, *size, *config, *force;
    } table[] = {
        {{NULL}, NULL, NULL, NULL, NULL},
        {{"a", "1G"}, "a", "1G", NULL, NULL},
        {{"--name", "a", "--size", "1G"}, "a", "1G", NULL, NULL},
        {{"--size=1G", "--name=a"}, "a", "1G", NULL, NULL},
        {{"--name", "a", "1G"}, "a", "1G", NULL, NULL},
        {{"--size", "1G", "a"}, "a", "1G", NULL, NULL},
        {{"-c", "f", "a", "--force", "1G"}, "a", "1G", "f", ""},
        {{"-cf", "a"}, "a", NULL, "f", NULL},
        {{"a", "--config=x=y"}, "a", NULL, "x=y", NULL},
        {{"-f"}, NULL, NULL, NULL, ""},
        {{"--name="}, "", NULL, NULL, NULL},
        {{"--name", "--force"}, "--force", NULL, NULL, NULL},
        {{"-"}, "-", NULL, NULL, NULL},
        {{"--", "--name", "-f"}, "--name", "-f", NULL, NULL},
        {{""}, "", NULL, NULL, NULL},
    };
    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        struct args a;
        assert_int_equal(parse(table[i].words, &a), 0);
        assert_false(a.help);
        assert_value(&a, "name", table[i].name);
        assert_value(&a, "size", table[i].size);
        assert_value(&a, "config", table[i].config);
        assert_value(&a, "force", table[i].force);
        assert_int_equal(args_has(&a, "force"), table[i].force != NULL);
        assert_false(args_has(&a, "unheard-of"));
    }
}

/* What goes to a stream while fn runs. */
static void capture(FILE *stream, void (*fn)(void *arg), void *arg, char *ret_text, size_t cap)
{
    char path[] = "/tmp/zerofs-args-XXXXXX";
    int file = mkstemp(path);
    int kept = dup(fileno(stream));
    assert_true(file >= 0 && kept >= 0);
    assert_int_equal(fflush(stream), 0);
    assert_true(dup2(file, fileno(stream)) >= 0);
    fn(arg);
    assert_int_equal(fflush(stream), 0);
    assert_true(dup2(kept, fileno(stream)) >= 0);
    memset(ret_text, 0, cap);
    assert_true(pread(file, ret_text, cap - 1, 0) >= 0);
    assert_int_equal(close(file), 0);
    assert_int_equal(close(kept), 0);
    assert_int_equal(unlink(path), 0);
}

struct attempt {
    const char *const *words;
    int result;
};

static void try(void *arg)
{
    struct attempt *t = arg;
    struct args a;
    t->result = parse(t->words, &a);
}

static void refuses_the_rest_and_says_why(void **state)
{
    (void)state;
    static const struct {
        const char *words[WORDS_MAX];
        const char *said;
    } table[] = {
        {{"--nam", "a"}, "unknown option --nam"},
        {{"--names=a"}, "unknown option --names=a"},
        {{"-x"}, "unknown option -x"},
        {{"--=a"}, "unknown option --=a"},
        {{"a", "b", "c"}, "unexpected word 'c'"},
        {{"--name", "a", "--name", "b"}, "--name is given twice"},
        {{"--name", "a", "1G", "b"}, "unexpected word 'b'"},
        {{"-f", "--force"}, "--force is given twice"},
        {{"--force=yes"}, "--force takes no value"},
        {{"-fyes"}, "--force takes no value"},
        {{"--size"}, "--size needs a value: --size SIZE"},
        {{"-c"}, "--config needs a value"},
    };
    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        struct attempt t = {.words = table[i].words};
        char said[256];
        capture(stderr, try, &t, said, sizeof said);
        if (t.result != -EINVAL || !strstr(said, table[i].said)) {
            fail_msg("%d: '%s' and not '%s'", t.result, said, table[i].said);
        }
    }
}

static void help_goes_before_everything(void **state)
{
    (void)state;
    static const char *const forms[][WORDS_MAX] = {
        {"--help"}, {"-h"}, {"a", "--help"}, {"--help", "--unknown"}};
    for (size_t i = 0; i < ARRAY_LEN(forms); i++) {
        struct args a;
        assert_int_equal(parse(forms[i], &a), 0);
        assert_true(a.help);
    }
    struct args a;
    const char *const behind[WORDS_MAX] = {"--", "--help"};
    assert_int_equal(parse(behind, &a), 0);
    assert_false(a.help);
    assert_value(&a, "name", "--help");
}

static void show_usage(void *arg)
{
    (void)arg;
    args_usage(specs, "nbd create", "Makes one.");
}

static void usage_shows_every_option(void **state)
{
    (void)state;
    char said[1024];
    capture(stdout, show_usage, NULL, said, sizeof said);
    static const char *const wanted[] = {"usage: zerofs nbd create [NAME] [SIZE] [options]\n",
                                         "Makes one.\n",
                                         "  --name NAME ",
                                         "  -c, --config FILE ",
                                         "  -f, --force ",
                                         "do not ask\n"};
    for (size_t i = 0; i < ARRAY_LEN(wanted); i++) {
        if (!strstr(said, wanted[i])) {
            fail_msg("'%s' is not in\n%s", wanted[i], said);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(takes_every_form),
        cmocka_unit_test(refuses_the_rest_and_says_why),
        cmocka_unit_test(help_goes_before_everything),
        cmocka_unit_test(usage_shows_every_option),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
