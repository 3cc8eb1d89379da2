/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Access rules of targets as JSON, both ways, for the commands of ops_access.c and ops_apply.c.
 * docs/CLI.md has the form. A taker changes the draft, or gives a failure and leaves it to be
 * thrown away. Secrets appear in JSON only where `secrets` says so.
 */
#pragma once
#include "ctl/ops.h"
#include "dev/access.h"

/* How discovery is called where the name of a target is expected. */
#define OPS_DISCOVERY "discovery"

json_t *ops_auth_json(const struct dev_access *a, bool secrets);
json_t *ops_acl_json(const struct dev_access *a);
json_t *ops_maps_json(const struct dev_access *a);

/* One account of a request or a description; to be freed with crypt_secret_free(ret->secret), which
 * is NULL when none is given. NULL, or a failure. mutual: the target's own, which has no pattern.
 */
json_t *ops_account_take(const json_t *from, bool mutual, struct dev_account *ret_account);
json_t *ops_acl_take(const json_t *from, struct dev_acl *ret_acl);
json_t *ops_map_take(const json_t *from, struct dev_map *ret_map);
/* 0 for "default" or null. */
json_t *ops_minimum_take(const json_t *from, uint8_t *ret_minimum);

/*
 * Whole sections: they replace what the draft has. An account without a secret keeps the one it
 * has.
 */
json_t *ops_auth_replace(struct dev_access *draft, const json_t *auth);
json_t *ops_acl_replace(struct dev_access *draft, const json_t *acl);
json_t *ops_maps_replace(struct dev_access *draft, const json_t *maps);
/* What is wrong with the rules as a whole, NULL if nothing is. */
json_t *ops_rules_fault(const struct dev_access *a);
/* The failure of an edit of access rules that gave r. */
json_t *ops_rules_error(int r, const char *iqn);
