#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
# heavy
"""ODX: 96 MiB by tokens from one target to another, in the foreground and in the background. What
is written after a token was made is not in it; next to nothing goes to the store; and what tokens
hold is given back when they are deleted, and by the opening after a kill -9."""
import json
import os
import struct

import initiator as iscsi
import zt
from pair import pair

IQN = "iqn.2024-01.net.zerofs:odx"
OTHER = IQN + ".other"
MIB = 1 << 20
SIZE = 96
PART = 48  # MiB in a token
BLOCKS = MIB // iscsi.BLOCK
DONE = 1


def ranges(where):
    text = b"".join(struct.pack(">QIxxxx", lba, blocks) for lba, blocks in where)
    return struct.pack(">H", len(text)) + text


def populate(initiator, list_id, where, immed=False):
    data = struct.pack(">BxIIxx", immed, 0, 0) + ranges(where)
    data = struct.pack(">H", len(data)) + data
    return initiator.run(struct.pack(">BBxxxxIIBB", 0x83, 0x10, list_id, len(data), 0, 0), out=data)


def write_using(initiator, list_id, token, where, offset=0, immed=False, delete=False):
    data = struct.pack(">B5xQ", immed | delete << 1, offset) + token + bytes(6) + ranges(where)
    data = struct.pack(">H", len(data)) + data
    return initiator.run(struct.pack(">BBxxxxIIBB", 0x83, 0x11, list_id, len(data), 0, 0), out=data)


def information(initiator, list_id):
    """Status, transferred blocks and token of an operation that is over."""
    def over():
        cdb = struct.pack(">BBIxxxxIBB", 0x84, 7, list_id, 1024, 0, 0)
        done = initiator.run(cdb, 1024)
        assert done.status == 0, done.sense.hex()
        return done.data if done.data[5] & 0x7F not in (0x11, 0x12) else None

    data = zt.wait_for(over)
    at = 32 + data[13]
    return data[5], int.from_bytes(data[16:24], "big"), data[at + 6:]


def good(done):
    assert done.status == 0, (done.status, done.sense.hex())


def volume(server):
    server.cli("flush")
    return json.loads(server.cli("status", "--json").stdout)


def wait_for_live(server, blocks):
    zt.wait_for(lambda: volume(server)["volume"]["live_blocks"] == blocks, every_s=0.2)


def page_is_true(initiator):
    """Page 8Fh names the commands that there are, and the block device ROD token limits."""
    data = initiator.run(bytes([0x12, 1, 0x8F, 4, 0, 0]), 1024).data
    found, at = {}, 4
    while at < len(data):
        kind, length = struct.unpack(">HH", data[at:at + 4])
        found[kind] = data[at + 4:at + 4 + length]
        at += 4 + length
    most = int.from_bytes(found[0][16:24], "big")
    assert most == 256 * BLOCKS, most
    commands = found[1][1:1 + found[1][0]]
    while commands:
        for action in commands[2:2 + commands[1]]:
            cdb = bytes([0xA3, 0x0C, 3, commands[0], 0, action, 0, 0, 0, 64, 0, 0])
            assert initiator.run(cdb, 64).data[1] & 7 == 3, (commands[0], action)
        commands = commands[2 + commands[1]:]
    assert len(found) == 8, sorted(found)


def copy(here, there, pieces):
    """In parts, each by a token; the source is overwritten between the two steps."""
    for number, first in enumerate(range(0, SIZE, PART)):
        lba, blocks, background = first * BLOCKS, PART * BLOCKS, bool(number)
        half = blocks // 2
        good(populate(here, number, [(lba + half, half), (lba, half)], background))
        status, count, token = information(here, number)
        assert (status, count, len(token)) == (DONE, blocks, 512), (status, count, len(token))
        here.write(lba, b"\x55" * MIB)
        good(write_using(there, 9, token, [(lba + half, half), (lba, half)], immed=background))
        assert information(there, 9)[:2] == (DONE, blocks)
    for at, piece in enumerate(pieces):
        assert there.read(at * BLOCKS, BLOCKS) == piece, f"MiB {at} differs"
    assert here.read(0, BLOCKS) == b"\x55" * MIB
    return token


def main():
    with pair(IQN, OTHER) as (server, here, there):
        page_is_true(here)
        pieces = [os.urandom(MIB) for _ in range(SIZE)]
        for at, piece in enumerate(pieces):
            here.write(at * BLOCKS, piece)
        before = volume(server)["store"]["bytes_out"]
        token = copy(here, there, pieces)
        copied = volume(server)["store"]["bytes_out"] - before
        print(f"{SIZE} MiB copied by tokens: {copied} bytes to the store, {SIZE // PART} MiB of "
              "which were written in between")
        assert copied < (SIZE // PART + 1) * MIB, copied

        # A token that was used up is none; what it held is free.
        live = volume(server)["volume"]["live_blocks"]
        good(write_using(there, 9, token, [(0, 8)], delete=True))
        done = write_using(there, 9, token, [(0, 8)])
        assert done.status == 2 and done.sense[12:14] == b"\x23\x09", done.sense.hex()
        zt.wait_for(lambda: volume(server)["volume"]["live_blocks"] < live, every_s=0.2)

        # One that is there when the server is killed: unknown afterwards, and its space is back.
        good(populate(there, 1, [(0, 32 * BLOCKS)]))
        token = information(there, 1)[2]
        held = volume(server)["volume"]["live_blocks"]
        server.kill()
        server.start()
        there = iscsi.Initiator(server.iscsi_port, OTHER).ready()
        wait_for_live(server, 2 * SIZE * MIB // 4096)
        assert held > 2 * SIZE * MIB // 4096, held
        done = write_using(there, 9, token, [(0, 8)])
        assert done.status == 2 and done.sense[12:14] == b"\x23\x04", done.sense.hex()
        there.logout()
        server.stop()


main()
