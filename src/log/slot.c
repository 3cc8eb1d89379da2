/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reading what is in a slot of the log. One request does for a small segment: the first 128 KiB are
 * asked for, and a short answer is the whole object. Of a larger one only the suffix is fetched, in
 * which records, directory and footer lie.
 */
#include "base/err.h"
#include "base/msg.h"
#include "log/log_priv.h"
#include <inttypes.h>
#include <string.h>

#define PROBE_BYTES (128u << 10)
#define SUFFIX_BYTES (256u << 10)

int log_slot_bad(uint64_t seq, int r, const char *why)
{
    if (r != -EBADMSG && r != -ENOTSUP) {
        return r;
    }
    char name[OBJ_NAME_SIZE];
    log_segment_name(seq, name);
    r = r == -EBADMSG ? ERR_CORRUPT_SEGMENT : ERR_FORMAT_TOO_NEW;
    msg_error("log", "%s: %s: %s", name, err_text(r), why);
    return r;
}

static int header_check(const struct log_home *home, uint64_t seq, const uint8_t *p, size_t len,
                        struct log_slot *s, const char **ret_why)
{
    int r = segment_header_decode(p, len, &s->header, ret_why);
    if (r < 0) {
        return r;
    }
    if (!uuid_equal(&s->header.volume, &home->volume) || s->header.seq != seq) {
        *ret_why = "it belongs to another volume or another number";
        return -EBADMSG;
    }
    return segment_header_open(&s->header, p, home->keys, &s->key, ret_why);
}

/* Whatever is wrong with bytes may have been the way and not the store. */
#define READS 2
#define LOOKS 4

int log_header_read(const struct log_home *home, enum obj_class c, uint64_t seq,
                    struct segment_header *ret_h)
{
    char name[OBJ_NAME_SIZE];
    uint8_t bytes[SEGMENT_HEADER_BYTES];
    log_segment_name(seq, name);
    struct log_slot s = {0};
    const char *why = NULL;
    int r = -EBADMSG;
    for (int i = 0; i < READS && r == -EBADMSG; i++) {
        if (i > 0) {
            obj_tell_spoilt(name);
        }
        ssize_t n = obj_get(home->store, c, name, 0, bytes, sizeof bytes);
        if (n < 0) {
            return (int)n;
        }
        r = header_check(home, seq, bytes, (size_t)n, &s, &why);
    }
    crypt_unit_wipe(&s.key.unit);
    if (r < 0) {
        return log_slot_bad(seq, r, why);
    }
    *ret_h = s.header;
    return 0;
}

/* Makes s->buf hold the object's bytes from `from` on. */
static int suffix_read(struct obj_store *store, const char *name, struct log_slot *s, uint64_t from)
{
    size_t len = s->len - from;
    struct rt_buf *b;
    int r = rt_buf_alloc(len, RT_MEM_OTHER, &b);
    if (r < 0) {
        return r;
    }
    ssize_t n = obj_get(store, OBJ_INDEX, name, from, b->data, len);
    if (n != (ssize_t)len) {
        rt_buf_unref(b);
        return n < 0 ? (int)n : -EBADMSG;
    }
    rt_buf_unref(s->buf);
    s->buf = b;
    s->from = from;
    return 0;
}

/* The bytes of the object at offset at; they are in the buffer. */
static uint8_t *bytes_at(const struct log_slot *s, uint64_t at)
{
    return s->buf->data + (at - s->from);
}

/* The first of the bytes that replay needs: the first records, or the directory. */
static uint64_t first_needed(const struct log_slot *s)
{
    uint64_t first = s->footer.directory_at;
    for (size_t i = 0; i < s->directory.batches.len; i++) {
        if (s->directory.batches.at[i].records_len > 0) {
            return MIN_OF(first, s->directory.batches.at[i].records_at);
        }
    }
    return first;
}

/* Header and size are known, the buffer holds a suffix: decodes the rest, fetching more where that
 * is needed. */
static int tail_read(struct obj_store *store, const char *name, struct log_slot *s,
                     const char **ret_why)
{
    if (s->len < SEGMENT_HEADER_BYTES + SEGMENT_FOOTER_BYTES || s->len > SEGMENT_BYTES_MAX) {
        *ret_why = "its length is impossible";
        return -EBADMSG;
    }
    const uint8_t *footer = bytes_at(s, s->len - SEGMENT_FOOTER_BYTES);
    int r = segment_footer_decode(footer, s->len, &s->header, &s->footer, ret_why);
    if (r == 0 && s->footer.directory_at < s->from) {
        r = suffix_read(store, name, s, s->footer.directory_at);
    }
    if (r == 0) {
        r = segment_directory_decode(&s->key, s->header_bytes, &s->footer,
                                     bytes_at(s, s->footer.directory_at), &s->directory, ret_why);
    }
    if (r == 0 && first_needed(s) < s->from) {
        r = suffix_read(store, name, s, first_needed(s));
    }
    for (size_t i = 0; i < s->directory.batches.len && r == 0; i++) {
        const struct segment_batch *b = &s->directory.batches.at[i];
        uint8_t *unit = b->records_len > 0 ? bytes_at(s, b->records_at) : NULL;
        r = segment_records_decode(&s->key, b, unit, ret_why);
    }
    return r;
}

static int slot_read(const struct log_home *home, uint64_t seq, struct log_slot *s,
                     const char **ret_why)
{
    struct obj_store *store = home->store;
    char name[OBJ_NAME_SIZE];
    log_segment_name(seq, name);
    int r = rt_buf_alloc(PROBE_BYTES, RT_MEM_OTHER, &s->buf);
    if (r < 0) {
        return r;
    }
    ssize_t n = obj_get(store, OBJ_INDEX, name, 0, s->buf->data, PROBE_BYTES);
    if (n < 0) {
        return (int)n;
    }
    r = header_check(home, seq, s->buf->data, (size_t)n, s, ret_why);
    if (r < 0) {
        return r;
    }
    memcpy(s->header_bytes, s->buf->data, SEGMENT_HEADER_BYTES);
    s->len = (uint64_t)n;
    if (n == PROBE_BYTES) {
        r = obj_head(store, OBJ_INDEX, name, &s->len);
        if (r == 0 && s->len > PROBE_BYTES) {
            r = suffix_read(store, name, s, s->len - MIN_OF(s->len, (uint64_t)SUFFIX_BYTES));
        }
        if (r < 0) {
            return r;
        }
    }
    return tail_read(store, name, s, ret_why);
}

int log_slot_read(const struct log_home *home, uint64_t seq, struct log_slot *ret_slot)
{
    struct log_slot s;
    char name[OBJ_NAME_SIZE];
    const char *why = "it ends too early";
    int r = -EBADMSG;
    log_segment_name(seq, name);
    for (int i = 0; i < READS && r == -EBADMSG; i++) {
        if (i > 0) {
            obj_tell_spoilt(name);
        }
        s = (struct log_slot){0};
        r = slot_read(home, seq, &s, &why);
        if (r < 0) {
            log_slot_free(&s);
        }
    }
    if (r == -ENOENT) {
        *ret_slot = (struct log_slot){.missing = true};
        return 0;
    }
    if (r < 0) {
        return log_slot_bad(seq, r, why);
    }
    *ret_slot = s;
    return 0;
}

void log_slot_free(struct log_slot *s)
{
    rt_buf_unref(s->buf);
    s->buf = NULL;
    segment_directory_free(&s->directory);
    crypt_unit_wipe(&s->key.unit);
}

static bool same_object(const uint8_t *header, const uint8_t *footer,
                        const struct segment_sealed *ours)
{
    if (log_test_rules.compare_without_salt) {
        return memcmp(header, ours->header, SEGMENT_HEADER_AT_STORED_THROUGH) == 0;
    }
    return memcmp(header, ours->header, SEGMENT_HEADER_BYTES) == 0 &&
           memcmp(footer, ours->footer, SEGMENT_FOOTER_BYTES) == 0;
}

/* What lies in a slot, as far as it says whose it is. */
struct sight {
    uint8_t header[SEGMENT_HEADER_BYTES];
    uint8_t footer[SEGMENT_FOOTER_BYTES + 1]; /* one more: ours ends there */
    ssize_t header_len;
    ssize_t footer_len;
};

static int look(struct obj_store *store, const char *name, uint64_t footer_at,
                struct sight *ret_sight)
{
    struct sight s = {0};
    s.header_len = obj_get(store, OBJ_COMMIT, name, 0, s.header, sizeof s.header);
    if (s.header_len < 0) {
        return (int)s.header_len;
    }
    s.footer_len = obj_get(store, OBJ_COMMIT, name, footer_at, s.footer, sizeof s.footer);
    if (s.footer_len < 0) {
        return (int)s.footer_len;
    }
    *ret_sight = s;
    return 0;
}

static bool is_ours(const struct sight *s, const struct segment_sealed *ours)
{
    bool ends_alike = s->footer_len == SEGMENT_FOOTER_BYTES || log_test_rules.compare_without_salt;
    return s->header_len == SEGMENT_HEADER_BYTES && ends_alike &&
           same_object(s->header, s->footer, ours);
}

static bool same_sight(const struct sight *a, const struct sight *b)
{
    return a->header_len == b->header_len && a->footer_len == b->footer_len &&
           memcmp(a->header, b->header, sizeof a->header) == 0 &&
           memcmp(a->footer, b->footer, sizeof a->footer) == 0;
}

/* "Not ours" ends the writer. So it takes two looks that saw the same: bytes that were spoiled on
 * their way are not those of a rival. */
int log_compare(struct obj_store *store, uint64_t seq, const struct segment_sealed *ours)
{
    char name[OBJ_NAME_SIZE];
    log_segment_name(seq, name);
    uint64_t footer_at = ours->body.len - SEGMENT_FOOTER_BYTES;
    struct sight before = {.header_len = -1};
    for (int i = 0; i < LOOKS; i++) {
        struct sight now;
        int r = look(store, name, footer_at, &now);
        if (r < 0) {
            return r;
        }
        if (is_ours(&now, ours)) {
            return 1;
        }
        if (same_sight(&before, &now)) {
            return 0;
        }
        if (i > 0) {
            obj_tell_spoilt(name);
        }
        before = now;
    }
    return -EBADMSG;
}
