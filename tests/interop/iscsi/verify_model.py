#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
# long
"""A model of the LUN in memory, against four sessions: random offsets and sizes, every way to
write, UNMAP, WRITE SAME, COMPARE AND WRITE, VERIFY, FUA, SYNCHRONIZE CACHE, growing and shrinking
while they are logged in, restarts and kill -9.

Each round sends a batch of commands over all sessions at once. The commands of a batch do not
overlap, but for pairs of writes of exactly the same range, of which one must win as a whole. A
command that ends with the unit attention of a resize was not carried out, and is sent again."""
import os
import random
import struct
import subprocess
import time

import zt
from initiator_queue import Queue, cdb16, unmap_cdb, unmap_list
from model import Model

SEED = int(os.environ.get("SEED", random.randrange(1 << 32)))
SECONDS = 1800 if zt.SOAK else 10 if zt.BRIEF else 40
SIZE_MIN, SIZE_MAX = 16 << 20, 48 << 20
IQN = "iqn.2024-01.net.zerofs:model"
KEYS = ({"InitialR2T": "No", "FirstBurstLength": "262144"}, {"ImmediateData": "No"},
        {"InitialR2T": "No", "HeaderDigest": "CRC32C", "MaxBurstLength": "16384"},
        {"MaxOutstandingR2T": "8", "MaxRecvDataSegmentLength": "8192"})
SECTOR = 512
ILLEGAL, ATTENTION, MISCOMPARE = 5, 6, 14


def read_cdb(rnd, lba, blocks):
    if rnd.random() < 0.5 or blocks > 0xFFFF:
        return cdb16(0x88, lba, blocks)
    return struct.pack(">BBIBHB", 0x28, 0, lba, 0, blocks, 0)


def write_cdb(rnd, lba, blocks):
    """WRITE (6), (10), (12), (16), some with FUA."""
    fua = 8 if rnd.random() < 0.1 else 0
    kind = rnd.choice([6, 10, 12, 16])
    if kind == 6 and blocks <= 256 and lba < 1 << 21:
        return struct.pack(">IBB", 0x0A << 24 | lba, blocks & 0xFF, 0)
    if kind == 10 and blocks <= 0xFFFF:
        return struct.pack(">BBIBHB", 0x2A, fua, lba, 0, blocks, 0)
    if kind == 12:
        return struct.pack(">BBIIBB", 0xAA, fua, lba, blocks, 0, 0)
    return cdb16(0x8A, lba, blocks, fua)


class Command:
    """One command of a batch: what is sent, and what it does when it has ended well."""

    def __init__(self, cdb, edtl=0, out=None, then=None, sense=None):
        self.cdb, self.edtl, self.out, self.then, self.sense = cdb, edtl, out, then, sense


class Verifier:
    def __init__(self, server):
        self.server = server
        self.rnd = random.Random(SEED)
        self.model = Model(SIZE_MIN)
        self.sessions = []
        self.commands = self.attentions = 0

    def connect(self):
        self.sessions = [Queue(self.server.iscsi_port, IQN, k).ready() for k in KEYS]
        for q in self.sessions:
            assert self.capacity(q) == len(self.model.data)

    def capacity(self, q):
        done = q.run(struct.pack(">BBQIBB", 0x9E, 0x10, 0, 32, 0, 0), 32)
        assert done.status == 0, done.sense.hex()
        last, block = struct.unpack_from(">QI", done.data)
        assert block == SECTOR
        return (last + 1) * SECTOR

    def range(self):
        """In sectors."""
        rnd, size = self.rnd, len(self.model.data) // SECTOR
        shape = rnd.random()
        if shape < 0.4:
            blocks = 8 * rnd.randrange(1, 9)
            return rnd.randrange((size - blocks) // 8) * 8, blocks
        blocks = rnd.randrange(1, 200) if shape < 0.95 else rnd.randrange(1, 4096)
        return rnd.randrange(size - blocks + 1), blocks

    # -- one command each: what the model says is done when it has ended --------------------------

    def write(self, lba, blocks):
        data = self.rnd.randbytes(blocks * SECTOR)
        return Command(write_cdb(self.rnd, lba, blocks), 0, data,
                       lambda _: self.model.write(lba * SECTOR, data))

    def read(self, lba, blocks):
        return Command(read_cdb(self.rnd, lba, blocks), blocks * SECTOR, None,
                       lambda done: self.check_read(lba, blocks, done.data))

    def check_read(self, lba, blocks, data):
        assert len(data) == blocks * SECTOR
        self.model.check(lba * SECTOR, data)

    def unmap(self, lba, blocks):
        cut = self.rnd.randrange(blocks + 1)
        ranges = [(lba + cut, blocks - cut), (lba, cut)]
        return Command(unmap_cdb(ranges), 0, unmap_list(ranges),
                       lambda _: self.model.write(lba * SECTOR, bytes(blocks * SECTOR)))

    def write_same(self, lba, blocks):
        shape = self.rnd.randrange(4)
        if shape == 0:  # NDOB: no data, zeros
            return Command(cdb16(0x93, lba, blocks, 0x01 | self.rnd.choice([0, 8])), 0, None,
                           lambda _: self.model.write(lba * SECTOR, bytes(blocks * SECTOR)))
        block = self.rnd.randbytes(SECTOR) if shape == 1 else bytes(SECTOR)
        cdb = cdb16(0x93, lba, blocks, 8 if shape == 2 else 0)
        if self.rnd.random() < 0.5:
            cdb = struct.pack(">BBIBHB", 0x41, 8 if shape == 2 else 0, lba, 0, blocks, 0)
        return Command(cdb, 0, block, lambda _: self.model.write(lba * SECTOR, block * blocks))

    def compare_and_write(self, lba, blocks):
        blocks = min(blocks, 8)
        off, length = lba * SECTOR, blocks * SECTOR
        old, new = bytearray(self.model.data[off:off + length]), self.rnd.randbytes(length)
        same = self.rnd.random() < 0.7
        if not same:
            old[self.rnd.randrange(length)] ^= 0x40
        cdb = cdb16(0x89, lba, blocks)  # the count is in its last byte
        return Command(cdb, 2 * length, bytes(old) + new,
                       lambda _: same and self.model.write(off, new),
                       None if same else MISCOMPARE)

    def verify(self, lba, blocks):
        off, length = lba * SECTOR, blocks * SECTOR
        data = bytearray(self.model.data[off:off + length])
        same = self.rnd.random() < 0.7
        if not same:
            data[self.rnd.randrange(length)] ^= 1
        return Command(cdb16(0x8F, lba, blocks, 2), 0, bytes(data), None,
                       None if same else MISCOMPARE)

    def synchronize(self):
        return Command(cdb16(0x91, 0, 0) if self.rnd.random() < 0.5 else b"\x35" + bytes(9))

    # -- batches ---------------------------------------------------------------------------------

    def choose(self, lba, blocks):
        makers = ((0.40, self.write), (0.70, self.read), (0.80, self.unmap),
                  (0.88, self.write_same), (0.94, self.compare_and_write), (1, self.verify))
        kind = self.rnd.random()
        return next(make for limit, make in makers if kind < limit)(lba, blocks)

    def start(self, q, command, under_way):
        """When the window has room for it; what ends until then has ended."""
        while not q.has_room():
            self.end_one(q, under_way)
        self.commands += 1
        under_way[q][q.start(command.cdb, command.edtl, command.out)] = command

    def end_one(self, q, under_way):
        itt, done = q.ended()
        command = under_way[q].pop(itt)
        if done.status == 2 and done.sense[2] & 15 == ATTENTION:
            assert done.sense[12:14] == b"\x2a\x09", done.sense.hex()
            self.attentions += 1
            self.start(q, command, under_way)
            return
        if command.sense is not None:
            assert done.status == 2 and done.sense[2] & 15 == command.sense, done.sense.hex()
        else:
            assert done.status == 0, (command.cdb.hex(), done.status, done.sense.hex())
        if command.then:
            command.then(done)

    def end_all(self, under_way):
        for q, commands in under_way.items():
            while commands:
                self.end_one(q, under_way)

    def batch(self, meanwhile=lambda: None):
        taken, rivals = [], []
        under_way = {q: {} for q in self.sessions}
        for _ in range(self.rnd.randrange(1, 60)):
            lba, blocks = self.range()
            if any(lba < e and lba + blocks > s for s, e in taken):
                continue
            taken.append((lba, lba + blocks))
            if self.rnd.random() < 0.05:
                rivals.append(self.start_rivals(lba, min(blocks, 128), under_way))
            else:
                self.start(self.rnd.choice(self.sessions), self.choose(lba, blocks), under_way)
        if self.rnd.random() < 0.3:
            self.start(self.rnd.choice(self.sessions), self.synchronize(), under_way)
        meanwhile()
        self.end_all(under_way)
        for settle in rivals:
            settle()

    def start_rivals(self, lba, blocks, under_way):
        """Two writes of one range, on two sessions: one of them wins, whole."""
        both = [self.rnd.randbytes(blocks * SECTOR) for _ in range(2)]
        for q, data in zip(self.rnd.sample(self.sessions, 2), both):
            self.start(q, Command(cdb16(0x8A, lba, blocks), 0, data), under_way)

        def settle():
            have = self.run_past_attentions(cdb16(0x88, lba, blocks), blocks * SECTOR).data
            assert have in both, f"a mixture of two writes at {lba}+{blocks}"
            self.model.write(lba * SECTOR, have)

        return settle

    def run_past_attentions(self, cdb, edtl):
        while True:
            done = self.sessions[0].run(cdb, edtl)
            if done.status == 0:
                return done
            assert done.sense[2] & 15 == ATTENTION, done.sense.hex()
            self.attentions += 1

    def check_all(self):
        size = len(self.model.data)
        q = self.sessions[0]
        for off in range(0, size, 1 << 20):
            length = min(1 << 20, size - off)
            self.model.check(off, q.read(off // SECTOR, length // SECTOR))

    # -- what happens to the server --------------------------------------------------------------

    def resize_command(self, size):
        return [zt.ZEROFS, "iscsi", "resize-lun", "-c", self.server.config, "--iqn", IQN, "--lun",
                "0", "--size", str(size), "--force"]

    def grow(self):
        """While a batch is under way."""
        size = self.rnd.randrange(len(self.model.data) // SECTOR, SIZE_MAX // SECTOR + 1) * SECTOR
        self.batch(lambda: subprocess.run(self.resize_command(size), check=True, timeout=60,
                                          stdout=subprocess.DEVNULL))
        self.model.resize(size)
        self.check_size(size)

    def shrink(self):
        size = self.rnd.randrange(SIZE_MIN // SECTOR, len(self.model.data) // SECTOR + 1) * SECTOR
        subprocess.run(self.resize_command(size), check=True, timeout=60,
                       stdout=subprocess.DEVNULL)
        self.model.resize(size)
        self.check_size(size)

    def check_size(self, size):
        for q in self.sessions:
            while q.run(bytes(6)).status:  # the unit attention, if no command had it yet
                self.attentions += 1
            assert self.capacity(q) == size
            beyond = q.run(cdb16(0x88, size // SECTOR - 1, 2), 2 * SECTOR)
            assert beyond.status == 2 and beyond.sense[2] & 15 == ILLEGAL, beyond.sense.hex()
            assert beyond.sense[12:14] == b"\x21\x00", beyond.sense.hex()
        self.check_all()

    def restart(self):
        kill = self.rnd.random() < 0.5
        if kill:
            assert self.sessions[1].run(cdb16(0x91, 0, 0)).status == 0
            self.server.kill()
        for q in self.sessions:
            q.close()
        if not kill:
            self.server.stop()
        self.server.start()
        self.connect()
        self.check_all()


def main():
    print("seed", SEED, flush=True)
    with zt.Server() as s:
        s.cli("iscsi", "create-target", "--iqn", IQN, "--lun", "0", "--size", str(SIZE_MIN))
        s.start()
        v = Verifier(s)
        v.connect()
        ends_at = time.monotonic() + SECONDS
        resizes = 0
        while time.monotonic() < ends_at:
            for _ in range(12):
                v.batch()
            chance = v.rnd.random()
            if chance < 0.20:
                (v.grow if chance < 0.12 else v.shrink)()
                resizes += 1
            elif chance < 0.27:
                v.restart()
        v.grow()
        v.check_all()
        for q in v.sessions:
            q.close()
        s.stop()
        print(f"{v.commands} commands, {resizes + 1} resizes, {v.attentions} attentions",
              flush=True)
        assert v.attentions >= len(v.sessions)


main()
