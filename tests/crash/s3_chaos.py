#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
# long
# store: s3
# limit: 600
"""A network and a store that delay, drop, cut off, repeat, spoil and refuse, and a server that is
killed meanwhile: clients over NBD and iSCSI see no error and no wrong byte, and nothing that was
flushed is lost."""
import collections
import os
import random
import select
import shutil
import time

import zt
from s3world import World

SEED = int(os.environ.get("SEED", random.randrange(1 << 32)))
LIVES = 40 if zt.SOAK else 2
SECONDS = 1.5
STORM_S = 1.0
FAULTS_LEAST = 20
FLUSH_LIMIT_S = 60


def rule(do, chance, **more):
    return dict(more, do=do, chance=chance)


def status(number, code, chance, do="status", **more):
    return rule(do, chance, status=number, code=code, **more)


HEADS, REFUSALS = "heads that change", "refusals that are not true"
# Objects are spoiled, not listings (whose key is empty): nothing but TLS authenticates those.
SWEEP = {
    "connections that end": (
        rule("delay", 0.2, ms=[0, 30]), rule("drop_before", 0.04), rule("drop_after", 0.04),
        rule("cut", 0.03, method="PUT"), rule("late", 0.03, ms=300)),
    "answers that end early or come twice": (
        rule("truncate", 0.05), rule("duplicate", 0.05), rule("delay", 0.05, ms=[50, 200])),
    "bytes that change": (
        rule("spoil_body", 0.05, method="GET", key=".", apart=True),
        rule("spoil_body", 0.05, method="PUT", of="request")),
    HEADS: (rule("spoil_head", 0.02, apart=True),),
    "a store that is overloaded": (
        status(500, "InternalError", 0.05), status(503, "SlowDown", 0.05),
        status(500, "InternalError", 0.05, "status_after"),
        status(503, "ServiceUnavailable", 0.03, "status_after"),
        status(429, "TooManyRequests", 0.03)),
    REFUSALS: (
        status(409, "ConditionalRequestConflict", 0.05, method="PUT"),
        status(409, "OperationAborted", 0.03, "status_after", method="PUT"),
        status(412, "PreconditionFailed", 0.04, method="PUT"),
        status(412, "PreconditionFailed", 0.04, "status_after", method="PUT"),
        status(403, "RequestTimeTooSkewed", 0.03), status(403, "ExpiredToken", 0.03),
        status(403, "AccessDenied", 0.02), status(400, "RequestTimeout", 0.02)),
    "a bit of everything": (
        rule("drop_before", 0.01), rule("drop_after", 0.01), rule("duplicate", 0.02),
        rule("late", 0.02, ms=1000), rule("truncate", 0.01),
        rule("spoil_body", 0.01, key=".", apart=True),
        status(503, "SlowDown", 0.02), status(412, "PreconditionFailed", 0.01, "status_after"),
        rule("delay", 0.3, ms=[1, 20])),
}


def faults_of(met):
    return sum(v for k, v in met.items() if k)


def sweep(number, title, rules, rnd):
    print(title, flush=True)
    with World(rnd.randrange(1 << 32), name=f"s{number}") as w:
        w.proxy.requests()
        w.proxy.rules(*rules)
        # A store that denies a server its first requests keeps it from starting.
        denials = rules if title == REFUSALS else None
        met = collections.Counter()
        life = 0
        # More where the machine was so slow that little happened.
        while life < LIVES or life < 5 * LIVES and faults_of(met) <= FAULTS_LEAST:
            # An answer that says it is longer than it is lasts 15 s, and a stop 10 s.
            clean = life % 2 == 1 and title != HEADS
            slowest = w.live(SECONDS * rnd.random() * 2, clean, denials)
            assert slowest < FLUSH_LIMIT_S, f"a flush took {slowest:.1f} s"
            met.update(q["fault"] for q in w.proxy.requests())
            life += 1
        w.proxy.rules()
        w.live(0.3, clean=title != HEADS)
        w.server.stop()
    print("  met:", {k: v for k, v in met.items() if k}, "of", sum(met.values()), flush=True)
    assert faults_of(met) > FAULTS_LEAST, "hardly any fault was met"


def unnamed(w, begin):
    """The objects of which something was spoilt and that the log does not tell of; and how many
    there were of each kind."""
    # A byte alone is asked for to see whether something is there.
    keys = {q["key"] for q in w.proxy.requests() if q["fault"] and
            (q["method"] == "PUT" or q["status"] < 300 and q["got"] > 1)}
    said = w.server.log_text()[begin:]
    kinds = collections.Counter(key.split("/")[2] for key in keys)
    return [key for key in keys if os.path.basename(key) not in said], kinds


def each_is_named(rnd):
    """The first request for each object is spoilt, in a byte that is looked at whatever the answer
    is used for: what is read is right, and each object is named, for it went the way again."""
    print("what is spoilt is named", flush=True)
    key = r"/(keys|manifest|segments|sst)/|/superblock$"
    with World(rnd.randrange(1 << 32), name="named") as w:
        begin = len(w.server.log_text())
        w.proxy.requests()
        w.proxy.rules(rule("spoil_body", 1, method="PUT", key=key, once=True, of="request"))
        w.live(0.3, clean=True)
        names, kinds = unnamed(w, begin)
        print("  PUT:", dict(kinds), flush=True)
        assert not names, names
        assert kinds["segments"] > 0
        w.server.stop()
        shutil.rmtree(os.path.join(w.server.dir, "cache"))
        os.mkdir(os.path.join(w.server.dir, "cache"))
        begin = len(w.server.log_text())
        w.proxy.requests()
        w.proxy.rules(
            rule("spoil_body", 1, method="GET", key=key, once=True, at=rnd.randrange(16)))
        w.server.start()
        w.verify()
        w.proxy.rules()
        names, kinds = unnamed(w, begin)
        print("  GET:", dict(kinds), flush=True)
        assert not names, names
        assert {"segments", "manifest", "sst"} <= kinds.keys()
        w.server.stop()


def pass_time(seconds):
    select.select([], [], [], seconds)


def storm(rnd):
    """For seconds at a time nothing but one kind of refusal."""
    print("storms", flush=True)
    kinds = [(500, "InternalError"), (503, "SlowDown"), (409, "ConditionalRequestConflict"),
             (412, "PreconditionFailed"), (403, "AccessDenied"), (403, "ExpiredToken")]
    with World(rnd.randrange(1 << 32), name="storm") as w:
        for number, code in kinds:
            for do in ("status", "status_after"):
                w.connect(depth=4)
                met = []

                def blow(rule={"do": do, "status": number, "code": code}, met=met):
                    w.proxy.rules(rule)
                    w.proxy.requests()
                    ends_at = time.monotonic() + zt.LIMIT_S
                    while not met and time.monotonic() < ends_at:
                        pass_time(STORM_S)
                        met += w.proxy.requests()
                    w.proxy.rules()

                failed = w.work_while(blow)
                assert not failed, failed
                print(f"  {number} {code} {do}: {len(met)} requests met it", flush=True)
                assert met
                w.end(clean=rnd.random() < 0.5)
        w.server.stop()


def main():
    print("seed", SEED, flush=True)
    rnd = random.Random(SEED)
    each_is_named(rnd)
    for number, (title, rules) in enumerate(SWEEP.items()):
        sweep(number, title, rules, rnd)
    storm(rnd)


main()
