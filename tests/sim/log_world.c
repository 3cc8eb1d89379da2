/* SPDX-License-Identifier: Apache-2.0 */
/* What watches the simulated processes: the spy at the store and the probe below each log. */
#include "log_world.h"
#include "base/assert.h"
#include "base/hash.h"
#include "layer.h"
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

const struct uuid world_volume = {{'w', 'o', 'r', 'l', 'd'}};
struct crypt_keys *world_keys;

void world_keys_choose(uint64_t seed)
{
    static const uint8_t key[CRYPT_KEY_BYTES] = {1};
    enum crypt_cipher cipher = seed % (CRYPT_CHACHA20_POLY1305 + 1);
    crypt_keys_unref(world_keys);
    world_keys = NULL;
    int r = cipher == CRYPT_NONE ? 0 : crypt_keys_create(key, cipher, &world_keys);
    ASSERT(r == 0);
}

void world_violation(const struct world *w, const char *invariant, const char *fmt, ...)
{
    char text[512];
    va_list ap;
    va_start(ap, fmt);
    (void)vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    (void)printf("seed %" PRIu64 ": %s: %s\n", w->seed, invariant, text);
    (void)fflush(stdout);
    _exit(WORLD_VIOLATION);
}

void world_manifest_name(uint64_t n, char ret_name[OBJ_NAME_SIZE])
{
    (void)snprintf(ret_name, OBJ_NAME_SIZE, "manifest/%016" PRIx64, ~n);
}

void world_sst_name(uint64_t id, char ret_name[OBJ_NAME_SIZE])
{
    (void)snprintf(ret_name, OBJ_NAME_SIZE, "sst/%016" PRIx64, id);
}

/* Not a CRC: units that end in their own CRC would all look alike to it. */
static uint64_t chain_hash(const struct rt_chain *body)
{
    const struct rt_piece *p = rt_chain_pieces(body);
    uint64_t hash = 1;
    for (uint32_t i = 0; i < body->count; i++) {
        hash = hash_pair(hash, hash_bytes(p[i].data, p[i].len));
    }
    return hash;
}

static void header_of(const struct world *w, const struct rt_chain *body, struct segment_header *h)
{
    uint8_t bytes[SEGMENT_HEADER_BYTES];
    const char *why = NULL;
    rt_chain_copy_out(body, 0, bytes, sizeof bytes);
    if (segment_header_decode(bytes, sizeof bytes, h, &why) < 0) {
        world_violation(w, "format", "a segment that does not decode was sent: %s", why);
    }
}

/* The spy. */

struct spy {
    struct obj_store base;
    struct world *w;
};

static struct world *spied(struct obj_store *s)
{
    return container_of(s, struct spy, base)->w;
}

static void segment_landed(struct world *w, uint64_t seq, const struct rt_chain *body)
{
    struct segment_header h;
    header_of(w, body, &h);
    if (seq >= WORLD_SLOTS) {
        world_violation(w, "size", "the simulator has too few slots");
    }
    struct world_slot *slot = &w->slots[seq];
    *slot = (struct world_slot){
        .ever = true,
        .fence = h.kind == SEGMENT_FENCE,
        .was_data = slot->was_data || h.kind == SEGMENT_DATA,
        .epoch = h.epoch,
    };
    if (h.kind == SEGMENT_FENCE || w->rules.outcome_only) {
        return;
    }
    for (uint64_t s = seq; s-- > 1 && w->slots[s].epoch == h.epoch && !w->slots[s].fence;) {
        if (s <= h.stored_through && !w->slots[s].ever) {
            world_violation(w, "I8", "segment %" PRIu64 " says that %" PRIu64 " was stored", seq,
                            s);
        }
    }
}

static uint64_t manifest_number(const char *name)
{
    uint64_t inverted = 0;
    return sscanf(name, "manifest/%16" SCNx64, &inverted) == 1 ? ~inverted : 0;
}

static void manifest_landed(struct world *w, const char *name, const struct rt_chain *body)
{
    struct world_manifest m;
    rt_chain_copy_out(body, 0, &m, sizeof m);
    if (!m.is_first && manifest_number(name) < WORLD_SLOTS) {
        w->was_common[manifest_number(name)] = true;
    }
    for (uint64_t s = w->replay_max; s < m.replay_from && !w->rules.outcome_only; s++) {
        if (!w->slots[s].ever && w->slots[s].epoch == m.log_epoch && s >= 1) {
            world_violation(w, "I6", "a manifest replays from %" PRIu64 ", %" PRIu64 " is missing",
                            m.replay_from, s);
        }
    }
    w->replay_max = MAX_OF(w->replay_max, m.replay_from);
}

static int spy_put(struct obj_store *s, enum obj_class c, const char *name,
                   const struct rt_chain *body)
{
    int r = obj_put(s->next, c, name, body);
    uint64_t seq;
    if (r == 0 && segment_of(name, &seq)) {
        segment_landed(spied(s), seq, body);
    }
    if (r == 0 && strncmp(name, "manifest/", 9) == 0) {
        manifest_landed(spied(s), name, body);
    }
    return r;
}

static int spy_remove(struct obj_store *s, enum obj_class c, const char *name)
{
    struct world *w = spied(s);
    uint64_t seq;
    if (segment_of(name, &seq) && !w->rules.outcome_only) {
        if (w->slots[seq].fence && !w->slots[seq].was_data) {
            world_violation(w, "I5", "the fence at %" PRIu64 " is deleted", seq);
        }
        if (seq >= w->replay_max) {
            world_violation(w, "I7", "segment %" PRIu64 " is deleted, replay is from %" PRIu64, seq,
                            w->replay_max);
        }
    }
    struct world_manifest m;
    if (strncmp(name, "manifest/", 9) == 0 && !w->rules.outcome_only &&
        !w->was_common[manifest_number(name) % WORLD_SLOTS] &&
        obj_get(s->next, c, name, 0, &m, sizeof m) == sizeof m && m.is_first) {
        world_violation(w, "I5", "the first manifest of epoch %" PRIu64 " is deleted", m.epoch);
    }
    return obj_remove(s->next, c, name);
}

static void spy_close(struct obj_store *s)
{
    obj_close(s->next);
    free(container_of(s, struct spy, base));
}

int world_spy(struct world *w, struct obj_store *below, struct obj_store **ret_store)
{
    static const struct obj_ops ops = {
        .name = "spy",
        .put = spy_put,
        .get = layer_get,
        .head = layer_head,
        .list = layer_list,
        .remove = spy_remove,
        .close = spy_close,
    };
    struct spy *p = calloc(1, sizeof *p);
    if (!p) {
        return -ENOMEM;
    }
    p->base.ops = &ops;
    p->base.next = below;
    p->w = w;
    *ret_store = &p->base;
    return 0;
}

/* The probe. */

struct probe {
    struct obj_store base;
    struct world *w;
    uint32_t *instance;
    uint32_t of_instance;       /* whose bytes these are */
    uint64_t sent[WORLD_SLOTS]; /* hash of the bytes sent for a number; 0 = none yet */
};

static void check_sent(struct probe *p, uint64_t seq, const struct rt_chain *body)
{
    struct world *w = p->w;
    struct segment_header h;
    header_of(w, body, &h);
    if (p->of_instance != *p->instance) {
        memset(p->sent, 0, sizeof p->sent);
        p->of_instance = *p->instance;
    }
    uint64_t hash = chain_hash(body) | 1;
    if (p->sent[seq] != 0 && p->sent[seq] != hash) {
        world_violation(w, "I1", "the bytes of segment %" PRIu64 " changed", seq);
    }
    p->sent[seq] = hash;
    const struct world_instance *in = &w->instances[*p->instance];
    if (h.kind == SEGMENT_FENCE || seq < in->first_seq + log_window()) {
        return;
    }
    for (uint64_t s = in->first_seq; s <= seq - log_window(); s++) {
        if (!w->slots[s].ever) {
            world_violation(w, "I2", "segment %" PRIu64 " is sent and %" PRIu64 " is not stored",
                            seq, s);
        }
    }
}

static int probe_put(struct obj_store *s, enum obj_class c, const char *name,
                     const struct rt_chain *body)
{
    struct probe *p = container_of(s, struct probe, base);
    uint64_t seq;
    if (segment_of(name, &seq) && seq < WORLD_SLOTS && !p->w->rules.outcome_only) {
        check_sent(p, seq, body);
    }
    return obj_put(s->next, c, name, body);
}

static int pass_remove(struct obj_store *s, enum obj_class c, const char *name)
{
    return obj_remove(s->next, c, name);
}

static void probe_close(struct obj_store *s)
{
    obj_close(s->next);
    free(container_of(s, struct probe, base));
}

int world_probe(struct world *w, uint32_t *instance, struct obj_store *below,
                struct obj_store **ret_store)
{
    static const struct obj_ops ops = {
        .name = "probe",
        .put = probe_put,
        .get = layer_get,
        .head = layer_head,
        .list = layer_list,
        .remove = pass_remove,
        .close = probe_close,
    };
    struct probe *p = calloc(1, sizeof *p);
    if (!p) {
        return -ENOMEM;
    }
    p->base.ops = &ops;
    p->base.next = below;
    p->w = w;
    p->instance = instance;
    p->of_instance = UINT32_MAX;
    *ret_store = &p->base;
    return 0;
}
