#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
# limit: 400
"""kill -9 under load over NBD. After each restart:

  1. every block covered by a completed FLUSH or FUA holds that write or a later one;
  2. if A completed before B was sent, and B survived, then A survived or was overwritten;
  3. a write survives whole or not at all.

Every block of a write carries its block number and the number of the write. There is one write under
way per block at a time, so that the order on a block is the order of numbers. The clock is a counter
of sends and completions, as one client sees them over two connections."""
import os
import random
import selectors
import struct
import sys
import time

sys.path.insert(0, os.path.join(os.environ["TOP"], "tests/lib"))
import rawnbd
import zt

SEED = int(os.environ.get("SEED", random.randrange(1 << 32)))
ROUNDS = 500 if zt.SOAK else 20
BLOCK = 4096
BLOCKS = 4096
DEPTH = 32
STAMP = struct.Struct(">QQ")


class Write:
    def __init__(self, number, first, count, zero=False):
        self.number, self.first, self.count, self.zero = number, first, count, zero
        self.sent = self.completed = None

    def payload(self):
        return b"".join(STAMP.pack(b, self.number) * (BLOCK // STAMP.size)
                        for b in range(self.first, self.first + self.count))


class Round:
    """The load of one life of the server, and what it may leave."""

    def __init__(self, history, rnd):
        self.history, self.rnd = history, rnd
        self.clock = 0
        self.busy = set()  # blocks with a write under way
        self.under_way = {}  # (connection, cookie): Write or a list of those a flush covers
        self.flushes = 0

    def tick(self):
        self.clock += 1
        return self.clock

    def send(self, at, k):
        rnd = self.rnd
        if rnd.random() < 0.02:
            done = [w for w in self.history.writes.values() if w.completed]
            self.under_way[at, k.send(rawnbd.FLUSH)] = done
            return
        count = rnd.choice([1, 1, 1, 1, 2, 8, 9, 64])
        first = rnd.randrange(BLOCKS - count)
        if not self.busy.isdisjoint(range(first, first + count)):
            return
        self.busy.update(range(first, first + count))
        w = self.history.write(first, count, rnd.random() < 0.1)
        w.sent = self.tick()
        flags = rawnbd.FUA if rnd.random() < 0.03 else 0
        if w.zero:
            cookie = k.send(rawnbd.WRITE_ZEROES, first * BLOCK, count * BLOCK, flags)
        else:
            cookie = k.send(rawnbd.WRITE, first * BLOCK, flags=flags, payload=w.payload())
        self.under_way[at, cookie] = (w, flags)

    def receive(self, at, k):
        reply = k.receive()
        assert reply.error == 0, reply.error
        what = self.under_way.pop((at, reply.cookie))
        if isinstance(what, list):
            self.flushes += 1
            for w in what:
                self.history.durable(w)
            return
        w, flags = what
        w.completed = self.tick()
        self.busy.difference_update(range(w.first, w.first + w.count))
        if flags:
            self.history.durable(w)

    def run(self, server, seconds):
        clients = [rawnbd.Client(server.nbd_socket).enter("disk") for _ in range(2)]
        ends_at = time.monotonic() + seconds
        selector = selectors.DefaultSelector()
        for at, k in enumerate(clients):
            selector.register(k.socket, selectors.EVENT_READ, (at, k))
        while time.monotonic() < ends_at:
            while len(self.under_way) < DEPTH:
                at = self.rnd.randrange(2)
                self.send(at, clients[at])
            for key, _ in selector.select(1):
                at, k = key.data
                self.receive(at, k)
                while len(k.buffer) >= 16:
                    self.receive(at, k)
        server.kill()
        for k in clients:
            k.close()


class History:
    def __init__(self):
        self.last = 0
        self.floor = [0] * BLOCKS    # by block: the write that must have survived, at least
        self.writes = {}             # of this life of the server, by number
        self.by_block = [[] for _ in range(BLOCKS)]

    def write(self, first, count, zero):
        self.last += 1
        w = Write(self.last, first, count, zero)
        self.writes[w.number] = w
        for b in range(first, first + count):
            self.by_block[b].append(w)
        return w

    def durable(self, w):
        for b in range(w.first, w.first + w.count):
            self.floor[b] = max(self.floor[b], w.number)

    def may_be_zero(self, b, least):
        """The oldest zeroing of the block that is not older than least; None: it may not be zero."""
        if least in (0, self.zeroed[b]):
            return least
        return next((w.number for w in self.by_block[b] if w.zero and w.number >= least), None)

    zeroed = [0] * BLOCKS  # the write behind a block that was zero at the last restart

    def seen(self, b, data):
        """The number of the write that the block shows; for zeros the least possible one."""
        if data == bytes(BLOCK):
            number = self.may_be_zero(b, self.floor[b])
            assert number is not None, f"block {b}: zeros, but write {self.floor[b]} was durable"
            return number
        block, number = STAMP.unpack_from(data)
        assert data == STAMP.pack(block, number) * (BLOCK // STAMP.size), f"block {b} is torn"
        assert block == b, f"block {b} shows block {block}"
        assert number >= self.floor[b], \
            f"block {b}: write {number}, but write {self.floor[b]} was durable"
        return number

    def verify(self, image):
        zeros = bytes(BLOCK)
        blocks = [image[b * BLOCK:(b + 1) * BLOCK] for b in range(BLOCKS)]
        shown = [self.seen(b, blocks[b]) for b in range(BLOCKS)]
        # Only data says for certain which write it is of.
        survived = {n for b, n in enumerate(shown) if blocks[b] != zeros and n in self.writes}
        latest = max((self.writes[n].sent for n in survived), default=0)
        for b in range(BLOCKS):
            least = 0
            for w in self.by_block[b]:
                if w.number in survived or (w.completed and w.completed < latest):
                    least = w.number
            if blocks[b] == zeros:
                assert self.may_be_zero(b, max(least, self.floor[b])) is not None, \
                    f"block {b}: zeros, but write {least} is before a write that survived"
            else:
                assert shown[b] >= least, \
                    f"block {b}: write {shown[b]}, but {least} is before a write that survived"
        self.settle(blocks, shown)
        return len(survived)

    def settle(self, blocks, shown):
        """What was read after the restart is on the store: the ground of the next round."""
        for b in range(BLOCKS):
            self.floor[b] = shown[b]
            self.zeroed[b] = shown[b] if blocks[b] == bytes(BLOCK) else 0
        self.writes = {}
        self.by_block = [[] for _ in range(BLOCKS)]


def read_all(server):
    k = rawnbd.Client(server.nbd_socket).enter("disk")
    image = b"".join(k.read(off, 1 << 20) for off in range(0, BLOCKS * BLOCK, 1 << 20))
    k.disconnect()
    return image


def main():
    print("seed", SEED, flush=True)
    rnd = random.Random(SEED)
    history = History()
    with zt.Server() as s:
        s.cli("nbd", "create", "--name", "disk", "--size", str(BLOCKS * BLOCK))
        s.start()
        for number in range(ROUNDS):
            life = Round(history, rnd)
            life.run(s, rnd.choice([0.05, 0.2, 0.5, 1.2]))
            sent = len(history.writes)
            s.start()
            survived = history.verify(read_all(s))
            print(f"round {number}: {sent} writes, {life.flushes} flushes, {survived} seen after",
                  flush=True)
        s.stop()


main()
