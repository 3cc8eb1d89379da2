#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
# compression: any (what does not come as far as the store)
"""ErrorRecoveryLevel 1: PDUs of every kind are lost or damaged, and come again; what cannot be had
is refused; what is kept is bounded."""
import random
import struct

import initiator
import zt
from initiator import DATA_IN, DATA_OUT, FINAL, IMMEDIATE, NONE, R2T, REJECT, RESPONSE
from links import DATA, DATA_ACK, RESEGMENT, STATUS, Session

IQN = "iqn.2024-01.net.zerofs:recovery"
KEYS = {"ErrorRecoveryLevel": "1", "HeaderDigest": "CRC32C", "DataDigest": "CRC32C",
        "MaxRecvDataSegmentLength": "4096", "MaxBurstLength": "16384", "FirstBurstLength": "16384",
        "InitialR2T": "No", "MaxOutstandingR2T": "4"}
PROTOCOL, NO_SNACK, BAD_DIGEST, BAD_ACK = 4, 3, 2, 8
BLOCKS = 96  # 48 KiB: three sequences of four PDUs


def read16(lba, blocks):
    return struct.pack(">BBQIBB", 0x88, 0, lba, blocks, 0, 0)


def write16(lba, blocks):
    return struct.pack(">BBQIBB", 0x8A, 0, lba, blocks, 0, 0)


def same(a, b):
    """But for ExpCmdSN and MaxCmdSN."""
    return a.bhs[:28] + a.bhs[36:] == b.bhs[:28] + b.bhs[36:] and a.data == b.data


def read_all(i, blocks=BLOCKS):
    """A read's PDUs, none of which is acknowledged."""
    itt = i.begin(read16(0, blocks), blocks * 512)
    pdus = []
    i.acks = False
    while not pdus or not pdus[-1].flags & 1:
        pdus.append(i.receive())
        assert pdus[-1].opcode == DATA_IN and pdus[-1].itt == itt
    return itt, pdus


def rejected(i, reason):
    pdu = i.answer()
    assert pdu.opcode == REJECT and pdu.bhs[2] == reason, pdu.bhs.hex()


def lost_data(i, data):
    itt, pdus = read_all(i)
    assert len(pdus) == 12 and b"".join(p.data for p in pdus) == data
    for begin, length in (3, 1), (3, 2), (0, 12), (11, 1), (7, 0), (0, 0):
        i.snack(DATA, itt, begin, length)
        for p in pdus[begin:begin + length if length else None]:
            assert same(i.receive(), p)
    for begin, length in (12, 1), (11, 2), (0, 13), (5, 0xFFFFFFFF), (0xFFFFFFFF, 1), (12, 0):
        i.snack(DATA, itt, begin, length)
        rejected(i, PROTOCOL)
    i.snack(DATA, itt + 1000, 0, 1)
    rejected(i, PROTOCOL)
    i.acknowledge()
    i.snack(DATA, itt, 0, 1)
    rejected(i, PROTOCOL)


def acknowledged_data(i, data):
    itt, pdus = read_all(i)
    asks = [p for p in pdus if p.flags & 0x40]
    assert [p.word(36) for p in asks] == [3, 7], "A once every MaxBurstLength, but for the last"
    assert all(p.word(20) != NONE and p.flags & FINAL for p in asks)
    ttt = asks[0].word(20)
    i.snack(DATA_ACK, begin=4, ttt=ttt)
    i.snack(DATA, itt, 3, 1)
    rejected(i, PROTOCOL)
    i.snack(DATA, itt, 0, 0)
    for p in pdus[4:]:
        assert same(i.receive(), p)
    i.snack(DATA_ACK, begin=3, ttt=ttt)
    rejected(i, BAD_ACK)
    i.snack(DATA_ACK, begin=13, ttt=ttt)
    rejected(i, BAD_ACK)
    i.snack(DATA_ACK, begin=12, ttt=ttt)
    i.snack(DATA, itt, 11, 1)
    rejected(i, PROTOCOL)
    statsn = pdus[-1].word(24)
    i.snack(STATUS, begin=statsn, length=1)  # which came with the last data
    done = i.receive()
    assert done.opcode == RESPONSE and (done.itt, done.word(24), done.bhs[3]) == (itt, statsn, 0)
    i.acknowledge()
    i.snack(DATA_ACK, begin=12, ttt=ttt)  # late, and no harm
    assert i.nop(b"there").data == b"there"
    assert i.read(0, BLOCKS) == data


def lost_status(i, data):
    """Of a write, a read, a command that failed, a ping's echo, task management: each comes again
    by its StatSN."""
    i.acknowledge()
    i.acks = False
    first = i.exp_statsn
    seen = []
    for out, cdb, edtl in ((data[:512], write16(200, 1), 0), (None, read16(0, 8), 4096),
                           (None, b"\xff" * 6, 0)):
        itt = i.begin(cdb, edtl, out)
        seen.append(i.receive())
        assert seen[-1].itt == itt
    seen.append(i.nop(b"echo"))
    itt = i.tmf(1, 4711)
    seen.append(i.receive())
    assert seen[-1].opcode == initiator.TMF_RESPONSE
    assert [p.word(24) for p in seen] == list(range(first, first + 5))
    for n, p in enumerate(seen):
        i.snack(STATUS, begin=first + n, length=1)
        assert same(i.receive(), p), (n, p.bhs.hex())
    i.snack(STATUS)
    for p in seen:
        assert same(i.receive(), p)
    i.snack(STATUS, begin=first + 5, length=1)
    rejected(i, PROTOCOL)
    i.snack(STATUS, begin=first - 1, length=1)
    rejected(i, PROTOCOL)
    i.acknowledge()
    i.snack(STATUS, begin=first, length=1)
    rejected(i, PROTOCOL)


def lost_r2t(i, rng):
    data = rng.randbytes(65536)
    itt = i.command(write16(1000, 128), 65536, FINAL | 0x20)
    r2ts = [i.receive() for _ in range(4)]
    assert [p.word(36) for p in r2ts] == [0, 1, 2, 3] and all(p.opcode == R2T for p in r2ts)
    i.snack(DATA, itt, 1, 2)
    for p in r2ts[1:3]:
        again = i.receive()
        assert again.bhs[:24] == p.bhs[:24] and again.bhs[36:] == p.bhs[36:]
    i.snack(DATA, itt, 4, 1)
    rejected(i, PROTOCOL)
    for p in r2ts:
        i.data_out(itt, p.word(20), p.word(40), data[p.word(40):p.word(40) + p.word(44)])
    i.data_out(itt, r2ts[0].word(20), 0, data[:16384])  # its second answer
    assert i.finish(itt).status == 0
    assert i.read(1000, 128) == data


def damaged(i, *args, **named):
    """The PDU's data digest is wrong."""
    pdu = bytearray(i.pack(*args, **named))
    pdu[-1] ^= 0x55
    i.sock.sendall(pdu)


def lost_data_out(i, rng):
    """A PDU of a sequence is damaged, whichever: a recovery R2T, with a number of its own, asks for
    the rest of the sequence."""
    for bad in range(4):
        data = rng.randbytes(16384)
        itt = i.command(write16(2000, 32), 16384, FINAL | 0x20)
        r2t = i.receive()
        for n in range(4):
            args = (DATA_OUT, FINAL if n == 3 else 0, data[n * 4096:n * 4096 + 4096],
                    ((20, r2t.word(20)), (36, n), (40, n * 4096)))
            if n == bad:
                damaged(i, *args, itt=itt)
            else:
                i.send(*args, itt=itt)
        rejected(i, BAD_DIGEST)
        again = i.receive()
        assert again.opcode == R2T and again.word(36) == 1 and again.word(20) != r2t.word(20)
        assert (again.word(40), again.word(44)) == (bad * 4096, (4 - bad) * 4096)
        i.data_out(itt, again.word(20), bad * 4096, data[bad * 4096:])
        assert i.finish(itt).status == 0
        assert i.read(2000, 32) == data


def lost_unsolicited(i, rng):
    data = rng.randbytes(16384)
    itt = i.command(write16(3000, 32), 16384, 0x20, data[:4096])
    i.send(DATA_OUT, 0, data[4096:8192], ((20, NONE), (36, 0), (40, 4096)), itt=itt)
    damaged(i, DATA_OUT, 0, data[8192:12288], ((20, NONE), (36, 1), (40, 8192)), itt=itt)
    i.send(DATA_OUT, FINAL, data[12288:], ((20, NONE), (36, 2), (40, 12288)), itt=itt)
    rejected(i, BAD_DIGEST)
    done = i.receive()
    assert done.opcode == R2T and (done.word(40), done.word(44)) == (8192, 8192)
    i.data_out(itt, done.word(20), 8192, data[8192:])
    assert i.finish(itt).status == 0
    assert i.read(3000, 32) == data


def lost_command(i, rng):
    """With its immediate data: it never came, and what follows waits until it comes again."""
    data = rng.randbytes(4096)
    itt, cmdsn = i.reserve()
    words = struct.unpack(">4I", write16(4000, 8))
    fields = [(20, 4096), (24, cmdsn)] + [(32 + 4 * n, w) for n, w in enumerate(words)]
    damaged(i, initiator.COMMAND, FINAL | 0x21, data, fields, itt=itt)
    rejected(i, BAD_DIGEST)
    later = i.begin(read16(4000, 8), 4096)
    i.nop()  # nothing else has come
    i.command_as(itt, cmdsn, write16(4000, 8), 4096, FINAL | 0x20, data)
    assert i.finish(itt).status == 0
    assert i.finish(later).data == data
    i.command_as(itt, cmdsn, write16(4000, 8), 4096, FINAL | 0x20, data)  # ignored: it was here
    damaged(i, initiator.NOP_OUT, FINAL, b"ping", ((20, NONE), (24, i.cmdsn)))
    rejected(i, BAD_DIGEST)
    assert i.read(4000, 8) == data


def resegmented(i, data):
    """R-Data SNACK, after less fits into a PDU than before."""
    itt, pdus = read_all(i)
    i.snack(DATA_ACK, begin=4, ttt=pdus[3].word(20))
    i.text(["MaxRecvDataSegmentLength=2048"])
    i.snack(RESEGMENT, itt, ttt=0x1234)
    sn, at = 4, 16384
    while at < len(data):
        p = i.receive()
        assert p.opcode == DATA_IN and (p.word(36), p.word(40)) == (sn, at) and not p.flags & 1
        assert len(p.data) == 2048 and p.data == data[at:at + 2048]
        sn, at = sn + 1, at + 2048
    done = i.receive()
    assert done.opcode == RESPONSE and done.itt == itt and done.word(20) == 0x1234
    assert done.word(24) == pdus[-1].word(24) and done.word(36) == sn and done.bhs[3] == 0
    i.snack(STATUS, begin=done.word(24), length=1)
    assert same(i.receive(), done)
    i.snack(RESEGMENT, itt, ttt=0)
    rejected(i, PROTOCOL)
    i.acknowledge()
    i.text(["MaxRecvDataSegmentLength=4096"])


def asks_by_itself(i):
    """Who acknowledges nothing is asked to, and acknowledges by the answer."""
    i.acks = False
    first = i.exp_statsn
    assert i.run(b"\0" * 6).status == 0
    while i.take_pdu() is not None:  # until a ping
        pass
    i.acks = True
    i.nop()
    i.snack(STATUS, begin=first, length=1)
    rejected(i, PROTOCOL)


def storm(s, rng):
    """Many SNACKs for much, and PDUs that nobody acknowledges: what is kept stays within bounds."""
    i = Session(s.iscsi_port, IQN, {"ErrorRecoveryLevel": "1",
                                    "MaxRecvDataSegmentLength": "65536"}).ready()
    big = rng.randbytes(1 << 20)
    i.write(8192, big)
    used = s.used_kib()
    itts = []
    i.acks = False
    for _ in range(24):  # more than a session may keep
        itt = i.begin(read16(8192, 2048), 1 << 20)
        assert i.finish(itt).data == big
        itts.append(itt)
    i.snack(DATA, itts[0], 0, 1)
    rejected(i, NO_SNACK)
    for _ in range(16):
        i.snack(DATA, itts[-1], 0, 0)
    for _ in range(16):
        for at in range(0, 1 << 20, 65536):
            assert i.receive().data == big[at:at + 65536]
    assert s.used_kib() - used < 64 << 10, (used, s.used_kib())
    i.snack(5, itts[-1], 0, 0)
    rejected(i, 9)
    i.close()


def deaf(s):
    """Somebody who never acknowledges is disconnected."""
    i = Session(s.iscsi_port, IQN, KEYS).ready()
    i.acks = False
    i.sock.sendall(i.pack(initiator.NOP_OUT | IMMEDIATE, FINAL, b"x", ((20, NONE),)) * 1100)
    assert i.is_dropped()


def level0(s):
    i = Session(s.iscsi_port, IQN, {**KEYS, "ErrorRecoveryLevel": "0"}).ready()
    assert i.agreed["ErrorRecoveryLevel"] == "0"
    i.snack(STATUS)
    rejected(i, NO_SNACK)
    i.close()


def run(s, rng):
    data = rng.randbytes(BLOCKS * 512)
    session = Session(s.iscsi_port, IQN, KEYS)
    i = session.ready()
    assert i.agreed["ErrorRecoveryLevel"] == "1"
    i.write(0, data)
    lost_data(i, data)
    acknowledged_data(i, data)
    lost_status(i, data)
    lost_r2t(i, rng)
    lost_data_out(i, rng)
    lost_unsolicited(i, rng)
    lost_command(i, rng)
    resegmented(i, data)
    asks_by_itself(i)
    i.close()
    storm(s, rng)
    deaf(s)
    level0(s)


def main():
    with zt.Server() as s:
        s.cli("iscsi", "create-target", "--iqn", IQN, "--lun", "0", "--size", "16M")
        s.start()
        run(s, random.Random(7))
        s.stop()


main()
