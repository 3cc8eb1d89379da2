#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
# compression: any (how a server begins and ends)
"""The server's life: readiness told to the service manager, SIGHUP, SIGTERM with clients attached,
one server a cache folder, commands side by side."""
import concurrent.futures
import contextlib
import json
import os
import signal
import socket
import subprocess
import threading
import time

import nbd
import zt

HELD, STORE = 7, 8


class Manager:
    """Listens where a service manager would."""

    def __init__(self):
        self.path = os.path.join(zt.TMPDIR, "notify.sock")
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(self.path)
        self.socket.settimeout(zt.LIMIT_S)

    def hears(self, wanted):
        message = self.socket.recv(4096).decode().split("\n")
        assert wanted in message, (wanted, message)


def notifies():
    with zt.Server("notify") as s:
        manager = Manager()
        os.environ["NOTIFY_SOCKET"] = manager.path
        s.start()
        manager.hears("READY=1")
        # Who is ready can be reached at once.
        for port in (s.nbd_port, s.iscsi_port):
            socket.create_connection(("127.0.0.1", port), timeout=zt.LIMIT_S).close()
        s.process.send_signal(signal.SIGTERM)
        manager.hears("STOPPING=1")
        assert s.process.wait(zt.LIMIT_S) == 0
        s.process = None
        del os.environ["NOTIFY_SOCKET"]


def connect(s, name):
    h = nbd.NBD()
    h.set_export_name(name)
    h.connect_tcp("127.0.0.1", str(s.nbd_port))
    return h


def hang_up_reloads(s):
    with open(s.config, encoding="utf-8") as f:
        text = f.read()

    def reload_with(more, wanted):
        begin = len(s.log_text())
        with open(s.config, "w", encoding="utf-8") as f:
            f.write(zt.stores.merged(text, more) if more[0] == "[" else text + more)
        s.process.send_signal(signal.SIGHUP)
        zt.wait_for(lambda: all(w in s.log_text()[begin:] for w in wanted))

    reload_with('[runtime]\nlog_level = "debug"\n', ["read again; 0 changes"])
    begin = len(s.log_text())
    s.cli("nbd", "list")
    zt.wait_for(lambda: "op nbd.list" in s.log_text()[begin:])
    for kind in ("zstd-7", "none", "lz4"):
        reload_with(f'[filesystem]\ncompression = "{kind}"\n', ["read again; 0 changes"])
        status = json.loads(s.cli("status", "--json").stdout)
        assert status["volume"]["compression"] == kind
    reload_with('[filesystem]\ncompression = "none"\nmax_size_gb = 5\n[runtime]\ncores = 1\n',
                ["filesystem.max_size_gb has changed", "runtime.cores has changed",
                 "read again; 2 changes"])
    reload_with("[runtime]\ncoers = 1\n", ["did you mean runtime.cores?", "is not taken"])
    reload_with("x = " + 100000 * "[" + "\n", ["zerofs.toml:", "is not taken"])
    os.unlink(s.config)
    s.process.send_signal(signal.SIGHUP)
    zt.wait_for(lambda: "cannot be read" in s.log_text())
    with open(s.config, "w", encoding="utf-8") as f:
        f.write(text)
    assert s.process.poll() is None


def terminates_with_clients(s):
    """What a client wrote and did not flush is there after a clean end, and that is in time."""
    s.cli("nbd", "create", "left", "16M")
    h = connect(s, "left")
    h.pwrite(os.urandom(0) + b"w" * 65536, 0)
    begin = time.monotonic()
    s.stop()
    assert time.monotonic() - begin < 40  # 10, and what a busy machine adds
    try:
        h.pread(512, 0)
        raise AssertionError("the server has ended and still answers")
    except nbd.Error:
        pass
    s.start()
    h = connect(s, "left")
    assert h.pread(65536, 0) == b"w" * 65536
    h.shutdown()


def second_server_is_refused(s):
    done = subprocess.run([zt.ZEROFS, "run", "-c", s.config], text=True, capture_output=True,
                          timeout=zt.LIMIT_S, check=False)
    assert done.returncode == HELD and "another zerofs is running" in done.stderr, done


def commands_side_by_side(s, tag):
    """All succeed, wherever they happen to run, and none is lost."""
    results = []

    def create(i):
        results.append(s.cli("nbd", "create", f"{tag}{i}", "1M", check=False))

    threads = [threading.Thread(target=create, args=(i,)) for i in range(6)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert [r.returncode for r in results] == [0] * 6, results
    names = {d["name"] for d in json.loads(s.cli("nbd", "list", "--json").stdout)["devices"]}
    assert {f"{tag}{i}" for i in range(6)} <= names, names

    twice = [threading.Thread(target=lambda: results.append(
        s.cli("nbd", "create", f"{tag}same", "1M", check=False))) for _ in range(3)]
    for t in twice:
        t.start()
    for t in twice:
        t.join()
    assert sorted(r.returncode for r in results[6:]) == [0, 5, 5], results[6:]


def the_socket_is_private(s):
    mode = os.stat(os.path.join(s.dir, "admin.sock")).st_mode
    assert mode & 0o077 == 0, oct(mode)


def a_dead_socket_is_no_hindrance(s):
    s.kill()
    assert os.path.exists(os.path.join(s.dir, "admin.sock"))
    s.cli("nbd", "create", "after-death", "1M")
    s.start()
    assert "after-death" in s.cli("nbd", "list").stdout


def an_interrupt_ends_it_too(s):
    s.process.send_signal(signal.SIGINT)
    assert s.process.wait(zt.LIMIT_S) == 0
    assert "everything is stored" in s.log_text()
    s.process = None


def the_limit_holds_while_starting():
    """A store that takes 4 s for every request: the server is told to end long before it serves."""
    with zt.Server("slow", zt.stores.url("slow", "delay_ms=4000")) as s:
        with open(s.log, "wb") as log:
            s.process = subprocess.Popen([zt.ZEROFS, "run", "-c", s.config], stdout=log, stderr=log)
        zt.wait_for(lambda: "making a new volume" in s.log_text())
        begin = time.monotonic()
        s.process.send_signal(signal.SIGHUP)
        s.process.send_signal(signal.SIGTERM)
        assert s.process.wait(zt.LIMIT_S) == STORE, s.log_text()
        s.process = None
        assert 9 < time.monotonic() - begin < 45 and "ready" not in s.log_text()


def asked_to_the_end():
    """Whoever asks while the server ends is answered, or there is nobody: many connections make the
    end of one server last while the other one has ended."""
    os.environ["MALLOC_PERTURB_"] = "165"  # what is freed is no answer
    with concurrent.futures.ThreadPoolExecutor(6) as pool, zt.Server("asked") as s:
        s.start()
        del os.environ["MALLOC_PERTURB_"]
        held = [socket.create_connection(("127.0.0.1", s.nbd_port)) for _ in range(300)]

        def ask():
            with contextlib.suppress(OSError, ValueError):
                while s.ask("status")["result"]["running"]:
                    s.ask("iscsi.sessions")

        askers = [pool.submit(ask) for _ in range(6)]
        s.process.send_signal(signal.SIGTERM)
        assert s.process.wait(zt.LIMIT_S) == 0, s.log_text()
        s.process = None
        for asker in askers:
            asker.result()  # raises what it has raised: an answer that is none
        for connection in held:
            connection.close()


notifies()
asked_to_the_end()
the_limit_holds_while_starting()
with zt.Server() as s:
    commands_side_by_side(s, "off")
    s.start()
    commands_side_by_side(s, "on")
    the_socket_is_private(s)
    second_server_is_refused(s)
    hang_up_reloads(s)
    terminates_with_clients(s)
    a_dead_socket_is_no_hindrance(s)
    an_interrupt_ends_it_too(s)
