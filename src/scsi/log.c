/* SPDX-License-Identifier: Apache-2.0 */
/*
 * LOG SENSE (SPC-4 6.8): the pages there are, and what the unit has done since the program was
 * started, or since LOG SELECT (6.7) set it to zero; that is all that LOG SELECT can do, for there
 * is no parameter that could be set otherwise.
 *
 * Counting: each view has counters of its own, which only its core changes; what a view has
 * counted goes to the unit when the view does. Time is that of turns of the event loop, in
 * microseconds. A unit is idle while it has no command; two nexuses that are busy at the same time
 * count twice, so the idle time is the least that it may have been.
 */
#include "base/endian.h"
#include "rt/rt.h"
#include "scsi/command.h"
#include "scsi/scsi_priv.h"
#include "scsi/sense.h"

enum {
    PAGE_SUPPORTED = 0x00,
    PAGE_PROVISIONING = 0x0c,
    PAGE_STATISTICS = 0x19,
    SUBPAGES = 0xff,
};

static const uint8_t pages[] = {PAGE_SUPPORTED, PAGE_PROVISIONING, PAGE_STATISTICS};

#define LOG_BUFFER 256

static bool page_known(uint8_t page, uint8_t subpage)
{
    return memchr(pages, page, sizeof pages) &&
           (subpage == 0 || (page == 0 && subpage == SUBPAGES));
}

/* The largest code of a parameter. */
static unsigned last_parameter(uint8_t page)
{
    switch (page) {
    case PAGE_PROVISIONING:
        return 2;
    case PAGE_STATISTICS:
        return 3;
    default:
        return 0;
    }
}

void scsi_log_sense_parse(struct scsi_task *t)
{
    uint8_t page = t->cdb[2] & 0x3f;
    unsigned pointer = be16_load(t->cdb + 5);
    if (t->cdb[1] & 0x01) {
        scsi_fail_cdb(t, 1, 0); /* SP: parameters are not saved */
    } else if (!memchr(pages, page, sizeof pages)) {
        scsi_fail_cdb(t, 2, 5);
    } else if (!page_known(page, t->cdb[3])) {
        scsi_fail_cdb(t, 3, 7);
    } else if (pointer > last_parameter(page)) {
        scsi_fail_cdb(t, 5, 7);
    }
}

/* SPC-4 7.3.17 and, with subpages, 7.3.18; the length. */
static size_t put_supported(bool subpages, uint8_t *p)
{
    if (!subpages) {
        memcpy(p, pages, sizeof pages);
        return sizeof pages;
    }
    size_t len = 0;
    for (size_t i = 0; i < sizeof pages; i++) {
        p[len] = pages[i];
        len += 2;
        if (pages[i] == PAGE_SUPPORTED) {
            p[len] = PAGE_SUPPORTED;
            p[len + 1] = SUBPAGES;
            len += 2;
        }
    }
    return len;
}

/* A relaxed addition without a locked instruction: one core writes. */
static void add(_Atomic uint64_t *counter, uint64_t n)
{
    uint64_t now = atomic_load_explicit(counter, memory_order_relaxed);
    atomic_store_explicit(counter, now + n, memory_order_relaxed);
}

void scsi_stats_begin(struct scsi_task *t)
{
    if (t->itl->tasks == 1) {
        t->itl->busy_since_ns = rt_turn_ns();
    }
    t->begun_ns = rt_turn_ns();
}

void scsi_stats_end(struct scsi_task *t)
{
    uint64_t now = rt_turn_ns();
    struct scsi_stats *s = &t->itl->stats;
    if (t->itl->tasks == 1) {
        add(&s->busy_ns, now - t->itl->busy_since_ns);
    }
    if (!t->command) {
        return;
    }
    void (*run)(struct scsi_task *) = t->command->run;
    if (run == scsi_read_run) {
        add(&s->reads, 1);
        /* The transport has taken what was read. */
        add(&s->blocks_sent, MIN_OF(t->in_total, scsi_task_in_limit(t)) >> t->lu->block_shift);
        add(&s->read_ns, now - t->begun_ns);
    } else if (run == scsi_write_run || run == scsi_write_verify_run || run == scsi_unmap_run) {
        add(&s->writes, 1);
        if (run != scsi_unmap_run) {
            add(&s->blocks_received, t->data_out.len >> t->lu->block_shift);
        }
        add(&s->write_ns, now - t->begun_ns);
    }
}

void scsi_stats_merge(struct scsi_stats *to, const struct scsi_stats *from)
{
    add(&to->reads, atomic_load_explicit(&from->reads, memory_order_relaxed));
    add(&to->writes, atomic_load_explicit(&from->writes, memory_order_relaxed));
    add(&to->blocks_received, atomic_load_explicit(&from->blocks_received, memory_order_relaxed));
    add(&to->blocks_sent, atomic_load_explicit(&from->blocks_sent, memory_order_relaxed));
    add(&to->read_ns, atomic_load_explicit(&from->read_ns, memory_order_relaxed));
    add(&to->write_ns, atomic_load_explicit(&from->write_ns, memory_order_relaxed));
    add(&to->busy_ns, atomic_load_explicit(&from->busy_ns, memory_order_relaxed));
}

/* A parameter's header, SPC-4 7.3.2.2; where its value goes. */
static uint8_t *put_parameter(uint8_t **at, uint16_t code, uint8_t control, uint8_t len)
{
    uint8_t *p = *at;
    be16_store(p, code);
    p[2] = control;
    p[3] = len;
    *at = p + 4 + len;
    return p + 4;
}

/* With lu->m: all that was ever counted. */
static void sum_all(struct scsi_lu *lu, struct scsi_stats *ret_sum)
{
    scsi_stats_merge(ret_sum, &lu->past);
    list_for_each(&lu->views, struct scsi_itl, lu_link, itl) {
        scsi_stats_merge(ret_sum, &itl->stats);
    }
}

static uint64_t counted(const _Atomic uint64_t *now, const _Atomic uint64_t *zero)
{
    return atomic_load_explicit(now, memory_order_relaxed) -
           atomic_load_explicit(zero, memory_order_relaxed);
}

/* Since the last zero; gives the time that this has been. */
static uint64_t sum_up(struct scsi_lu *lu, struct scsi_stats *ret_sum)
{
    struct scsi_stats all = {0};
    rt_mutex_lock(&lu->m);
    sum_all(lu, &all);
    ret_sum->reads = counted(&all.reads, &lu->zero.reads);
    ret_sum->writes = counted(&all.writes, &lu->zero.writes);
    ret_sum->blocks_received = counted(&all.blocks_received, &lu->zero.blocks_received);
    ret_sum->blocks_sent = counted(&all.blocks_sent, &lu->zero.blocks_sent);
    ret_sum->read_ns = counted(&all.read_ns, &lu->zero.read_ns);
    ret_sum->write_ns = counted(&all.write_ns, &lu->zero.write_ns);
    ret_sum->busy_ns = counted(&all.busy_ns, &lu->zero.busy_ns);
    uint64_t age = rt_turn_ns() - lu->counted_ns;
    rt_mutex_unlock(&lu->m);
    return age;
}

#define NS_PER_INTERVAL 1000u

/* General statistics and performance, SPC-4 7.3.6: from that parameter on; the length. */
static size_t put_statistics(struct scsi_lu *lu, unsigned first, uint8_t *p)
{
    struct scsi_stats s = {0};
    uint8_t *at = p;
    uint64_t age = sum_up(lu, &s);
    if (first <= 1) { /* command priority is not supported, so the weights are 0 */
        uint8_t *v = put_parameter(&at, 1, 0x02, 64);
        be64_store(v, s.reads);
        be64_store(v + 8, s.writes);
        be64_store(v + 16, s.blocks_received);
        be64_store(v + 24, s.blocks_sent);
        be64_store(v + 32, s.read_ns / NS_PER_INTERVAL);
        be64_store(v + 40, s.write_ns / NS_PER_INTERVAL);
    }
    if (first <= 2) {
        uint64_t busy = MIN_OF(age, (uint64_t)s.busy_ns);
        be64_store(put_parameter(&at, 2, 0x02, 8), (age - busy) / NS_PER_INTERVAL);
    }
    uint8_t *interval = put_parameter(&at, 3, 0x03, 8);
    be32_store(interval, 6); /* 1 * 10^-6 s */
    be32_store(interval + 4, 1);
    return (size_t)(at - p);
}

/* Logical block provisioning, SBC-3 6.3.3: of what all units share (scope 10b). */
static size_t put_provisioning(const struct scsi_lu *lu, unsigned first, uint8_t *p)
{
    struct scsi_space s;
    uint8_t *at = p;
    scsi_threshold_counts(lu, &s);
    for (unsigned i = s.limited ? SCSI_AVAILABLE : SCSI_USED; i < SCSI_RESOURCES; i++) {
        if (first <= i + 1) {
            uint8_t *v = put_parameter(&at, (uint16_t)(i + 1), 0x03, 8);
            be32_store(v, s.count[i]);
            v[4] = 0x02;
        }
    }
    return (size_t)(at - p);
}

void scsi_log_sense_run(struct scsi_task *t)
{
    uint8_t page = t->cdb[2] & 0x3f;
    struct rt_buf *b = scsi_reply_begin(t, LOG_BUFFER);
    if (!b) {
        return;
    }
    uint8_t *p = b->data;
    p[0] = page;
    p[1] = t->cdb[3];
    if (p[1]) {
        p[0] |= 0x40; /* SPF */
    }
    unsigned first = be16_load(t->cdb + 5);
    size_t len;
    if (page == PAGE_STATISTICS) {
        len = put_statistics(t->lu, first, p + 4);
    } else if (page == PAGE_PROVISIONING) {
        len = put_provisioning(t->lu, first, p + 4);
    } else {
        len = put_supported(p[1] == SUBPAGES, p + 4);
    }
    be16_store(p + 2, (uint16_t)len);
    scsi_reply_end(t, b, 4 + len);
}

enum {
    SELECT_PCR = 0x02,
    PC_DEFAULT_CUMULATIVE = 3,
};

void scsi_log_select_parse(struct scsi_task *t)
{
    uint8_t page = t->cdb[2] & 0x3f;
    uint8_t subpage = t->cdb[3];
    if (t->cdb[1] & 0x01) {
        scsi_fail_cdb(t, 1, 0); /* SP */
    } else if (!memchr(pages, page, sizeof pages)) {
        scsi_fail_cdb(t, 2, 5);
    } else if (subpage != 0 && subpage != SUBPAGES) {
        scsi_fail_cdb(t, 3, 7);
    } else if (t->data_len != 0) {
        scsi_fail_cdb(t, 7, 7); /* no parameter can be set */
    }
    t->dir = SCSI_DIR_NONE;
}

/* Page 00h: all there are. */
void scsi_log_select_run(struct scsi_task *t)
{
    struct scsi_lu *lu = t->lu;
    uint8_t page = t->cdb[2] & 0x3f;
    bool resets = (t->cdb[1] & SELECT_PCR) || t->cdb[2] >> 6 == PC_DEFAULT_CUMULATIVE;
    if (!resets || (page != 0 && page != PAGE_STATISTICS)) {
        return;
    }
    struct scsi_stats all = {0};
    rt_mutex_lock(&lu->m);
    sum_all(lu, &all);
    lu->zero = all;
    lu->counted_ns = rt_turn_ns();
    rt_mutex_unlock(&lu->m);
    scsi_lu_attention(lu, SCSI_UA_LOG_CHANGED, t->nexus);
}
