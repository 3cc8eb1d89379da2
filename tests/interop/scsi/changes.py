#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
# compression: any (what initiators are told)
"""What an initiator hears when the target changes under it: growth, LUNs that come and go, modes
set by another; and what stays over a restart of the server: identity, the write cache setting."""
import json

import initiator as iscsi
import zt

IQN = "iqn.2024-01.net.zerofs:changes"
TUR, INQUIRY = b"\0" * 6, bytes([0x12, 0, 0, 0, 96, 0])
POWER_ON, LUNS, CAPACITY, MODE = 0x2900, 0x3F0E, 0x2A09, 0x2A01


class Lun(iscsi.Initiator):
    """An initiator whose commands may go to any LUN."""

    lun = 0

    def pack(self, opcode, flags, data=b"", fields=(), lun=0, itt=None, ahs=b""):
        return super().pack(opcode, flags, data, fields, lun or self.lun << 48, itt, ahs)

    def attention(self, lun=0):
        """ASC and ASCQ of the unit attention that is reported next, or None."""
        self.lun = lun
        done = self.run(TUR)
        self.lun = 0
        if done.status == 0:
            return None
        assert done.status == 2 and done.sense[2] == 6, (done.status, done.sense.hex())
        return done.sense[12] << 8 | done.sense[13]

    def capacity(self):
        done = self.run(bytes([0x9E, 0x10] + [0] * 11 + [32, 0, 0]), 32)
        return (int.from_bytes(done.data[:8], "big") + 1) * 512

    def luns(self):
        done = self.run(bytes([0xA0] + [0] * 7 + [16, 0, 0, 0]), 4096)
        return [int.from_bytes(done.data[at:at + 2], "big") for at in range(8, len(done.data), 8)]

    def page(self, code):
        return self.run(bytes([0x12, 1, code, 1, 0, 0]), 256).data

    def write_cache(self):
        return bool(self.run(bytes([0x1A, 8, 8, 0, 64, 0]), 64).data[4 + 2] & 4)

    def reset(self, function):
        self.send(iscsi.TMF | iscsi.IMMEDIATE, iscsi.FINAL | function,
                  fields=((20, iscsi.NONE), (24, self.cmdsn), (28, self.exp_statsn)))
        self.itt += 1
        pdu = self.answer()
        assert pdu.opcode == iscsi.TMF_RESPONSE, pdu.bhs
        return pdu.bhs[2]


def open_pair(server):
    a = Lun(server.iscsi_port, IQN, name="iqn.2024-01.test:a").ready()
    b = Lun(server.iscsi_port, IQN, name="iqn.2024-01.test:b").ready()
    return a, b


def growth(server, a, b):
    assert a.capacity() == 64 << 20
    server.cli("iscsi", "resize-lun", "--iqn", IQN, "--lun", "0", "--size", "96M")
    assert a.attention() == CAPACITY and a.attention() is None
    assert a.capacity() == 96 << 20
    # INQUIRY neither tells nor takes it.
    assert b.run(INQUIRY, 96).status == 0 and b.attention() == CAPACITY
    last = (96 << 20) // 512 - 1
    a.write(last, b"z" * 512)
    assert b.read(last, 1) == b"z" * 512


def luns(server, a, b):
    server.cli("iscsi", "add-lun", "--iqn", IQN, "--lun", "5", "--size", "32M")
    assert a.attention() == LUNS and a.attention() is None
    assert a.attention(5) == POWER_ON and a.attention(5) is None
    assert b.luns() == [0, 5] and b.attention() is None
    b.close()
    a.close()
    zt.wait_for(lambda: not attached(server))
    server.cli("iscsi", "remove-lun", "--iqn", IQN, "--lun", "5", "--force")
    a, b = open_pair(server)
    assert a.luns() == [0]
    return a, b


def attached(server):
    info = json.loads(server.cli("iscsi", "info", IQN, "--json").stdout)
    return sum(lun["attached"] for lun in info["luns"])


def modes(server, a, b):
    assert a.write_cache()
    page = bytes([0, 0, 0, 0, 0x08, 0x12]) + bytes(18)
    assert a.run(bytes([0x15, 0x10, 0, 0, len(page), 0]), out=page).status == 0
    assert not a.write_cache() and a.attention() is None
    assert b.attention() == MODE and b.attention() is None
    info = json.loads(server.cli("iscsi", "info", IQN, "--json").stdout)
    assert info["luns"][0]["write_cache"] is False, info


def resets(a, b):
    reserve, release = bytes([0x16]) + bytes(5), bytes([0x17]) + bytes(5)
    assert a.run(reserve).status == 0 and b.run(TUR).status == 0x18
    assert a.run(release).status == 0 and b.run(TUR).status == 0
    for function, asc in ((5, 0x2903), (6, 0x2902)):
        assert a.run(reserve).status == 0
        assert b.reset(function) == 0
        assert a.attention() == asc and b.attention() == asc
        assert b.attention() is None
    # A session that goes takes its reservation with it.
    assert a.run(reserve).status == 0
    a.close()
    zt.wait_for(lambda: b.run(TUR).status == 0)


def main():
    with zt.Server() as server:
        server.cli("iscsi", "create-target", "--iqn", IQN, "--lun", "0", "--size", "64M")
        server.start()
        a, b = open_pair(server)
        identity = [a.page(code) for code in (0x80, 0x83)]
        assert len(identity[0]) == 36
        assert identity == [b.page(code) for code in (0x80, 0x83)]
        growth(server, a, b)
        a, b = luns(server, a, b)
        modes(server, a, b)
        resets(a, b)
        b.close()
        server.stop()
        server.start()
        a = Lun(server.iscsi_port, IQN).ready()
        assert identity == [a.page(code) for code in (0x80, 0x83)]
        assert not a.write_cache() and a.capacity() == 96 << 20
        a.logout()
        server.stop()


main()
