#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
# compression: any (what does not come as far as the store)
"""A model against sessions of several connections that are cut again and again, at
ErrorRecoveryLevel 2: every command is answered, nothing is lost, no byte is wrong, and nothing is
done twice (counters that COMPARE AND WRITE moves on by one)."""
import os
import random
import select
import struct

import initiator
import zt
from initiator import DATA_IN, FINAL, NONE, R2T, RESPONSE, TMF_RESPONSE
from links import REASSIGN, Session

IQN = "iqn.2024-01.net.zerofs:cut"
KEYS = {"MaxConnections": "8", "ErrorRecoveryLevel": "2", "DefaultTime2Retain": "20",
        "MaxRecvDataSegmentLength": "8192", "MaxBurstLength": "32768", "FirstBurstLength": "16384",
        "InitialR2T": "No", "MaxOutstandingR2T": "3"}
REGIONS, REGION = 12, 128  # blocks
COUNTERS, FIRST_COUNTER = 4, 4096
GOALS = {"done": 20000, "cut": 2500, "reassigned": 5000} if zt.SOAK else \
    {"done": 500, "cut": 60, "reassigned": 100}


class Op:
    """A command under way. done(op) is called with its status."""

    def __init__(self, cdb, edtl, out, slot, done):
        self.cdb, self.edtl, self.out, self.slot, self.done = cdb, edtl, out, slot, done
        self.itt = self.cmdsn = self.link = None
        self.data = bytearray()
        self.datasn = self.r2ts = 0


class World:
    def __init__(self, port, rng):
        self.rng = rng
        self.session = Session(port, IQN, KEYS)
        self.links = [self.session.ready()]
        self.ops = {}
        self.model = {n: bytes(REGION * 512) for n in range(REGIONS)}
        self.counters = [0] * COUNTERS
        self.busy = set()
        self.answers = {}
        self.counts = {"done": 0, "cut": 0, "reassigned": 0, "repeated": 0}

    # -- commands --------------------------------------------------------------------------------

    def write(self, n):
        blocks = self.rng.choice((1, 8, 24, REGION))
        at = self.rng.randrange(REGION - blocks + 1)
        data = self.rng.randbytes(blocks * 512)
        cdb = struct.pack(">BBQIBB", 0x8A, 0, n * REGION + at, blocks, 0, 0)

        def done(_):
            old = self.model[n]
            self.model[n] = old[:at * 512] + data + old[(at + blocks) * 512:]
        return Op(cdb, len(data), data, n, done)

    def read(self, n):
        blocks = self.rng.choice((1, 24, REGION))
        at = self.rng.randrange(REGION - blocks + 1)
        cdb = struct.pack(">BBQIBB", 0x88, 0, n * REGION + at, blocks, 0, 0)

        def done(op):
            assert op.data == self.model[n][at * 512:(at + blocks) * 512], f"region {n}"
        return Op(cdb, blocks * 512, None, n, done)

    def count(self, n):
        """COMPARE AND WRITE: done twice, it would miscompare."""
        now = self.counters[n]
        data = now.to_bytes(8, "big").ljust(512, b"\0") + \
            (now + 1).to_bytes(8, "big").ljust(512, b"\0")
        cdb = struct.pack(">BBQ3xBBB", 0x89, 0, FIRST_COUNTER + n, 1, 0, 0)

        def done(_):
            self.counters[n] += 1
        return Op(cdb, 1024, data, f"counter {n}", done)

    def start(self):
        kind = self.rng.choice((self.write, self.write, self.read, self.count))
        op = kind(self.rng.randrange(COUNTERS if kind == self.count else REGIONS))
        if op.slot in self.busy or self.session.cmdsn > self.session.max_cmdsn:
            return
        self.busy.add(op.slot)
        op.itt, op.cmdsn = self.links[0].reserve()
        self.ops[op.itt] = op
        self.send(op, self.rng.choice(self.links))

    def send(self, op, link):
        """With immediate and unsolicited data. The link may be dead: that is found out later."""
        op.link = link
        op.data.clear()
        op.datasn = op.r2ts = 0
        flags = 0x40 if op.out is None else 0x20
        now = (op.out or b"")[:min(8192, 512 * self.rng.randrange(17))]
        later = b""
        if op.out and self.rng.random() < 0.5:
            later = op.out[len(now):16384]
        try:
            link.command_as(op.itt, op.cmdsn, op.cdb, op.edtl, flags | (0 if later else FINAL), now)
            if later:
                self.data_out(op, NONE, len(now), later)
        except OSError:
            pass

    def data_out(self, op, ttt, offset, data):
        op.link.data_out(op.itt, ttt, offset, data)

    # -- what comes back -------------------------------------------------------------------------

    def pump(self, link, wait_s=0.0):
        """One PDU of a link that has something, or nothing."""
        if not select.select([link.sock], [], [], wait_s)[0]:
            return False
        pdu = link.take_pdu()
        if pdu is None:
            return True
        op = self.ops.get(pdu.itt)
        if pdu.opcode in (R2T, DATA_IN, RESPONSE):
            assert op and op.link is link, f"{pdu.bhs.hex()}: nobody asked"
            self.take(op, pdu)
        else:
            self.answers[pdu.itt] = pdu
        return True

    def take(self, op, pdu):
        if pdu.opcode == R2T:
            assert pdu.word(36) == op.r2ts, "R2TSN"
            op.r2ts += 1
            at, length = pdu.word(40), pdu.word(44)
            self.data_out(op, pdu.word(20), at, op.out[at:at + length])
            return
        if pdu.opcode == DATA_IN:
            assert pdu.word(36) == op.datasn and pdu.word(40) == len(op.data), "DataSN"
            op.datasn += 1
            op.data += pdu.data
            if pdu.flags & 0x40:
                op.link.snack(2, begin=op.datasn, ttt=pdu.word(20),
                              lun=int.from_bytes(pdu.bhs[8:16], "big"))
            if not pdu.flags & 1:
                return
        assert pdu.bhs[3] == 0, (op.cdb.hex(), pdu.bhs[3], pdu.data.hex())
        op.done(op)
        self.busy.remove(op.slot)
        del self.ops[op.itt]
        self.counts["done"] += 1

    def wait_answer(self, link, itt):
        def there():
            self.pump(link)
            return itt in self.answers
        zt.wait_for(there, every_s=0)
        return self.answers.pop(itt)

    # -- cuts ------------------------------------------------------------------------------------

    def cut(self):
        link = self.rng.choice(self.links)
        self.links.remove(link)
        # Some of what came may be lost with it, and so may some of what was sent.
        if self.rng.random() < 0.5:
            link.sock.setsockopt(initiator.socket.SOL_SOCKET, initiator.socket.SO_LINGER,
                                 struct.pack("ii", 1, 0))
        link.kill()
        self.counts["cut"] += 1
        if not self.links or self.rng.random() < 0.4:
            fresh = self.session.link(cid=link.cid)  # a logout for recovery, by the way
            self.links.append(fresh)
            exp_cmdsn = self.session.exp_cmdsn
        else:
            other = self.rng.choice(self.links)
            pdu = self.wait_answer(other, other.send_logout(2, link.cid))
            assert pdu.bhs[2] == 0, pdu.bhs.hex()
            exp_cmdsn = pdu.word(28)
        for op in [op for op in self.ops.values() if op.link is link]:
            self.move(op, self.rng.choice(self.links), exp_cmdsn)
        if len(self.links) < 4 and self.rng.random() < 0.5:
            self.links.append(self.session.link())

    def move(self, op, link, exp_cmdsn):
        """What was begun goes on, what was not is sent anew."""
        if op.cmdsn >= exp_cmdsn:
            self.counts["repeated"] += 1
            self.send(op, link)
            return
        known = op.r2ts if op.out is not None else op.datasn
        if op.out is None and self.rng.random() < 0.3 and op.datasn == 0:
            known = 0
        op.link = link
        pdu = self.wait_answer(link, link.tmf(REASSIGN, op.itt, known))
        assert pdu.opcode == TMF_RESPONSE and pdu.bhs[2] == 0, (op.cdb.hex(), pdu.bhs[2])
        self.counts["reassigned"] += 1

    # -- the whole -------------------------------------------------------------------------------

    def step(self):
        chance = self.rng.random()
        if chance < 0.05 and self.ops:
            self.cut()
        elif chance < 0.5 and len(self.ops) < 12:
            self.start()
        else:
            self.pump(self.rng.choice(self.links), 0.002)

    def drain(self):
        def idle():
            for link in self.links:
                while self.pump(link):
                    pass
            return not self.ops
        zt.wait_for(idle, every_s=0.001)

    def check(self):
        link = self.links[0]
        for n, data in self.model.items():
            assert link.read(n * REGION, REGION) == data, f"region {n}"
        for n, value in enumerate(self.counters):
            assert int.from_bytes(link.read(FIRST_COUNTER + n, 1)[:8], "big") == value


def main():
    seed = int(os.environ.get("SEED", random.randrange(1 << 32)))
    print("SEED", seed)
    with zt.Server() as s:
        s.cli("iscsi", "create-target", "--iqn", IQN, "--lun", "0", "--size", "16M")
        s.start()
        w = World(s.iscsi_port, random.Random(seed))
        w.links += [w.session.link() for _ in range(2)]
        while any(w.counts[what] < goal for what, goal in GOALS.items()):
            w.step()
        w.drain()
        w.check()
        print(w.counts)
        w.links[0].logout()
        s.stop()


main()
