#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""COMPARE AND WRITE of 128 blocks and ORWRITE from several initiators at the same time: no
increment of a counter and no bit is lost, and whoever reads meanwhile sees all of a write or
nothing of it."""
import struct
import threading

import initiator as iscsi
import zt

IQN = "iqn.2024-01.net.zerofs:contention"
INITIATORS, ROUNDS, BLOCKS = 3, 25, 128
MISCOMPARE = (0x0E, 0x1D, 0x00)
BITS_LBA = 1024


def region(value):
    return struct.pack(">Q", value) * (BLOCKS * iscsi.BLOCK // 8)


def value_of(data):
    value = struct.unpack(">Q", data[:8])[0]
    assert data == region(value), "a write was seen in part"
    return value


def compare_and_write(initiator, old, new):
    cdb = struct.pack(">BBQ3xBBB", 0x89, 0, 0, BLOCKS, 0, 0)
    done = initiator.run(cdb, out=region(old) + region(new))
    if done.status == 0:
        return True
    sense = (done.sense[2] & 15, done.sense[12], done.sense[13])
    assert done.status == 2 and sense == MISCOMPARE, (done.status, done.sense.hex())
    offset = int.from_bytes(done.sense[3:7], "big")
    assert done.sense[0] & 0x80 and offset < 8, done.sense.hex()
    return False


def orwrite(initiator, lba, data):
    cdb = struct.pack(">BBQIBB", 0x8B, 0, lba, len(data) // iscsi.BLOCK, 0, 0)
    assert initiator.run(cdb, out=data).status == 0


def count_up(initiator, number, failures):
    """Counts, and sets one bit a round in a block that all share."""
    try:
        for turn in range(ROUNDS):
            while True:
                old = value_of(initiator.read(0, BLOCKS))
                if compare_and_write(initiator, old, old + 1):
                    break
            bit = number * ROUNDS + turn
            mask = bytearray(iscsi.BLOCK)
            mask[bit // 8] = 1 << bit % 8
            orwrite(initiator, BITS_LBA, bytes(mask))
    except Exception as failure:  # it belongs to the main thread
        failures.append(failure)


def main():
    with zt.Server() as server:
        server.cli("iscsi", "create-target", IQN, "0", "16M")
        server.start()
        initiators = [iscsi.Initiator(server.iscsi_port, IQN, name=f"iqn.2024-01.test:{n}").ready()
                      for n in range(INITIATORS)]
        failures = []
        threads = [threading.Thread(target=count_up, args=(initiator, n, failures))
                   for n, initiator in enumerate(initiators)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not failures, failures
        assert value_of(initiators[0].read(0, BLOCKS)) == INITIATORS * ROUNDS
        bits = int.from_bytes(initiators[0].read(BITS_LBA, 1), "little")
        assert bits == (1 << INITIATORS * ROUNDS) - 1, hex(bits)
        for initiator in initiators:
            initiator.logout()
        server.stop()


main()
