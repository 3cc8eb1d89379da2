#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""What the store is asked for: a flush is one PUT, an idle server asks for nothing, an aligned
durable write to a cold device reads nothing before its PUT."""
import json
import os
import select
import sys
import time

sys.path.insert(0, os.path.join(os.environ["TOP"], "tests/lib"))
import nbd
import zt

DELAY_MS = 400
IDLE_S = 60 if zt.SOAK else 8


def requests(s):
    """All requests so far by kind, over all classes."""
    store = json.loads(s.cli("status", "--json").stdout)["store"]
    return {kind: sum(by_class.values()) for kind, by_class in store["requests"].items()}


def difference(before, after):
    more = {kind: after[kind] - before.get(kind, 0) for kind in after}
    return {kind: count for kind, count in more.items() if count != 0}


def connect(s):
    h = nbd.NBD()
    h.set_export_name("d")
    h.connect_unix(s.nbd_socket)
    return h


def settled(s):
    """Requests once nothing is under way any more: four equal readings."""
    readings = []

    def same():
        readings.append(requests(s))
        return len(readings) > 3 and all(r == readings[-1] for r in readings[-4:])

    zt.wait_for(same, every_s=0.3)
    return readings[-1]


with zt.Server() as s:
    s.cli("nbd", "create", "d", "64M")
    s.start()
    h = connect(s)
    h.pwrite(os.urandom(1 << 20), 0)
    h.flush()

    before = settled(s)
    for i in range(10):
        h.pwrite(os.urandom(4096), 4096 * i)
        h.flush()
    got = difference(before, requests(s))
    assert got == {"put": 10}, f"ten flushes: {got}"

    before = requests(s)
    for i in range(10):
        h.pwrite(os.urandom(4096), 4096 * i, nbd.CMD_FLAG_FUA)
    got = difference(before, requests(s))
    assert got == {"put": 10}, f"ten FUA writes: {got}"

    before = requests(s)
    for _ in range(10):
        h.flush()
    got = difference(before, requests(s))
    assert got == {}, f"flushes with nothing to flush: {got}"

    before = settled(s)
    select.select([], [], [], IDLE_S)  # the span is what is measured
    got = difference(before, requests(s))
    assert got == {}, f"{IDLE_S} idle seconds with a client attached: {got}"
    h.shutdown()
    s.stop()

    # Cold: nothing of the device is in any cache, and each request takes 400 ms: one that came
    # before the PUT would show. A store on a busy machine may be slow by itself, but not always.
    s.configure(f'[storage]\nurl = "{s.url}?delay_ms={DELAY_MS}"\n')
    worked = []
    while not worked or worked[-1] >= 1.9 * DELAY_MS and len(worked) < 4:
        s.start()
        h = connect(s)
        begin, watch = time.monotonic(), zt.Stopwatch(s)
        h.pwrite(os.urandom(4096), 12288, nbd.CMD_FLAG_FUA)
        took_ms = (time.monotonic() - begin) * 1000
        worked.append(watch.seconds() * 1000)
        assert took_ms >= DELAY_MS, f"a durable write is faster than its PUT: {took_ms:.0f} ms"
        h.shutdown()
        s.stop()
    assert worked[-1] < 1.9 * DELAY_MS, f"a cold write waited for a GET: {worked} ms"
print("request counts hold")
