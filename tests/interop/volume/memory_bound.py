#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
# limit: 600
"""[cache] memory_size_gb + 64 MiB bounds the resident set, under writes and reads of a multiple."""
import os
import random
import sys

sys.path.insert(0, os.path.join(os.environ["TOP"], "tests/lib"))
import nbd
import zt

MEMORY_BYTES = 128_000_000
TIMES = 20 if zt.SOAK or (zt.stores.KIND == "s3" and not zt.BRIEF) else 5
SPAN = TIMES * MEMORY_BYTES // (1 << 20) * (1 << 20)
SEED = int(os.environ.get("SEED", "1"))


def resident(s):
    with open(f"/proc/{s.process.pid}/status", encoding="ascii") as f:
        fields = dict(line.split(":", 1) for line in f)
    return int(fields["VmHWM"].split()[0]) * 1024


rng = random.Random(SEED)
print("seed", SEED)
with zt.Server(extra=f"[cache]\nmemory_size_gb = {MEMORY_BYTES / 1e9}\n") as s:
    s.cli("nbd", "create", "d", str(SPAN))
    s.start()
    h = nbd.NBD()
    h.set_export_name("d")
    h.connect_unix(s.nbd_socket)

    def keep_under(limit):
        while h.aio_in_flight() >= limit:
            h.poll(-1)

    # The whole span once, in large and in small pieces; incompressible: it is really stored.
    block = nbd.Buffer.from_bytearray(bytearray(rng.randbytes(1 << 20)))
    for off in range(0, SPAN, 1 << 20):
        keep_under(16)
        h.aio_pwrite(block, off)
    keep_under(1)
    h.flush()
    small = nbd.Buffer.from_bytearray(bytearray(rng.randbytes(4096)))
    for i in range(SPAN // (1 << 20) * 40):
        keep_under(64)
        h.aio_pwrite(small, rng.randrange(SPAN // 4096) * 4096)
    keep_under(1)
    h.flush()
    for i in range(SPAN // (1 << 20) * 40):
        keep_under(64)
        h.aio_pread(nbd.Buffer(4096), rng.randrange(SPAN // 4096) * 4096)
    for off in range(0, SPAN, 1 << 20):
        keep_under(16)
        h.aio_pread(nbd.Buffer(1 << 20), off)
    keep_under(1)
    peak = resident(s)
    h.shutdown()
    s.stop()
limit = MEMORY_BYTES + (64 << 20)
print(f"peak {peak / 1e6:.0f} MB of {limit / 1e6:.0f} MB over {SPAN / 1e6:.0f} MB")
assert peak <= limit, f"resident set of {peak} bytes is over {limit}"
