#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
# long
# store: s3
"""Requests counted on the wire: a durable 4 KiB write is one PUT, a cold 4 KiB read at most one
GET once the index block is there, a sequential read of N MiB at most N/4 + 8 GETs, and an idle
minute nothing at all."""
import collections
import json
import os
import random
import select
import shutil

import nbd
import proxy
import stores
import zt

MIB = 1 << 20
SPAN = 192
IDLE_S = 60
SEED = int(os.environ.get("SEED", random.randrange(1 << 32)))


def connect(s):
    h = nbd.NBD()
    h.set_export_name("disk")
    h.connect_unix(s.nbd_socket)
    return h


def kinds(requests):
    return dict(collections.Counter(q["method"] for q in requests))


def settled(p):
    """Until nothing has passed for a second; what had passed."""
    seen = []

    def quiet():
        more = p.requests()
        seen.extend(more)
        return not more and not p.under_way()

    zt.wait_for(quiet, every_s=1)
    return seen


def of(requests, folder, run):
    return [q for q in requests if q["key"].startswith(f"{run}/{folder}")]


def cold(s):
    """A server that has nothing of the device in memory or on its disk."""
    s.stop()
    shutil.rmtree(os.path.join(s.dir, "cache"))
    os.mkdir(os.path.join(s.dir, "cache"))
    s.start()
    return connect(s)


def durable_writes(p, h, rnd):
    settled(p)
    for what in ("flush", "FUA"):
        for _ in range(20):
            data, off = os.urandom(4096), rnd.randrange(SPAN * 256) * 4096
            if what == "flush":
                h.pwrite(data, off)
                h.flush()
            else:
                h.pwrite(data, off, nbd.CMD_FLAG_FUA)
        seen = p.requests()
        assert kinds(seen) == {"PUT": 20}, f"20 durable writes by {what}: {seen}"
    for _ in range(5):
        h.flush()
    got = kinds(p.requests())
    assert got == {}, f"flushes with nothing to flush: {got}"


def cold_reads(s, p, rnd, run):
    h = cold(s)
    offsets = rnd.sample(range(0, SPAN * MIB, 64 << 10), 60)
    for off in offsets[:20]:
        h.pread(4096, off)
    settled(p)
    # From here on the blocks of the index are there; more of them would be seen by their names.
    counts = []
    for off in offsets[20:]:
        h.pread(4096, off)
        got = p.requests()
        counts.append(len(of(got, "segments", run)))
        assert kinds(got).keys() <= {"GET"}, got
        assert counts[-1] <= 1, f"a cold read of 4 KiB: {got}"
        assert len(got) <= 1 or of(got, "sst", run), got
    more = settled(p)
    assert len(more) == 0, f"requests that nobody asked for: {more}"
    print(f"40 cold reads: {sum(counts)} GETs", flush=True)
    assert sum(counts) > 10, "the reads were not cold"
    h.shutdown()


def sequential(s, p, size, span, extra):
    h = cold(s)
    settled(p)
    for off in range(0, span * MIB, size):
        h.pread(size, off)
    seen = settled(p)
    got = kinds(seen)
    print(f"{span} MiB in sequence by {size >> 10} KiB: {got}", flush=True)
    assert got.keys() == {"GET"} and got["GET"] <= span // 4 + 8 + extra, (
        extra, [(q["key"].split("/", 2)[2], q["range"], q["status"]) for q in seen])
    h.shutdown()


def idle(s, p):
    h = connect(s)
    h.pread(4096, 0)
    settled(p)
    select.select([], [], [], IDLE_S)  # the span is what is measured
    got = p.requests()
    assert got == [], f"{IDLE_S} idle seconds with a client attached: {got}"
    h.shutdown()


def main():
    print("seed", SEED, flush=True)
    rnd = random.Random(SEED)
    with proxy.Proxy(stores.endpoint()) as p, zt.Server(endpoint=p.endpoint) as s:
        run = s.url.split("/", 3)[3]
        s.cli("nbd", "create", "disk", f"{SPAN}M")
        s.start()
        h = connect(s)
        for at in range(SPAN):
            h.pwrite(os.urandom(MIB), at * MIB)
        h.flush()
        # A machine that is so slow that batches grow old makes more segments than one each 4 MiB.
        stored = json.loads(s.cli("status", "--json").stdout)["volume"]["segments_stored"]
        extra = max(0, stored - SPAN // 4)
        h.shutdown()
        sequential(s, p, 64 << 10, 16, extra)
        sequential(s, p, 64 << 10, 48, extra)
        sequential(s, p, MIB, SPAN, extra)  # the last, so that all of the index is in memory
        h = connect(s)
        durable_writes(p, h, rnd)
        h.shutdown()
        cold_reads(s, p, rnd, run)
        idle(s, p)
        s.stop()


main()
