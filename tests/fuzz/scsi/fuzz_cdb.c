/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Commands of any bytes with data of any bytes, over a device in memory. Whatever comes: a task
 * ends with a status, gives no more data than it was asked for, and CHECK CONDITION has sense.
 *
 * Input: commands one after another, each of 16 bytes of CDB, a byte of LUN and flags, two of
 * length and that much data-out (what is missing is zeros).
 */
#include "../../unit/scsi/fake_dev.h"
#include "base/assert.h"
#include "base/bytes.h"
#include "scsi/scsi.h"
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

#define COMMANDS_MAX 8
#define DATA_MAX 4096

static struct bytes_reader input;

static void gather(struct scsi_task *t, const uint8_t *data, size_t len)
{
    struct rt_buf *b;
    if (t->out_wanted == 0 || rt_buf_alloc(t->out_wanted, RT_MEM_INGRESS, &b) < 0) {
        return;
    }
    memset(b->data, 0, t->out_wanted);
    if (len > 0) {
        memcpy(b->data, data, MIN_OF(len, t->out_wanted));
    }
    ASSERT(rt_chain_add(&t->data_out, b, b->data, (uint32_t)t->out_wanted) == 0);
    rt_buf_unref(b);
}

static void one_command(struct scsi_nexus *n, const uint8_t *cdb, uint8_t flags)
{
    struct scsi_task t;
    uint16_t edtl = bytes_be16(&input);
    size_t have = MIN_OF(bytes_left(&input), MIN_OF(edtl, DATA_MAX));
    scsi_task_init(&t, n, (uint64_t)(flags & 1) << 48, cdb, flags & 2 ? 16 : 10);
    t.attr = (enum scsi_attr)(flags >> 5);
    t.transport_write = flags & 4;
    t.transport_read = !t.transport_write && (flags & 8);
    t.edtl = edtl;
    scsi_task_begin(&t);
    if (!t.ended) {
        ASSERT(t.out_wanted <= (t.transport_write ? t.edtl : 0));
        scsi_task_turn(&t);
        gather(&t, bytes_take(&input, have), have);
        scsi_task_run(&t);
    }
    ASSERT(t.ended && !t.aborted);
    ASSERT(t.data_in.len <= (t.transport_read ? t.edtl : 0));
    ASSERT((t.status == SCSI_CHECK_CONDITION) == (t.sense_len >= 8));
    uint64_t count;
    bool under;
    bool over;
    scsi_task_residual(&t, &count, &under, &over);
    ASSERT(!(under && over) && (count > 0) == (under || over));
    scsi_task_end(&t);
}

/* There is one portal group besides the default one. */
static void make_group(void)
{
    fake_ways_reset();
    fake_ways.groups = dev_groups_copy(NULL);
    struct dev_group *group = calloc(1, sizeof *group);
    ASSERT(fake_ways.groups && group);
    group->tag = 7;
    memcpy(group->name, "seven", sizeof "seven");
    ASSERT(dev_groups_put(fake_ways.groups, group) == 0);
    free(group);
}

static void run_input(void *arg)
{
    struct scsi_host *h;
    struct scsi_target *target;
    struct scsi_nexus *n;
    (void)arg;
    struct dev_registry *g = fake_registry();
    fake_add(g, 0, 1u << 20);
    make_group();
    ASSERT(scsi_host_create(g, &h) == 0);
    ASSERT(scsi_target_get(h, FAKE_IQN, &target) == 0);
    struct scsi_nexus_options opt = {.initiator_name = "iqn.fuzz", .tpgt = 1, .relative_port = 1};
    ASSERT(scsi_nexus_create(target, &opt, &n) == 0);
    one_command(n, (const uint8_t[16]){0}, 2); /* takes the power-on attention */
    for (int i = 0; i < COMMANDS_MAX && bytes_left(&input) > 0; i++) {
        const uint8_t *cdb = bytes_take(&input, 16);
        if (cdb) {
            one_command(n, cdb, bytes_u8(&input));
        }
    }
    scsi_nexus_destroy(n);
    scsi_target_put(target);
    scsi_host_destroy(h);
    fake_registry_free(g);
    fake_ways_reset();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    input = bytes_reader_of(data, len);
    ASSERT(rt_run(&(struct rt_options){.sim = true, .sim_seed = 1}, run_input, NULL) == 0);
    return 0;
}
