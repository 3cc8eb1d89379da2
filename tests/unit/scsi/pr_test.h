/* SPDX-License-Identifier: Apache-2.0 */
/*
 * PERSISTENT RESERVE IN and OUT for tests: the world of scsi_test.h, with words for what is sent
 * and asked.
 *
 *     CHECK(pr(w->a, REGISTER, 0, 0, 1) == SCSI_GOOD);
 *     CHECK(pr(w->a, RESERVE, EA, 1, 0) == SCSI_GOOD && reservation(w->b) == EA);
 */
#pragma once
#include "base/bytes.h"
#include "scsi/pr.h"
#include "scsi_test.h"

enum {
    REGISTER = SCSI_PR_REGISTER,
    RESERVE = SCSI_PR_RESERVE,
    RELEASE = SCSI_PR_RELEASE,
    CLEAR = SCSI_PR_CLEAR,
    PREEMPT = SCSI_PR_PREEMPT,
    PREEMPT_ABORT = SCSI_PR_PREEMPT_ABORT,
    REGISTER_IGNORE = SCSI_PR_REGISTER_IGNORE,
};

enum {
    WE = SCSI_PR_WRITE_EXCLUSIVE,
    EA = SCSI_PR_EXCLUSIVE_ACCESS,
    WE_RO = SCSI_PR_WRITE_EXCLUSIVE_RO,
    EA_RO = SCSI_PR_EXCLUSIVE_ACCESS_RO,
    WE_AR = SCSI_PR_WRITE_EXCLUSIVE_AR,
    EA_AR = SCSI_PR_EXCLUSIVE_ACCESS_AR,
};

enum { /* byte 20 of the parameter list */
    APTPL = 0x01,
    ALL_TG_PT = 0x04,
    SPEC_I_PT = 0x08,
    UNREG = 0x02, /* byte 17 of REGISTER AND MOVE */
};

__attribute__((unused)) static enum scsi_status pr_flags(struct scsi_nexus *n, unsigned action,
                                                         uint8_t scope_type, uint64_t key,
                                                         uint64_t action_key, uint8_t flags)
{
    uint8_t list[24] = {0};
    be64_store(list, key);
    be64_store(list + 8, action_key);
    list[20] = flags;
    return out(n, 0, list, 24, CDB(0x5f, (uint8_t)action, scope_type, 0, 0, 0, 0, 0, 24))->status;
}

static inline enum scsi_status pr(struct scsi_nexus *n, unsigned action, uint8_t scope_type,
                                  uint64_t key, uint64_t action_key)
{
    return pr_flags(n, action, scope_type, key, action_key, 0);
}

/* A TransportID of a port or, without ",i,0x", of an initiator; its length. */
static inline size_t put_id(uint8_t *p, const char *name)
{
    size_t padded = (strlen(name) + 4) & ~(size_t)3;
    padded = padded < 20 ? 20 : padded;
    memset(p, 0, 4 + padded);
    p[0] = strchr(name, ',') ? 0x45 : 0x05;
    p[3] = (uint8_t)padded;
    memcpy(p + 4, name, strlen(name));
    return 4 + padded;
}

/* A list of REGISTER with TransportIDs; its length. */
static inline size_t put_list(uint8_t *list, uint64_t key, uint64_t action_key, uint8_t flags,
                              const char *const *names, size_t count)
{
    size_t len = 28;
    memset(list, 0, len);
    be64_store(list, key);
    be64_store(list + 8, action_key);
    list[20] = flags | SPEC_I_PT;
    for (size_t i = 0; i < count; i++) {
        len += put_id(list + len, names[i]);
    }
    be32_store(list + 24, (uint32_t)(len - 28));
    return len;
}

/* REGISTER with SPEC_I_PT. */
__attribute__((unused)) static enum scsi_status pr_with(struct scsi_nexus *n, uint64_t key,
                                                        uint64_t action_key, uint8_t flags,
                                                        const char *const *names, size_t count)
{
    uint8_t list[256];
    size_t len = put_list(list, key, action_key, flags, names, count);
    return out(n, 0, list, len, CDB(0x5f, REGISTER, 0, 0, 0, 0, 0, 0, (uint8_t)len))->status;
}

/* REGISTER AND MOVE. */
__attribute__((unused)) static enum scsi_status move(struct scsi_nexus *n, uint64_t key,
                                                     uint64_t action_key, uint8_t flags,
                                                     uint16_t port, const char *name)
{
    uint8_t list[128] = {0};
    be64_store(list, key);
    be64_store(list + 8, action_key);
    list[17] = flags;
    be16_store(list + 18, port);
    size_t len = 24 + put_id(list + 24, name);
    be32_store(list + 20, (uint32_t)(len - 24));
    return out(n, 0, list, len, CDB(0x5f, 7, 0, 0, 0, 0, 0, 0, (uint8_t)len))->status;
}

static inline bool bad_list(void)
{
    return sense_is(SCSI_KEY_ILLEGAL_REQUEST, 0x2600);
}

/* READ KEYS: how many there are. */
static inline unsigned keys(struct scsi_nexus *n)
{
    CHECK(in(n, 0, 65535, CDB(0x5e, 0, 0, 0, 0, 0, 0, 0xff, 0xff))->status == SCSI_GOOD);
    return be32_load(reply.data + 4) / 8;
}

/* Of the last READ KEYS. */
static inline uint64_t key_at(unsigned i)
{
    return be64_load(reply.data + 8 + 8 * i);
}

/* Of the last PERSISTENT RESERVE IN. */
static inline uint32_t generation(void)
{
    return be32_load(reply.data);
}

/* READ RESERVATION: the type, 0 for none. */
static inline unsigned reservation(struct scsi_nexus *n)
{
    CHECK(in(n, 0, 64, CDB(0x5e, 1, 0, 0, 0, 0, 0, 0, 64))->status == SCSI_GOOD);
    CHECK(reply.len == 8 + be32_load(reply.data + 4));
    return reply.len == 8 ? 0 : reply.data[21];
}

/* Of the last READ RESERVATION. */
static inline uint64_t holder_key(void)
{
    return be64_load(reply.data + 8);
}

static inline enum scsi_status write_one(struct scsi_nexus *n)
{
    static const uint8_t block[512];
    return out(n, 0, block, 512, CDB(0x2a, 0, 0, 0, 0, 0, 0, 0, 1))->status;
}

/* A third nexus, without its power-on attention. */
static inline struct scsi_nexus *third(struct world *w)
{
    struct scsi_nexus *c = nexus_new(w, "iqn.c");
    clear_attentions(c, 0);
    clear_attentions(c, 1);
    return c;
}
