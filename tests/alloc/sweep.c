/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The N-th allocation fails, for each N of a scenario: every call that meets it gives a clean error
 * of the class ENOMEM (or EAGAIN: no fiber), or waits; nothing crashes, nothing that was
 * acknowledged is lost, and under the address sanitizer nothing leaks.
 *
 * The scenario goes from opening a volume through a device's life to its closing: log, index, vol,
 * dev with portal groups and access states, and SCSI commands over it. Afterwards, with memory
 * again, the volume is opened anew and compared with what was acknowledged.
 */
#include "base/endian.h"
#include "base/err.h"
#include "dev/dev.h"
#include "dev/paths.h"
#include "drive.h"
#include "obj/obj.h"
#include "rt/rt.h"
#include "scsi/scsi.h"
#include "vol/vol.h"
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BLOCKS 64u
#define IQN "iqn.2024-01.net.zerofs:alloc"

static bool is_clean(int r)
{
    int c = err_class(r);
    return r >= 0 || c == ENOMEM || c == EAGAIN;
}

#define TRY(expr)                                                                                  \
    ({                                                                                             \
        int try_r_ = (expr);                                                                       \
        if (!is_clean(try_r_)) {                                                                   \
            fprintf(stderr, "%s gives %s\n", #expr, err_name(try_r_));                             \
        }                                                                                          \
        CHECK(is_clean(try_r_));                                                                   \
        try_r_;                                                                                    \
    })

/* What a block may hold: each write that was begun since the last acknowledged one. */
struct model {
    uint8_t may[BLOCKS][256];
};

static struct model model;
static struct obj_store *store;
static struct vol *v;
static struct dev_registry *reg;
static struct dev *d;
static bool created;

static void may(uint32_t block, uint32_t count, uint8_t value, bool done)
{
    for (uint32_t b = block; b < block + count; b++) {
        if (done) {
            memset(model.may[b], 0, sizeof model.may[b]);
        }
        model.may[b][value] = 1;
    }
}

static void put(uint32_t block, uint32_t count, uint8_t value, unsigned flags)
{
    struct rt_chain c = {0};
    struct rt_buf *b;
    if (TRY(rt_buf_alloc(count * 4096ul, RT_MEM_INGRESS, &b)) < 0) {
        return;
    }
    memset(b->data, value, count * 4096ul);
    int r = TRY(rt_chain_add(&c, b, b->data, count * 4096u));
    rt_buf_unref(b);
    if (r >= 0) {
        r = TRY(dev_write(d, block * 4096ull, &c, flags, NULL));
        may(block, count, value, r >= 0);
    }
    rt_chain_free(&c);
}

static void zero(uint32_t block, uint32_t count, unsigned flags, bool discard)
{
    uint64_t off = block * 4096ull;
    uint64_t len = count * 4096ull;
    int r = discard ? TRY(dev_discard(d, off, len, flags)) : TRY(dev_zero(d, off, len, flags));
    may(block, count, 0, r >= 0);
}

static void check_blocks(bool must)
{
    for (uint32_t b = 0; b < BLOCKS; b++) {
        struct rt_chain c = {0};
        static uint8_t got[4096];
        int r = TRY(dev_read(d, b * 4096ull, 4096, &c));
        CHECK(r >= 0 || !must);
        if (r >= 0) {
            rt_chain_copy_out(&c, 0, got, 4096);
            CHECK(model.may[b][got[0]]);
            CHECK(memcmp(got, got + 1, 4095) == 0);
        }
        rt_chain_free(&c);
    }
}

static void on_event(struct dev_watch *w, enum dev_event event)
{
    (void)w;
    (void)event;
}

static enum scsi_status command(struct scsi_nexus *n, const uint8_t cdb[16], uint32_t in,
                                const struct rt_chain *out)
{
    struct scsi_task t;
    scsi_task_init(&t, n, 0, cdb, 16);
    t.transport_read = in > 0;
    t.transport_write = out != NULL;
    t.edtl = in > 0 ? in : out ? out->len : 0;
    scsi_task_begin(&t);
    int r = 0;
    if (!t.ended && out) {
        r = TRY(rt_chain_add_range(&t.data_out, out, 0, out->len));
    }
    if (r >= 0) {
        scsi_task_run(&t);
    }
    enum scsi_status status = r < 0 ? SCSI_BUSY : t.status;
    scsi_task_end(&t);
    return status;
}

static void write_by_scsi(struct scsi_nexus *n, uint8_t value)
{
    uint8_t cdb[16] = {0x8a, 0x08};
    be64_store(cdb + 2, 8ull * 40);
    be32_store(cdb + 10, 8);
    struct rt_chain c = {0};
    struct rt_buf *b;
    if (TRY(rt_buf_alloc(4096, RT_MEM_INGRESS, &b)) < 0) {
        return;
    }
    memset(b->data, value, 4096);
    int r = TRY(rt_chain_add(&c, b, b->data, 4096));
    rt_buf_unref(b);
    if (r >= 0) {
        enum scsi_status s = command(n, cdb, 0, &c);
        CHECK(s == SCSI_GOOD || s == SCSI_BUSY || s == SCSI_TASK_SET_FULL ||
              s == SCSI_CHECK_CONDITION);
        may(40, 1, value, s == SCSI_GOOD);
    }
    rt_chain_free(&c);
}

/* Registered, persisting; reserved; read; cleared. What fails has not happened, so the key is
 * there or it is not, and the next status says so. */
static void reserve_by_scsi(struct scsi_nexus *n)
{
    static const uint8_t actions[][2] = {{6, 0}, {1, 5}, {3, 0}};
    static const uint8_t full_status[16] = {0x5e, 3, [8] = 0xff};
    for (size_t i = 0; i < ARRAY_LEN(actions); i++) {
        uint8_t list[24] = {[7] = 9, [15] = 9, [20] = 1};
        const uint8_t cdb[16] = {0x5f, actions[i][0], actions[i][1], [8] = sizeof list};
        struct rt_chain c = {0};
        if (TRY(rt_chain_add(&c, NULL, list, sizeof list)) >= 0) {
            enum scsi_status s = command(n, cdb, 0, &c);
            CHECK(s == SCSI_GOOD || s == SCSI_BUSY || s == SCSI_CHECK_CONDITION ||
                  s == SCSI_RESERVATION_CONFLICT);
        }
        rt_chain_free(&c);
        (void)command(n, full_status, 0xff, NULL);
    }
}

static int add_group(struct dev_groups *draft, void *arg)
{
    return dev_groups_put(draft, arg);
}

static int remove_group(struct dev_groups *draft, void *arg)
{
    const struct dev_group *group = arg;
    return dev_groups_find(draft, group->name) ? dev_groups_remove(draft, group->name) : 0;
}

static int set_state(struct dev_paths *draft, void *arg)
{
    dev_paths_set_state(draft, arg);
    return 0;
}

/* What SET TARGET PORT GROUPS asks for holds when its status is GOOD, and is told. */
static void move_paths(struct scsi_nexus *n)
{
    for (unsigned state = DEV_PATH_NON_OPTIMIZED; state <= DEV_PATH_STANDBY; state++) {
        static const uint8_t told[16] = {0xa3, 0x0a, [9] = 0xff};
        const uint8_t set[16] = {0xa4, 0x0a, [9] = 8};
        uint8_t list[8] = {[4] = (uint8_t)state, [7] = 7};
        struct rt_chain c = {0};
        struct dev_path paths[DEV_TAGS_MAX];
        struct dev_info info;
        dev_info(d, &info);
        if (TRY(rt_chain_add(&c, NULL, list, sizeof list)) >= 0 &&
            command(n, set, 0, &c) == SCSI_GOOD) {
            CHECK(dev_path_list(reg, IQN, &info.uuid, paths, NULL) == 2);
            CHECK(paths[1].state == state);
        }
        rt_chain_free(&c);
        (void)command(n, told, 0xff, NULL);
    }
}

static void by_paths(struct scsi_host *h, struct scsi_nexus *n)
{
    static struct dev_group group = {.name = "seven", .tag = 7, .portal_count = 1};
    struct dev_path path = {.tag = 7, .state = DEV_PATH_STANDBY, .preferred = true};
    CHECK(dev_portal_parse("127.0.0.1:3261", &group.portals[0]) == 0);
    if (TRY(dev_groups_change(reg, add_group, &group)) >= 0) {
        scsi_paths_changed(h, NULL);
        (void)TRY(dev_paths_change(reg, IQN, set_state, &path));
        scsi_paths_changed(h, IQN);
        move_paths(n);
    }
    (void)TRY(dev_groups_change(reg, remove_group, &group));
    scsi_paths_changed(h, NULL);
}

static void by_scsi(void)
{
    struct scsi_host *h;
    struct scsi_target *t;
    struct scsi_nexus *n;
    if (TRY(scsi_host_create(reg, &h)) < 0) {
        return;
    }
    if (TRY(scsi_target_get(h, IQN, &t)) >= 0) {
        struct scsi_nexus_options opt = {.initiator_name = "iqn.2024-01.test:a"};
        if (TRY(scsi_nexus_create(t, &opt, &n)) >= 0) {
            static const uint8_t cdbs[][16] = {{0},
                                               {0},
                                               {0x12, 1, 0x83, 0, 0xff},
                                               {0x9e, 0x10, [13] = 32},
                                               {0xa0, [9] = 0xff},
                                               {0x1a, 0, 0x3f, 0, 0xff},
                                               {0x4d, 0, 0x59, [8] = 0xff},
                                               {0x4d, 0, 0x4c, [8] = 0xff},
                                               {0x1c, 1, [4] = 0xff},
                                               {0x12, 1, 0x88, 0, 0xff},
                                               {0x28, [8] = 16},
                                               {0x35}};
            static const uint32_t in[] = {0,    0,    0xff, 32,   0xff, 0xff,
                                          0xff, 0xff, 0xff, 0xff, 8192, 0};
            for (size_t i = 0; i < ARRAY_LEN(in); i++) {
                (void)command(n, cdbs[i], in[i], NULL);
            }
            write_by_scsi(n, 77);
            reserve_by_scsi(n);
            by_paths(h, n);
            scsi_nexus_destroy(n);
        }
        scsi_target_put(t);
    }
    scsi_host_destroy(h);
}

/* With a device that is attached. */
static void use(void)
{
    struct vol_extent e[8];
    put(0, 4, 1, 0);
    put(2, 1, 2, DEV_FUA);
    put(8, 20, 3, 0);
    (void)TRY(dev_flush(d));
    zero(9, 3, DEV_NO_HOLE, false);
    zero(12, 2, 0, true);
    zero(14, 1, DEV_ANCHOR, false);
    put(16, 32, 4, 0);
    (void)TRY(dev_flush(d));
    (void)TRY(dev_extents(d, 0, BLOCKS * 4096ull, e, ARRAY_LEN(e)));
    check_blocks(false);
    by_scsi();
    (void)TRY(dev_prefetch(d, 0, BLOCKS * 4096ull));
    if (TRY(dev_resize(reg, d, 8ull << 40, false)) >= 0) {
        (void)TRY(dev_discard(d, 1ull << 40, 4ull << 40, 0));
    }
    (void)TRY(dev_write_cache_set(reg, d, false));
    put(50, 2, 5, 0);
}

static int open_volume(void)
{
    struct vol_options opt = {.store = store,
                              .owner = "here",
                              .memory_bytes = 64 << 20,
                              .rotate_after_ms = 50,
                              .segments_max = 4};
    int r = TRY(vol_open(&opt, &v));
    if (r < 0) {
        return r;
    }
    r = TRY(dev_registry_open(v, NULL, &reg));
    if (r < 0) {
        vol_abandon(v);
    }
    return r;
}

static void create(void)
{
    struct dev_info info;
    struct dev_target_info target;
    struct dev_create_options opt = {
        .kind = DEV_ISCSI, .name = IQN, .lun = 0, .size_bytes = 4ull << 40};
    struct dev_create_options other = {.kind = DEV_NBD, .name = "n", .size_bytes = 1 << 20};
    if (dev_target_find(reg, IQN, &target) < 0) {
        (void)TRY(dev_target_create_with_lun(reg, &opt, &info));
    }
    if (TRY(dev_create(reg, &other, &info)) >= 0) {
        struct dev *n;
        CHECK(dev_find_nbd(reg, "n", &n) == 0);
        (void)TRY(dev_delete(reg, n, false));
        dev_unref(n);
    }
    created = created || dev_find_lun(reg, IQN, 0, &d) == 0;
    if (created) {
        dev_unref(d);
    }
}

static void live(void)
{
    struct dev_watch w = {.fn = on_event};
    create();
    if (dev_find_lun(reg, IQN, 0, &d) == 0) {
        if (TRY(dev_attach(d, "a", "a", &w)) >= 0) {
            use();
            dev_detach(d, &w);
        }
        dev_unref(d);
    }
    dev_registry_close(reg);
    reg = NULL;
    int r = vol_close(v);
    CHECK(is_clean(r));
}

static void scenario(void *arg)
{
    (void)arg;
    memset(&model, 0, sizeof model);
    may(0, BLOCKS, 0, true);
    created = false;
    CHECK(obj_open("memory:", &store) == 0);
    CHECK(vol_format(store, &(struct vol_format_options){0}) == 0);
    drive_arm();
    if (open_volume() >= 0) {
        live();
    }
    drive_disarm();
    CHECK(open_volume() >= 0);
    if (dev_find_lun(reg, IQN, 0, &d) == 0) {
        check_blocks(true);
        dev_unref(d);
    } else {
        CHECK(!created);
    }
    CHECK(vol_recount(v) == 0);
    dev_registry_close(reg);
    reg = NULL;
    CHECK(vol_close(v) == 0);
    obj_close(store);
}

int main(int argc, char **argv)
{
    return drive_main(argc, argv, scenario);
}
