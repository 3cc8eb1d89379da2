#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
# long
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


def gateway_dies(w):
    for number in range(ROUNDS):
        both = number % 3 == 2

        def die():
            pass_time(w.rnd.random())
            w.gateway.kill()
            pass_time(w.rnd.random())
            if both:
                w.server.kill()
            w.gateway.start_gateway()

        w.connect(depth=4, limit_s=90)
        failed = w.work_while(die)
        if both:
            for load in w.loads:
                load.close()
            w.server.start(60)
            seen = w.verify()
        else:
            assert not failed, failed
            seen = w.end(clean=number % 3 == 0)
        print(f"gateway killed{' and the server' if both else ''}: {seen} writes seen after",
              flush=True)


def gateway_falls_silent(w):
    def be_silent():
        pass_time(0.5)
        w.gateway.freeze()
        pass_time(SILENCE_S)  # the span is what is tested
        w.gateway.thaw()

    w.connect(depth=4, limit_s=90)
    failed = w.work_while(be_silent)
    assert not failed, failed
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
