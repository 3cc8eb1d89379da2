#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
# store: file
"""A store folder that is read-only, full, or vanishes: a clear error with its exit code; the server
goes on, flushes wait and are not acknowledged, and all is well once the store is back."""
import json
import os
import shutil
import signal
import subprocess
import sys

MARK = "ZEROFS_STORE_TEST"
if MARK not in os.environ:
    # Mounts of its own, which go with it.
    flags = ["--mount"] if os.getuid() == 0 else ["--mount", "--map-root-user"]
    os.environ[MARK] = "1"
    os.execvp("unshare", ["unshare", *flags, "--propagation", "private", sys.executable, *sys.argv])

import nbd  # noqa: E402
import zt  # noqa: E402

STORE = 8


def mount(*words):
    subprocess.run(["mount", *words], check=True)


def connect(s, name):
    h = nbd.NBD()
    h.set_export_name(name)
    h.connect_tcp("127.0.0.1", str(s.nbd_port))
    return h


class Flush:
    """A flush under way."""

    def __init__(self, h):
        self.h, self.cookie, self.is_done = h, h.aio_flush(), False

    def done(self):
        if not self.is_done:
            self.h.poll(20)
            self.is_done = self.h.aio_command_completed(self.cookie)
        return self.is_done


def stalls(s, h, begin):
    """A flush begun, of which the log has said by now why it takes so long."""
    flush = Flush(h)
    zt.wait_for(lambda: flush.done() or "trying again" in s.log_text()[begin:])
    assert not flush.done(), "a flush was acknowledged that is nowhere stored"
    return flush


def says(done, code, *words):
    assert done.returncode == code, done
    for word in words:
        assert word in done.stderr, (word, done.stderr)


def read_only():
    with zt.Server("read-only") as s:
        store = os.path.join(s.dir, "store")
        mount("-t", "tmpfs", "-o", "size=64m", "store", store)
        s.cli("nbd", "create", "d", "4M")
        mount("-o", "remount,ro", store)
        says(s.cli("nbd", "create", "e", "4M", check=False), STORE, store)
        done = s.cli("nbd", "list", check=False)
        assert done.returncode in (0, STORE), done
        done = subprocess.run([zt.ZEROFS, "run", "-c", s.config], text=True, capture_output=True,
                              timeout=2 * zt.LIMIT_S, check=False)
        says(done, STORE, "cannot be opened")
        mount("-o", "remount,rw", store)
        assert [d["name"] for d in json.loads(s.cli("nbd", "list", "--json").stdout)["devices"]] \
            == ["d"]

        # It turns read-only under a server.
        s.start()
        h = connect(s, "d")
        h.pwrite(b"1" * 4096, 0)
        h.flush()
        begin = len(s.log_text())
        mount("-o", "remount,ro", store)
        h.pwrite(b"2" * 4096, 4096)
        flush = stalls(s, h, begin)
        other = connect(s, "d")
        assert other.pread(8192, 0) == b"1" * 4096 + b"2" * 4096
        assert s.process.poll() is None
        mount("-o", "remount,rw", store)
        zt.wait_for(flush.done, 2 * zt.LIMIT_S)
        s.kill()
        s.start()
        h = connect(s, "d")
        assert h.pread(8192, 0) == b"1" * 4096 + b"2" * 4096
        s.stop()


def full():
    with zt.Server("full") as s:
        store = os.path.join(s.dir, "store")
        mount("-t", "tmpfs", "-o", "size=24m", "store", store)
        s.cli("nbd", "create", "d", "256M")
        s.start()
        h = connect(s, "d")
        kept = os.urandom(1 << 20)
        h.pwrite(kept, 0)
        h.flush()
        begin = len(s.log_text())
        for i in range(1, 28):
            h.pwrite(kept, i << 20)
        flush = stalls(s, h, begin)
        other = connect(s, "d")
        assert other.pread(1 << 20, 0) == kept
        assert "d" in s.cli("nbd", "list").stdout
        mount("-o", "remount,size=256m", store)
        zt.wait_for(flush.done, 2 * zt.LIMIT_S)
        s.kill()
        s.start()
        h = connect(s, "d")
        for i in range(28):
            assert h.pread(1 << 20, i << 20) == kept, i
        s.stop()


def vanished():
    with zt.Server("vanished") as s:
        store = os.path.join(s.dir, "store")
        away, copy = os.path.join(s.dir, "away"), os.path.join(s.dir, "copy")
        s.cli("nbd", "create", "d", "4M")
        s.start()
        h = connect(s, "d")
        h.pwrite(b"1" * 4096, 0)
        h.flush()
        # Moved away under the server, it is still the same folder.
        os.rename(store, away)
        h.pwrite(b"2" * 4096, 4096)
        h.flush()
        assert not os.path.exists(store), "a second store was begun"
        os.rename(away, store)

        # Deleted, it is gone: nothing is acknowledged any more, and the server says so and ends.
        shutil.copytree(store, copy)
        begin = len(s.log_text())
        shutil.rmtree(store)
        h.pwrite(b"3" * 4096, 8192)
        stalls(s, h, begin)
        assert connect(s, "d").pread(4096, 8192) == b"3" * 4096
        s.process.send_signal(signal.SIGTERM)
        assert s.process.wait(zt.LIMIT_S) == STORE, s.log_text()
        s.process = None
        assert "are not stored" in s.log_text()
        # A command that looks does not take the missing folder for an empty volume.
        done = s.cli("nbd", "list", check=False)
        assert done.returncode != 0 and store in done.stderr, done
        shutil.rmtree(store, ignore_errors=True)
        os.rename(copy, store)
        s.start()
        h = connect(s, "d")
        assert h.pread(12288, 0) == b"1" * 4096 + b"2" * 4096 + bytes(4096)
        s.stop()


read_only()
full()
vanished()
