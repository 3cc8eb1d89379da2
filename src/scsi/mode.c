/* SPDX-License-Identifier: Apache-2.0 */
#include "scsi/mode.h"
#include "base/endian.h"
#include "scsi/scsi_priv.h"
#include "scsi/sense.h"

enum {
    PAGE_ERRORS = 0x0100,       /* read-write error recovery, SBC-3 6.4.8 */
    PAGE_CACHING = 0x0800,      /* SBC-3 6.4.5 */
    PAGE_CONTROL = 0x0a00,      /* SPC-4 7.5.8 */
    PAGE_CONTROL_1 = 0x0a01,    /* control extension, SPC-4 7.5.9 */
    PAGE_PROVISIONING = 0x1c02, /* logical block provisioning, SBC-3 6.4.7 */
    PAGE_EXCEPTIONS = 0x1c00,   /* informational exceptions control, SBC-3 6.4.6 */
};

static const uint16_t pages[SCSI_MODE_PAGES] = {
    PAGE_ERRORS, PAGE_CACHING, PAGE_CONTROL, PAGE_CONTROL_1, PAGE_EXCEPTIONS, PAGE_PROVISIONING,
};

#define MODE_BUFFER 512
#define PS 0x80 /* the page can be saved */

struct scsi_mode scsi_mode_current(const struct scsi_lu *lu)
{
    struct dev_info info;
    dev_info(lu->dev, &info);
    struct scsi_mode m = {.bits = scsi_lu_mode(lu), .write_cache = info.write_cache};
    for (int i = 0; i < SCSI_RESOURCES; i++) {
        m.thresholds[i] = atomic_load(&lu->thresholds[i]);
    }
    return m;
}

/* The write cache has no value but the device's, which is always saved. */
struct scsi_mode scsi_mode_saved(const struct scsi_lu *lu)
{
    struct dev_info info;
    dev_info(lu->dev, &info);
    struct scsi_mode m = {.bits = info.saved_modes & SCSI_MODE_BITS,
                          .write_cache = info.write_cache};
    for (int i = 0; i < SCSI_RESOURCES; i++) {
        m.thresholds[i] = info.saved_thresholds[i] & SCSI_THRESHOLD_BITS;
    }
    return m;
}

bool scsi_mode_page_at(size_t i, uint8_t *ret_code, uint8_t *ret_subpage)
{
    if (i >= ARRAY_LEN(pages)) {
        return false;
    }
    *ret_code = (uint8_t)(pages[i] >> 8);
    *ret_subpage = (uint8_t)pages[i];
    return true;
}

static void put_control(enum scsi_mode_pc pc, const struct scsi_mode *m, uint8_t *p)
{
    bool mask = pc == SCSI_MODE_CHANGEABLE;
    uint32_t bits = mask ? UINT32_MAX : m->bits;
    p[2] = bits & SCSI_MODE_D_SENSE ? 0x04 : 0;
    p[3] = (bits & SCSI_MODE_QERR ? 0x02 : 0) | (bits & SCSI_MODE_QERR_NEXUS ? 0x04 : 0);
    p[4] = bits & SCSI_MODE_SWP ? 0x08 : 0;
    p[4] |= (bits & SCSI_MODE_UA_STAYS ? 0x20 : 0) | (bits & SCSI_MODE_UA_STATUS ? 0x10 : 0);
    p[5] = bits & SCSI_MODE_TAS ? 0x40 : 0;
    if (!mask) {
        p[2] |= 0x02;              /* GLTSD */
        p[3] |= 0x10;              /* QUEUE ALGORITHM MODIFIER: SIMPLE commands in any order */
        be16_store(p + 8, 0xffff); /* busy timeout: no limit */
    }
}

/* Two soft thresholds: little is available, which is armed while that decreases; much is used. */
static void put_thresholds(bool mask, const struct scsi_mode *m, uint8_t *p)
{
    for (unsigned i = 0; i < SCSI_RESOURCES; i++) {
        uint8_t *d = p + SCSI_THRESHOLD_AT(i);
        uint64_t threshold = mask ? UINT64_MAX : m->thresholds[i];
        bool increasing = i == SCSI_USED && !mask;
        d[0] = (uint8_t)((threshold & SCSI_THRESHOLD_ENABLED ? 0x80 : 0) | (increasing ? 1 : 0));
        d[1] = mask ? 0 : (uint8_t)(i + 1);
        be32_store(d + 4, (uint32_t)threshold);
    }
}

static void take_thresholds(const uint8_t *page, struct scsi_mode *m)
{
    for (unsigned i = 0; i < SCSI_RESOURCES; i++) {
        const uint8_t *d = page + SCSI_THRESHOLD_AT(i);
        m->thresholds[i] = be32_load(d + 4) | (d[0] & 0x80 ? SCSI_THRESHOLD_ENABLED : 0);
    }
}

size_t scsi_mode_page_put(enum scsi_mode_pc pc, const struct scsi_mode *m, unsigned page,
                          uint8_t p[SCSI_MODE_PAGE_MAX])
{
    bool mask = pc == SCSI_MODE_CHANGEABLE;
    size_t len;
    memset(p, 0, SCSI_MODE_PAGE_MAX);
    switch (page) {
    case PAGE_ERRORS:
        len = 12;
        break;
    case PAGE_CACHING:
        len = 20;
        p[0] = PS;
        p[2] = mask || m->write_cache ? 0x04 : 0; /* WCE */
        break;
    case PAGE_CONTROL:
        len = 12;
        p[0] = PS;
        put_control(pc, m, p);
        break;
    case PAGE_CONTROL_1:
        len = 32;
        p[0] = 0x40; /* SPF */
        p[1] = 0x01;
        p[4] = mask ? 0 : 0x05; /* TCMOS: the clock is the machine's; IALUAE: implicit ALUA */
        break;
    case PAGE_EXCEPTIONS:
        len = 12;
        p[2] = mask ? 0 : 0x08; /* DEXCPT: none are reported */
        break;
    case PAGE_PROVISIONING:
        len = 32;
        p[0] = PS | 0x40; /* SPF */
        p[1] = 0x02;
        put_thresholds(mask, m, p);
        break;
    default:
        return 0;
    }
    p[0] |= (uint8_t)(page >> 8);
    if (p[0] & 0x40) {
        be16_store(p + 2, (uint16_t)(len - 4));
    } else {
        p[1] = (uint8_t)(len - 2);
    }
    return len;
}

void scsi_mode_page_take(const uint8_t *page, struct scsi_mode *m)
{
    if (page[0] == 0x5c) {
        take_thresholds(page, m);
    } else if (page[0] == 0x08) {
        m->write_cache = page[2] & 0x04;
    } else if (page[0] == 0x0a) {
        m->bits =
            (page[2] & 0x04 ? SCSI_MODE_D_SENSE : 0u) | (page[3] & 0x02 ? SCSI_MODE_QERR : 0u) |
            (page[3] & 0x04 ? SCSI_MODE_QERR_NEXUS : 0u) | (page[4] & 0x08 ? SCSI_MODE_SWP : 0u) |
            (page[4] & 0x20 ? SCSI_MODE_UA_STAYS : 0u) |
            (page[4] & 0x10 ? SCSI_MODE_UA_STATUS : 0u) | (page[5] & 0x40 ? SCSI_MODE_TAS : 0u);
    }
}

size_t scsi_mode_page_check(const uint8_t *page, int *ret_bit)
{
    if (page[0] == 0x0a && (page[3] & 0x06) == 0x04) {
        *ret_bit = 2; /* QERR 10b */
        return 3;
    }
    if (page[0] == 0x0a && (page[4] & 0x30) == 0x10) {
        *ret_bit = 5; /* UA_INTLCK_CTRL 01b */
        return 4;
    }
    return 0;
}

/* Which pages a MODE SENSE asks for. */
static bool page_wanted(uint8_t code, uint8_t subpage, uint8_t want, uint8_t want_sub)
{
    if (want != SCSI_MODE_ALL && want != code) {
        return false;
    }
    return want_sub == SCSI_MODE_ALL_SUBPAGES || want_sub == subpage;
}

void scsi_mode_sense_parse(struct scsi_task *t)
{
    uint8_t want = t->cdb[2] & 0x3f;
    uint8_t want_sub = t->cdb[3];
    if (want == SCSI_MODE_ALL && want_sub != 0 && want_sub != SCSI_MODE_ALL_SUBPAGES) {
        scsi_fail_cdb(t, 3, 7);
        return;
    }
    bool code_known = false;
    uint8_t code;
    uint8_t subpage;
    for (size_t i = 0; scsi_mode_page_at(i, &code, &subpage); i++) {
        if (page_wanted(code, subpage, want, want_sub)) {
            return;
        }
        code_known |= code == want;
    }
    if (code_known) {
        scsi_fail_cdb(t, 3, 7);
    } else {
        scsi_fail_cdb(t, 2, 5);
    }
}

/* Short or long block descriptor, SBC-3 6.4.2; its length. */
static size_t put_block_descriptor(const struct scsi_lu *lu, bool long_lba, uint8_t *p)
{
    uint64_t blocks = scsi_lu_blocks(lu);
    if (long_lba) {
        be64_store(p, blocks);
        be32_store(p + 12, lu->block_bytes);
        return 16;
    }
    be32_store(p, (uint32_t)MIN_OF(blocks, UINT32_MAX));
    be24_store(p + 5, lu->block_bytes);
    return 8;
}

static size_t put_pages(const struct scsi_task *t, const struct scsi_mode *m, uint8_t *p)
{
    size_t len = 0;
    uint8_t code;
    uint8_t subpage;
    uint8_t page[SCSI_MODE_PAGE_MAX];
    for (size_t i = 0; scsi_mode_page_at(i, &code, &subpage); i++) {
        if (!page_wanted(code, subpage, t->cdb[2] & 0x3f, t->cdb[3])) {
            continue;
        }
        size_t n = scsi_mode_page_put(t->cdb[2] >> 6, m, scsi_mode_page(code, subpage), page);
        memcpy(p + len, page, n);
        len += n;
    }
    return len;
}

void scsi_mode_sense_run(struct scsi_task *t)
{
    bool ten = t->command->cdb_len == 10;
    bool no_descriptor = t->cdb[1] & 0x08;
    bool long_lba = ten && (t->cdb[1] & 0x10);
    struct rt_buf *b = scsi_reply_begin(t, MODE_BUFFER);
    if (!b) {
        return;
    }
    struct scsi_mode m = {.bits = 0, .write_cache = true};
    struct scsi_mode now = scsi_mode_current(t->lu);
    if (t->cdb[2] >> 6 == SCSI_MODE_CURRENT) {
        m = now;
    } else if (t->cdb[2] >> 6 == SCSI_MODE_SAVED) {
        m = scsi_mode_saved(t->lu);
    }
    size_t header = ten ? 8 : 4;
    size_t descriptor = 0;
    if (!no_descriptor) {
        descriptor = put_block_descriptor(t->lu, long_lba, b->data + header);
    }
    size_t len = header + descriptor;
    len += put_pages(t, &m, b->data + len);
    uint8_t specific = 0x10; /* DPOFUA */
    if ((now.bits & SCSI_MODE_SWP) || dev_is_read_only(t->lu->dev) || t->itl->read_only) {
        specific |= 0x80; /* WP */
    }
    if (ten) {
        be16_store(b->data, (uint16_t)(len - 2));
        b->data[3] = specific;
        b->data[4] = long_lba ? 0x01 : 0;
        be16_store(b->data + 6, (uint16_t)descriptor);
    } else {
        b->data[0] = (uint8_t)(len - 1);
        b->data[2] = specific;
        b->data[3] = (uint8_t)descriptor;
    }
    scsi_reply_end(t, b, len);
}
