/* SPDX-License-Identifier: Apache-2.0 */
/* Who is attached to a device, and telling them of its changes. */
#include "base/assert.h"
#include "dev/dev_priv.h"
#include <stdio.h>

int dev_attach(struct dev *d, const char *who, const char *nexus, struct dev_watch *w)
{
    snprintf(w->who, sizeof w->who, "%s", who);
    w->nexus = nexus;
    w->asked = 0;
    w->debt = NULL;
    rt_mutex_lock(&d->m);
    int r = dev_is_gone(d) ? -ENODEV : 0;
    if (r == 0) {
        list_push_back(&d->watches, &w->link);
        d->attached++;
        dev_loss_attached(d, nexus);
    }
    rt_mutex_unlock(&d->m);
    return r;
}

void dev_detach(struct dev *d, struct dev_watch *w)
{
    rt_mutex_lock(&d->m);
    ASSERT(d->attached > 0);
    d->attached--;
    list_remove(&w->link);
    bool unheard = dev_loss_give_back(d, w);
    rt_mutex_unlock(&d->m);
    if (unheard) {
        dev_loss_say_unheard(d, w);
    }
}

/* Under d->m, so that a watcher that detaches on another core is told before or not at all. */
void dev_notify(struct dev *d, enum dev_event event)
{
    rt_mutex_lock(&d->m);
    list_for_each(&d->watches, struct dev_watch, link, w) {
        w->fn(w, event);
    }
    rt_mutex_unlock(&d->m);
}

size_t dev_attached(struct dev *d, char (*ret_who)[128], size_t max)
{
    size_t n = 0;
    rt_mutex_lock(&d->m);
    list_for_each(&d->watches, struct dev_watch, link, w) {
        if (n == max) {
            break;
        }
        memcpy(ret_who[n++], w->who, sizeof w->who);
    }
    rt_mutex_unlock(&d->m);
    return n;
}
