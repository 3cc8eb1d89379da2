/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One unit of an SST: a small header and a payload that may be compressed. Its CRC covers the SST's
 * salt and the unit's place, so that a unit of another object, or of another place of this one, is
 * noticed. Pure.
 *
 *     r = sst_unit_check(stored, len, salt, off, SST_UNIT_DATA, &raw_len);
 *     r = sst_unit_decode(stored, len, raw, raw_len);
 */
#pragma once
#include "base/attr.h"
#include "base/bytes.h"
#include "index/sst_format.h"

/* Appends the unit for raw bytes that will lie at offset off of the object: 0 or -ENOMEM. */
MUST int sst_unit_encode(const void *raw, size_t raw_len, const uint8_t salt[SST_SALT_SIZE],
                         uint64_t off, enum sst_unit_kind kind, struct bytes_writer *out);
/* The size of the unit that starts with these bytes, from its header alone; 0 when there are too
 * few or it makes no sense. */
size_t sst_unit_size(const void *stored, size_t len);
/* 0 and the length of its raw bytes, or -EBADMSG. */
MUST int sst_unit_check(const void *stored, size_t len, const uint8_t salt[SST_SALT_SIZE],
                        uint64_t off, enum sst_unit_kind kind, size_t *ret_raw_len);
/* Of a checked unit: 0, or -EBADMSG. dst has raw_len bytes. */
MUST int sst_unit_decode(const void *stored, size_t len, void *dst, size_t raw_len);
