/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The administrator's operations, one function for both ways: a one-shot command that has opened
 * the volume itself, and the admin socket of a running server, call ops_run() with the same JSON
 * and get the same JSON. docs/CLI.md has the schema.
 *
 *     request   {"op": "nbd.create", "name": "disk", "size": 10737418240, "write_cache": true}
 *     response  {"ok": true, "result": {...}}
 *               {"ok": false, "error": {"kind": "exists", "message": "..."}}
 */
#pragma once
#include "base/attr.h"
#include "dev/dev.h"
#include "iscsi/iscsi.h"
#include "nbd/nbd.h"
#include "obj/obj.h"
#include "rt/sync.h"
#include <jansson.h>

/* What went wrong, as the exit code of a command shows it (docs/CLI.md). */
enum ops_exit {
    OPS_OK = 0,
    OPS_FAILED = 1,
    OPS_USAGE = 2,
    OPS_CONFIG = 3,
    OPS_NOT_FOUND = 4,
    OPS_EXISTS = 5,
    OPS_REFUSED = 6, /* attached, or --force is needed */
    OPS_HELD = 7,    /* the volume is open elsewhere */
    OPS_STORE = 8,   /* the store, or I/O on it, failed */
};

/* What the operations act on. The servers are NULL in a one-shot command. */
struct ops {
    struct obj_store *store;
    struct crypt_keys *keys; /* NULL: the volume is not encrypted */
    struct vol *vol;
    struct dev_registry *registry;
    struct nbd_server *nbd;
    struct iscsi_server *iscsi;
    const char *url;
    const char *owner;
    uint64_t memory_bytes;
    uint64_t started_ns; /* wall clock */
    struct rt_lock one;  /* one command at a time (RT_RANK_ADMIN) */
};

/* Carries the request out: a new response object, NULL only when out of memory. */
json_t *ops_run(struct ops *o, const json_t *request) WAITS;
/* A failure response; JSON null, which counts as one, when out of memory. */
json_t *ops_failure(enum ops_exit kind, const char *fmt, ...) PRINTF_LIKE(2, 3);
/* The exit code that a response stands for. */
enum ops_exit ops_exit_of(const json_t *response);
/* The kind of an error result r of the volume or the store. */
enum ops_exit ops_exit_of_error(int r);
