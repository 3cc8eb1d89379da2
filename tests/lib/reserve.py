# SPDX-License-Identifier: Apache-2.0
"""Persistent reservations over the raw initiator.

    reserve.out(i, reserve.REGISTER, 0, 0, 5, reserve.APTPL)    # the SCSI status
    reserve.status_of(i)                  # (type, {(initiator port, target port): (key, holds)})
"""
import struct

REGISTER, RESERVE, RELEASE, CLEAR, PREEMPT, PREEMPT_ABORT, REGISTER_IGNORE = range(7)
GOOD, CHECK_CONDITION, CONFLICT = 0, 2, 0x18
APTPL = 1
WE, EA, WE_RO, EA_RO, WE_AR, EA_AR = 1, 3, 5, 6, 7, 8


def cdb_of(action, kind):
    return struct.pack(">BBB2xIB", 0x5F, action, kind, 24, 0)


def list_of(key, action_key, flags=0):
    return struct.pack(">QQIBxxx", key, action_key, 0, flags)


def out(i, action, kind, key, action_key, flags=0):
    return i.run(cdb_of(action, kind), out=list_of(key, action_key, flags)).status


def status_of(i):
    """READ FULL STATUS."""
    done = i.run(struct.pack(">BB5xHB", 0x5E, 3, 65535, 0), 65535)
    assert done.status == GOOD, (done.status, done.sense.hex())
    length = int.from_bytes(done.data[4:8], "big")
    at, kind, found = 8, 0, {}
    assert len(done.data) == 8 + length
    while at < len(done.data):
        key, bits, scope_type, port, size = struct.unpack_from(">Q4xBB4xHI", done.data, at)
        name = done.data[at + 28:at + 24 + size].rstrip(b"\0").decode()
        found[name, port] = (key, bool(bits & 1))
        kind = scope_type if bits & 1 else kind
        at += 24 + size
    return kind, found
