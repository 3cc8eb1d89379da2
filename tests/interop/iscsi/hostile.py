#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
# compression: any (what does not come as far as the store)
"""Peers that mean harm, or do not know better. After each a client that logged in before them still
does verified I/O on its old connection, and nothing that they grew stays."""
import os
import random
import resource
import socket
import struct

import initiator
import zt
from initiator import Initiator

IQN = "iqn.2024-01.net.zerofs:hostile"
KEYS = {"InitialR2T": "No", "ImmediateData": "Yes"}


class World:
    def __init__(self, s, rng):
        self.s, self.rng = s, rng
        self.good = Initiator(s.iscsi_port, IQN, KEYS).ready()
        self.turn = 0

    def connect(self):
        sock = socket.create_connection(("127.0.0.1", self.s.iscsi_port), timeout=zt.LIMIT_S)
        return sock

    def enemy(self, **keys):
        return Initiator(self.s.iscsi_port, IQN, {**KEYS, **keys}).ready()

    def check(self):
        self.turn += 1
        while self.good.run(b"\0" * 6).status:
            pass  # unit attentions: an enemy may well have reset the unit
        data = self.rng.randbytes(8192)
        self.good.write(self.turn * 16, data)
        assert self.good.read(self.turn * 16, 16) == data
        assert self.good.nop(b"x").data == b"x"


def garbage(w):
    for _ in range(50):
        with w.connect() as c:
            try:
                c.sendall(w.rng.randbytes(w.rng.randrange(1, 5000)))
                c.shutdown(socket.SHUT_WR)
                while c.recv(65536):
                    pass
            except OSError:
                pass


def truncated(w):
    """A login cut at every length."""
    i = Initiator(w.s.iscsi_port, IQN, KEYS)
    text = f"InitiatorName=a\0TargetName={IQN}\0".encode()
    whole = i.pack(initiator.LOGIN | 0x40, 0x87, text)
    i.close()
    for length in range(0, len(whole), 3):
        with w.connect() as c:
            c.sendall(whole[:length])
            c.shutdown(socket.SHUT_WR)
            assert c.recv(1) == b"", length


def oversized(w):
    """Lengths that nobody agreed on, before and after the login."""
    for length in (8193, 65536, 0xFFFFFF):
        with w.connect() as c:
            head = bytearray(48)
            head[0:2] = b"\x43\x87"
            head[5:8] = length.to_bytes(3, "big")
            c.sendall(head)
            try:
                reply = c.recv(48)
                assert reply == b"" or reply[36] == 2, reply
            except ConnectionError:
                pass
        i = w.enemy()
        head = bytearray(i.pack(initiator.NOP_OUT | 0x40, 0x80))
        head[5:8] = max(length, 262145).to_bytes(3, "big")
        i.sock.sendall(head)
        assert i.is_dropped()


def endless_keys(w):
    """Login text without end: C, C, C."""
    with w.connect() as c:
        i = Initiator(w.s.iscsi_port, IQN, KEYS)
        pdu = i.pack(initiator.LOGIN | 0x40, 0x44, b"X-key=" + b"v" * 8000)
        i.close()
        sent = 0
        try:
            while sent < 10_000:
                c.sendall(pdu)
                head = c.recv(48, socket.MSG_WAITALL)
                if len(head) < 48 or head[36]:
                    break
                sent += 1
        except ConnectionError:
            pass
        assert sent < 100, sent


def endless_text(w):
    i = w.enemy()
    sent = 0
    try:
        while sent < 10_000:
            i.send(initiator.TEXT | 0x40, 0x40, b"X-key=" + b"v" * 8000,
                   ((20, initiator.NONE if sent == 0 else ttt), (24, i.cmdsn)))
            ttt = i.receive().word(20)
            sent += 1
    except (EOFError, ConnectionError):
        pass
    assert sent < 100, sent


def many_r2ts(w):
    """Writes whose data never come: the window's worth of them, then silence, then the end."""
    i = w.enemy()
    cdb = struct.pack(">BBQIBB", 0x8A, 0, 0, 2048, 0, 0)
    for _ in range(200):  # more than the window takes
        i.command(cdb, 2048 * 512, initiator.FINAL | 0x20)
    while i.receive().opcode != initiator.R2T:
        pass
    i.sock.settimeout(1)
    try:
        while True:
            i.receive()
    except socket.timeout:
        pass
    w.check()
    i.close()


def stops_reading(w):
    """Reads of many MiB whose answers are not taken."""
    i = w.enemy()
    i.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    before = w.s.used_kib()
    cdb = struct.pack(">BBQIBB", 0x88, 0, 0, 8192, 0, 0)
    for _ in range(120):
        i.command(cdb, 8192 * 512, initiator.FINAL | 0x40)
    for _ in range(20):
        w.check()
    grown = w.s.used_kib() - before
    assert grown < 120 * 1024, f"RSS grew by {grown} KiB"
    i.close()


def ping_flood_unread(w):
    """Pings whose answers nobody takes: the server stops reading, and stays small."""
    i = w.enemy()
    before = w.s.used_kib()
    pdu = i.pack(initiator.NOP_OUT | 0x40, 0x80, b"p" * 65536, ((20, initiator.NONE),))
    i.sock.settimeout(1)
    sent = 0
    try:
        while sent < 2000:
            i.sock.sendall(pdu)
            sent += 1
    except (socket.timeout, ConnectionError):
        pass
    assert sent < 2000, "the server took 128 MiB of pings"
    w.check()
    grown = w.s.used_kib() - before
    assert grown < 100 * 1024, f"RSS grew by {grown} KiB"
    i.close()


def bad_digests(w):
    i = w.enemy(HeaderDigest="CRC32C")
    pdu = bytearray(i.pack(initiator.NOP_OUT | 0x40, 0x80, b"", ((20, initiator.NONE),)))
    pdu[48] ^= 1
    i.sock.sendall(pdu)
    assert i.is_dropped()
    # Data-Out at ErrorRecoveryLevel 0: Reject, and the command ends with 0B/47/05.
    i = w.enemy(DataDigest="CRC32C", ImmediateData="No", InitialR2T="Yes")
    cdb = struct.pack(">BBQIBB", 0x8A, 0, 0, 8, 0, 0)
    itt = i.command(cdb, 4096, initiator.FINAL | 0x20)
    r2t = i.receive()
    pdu = bytearray(i.pack(initiator.DATA_OUT, 0x80, b"d" * 4096, ((20, r2t.word(20)),), itt=itt))
    pdu[100] ^= 1
    i.sock.sendall(pdu)
    reject = i.receive()
    assert reject.opcode == initiator.REJECT and reject.bhs[2] == 2, reject.bhs
    done = i.finish(itt)
    assert done.status == 2 and done.sense[2] & 15 == 0xB, done.sense
    assert done.sense[12:14] == b"\x47\x05", done.sense
    # Immediate data: the command is lost with them, and the session starts again.
    i = w.enemy(DataDigest="CRC32C")
    pdu = bytearray(i.pack(initiator.COMMAND, 0xA1, b"d" * 4096, ((20, 4096), (24, i.cmdsn))))
    pdu[100] ^= 1
    i.sock.sendall(pdu)
    assert i.is_dropped()


def mutations(w):
    """Valid conversations with bytes changed: whatever comes back, the others live on."""
    for _ in range(200):
        try:
            i = w.enemy(HeaderDigest="None")
            cdb = struct.pack(">BBQIBB", w.rng.choice((0x88, 0x8A, 0x12, 0x1A, 0x42, 0x41)), 0, 0,
                              8, 0, 0)
            stream, function_at = bytearray(), 0
            for op, flags, data in ((1, 0xA1, b"d" * 4096), (1, 0xC1, b""),
                                    (5, 0x80, b"e" * 512), (0x40, 0x80, b"nop"),
                                    (0x42, 0x85, b""), (0x44, 0x80, b"A=b\0")):
                words = struct.unpack(">4I", cdb)
                function_at = len(stream) + 1 if op == 0x42 else function_at
                stream += i.pack(op, flags, data, [(20, 4096), (24, i.cmdsn)] + [
                    (32 + 4 * n, v) for n, v in enumerate(words)])
                i.cmdsn += 1
            for _ in range(w.rng.randrange(1, 8)):
                stream[w.rng.randrange(len(stream))] = w.rng.randrange(256)
            if stream[function_at] & 0x7F == 7:
                stream[function_at] = 0x85  # a cold reset would rightly end the others' sessions
            i.sock.sendall(stream)
            i.sock.shutdown(socket.SHUT_WR)
            i.sock.settimeout(10)
            i.is_dropped()
            i.close()
        except (AssertionError, EOFError, ConnectionError):
            pass


def strangers(w):
    """Connections that say nothing: many are held, and a login still gets through."""
    socks = [w.connect() for _ in range(600)]
    i = w.enemy()
    i.logout()
    for c in socks:
        c.close()


def asks_only(w):
    """Discovery sessions, which nobody has to prove himself for: the oldest has to go."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, 4096)), hard))
    held = []
    for _ in range(1024 + 64):
        held.append(Initiator(w.s.iscsi_port))
        held[-1].login("Discovery")
    assert held[0].is_dropped()
    assert held[-1].discover()
    for i in held:
        i.close()


def main():
    seed = int(os.environ.get("SEED", random.randrange(1 << 32)))
    print("SEED", seed)
    with zt.Server() as s:
        s.cli("iscsi", "create-target", "--iqn", IQN, "--lun", "0", "--size", "64M")
        s.start()
        w = World(s, random.Random(seed))
        for attack in (garbage, truncated, oversized, endless_keys, endless_text, many_r2ts,
                       stops_reading, ping_flood_unread, bad_digests, mutations, strangers,
                       asks_only):
            print(attack.__name__, flush=True)
            attack(w)
            w.check()
        w.good.logout()
        s.stop()


main()
