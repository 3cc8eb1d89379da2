#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Extended headers: 64-bit effects, payload lengths, extended replies; and refused where the
setting is off."""
import os
import struct
import sys

sys.path.insert(0, os.path.join(os.environ["TOP"], "tests/lib"))
import rawnbd
import zt

MIB = 1 << 20
TIB = 1 << 40


def with_setting(server, lines):
    with open(server.config, encoding="utf-8") as f:
        text = f.read()
    with open(server.config, "w", encoding="utf-8") as f:
        f.write(text.replace("[servers.nbd]\n", "[servers.nbd]\n" + lines))


def connect(s):
    return rawnbd.Client(("127.0.0.1", s.nbd_port))


def refused_by_default():
    with zt.Server("plain") as s:
        s.cli("nbd", "create", "--name", "big", "--size", "16T")
        s.start()
        k = connect(s)
        assert k.ask(rawnbd.OPT_EXTENDED_HEADERS)[1] == rawnbd.ERR_UNSUP
        assert k.go("big") == rawnbd.ACK
        k.close()
        s.stop()


def map_of(k):
    """The whole device, neighbours joined: a server may answer in parts."""
    out, off = [], 0
    while off < k.size:
        extents = k.call(rawnbd.BLOCK_STATUS, off, k.size - off).extents()
        assert extents
        for n, flags in extents:
            if out and out[-1][1] == flags:
                out[-1] = (out[-1][0] + n, flags)
            else:
                out.append((n, flags))
            off += n
    assert off == k.size
    return out


def effects(s):
    k = connect(s).enter("big", rawnbd.EXTENDED, ["base:allocation"])
    assert k.size == 16 * TIB and k.flags & 1 << 12
    data = os.urandom(100000)
    k.write(5 * TIB + 12345, data)
    assert k.read(5 * TIB + 12345, len(data)) == data
    extents = map_of(k)
    assert [flags for _, flags in extents] == [3, 0, 3], extents
    assert k.call(rawnbd.TRIM, 0, 16 * TIB).error == 0
    assert k.read(5 * TIB + 12345 + 8192, 4096) == bytes(4096)
    assert k.call(rawnbd.WRITE_ZEROES, 0, 256 * MIB, rawnbd.NO_HOLE).error == 0
    extents = map_of(k)
    assert extents == [(256 * MIB, 2), (16 * TIB - 256 * MIB, 3)], extents
    assert k.call(rawnbd.WRITE_ZEROES, 0, 16 * TIB, rawnbd.FAST_ZERO).error == 0
    assert k.call(rawnbd.TRIM, 1, 16 * TIB).error == rawnbd.EINVAL
    assert k.call(rawnbd.WRITE_ZEROES, 1 << 63, 1 << 63).error == rawnbd.ENOSPC
    assert k.call(rawnbd.CACHE, 0, 1 << 33).error == 0
    k.disconnect()


def payloads(s):
    k = connect(s).enter("big", rawnbd.EXTENDED, ["base:allocation"])
    status = lambda *ids: struct.pack(f">Q{len(ids)}I", 1 << 33, *ids)

    def ask(command, payload, flags=0):
        cookie, head = k.header(command, 4096, len(payload), flags | rawnbd.PAYLOAD_LEN)
        k.put(head + payload)
        reply = k.receive()
        assert reply.cookie == cookie
        return reply

    assert ask(rawnbd.BLOCK_STATUS, status(1)).extents()[0][0] <= 1 << 33
    for bad in (status(), status(2), status(1, 1), b"", b"x" * 5000):
        assert ask(rawnbd.BLOCK_STATUS, bad).error == rawnbd.EINVAL, bad
    for command in (rawnbd.READ, rawnbd.TRIM, rawnbd.FLUSH, 55):
        assert ask(command, bytes(700)).error == rawnbd.EINVAL, command
    k.flush()
    k.mode = rawnbd.SIMPLE  # a compact header is not understood any more
    k.put(k.header(rawnbd.FLUSH, 0, 0)[1] + bytes(4))
    assert k.is_closed()


def main():
    refused_by_default()
    with zt.Server() as s:
        with_setting(s, "extended_headers = true\n")
        s.cli("nbd", "create", "--name", "big", "--size", "16T")
        s.start()
        effects(s)
        payloads(s)
        s.stop()


main()
