/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Text keys (RFC 7143 §6.1): "key=value" strings, each ended by a NUL. Pure.
 *
 *     struct iscsi_text t = iscsi_text_of(data, len);
 *     struct iscsi_key k;
 *     while ((r = iscsi_text_next(&t, &k)) > 0) {
 *         if (iscsi_key_is(&k, "SendTargets")) { use(k.value); }
 *     }
 *     // r < 0: malformed
 *     iscsi_text_put(&out, "TargetPortalGroupTag", "%u", 1u);
 */
#pragma once
#include "base/attr.h"
#include "base/bytes.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define ISCSI_KEY_NAME_MAX 63      /* §6.1 */
#define ISCSI_KEYS_MAX 128u        /* in one exchange; each may cost an answer */
#define ISCSI_TEXT_MAX (64u << 10) /* of one exchange, all its PDUs together */

struct iscsi_text {
    const char *at;
    size_t left;
    unsigned keys;
};

struct iscsi_key {
    const char *name; /* not NUL-terminated */
    size_t name_len;
    const char *value; /* NUL-terminated, inside the text */
};

static inline struct iscsi_text iscsi_text_of(const void *data, size_t len)
{
    return (struct iscsi_text){.at = data, .left = len};
}

/* 1 with the next pair, 0 at the end, ERR_PROTOCOL: no '=', a bad name, no NUL, too many. Empty
 * strings are passed over. */
MUST int iscsi_text_next(struct iscsi_text *t, struct iscsi_key *ret_key);
bool iscsi_key_is(const struct iscsi_key *k, const char *name);

/* A number as §6.1 writes it (decimal or 0x hexadecimal): 0 or -EINVAL. */
MUST int iscsi_text_number(const char *value, uint64_t *ret_number);
/* "Yes" or "No": 0 or -EINVAL. */
MUST int iscsi_text_boolean(const char *value, bool *ret_yes);
/* A binary value: 0x and hexadecimal digits or 0b and base64. 0, or ERR_PROTOCOL: another form,
 * empty, longer than cap. */
MUST int iscsi_text_binary(const char *text, uint8_t *ret_bytes, size_t cap, size_t *ret_len);
/*
 * The first of the comma-separated values that is among the count known ones: its index, or
 * -ENOENT.
 */
MUST int iscsi_text_choose(const char *value, const char *const *known, size_t count);

/* Appends "name=value" and the NUL; a failure stays in w. */
void iscsi_text_put(struct bytes_writer *w, const char *name, const char *fmt, ...)
    PRINTF_LIKE(3, 4);
/* The same for a binary value, in hexadecimal digits. */
void iscsi_text_put_binary(struct bytes_writer *w, const char *name, const void *bytes, size_t len);
/* The same for a name that came from the peer. */
void iscsi_text_put_key(struct bytes_writer *w, const struct iscsi_key *k, const char *value);
