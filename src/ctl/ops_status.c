/* SPDX-License-Identifier: Apache-2.0 */
#include "base/time.h"
#include "ctl/ops_priv.h"
#include "ctl/version.h"
#include "isns/isns.h"
#include "rt/rt.h"

#define HISTOGRAM_SLOTS 32

static const char *const class_names[OBJ_CLASSES] = {"commit",   "index",      "read",
                                                     "prefetch", "compaction", "collection"};
static const char *const request_names[OBJ_KINDS] = {"put", "get", "head", "list", "delete"};

/* Slot i counts latencies below 2^i us; trailing zeros are left out. */
static json_t *histogram_json(const uint64_t slots[HISTOGRAM_SLOTS])
{
    json_t *list = json_array();
    int last = HISTOGRAM_SLOTS - 1;
    while (last >= 0 && slots[last] == 0) {
        last--;
    }
    for (int i = 0; i <= last; i++) {
        json_array_append_new(list, json_integer((json_int_t)slots[i]));
    }
    return list;
}

static json_t *volume_json(struct ops *o)
{
    struct vol_counts c;
    struct uuid uuid;
    char text[UUID_TEXT_SIZE];
    char compression[LOG_COMPRESSION_TEXT];
    vol_counts(o->vol, &c);
    vol_uuid(o->vol, &uuid);
    uuid_format(&uuid, text);
    log_compression_text(vol_compression(o->vol), compression);
    return json_pack(
        "{s:s, s:s, s:s, s:s, s:b, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, "
        "s:I}",
        "url", o->url, "uuid", text, "compression", compression, "encryption",
        crypt_cipher_name(crypt_keys_cipher(o->keys)), "fenced", vol_is_fenced(o->vol),
        "undurable_bytes", (json_int_t)c.undurable_bytes, "dirty_bytes", (json_int_t)c.dirty_bytes,
        "dirty_limit_bytes", (json_int_t)c.dirty_limit_bytes, "batches", (json_int_t)c.batches_open,
        "segments_in_flight", (json_int_t)c.segments_in_flight, "segments_stored",
        (json_int_t)c.segments_stored, "segments_live", (json_int_t)c.segments_live, "live_blocks",
        (json_int_t)c.live_blocks, "range_holes", (json_int_t)c.range_holes, "bad_pages",
        (json_int_t)c.bad_pages, "flushes", (json_int_t)c.flushes, "rotations",
        (json_int_t)c.rotations, "stored_through", (json_int_t)c.stored_through);
}

static json_t *cache_json(struct ops *o)
{
    struct vol_counts c;
    vol_counts(o->vol, &c);
    return json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "hits", (json_int_t)c.cache_hits,
                     "misses", (json_int_t)c.cache_misses, "bytes", (json_int_t)c.cache_bytes,
                     "capacity_bytes", (json_int_t)c.cache_capacity_bytes, "evictions",
                     (json_int_t)c.cache_evictions, "read_ahead_used", (json_int_t)c.ahead_used,
                     "read_ahead_wasted", (json_int_t)c.ahead_wasted);
}

/* NULL when there is none. */
static json_t *disk_cache_json(struct ops *o)
{
    struct vol_counts c;
    vol_counts(o->vol, &c);
    const struct cache_disk_counts *d = &c.disk;
    if (!c.disk_cache) {
        return NULL;
    }
    return json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:b}",
                     "hits", (json_int_t)d->hits, "misses", (json_int_t)d->misses, "bytes",
                     (json_int_t)d->used_bytes, "capacity_bytes", (json_int_t)d->capacity_bytes,
                     "entries", (json_int_t)d->entries, "evictions", (json_int_t)d->evictions,
                     "dropped", (json_int_t)d->dropped, "passed_by", (json_int_t)d->passed_by,
                     "corrupt", (json_int_t)d->corrupt, "errors", (json_int_t)d->errors, "timeouts",
                     (json_int_t)d->timeouts, "bytes_read", (json_int_t)d->read_bytes,
                     "bytes_written", (json_int_t)d->written_bytes, "bypassed", d->bypassed);
}

/* The latencies of one kind of request, by class. */
static json_t *latency_json(struct ops *o, const struct obj_counts *c, int kind)
{
    json_t *classes = json_object();
    for (int i = 0; i < OBJ_CLASSES; i++) {
        uint64_t slots[HISTOGRAM_SLOTS];
        if (c->requests[i][kind] > 0) {
            obj_latency(o->store, (enum obj_class)i, (enum obj_kind)kind, slots);
            json_object_set_new(classes, class_names[i], histogram_json(slots));
        }
    }
    return classes;
}

static json_t *store_json(struct ops *o)
{
    struct obj_counts c;
    obj_counts(o->store, &c);
    json_t *requests = json_object(), *errors = json_object(), *latency = json_object();
    json_t *latency_by_class = json_object();
    for (int k = 0; k < OBJ_KINDS; k++) {
        json_t *by_class = json_object();
        uint64_t failed = 0;
        for (int i = 0; i < OBJ_CLASSES; i++) {
            failed += c.errors[i][k];
            if (c.requests[i][k] > 0) {
                json_object_set_new(by_class, class_names[i],
                                    json_integer((json_int_t)c.requests[i][k]));
            }
        }
        const char *name = request_names[k];
        json_object_set_new(requests, name, by_class);
        json_object_set_new(errors, name, json_integer((json_int_t)failed));
        json_object_set_new(latency, name, histogram_json(c.latency_us_log2[k]));
        json_object_set_new(latency_by_class, name, latency_json(o, &c, k));
    }
    return json_pack("{s:I, s:o, s:o, s:I, s:I, s:o, s:o}", "away_ms",
                     (json_int_t)obj_away_ms(o->store), "requests", requests, "errors", errors,
                     "bytes_in", (json_int_t)c.bytes_in, "bytes_out", (json_int_t)c.bytes_out,
                     "latency_us_log2", latency, "latency_us_log2_by_class", latency_by_class);
}

static json_t *memory_json(struct ops *o)
{
    json_t *owners = json_object();
    uint64_t sum = 0;
    for (int i = 0; i < RT_MEM_OWNERS; i++) {
        uint64_t used = rt_mem_used((enum rt_mem)i);
        sum += used;
        json_object_set_new(owners, rt_mem_name((enum rt_mem)i), json_integer((json_int_t)used));
    }
    return json_pack("{s:I, s:I, s:o}", "limit_bytes", (json_int_t)o->memory_bytes,
                     "accounted_bytes", (json_int_t)sum, "by_owner", owners);
}

static json_t *nbd_json(const struct nbd_server *s)
{
    struct nbd_counts c;
    nbd_counts(s, &c);
    return json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:o}", "connections",
                     (json_int_t)c.connections, "handshakes", (json_int_t)c.handshakes,
                     "handshake_failures", (json_int_t)c.handshake_failures, "requests",
                     (json_int_t)c.requests, "errors", (json_int_t)c.errors, "bytes_in",
                     (json_int_t)c.bytes_in, "bytes_out", (json_int_t)c.bytes_out,
                     "latency_us_log2", histogram_json(c.latency_us_log2));
}

static json_t *iscsi_json(const struct iscsi_server *s)
{
    struct iscsi_counts c;
    iscsi_counts(s, &c);
    return json_pack(
        "{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:o}", "sessions", (json_int_t)c.sessions,
        "connections", (json_int_t)c.connections, "logins", (json_int_t)c.logins, "login_failures",
        (json_int_t)c.login_failures, "auth_failures", (json_int_t)c.auth_failures, "commands",
        (json_int_t)c.commands, "digest_errors", (json_int_t)c.digest_errors, "rejects",
        (json_int_t)c.rejects, "latency_us_log2", histogram_json(c.latency_us_log2));
}

/* NULL when there is none. */
static json_t *isns_json(struct iscsi_server *s)
{
    struct isns_counts c;
    if (!iscsi_isns_counts(s, &c)) {
        return NULL;
    }
    json_t *isns = json_pack(
        "{s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "state",
        isns_state_name(c.state), "state_seconds",
        (json_int_t)((rt_now_ns() - c.since_ns) / NS_PER_S), "targets", (json_int_t)c.targets,
        "portals", (json_int_t)c.portals, "period_seconds", (json_int_t)c.period_s,
        "esi_interval_seconds", (json_int_t)c.esi_s, "registrations", (json_int_t)c.registrations,
        "failures", (json_int_t)c.failures, "inquiries", (json_int_t)c.inquiries, "notifications",
        (json_int_t)c.notifications, "restricted_targets", (json_int_t)c.restricted);
    if (isns && *c.why) {
        json_object_set_new(isns, "reason", json_string(c.why));
    }
    return isns;
}

json_t *ops_status(struct ops *o, const json_t *request)
{
    (void)request;
    bool live = o->nbd || o->iscsi || o->started_ns > 0;
    json_t *status =
        json_pack("{s:s, s:b, s:s, s:o, s:o, s:o, s:o}", "version", ZEROFS_VERSION, "running", live,
                  "owner", o->owner, "volume", volume_json(o), "block_cache", cache_json(o),
                  "store", store_json(o), "memory", memory_json(o));
    if (status && o->started_ns > 0) {
        uint64_t up_ns = time_wall_ns() - o->started_ns;
        json_object_set_new(status, "uptime_seconds", json_integer((json_int_t)(up_ns / NS_PER_S)));
    }
    json_t *disk = status ? disk_cache_json(o) : NULL;
    if (disk) {
        json_object_set_new(status, "disk_cache", disk);
    }
    if (status && o->nbd) {
        json_object_set_new(status, "nbd", nbd_json(o->nbd));
    }
    if (status && o->iscsi) {
        json_object_set_new(status, "iscsi", iscsi_json(o->iscsi));
        json_t *isns = isns_json(o->iscsi);
        if (isns) {
            json_object_set_new(status, "isns", isns);
        }
    }
    return ops_success(status);
}
