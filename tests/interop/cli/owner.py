#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
# compression: any (whose the store is)
"""Who may open a volume: commands not after another owner's crash, unless they say so; the server
always, and then the one that had the volume ends."""

import nbd
import zt

HELD = 7


def server(name, url=None):
    return zt.Server(name, url, f'[storage]\nowner = "{name}"\n')


def connect(s, name):
    h = nbd.NBD()
    h.set_export_name(name)
    h.connect_tcp("127.0.0.1", str(s.nbd_port))
    return h


def one_shots(a, b):
    a.cli("nbd", "create", "made-by-a", "1M")
    # Closed cleanly: anybody may open.
    b.cli("nbd", "create", "made-by-b", "1M")
    a.start()
    a.kill()
    # Not closed: its owner may, another may not, and is told who it was.
    done = b.cli("nbd", "create", "second", "1M", check=False)
    assert done.returncode == HELD, done
    assert "'a'" in done.stderr or '"a"' in done.stderr or " a " in done.stderr, done.stderr
    assert "--takeover" in done.stderr, done.stderr
    assert "second" not in a.cli("nbd", "list").stdout
    a.start()
    a.kill()
    b.cli("nbd", "create", "second", "1M", "--takeover")
    assert "second" in a.cli("nbd", "list").stdout


def servers(a, b):
    """b takes over while a lives: a notices at its next commit and ends; nothing of it is lost."""
    a.start()
    h = connect(a, "made-by-a")
    h.pwrite(b"1" * 4096, 0)
    h.flush()
    b.start()
    assert "taking" in b.log_text() or "takes over" in b.log_text() or "took over" in b.log_text()
    h.pwrite(b"2" * 4096, 0)
    try:
        h.flush()
        raise AssertionError("a flush of the server that was replaced was acknowledged")
    except nbd.Error:
        pass
    assert a.process.wait(zt.LIMIT_S) == HELD, a.log_text()
    assert "taken over" in a.log_text()
    a.process = None
    h = connect(b, "made-by-a")
    assert h.pread(4096, 0) == b"1" * 4096
    h.pwrite(b"3" * 4096, 0)
    try:
        h.flush()
        raise AssertionError("what was written to a and never flushed is lost, and nobody is told")
    except nbd.Error as e:
        assert e.errno == "EIO", e
    h.flush()
    h.shutdown()
    b.stop()
    a.start()
    h = connect(a, "made-by-a")
    assert h.pread(4096, 0) == b"3" * 4096
    h.shutdown()
    a.stop()


with server("a") as a:
    with server("b", a.url) as b:
        one_shots(a, b)
        servers(a, b)
