/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Portal groups and ways to targets without a registry, for tests of what stands on dev: the same
 * ways for every target. Included by one test file, it takes the place of dev/paths_store.c.
 */
#pragma once
#include "dev/paths.h"

struct fake_ways {
    struct dev_groups *groups;
    struct dev_paths *paths;
    uint64_t generation;
    int result; /* of a change, which is made all the same when it is fake_entered */
    bool fake_entered;
    void (*meanwhile)(void); /* once, between a change and whoever made it */
};
static struct fake_ways fake_ways;

static inline void fake_ways_reset(void)
{
    dev_groups_unref(fake_ways.groups);
    dev_paths_unref(fake_ways.paths);
    fake_ways = (struct fake_ways){.generation = fake_ways.generation + 1};
}

struct dev_groups *dev_groups_get(struct dev_registry *g)
{
    (void)g;
    return dev_groups_ref(fake_ways.groups);
}

uint16_t dev_portal_tag(struct dev_registry *g, const char *local)
{
    (void)g;
    return dev_groups_tag(fake_ways.groups, local);
}

bool dev_target_is_reached(struct dev_registry *g, const char *iqn, uint16_t tag)
{
    (void)g;
    (void)iqn;
    return dev_paths_reach(fake_ways.paths, tag);
}

size_t dev_path_list(struct dev_registry *g, const char *iqn, const struct uuid *device,
                     struct dev_path ret_paths[DEV_TAGS_MAX], uint64_t *ret_generation)
{
    size_t n = 0;
    size_t made = fake_ways.groups ? fake_ways.groups->groups.len : 0;
    (void)g;
    (void)iqn;
    for (size_t i = 0; i <= made; i++) {
        uint16_t tag = i == 0 ? 1 : fake_ways.groups->groups.at[i - 1].tag;
        if (dev_paths_reach(fake_ways.paths, tag)) {
            ret_paths[n++] = dev_paths_state(fake_ways.paths, device, tag);
        }
    }
    if (ret_generation) {
        *ret_generation = fake_ways.generation;
    }
    return n;
}

int dev_paths_change(struct dev_registry *g, const char *iqn, dev_paths_edit *edit, void *arg)
{
    struct dev_paths *draft = dev_paths_copy(fake_ways.paths);
    (void)g;
    (void)iqn;
    int r = draft ? edit(draft, arg) : -ENOMEM;
    if (r < 0 || (fake_ways.result < 0 && !fake_ways.fake_entered)) {
        dev_paths_unref(draft);
        return r < 0 ? r : fake_ways.result;
    }
    dev_paths_unref(fake_ways.paths);
    fake_ways.paths = draft;
    fake_ways.generation++;
    void (*meanwhile)(void) = fake_ways.meanwhile;
    fake_ways.meanwhile = NULL;
    if (meanwhile) {
        meanwhile();
    }
    return fake_ways.result;
}
