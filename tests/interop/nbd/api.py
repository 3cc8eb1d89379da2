#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""libnbd's Python binding: every command and flag, and the errors that the protocol asks for."""
import errno
import os
import sys

sys.path.insert(0, os.path.join(os.environ["TOP"], "tests/lib"))
import nbd
import zt

SIZE = 256 << 20


def connect(s, structured=True, name="disk"):
    h = nbd.NBD()
    h.set_request_structured_replies(structured)
    if structured:
        h.add_meta_context(nbd.CONTEXT_BASE_ALLOCATION)
    h.set_export_name(name)
    h.set_strict_mode(0)  # the server is to say what is wrong, not the library
    h.connect_tcp("127.0.0.1", str(s.nbd_port))
    return h


def fails(want, call, *args):
    try:
        call(*args)
    except nbd.Error as e:
        assert e.errnum == want, (e, errno.errorcode[want])
        return
    raise AssertionError(f"{call} should have given {errno.errorcode[want]}")


def map_of(h, off, length, flags=0):
    got = []
    h.block_status(length, off, lambda ctx, at, entries, err: got.extend(entries) or 0, flags)
    return list(zip(got[::2], got[1::2]))


def data_path(h):
    data = os.urandom(100000)
    h.pwrite(data, 777)
    assert h.pread(len(data), 777) == data
    h.pwrite(data[:4096], 8192, nbd.CMD_FLAG_FUA)
    h.flush()
    h.zero(5000, 10000, nbd.CMD_FLAG_FAST_ZERO)
    assert h.pread(5000, 10000) == bytes(5000)
    h.trim(1 << 20, 0, nbd.CMD_FLAG_FUA)
    assert h.pread(1 << 20, 0) == bytes(1 << 20)
    h.cache(SIZE, 0)
    largest = os.urandom(1 << 20) * 32
    h.pwrite(largest, 32 << 20)
    assert h.pread(32 << 20, 32 << 20) == largest


def chunks(h):
    h.trim(1 << 20, 0)
    h.pwrite(b"d" * 8192, 65536)
    seen = []

    def one(buf, off, kind, err):
        seen.append((kind, off, len(buf)))
        return 0

    h.pread_structured(131072, 0, one)
    assert sorted(off for _, off, _ in seen) == [0, 65536, 73728], seen
    assert {kind for kind, off, _ in seen if off != 65536} == {nbd.READ_HOLE}, seen
    seen.clear()
    h.pread_structured(131072, 0, one, nbd.CMD_FLAG_DF)
    assert seen == [(nbd.READ_DATA, 0, 131072)], seen


def status(h):
    h.trim(1 << 20, 0)
    h.pwrite(b"d" * 4096, 4096)
    h.zero(4096, 8192, nbd.CMD_FLAG_NO_HOLE)
    assert map_of(h, 0, 16384) == [(4096, 3), (4096, 0), (4096, 2), (4096, 3)]
    assert map_of(h, 4096, 16384, nbd.CMD_FLAG_REQ_ONE) == [(4096, 0)]
    assert sum(n for n, _ in map_of(h, 0, SIZE)) == SIZE


def errors(h):
    fails(errno.EINVAL, h.pread, 1, SIZE)
    fails(errno.EINVAL, h.trim, 4096, SIZE - 1)
    fails(errno.ENOSPC, h.pwrite, b"xx", SIZE - 1)
    fails(errno.ENOSPC, h.zero, 4096, SIZE - 1)
    fails(errno.EINVAL, h.cache, 4096, SIZE)
    fails(errno.EINVAL, h.pwrite, b"x", 0, nbd.CMD_FLAG_DF)
    assert h.pread(1, SIZE - 1) == b"\0"


def shares(a, b):
    """One connection's flush covers, and one connection sees, what the other has written."""
    assert a.can_multi_conn()
    a.pwrite(b"from a" * 1000, 0)
    assert b.pread(6, 0) == b"from a"
    b.flush()


def resize(s):
    old = connect(s)
    s.cli("nbd", "resize", "--name", "disk", "--size", "512M")
    assert old.get_size() == SIZE
    fresh = connect(s)
    assert fresh.get_size() == 512 << 20
    fresh.pwrite(b"x", (512 << 20) - 1)
    assert old.pread(4, 0) == fresh.pread(4, 0)
    s.cli("nbd", "resize", "--name", "disk", "--size", "256M", "--force")
    fails(errno.ENOSPC, fresh.pwrite, b"x", (512 << 20) - 1)
    fresh.pwrite(b"x", SIZE - 1)


def also_on_ipv6(s):
    with open(s.config, encoding="utf-8") as f:
        text = f.read()
    address = f'"127.0.0.1:{s.nbd_port}"'
    with open(s.config, "w", encoding="utf-8") as f:
        f.write(text.replace(address, address + f', "[::1]:{s.nbd_port}"'))


def over_each_transport(s):
    """IPv4, IPv6 and the unix socket show one device."""
    connect(s).pwrite(b"seen by all", 4096)
    for uri in (f"nbd://[::1]:{s.nbd_port}/disk", f"nbd+unix:///disk?socket={s.nbd_socket}"):
        h = nbd.NBD()
        h.connect_uri(uri)
        assert h.pread(11, 4096) == b"seen by all"
        h.shutdown()


def main():
    with zt.Server() as s:
        also_on_ipv6(s)
        s.cli("nbd", "create", "--name", "disk", "--size", "256M")
        s.start()
        for structured in (True, False):
            h = connect(s, structured)
            data_path(h)
            errors(h)
            if structured:
                chunks(h)
                status(h)
                shares(h, connect(s))
            else:
                assert not h.can_df()
            h.shutdown()
        assert connect(s, name="").get_size() == SIZE
        fails(errno.ENOENT, connect, s, True, "none")
        over_each_transport(s)
        resize(s)
        s.stop()


main()
