/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The load client: keeps a number of operations in flight on each of its connections and counts. It
 * speaks just enough of NBD and iSCSI, batches what it sends and receives, and throws data away
 * unread, so that what is measured is the server. One thread a connection, blocking sockets.
 *
 *     main.c    options, threads, the report
 *     load.c    what to do next; one connection's loop
 *     wire.c    a socket with a send queue and a receive buffer
 *     nbd.c, iscsi.c    a protocol each, behind struct lg_proto
 *     stats.c   latencies
 */
#pragma once
#include "base/attr.h"
#include "base/rng.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#define LG_RX_SIZE (4u << 20)
#define LG_PAYLOAD_SIZE (4u << 20)
#define LG_HEADERS_SIZE (256u << 10)
#define LG_IOV_MAX 1000
#define LG_BUCKETS 14592 /* as stats.c divides 64 bits */

struct lg_options {
    bool iscsi;
    const char *host; /* or unix:/path */
    const char *port;
    const char *name; /* export or target */
    unsigned write_percent;
    unsigned flush_every; /* a flush after so many writes; 0 = none */
    bool durable;         /* each write: FUA */
    bool sequential;
    bool digests; /* iSCSI: CRC32C of headers and data */
    uint32_t block_size;
    uint32_t depth;
    double seconds;
    uint64_t bytes_max;   /* per connection; 0 = no bound */
    uint64_t device_size; /* how much of the device is used */
    unsigned connections;
    unsigned lun;
};

extern struct lg_options lg_options;
extern uint8_t *lg_payload; /* LG_PAYLOAD_SIZE bytes that do not compress */

enum lg_op {
    LG_READ,
    LG_WRITE,
    LG_FLUSH
};

struct lg_slot {
    uint64_t began_ns;
    uint64_t offset;
    enum lg_op op;
};

struct lg_stats {
    uint64_t ops;
    uint64_t bytes;
    uint32_t buckets[LG_BUCKETS]; /* of latency */
};

struct lg_wire {
    int fd;
    uint8_t *rx;
    size_t rx_head;
    size_t rx_tail;
    uint64_t rx_skip; /* bytes to throw away */
    uint8_t *headers;
    size_t headers_used;
    struct iovec iov[LG_IOV_MAX];
    unsigned iov_count;
};

struct lg_iscsi {
    uint32_t cmd_sn;
    uint32_t max_cmd_sn;
    uint32_t exp_stat_sn;
    uint32_t segment_max; /* the target's MaxRecvDataSegmentLength */
    uint32_t first_burst;
    bool immediate_data;
    bool initial_r2t;
    bool digests; /* in force */
};

struct lg_conn {
    const struct lg_proto *proto;
    struct lg_wire wire;
    struct lg_iscsi iscsi;
    struct lg_slot *slots; /* depth of them; the index is the request's tag */
    uint32_t *free_slots;
    uint32_t free_count;
    int64_t finishing; /* slot that is complete when rx_skip is used up; -1 none */
    struct rng rng;
    uint64_t next_block;
    uint32_t writes_since_flush;
    uint64_t bytes_begun;
    double seconds_used;
    struct lg_stats stats;
};

struct lg_proto {
    void (*login)(struct lg_conn *c); /* also bounds lg_options.device_size */
    bool (*may_submit)(const struct lg_conn *c);
    void (*submit)(struct lg_conn *c, uint32_t slot);
    /* Takes one message of which all but the data may be there; false when more is needed. */
    bool (*parse)(struct lg_conn *c);
};

extern const struct lg_proto lg_nbd;
extern const struct lg_proto lg_iscsi;

/* main.c */
NORETURN void lg_die(const char *what);
uint64_t lg_now_ns(void);
/* A decimal number of at most max; ends the program when it is none. */
uint64_t lg_number(const char *text, uint64_t max);

/* load.c */
void lg_conn_run(struct lg_conn *c);
/* The operation of the slot is complete. */
void lg_complete(struct lg_conn *c, uint64_t slot);

/* wire.c: all of them end the program on errors. */
void lg_wire_open(struct lg_wire *w);
void lg_wire_write(struct lg_wire *w, const void *data, size_t len); /* at once */
void lg_wire_read(struct lg_wire *w, void *dst, size_t len); /* exactly; before the load begins */
uint8_t *lg_wire_header(struct lg_wire *w, size_t len);      /* queued, zeroed */
/* Queues data for that place of the device, and gives them. */
const uint8_t *lg_wire_payload(struct lg_wire *w, uint64_t offset, size_t len);
void lg_wire_flush(struct lg_wire *w);
void lg_wire_fill(struct lg_wire *w);
/* The next len bytes if they are there, else NULL; lg_wire_used() passes over them. */
const uint8_t *lg_wire_peek(const struct lg_wire *w, size_t len);
void lg_wire_used(struct lg_wire *w, size_t len);

/* stats.c */
void lg_stats_add(struct lg_stats *s, uint64_t ns);
void lg_stats_merge(struct lg_stats *into, const struct lg_stats *from);
double lg_stats_quantile_us(const struct lg_stats *s, double q);
