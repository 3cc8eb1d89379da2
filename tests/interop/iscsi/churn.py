#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
# compression: any (what is stored are records)
"""LUNs and targets that come, grow, shrink, move and go under the sessions of several cores:
whatever is done to others, LUN 0 keeps what each initiator has written; whoever lost a session logs
in again; nothing is left of it all but what should be, also after a restart."""
import json
import os
import random
import struct
import threading
import time
from collections import Counter

import initiator as iscsi
import zt

SEED = int(os.environ.get("SEED", random.randrange(1 << 32)))
SECONDS = 900 if zt.SOAK else 2 if zt.BRIEF else 5
WORKERS, CHURNERS = 5, 2
HOME, OTHERS = "iqn.2024-01.net.zerofs:home", [f"iqn.2024-01.net.zerofs:o{n}" for n in range(2)]
LUNS = range(1, 5)
REGION, PIECES, PIECE = 512, 32, 16  # sectors of a worker, and how it writes them
ATTENTION, BUSY, FULL = 6, 0x08, 0x28
GONE = (EOFError, ConnectionError, iscsi.LoginRefused, iscsi.Rejected)


def cdb16(op, lba=0, blocks=0, flags=0):
    return struct.pack(">BBQIBB", op, flags, lba, blocks, 0, 0)


class Client(iscsi.Initiator):
    """One whose commands go to self.lun."""
    lun = 0

    def pack(self, opcode, flags, data=b"", fields=(), lun=None, itt=None, ahs=b""):
        return super().pack(opcode, flags, data, fields, (self.lun if lun is None else lun) << 48,
                            itt, ahs)

    def insist(self, *words, **named):
        """A command to the LUN that nobody takes away: attentions and BUSY are no answers."""
        self.lun = 0
        while True:
            done = self.run(*words, **named)
            key = done.sense[2] & 15 if done.status == 2 else None
            if done.status not in (BUSY, FULL) and key != ATTENTION:
                assert done.status == 0, (done.status, done.sense.hex())
                return done


    def leave(self):
        """A logout; news may come before its answer."""
        self.send(iscsi.LOGOUT | iscsi.IMMEDIATE, iscsi.FINAL,
                  fields=((20, self.cid << 16), (24, self.cmdsn)))
        assert self.answer().opcode == iscsi.LOGOUT_RESPONSE


class Worker:
    def __init__(self, world, number):
        self.world, self.number = world, number
        self.rnd = random.Random(f"{SEED} worker {number}")
        self.name = f"iqn.2024-01.test:w{number}"
        self.written = [0] * PIECES  # the stamp of each piece of the region
        self.stamp = 0
        self.sessions = self.commands = 0

    def data_of(self, piece, stamp):
        unit = struct.pack(">IIQ", self.number, piece, stamp) if stamp else bytes(16)
        return unit * (PIECE * iscsi.BLOCK // len(unit))

    def lba_of(self, piece):
        return self.number * REGION + piece * PIECE

    def on_home(self, c):
        """Writes or reads one piece of the own region."""
        piece = self.rnd.randrange(PIECES)
        lba = self.lba_of(piece)
        if self.rnd.random() < 0.5:
            self.stamp += 1
            # Which of the two is there, if the session goes meanwhile, nobody knows.
            before, self.written[piece] = self.written[piece], None
            c.insist(cdb16(0x8A, lba, PIECE), out=self.data_of(piece, self.stamp))
            self.written[piece] = self.stamp
            assert before != self.stamp
        else:
            self.check(c, piece)

    def check(self, c, piece):
        got = c.insist(cdb16(0x88, self.lba_of(piece), PIECE), PIECE * iscsi.BLOCK).data
        want = self.written[piece]
        stamps = [want] if want is not None else range(self.stamp + 1)
        assert got in [self.data_of(piece, s) for s in stamps], (self.number, piece, want, got[:16])
        if want is None:
            self.written[piece] = struct.unpack(">Q", got[8:16])[0]

    def elsewhere(self, c):
        """Anything on a LUN that may be gone, be made anew or be read-only at any time."""
        c.lun = self.rnd.choice(LUNS)
        data = self.rnd.randbytes(4096)
        choice = self.rnd.randrange(8)
        if choice == 0:
            c.run(bytes([0xA0, 0, 2, 0, 0, 0, 0, 0, 1, 0, 0, 0]), 256)
        elif choice == 1:
            c.run(bytes([0x12, 1, 0x83, 0, 255, 0]), 255)
        elif choice == 2:
            c.run(cdb16(0x9E, flags=0x10)[:10] + b"\0\0\0\x20\0\0", 32)
        elif choice == 3:
            c.run(cdb16(0x91))
        elif choice == 4:
            c.run(cdb16(0x93, 0, 64, 8), out=bytes(512))
        elif choice < 6:
            c.run(cdb16(0x8A, self.rnd.randrange(4096), 8), out=data)
        else:
            c.run(cdb16(0x88, self.rnd.randrange(4096), 8), 4096)

    def session(self, iqn):
        c = Client(self.world.server.iscsi_port, iqn, self.keys(), name=self.name)
        try:
            c.login()
            self.sessions += 1
            for _ in range(self.rnd.randrange(5, 60)):
                if iqn == HOME and self.rnd.random() < 0.5:
                    self.on_home(c)
                else:
                    self.elsewhere(c)
                self.commands += 1
            if self.rnd.random() < 0.5:
                c.leave()
        finally:
            c.close()

    def keys(self):
        return self.rnd.choice(({}, {"InitialR2T": "No"}, {"ImmediateData": "No"}))

    def run(self):
        while not self.world.over():
            try:
                self.session(HOME if self.rnd.random() < 0.7 else self.rnd.choice(OTHERS))
            except GONE:
                self.world.interrupted += 1


class Churner:
    def __init__(self, world, number):
        self.world = world
        self.rnd = random.Random(f"{SEED} churner {number}")
        self.codes = Counter()

    def request(self):
        rnd = self.rnd
        iqn, lun, other = rnd.choice((HOME, *OTHERS)), rnd.choice(LUNS), rnd.choice(OTHERS)
        who = f"iqn.2024-01.test:w{rnd.randrange(WORKERS)}"
        size, home_size = rnd.randrange(1, 17) << 20, rnd.randrange(8, 33) << 20
        at, home, flag = {"iqn": iqn, "lun": lun}, {"iqn": HOME, "lun": 0}, rnd.random() < 0.5
        gone = {"force": True, "disconnect": flag}
        return rnd.choice((
            ("add-lun", {**at, "size": size}),
            ("add-lun", {**at, "size": size, "write_cache": flag}),
            ("remove-lun", {**at, **gone}),
            ("resize-lun", {**at, "size": size, "force": True}),
            ("resize-lun", {**home, "size": home_size, "force": True}),
            ("set-lun", {**at, "read_only": flag}),
            ("set-lun", {**home, "write_cache": flag}),
            ("create-target", {"iqn": other, "lun": lun, "size": size}),
            ("create-target", {"iqn": other}),
            ("delete-target", {"iqn": other, **gone}),
            ("map.add", {"iqn": other, "lun": rnd.choice(LUNS), "initiator": who, "device": lun}),
            ("map.remove", {"iqn": other, "lun": lun, "initiator": who, "force": flag}),
            ("acl.add", {"iqn": other, "initiator": who}),
            ("acl.remove", {"iqn": other, "initiator": who, "force": flag}),
            ("disconnect", {"iqn": iqn, "initiator": who}),
            ("list", {}), ("sessions", {})))

    def run(self):
        while not self.world.over():
            op, named = self.request()
            answer = self.world.server.ask("iscsi." + op, **named)
            kind = "ok" if answer["ok"] else answer["error"]["kind"]
            assert kind in ("ok", "usage", "not-found", "exists", "refused"), (op, named, answer)
            self.codes[op, kind] += 1


class World:
    def __init__(self, server):
        self.server = server
        self.interrupted = 0
        self.failures = []
        self.workers = [Worker(self, n) for n in range(WORKERS)]
        self.churners = [Churner(self, n) for n in range(CHURNERS)]
        self.ends_at = None

    def over(self):
        return self.failures or time.monotonic() > self.ends_at

    def guarded(self, run):
        try:
            run()
        except Exception as failure:  # it belongs to the main thread
            self.failures.append(failure)

    def run(self):
        self.ends_at = time.monotonic() + SECONDS
        threads = [threading.Thread(target=self.guarded, args=(one.run,))
                   for one in self.workers + self.churners]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        if self.failures:
            raise self.failures[0]

    def check(self):
        c = Client(self.server.iscsi_port, HOME).ready()
        for w in self.workers:
            for piece in range(PIECES):
                w.check(c, piece)
        c.logout()


def sessions_of(server):
    return json.loads(server.cli("iscsi", "sessions", "--json").stdout)["sessions"]


def main():
    print("seed", SEED, flush=True)
    with zt.Server() as s:
        s.cli("iscsi", "create-target", HOME, "0", "16M")
        s.start()
        world = World(s)
        world.run()
        zt.wait_for(lambda: not sessions_of(s))
        world.check()
        before = s.cli("iscsi", "export").stdout
        for what in sorted(sum((c.codes for c in world.churners), Counter()).items()):
            print(*what)
        print(sum(w.sessions for w in world.workers), "sessions,",
              sum(w.commands for w in world.workers), "commands,", world.interrupted, "interrupted")
        assert sum(w.commands for w in world.workers) > WORKERS
        s.stop()
        s.start()
        world.check()
        assert s.cli("iscsi", "export").stdout == before
        s.stop()


main()
