#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
# compression: any (the order of replies)
"""A large read among many small ones of its session: those that came before it may end before it,
those that came later may not, however many they are."""
import os
import random
import time

import zt
from initiator_queue import Queue, cdb16

IQN = "iqn.2024-01.test:fair"
READ_16 = 0x88
BLOCK = 512
SIZE = 32 << 20
LARGE = 8 << 20  # as much as a connection may have under way


def start(q, length, at):
    return q.start(cdb16(READ_16, at // BLOCK, length // BLOCK), length)


def overtaken(q, depth, small):
    """How many of the small reads end before the large one that was sent after depth of them."""
    def any_small():
        start(q, small, random.randrange(SIZE // small) * small)

    for _ in range(depth):
        any_small()
    large = start(q, LARGE, 0)
    count, ends_at = 0, time.monotonic() + zt.LIMIT_S
    while True:
        itt, status = q.ended()
        assert status.status == 0, status.sense.hex()
        if itt == large:
            break
        count += 1
        assert time.monotonic() < ends_at, f"{count} small reads went before a large one"
        any_small()
    while q.parts:
        q.ended()
    return count


def main():
    with zt.Server() as s:
        s.cli("iscsi", "create-target", "--iqn", IQN, "--lun", "0", "--size", "32M")
        s.start()
        q = Queue(s.iscsi_port, IQN).ready()
        for off in range(0, SIZE, 1 << 20):
            q.write(off // BLOCK, os.urandom(1 << 20))
        for _ in range(5):
            for depth, small in ((16, 4096), (100, 4096), (32, 32768), (100, 32768)):
                count = overtaken(q, depth, small)
                assert count <= depth, f"{count} of {small} bytes overtook, {depth} came before"
        q.logout()
        s.stop()


main()
