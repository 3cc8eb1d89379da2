#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""A byte of an object on the store is changed, any byte of any object: no read ever gives a wrong
byte, and an object that was met is named."""
import collections
import os
import random

import nbd
import stores
import zt

SEED = int(os.environ.get("SEED", random.randrange(1 << 32)))
FLIPS = 2000 if zt.SOAK else 12 if zt.BRIEF else 40
STORE = 8
MIB = 1 << 20
PIECE = 64 << 10


def connect(s):
    h = nbd.NBD()
    h.set_export_name("disk")
    h.connect_unix(s.nbd_socket)
    return h


def fill(s, rnd):
    """The device's contents: some that compresses, some that does not, holes, small writes."""
    s.cli("nbd", "create", "disk", "4M")
    s.cli("iscsi", "create-target", "--iqn", "iqn.2024-01.net.zerofs:t", "--lun", "0", "--size",
          "1M")
    image = bytearray(4 * MIB)
    s.start()
    h = connect(s)

    def write(off, data):
        image[off:off + len(data)] = data
        h.pwrite(data, off)

    write(0, rnd.randbytes(MIB))
    write(MIB, b"compressible " * (MIB // 13))
    h.flush()
    for _ in range(1100):
        write(rnd.randrange(3 * 256) * 4096, rnd.randbytes(64) * 64)
        h.flush()
    h.shutdown()
    s.stop()
    return bytes(image)


def reads(s, image):
    """Whether all was right, or some reads said that they failed. Never wrong bytes."""
    h, failed = connect(s), 0
    for off in range(0, len(image), PIECE):
        try:
            data = h.pread(PIECE, off)
        except nbd.Error:
            failed += 1
            continue
        assert data == image[off:off + PIECE], f"wrong bytes in {off} to {off + PIECE}"
    h.shutdown()
    return failed


def named(text, name):
    return name in text or os.path.basename(name) in text


def one(s, image, name, rnd):
    """What happened with a byte of the object changed."""
    data = stores.read(s.url, name)
    at = rnd.randrange(len(data))
    spoiled = data[:at] + bytes([data[at] ^ 1 << rnd.randrange(8)]) + data[at + 1:]
    stores.write(s.url, name, spoiled)
    begin = len(s.log_text())
    try:
        try:
            s.start()
        except AssertionError:
            code = s.process.wait(zt.LIMIT_S)
            s.process = None
            said = s.log_text()[begin:]
            assert code == STORE, f"{name} byte {at}: exit code {code}: {said}"
            assert named(said, name), f"{name} byte {at} is not named: {said}"
            return "refused to open"
        failed = reads(s, image)
        said = s.log_text()[begin:]
        if failed:
            assert named(said, name), f"{name} byte {at} is not named: {said}"
        s.kill()
        return "failed reads" if failed else "not met, or made good"
    finally:
        stores.write(s.url, name, data)


def main():
    print("seed", SEED, flush=True)
    rnd = random.Random(SEED)
    with zt.Server() as s:
        image = fill(s, rnd)
        seen = collections.defaultdict(collections.Counter)
        for n in range(FLIPS):
            names = stores.names(s.url)
            kinds = sorted({name.split("/")[0] for name in names})
            kind = kinds[n % len(kinds)]
            names = [name for name in names if name.split("/")[0] == kind]
            # Those that are in use are among the newest; as often any.
            newest = names[:2] if kind == "manifest" else names[-3:] if kind == "sst" else names
            name = rnd.choice(newest if n // len(kinds) % 2 else names)
            seen[kind][one(s, image, name, rnd)] += 1
        s.start()
        assert reads(s, image) == 0, "all is as it was, and yet reads fail"
        s.stop()
    for kind, counts in seen.items():
        print(f"{kind}: {dict(counts)}")
    assert sum(c["refused to open"] + c["failed reads"] for c in seen.values()) > 0


main()
