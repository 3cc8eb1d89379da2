/* SPDX-License-Identifier: Apache-2.0 */
/* The version that `zerofs version`, SCSI and status show. */
#pragma once

#define ZEROFS_VERSION "0.1.0"
