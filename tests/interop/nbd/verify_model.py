#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
# long
"""A model of the device in memory, against four connections: random offsets and sizes, discards,
zeroes, flushes, FUA, block status, resizes and restarts.

Each round sends a batch of requests over all connections at once. Writers of a batch do not
overlap, but for pairs that write exactly the same range, of which one must win as a whole. What the
model knows about a byte is its value, or that it is free (trimmed: zeros or the old value, and from
the first read on what was read)."""
import os
import random
import sys
import time

sys.path.insert(0, os.path.join(os.environ["TOP"], "tests/lib"))
import nbd
import zt
from model import Model

SEED = int(os.environ.get("SEED", random.randrange(1 << 32)))
SECONDS = 1800 if zt.SOAK else 10 if zt.BRIEF else 40
SIZE_MAX = 48 << 20
SIZE_MIN = 16 << 20
CONNECTIONS = 4


class Verifier:
    def __init__(self, server):
        self.server = server
        self.rnd = random.Random(SEED)
        self.model = Model(SIZE_MIN)
        self.connections = []
        self.ops = 0

    def connect(self):
        for _ in range(CONNECTIONS):
            h = nbd.NBD()
            h.add_meta_context(nbd.CONTEXT_BASE_ALLOCATION)
            h.set_request_structured_replies(self.rnd.random() < 0.7)
            h.set_export_name("disk")
            h.connect_tcp("127.0.0.1", str(self.server.nbd_port))
            assert h.get_size() == len(self.model.data)
            self.connections.append(h)

    def disconnect(self):
        for h in self.connections:
            h.shutdown()
        self.connections = []

    def range(self):
        size = len(self.model.data)
        shape = self.rnd.random()
        if shape < 0.4:
            length = 4096 * self.rnd.randrange(1, 9)
            return self.rnd.randrange((size - length) // 4096) * 4096, length
        if shape < 0.9:
            length = self.rnd.randrange(1, 100000)
        else:
            length = self.rnd.randrange(1, 3 << 20)
        return self.rnd.randrange(size - length + 1), length

    def start(self, taken):
        """One request of a batch: (handle, cookie, what to do with it when it has ended)."""
        h = self.rnd.choice(self.connections)
        off, length = self.range()
        if any(off < e and off + length > s for s, e in taken):
            return []
        kind = self.rnd.random()
        fua = nbd.CMD_FLAG_FUA if self.rnd.random() < 0.05 else 0
        taken.append((off, off + length))
        if kind < 0.40:
            data = self.rnd.randbytes(length)
            cookie = h.aio_pwrite(nbd.Buffer.from_bytearray(bytearray(data)), off, flags=fua)
            return [(h, cookie, lambda: self.model.write(off, data))]
        if kind < 0.45:
            return self.start_rivals(off, length)
        if kind < 0.75:
            buffer = nbd.Buffer(length)
            cookie = h.aio_pread(buffer, off)
            return [(h, cookie, lambda: self.model.check(off, buffer.to_bytearray()))]
        if kind < 0.87:
            flags = fua | (nbd.CMD_FLAG_NO_HOLE if self.rnd.random() < 0.5 else 0)
            cookie = h.aio_zero(length, off, flags=flags)
            return [(h, cookie, lambda: self.model.write(off, bytes(length)))]
        cookie = h.aio_trim(length, off, flags=fua)
        return [(h, cookie, lambda: self.model.trim(off, length))]

    def start_rivals(self, off, length):
        """Two writes of one range, on two connections: one of them wins, whole."""
        length = min(length, 65536)
        a, b = self.rnd.randbytes(length), self.rnd.randbytes(length)
        first, second = self.rnd.sample(self.connections, 2)

        def settle():
            have = bytes(self.connections[0].pread(length, off))
            assert have in (a, b), f"a mixture of two writes at {off}+{length}"
            self.model.write(off, have)

        started = []
        for h, data in ((first, a), (second, b)):
            cookie = h.aio_pwrite(nbd.Buffer.from_bytearray(bytearray(data)), off)
            started.append((h, cookie, None))
        started.append((None, None, settle))
        return started

    def batch(self):
        taken, started = [], []
        for _ in range(self.rnd.randrange(1, 60)):
            started += self.start(taken)
        if self.rnd.random() < 0.3:
            h = self.rnd.choice(self.connections)
            started.append((h, h.aio_flush(), None))
        for h, cookie, _ in started:
            while h and not h.aio_command_completed(cookie):
                h.poll(-1)
        for _, _, done in started:
            if done:
                done()
        self.ops += len(started)

    def check_status(self):
        """Holes read as zeros, and the extents cover what was asked for."""
        h = next((c for c in self.connections if c.can_meta_context("base:allocation")), None)
        if not h:
            return
        off, length = self.range()
        entries = []
        h.block_status(length, off, lambda ctx, at, e, err: entries.extend(e) or 0)
        for n, flags in zip(entries[::2], entries[1::2]):
            if flags & 2:
                end = min(off + n, len(self.model.data))
                self.model.check(off, bytes(end - off))
            off += n

    def check_all(self):
        size = len(self.model.data)
        for off in range(0, size, 1 << 20):
            n = min(1 << 20, size - off)
            self.model.check(off, bytes(self.connections[0].pread(n, off)))

    def resize(self):
        size = self.rnd.randrange(SIZE_MIN // 512, SIZE_MAX // 512) * 512
        self.disconnect()
        self.server.cli("nbd", "resize", "--name", "disk", "--size", str(size), "--force")
        self.model.resize(size)
        self.connect()
        self.check_all()

    def restart(self):
        kill = self.rnd.random() < 0.5
        if kill:
            self.connections[1].flush()
        else:
            self.disconnect()
        (self.server.kill if kill else self.server.stop)()
        self.connections = []
        self.server.start()
        self.connect()
        self.check_all()


def main():
    print("seed", SEED, flush=True)
    with zt.Server() as s:
        s.cli("nbd", "create", "--name", "disk", "--size", str(SIZE_MIN))
        s.start()
        v = Verifier(s)
        v.connect()
        ends_at = time.monotonic() + SECONDS
        while time.monotonic() < ends_at:
            for _ in range(12):
                v.batch()
            v.check_status()
            chance = v.rnd.random()
            if chance < 0.10:
                v.resize()
            elif chance < 0.17:
                v.restart()
        v.check_all()
        v.disconnect()
        s.stop()
        print(v.ops, "requests")


main()
