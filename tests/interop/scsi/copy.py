#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""EXTENDED COPY of 96 MiB to a LUN of another target: the data are there, and next to nothing of
them has gone to the store a second time. A target that would not let the initiator in is out of
reach."""
import json
import os
import struct

import initiator as iscsi
from pair import pair

IQN = "iqn.2024-01.net.zerofs:copy"
OTHER = IQN + ".other"
MIB = 1 << 20
SIZE = 96
BLOCKS = MIB // iscsi.BLOCK
SEGMENT = 16  # MiB


def naa_of(initiator, lun=0):
    data = initiator.run(bytes([0x12, 1, 0x83, 1, 0, 0]), 256).data
    assert data[4:8] == bytes([1, 3, 0, 8]), data.hex()
    return data[8:16]


def cscd(naa):
    return bytes([0xE4, 0, 0, 0, 1, 3, 0, 8]) + naa + bytes(12) + struct.pack(">I", iscsi.BLOCK)


def copy(initiator, src, dst):
    """SIZE MiB from the begin of one to that of the other."""
    units = cscd(src) + cscd(dst)
    segments = b"".join(
        struct.pack(">BBHHHHHQQ", 2, 0, 24, 0, 1, 0, SEGMENT * BLOCKS, at * BLOCKS, at * BLOCKS)
        for at in range(0, SIZE, SEGMENT))
    data = struct.pack(">BBHIII", 0, 3 << 3, len(units), 0, len(segments), 0) + units + segments
    cdb = bytes([0x83]) + bytes(9) + struct.pack(">IBB", len(data), 0, 0)
    return initiator.run(cdb, out=data)


def stored(server):
    server.cli("flush")
    return json.loads(server.cli("status", "--json").stdout)["store"]["bytes_out"]


def check(initiator, pieces):
    for at, piece in enumerate(pieces):
        assert initiator.read(at * BLOCKS, BLOCKS) == piece, f"MiB {at} differs"


def main():
    with pair(IQN, OTHER) as (server, here, there):
        pieces = [os.urandom(MIB) for _ in range(SIZE)]
        before = stored(server)
        for at, piece in enumerate(pieces):
            here.write(at * BLOCKS, piece)
        wrote = stored(server) - before
        assert wrote >= SIZE * MIB, wrote

        source, target = naa_of(here), naa_of(there)
        before = stored(server)
        done = copy(here, source, target)
        assert done.status == 0, done.sense.hex()
        copied = stored(server) - before
        print(f"{SIZE} MiB written: {wrote} bytes to the store; copied: {copied}")
        assert copied < MIB, copied
        check(there, pieces)

        server.cli("iscsi", "acl", "add", OTHER, "iqn.2024-01.test:somebody-else")
        done = copy(here, source, target)
        assert done.status == 2 and done.sense[2] == 0x0A, done.sense.hex()
        assert done.sense[12:14] == b"\x0d\x02", done.sense.hex()
        here.logout()
        server.stop()


main()
