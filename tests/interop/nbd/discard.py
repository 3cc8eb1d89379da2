#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
# limit: 600
"""Discards of whole devices are acknowledged in under a second with flat memory, and what was there
reads as zeros at once: one fully written, one with a block in every 64 MiB, one empty."""
import os
import sys

sys.path.insert(0, os.path.join(os.environ["TOP"], "tests/lib"))
import rawnbd
import zt

FULL = 4 << 30
SPARSE = 1 << 40
EMPTY = 16 << 40
STEP = 64 << 20
LIMIT_S = 1.0
GROWTH_KIB = 32 << 10


def connect(s, name):
    k = rawnbd.Client(("127.0.0.1", s.nbd_port), timeout_s=120)
    return k.enter(name, rawnbd.STRUCTURED, ["base:allocation"])


def fill_full(k):
    """Compressible, so that the test is not one of the disk."""
    for off in range(0, FULL, 8 << 20):
        k.write(off, off.to_bytes(8, "big") * (1 << 20))
    k.flush()


def fill_sparse(k):
    pending = 0
    for off in range(0, SPARSE, STEP):
        k.send(rawnbd.WRITE, off, payload=off.to_bytes(8, "big") * 512)
        pending += 1
        if pending == 64:
            while pending:
                assert k.receive().error == 0
                pending -= 1
    k.flush()


def discard(s, k, size):
    """In requests as long as the protocol has them."""
    before = s.used_kib()
    watch = zt.Stopwatch(s)
    off = 0
    while off < size:
        n = min(size - off, 0xFFFFF000)
        assert k.call(rawnbd.TRIM, off, n).error == 0
        off += n
    took = watch.seconds()
    grown = s.used_kib() - before
    print(f"discard of {size >> 20} MiB: {took * 1000:.0f} ms, {grown} KiB", flush=True)
    assert took < LIMIT_S, took
    assert grown < GROWTH_KIB, grown


def empty(s, k, off, size):
    extents = k.call(rawnbd.BLOCK_STATUS, off, size).extents()
    assert all(flags == 3 for _, flags in extents) and extents, extents
    assert k.read(off, 4096) == bytes(4096)


def main():
    with zt.Server() as s:
        for name, size in (("full", FULL), ("sparse", SPARSE), ("empty", EMPTY)):
            s.cli("nbd", "create", "--name", name, "--size", str(size))
        s.start()
        k = connect(s, "full")
        fill_full(k)
        assert k.read(FULL - 4096, 8) != bytes(8)
        discard(s, k, FULL)
        for off in range(0, FULL, FULL // 64):
            empty(s, k, off, 1 << 20)
        k = connect(s, "sparse")
        fill_sparse(k)
        discard(s, k, SPARSE)
        for off in range(0, SPARSE, SPARSE // 128):
            empty(s, k, off, STEP)
        k = connect(s, "empty")
        discard(s, k, EMPTY)
        empty(s, k, EMPTY - STEP, STEP)
        k.flush()
        s.kill()
        s.start()  # and it stays so
        k = connect(s, "full")
        for off in range(0, FULL, FULL // 64):
            empty(s, k, off, 1 << 20)
        s.stop()


main()
