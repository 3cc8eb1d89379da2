/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who is owed a loss (loss.c) is told of it, by its first flush or durable write, until it has
 * heard.
 *
 *     owed --told--> owed, and being told --heard--> owed no more
 *       ^---- the client goes, or the answer ----'
 *
 * Being told is a matter of one attachment (the watch's `debt`), and is not stored: what is stored
 * changes when the client has heard, and so a crash between the two has it told again. Meanwhile
 * the same attachment is not told again; others of that name are, for who has lost its connection
 * before it heard may come back on another one before we notice that.
 *
 * Whether an answer was heard the protocols know: dev_loss_heard(), dev_loss_unheard(). A debt that
 * is given back is everybody's to ask for anew (`round`).
 */
#include "base/assert.h"
#include "base/err.h"
#include "base/msg.h"
#include "base/time.h"
#include "dev/dev_priv.h"
#include "rt/rt.h"

#define SIBLINGS_NS (120 * NS_PER_S)

/* The part of an iSCSI nexus' name that is the initiator's: before ",i,0x" and the ISID. */
static size_t initiator_len(const char *name)
{
    const char *isid = strstr(name, ",i,0x");
    return isid ? (size_t)(isid - name) : strlen(name);
}

/*
 * Some debt of the name's initiator that another of its sessions may be told of, or NULL; one that
 * nobody is being told of, if there is one.
 */
static struct dev_loss_nexus *find_sibling(struct dev_loss_record *rec, const char *name,
                                           bool *ret_changed)
{
    uint64_t now = rt_now_ns();
    size_t len = initiator_len(name);
    struct dev_loss_nexus *found = NULL;
    for (size_t i = 0; i < rec->nexuses.len; i++) {
        struct dev_loss_nexus *n = &rec->nexuses.at[i];
        if (!n->owed || n->alone || initiator_len(n->name) != len ||
            memcmp(n->name, name, len) != 0) {
            continue;
        }
        if (n->until_ns == 0) {
            n->until_ns = now + SIBLINGS_NS;
        }
        if (now > n->until_ns && n->telling == 0) {
            n->alone = *ret_changed = true;
        } else if (!found || n->telling <= found->telling) {
            found = n;
        }
    }
    return found;
}

/*
 * Under d->m. An initiator may come back with other ISIDs: then as many of its sessions are told as
 * there are debts, for a while after the first of them, and for as long as one of them is being
 * told and may not have heard; one that is made much later is not about that loss any more. The
 * debts themselves stay, each for its own nexus, which may come yet: to be told in vain is better
 * than never. Gives the debt, or NULL.
 */
static struct dev_loss_nexus *find_debt(struct dev *d, const char *name, bool *ret_changed)
{
    struct dev_loss_record *rec = &d->loss.record;
    struct dev_loss_nexus *n = dev_loss_find(rec, name);
    if (n && n->told) {
        return NULL;
    }
    return n && n->owed ? n : find_sibling(rec, name, ret_changed);
}

static void save(struct dev *d) WAITS
{
    int r = dev_is_gone(d) ? 0 : dev_loss_write(d);
    if (r < 0) {
        msg_debug("dev", "%s: some may be told again of a loss: %s", d->id.name, err_text(r));
    }
}

/* Under d->m. */
static struct dev_loss_nexus *stop_telling(struct dev *d, struct dev_watch *w)
{
    struct dev_loss_nexus *n = dev_loss_find(&d->loss.record, w->debt);
    ASSERT(n && n->telling > 0);
    n->telling--;
    w->debt = NULL;
    return n;
}

/* Under d->m. Who was told is kept in mind, for it may come again. */
static void remember(struct dev *d, const char *name)
{
    struct dev_loss_nexus *n = dev_loss_find(&d->loss.record, name);
    if (n) {
        n->told = true;
    } else if (dev_loss_add(d, (struct dev_loss_nexus){.told = true}, name) < 0) {
        msg_debug("dev", "%s: %s may be told again", d->id.name, name);
    }
}

/* Under d->m. True when the record has to be written anew. */
static bool hear(struct dev *d, struct dev_watch *w)
{
    struct dev_loss_nexus *n = stop_telling(d, w);
    bool own = strcmp(n->name, w->nexus) == 0;
    bool changed = n->owed && (own || !n->alone);
    if (own) {
        atomic_fetch_sub(&d->loss.owed, n->owed);
        n->owed = n->alone = false;
    } else {
        n->alone = n->owed;
    }
    remember(d, w->nexus);
    return changed;
}

bool dev_loss_give_back(struct dev *d, struct dev_watch *w)
{
    if (!w->debt) {
        return false;
    }
    struct dev_loss_nexus *n = stop_telling(d, w);
    if (!n->owed) {
        return false; /* another one has heard */
    }
    n->until_ns = 0; /* nobody has heard, so whoever comes for it has as long as the first one */
    atomic_fetch_add(&d->loss.round, 1);
    return true;
}

static void save_changes(void *arg)
{
    struct dev *d = arg;
    rt_lock_take(&d->loss.lock);
    if (atomic_exchange(&d->loss.unsaved, false)) {
        save(d);
    }
    rt_lock_release(&d->loss.lock);
    dev_unref(d);
}

/* Nobody waits for it: until the record is stored, some may be told again. */
static void save_soon(struct dev *d)
{
    if (atomic_exchange(&d->loss.unsaved, true)) {
        return; /* a fiber is on its way */
    }
    if (rt_group_spawn(d->registry->work, "dev told", save_changes, dev_ref(d)) < 0) {
        atomic_store(&d->loss.unsaved, false); /* whoever writes the record next says it too */
        dev_unref(d);
    }
}

void dev_loss_heard(struct dev *d, struct dev_watch *w)
{
    rt_mutex_lock(&d->m);
    bool changed = w->debt && hear(d, w);
    rt_mutex_unlock(&d->m);
    if (changed) {
        save_soon(d);
    }
}

void dev_loss_unheard(struct dev *d, struct dev_watch *w)
{
    rt_mutex_lock(&d->m);
    bool told = dev_loss_give_back(d, w);
    rt_mutex_unlock(&d->m);
    if (told) {
        dev_loss_say_unheard(d, w);
    }
}

void dev_loss_say_unheard(const struct dev *d, const struct dev_watch *w)
{
    msg_info("dev", "%s: %s may not have heard that writes were lost: it is to be told again",
             d->id.name, w->who);
}

int dev_check_loss(struct dev *d, struct dev_watch *w)
{
    bool changed = false;
    struct dev_loss_nexus *n = NULL;
    if (likely(atomic_load_explicit(&d->loss.owed, memory_order_relaxed) == 0)) {
        return 0;
    }
    if (rt_cancelled()) {
        return -ECANCELED; /* nobody would hear it */
    }
    /* Debts are made at openings, or given back. */
    if (w->debt || w->asked == atomic_load(&d->loss.round)) {
        return 0;
    }
    rt_mutex_lock(&d->m);
    w->asked = atomic_load(&d->loss.round);
    n = find_debt(d, w->nexus, &changed);
    if (n) {
        n->telling++;
        w->debt = n->name;
    }
    rt_mutex_unlock(&d->m);
    if (changed) {
        save_soon(d);
    }
    if (!n) {
        return 0;
    }
    msg_warn("dev", "%s: %s is told that unflushed writes were lost", d->id.name, w->who);
    return ERR_CACHE_LOST;
}
