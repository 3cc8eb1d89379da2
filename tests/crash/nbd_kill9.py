#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
# limit: 400
"""kill -9 under load over NBD, two connections: what FLUSH and FUA have covered is there after each
restart, and what survives is a prefix (tests/lib/history.py says it exactly)."""
import os
import random

import zt
from history import BLOCK, History
from load import Load, NbdPeer, image_of

SEED = int(os.environ.get("SEED", random.randrange(1 << 32)))
ROUNDS = 500 if zt.SOAK else 20
BLOCKS = 4096


def main():
    print("seed", SEED, flush=True)
    rnd = random.Random(SEED)
    history = History(BLOCKS)
    with zt.Server() as s:
        s.cli("nbd", "create", "--name", "disk", "--size", str(BLOCKS * BLOCK))
        s.start()
        for number in range(ROUNDS):
            load = Load(history, rnd, [NbdPeer(s.nbd_socket, "disk") for _ in range(2)])
            load.run(rnd.choice([0.05, 0.2, 0.5, 1.2]))
            s.kill()
            load.close()
            sent = len(history.writes)
            s.start()
            survived = history.verify(image_of(NbdPeer(s.nbd_socket, "disk"), BLOCKS))
            print(f"round {number}: {sent} writes, {load.flushes} flushes, {survived} seen after",
                  flush=True)
        s.stop()


main()
