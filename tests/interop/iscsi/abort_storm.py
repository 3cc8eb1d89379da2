#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
# compression: any (what is aborted does not know of it)
"""Six sessions write, read and flush one unit, abort their own commands and each other's in the
midst, and drop their connections. Each function is answered, so each command has ended; what was
acknowledged is there in the end; and the server still drains and stops.

The seed is printed; STORM_SEED=N takes that one."""
import os
import random
import struct
import threading
import time

import initiator as iscsi
import stores
import zt

IQN = "iqn.2024-01.net.zerofs:storm"
SESSIONS = 6
ROUNDS = 600 if zt.SOAK else 10 if zt.BRIEF else 30
BLOCKS = 64  # of 4 KiB, of each session
UNIT = 4096
SECTORS = UNIT // iscsi.BLOCK
SEED = int(os.environ.get("STORM_SEED", random.SystemRandom().randrange(1 << 30)))
DELAY_MS = random.Random(SEED).choice([2, 8, 30])  # of the store: flushes are long under way
ABORT_TASK, ABORT_SET, CLEAR_SET, LU_RESET = 1, 2, 4, 5
SIMPLE, ORDERED, HEAD = 1, 2, 3
WRITE, READ, SYNC = 0x8A, 0x88, 0x35


class Session:
    def __init__(self, port, number):
        self.port, self.number, self.serial = port, number, 0
        self.random = random.Random(SEED * SESSIONS + number)
        # What each block may hold: one value, or several where a write was not acknowledged.
        self.may = [{bytes(UNIT)} for _ in range(BLOCKS)]
        self.open = {}  # commands without an answer, by tag: block and contents of a write, or None
        self.counts = {"answered": 0, "aborted": 0, "dropped": 0}
        self.connect()

    def connect(self):
        task_reporting = self.random.choice(["FastAbort", "RFC3720"])
        keys = {"iSCSIProtocolLevel": "2", "TaskReporting": task_reporting}
        name = f"iqn.2024-01.test:storm{self.number}"
        self.i = iscsi.Initiator(self.port, IQN, keys, name).login()

    def take(self, pdu):
        self.i.exp_statsn = pdu.word(24) + 1
        ends = pdu.opcode == iscsi.RESPONSE or (pdu.opcode == iscsi.DATA_IN and pdu.flags & 1)
        if not ends:
            assert pdu.opcode in (iscsi.DATA_IN, iscsi.ASYNC), hex(pdu.opcode)
            return
        written = self.open.pop(pdu.itt)
        self.counts["answered"] += 1
        if written and pdu.bhs[3] == 0:
            self.may[written[0]] = {written[1]}

    def await_pdu(self, opcode, itt):
        ends_at = time.monotonic() + zt.LIMIT_S
        while True:
            pdu = self.i.take_pdu()
            assert time.monotonic() < ends_at, f"no answer to {itt:x}"  # but pings come
            if pdu and pdu.opcode == opcode and pdu.itt == itt:
                self.i.exp_statsn = pdu.word(24) + 1
                return
            if pdu:
                self.take(pdu)

    def send(self, cdb, edtl=0, flags=0, data=b"", written=None):
        i = self.i
        attr = self.random.choice([SIMPLE] * 6 + [ORDERED, HEAD])
        fields = [(20, edtl), (24, i.cmdsn), (28, i.exp_statsn)]
        words = struct.unpack(">4I", cdb.ljust(16, b"\0"))
        fields += [(32 + 4 * n, w) for n, w in enumerate(words)]
        self.open[i.itt] = written
        i.send(iscsi.COMMAND, iscsi.FINAL | flags | attr, data, fields)
        i.itt, i.cmdsn = i.itt + 1, i.cmdsn + 1

    def command(self, written):
        """written: the blocks that are under way in this round, each at most once."""
        what = self.random.choice([WRITE, WRITE, READ, SYNC, SYNC])
        if what == SYNC:
            self.send(bytes([SYNC]) + bytes(9))
            return
        block = self.random.randrange(BLOCKS)
        lba = (self.number * BLOCKS + block) * SECTORS
        cdb = struct.pack(">BBQIBB", what, 0, lba, SECTORS, 0, 0)
        if what == READ:
            self.send(cdb, UNIT, 0x40)
        elif block not in written:
            written.add(block)
            self.serial += 1
            data = struct.pack(">II", self.number, self.serial) * (UNIT // 8)
            self.may[block].add(data)
            self.send(cdb, UNIT, 0x20, data, (block, data))

    def function(self, what, tag=iscsi.NONE):
        i = self.i
        itt = i.itt
        i.itt += 1
        i.send(iscsi.TMF | iscsi.IMMEDIATE, iscsi.FINAL | what, itt=itt,
               fields=((20, tag), (24, i.cmdsn), (28, i.exp_statsn), (32, 0)))
        self.await_pdu(iscsi.TMF_RESPONSE, itt)

    def ping(self):
        """What has been answered by now is known afterwards."""
        i = self.i
        itt = i.itt
        i.itt += 1
        i.send(iscsi.NOP_OUT | iscsi.IMMEDIATE, iscsi.FINAL, b"", ((20, iscsi.NONE), (24, i.cmdsn)),
               itt=itt)
        self.await_pdu(iscsi.NOP_IN, itt)

    def drop(self):
        self.i.close()
        self.counts["dropped"] += len(self.open)
        self.open.clear()
        self.connect()

    def round(self):
        written = set()
        for _ in range(self.random.randrange(1, 9)):
            self.command(written)
        if self.random.random() < 0.6:
            until = time.monotonic() + self.random.random() * 3 * DELAY_MS / 1000
            while time.monotonic() < until:  # aborts come at all moments
                self.ping()
        what = self.random.choice([ABORT_TASK] * 4 + [ABORT_SET, CLEAR_SET, LU_RESET, "drop"])
        if what == "drop":
            self.drop()
        elif what == ABORT_TASK:
            some = self.random.randint(0, len(self.open))
            for tag in self.random.sample(sorted(self.open), some):
                self.function(ABORT_TASK, tag)
        else:
            self.function(what)
        # Answered when all have ended, those too that others have aborted, of which nobody tells.
        self.function(ABORT_SET)
        self.counts["aborted"] += len(self.open)
        self.open.clear()

    def run(self):
        for _ in range(ROUNDS):
            self.round()
        self.i.logout()


def verify(port, sessions):
    reader = iscsi.Initiator(port, IQN).ready()
    for s in sessions:
        for block in range(BLOCKS):
            data = reader.read((s.number * BLOCKS + block) * SECTORS, SECTORS)
            assert data in s.may[block], (s.number, block, data[:8], [d[:8] for d in s.may[block]])
    assert reader.run(bytes([SYNC]) + bytes(9)).status == 0
    reader.logout()


def main():
    print("seed", SEED, "delay", DELAY_MS, flush=True)
    failed = []

    def run(session):
        try:
            session.run()
        except BaseException as e:
            failed.append((session.number, repr(e), sorted(session.open)))
            raise

    with zt.Server(url=stores.url("s", f"delay_ms=0-{DELAY_MS}")) as server:
        server.cli("iscsi", "create-target", IQN, "0", "64M")
        server.start()
        sessions = [Session(server.iscsi_port, n) for n in range(SESSIONS)]
        threads = [threading.Thread(target=run, args=(s,), daemon=True) for s in sessions]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        print(*(s.counts for s in sessions))
        assert not failed, failed
        verify(server.iscsi_port, sessions)
        server.stop()
        server.start()
        verify(server.iscsi_port, sessions)
        server.stop()


main()
