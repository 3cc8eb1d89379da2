#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
# compression: any (what does not come as far as the store)
"""Peers that break the protocol, stop in the middle, or never read: each is dealt with alone, in
bounded memory, while a well-behaved client goes on."""
import os
import random
import struct
import sys

sys.path.insert(0, os.path.join(os.environ["TOP"], "tests/lib"))
import rawnbd
import zt

SEED = random.randrange(1 << 32)
SIZE = 64 << 20


class Test:
    def __init__(self, server):
        self.server = server
        self.good = self.connect().enter("disk")

    def connect(self, **how):
        return rawnbd.Client(("127.0.0.1", self.server.nbd_port), **how)

    def check_good(self):
        data = os.urandom(4096)
        self.good.write(4096, data)
        assert self.good.read(4096, 4096) == data

    def garbage(self):
        rnd = random.Random(SEED)
        for n in range(400):
            k = self.connect(flags=rnd.choice([3, 3, 3, 0, 1, 0xFFFFFFFF, None]))
            try:
                k.put(rnd.randbytes(rnd.randrange(1, 2000)))
            except rawnbd.Closed:
                pass
            k.close()
            if n % 100 == 0:
                self.check_good()

    def mutated_options(self):
        rnd = random.Random(SEED + 1)
        name = struct.pack(">I", 4) + b"disk"
        good = [(rawnbd.OPT_STRUCTURED_REPLY, b""), (rawnbd.OPT_INFO, name + b"\0\1\0\3"),
                (rawnbd.OPT_SET_META, name + struct.pack(">II", 1, 15) + b"base:allocation"),
                (rawnbd.OPT_LIST, b""), (rawnbd.OPT_GO, name + b"\0\0")]
        for _ in range(300):
            k = self.connect()
            stream = b"".join(struct.pack(">QII", rawnbd.IHAVEOPT, o, len(d)) + d for o, d in good)
            stream = bytearray(stream)
            for _ in range(rnd.randrange(1, 6)):
                stream[rnd.randrange(len(stream))] = rnd.randrange(256)
            try:
                k.put(bytes(stream[:rnd.randrange(1, len(stream) + 1)]))
            except rawnbd.Closed:
                pass
            k.close()
        self.check_good()

    def mutated_requests(self):
        rnd = random.Random(SEED + 2)
        for _ in range(200):
            k = self.connect()
            k.enter("disk", mode=rnd.choice([rawnbd.SIMPLE, rawnbd.STRUCTURED]))
            stream = bytearray()
            for _ in range(20):
                command = rnd.choice([0, 0, 1, 3, 4, 5, 6, 7, 9])
                length = rnd.choice([0, 1, 512, 4096, 5000, 1 << 16])
                off, flags = 8192 + rnd.randrange(SIZE), rnd.choice([0, 1, 2])
                _, head = k.header(command, off, length, flags)
                stream += head + (b"z" * length if command == 1 else b"")
            for _ in range(rnd.randrange(3)):
                stream[rnd.randrange(len(stream))] ^= 1 << rnd.randrange(8)
            try:
                k.put(bytes(stream[:rnd.randrange(1, len(stream) + 1)]))
            except rawnbd.Closed:
                pass
            k.close()
        self.check_good()

    def wrong_magic_ends_it(self):
        k = self.connect().enter("disk")
        k.put(b"\xff" * 28)
        assert k.is_closed()
        k = self.connect()
        k.put(b"\xff" * 16)
        assert k.is_closed()

    def oversized(self):
        k = self.connect().enter("disk")
        length = (32 << 20) + 1
        k.put(k.header(rawnbd.WRITE, 0, length)[1] + bytes(length))
        assert k.receive().error == rawnbd.EINVAL
        assert k.call(rawnbd.FLUSH).error == 0
        k.put(k.header(rawnbd.WRITE, 0, 0xFFFFFFFF)[1])
        assert k.is_closed()
        k = self.connect()
        k.put(struct.pack(">QII", rawnbd.IHAVEOPT, rawnbd.OPT_GO, 0xFFFFFFFF))
        assert k.answer()[1] == rawnbd.ERR_TOO_BIG
        assert k.is_closed()
        k = self.connect()
        assert k.ask(rawnbd.OPT_GO, bytes(200000))[1] == rawnbd.ERR_TOO_BIG
        assert k.go("disk") == rawnbd.ACK
        k.close()

    def half_writes(self):
        """Payloads that never come to their end hold nobody up."""
        held = []
        for n in range(20):
            k = self.connect().enter("disk")
            k.put(k.header(rawnbd.WRITE, 0, 100000 if n % 2 else 4096)[1] + bytes(1000))
            held.append(k)
        self.check_good()
        for k in held:
            k.close()
        self.check_good()

    def deaf(self):
        """It asks for 2 GiB and reads nothing."""
        data = os.urandom(1 << 20)
        for off in range(8 << 20, SIZE, 1 << 20):
            self.good.write(off, data)
        before = self.server.used_kib()
        peers = [self.connect().enter("disk") for _ in range(4)]
        for k in peers:
            for n in range(512):
                k.put(k.header(rawnbd.READ, (8 + n % 56) << 20, 1 << 20)[1])
        for _ in range(20):
            self.check_good()
        grown = self.server.used_kib() - before
        assert grown < 200 << 10, f"{grown} KiB for four deaf peers"
        for k in peers:
            k.close()

    def many_silent(self):
        """Strangers that say nothing cost little, and are sent away (15 s)."""
        before = self.server.used_kib()
        silent = [self.connect(timeout_s=75) for _ in range(500)]
        grown = self.server.used_kib() - before
        assert grown < 500 * 64, f"{grown} KiB for 500 silent strangers"
        self.check_good()
        for k in silent:
            assert k.is_closed()
            k.close()


def main():
    print("seed", SEED)
    with zt.Server() as s:
        s.cli("nbd", "create", "--name", "disk", "--size", "64M")
        s.start()
        t = Test(s)
        for part in (t.garbage, t.mutated_options, t.mutated_requests, t.wrong_magic_ends_it,
                     t.oversized, t.half_writes, t.deaf, t.many_silent):
            print(part.__name__, flush=True)
            part()
            t.check_good()
        t.good.disconnect()
        s.stop()


main()
