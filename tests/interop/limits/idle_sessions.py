#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
# store: file (what is idle asks no store for anything)
# serial
"""10,000 logged-in iSCSI sessions and 2,500 NBD connections that do nothing: a few KiB each, while
a worker's verified I/O keeps its latency, and a drain that ends in time.

An idle one costs at most 12 KiB of the server's memory (RSS; the kernel's sockets come on top)."""
import os
import random
import resource
import select
import time

import initiator
import rawnbd
import zt
from initiator import Initiator
from initiator_queue import cdb16

SEED = int(os.environ.get("SEED", random.randrange(1 << 32)))
ISCSI, NBD = 10000, 2500
ISCSI_KIB, NBD_KIB = 12, 12
P99_MS = 50
PING_LIMIT_S = 90
IQN = "iqn.2024-01.net.zerofs:idle"


def settled_kib(s):
    """RSS when it falls no more: what one that has just been busy holds is given back after a
    second."""
    least, since = s.used_kib(), time.monotonic()

    def no_longer_falls():
        nonlocal least, since
        now = s.used_kib()
        if now < least:
            least, since = now, time.monotonic()
        return time.monotonic() - since > 2

    zt.wait_for(no_longer_falls)
    return s.used_kib()


def log_in(s, count):
    """Sessions of as many initiators, and how their logins went."""
    begin, slowest, held = time.monotonic(), 0, []
    for n in range(count):
        started = time.monotonic()
        held.append(Initiator(s.iscsi_port, IQN, name=f"iqn.2024-01.test:idle{n}").login())
        slowest = max(slowest, time.monotonic() - started)
    print(f"{count} logins in {time.monotonic() - begin:.1f} s, the slowest "
          f"{slowest * 1000:.0f} ms", flush=True)
    return held


def enter(s, count):
    return [rawnbd.Client(("127.0.0.1", s.nbd_port)).enter("disk") for _ in range(count)]


class Worker:
    """One session and one connection with verified I/O."""

    def __init__(self, s, rnd):
        self.rnd = rnd
        self.lun = Initiator(s.iscsi_port, IQN).ready()
        self.disk = rawnbd.Client(("127.0.0.1", s.nbd_port)).enter("disk")

    def work(self, count):
        """The 99th percentile of the latencies in ms."""
        took = []
        for _ in range(count):
            data = self.rnd.randbytes(4096)
            block = self.rnd.randrange(4096)
            begin = time.monotonic()
            self.lun.write(block * 8, data)
            assert self.lun.read(block * 8, 8) == data
            self.disk.write(block * 4096, data)
            assert self.disk.read(block * 4096, 4096) == data
            took.append((time.monotonic() - begin) / 4)
        self.disk.flush()
        assert self.lun.run(cdb16(0x91, 0, 0)).status == 0
        return sorted(took)[len(took) * 99 // 100] * 1000


def measured(s, what, count, kib, connect):
    """The sessions, which cost at most so much each."""
    before = s.used_kib()
    held = connect(s, count)
    each = (settled_kib(s) - before) / count
    print(f"{count} idle {what}: {each:.1f} KiB each", flush=True)
    assert each < kib
    return held


def pinged(s, sessions):
    """Every session answers the server's next ping, and costs as little afterwards."""
    waiting = {i.sock.fileno(): i for i in sessions}
    poll = select.epoll()
    for fd in waiting:
        poll.register(fd, select.EPOLLIN)
    ends_at = time.monotonic() + PING_LIMIT_S
    while waiting and time.monotonic() < ends_at:
        for fd, _ in poll.poll(1):
            poll.unregister(fd)
            i = waiting.pop(fd)
            ping = initiator.Pdu(i.exactly(48), b"")
            assert ping.opcode == initiator.NOP_IN, ping.bhs
            i.send(initiator.NOP_OUT | initiator.IMMEDIATE, initiator.FINAL, itt=initiator.NONE,
                   fields=((20, ping.word(20)), (24, i.cmdsn)))
    assert not waiting, f"{len(waiting)} sessions were not pinged"


def main():
    print("seed", SEED, flush=True)
    wanted = ISCSI + NBD + 1000
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if hard < wanted:
        hard = wanted  # root may
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    rnd = random.Random(SEED)
    with zt.Server() as s:
        s.cli("nbd", "create", "--name", "disk", "--size", "64M")
        s.cli("iscsi", "create-target", "--iqn", IQN, "--lun", "0", "--size", "64M")
        s.start()
        worker = Worker(s, rnd)
        alone = worker.work(3000)
        before = s.used_kib()
        sessions = measured(s, "iSCSI sessions", ISCSI, ISCSI_KIB, log_in)
        if zt.SOAK:
            pinged(s, sessions)
            each = (settled_kib(s) - before) / ISCSI
            print(f"after a ping: {each:.1f} KiB each", flush=True)
            assert each < ISCSI_KIB
        connections = measured(s, "NBD connections", NBD, NBD_KIB, enter)
        among = worker.work(3000)
        print(f"p99 of a request: {alone:.2f} ms alone, {among:.2f} ms among the idle", flush=True)
        assert among < P99_MS
        for i in rnd.sample(sessions, 50):
            assert i.nop().data == b"ping"
        for k in rnd.sample(connections, 50):
            assert k.read(0, 512)
        begin = time.monotonic()
        s.stop()
        print(f"drained in {time.monotonic() - begin:.1f} s", flush=True)
        assert sessions[0].is_dropped() and sessions[-1].is_dropped()
        assert connections[0].is_closed()


main()
