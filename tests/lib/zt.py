# SPDX-License-Identifier: Apache-2.0
"""For Python tests: a server of one's own, and waiting. See docs/TESTING.md.

    import zt
    with zt.Server() as s:
        s.cli("nbd", "create", "--name", "d", "--size", "64M")
        s.start()
        ... s.nbd_port, s.iscsi_port ...
        s.stop()            # or s.kill(), then s.start() again
"""
import contextlib
import glob
import json
import os
import signal
import socket
import subprocess
import time

import stores
from ports import free_port

ZEROFS = os.environ["ZEROFS"]
TMPDIR = os.environ["TMPDIR"]
SOAK = "SOAK" in os.environ
# This variant of the store is one of many: what is repeated many times may be less here.
BRIEF = "TEST_BRIEF" in os.environ
# For what should happen at once: a guard, which a machine with much else to do does not reach.
LIMIT_S = 60


def wait_for(what, limit_s=LIMIT_S, every_s=0.02):
    """Calls until it gives something true, which is the result; AssertionError when it does not."""
    ends_at = time.monotonic() + limit_s
    while True:
        got = what()
        if got:
            return got
        assert time.monotonic() < ends_at, f"waited {limit_s} s in vain for {what}"
        time.sleep(every_s)


class Stopwatch:
    """Time that passes, without what this process and the server waited for a processor: so much a
    busy machine adds, and nobody else."""

    def __init__(self, server):
        self.pids = (os.getpid(), server.process.pid)
        self.begin, self.waited = time.monotonic(), self.waits()

    def waits(self):
        """By thread: some come, and some end meanwhile, with all that they have waited."""
        found = {}
        for pid in self.pids:
            for path in glob.glob(f"/proc/{pid}/task/*/schedstat"):
                with contextlib.suppress(OSError), open(path, encoding="ascii") as f:
                    found[path] = int(f.read().split()[1])
        return found

    def seconds(self):
        waited = sum(now - self.waited.get(path, 0) for path, now in self.waits().items())
        return time.monotonic() - self.begin - waited / 1e9


class Server:
    """One configuration, store and cache folder; the server may be started and ended many times.
    The store is of the kind that this run is for (stores.py), unless a URL says otherwise."""

    def __init__(self, name="s", url=None, extra="", wrap=(), endpoint=None):
        self.dir = os.path.join(TMPDIR, name)
        os.makedirs(os.path.join(self.dir, "cache"))
        self.nbd_port, self.iscsi_port = free_port(), free_port()
        self.nbd_socket = os.path.join(self.dir, "nbd.sock")
        self.config = os.path.join(self.dir, "zerofs.toml")
        self.log = os.path.join(self.dir, "log")
        self.wrap = list(wrap)
        self.process = None
        self.url = url or stores.url(name)
        with open(self.config, "w", encoding="utf-8") as f:
            f.write(stores.config(self.url, endpoint) + f"""\
[cache]
dir = "{self.dir}/cache"
memory_size_gb = 0.25
disk_size_gb = 1.0
[servers.nbd]
addresses = ["127.0.0.1:{self.nbd_port}"]
unix_socket = "{self.nbd_socket}"
[servers.iscsi]
addresses = ["127.0.0.1:{self.iscsi_port}"]
[admin]
unix_socket = "{self.dir}/admin.sock"
""")
        self.configure(extra)

    def config_text(self):
        with open(self.config, encoding="utf-8") as f:
            return f.read()

    def configure(self, lines):
        """Sections and settings that are to hold from now on."""
        text = stores.merged(self.config_text(), lines)
        with open(self.config, "w", encoding="utf-8") as f:
            f.write(text)

    def configure_without(self, *keys):
        """Settings that are to hold no more."""
        lines = self.config_text().splitlines(True)
        with open(self.config, "w", encoding="utf-8") as f:
            f.writelines(line for line in lines if line.split("=")[0].strip() not in keys)

    def cli(self, *args, check=True):
        """zerofs ARGS -c CONFIG: a CompletedProcess with stdout and stderr."""
        done = subprocess.run([ZEROFS, *args, "-c", self.config], text=True, capture_output=True,
                              stdin=subprocess.DEVNULL, timeout=2 * LIMIT_S, check=False)
        if check:
            assert done.returncode == 0, (args, done.returncode, done.stdout, done.stderr)
        return done

    def ask(self, op, **named):
        """One request over the admin socket, for many in a short time: the response (ctl/ops.h)."""
        request = json.dumps({"op": op, **named}).encode()
        with socket.socket(socket.AF_UNIX) as admin, admin.makefile("rb") as answer:
            admin.settimeout(2 * LIMIT_S)
            admin.connect(os.path.join(self.dir, "admin.sock"))
            admin.sendall(len(request).to_bytes(4, "big") + request)
            return json.loads(answer.read(int.from_bytes(answer.read(4), "big")))

    def start(self, limit_s=LIMIT_S):
        with open(self.log, "ab") as log:
            begin = len(self.log_text())
            self.process = subprocess.Popen([*self.wrap, ZEROFS, "run", "-c", self.config],
                                            stdin=subprocess.DEVNULL, stdout=log, stderr=log)

        def ready():
            assert self.process.poll() is None, "the server ended: " + self.log_text()
            return "ready" in self.log_text()[begin:]

        wait_for(ready, limit_s)
        return self

    def log_text(self):
        with open(self.log, encoding="utf-8", errors="replace") as f:
            return f.read()

    def rss_kib(self):
        with open(f"/proc/{self.process.pid}/status", encoding="ascii") as f:
            return next(int(line.split()[1]) for line in f if line.startswith("VmRSS"))

    def used_kib(self):
        """Resident memory without buffers that are free for anyone: those stay, within their
        bound, after a burst, whoever it was that used them."""
        memory = json.loads(self.cli("status", "--json").stdout)["memory"]
        return self.rss_kib() - memory["by_owner"]["other"] // 1024

    def stop(self, limit_s=LIMIT_S):
        """A clean end, whose exit code must be 0."""
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(limit_s)
        assert code == 0, f"exit code {code}: {self.log_text()[-4000:]}"
        self.process = None

    def kill(self):
        self.process.kill()
        self.process.wait()
        self.process = None

    def __enter__(self):
        return self

    def __exit__(self, kind, value, traceback):
        if self.process:
            self.kill()
        if kind:
            print(self.log_text()[-4000:] if os.path.exists(self.log) else "(no log)")
