/* SPDX-License-Identifier: Apache-2.0 */
/* Negotiation, by table: what is offered, what is answered, what is agreed. */
#include "base/err.h"
#include "iscsi/nego.h"
#include "unit.h"

static const struct iscsi_limits open_limits = {.recv_len = 262144,
                                                .max_burst = 1048576,
                                                .first_burst = 65536,
                                                .max_r2t = 8,
                                                .immediate = true,
                                                .unsolicited = true};
static const struct iscsi_limits strict_limits = {
    .recv_len = 262144, .max_burst = 1048576, .first_burst = 0, .max_r2t = 8};

static int offer(struct iscsi_nego *n, const char *text, char *ret_answer, size_t cap)
{
    struct iscsi_text t = iscsi_text_of(text, strlen(text) + 1);
    struct iscsi_key k;
    struct bytes_writer out = {0};
    assert_int_equal(iscsi_text_next(&t, &k), 1);
    int r = iscsi_nego_key(n, &k, &out);
    assert_true(out.len < cap);
    memset(ret_answer, 0, cap);
    if (out.len > 0) {
        memcpy(ret_answer, out.data, out.len);
    }
    bytes_writer_free(&out);
    return r;
}

struct row {
    const char *offered;
    const char *answer; /* "" = none */
    bool strict;
    bool discovery;
};

static const struct row rows[] = {
    {"HeaderDigest=CRC32C,None", "HeaderDigest=CRC32C", 0, 0},
    {"HeaderDigest=None,CRC32C", "HeaderDigest=None", 0, 0},
    {"DataDigest=X-own,CRC32C", "DataDigest=CRC32C", 0, 0},
    {"DataDigest=X-own", "DataDigest=Reject", 0, 0},
    {"MaxConnections=8", "MaxConnections=1", 0, 0},
    {"MaxConnections=0", "MaxConnections=Reject", 0, 0},
    {"InitialR2T=No", "InitialR2T=No", 0, 0},
    {"InitialR2T=Yes", "InitialR2T=Yes", 0, 0},
    {"InitialR2T=No", "InitialR2T=Yes", 1, 0},
    {"InitialR2T=Maybe", "InitialR2T=Reject", 0, 0},
    {"ImmediateData=Yes", "ImmediateData=Yes", 0, 0},
    {"ImmediateData=No", "ImmediateData=No", 0, 0},
    {"ImmediateData=Yes", "ImmediateData=No", 1, 0},
    {"MaxRecvDataSegmentLength=65536", "", 0, 0},
    {"MaxBurstLength=16776192", "MaxBurstLength=1048576", 0, 0},
    {"MaxBurstLength=512", "MaxBurstLength=512", 0, 0},
    {"MaxBurstLength=0x10000", "MaxBurstLength=65536", 0, 0},
    {"MaxBurstLength=511", "MaxBurstLength=Reject", 0, 0},
    {"MaxBurstLength=16777216", "MaxBurstLength=Reject", 0, 0},
    {"FirstBurstLength=262144", "FirstBurstLength=65536", 0, 0},
    {"FirstBurstLength=1024", "FirstBurstLength=1024", 0, 0},
    {"FirstBurstLength=262144", "FirstBurstLength=512", 1, 0},
    {"DefaultTime2Wait=0", "DefaultTime2Wait=2", 0, 0},
    {"DefaultTime2Wait=10", "DefaultTime2Wait=10", 0, 0},
    {"DefaultTime2Retain=20", "DefaultTime2Retain=0", 0, 0},
    {"DefaultTime2Retain=3601", "DefaultTime2Retain=Reject", 0, 0},
    {"MaxOutstandingR2T=1", "MaxOutstandingR2T=1", 0, 0},
    {"MaxOutstandingR2T=64", "MaxOutstandingR2T=8", 0, 0},
    {"DataPDUInOrder=No", "DataPDUInOrder=Yes", 0, 0},
    {"DataSequenceInOrder=Yes", "DataSequenceInOrder=Yes", 0, 0},
    {"ErrorRecoveryLevel=2", "ErrorRecoveryLevel=0", 0, 0},
    {"ErrorRecoveryLevel=3", "ErrorRecoveryLevel=Reject", 0, 0},
    {"TaskReporting=FastAbort,RFC3720", "TaskReporting=FastAbort", 0, 0},
    {"TaskReporting=Slowly", "TaskReporting=Reject", 0, 0},
    {"iSCSIProtocolLevel=3", "iSCSIProtocolLevel=2", 0, 0},
    {"iSCSIProtocolLevel=0", "iSCSIProtocolLevel=0", 0, 0},
    {"IFMarker=Yes", "IFMarker=No", 0, 0},
    {"OFMarker=No", "OFMarker=No", 0, 0},
    {"IFMarkInt=2048~8192", "IFMarkInt=Irrelevant", 0, 0},
    {"InitialR2T=No", "InitialR2T=Irrelevant", 0, 1},
    {"MaxBurstLength=65536", "MaxBurstLength=Irrelevant", 0, 1},
    {"HeaderDigest=None", "HeaderDigest=None", 0, 1},
    {"MaxBurstLength=Irrelevant", "", 0, 0},
    {"TaskReporting=NotUnderstood", "", 0, 0},
};

static void table(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct iscsi_nego n;
        char answer[256];
        iscsi_nego_init(&n, rows[i].strict ? &strict_limits : &open_limits, rows[i].discovery);
        assert_int_equal(offer(&n, rows[i].offered, answer, sizeof answer), 0);
        assert_string_equal(answer, rows[i].answer);
    }
}

/* What the target may agree to, it agrees to for who asks; and retains for who asks for level 2. */
static void recovery(void **state)
{
    (void)state;
    static const struct iscsi_limits limits = {
        .recv_len = 262144, .max_connections = 8, .recovery = 2, .time2retain = 20};
    static const struct {
        const char *foreseen;
        const char *offered;
        const char *answer;
    } asked[] = {
        {"MaxConnections=16", "MaxConnections=16", "MaxConnections=8"},
        {"MaxConnections=2", "MaxConnections=2", "MaxConnections=2"},
        {"ErrorRecoveryLevel=2", "ErrorRecoveryLevel=2", "ErrorRecoveryLevel=2"},
        {"ErrorRecoveryLevel=1", "ErrorRecoveryLevel=1", "ErrorRecoveryLevel=1"},
        {"ErrorRecoveryLevel=2", "DefaultTime2Retain=60", "DefaultTime2Retain=20"},
        {"ErrorRecoveryLevel=2", "DefaultTime2Retain=0", "DefaultTime2Retain=0"},
        {"ErrorRecoveryLevel=1", "DefaultTime2Retain=60", "DefaultTime2Retain=0"},
        {"MaxConnections=1", "DefaultTime2Retain=60", "DefaultTime2Retain=0"},
    };
    for (size_t i = 0; i < sizeof asked / sizeof asked[0]; i++) {
        struct iscsi_nego n;
        struct iscsi_key k;
        char answer[256];
        struct iscsi_text t = iscsi_text_of(asked[i].foreseen, strlen(asked[i].foreseen) + 1);
        iscsi_nego_init(&n, &limits, false);
        assert_int_equal(n.agreed.max_connections, 1);
        assert_int_equal(n.agreed.recovery, 0);
        assert_int_equal(iscsi_text_next(&t, &k), 1);
        iscsi_nego_foresee(&n, &k);
        assert_int_equal(offer(&n, asked[i].offered, answer, sizeof answer), 0);
        assert_string_equal(answer, asked[i].answer);
    }
}

static void unknown_keys(void **state)
{
    (void)state;
    struct iscsi_nego n;
    char answer[256];
    iscsi_nego_init(&n, &open_limits, false);
    assert_int_equal(offer(&n, "X-com.example.key=1", answer, sizeof answer), 1);
    assert_int_equal(offer(&n, "headerdigest=None", answer, sizeof answer), 1);
}

static void once_only(void **state)
{
    (void)state;
    struct iscsi_nego n;
    char answer[256];
    iscsi_nego_init(&n, &open_limits, false);
    assert_int_equal(offer(&n, "ImmediateData=Yes", answer, sizeof answer), 0);
    assert_int_equal(offer(&n, "ImmediateData=Yes", answer, sizeof answer), ERR_PROTOCOL);
    /* Declarations may come again; the last one counts. */
    assert_int_equal(offer(&n, "MaxRecvDataSegmentLength=4096", answer, sizeof answer), 0);
    assert_int_equal(offer(&n, "MaxRecvDataSegmentLength=8192", answer, sizeof answer), 0);
    assert_int_equal(n.agreed.send_len, 8192);
    assert_int_equal(offer(&n, "MaxRecvDataSegmentLength=511", answer, sizeof answer),
                     ERR_PROTOCOL);
    assert_int_equal(offer(&n, "MaxRecvDataSegmentLength=x", answer, sizeof answer), ERR_PROTOCOL);
}

static void agreed_values(void **state)
{
    (void)state;
    struct iscsi_nego n;
    char answer[256];
    iscsi_nego_init(&n, &open_limits, false);
    assert_int_equal(iscsi_params_unsolicited(&n.agreed), 65536); /* the defaults */
    assert_int_equal(offer(&n, "FirstBurstLength=4096", answer, sizeof answer), 0);
    assert_int_equal(iscsi_params_unsolicited(&n.agreed), 4096);
    assert_int_equal(offer(&n, "MaxBurstLength=1024", answer, sizeof answer), 0);
    assert_int_equal(iscsi_params_unsolicited(&n.agreed), 1024);
    assert_int_equal(offer(&n, "ImmediateData=No", answer, sizeof answer), 0);
    assert_int_equal(iscsi_params_unsolicited(&n.agreed), 0); /* InitialR2T is Yes */
    assert_int_equal(offer(&n, "InitialR2T=No", answer, sizeof answer), 0);
    assert_int_equal(iscsi_params_unsolicited(&n.agreed), 1024);
    assert_int_equal(offer(&n, "HeaderDigest=CRC32C", answer, sizeof answer), 0);
    assert_true(n.agreed.header_digest);
    assert_false(n.agreed.data_digest);
}

static void rejected_keeps_default(void **state)
{
    (void)state;
    struct iscsi_nego n;
    char answer[256];
    iscsi_nego_init(&n, &open_limits, false);
    assert_int_equal(offer(&n, "MaxBurstLength=1", answer, sizeof answer), 0);
    assert_int_equal(n.agreed.max_burst, 262144);
}

static void declares_once(void **state)
{
    (void)state;
    struct iscsi_nego n;
    struct bytes_writer out = {0};
    iscsi_nego_init(&n, &open_limits, false);
    iscsi_nego_declare(&n, &out);
    iscsi_nego_declare(&n, &out);
    assert_int_equal(out.len, sizeof "MaxRecvDataSegmentLength=262144");
    assert_string_equal((char *)out.data, "MaxRecvDataSegmentLength=262144");
    assert_int_equal(n.agreed.recv_len, 262144);
    bytes_writer_free(&out);
}

/* A connection that is added: what is the session's stays, and is never told otherwise. */
static void joins_a_session(void **state)
{
    static const struct row joining[] = {
        {"HeaderDigest=CRC32C,None", "HeaderDigest=CRC32C", 0, 0},
        {"MaxRecvDataSegmentLength=65536", "", 0, 0},
        {"MaxConnections=8", "MaxConnections=4", 0, 0},
        {"MaxConnections=2", "MaxConnections=Reject", 0, 0},
        {"InitialR2T=No", "InitialR2T=No", 0, 0},
        {"InitialR2T=Yes", "InitialR2T=Reject", 0, 0},
        {"ImmediateData=Yes", "ImmediateData=No", 0, 0},
        {"ImmediateData=No", "ImmediateData=No", 0, 0},
        {"MaxBurstLength=16776192", "MaxBurstLength=8192", 0, 0},
        {"MaxBurstLength=512", "MaxBurstLength=Reject", 0, 0},
        {"MaxBurstLength=511", "MaxBurstLength=Reject", 0, 0},
        {"DefaultTime2Wait=1", "DefaultTime2Wait=2", 0, 0},
        {"DefaultTime2Wait=3", "DefaultTime2Wait=Reject", 0, 0},
        {"DataPDUInOrder=No", "DataPDUInOrder=Yes", 0, 0},
        {"ErrorRecoveryLevel=2", "ErrorRecoveryLevel=1", 0, 0},
        {"ErrorRecoveryLevel=0", "ErrorRecoveryLevel=Reject", 0, 0},
        {"TaskReporting=RFC3720,FastAbort", "TaskReporting=FastAbort", 0, 0},
        {"TaskReporting=RFC3720", "TaskReporting=Reject", 0, 0},
        {"IFMarker=Yes", "IFMarker=No", 0, 0},
    };
    (void)state;
    struct iscsi_nego n;
    struct bytes_writer out = {0};
    iscsi_nego_init(&n, &strict_limits, false);
    struct iscsi_params session = n.agreed;
    session.max_connections = 4;
    session.initial_r2t = session.immediate = false;
    session.max_burst = 8192;
    session.recovery = 1;
    session.reporting = ISCSI_FAST_ABORT;
    session.data_digest = true;
    session.send_len = 4096;
    for (size_t i = 0; i < ARRAY_LEN(joining); i++) {
        char answer[128];
        iscsi_nego_init(&n, &strict_limits, false);
        iscsi_nego_join(&n, &session);
        assert_int_equal(offer(&n, joining[i].offered, answer, sizeof answer), 0);
        assert_string_equal(answer, joining[i].answer);
        assert_true(n.agreed.max_burst == 8192 && n.agreed.recovery == 1 && !n.agreed.initial_r2t);
        assert_true(!n.agreed.data_digest && n.agreed.header_digest == (i == 0));
        assert_int_equal(n.agreed.send_len, i == 1 ? 65536 : 8192);
    }
    session.reporting = ISCSI_RESPONSE_FENCE;
    iscsi_nego_init(&n, &strict_limits, false);
    iscsi_nego_join(&n, &session);
    char same[64];
    assert_int_equal(offer(&n, "TaskReporting=FastAbort,ResponseFence", same, sizeof same), 0);
    assert_string_equal(same, "TaskReporting=ResponseFence");
    iscsi_nego_insist(&n, &out);
    assert_int_equal(out.len, 0);
    bytes_writer_free(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(table),         cmocka_unit_test(recovery),
        cmocka_unit_test(unknown_keys),  cmocka_unit_test(once_only),
        cmocka_unit_test(agreed_values), cmocka_unit_test(rejected_keeps_default),
        cmocka_unit_test(declares_once), cmocka_unit_test(joins_a_session),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
