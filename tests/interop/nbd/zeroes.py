#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Zeroes that stay allocated, in requests as long as the protocol has them, many at the same time
and all over a device of 16 TiB: they take no memory for their length, and other requests of the
device go on meanwhile, those that overlap included. What is written behind them stays."""
import os
import random
import sys
import time

sys.path.insert(0, os.path.join(os.environ["TOP"], "tests/lib"))
import rawnbd
import zt

SEED = int(os.environ.get("SEED", random.randrange(1 << 32)))
SIZE = 16 << 40
PIECE = 0xFFFFFFFF
PIECES = 4
OTHER_S = 3.0    # the slowest of the other requests; a piece takes longer than they all
GROWTH_KIB = 96 << 10
DATA = bytes(range(1, 129)) * 32


def others(s, k, rnd, starts, left):
    """Reads and writes of 4 KiB, half of them in the ranges that are being zeroed."""
    slowest, count = 0.0, 0
    while left():
        inside = rnd.choice(starts) + rnd.randrange(PIECE >> 12) * 4096
        off = inside if count % 2 else SIZE - (rnd.randrange(1 << 18) + 1) * 4096
        watch = zt.Stopwatch(s)
        if count % 4 < 2:
            assert k.call(rawnbd.WRITE, off, payload=DATA).error == 0
        else:
            assert k.read(off, 4096) in (DATA, bytes(4096))
        slowest = max(slowest, watch.seconds())
        count += 1
    print(f"{count} others meanwhile, the slowest {slowest * 1000:.0f} ms", flush=True)
    assert count > 20 and slowest < OTHER_S, (count, slowest)


def main():
    print("seed", SEED, flush=True)
    rnd = random.Random(SEED)
    with zt.Server() as s:
        s.cli("nbd", "create", "--name", "disk", "--size", str(SIZE))
        s.start()
        k = rawnbd.Client(("127.0.0.1", s.nbd_port), timeout_s=200)
        k.enter("disk", rawnbd.STRUCTURED, ["base:allocation"])
        other = rawnbd.Client(("127.0.0.1", s.nbd_port), timeout_s=60)
        other.enter("disk", rawnbd.STRUCTURED, ["base:allocation"])
        starts = [n * (SIZE // PIECES) // 4096 * 4096 + 8192 for n in range(PIECES)]
        for off in starts:
            assert k.call(rawnbd.WRITE, off, payload=DATA).error == 0
        before, begin = s.used_kib(), time.monotonic()
        for off in starts:
            k.send(rawnbd.WRITE_ZEROES, off, PIECE, flags=rawnbd.NO_HOLE)
        answered = []

        def left():
            while k.has_input():
                assert k.receive().error == 0
                answered.append(time.monotonic() - begin)
            grown = s.used_kib() - before
            assert grown < GROWTH_KIB, grown
            return len(answered) < PIECES

        others(s, other, rnd, starts, left)
        print(f"{PIECES} pieces took {answered[-1]:.1f} s, {s.used_kib() - before} KiB", flush=True)
        for off in starts:
            assert k.read(off, 1) == bytes(1)
            status = k.call(rawnbd.BLOCK_STATUS, off + (2 << 20), 4096).extents()
            assert status[0][1] in (0, 2), status  # allocated: no hole, even where others wrote
            last = off + PIECE // 4096 * 4096
            assert k.call(rawnbd.BLOCK_STATUS, last + 8192, 4096).extents()[0][1] == 3
        assert k.call(rawnbd.WRITE, starts[0] + (1 << 30), payload=DATA).error == 0
        k.flush()
        s.kill()
        s.start()
        k = rawnbd.Client(("127.0.0.1", s.nbd_port), timeout_s=200)
        k.enter("disk", rawnbd.STRUCTURED, ["base:allocation"])
        assert k.read(starts[0] + (1 << 30), 4096) == DATA
        assert k.read(starts[0], 1) == bytes(1)
        s.stop()


main()
