/* SPDX-License-Identifier: Apache-2.0 */
#include "scsi/transport_id.h"
#include "base/utf8.h"
#include <errno.h>

#define SEPARATOR ",i,0x"
#define SEPARATOR_LEN (sizeof SEPARATOR - 1)
#define ISID_DIGITS 12u
#define ADDITIONAL_MIN 20u
#define ISCSI_PROTOCOL 0x05
#define FORMAT_DEVICE 0x00
#define FORMAT_PORT 0x40

static bool is_hex(char c)
{
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f');
}

/* Lower case, without anything that no name has: the length, or 0. */
static size_t copy_text(const uint8_t *p, size_t len, char *ret)
{
    const uint8_t *end = memchr(p, 0, len);
    if (!end || (size_t)(end - p) > DEV_IQN_MAX + SEPARATOR_LEN + ISID_DIGITS) {
        return 0;
    }
    size_t n = (size_t)(end - p);
    if (!utf8_is_text(p, n)) {
        return 0;
    }
    for (size_t i = 0; i < n; i++) {
        if (p[i] <= ' ' || p[i] == 0x7f) {
            return 0;
        }
        ret[i] = (char)(p[i] >= 'A' && p[i] <= 'Z' ? p[i] + ('a' - 'A') : p[i]);
    }
    ret[n] = '\0';
    return n;
}

/* Gives the ISID behind the separator all its digits. */
static int complete_isid(char *isid)
{
    size_t digits = strlen(isid);
    if (digits == 0 || digits > ISID_DIGITS) {
        return -EINVAL;
    }
    for (size_t i = 0; i < digits; i++) {
        if (!is_hex(isid[i])) {
            return -EINVAL;
        }
    }
    memmove(isid + ISID_DIGITS - digits, isid, digits);
    memset(isid, '0', ISID_DIGITS - digits);
    isid[ISID_DIGITS] = '\0';
    return 0;
}

int scsi_transport_id_decode(struct bytes_reader *in, struct scsi_transport_id *ret_id)
{
    uint8_t kind = bytes_u8(in);
    (void)bytes_u8(in);
    uint16_t len = bytes_be16(in);
    const uint8_t *text = bytes_take(in, len);
    struct scsi_transport_id id = {.is_port = (kind & 0xc0) == FORMAT_PORT};
    if (!text || (kind & 0x0f) != ISCSI_PROTOCOL || len < ADDITIONAL_MIN || len % 4 != 0 ||
        ((kind & 0xc0) != FORMAT_PORT && (kind & 0xc0) != FORMAT_DEVICE)) {
        return -EINVAL;
    }
    size_t n = copy_text(text, len, id.name);
    char *separator = strstr(id.name, SEPARATOR);
    size_t name_len = separator ? (size_t)(separator - id.name) : n;
    if (name_len == 0 || name_len > DEV_IQN_MAX || id.is_port != (separator != NULL)) {
        return -EINVAL;
    }
    if (separator && complete_isid(separator + SEPARATOR_LEN) < 0) {
        return -EINVAL;
    }
    *ret_id = id;
    return 0;
}

void scsi_transport_id_encode(const char *name, struct bytes_writer *ret_bytes)
{
    static const uint8_t zeros[ADDITIONAL_MIN];
    size_t len = strlen(name);
    size_t padded = (len + 4) & ~(size_t)3; /* with the null that ends it */
    padded = padded < ADDITIONAL_MIN ? ADDITIONAL_MIN : padded;
    bytes_put_u8(ret_bytes, FORMAT_PORT | ISCSI_PROTOCOL);
    bytes_put_u8(ret_bytes, 0);
    bytes_put_be16(ret_bytes, (uint16_t)padded);
    bytes_put(ret_bytes, name, len);
    bytes_put(ret_bytes, zeros, padded - len);
}
