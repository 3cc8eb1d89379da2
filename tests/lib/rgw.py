# SPDX-License-Identifier: Apache-2.0
"""A real S3 server for tests: Ceph's RADOS Gateway over one monitor and one OSD in memory, all in a
folder of its own, on loopback. Needs neither root nor a service manager; up in about two seconds.

    with rgw.Gateway(folder) as g:
        g.endpoint, g.bucket
        g.kill(); g.start_gateway()     # sudden death and return; the data are intact
        g.freeze(); g.thaw()            # a gateway that says nothing

What is started dies with the thread that started it, so that nothing is left when a test is killed.
"""
import ctypes
import os
import shutil
import signal
import socket
import subprocess
import time

import s3
from ports import free_port

BUCKET = "zerofs-tests"
TRIES = 3
PR_SET_PDEATHSIG = 1
ONE_COPY = """\
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 1
osd pool default pg autoscale mode = off
osd crush chooseleaf type = 0
mon allow pool size one = true
mon max pg per osd = 1000
"""
# Waits that are meant for clusters: the first osdmap marks its OSD "out"; pools are made in rounds
# of the monitor, which gathers for a second; a client that was early asks again after three.
AT_ONCE = """\
mon osd auto mark in = true
paxos propose interval = 0.01
paxos min wait = 0.01
mon client hunt interval = 0.2
"""
# The memory of deleted objects above 4 MiB comes back after 20 s instead of two hours.
GATEWAY = """\
rgw thread pool size = 64
rgw rados pool pg num min = 1
rgw run sync thread = false
rgw enable quota threads = false
rgw dynamic resharding = false
rgw lc max objs = 1
rgw gc max objs = 1
rgw gc obj min wait = 20
rgw gc processor period = 20
rgw gc processor max time = 20
rgw num control oids = 1
rgw data log num shards = 1
rgw md log max shards = 1
"""


def dies_with_its_parent():
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


class Gateway:
    """One S3 server with one bucket."""

    def __init__(self, folder, space=12 << 30):
        self.folder, self.space = os.path.abspath(folder), space
        self.processes = {}
        self.port = self.endpoint = None

    # -- the whole -------------------------------------------------------------------------------

    def start(self):
        for left in reversed(range(TRIES)):
            try:
                self.start_all()
                break
            except (RuntimeError, subprocess.TimeoutExpired):
                said = self.logs()
                self.stop()
                if not left:
                    raise RuntimeError(f"no S3 server: {said}") from None
        s3.Bucket(self.endpoint, BUCKET).make()
        return self

    def start_all(self):
        self.port = free_port()
        self.endpoint = f"http://127.0.0.1:{self.port}"
        for name in ("mon", "osd", "rgw", "log"):
            os.makedirs(os.path.join(self.folder, name))
        self.write_config(free_port())
        osd = "6c1f1f3e-0d7a-4f3b-8c55-3d6f2f0a9b01"
        self.tool("monmaptool", "--create", "--fsid", self.fsid, "--addv", "a",
                  f"[v1:127.0.0.1:{self.monitor}]", self.path("monmap"))
        self.tool("osdmaptool", "-c", self.config, "--createsimple", "1", self.path("osdmap"))
        self.tool("ceph-mon", "-c", self.config, "-i", "a", "--mkfs", "--monmap",
                  self.path("monmap"), "--osdmap", self.path("osdmap"))
        self.tool("ceph-osd", "-c", self.config, "-i", "0", "--mkfs", "--no-mon-config",
                  "--osd-uuid", osd)
        self.spawn("mon", "ceph-mon", "-i", "a")
        self.spawn("osd", "ceph-osd", "-i", "0")
        self.tool("radosgw-admin", "-c", self.config, "user", "create", "--uid=tests",
                  "--display-name=tests", "--access-key=" + s3.ACCESS_KEY,
                  "--secret-key=" + s3.SECRET_KEY)
        self.start_gateway()

    def stop(self):
        for name in list(self.processes):
            self.end(name)
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self):
        return self.start()

    def __exit__(self, kind, value, traceback):
        self.stop()

    def objects(self):
        return s3.Bucket(self.endpoint, BUCKET)

    # -- faults ----------------------------------------------------------------------------------

    def start_gateway(self):
        self.spawn("rgw", "radosgw", "-n", "client.admin")
        ends_at = time.monotonic() + 60
        while not self.answers():
            if self.processes["rgw"].poll() is not None or time.monotonic() > ends_at:
                raise RuntimeError("radosgw does not answer")
            time.sleep(0.02)

    def kill(self):
        self.end("rgw")

    def freeze(self):
        self.processes["rgw"].send_signal(signal.SIGSTOP)

    def thaw(self):
        self.processes["rgw"].send_signal(signal.SIGCONT)

    # -- parts -----------------------------------------------------------------------------------

    def answers(self):
        try:
            with socket.create_connection(("127.0.0.1", self.port), 5) as k:
                k.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
                return k.recv(1) != b""
        except OSError:
            return False

    def path(self, name):
        return os.path.join(self.folder, name)

    def write_config(self, monitor):
        self.config, self.monitor = self.path("ceph.conf"), monitor
        self.fsid = "0f0b6d3c-97d4-4f0b-9a55-5ad1b7c1e001"
        with open(self.config, "w", encoding="utf-8") as f:
            f.write(f"""\
[global]
fsid = {self.fsid}
mon host = v1:127.0.0.1:{monitor}
ms bind msgr2 = false
public addr = 127.0.0.1
cluster addr = 127.0.0.1
auth cluster required = none
auth service required = none
auth client required = none
run dir = {self.folder}
admin socket =
pid file =
log file = {self.folder}/log/$name.log
mon cluster log file = {self.folder}/log/cluster.log
crash dir = {self.folder}/log
{ONE_COPY}{AT_ONCE}
[mon]
mon data = {self.folder}/mon
mon data avail crit = 1
[osd]
osd data = {self.folder}/osd
osd objectstore = memstore
memstore device bytes = {self.space}
osd crush update on start = false
osd class update on start = false
[client]
rgw data = {self.folder}/rgw
rgw frontends = beast endpoint=127.0.0.1:{self.port} tcp_nodelay=1
{GATEWAY}""")

    def tool(self, *words):
        with open(self.path("log/tools.log"), "ab") as log:
            done = subprocess.run(words, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                  timeout=60, check=False)
        if done.returncode != 0:
            raise RuntimeError(f"{words[0]} failed")

    def spawn(self, name, program, *words):
        with open(self.path(f"log/{name}.out"), "ab") as log:
            self.processes[name] = subprocess.Popen(
                [program, "-c", self.config, *words, "-f"], stdin=subprocess.DEVNULL, stdout=log,
                stderr=log, preexec_fn=dies_with_its_parent)

    def end(self, name):
        process = self.processes.pop(name, None)
        if process:
            process.kill()
            process.wait()

    def logs(self):
        text = ""
        for name in sorted(os.listdir(self.path("log"))):
            with open(self.path(f"log/{name}"), encoding="utf-8", errors="replace") as f:
                text += f"\n-- {name}\n" + f.read()[-1500:]
        return text
