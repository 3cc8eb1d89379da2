#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
# long
# store: s3
"""While the S3 server is away: reads that need it wait, writes go on to the dirty limit and then
wait, and logins, NOPs, cached reads and the admin socket are served; the log has one line when it
begins, one a minute, one when it ends; afterwards everything goes on and nothing is lost. SIGTERM
meanwhile ends the server with an error, which says what is not stored."""
import json
import os
import re
import signal
import time

import nbd
import proxy
import rgw
import zt
from initiator import Initiator

IQN = "iqn.2024-01.net.zerofs:outage"
STORE = 8
MIB = 1 << 20
PROMPT_S = 30    # below half of an outage; a busy machine needs some
OUTAGE_S = 66
COLD = 40 * MIB
PIECE = 128 << 10


def connect(s):
    h = nbd.NBD()
    h.set_export_name("disk")
    h.connect_unix(s.nbd_socket)
    return h


class UnderWay:
    """A request that may take long."""

    def __init__(self, h, cookie, buffer=None):
        self.h, self.cookie, self.buffer, self.is_done = h, cookie, buffer, False

    def done(self):
        if not self.is_done:
            self.h.poll(20)
            self.is_done = self.h.aio_command_completed(self.cookie)
        return self.is_done


def promptly(what, *words):
    begin = time.monotonic()
    got = what(*words)
    took = time.monotonic() - begin
    assert took < PROMPT_S, f"{what} took {took:.1f} s"
    return got


def status(s):
    return json.loads(promptly(s.cli, "status", "--json").stdout)


def is_served(s, session, known):
    """What needs no store."""
    assert promptly(session.nop).data == b"ping"
    i = promptly(Initiator(s.iscsi_port, IQN).ready)
    assert promptly(i.read, 0, 8) == known[:4096]
    i.close()
    h = promptly(connect, s)
    assert promptly(h.pread, MIB, 0) == known[:MIB]
    assert "disk" in promptly(s.cli, "nbd", "list").stdout
    h.shutdown()


def is_nearly_full(s):
    have = status(s)["volume"]
    return have["dirty_bytes"] > have["dirty_limit_bytes"] // 2


def write_until_it_waits(s, h):
    """Dirty data up to the limit: how many MiB were taken; the last of them waits."""
    piece = os.urandom(MIB)
    taken = 0
    while True:
        w = UnderWay(h, h.aio_pwrite(nbd.Buffer.from_bytearray(bytearray(piece)),
                                     (64 + taken % 64) * MIB))
        since = time.monotonic()
        while not w.done():
            waited_s = time.monotonic() - since
            if waited_s > 3 and is_nearly_full(s) or waited_s > zt.LIMIT_S:
                return taken, piece, w
        taken += 1
        assert taken < 2000, "no end of dirty data"


def lines_about(text):
    begun = re.findall(r"trying again until it works", text)
    still = re.findall(r"still failing after", text)
    ended = re.findall(r"answers again", text)
    return len(begun), len(still), len(ended)


def outage(s, g):
    s.cli("nbd", "create", "disk", "128M")
    s.cli("iscsi", "create-target", "--iqn", IQN, "--lun", "0", "--size", "16M")
    known = os.urandom(8 * MIB)
    cold = os.urandom(MIB)
    s.start()
    h = connect(s)
    h.pwrite(cold, COLD)
    h.flush()
    h.shutdown()
    s.stop()
    s.start()
    h, reader, in_order = connect(s), connect(s), connect(s)
    session = Initiator(s.iscsi_port, IQN).ready()
    session.write(0, known[:4096])
    h.pwrite(known, 0)
    h.flush()
    assert h.pread(8 * MIB, 0) == known
    for off in range(COLD + PIECE, COLD + 3 * PIECE, PIECE):
        in_order.pread(PIECE, off)
    begin = len(s.log_text())
    since = time.monotonic()
    g.kill()

    # The third in a row waits for what is read ahead, which gives up before the store is back.
    ahead = nbd.Buffer(PIECE)
    third = UnderWay(in_order, in_order.aio_pread(ahead, COLD + 3 * PIECE), ahead)
    promptly(h.pwrite, b"2" * 4096, 9 * MIB)
    flush = UnderWay(h, h.aio_flush())
    buffer = nbd.Buffer(4096)
    read = UnderWay(reader, reader.aio_pread(buffer, COLD + 8192), buffer)
    is_served(s, session, known)
    writer = connect(s)
    taken, piece, last = write_until_it_waits(s, writer)
    have = status(s)["volume"]
    print(f"{taken} MiB taken, dirty {have['dirty_bytes']} of {have['dirty_limit_bytes']}")
    assert taken * MIB >= have["dirty_limit_bytes"] // 2
    assert have["dirty_bytes"] <= have["dirty_limit_bytes"]
    while time.monotonic() < since + OUTAGE_S:
        is_served(s, session, known)
        assert not flush.done() and not read.done() and not last.done() and not third.done()
    assert s.process.poll() is None

    g.start_gateway()
    zt.wait_for(read.done)
    assert bytes(buffer.to_bytearray()) == cold[8192:12288]
    zt.wait_for(third.done)
    assert bytes(ahead.to_bytearray()) == cold[3 * PIECE:4 * PIECE]
    zt.wait_for(flush.done, 2 * zt.LIMIT_S)
    zt.wait_for(last.done, 2 * zt.LIMIT_S)
    promptly(writer.pread, 4096, 0)
    writer.flush()
    zt.wait_for(lambda: lines_about(s.log_text()[begin:])[2] > 0)
    counts = lines_about(s.log_text()[begin:])
    print("lines: begun, still, ended:", counts)
    minutes = int(time.monotonic() - since) // 60
    assert counts[0] == counts[2] == 1 <= counts[1] <= minutes, s.log_text()[begin:]
    s.kill()
    s.start()
    h = connect(s)
    assert h.pread(8 * MIB, 0) == known and h.pread(4096, 9 * MIB) == b"2" * 4096
    for at in range(min(taken + 1, 64)):
        assert h.pread(MIB, (64 + at) * MIB) == piece, at
    h.shutdown()


def ends_in_an_outage(s, g):
    h = connect(s)
    h.pwrite(b"3" * 4096, 10 * MIB)
    h.flush()
    g.kill()
    h.pwrite(b"4" * 4096, 11 * MIB)
    flush = UnderWay(h, h.aio_flush())
    assert not flush.done()
    begin = len(s.log_text())
    s.process.send_signal(signal.SIGTERM)
    code = s.process.wait(zt.LIMIT_S)
    assert code == STORE, f"exit code {code}: {s.log_text()[begin:]}"
    s.process = None
    said = s.log_text()[begin:]
    figures = [int(n) for n in re.findall(r"(\d+) bytes .*not stored", said)]
    assert figures and all(4096 <= n < 16384 for n in figures), said
    g.start_gateway()
    s.start()
    h = connect(s)
    assert h.pread(4096, 10 * MIB) == b"3" * 4096
    assert h.pread(4096, 11 * MIB) in (bytes(4096), b"4" * 4096)
    h.shutdown()
    s.stop()


def starts_in_an_outage(s, g):
    """A command says what is the matter, and with the store back it works."""
    g.kill()
    done = s.cli("nbd", "list", check=False)
    assert done.returncode == STORE, done
    g.start_gateway()
    assert "disk" in s.cli("nbd", "list").stdout


def takes_no_puts(s, g):
    """A command that has something to store does not wait for ever."""
    with proxy.Proxy(g.endpoint) as p:
        s.configure(f'[storage]\nurl = "{s.url}?give_up_ms=1500"\n[aws]\nendpoint = "{p.endpoint}"')
        for key, code, words in (("/segments/", 503, "SlowDown"), ("/sst/", 403, "QuotaExceeded")):
            p.rules({"do": "status", "status": code, "code": words, "method": "PUT", "key": key})
            done = s.cli("nbd", "create", f"another{code}", "1M", "--json", check=False)
            assert done.returncode == STORE, (key, done)
            assert json.loads(done.stdout)["error"]["kind"] == "store", done
            assert "has been away for" in done.stdout and words in done.stderr, done
        p.rules()
        assert "disk" in s.cli("nbd", "list").stdout


def main():
    with rgw.Gateway(os.path.join(zt.TMPDIR, "rgw")) as g:
        with zt.Server(endpoint=g.endpoint) as s:
            outage(s, g)
            ends_in_an_outage(s, g)
            starts_in_an_outage(s, g)
            takes_no_puts(s, g)


main()
