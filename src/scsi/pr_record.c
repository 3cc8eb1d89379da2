/* SPDX-License-Identifier: Apache-2.0 */
#include "base/err.h"
#include "scsi/pr.h"

#define VERSION 1u
#define FLAG_HOLDER 1u

void scsi_pr_encode(const struct scsi_pr_state *s, struct bytes_writer *ret_value)
{
    bytes_put_u8(ret_value, VERSION);
    bytes_put_u8(ret_value, s->type);
    for (size_t i = 0; i < s->registrants.len; i++) {
        const struct scsi_registrant *reg = &s->registrants.at[i];
        size_t len = strlen(reg->nexus.initiator);
        bytes_put_u8(ret_value, reg->holder ? FLAG_HOLDER : 0);
        bytes_put_le64(ret_value, reg->key);
        bytes_put_le16(ret_value, reg->nexus.port);
        bytes_put_u8(ret_value, (uint8_t)len);
        bytes_put(ret_value, reg->nexus.initiator, len);
    }
}

static int decode_registrant(struct bytes_reader *in, struct scsi_pr_state *s)
{
    struct scsi_registrant reg = {.holder = bytes_u8(in) & FLAG_HOLDER};
    reg.key = bytes_le64(in);
    reg.nexus.port = bytes_le16(in);
    uint8_t len = bytes_u8(in);
    const uint8_t *name = bytes_take(in, len);
    if (!name || len == 0 || memchr(name, 0, len) || reg.key == 0 ||
        s->registrants.len == SCSI_PR_REGISTRANTS_MAX) {
        return ERR_CORRUPT_RECORD;
    }
    memcpy(reg.nexus.initiator, name, len);
    if (scsi_pr_find(s, &reg.nexus)) {
        return ERR_CORRUPT_RECORD;
    }
    return vec_push(&s->registrants, reg);
}

/* A reservation has those who hold it: one, or all. */
static bool is_whole(const struct scsi_pr_state *s)
{
    size_t holders = 0;
    for (size_t i = 0; i < s->registrants.len; i++) {
        holders += s->registrants.at[i].holder;
    }
    if (s->type == SCSI_PR_NONE) {
        return holders == 0;
    }
    bool all = s->type == SCSI_PR_WRITE_EXCLUSIVE_AR || s->type == SCSI_PR_EXCLUSIVE_ACCESS_AR;
    return scsi_pr_is_type(s->type) &&
           (all ? holders == 0 && s->registrants.len > 0 : holders == 1);
}

int scsi_pr_decode(const void *value, size_t len, struct scsi_pr_state *ret_state)
{
    struct bytes_reader in = bytes_reader_of(value, len);
    uint8_t version = bytes_u8(&in);
    if (version > VERSION) {
        return -ENOTSUP;
    }
    struct scsi_pr_state s = {.aptpl = true, .type = bytes_u8(&in)};
    int r = bytes_bad(&in) || version == 0 ? ERR_CORRUPT_RECORD : 0;
    while (r == 0 && bytes_left(&in) > 0) {
        r = decode_registrant(&in, &s);
    }
    if (r == 0 && !is_whole(&s)) {
        r = ERR_CORRUPT_RECORD;
    }
    if (r < 0) {
        scsi_pr_state_free(&s);
        return r;
    }
    *ret_state = s;
    return 0;
}
