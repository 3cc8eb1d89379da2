/* SPDX-License-Identifier: Apache-2.0 */
/* What the families of operations share. Each op gives a response: ops_success() or ops_failure().
 */
#pragma once
#include "ctl/ops.h"

struct ops_entry {
    const char *name;
    json_t *(*run)(struct ops *o, const json_t *request)WAITS;
};

extern const struct ops_entry ops_nbd_table[];
extern const struct ops_entry ops_iscsi_table[];
extern const struct ops_entry ops_access_table[];
extern const struct ops_entry ops_paths_table[];
/* The LUN that the request names, with a reference; or a failure. */
json_t *ops_iscsi_lun(struct ops *o, const json_t *request, struct dev **ret_dev);
json_t *ops_reservations_list(struct ops *o, const json_t *request);
json_t *ops_reservations_clear(struct ops *o, const json_t *request) WAITS;
extern const struct ops_entry ops_apply_table[];
/* As ops_run(), for whoever is in it. */
json_t *ops_dispatch(struct ops *o, const json_t *request) WAITS;
json_t *ops_change_password(struct ops *o, const json_t *request) WAITS;
json_t *ops_status(struct ops *o, const json_t *request) WAITS;

/* NULL, or why it is no HOST, HOST:PORT or [IPV6]:PORT. */
json_t *ops_address_check(const char *to);
/* The target that the request names as "iqn", or a failure. */
json_t *ops_iscsi_target(struct ops *o, const json_t *request, struct dev_target_info *ret_target);
/* NULL when secrets may be put into the volume, as the request says; or a failure. */
json_t *ops_secrets_may_be_stored(struct ops *o, const json_t *request);
/* Takes over the result. */
json_t *ops_success(json_t *result);
/* "WHAT failed: reason", of the kind that r has. */
json_t *ops_error(int r, const char *fmt, ...) PRINTF_LIKE(2, 3);

/* Fields of a request: the text or NULL; false when absent or of another type. */
const char *ops_text(const json_t *request, const char *key);
bool ops_number(const json_t *request, const char *key, uint64_t *ret_value);
bool ops_flag(const json_t *request, const char *key, bool absent);
/* The size of the request, checked, in blocks of so many bytes: NULL, or a failure. */
json_t *ops_size(const json_t *request, uint32_t block, uint64_t *ret_bytes);
/* What it says of a new LUN, checked: NULL, or a failure. has_lun: whether it asks for one. */
json_t *ops_lun_options(const json_t *request, struct dev_create_options *ret_opt,
                        bool *ret_has_lun);

/* One device as JSON, with the names of who is attached. */
json_t *ops_device_json(struct ops *o, const struct dev_info *info);
/* Resizes: the response has the old and the new size. Takes the reference of d. */
json_t *ops_resize(struct ops *o, struct dev *d, const json_t *request) WAITS;
/* Deletes; refuses while clients are attached unless the request says disconnect. Takes the
 * reference of d. */
json_t *ops_delete(struct ops *o, struct dev *d, const json_t *request) WAITS;
/* Changes settings. Takes the reference of d. */
json_t *ops_set(struct ops *o, struct dev *d, const json_t *request) WAITS;
/* One of these on the device that the request names, as `find` reads it. */
json_t *ops_on_device(struct ops *o, const json_t *request,
                      json_t *(*find)(struct ops *o, const json_t *request, struct dev **ret_dev),
                      json_t *(*act)(struct ops *o, struct dev *d, const json_t *request)WAITS)
    WAITS;
