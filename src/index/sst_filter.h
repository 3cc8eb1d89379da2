/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The bloom filter of an SST: one line of 64 bytes a key, six bits in it, so that a look-up costs
 * one cache miss. Pure. The hash is part of the format.
 */
#pragma once
#include "base/attr.h"
#include "base/bytes.h"
#include "index/sst_format.h"
#include <stdbool.h>

uint64_t sst_filter_hash(const void *key, size_t key_len);
/* Appends the filter of these hashes: 0 or -ENOMEM. */
MUST int sst_filter_build(const uint64_t *hashes, size_t count, struct bytes_writer *out);
/* False when the bytes are no filter of a kind known here. */
bool sst_filter_is_good(const void *raw, size_t len);
/* Of a good filter: false = the key is certainly not there. */
bool sst_filter_may_hold(const void *raw, size_t len, uint64_t hash);
