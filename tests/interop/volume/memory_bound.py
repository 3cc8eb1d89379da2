#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
# limit: 600
"""[cache] memory_size_gb + 64 MiB bounds the resident set, under writes and reads of a multiple;
and what is not accounted to anybody is at no time more than those 64 MiB."""
import json
import os
import random
import sys

sys.path.insert(0, os.path.join(os.environ["TOP"], "tests/lib"))
import nbd
import zt

MEMORY_BYTES = 128_000_000
TIMES = 20 if zt.SOAK or (zt.stores.KIND == "s3" and not zt.BRIEF) else 5
MIB = 1 << 20
SPAN = TIMES * MEMORY_BYTES // MIB * MIB
BEYOND = 64 * MIB
LOOKS = 8  # in each phase
SEED = int(os.environ.get("SEED", "1"))


def resident(s, what):
    with open(f"/proc/{s.process.pid}/status", encoding="ascii") as f:
        fields = dict(line.split(":", 1) for line in f)
    return int(fields[what].split()[0]) * 1024


def unaccounted(s):
    """What is resident before and after one has asked for the accounts; they change meanwhile."""
    before = resident(s, "VmRSS")
    accounted = json.loads(s.cli("status", "--json").stdout)["memory"]["accounted_bytes"]
    assert accounted > 0
    return min(before, resident(s, "VmRSS")) - accounted


rng = random.Random(SEED)
print("seed", SEED)
with zt.Server(extra=f"[cache]\nmemory_size_gb = {MEMORY_BYTES / 1e9}\n") as s:
    s.cli("nbd", "create", "d", str(SPAN))
    s.start()
    h = nbd.NBD()
    h.set_export_name("d")
    h.connect_unix(s.nbd_socket)

    def phase(name, count, limit, begin):
        """begin(i) for each, with fewer than so many under way."""
        most = -MEMORY_BYTES
        for i in range(count):
            while h.aio_in_flight() >= limit:
                h.poll(-1)
            begin(i)
            if i % (count // LOOKS) == 0:
                most = max(most, unaccounted(s))
        while h.aio_in_flight() > 0:
            h.poll(-1)
        print(f"{name}: {most / 1e6:.1f} MB that are nobody's", flush=True)
        assert most <= BEYOND, f"{name}: {most} bytes of memory are accounted to nobody"

    def anywhere():
        return rng.randrange(SPAN // 4096) * 4096

    # The whole span once, in large and in small pieces; incompressible: it is really stored.
    block = nbd.Buffer.from_bytearray(bytearray(rng.randbytes(MIB)))
    phase("writes in order", SPAN // MIB, 16, lambda i: h.aio_pwrite(block, i * MIB))
    h.flush()
    small = nbd.Buffer.from_bytearray(bytearray(rng.randbytes(4096)))
    phase("writes", SPAN // MIB * 40, 64, lambda i: h.aio_pwrite(small, anywhere()))
    h.flush()
    phase("reads", SPAN // MIB * 40, 64, lambda i: h.aio_pread(nbd.Buffer(4096), anywhere()))
    phase("reads in order", SPAN // MIB, 16, lambda i: h.aio_pread(nbd.Buffer(MIB), i * MIB))
    peak = resident(s, "VmHWM")
    h.shutdown()
    s.stop()
limit = MEMORY_BYTES + BEYOND
print(f"peak {peak / 1e6:.0f} MB of {limit / 1e6:.0f} MB over {SPAN / 1e6:.0f} MB")
assert peak <= limit, f"resident set of {peak} bytes is over {limit}"
