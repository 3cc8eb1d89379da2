/* SPDX-License-Identifier: Apache-2.0 */
#include "main/volume.h"
#include "base/err.h"
#include "base/msg.h"
#include "ctl/access.h"
#include <stdio.h>
#include <sys/prctl.h>

int volume_access(struct config *c, struct crypt_access *store,
                  const struct crypt_access **ret_access)
{
    int r = access_load(c, stderr, store);
    /* Once is enough. */
    crypt_secret_free(c->encryption.password);
    c->encryption.password = NULL;
    if (r < 0) {
        return r;
    }
    *ret_access = r > 0 ? store : NULL;
    if (r > 0 && prctl(PR_SET_DUMPABLE, 0) < 0) {
        msg_warn("main", "core dumps cannot be switched off: %s", err_text(-errno));
    }
    return 0;
}

static int make(const struct volume_options *opt, struct obj_store *store)
{
    const char *url = opt->config->storage.url;
    msg_info("main", "making a new volume at %s, %s", url,
             opt->access ? "encrypted" : "in clear: [encryption] says mode = \"none\"");
    return vol_format(store, &(struct vol_format_options){.access = opt->access});
}

static int open_once(const struct volume_options *opt, struct ops *o)
{
    const struct config *c = opt->config;
    crypt_keys_unref(o->keys);
    o->keys = NULL;
    int r = vol_keys_load(o->store, opt->access, &o->keys);
    if (r == 0) {
        r = obj_prove(o->store); /* a wrong password touches nothing */
    }
    if (r < 0 || opt->keys_only) {
        return r;
    }
    struct vol_options vo = {
        .store = o->store,
        .keys = o->keys,
        .owner = c->storage.owner,
        .takeover = opt->takeover,
        .prefault = !opt->oneshot,
        .compression = c->filesystem.compression,
        .memory_bytes = opt->memory_bytes,
        .max_size_bytes = c->filesystem.max_size_bytes,
        .disk_dir = c->cache.dir,
        .disk_bytes = c->cache.disk_bytes,
        .disk_adopt = opt->oneshot,
    };
    return vol_open(&vo, &o->vol);
}

int volume_open(const struct volume_options *opt, struct ops *o)
{
    int r = open_once(opt, o);
    /* Nothing is there, or a superblock alone: an earlier start was interrupted. */
    if (r == ERR_NOT_A_VOLUME && opt->creates) {
        r = obj_prove(o->store);
        if (r == 0) {
            r = make(opt, o->store);
        }
        if (r == 0) {
            r = open_once(opt, o);
        }
    }
    return r;
}

int volume_close(struct ops *o)
{
    int r = 0;
    if (o->vol) {
        r = vol_close(o->vol);
        o->vol = NULL;
    }
    crypt_keys_unref(o->keys);
    o->keys = NULL;
    struct obj_store *store = o->store;
    o->store = NULL; /* nobody asks it anything while it is being closed */
    obj_close(store);
    return r;
}
