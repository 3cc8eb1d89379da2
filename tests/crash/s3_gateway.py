#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
# store: s3
# limit: 600
"""The S3 server itself dies and comes back, and falls silent for half a minute, under load, and the
server is killed on top of it: no client sees an error, and nothing that was flushed is lost."""
import os
import random
import select

import zt
from s3world import World

SEED = int(os.environ.get("SEED", random.randrange(1 << 32)))
ROUNDS = 100 if zt.SOAK else 6
SILENCE_S = 30


def pass_time(seconds):
    select.select([], [], [], seconds)


def work_through(w, seconds):
    """Load, as far as it gets: replies that wait for the store may be missing."""
    for load in w.loads:
        load.limit_s = 0.2
        try:
            load.run(seconds)
        except AssertionError as e:
            assert "no reply" in str(e), e
        load.limit_s = 90


def gateway_dies(w):
    for number in range(ROUNDS):
        w.connect()
        w.work(w.rnd.random())
        w.gateway.kill()
        work_through(w, w.rnd.random())
        both = number % 3 == 2
        if both:
            w.server.kill()
        w.gateway.start_gateway()
        if both:
            for load in w.loads:
                load.close()
            w.server.start(60)
            seen = w.verify()
        else:
            w.work(0.3)
            seen = w.end(clean=number % 3 == 0)
        print(f"gateway killed{' and the server' if both else ''}: {seen} writes seen after",
              flush=True)


def gateway_falls_silent(w):
    w.connect(limit_s=90)
    w.work(0.5)
    w.gateway.freeze()
    try:
        work_through(w, 1)
        pass_time(SILENCE_S)  # the span is what is tested
        work_through(w, 0.5)
    finally:
        w.gateway.thaw()
    w.work(0.5)
    slowest = max(load.flush_latency_max_s for load in w.loads)
    seen = w.end(clean=False)
    print(f"silent for {SILENCE_S} s: slowest flush {slowest:.1f} s, {seen} seen after", flush=True)


def main():
    print("seed", SEED, flush=True)
    with World(SEED, own_gateway=True) as w:
        gateway_dies(w)
        gateway_falls_silent(w)
        w.server.stop()


main()
