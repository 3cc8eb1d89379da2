#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
# store: s3 (it is the one that wants descriptors of its own)
# serial
"""Strangers by the thousand on both ports: silent, byte by byte, gone without a word, half
closed. They cost little and are sent away (when there are too many, the oldest first and before
their time), and good clients that came before them and that come after them do verified I/O. The
same when they want more descriptors than the server may have: its store needs some, too."""
import os
import random
import resource
import select
import socket
import struct
import time

import rawnbd
import zt
from history import BLOCK, History
from initiator import Initiator
from load import IscsiPeer, Load, NbdPeer, image_of

SEED = int(os.environ.get("SEED", random.randrange(1 << 32)))
STRANGERS = 3000  # on each port
STRANGER_KIB = 16
STRANGERS_MAX = 1024  # that a port holds
LOGIN_S = 15      # the time for a login or handshake
IQN = "iqn.2024-01.net.zerofs:strangers"
BLOCKS = 2048


def descriptors(s):
    return len(os.listdir(f"/proc/{s.process.pid}/fd"))


def connect(port, n=0):
    """From one of several addresses: one alone has few ports."""
    return socket.create_connection(("127.0.0.1", port), 30, (f"127.0.0.{2 + n % 5}", 0))


def first_words(port, s):
    """A proper beginning: what a decent client says first."""
    if port == s.nbd_port:
        name = b"disk"
        go = struct.pack(">I", len(name)) + name + b"\0\0"
        return struct.pack(">IQII", 3, rawnbd.IHAVEOPT, rawnbd.OPT_GO, len(go)) + go
    i = Initiator(port, IQN)
    text = f"InitiatorName=iqn.2024-01.test:slow\0TargetName={IQN}\0".encode()
    words = i.pack(0x43, 0x87, text)
    i.close()
    return words


class Good:
    """The good clients: an old session and an old connection, and their history."""

    def __init__(self, s, rnd):
        self.s, self.rnd = s, rnd
        self.histories = [History(BLOCKS), History(BLOCKS)]
        self.peers = [NbdPeer(s.nbd_socket, "disk"), IscsiPeer(s.iscsi_port, IQN)]
        self.loads = [Load(h, rnd, [p]) for h, p in zip(self.histories, self.peers)]

    def work(self, seconds=0.2):
        for load in self.loads:
            watch = zt.Stopwatch(self.s)
            load.run(seconds)
            load.finish()
            assert watch.seconds() < LOGIN_S - 3, watch.seconds()

    def newcomers(self):
        NbdPeer(("127.0.0.1", self.s.nbd_port), "disk").close()
        IscsiPeer(self.s.iscsi_port, IQN).close()

    def verify(self):
        for load in self.loads:
            load.finish()
            load.close()
        for h, peer in zip(self.histories, (NbdPeer(self.s.nbd_socket, "disk"),
                                            IscsiPeer(self.s.iscsi_port, IQN))):
            h.verify(image_of(peer, BLOCKS))


def all_sent_away(strangers):
    """The server ends every one of them, whatever it says before."""
    ends_at = time.monotonic() + LOGIN_S + zt.LIMIT_S
    poll = select.epoll()
    left = {k.fileno(): k for k in strangers}
    for fd in left:
        poll.register(fd, select.EPOLLIN)
    while left:
        assert time.monotonic() < ends_at, f"{len(left)} strangers are still there"
        for fd, _ in poll.poll(1):
            try:
                more = left[fd].recv(4096)
            except ConnectionError:
                more = b""
            if not more:
                poll.unregister(fd)
                left.pop(fd).close()


def says_more(k):
    """False once the server has ended it."""
    try:
        return bool(k.recv(4096))
    except ConnectionError:
        return False


def silent(s, good):
    strangers = []
    for port in (s.nbd_port, s.iscsi_port):
        before = s.used_kib(), descriptors(s)
        watch, said = zt.Stopwatch(s), len(s.log_text())
        fresh = [connect(port, n) for n in range(STRANGERS)]
        zt.wait_for(lambda fds=before[1]: descriptors(s) > fds + STRANGERS / 4)
        for k in fresh[:STRANGERS - STRANGERS_MAX - 100]:  # cores admit not quite in order
            k.settimeout(zt.LIMIT_S)
            while says_more(k):
                pass
        # On a machine that is that slow, the server must have said why they went.
        assert watch.seconds() < LOGIN_S - 1 or "is sent away" in s.log_text()[said:], \
            "the oldest went only when it was their time"
        # One that comes now is the youngest, whatever the order was in which the others came in.
        begun = time.monotonic()
        fresh.append(connect(port))
        good.newcomers()
        is_gone = is_sent_away(fresh[-1])
        assert not is_gone or time.monotonic() - begun > LOGIN_S, "the youngest went first"
        strangers += fresh
        grown = (s.used_kib() - before[0]) / STRANGERS
        print(f"{STRANGERS} silent strangers: {grown:.1f} KiB each", flush=True)
        assert grown < STRANGER_KIB
        good.work()
        good.newcomers()
    all_sent_away(strangers)


def is_sent_away(k):
    k.settimeout(0)
    try:
        while k.recv(4096):
            pass
        return True
    except BlockingIOError:
        return False
    except ConnectionError:
        return True


def byte_by_byte(s, good):
    """A login whose bytes come one at a time is sent away like one that does not come."""
    left = {}
    for port in (s.nbd_port, s.iscsi_port):
        words = first_words(port, s)
        left.update({connect(port, n): words for n in range(300)})
    begin, turn = time.monotonic(), 0
    while left:
        assert time.monotonic() - begin < LOGIN_S + zt.LIMIT_S, f"{len(left)} are still at it"
        for k, words in list(left.items()):
            try:
                k.send(words[turn:turn + 1] if turn < len(words) - 1 else b"")
                away = is_sent_away(k)
            except ConnectionError:
                away = True
            if away:
                k.close()
                del left[k]
        turn += 1
        good.work(0.1)
    good.newcomers()


def gone(s, good):
    """Resets in the middle of words, and half closes after all of them."""
    for port in (s.nbd_port, s.iscsi_port):
        words = first_words(port, s)
        before = descriptors(s)
        for n in range(1000):
            with connect(port, n) as k:
                k.send(words[:n % len(words)])
                if n % 3 == 0:
                    k.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                elif n % 3 == 1:
                    k.shutdown(socket.SHUT_WR)
        good.work()
        zt.wait_for(lambda at_most=before + 8: descriptors(s) <= at_most)


def no_descriptors(rnd):
    """The server may have 400, and strangers want 600."""
    with zt.Server("few", wrap=["prlimit", "--nofile=400:400"]) as s:
        create(s)
        s.start()
        good = Good(s, rnd)
        for port in (s.nbd_port, s.iscsi_port):
            strangers, most = [], 0
            while len(strangers) < 600:
                strangers += [connect(port, n) for n in range(20)]
                most = max(most, descriptors(s))
            zt.wait_for(lambda seen=most: max(seen, descriptors(s)) >= 200)
            for _ in range(3):
                good.work(0.5)
            print(f"{descriptors(s)} descriptors of 400 are in use", flush=True)
            watch = zt.Stopwatch(s)
            good.newcomers()
            took = watch.seconds()
            print(f"newcomers after {took:.1f} s", flush=True)
            assert took < LOGIN_S - 3, took
            for k in strangers:
                k.close()
            good.newcomers()
        good.verify()
        s.stop()


def create(s):
    size = str(BLOCKS * BLOCK)
    s.cli("nbd", "create", "--name", "disk", "--size", size)
    s.cli("iscsi", "create-target", "--iqn", IQN, "--lun", "0", "--size", size)


def main():
    print("seed", SEED, flush=True)
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    rnd = random.Random(SEED)
    with zt.Server() as s:
        create(s)
        s.start()
        good = Good(s, rnd)
        good.work(2)
        for part in (silent, byte_by_byte, gone):
            print(part.__name__, flush=True)
            part(s, good)
        good.verify()
        s.stop()
    print("no_descriptors", flush=True)
    no_descriptors(rnd)


main()
