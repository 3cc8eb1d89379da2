/* SPDX-License-Identifier: Apache-2.0 */
/* Keys and small values of the volume in the index. Pure. */
#pragma once
#include "base/attr.h"
#include "base/bytes.h"
#include "vol/vol.h"
#include "vol/vol_format.h"
#include <stdint.h>

struct vol_key {
    uint8_t bytes[VOL_KEY_SIZE];
    uint32_t len;
};

struct vol_key vol_key_counters(void);
struct vol_key vol_key_inode(uint64_t inode);
struct vol_key vol_key_page(uint64_t layer, uint64_t page);
struct vol_key vol_key_hole(uint64_t layer, uint64_t batch, uint64_t first_page);
struct vol_key vol_key_segment(uint64_t seq);
/* Says that the page has blocks of a frame that was written for another page. */
struct vol_key vol_key_backref(uint64_t seq, uint32_t frame_offset, uint64_t layer, uint64_t page);
/* What the keys of all back-references to a segment begin with. */
struct vol_key vol_key_backrefs(uint64_t seq);
MUST int vol_key_backref_decode(const void *key, size_t len, uint64_t *ret_layer,
                                uint64_t *ret_page);
/* The first key of a kind, and so the end of the kind before it. */
struct vol_key vol_key_kind(uint8_t kind);

/* Each 0, or ERR_CORRUPT_RECORD for a key that is not of the kind. */
MUST int vol_key_page_decode(const void *key, size_t len, uint64_t *ret_layer, uint64_t *ret_page);
MUST int vol_key_hole_decode(const void *key, size_t len, uint64_t ret_parts[3]);
MUST int vol_key_segment_decode(const void *key, size_t len, uint64_t *ret_seq);

/* An inode: its size and its stack of layers, top first. */
struct vol_inode {
    uint64_t size;
    uint64_t key_id; /* of encryption; 0 = the volume's */
    uint32_t layer_count;
    uint64_t layers[VOL_LAYERS_MAX];
};
void vol_inode_encode(const struct vol_inode *inode, struct bytes_writer *w);
MUST int vol_inode_decode(const void *value, size_t len, struct vol_inode *ret_inode);

/* A range hole as the index keeps it; layer, batch and first page are in the key. */
struct vol_hole_value {
    uint64_t count;     /* pages */
    uint64_t done_upto; /* pages before this one are reaped */
    uint64_t flags;     /* VOL_HOLE_* */
};
void vol_hole_encode(const struct vol_hole_value *hole, struct bytes_writer *w);
MUST int vol_hole_decode(const void *value, size_t len, struct vol_hole_value *ret_hole);

/* What the index keeps of a segment: live block references, and the salt of an encrypted one. */
struct vol_segment_value {
    uint64_t live; /* or VOL_LIVE_UNKNOWN */
    struct log_salt salt;
};
void vol_segment_encode(const struct vol_segment_value *seg, struct bytes_writer *w);
MUST int vol_segment_decode(const void *value, size_t len, struct vol_segment_value *ret_seg);

/* A value that is one number: counters. */
void vol_number_encode(uint64_t number, struct bytes_writer *w);
MUST int vol_number_decode(const void *value, size_t len, uint64_t *ret_number);
