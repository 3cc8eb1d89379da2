#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
# long
"""kill -9 under load over NBD, two connections: what FLUSH and FUA have covered is there after each
restart, and what survives is a prefix (tests/lib/history.py says it exactly). Every fifth round
goes to a device whose write cache is off: there each completed write counts as one with FUA. The
first flush after a restart fails, once, if acknowledged writes were lost; and not where a flush
came after all of them."""
import os
import random

import zt
from history import BLOCK, History
from load import Load, NbdPeer, image_of, notice

SEED = int(os.environ.get("SEED", random.randrange(1 << 32)))
ROUNDS = 500 if zt.SOAK else 5 if zt.BRIEF else 20
BLOCKS = 4096


class DurableLoad(Load):
    def written(self, w, fua):
        super().written(w, True)


def main():
    print("seed", SEED, flush=True)
    rnd = random.Random(SEED)
    size = str(BLOCKS * BLOCK)
    cached, durable = ("cached", Load, History(BLOCKS)), ("durable", DurableLoad, History(BLOCKS))
    with zt.Server() as s:
        s.cli("nbd", "create", "--name", "cached", "--size", size)
        s.cli("nbd", "create", "--name", "durable", "--size", size, "--write-cache", "off")
        s.start()
        for number in range(ROUNDS):
            name, kind, history = durable if number % 5 == 4 else cached
            load = kind(history, rnd, [NbdPeer(s.nbd_socket, name) for _ in range(2)])
            load.run(rnd.choice([0.05, 0.2, 0.5, 1.2]))
            flushed = number % 4 == 2
            if flushed:
                load.finish()
            s.kill()
            load.close()
            sent = len(history.writes)
            s.start()
            image = image_of(NbdPeer(s.nbd_socket, name), BLOCKS)
            told = notice(history, image, [NbdPeer(s.nbd_socket, name) for _ in range(2)])
            assert not told[1], "both connections were told: it is the device that owes an error"
            assert not (told[0] and (flushed or name == "durable")), "told, and nothing was lost"
            survived = history.verify(image)
            print(f"round {number}: {sent} writes to {name}, {load.flushes} flushes, "
                  f"{survived} seen after{', told of a loss' if told[0] else ''}", flush=True)
        s.stop()


main()
