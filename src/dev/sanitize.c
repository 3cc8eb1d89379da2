/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sanitizing: all that a device ever held is removed from the store (vol_scrub()), and the device
 * is empty afterwards, or overwritten (overwrite.c). It has no I/O meanwhile, and none after a
 * failure, until it is sanitized again or let go.
 *
 * The state is kept in the device's record before anything begins, so an opener goes on where the
 * last one was cut short: with the removal from the beginning, for it is no harm to do it twice. A
 * fiber of the registry does the work and holds the device's gate, so that the file stays open; a
 * device that is deleted gives up, and goes on when the deletion fails.
 */
#include "base/err.h"
#include "base/msg.h"
#include "dev/dev_priv.h"
#include "dev/hold.h"
#include "dev/overwrite.h"
#include "rt/rt.h"

#define WAIT_MS 20u
#define RECORD_AGAIN_MS 1000u

struct owner {
    struct dev *d;
    uint64_t inode;
};

struct job {
    struct dev *d;
    VEC(struct owner) owners; /* of layers: devices, each with a reference */
};

static bool stops(void *arg)
{
    const struct job *j = arg;
    return dev_is_gone(j->d);
}

static void note_progress(void *arg, uint64_t done, uint64_t of)
{
    struct job *j = arg;
    uint64_t share = of ? done * (UINT16_MAX - 1) / of : 0;
    share /= 1u + (j->d->overwrite ? j->d->overwrite->passes : 0);
    atomic_store(&j->d->sanitize_progress, (uint32_t)share);
}

static void owners_free(struct job *j)
{
    for (size_t i = 0; i < j->owners.len; i++) {
        dev_unref(j->owners.at[i].d);
    }
    vec_free(&j->owners);
}

/* All other devices that there are. */
static int owners_list(struct job *j)
{
    struct dev_registry *g = j->d->registry;
    int r = 0;
    owners_free(j);
    rt_mutex_lock(&g->m);
    tree_for_each(&g->devices, struct dev, node, d) {
        struct owner o = {d, d->id.inode};
        if (d == j->d || r < 0) {
            continue;
        }
        r = vec_push(&j->owners, o);
        if (r == 0) {
            (void)dev_ref(d);
        }
    }
    rt_mutex_unlock(&g->m);
    return r;
}

static int gate_take(struct dev *d, struct dev_range *gate) WAITS
{
    *gate = (struct dev_range){.first_page = DEV_RANGE_GATE, .last_page = DEV_RANGE_GATE};
    int r = dev_ranges_lock(&d->ranges, gate);
    if (r == 0 && dev_is_gone(d)) {
        dev_ranges_unlock(&d->ranges, gate);
        r = -ENODEV;
    }
    return r;
}

static int has_layer(struct dev *d, uint64_t layer) WAITS
{
    struct dev_range gate;
    int r = gate_take(d, &gate);
    if (r < 0) {
        return r == -ENODEV ? 0 : r;
    }
    bool has = vol_file_has_layer(d->file, layer);
    dev_ranges_unlock(&d->ranges, &gate);
    return has;
}

/*
 * The page, if it is this device's: 1, else 0. What is under way there is waited for, and with
 * nothing of the device held: who deletes or shrinks it waits for what is held, and whoever comes
 * later waits for him.
 */
static int rewrite_of(struct dev *d, uint64_t layer, uint64_t page, uint64_t seq) WAITS
{
    struct dev_range range = {.first_page = page, .last_page = page, .exclusive = true};
    int r = has_layer(d, layer);
    if (r <= 0) {
        return r;
    }
    r = dev_ranges_lock(&d->ranges, &range);
    if (r < 0) {
        return r;
    }
    r = dev_is_gone(d) ? 0 : vol_rewrite(d->file, page, seq); /* gone: and so is its page */
    dev_ranges_unlock(&d->ranges, &range);
    return r < 0 ? r : 1;
}

static int rewrite(void *arg, uint64_t layer, uint64_t page, uint64_t seq) WAITS
{
    struct job *j = arg;
    if (vol_file_has_layer(j->d->file, layer)) {
        return 0; /* nothing is there any more; and its gate is held, see rewrite_of() */
    }
    for (size_t i = 0; i < j->owners.len; i++) {
        int r = rewrite_of(j->owners.at[i].d, layer, page, seq);
        if (r != 0) {
            struct owner hit = j->owners.at[i]; /* the next page is likely its as well */
            j->owners.at[i] = j->owners.at[0];
            j->owners.at[0] = hit;
            return r < 0 ? r : 0;
        }
    }
    return owners_list(j); /* somebody new, who is asked the next time; or one who is gone */
}

/* Gate and pages are taken at once: between the one and the other somebody could come who wants
 * all. */
static int scrub(struct job *j) WAITS
{
    struct dev *d = j->d;
    struct dev_range gate_and_all[2] = {
        {.first_page = DEV_RANGE_GATE, .last_page = DEV_RANGE_GATE},
        {.first_page = 0, .last_page = DEV_RANGE_GATE - 1, .exclusive = true}};
    int r = dev_ranges_lock_all(&d->ranges, gate_and_all, 2);
    if (r < 0) {
        return r;
    }
    r = dev_is_gone(d) ? -ENODEV : vol_zero(d->file, 0, dev_size(d), VOL_HOLE);
    dev_ranges_unlock(&d->ranges, &gate_and_all[1]);
    r = r == 0 ? owners_list(j) : r;
    if (r == 0) {
        r = vol_scrub(d->registry->v, &(struct vol_scrub){.file = d->file,
                                                          .rewrite = rewrite,
                                                          .stop = stops,
                                                          .progress = note_progress,
                                                          .arg = j});
    }
    dev_ranges_unlock(&d->ranges, &gate_and_all[0]);
    return r;
}

static int sanitize(struct job *j) WAITS
{
    struct dev *d = j->d;
    if (d->overwrites && !d->overwrite) {
        return ERR_CORRUPT_RECORD;
    }
    int r = d->overwrite && d->overwrite->pass > 0 ? 0 : scrub(j);
    return r == 0 && d->overwrite ? dev_overwrite_run(d) : r;
}

static void finish(struct dev *d, int result) WAITS
{
    if (result == -ECANCELED || result == -ENODEV || result == ERR_FENCED || dev_is_gone(d)) {
        return; /* who takes back the deletion, or the next opening, goes on, if it is there then */
    }
    if (result < 0) {
        msg_error("dev", "%s: sanitizing has failed: %s", d->id.name, err_text(result));
    }
    enum dev_sanitize state = result == 0 ? DEV_SANITIZED_NOT : DEV_SANITIZE_FAILED;
    int r = dev_sanitize_set(d->registry, d, state, d->sanitize_ause, NULL);
    while (r < 0 && r != -ECANCELED && r != ERR_FENCED && !dev_is_gone(d)) {
        msg_error("dev", "%s: the end of sanitizing was not recorded: %s; trying again", d->id.name,
                  err_text(r));
        r = rt_sleep_ms(RECORD_AGAIN_MS);
        if (r == 0) {
            r = dev_sanitize_set(d->registry, d, state, d->sanitize_ause, NULL);
        }
    }
    if (r == 0) {
        msg_info("dev", "%s: sanitizing has ended", d->id.name);
    }
}

static void worker(void *arg)
{
    struct job j = {.d = arg};
    struct dev *d = j.d;
    msg_info("dev", "%s: sanitizing", d->id.name);
    int r = sanitize(&j);
    owners_free(&j);
    finish(d, r);
    atomic_store(&d->sanitize_works, false);
    if (r != ERR_FENCED && !rt_cancelled()) {
        dev_sanitize_go_on(d); /* it may have been given up, and taken back before this */
    }
    dev_unref(d);
}

/* Once, however many ask for it. */
int dev_sanitize_resume(struct dev *d)
{
    if (atomic_exchange(&d->sanitize_works, true)) {
        return 0;
    }
    int r = rt_group_spawn(d->registry->work, "dev sanitize", worker, dev_ref(d));
    if (r < 0) {
        atomic_store(&d->sanitize_works, false);
        dev_unref(d);
    }
    return r;
}

void dev_sanitize_go_on(struct dev *d)
{
    if (dev_sanitize_state(d, NULL) != DEV_SANITIZING || dev_is_gone(d)) {
        return;
    }
    int r = dev_sanitize_resume(d);
    if (r < 0) {
        msg_error("dev", "%s: sanitizing goes on with the next start: %s", d->id.name, err_text(r));
    }
}

/* Once it is decided it is done, whatever becomes of who asked. */
int dev_sanitize_start(struct dev_registry *g, struct dev *d,
                       const struct dev_sanitize_options *opt)
{
    struct dev_overwrite *overwrite;
    int r = dev_overwrite_new(opt, d->id.logical_block_bytes, &overwrite);
    if (r < 0) {
        return r;
    }
    rt_shield();
    r = dev_sanitize_set(g, d, DEV_SANITIZING, opt->ause, overwrite);
    if (r == 0) {
        atomic_store(&d->sanitize_progress, 0);
        r = dev_sanitize_resume(d);
        if (r < 0) {
            int back = dev_sanitize_set(g, d, DEV_SANITIZE_FAILED, opt->ause, NULL);
            r = back < 0 ? back : r;
        }
    }
    rt_unshield();
    return r;
}

int dev_sanitize_wait(struct dev *d)
{
    int r = 0;
    while (r == 0 && dev_sanitize_state(d, NULL) == DEV_SANITIZING && !dev_is_gone(d)) {
        r = rt_sleep_ms(WAIT_MS);
    }
    return r == 0 && dev_sanitize_state(d, NULL) == DEV_SANITIZING ? -ENODEV : r;
}

enum dev_sanitize dev_sanitize_state(const struct dev *d, uint32_t *ret_progress)
{
    if (ret_progress) {
        *ret_progress = atomic_load_explicit(&d->sanitize_progress, memory_order_relaxed);
    }
    return (enum dev_sanitize)atomic_load_explicit(&d->sanitize, memory_order_acquire);
}
