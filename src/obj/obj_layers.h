/* SPDX-License-Identifier: Apache-2.0 */
/* The single layers and backends, for those who build a stack of their own (tests, the simulator).
 * A layer owns `below`. */
#pragma once
#include "obj/obj.h"

MUST int obj_file_open(const char *folder, struct obj_store **ret_store) WAITS;
MUST int obj_mem_open(struct obj_store **ret_store);
/* prefix is empty or ends in '/'. */
MUST int obj_s3_open(const char *bucket, const char *prefix, const struct obj_s3_options *opt,
                     struct obj_store **ret_store) WAITS;

struct obj_retry_options {
    uint64_t first_backoff_ms; /* 0 = 50 */
    uint64_t max_backoff_ms;   /* 0 = 5000 */
    uint64_t give_up_ms;       /* 0 = never */
    bool denial_passes;        /* -EACCES too may pass, once obj_outlast() was called */
};
MUST int obj_retry_wrap(struct obj_store *below, const struct obj_retry_options *opt,
                        struct obj_store **ret_store);

struct obj_delay_options {
    uint64_t min_ms;
    uint64_t max_ms;
};
MUST int obj_delay_wrap(struct obj_store *below, const struct obj_delay_options *opt,
                        struct obj_store **ret_store);

/* Probabilities of 0..1 per request. */
struct obj_fault_options {
    uint64_t seed;
    double fail_before; /* the request does not reach the store, -EIO */
    double fail_after;  /* it does, and the reply is lost: -ETIMEDOUT */
    double duplicate;   /* it is carried out again at some later time */
    double late;        /* -ETIMEDOUT now, carried out at some later time */
    uint64_t late_ms;   /* how much later at most */
    /* Down for a while: every request fails with -EAGAIN until this time of rt_now_ns(). */
    uint64_t down_until_ns;
};
MUST int obj_fault_wrap(struct obj_store *below, const struct obj_fault_options *opt,
                        struct obj_store **ret_store);
/* Changes the options of a fault layer while it is in use. */
void obj_fault_set(struct obj_store *fault_layer, const struct obj_fault_options *opt);

MUST int obj_stats_wrap(struct obj_store *below, struct obj_store **ret_store);
/* A layer that shares a store that it does not own: closing it leaves `shared` open. */
MUST int obj_share(struct obj_store *shared, struct obj_store **ret_store);
