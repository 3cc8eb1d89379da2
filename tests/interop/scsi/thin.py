#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""A volume with a limit runs full under a LUN: log page 0Ch counts; a threshold, which was saved
before the server was killed, is told of when it is reached; writes then end with SPACE ALLOCATION
FAILED, and after an UNMAP they go on."""
import struct

import initiator as iscsi
import zt

IQN = "iqn.2024-01.net.zerofs:thin"
LIMIT = 30_000_000
MIB = 1 << 20
BLOCKS = MIB // iscsi.BLOCK
TUR = b"\0" * 6


def counts(initiator):
    """Available and used, in MiB."""
    data = initiator.run(bytes([0x4D, 0, 0x4C, 0, 0, 0, 0, 0, 255, 0]), 255).data
    assert data[0] == 0x0C and [data[5], data[17]] == [1, 2], data.hex()
    return struct.unpack(">I", data[8:12])[0], struct.unpack(">I", data[20:24])[0]


def set_threshold(initiator, available):
    descriptors = struct.pack(">BBHI", 0x80, 1, 0, available) + bytes([1, 2, 0, 0, 0, 0, 0, 0])
    page = bytes([0x5C, 2, 0, 28]) + bytes(12) + descriptors
    done = initiator.run(bytes([0x15, 0x11, 0, 0, 4 + len(page), 0]), out=bytes(4) + page)
    assert done.status == 0, done.sense.hex()


def write(initiator, number):
    """None, or the sense key and code with which the write of that MiB ended."""
    cdb = struct.pack(">BBQIBB", 0x8A, 0, number * BLOCKS, BLOCKS, 0, 0)
    done = initiator.run(cdb, out=bytes([number + 1]) * MIB)
    if done.status == 0:
        return None
    return done.sense[2] & 15, done.sense[12] << 8 | done.sense[13]


def unmap(initiator, blocks):
    done = initiator.run(bytes([0x42, 0, 0, 0, 0, 0, 0, 0, 24, 0]),
                         out=struct.pack(">HHxxxxQIxxxx", 22, 16, 0, blocks))
    assert done.status == 0, done.sense.hex()
    assert initiator.run(bytes([0x35]) + bytes(9)).status == 0


def main():
    extra = f"[filesystem]\nmax_size_gb = {LIMIT / 1e9}\n"
    with zt.Server(extra=extra) as server:
        server.cli("iscsi", "create-target", IQN, "0", "1G")
        server.start()
        initiator = iscsi.Initiator(server.iscsi_port, IQN).ready()
        assert counts(initiator) == (LIMIT // MIB, 0)
        set_threshold(initiator, 10)
        server.kill()
        server.start()
        initiator = iscsi.Initiator(server.iscsi_port, IQN).ready()
        told, ends = [], []
        for number in range(60):
            done = initiator.run(TUR)
            if done.status:
                assert done.sense[2] == 6 and done.sense[12:14] == b"\x38\x07", done.sense.hex()
                assert int.from_bytes(done.sense[3:7], "big") == 16, done.sense.hex()
                told.append(number)
            ends.append(write(initiator, number))
            if ends[-1]:
                break
        assert ends[-1] == (7, 0x2707), ends
        assert len(told) == 1 and told[0] <= len(ends) - 5, (told, len(ends))
        available, used = counts(initiator)
        assert available == 0 and used >= LIMIT // MIB, (available, used)
        unmap(initiator, 20 * BLOCKS)
        zt.wait_for(lambda: counts(initiator)[0] > 10)
        assert write(initiator, 0) is None
        assert initiator.read(0, BLOCKS) == b"\1" * MIB
        initiator.logout()
        server.stop()


main()
