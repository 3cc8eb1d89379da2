/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sizes as people write them: "10G", "512M", "1.5T", "10GiB", "4096". Suffixes K M G T P,
 * optionally followed by B or iB, in any case, are powers of 1024; no suffix (or a lone B) means
 * bytes.
 */
#pragma once
#include "base/attr.h"
#include <stddef.h>
#include <stdint.h>

/* 0; -EINVAL when it is not a size, is not a whole number of bytes, or is over 2^63 (reason in
 * ret_why, one line). */
MUST int size_parse(const char *text, uint64_t *ret_bytes, char *ret_why, size_t why_cap);

#define SIZE_TEXT_SIZE 32
/* "10.00 GB", 1024-based, as `zerofs nbd list` shows it. */
void size_format(uint64_t bytes, char ret_text[SIZE_TEXT_SIZE]);
/* "10,737,418,240". */
void size_format_grouped(uint64_t bytes, char ret_text[SIZE_TEXT_SIZE]);
