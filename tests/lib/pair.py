# SPDX-License-Identifier: Apache-2.0
"""A server with two targets of one LUN each, and an initiator at both: what copies are between."""
import contextlib

import initiator
import zt


@contextlib.contextmanager
def pair(one, other, size="256M"):
    with zt.Server() as server:
        for iqn in one, other:
            server.cli("iscsi", "create-target", iqn, "0", size)
        server.start()
        yield server, *(initiator.Initiator(server.iscsi_port, iqn).ready() for iqn in (one, other))
