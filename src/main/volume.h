/* SPDX-License-Identifier: Apache-2.0 */
/* Opening the volume that a configuration names: for the server and for one-shot commands. */
#pragma once
#include "crypt/wrap.h"
#include "ctl/config.h"
#include "ctl/ops.h"

/*
 * Reads the secret that opens the volume, before there are fibers: the access, or NULL in
 * *ret_access when the volume is not encrypted. A process that holds one is not dumped any more. 0,
 * or ERR_CONFIG after a message.
 */
MUST int volume_access(struct config *c, struct crypt_access *store,
                       const struct crypt_access **ret_access);

struct volume_options {
    const struct config *config;
    const struct crypt_access *access; /* NULL: not encrypted */
    bool takeover;
    bool creates; /* where there is none */
    bool keys_only;
    bool oneshot; /* not the server */
    uint64_t memory_bytes;
};

/* Opens o->store, which is open, as o->keys and o->vol. What is open after an error is closed by
 * volume_close() as well. */
MUST int volume_open(const struct volume_options *opt, struct ops *o) WAITS;
/* Closes volume and store, as far as they are open. The first error. */
MUST int volume_close(struct ops *o) WAITS;
