/* SPDX-License-Identifier: Apache-2.0 */
/* Persistent reservations of LUNs: shown, and cleared when those who made them are gone. */
#include "base/err.h"
#include "ctl/ops_priv.h"
#include "scsi/pr.h"
#include <inttypes.h>
#include <string.h>

#define LUNS_MAX (DEV_LUN_MAX + 1)

static const char *type_name(unsigned type)
{
    static const char *const names[] = {
        [SCSI_PR_NONE] = "none",
        [SCSI_PR_WRITE_EXCLUSIVE] = "write-exclusive",
        [SCSI_PR_EXCLUSIVE_ACCESS] = "exclusive-access",
        [SCSI_PR_WRITE_EXCLUSIVE_RO] = "write-exclusive-registrants-only",
        [SCSI_PR_EXCLUSIVE_ACCESS_RO] = "exclusive-access-registrants-only",
        [SCSI_PR_WRITE_EXCLUSIVE_AR] = "write-exclusive-all-registrants",
        [SCSI_PR_EXCLUSIVE_ACCESS_AR] = "exclusive-access-all-registrants",
    };
    return names[type];
}

/* InitiatorName and ISID apart. */
static json_t *registration_json(const struct scsi_pr_state *s, const struct scsi_registrant *reg)
{
    char name[DEV_NEXUS_MAX + 1];
    char key[24];
    memcpy(name, reg->nexus.initiator, sizeof name);
    char *isid = strstr(name, ",i,0x");
    if (isid) {
        *isid = '\0';
        isid += 5;
    }
    snprintf(key, sizeof key, "0x%016" PRIx64, reg->key);
    return json_pack("{s:s, s:s, s:i, s:s, s:b, s:b}", "initiator", name, "isid", isid ? isid : "",
                     "target_port", (int)reg->nexus.port, "key", key, "holder",
                     (int)scsi_pr_holds(s, reg), "attached", (int)reg->attached);
}

static json_t *lun_json(struct dev *d, const struct scsi_pr_state *s)
{
    struct dev_info info;
    dev_info(d, &info);
    json_t *list = json_array();
    for (size_t i = 0; i < s->registrants.len; i++) {
        json_array_append_new(list, registration_json(s, &s->registrants.at[i]));
    }
    return json_pack("{s:s, s:i, s:I, s:b, s:s, s:o}", "iqn", info.name, "lun", (int)info.lun,
                     "generation", (json_int_t)s->generation, "persistent", (int)s->aptpl, "type",
                     type_name(s->type), "registrations", list);
}

/* Adds the LUN to the list, if it has registrations or was asked for itself. */
static int add_lun(struct dev *d, bool always, json_t *list)
{
    struct scsi_pr_state s;
    int r = scsi_reservations_get(d, &s);
    if (r < 0) {
        return r;
    }
    if (always || s.registrants.len > 0) {
        json_array_append_new(list, lun_json(d, &s));
    }
    scsi_pr_state_free(&s);
    return 0;
}

static int add_target(struct ops *o, const char *iqn, json_t *list)
{
    auto_free uint32_t *numbers = calloc(LUNS_MAX, sizeof *numbers);
    if (!numbers) {
        return -ENOMEM;
    }
    size_t count = dev_lun_list(o->registry, iqn, numbers, LUNS_MAX);
    int r = 0;
    for (size_t i = 0; i < count && r >= 0; i++) {
        struct dev *d;
        if (dev_find_lun(o->registry, iqn, numbers[i], &d) == 0) {
            r = add_lun(d, false, list);
            dev_unref(d);
        }
    }
    return r;
}

static int add_all(struct ops *o, json_t *list)
{
    struct dev_target_info target = {0};
    int r = 0;
    while (r >= 0 && dev_target_list(o->registry, target.iqn, &target, 1) > 0) {
        r = add_target(o, target.iqn, list);
    }
    return r;
}

json_t *ops_reservations_clear(struct ops *o, const json_t *request)
{
    struct scsi_pr_state s;
    struct dev *d = NULL;
    json_t *failed = ops_iscsi_lun(o, request, &d);
    if (failed) {
        return failed;
    }
    if (!ops_flag(request, "force", false)) {
        dev_unref(d);
        return ops_failure(OPS_REFUSED,
                           "what a cluster relies on is not cleared unless you say --force");
    }
    json_t *was = NULL;
    int r = scsi_reservations_get(d, &s);
    if (r >= 0) {
        was = lun_json(d, &s);
        scsi_pr_state_free(&s);
        r = scsi_reservations_clear(d);
    }
    dev_unref(d);
    if (r < 0) {
        json_decref(was);
        return ops_error(r, "the reservations were not cleared");
    }
    return ops_success(json_pack("{s:[o]}", "cleared", was));
}

json_t *ops_reservations_list(struct ops *o, const json_t *request)
{
    struct dev *d = NULL;
    struct dev_target_info target;
    bool of_target = json_object_get(request, "iqn");
    bool of_lun = json_object_get(request, "lun");
    json_t *failed = of_lun      ? ops_iscsi_lun(o, request, &d)
                     : of_target ? ops_iscsi_target(o, request, &target)
                                 : NULL;
    if (failed) {
        return failed;
    }
    json_t *list = json_array();
    int r;
    if (of_lun) {
        r = add_lun(d, true, list);
        dev_unref(d);
    } else {
        r = of_target ? add_target(o, target.iqn, list) : add_all(o, list);
    }
    if (r < 0) {
        json_decref(list);
        return ops_error(r, "the reservations cannot be listed");
    }
    return ops_success(json_pack("{s:o}", "luns", list));
}
