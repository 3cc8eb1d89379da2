/* SPDX-License-Identifier: Apache-2.0 */
/* Tells the service manager (sd_notify(3) protocol: a datagram to $NOTIFY_SOCKET). Without that
 * variable nothing happens. */
#pragma once

void notify_send(const char *state);
