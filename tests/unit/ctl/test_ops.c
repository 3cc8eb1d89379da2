/* SPDX-License-Identifier: Apache-2.0 */
/* Requests and responses of the administrator's operations, as far as they need no volume. */
#include "base/err.h"
#include "ctl/ops.h"
#include "ctl/ops_paths.h"
#include "ctl/ops_priv.h"
#include "unit.h"
#include <errno.h>

static json_t *parse(const char *text)
{
    json_error_t error;
    json_t *value = json_loads(text, 0, &error);
    if (!value) {
        fail_msg("%s: %s", text, error.text);
    }
    return value;
}

static void a_failure_has_its_form(void **state)
{
    (void)state;
    static const struct {
        enum ops_exit code;
        const char *kind;
    } kinds[] = {
        {OPS_FAILED, "failed"},       {OPS_USAGE, "usage"},   {OPS_CONFIG, "config"},
        {OPS_NOT_FOUND, "not-found"}, {OPS_EXISTS, "exists"}, {OPS_REFUSED, "refused"},
        {OPS_HELD, "held"},           {OPS_STORE, "store"},
    };
    for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
        json_t *response = ops_failure(kinds[i].code, "no %s of %d", "thing", 5);
        assert_true(json_is_false(json_object_get(response, "ok")));
        const json_t *error = json_object_get(response, "error");
        assert_string_equal(ops_text(error, "kind"), kinds[i].kind);
        assert_string_equal(ops_text(error, "message"), "no thing of 5");
        assert_int_equal(ops_exit_of(response), kinds[i].code);
        json_decref(response);
    }
}

static void a_success_carries_its_result(void **state)
{
    (void)state;
    json_t *response = ops_success(json_pack("{s:i}", "n", 3));
    assert_int_equal(ops_exit_of(response), OPS_OK);
    assert_int_equal(json_integer_value(json_object_get(json_object_get(response, "result"), "n")),
                     3);
    json_decref(response);
    assert_null(ops_success(NULL));
}

static void strange_responses_count_as_failed(void **state)
{
    (void)state;
    static const char *const strange[] = {
        "{}",
        "[]",
        "{\"ok\": 1}",
        "{\"ok\": false}",
        "{\"ok\": false, \"error\": 5}",
        "{\"ok\": false, \"error\": {\"kind\": \"new\"}}",
        "{\"ok\": false, \"error\": {\"kind\": 7}}",
    };
    for (size_t i = 0; i < ARRAY_LEN(strange); i++) {
        json_t *response = parse(strange[i]);
        assert_int_equal(ops_exit_of(response), OPS_FAILED);
        json_decref(response);
    }
    assert_int_equal(ops_exit_of(NULL), OPS_FAILED);
}

static void errors_have_their_kinds(void **state)
{
    (void)state;
    static const struct {
        int r;
        enum ops_exit kind;
    } table[] = {
        {ERR_OPEN_ELSEWHERE, OPS_HELD},
        {ERR_LOST_OPEN_RACE, OPS_HELD},
        {ERR_FENCED, OPS_HELD},
        {ERR_IN_USE, OPS_REFUSED},
        {ERR_CONFIG, OPS_CONFIG},
        {ERR_NOT_A_VOLUME, OPS_NOT_FOUND},
        {-ENOENT, OPS_NOT_FOUND},
        {-EEXIST, OPS_EXISTS},
        {-EINVAL, OPS_USAGE},
        {-EIO, OPS_STORE},
        {-ENOSPC, OPS_STORE},
        {-EROFS, OPS_STORE},
        {-EACCES, OPS_STORE},
        {-EPERM, OPS_STORE},
        {-ENOTDIR, OPS_STORE},
        {-EDQUOT, OPS_STORE},
        {-ESTALE, OPS_STORE},
        {-ETIMEDOUT, OPS_STORE},
        {ERR_CORRUPT_MANIFEST, OPS_STORE},
        {ERR_LOG_GAP, OPS_STORE},
        {ERR_PREFIX_NOT_EMPTY, OPS_STORE},
        {ERR_FORMAT_TOO_NEW, OPS_STORE},
        {-ENOMEM, OPS_FAILED},
    };
    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        if (ops_exit_of_error(table[i].r) != table[i].kind) {
            fail_msg("%s has kind %d", err_name(table[i].r), (int)ops_exit_of_error(table[i].r));
        }
    }
    json_t *response = ops_error(-ENOSPC, "'%s' was not made", "a");
    const char *text = ops_text(json_object_get(response, "error"), "message");
    assert_non_null(text);
    assert_true(strncmp(text, "'a' was not made: ", 18) == 0);
    assert_non_null(strstr(text, "(ENOSPC)"));
    json_decref(response);
}

static void fields_are_of_their_type_or_absent(void **state)
{
    (void)state;
    json_t *q = parse("{\"t\": \"x\", \"n\": 5, \"neg\": -1, \"f\": 1.5, \"yes\": true,"
                      " \"no\": false, \"null\": null}");
    uint64_t n = 99;
    assert_string_equal(ops_text(q, "t"), "x");
    assert_null(ops_text(q, "n"));
    assert_null(ops_text(q, "none"));
    assert_true(ops_number(q, "n", &n));
    assert_int_equal(n, 5);
    n = 99;
    assert_false(ops_number(q, "neg", &n));
    assert_false(ops_number(q, "f", &n));
    assert_false(ops_number(q, "t", &n));
    assert_false(ops_number(q, "none", &n));
    assert_int_equal(n, 99);
    assert_true(ops_flag(q, "yes", false));
    assert_false(ops_flag(q, "no", true));
    assert_true(ops_flag(q, "none", true));
    assert_false(ops_flag(q, "null", false));
    assert_true(ops_flag(q, "n", true));
    json_decref(q);
}

static void sizes_are_checked(void **state)
{
    (void)state;
    static const struct {
        const char *request;
        const char *said; /* NULL: taken */
    } table[] = {
        {"{\"size\": 512}", NULL},
        {"{\"size\": 1152921504606846976}", NULL},
        {"{}", "more than 0 bytes"},
        {"{\"size\": 0}", "more than 0 bytes"},
        {"{\"size\": \"10G\"}", "more than 0 bytes"},
        {"{\"size\": -512}", "more than 0 bytes"},
        {"{\"size\": 1000}", "multiple of 512 bytes: 512 or 1024 would do"},
        {"{\"size\": 1152921504606847488}", "at most 1024P"},
    };
    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        json_t *q = parse(table[i].request);
        uint64_t bytes = 0;
        json_t *failed = ops_size(q, 512, &bytes);
        if (table[i].said) {
            assert_int_equal(ops_exit_of(failed), OPS_USAGE);
            assert_non_null(
                strstr(ops_text(json_object_get(failed, "error"), "message"), table[i].said));
        } else {
            assert_null(failed);
            assert_true(bytes > 0);
        }
        json_decref(failed);
        json_decref(q);
    }
}

static void requests_that_are_none(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "{}", "[]", "5", "{\"op\": 5}", "{\"op\": \"nbd.creat\"}", "{\"op\": \"\"}"};
    struct ops o = {0};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        json_t *q = parse(bad[i][0] == '5' ? "{\"op\": null}" : bad[i]);
        json_t *response = ops_dispatch(&o, q);
        assert_int_equal(ops_exit_of(response), OPS_USAGE);
        json_decref(response);
        json_decref(q);
    }
}

static void what_was_advertised_stays(void **state)
{
    (void)state;
    static const struct dev_group old = {
        .tag = 2,
        .name = "left",
        .portal_count = 1,
        .advertise_count = 1,
        .advertise = {"2001:db8::1"}, /* without the brackets that are asked for now */
    };
    static const struct {
        const char *request;
        size_t count; /* 0: refused */
    } table[] = {
        {"{\"name\": \"left\", \"advertise\": [\"2001:db8::1\"]}", 1},
        {"{\"name\": \"left\", \"advertise\": [\"host.example\", \"2001:db8::1\"]}", 2},
        {"{\"name\": \"left\", \"advertise\": [\"2001:db8::1\", \"2001:db8::2\"]}", 0},
        {"{\"name\": \"left\", \"advertise\": [\"2001:db8::\"]}", 0},
        {"{\"name\": \"left\", \"advertise\": [\"\"]}", 0},
    };
    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        struct dev_group group;
        json_t *q = parse(table[i].request);
        json_t *failed = ops_group_take(q, &old, &group);
        assert_int_equal(failed == NULL, table[i].count > 0);
        if (!failed) {
            assert_int_equal(group.advertise_count, table[i].count);
            assert_string_equal(group.advertise[table[i].count - 1], "2001:db8::1");
        }
        json_decref(failed);
        json_object_set_new(q, "portals", json_pack("[s]", "192.0.2.1:3260"));
        failed = ops_group_take(q, NULL, &group); /* a group that is new */
        assert_int_equal(ops_exit_of(failed), OPS_USAGE);
        json_decref(failed);
        json_decref(q);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_failure_has_its_form),
        cmocka_unit_test(a_success_carries_its_result),
        cmocka_unit_test(strange_responses_count_as_failed),
        cmocka_unit_test(errors_have_their_kinds),
        cmocka_unit_test(fields_are_of_their_type_or_absent),
        cmocka_unit_test(sizes_are_checked),
        cmocka_unit_test(requests_that_are_none),
        cmocka_unit_test(what_was_advertised_stays),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
