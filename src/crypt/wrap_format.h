/* SPDX-License-Identifier: Apache-2.0 */
/* The bytes of a key object: docs/FORMAT.md "Key objects". */
#pragma once

#define WRAP_BYTES 512u
#define WRAP_MAGIC "ZEROFSKY"
#define WRAP_MAGIC_LEN 8
#define WRAP_VERSION 1u

#define WRAP_AT_VERSION 8
#define WRAP_AT_CIPHER 12
#define WRAP_AT_KDF 13
#define WRAP_AT_KEY_ID 16
#define WRAP_AT_VOLUME 24
#define WRAP_AT_NUMBER 40
#define WRAP_AT_MEMORY 48
#define WRAP_AT_PASSES 52
#define WRAP_AT_LANES 56
#define WRAP_AT_SALT 64
#define WRAP_AT_SEALED 96 /* what lies before is authenticated with it */
#define WRAP_AT_TAG 128
#define WRAP_AT_END 144
#define WRAP_AT_CRC (WRAP_BYTES - 4)
