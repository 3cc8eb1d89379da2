/* SPDX-License-Identifier: Apache-2.0 */
/* The numbers of the NBD protocol that the bench programs speak: fixed newstyle, GO, simple
 * replies. */
#pragma once
#include <stdint.h>

#define NBD_MAGIC 0x4e42444d41474943ull        /* "NBDMAGIC" */
#define NBD_OPTION_MAGIC 0x49484156454f5054ull /* "IHAVEOPT" */
#define NBD_OPTION_REPLY_MAGIC 0x0003e889045565a9ull
#define NBD_REQUEST_MAGIC 0x25609513u
#define NBD_REPLY_MAGIC 0x67446698u

#define NBD_FLAG_FIXED_NEWSTYLE 1
#define NBD_FLAG_NO_ZEROES 2

#define NBD_OPT_EXPORT_NAME 1
#define NBD_OPT_ABORT 2
#define NBD_OPT_INFO 6
#define NBD_OPT_GO 7
#define NBD_REP_ACK 1
#define NBD_REP_INFO 3
#define NBD_REP_ERR_UNSUP 0x80000001u
#define NBD_INFO_EXPORT 0

#define NBD_EXPORT_HAS_FLAGS 1
#define NBD_EXPORT_SEND_FLUSH 4
#define NBD_EXPORT_MULTI_CONN 256

#define NBD_CMD_READ 0
#define NBD_CMD_WRITE 1
#define NBD_CMD_DISC 2
#define NBD_CMD_FLUSH 3
#define NBD_CMD_FLAG_FUA 1

#define NBD_REQUEST_SIZE 28
#define NBD_REPLY_SIZE 16
#define NBD_EINVAL 22
