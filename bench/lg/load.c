/* SPDX-License-Identifier: Apache-2.0 */
/* One connection under load: submit while slots are free, send it all, receive what is there, take
 * it apart. */
#include "lg.h"
#include <stdlib.h>

static uint64_t next_offset(struct lg_conn *c)
{
    uint64_t blocks = lg_options.device_size / lg_options.block_size;
    if (!lg_options.sequential) {
        return rng_below(&c->rng, blocks) * lg_options.block_size;
    }
    return c->next_block++ % blocks * lg_options.block_size;
}

static enum lg_op next_op(struct lg_conn *c)
{
    if (lg_options.flush_every > 0 && c->writes_since_flush >= lg_options.flush_every) {
        c->writes_since_flush = 0;
        return LG_FLUSH;
    }
    if (rng_below(&c->rng, 100) >= lg_options.write_percent) {
        return LG_READ;
    }
    c->writes_since_flush++;
    return LG_WRITE;
}

static void submit(struct lg_conn *c)
{
    uint32_t slot = c->free_slots[--c->free_count];
    struct lg_slot *s = &c->slots[slot];
    s->op = next_op(c);
    s->offset = s->op == LG_FLUSH ? 0 : next_offset(c);
    s->began_ns = lg_now_ns();
    c->bytes_begun += s->op == LG_FLUSH ? 0 : lg_options.block_size;
    c->proto->submit(c, slot);
}

void lg_complete(struct lg_conn *c, uint64_t slot)
{
    if (slot >= lg_options.depth || c->slots[slot].began_ns == 0) {
        lg_die("the server answered a request that was not made");
    }
    struct lg_slot *s = &c->slots[slot];
    lg_stats_add(&c->stats, lg_now_ns() - s->began_ns);
    c->stats.bytes += s->op == LG_FLUSH ? 0 : lg_options.block_size;
    s->began_ns = 0;
    c->free_slots[c->free_count++] = (uint32_t)slot;
}

/* Throws data away; true when a message may follow. */
static bool skip(struct lg_conn *c)
{
    struct lg_wire *w = &c->wire;
    uint64_t n = MIN_OF(w->rx_skip, (uint64_t)(w->rx_tail - w->rx_head));
    lg_wire_used(w, n);
    w->rx_skip -= n;
    if (w->rx_skip > 0) {
        return false;
    }
    if (c->finishing >= 0) {
        lg_complete(c, (uint64_t)c->finishing);
        c->finishing = -1;
    }
    return true;
}

static void conn_init(struct lg_conn *c)
{
    c->slots = calloc(lg_options.depth, sizeof *c->slots);
    c->free_slots = calloc(lg_options.depth, sizeof *c->free_slots);
    if (!c->slots || !c->free_slots) {
        lg_die("no memory");
    }
    for (uint32_t i = 0; i < lg_options.depth; i++) {
        c->free_slots[i] = lg_options.depth - 1 - i;
    }
    c->free_count = lg_options.depth;
    c->finishing = -1;
}

void lg_conn_run(struct lg_conn *c)
{
    conn_init(c);
    uint64_t began_ns = lg_now_ns();
    uint64_t end_ns = began_ns + (uint64_t)(lg_options.seconds * 1e9);
    for (;;) {
        bool stop = lg_now_ns() >= end_ns ||
                    (lg_options.bytes_max > 0 && c->bytes_begun >= lg_options.bytes_max);
        while (!stop && c->free_count > 0 && c->proto->may_submit(c)) {
            submit(c);
        }
        if (c->wire.iov_count > 0) {
            lg_wire_flush(&c->wire);
        }
        if (stop && c->free_count == lg_options.depth) {
            break;
        }
        if (c->free_count < lg_options.depth) {
            lg_wire_fill(&c->wire);
            while (skip(c) && c->proto->parse(c)) {
            }
        }
    }
    c->seconds_used = (double)(lg_now_ns() - began_ns) / 1e9;
    free(c->slots);
    free(c->free_slots);
}
