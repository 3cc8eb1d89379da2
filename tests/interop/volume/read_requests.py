#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""What reads ask of the store: a cold 4 KiB read is one request and causes no other; reading N MiB
in order is at most N/4 + 8; several readers in order at once, not much more each; what is read
again costs nothing; reads that want the same at once share one request."""
import json
import os
import random
import sys

sys.path.insert(0, os.path.join(os.environ["TOP"], "tests/lib"))
import nbd
import zt

SPAN = 192 << 20
SEED = int(os.environ.get("SEED", "1"))


def status(s):
    return json.loads(s.cli("status", "--json").stdout)


def gets(s):
    """Requests for data so far: of reads, and ahead of them."""
    by_class = status(s)["store"]["requests"]["get"]
    return by_class.get("read", 0), by_class.get("prefetch", 0)


def connect(s):
    h = nbd.NBD()
    h.set_export_name("d")
    h.connect_unix(s.nbd_socket)
    return h


def keep_under(h, limit):
    while h.aio_in_flight() >= limit:
        h.poll(-1)


rng = random.Random(SEED)
print("seed", SEED)
data = rng.randbytes(SPAN)
with zt.Server() as s:
    with open(s.config, encoding="utf-8") as f:
        text = f.read()
    text = text.replace("disk_size_gb = 1.0", "disk_size_gb = 0")
    text = text.replace("memory_size_gb = 0.25", "memory_size_gb = 0.6")
    with open(s.config, "w", encoding="utf-8") as f:
        f.write(text)
    s.cli("nbd", "create", "d", str(SPAN))
    s.start()
    h = connect(s)
    for off in range(0, SPAN, 1 << 20):
        h.pwrite(data[off:off + (1 << 20)], off)
    h.flush()
    # A machine that is so slow that batches grow old makes more segments than one each 4 MiB.
    extra = max(0, status(s)["volume"]["segments_stored"] - (SPAN >> 22))
    h.shutdown()
    s.stop()

    # Random, one after the other; no page twice.
    s.start()
    h = connect(s)
    pages = rng.sample(range(0, SPAN // 32768, 3), 200)
    for page in pages:
        off = page * 32768 + 4096 * rng.randrange(8)
        assert h.pread(4096, off) == data[off:off + 4096]
    read, ahead = gets(s)
    assert read == len(pages) and ahead == 0, f"{read} and {ahead} requests for {len(pages)} reads"
    for page in pages:
        h.pread(32768, page * 32768)
    assert gets(s) == (read, ahead), "what is in memory was asked for again"
    h.shutdown()
    s.stop()

    # In order: small, large, many at once.
    for n, piece, depth in ((16, 4096, 1), (96, 65536, 1), (48, 1 << 20, 1), (16, 131072, 16)):
        s.start()
        h = connect(s)
        n <<= 20
        bad = []

        def done(error, buf=None, off=0):
            if error or bytes(buf.to_bytearray()) != data[off:off + len(buf)]:
                bad.append(off)
            return 1

        for off in range(0, n, piece):
            keep_under(h, depth)
            buf = nbd.Buffer(piece)
            h.aio_pread(buf, off, completion=lambda e, b=buf, o=off: done(e, b, o))
        keep_under(h, 1)
        assert not bad, f"wrong data at {bad[:5]}"
        read, ahead = gets(s)
        # Of many that arrive at once each may ask for itself before a stream is seen in them.
        limit = (n >> 20) // 4 + 8 + extra + depth - 1
        print(f"{n >> 20} MiB in order by {piece} at depth {depth}: {read} + {ahead} of {limit}")
        assert read + ahead <= limit, f"{read} + {ahead} requests, {limit} allowed"
        h.shutdown()
        s.stop()

    # Four readers, each in order, taking turns.
    s.start()
    h = connect(s)
    each = 32 << 20
    for off in range(0, each, 65536):
        for k in range(4):
            at = k * (SPAN // 4) + off
            assert h.pread(65536, at) == data[at:at + 65536]
    read, ahead = gets(s)
    limit = 4 * ((each >> 20) // 4 + 8) + extra
    print(f"four readers of {each >> 20} MiB: {read} + {ahead} of {limit}")
    assert read + ahead <= limit, f"{read} + {ahead} requests, {limit} allowed"
    cache = status(s)["block_cache"]
    assert cache["read_ahead_used"] > 0
    assert cache["read_ahead_wasted"] <= cache["read_ahead_used"] // 10, cache
    h.shutdown()
    s.stop()

    # The same page, wanted by many at once.
    with open(s.config, "w", encoding="utf-8") as f:
        f.write(text.replace(f'"{s.url}"', f'"{s.url}?delay_ms=200"'))
    s.start()
    h = connect(s)
    h.pread(4096, 0)  # the index is in memory from here on
    before = gets(s)
    for i in range(32):
        h.aio_pread(nbd.Buffer(4096), (100 << 20) + 4096 * (i % 8))
    keep_under(h, 1)
    read, ahead = gets(s)
    assert (read - before[0], ahead - before[1]) == (1, 0), f"{before}, then {read, ahead}"
    h.shutdown()
    s.stop()
print("read requests hold")
