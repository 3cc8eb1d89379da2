/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A world for the tests of scsi: a target with two LUNs of 8 MiB and two nexuses whose power-on
 * attentions have been reported. Test bodies run on a fiber.
 *
 *     static void reads(struct world *w)
 *     {
 *         struct reply r = in(w->a, 0, 512, CDB(0x28, 0, 0, 0, 0, 0, 0, 0, 1, 0));
 *         CHECK(r.status == SCSI_GOOD && r.len == 512);
 *     }
 *     static void test_reads(void **state) { in_world(reads); }
 */
#pragma once
#include "base/endian.h"
#include "base/err.h"
#include "fake_dev.h"
#include "scsi/scsi.h"
#include "scsi/sense.h"
#include "unit.h"
#include <stdio.h>

/* cmocka's asserts must not jump out of a fiber. */
#define CHECK(expr)                                                                                \
    do {                                                                                           \
        if (!(expr)) {                                                                             \
            print_error("%s:%d: check failed: %s\n", __FILE__, __LINE__, #expr);                   \
            abort();                                                                               \
        }                                                                                          \
    } while (0)

#define CDB(...) ((const uint8_t[16]){__VA_ARGS__})
#define LUN_SIZE (8u << 20)
#define LUN_BLOCKS (LUN_SIZE / 512)

struct world {
    struct dev_registry *registry;
    struct scsi_host *host;
    struct scsi_target *target;
    struct scsi_nexus *a;
    struct scsi_nexus *b;
    unsigned drops;
};

struct reply {
    enum scsi_status status;
    uint8_t sense[SCSI_SENSE_MAX];
    size_t sense_len;
    uint8_t data[16384];
    size_t len;
    uint64_t residual;
    bool under;
    bool over;
    bool aborted;
};

static inline void task_start(struct scsi_task *t, struct scsi_nexus *n, uint32_t lun,
                              const uint8_t *cdb)
{
    scsi_task_init(t, n, (uint64_t)lun << 48, cdb, 16);
}

static inline void task_gather(struct scsi_task *t, const void *out)
{
    if (t->out_wanted == 0) {
        return;
    }
    CHECK(out != NULL);
    struct rt_buf *b;
    CHECK(rt_buf_alloc(t->out_wanted, RT_MEM_INGRESS, &b) == 0);
    memcpy(b->data, out, t->out_wanted);
    CHECK(rt_chain_add(&t->data_out, b, b->data, (uint32_t)t->out_wanted) == 0);
    rt_buf_unref(b);
}

static inline void task_finish(struct scsi_task *t, struct reply *ret)
{
    ret->status = t->status;
    ret->aborted = t->aborted;
    ret->sense_len = t->sense_len;
    memcpy(ret->sense, t->sense, t->sense_len);
    ret->len = (size_t)MIN_OF(t->data_in.len, sizeof ret->data);
    CHECK(t->data_in.len <= (t->transport_read ? t->edtl : 0));
    if (ret->len) {
        rt_chain_copy_out(&t->data_in, 0, ret->data, ret->len);
    }
    rt_chain_free(&t->data_in); /* a transport takes it */
    scsi_task_residual(t, &ret->residual, &ret->under, &ret->over);
    scsi_task_end(t);
}

static inline void task_go(struct scsi_task *t, const void *out, struct reply *ret)
{
    memset(ret, 0, sizeof *ret);
    scsi_task_begin(t);
    if (!scsi_task_run_ready(t)) {
        scsi_task_turn(t);
        task_gather(t, out);
        scsi_task_run(t);
    }
    task_finish(t, ret);
}

/* Replies are big and fibers' stacks small: the last one stands here. */
extern struct reply reply;
struct reply reply;

/* Not inlined: tasks are big, and one is enough on the stack. */
__attribute__((noinline, unused)) static struct reply *in(struct scsi_nexus *n, uint32_t lun,
                                                          uint64_t edtl, const uint8_t *cdb)
{
    struct scsi_task t;
    task_start(&t, n, lun, cdb);
    t.transport_read = edtl > 0;
    t.edtl = edtl;
    task_go(&t, NULL, &reply);
    return &reply;
}

__attribute__((noinline, unused)) static struct reply *
out(struct scsi_nexus *n, uint32_t lun, const void *data, uint64_t len, const uint8_t *cdb)
{
    struct scsi_task t;
    task_start(&t, n, lun, cdb);
    t.transport_write = len > 0;
    t.edtl = len;
    task_go(&t, data, &reply);
    return &reply;
}

/* The device of a LUN that is there. */
__attribute__((returns_nonnull)) static inline struct dev *disk(struct world *w, uint32_t lun)
{
    struct dev *d = fake_lun(w->registry, lun);
    ASSERT(d);
    return d;
}

static inline enum scsi_status none(struct scsi_nexus *n, uint32_t lun, const uint8_t *cdb)
{
    return out(n, lun, NULL, 0, cdb)->status;
}

static inline enum scsi_status tur(struct scsi_nexus *n, uint32_t lun)
{
    return none(n, lun, CDB(0x00));
}

/* The last reply was CHECK CONDITION with this sense, in either format. */
static inline bool sense_is(enum scsi_key key, uint16_t asc)
{
    if (reply.status != SCSI_CHECK_CONDITION || reply.sense_len < 8) {
        return false;
    }
    if (reply.sense[0] == 0x72) {
        return (reply.sense[1] & 0xf) == key && be16_load(reply.sense + 2) == asc;
    }
    return (reply.sense[0] & 0x7f) == 0x70 && (reply.sense[2] & 0xf) == key &&
           be16_load(reply.sense + 12) == asc;
}

/* INVALID FIELD IN CDB that points at this byte and bit (fixed format). */
static inline bool field_is(unsigned byte, unsigned bit)
{
    return sense_is(SCSI_KEY_ILLEGAL_REQUEST, 0x2400) && reply.sense[15] == (0xc8 | bit) &&
           be16_load(reply.sense + 16) == byte;
}

static inline bool attention_is(uint16_t asc)
{
    return sense_is(SCSI_KEY_UNIT_ATTENTION, asc);
}

static inline void count_drop(void *arg)
{
    ((struct world *)arg)->drops++;
}

static inline struct scsi_nexus *nexus_new(struct world *w, const char *initiator)
{
    struct scsi_nexus *n;
    struct scsi_nexus_options opt = {.initiator_name = initiator,
                                     .tpgt = 1,
                                     .relative_port = 1,
                                     .dropped = count_drop,
                                     .arg = w};
    CHECK(scsi_nexus_create(w->target, &opt, &n) == 0);
    return n;
}

static inline void clear_attentions(struct scsi_nexus *n, uint32_t lun)
{
    while (tur(n, lun) != SCSI_GOOD) {
        CHECK((reply.sense[2] & 0xf) == SCSI_KEY_UNIT_ATTENTION);
    }
}

static void (*world_body)(struct world *w);

static inline void world_main(void *arg)
{
    struct world w = {0};
    (void)arg;
    w.registry = fake_registry();
    fake_add(w.registry, 0, LUN_SIZE);
    fake_add(w.registry, 1, LUN_SIZE);
    CHECK(scsi_host_create(w.registry, &w.host) == 0);
    CHECK(scsi_target_get(w.host, FAKE_IQN, &w.target) == 0);
    w.a = nexus_new(&w, "iqn.a");
    w.b = nexus_new(&w, "iqn.b");
    for (uint32_t lun = 0; lun < 2; lun++) {
        clear_attentions(w.a, lun);
        clear_attentions(w.b, lun);
    }
    world_body(&w);
    scsi_nexus_destroy(w.a);
    scsi_nexus_destroy(w.b);
    scsi_target_put(w.target);
    scsi_host_destroy(w.host);
    fake_registry_free(w.registry);
}

static inline void in_world(void (*body)(struct world *w))
{
    world_body = body;
    assert_int_equal(rt_run(&(struct rt_options){.cores = 1}, world_main, NULL), 0);
}

#define WORLD_TEST(name)                                                                           \
    static void test_##name(void **state)                                                          \
    {                                                                                              \
        (void)state;                                                                               \
        in_world(name);                                                                            \
    }
