#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
# long
"""kill -9 under load over iSCSI, four sessions: what SYNCHRONIZE CACHE and FUA have covered is
there after each restart, and what survives is a prefix (tests/lib/history.py says it exactly). The
first flush of each session after a restart fails, once, if acknowledged writes were lost; and not
where a flush came after all of them."""
import os
import random

import zt
from history import BLOCK, History
from load import IscsiPeer, Load, image_of, notice

SEED = int(os.environ.get("SEED", random.randrange(1 << 32)))
ROUNDS = 500 if zt.SOAK else 5 if zt.BRIEF else 20
BLOCKS = 4096
IQN = "iqn.2024-01.net.zerofs:kill9"
# How sessions send their data: immediate, unsolicited, or all on request.
KEYS = ({"InitialR2T": "No", "FirstBurstLength": "262144"}, {"InitialR2T": "No"},
        {"ImmediateData": "No"}, {"ImmediateData": "Yes"})


def main():
    print("seed", SEED, flush=True)
    rnd = random.Random(SEED)
    history = History(BLOCKS)
    with zt.Server() as s:
        s.cli("iscsi", "create-target", "--iqn", IQN, "--lun", "0", "--size", str(BLOCKS * BLOCK))
        s.start()
        for number in range(ROUNDS):
            load = Load(history, rnd, [IscsiPeer(s.iscsi_port, IQN, k) for k in KEYS])
            load.run(rnd.choice([0.05, 0.2, 0.5, 1.2]))
            flushed = number % 4 == 2
            if flushed:
                load.finish()
            s.kill()
            load.close()
            sent = len(history.writes)
            s.start()
            image = image_of(IscsiPeer(s.iscsi_port, IQN), BLOCKS)
            told = notice(history, image, [IscsiPeer(s.iscsi_port, IQN, k) for k in KEYS])
            assert all(told) or not any(told), told
            assert not (told[0] and flushed), "told, and nothing was lost"
            survived = history.verify(image)
            print(f"round {number}: {sent} writes, {load.flushes} flushes, {survived} seen after"
                  f"{', told of a loss' if told[0] else ''}", flush=True)
        s.stop()


main()
