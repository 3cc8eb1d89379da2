# SPDX-License-Identifier: Apache-2.0
"""What is measured against an S3 store that is some milliseconds away: Ceph's RADOS Gateway with
added latency; the volume is encrypted and compressed as by default. Each case gives its section of
the page."""
import json
import os
import shutil
import statistics
import subprocess
import sys
import time

import peers

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))),
                                "tests", "lib"))
import rgw  # noqa: E402
import s3  # noqa: E402

DELAYS_MS = (0, 20, 60)
MIB = 1 << 20
LOG_LENGTHS = (10, 100, 900)


class Stored(peers.Zerofs):
    """A server of its own for each use, in a prefix of its own."""
    encryption = 'password = "only for measuring"'
    count = 0

    def __init__(self, servers, endpoint, delay_ms, cpus):
        Stored.count += 1
        super().__init__(servers, f"stored-{Stored.count}", cpus)
        self.endpoint, self.delay_ms = endpoint, delay_ms
        self.url = f"s3://{rgw.BUCKET}/bench-{Stored.count}?delay_ms={delay_ms}"

    def configure(self, more=""):
        super().configure(f"""\
[aws]
endpoint = "{self.endpoint}"
access_key_id = "{s3.ACCESS_KEY}"
secret_access_key = "{s3.SECRET_KEY}"
region = "{s3.REGION}"
allow_http = true
{more}""")

    def kill(self):
        self.process.kill()
        self.process.wait()

    def forget(self):
        """All that is cached, in memory and on the disk."""
        self.end()
        shutil.rmtree(os.path.join(self.folder, "cache"))
        self.serve()

    def requests(self):
        store = json.loads(self.cli("status", "--json"))["store"]
        return {kind: sum(by.values()) for kind, by in store["requests"].items()}


class Line:
    """What the load client printed."""

    def __init__(self, text):
        self.ops, self.iops, self.mb_s, self.p50_us, self.p99_us = \
            (float(w) for w in text.split()[:5])


def verdict(text, value, limit, at_most=True):
    reached = value <= limit if at_most else value >= limit
    return f"- {text}: **{value:.2f}**, " + ("reached" if reached else "**not reached**")


class StoreBench:
    def __init__(self, servers, quick, rounds):
        self.servers, self.quick, self.rounds = servers, quick, rounds
        self.gateway, self.running = None, []

    def server(self, delay_ms, cpus=None):
        if not self.gateway:
            self.gateway = rgw.Gateway(os.path.join(self.servers.folder, "rgw"))
            self.gateway.start()
        return self.begun(Stored(self.servers, self.gateway.endpoint, delay_ms,
                                 cpus or self.servers.two_cpus))

    def begun(self, s):
        self.running.append(s)
        s.start()
        return s

    def pin_store(self, cpus):
        for process in self.gateway.processes.values():
            for thread in os.listdir(f"/proc/{process.pid}/task"):
                os.sched_setaffinity(int(thread), {int(c) for c in cpus.split(",")})

    def done(self, s):
        s.end()
        self.running.remove(s)

    def end(self):
        for s in self.running:
            if s.process:
                s.end()
        if self.gateway:
            self.gateway.stop()

    def words(self, s, *options, seconds=2.0, cpus=None):
        return ["taskset", "-c", cpus or self.servers.two_cpus, self.servers.lg,
                *s.target("nbd"), "-s", str(peers.DEVICE_BYTES), "-t",
                str(0.2 if self.quick else seconds), *options]

    def load(self, s, *options, seconds=2.0, cpus=None):
        words = self.words(s, *options, seconds=seconds, cpus=cpus)
        return Line(subprocess.run(words, check=True, text=True, stdin=subprocess.DEVNULL,
                                   capture_output=True, timeout=120).stdout)

    def bare_put_ms(self, pause_ms):
        """What the store takes for 4 KiB, from nobody here, at the pace of depth 1."""
        bucket, took = self.gateway.objects(), []
        for n in range(50):
            time.sleep(pause_ms / 1000)
            begin = time.monotonic()
            bucket.put(f"bare/{n}", os.urandom(4096))
            took.append(time.monotonic() - begin)
        return statistics.median(took) * 1000


def durable(bench):
    lines = ["## Durable 4 KiB random writes (FUA) on S3, by added latency", "",
             "| added ms | connections x depth | writes/s | p50 ms | p99 ms | PUTs/s | per round "
             "trip |", "|---|---|---|---|---|---|---|"]
    goals = []
    for delay in DELAYS_MS:
        s = bench.server(delay)
        trip_ms = delay + bench.bare_put_ms(delay)
        for connections, depth in ((1, 1), (1, 8), (1, 32), (4, 8)):
            before, begin = s.requests(), time.monotonic()
            got = bench.load(s, "-w", "100", "-u", "-d", str(depth), "-c", str(connections),
                             seconds=2.0 if depth > 1 else 5.0)
            puts = (s.requests()["put"] - before["put"]) / (time.monotonic() - begin)
            each = got.iops * trip_ms / 1000
            lines.append(f"| {delay} | {connections} x {depth} | {got.iops:,.0f} | "
                         f"{got.p50_us / 1000:.2f} | {got.p99_us / 1000:.2f} | {puts:,.0f} | "
                         f"{each:.1f} |")
            if (connections, depth) == (1, 1):
                goals.append(verdict(
                    f"p50 at depth 1 with {delay} ms added, at most a round trip "
                    f"({trip_ms:.1f} ms) + 2 ms", got.p50_us / 1000, trip_ms + 2))
            if connections == 4 and delay:
                goals.append(verdict(
                    f"acknowledged per round trip of {trip_ms:.1f} ms, 32 under way over four "
                    "connections, at least 16", each, 16, at_most=False))
        bench.done(s)
    return "\n".join([*lines, "", *goals, ""])


def reads(bench):
    s = bench.server(20)
    s.fill()
    lines = ["## Cold and warm reads on S3, 20 ms of added latency", "",
             "| what | cold: MB/s | p50 ms | warm: MB/s | p50 ms |", "|---|---|---|---|---|"]
    for what, options in (("4 KiB at random, depth 1", ("-d", "1")),
                          ("4 KiB at random, depth 32", ("-d", "32")),
                          ("1 MiB in sequence, depth 1", ("-d", "1", "-b", str(MIB), "-q")),
                          ("1 MiB in sequence, depth 4", ("-d", "4", "-b", str(MIB), "-q"))):
        s.forget()
        # Each block at most once, or it would not be cold.
        size = peers.DEVICE_BYTES if "-q" in options else 16 * MIB // 4
        cold = bench.load(s, *options, "-n", str(size), seconds=20)
        s.sweep("nbd")
        warm = bench.load(s, *options)
        lines.append(f"| {what} | {cold.mb_s:,.1f} | {cold.p50_us / 1000:.2f} | {warm.mb_s:,.0f} | "
                     f"{warm.p50_us / 1000:.3f} |")
    bench.done(s)
    return "\n".join([*lines, ""])


def recovery(bench):
    lines = ["## Time from start to ready after kill -9, by length of the log", "",
             "| segments since the last table | added ms | s |", "|---|---|---|"]
    for delay in (0, 20):
        for length in LOG_LENGTHS[:1 if bench.quick else None]:
            s = bench.server(delay)
            bench.load(s, "-w", "100", "-u", "-d", "1" if not delay else "8", "-n",
                       str(length * 4096), seconds=60)
            count = json.loads(s.cli("status", "--json"))["volume"]["segments_stored"]
            s.kill()
            begin = time.monotonic()
            s.serve()
            lines.append(f"| {count} | {delay} | {time.monotonic() - begin:.2f} |")
            bench.done(s)
    return "\n".join([*lines, ""])


class Beside:
    """A server with a client at depth 1, and another client whose durable writes are under way;
    cpus: of the server; here: of the client that is measured; there: of the other client and of the
    store."""
    seconds = 1.0

    def __init__(self, bench, cpus, here, there):
        self.bench, self.here, self.there = bench, here, there
        self.s = bench.server(20, cpus)
        self.s.fill()
        bench.pin_store(there)
        self.null = bench.begun(peers.Null(bench.servers, f"null-{cpus}-{here}", cpus))

    def load(self, server, options):
        return self.bench.load(server, "-d", "1", *options, seconds=self.seconds, cpus=self.here)

    def both(self, server, options):
        """A line without and one with flushes."""
        self.s.settle()
        idle = self.load(server, options)
        self.s.settle()
        others = self.bench.words(self.s, "-w", "100", "-u", "-d", "8", seconds=60, cpus=self.there)
        with subprocess.Popen(others, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as other:
            try:
                return idle, self.load(server, options)
            finally:
                other.kill()

    def measure(self):
        """Pairs of lines, by what is done."""
        found = {"cached reads": [], "buffered writes": [], "the null server": []}
        for _ in range(self.bench.rounds):
            self.s.sweep("nbd")
            for what, pairs in found.items():
                options = ("-w", "100", "-n", str(32 * MIB)) if "writes" in what else ()
                pairs.append(self.both(self.null if "null" in what else self.s, options))
        self.bench.done(self.null)
        self.bench.done(self.s)
        return found


def interference(bench):
    both = bench.servers.two_cpus
    there, here = both.split(",")[0], both.split(",")[-1]
    places = (("server on two CPUs, each client on one", both, here, there),
              ("server and client on one, the rest on the other", here, here, there),
              ("all on both", both, both, both))
    lines = ["## Cached reads and buffered writes while flushes are under way (20 ms added)", "",
             "4 KiB, depth 1; beside it 8 durable writes are always under way on another "
             "connection. The goal is the same wherever", "the store and the clients run; a server "
             "that does nothing but answer, and knows of no flush, shows how much is", "the "
             "machine's. Where an idle CPU has to be woken for each request, idle is slow.", "",
             "| where | what | p99 µs idle | p99 µs with flushes | ratio | p50 µs idle | "
             "p50 µs with flushes |", "|---|---|---|---|---|---|---|"]
    goals = []
    for where, *cpus in places:
        for what, pairs in Beside(bench, *cpus).measure().items():
            p99, p50 = ([statistics.median(getattr(line, f) for line in side)
                         for side in zip(*pairs)] for f in ("p99_us", "p50_us"))
            lines.append(f"| {where} | {what} | {p99[0]:,.0f} | {p99[1]:,.0f} | "
                         f"{p99[1] / p99[0]:.2f} | {p50[0]:,.0f} | {p50[1]:,.0f} |")
            if "null" not in what:
                goals.append(verdict(f"{where}: p99 of {what} over idle, at most 2",
                                     p99[1] / p99[0], 2))
    return "\n".join([*lines, "", *goals, ""])


CASES = {"s3-durable": durable, "s3-reads": reads, "s3-recovery": recovery,
         "s3-interference": interference}
