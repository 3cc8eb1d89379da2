/* SPDX-License-Identifier: Apache-2.0 */
/* Numbers of RFC 4171. */
#pragma once

#define ISNS_PORT 3205u
#define ISNS_VERSION 1u
#define ISNS_HEADER_LEN 12u
#define ISNS_NAME_MAX 223u /* §6.4.1 */
#define ISNS_EID_MAX 255u  /* §6.2.1 */

/* §4.1: of a request. The response has the leading bit set. */
enum isns_function {
    ISNS_DEV_ATTR_REG = 0x0001,
    ISNS_DEV_ATTR_QRY = 0x0002,
    ISNS_DEV_DEREG = 0x0004,
    ISNS_SCN_REG = 0x0005,
    ISNS_SCN = 0x0008,
    ISNS_ESI = 0x000d,
    ISNS_RESPONSE = 0x8000,
};

/* §5.1.4 */
enum isns_flags {
    ISNS_FROM_CLIENT = 0x8000,
    ISNS_FROM_SERVER = 0x4000,
    ISNS_AUTHENTICATED = 0x2000, /* an authentication block follows */
    ISNS_REPLACE = 0x1000,
    ISNS_LAST = 0x0800,
    ISNS_FIRST = 0x0400,
};

/* §5.4 */
enum isns_status {
    ISNS_OK = 0,
    ISNS_FORMAT_ERROR = 2,
    ISNS_NO_SUCH_ENTRY = 9,
    ISNS_VERSION_NOT_SUPPORTED = 10,
    ISNS_NOT_SUPPORTED = 15,
    ISNS_ATTRIBUTE_NOT_IMPLEMENTED = 18,
    ISNS_ESI_NOT_AVAILABLE = 21,
    ISNS_FEATURE_NOT_SUPPORTED = 23,
};

/* §6.1 */
enum isns_tag {
    ISNS_DELIMITER = 0,
    ISNS_EID = 1,
    ISNS_ENTITY_PROTOCOL = 2,
    ISNS_TIMESTAMP = 4,
    ISNS_REGISTRATION_PERIOD = 6,
    ISNS_PORTAL_ADDRESS = 16,
    ISNS_PORTAL_PORT = 17,
    ISNS_ESI_INTERVAL = 19,
    ISNS_ESI_PORT = 20,
    ISNS_SCN_PORT = 23,
    ISNS_NODE_NAME = 32,
    ISNS_NODE_TYPE = 33,
    ISNS_SCN_BITMAP = 35,
    ISNS_PG_ADDRESS = 49,
    ISNS_PG_PORT = 50,
    ISNS_PG_TAG = 51,
    ISNS_DD_ID = 2065,
    ISNS_DD_MEMBER_NAME = 2068,
};

#define ISNS_PROTOCOL_ISCSI 2u
#define ISNS_UDP 0x10000u /* in a port */

/* §6.4.2 */
enum isns_node_type {
    ISNS_TARGET = 1,
    ISNS_INITIATOR = 2,
};

/* §6.4.4 */
enum isns_scn_bits {
    ISNS_SCN_INITIATORS = 0x80, /* and the node itself */
    ISNS_SCN_REMOVED = 0x10,
    ISNS_SCN_ADDED = 0x08,
    ISNS_SCN_UPDATED = 0x04,
};
