/* SPDX-License-Identifier: Apache-2.0 */
/* MODE SELECT (SPC-4 6.9, 6.10): all of the list is checked before any of it counts. */
#include "base/endian.h"
#include "scsi/mode.h"
#include "scsi/scsi_priv.h"
#include "scsi/sense.h"

#define LIST_MAX 512

void scsi_mode_select_parse(struct scsi_task *t)
{
    if (!(t->cdb[1] & 0x10)) {
        scsi_fail_cdb(t, 1, 4); /* PF = 0: vendor specific pages */
    } else if (t->data_len > LIST_MAX) {
        scsi_fail(t, SCSI_KEY_ILLEGAL_REQUEST, SCSI_ASC_PARAMETER_LIST_LENGTH);
    }
}

struct mode_list {
    uint8_t bytes[LIST_MAX];
    size_t len;
    size_t at; /* the next page */
};

static bool short_list(struct scsi_task *t)
{
    scsi_fail(t, SCSI_KEY_ILLEGAL_REQUEST, SCSI_ASC_PARAMETER_LIST_LENGTH);
    return false;
}

/* A block descriptor may say what is, and nothing else: the unit is not formatted anew. */
static bool take_descriptor(struct scsi_task *t, const struct mode_list *l, size_t at,
                            bool long_lba)
{
    uint64_t now = scsi_lu_blocks(t->lu);
    uint64_t most = long_lba ? UINT64_MAX : UINT32_MAX;
    uint64_t blocks = long_lba ? be64_load(l->bytes + at) : be32_load(l->bytes + at);
    uint32_t bytes = long_lba ? be32_load(l->bytes + at + 12) : be24_load(l->bytes + at + 5);
    if (blocks != 0 && blocks != most && blocks != MIN_OF(now, most)) {
        scsi_fail_parameter(t, (unsigned)at, 7);
        return false;
    }
    if (bytes != t->lu->block_bytes) {
        scsi_fail_parameter(t, (unsigned)at + (long_lba ? 12 : 5), 7);
        return false;
    }
    return true;
}

static bool take_header(struct scsi_task *t, struct mode_list *l)
{
    bool ten = t->command->cdb_len == 10;
    size_t header = ten ? 8 : 4;
    if (l->len < header) {
        return short_list(t);
    }
    bool long_lba = ten && (l->bytes[4] & 0x01);
    size_t descriptor = ten ? be16_load(l->bytes + 6) : l->bytes[3];
    l->at = header + descriptor;
    if (descriptor == 0) {
        return true;
    }
    if (descriptor != (long_lba ? 16 : 8)) {
        scsi_fail_parameter(t, ten ? 6 : 3, 7);
        return false;
    }
    if (l->len < l->at) {
        return short_list(t);
    }
    return take_descriptor(t, l, header, long_lba);
}

/* One page: its length is right, and nothing differs but what can be changed. */
static bool take_page(struct scsi_task *t, struct mode_list *l, struct scsi_mode *m)
{
    const uint8_t *p = l->bytes + l->at;
    bool sub = p[0] & 0x40;
    size_t head = sub ? 4 : 2;
    if (l->len - l->at < head) {
        return short_list(t);
    }
    uint8_t now[SCSI_MODE_PAGE_MAX];
    uint8_t mask[SCSI_MODE_PAGE_MAX];
    unsigned page = scsi_mode_page(p[0] & 0x3f, sub ? p[1] : 0);
    size_t len = scsi_mode_page_put(SCSI_MODE_CURRENT, m, page, now);
    (void)scsi_mode_page_put(SCSI_MODE_CHANGEABLE, m, page, mask);
    if (len == 0 || sub != ((now[0] & 0x40) != 0)) {
        scsi_fail_parameter(t, (unsigned)l->at, 5);
        return false;
    }
    size_t said = head + (sub ? be16_load(p + 2) : p[1]);
    if (said != len) {
        scsi_fail_parameter(t, (unsigned)l->at + (sub ? 2 : 1), 7);
        return false;
    }
    if (l->len - l->at < len) {
        return short_list(t);
    }
    for (size_t i = head; i < len; i++) {
        uint8_t wrong = (uint8_t)((p[i] ^ now[i]) & ~mask[i]);
        if (wrong) {
            scsi_fail_parameter(t, (unsigned)(l->at + i), 31 - __builtin_clz(wrong));
            return false;
        }
    }
    uint8_t clean[SCSI_MODE_PAGE_MAX];
    memcpy(clean, p, len);
    clean[0] &= 0x7f; /* PS is reserved here */
    int bit = 0;
    size_t reserved = scsi_mode_page_check(clean, &bit);
    if (reserved > 0) {
        scsi_fail_parameter(t, (unsigned)(l->at + reserved), bit);
        return false;
    }
    scsi_mode_page_take(clean, m);
    l->at += len;
    return true;
}

/* What the device keeps. Its watchers hear of it; this nexus is not to. */
static int keep(struct scsi_task *t, const struct scsi_mode *before, const struct scsi_mode *after)
    WAITS
{
    struct scsi_lu *lu = t->lu;
    struct dev_registry *g = lu->target->host->registry;
    bool saves = t->cdb[1] & 0x01; /* SP */
    int r = 0;
    if (saves && scsi_mode_saved(lu).bits != after->bits) {
        r = dev_saved_modes_set(g, lu->dev, (uint8_t)after->bits);
    }
    for (unsigned i = 0; saves && r >= 0 && i < SCSI_RESOURCES; i++) {
        r = dev_saved_threshold_set(g, lu->dev, i, after->thresholds[i]);
    }
    if (r >= 0 && before->write_cache != after->write_cache) {
        r = dev_write_cache_set(g, lu->dev, after->write_cache);
    }
    return r;
}

static int apply(struct scsi_task *t, const struct scsi_mode *before, const struct scsi_mode *after)
    WAITS
{
    struct scsi_lu *lu = t->lu;
    int r = keep(t, before, after);
    if (r < 0) {
        return r;
    }
    if (before->bits == after->bits && before->write_cache == after->write_cache &&
        memcmp(before->thresholds, after->thresholds, sizeof before->thresholds) == 0) {
        return 0;
    }
    atomic_store(&lu->mode, after->bits);
    for (int i = 0; i < SCSI_RESOURCES; i++) {
        scsi_threshold_set(lu, (enum scsi_resource)i, after->thresholds[i]);
    }
    scsi_lu_attention(lu, SCSI_UA_MODE_CHANGED, t->nexus);
    return 0;
}

static void select_modes(struct scsi_task *t) WAITS
{
    struct mode_list l = {0};
    l.len = scsi_parameters(t, l.bytes, sizeof l.bytes);
    struct scsi_mode before = scsi_mode_current(t->lu);
    struct scsi_mode after = before;
    bool ok = take_header(t, &l);
    while (ok && l.at < l.len) {
        ok = take_page(t, &l, &after);
    }
    if (!ok) {
        return;
    }
    int r = apply(t, &before, &after);
    if (r < 0) {
        scsi_fail_errno(t, r);
    }
}

/* One at a time, from the look at what is to the change: else one of two would be lost. Another one
 * has to ask again. */
void scsi_mode_select_run(struct scsi_task *t)
{
    uint64_t nobody = 0;
    if (t->data_len == 0) {
        return;
    }
    if (!atomic_compare_exchange_strong(&t->lu->mode_selecting, &nobody, t->nexus->id)) {
        scsi_fail_status(t, SCSI_BUSY);
        return;
    }
    select_modes(t);
    atomic_store(&t->lu->mode_selecting, 0);
}
