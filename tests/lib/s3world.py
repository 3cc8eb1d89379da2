# SPDX-License-Identifier: Apache-2.0
"""A server with an NBD device and an iSCSI LUN on an S3 store behind a proxy, whose histories are
kept over many lives of the server: for tests in which the store, the network or the server fail.

    with World(seed) as w:
        w.proxy.rules(...)
        w.live(2.0, clean=False)      # verified load, kill -9, a new start, everything checked
"""
import os
import random
import threading

import proxy
import rgw
import stores
import zt
from history import BLOCK, History
from load import IscsiPeer, Load, NbdPeer, image_of, notice

IQN = "iqn.2024-01.net.zerofs:s3world"
START_LIMIT_S = 60


class World:
    def __init__(self, seed, blocks=2048, own_gateway=False, name="s", extra=""):
        self.rnd, self.blocks, self.name, self.extra = random.Random(seed), blocks, name, extra
        self.gateway = self.server = None
        if own_gateway:
            self.gateway = rgw.Gateway(os.path.join(zt.TMPDIR, f"{name}-rgw")).start()
        upstream = self.gateway.endpoint if own_gateway else stores.endpoint()
        self.proxy = proxy.Proxy(upstream, self.rnd.randrange(1 << 30))
        self.histories = [History(blocks), History(blocks)]
        self.loads = []

    def __enter__(self):
        url = stores.url(self.name, kind="s3")
        self.server = zt.Server(self.name, url, self.extra, endpoint=self.proxy.endpoint)
        size = str(self.blocks * BLOCK)
        self.server.cli("nbd", "create", "--name", "disk", "--size", size)
        self.server.cli("iscsi", "create-target", "--iqn", IQN, "--lun", "0", "--size", size)
        self.server.start(START_LIMIT_S)
        return self

    def __exit__(self, kind, value, traceback):
        self.server.__exit__(kind, value, traceback)
        self.proxy.__exit__(kind, value, traceback)
        if self.gateway:
            self.gateway.stop()

    def peers(self):
        s = self.server
        return ([NbdPeer(s.nbd_socket, "disk"), NbdPeer(s.nbd_socket, "disk")],
                [IscsiPeer(s.iscsi_port, IQN), IscsiPeer(s.iscsi_port, IQN)])

    def connect(self, depth=16, limit_s=60):
        """Where the store is to be away, with a small depth: a client here has one thread, and one
        that cannot send over one connection does not answer on another."""
        self.loads = [Load(h, self.rnd, both, depth)
                      for h, both in zip(self.histories, self.peers())]
        for load in self.loads:
            load.limit_s = limit_s
            for p in load.peers:
                p.socket.settimeout(limit_s)

    def work(self, seconds):
        failed = self.loaded(lambda load: load.run(seconds), lambda: None)
        if failed:
            raise failed[0]

    def work_while(self, what):
        """Load from before what() until it has returned and a while longer; what failed. It may
        well stand still meanwhile, even in the middle of sending."""
        is_over = threading.Event()

        def go(load):
            while not is_over.is_set():
                load.run(0.1)
            load.run(0.2)

        def act():
            try:
                what()
            finally:
                is_over.set()

        return self.loaded(go, act)

    def loaded(self, go, act):
        """go(load) for each load, in a thread of its own, while act() acts; what failed. A load
        that waits for the store must not keep the other from answering its server."""
        failed = []

        def run(load):
            try:
                go(load)
            except Exception as e:  # told by whoever waits
                failed.append(e)

        threads = [threading.Thread(target=run, args=(load,)) for load in self.loads]
        for thread in threads:
            thread.start()
        try:
            act()
        finally:
            for thread in threads:
                thread.join()
        return failed

    def end(self, clean):
        """The server ends, and starts again; everything is checked. The writes that were seen."""
        if clean:
            for load in self.loads:
                load.finish()
            for load in self.loads:
                load.close()
            self.server.stop()
        else:
            self.server.kill()
            for load in self.loads:
                load.close()
        self.loads = []
        self.server.start(START_LIMIT_S)
        return self.verify()

    def verify(self):
        s = self.server
        images = (image_of(NbdPeer(s.nbd_socket, "disk"), self.blocks),
                  image_of(IscsiPeer(s.iscsi_port, IQN), self.blocks))
        for h, image, both in zip(self.histories, images, self.peers()):
            notice(h, image, both)
        return [h.verify(image) for h, image in zip(self.histories, images)]

    def live(self, seconds, clean, rules=None):
        """The rules, when there are some, hold for the load, and none for end and start."""
        self.connect()
        if rules is not None:
            self.proxy.rules(*rules)
        self.work(seconds)
        slowest = max(load.flush_latency_max_s for load in self.loads)
        requests = sum(load.requests for load in self.loads)
        if rules is not None:
            self.proxy.rules()
        seen = self.end(clean)
        print(f"  {'stopped' if clean else 'killed'}: {requests} requests, slowest flush "
              f"{slowest:.1f} s, {seen} writes seen after", flush=True)
        return slowest
