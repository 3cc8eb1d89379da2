/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Telling of lost writes (dev_check_loss()): a task fails with it, its response goes out on some
 * way to the initiator, and there it is heard, or the way ends before.
 *
 *     nobody --check--> the task --told--> the way --heard--> nobody, and the debt is gone
 *                          \                  \
 *                           `--ends unsent     `--unheard--> nobody, and it is owed again
 *
 * The view holds which ways it was. A command that comes another way meanwhile fails as well: it
 * may be the same one, from an initiator that knows before us that the first way is gone. So each
 * way is told once; heard on any of them is heard, and it is owed again when the last of them has
 * ended.
 */
#include "base/err.h"
#include "scsi/medium.h"
#include "scsi/scsi_priv.h"
#include "scsi/sense.h"

static unsigned find_way(const struct scsi_itl *itl, const void *way)
{
    unsigned i = 0;
    while (i < itl->told_count && itl->told_ways[i] != way) {
        i++;
    }
    return i;
}

static bool has_way(const struct scsi_itl *itl, const void *way)
{
    return find_way(itl, way) < itl->told_count;
}

/*
 * A current error: initiators repeat a command that ended with a deferred one, and would see the
 * repetition end with GOOD. HARDWARE ERROR, because that is not repeated either (Linux repeats
 * after MEDIUM ERROR).
 */
bool scsi_loss_check(struct scsi_task *t)
{
    struct scsi_itl *itl = t->itl;
    if (!itl->attached) {
        return true;
    }
    int r = dev_check_loss(t->lu->dev, &itl->watch);
    if (unlikely(itl->told_count > 0) && !has_way(itl, t->way)) {
        r = ERR_CACHE_LOST;
    }
    if (unlikely(r < 0)) {
        t->tells_loss = r == ERR_CACHE_LOST;
        scsi_fail(t, SCSI_KEY_HARDWARE_ERROR, SCSI_ASC_WRITE_ERROR);
        return false;
    }
    return true;
}

void scsi_task_told(struct scsi_task *t)
{
    struct scsi_itl *itl = t->itl;
    t->tells_loss = false;
    if (!has_way(itl, t->way) && itl->told_count < SCSI_TOLD_WAYS_MAX) {
        itl->told_ways[itl->told_count++] = t->way;
    }
}

void scsi_task_untold(struct scsi_task *t)
{
    t->tells_loss = false;
    if (t->itl->told_count == 0) {
        dev_loss_unheard(t->lu->dev, &t->itl->watch);
    }
}

void scsi_nexus_heard(struct scsi_nexus *n, const void *way, bool heard)
{
    for (size_t i = 0; i < n->itl_count; i++) {
        struct scsi_itl *itl = n->itls[i];
        unsigned at = find_way(itl, way);
        if (at == itl->told_count) {
            continue;
        }
        if (heard) {
            itl->told_count = 0;
            dev_loss_heard(itl->lu->dev, &itl->watch);
            continue;
        }
        itl->told_ways[at] = itl->told_ways[--itl->told_count];
        if (itl->told_count == 0) {
            dev_loss_unheard(itl->lu->dev, &itl->watch);
        }
    }
}
