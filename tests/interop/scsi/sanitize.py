#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""SANITIZE, BLOCK ERASE and, where the volume is encrypted, CRYPTOGRAPHIC ERASE, which is not
there otherwise: what a LUN held, and what was overwritten there long ago, is in no file of the
store and of the cache any more, nor are the objects that held it, with what their keys are made
from; its neighbours, whose data lay in the same objects, are as they were; a kill -9 in between
only delays it; meanwhile there is progress and nothing else. OVERWRITE does that too, and then the
pattern of its last pass is on the whole LUN; without the room for it, it fails."""
import os
import struct

import initiator as iscsi
import stores
import zt

IQN = "iqn.2024-01.net.zerofs:sanitize"
READY, SENSE = bytes(6), b"\x03\0\0\0\x12\0"
OVERWRITE, BLOCK_ERASE, CRYPTO_ERASE, IMMED, AUSE, EXIT = 0x01, 0x02, 0x03, 0x80, 0x20, 0x1F
INVERT, PATTERN = 0x80, b"\x5a\0once more\xff"
SIZE_M = 16
BUSY = (2, 0x04, 0x1B)
ROUNDS, BLOCKS = 12, 64  # of 512 bytes


def sense_of(done):
    return (done.sense[2] & 15, done.sense[12], done.sense[13]) if done.status else None


def sanitize(initiator, action, flags=0, out=b""):
    cdb = struct.pack(">BB5xHB", 0x48, action | flags, len(out), 0)
    return initiator.run(cdb, out=out or None)


def overwrite_list(passes, pattern):
    return struct.pack(">BxH", passes, len(pattern)) + pattern


def check_pattern(initiator, pattern):
    """It begins anew in each block."""
    block = (pattern * iscsi.BLOCK)[:iscsi.BLOCK]
    for mib in range(SIZE_M):
        assert initiator.read(mib * 2048, 2048) == block * 2048, mib


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


def overwrite(server):
    """The second time is cut short; how far it was then depends."""
    first = iscsi.Initiator(server.iscsi_port, IQN).ready()
    second = iscsi.Initiator(server.iscsi_port, IQN + ".other").ready()
    marks, *others = fill(server, first, second)
    done = sanitize(first, OVERWRITE, out=overwrite_list(INVERT | 2, PATTERN))
    assert done.status == 0, done.sense.hex()
    check_pattern(first, PATTERN)
    check(server, second, marks, *others)
    done = sanitize(first, OVERWRITE, IMMED, out=overwrite_list(INVERT | 5, b"\xff"))
    assert done.status == 0, done.sense.hex()
    second.read(0, 1)
    server.kill()
    server.start()
    first = iscsi.Initiator(server.iscsi_port, IQN)
    first.login()
    wait_sanitized(first)
    check_pattern(first, b"\xff")
    assert sanitize(first, OVERWRITE, out=overwrite_list(1, b"\0")).status == 0
    check_pattern(first, b"\0")
    first.logout()


def overwrite_without_room(server):
    """It fails, and AUSE lets it be left: nothing of what was there is left, nor is all of the
    pattern there."""
    server.stop()
    server.configure("[filesystem]\nmax_size_gb = 0.01")
    server.start()
    first = iscsi.Initiator(server.iscsi_port, IQN).ready()
    noise = os.urandom(iscsi.BLOCK)
    done = sanitize(first, OVERWRITE, AUSE, overwrite_list(1, noise))
    assert sense_of(done) == (3, 0x31, 0x03), done.sense.hex()
    assert sense_of(first.run(READY)) == (3, 0x31, 0x03)
    assert sanitize(first, EXIT).status == 0
    assert first.read(0, 1) == noise and first.read(SIZE_M * 2048 - 1, 1) == bytes(iscsi.BLOCK)
    first.logout()


def main():
    with zt.Server() as server:
        server.cli("iscsi", "create-target", IQN, "0", f"{SIZE_M}M")
        server.cli("iscsi", "create-target", IQN + ".other", "0", "16M")
        server.start()
        erase(server)
        erase_and_die(server)
        overwrite(server)
        overwrite_without_room(server)
        server.stop()


main()
