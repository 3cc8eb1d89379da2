#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
# long
# limit: 1500
"""A store that fails requests, loses replies, carries requests out twice or late, and is slow: NBD
and iSCSI clients see no error and no wrong byte, and nothing that was flushed is lost over clean
restarts and kill -9."""
import json
import os
import random

import zt
from history import BLOCK, History
from load import IscsiPeer, Load, NbdPeer, image_of, notice

SEED = int(os.environ.get("SEED", random.randrange(1 << 32)))
LIVES = 40 if zt.SOAK else 1 if zt.BRIEF else 5
BLOCKS = 2048
IQN = "iqn.2024-01.net.zerofs:faults"
FLUSH_LIMIT_S = 60
SWEEP = (
    "fail_before=0.05",
    "fail_after=0.05",
    "duplicate=0.05&delay_ms=0-5",
    "late=0.03&late_ms=300",
    "fault=0.02&duplicate=0.02&late=0.02&late_ms=1000&delay_ms=1-20",
)


def peers_of(s):
    return ([NbdPeer(s.nbd_socket, "disk"), NbdPeer(s.nbd_socket, "disk")],
            [IscsiPeer(s.iscsi_port, IQN), IscsiPeer(s.iscsi_port, IQN, {"ImmediateData": "No"})])


def verify(s, histories):
    images = (image_of(NbdPeer(s.nbd_socket, "disk"), BLOCKS),
              image_of(IscsiPeer(s.iscsi_port, IQN), BLOCKS))
    for h, image, peers in zip(histories, images, peers_of(s)):
        notice(h, image, peers)
    return [h.verify(image) for h, image in zip(histories, images)]


def life(s, histories, rnd):
    """One life of the server; how many errors of the store it met."""
    loads = [Load(h, rnd, peers, 24) for h, peers in zip(histories, peers_of(s))]
    for _ in range(rnd.randrange(2, 14)):
        for load in loads:
            load.run(0.05)
    errors = sum(json.loads(s.cli("status", "--json").stdout)["store"]["errors"].values())
    clean = rnd.random() < 0.4
    if clean:
        for load in loads:
            load.finish()
        for load in loads:
            load.close()
        s.stop()
    else:
        s.kill()
        for load in loads:
            load.close()
    slowest = max(load.flush_latency_max_s for load in loads)
    s.start()
    seen = verify(s, histories)
    print(f"  {'stopped' if clean else 'killed'}: {sum(x.requests for x in loads)} requests, "
          f"{errors} errors, slowest flush {slowest:.1f} s, {seen} writes seen after", flush=True)
    assert slowest < FLUSH_LIMIT_S
    return errors


def sweep(number, options, rnd):
    print(options, flush=True)
    histories = [History(BLOCKS), History(BLOCKS)]
    name = f"s{number}"
    url = zt.stores.url(name, f"{options}&seed={rnd.randrange(1 << 30)}")
    with zt.Server(name, url) as s:
        size = str(BLOCKS * BLOCK)
        s.cli("nbd", "create", "--name", "disk", "--size", size)
        s.cli("iscsi", "create-target", "--iqn", IQN, "--lun", "0", "--size", size)
        s.start()
        met = lives = 0
        # More where so little happened that chance has spared all of it.
        while lives < LIVES or met == 0 and "duplicate=0.05" not in options and lives < 5 * LIVES:
            met += life(s, histories, rnd)
            lives += 1
        assert met > 0 or "duplicate=0.05" in options, "the store never failed"
        s.stop()


def beginnings(rnd):
    """A volume is made over a store that loses every third reply."""
    for number in range(6):
        name = f"b{number}"
        url = zt.stores.url(name, f"fail_after=0.3&seed={rnd.randrange(1 << 30)}")
        with zt.Server(name, url) as s:
            s.cli("nbd", "create", "--name", "disk", "--size", "1M")
            assert "disk" in s.cli("nbd", "list").stdout


def main():
    print("seed", SEED, flush=True)
    rnd = random.Random(SEED)
    beginnings(rnd)
    for number, options in enumerate(SWEEP):
        sweep(number, options, rnd)


main()
