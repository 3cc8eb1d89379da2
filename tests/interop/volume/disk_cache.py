#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The disk cache: what was read once is not asked from the store again after a restart and after
kill -9; damage, removal and lack of space on its disk are nothing that a client sees; of an
encrypted volume it shows nothing."""
import hashlib
import json
import os
import random
import subprocess
import sys

sys.path.insert(0, os.path.join(os.environ["TOP"], "tests/lib"))
import nbd
import zt

SPAN = 48 << 20
STEP = 256 << 10
SEED = int(os.environ.get("SEED", "1"))
NAME = "planted-device-name"
MARK = b"planted contents of a device, easy to find" * 3


def status(s):
    return json.loads(s.cli("status", "--json").stdout)


def gets(s):
    """Requests for data so far."""
    by_class = status(s)["store"]["requests"]["get"]
    return by_class.get("read", 0) + by_class.get("prefetch", 0)


def connect(s):
    h = nbd.NBD()
    h.set_export_name(NAME)
    h.connect_unix(s.nbd_socket)
    return h


def read_all(h, data):
    for off in range(0, SPAN, STEP):
        assert h.pread(STEP, off) == data[off:off + STEP], f"wrong data at {off}"


def cold(s):
    """Starts the server; memory holds nothing."""
    s.start()
    return connect(s)


def cached_file(s):
    return f"{s.dir}/cache/frames"


def no_errors(s, begin):
    for line in s.log_text()[begin:].splitlines():
        assert " error " not in line, line


rng = random.Random(SEED)
print("seed", SEED)
data = rng.randbytes(SPAN)
data = MARK + data[len(MARK):]

with zt.Server() as s:
    s.cli("nbd", "create", NAME, str(SPAN))
    h = cold(s)
    for off in range(0, SPAN, 1 << 20):
        h.pwrite(data[off:off + (1 << 20)], off)
    h.flush()
    h.shutdown()
    s.stop()

    h = cold(s)
    read_all(h, data)
    # A machine that is so slow that batches grow old makes more segments than one each 4 MiB.
    limit = max(SPAN // (4 << 20), status(s)["volume"]["segments_stored"]) + 8
    assert 0 < gets(s) <= limit, f"{gets(s)} requests for {SPAN} bytes, {limit} allowed"
    h.shutdown()
    s.stop()

    # Warm after a clean end, after kill -9, and after a command that has opened the volume itself.
    for end in (s.stop, s.kill, lambda: (s.stop(), s.cli("nbd", "list", "--takeover"))):
        h = cold(s)
        read_all(h, data)
        assert gets(s) == 0, f"{gets(s)} requests in spite of a warm cache"
        assert status(s)["disk_cache"]["hits"] > 0
        h.shutdown()
        end()
    h = cold(s)
    read_all(h, data)
    assert gets(s) == 0, f"{gets(s)} requests after a command had the volume open"

    # Random bytes all over the file, under the server and between two.
    begin = len(s.log_text())
    with open(cached_file(s), "r+b") as f:
        size = os.fstat(f.fileno()).st_size
        for _ in range(3000):
            f.seek(rng.randrange(size))
            f.write(rng.randbytes(rng.randrange(1, 200)))
    h.shutdown()
    s.stop()
    h = cold(s)
    read_all(h, data)
    disk = status(s)["disk_cache"]
    assert disk["corrupt"] > 0 or disk["entries"] == 0, "the damage was not noticed"
    assert gets(s) > 0
    h.shutdown()
    s.stop()
    no_errors(s, begin)

    # Something else altogether in its place.
    with open(cached_file(s), "wb") as f:
        f.write(rng.randbytes(20 << 20))
    h = cold(s)
    read_all(h, data)
    assert gets(s) > 0

    # Removed under the server: a new one comes.
    begin = len(s.log_text())
    os.remove(cached_file(s))
    h.shutdown()
    s.stop()
    h = cold(s)
    os.remove(cached_file(s))
    read_all(h, data)
    zt.wait_for(lambda: os.path.exists(cached_file(s)) and status(s)["disk_cache"]["entries"] > 0)
    no_errors(s, begin)
    h.shutdown()
    s.stop()

# What is in the cache folder: contents in clear, or nothing that tells of them.
def planted(s):
    found = set()
    for folder, _, names in os.walk(f"{s.dir}/cache"):
        for name in names:
            path = os.path.join(folder, name)
            if os.path.isfile(path):
                with open(path, "rb") as f:
                    text = f.read() + path.encode()
                found |= {what for what in (MARK[:40], NAME.encode()) if what in text}
    return found


for how, want in (('mode = "none"', {MARK[:40]}), ('password = "not in the folder"', set())):
    with zt.Server("clear" if want else "secret") as s:
        s.configure(f'[encryption]\n{how}\n[filesystem]\ncompression = "none"')
        s.cli("nbd", "create", NAME, "1M")
        h = cold(s)
        h.pwrite(data[:1 << 20], 0)
        h.flush()
        h.shutdown()
        s.stop()
        h = cold(s)
        assert h.pread(1 << 20, 0) == data[:1 << 20]
        zt.wait_for(lambda: status(s)["disk_cache"]["bytes_written"] > 1 << 20)
        h.shutdown()
        s.stop()
        assert planted(s) == want, f"{how}: {planted(s)}"
        # Without a disk cache nothing of one is left, which nobody would sanitize.
        s.configure_without("disk_size_gb")
        s.start()
        s.stop()
        assert os.path.getsize(cached_file(s)) == 0

# A disk that is full: a file system of its own, of 12 MiB, for a cache of a gigabyte.
with zt.Server("full") as s:
    folder = f"{s.dir}/cache"
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=12m", "none", folder], check=True)
    try:
        s.cli("nbd", "create", NAME, str(SPAN))
        h = cold(s)
        for off in range(0, SPAN, 1 << 20):
            h.pwrite(data[off:off + (1 << 20)], off)
        h.flush()
        h.shutdown()
        s.stop()
        h = cold(s)
        begin = len(s.log_text())
        read_all(h, data)
        read_all(h, data)
        zt.wait_for(lambda: status(s)["disk_cache"]["bypassed"])
        assert s.log_text()[begin:].count("cannot be written") == 1, s.log_text()[begin:]
        h.pwrite(data[:4096], 0)
        h.flush()
        h.shutdown()
        s.stop()
        no_errors(s, begin)
    finally:
        if s.process:
            s.kill()
        subprocess.run(["umount", folder], check=True)
print("the disk cache holds", hashlib.sha256(data).hexdigest()[:8])
