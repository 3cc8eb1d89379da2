/* SPDX-License-Identifier: Apache-2.0 */
/* 128-bit identities (RFC 4122 version 4 for volumes and devices, plain random for open ids). */
#pragma once
#include "base/attr.h"
#include <stdbool.h>
#include <stdint.h>

struct uuid {
    uint8_t bytes[16];
};

#define UUID_TEXT_SIZE 37

struct uuid uuid_random(void);
void uuid_format(const struct uuid *u, char ret_text[UUID_TEXT_SIZE]);
/* 0 or -EINVAL. */
MUST int uuid_parse(const char *text, struct uuid *ret_uuid);
bool uuid_equal(const struct uuid *a, const struct uuid *b);
