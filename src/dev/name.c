/* SPDX-License-Identifier: Apache-2.0 */
/* Names of devices and of iSCSI targets. */
#include "dev/dev.h"
#include <stdio.h>
#include <string.h>

static int refuse(char *why, size_t cap, const char *text)
{
    if (cap > 0) {
        snprintf(why, cap, "%s", text);
    }
    return -EINVAL;
}

/* The C locale's classes, whatever the process's locale is. */
static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static bool is_alnum(char c)
{
    return is_digit(c) || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

static bool is_hex(char c)
{
    return is_digit(c) || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
}

int dev_name_check(const char *name, char *ret_why, size_t why_cap)
{
    size_t n = strnlen(name, DEV_NAME_MAX + 1);
    if (n == 0) {
        return refuse(ret_why, why_cap, "the name is empty");
    }
    if (n > DEV_NAME_MAX) {
        return refuse(ret_why, why_cap, "the name is longer than 255 characters");
    }
    if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0) {
        return refuse(ret_why, why_cap, "\".\" and \"..\" are not names");
    }
    for (const char *p = name; *p; p++) {
        if (!is_alnum(*p) && !strchr("._-", *p)) {
            return refuse(ret_why, why_cap,
                          "a name consists of letters, digits, '.', '_' and '-' only");
        }
    }
    return 0;
}

static int check_hex(const char *rest, bool naa, char *why, size_t cap)
{
    size_t n = strlen(rest);
    if (n != 16 && !(naa && n == 32)) {
        return refuse(why, cap,
                      naa ? "\"naa.\" is followed by 16 or 32 hexadecimal digits"
                          : "\"eui.\" is followed by 16 hexadecimal digits");
    }
    for (size_t i = 0; i < n; i++) {
        if (!is_hex(rest[i])) {
            return refuse(why, cap, "there is a character that is not a hexadecimal digit");
        }
    }
    return 0;
}

/* A domain name in reverse, up to the end or the first colon. */
static bool domain_ok(const char *p)
{
    size_t label = 0;
    for (; *p && *p != ':'; p++) {
        if (*p == '.' && (label == 0 || p[-1] == '-')) {
            return false;
        }
        if (*p == '-' && label == 0) {
            return false;
        }
        label = *p == '.' ? 0 : label + 1;
    }
    return label > 0 && p[-1] != '-';
}

/* iqn.yyyy-mm.reversed-domain[:anything] */
static int check_iqn(const char *rest, char *why, size_t cap)
{
    for (unsigned i = 0; i < 4; i++) {
        if (!is_digit(rest[i])) {
            return refuse(why, cap,
                          "\"iqn.\" is followed by a date, as in iqn.2024-01.net.example:disk");
        }
    }
    bool has_month = rest[4] == '-';
    if (has_month) {
        bool good = is_digit(rest[5]) && is_digit(rest[6]);
        int month = good ? (rest[5] - '0') * 10 + (rest[6] - '0') : 0;
        if (month < 1 || month > 12) {
            return refuse(why, cap, "the month of the date is not 01 to 12");
        }
    }
    const char *domain = rest + (has_month ? 7 : 4);
    if (*domain != '.' || !domain_ok(domain + 1)) {
        return refuse(why, cap,
                      "the date is followed by '.' and a domain name in reverse, as in "
                      "iqn.2024-01.net.example:disk");
    }
    if (has_month) {
        return 0;
    }
    (void)refuse(why, cap,
                 "the date has no month (RFC 3720 section 3.2.6.3.1 asks for iqn.yyyy-mm.); "
                 "some initiators refuse such a name");
    return 1;
}

int dev_iqn_check(const char *iqn, char ret_name[DEV_IQN_MAX + 1], char *ret_why, size_t why_cap)
{
    char name[DEV_IQN_MAX + 1] = {0};
    size_t n = strnlen(iqn, DEV_IQN_MAX + 1);
    if (n > DEV_IQN_MAX) {
        return refuse(ret_why, why_cap, "the name is longer than 223 bytes");
    }
    for (size_t i = 0; i < n; i++) {
        if (!is_alnum(iqn[i]) && !strchr("-.:", iqn[i])) {
            return refuse(ret_why, why_cap,
                          "an iSCSI name consists of letters, digits, '-', '.' and ':' only");
        }
        name[i] = (char)(iqn[i] >= 'A' && iqn[i] <= 'Z' ? iqn[i] - 'A' + 'a' : iqn[i]);
    }
    name[n] = '\0';
    int r;
    if (strncmp(name, "iqn.", 4) == 0) {
        r = check_iqn(name + 4, ret_why, why_cap);
    } else if (strncmp(name, "eui.", 4) == 0 || strncmp(name, "naa.", 4) == 0) {
        r = check_hex(name + 4, name[0] == 'n', ret_why, why_cap);
    } else {
        r = refuse(ret_why, why_cap, "an iSCSI name starts with iqn., eui. or naa.");
    }
    if (r >= 0) {
        memcpy(ret_name, name, n + 1);
    }
    return r;
}
