#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""EXTENDED COPY of 96 MiB to a LUN of another target, by LID1 and by LID4, in the foreground and in
the background: the data are there, what became of it is told, and next to nothing of them has gone
to the store a second time. A target that would not let the initiator in is out of reach."""
import json
import os
import struct

import initiator as iscsi
import zt
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


def segments_of():
    """SIZE MiB from the begin of one to that of the other."""
    return b"".join(
        struct.pack(">BBHHHHHQQ", 2, 0, 24, 0, 1, 0, SEGMENT * BLOCKS, at * BLOCKS, at * BLOCKS)
        for at in range(0, SIZE, SEGMENT))


def copy(initiator, src, dst):
    units = cscd(src) + cscd(dst)
    segments = segments_of()
    data = struct.pack(">BBHIII", 0, 3 << 3, len(units), 0, len(segments), 0) + units + segments
    cdb = bytes([0x83]) + bytes(9) + struct.pack(">IBB", len(data), 0, 0)
    return initiator.run(cdb, out=data)


def copy4(initiator, list_id, src, dst, immed):
    """The same, asked for by the longer list."""
    units, segments = cscd(src) + cscd(dst), segments_of()
    head = struct.pack(">BBH11xBB3xI", 1, 0, 0x20, immed, 0xFF, list_id).ljust(42, b"\0")
    data = head + struct.pack(">HHH", len(units), len(segments), 0) + units + segments
    cdb = bytes([0x83, 1]) + bytes(8) + struct.pack(">IBB", len(data), 0, 0)
    return initiator.run(cdb, out=data)


def status4(initiator, list_id):
    """RECEIVE COPY STATUS(LID4): service action, status, segments and bytes that are done."""
    done = initiator.run(struct.pack(">BBIxxxxIBB", 0x84, 5, list_id, 64, 0, 0), 64)
    if done.status:
        return done.sense[2] & 15, int.from_bytes(done.sense[12:14], "big")
    unit, count, segments = done.data[15], *struct.unpack(">QH", done.data[16:26])
    assert unit <= 5, unit  # bytes, KiB, MiB, ...
    return done.data[4], done.data[5], segments, count << 10 * unit


def abort4(initiator, list_id):
    """COPY OPERATION ABORT."""
    return initiator.run(struct.pack(">BBI10x", 0x83, 0x1C, list_id))


def by_lid4(server, here, there, pieces):
    source, target = naa_of(here), naa_of(there)
    for list_id, immed in ((0x12345678, False), (0x9ABCDEF0, True)):
        wipe(there)
        before = stored(server)
        done = copy4(here, list_id, source, target, immed)
        assert done.status == 0, done.sense.hex()
        zt.wait_for(lambda n=list_id: status4(here, n)[1] != 0x12)
        said = status4(here, list_id)
        assert said == (1, 1, SIZE // SEGMENT, SIZE * MIB), said
        copied = stored(server) - before
        assert copied < MIB, copied
        check(there, pieces)
    # What is not known can neither be asked about nor aborted.
    assert status4(here, 77) == (5, 0x2400)
    done = abort4(here, 77)
    assert done.status == 2 and done.sense[12:14] == b"\x24\x00", done.sense.hex()


def wipe(initiator):
    done = initiator.run(struct.pack(">BBQIBB", 0x93, 1, 0, SIZE * BLOCKS, 0, 0), out=bytes(512))
    assert done.status == 0, done.sense.hex()


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
        by_lid4(server, here, there, pieces)

        server.cli("iscsi", "acl", "add", OTHER, "iqn.2024-01.test:somebody-else")
        done = copy(here, source, target)
        assert done.status == 2 and done.sense[2] == 0x0A, done.sense.hex()
        assert done.sense[12:14] == b"\x0d\x02", done.sense.hex()
        here.logout()
        server.stop()


main()
