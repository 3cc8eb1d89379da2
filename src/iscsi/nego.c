/* SPDX-License-Identifier: Apache-2.0 */
#include "iscsi/nego.h"

#include "base/err.h"
#include "iscsi/pdu_format.h"

#include <stddef.h>
#include <stdio.h>
#include <string.h>

enum rule_kind {
    RULE_DIGEST,  /* list; CRC32C or None */
    RULE_OR,      /* boolean */
    RULE_AND,     /* boolean */
    RULE_MIN,     /* number: the smaller */
    RULE_MAX,     /* number: the larger */
    RULE_DECLARE, /* number, no answer */
    RULE_REPORTING,
    RULE_NO,         /* answered with No */
    RULE_IRRELEVANT, /* answered with Irrelevant */
};

struct rule {
    const char *name;
    enum rule_kind kind;
    bool not_in_discovery; /* §13: irrelevant when SessionType=Discovery */
    bool leading_only;     /* §13: "LO" */
    uint32_t min;
    uint32_t max;
    uint32_t ours; /* unless limits decide */
    size_t result; /* offset into iscsi_params; RESULT_NONE: there is but one outcome */
};

#define RESULT_NONE SIZE_MAX
#define AT(field) offsetof(struct iscsi_params, field)

static const struct rule rules[] = {
    {"HeaderDigest", RULE_DIGEST, false, false, 0, 0, 0, AT(header_digest)},
    {"DataDigest", RULE_DIGEST, false, false, 0, 0, 0, AT(data_digest)},
    {"MaxConnections", RULE_MIN, true, true, 1, 65535, 0, AT(max_connections)},
    {"InitialR2T", RULE_OR, true, true, 0, 0, 0, AT(initial_r2t)},
    {"ImmediateData", RULE_AND, true, true, 0, 0, 0, AT(immediate)},
    {"MaxRecvDataSegmentLength", RULE_DECLARE, false, false, 512, ISCSI_DATA_LEN_MAX, 0,
     AT(send_len)},
    {"MaxBurstLength", RULE_MIN, true, true, 512, ISCSI_DATA_LEN_MAX, 0, AT(max_burst)},
    {"FirstBurstLength", RULE_MIN, true, true, 512, ISCSI_DATA_LEN_MAX, 0, AT(first_burst)},
    {"DefaultTime2Wait", RULE_MAX, false, true, 0, 3600, 2, AT(time2wait)},
    {"DefaultTime2Retain", RULE_MIN, false, true, 0, 3600, 0, AT(time2retain)},
    {"MaxOutstandingR2T", RULE_MIN, true, true, 1, 65535, 0, AT(max_r2t)},
    {"DataPDUInOrder", RULE_OR, true, true, 0, 0, 1, RESULT_NONE},
    {"DataSequenceInOrder", RULE_OR, true, true, 0, 0, 1, RESULT_NONE},
    {"ErrorRecoveryLevel", RULE_MIN, false, true, 0, 2, 0, AT(recovery)},
    {"TaskReporting", RULE_REPORTING, true, true, 0, 0, 0, RESULT_NONE},
    {"iSCSIProtocolLevel", RULE_MIN, true, true, 0, 31, 2, AT(level)},
    /* §13.25: obsolete markers. */
    {"IFMarker", RULE_NO, false, false, 0, 0, 0, RESULT_NONE},
    {"OFMarker", RULE_NO, false, false, 0, 0, 0, RESULT_NONE},
    {"IFMarkInt", RULE_IRRELEVANT, false, false, 0, 0, 0, RESULT_NONE},
    {"OFMarkInt", RULE_IRRELEVANT, false, false, 0, 0, 0, RESULT_NONE},
};

void iscsi_nego_init(struct iscsi_nego *n, const struct iscsi_limits *limits, bool discovery)
{
    *n = (struct iscsi_nego){
        .limits = *limits,
        .discovery = discovery,
        .agreed = {.initial_r2t = true,
                   .immediate = true,
                   .send_len = 8192,
                   .recv_len = 8192,
                   .max_burst = 262144,
                   .first_burst = 65536,
                   .max_r2t = 1,
                   .max_connections = 1,
                   .time2wait = 2,
                   .time2retain = 20,
                   .level = 1},
    };
}

void iscsi_nego_join(struct iscsi_nego *n, const struct iscsi_params *session)
{
    struct iscsi_params own = n->agreed;
    n->joins = true;
    n->agreed = *session;
    n->agreed.header_digest = own.header_digest;
    n->agreed.data_digest = own.data_digest;
    n->agreed.send_len = own.send_len;
    n->agreed.recv_len = own.recv_len;
}

/* Our side of a rule. */
static uint32_t ours_of(const struct iscsi_nego *n, const struct rule *rule)
{
    switch (rule->result) {
    case AT(max_burst):
        return n->limits.max_burst;
    case AT(first_burst):
        return n->limits.first_burst;
    case AT(max_r2t):
        return n->limits.max_r2t;
    case AT(max_connections):
        return n->limits.max_connections;
    case AT(recovery):
        return n->discovery ? 0 : n->limits.recovery;
    case AT(time2retain):
        return n->retains ? n->limits.time2retain : 0;
    case AT(initial_r2t):
        return n->limits.unsolicited ? 0 : 1;
    case AT(immediate):
        return n->limits.immediate ? 1 : 0;
    default:
        return rule->ours;
    }
}

static void store_bool(struct iscsi_nego *n, const struct rule *rule, bool value)
{
    if (rule->result != RESULT_NONE) {
        memcpy((uint8_t *)&n->agreed + rule->result, &value, sizeof value);
    }
}

static void store_number(struct iscsi_nego *n, const struct rule *rule, uint32_t value)
{
    if (rule->result != RESULT_NONE) {
        memcpy((uint8_t *)&n->agreed + rule->result, &value, sizeof value);
    }
}

/* In the order of enum iscsi_reporting. */
static const char *const reports[] = {"RFC3720", "ResponseFence", "FastAbort"};

static void answer_list(struct iscsi_nego *n, const struct rule *rule, const struct iscsi_key *k,
                        struct bytes_writer *out)
{
    static const char *const digests[] = {"None", "CRC32C"};
    bool digest = rule->kind == RULE_DIGEST;
    const char *const *known = digest ? digests : reports;
    int chosen = iscsi_text_choose(k->value, known, digest ? 2 : 3);
    iscsi_text_put_key(out, k, chosen < 0 ? "Reject" : known[chosen]);
    if (chosen >= 0 && digest) {
        store_bool(n, rule, chosen == 1);
    } else if (chosen >= 0) {
        n->agreed.reporting = (enum iscsi_reporting)chosen;
    }
}

static void answer_boolean(struct iscsi_nego *n, const struct rule *rule, const struct iscsi_key *k,
                           struct bytes_writer *out)
{
    bool offered;
    if (iscsi_text_boolean(k->value, &offered) < 0) {
        iscsi_text_put_key(out, k, "Reject");
        return;
    }
    bool ours = ours_of(n, rule) != 0;
    bool both = rule->kind == RULE_OR ? offered || ours : offered && ours;
    store_bool(n, rule, both);
    iscsi_text_put_key(out, k, both ? "Yes" : "No");
}

static int answer_number(struct iscsi_nego *n, const struct rule *rule, const struct iscsi_key *k,
                         struct bytes_writer *out)
{
    uint64_t offered;
    int r = iscsi_text_number(k->value, &offered);
    bool good = r >= 0 && offered >= rule->min && offered <= rule->max;
    if (rule->kind == RULE_DECLARE) {
        if (!good) {
            return ERR_PROTOCOL; /* a declaration leaves nothing to fall back on */
        }
        store_number(n, rule, (uint32_t)offered);
        return 0;
    }
    if (!good) {
        iscsi_text_put_key(out, k, "Reject");
        return 0;
    }
    uint32_t ours = ours_of(n, rule);
    uint32_t value =
        rule->kind == RULE_MIN ? MIN_OF((uint32_t)offered, ours) : MAX_OF((uint32_t)offered, ours);
    value = MAX_OF(value, rule->min);
    store_number(n, rule, value);
    char text[16];
    (void)snprintf(text, sizeof text, "%u", value);
    iscsi_text_put_key(out, k, text);
    return 0;
}

static bool bool_in_force(const struct iscsi_nego *n, const struct rule *rule)
{
    bool value = rule->ours != 0;
    if (rule->result != RESULT_NONE) {
        memcpy(&value, (const uint8_t *)&n->agreed + rule->result, sizeof value);
    }
    return value;
}

/* The value in force, as text, if the offer leads to it; else false. */
static bool leads_to(const struct iscsi_nego *n, const struct rule *rule, const char *offer,
                     char ret_text[16])
{
    if (rule->kind == RULE_REPORTING) {
        const char *const *in_force = &reports[n->agreed.reporting];
        (void)snprintf(ret_text, 16, "%s", *in_force);
        return iscsi_text_choose(offer, in_force, 1) == 0;
    }
    if (rule->kind == RULE_OR || rule->kind == RULE_AND) {
        bool offered;
        bool value = bool_in_force(n, rule);
        (void)snprintf(ret_text, 16, "%s", value ? "Yes" : "No");
        return iscsi_text_boolean(offer, &offered) >= 0 &&
               (value == offered || value == (rule->kind == RULE_OR));
    }
    uint64_t offered;
    uint32_t value;
    memcpy(&value, (const uint8_t *)&n->agreed + rule->result, sizeof value);
    (void)snprintf(ret_text, 16, "%u", value);
    return iscsi_text_number(offer, &offered) >= 0 && offered >= rule->min &&
           offered <= rule->max && (rule->kind == RULE_MIN ? value <= offered : value >= offered);
}

/* Values that end a negotiation rather than open one: there is nothing of ours that they could be
 * about. */
static bool is_closing(const char *value)
{
    return strcmp(value, "Reject") == 0 || strcmp(value, "Irrelevant") == 0 ||
           strcmp(value, "NotUnderstood") == 0;
}

static int answer(struct iscsi_nego *n, const struct rule *rule, const struct iscsi_key *k,
                  struct bytes_writer *out)
{
    if (n->discovery && rule->not_in_discovery) {
        iscsi_text_put_key(out, k, "Irrelevant");
        return 0;
    }
    if (n->joins && rule->leading_only) {
        char text[16];
        bool good = leads_to(n, rule, k->value, text);
        iscsi_text_put_key(out, k, good ? text : "Reject");
        return 0;
    }
    switch (rule->kind) {
    case RULE_DIGEST:
    case RULE_REPORTING:
        answer_list(n, rule, k, out);
        return 0;
    case RULE_OR:
    case RULE_AND:
        answer_boolean(n, rule, k, out);
        return 0;
    case RULE_MIN:
    case RULE_MAX:
    case RULE_DECLARE:
        return answer_number(n, rule, k, out);
    case RULE_NO:
        iscsi_text_put_key(out, k, "No");
        return 0;
    case RULE_IRRELEVANT:
        iscsi_text_put_key(out, k, "Irrelevant");
        return 0;
    }
    return 0;
}

void iscsi_nego_foresee(struct iscsi_nego *n, const struct iscsi_key *k)
{
    uint64_t level;
    if (iscsi_key_is(k, "ErrorRecoveryLevel") && iscsi_text_number(k->value, &level) >= 0) {
        n->retains = level == 2 && n->limits.recovery == 2 && !n->discovery;
    }
}

int iscsi_nego_key(struct iscsi_nego *n, const struct iscsi_key *k, struct bytes_writer *out)
{
    for (size_t i = 0; i < ARRAY_LEN(rules); i++) {
        if (!iscsi_key_is(k, rules[i].name)) {
            continue;
        }
        if (is_closing(k->value)) {
            return 0;
        }
        uint32_t bit = 1u << i;
        if ((n->seen & bit) && rules[i].kind != RULE_DECLARE) {
            return ERR_PROTOCOL;
        }
        n->seen |= bit;
        return answer(n, &rules[i], k, out);
    }
    return 1;
}

void iscsi_nego_declare(struct iscsi_nego *n, struct bytes_writer *out)
{
    if (n->agreed.recv_len != n->limits.recv_len) {
        iscsi_text_put(out, "MaxRecvDataSegmentLength", "%u", n->limits.recv_len);
        n->agreed.recv_len = n->limits.recv_len;
    }
}

static bool was_seen(const struct iscsi_nego *n, const char *name)
{
    for (size_t i = 0; i < ARRAY_LEN(rules); i++) {
        if (strcmp(rules[i].name, name) == 0) {
            return n->seen >> i & 1;
        }
    }
    return false;
}

void iscsi_nego_insist(struct iscsi_nego *n, struct bytes_writer *out)
{
    if (!n->discovery && !n->joins && !n->limits.immediate && !was_seen(n, "ImmediateData")) {
        iscsi_text_put(out, "ImmediateData", "No");
        n->agreed.immediate = false;
    }
}

uint32_t iscsi_params_unsolicited(const struct iscsi_params *p)
{
    if (p->initial_r2t && !p->immediate) {
        return 0;
    }
    return MIN_OF(p->first_burst, p->max_burst);
}
