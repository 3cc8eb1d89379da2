# SPDX-License-Identifier: Apache-2.0
"""What writers have done to a device, and what a crash may leave of it:

  1. a block covered by a completed FLUSH or FUA holds that write or a later one;
  2. if A completed before B was sent, and B survived, then A survived or was overwritten;
  3. a write of a block survives whole or not at all.

Every block of a write carries its block number and the number of the write. There is one write
under way per block at a time, so that the order on a block is the order of numbers.

    history = History(blocks)
    w = history.write(first, count, zero=False); w.sent = 1; ... w.completed = 2
    history.durable(w)          # a flush sent after its completion has completed, or it had FUA
    history.verify(image)       # after a crash: AssertionError, or how many writes were seen
"""
import struct

BLOCK = 4096
STAMP = struct.Struct(">QQ")
ZEROS = bytes(BLOCK)


def pieces(data):
    """What a block holds that is not of one write: (first byte, block, write) where it changes."""
    stamps = [STAMP.unpack_from(data, at) for at in range(0, BLOCK, STAMP.size)]
    return [(n * STAMP.size, *stamp) for n, stamp in enumerate(stamps)
            if n == 0 or stamp != stamps[n - 1]][:20]


class Write:
    def __init__(self, number, first, count, zero=False):
        self.number, self.first, self.count, self.zero = number, first, count, zero
        self.sent = self.completed = None

    def covers(self, b):
        return self.first <= b < self.first + self.count

    def payload(self):
        return b"".join(STAMP.pack(b, self.number) * (BLOCK // STAMP.size)
                        for b in range(self.first, self.first + self.count))


class History:
    def __init__(self, blocks):
        self.blocks = blocks
        self.last = 0
        self.floor = [0] * blocks    # by block: the write that must have survived, at least
        self.zeroed = [0] * blocks   # the write behind a block that was zero at the last restart
        self.writes = {}             # of this life of the server, by number
        self.by_block = [[] for _ in range(blocks)]

    def write(self, first, count, zero):
        self.last += 1
        w = Write(self.last, first, count, zero)
        self.writes[w.number] = w
        for b in range(first, first + count):
            self.by_block[b].append(w)
        return w

    def completed(self):
        return [w for w in self.writes.values() if w.completed]

    def durable(self, w):
        for b in range(w.first, w.first + w.count):
            self.floor[b] = max(self.floor[b], w.number)

    def may_be_zero(self, b, least):
        """The block's oldest zeroing that is not older than least; None: it may not be zero."""
        if least in (0, self.zeroed[b]):
            return least
        return next((w.number for w in self.by_block[b] if w.zero and w.number >= least), None)

    def seen(self, b, data):
        """The number of the write that the block shows; for zeros the least possible one."""
        if data == ZEROS:
            number = self.may_be_zero(b, self.floor[b])
            assert number is not None, f"block {b}: zeros, but write {self.floor[b]} was durable"
            return number
        block, number = STAMP.unpack_from(data)
        assert data == STAMP.pack(block, number) * (BLOCK // STAMP.size), \
            f"block {b} is torn: {pieces(data)}; write {self.floor[b]} was durable"
        assert block == b, f"block {b} shows block {block}"
        assert number >= self.floor[b], \
            f"block {b}: write {number}, but write {self.floor[b]} was durable"
        w = self.writes.get(number)
        assert number == self.floor[b] or (w and w.covers(b)), \
            f"block {b}: write {number}, which nobody has sent here"
        return number

    def lost(self, image):
        """The number of a completed write that the image shows to be lost, or None."""
        for b in range(self.blocks):
            data = image[b * BLOCK:(b + 1) * BLOCK]
            done = [w for w in self.by_block[b] if w.completed]
            if not done:
                continue
            last = done[-1].number
            if data == ZEROS:
                if not any(w.zero and w.number >= last for w in self.by_block[b]):
                    return last
            elif STAMP.unpack_from(data)[1] < last:
                return last
        return None

    def verify(self, image):
        blocks = [image[b * BLOCK:(b + 1) * BLOCK] for b in range(self.blocks)]
        shown = [self.seen(b, blocks[b]) for b in range(self.blocks)]
        # Only data says for certain which write it is of.
        survived = {n for b, n in enumerate(shown) if blocks[b] != ZEROS and n in self.writes}
        latest = max((self.writes[n].sent for n in survived), default=0)
        for b in range(self.blocks):
            least = 0
            for w in self.by_block[b]:
                if w.number in survived or (w.completed and w.completed < latest):
                    least = w.number
            if blocks[b] == ZEROS:
                assert self.may_be_zero(b, max(least, self.floor[b])) is not None, \
                    f"block {b}: zeros, but write {least} is before a write that survived"
            else:
                assert shown[b] >= least, \
                    f"block {b}: write {shown[b]}, but {least} is before a write that survived"
        self.settle(blocks, shown)
        return len(survived)

    def settle(self, blocks, shown):
        """What was read after the restart is on the store: the ground of what comes next."""
        for b in range(self.blocks):
            self.floor[b] = shown[b]
            self.zeroed[b] = shown[b] if blocks[b] == ZEROS else 0
        self.writes = {}
        self.by_block = [[] for _ in range(self.blocks)]
