/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The admin socket: a unix socket over which a command talks to the running server. A message is a
 * 32-bit big-endian length (at most 16 MiB) and that many bytes of JSON; each request is answered
 * by one response (ctl/ops.h). Only root and the server's own user are heard.
 */
#pragma once
#include "base/attr.h"
#include "ctl/ops.h"

struct admin;

MUST int admin_start(const char *socket_path, struct ops *ops, struct admin **ret_admin);
void admin_stop(struct admin *a) WAITS; /* accepts NULL */

/*
 * Asks the server at socket_path: 0 and its response; -ECONNREFUSED or -ENOENT when no server
 * listens; -EPROTO, -EACCES, ... Blocking system calls: not for fibers.
 */
MUST int admin_ask(const char *socket_path, const json_t *request, json_t **ret_response);
