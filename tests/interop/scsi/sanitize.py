#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""SANITIZE, BLOCK ERASE and, where the volume is encrypted, CRYPTOGRAPHIC ERASE, which is not
there otherwise: what a LUN held, and what was overwritten there long ago, is in no file of the
store and of the cache any more, nor are the objects that held it, with what their keys are made
from; its neighbours, whose data lay in the same objects, are as they were; a kill -9 in between
only delays it; meanwhile there is progress and nothing else."""
import os
import struct

import initiator as iscsi
import stores
import zt

IQN = "iqn.2024-01.net.zerofs:sanitize"
READY, SENSE = bytes(6), b"\x03\0\0\0\x12\0"
BLOCK_ERASE, CRYPTO_ERASE, IMMED, EXIT = 0x02, 0x03, 0x80, 0x1F
BUSY = (2, 0x04, 0x1B)
ROUNDS, BLOCKS = 12, 64  # of 512 bytes


def sense_of(done):
    return (done.sense[2] & 15, done.sense[12], done.sense[13]) if done.status else None


def sanitize(initiator, action, flags=0):
    return initiator.run(struct.pack(">BB7xB", 0x48, action | flags, 0))


def holds(path, marks):
    """How many of the marks are in files of that folder."""
    found = 0
    for folder, _, names in os.walk(path):
        for path in filter(os.path.isfile, (os.path.join(folder, name) for name in names)):
            with open(path, "rb") as f:
                data = f.read()
            found += sum(mark in data for mark in marks)
    return found


def segments(server):
    return {name for name in stores.names(server.url) if name.startswith("segments/")}


def wait_sanitized(initiator):
    while True:
        sense = sense_of(initiator.run(READY))
        if sense is None:
            return
        assert sense == BUSY or sense[0] == 6, sense


def fill(server, first, second):
    """Both LUNs by turns, so that they share objects; some of it twice. What was written, and the
    objects that it went to: each flush makes one, or more."""
    before, erased, kept = segments(server), [], []
    for n in range(ROUNDS):
        erased.append(os.urandom(BLOCKS * iscsi.BLOCK))
        kept.append(os.urandom(BLOCKS * iscsi.BLOCK))
        first.write(n % (ROUNDS - 4) * BLOCKS, erased[-1])
        second.write(n * BLOCKS, kept[-1])
        server.cli("flush")
    first.read(0, ROUNDS * BLOCKS)
    return [data[:64] for data in erased], kept, segments(server) - before


def check(server, second, marks, kept, objects):
    assert len(objects - segments(server)) >= ROUNDS
    for n, data in enumerate(kept):
        assert second.read(n * BLOCKS, BLOCKS) == data, n
    if stores.KIND == "file" and not stores.ENCRYPTED:
        assert holds(server.dir, marks) == 0


def erase(server):
    first = iscsi.Initiator(server.iscsi_port, IQN).ready()
    second = iscsi.Initiator(server.iscsi_port, IQN + ".other").ready()
    marks, *others = fill(server, first, second)
    if stores.KIND == "file" and not stores.ENCRYPTED:
        assert holds(server.dir, marks) >= ROUNDS
    assert sanitize(first, BLOCK_ERASE).status == 0
    assert first.read(0, ROUNDS * BLOCKS) == bytes(ROUNDS * BLOCKS * iscsi.BLOCK)
    check(server, second, marks, *others)
    assert sanitize(first, EXIT).status == 0  # there is no failure to leave
    if not stores.ENCRYPTED:
        assert sense_of(sanitize(first, CRYPTO_ERASE)) == (5, 0x24, 0)
    first.logout()
    second.logout()


def erase_and_die(server):
    """One that is cut short, perhaps before it began to delete, goes on at the next start."""
    action = CRYPTO_ERASE if stores.ENCRYPTED else BLOCK_ERASE
    first = iscsi.Initiator(server.iscsi_port, IQN).ready()
    second = iscsi.Initiator(server.iscsi_port, IQN + ".other").ready()
    marks, *others = fill(server, first, second)
    assert sanitize(first, action, IMMED).status == 0
    sense = first.run(SENSE, 18).data
    if sense[2] & 15:
        assert (sense[2] & 15, sense[12], sense[13]) == BUSY and sense[15] == 0x80, sense.hex()
        read = first.run(b"\x28" + bytes(7) + b"\1\0", iscsi.BLOCK)
        assert sense_of(read) in (BUSY, None), read.sense.hex()
        assert first.run(b"\x12\0\0\0\x24\0", 36).status == 0
    server.kill()
    server.start()
    first = iscsi.Initiator(server.iscsi_port, IQN)
    first.login()
    wait_sanitized(first)
    assert first.read(0, ROUNDS * BLOCKS) == bytes(ROUNDS * BLOCKS * iscsi.BLOCK)
    second = iscsi.Initiator(server.iscsi_port, IQN + ".other").ready()
    check(server, second, marks, *others)


def main():
    with zt.Server() as server:
        server.cli("iscsi", "create-target", IQN, "0", "16M")
        server.cli("iscsi", "create-target", IQN + ".other", "0", "16M")
        server.start()
        erase(server)
        erase_and_die(server)
        server.stop()


main()
