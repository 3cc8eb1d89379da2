# SPDX-License-Identifier: Apache-2.0
"""Random verified I/O over several connections, NBD and iSCSI alike, on a device whose history is
kept (history.py).

    load = Load(history, rnd, [NbdPeer(server.nbd_socket, "disk"), IscsiPeer(port, IQN)])
    load.run(0.5)        # seconds of writes, zeroes, reads, flushes, FUA
    load.finish()        # what is under way ends, and a flush; or kill the server, and then
    load.close()
    history.verify(load_image(peer, blocks))

There is one write or any number of reads under way per block; a read must give what the last
completed write left. The clock is a counter of sends and completions, as one client sees them over
all its connections. A peer whose requests may fail (a server that is about to be fenced) is told so
with may_fail: what has failed counts as never completed."""
import selectors
import struct
import time

import rawnbd
from history import BLOCK, STAMP, ZEROS
from initiator_queue import Queue, cdb16, unmap_cdb, unmap_list

SECTORS = BLOCK // 512
READ, WRITE, ZERO, FLUSH = range(4)


class NbdPeer:
    gone = rawnbd.Closed

    def __init__(self, address, name):
        self.k = rawnbd.Client(address).enter(name)
        self.socket = self.k.socket

    def has_room(self):
        return True

    def start(self, what, first=0, count=0, fua=False, payload=b""):
        command = (rawnbd.READ, rawnbd.WRITE, rawnbd.WRITE_ZEROES, rawnbd.FLUSH)[what]
        flags = rawnbd.FUA if fua else 0
        return self.k.send(command, first * BLOCK, count * BLOCK, flags, payload)

    def ended(self):
        """(token, error, data) of the next request that has ended."""
        reply = self.k.receive()
        return reply.cookie, reply.error, reply.data

    def has_more(self):
        return len(self.k.buffer) >= 16

    def close(self):
        self.k.close()


class IscsiPeer:
    gone = (EOFError, ConnectionError)

    def __init__(self, port, iqn, keys=None):
        keys = keys or {"InitialR2T": "No", "FirstBurstLength": "262144"}
        self.q = Queue(port, iqn, keys).ready()
        self.socket = self.q.sock
        self.turn = 0

    def has_room(self):
        return self.q.has_room()

    def start(self, what, first=0, count=0, fua=False, payload=b""):
        lba, blocks = first * SECTORS, count * SECTORS
        self.turn += 1
        if what == READ:
            return self.q.start(cdb16(0x88, lba, blocks), count * BLOCK)
        if what == WRITE:
            return self.q.start(cdb16(0x8A, lba, blocks, 8 if fua else 0), out=payload)
        if what == FLUSH:
            if self.turn % 2:
                return self.q.start(cdb16(0x91, 0, 0))
            return self.q.start(struct.pack(">BBIBHB", 0x35, 0, 0, 0, 0, 0))
        if self.turn % 3 == 0:
            # Whole blocks each: a crash may come between two ranges.
            half = blocks // 2 // SECTORS * SECTORS
            ranges = [(lba, half), (lba + half, blocks - half)]
            return self.q.start(unmap_cdb(ranges), out=unmap_list(ranges))
        unmap = 8 if self.turn % 3 == 1 else 0
        return self.q.start(cdb16(0x93, lba, blocks, unmap), out=bytes(512))

    def ended(self):
        """None when what came ends no request: then nothing more may come here until another
        connection is answered."""
        taken = self.q.taken()
        if not taken:
            return None
        itt, status = taken
        return itt, status.status and (status.status, status.sense.hex()), status.data

    def has_more(self):
        return False

    def close(self):
        self.q.close()


class Load:
    def __init__(self, history, rnd, peers, depth=32, may_fail=False):
        self.history, self.rnd, self.peers, self.depth = history, rnd, peers, depth
        self.may_fail = may_fail
        self.limit_s = 60    # for a reply; more when the store is away for a while
        self.clock = 0
        self.busy = set()    # blocks with a write under way
        self.read = {}       # block: reads of it under way
        self.under_way = {}  # (peer, token): (what, Write or range or what a flush covers, fua)
        self.current = [None if z else n for n, z in
                        ((f, f in (0, z)) for f, z in zip(history.floor, history.zeroed))]
        self.flushes = self.requests = self.failed = 0
        self.flush_latency_max_s = 0
        self.selector = selectors.DefaultSelector()
        for p in peers:
            self.selector.register(p.socket, selectors.EVENT_READ, p)

    def tick(self):
        self.clock += 1
        return self.clock

    def send(self, p):
        """One request over the peer, unless it would meet another one on its blocks."""
        rnd, h = self.rnd, self.history
        kind = rnd.random()
        self.requests += 1
        if kind < 0.02:
            self.under_way[p, p.start(FLUSH)] = (FLUSH, h.completed(), time.monotonic())
            return
        count = rnd.choice([1, 1, 1, 1, 2, 8, 9, 64])
        first = rnd.randrange(h.blocks - count)
        blocks = range(first, first + count)
        if not self.busy.isdisjoint(blocks):
            return
        if kind < 0.25:
            self.start_read(p, blocks)
        elif self.read.keys().isdisjoint(blocks):
            self.start_write(p, blocks)

    def start_read(self, p, blocks):
        for b in blocks:
            self.read[b] = self.read.get(b, 0) + 1
        self.under_way[p, p.start(READ, blocks[0], len(blocks))] = (READ, blocks, 0)

    def start_write(self, p, blocks):
        w = self.history.write(blocks[0], len(blocks), self.rnd.random() < 0.1)
        self.busy.update(blocks)
        w.sent = self.tick()
        fua = self.rnd.random() < 0.03 and not w.zero
        token = p.start(ZERO if w.zero else WRITE, w.first, w.count, fua,
                        b"" if w.zero else w.payload())
        self.under_way[p, token] = (WRITE, w, fua)

    def receive(self, p):
        """Whether it ended a request."""
        ended = p.ended()
        if not ended:
            return False
        self.check(p, *ended)
        return True

    def check(self, p, token, error, data):
        what, subject, extra = self.under_way.pop((p, token))
        if error and self.may_fail:
            self.failed += 1
            return
        assert not error, (error, what, subject)
        if what == FLUSH:
            self.flushes += 1
            self.flush_latency_max_s = max(self.flush_latency_max_s, time.monotonic() - extra)
            for w in subject:
                self.history.durable(w)
        elif what == READ:
            self.check_read(subject, data)
        else:
            self.written(subject, extra)

    def check_read(self, blocks, data):
        for at, b in enumerate(blocks):
            self.read[b] -= 1
            if not self.read[b]:
                del self.read[b]
            number = self.current[b]
            want = STAMP.pack(b, number) * (BLOCK // STAMP.size) if number else ZEROS
            have = data[at * BLOCK:(at + 1) * BLOCK]
            assert have == want, f"block {b}: {STAMP.unpack_from(have)} instead of write {number}"

    def written(self, w, fua):
        w.completed = self.tick()
        for b in range(w.first, w.first + w.count):
            self.current[b] = None if w.zero else w.number
            self.busy.discard(b)
        if fua:
            self.history.durable(w)

    def turn(self):
        """Takes what comes, until a request has ended or a peer is gone."""
        ends_at = time.monotonic() + self.limit_s
        is_over = False
        while not is_over:
            ready = self.selector.select(max(0, ends_at - time.monotonic()))
            assert ready, f"no reply within {self.limit_s} s"
            for key, _ in ready:
                is_over |= self.take(key.data)

    def take(self, p):
        """Whether a request has ended, or the peer is gone."""
        try:
            is_over = self.receive(p)
            while p.has_more():
                is_over |= self.receive(p)
            return is_over
        except p.gone:
            assert self.may_fail, "the server has closed a connection"
            self.drop(p)
            return True

    def drop(self, p):
        """The peer is gone; what it had under way may or may not have happened."""
        self.selector.unregister(p.socket)
        self.peers.remove(p)
        for key in [k for k in self.under_way if k[0] is p]:
            del self.under_way[key]

    def run(self, seconds):
        ends_at = time.monotonic() + seconds
        while self.peers and time.monotonic() < ends_at:
            for _ in range(self.depth):
                p = self.rnd.choice(self.peers)
                if len(self.under_way) < self.depth and p.has_room():
                    self.send(p)
            if self.under_way:
                self.turn()

    def finish(self):
        """Until nothing is under way and everything is durable."""
        while self.under_way:
            self.turn()
        p = self.peers[0]
        self.under_way[p, p.start(FLUSH)] = (FLUSH, self.history.completed(), time.monotonic())
        self.turn()

    def close(self):
        self.selector.close()
        for p in self.peers:
            p.close()


def next_ended(peer):
    """Of the only peer."""
    while True:
        ended = peer.ended()
        if ended:
            return ended


def told_of_loss(peer):
    """A flush: whether it gives the error that says that unflushed writes were lost. A second one
    does not. The peer is closed."""
    errors = []
    for _ in range(2):
        peer.start(FLUSH)
        errors.append(next_ended(peer)[1])
    peer.close()
    assert not errors[1], f"told twice: {errors}"
    return bool(errors[0])


def notice(history, image, peers):
    """After a server has died, before history.verify(): who is told by its first flush. If an
    acknowledged write is lost, somebody is."""
    lost = history.lost(image)
    told = [told_of_loss(p) for p in peers]
    assert any(told) or not lost, f"write {lost} is lost, and nobody was told"
    return told


def image_of(peer, blocks):
    """The whole device, and the peer is closed."""
    image = b""
    for first in range(0, blocks, 256):
        peer.start(READ, first, min(256, blocks - first))
        _, error, data = next_ended(peer)
        assert not error, error
        image += data
    peer.close()
    return image
