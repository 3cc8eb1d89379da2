#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
# long
# limit: 600
"""Two servers take one store from each other. The one that serves is frozen under load at any
moment; the other takes over and has everything that was acknowledged; the first, woken, answers no
flush and no FUA with "good" unless the other has it, and ends with code 7. Persistent reservations
move along."""
import os
import random
import signal

import reserve
import zt
from history import BLOCK, History, Write
from initiator import Initiator
from load import FLUSH, WRITE, IscsiPeer, Load, NbdPeer, image_of, notice

SEED = int(os.environ.get("SEED", random.randrange(1 << 32)))
ROUNDS = 220 if zt.SOAK else 5 if zt.BRIEF else 20
BLOCKS = 2048
IQN = "iqn.2024-01.net.zerofs:takeover"
HELD = 7
KEPT = IQN + ".kept"
WRITE_ONE = b"\x2a" + bytes(7) + b"\x01\x00"


def at_kept(s, name):
    return Initiator(s.iscsi_port, KEPT, name=f"iqn.2024-01.test:{name}",
                     isid=b"\x80\0\0\0\0\1").ready()


def reserved(s):
    """One holds it, another is registered: what READ FULL STATUS says."""
    one, two = at_kept(s, "holder"), at_kept(s, "registrant")
    for key, i in ((5, one), (6, two)):
        assert reserve.out(i, reserve.REGISTER, 0, 0, key, reserve.APTPL) == reserve.GOOD
    assert reserve.out(one, reserve.RESERVE, reserve.WE_RO, 5, 0) == reserve.GOOD
    said = reserve.status_of(one)
    for i in (one, two):
        i.logout()
    return said


def still_reserved(s, before):
    for name, status in (("holder", reserve.GOOD), ("registrant", reserve.GOOD),
                         ("other", reserve.CONFLICT)):
        i = at_kept(s, name)
        assert reserve.status_of(i) == before, (reserve.status_of(i), before)
        assert i.run(WRITE_ONE, out=bytes(512)).status == status, name
        i.logout()


def peers_of(s):
    return [NbdPeer(s.nbd_socket, "disk"), NbdPeer(s.nbd_socket, "disk")]


def luns_of(s):
    return [IscsiPeer(s.iscsi_port, IQN), IscsiPeer(s.iscsi_port, IQN)]


def images_of(s):
    return (image_of(NbdPeer(s.nbd_socket, "disk"), BLOCKS),
            image_of(IscsiPeer(s.iscsi_port, IQN), BLOCKS))


class Late:
    """In place of a history once its server sleeps: what it acknowledges from then on is measured
    by what the other server has found. A lost reply of before its sleep may be among it, a write
    that it was sent after the other had taken over may not."""

    FIRST = 1 << 40  # no write of a history has such a number

    def __init__(self, history):
        self.blocks, self.last = history.blocks, self.FIRST
        self.writes = {}
        self.zeroings = [max((w.number for w in writes if w.zero), default=0)
                         for writes in history.by_block]
        self.claimed = []
        self.found = None

    def completed(self):
        return list(self.writes.values())

    def durable(self, w):
        self.claimed.append(w)

    def check(self):
        for w in self.claimed:
            for b in range(w.first, w.first + w.count):
                assert self.found[b] >= w.number, \
                    f"block {b}: write {w.number} was acknowledged; there is {self.found[b]}"


class Frozen:
    """A server that sleeps, and its clients."""

    def __init__(self, server, loads):
        self.server, self.loads = server, loads
        self.unflushed = []
        server.process.send_signal(signal.SIGSTOP)
        for load in loads:
            load.history = Late(load.history)

    def taken_over(self, histories):
        """The histories are those of the other server, as it was found."""
        for load, h in zip(self.loads, histories):
            late = load.history
            late.found = [max(f, late.zeroings[b]) if f == h.zeroed[b] else f
                          for b, f in enumerate(h.floor)]

    def send(self, load, p, rnd):
        """A FUA write, and another, of blocks that nothing else is under way to: a read sent
        before the sleep may be answered after the write that came later."""
        for fua in (True, False):
            late = load.history
            late.last += 1
            free = [b for b in range(BLOCKS) if b not in load.busy and b not in load.read]
            w = late.writes[late.last] = Write(late.last, rnd.choice(free), 1)
            load.busy.add(w.first)
            if p.has_room():
                token = p.start(WRITE, w.first, 1, fua, w.payload())
                load.under_way[p, token] = (WRITE, w, fua)
                self.unflushed += [] if fua else [(p, w)]

    def flush(self, load):
        """A flush covers what was answered before it was sent: one for each write of send()."""
        for p, w in [x for x in self.unflushed if x[0] in load.peers and x[1].completed]:
            self.unflushed.remove((p, w))
            try:
                if p.has_room():
                    load.under_way[p, p.start(FLUSH)] = (FLUSH, [w], 0)
            except p.gone:
                load.drop(p)

    def wake(self, rnd):
        self.server.process.send_signal(signal.SIGCONT)
        for load in self.loads:
            for p in list(load.peers):
                try:
                    self.send(load, p, rnd)
                except p.gone:
                    load.drop(p)
        for load in self.loads:
            while load.peers and load.under_way:
                load.turn()
                self.flush(load)
            load.history.check()
            load.close()
        code = self.server.process.wait(zt.LIMIT_S)
        assert code == HELD, f"exit code {code}: {self.server.log_text()[-4000:]}"
        self.server.process = None


def round_of(number, servers, histories, rnd, held):
    """The one that serves is frozen, the other takes over, the first is woken."""
    first, second = servers
    loads = [Load(histories[0], rnd, peers_of(first), 16, may_fail=True),
             Load(histories[1], rnd, luns_of(first), 16, may_fail=True)]
    for _ in range(rnd.randrange(1, 12)):
        for load in loads:
            load.run(0.02)
            assert not load.failed, "an error of a server that serves"
    frozen = Frozen(first, loads)
    second.start()
    still_reserved(second, held)
    images = images_of(second)
    for h, image, peers in zip(histories, images, (peers_of(second), luns_of(second))):
        notice(h, image, peers)
    seen = [h.verify(image) for h, image in zip(histories, images)]
    frozen.taken_over(histories)
    # What the second acknowledges from now on must outlive the first's awakening.
    peers = peers_of(second), luns_of(second)
    fresh = [Load(h, rnd, both) for h, both in zip(histories, peers)]
    for load in fresh:
        load.run(0.1)
    frozen.wake(rnd)
    for load in fresh:
        load.run(0.1)
        load.finish()
        load.close()
    for h, image in zip(histories, images_of(second)):
        h.verify(image)
    claims = sum(len(load.history.claimed) for load in loads)
    print(f"round {number}: {sum(x.flushes for x in loads)} flushes, {seen} writes seen after, "
          f"{claims} acknowledged late", flush=True)


def main():
    print("seed", SEED, flush=True)
    rnd = random.Random(SEED)
    histories = [History(BLOCKS), History(BLOCKS)]
    url = zt.stores.url("shared")
    with zt.Server("a", url) as a, zt.Server("b", url) as b:
        size = str(BLOCKS * BLOCK)
        a.cli("nbd", "create", "--name", "disk", "--size", size)
        a.cli("iscsi", "create-target", "--iqn", IQN, "--lun", "0", "--size", size)
        a.cli("iscsi", "create-target", KEPT, "0", "1M")
        a.start()
        held = reserved(a)
        for number in range(ROUNDS):
            round_of(number, (a, b), histories, rnd, held)
            a, b = b, a
        a.stop()


main()
